//! The crash sweep of objects: each operation on an object is cut off by SIGKILL after every step
//! that another process could notice.

#![cfg(target_arch = "x86_64")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/sweep.rs"]
mod sweep;

mod array;
mod barrier;
mod bounded_semaphore;
mod common;
mod condvar;
mod event;
mod list;
mod map;
mod mutex;
mod namespace;
mod namespace_queue;
mod objects;
mod once;
mod repair;
mod rw_lock;
mod semaphore;
mod sweeps;
mod value;
