//! What others put where a namespace keeps its objects.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use tombolo::sync::Value;
use tombolo::{Directory, ErrorKind, Namespace, Spec};

use crate::remains::orphan;
use crate::support::report;
use crate::{NAME, alone_with_directory, assert_error, object_directories, open};

fn make_fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a string that ends in a zero byte.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn namespace_hostile_file_is_an_error_and_goes_with_the_namespace() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let value = namespace.create("x", Spec::value(7_u64)).unwrap();
    let directory = object_directories(&test_dir.names()).remove(0);
    let outside = test_dir.file("outside");
    fs::write(&outside, "of somebody else").unwrap();

    fs::write(directory.join("garbage"), [0xA5; 5000]).unwrap();
    fs::write(directory.join("empty"), "").unwrap();
    File::create(directory.join("huge")).unwrap().set_len(1 << 40).unwrap();
    fs::copy(directory.join("x"), directory.join("longer")).unwrap();
    File::options().write(true).open(directory.join("longer")).unwrap().set_len(1 << 40).unwrap();
    fs::copy(directory.join("x"), directory.join("shorter")).unwrap();
    File::options().write(true).open(directory.join("shorter")).unwrap().set_len(4096).unwrap();
    make_fifo(&directory.join("fifo"));
    symlink(&outside, directory.join("link")).unwrap();
    symlink("loop", directory.join("loop")).unwrap();
    fs::create_dir(directory.join("directory")).unwrap();
    let files = ["garbage", "empty", "huge", "longer", "shorter", "fifo", "link", "loop", "directory"];
    for name in files {
        let error = namespace.value::<u64>(name).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::NotFound, "{name}: {error}");
        assert_error(namespace.create(name, Spec::event()), ErrorKind::AlreadyExists, &[name]);
        assert!(namespace.open_or_create(name, Spec::event()).is_err(), "{name}");
        assert!(namespace.reference(name).is_err(), "{name}");
        assert!(namespace.remove(name).is_err(), "{name}");
    }
    assert_eq!(namespace.names().unwrap().len(), files.len() + 1);
    assert_eq!(value.load(), Ok(7));
    assert_eq!(open(&test_dir).value::<u64>("x").unwrap().load(), Ok(7));

    // Names that no object can have.
    for name in [&b".hidden"[..], b"control\x07", b"no unicode\xff"] {
        fs::write(directory.join(OsStr::from_bytes(name)), "").unwrap();
    }
    assert_eq!(namespace.names().unwrap().len(), files.len() + 1);
    drop((namespace, value));
    assert_eq!(test_dir.leftovers(), [""; 0]);
    assert_eq!(fs::read_to_string(outside).unwrap(), "of somebody else");
}

#[test]
fn namespace_file_of_another_user_is_refused_and_goes_with_the_namespace() {
    let (_alone, test_dir) = alone_with_directory();
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        return report("SKIPPED: not run as root, so this was not tested");
    }
    let namespace = open(&test_dir);
    namespace.create("x", Spec::value(7_u64)).unwrap();
    let directory = object_directories(&test_dir.names()).remove(0);
    std::os::unix::fs::chown(directory.join("x"), Some(65534), None).unwrap();
    assert_error(namespace.value::<u64>("x"), ErrorKind::Permission, &["user 65534"]);
    assert_error(namespace.create("x", Spec::event()), ErrorKind::AlreadyExists, &[]);
    drop(namespace);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_object_opened_as_a_namespace_gets_objects_that_go_with_it() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let value: Value<u64> = namespace.create("x", Spec::value(7)).unwrap();
    let inner = Namespace::from_fd(value.share().unwrap()).unwrap();
    inner.create("y", Spec::event()).unwrap();
    assert_eq!(namespace.names().unwrap(), ["x"]);
    drop((inner, value, namespace));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_link_in_place_of_its_directory_is_not_followed() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    namespace.create("x", Spec::event()).unwrap();
    let directory = object_directories(&test_dir.names()).remove(0);
    fs::remove_dir_all(&directory).unwrap();
    let outside = test_dir.file("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "of somebody else").unwrap();
    symlink(&outside, &directory).unwrap();
    assert_error(namespace.event("file"), ErrorKind::Permission, &[]);
    assert_error(namespace.create("y", Spec::event()), ErrorKind::Permission, &[]);
    assert_error(namespace.names(), ErrorKind::Permission, &[]);
    drop(namespace);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    fs::remove_file(directory).unwrap();
}

#[test]
fn directory_orphans_that_cannot_be_removed_are_not_counted() {
    let (_alone, test_dir) = alone_with_directory();
    orphan(&test_dir);
    let left = object_directories(&test_dir.names()).remove(0);
    fs::create_dir(left.join("directory")).unwrap();
    fs::write(left.join("directory/file"), "of somebody else").unwrap();
    let directory = Directory::at(test_dir.names());
    assert_eq!(directory.remove_orphans().unwrap(), 0);
    assert_eq!(fs::read_dir(&left).unwrap().count(), 1);
    fs::remove_dir_all(left.join("directory")).unwrap();
    assert_eq!(directory.remove_orphans().unwrap(), 1);
    assert_eq!(directory.remove_orphans().unwrap(), 0);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_object_whose_directory_is_gone_is_not_found() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let held = namespace.create("x", Spec::value(7_u64)).unwrap();
    let directory = object_directories(&test_dir.names()).remove(0);
    fs::rename(&directory, test_dir.file("elsewhere")).unwrap();
    assert_error(namespace.value::<u64>("x"), ErrorKind::NotFound, &["\"x\""]);
    assert_eq!(namespace.names().unwrap(), [""; 0]);
    assert_eq!(held.load(), Ok(7));
    // The next object gets a directory again.
    namespace.create("x", Spec::value(8_u64)).unwrap();
    assert_eq!(namespace.value::<u64>("x").unwrap().load(), Ok(8));
    fs::remove_dir_all(test_dir.file("elsewhere")).unwrap();
    drop((held, namespace));
    assert_eq!(test_dir.leftovers(), [""; 0]);
    assert!(!test_dir.names().join(NAME).exists());
}
