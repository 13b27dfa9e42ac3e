//! The architecture, kept by a test: which folder may use which, where unsafe code and atomics are,
//! and what a file of `raw/` must say of itself.

#[path = "support/sources.rs"]
mod sources;

use std::collections::BTreeMap;

use sources::{Source, rust_files};

/// The folders and files of src/, bottom up. A module uses those above it in this list and itself.
/// Modules of one row do not use each other.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["types"],
    &["sys"],
    &["primitive"],
    &["raw"],
    &["interrupt"],
    &["region"],
    &["wait"],
    &["message"],
    &["serialized"],
    &["endpoint"],
    &["options"],
    &["pipe", "queue", "object", "broadcast", "rpc"],
    &["namespace"],
    &["spawn"],
    &["transfer"],
    &["connection", "process"],
    &["select"],
    &["inspect"],
    &["fuzzing", "test_hooks"],
];

/// Methods of a type stand in the type's own folder, so that an import shows what a folder uses.
/// The exceptions are entry points for users, which nothing below them calls: `Mutex::new` makes a
/// namespace, `Directory::inspect` reads every kind of region, and `Options::take` what a parent passed.
const INHERENT_ELSEWHERE: &[&str] = &["src/inspect.rs", "src/namespace/standalone.rs", "src/spawn.rs"];

/// The files with `unsafe` in them. Each says why at every place.
const UNSAFE: &[&str] = &[
    "src/broadcast/zero_copy.rs",
    "src/pipe/zero_copy.rs",
    "src/process/function.rs",
    "src/queue/zero_copy.rs",
    "src/region/words.rs",
    "src/sys/child.rs",
    "src/sys/copy.rs",
    "src/sys/file_lock.rs",
    "src/sys/fork.rs",
    "src/sys/posix_spawn.rs",
    "src/sys/process.rs",
    "src/sys/program.rs",
    "src/sys/signals.rs",
    "src/sys/socket.rs",
    "src/types/mod.rs",
];

fn library() -> Vec<Source> {
    let found = rust_files("src");
    assert!(found.len() > 20, "the sources are somewhere else");
    found
}

fn layer(path: &str) -> &str {
    path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn first_word(text: &str) -> &str {
    text.split(|c| !is_word(c)).next().unwrap()
}

/// The modules that a text names after `crate::`.
fn uses(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).map(first_word)
}

/// Why a module must not name another, if it must not.
fn violation(own: &str, used: &str) -> Option<String> {
    let own_rank = rank(own).unwrap_or_else(|| panic!("{own} has no place among the layers"));
    match rank(used) {
        None => Some(format!("uses crate::{used}, which is no layer")),
        Some(used_rank) if used == own || used_rank < own_rank => None,
        Some(_) => Some(format!("must not use crate::{used}")),
    }
}

#[test]
fn module_imports_lower_layers_only() {
    for source in library() {
        let own = layer(&source.path);
        if own == "lib" {
            continue;
        }
        for used in uses(&source.code) {
            if let Some(what) = violation(own, used) {
                panic!("{} {what}", source.path);
            }
        }
    }
}

#[test]
fn module_that_imports_a_higher_layer_is_refused() {
    assert_eq!(violation("pipe", "region"), None);
    assert_eq!(violation("pipe", "pipe"), None);
    assert!(violation("region", "pipe").is_some());
    assert!(violation("pipe", "queue").is_some());
    assert!(violation("queue", "nowhere").is_some());
}

/// The types of inherent `impl` blocks, and those that a file defines.
fn inherent_and_defined(code: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut inherent, mut defined) = (Vec::new(), Vec::new());
    for line in code.lines().map(str::trim_start) {
        if let Some(rest) = line.strip_prefix("impl").filter(|rest| rest.starts_with([' ', '<'])) {
            // Past the generic parameters, if there are any.
            let mut depth = 0_usize;
            let end = rest.find(|c| {
                depth = if c == '<' {
                    depth + 1
                } else if c == '>' {
                    depth.saturating_sub(1)
                } else {
                    depth
                };
                depth == 0 && c != '>' && c != ' '
            });
            let head = &rest[end.unwrap_or(0)..];
            if !head.contains(" for ") && !head.starts_with('$') {
                let path = head.split(['<', ' ', '{']).next().unwrap();
                inherent.push(path.rsplit("::").next().unwrap());
            }
        }
        let item = ["pub(crate) ", "pub(super) ", "pub "].iter().fold(line, |line, vis| line.trim_start_matches(vis));
        for keyword in ["struct ", "enum ", "union "] {
            defined.extend(item.strip_prefix(keyword).map(first_word));
        }
    }
    (inherent, defined)
}

#[test]
fn inherent_method_is_in_the_folder_of_its_type() {
    let sources = library();
    let mut homes = BTreeMap::<&str, Vec<&str>>::new();
    for source in &sources {
        for name in inherent_and_defined(&source.code).1 {
            homes.entry(name).or_default().push(layer(&source.path));
        }
    }
    for source in sources.iter().filter(|source| !INHERENT_ELSEWHERE.contains(&&*source.path)) {
        for name in inherent_and_defined(&source.code).0 {
            let home = homes.get(name).is_some_and(|home| home.contains(&layer(&source.path)));
            assert!(home, "{} has methods of {name}, which is defined in {:?}", source.path, homes.get(name));
        }
    }
}

#[test]
fn inherent_method_scanner_reads_impl_blocks() {
    let code =
        "impl<T: Pod> Sender<T> {\nimpl Drop for Other {\nimpl<'a> region::Region {\npub(crate) struct Sender<T> {";
    assert_eq!(inherent_and_defined(code), (vec!["Sender", "Region"], vec!["Sender"]));
}

#[test]
fn raw_module_imports_facade_only() {
    for source in library().iter().filter(|source| layer(&source.path) == "raw") {
        for used in uses(&source.code) {
            assert!(matches!(used, "primitive" | "raw"), "{} must not use crate::{used}", source.path);
        }
    }
}

#[test]
fn atomics_come_from_facade_only() {
    for source in library() {
        if matches!(layer(&source.path), "sys" | "primitive") {
            continue;
        }
        for banned in ["sync::atomic", "UnsafeCell", "core::arch", "std::arch"] {
            assert!(!source.code.contains(banned), "{} uses {banned}: take it from crate::primitive", source.path);
        }
    }
}

/// A forked child can inherit such a static half-written, or locked by a thread that it does not have.
/// `sys/fork.rs` has what to use instead.
#[test]
fn static_shared_by_threads_survives_fork() {
    for source in library().into_iter().filter(|source| layer(&source.path) != "fuzzing") {
        for line in source.code.lines() {
            let kinds = ["OnceLock<", "LazyLock<", "Mutex<", "RwLock<", ": Once "];
            let is_shared = line.contains("static ") && kinds.iter().any(|kind| line.contains(kind));
            assert!(!is_shared, "{}: {line}", source.path);
        }
    }
}

#[test]
fn unsafe_code_is_in_listed_files_only() {
    let allowed = |source: &Source| source.code.contains("allow(unsafe_code)");
    let found: Vec<String> = library().into_iter().filter(allowed).map(|source| source.path).collect();
    assert_eq!(found, UNSAFE);
}

/// Files of an algorithm: those in raw/, and for one in a folder its mod.rs. The parts of a folder
/// begin with what they are.
#[test]
fn raw_module_starts_with_six_headings() {
    for source in library().iter().filter(|source| layer(&source.path) == "raw" && source.path != "src/raw/mod.rs") {
        let is_part = source.path.matches('/').count() == 3 && !source.path.ends_with("mod.rs");
        let is_part_of_mpmc = is_part && source.path.contains("/mpmc/");
        let head: String =
            source.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
        let headings: &[&str] =
            if is_part_of_mpmc { &["What"] } else { &["What", "Bytes", "Invariants", "Edges", "Crash", "Source"] };
        let mut from = 0;
        for heading in headings {
            let at = head[from..].find(&format!("//! {heading}"));
            from += at.unwrap_or_else(|| panic!("{}: no heading {heading}, or out of order", source.path));
        }
    }
}
