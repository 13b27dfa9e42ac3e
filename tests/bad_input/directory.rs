//! Names, directories and memory.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;
use std::ptr;

use tombolo::pipe;
use tombolo::{Directory, Endpoint, ErrorKind};

use crate::support::{TestDir, report, start};
use crate::{NAME, expect, refused, region, values};

#[test]
fn name_of_directory_fifo_or_symlink_is_refused() {
    let test_dir = TestDir::new();
    fs::create_dir_all(test_dir.names().join(NAME)).unwrap();
    refused(&test_dir, ErrorKind::Io, &[NAME, "directory"]);

    let test_dir = TestDir::new();
    fs::create_dir(test_dir.names()).unwrap();
    let fifo = test_dir.names().join(NAME);
    let path = CString::new(fifo.as_os_str().as_bytes()).unwrap();
    // SAFETY: a path that ends in a zero byte.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    refused(&test_dir, ErrorKind::NotARegion, &[NAME, "found no regular file"]);

    let test_dir = TestDir::new();
    let real = region(&test_dir);
    fs::rename(&real, test_dir.file("real")).unwrap();
    symlink(test_dir.file("real"), &real).unwrap();
    refused(&test_dir, ErrorKind::Io, &[NAME]);
}

#[test]
fn file_of_another_user_is_refused() {
    let test_dir = TestDir::new();
    let path = region(&test_dir);
    if let Err(error) = chown(&path, Some(12345), None) {
        return report(&format!("SKIPPED: a region of another user ({error}); run the tests as root for it"));
    }
    refused(&test_dir, ErrorKind::Permission, &[NAME, "found a file of user 12345, expected one of user 0; allow"]);
    let mut rx = values(&test_dir).allow_other_owner().receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn directory_unusable_is_refused() {
    let test_dir = TestDir::new();
    let at = |path: PathBuf| pipe::Options::bytes().directory(path).sender(NAME).unwrap_err();
    expect(at(test_dir.file("missing/deep")), ErrorKind::NotFound, &["missing/deep", "make the directory"]);
    fs::write(test_dir.file("file"), "").unwrap();
    expect(at(test_dir.file("file")), ErrorKind::Permission, &["found something else, expected a directory"]);
    expect(at("/proc".into()), ErrorKind::Io, &["no unnamed files", "name a directory on tmpfs"]);
}

#[test]
fn pipe_larger_than_memory_is_refused() {
    let test_dir = TestDir::new();
    for terabytes in [1, 16] {
        let options = pipe::Options::bytes().capacity_bytes(terabytes << 40).directory(test_dir.names());
        expect(options.create().unwrap_err(), ErrorKind::NoSpace, &["choose a smaller capacity"]);
        expect(options.sender(NAME).unwrap_err(), ErrorKind::NoSpace, &["smaller capacity"]);
    }
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

/// Mounts a file system of 128 KiB that only this process sees, and fills it.
pub fn fill_a_tiny_directory(arguments: &[String]) {
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
        return report("SKIPPED: a full tmpfs (no permission to mount); run the tests as root for it");
    }
    let options = pipe::Options::bytes().directory(place);
    let too_large = options.clone().capacity_bytes(256 << 10).sender(NAME).unwrap_err();
    expect(too_large, ErrorKind::NoSpace, &[place, "make room there, choose a smaller capacity"]);
    let kept: Vec<_> = (0..100)
        .map_while(|number| options.clone().capacity_bytes(8 << 10).sender(&format!("{number}")).ok())
        .collect();
    assert!((2..50).contains(&kept.len()), "{}", kept.len());
    for mut tx in kept {
        tx.try_send(vec![1; tx.max_inline_bytes()]).unwrap(); // its pages are there
        Directory::at(place).unlink(tx.name().unwrap(), true).unwrap();
    }
    options.capacity_bytes(64 << 10).sender(NAME).expect("there is room again");
}

#[test]
fn directory_full_is_an_error() {
    let test_dir = TestDir::new();
    fs::create_dir(test_dir.names()).unwrap();
    start("fill_a_tiny_directory", &[test_dir.names().to_str().unwrap()]).finish();
}
