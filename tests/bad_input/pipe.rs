//! Regions and options of pipes.

use std::fs::{self, File};

use tombolo::pipe;
use tombolo::{Endpoint, Error, ErrorKind};

use crate::support::TestDir;
use crate::{NAME, expect, refused, region, values, write_word};

#[test]
fn region_file_of_something_else_is_refused() {
    for (content, found) in [
        (vec![], "found 0 bytes, expected a region of at least 512 bytes; choose another name"),
        (vec![b'x'; 100], "found 100 bytes, expected a region"),
        (vec![0; 4096], "found no magic number, expected 0x"),
        (vec![b'x'; 4096], "found the magic number 0x7878787878787878, expected 0x"),
    ] {
        let test_dir = TestDir::new();
        fs::create_dir(test_dir.names()).unwrap();
        fs::write(test_dir.names().join(NAME), content).unwrap();
        refused(&test_dir, ErrorKind::NotARegion, &[NAME, found]);
    }
}

#[test]
fn pipe_file_truncated_or_extended_is_refused() {
    for (length, found) in
        [(100, "found 100 bytes"), (4096 * 3, "found 12288 bytes, expected 4096; the file was cut or grown")]
    {
        let test_dir = TestDir::new();
        File::options().write(true).open(region(&test_dir)).unwrap().set_len(length).unwrap();
        refused(&test_dir, ErrorKind::NotARegion, &[NAME, found]);
    }
    let test_dir = TestDir::new();
    values(&test_dir).capacity(4096).sender(NAME).unwrap().send(1).unwrap();
    let path = test_dir.names().join(NAME);
    let length = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(path).unwrap().set_len(length - 4096).unwrap();
    refused(&test_dir, ErrorKind::NotARegion, &[&format!("found {} bytes, expected {length};", length - 4096)]);
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
        let test_dir = TestDir::new();
        write_word(&region(&test_dir), word, value);
        refused(&test_dir, kind, &[NAME, says]);
    }
}

#[test]
fn pipe_indices_contradictory_is_refused() {
    let test_dir = TestDir::new();
    let tail = 128;
    write_word(&region(&test_dir), tail, 100);
    let error = values(&test_dir).receiver(NAME).unwrap_err();
    expect(error, ErrorKind::Corrupt, &[NAME, "contradict each other", "remove it"]);
}

#[test]
fn pipe_of_another_type_is_refused() {
    let test_dir = TestDir::new();
    let options = pipe::Options::<u64>::new().directory(test_dir.names());
    let _tx = options.clone().type_tag("seconds").sender(NAME).unwrap();
    let _end = pipe::Options::bytes().directory(test_dir.names()).open("duplex").unwrap();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let at = |test_dir: &TestDir| test_dir.names();
    wrong(
        options.receiver(NAME).unwrap_err(),
        &["8 bytes aligned to 8 tagged \"seconds", "expected values of 8 bytes"],
    );
    wrong(options.clone().type_tag("metres").receiver(NAME).unwrap_err(), &["seconds", "metres", "same options"]);
    wrong(
        options.clone().type_tag("metres above sea level").receiver(NAME).unwrap_err(),
        &["seconds", "metres above sea level"],
    );
    wrong(
        pipe::Options::<[u64; 2]>::new().directory(at(&test_dir)).receiver(NAME).unwrap_err(),
        &["expected values of 16"],
    );
    wrong(pipe::Options::<[u8; 8]>::new().directory(at(&test_dir)).receiver(NAME).unwrap_err(), &["aligned to 1"]);
    wrong(pipe::Options::bytes().directory(at(&test_dir)).receiver(NAME).unwrap_err(), &["expected byte messages"]);
    wrong(
        options.clone().type_tag("seconds").open(NAME).unwrap_err(),
        &["found a one-way pipe, expected a duplex pipe"],
    );
    wrong(
        pipe::Options::bytes().directory(at(&test_dir)).sender("duplex").unwrap_err(),
        &["found a duplex pipe, expected a one-way pipe"],
    );
    let _rx = options.type_tag("seconds").receiver(NAME).unwrap();
}

#[test]
fn pipe_capacity_rounded_up_is_reported() {
    for (asked, got) in [(1, 1), (2, 2), (3, 4), (1000, 1024)] {
        let (tx, _rx) = pipe::Options::<u64>::new().capacity(asked).create().unwrap();
        assert_eq!(tx.capacity(), got);
        let warnings = tx.warnings();
        match asked == got {
            true => assert!(warnings.is_empty(), "{warnings:?}"),
            false => assert!(warnings[0].contains(&format!("{got}, not {asked}")), "{warnings:?}"),
        }
    }
    let (tx, _rx) = pipe::Options::bytes().capacity_bytes(1).create().unwrap();
    assert_eq!((tx.capacity(), tx.warnings().len()), (128, 1));
}

#[test]
fn pipe_options_invalid_are_refused() {
    let invalid = |error: Error, says: &[&str]| expect(error, ErrorKind::InvalidOptions, says);
    let test_dir = TestDir::new();
    invalid(values(&test_dir).capacity(0).sender(NAME).unwrap_err(), &["found 0, expected at least 1;"]);
    invalid(pipe::Options::<u64>::new().capacity(0).create_duplex().unwrap_err(), &["capacity", "found 0"]);
    invalid(pipe::Options::bytes().capacity_bytes(0).create_duplex().unwrap_err(), &["capacity", "found 0"]);
    invalid(pipe::Options::<[u8; 0]>::new().create().unwrap_err(), &["element size", "send byte messages instead"]);
    invalid(pipe::Options::bytes().max_message_bytes(1 << 60).create().unwrap_err(), &["message limit"]);
    for absurd in [usize::MAX, 1 << 45, usize::MAX / 2 + 1] {
        let says = [&absurd.to_string()[..], "choose a smaller capacity"];
        invalid(pipe::Options::<u64>::new().capacity(absurd).create().unwrap_err(), &says);
        invalid(values(&test_dir).capacity(absurd).sender(NAME).unwrap_err(), &says);
    }
    assert_eq!(test_dir.leftovers(), [""; 0]);
}
