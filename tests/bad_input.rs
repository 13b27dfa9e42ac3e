//! Files that are not regions, options that no region can have, and a lack of memory. Each is an
//! error that says what was found, what was expected and what to do.

mod support;

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::ptr;

use support::{Sandbox, parts, say, start};
use tombolo::{Array, Directory, End, Error, ErrorKind, Mutex, Namespace, NamespaceBuilder, Value};
use tombolo::{PipeOptions, QueueOptions, RecvError, SendError};

parts!(fill_a_tiny_directory, store_and_die);

const NAME: &str = "name";

fn values(sandbox: &Sandbox) -> PipeOptions<u64> {
    PipeOptions::values().capacity(4).directory(sandbox.names())
}

/// A region without participants, and a message to keep it.
fn region(sandbox: &Sandbox) -> PathBuf {
    values(sandbox).sender(NAME).unwrap().send(&1).unwrap();
    sandbox.names().join(NAME)
}

/// Opening the region fails with this error.
fn refused(sandbox: &Sandbox, kind: ErrorKind, says: &[&str]) {
    for outcome in [values(sandbox).sender(NAME).err(), values(sandbox).receiver(NAME).err()] {
        expect(outcome.expect("an error"), kind, says);
    }
    assert_eq!(sandbox.litter(), [NAME], "what is not ours stays");
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

#[test]
fn region_file_of_something_else_is_refused() {
    for (content, found) in [
        (vec![], "found 0 bytes, expected a region of at least 512 bytes; choose another name"),
        (vec![b'x'; 100], "found 100 bytes, expected a region"),
        (vec![0; 4096], "found no magic number, expected 0x"),
        (vec![b'x'; 4096], "found the magic number 0x7878787878787878, expected 0x"),
    ] {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.names()).unwrap();
        fs::write(sandbox.names().join(NAME), content).unwrap();
        refused(&sandbox, ErrorKind::NotARegion, &[NAME, found]);
    }
}

#[test]
fn pipe_file_truncated_or_extended_is_refused() {
    for (length, found) in
        [(100, "found 100 bytes"), (4096 * 3, "found 12288 bytes, expected 4096; the file was cut or grown")]
    {
        let sandbox = Sandbox::new();
        File::options().write(true).open(region(&sandbox)).unwrap().set_len(length).unwrap();
        refused(&sandbox, ErrorKind::NotARegion, &[NAME, found]);
    }
    let sandbox = Sandbox::new();
    values(&sandbox).capacity(4096).sender(NAME).unwrap().send(&1).unwrap();
    let path = sandbox.names().join(NAME);
    let length = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(path).unwrap().set_len(length - 4096).unwrap();
    refused(&sandbox, ErrorKind::NotARegion, &[&format!("found {} bytes, expected {length};", length - 4096)]);
}

#[test]
fn pipe_header_invalid_is_refused() {
    for (word, value, kind, says) in [
        (0, 0, ErrorKind::NotARegion, "found no magic number"),
        (1, 999, ErrorKind::WrongVersion, "found layout version 999, expected version 2; use the same version"),
        (2, 1 << 40, ErrorKind::NotARegion, "found 4096 bytes, expected 1099511627776"),
        (3, 77, ErrorKind::Corrupt, "found kind 77 with 1 directions"),
        (4, 3, ErrorKind::Corrupt, "with 3 directions"),
        (5, 1 << 60, ErrorKind::Corrupt, "found capacity 4"),
        (5, 9, ErrorKind::Corrupt, "found an element of 9 bytes aligned to 8"),
        (6, 3, ErrorKind::Corrupt, "found an element of 8 bytes aligned to 3"),
        (8, 0, ErrorKind::Corrupt, "found capacity 0"),
        (8, 3, ErrorKind::Corrupt, "found capacity 3"),
        (8, 1 << 20, ErrorKind::Corrupt, "found capacity 1048576"),
        (8, u64::MAX, ErrorKind::Corrupt, "expected a header that tombolo writes; the header is damaged"),
        (9, 1, ErrorKind::Corrupt, "limit 1 in 4096 bytes"),
    ] {
        let sandbox = Sandbox::new();
        write_word(&region(&sandbox), word, value);
        refused(&sandbox, kind, &[NAME, says]);
    }
}

#[test]
fn pipe_indices_contradictory_is_refused() {
    let sandbox = Sandbox::new();
    let tail = 128;
    write_word(&region(&sandbox), tail, 100);
    let error = values(&sandbox).receiver(NAME).unwrap_err();
    expect(error, ErrorKind::Corrupt, &[NAME, "contradict each other", "remove it"]);
}

#[test]
fn pipe_of_another_type_is_refused() {
    let sandbox = Sandbox::new();
    let options = PipeOptions::values::<u64>().directory(sandbox.names());
    let _tx = options.clone().tag(*b"seconds\0").sender(NAME).unwrap();
    let _end = PipeOptions::bytes().directory(sandbox.names()).end("duplex").unwrap();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let at = |sandbox: &Sandbox| sandbox.names();
    wrong(
        options.receiver(NAME).unwrap_err(),
        &["8 bytes aligned to 8 tagged \"seconds", "expected values of 8 bytes"],
    );
    wrong(options.clone().tag(*b"metres\0\0").receiver(NAME).unwrap_err(), &["seconds", "metres", "same options"]);
    wrong(
        PipeOptions::values::<[u64; 2]>().directory(at(&sandbox)).receiver(NAME).unwrap_err(),
        &["expected values of 16"],
    );
    wrong(PipeOptions::values::<[u8; 8]>().directory(at(&sandbox)).receiver(NAME).unwrap_err(), &["aligned to 1"]);
    wrong(PipeOptions::bytes().directory(at(&sandbox)).receiver(NAME).unwrap_err(), &["expected byte messages"]);
    wrong(options.clone().tag(*b"seconds\0").end(NAME).unwrap_err(), &["found a one-way pipe, expected a duplex pipe"]);
    wrong(
        PipeOptions::bytes().directory(at(&sandbox)).sender("duplex").unwrap_err(),
        &["found a duplex pipe, expected a one-way pipe"],
    );
    let _rx = options.tag(*b"seconds\0").receiver(NAME).unwrap();
}

fn queue_of_values(sandbox: &Sandbox) -> QueueOptions<u64> {
    QueueOptions::values().capacity(4).max_participants(3).directory(sandbox.names())
}

/// 4096 bytes are mapped, followed by two extents of 4096.
fn queue_of_bytes(sandbox: &Sandbox) -> QueueOptions<[u8]> {
    let options = QueueOptions::bytes().capacity(4).max_participants(3).max_message_len(1000);
    options.inline_len(16).blocks(2, 64).extents(2).directory(sandbox.names())
}

/// A queue of bytes without participants, and a message in an extent to keep it.
fn queue_region(sandbox: &Sandbox) -> PathBuf {
    queue_of_bytes(sandbox).sender(NAME).unwrap().send(&[1; 100]).unwrap();
    sandbox.names().join(NAME)
}

/// Opening the queue fails with this error, as sender, as receiver and as both.
fn queue_refused(sandbox: &Sandbox, kind: ErrorKind, says: &[&str]) {
    let options = queue_of_bytes(sandbox);
    for outcome in [options.sender(NAME).err(), options.receiver(NAME).err(), options.open(NAME).err()] {
        expect(outcome.expect("an error"), kind, says);
    }
    assert_eq!(sandbox.litter(), [NAME], "what is not ours stays");
}

#[test]
fn queue_file_truncated_or_extended_is_refused() {
    for (length, found) in [
        (100, "found 100 bytes, expected a region of at least 512 bytes"),
        (4096, "found 4096 bytes, expected 12288; the file was cut or grown"), // the extents are gone
        (8192, "found 8192 bytes, expected 12288;"),
        (12287, "found 12287 bytes, expected 12288;"),
        (12288 + 4096, "found 16384 bytes, expected 12288;"),
    ] {
        let sandbox = Sandbox::new();
        File::options().write(true).open(queue_region(&sandbox)).unwrap().set_len(length).unwrap();
        queue_refused(&sandbox, ErrorKind::NotARegion, &[NAME, found]);
    }
    // The part that is not mapped can be cut at any time: that is an error and not a signal.
    let sandbox = Sandbox::new();
    let path = queue_region(&sandbox);
    let (mut tx, mut rx) =
        (queue_of_bytes(&sandbox).sender(NAME).unwrap(), queue_of_bytes(&sandbox).receiver(NAME).unwrap());
    tx.send(b"short").unwrap();
    File::options().write(true).open(path).unwrap().set_len(4096).unwrap();
    let mut message = Vec::new();
    assert_eq!(rx.recv(&mut message), Err(RecvError::Corrupt));
    assert_eq!((rx.recv(&mut message), &message[..]), (Ok(5), &b"short"[..]));
}

#[test]
fn queue_header_invalid_is_refused() {
    for (word, value, kind, says) in [
        (0, 0, ErrorKind::NotARegion, "found no magic number"),
        (1, 999, ErrorKind::WrongVersion, "found layout version 999, expected version 2; use the same version"),
        (2, 4096, ErrorKind::NotARegion, "found 12288 bytes, expected 4096"),
        (3, 0, ErrorKind::Corrupt, "found kind 0 with 1 directions"),
        (3, 3, ErrorKind::Corrupt, "found kind 3 with 1 directions"),
        (3, 1, ErrorKind::Corrupt, "found capacity 4"), // no pipe has that many participants
        (4, 0, ErrorKind::Corrupt, "found kind 2 with 0 directions"),
        (4, 2, ErrorKind::Corrupt, "found kind 2 with 2 directions"),
        (5, 8, ErrorKind::Corrupt, "found an element of 8 bytes aligned to 0"),
        (6, 8, ErrorKind::Corrupt, "found an element of 0 bytes aligned to 8"),
        (7, 1, ErrorKind::Corrupt, "found an element of 0 bytes"),
        (8, 0, ErrorKind::Corrupt, "found capacity 0"),
        (8, 1, ErrorKind::Corrupt, "found capacity 1"),
        (8, 3, ErrorKind::Corrupt, "found capacity 3"),
        (8, 1 << 20, ErrorKind::Corrupt, "found capacity 1048576"),
        (8, 1 << 63, ErrorKind::Corrupt, "found capacity 9223372036854775808"),
        (8, u64::MAX, ErrorKind::Corrupt, "expected a header that tombolo writes; the header is damaged"),
        (9, 0, ErrorKind::Corrupt, "limit 0 in 12288 bytes"),
        (9, 64, ErrorKind::Corrupt, "limit 64 in 12288 bytes"), // fits a block: then there are no extents
        (9, 1 << 20, ErrorKind::Corrupt, "limit 1048576 in 12288 bytes"),
        (9, u64::MAX, ErrorKind::Corrupt, "found capacity 4 and limit 18446744073709551615"),
        (10, 0, ErrorKind::Corrupt, "found words that have no meaning"),
        (10, 3, ErrorKind::Corrupt, "found words that have no meaning"),
        (11, 0, ErrorKind::Corrupt, "found capacity 4"),
        (11, 4097, ErrorKind::Corrupt, "found capacity 4"),
        (11, 1 << 60, ErrorKind::Corrupt, "found capacity 4"),
        (12, 15, ErrorKind::Corrupt, "found capacity 4"),
        (12, 1 << 20, ErrorKind::Corrupt, "found capacity 4"),
        (12, u64::MAX, ErrorKind::Corrupt, "found capacity 4"),
        (13, 0, ErrorKind::Corrupt, "found capacity 4"), // then a block would have no length
        (13, 1 << 32, ErrorKind::Corrupt, "found capacity 4"),
        (13, u64::MAX, ErrorKind::Corrupt, "found capacity 4"),
        (14, 0, ErrorKind::Corrupt, "found capacity 4"),
        (14, 65, ErrorKind::Corrupt, "found capacity 4"),
        (14, 1 << 46, ErrorKind::Corrupt, "found capacity 4"),
        (14, u64::MAX - 7, ErrorKind::Corrupt, "found capacity 4"),
        (15, 0, ErrorKind::Corrupt, "found capacity 4"),
        (15, 3, ErrorKind::Corrupt, "found capacity 4"),
        (15, 1 << 32, ErrorKind::Corrupt, "found capacity 4"),
        (15, u64::MAX, ErrorKind::Corrupt, "found capacity 4"),
        (16, 1, ErrorKind::Corrupt, "found capacity 4"), // no queue is persistent
        (17, 1, ErrorKind::Corrupt, "found words that have no meaning"),
        (63, 1, ErrorKind::Corrupt, "found words that have no meaning"),
    ] {
        let sandbox = Sandbox::new();
        write_word(&queue_region(&sandbox), word, value);
        queue_refused(&sandbox, kind, &[NAME, says]);
    }
    // Words that only queues use are zero in a pipe.
    for word in 11..17 {
        let sandbox = Sandbox::new();
        write_word(&region(&sandbox), word, 1);
        refused(&sandbox, ErrorKind::Corrupt, &[NAME, "found capacity 4"]);
    }
    // A queue of values has no pool.
    for word in 12..17 {
        let sandbox = Sandbox::new();
        queue_of_values(&sandbox).sender(NAME).unwrap().send(&1).unwrap();
        write_word(&sandbox.names().join(NAME), word, 16);
        queue_refused(&sandbox, ErrorKind::Corrupt, &[NAME, "found capacity 4"]);
    }
}

/// Removal by force does not need a valid header.
#[test]
fn queue_header_damaged_can_be_removed() {
    let sandbox = Sandbox::new();
    write_word(&queue_region(&sandbox), 13, u64::MAX);
    let directory = Directory::at(sandbox.names());
    expect(directory.unlink(NAME, false).unwrap_err(), ErrorKind::Corrupt, &[NAME, "remove the region"]);
    directory.unlink(NAME, true).unwrap();
    queue_of_bytes(&sandbox).sender(NAME).unwrap();
}

#[test]
fn queue_of_another_type_is_refused() {
    let sandbox = Sandbox::new();
    let options = queue_of_values(&sandbox).tag(*b"seconds\0");
    let _tx = options.sender(NAME).unwrap();
    let _bytes = queue_of_bytes(&sandbox).sender("bytes").unwrap();
    let _pipe = values(&sandbox).sender("pipe").unwrap();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let other = |tag| QueueOptions::values::<u64>().tag(tag).directory(sandbox.names());
    wrong(
        queue_of_values(&sandbox).receiver(NAME).unwrap_err(),
        &["8 bytes aligned to 8 tagged \"seconds", "expected values of 8 bytes aligned to 8;"],
    );
    wrong(other(*b"metres\0\0").open(NAME).unwrap_err(), &["seconds", "metres", "the same options on all sides"]);
    let larger = QueueOptions::values::<[u64; 2]>().directory(sandbox.names());
    wrong(larger.receiver(NAME).unwrap_err(), &["expected values of 16"]);
    let unaligned = QueueOptions::values::<[u8; 8]>().directory(sandbox.names());
    wrong(unaligned.sender(NAME).unwrap_err(), &["aligned to 1"]);
    wrong(queue_of_bytes(&sandbox).receiver(NAME).unwrap_err(), &["found values of 8 bytes", "expected byte messages"]);
    wrong(queue_of_values(&sandbox).open("bytes").unwrap_err(), &["found byte messages, expected values of 8 bytes"]);
    wrong(
        queue_of_bytes(&sandbox).max_message_len(999).receiver("bytes").unwrap_err(),
        &["found messages of up to 1000 bytes, expected of up to 999: see max_message_len"],
    );
    queue_of_bytes(&sandbox).max_message_len(1001).receiver("bytes").unwrap();

    wrong(
        queue_of_values(&sandbox).sender("pipe").unwrap_err(),
        &["cannot open this queue: found a pipe, expected a queue"],
    );
    wrong(queue_of_bytes(&sandbox).open("pipe").unwrap_err(), &["found a pipe, expected a queue"]);
    let pipe = |sandbox: &Sandbox| values(sandbox).tag(*b"seconds\0");
    wrong(pipe(&sandbox).receiver(NAME).unwrap_err(), &["cannot open this pipe: found a queue, expected a pipe"]);
    wrong(pipe(&sandbox).end(NAME).unwrap_err(), &["found a queue, expected a pipe", "another name"]);
    let bytes = PipeOptions::bytes().directory(sandbox.names());
    wrong(bytes.sender("bytes").unwrap_err(), &["found a queue, expected a pipe"]);
    let _rx = options.receiver(NAME).unwrap();
}

#[test]
fn descriptor_of_another_type_is_refused() {
    let sandbox = Sandbox::new();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let queue = || QueueOptions::values::<u64>().capacity(4);
    let (tx, rx) = queue().channel().unwrap();
    wrong(
        PipeOptions::values::<u64>().from_fd::<tombolo::Sender<u64>>(tx.into_fd().unwrap()).unwrap_err(),
        &["found a queue"],
    );
    wrong(
        queue().from_fd::<tombolo::QueueSender<u64>>(rx.into_fd().unwrap()).unwrap_err(),
        &["found receiver, expected the other part; pick it up as what it is"],
    );
    let (tx, _rx) = PipeOptions::values::<u64>().one_way().unwrap();
    wrong(
        queue().from_fd::<tombolo::QueueSender<u64>>(tx.into_fd().unwrap()).unwrap_err(),
        &["found a pipe, expected a queue"],
    );
    let again = File::options().read(true).write(true).open({
        queue_of_values(&sandbox).sender(NAME).unwrap().send(&1).unwrap();
        sandbox.names().join(NAME)
    });
    let error = queue_of_values(&sandbox).from_fd::<tombolo::QueueSender<u64>>(again.unwrap().into()).unwrap_err();
    expect(error, ErrorKind::InvalidOptions, &["found a description without a part in its region"]);
}

/// The objects of a namespace, by their indices in its table.
mod space {
    pub const VALUE: u64 = 0;
    pub const NUMBER: u64 = 1;
    pub const ARRAY: u64 = 2;
    pub const PERMITS: u64 = 3;
    pub const GATE: u64 = 4;
    pub const FLAG: u64 = 5;
    pub const QUEUE: u64 = 6;
    pub const LAST: u64 = 7;

    /// First word of the table; words of an entry.
    pub const TABLE: u64 = 64 + 4 * 16;
    pub const ENTRY: u64 = 16;
    pub const KIND: u64 = 0;
    pub const SIZE: u64 = 1;
    pub const ALIGN: u64 = 2;
    pub const TAG: u64 = 3;
    pub const COUNT: u64 = 4;
    pub const AT: u64 = 5;
    pub const WORDS: u64 = 6;
    pub const UNUSED: u64 = 7;
    pub const TITLE: u64 = 8;
}

fn space(sandbox: &Sandbox) -> NamespaceBuilder {
    Namespace::builder()
        .max_participants(4)
        .value("value", [1_u64; 2])
        .atomic("number", 7_u64)
        .array("array", &[1_u64, 2, 3, 4])
        .bounded_semaphore("permits", 3)
        .barrier("gate", 2)
        .event("flag")
        .queue::<u64>("queue", 4)
        .mutex("last", 5_u64)
        .persistent()
        .directory(sandbox.names())
}

fn existing(sandbox: &Sandbox) -> NamespaceBuilder {
    Namespace::builder().directory(sandbox.names()).open_existing()
}

/// A namespace without participants.
fn space_region(sandbox: &Sandbox) -> PathBuf {
    space(sandbox).open(NAME).unwrap();
    sandbox.names().join(NAME)
}

/// Opening the namespace fails with this error, with and without a plan. So does inspecting it.
fn space_refused(sandbox: &Sandbox, kind: ErrorKind, says: &[&str]) {
    let directory = Directory::at(sandbox.names());
    for error in [
        space(sandbox).open(NAME).err(),
        existing(sandbox).open(NAME).err(),
        directory.inspect(NAME).err(),
        directory.repair(NAME).err(),
    ] {
        expect(error.unwrap_or_else(|| panic!("no error that says {says:?}")), kind, says);
    }
    assert_eq!(sandbox.litter(), [NAME], "what is not ours stays");
}

#[test]
fn namespace_file_truncated_or_extended_is_refused() {
    let sandbox = Sandbox::new();
    let length = fs::metadata(space_region(&sandbox)).unwrap().len();
    for (other, found) in [
        (0, "found 0 bytes, expected a region of at least 512 bytes".to_string()),
        (100, "found 100 bytes, expected a region".to_string()),
        (512, format!("found 512 bytes, expected {length}; the file was cut or grown")),
        (4096, format!("found 4096 bytes, expected {length};")),
        (length - 1, format!("found {} bytes, expected {length};", length - 1)),
        (length + 4096, format!("found {} bytes, expected {length};", length + 4096)),
    ] {
        let sandbox = Sandbox::new();
        File::options().write(true).open(space_region(&sandbox)).unwrap().set_len(other).unwrap();
        space_refused(&sandbox, ErrorKind::NotARegion, &[NAME, &found]);
    }
}

#[test]
fn namespace_header_invalid_is_refused() {
    let sandbox = Sandbox::new();
    let header = fs::read(space_region(&sandbox)).unwrap();
    let limit = u64::from_ne_bytes(*header[9 * 8..].first_chunk().unwrap());
    let damaged = "expected a header that tombolo writes; the header is damaged: remove the region when nobody uses it";
    for (word, value, kind, says) in [
        (0, 0, ErrorKind::NotARegion, "found no magic number"),
        (1, 0, ErrorKind::WrongVersion, "found layout version 0, expected version 2; use the same version"),
        (1, 1, ErrorKind::WrongVersion, "found layout version 1, expected version 2; use the same version"),
        (2, 4096, ErrorKind::NotARegion, "expected 4096; the file was cut or grown"),
        (3, 1, ErrorKind::Corrupt, "found kind 1 with 0 directions"),
        (3, 2, ErrorKind::Corrupt, "found kind 2 with 0 directions"),
        (3, 4, ErrorKind::Corrupt, "found kind 4 with 0 directions"),
        (4, 1, ErrorKind::Corrupt, "found kind 3 with 1 directions"),
        (5, 8, ErrorKind::Corrupt, "found an element of 8 bytes aligned to 0"),
        (6, 8, ErrorKind::Corrupt, "found an element of 0 bytes aligned to 8"),
        (7, 1, ErrorKind::Corrupt, "found an element of 0 bytes"),
        (8, 0, ErrorKind::Corrupt, "found capacity 0"),
        (8, 1 << 16 | 1, ErrorKind::Corrupt, "found capacity 65537"),
        (8, 1 << 63, ErrorKind::Corrupt, damaged),
        (8, u64::MAX, ErrorKind::Corrupt, damaged),
        // With an entry less or more, the table overlaps or misses objects.
        (8, space::LAST, ErrorKind::Corrupt, "found entry 0 of its table damaged"),
        (8, space::LAST + 2, ErrorKind::Corrupt, "found entry 0 of its table damaged"),
        (9, 0, ErrorKind::Corrupt, "and limit 0 in"),
        (9, limit - 1, ErrorKind::Corrupt, damaged),
        (9, limit - 128, ErrorKind::Corrupt, "found entry 7 of its table damaged"),
        (9, limit + 8, ErrorKind::Corrupt, "found a table of objects up to word"),
        (9, limit + 128, ErrorKind::Corrupt, "found a table of objects up to word"),
        (9, 1 << 46, ErrorKind::Corrupt, damaged),
        (9, u64::MAX, ErrorKind::Corrupt, damaged),
        (10, 0, ErrorKind::Corrupt, "found words that have no meaning"),
        (10, 3, ErrorKind::Corrupt, "found words that have no meaning"),
        (11, 0, ErrorKind::Corrupt, damaged),
        (11, 3, ErrorKind::Corrupt, "found entry 0 of its table damaged"),
        (11, 5, ErrorKind::Corrupt, "found entry 0 of its table damaged"),
        (11, 4097, ErrorKind::Corrupt, damaged),
        (11, u64::MAX, ErrorKind::Corrupt, damaged),
        (12, 16, ErrorKind::Corrupt, damaged),
        (13, 1, ErrorKind::Corrupt, damaged),
        (14, 8, ErrorKind::Corrupt, damaged),
        (15, 1, ErrorKind::Corrupt, damaged),
        (16, 2, ErrorKind::Corrupt, damaged),
        (17, 1, ErrorKind::Corrupt, "found words that have no meaning"),
        (63, 1, ErrorKind::Corrupt, "found words that have no meaning"),
    ] {
        let sandbox = Sandbox::new();
        write_word(&space_region(&sandbox), word, value);
        space_refused(&sandbox, kind, &[NAME, says]);
    }
}

#[test]
fn namespace_table_invalid_is_refused() {
    use space::*;
    let text = |text: &[u8; 8]| u64::from_ne_bytes(*text);
    let sandbox = Sandbox::new();
    let bytes = fs::read(space_region(&sandbox)).unwrap();
    let word = |object: u64, word: u64| {
        let at = (TABLE + object * ENTRY + word) as usize * 8;
        u64::from_ne_bytes(*bytes[at..].first_chunk().unwrap())
    };
    let lies = [
        (VALUE, KIND, &[0, 2, 3, 4, 7, 12, 13, 14, 1 << 32, u64::MAX][..]),
        (VALUE, SIZE, &[0, 8, 15, 17, 40, 1 << 20, 1 << 61, 1 << 63, u64::MAX, !15]),
        (VALUE, ALIGN, &[0, 3, 32, 256, 1 << 63, u64::MAX]),
        (VALUE, COUNT, &[1, u64::MAX]),
        (NUMBER, SIZE, &[0, 16, 1 << 40, 1 << 62]),
        (NUMBER, KIND, &[1, 9, 10, 12]), // those that are as long hold nothing
        (ARRAY, COUNT, &[0, 17, 1 << 20, 1 << 44, 1 << 61, u64::MAX]),
        (ARRAY, SIZE, &[0, 24, 40, 1 << 61, !7]),
        (PERMITS, COUNT, &[0, 17, 1 << 16, 1 << 17, u64::MAX]),
        (PERMITS, SIZE, &[8]),
        (GATE, COUNT, &[0, 1 << 13, u64::MAX]),
        (FLAG, SIZE, &[8, 1 << 40]),
        (FLAG, COUNT, &[1]),
        (QUEUE, SIZE, &[8]),
        (QUEUE, KIND, &[1, 4, 12]),
        (LAST, KIND, &[1, 13]),
        (LAST, SIZE, &[64, 1 << 61]),
        (LAST, AT, &[0, 1, word(LAST, AT) + 16, word(LAST, AT) - 16, word(VALUE, AT), u64::MAX]),
        (VALUE, AT, &[0, word(VALUE, AT) + 1, word(VALUE, AT) + 16, word(NUMBER, AT), 1 << 61, u64::MAX]),
        (VALUE, WORDS, &[0, 16, word(VALUE, WORDS) + 1, word(VALUE, WORDS) + 16, 1 << 61, u64::MAX]),
        (LAST, WORDS, &[0, 15, 32, 1 << 20, u64::MAX]),
        (VALUE, UNUSED, &[1, u64::MAX]),
        (
            VALUE,
            TITLE,
            &[text(b"\xFFalue\0\0\0"), text(b"val\nue\0\0"), text(b"val\0ue\0\0"), text(b"\xC3\0\0\0\0\0\0\0")],
        ),
        (VALUE, TITLE + 7, &[1, 1 << 63]), // zeros in between
    ];
    for (object, at, values) in lies {
        for value in values {
            let sandbox = Sandbox::new();
            write_word(&space_region(&sandbox), TABLE + object * ENTRY + at, *value);
            let says = format!("found entry {object} of its table damaged, expected one that tombolo writes;");
            space_refused(&sandbox, ErrorKind::Corrupt, &[NAME, &says, "remove the region when nobody uses it"]);
        }
    }
    // Two objects of the same name.
    let sandbox = Sandbox::new();
    write_word(&space_region(&sandbox), TABLE + LAST * ENTRY + TITLE, word(VALUE, TITLE));
    space_refused(&sandbox, ErrorKind::Corrupt, &["found entry 7 of its table damaged"]);
    // No tag is invalid in itself.
    let sandbox = Sandbox::new();
    write_word(&space_region(&sandbox), TABLE + VALUE * ENTRY + TAG, text(b"seconds\0"));
    expect(space(&sandbox).open(NAME).unwrap_err(), ErrorKind::WrongType, &["tagged \"seconds"]);
    existing(&sandbox).open(NAME).unwrap().tagged(*b"seconds\0").value::<[u64; 2]>("value").unwrap();
}

/// The header of a queue in a namespace is validated like that of a file.
#[test]
fn namespace_queue_header_invalid_is_refused() {
    let lies = [
        (0, &[0, 1][..]),
        (1, &[0, 1]),
        (2, &[0, 4096 - 8, 8192, u64::MAX]),
        (3, &[0, 1, 3]),
        (4, &[0, 2]),
        (5, &[0, 1 << 20, 1 << 60]),
        (6, &[0, 3, 256]),
        (8, &[0, 1, 3, 1 << 20, u64::MAX]),
        (9, &[0, 16, u64::MAX]),
        (10, &[0, 3]),
        (11, &[0, 1 << 10, u64::MAX]),
        (12, &[16]),
        (13, &[1]),
        (14, &[8]),
        (15, &[1, u64::MAX]), // not mapped, and so not there
        (16, &[1]),
        (17, &[1]),
        (63, &[1]),
    ];
    for (word, values) in lies {
        for value in values {
            let sandbox = Sandbox::new();
            let path = space_region(&sandbox);
            let at = space::TABLE + space::QUEUE * space::ENTRY + space::AT;
            let queue = u64::from_ne_bytes(*fs::read(&path).unwrap()[at as usize * 8..].first_chunk().unwrap());
            write_word(&path, queue + word, *value);
            let says = format!("found entry {} of its table damaged", space::QUEUE);
            space_refused(&sandbox, ErrorKind::Corrupt, &[NAME, &says, "remove the region"]);
        }
    }
}

/// A valid header of a queue of that size with extents, which are not in the mapping.
#[test]
fn namespace_queue_with_extents_is_refused() {
    let sandbox = Sandbox::new();
    let header = fs::read(queue_region(&sandbox)).unwrap()[..17 * 8].to_vec();
    assert_eq!((header[2 * 8..3 * 8].to_vec(), header[15 * 8]), (12288_u64.to_ne_bytes().to_vec(), 2));
    let sandbox = Sandbox::new();
    let plan = Namespace::builder().max_participants(4).persistent().directory(sandbox.names());
    plan.queue::<[u64; 200]>("queue", 4).open(NAME).unwrap();
    let path = sandbox.names().join(NAME);
    let at =
        u64::from_ne_bytes(*fs::read(&path).unwrap()[(space::TABLE + space::AT) as usize * 8..].first_chunk().unwrap());
    File::options().write(true).open(&path).unwrap().write_all_at(&header, at * 8).unwrap();
    let error = existing(&sandbox).open(NAME).unwrap_err();
    expect(error, ErrorKind::Corrupt, &["found entry 0 of its table damaged"]);
}

#[test]
fn namespace_damaged_can_be_removed() {
    let sandbox = Sandbox::new();
    write_word(&space_region(&sandbox), space::TABLE, u64::MAX);
    space_refused(&sandbox, ErrorKind::Corrupt, &[NAME]);
    Directory::at(sandbox.names()).unlink(NAME, true).unwrap();
    assert_eq!(sandbox.litter(), [""; 0]);
    space(&sandbox).open(NAME).unwrap();
}

#[test]
fn namespace_of_another_type_is_refused() {
    let sandbox = Sandbox::new();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let space = space(&sandbox).open(NAME).unwrap();
    let _pipe = values(&sandbox).sender("pipe").unwrap();
    let _queue = queue_of_values(&sandbox).sender("queue").unwrap();
    let remedy = "open it as what it is, or use another name";
    for (name, found) in [("pipe", "found a pipe"), ("queue", "found a queue")] {
        let says = [found, "cannot open this namespace", "expected a namespace", remedy];
        wrong(existing(&sandbox).open(name).unwrap_err(), &says);
        wrong(Namespace::builder().event("flag").directory(sandbox.names()).open(name).unwrap_err(), &says);
    }
    let found = "found a namespace, expected a pipe";
    wrong(values(&sandbox).sender(NAME).unwrap_err(), &["cannot open this pipe", found]);
    wrong(values(&sandbox).receiver(NAME).unwrap_err(), &[found]);
    wrong(PipeOptions::bytes().directory(sandbox.names()).end(NAME).unwrap_err(), &[found]);
    let found = "found a namespace, expected a queue";
    wrong(queue_of_values(&sandbox).sender(NAME).unwrap_err(), &["cannot open this queue", found]);
    wrong(queue_of_bytes(&sandbox).open(NAME).unwrap_err(), &[found]);

    // The same for descriptors.
    let (tx, _rx) = PipeOptions::values::<u64>().one_way().unwrap();
    wrong(Namespace::from_fd(tx.into_fd().unwrap()).unwrap_err(), &["found a pipe, expected a namespace"]);
    let (tx, _rx) = QueueOptions::values::<u64>().channel().unwrap();
    wrong(Namespace::from_fd(tx.into_fd().unwrap()).unwrap_err(), &["found a queue, expected a namespace"]);
    let share = || space.share().unwrap();
    let error = PipeOptions::values::<u64>().from_fd::<tombolo::Sender<u64>>(share()).unwrap_err();
    wrong(error, &["found a namespace, expected a pipe"]);
    let error = QueueOptions::values::<u64>().from_fd::<tombolo::QueueSender<u64>>(share()).unwrap_err();
    wrong(error, &["found a namespace, expected a queue"]);
    wrong(Value::<u64>::from_fd(share()).unwrap_err(), &["found a namespace of 8, expected one object"]);
    let single = Mutex::new(1_u64).unwrap();
    wrong(Array::<u64>::from_fd(single.share().unwrap()).unwrap_err(), &["found a mutex", "expected an array"]);
}

#[test]
fn object_of_another_type_is_refused() {
    let sandbox = Sandbox::new();
    let space = space(&sandbox).open(NAME).unwrap();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let remedy = "open it as what it is, or use another name";
    wrong(
        space.value::<u64>("value").unwrap_err(),
        &["cannot open the object \"value\"", "found a value (values of 16", remedy],
    );
    wrong(space.value::<[u32; 4]>("value").unwrap_err(), &["aligned to 8", "aligned to 4"]);
    wrong(space.value::<i64>("number").unwrap_err(), &["atomic (values of 8 bytes", "expected a value", "\"i64"]);
    wrong(space.atomic::<i64>("number").unwrap_err(), &["tagged \"u64", "tagged \"i64"]);
    wrong(space.atomic::<u32>("number").unwrap_err(), &["of 8 bytes", "of 4 bytes"]);
    wrong(space.array::<u32>("array").unwrap_err(), &["found an array of 4 values of 8 bytes"]);
    wrong(space.mutex::<[u64; 2]>("value").unwrap_err(), &["found a value", "expected a mutex"]);
    wrong(space.semaphore("permits").unwrap_err(), &["found a bounded semaphore of 3 permits", "expected a semaphore"]);
    wrong(space.condvar("flag").unwrap_err(), &["event, expected a condition variable"]);
    wrong(space.queue::<u32>("queue").unwrap_err(), &["found a queue of 4 values of 8 bytes"]);
    wrong(space.queue::<[u8]>("queue").unwrap_err(), &["found a queue of 4 values of 8 bytes"]);
    wrong(space.tagged(*b"seconds\0").value::<[u64; 2]>("value").unwrap_err(), &["seconds"]);
    let missing =
        "found the objects value, number, array, permits, gate, flag, queue, last, expected one of that name;";
    expect(space.event("missing").unwrap_err(), ErrorKind::NotFound, &["the object \"missing\"", missing]);

    // A plan with more objects or other lengths.
    let plan = || Namespace::builder().directory(sandbox.names());
    let missing = plan().event("flag").event("more").open(NAME).unwrap_err();
    expect(missing, ErrorKind::NotFound, &["the object \"more\""]);
    wrong(
        plan().zeroed_array::<u64>("array", 5).open(NAME).unwrap_err(),
        &["an array of 4 values", "expected an array"],
    );
    wrong(plan().bounded_semaphore("permits", 4).open(NAME).unwrap_err(), &["a bounded semaphore of 3 permits"]);
    wrong(plan().barrier("gate", 3).open(NAME).unwrap_err(), &["a barrier for 2 parties"]);
    wrong(plan().queue::<u32>("queue", 4).open(NAME).unwrap_err(), &["found a queue of 4 values of 8 bytes"]);
    wrong(plan().byte_queue("queue", 4, 8).open(NAME).unwrap_err(), &["found a queue of 4 values of 8 bytes"]);
    plan().array("array", &[9_u64; 4]).open(NAME).unwrap();
}

/// The only member of a namespace that is not persistent.
fn store_and_die(arguments: &[String]) {
    let namespace = Namespace::builder().value("value", 1_u64).directory(&arguments[0]).open(NAME).unwrap();
    namespace.value("value").unwrap().store(&2_u64).unwrap();
    // SAFETY: ends this process, without a word to anybody.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// Opening with a wrong plan and leaving again does not count as having joined: what the dead left
/// stays for the next one with the right plan.
#[test]
fn namespace_opened_with_wrong_plan_keeps_contents() {
    let sandbox = Sandbox::new();
    start("store_and_die", &[sandbox.names().to_str().unwrap()]).wait();
    let plan = || Namespace::builder().directory(sandbox.names());
    expect(plan().value("value", 1_u32).open(NAME).unwrap_err(), ErrorKind::WrongType, &["of 4 bytes"]);
    assert_eq!(sandbox.litter(), [NAME]);
    expect(plan().open_existing().event("flag").open(NAME).unwrap_err(), ErrorKind::NotFound, &["\"flag\""]);
    assert_eq!(plan().open(NAME).unwrap().value::<u64>("value").unwrap().load(), Ok(2));
}

#[test]
fn namespace_options_invalid_are_refused() {
    let sandbox = Sandbox::new();
    let plan = || Namespace::builder().directory(sandbox.names());
    let refused = |plan: NamespaceBuilder, kind: ErrorKind, says: &[&str]| {
        expect(plan.anonymous().unwrap_err(), kind, says);
        expect(plan.open(NAME).unwrap_err(), kind, says);
    };
    let invalid = |plan: NamespaceBuilder, says: &[&str]| refused(plan, ErrorKind::InvalidOptions, says);
    invalid(plan(), &["number of objects: found 0, expected 1 to 65536;"]);
    for participants in [0, 4097, 5000, 1 << 32, usize::MAX / 2 + 1, usize::MAX] {
        let says = format!("number of participants: found {participants}, expected 1 to 4096;");
        let plan = || plan().max_participants(participants);
        invalid(plan().event("flag"), &[&says]);
        invalid(plan().barrier("gate", 2), &[&says]);
        invalid(plan().rw_lock("rw", [0_u64; 2]), &[&says]);
        invalid(plan().queue::<u64>("queue", 4), &[&says]);
    }
    for length in [0, 1 << 44, 1 << 60, 1 << 61, usize::MAX / 2 + 1, usize::MAX] {
        let says = format!("with this length: found {length}, expected 1 to ");
        invalid(plan().zeroed_array::<u8>("array", length), &[&says]);
        invalid(plan().zeroed_array::<u64>("array", length), &[&says]);
        invalid(plan().zeroed_array::<[u8; 3]>("array", length), &[&says]);
    }
    let below = "expected a region below 64 TiB";
    invalid(
        plan().zeroed_array::<[u8; 1 << 30]>("array", 1 << 40),
        &["objects of more bytes than can be counted", below],
    );
    invalid(plan().zeroed_array::<u64>("array", 1 << 43), &["number of words"]);
    let third = || plan().zeroed_array::<u64>("one", 3 << 41).zeroed_array::<u64>("two", 3 << 41);
    invalid(third(), &["number of words"]);
    invalid(third().zeroed_array::<u64>("three", 3 << 41), &["number of words"]);
    invalid(plan().value("nothing", [0_u8; 0]), &["size of a value: found 0, expected at least 1 byte; use an event"]);
    invalid(plan().array::<u64>("nothing", &[]), &["found 0"]);
    invalid(plan().bounded_semaphore("none", 0), &["number of permits: found 0", "use a mutex"]);
    invalid(plan().bounded_semaphore("many", (1 << 16) + 1), &["found 65537, expected 1 to 65536;"]);
    invalid(plan().semaphore("many", 1 << 31), &["found 2147483648, expected", "to 2147483647;"]);
    invalid(plan().barrier("nobody", 0), &["number of parties: found 0"]);
    invalid(plan().barrier("crowd", 1 << 13), &["found 8192, expected 1 to 8191;"]);
    invalid(plan().queue::<u64>("queue", 0), &["plan the queue \"queue\"", "capacity", "found 0"]);
    invalid(plan().queue::<u64>("queue", usize::MAX), &["plan the queue", "choose a smaller capacity"]);
    invalid(plan().byte_queue("queue", 4, usize::MAX), &["plan the queue", "message limit"]);
    invalid(plan().byte_queue("queue", 1 << 40, 1 << 40), &["plan the queue"]);
    let present = plan().event("flag").open("present").unwrap();
    for plan in [plan(), plan().event("flag")].map(|plan| plan.queue::<u64>("queue", 0)) {
        expect(plan.open("present").unwrap_err(), ErrorKind::InvalidOptions, &["plan the queue \"queue\""]);
        expect(plan.from_fd(present.share().unwrap()).unwrap_err(), ErrorKind::InvalidOptions, &["plan the queue"]);
    }
    drop(present);

    let misnamed =
        |name: &str| refused(plan().event(name), ErrorKind::InvalidName, &["at most 64 bytes without control"]);
    misnamed(&"x".repeat(65));
    misnamed(&"é".repeat(33));
    misnamed("two\nlines");
    misnamed("end\0");
    let twice = plan().event("flag").once("flag");
    refused(
        twice,
        ErrorKind::AlreadyExists,
        &["two objects of the name \"flag\", expected a name for each; rename one"],
    );
    let much = plan().zeroed_array::<u8>("array", 1 << 43);
    refused(much, ErrorKind::NoSpace, &["choose a smaller capacity"]);
    assert_eq!(sandbox.litter(), [""; 0]);
}

/// One more object is refused. Neither takes as long as comparing every pair.
#[test]
fn namespace_with_most_objects_opens() {
    let sandbox = Sandbox::new();
    let plan = Namespace::builder().max_participants(1).directory(sandbox.names()).persistent();
    let plan = (0..1 << 16).fold(plan, |plan, number| plan.event(&format!("an event with the number {number:08}")));
    plan.open(NAME).unwrap();
    let again = existing(&sandbox).open(NAME).unwrap();
    assert_eq!(again.objects().count(), 1 << 16);
    again.event("an event with the number 00065535").unwrap().set().unwrap();
    drop(again);
    let error = plan.event("one more").open("other").unwrap_err();
    expect(error, ErrorKind::InvalidOptions, &["number of objects: found 65537, expected 1 to 65536;"]);
}

#[test]
fn queue_closed_stays_closed_for_its_senders() {
    let sandbox = Sandbox::new();
    let (mut tx, mut rx) =
        (queue_of_bytes(&sandbox).sender(NAME).unwrap(), queue_of_bytes(&sandbox).receiver(NAME).unwrap());
    tx.send(b"before").unwrap();
    assert_eq!(tx.close(), Ok(()));
    assert_eq!((tx.close(), rx.close()), (Err(SendError::Closed), Err(SendError::Closed)), "twice");
    let long = [1; 1000];
    for message in [&b""[..], &long[..16], &long[..64], &long[..]] {
        assert_eq!(tx.send(message), Err(SendError::Closed), "{} bytes", message.len());
        assert_eq!(tx.try_send(message), Err(SendError::Closed));
        assert_eq!(tx.send_many(&[message, message]), Err(SendError::Closed));
    }
    assert_eq!(tx.send(&[1; 1001]), Err(SendError::TooLarge { length: 1001, limit: 1000 }), "that comes first");
    let mut late = queue_of_bytes(&sandbox).open(NAME).err();
    assert_eq!(
        late.take().map(|error| error.kind()),
        Some(ErrorKind::LanesTaken),
        "two participants are there, it needs two"
    );
    assert_eq!(
        tx.try_clone().unwrap().try_send(b"late"),
        Err(SendError::Closed),
        "a clone belongs to the run of its sender"
    );
    assert_eq!(rx.recv(&mut Vec::new()), Ok(6), "what was there is not lost");
    assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
    assert_eq!(rx.close_now(), Ok(0));
    assert_eq!((rx.stats().pooled, rx.stats().queued, rx.stats().dropped), (0, 0, 0));
}

#[test]
fn name_of_directory_fifo_or_symlink_is_refused() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.names().join(NAME)).unwrap();
    refused(&sandbox, ErrorKind::Io, &[NAME, "directory"]);

    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.names()).unwrap();
    let fifo = sandbox.names().join(NAME);
    let path = CString::new(fifo.as_os_str().as_bytes()).unwrap();
    // SAFETY: a path that ends in a zero byte.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    refused(&sandbox, ErrorKind::NotARegion, &[NAME, "found no regular file"]);

    let sandbox = Sandbox::new();
    let real = region(&sandbox);
    fs::rename(&real, sandbox.file("real")).unwrap();
    symlink(sandbox.file("real"), &real).unwrap();
    refused(&sandbox, ErrorKind::Io, &[NAME]);
}

#[test]
fn file_of_another_user_is_refused() {
    let sandbox = Sandbox::new();
    let path = region(&sandbox);
    if let Err(error) = chown(&path, Some(12345), None) {
        return say(&format!("SKIPPED: a region of another user ({error}); run the tests as root for it"));
    }
    refused(&sandbox, ErrorKind::Permission, &[NAME, "found a file of user 12345, expected one of user 0; allow"]);
    let mut rx = values(&sandbox).any_owner().receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn directory_unusable_is_refused() {
    let sandbox = Sandbox::new();
    let at = |path: PathBuf| PipeOptions::bytes().directory(path).sender(NAME).unwrap_err();
    expect(at(sandbox.file("missing/deep")), ErrorKind::NotFound, &["missing/deep", "make the directory"]);
    fs::write(sandbox.file("file"), "").unwrap();
    expect(at(sandbox.file("file")), ErrorKind::Permission, &["found something else, expected a directory"]);
    expect(at("/proc".into()), ErrorKind::Io, &["no unnamed files", "name a directory on tmpfs"]);
}

#[test]
fn pipe_capacity_rounded_up_is_reported() {
    for (asked, got) in [(1, 1), (2, 2), (3, 4), (1000, 1024)] {
        let (tx, _rx) = PipeOptions::values::<u64>().capacity(asked).one_way().unwrap();
        assert_eq!(tx.capacity(), got);
        let warnings = tx.report().warnings();
        match asked == got {
            true => assert!(warnings.is_empty(), "{warnings:?}"),
            false => assert!(warnings[0].contains(&format!("{got}, not {asked}")), "{warnings:?}"),
        }
    }
    let (tx, _rx) = PipeOptions::bytes().capacity_len(1).one_way().unwrap();
    assert_eq!((tx.capacity(), tx.report().warnings().len()), (128, 1));
}

#[test]
fn pipe_options_invalid_are_refused() {
    let invalid = |error: Error, says: &[&str]| expect(error, ErrorKind::InvalidOptions, says);
    let sandbox = Sandbox::new();
    invalid(values(&sandbox).capacity(0).sender(NAME).unwrap_err(), &["found 0, expected at least 1;"]);
    invalid(PipeOptions::values::<u64>().capacity(0).duplex().unwrap_err(), &["capacity", "found 0"]);
    invalid(PipeOptions::bytes().capacity_len(0).duplex().unwrap_err(), &["capacity", "found 0"]);
    invalid(PipeOptions::values::<[u8; 0]>().one_way().unwrap_err(), &["element size", "send byte messages instead"]);
    invalid(PipeOptions::bytes().max_message_len(1 << 60).one_way().unwrap_err(), &["message limit"]);
    for absurd in [usize::MAX, 1 << 45, usize::MAX / 2 + 1] {
        let says = [&absurd.to_string()[..], "choose a smaller capacity"];
        invalid(PipeOptions::values::<u64>().capacity(absurd).one_way().unwrap_err(), &says);
        invalid(values(&sandbox).capacity(absurd).sender(NAME).unwrap_err(), &says);
    }
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn queue_options_invalid_are_refused() {
    let invalid = |error: Error, says: &[&str]| expect(error, ErrorKind::InvalidOptions, says);
    let sandbox = Sandbox::new();
    let values = || queue_of_values(&sandbox);
    let bytes = || queue_of_bytes(&sandbox);
    invalid(values().capacity(0).sender(NAME).unwrap_err(), &["lay out a queue with this capacity: found 0"]);
    invalid(values().max_participants(0).open(NAME).unwrap_err(), &["participants: found 0, expected 1 to 4096;"]);
    invalid(values().max_participants(4097).queue().unwrap_err(), &["found 4097, expected 1 to 4096"]);
    invalid(QueueOptions::values::<[u8; 0]>().queue().unwrap_err(), &["element size", "send byte messages instead"]);
    invalid(bytes().max_message_len(1 << 60).queue().unwrap_err(), &["message limit"]);
    invalid(
        bytes().extents(0).queue().unwrap_err(),
        &["number of extents: found 0, expected at least 1", "longer than a block"],
    );
    invalid(bytes().inline_len(usize::MAX).queue().unwrap_err(), &["inline length"]);
    invalid(bytes().blocks(usize::MAX, 64).queue().unwrap_err(), &["number of blocks"]);
    invalid(bytes().blocks(1, usize::MAX).queue().unwrap_err(), &["length of a block"]);
    invalid(bytes().extents(usize::MAX).queue().unwrap_err(), &["number of extents"]);
    invalid(bytes().blocks(1 << 32, 1 << 32).queue().unwrap_err(), &["a region below 64 TiB"]);
    invalid(bytes().max_message_len(1 << 40).extents(1 << 10).queue().unwrap_err(), &["a region below 64 TiB"]);
    for absurd in [usize::MAX, 1 << 45, usize::MAX / 2 + 1] {
        let says = [&absurd.to_string()[..], "choose a smaller capacity"];
        invalid(values().capacity(absurd).queue().unwrap_err(), &says);
        invalid(QueueOptions::bytes().capacity(absurd).queue().unwrap_err(), &says);
        invalid(values().capacity(absurd).sender(NAME).unwrap_err(), &says);
    }
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn pipe_larger_than_memory_is_refused() {
    let sandbox = Sandbox::new();
    for terabytes in [1, 16] {
        let options = PipeOptions::bytes().capacity_len(terabytes << 40).directory(sandbox.names());
        expect(options.one_way().unwrap_err(), ErrorKind::NoSpace, &["choose a smaller capacity"]);
        expect(options.sender(NAME).unwrap_err(), ErrorKind::NoSpace, &["smaller capacity"]);
    }
    assert_eq!(sandbox.litter(), [""; 0]);
}

/// Mounts a file system of 128 KiB that only this process sees, and fills it.
fn fill_a_tiny_directory(arguments: &[String]) {
    let c = |text: &str| CString::new(text).unwrap();
    let place = &arguments[0];
    let (place_c, tmpfs, limit, root) = (c(place), c("tmpfs"), c("size=128k"), c("/"));
    // SAFETY: strings that end in zero bytes; the mounts are private to this thread and go with it.
    let mounted = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(ptr::null(), root.as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) == 0
            && libc::mount(tmpfs.as_ptr(), place_c.as_ptr(), tmpfs.as_ptr(), 0, limit.as_ptr().cast()) == 0
    };
    if !mounted {
        return say("SKIPPED: a full tmpfs (no permission to mount); run the tests as root for it");
    }
    let options = PipeOptions::bytes().directory(place);
    let too_large = options.clone().capacity_len(256 << 10).sender(NAME).unwrap_err();
    expect(too_large, ErrorKind::NoSpace, &[place, "make room there, choose a smaller capacity"]);
    let kept: Vec<_> =
        (0..100).map_while(|number| options.clone().capacity_len(8 << 10).sender(&format!("{number}")).ok()).collect();
    assert!((2..50).contains(&kept.len()), "{}", kept.len());
    for mut tx in kept {
        tx.try_send(&vec![1; tx.inline_max_len()]).unwrap(); // its pages are there
        Directory::at(place).unlink(tx.name().unwrap(), true).unwrap();
    }
    options.capacity_len(64 << 10).sender(NAME).expect("there is room again");
}

#[test]
fn directory_full_is_an_error() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.names()).unwrap();
    start("fill_a_tiny_directory", &[sandbox.names().to_str().unwrap()]).finish();
}
