//! Pipes, queues and objects make no system call as long as they need not wait.
//!
//! Each part runs in a process that may make none.

use std::time::Duration;

use tombolo::Namespace;
use tombolo::pipe;
use tombolo::queue;

use crate::support::{TestDir, message, start};
use crate::{COUNT, filter};

/// From here on this thread may write and exit. Any other system call ends the process by SIGSYS.
fn forbid_system_calls() {
    let allowed = [(libc::SYS_exit_group, libc::SECCOMP_RET_ALLOW), (libc::SYS_write, libc::SECCOMP_RET_ALLOW)];
    filter(&allowed, libc::SECCOMP_RET_KILL_PROCESS);
}

/// Ends the process without a further call.
fn exit(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

pub fn send_and_receive_values(_: &[String]) {
    let (mut tx, mut rx) = pipe::Options::<[u64; 3]>::new().capacity(8).create().unwrap();
    let mut received = [[0; 3]; 4];
    forbid_system_calls();
    for number in 0..COUNT {
        let good = tx.send([number; 3]) == Ok(())
            && tx.send_timeout([number; 3], Duration::MAX) == Ok(())
            && rx.recv() == Ok([number; 3])
            && rx.recv_timeout(Duration::MAX) == Ok([number; 3])
            && tx.send_many(&[[number; 3]; 4]) == Ok(4)
            && rx.recv_many(&mut received) == Ok(4);
        if !good {
            exit(1);
        }
    }
    exit(0);
}

pub fn send_and_receive_bytes(_: &[String]) {
    let (mut tx, mut rx) = pipe::Options::bytes().capacity_bytes(4096).create().unwrap();
    let sent = message(1, 1000);
    let mut received = Vec::with_capacity(4096);
    let mut buffer = [0; 1000];
    forbid_system_calls();
    for number in 0..COUNT {
        let sent = &sent[..number as usize % 1000];
        let good = tx.send(sent) == Ok(())
            && rx.recv(&mut received) == Ok(sent.len())
            && received == sent
            && tx.try_send(sent) == Ok(())
            && rx.recv_into(&mut buffer) == Ok(sent.len());
        if !good {
            exit(1);
        }
    }
    exit(0);
}

pub fn send_and_receive_in_queues(_: &[String]) {
    let (mut tx, mut rx) = queue::Options::<[u64; 3]>::new().capacity(8).create_channel().unwrap();
    let mut bytes = queue::Options::bytes().capacity(4).create().unwrap();
    let sent = message(1, 4096);
    let mut received = Vec::with_capacity(4096);
    let mut many = [[0; 3]; 4];
    forbid_system_calls();
    for number in 0..COUNT {
        let sent = &sent[..number as usize % 4096];
        let good = tx.send([number; 3]) == Ok(())
            && rx.recv() == Ok([number; 3])
            && tx.send_many(&[[number; 3]; 4]) == Ok(4)
            && rx.recv_many(&mut many) == Ok(4)
            && rx.task_done() == Ok(())
            && bytes.send(sent) == Ok(())
            && bytes.recv(&mut received) == Ok(sent.len())
            && received == sent;
        if !good {
            exit(1);
        }
    }
    exit(0);
}

pub fn lock_and_unlock(_: &[String]) {
    let plan = Namespace::builder().mutex("mutex", [0_u64; 9]).reentrant_mutex("re-entrant", 0_u64);
    let namespace = plan.rw_lock("lock", [0_u64; 2]).array("array", &[[0_u32; 3]; 4]).create().unwrap();
    let (mutex, reentrant) = (namespace.mutex::<[u64; 9]>("mutex").unwrap(), namespace.reentrant_mutex("re-entrant"));
    let (reentrant, lock) = (reentrant.unwrap(), namespace.rw_lock::<[u64; 2]>("lock").unwrap());
    let array = namespace.array::<[u32; 3]>("array").unwrap();
    forbid_system_calls();
    for number in 0..COUNT {
        let good = mutex.lock().is_ok_and(|mut guard| {
            guard[8] += 1;
            guard[8] == 2 * number + 1
        }) && mutex.try_lock().is_ok_and(|mut guard| {
            guard[8] += 1;
            mutex.lock().is_err()
        }) && mutex.lock_timeout(Duration::MAX).is_ok_and(|guard| guard[8] == 2 * number + 2)
            && reentrant.lock().is_ok_and(|outer| {
                reentrant.lock().is_ok_and(|inner| inner.set(&number).is_ok()) && outer.get() == Ok(number)
            })
            && lock.write().is_ok_and(|mut guard| {
                guard.fill(number);
                true
            })
            && lock.read().is_ok_and(|outer| lock.read().is_ok_and(|inner| *inner == *outer))
            && lock.try_write().is_ok_and(|guard| *guard == [number; 2])
            && array.lock().is_ok_and(|mut section| section.set(3, [number as u32; 3]).is_ok());
        if !good {
            exit(1);
        }
    }
    exit(0);
}

pub fn store_and_load(_: &[String]) {
    let plan = Namespace::builder().value("value", [0_u64; 40]).atomic("atomic", 0_i32).once("once").event("event");
    let plan = plan.array("words", &[0_u64; 5]).array("bytes", &[0_u8; 13]).array("wide", &[[0_u64; 3]; 5]);
    let namespace = plan.create().unwrap();
    let (value, atomic) = (namespace.value::<[u64; 40]>("value").unwrap(), namespace.atomic::<i32>("atomic").unwrap());
    let (words, bytes) = (namespace.array::<u64>("words").unwrap(), namespace.array::<u8>("bytes").unwrap());
    let (wide, event) = (namespace.array::<[u64; 3]>("wide").unwrap(), namespace.event("event").unwrap());
    let once = namespace.once("once").unwrap();
    let mut some = [0; 7];
    forbid_system_calls();
    for number in 0..COUNT {
        let good = value.store(&[number; 40]) == Ok(())
            && value.load() == Ok([number; 40])
            && value.update(|value| value[7] += 1).is_ok_and(|value| value[7] == number + 1)
            && value.writer().is_ok_and(|mut writer| writer.store(&[number; 40]) == Ok(()))
            && value.version() == 3 * number + 3
            && atomic.fetch_add(1) == number as i32
            && words.set(4, number) == Ok(())
            && words.get(4) == Ok(number)
            && bytes.store_from(3, &[number as u8; 7]) == Ok(())
            && bytes.load_into(3, &mut some) == Ok(())
            && some == [number as u8; 7]
            && wide.set(4, [number; 3]) == Ok(())
            && wide.get(4) == Ok([number; 3])
            && !event.is_set()
            && event.set() == Ok(())
            && event.wait() == Ok(())
            && event.wait_timeout(Duration::MAX) == Ok(())
            && event.clear() == Ok(())
            && once.call_once(|| ()) == Ok(())
            && once.is_completed();
        if !good {
            exit(1);
        }
    }
    exit(0);
}

pub fn take_permits_and_meet(_: &[String]) {
    let plan = Namespace::builder().semaphore("semaphore", 3).bounded_semaphore("bounded", 3).condvar("condition");
    let namespace = plan.barrier("meeting", 1).queue::<u64>("queue", 4).create().unwrap();
    let (semaphore, bounded) =
        (namespace.semaphore("semaphore").unwrap(), namespace.bounded_semaphore("bounded").unwrap());
    let (condition, meeting) = (namespace.condvar("condition").unwrap(), namespace.barrier("meeting").unwrap());
    let mut queue = namespace.queue::<u64>("queue").unwrap();
    forbid_system_calls();
    for number in 0..COUNT {
        let good = semaphore.acquire().map(|permit| permit.forget()) == Ok(())
            && semaphore.try_acquire_many(2).map(|permit| permit.forget()) == Ok(())
            && semaphore.release(3) == Ok(())
            && semaphore.acquire().is_ok_and(|_permit| semaphore.available() == Ok(2))
            && bounded.acquire().map(|permit| permit.forget()) == Ok(())
            && bounded.acquire_many_timeout(2, Duration::MAX).map(|permit| permit.forget()) == Ok(())
            && bounded.release(3) == Ok(())
            && bounded.acquire().is_ok_and(|_permit| bounded.available() == 2)
            && condition.notify_one() == Ok(())
            && condition.notify_all() == Ok(())
            && meeting.wait().is_ok_and(|met| met.is_leader())
            && queue.send(number) == Ok(())
            && queue.recv() == Ok(number);
        if !good {
            exit(1);
        }
    }
    exit(0);
}

pub fn make_a_system_call(_: &[String]) {
    forbid_system_calls();
    // SAFETY: no arguments; it will not return.
    unsafe { libc::getppid() };
    exit(0);
}

#[test]
fn pipe_of_values_uncontended_makes_no_system_call() {
    let _sandbox = TestDir::new();
    start("send_and_receive_values", &[]).finish();
}

#[test]
fn pipe_of_bytes_uncontended_makes_no_system_call() {
    let _sandbox = TestDir::new();
    start("send_and_receive_bytes", &[]).finish();
}

#[test]
fn queue_uncontended_makes_no_system_call() {
    let _sandbox = TestDir::new();
    start("send_and_receive_in_queues", &[]).finish();
}

#[test]
fn locks_uncontended_make_no_system_call() {
    let _sandbox = TestDir::new();
    start("lock_and_unlock", &[]).finish();
}

#[test]
fn values_uncontended_make_no_system_call() {
    let _sandbox = TestDir::new();
    start("store_and_load", &[]).finish();
}

#[test]
fn semaphores_and_barriers_uncontended_make_no_system_call() {
    let _sandbox = TestDir::new();
    start("take_permits_and_meet", &[]).finish();
}

#[test]
fn seccomp_system_call_ends_the_process() {
    let _sandbox = TestDir::new();
    let status = start("make_a_system_call", &[]).wait();
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS, "{status:#x}");
}
