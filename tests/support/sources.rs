//! The text of the repository, for tests that check it.

use std::fs;
use std::path::Path;

pub(crate) struct Source {
    /// From the root of the repository.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text without comments.
    #[allow(dead_code, reason = "not every test reads it")]
    pub(crate) code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Rust files in a folder and its folders, in order of their paths.
pub(crate) fn rust_files(folder: &str) -> Vec<Source> {
    files(folder, "rs")
}

/// All files of that extension in a folder and its folders, in order of their paths. A file: itself.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), extension, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn collect(path: &Path, extension: &str, found: &mut Vec<Source>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, extension, found);
            }
        }
    } else if path.extension().is_some_and(|found| found == extension) {
        let path = path.strip_prefix(root()).unwrap().display().to_string();
        let text = read(&path);
        let code = text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
        found.push(Source { path, text, code });
    }
}
