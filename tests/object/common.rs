//! What the tests of several objects have in common.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use tombolo::collections::{list, map};
use tombolo::sync::{LockError, LockResult, ObjectKind, SyncError};
use tombolo::{Error, ErrorKind, Namespace, NamespaceBuilder, Shareable, WaitStrategy};

use crate::support::message;

pub const NAME: &str = "name";
pub const MOMENT: Duration = Duration::from_millis(30);
pub const WAITS: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::SpinThenPark, WaitStrategy::Park];

/// Runs `action` in another thread and returns its result.
pub fn in_other_thread<R: Send>(action: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(action).join().unwrap())
}

pub fn refusal<G: Debug>(result: LockResult<G>) -> SyncError {
    match result {
        Err(LockError::Failed(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn poisoned<G: Debug>(result: LockResult<G>) -> G {
    match result {
        Err(LockError::Poisoned(guard)) => guard,
        other => panic!("not poisoned: {other:?}"),
    }
}

/// Panics without a message on standard error.
pub fn unwind() -> ! {
    resume_unwind(Box::new(()))
}

pub fn unwinds(action: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(action)).is_err());
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Shareable)]
#[repr(C, align(64))]
pub struct Line([u64; 8]);

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Shareable)]
#[repr(C, align(128))]
pub struct LinePair([u64; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(256))]
pub struct TooAligned(pub [u64; 32]);

/// A value of any type, one per number.
pub fn sample<T: Pod>(number: u64) -> T {
    bytemuck::pod_read_unaligned(&message(number, size_of::<T>()))
}

macro_rules! of_every_size {
    ($check:ident) => {
        $check::<[u8; 1]>();
        $check::<[u8; 3]>();
        $check::<u64>();
        $check::<[u8; 8]>();
        $check::<[u32; 3]>();
        $check::<[u8; 24]>();
        $check::<[u64; 8]>();
        $check::<[u8; 100]>();
        $check::<[u8; 4096]>();
        $check::<$crate::common::Line>();
        $check::<$crate::common::LinePair>();
    };
}

pub(crate) use of_every_size;

/// Panics unless `result` is an error of this kind whose message contains all of `words`.
pub fn assert_error<T: Debug>(result: Result<T, Error>, kind: ErrorKind, words: &[&str]) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
}

/// One object of each kind.
pub fn all_kinds() -> NamespaceBuilder {
    Namespace::builder()
        .value("value", [1_u8; 100])
        .atomic("atomic", -7_i16)
        .array("array", &[[1_u32, 2, 3]; 5])
        .mutex("mutex", 2.5_f64)
        .reentrant_mutex("re-entrant", 3_u8)
        .rw_lock("rw lock", [4_u64; 9])
        .semaphore("semaphore", 5)
        .bounded_semaphore("bounded", 6)
        .condvar("condvar")
        .event("event")
        .barrier("barrier", 7)
        .once("once")
        .queue::<[u16; 3]>("queue", 8)
        .queue_bytes("bytes", 4, 5000)
        .map("map", &map::Options::<str, u64>::new())
        .list("list", &list::Options::<u64>::new())
}

pub const KINDS: [(&str, ObjectKind, &str); 16] = [
    ("value", ObjectKind::Value, "value"),
    ("atomic", ObjectKind::Atomic, "atomic"),
    ("array", ObjectKind::Array, "array"),
    ("mutex", ObjectKind::Mutex, "mutex"),
    ("re-entrant", ObjectKind::ReentrantMutex, "re-entrant mutex"),
    ("rw lock", ObjectKind::RwLock, "read-write lock"),
    ("semaphore", ObjectKind::Semaphore, "semaphore"),
    ("bounded", ObjectKind::BoundedSemaphore, "bounded semaphore"),
    ("condvar", ObjectKind::Condvar, "condition variable"),
    ("event", ObjectKind::Event, "event"),
    ("barrier", ObjectKind::Barrier, "barrier"),
    ("once", ObjectKind::Once, "once"),
    ("queue", ObjectKind::Queue, "queue"),
    ("bytes", ObjectKind::Queue, "queue"),
    ("map", ObjectKind::Map, "map"),
    ("list", ObjectKind::List, "list"),
];
