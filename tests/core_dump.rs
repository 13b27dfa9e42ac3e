//! A core dump of a user contains no region, and so no message of other processes.

mod support;

use std::fs;

use support::TestDir;
use tombolo::Namespace;
use tombolo::pipe;
use tombolo::queue;

/// The flags of each mapping whose path contains `path`.
fn flags_of(path: &str) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut flags, mut is_it) = (Vec::new(), false);
    for line in maps.lines() {
        if let Some(found) = line.strip_prefix("VmFlags:") {
            if is_it {
                flags.push(found.to_string());
            }
        } else if line.split_once(' ').is_some_and(|(first, _)| first.contains('-')) {
            is_it = line.contains(path);
        }
    }
    flags
}

#[test]
fn core_dump_of_user_contains_no_region() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let named = (
        pipe::Options::bytes().directory(&names).open("pipe").unwrap(),
        queue::Options::bytes().directory(&names).open("queue").unwrap(),
        Namespace::builder().value("value", 0_u64).directory(&names).open("space").unwrap(),
    );
    let anonymous = (
        tombolo::pipe::Options::bytes().create_duplex().unwrap(),
        tombolo::queue::Options::bytes().create().unwrap(),
        pipe::Options::bytes().prefault().lock_memory().huge_pages().create_duplex().unwrap(),
    );
    // Named regions are made in that directory, unnamed ones as memory files.
    for (path, count) in [(names.to_str().unwrap(), 3), ("memfd:tombolo", 3)] {
        let flags = flags_of(path);
        assert_eq!(flags.len(), count, "{path}");
        assert!(flags.iter().all(|flags| flags.split_ascii_whitespace().any(|flag| flag == "dd")), "{path}: {flags:?}");
    }
    drop((named, anonymous));
}
