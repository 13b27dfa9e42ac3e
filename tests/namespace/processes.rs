//! Several processes that create, open and remove.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use tombolo::sync::{AtomicValue, Mutex, SyncError, Value};
use tombolo::{Directory, ErrorKind, Namespace, OnStale, Reference, Spec};

use crate::support::{Process, SharedCounters, TestDir, command, fork, report, start};
use crate::{NAME, alone_with_directory, assert_error, builder, object_files, open};

const PROCESSES: u64 = 4;
const ROUNDS: u64 = 100;

fn surroundings(arguments: &[String]) -> (Namespace, SharedCounters) {
    (builder(Path::new(&arguments[0])).open(NAME).unwrap(), SharedCounters::at(Path::new(&arguments[1])))
}

fn start_in(test_dir: &TestDir, role: &str) -> Process {
    start(role, &[test_dir.names().to_str().unwrap(), test_dir.file("counters").to_str().unwrap()])
}

fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

pub fn create_and_stay(arguments: &[String]) {
    let (namespace, counters) = surroundings(arguments);
    let mutex: Mutex<u64> = namespace.create("mutex", Spec::mutex(7)).unwrap();
    let mut orders = namespace.create("orders", Spec::queue::<u64>(4)).unwrap();
    orders.send(1).unwrap();
    let _guard = mutex.lock().unwrap();
    counters.meet(0, 2);
    loop {
        std::thread::park();
    }
}

#[test]
fn namespace_creator_killed_objects_stay_and_are_repaired() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let creator = start_in(&test_dir, "create_and_stay");
    counters(&test_dir).meet(0, 2);
    // Found at once by a process that opened the namespace before.
    let mutex = namespace.mutex::<u64>("mutex").unwrap();
    assert!(mutex.try_lock().is_err());
    let mut orders = namespace.queue::<u64>("orders").unwrap();
    creator.kill();
    assert_eq!(orders.recv(), Ok(1));
    assert!(matches!(mutex.lock(), Err(tombolo::sync::LockError::OwnerDied(guard)) if *guard == 7));
}

#[test]
fn namespace_object_of_dead_holder_is_repaired_from_outside() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let creator = start_in(&test_dir, "create_and_stay");
    counters(&test_dir).meet(0, 2);
    creator.kill();
    let directory = Directory::at(test_dir.names());
    // It took part in the namespace and in the two objects, in the queue as two.
    assert!(directory.repair(NAME).unwrap() >= 3);
    assert_eq!(directory.repair(NAME).unwrap(), 0);
    assert!(directory.inspect(NAME).unwrap().objects.iter().all(|object| object.holder.is_none()));
    drop(namespace);
}

pub fn create_in_rounds(arguments: &[String]) {
    let (namespace, counters) = surroundings(arguments);
    for round in 0..ROUNDS {
        counters.meet(0, PROCESSES);
        let name = format!("round {round}");
        match namespace.create(&name, Spec::atomic(u64::from(std::process::id()))) {
            Ok(_) => counters.word(1).fetch_add(1, Ordering::SeqCst),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
                let winner = namespace.atomic::<u64>(&name).unwrap().load();
                assert_ne!(winner, u64::from(std::process::id()));
                counters.word(2).fetch_add(1, Ordering::SeqCst)
            }
        };
    }
}

#[test]
fn namespace_create_against_create_one_wins() {
    let (_alone, test_dir) = alone_with_directory();
    let _namespace = open(&test_dir);
    let processes: Vec<_> = (0..PROCESSES).map(|_| start_in(&test_dir, "create_in_rounds")).collect();
    processes.into_iter().for_each(Process::finish);
    let counters = counters(&test_dir);
    let count = |index| counters.word(index).load(Ordering::SeqCst);
    assert_eq!((count(1), count(2)), (ROUNDS, ROUNDS * (PROCESSES - 1)));
    assert_eq!(object_files(&test_dir.names()).len() as u64, ROUNDS);
}

pub fn open_in_rounds(arguments: &[String]) {
    let (namespace, counters) = surroundings(arguments);
    for round in 0..ROUNDS {
        counters.meet(0, PROCESSES);
        let name = format!("round {round}");
        namespace.open_or_create(&name, Spec::atomic(0_u64)).unwrap().fetch_add(1);
        counters.meet(1, PROCESSES);
        assert_eq!(namespace.atomic::<u64>(&name).unwrap().load(), PROCESSES);
        counters.meet(2, PROCESSES);
        // All but one find nothing.
        match namespace.remove(&name) {
            Ok(()) => drop(counters.word(3).fetch_add(1, Ordering::SeqCst)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        }
    }
}

#[test]
fn namespace_open_or_create_together_all_get_the_same() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let processes: Vec<_> = (0..PROCESSES).map(|_| start_in(&test_dir, "open_in_rounds")).collect();
    processes.into_iter().for_each(Process::finish);
    assert!(counters(&test_dir).word(3).load(Ordering::SeqCst) >= ROUNDS);
    assert_eq!(namespace.names().unwrap(), [""; 0]);
    assert_eq!(object_files(&test_dir.names()), [""; 0]);
}

pub fn hold_and_answer(arguments: &[String]) {
    let (namespace, counters) = surroundings(arguments);
    let held: Value<u64> = namespace.value("x").unwrap();
    counters.meet(0, 2);
    // Removed and made again.
    counters.meet(0, 2);
    assert_eq!(held.load(), Ok(2));
    held.store(&3).unwrap();
    assert_eq!(namespace.value::<u64>("x").unwrap().load(), Ok(10));
    let reference: Reference = namespace.value("reference").unwrap().load().unwrap();
    assert_error(reference.open::<Value<u64>>(&namespace), ErrorKind::Removed, &["\"x\""]);
    counters.meet(0, 2);
}

#[test]
fn namespace_object_removed_while_held_elsewhere_both_go_on() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let held = namespace.create("x", Spec::value(1_u64)).unwrap();
    namespace.create("reference", Spec::value(namespace.reference("x").unwrap())).unwrap();
    let holder = start_in(&test_dir, "hold_and_answer");
    let counters = counters(&test_dir);
    counters.meet(0, 2);
    namespace.remove("x").unwrap();
    held.store(&2).unwrap();
    namespace.create("x", Spec::value(10_u64)).unwrap();
    counters.meet(0, 2);
    counters.meet(0, 2);
    assert_eq!(held.load(), Ok(3));
    holder.finish();
}

#[test]
fn namespace_all_killed_next_one_finds_its_objects() {
    let (_alone, test_dir) = alone_with_directory();
    let creator = start_in(&test_dir, "create_and_stay");
    counters(&test_dir).meet(0, 2);
    creator.kill();
    let namespace = builder(&test_dir.names()).must_exist().open(NAME).unwrap();
    assert_eq!(namespace.names().unwrap(), ["mutex", "orders"]);
    assert_eq!(namespace.queue::<u64>("orders").unwrap().recv(), Ok(1));
    drop(namespace);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_all_killed_stale_one_is_removed_with_its_objects() {
    let (_alone, test_dir) = alone_with_directory();
    let creator = start_in(&test_dir, "create_and_stay");
    counters(&test_dir).meet(0, 2);
    creator.kill();
    assert_eq!(object_files(&test_dir.names()).len(), 2);
    assert!(Directory::at(test_dir.names()).unlink_if_stale(NAME).unwrap());
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_all_killed_recreated_one_begins_without_objects() {
    let (_alone, test_dir) = alone_with_directory();
    let creator = start_in(&test_dir, "create_and_stay");
    counters(&test_dir).meet(0, 2);
    let recreate = || builder(&test_dir.names()).on_stale(OnStale::Recreate).open(NAME).unwrap();
    assert_eq!(recreate().names().unwrap(), ["mutex", "orders"]); // in use
    creator.kill();
    let namespace = recreate();
    assert_eq!(namespace.names().unwrap(), [""; 0]);
    assert_eq!(object_files(&test_dir.names()), [""; 0]);
    namespace.create("mutex", Spec::event()).unwrap();
    drop(namespace);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_forked_child_is_refused() {
    let (alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let value: Value<u64> = namespace.create("x", Spec::value(1)).unwrap();
    let reference = namespace.reference("x").unwrap();
    let child = fork(&alone, || {
        assert_error(namespace.create("y", Spec::event()), ErrorKind::Forked, &["\"y\""]);
        assert_error(namespace.value::<u64>("x"), ErrorKind::Forked, &["\"x\""]);
        assert_error(namespace.remove("x"), ErrorKind::Forked, &["\"x\""]);
        assert_error(reference.open::<Value<u64>>(&namespace), ErrorKind::Forked, &["\"x\""]);
        assert_eq!((value.load(), value.store(&2)), (Ok(1), Err(SyncError::Forked)));
        let own = open(&test_dir);
        own.create("z", Spec::event()).unwrap();
        own.value::<u64>("x").unwrap().store(&3).unwrap();
        drop((value.clone(), own));
    });
    child.finish();
    assert_eq!(value.load(), Ok(3));
    assert_eq!(namespace.names().unwrap(), ["x", "z"]);
}

#[test]
fn namespace_of_two_users_both_create_and_remove() {
    let (alone, test_dir) = alone_with_directory();
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        return report("SKIPPED: not run as root, so this was not tested");
    }
    fs::create_dir(test_dir.names()).unwrap();
    fs::set_permissions(test_dir.names(), fs::Permissions::from_mode(0o777)).unwrap();
    let shared = || builder(&test_dir.names()).mode(0o666).allow_other_owner().open(NAME).unwrap();
    let namespace = shared();
    namespace.create("x", Spec::value(1_u64)).unwrap();
    namespace.create("y", Spec::event()).unwrap();
    let act = || {
        // SAFETY: a process of its own; nobody else's identity changes.
        unsafe { assert_eq!((libc::setgid(65534), libc::setuid(65534)), (0, 0)) };
        let own = shared();
        own.value::<u64>("x").unwrap().store(&2).unwrap();
        own.create("z", Spec::value(3_u64)).unwrap();
        own.remove("y").unwrap();
        let careful = builder(&test_dir.names()).must_exist().open(NAME);
        assert_error(careful, ErrorKind::Permission, &["user 0"]);
    };
    fork(&alone, act).finish();
    assert_eq!(namespace.names().unwrap(), ["x", "z"]);
    assert_eq!(namespace.value::<u64>("z").unwrap().load(), Ok(3));
    let careful = builder(&test_dir.names()).must_exist().open(NAME).unwrap();
    assert_error(careful.value::<u64>("z"), ErrorKind::Permission, &["user 65534"]);
    assert_eq!(careful.value::<u64>("x").unwrap().load(), Ok(2));
    drop((namespace, careful));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

pub fn open_by_descriptor(arguments: &[String]) {
    let number = arguments[0].parse().unwrap();
    // SAFETY: inherited, and used here only.
    let namespace = Namespace::from_fd(unsafe { OwnedFd::from_raw_fd(number) }).unwrap();
    namespace.atomic::<u64>("x").unwrap().fetch_add(5);
    namespace.create("y", Spec::value(namespace.reference("x").unwrap())).unwrap();
}

#[test]
fn namespace_passed_by_descriptor_child_creates_objects() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    namespace.create("x", Spec::atomic(1_u64)).unwrap();
    let descriptor = namespace.share().unwrap();
    // SAFETY: plain system calls on a descriptor of ours.
    assert_eq!(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    let child = command("open_by_descriptor", &[&descriptor.as_raw_fd().to_string()]);
    Process::from({ child }.spawn().unwrap()).finish();
    let reference: Reference = namespace.value("y").unwrap().load().unwrap();
    assert_eq!(reference.open::<AtomicValue<u64>>(&namespace).unwrap().load(), 6);
}
