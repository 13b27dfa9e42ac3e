//! Files that are no regions, options that no region can have, and places without room: each is an error that says what
//! was found, what had been expected and what to do.

mod support;

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::ptr;

use support::{Sandbox, parts, say, start};
use tombolo::{Directory, End, Error, ErrorKind, PipeOptions};

parts!(fill_a_tiny_directory);

const NAME: &str = "name";

fn values(sandbox: &Sandbox) -> PipeOptions<u64> {
    PipeOptions::values().capacity(4).directory(sandbox.names())
}

/// A region with nobody there, and a message to keep it.
fn region(sandbox: &Sandbox) -> PathBuf {
    values(sandbox).sender(NAME).unwrap().send(&1).unwrap();
    sandbox.names().join(NAME)
}

/// Opening what is there fails like this.
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
    assert!(story.split_once("; ").is_some_and(|(_, remedy)| remedy.len() > 10), "no remedy: {story}");
    for part in says {
        assert!(story.contains(part), "{part:?} is not in: {story}");
    }
}

fn write_word(path: &Path, index: u64, value: u64) {
    File::options().write(true).open(path).unwrap().write_all_at(&value.to_ne_bytes(), index * 8).unwrap();
}

#[test]
fn files_that_are_no_regions() {
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
fn regions_that_were_cut_or_grown() {
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
fn headers_that_lie() {
    for (word, value, kind, says) in [
        (0, 0, ErrorKind::NotARegion, "found no magic number"),
        (1, 999, ErrorKind::WrongVersion, "found layout version 999, expected version 1; use the same version"),
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
fn indices_that_contradict_each_other() {
    let sandbox = Sandbox::new();
    let tail = 128;
    write_word(&region(&sandbox), tail, 100);
    let error = values(&sandbox).receiver(NAME).unwrap_err();
    expect(error, ErrorKind::Corrupt, &[NAME, "contradict each other", "remove it"]);
}

#[test]
fn regions_of_something_else() {
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

#[test]
fn names_that_lead_to_no_file() {
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
fn files_of_other_users() {
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
fn directories_that_cannot_be_used() {
    let sandbox = Sandbox::new();
    let at = |path: PathBuf| PipeOptions::bytes().directory(path).sender(NAME).unwrap_err();
    expect(at(sandbox.file("missing/deep")), ErrorKind::NotFound, &["missing/deep", "make the directory"]);
    fs::write(sandbox.file("file"), "").unwrap();
    expect(at(sandbox.file("file")), ErrorKind::Permission, &["found something else, expected a directory"]);
    expect(at("/proc".into()), ErrorKind::Io, &["no unnamed files", "name a directory on tmpfs"]);
}

#[test]
fn capacities_are_rounded_up_and_that_is_said() {
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
fn options_that_no_region_can_have() {
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
fn more_than_the_memory_there_is() {
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
fn a_full_directory_is_an_error_and_never_a_signal() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.names()).unwrap();
    start("fill_a_tiny_directory", &[sandbox.names().to_str().unwrap()]).finish();
}
