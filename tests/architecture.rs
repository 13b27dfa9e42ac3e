//! The architecture, kept by tests: which module may use which, which may be unsafe, where atomics
//! come from.

use std::fs;
use std::path::{Path, PathBuf};

/// A file may use what stands before it, and nothing else.
const LAYERS: &[&str] = &[
    "error",
    "sys",
    "sync",
    "raw",
    "layout",
    "names",
    "region",
    "held",
    "liveness",
    "verdicts",
    "unreadable",
    "patience",
    "wait",
    "link",
    "stores",
    "message",
    "end",
    "options",
    "sender",
    "receiver",
    "pipe",
    "stream",
    "in_place",
    "parcels",
    "lanes",
    "queue_half",
    "queue_sender",
    "queue_receiver",
    "queue",
    "encoded",
    "table",
    "members",
    "latch",
    "kept",
    "object",
    "value",
    "atomic",
    "mutex",
    "array",
    "rw_lock",
    "semaphore",
    "condvar",
    "event",
    "barrier",
    "once",
    "namespace",
    "handover",
    "standalone",
    "glance",
    "inspect",
    "fuzzing",
];

/// The files with `unsafe` in them; each says why at every place.
const UNSAFE: &[&str] = &[
    "src/in_place.rs",
    "src/region.rs",
    "src/sys/copy.rs",
    "src/sys/fork.rs",
    "src/sys/lock.rs",
    "src/sys/memory.rs",
    "src/sys/process.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Path from the root, and the text without comments.
fn library() -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&root().join("src"), &mut found);
    assert!(found.len() > 20, "the sources are somewhere else");
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
            (path.strip_prefix(root()).unwrap().display().to_string(), code)
        })
        .collect()
}

fn module(path: &str) -> &str {
    path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
}

/// The modules that a text names after `crate::`.
fn uses(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap())
}

#[test]
fn module_imports_lower_layers_only() {
    let rank = |module: &str| LAYERS.iter().position(|&layer| layer == module);
    for (path, code) in library() {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let own_rank = rank(own).unwrap_or_else(|| panic!("{path} has no place among the layers"));
        for used in uses(&code) {
            let used_rank = rank(used).unwrap_or_else(|| panic!("{path} uses crate::{used}, which is no layer"));
            assert!(used == own || used_rank < own_rank, "{path} must not use crate::{used}");
        }
    }
}

#[test]
fn raw_module_imports_facade_only() {
    for (path, code) in library().into_iter().filter(|(path, _)| module(path) == "raw") {
        for used in uses(&code) {
            assert!(matches!(used, "sync" | "raw"), "{path} must not use crate::{used}");
        }
    }
}

#[test]
fn atomics_come_from_facade_only() {
    for (path, code) in library() {
        if matches!(module(&path), "sys" | "sync") {
            continue;
        }
        for banned in ["sync::atomic", "UnsafeCell", "core::arch", "std::arch"] {
            assert!(!code.contains(banned), "{path} uses {banned}: take it from crate::sync");
        }
    }
}

/// A forked child can inherit such a one half-done, or locked by a thread that it does not have.
/// `sys/fork.rs` has what to use instead.
#[test]
fn static_shared_by_threads_survives_fork() {
    for (path, code) in library().into_iter().filter(|(path, _)| module(path) != "fuzzing") {
        for line in code.lines() {
            let kinds = ["OnceLock<", "LazyLock<", "Mutex<", "RwLock<", ": Once "];
            let is_shared = line.contains("static ") && kinds.iter().any(|kind| line.contains(kind));
            assert!(!is_shared, "{path}: {line}");
        }
    }
}

#[test]
fn unsafe_code_is_in_listed_files_only() {
    let found: Vec<String> =
        library().into_iter().filter(|(_, code)| code.contains("allow(unsafe_code)")).map(|(path, _)| path).collect();
    assert_eq!(found, UNSAFE);
}

#[test]
fn raw_module_starts_with_six_headings() {
    for entry in fs::read_dir(root().join("src/raw")).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("mod.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
        let mut from = 0;
        for heading in ["What", "Bytes", "Invariants", "Edges", "Crash", "Source"] {
            let at = head[from..].find(&format!("//! {heading}"));
            from += at.unwrap_or_else(|| panic!("{}: no heading {heading}, or out of order", path.display()));
        }
    }
}

/// Each ordering edge is labelled at both ends and listed in docs/ordering.md.
#[test]
fn ordering_edge_is_labelled_and_listed() {
    let listed = fs::read_to_string(root().join("docs/ordering.md")).unwrap();
    for entry in fs::read_dir(root().join("src/raw")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let (head, code): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("//!"));
        for edge in 1..=9 {
            let label = format!("E{edge}");
            if !head.iter().any(|line| line.contains(&format!("- {label}:"))) {
                continue;
            }
            let ends = code.iter().filter(|line| line.split("//").nth(1).is_some_and(|c| c.contains(&label))).count();
            assert!(ends >= 2, "{file}: edge {label} is labelled at {ends} places, not at both ends");
            assert!(listed.contains(&format!("{file} {label}")), "docs/ordering.md does not list {file} {label}");
        }
    }
}
