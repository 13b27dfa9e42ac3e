//! Replays the fuzzers' corpora (`fuzz/corpus/`): every input that once mattered, on stable Rust,
//! in every test run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::fuzzing;

/// Far longer than any input needs: one that runs longer hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty: a replay of nothing proves nothing", folder.display());
    files
}

fn replay(target: &str, body: fn(&[u8])) {
    let mut failed = Vec::new();
    for path in inputs(target) {
        let data = fs::read(&path).unwrap();
        let (done, watched) = mpsc::channel::<()>();
        let name = path.clone();
        thread::spawn(move || {
            if watched.recv_timeout(TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{} hangs", name.display());
                process::abort();
            }
        });
        if thread::spawn(move || body(&data)).join().is_err() {
            failed.push(path);
        }
        drop(done);
    }
    assert!(failed.is_empty(), "failing inputs of {target}: {failed:#?}");
}

#[test]
fn corpus_open_header_finds_nothing() {
    replay("open_header", fuzzing::open_header);
}

#[test]
fn corpus_broadcast_frames_finds_nothing() {
    replay("broadcast_frames", fuzzing::broadcast_frames);
}

#[test]
fn corpus_broadcast_latest_finds_nothing() {
    replay("broadcast_latest", fuzzing::broadcast_latest);
}

#[test]
fn corpus_broadcast_ring_finds_nothing() {
    replay("broadcast_ring", fuzzing::broadcast_ring);
}

#[test]
fn corpus_byte_ring_finds_nothing() {
    replay("byte_ring", fuzzing::byte_ring);
}

#[test]
fn corpus_value_ring_finds_nothing() {
    replay("value_ring", fuzzing::value_ring);
}

#[test]
fn corpus_mpmc_ring_finds_nothing() {
    replay("mpmc_ring", fuzzing::mpmc_ring);
}

#[test]
fn corpus_whole_pipe_finds_nothing() {
    replay("whole_pipe", fuzzing::whole_pipe);
}

#[test]
fn corpus_queue_region_finds_nothing() {
    replay("queue_region", fuzzing::queue_region);
}

#[test]
fn corpus_open_table_finds_nothing() {
    replay("open_table", fuzzing::open_table);
}

#[test]
fn corpus_objects_finds_nothing() {
    replay("objects", fuzzing::objects);
}

#[test]
fn corpus_every_target_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut targets: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned()).collect();
    targets.sort();
    let replayed = [
        "broadcast_frames",
        "broadcast_latest",
        "broadcast_ring",
        "byte_ring",
        "list",
        "map",
        "mpmc_ring",
        "objects",
        "open_header",
        "open_table",
        "queue_region",
        "value_ring",
        "whole_pipe",
    ];
    assert_eq!(targets, replayed);
}

#[test]
fn corpus_list_finds_nothing() {
    replay("list", fuzzing::list);
}

#[test]
fn corpus_map_finds_nothing() {
    replay("map", fuzzing::map);
}
