//! The objects of `tombolo::sync` and their namespaces, within one process.

#[path = "../support/mod.rs"]
mod support;

mod array;
mod atomic;
mod barrier;
mod bounded_semaphore;
mod common;
mod condvar;
mod event;
mod every_kind;
mod large;
mod mutex;
mod namespace;
mod namespace_plan;
mod namespace_queue;
mod once;
mod reentrant_mutex;
mod rw_lock;
mod semaphore;
mod standalone;
mod thread_identity;
mod value;

use large::{store_large, use_large_names};
use standalone::use_standalone_names;

support::child_roles!(use_standalone_names, use_large_names, store_large);
