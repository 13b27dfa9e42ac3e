//! Files that are not regions, options that no region can have, and a lack of memory. Each is an
//! error that says what was found, what was expected and what to do.

#[path = "../support/mod.rs"]
mod support;

mod directory;
mod namespace;
mod pipe;
mod queue;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use directory::fill_a_tiny_directory;
use namespace::store_and_die;
use support::{TestDir, child_roles};
use tombolo::{Error, ErrorKind};

child_roles!(fill_a_tiny_directory, store_and_die);

const NAME: &str = "name";

fn values(test_dir: &TestDir) -> tombolo::pipe::Options<u64> {
    tombolo::pipe::Options::new().capacity(4).directory(test_dir.names())
}

/// A region without participants, and a message to keep it.
fn region(test_dir: &TestDir) -> PathBuf {
    values(test_dir).sender(NAME).unwrap().send(1).unwrap();
    test_dir.names().join(NAME)
}

/// Opening the region fails with this error.
fn refused(test_dir: &TestDir, kind: ErrorKind, says: &[&str]) {
    for outcome in [values(test_dir).sender(NAME).err(), values(test_dir).receiver(NAME).err()] {
        expect(outcome.expect("an error"), kind, says);
    }
    assert_eq!(test_dir.leftovers(), [NAME], "what is not ours stays");
}

fn expect(error: Error, kind: ErrorKind, says: &[&str]) {
    let story = error.to_string();
    assert_eq!(error.kind(), kind, "{story}");
    assert!(story.starts_with("cannot "), "{story}");
    assert!(story.split_once("; ").is_some_and(|(_, remedy)| remedy.len() >= 10), "no remedy: {story}");
    for part in says {
        assert!(story.contains(part), "{part:?} is not in: {story}");
    }
}

fn write_word(path: &Path, index: u64, value: u64) {
    File::options().write(true).open(path).unwrap().write_all_at(&value.to_ne_bytes(), index * 8).unwrap();
}

fn queue_of_values(test_dir: &TestDir) -> tombolo::queue::Options<u64> {
    tombolo::queue::Options::new().capacity(4).max_participants(3).directory(test_dir.names())
}

/// 4096 bytes are mapped, followed by two extents of 4096.
fn queue_of_bytes(test_dir: &TestDir) -> tombolo::queue::Options<[u8]> {
    let options = tombolo::queue::Options::bytes().capacity(4).max_participants(3).max_message_bytes(1000);
    options
        .inline_bytes(16)
        .blocks(tombolo::queue::Blocks { count: 2, bytes: 64 })
        .extents(2)
        .directory(test_dir.names())
}

/// A queue of bytes without participants, and a message in an extent to keep it.
fn queue_region(test_dir: &TestDir) -> PathBuf {
    queue_of_bytes(test_dir).sender(NAME).unwrap().send([1; 100]).unwrap();
    test_dir.names().join(NAME)
}
