//! The documents say what is: the edges that they list, the tests that they name, the labels that they
//! use.

#[path = "support/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use sources::{Source, files, read, rust_files};

fn layer(path: &str) -> &str {
    path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
}

fn comment(line: &str) -> &str {
    line.split_once("//").map_or("", |(_, comment)| comment)
}

/// Each ordering edge of raw/ is labelled at both ends and listed in docs/ordering.md.
#[test]
fn ordering_edge_of_raw_is_labelled_and_listed() {
    let listed = read("docs/ordering.md");
    // The parts of a folder share the edges of its mod.rs.
    let mut algorithms = BTreeMap::<String, (String, Vec<String>)>::new();
    for source in rust_files("src/raw") {
        let name = source.path.trim_start_matches("src/raw/");
        let folder = ["mpmc", "broadcast"].into_iter().find(|folder| name.starts_with(&format!("{folder}/")));
        let name = folder.unwrap_or(name);
        let (head, code): (Vec<&str>, Vec<&str>) = source.text.lines().partition(|line| line.starts_with("//!"));
        let (all_heads, all_code) = algorithms.entry(name.to_string()).or_default();
        all_heads.extend(head.iter().flat_map(|line| [line, "\n"]));
        all_code.extend(code.iter().map(|line| comment(line).to_string()));
    }
    for (name, (head, comments)) in algorithms {
        for edge in 1..=9 {
            let label = format!("E{edge}");
            if !head.contains(&format!("- {label}:")) {
                continue;
            }
            let ends = comments.iter().filter(|comment| comment.contains(&label)).count();
            assert!(ends >= 2, "{name}: edge {label} is labelled at {ends} places, not at both ends");
            assert!(listed.contains(&format!("{name} {label}")), "docs/ordering.md does not list {name} {label}");
        }
    }
}

/// Above raw/, each access that is not Relaxed names its edge: `// edge: NAME`, on its line or on the
/// line above. Each edge has a row in docs/ordering.md.
#[test]
fn ordering_edge_above_raw_is_labelled_and_listed() {
    let listed = read("docs/ordering.md");
    let mut found = BTreeSet::new();
    let mut unlabelled = Vec::new();
    for source in rust_files("src") {
        if matches!(layer(&source.path), "sys" | "primitive" | "raw" | "fuzzing" | "lib") {
            continue;
        }
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            let orders = ["Ordering::Acquire", "Ordering::Release", "Ordering::AcqRel", "Ordering::SeqCst", "fence("];
            if code.trim_start().starts_with("use ") || !orders.iter().any(|order| code.contains(order)) {
                continue;
            }
            let above = index.checked_sub(1).map_or("", |above| lines[above]);
            let label = [*line, above].into_iter().find_map(|line| comment(line).split_once("edge: "));
            match label {
                Some((_, rest)) => {
                    found.insert(rest.split([' ', ',', '.', ';']).next().unwrap().to_string());
                }
                None => unlabelled.push(format!("{}:{}: {}", source.path, index + 1, line.trim())),
            }
        }
    }
    assert!(unlabelled.is_empty(), "accesses without an edge:\n{}", unlabelled.join("\n"));
    for edge in &found {
        assert!(listed.contains(&format!("`{edge}`")), "docs/ordering.md does not list the edge `{edge}`");
    }
    assert!(found.len() > 5, "the edges are labelled otherwise");
}

#[test]
fn relaxed_access_of_raw_has_a_reason() {
    let mut bare = Vec::new();
    for source in rust_files("src/raw") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !code.contains("Relaxed") || code.trim_start().starts_with("use ") {
                continue;
            }
            // On the line, or above the statement that it is part of.
            let mut from = index;
            while from > 0
                && !lines[from - 1].trim_end().ends_with([';', '{', '}'])
                && comment(lines[from - 1]).is_empty()
            {
                from -= 1;
            }
            let above = from.checked_sub(1).map_or("", |above| lines[above].trim_start());
            if comment(line).is_empty() && !above.starts_with("//") {
                bare.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    assert!(bare.is_empty(), "Relaxed without a reason:\n{}", bare.join("\n"));
}

/// All functions of the test crates.
fn test_names() -> BTreeSet<String> {
    let sources = ["tests", "cli/tests", "loom-tests", "schedule-tests", "src"].into_iter().flat_map(rust_files);
    let mut found = BTreeSet::new();
    for Source { code, path, .. } in sources {
        found.extend(code.split("fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap().to_string()));
        found.insert(path.rsplit('/').next().unwrap().trim_end_matches(".rs").to_string());
        // Tests made by a macro have their names as its arguments.
        found.extend(
            code.split(|c: char| !(c.is_alphanumeric() || c == '_'))
                .filter(|word| word.matches('_').count() > 2)
                .map(String::from),
        );
    }
    found
}

/// A name in backticks with three underscores or more is a test's.
#[test]
fn test_named_in_docs_exists() {
    let known = test_names();
    for document in files("docs", "md") {
        for word in document.text.split('`').skip(1).step_by(2) {
            let name = word.rsplit("::").next().unwrap();
            let is_test = name.matches('_').count() >= 3
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            assert!(!is_test || known.contains(name), "{} names {name}, which does not exist", document.path);
        }
    }
}

/// A step is introduced once: "(label)" at the beginning of what it is.
#[test]
fn step_label_of_failure_is_unique() {
    let text = read("docs/failure.md");
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let label = line[3..].split('`').next().unwrap();
        assert!(seen.insert(label.to_string()), "docs/failure.md introduces {label} twice");
        count += 1;
    }
    assert!(count > 20, "the steps of docs/failure.md are written otherwise");
}

#[test]
fn file_named_in_docs_exists() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/README.md",
        "docs/failure.md",
        "docs/ordering.md",
        "docs/layout.md",
    ] {
        let text = read(document);
        for word in text.split(['`', '(', ')', ' ', '\n', ',']) {
            let is_file =
                ["src/", "tests/", "docs/", "benches/", "examples/", "loom-tests/", "schedule-tests/", "cli/"]
                    .iter()
                    .any(|folder| word.starts_with(folder))
                    && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_file {
                let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(word.trim_end_matches(['.', '/']));
                assert!(path.exists(), "{document} names {word}, which does not exist");
            }
        }
    }
}
