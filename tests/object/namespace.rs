//! `Namespace`: names, life time, and all the objects in one.

use std::thread;

use tombolo::inspect::ParticipantStatus;
use tombolo::pipe;
use tombolo::queue;
use tombolo::sync::{Event, Object, ObjectKind, Value};
use tombolo::{Directory, ErrorKind, Namespace, OnStale};

use crate::common::{KINDS, NAME, all_kinds, assert_error};
use crate::support::TestDir;

/// Checks that a namespace is as [`all_kinds`] plans it.
fn check_all_kinds(namespace: &Namespace) {
    let is_listed = namespace.objects().zip(KINDS).all(|(found, (name, kind, _))| found == (name, kind));
    assert!(is_listed && namespace.objects().count() == KINDS.len());
    for (_, kind, text) in KINDS {
        assert_eq!(kind.to_string(), text);
    }
    assert_eq!(namespace.value("value").unwrap().load(), Ok([1_u8; 100]));
    assert_eq!(namespace.atomic::<i16>("atomic").unwrap().load(), -7);
    assert_eq!(namespace.array("array").unwrap().to_vec(), Ok(vec![[1_u32, 2, 3]; 5]));
    assert_eq!(*namespace.mutex::<f64>("mutex").unwrap().lock().unwrap(), 2.5);
    assert_eq!(namespace.reentrant_mutex::<u8>("re-entrant").unwrap().lock().unwrap().get(), Ok(3));
    assert_eq!(*namespace.rw_lock::<[u64; 9]>("rw lock").unwrap().read().unwrap(), [4; 9]);
    assert_eq!(namespace.semaphore("semaphore").unwrap().available(), Ok(5));
    assert_eq!(namespace.bounded_semaphore("bounded").unwrap().available(), 6);
    assert_eq!(namespace.condvar("condvar").unwrap().notify_all(), Ok(()));
    assert!(!namespace.event("event").unwrap().is_set());
    assert_eq!(namespace.barrier("barrier").unwrap().parties(), 7);
    assert!(!namespace.once("once").unwrap().is_completed());
    assert!(namespace.queue::<[u16; 3]>("queue").unwrap().is_empty());
    assert!(namespace.queue_bytes("bytes").unwrap().is_empty());
}

#[test]
fn namespace_every_kind_is_found_by_name() {
    let test_dir = TestDir::new();
    let anonymous = all_kinds().create().unwrap();
    assert_eq!((anonymous.name(), anonymous.warnings().len()), (None, 0));
    check_all_kinds(&anonymous);
    check_all_kinds(&Namespace::from_fd(anonymous.share().unwrap()).unwrap());

    let builder = all_kinds().directory(test_dir.names());
    let named = builder.open(NAME).unwrap();
    assert_eq!(named.name(), Some(NAME));
    check_all_kinds(&named);
    let again = [
        builder.open(NAME).unwrap(),
        builder.clone().must_exist().open(NAME).unwrap(),
        Namespace::builder().directory(test_dir.names()).must_exist().open(NAME).unwrap(),
        named.clone(),
        Namespace::from_fd(named.share().unwrap()).unwrap(),
    ];
    for again in &again {
        assert_eq!(again.name(), Some(NAME));
        check_all_kinds(again);
        let event = again.event("event").unwrap();
        let namespace = (event.namespace_name(), Namespace::of(&event).objects().count());
        assert_eq!((event.kind(), event.object_name(), namespace), (ObjectKind::Event, "event", (Some(NAME), 16)));
        assert_eq!(event.warnings(), again.warnings());
        event.set().unwrap();
        assert!(named.object::<Event>("event").unwrap().is_set(), "the same one");
        event.clear().unwrap();
    }
    let participants = Directory::at(test_dir.names()).inspect(NAME).unwrap().participants.len();
    assert_eq!(participants, 1, "a process takes part once");
    let event = named.event("event").unwrap();
    drop((named, again));
    assert_eq!(test_dir.leftovers(), [NAME], "one object is enough");
    drop(event);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_open_creates_once_then_opens() {
    let test_dir = TestDir::new();
    let builder = Namespace::builder().value("value", 1_u32).directory(test_dir.names());
    assert_eq!(builder.clone().must_exist().open(NAME).unwrap_err().kind(), ErrorKind::NotFound);
    let namespace = builder.clone().create_new().open(NAME).unwrap();
    assert_eq!(builder.clone().create_new().open(NAME).unwrap_err().kind(), ErrorKind::AlreadyExists);
    namespace.value("value").unwrap().store(&2_u32).unwrap();
    let others = Namespace::builder().value("value", 9_u32).directory(test_dir.names()).open(NAME).unwrap();
    assert_eq!(others.value::<u32>("value").unwrap().load(), Ok(2), "it was there");
    drop((namespace, others));
    assert_eq!(test_dir.leftovers(), [""; 0]);
    let namespace = builder.open(NAME).unwrap();
    assert_eq!(namespace.value::<u32>("value").unwrap().load(), Ok(1), "another one");
}

#[test]
fn namespace_name_of_other_region_kind_is_refused() {
    let test_dir = TestDir::new();
    let _queue = queue::Options::<u64>::new().directory(test_dir.names()).open("queue").unwrap();
    let _pipe = pipe::Options::<u64>::new().directory(test_dir.names()).sender("pipe").unwrap();
    let _namespace = all_kinds().directory(test_dir.names()).open("namespace").unwrap();
    let plan = Namespace::builder().directory(test_dir.names()).must_exist();
    assert_error(plan.open("queue"), ErrorKind::WrongType, &["queue", "namespace"]);
    assert_error(plan.open("pipe"), ErrorKind::WrongType, &["pipe", "namespace"]);
    let queues = queue::Options::<u64>::new().directory(test_dir.names());
    assert_error(queues.open("namespace"), ErrorKind::WrongType, &["queue", "namespace"]);
    assert_error(queues.sender("namespace"), ErrorKind::WrongType, &["queue", "namespace"]);
    let pipes = pipe::Options::<u64>::new().directory(test_dir.names());
    assert_error(pipes.receiver("namespace"), ErrorKind::WrongType, &["pipe", "namespace"]);
    assert_error(Value::<u64>::from_fd(all_kinds().create().unwrap().share().unwrap()), ErrorKind::WrongType, &["16"]);
}

#[test]
fn namespace_persistent_keeps_name_and_contents() {
    let test_dir = TestDir::new();
    let plan = Namespace::builder().value("value", 1_u64).mutex("mutex", 1_u64).queue::<u64>("queue", 4);
    let plan = plan.directory(test_dir.names());
    plan.clone().persistent().open(NAME).unwrap().value("value").unwrap().store(&2_u64).unwrap();
    assert_eq!(test_dir.leftovers(), [NAME]);
    let directory = Directory::at(test_dir.names());
    assert!(directory.inspect(NAME).unwrap().is_persistent);
    for number in 2..5 {
        let namespace = plan.open(NAME).unwrap(); // the creator has made it persistent
        let value = namespace.value::<u64>("value").unwrap();
        assert_eq!(value.load(), Ok(number));
        value.store(&(number + 1)).unwrap();
        let mut queue = namespace.queue::<u64>("queue").unwrap();
        if number > 2 {
            assert_eq!(queue.recv(), Ok(number));
        }
        queue.send(number + 1).unwrap();
    }
    assert!(!directory.unlink_if_stale(NAME).unwrap());
    let replacing = plan.clone().on_stale(OnStale::Recreate).open(NAME).unwrap();
    assert_eq!(replacing.value::<u64>("value").unwrap().load(), Ok(5), "a persistent one is never abandoned");
    drop(replacing);
    directory.unlink(NAME, false).unwrap();
    assert_eq!(test_dir.leftovers(), [""; 0]);
    assert_eq!(plan.open(NAME).unwrap().value::<u64>("value").unwrap().load(), Ok(1));
}

#[test]
fn namespace_concurrent_opens_join_once() {
    let test_dir = TestDir::new();
    let plan = Namespace::builder().atomic("atomic", 0_u64).mutex("mutex", 0_u64).max_participants(4).persistent();
    let plan = plan.directory(test_dir.names());
    drop(plan.open(NAME).unwrap());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let namespace = plan.open(NAME).unwrap();
                    namespace.atomic::<u64>("atomic").unwrap().fetch_add(1);
                    *namespace.mutex::<u64>("mutex").unwrap().lock().unwrap() += 1;
                }
            });
        }
    });
    let namespace = plan.open(NAME).unwrap();
    assert_eq!(namespace.atomic::<u64>("atomic").unwrap().load(), 300);
    assert_eq!(*namespace.mutex::<u64>("mutex").unwrap().lock().unwrap(), 300);
    let inspection = Directory::at(test_dir.names()).inspect(NAME).unwrap();
    let standings: Vec<_> = inspection.participants.iter().map(|participant| participant.status).collect();
    assert_eq!(standings.iter().filter(|&&standing| standing == ParticipantStatus::Alive).count(), 1, "{standings:?}");
    assert!(!standings.contains(&ParticipantStatus::Dead));
}

#[test]
fn namespace_many_objects_do_not_overlap() {
    const COUNT: u64 = 300;
    let name = |number: u64| format!("object {number}");
    let plan = (0..COUNT).fold(Namespace::builder(), |plan, number| match number % 3 {
        0 => plan.value(&name(number), number),
        1 => plan.mutex(&name(number), [number; 3]),
        _ => plan.array(&name(number), &[number as u16; 5]),
    });
    let namespace = plan.create().unwrap();
    for round in 0..2 {
        for number in 0..COUNT {
            let (before, after) = (number + round, number + round + 1);
            match number % 3 {
                0 => assert_eq!(namespace.value(&name(number)).unwrap().update(|value| *value += 1), Ok(after)),
                1 => {
                    let mutex = namespace.mutex::<[u64; 3]>(&name(number)).unwrap();
                    let mut guard = mutex.lock().unwrap();
                    assert_eq!(*guard, [before; 3]);
                    *guard = [after; 3];
                }
                _ => {
                    let array = namespace.array(&name(number)).unwrap();
                    assert_eq!(array.to_vec(), Ok(vec![before as u16; 5]));
                    array.store_from(0, &[after as u16; 5]).unwrap();
                }
            }
        }
    }
}
