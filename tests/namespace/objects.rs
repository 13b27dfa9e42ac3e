//! Creation, removal and lists, within one process.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tombolo::collections::{list, map};
use tombolo::sync::{AtomicValue, Event, Mutex, Object, ObjectKind, Value};
use tombolo::{Directory, ErrorKind, Namespace, Spec, broadcast, queue};

use crate::support::{TestDir, large, on_small_stack};
use crate::{NAME, alone_with_directory, assert_error, builder, object_directories, object_files, open};

#[test]
fn namespace_object_of_every_kind_created_is_found() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    assert_eq!(namespace.names().unwrap(), [""; 0]);

    let value = namespace.create("value", Spec::value([1_u8; 100])).unwrap();
    namespace.create("atomic", Spec::atomic(-7_i16)).unwrap();
    namespace.create("array", Spec::array(&[[1_u32, 2, 3]; 5])).unwrap();
    namespace.create("zeroed", Spec::array_zeroed::<u64>(9)).unwrap();
    namespace.create("mutex", Spec::mutex(2.5_f64)).unwrap();
    namespace.create("re-entrant", Spec::reentrant_mutex(3_u8)).unwrap();
    namespace.create("rw lock", Spec::rw_lock([4_u64; 9])).unwrap();
    namespace.create("semaphore", Spec::semaphore(5)).unwrap();
    namespace.create("bounded", Spec::bounded_semaphore(6)).unwrap();
    namespace.create("condvar", Spec::condvar()).unwrap();
    namespace.create("event", Spec::event()).unwrap();
    namespace.create("barrier", Spec::barrier(7)).unwrap();
    namespace.create("once", Spec::once()).unwrap();
    let mut queue = namespace.create("queue", Spec::queue::<[u16; 3]>(8)).unwrap();
    let mut bytes = namespace.create("bytes", Spec::queue_bytes(4, 5000)).unwrap();
    let options = queue::Options::<u64>::new().on_death(queue::OnDeath::Redeliver { times: 3 });
    namespace.create("tasks", Spec::queue_with(&options)).unwrap();
    let mut publisher = namespace.create("ticks", Spec::broadcast(&broadcast::Options::<f64>::new())).unwrap();
    namespace.create("frames", Spec::broadcast_bytes(&broadcast::Options::bytes())).unwrap();
    let map = namespace.create("map", Spec::map(&map::Options::<str, u64>::new())).unwrap();
    let list = namespace.create("list", Spec::list(&list::Options::<u64>::new())).unwrap();

    assert_eq!((value.object_name(), value.namespace_name()), ("value", Some(NAME)));
    assert_eq!(Namespace::of(&value).names().unwrap().len(), 20);
    queue.send([1, 2, 3]).unwrap();
    bytes.send([7; 5000]).unwrap();

    let other = builder(&test_dir.names()).must_exist().open(NAME).unwrap();
    assert_eq!(other.value("value").unwrap().load(), Ok([1_u8; 100]));
    assert_eq!(other.atomic::<i16>("atomic").unwrap().load(), -7);
    assert_eq!(other.array("array").unwrap().to_vec(), Ok(vec![[1_u32, 2, 3]; 5]));
    assert_eq!(other.array("zeroed").unwrap().to_vec(), Ok(vec![0_u64; 9]));
    assert_eq!(*other.mutex::<f64>("mutex").unwrap().lock().unwrap(), 2.5);
    assert_eq!(other.reentrant_mutex::<u8>("re-entrant").unwrap().lock().unwrap().get(), Ok(3));
    assert_eq!(*other.rw_lock::<[u64; 9]>("rw lock").unwrap().read().unwrap(), [4; 9]);
    assert_eq!(other.semaphore("semaphore").unwrap().available(), Ok(5));
    assert_eq!(other.bounded_semaphore("bounded").unwrap().available(), 6);
    assert_eq!(other.condvar("condvar").unwrap().notify_all(), Ok(()));
    assert!(!other.event("event").unwrap().is_set());
    assert_eq!(other.barrier("barrier").unwrap().parties(), 7);
    assert!(!other.once("once").unwrap().is_completed());
    assert_eq!(other.queue::<[u16; 3]>("queue").unwrap().recv(), Ok([1, 2, 3]));
    let mut message = Vec::new();
    other.queue_bytes("bytes").unwrap().recv(&mut message).unwrap();
    assert_eq!(message, [7; 5000]);
    let mut tasks = other.queue::<u64>("tasks").unwrap();
    tasks.send(9).unwrap();
    assert_eq!(tasks.recv_task().unwrap().done(), Ok(9));
    let mut subscriber = other.subscriber::<f64>("ticks").unwrap();
    publisher.publish(101.25).unwrap();
    assert_eq!(subscriber.recv(), Ok(101.25));
    assert!(other.byte_subscriber("frames").is_ok());
    assert_eq!((map.insert("a", &1), list.push(&2)), (Ok(true), Ok(())));
    assert_eq!(other.map::<str, u64>("map").unwrap().get("a"), Ok(Some(1)));
    assert_eq!(other.list::<u64>("list").unwrap().to_vec(), Ok(vec![2]));

    let entries = other.entries().unwrap();
    assert_eq!(entries.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), other.names().unwrap());
    for entry in [("atomic", ObjectKind::Atomic), ("queue", ObjectKind::Queue), ("ticks", ObjectKind::Broadcast)] {
        assert!(entries.contains(&(entry.0.to_string(), entry.1)), "{entry:?}");
    }
    drop((value, queue, bytes, publisher, subscriber, tasks, map, list, other, namespace));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_object_created_beside_planned_ones_is_listed_after_them() {
    let (_alone, test_dir) = alone_with_directory();
    let plan = builder(&test_dir.names()).event("z").once("a");
    let namespace = plan.open(NAME).unwrap();
    namespace.create("m", Spec::event()).unwrap();
    namespace.create("b", Spec::value(1_u8)).unwrap();
    assert_eq!(namespace.names().unwrap(), ["z", "a", "b", "m"]);
    assert_eq!(namespace.objects().count(), 2);
    assert!(plan.open(NAME).unwrap().event("m").is_ok());
}

#[test]
fn namespace_created_object_without_value_is_refused_or_of_wrong_type_as_planned_ones_are() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    assert_error(namespace.create("queue", Spec::queue::<u64>(0)), ErrorKind::InvalidOptions, &["capacity"]);
    assert_error(namespace.create("barrier", Spec::barrier(0)), ErrorKind::InvalidOptions, &["parties"]);
    assert_eq!(namespace.names().unwrap(), [""; 0]);
    namespace.create("x", Spec::value(1_u64)).unwrap();
    assert_error(namespace.value::<i64>("x"), ErrorKind::WrongType, &["\"x\"", "u64", "i64"]);
    assert_error(namespace.event("x"), ErrorKind::WrongType, &["\"x\"", "event"]);
    assert_error(namespace.queue::<u64>("x"), ErrorKind::WrongType, &["\"x\"", "queue"]);
    assert_error(namespace.open_or_create("x", Spec::value(1_u8)), ErrorKind::WrongType, &["u64"]);
    assert_error(namespace.value::<u64>("y"), ErrorKind::NotFound, &["\"y\"", "objects x"]);
    namespace.create("length", Spec::value(1.5_f64).type_tag("metres")).unwrap();
    assert_eq!(namespace.type_tag("metres").value("length").unwrap().load(), Ok(1.5_f64));
    assert_error(namespace.type_tag("feet").value::<f64>("length"), ErrorKind::WrongType, &["metres", "feet"]);
}

#[test]
fn namespace_name_taken_create_fails_and_open_or_create_opens() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = builder(&test_dir.names()).atomic("planned", 1_u64).open(NAME).unwrap();
    let first = namespace.create("x", Spec::atomic(1_u64)).unwrap();
    assert_error(namespace.create("x", Spec::atomic(2_u64)), ErrorKind::AlreadyExists, &["\"x\""]);
    assert_error(namespace.create("x", Spec::event()), ErrorKind::AlreadyExists, &["\"x\""]);
    assert_error(namespace.create("planned", Spec::event()), ErrorKind::AlreadyExists, &["planned", "began"]);
    let second = namespace.open_or_create("x", Spec::atomic(2_u64)).unwrap();
    assert_eq!(first.fetch_add(5) + second.load(), 7);
    assert_eq!(namespace.open_or_create("planned", Spec::atomic(2_u64)).unwrap().load(), 1);
    assert_error(namespace.open_or_create("planned", Spec::atomic(2_i64)), ErrorKind::WrongType, &["u64", "i64"]);
    namespace.create("array", Spec::array(&[1_u8; 3])).unwrap();
    assert_error(namespace.open_or_create("array", Spec::array(&[1_u8; 4])), ErrorKind::WrongType, &["3", "4"]);
}

#[test]
fn namespace_object_name_invalid_is_refused() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let long = "x".repeat(65);
    for name in ["", "a/b", ".x", "..", "a\nb", "nul\0", &long] {
        assert_error(namespace.create(name, Spec::event()), ErrorKind::InvalidName, &[]);
        assert_error(namespace.event(name), ErrorKind::NotFound, &[]);
        assert_error(namespace.remove(name), ErrorKind::NotFound, &[]);
    }
    for name in [&long[1..], "ümläut", "a b", "-", "name.with.dots"] {
        namespace.create(name, Spec::event()).unwrap();
        assert_eq!(namespace.reference(name).unwrap().open::<Event>(&namespace).unwrap().object_name(), name);
    }
}

#[test]
fn namespace_without_name_creates_nothing() {
    let (_alone, _watchdog) = alone_with_directory();
    let namespace = Namespace::builder().event("event").create().unwrap();
    assert_error(namespace.create("x", Spec::event()), ErrorKind::InvalidOptions, &["no name"]);
    assert_error(namespace.event("x"), ErrorKind::NotFound, &["event"]);
    assert_eq!(namespace.names().unwrap(), ["event"]);
    assert_error(Namespace::builder().create(), ErrorKind::InvalidOptions, &["no objects"]);
}

#[test]
fn namespace_object_removed_is_free_again_and_held_one_works() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = builder(&test_dir.names()).event("planned").open(NAME).unwrap();
    let held = namespace.create("x", Spec::value(1_u64)).unwrap();
    namespace.remove("x").unwrap();
    assert_eq!(object_files(&test_dir.names()), [""; 0]);
    assert_error(namespace.value::<u64>("x"), ErrorKind::NotFound, &["\"x\"", "planned"]);
    assert_error(namespace.remove("x"), ErrorKind::NotFound, &["\"x\""]);
    assert_error(namespace.remove("planned"), ErrorKind::InvalidOptions, &["planned", "began"]);

    let next = namespace.create("x", Spec::value(2_u64)).unwrap();
    held.store(&3).unwrap();
    assert_eq!((held.load(), next.load()), (Ok(3), Ok(2)));
    assert_eq!(namespace.value::<u64>("x").unwrap().load(), Ok(2));
}

#[test]
fn namespace_object_held_keeps_namespace() {
    let (_alone, test_dir) = alone_with_directory();
    let value = open(&test_dir).create("x", Spec::value(5_u64)).unwrap();
    let again = builder(&test_dir.names()).must_exist().open(NAME).unwrap();
    assert_eq!(again.value::<u64>("x").unwrap().load(), Ok(5));
    drop(again);
    let (mut tx, rx) = open(&test_dir).create("queue", Spec::queue::<u64>(4)).unwrap().split();
    drop((value, rx));
    assert!(builder(&test_dir.names()).must_exist().open(NAME).is_ok());
    tx.try_send(1).unwrap();
    drop(tx);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_objects_go_with_the_name() {
    let (_alone, test_dir) = alone_with_directory();
    let directory = Directory::at(test_dir.names());
    let namespace = builder(&test_dir.names()).persistent().open(NAME).unwrap();
    for number in 0..50_u64 {
        namespace.create(&number.to_string(), Spec::value(number)).unwrap();
    }
    drop(namespace);
    assert_eq!(directory.names().unwrap(), [NAME]);
    let namespace = open(&test_dir);
    let held = namespace.value::<u64>("49").unwrap();
    assert_error(directory.unlink(NAME, false), ErrorKind::InUse { pid: std::process::id().into() }, &[]);

    directory.unlink(NAME, true).unwrap();
    assert_eq!(test_dir.leftovers(), [""; 0]);
    assert_eq!(held.load(), Ok(49));
    assert_error(namespace.create("x", Spec::event()), ErrorKind::NameRemoved, &[]);
    assert_error(namespace.value::<u64>("48"), ErrorKind::NotFound, &["48"]);
    assert_error(namespace.remove("48"), ErrorKind::NotFound, &["48"]);
    assert_eq!(test_dir.leftovers(), [""; 0]);

    let successor = open(&test_dir);
    successor.create("49", Spec::value(1_u64)).unwrap();
    assert_eq!(successor.value::<u64>("49").unwrap().load(), Ok(1));
    drop((namespace, held));
    assert_eq!(successor.value::<u64>("49").unwrap().load(), Ok(1));
}

#[test]
fn namespace_of_same_name_in_other_directory_is_another() {
    let (_alone, one) = alone_with_directory();
    let other = TestDir::new();
    let (first, second) = (open(&one), open(&other));
    first.create("x", Spec::value(1_u64)).unwrap();
    assert_error(second.value::<u64>("x"), ErrorKind::NotFound, &[]);
    second.create("x", Spec::value(2_u64)).unwrap();
    assert_eq!(first.value::<u64>("x").unwrap().load(), Ok(1));
}

#[test]
fn namespace_mode_holds_for_its_objects() {
    let (_alone, test_dir) = alone_with_directory();
    fs::create_dir(test_dir.names()).unwrap();
    for (mode, expected) in [(0o600, 0o700), (0o660, 0o770), (0o666, 0o777)] {
        let namespace = builder(&test_dir.names()).mode(mode).open(NAME).unwrap();
        namespace.create("x", Spec::event()).unwrap();
        let directory = &object_directories(&test_dir.names())[0];
        assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, expected);
        assert_eq!(fs::metadata(directory.join("x")).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn namespace_directory_of_objects_damaged_is_an_error() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    namespace.create("x", Spec::event()).unwrap();
    let directory = &object_directories(&test_dir.names())[0];
    fs::write(directory.join("file"), "no region").unwrap();
    assert_error(namespace.event("file"), ErrorKind::NotARegion, &["file"]);
    assert_error(namespace.entries(), ErrorKind::NotARegion, &["file"]);
    assert_eq!(Directory::at(test_dir.names()).inspect(NAME).unwrap().objects.len(), 1);
    let stranger = Namespace::builder().event("a").event("b").directory(directory).open("two").unwrap();
    assert_error(namespace.event("two"), ErrorKind::WrongType, &["two"]);
    drop(stranger);

    let elsewhere = test_dir.file("elsewhere");
    fs::rename(directory, &elsewhere).unwrap();
    symlink(&elsewhere, directory).unwrap();
    assert_error(namespace.event("x"), ErrorKind::Permission, &[]);
    fs::remove_file(directory).unwrap();
    fs::rename(&elsewhere, directory).unwrap();
    drop(namespace);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_inspected_shows_created_objects() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = builder(&test_dir.names()).event("planned").open(NAME).unwrap();
    let directory = Directory::at(test_dir.names());
    let before = directory.inspect(NAME).unwrap();
    let mutex: Mutex<u64> = namespace.create("mutex", Spec::mutex(7)).unwrap();
    let _guard = mutex.lock().unwrap();
    let info = directory.inspect(NAME).unwrap();
    let names: Vec<&str> = info.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!((names, info.capacity), (vec!["planned", "mutex"], 2));
    assert_eq!(info.objects[1].holder, Some(std::process::id().into()));
    assert_eq!(info.objects[1].value.as_deref(), Some("7"));
    assert!(info.size > before.size);
}

#[test]
fn namespace_large_value_by_reference_does_not_use_the_stack() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let initial = large(9);
    on_small_stack(|| {
        namespace.create("value", Spec::value_from(&*initial)).unwrap();
        namespace.create("lock", Spec::reentrant_mutex_from(&*initial)).unwrap();
    });
    assert_eq!(namespace.names().unwrap(), ["lock", "value"]);
}

#[test]
fn namespace_object_shared_alone_is_opened_by_descriptor() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let value: Value<u64> = namespace.create("x", Spec::value(5)).unwrap();
    let atomic: AtomicValue<u64> = namespace.create("y", Spec::atomic(6)).unwrap();
    assert_eq!(Value::<u64>::from_fd(value.share().unwrap()).unwrap().load(), Ok(5));
    assert_eq!(AtomicValue::<u64>::from_fd(atomic.share().unwrap()).unwrap().load(), 6);
    let copy = Namespace::from_fd(namespace.share().unwrap()).unwrap();
    assert_eq!(copy.value::<u64>("x").unwrap().load(), Ok(5));
}
