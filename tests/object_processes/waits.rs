//! All the ways to wait for an object, for tests that hold for each of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, thread};

use tombolo::Namespace;
use tombolo::sync::SyncError;

use crate::common::{Pair, any_guard, open, opened, start_ready};
use crate::support::{Process, TestDir, until};

/// Every way to wait, except at a barrier.
pub const WAYS: [&str; 15] = [
    "mutex",
    "re-entrant",
    "array",
    "writing",
    "reading",
    "draining",
    "storing",
    "semaphore",
    "several",
    "bounded",
    "condition",
    "event",
    "change",
    "doing",
    "done",
];

pub type Waiting = Box<dyn Fn(Duration) -> Result<(), SyncError>>;

/// Returns a call that waits for the object of that name and at once releases it.
pub fn waiting(namespace: &Namespace, way: &str) -> Waiting {
    waiting_and_then(namespace, way, || ())
}

/// Like [`waiting`], but calls `inside` before it releases what only few can hold.
pub fn waiting_and_then(namespace: &Namespace, way: &str, inside: fn()) -> Waiting {
    match way {
        "mutex" => {
            let mutex = namespace.mutex::<Pair>(way).unwrap();
            Box::new(move |timeout| any_guard(mutex.lock_timeout(timeout)).map(|_guard| inside()))
        }
        "re-entrant" => {
            let mutex = namespace.reentrant_mutex::<u64>(way).unwrap();
            Box::new(move |timeout| any_guard(mutex.lock_timeout(timeout)).map(|_guard| inside()))
        }
        "array" => {
            let array = namespace.array::<[u64; 3]>(way).unwrap();
            Box::new(move |timeout| any_guard(array.lock_timeout(timeout)).map(|_section| inside()))
        }
        "writing" | "draining" => {
            let lock = namespace.rw_lock::<Pair>(way).unwrap();
            Box::new(move |timeout| any_guard(lock.write_timeout(timeout)).map(|_guard| inside()))
        }
        "reading" => {
            let lock = namespace.rw_lock::<Pair>(way).unwrap();
            Box::new(move |timeout| any_guard(lock.read_timeout(timeout)).map(|_guard| inside()))
        }
        "storing" => {
            let value = namespace.value::<Pair>(way).unwrap();
            Box::new(move |timeout| value.update_timeout(timeout, |_| inside()).map(drop))
        }
        "semaphore" | "several" => {
            let (semaphore, count) = (namespace.semaphore(way).unwrap(), if way == "several" { 3 } else { 1 });
            Box::new(move |timeout| {
                semaphore.acquire_many_timeout(count, timeout)?.forget();
                inside();
                semaphore.release(count)
            })
        }
        "bounded" => {
            let semaphore = namespace.bounded_semaphore(way).unwrap();
            Box::new(move |timeout| {
                semaphore.acquire_timeout(timeout)?.forget();
                inside();
                semaphore.release(1)
            })
        }
        "condition" => {
            let (gate, condition) = (namespace.mutex::<u8>("gate").unwrap(), namespace.condvar(way).unwrap());
            Box::new(move |timeout| {
                let guard = gate.lock().unwrap();
                let (_, result) = condition.wait_timeout_while(guard, timeout, |open| *open == 0).unwrap();
                if result.timed_out() { Err(SyncError::TimedOut) } else { Ok(()) }
            })
        }
        "event" => {
            let event = namespace.event(way).unwrap();
            Box::new(move |timeout| event.wait_timeout(timeout))
        }
        "change" => {
            let value = namespace.value::<u64>(way).unwrap();
            Box::new(move |timeout| value.wait_for_change(timeout).map(drop))
        }
        "doing" => {
            let once = namespace.once(way).unwrap();
            Box::new(move |_| once.call_once(|| ()))
        }
        "done" => {
            let once = namespace.once(way).unwrap();
            Box::new(move |timeout| once.wait_timeout(timeout))
        }
        "meeting" => {
            let barrier = namespace.barrier(way).unwrap();
            Box::new(move |timeout| {
                let result = barrier.wait_timeout(timeout).map(drop);
                if result.is_err() {
                    barrier.reset()?;
                }
                result
            })
        }
        _ => unreachable!("{way}"),
    }
}

/// Makes every waiter wait until `meanwhile` returns.
pub fn while_held(namespace: &Namespace, way: &str, meanwhile: impl FnOnce()) {
    match way {
        "mutex" => {
            let mutex = namespace.mutex::<Pair>(way).unwrap();
            let _guard = mutex.lock().unwrap();
            meanwhile();
        }
        "re-entrant" => {
            let mutex = namespace.reentrant_mutex::<u64>(way).unwrap();
            let _guards = [mutex.lock().unwrap(), mutex.lock().unwrap()];
            meanwhile();
        }
        "array" => {
            let array = namespace.array::<[u64; 3]>(way).unwrap();
            let _section = array.lock().unwrap();
            meanwhile();
        }
        "writing" | "reading" => {
            let lock = namespace.rw_lock::<Pair>(way).unwrap();
            let _guard = lock.write().unwrap();
            meanwhile();
        }
        "draining" => {
            let lock = namespace.rw_lock::<Pair>(way).unwrap();
            let _guard = lock.read().unwrap();
            meanwhile();
        }
        "storing" => {
            let value = namespace.value::<Pair>(way).unwrap();
            let _writer = value.writer().unwrap();
            meanwhile();
        }
        "semaphore" | "several" => {
            let semaphore = namespace.semaphore(way).unwrap();
            let count = semaphore.available().unwrap();
            semaphore.acquire_many(count).unwrap().forget();
            meanwhile();
            semaphore.release(count).unwrap();
        }
        "bounded" => {
            let semaphore = namespace.bounded_semaphore(way).unwrap();
            let _permit = semaphore.acquire().unwrap();
            meanwhile();
        }
        "condition" => {
            meanwhile();
            *namespace.mutex::<u8>("gate").unwrap().lock().unwrap() = 1;
            namespace.condvar(way).unwrap().notify_one().unwrap();
        }
        "event" => {
            meanwhile();
            namespace.event(way).unwrap().set().unwrap();
        }
        "change" => {
            meanwhile();
            namespace.value::<u64>(way).unwrap().store(&1).unwrap();
        }
        "doing" => namespace.once(way).unwrap().call_once(meanwhile).unwrap(),
        "done" => {
            meanwhile();
            namespace.once(way).unwrap().call_once(|| ()).unwrap();
        }
        "meeting" => {
            meanwhile();
            namespace.barrier(way).unwrap().wait().unwrap();
        }
        _ => unreachable!("{way}"),
    }
}

/// Runs `check` for all ways at once, each in a thread and a namespace of its own.
pub fn for_each_way(ways: &[&'static str], check: impl Fn(&TestDir, &Namespace, &'static str) + Sync) {
    thread::scope(|scope| {
        let checks: Vec<_> = ways
            .iter()
            .map(|&way| {
                let check = &check;
                scope.spawn(move || {
                    let test_dir = TestDir::new();
                    let namespace = open(&test_dir);
                    let outcome = catch_unwind(AssertUnwindSafe(|| check(&test_dir, &namespace, way)));
                    assert!(outcome.is_ok(), "waiting for {way:?}");
                })
            })
            .collect();
        checks.into_iter().for_each(|check| check.join().unwrap());
    });
}

pub fn wait_and_leave(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    let wait = waiting(&namespace, &arguments[2]);
    counters.meet(0, 2);
    wait(Duration::MAX).unwrap();
}

/// Two sleeping processes, the first of which has slept longer.
pub fn two_waiters(test_dir: &TestDir, way: &str) -> [Process; 2] {
    [(); 2].map(|()| {
        let process = start_ready(test_dir, "wait_and_leave", &[way]);
        until(|| is_asleep(&process));
        process
    })
}

/// Whether the thread that runs the role sleeps on a futex.
pub fn is_asleep(process: &Process) -> bool {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let tasks = || fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().map(|task| task.unwrap().path());
    let threads: Vec<_> = tasks().filter(|task| read(task.join("comm")).trim() == "second_process").collect();
    let threads = if threads.is_empty() { tasks().collect() } else { threads };
    threads.into_iter().all(|task| read(task.join("syscall")).starts_with(&format!("{} ", libc::SYS_futex)))
}
