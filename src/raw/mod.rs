//! The algorithms that live in shared memory.
//!
//! The rules of this folder:
//! - It uses only `crate::primitive` and bytemuck. `loom-tests` compiles the same files against a
//!   modelled `primitive`.
//! - Shared memory is atomic words. Whatever is read from there may be invalid, and is checked
//!   before it is used.
//! - Nothing blocks, panics or indexes.
//!
//! Every file opens with the same six headings. An edge `E1` names a release/acquire pair, and
//! stands as a comment at both ends. docs/ordering.md lists them all.

pub(crate) mod barrier;
pub(crate) mod broadcast;
pub(crate) mod event_count;
pub(crate) mod interrupt;
pub(crate) mod list;
pub(crate) mod map;
pub(crate) mod mpmc;
pub(crate) mod owner;
pub(crate) mod pacing;
pub(crate) mod pool;
pub(crate) mod reader_counts;
pub(crate) mod redelivery;
pub(crate) mod robust_lock;
pub(crate) mod rpc;
pub(crate) mod semaphore;
pub(crate) mod seqlock;
pub(crate) mod spsc;

use std::ops::Deref;

use crate::primitive::{AtomicU32, AtomicU64};

/// How an algorithm holds its shared words: as parts of a mapping, of a heap allocation, or of a
/// model.
pub trait Memory {
    type Word: Deref<Target = AtomicU64>;
    type Words: Deref<Target = [AtomicU64]>;
    type Futex: Deref<Target = AtomicU32>;
}

/// The peer wrote something that no correct peer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;
