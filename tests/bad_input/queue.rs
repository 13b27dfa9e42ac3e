//! Regions and options of queues.

use std::fs::File;

use tombolo::pipe;
use tombolo::queue;
use tombolo::{Directory, Endpoint, Error, ErrorKind, RecvError};

use crate::support::TestDir;
use crate::{NAME, expect, queue_of_bytes, queue_of_values, queue_region, refused, region, values, write_word};

/// Opening the queue fails with this error, as sender, as receiver and as both.
fn queue_refused(test_dir: &TestDir, kind: ErrorKind, says: &[&str]) {
    let options = queue_of_bytes(test_dir);
    for outcome in [options.sender(NAME).err(), options.receiver(NAME).err(), options.open(NAME).err()] {
        expect(outcome.expect("an error"), kind, says);
    }
    assert_eq!(test_dir.leftovers(), [NAME], "what is not ours stays");
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
        let test_dir = TestDir::new();
        File::options().write(true).open(queue_region(&test_dir)).unwrap().set_len(length).unwrap();
        queue_refused(&test_dir, ErrorKind::NotARegion, &[NAME, found]);
    }
    // The part that is not mapped can be cut at any time: that is an error and not a signal.
    let test_dir = TestDir::new();
    let path = queue_region(&test_dir);
    let (mut tx, mut rx) =
        (queue_of_bytes(&test_dir).sender(NAME).unwrap(), queue_of_bytes(&test_dir).receiver(NAME).unwrap());
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
        (17, 1, ErrorKind::Corrupt, "found capacity 4"), // publishers, of a broadcast
        (23, 1, ErrorKind::Corrupt, "found capacity 4"),
        (24, 256, ErrorKind::Corrupt, "found capacity 4"),
        (24, u64::MAX, ErrorKind::Corrupt, "found capacity 4"),
        (25, 1, ErrorKind::Corrupt, "found capacity 4"), // of the replies to requests
        (28, 1, ErrorKind::Corrupt, "found capacity 4"),
        (29, 1, ErrorKind::Corrupt, "found words that have no meaning"),
        (63, 1, ErrorKind::Corrupt, "found words that have no meaning"),
    ] {
        let test_dir = TestDir::new();
        write_word(&queue_region(&test_dir), word, value);
        queue_refused(&test_dir, kind, &[NAME, says]);
    }
    // Words that only queues use are zero in a pipe.
    for word in (11..17).chain([24]) {
        let test_dir = TestDir::new();
        write_word(&region(&test_dir), word, 1);
        refused(&test_dir, ErrorKind::Corrupt, &[NAME, "found capacity 4"]);
    }
    // A queue of values has no pool, unless it redelivers, and then all that belongs to it.
    for word in (12..17).chain([24]) {
        let test_dir = TestDir::new();
        queue_of_values(&test_dir).sender(NAME).unwrap().send(1).unwrap();
        write_word(&test_dir.names().join(NAME), word, 16);
        queue_refused(&test_dir, ErrorKind::Corrupt, &[NAME, "found capacity 4"]);
    }
}

/// Removal by force does not need a valid header.
#[test]
fn queue_header_damaged_can_be_removed() {
    let test_dir = TestDir::new();
    write_word(&queue_region(&test_dir), 13, u64::MAX);
    let directory = Directory::at(test_dir.names());
    expect(directory.unlink(NAME, false).unwrap_err(), ErrorKind::Corrupt, &[NAME, "remove the region"]);
    directory.unlink(NAME, true).unwrap();
    queue_of_bytes(&test_dir).sender(NAME).unwrap();
}

#[test]
fn queue_of_another_type_is_refused() {
    let test_dir = TestDir::new();
    let options = queue_of_values(&test_dir).type_tag("seconds");
    let _tx = options.sender(NAME).unwrap();
    let _bytes = queue_of_bytes(&test_dir).sender("bytes").unwrap();
    let _pipe = values(&test_dir).sender("pipe").unwrap();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let other = |tag| queue::Options::<u64>::new().type_tag(tag).directory(test_dir.names());
    wrong(
        queue_of_values(&test_dir).receiver(NAME).unwrap_err(),
        &["8 bytes aligned to 8 tagged \"seconds", "expected values of 8 bytes aligned to 8 tagged \"u64\";"],
    );
    wrong(other("metres").open(NAME).unwrap_err(), &["seconds", "metres", "the same options on all sides"]);
    let larger = queue::Options::<[u64; 2]>::new().directory(test_dir.names());
    wrong(larger.receiver(NAME).unwrap_err(), &["expected values of 16"]);
    let unaligned = queue::Options::<[u8; 8]>::new().directory(test_dir.names());
    wrong(unaligned.sender(NAME).unwrap_err(), &["aligned to 1"]);
    wrong(
        queue_of_bytes(&test_dir).receiver(NAME).unwrap_err(),
        &["found values of 8 bytes", "expected byte messages"],
    );
    wrong(queue_of_values(&test_dir).open("bytes").unwrap_err(), &["found byte messages, expected values of 8 bytes"]);
    wrong(
        queue_of_bytes(&test_dir).max_message_bytes(999).receiver("bytes").unwrap_err(),
        &["found messages of up to 1000 bytes, expected of up to 999: see max_message_bytes"],
    );
    queue_of_bytes(&test_dir).max_message_bytes(1001).receiver("bytes").unwrap();

    wrong(
        queue_of_values(&test_dir).sender("pipe").unwrap_err(),
        &["cannot open this queue: found a pipe, expected a queue"],
    );
    wrong(queue_of_bytes(&test_dir).open("pipe").unwrap_err(), &["found a pipe, expected a queue"]);
    let pipe = |test_dir: &TestDir| values(test_dir).type_tag("seconds");
    wrong(pipe(&test_dir).receiver(NAME).unwrap_err(), &["cannot open this pipe: found a queue, expected a pipe"]);
    wrong(pipe(&test_dir).open(NAME).unwrap_err(), &["found a queue, expected a pipe", "another name"]);
    let bytes = pipe::Options::bytes().directory(test_dir.names());
    wrong(bytes.sender("bytes").unwrap_err(), &["found a queue, expected a pipe"]);
    let _rx = options.receiver(NAME).unwrap();
}

#[test]
fn descriptor_of_another_type_is_refused() {
    let test_dir = TestDir::new();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let queue = || queue::Options::<u64>::new().capacity(4);
    let (tx, rx) = queue().create_channel().unwrap();
    wrong(
        pipe::Options::<u64>::new().from_fd::<tombolo::pipe::Sender<u64>>(tx.into_fd().unwrap()).unwrap_err(),
        &["found a queue"],
    );
    wrong(
        queue().from_fd::<tombolo::queue::Sender<u64>>(rx.into_fd().unwrap()).unwrap_err(),
        &["found one of the role receiver, expected one of the other role; take it as what it is"],
    );
    let (tx, _rx) = pipe::Options::<u64>::new().create().unwrap();
    wrong(
        queue().from_fd::<tombolo::queue::Sender<u64>>(tx.into_fd().unwrap()).unwrap_err(),
        &["found a pipe, expected a queue"],
    );
    let again = File::options().read(true).write(true).open({
        queue_of_values(&test_dir).sender(NAME).unwrap().send(1).unwrap();
        test_dir.names().join(NAME)
    });
    let error = queue_of_values(&test_dir).from_fd::<tombolo::queue::Sender<u64>>(again.unwrap().into()).unwrap_err();
    expect(error, ErrorKind::InvalidOptions, &["found a description of no participant of its region"]);
}

#[test]
fn queue_options_invalid_are_refused() {
    let invalid = |error: Error, says: &[&str]| expect(error, ErrorKind::InvalidOptions, says);
    let test_dir = TestDir::new();
    let values = || queue_of_values(&test_dir);
    let bytes = || queue_of_bytes(&test_dir);
    invalid(values().capacity(0).sender(NAME).unwrap_err(), &["lay out a queue with this capacity: found 0"]);
    invalid(values().max_participants(0).open(NAME).unwrap_err(), &["participants: found 0, expected 1 to 4096;"]);
    invalid(values().max_participants(4097).create().unwrap_err(), &["found 4097, expected 1 to 4096"]);
    invalid(queue::Options::<[u8; 0]>::new().create().unwrap_err(), &["element size", "send byte messages instead"]);
    invalid(bytes().max_message_bytes(1 << 60).create().unwrap_err(), &["message limit"]);
    invalid(
        bytes().extents(0).create().unwrap_err(),
        &["number of extents: found 0, expected at least 1", "longer than a block"],
    );
    invalid(bytes().inline_bytes(usize::MAX).create().unwrap_err(), &["inline length"]);
    invalid(
        bytes().blocks(queue::Blocks { count: usize::MAX, bytes: 64 }).create().unwrap_err(),
        &["number of blocks"],
    );
    invalid(
        bytes().blocks(queue::Blocks { count: 1, bytes: usize::MAX }).create().unwrap_err(),
        &["length of a block"],
    );
    invalid(bytes().extents(usize::MAX).create().unwrap_err(), &["number of extents"]);
    invalid(
        bytes().blocks(queue::Blocks { count: 1 << 32, bytes: 1 << 32 }).create().unwrap_err(),
        &["a region below 64 TiB"],
    );
    invalid(bytes().max_message_bytes(1 << 40).extents(1 << 10).create().unwrap_err(), &["a region below 64 TiB"]);
    for absurd in [usize::MAX, 1 << 45, usize::MAX / 2 + 1] {
        let says = [&absurd.to_string()[..], "choose a smaller capacity"];
        invalid(values().capacity(absurd).create().unwrap_err(), &says);
        invalid(queue::Options::bytes().capacity(absurd).create().unwrap_err(), &says);
        invalid(values().capacity(absurd).sender(NAME).unwrap_err(), &says);
    }
    assert_eq!(test_dir.leftovers(), [""; 0]);
}
