//! Which source files may contain unsafe code.

use std::fs;
use std::path::{Path, PathBuf};

/// Has to run before std does.
const UNSAFE: [&str; 1] = ["streams.rs"];

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

#[test]
fn unsafe_code_is_only_in_streams_rs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 10, "the sources are somewhere else");
    found.retain(|path| fs::read_to_string(path).unwrap().contains("allow(unsafe_code)"));
    assert_eq!(found, UNSAFE.map(|name| root.join(name)));
    assert!(fs::read_to_string(root.join("main.rs")).unwrap().contains("#![deny(unsafe_code)]"));
}
