//! Objects shared by name, by descriptor, and with child processes.

use tombolo::spawn::CommandExt;
use tombolo::sync::{Array, BoundedSemaphore, Mutex, Object, SyncError, Value};
use tombolo::{ErrorKind, Namespace};

use crate::common::{Pair, open, opened, plan, start_role};
use crate::support::{Process, TestDir, command, until};

/// Changes every object, for [`see_changes`] in another process.
fn change(namespace: &Namespace) {
    *namespace.mutex::<Pair>("mutex").unwrap().lock().unwrap() = [1, 2];
    namespace.reentrant_mutex("re-entrant").unwrap().lock().unwrap().set(&3_u64).unwrap();
    namespace.array("array").unwrap().set(1, [4_u64; 3]).unwrap();
    namespace.array("bytes").unwrap().store_from(3, &[5_u8; 9]).unwrap();
    *namespace.rw_lock::<Pair>("writing").unwrap().write().unwrap() = [6; 2];
    namespace.value("storing").unwrap().store(&[7_u64; 2]).unwrap();
    assert_eq!(namespace.atomic::<u64>("atomic").unwrap().fetch_add(8), 0);
    namespace.semaphore("several").unwrap().acquire().unwrap().forget();
    assert_eq!(namespace.bounded_semaphore("permits").unwrap().release(1), Err(SyncError::NotOwner));
    assert_eq!(namespace.mutex::<u8>("gate").unwrap().unlock(), Err(SyncError::NotOwner));
    namespace.once("done").unwrap().call_once(|| ()).unwrap();
    namespace.queue::<u64>("queue").unwrap().send(9).unwrap();
    namespace.event("event").unwrap().set().unwrap();
    let (gate, condition) = (namespace.mutex::<u8>("gate").unwrap(), namespace.condvar("condition").unwrap());
    drop(condition.wait_while(gate.lock().unwrap(), |open| *open == 0).unwrap());
    let permits = namespace.bounded_semaphore("permits").unwrap();
    permits.acquire().unwrap().forget(); // never released
    assert!(!namespace.barrier("meeting").unwrap().wait().unwrap().is_leader());
}

/// The other side of [`change`].
fn see_changes(namespace: &Namespace) {
    namespace.event("event").unwrap().wait().unwrap();
    assert_eq!(*namespace.mutex::<Pair>("mutex").unwrap().lock().unwrap(), [1, 2]);
    assert_eq!(namespace.reentrant_mutex::<u64>("re-entrant").unwrap().lock().unwrap().get(), Ok(3));
    assert_eq!(namespace.array("array").unwrap().to_vec(), Ok(vec![[0_u64; 3], [4; 3], [0; 3]]));
    assert_eq!(namespace.array::<u8>("bytes").unwrap().snapshot().unwrap(), [0, 0, 0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 0]);
    assert_eq!(*namespace.rw_lock::<Pair>("writing").unwrap().read().unwrap(), [6; 2]);
    assert_eq!(namespace.value::<Pair>("storing").unwrap().load(), Ok([7; 2]));
    assert_eq!(namespace.atomic::<u64>("atomic").unwrap().load(), 8);
    let several = namespace.semaphore("several").unwrap();
    assert_eq!((several.available(), several.release(1), several.available()), (Ok(2), Ok(()), Ok(3)));
    assert!(namespace.once("done").unwrap().is_completed());
    assert_eq!(namespace.queue::<u64>("queue").unwrap().recv(), Ok(9));
    *namespace.mutex::<u8>("gate").unwrap().lock().unwrap() = 1;
    namespace.condvar("condition").unwrap().notify_one().unwrap();
    let (permits, meeting) = (namespace.bounded_semaphore("permits").unwrap(), namespace.barrier("meeting").unwrap());
    until(|| meeting.waiting() == 1);
    assert_eq!((permits.available(), permits.release(1)), (2, Err(SyncError::NotOwner)));
    assert!(meeting.wait().unwrap().is_leader());
    assert_eq!(
        permits.acquire_many(3).map(|permit| permit.forget()),
        Ok(()),
        "a process that leaves releases its permits"
    );
    assert_eq!(permits.release(3), Ok(()));
}

pub fn use_every_object(arguments: &[String]) {
    change(&opened(arguments).0);
}

pub fn use_passed_namespace(_: &[String]) {
    assert_eq!(Namespace::take("nothing").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Namespace::take("no label").unwrap_err().kind(), ErrorKind::InvalidName);
    let namespace = Namespace::take("namespace").unwrap();
    assert_eq!(Namespace::take("namespace").unwrap_err().kind(), ErrorKind::NotFound, "it is used up");
    let again = plan().take("again").unwrap();
    assert!(namespace.atomic::<u64>("atomic").unwrap().load() == 0 && !again.event("event").unwrap().is_set());
    change(&again);
}

#[test]
fn namespace_opened_by_name_shares_every_object() {
    let test_dir = TestDir::new();
    let child = start_role(&test_dir, "use_every_object", &[]);
    see_changes(&open(&test_dir));
    child.finish();
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_passed_by_descriptor_shares_every_object() {
    let test_dir = TestDir::new();
    for namespace in [plan().create().unwrap(), open(&test_dir)] {
        let spawner = command("use_passed_namespace", &[])
            .pass("namespace", &namespace)
            .unwrap()
            .pass("again", &namespace)
            .unwrap();
        let child = Process::from(spawner.spawn().unwrap());
        see_changes(&namespace);
        child.finish();
    }
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

pub fn use_passed_objects(_: &[String]) {
    assert_eq!(Value::<u32>::take("value").unwrap_err().kind(), ErrorKind::WrongType);
    Mutex::take("mutex").unwrap().lock().map(|mut guard| *guard = 2_u8).unwrap();
    assert_eq!(
        BoundedSemaphore::take("permits").unwrap().try_acquire_many(2).map(|permit| permit.forget()),
        Err(SyncError::WouldBlock)
    );
    let array = Array::<u16>::take("array").unwrap();
    assert_eq!((array.len(), array.namespace_name()), (7, None));
    array.set(6, 3).unwrap();
}

#[test]
fn object_standalone_passed_to_child_is_shared() {
    let _watchdog = TestDir::new();
    let (value, mutex) = (Value::new(1_u64).unwrap(), Mutex::new(1_u8).unwrap());
    let (permits, array) = (BoundedSemaphore::new(2).unwrap(), Array::new(&[0_u16; 7]).unwrap());
    permits.acquire().unwrap().forget();
    let spawner = command("use_passed_objects", &[]).pass("value", &value).unwrap().pass("mutex", &mutex);
    let spawner = spawner.unwrap().pass("permits", &permits).unwrap();
    let spawner = spawner.pass("array", &array).unwrap();
    Process::from(spawner.spawn().unwrap()).finish();
    assert_eq!((*mutex.lock().unwrap(), array.get(6), permits.release(1)), (2, Ok(3), Ok(())));
}
