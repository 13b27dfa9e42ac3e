//! Values that are larger than the stack of their thread.

use std::thread;
use std::time::Duration;

use tombolo::sync::{Array, LockError, Object, ReentrantMutex, SyncError, Value};
use tombolo::{DIRECTORY_ENV, Namespace};

use crate::common::{MOMENT, NAME, unwind, unwinds};
use crate::support::{Large, Process, TestDir, command, large, on_small_stack};

/// Runs in a process of its own, whose default directory is a temporary one.
pub fn use_large_names(_: &[String]) {
    on_small_stack(|| {
        let value = Value::create_new_from(NAME, &*large(1)).unwrap();
        assert!(Value::<Large>::create_new_from(NAME, &*large(2)).is_err(), "there is one");
        let other = Value::open_or_create_from(NAME, &*large(2)).unwrap();
        let mut copy = large(0);
        other.load_into(&mut copy).unwrap();
        assert!(copy == large(1), "what is there is kept");
        let mut watcher = command("store_large", &[]);
        let child = Process::from(watcher.spawn().unwrap());
        other.wait_for_change_into(&mut copy, Duration::from_secs(60)).unwrap();
        assert!(copy == large(7), "another process has stored it");
        child.finish();
        drop((value, other));
        let mutex = ReentrantMutex::open_or_create_from(NAME, &*large(3)).unwrap();
        let guard = mutex.lock().or_else(LockError::into_guard).unwrap();
        guard.get_into(&mut copy).unwrap();
        assert!(copy == large(3));
    });
}

pub fn store_large(_: &[String]) {
    on_small_stack(|| Value::<Large>::open(NAME).unwrap().store(&large(7)).unwrap());
}

#[test]
fn value_larger_than_the_stack_is_shared_by_processes() {
    let test_dir = TestDir::new();
    let mut command = command("use_large_names", &[]);
    Process::from(command.env(DIRECTORY_ENV, test_dir.names()).spawn().unwrap()).finish();
}

#[test]
fn value_larger_than_the_stack_is_changed_in_place() {
    let _watchdog = TestDir::new();
    on_small_stack(|| {
        let value = Value::<Large>::new_from(&large(1)).unwrap();
        let other = value.clone();
        let mut copy = large(0);
        value.update_into(&mut copy, |copy| copy[1 << 20] += 1).unwrap();
        assert_eq!((copy[0], copy[1 << 20], value.version()), (1, 2, 1));
        value.try_update_into(&mut copy, |copy| copy[1 << 20] += 1).unwrap();
        value.update_into_timeout(&mut copy, MOMENT, |copy| copy[1 << 20] += 1).unwrap();
        let mut seen = large(0);
        other.wait_for_change_into(&mut seen, Duration::ZERO).unwrap();
        assert!(seen[1 << 20] == 4 && seen == copy);
        assert_eq!(other.wait_for_change_into(&mut seen, MOMENT), Err(SyncError::TimedOut));
        assert_eq!(seen[1 << 20], 4, "unchanged");

        let mut writer = value.writer().unwrap();
        writer.update_into(&mut copy, |copy| copy[0] = 9).unwrap();
        let refused = thread::scope(|scope| {
            let attempt = || other.try_update_into(&mut seen, |_| unreachable!());
            scope.spawn(attempt).join().unwrap()
        });
        assert_eq!(refused, Err(SyncError::WouldBlock));
        drop(writer);

        unwinds(|| {
            let _ = value.update_into(&mut copy, |copy| {
                copy[0] = 99;
                unwind()
            });
        });
        value.load_into(&mut copy).unwrap();
        assert_eq!(copy[0], 9, "a panic leaves it as it was");
    });
}

#[test]
fn namespace_with_objects_larger_than_the_stack_holds_them() {
    let _watchdog = TestDir::new();
    on_small_stack(|| {
        let plan = Namespace::builder().value_from("value", &*large(1)).reentrant_mutex_from("mutex", &*large(2));
        let namespace = plan.array_zeroed::<Large>("array", 2).create().unwrap();
        let mut copy = large(0);
        namespace.value::<Large>("value").unwrap().load_into(&mut copy).unwrap();
        assert!(copy == large(1));

        let mutex: ReentrantMutex<Large> = namespace.object("mutex").unwrap();
        let guard = mutex.lock().or_else(LockError::into_guard).unwrap();
        guard.set(&copy).unwrap();
        guard.get_into(&mut copy).unwrap();
        assert!(copy == large(1));
        drop(guard);

        let array: Array<Large> = namespace.object("array").unwrap();
        let element = std::slice::from_mut(&mut *copy);
        array.store_from(1, element).unwrap();
        array.load_into(0, element).unwrap();
        assert!(element[0][0] == 0 && element[0].ends_with(&[0]));
        array.load_into(1, element).unwrap();
        assert!(element[0] == *large(1));
        assert_eq!(array.object_name(), "array");
        let all = array.to_vec().unwrap();
        assert_eq!((all[0][5], all[1][5]), (0, 1));
    });
}
