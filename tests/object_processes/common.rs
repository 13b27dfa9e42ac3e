//! What the tests between processes have in common: a namespace, its roles, and what a role holds.

use std::mem::forget;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::sync::{LockError, LockResult, SyncError};
use tombolo::{Namespace, NamespaceBuilder};

use crate::support::{Process, SharedCounters, TestDir, start};

pub const NAME: &str = "name";
pub const MOMENT: Duration = Duration::from_millis(30);

/// Two words that belong together.
pub type Pair = [u64; 2];

pub fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

/// Starts a process in the role `role`, which gets its namespace and counters from [`opened`].
pub fn start_role(test_dir: &TestDir, role: &str, more: &[&str]) -> Process {
    let (names, counters) = (test_dir.names(), test_dir.file("counters"));
    start(role, &[&[names.to_str().unwrap(), counters.to_str().unwrap()], more].concat())
}

/// Starts a process in the role `role`; returns when it is ready.
pub fn start_ready(test_dir: &TestDir, role: &str, more: &[&str]) -> Process {
    let process = start_role(test_dir, role, more);
    counters(test_dir).meet(0, 2);
    process
}

/// The namespace and the counters of a role that [`start_role`] has started.
pub fn opened(arguments: &[String]) -> (Namespace, SharedCounters) {
    (plan().directory(&arguments[0]).open(NAME).unwrap(), SharedCounters::at(Path::new(&arguments[1])))
}

pub fn report_ready_and_park(counters: &SharedCounters) -> ! {
    counters.meet(0, 2);
    loop {
        thread::park();
    }
}

/// Stops a process, and returns when it has stopped.
pub fn stop(process: &Process) {
    process.signal(libc::SIGSTOP);
    let mut status = 0;
    // SAFETY: a child of ours and a place for its status.
    let pid = unsafe { libc::waitpid(process.pid(), &mut status, libc::WUNTRACED) };
    assert!(pid == process.pid() && libc::WIFSTOPPED(status), "ended instead of stopping: {status:#x}");
}

/// Spins, so that two processes meet at varying points of their ways.
pub fn spin(microseconds: u64) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_micros(microseconds) {}
}

/// Runs `action` in another thread and returns its result.
pub fn in_other_thread<R: Send>(action: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(action).join().unwrap())
}

/// An object for each way to wait, of the same name, and some more.
pub fn plan() -> NamespaceBuilder {
    Namespace::builder()
        .mutex("mutex", [0_u64; 2])
        .reentrant_mutex("re-entrant", 0_u64)
        .array("array", &[[0_u64; 3]; 3])
        .rw_lock("writing", [0_u64; 2])
        .rw_lock("reading", [0_u64; 2])
        .rw_lock("draining", [0_u64; 2])
        .value("storing", [0_u64; 2])
        .semaphore("semaphore", 1)
        .semaphore("several", 3)
        .bounded_semaphore("bounded", 1)
        .mutex("gate", 0_u8)
        .condvar("condition")
        .event("event")
        .value("change", 0_u64)
        .once("doing")
        .once("done")
        .barrier("meeting", 2)
        .atomic("atomic", 0_u64)
        .array("bytes", &[0_u8; 13])
        .bounded_semaphore("permits", 3)
        .queue::<u64>("queue", 8)
}

pub fn open(test_dir: &TestDir) -> Namespace {
    plan().directory(test_dir.names()).open(NAME).unwrap()
}

/// The guard of a lock whose owner died.
pub fn owner_died<G: std::fmt::Debug>(result: LockResult<G>) -> G {
    match result {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("no owner died: {other:?}"),
    }
}

pub fn refusal<G: std::fmt::Debug>(result: LockResult<G>) -> SyncError {
    match result {
        Err(LockError::Failed(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn any_guard<G>(result: LockResult<G>) -> Result<G, SyncError> {
    result.or_else(LockError::into_guard)
}

/// Holds the objects that the arguments name, with committed and uncommitted changes.
pub fn hold(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    for what in &arguments[2..] {
        take_and_forget(&namespace, what);
    }
    report_ready_and_park(&counters);
}

/// Holds an object for as long as the process lives.
pub fn take_and_forget(namespace: &Namespace, what: &str) {
    match what {
        "mutex" => {
            let mutex = namespace.mutex::<Pair>("mutex").unwrap();
            any_guard(mutex.lock()).unwrap().fill(1);
            let mut guard = mutex.lock().unwrap();
            *guard = [9; 2];
            forget(guard);
        }
        "mutex after a death" => {
            let mutex = namespace.mutex::<Pair>("mutex").unwrap();
            let mut guard = owner_died(mutex.lock());
            *guard = [9; 2];
            forget(guard);
        }
        "re-entrant" => {
            let mutex = namespace.reentrant_mutex::<u64>("re-entrant").unwrap();
            let guards = [any_guard(mutex.lock()).unwrap(), mutex.lock().unwrap(), mutex.lock().unwrap()];
            guards[1].set(&1).unwrap();
            forget(guards);
        }
        "array" => {
            let array = namespace.array::<[u64; 3]>("array").unwrap();
            let mut section = any_guard(array.lock()).unwrap();
            section.set(0, [1; 3]).unwrap();
            forget(section);
        }
        "writing" => {
            let lock = namespace.rw_lock::<Pair>("writing").unwrap();
            any_guard(lock.write()).unwrap().fill(1);
            let mut guard = lock.write().unwrap();
            *guard = [9; 2];
            forget(guard);
        }
        "reading" => {
            let lock = namespace.rw_lock::<Pair>("writing").unwrap();
            forget([lock.read().unwrap(), lock.read().unwrap()]);
        }
        "reading after a death" => {
            let lock = namespace.rw_lock::<Pair>("writing").unwrap();
            forget(owner_died(lock.read()));
        }
        "storing" => {
            let value = namespace.value::<Pair>("storing").unwrap();
            let mut writer = value.writer().unwrap();
            writer.store(&[1; 2]).unwrap();
            forget(writer);
        }
        "permits" => namespace.bounded_semaphore("permits").unwrap().acquire_many(2).unwrap().forget(),
        "semaphore" => namespace.semaphore("semaphore").unwrap().acquire().unwrap().forget(),
        _ => unreachable!("{what}"),
    }
}
