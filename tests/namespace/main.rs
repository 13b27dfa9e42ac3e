//! Namespaces that get objects while they are used: creation, removal, references, deaths, and what
//! is left behind.

#[path = "../support/mod.rs"]
mod support;
#[cfg(target_arch = "x86_64")]
#[path = "../support/sweep.rs"]
mod sweep;

mod collections;
#[cfg(target_arch = "x86_64")]
mod crash;
mod hostile;
mod limits;
mod objects;
mod processes;
mod references;
mod remains;

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use tombolo::{Error, ErrorKind, Namespace, NamespaceBuilder};

use collections::change_created_map;
use limits::fill_a_small_file_system;
use processes::{create_and_stay, create_in_rounds, hold_and_answer, open_by_descriptor, open_in_rounds};
use references::follow_references;
use support::{Alone, TestDir, alone, child_roles};

child_roles!(
    change_created_map,
    create_and_stay,
    create_in_rounds,
    fill_a_small_file_system,
    follow_references,
    hold_and_answer,
    open_by_descriptor,
    open_in_rounds,
);

/// The name of the namespace, in a directory of its own.
const NAME: &str = "name";

/// Some tests fork, so each is alone.
fn alone_with_directory() -> (Alone, TestDir) {
    (alone(), TestDir::new())
}

fn builder(names: &Path) -> NamespaceBuilder {
    Namespace::builder().directory(names)
}

fn open(test_dir: &TestDir) -> Namespace {
    builder(&test_dir.names()).open(NAME).unwrap()
}

/// The directories of created objects.
fn object_directories(names: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(names).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

/// The files of created objects, also those of no name.
fn object_files(names: &Path) -> Vec<OsString> {
    let directories = object_directories(names).into_iter();
    directories.flat_map(|path| fs::read_dir(path).unwrap()).map(|entry| entry.unwrap().file_name()).collect()
}

/// Panics unless `result` is an error of this kind whose message contains all of `words`.
fn assert_error<T: Debug>(result: Result<T, Error>, kind: ErrorKind, words: &[&str]) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
}
