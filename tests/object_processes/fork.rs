//! Handles and guards in a forked child.

use std::time::Duration;

use tombolo::sync::{Array, ArrayGuard, Once, SyncError, Value};
use tombolo::{ErrorKind, RecvError, SendError};

use crate::common::{NAME, Pair, in_other_thread, opened, plan, refusal, start_role};
use crate::support::{TestDir, alone, fork};

#[test]
fn object_handles_inherited_by_fork_are_refused() {
    let test_dir = TestDir::new();
    start_role(&test_dir, "fork_with_handles", &[]).finish(); // a fork needs a process without other tests
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

pub fn fork_with_handles(arguments: &[String]) {
    let alone = alone();
    let (namespace, _) = opened(arguments);
    let (mutex, gate) = (namespace.mutex::<Pair>("mutex").unwrap(), namespace.mutex::<u8>("gate").unwrap());
    let reentrant = namespace.reentrant_mutex::<u64>("re-entrant").unwrap();
    let (wide, bytes) = (namespace.array::<[u64; 3]>("array").unwrap(), namespace.array::<u8>("bytes").unwrap());
    let [lock, reading] = ["writing", "reading"].map(|name| namespace.rw_lock::<Pair>(name).unwrap());
    let (value, change) = (namespace.value::<Pair>("storing").unwrap(), namespace.value::<u64>("change").unwrap());
    let [plain, several] = ["semaphore", "several"].map(|name| namespace.semaphore(name).unwrap());
    let permits = namespace.bounded_semaphore("permits").unwrap();
    let (condition, event) = (namespace.condvar("condition").unwrap(), namespace.event("event").unwrap());
    let (meeting, atomic) = (namespace.barrier("meeting").unwrap(), namespace.atomic::<u64>("atomic").unwrap());
    let [undone, done] = ["doing", "done"].map(|name| namespace.once(name).unwrap());
    let mut queue = namespace.queue::<u64>("queue").unwrap();
    event.set().unwrap();
    done.call_once(|| ()).unwrap();
    value.store(&[1; 2]).unwrap();

    let (mut guard, mut writing, waiting) = (mutex.lock().unwrap(), lock.write().unwrap(), gate.lock().unwrap());
    (*guard, *writing) = ([1; 2], [1; 2]);
    let nested = [reentrant.lock().unwrap(), reentrant.lock().unwrap()];
    nested[0].set(&1).unwrap();
    let (sections, writer) = ((wide.lock().unwrap(), bytes.lock().unwrap()), value.writer().unwrap());
    let given_back = (reading.read().unwrap(), permits.acquire().unwrap(), several.acquire().unwrap());
    let mut held = Some((guard, writing, waiting, nested, sections, writer, given_back));

    let child = fork(&alone, || {
        let now = Duration::ZERO;
        let (mut guard, mut writing, waiting, nested, sections, mut writer, given_back) = held.take().unwrap();
        assert_forked([mutex.lock(), mutex.try_lock(), mutex.lock_timeout(now)].map(refusal));
        assert_forked([reentrant.lock(), reentrant.try_lock(), reentrant.lock_timeout(now)].map(refusal));
        assert_forked([wide.lock(), wide.try_lock(), wide.lock_timeout(now)].map(refusal));
        assert_forked([bytes.lock(), bytes.try_lock(), bytes.lock_timeout(now)].map(refusal));
        for lock in [&lock, &reading] {
            assert_forked([lock.read(), lock.try_read(), lock.read_timeout(now)].map(refusal));
            assert_forked([lock.write(), lock.try_write(), lock.write_timeout(now)].map(refusal));
        }
        assert_forked([condition.wait(waiting)].map(refusal));
        let calls = [mutex.unlock(), reentrant.unlock(), gate.unlock(), nested[0].set(&9)];
        assert_forked(calls.map(Result::unwrap_err));
        let calls = [wide.set(0, [9; 3]), wide.store_from(0, &[[9; 3]]), bytes.store_from(0, &[9])];
        assert_forked(calls.map(Result::unwrap_err));
        assert_forked([
            wide.snapshot().unwrap_err(),
            bytes.snapshot().unwrap_err(),
            change.wait_for_change(now).unwrap_err(),
        ]);
        let calls = [value.store(&[9; 2]), value.try_store(&[9; 2]), value.store_timeout(&[9; 2], now)];
        assert_forked(calls.map(Result::unwrap_err));
        let update = |value: &mut Pair| value.fill(9);
        let calls = [value.update(update), value.try_update(update), value.update_timeout(now, update)];
        assert_forked(calls.map(Result::unwrap_err));
        assert_forked([writer.store(&[9; 2]), writer.update(update).map(drop)].map(Result::unwrap_err));
        assert_forked([value.writer(), value.try_writer()].map(Result::unwrap_err));
        let calls = [
            plain.acquire().map(|permit| permit.forget()),
            plain.try_acquire().map(|permit| permit.forget()),
            plain.acquire_timeout(now).map(|permit| permit.forget()),
            plain.acquire_many(0).map(|permit| permit.forget()),
        ];
        assert_forked(calls.map(Result::unwrap_err));
        let calls = [
            permits.acquire().map(|permit| permit.forget()),
            permits.try_acquire().map(|permit| permit.forget()),
            permits.acquire_timeout(now).map(|permit| permit.forget()),
        ];
        assert_forked(calls.map(Result::unwrap_err));
        assert_forked([plain.release(1), permits.release(1)].map(Result::unwrap_err));
        assert_forked([plain.acquire(), plain.try_acquire()].map(Result::unwrap_err));
        assert_forked([permits.acquire(), permits.try_acquire()].map(Result::unwrap_err));
        assert_forked([condition.notify_one(), condition.notify_all()].map(Result::unwrap_err));
        assert_forked([event.set(), event.clear(), event.wait(), event.wait_timeout(now)].map(Result::unwrap_err));
        assert_forked([meeting.wait(), meeting.wait_timeout(now)].map(Result::unwrap_err));
        assert_forked([meeting.abort(), meeting.reset()].map(Result::unwrap_err));
        let calls = [undone.call_once(|| unreachable!()), undone.wait(), undone.wait_timeout(now)];
        assert_forked(calls.map(Result::unwrap_err));
        assert_eq!((queue.send(9), queue.recv()), (Err(SendError::Forked), Err(RecvError::Forked)));
        assert_eq!(namespace.share().unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(namespace.event("event").unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(namespace.queue::<u64>("queue").map(drop).unwrap_err().kind(), ErrorKind::Forked);

        // What only reads works.
        assert_eq!((value.load(), change.load(), value.version()), (Ok([1; 2]), Ok(0), 1));
        assert_eq!((atomic.fetch_add(5), bytes.set(12, 5), wide.get(0)), (0, Ok(()), Ok([0; 3])));
        assert_eq!((event.is_set(), undone.is_completed(), done.is_completed()), (true, false, true));
        assert_eq!((done.call_once(|| unreachable!()), meeting.waiting()), (Ok(()), 0));
        assert_eq!((plain.available(), several.available(), permits.available()), (Ok(1), Ok(2), 2));
        assert!(mutex.is_locked() && nested[0].get() == Ok(1));
        (*guard, *writing) = ([9; 2], [9; 2]);
        drop((guard, writing, nested, sections, writer, given_back));

        // With handles of its own it is a process like any other.
        let own = plan().directory(&arguments[0]).open(NAME).unwrap();
        assert_eq!(refusal(own.mutex::<Pair>("mutex").unwrap().try_lock()), SyncError::WouldBlock);
        assert_eq!(own.bounded_semaphore("permits").unwrap().acquire_many(2).map(|permit| permit.forget()), Ok(()));
        own.queue::<u64>("queue").unwrap().send(7).unwrap();
        own.semaphore("semaphore").unwrap().acquire().unwrap().forget();
    });
    child.finish();

    in_other_thread(|| {
        let attempts = [
            refusal(mutex.try_lock()),
            refusal(gate.try_lock()),
            refusal(wide.try_lock()),
            refusal(bytes.try_lock()),
            refusal(lock.try_read()),
            refusal(reading.try_write()),
            refusal(reentrant.try_lock()),
            value.try_store(&[9; 2]).unwrap_err(),
        ];
        assert_eq!(attempts, [SyncError::WouldBlock; 8]);
    });
    assert_eq!((several.available(), permits.available()), (Ok(2), 2), "the child's own came back when it left");
    assert_eq!((atomic.load(), bytes.get(12), plain.available()), (5, Ok(5), Ok(0)));
    assert_eq!((undone.is_completed(), meeting.is_broken(), event.is_set()), (false, false, true));
    let (guard, writing, waiting, nested, sections, writer, given_back) = held.unwrap();
    guard.rollback();
    writing.rollback();
    drop((waiting, nested, sections, writer, given_back));
    assert_eq!((*mutex.lock().unwrap(), *lock.read().unwrap(), *gate.lock().unwrap()), ([0; 2], [0; 2], 0));
    assert_eq!((value.load(), reentrant.lock().unwrap().get()), (Ok([1; 2]), Ok(1)));
    assert_eq!(wide.snapshot(), Ok(vec![[0; 3]; 3]));
    drop(reading.write().unwrap());
    assert_eq!(
        (several.available(), permits.acquire_many(3).map(|permit| permit.forget()), permits.release(3)),
        (Ok(3), Ok(()), Ok(()))
    );
    assert_eq!(queue.recv(), Ok(7));
}

fn assert_forked<const N: usize>(errors: [SyncError; N]) {
    assert_eq!(errors, [SyncError::Forked; N]);
}

#[test]
fn array_section_inherited_by_fork_set_is_refused() {
    let test_dir = TestDir::new();
    start_role(&test_dir, "fork_with_sections", &[]).finish();
}

pub fn fork_with_sections(_: &[String]) {
    fn check<T: bytemuck::Pod + tombolo::Shareable + PartialEq + std::fmt::Debug>(value: T) {
        let alone = alone();
        let array = Array::new(&[T::zeroed(); 5]).unwrap();
        let mut section: ArrayGuard<T> = array.lock().unwrap();
        let child = fork(&alone, || {
            assert_eq!(section.set(1, value), Err(SyncError::Forked));
            assert_eq!(section.store_from(2, &[value; 2]), Err(SyncError::Forked));
            assert_eq!(section.get(1), Ok(T::zeroed()));
        });
        child.finish();
        assert_eq!(section.to_vec(), Ok(vec![T::zeroed(); 5]));
    }
    check([7_u32; 3]);
    check(7_u8);
    let (value, once) = (Value::new(0_u64).unwrap(), Once::new().unwrap());
    let mut is_child = false;
    // SAFETY: the child returns from the call that it is in, and ends.
    let fork = |is_child: &mut bool| *is_child = unsafe { libc::fork() } == 0;
    let updated = value.update(|number| {
        *number = 1;
        fork(&mut is_child);
    });
    end_child(is_child, updated == Err(SyncError::Forked));
    let called = once.call_once(|| fork(&mut is_child));
    end_child(is_child, called == Err(SyncError::Forked));
    assert_eq!((updated, called, value.version()), (Ok(1), Ok(()), 1));
}

/// Ends this process if it is the child; the parent checks its exit status.
fn end_child(is_child: bool, is_well: bool) {
    let mut status = 0;
    // SAFETY: the child leaves what it shares with others as it is; the parent has just this one.
    let child = unsafe {
        if is_child {
            libc::_exit(i32::from(!is_well));
        }
        libc::wait(&mut status)
    };
    assert!(child > 0 && status == 0, "{child} ended with {status:#x}");
}
