//! Many objects, and what happens where there is no room for another one.

use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::ptr;

use tombolo::sync::{Object, Value};
use tombolo::{ErrorKind, Namespace, Spec};

use crate::support::{TestDir, fork, report, start, stress_factor};
use crate::{NAME, alone_with_directory, assert_error, builder, object_files, open};

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// The memory of this process, in KiB.
fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn namespace_objects_created_and_removed_thousands_of_times_nothing_stays() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = builder(&test_dir.names()).max_participants(4).open(NAME).unwrap();
    let cycle = |number: u64| {
        let name = format!("object {}", number % 7);
        let value = namespace.create(&name, Spec::value(number)).unwrap();
        let reference = namespace.reference(&name).unwrap();
        namespace.remove(&name).unwrap();
        assert_eq!(value.load(), Ok(number));
        drop(value);
        assert_error(reference.open::<Value<u64>>(&namespace), ErrorKind::Removed, &[]);
    };
    (0..100).for_each(cycle);
    let before = (open_descriptors(), mappings(), memory());
    (0..2000 * stress_factor()).for_each(cycle);
    let after = (open_descriptors(), mappings(), memory());
    assert_eq!(after.0, before.0, "descriptors");
    assert!(after.1 < before.1 + 20, "mappings: {before:?}, {after:?}");
    assert!(after.2 < before.2 + 4096, "memory: {before:?}, {after:?}");
    assert_eq!(object_files(&test_dir.names()), [""; 0]);
    drop(namespace);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

/// Mounts a file system of 1 MiB and few files that only this process sees. Returns false if it may
/// not.
fn mount_small(place: &str) -> bool {
    let c = |text: &str| CString::new(text).unwrap();
    let (place, tmpfs, limit, root) = (c(place), c("tmpfs"), c("size=1m,nr_inodes=40"), c("/"));
    // SAFETY: strings that end in zero bytes; the mounts are private to this process and go with it.
    let mounted = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(ptr::null(), root.as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) == 0
            && libc::mount(tmpfs.as_ptr(), place.as_ptr(), tmpfs.as_ptr(), 0, limit.as_ptr().cast()) == 0
    };
    if !mounted {
        report("SKIPPED: too small a file system (no permission to mount); run the tests as root for it");
    }
    mounted
}

pub fn fill_a_small_file_system(arguments: &[String]) {
    let place = Path::new(&arguments[0]);
    if !mount_small(&arguments[0]) {
        return;
    }
    let namespace = builder(place).max_participants(4).open(NAME).unwrap();
    let fill = |length: usize| {
        let create = |number: &u64| {
            let name = format!("{length} {number}");
            namespace.create(&name, Spec::array(&vec![*number; length]))
        };
        let refused = (0_u64..).find_map(|number| create(&number).err()).unwrap();
        assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
    };
    fill(10_000); // no memory
    let large = namespace.names().unwrap();
    assert!((1..40).contains(&large.len()), "{large:?}");
    large.iter().skip(1).for_each(|name| namespace.remove(name).unwrap());
    fill(1); // no files
    let all = namespace.names().unwrap();
    assert_eq!(all.len(), object_files(place).len());
    assert!(all.len() > 20, "{all:?}");
    assert_eq!(namespace.array::<u64>(&large[0]).unwrap().to_vec(), Ok(vec![0; 10_000]));
    // There is room again as soon as one is removed.
    namespace.remove(&all[0]).unwrap();
    namespace.create("another", Spec::event()).unwrap().set().unwrap();
    drop(namespace);
    assert_eq!(fs::read_dir(place).unwrap().count(), 0);

    // Not even room for the directory of the objects.
    let namespace = builder(place).max_participants(4).event("planned").open(NAME).unwrap();
    let files: Vec<_> =
        (0..).map_while(|number: u64| fs::File::create(place.join(format!(".{number}"))).ok()).collect();
    assert_error(namespace.create("x", Spec::event()), ErrorKind::NoSpace, &[]);
    assert_error(namespace.event("x"), ErrorKind::NotFound, &["planned"]);
    assert_eq!(namespace.names().unwrap(), ["planned"]);
    drop(files);
}

#[test]
fn namespace_on_full_file_system_refuses_another_object_and_keeps_the_others() {
    let test_dir = TestDir::new();
    fs::create_dir(test_dir.names()).unwrap();
    start("fill_a_small_file_system", &[test_dir.names().to_str().unwrap()]).finish();
}

#[test]
fn namespace_without_descriptors_refuses_another_object_and_keeps_the_others() {
    let (alone, test_dir) = alone_with_directory();
    let child = fork(&alone, || {
        let namespace = open(&test_dir);
        let limit = |count: usize| {
            let limit = libc::rlimit { rlim_cur: count as libc::rlim_t, rlim_max: 4096 };
            // SAFETY: limits this process alone, by a structure that outlives the call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        };
        limit(open_descriptors() + 20);
        let mut held: Vec<Value<u64>> = Vec::new();
        let refused = (0_u64..)
            .find_map(|number| match namespace.create(&number.to_string(), Spec::value(number)) {
                Ok(value) => {
                    held.push(value);
                    None
                }
                Err(error) => Some(error),
            })
            .unwrap();
        assert_eq!(refused.kind(), ErrorKind::Io, "{refused}");
        assert!(refused.to_string().contains("open files"), "{refused}");
        assert!(held.len() > 5);
        limit(4096);
        assert_eq!(namespace.names().unwrap().len(), held.len());
        assert_eq!(object_files(&test_dir.names()).len(), held.len());
        assert!(held.iter().enumerate().all(|(number, value)| value.load() == Ok(number as u64)));
        namespace.create("another", Spec::event()).unwrap();
    });
    child.finish();
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_object_name_at_the_limit_of_bytes_is_found_and_longer_one_is_refused() {
    let (_alone, test_dir) = alone_with_directory();
    let long = "n".repeat(200); // of the namespace itself
    let namespace: Namespace = builder(&test_dir.names()).open(&long).unwrap();
    let (two_bytes, four_bytes) = ("ü".repeat(32), "\u{1F980}".repeat(16));
    for name in ["1", &two_bytes, &four_bytes, &"~".repeat(64), "a\u{301}", "\u{200B}"] {
        namespace.create(name, Spec::value(1_u64)).unwrap();
        let reference = namespace.reference(name).unwrap();
        assert_eq!(reference.name(), name);
        assert_eq!(reference.open::<Value<u64>>(&namespace).unwrap().object_name(), name);
    }
    for name in [two_bytes + "x", four_bytes + "ü", ".".into(), "/".into(), "/x".into(), "x/".into()] {
        assert_error(namespace.create(&name, Spec::event()), ErrorKind::InvalidName, &["name"]);
        assert_error(namespace.open_or_create(&name, Spec::event()), ErrorKind::InvalidName, &["name"]);
    }
    assert_eq!(namespace.names().unwrap().len(), 6);
    drop(namespace);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}
