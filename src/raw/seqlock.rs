//! What: a value of any size that one writes and any number read. Nobody waits for anybody: a
//! reader copies a whole version, or tries again. The right to write is settled elsewhere
//! (`raw/robust_lock.rs`).
//!
//! Bytes: two words and 2^n buffers, n > 0: four buffers for readers that do not lock, two where a
//! lock keeps readers and writer apart.
//!
//! ```text
//! ┌───────────┬─────────┐   ┌──────────┬──────────┬─ ─ ─ ─ ─┐
//! │ committed │ writing │   │ buffer 0 │ buffer 1 │         │   version v is in buffer v mod 2^n
//! └───────────┴─────────┘   └──────────┴──────────┴─ ─ ─ ─ ─┘
//! ```
//!
//! Invariants
//! - I1: `writing` is `committed`, or one more. Both only grow.
//! - I2: the buffer of version v is written while `writing` is v, and not again before `writing` is
//!   v + 2^n.
//! - I3: `committed` is v only after version v is whole.
//!
//! Edges
//! - E1: `write`: store committed, Release · `try_read`: load committed, then fence Acquire. The
//!   version is whole.
//! - E2: `write`: store writing, fence Release, payload · `try_read`: payload, fence Acquire, load
//!   writing. A reader that sees any payload of a later version sees that the version was begun.
//! - E3: `write`: store writing, Release, after the last committed · `try_read`: load writing, then
//!   fence Acquire. A reader that sees that version v was begun sees that v - 1 was committed. So a
//!   reader that fails twice with the same two words has seen words that no correct writer leaves.
//!
//! Readers use relaxed loads and fences: of memory that cannot be written, only relaxed loads are
//! allowed.
//!
//! Crash
//! - (V1) writer, before it stores `committed`: the version does not exist. The next writer reuses
//!   its number and overwrites it.
//! - (V2) writer, after that: the version exists.
//! - reader: nothing.
//!
//! Source: Boehm, Can seqlocks get along with programming language memory models? (MSPC 2012).
//! Lamport's several buffers save readers most retries.

use std::ops::Deref;

use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::Corrupt;

/// The number of words beside the buffers.
pub(crate) const CONTROL: usize = 2;

/// A reader that is overwritten this often has a hostile writer.
const MAX_ATTEMPTS: u32 = 1 << 14;

/// A seqlock over two words `W` and the words `B` of its buffers, owned or borrowed.
pub(crate) struct SeqLock<W, B> {
    committed: W,
    writing: W,
    buffers: B,
    /// Words of a buffer.
    stride: usize,
    /// Buffers, less 1.
    mask: u64,
}

/// A seqlock over borrowed words.
pub(crate) type SeqLockView<'a> = SeqLock<&'a AtomicU64, &'a [AtomicU64]>;

/// The words `committed` and `writing` that made a read fail.
pub(crate) type Overwritten = (u64, u64);

/// The failed attempts of one read.
#[derive(Default)]
struct Retries {
    attempts: u32,
    last: Option<Overwritten>,
}

impl Retries {
    /// Records one more failure. Returns how many there were before, or an error if no correct
    /// writer can have caused it.
    #[cold]
    #[inline(never)]
    fn next(&mut self, now: Overwritten) -> Result<u32, Corrupt> {
        let attempts = self.attempts;
        self.attempts += 1;
        let is_hopeless = self.attempts == MAX_ATTEMPTS || self.last.replace(now) == Some(now);
        if is_hopeless { Err(Corrupt) } else { Ok(attempts) }
    }
}

impl<'a> SeqLock<&'a AtomicU64, &'a [AtomicU64]> {
    /// A view of `count` buffers, a power of two. `None` if there are no control words.
    #[inline]
    pub(crate) fn view(control: &'a [AtomicU64], buffers: &'a [AtomicU64], stride: usize, count: u64) -> Option<Self> {
        let [committed, writing] = control.first_chunk::<CONTROL>()?;
        Some(Self::new([committed, writing], buffers, stride, count))
    }
}

impl<W: Deref<Target = AtomicU64>, B: Deref<Target = [AtomicU64]>> SeqLock<W, B> {
    /// Of `count` buffers, a power of two.
    #[inline]
    pub(crate) fn new([committed, writing]: [W; CONTROL], buffers: B, stride: usize, count: u64) -> Self {
        debug_assert!(count.is_power_of_two());
        Self { committed, writing, buffers, stride, mask: count.wrapping_sub(1) }
    }

    #[inline(always)]
    fn buffer(&self, version: u64) -> &[AtomicU64] {
        let start = ((version & self.mask) as usize).wrapping_mul(self.stride);
        let rest = self.buffers.get(start..).unwrap_or_default();
        rest.get(..self.stride).unwrap_or_default()
    }

    /// The number of the last whole version.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        let version = self.committed.load(Ordering::Relaxed); // ordered by the fence
        fence(Ordering::Acquire); // E1
        version
    }

    /// Attempts once to copy the last version. Always succeeds for the holder of the right to
    /// write.
    #[inline(always)]
    pub(crate) fn try_read<R>(&self, copy: impl FnOnce(&[AtomicU64]) -> R) -> Result<(R, u64), Overwritten> {
        let version = self.version();
        let copied = copy(self.buffer(version));
        fence(Ordering::Acquire); // E2
        let writing = self.writing.load(Ordering::Relaxed); // ordered by the fences
        if writing.wrapping_sub(version) <= self.mask {
            return Ok((copied, version));
        }
        fence(Ordering::Acquire); // E3
        Err((version, writing))
    }

    /// Copies the last version, and returns its number, too. Calls `on_retry` after each attempt
    /// that a writer spoiled.
    #[inline(always)]
    pub(crate) fn read<R>(
        &self,
        mut copy: impl FnMut(&[AtomicU64]) -> R,
        mut on_retry: impl FnMut(u32),
    ) -> Result<(R, u64), Corrupt> {
        let mut retries = Retries::default();
        loop {
            match self.try_read(|words| copy(words)) {
                Ok(done) => return Ok(done),
                Err(now) => on_retry(retries.next(now)?),
            }
        }
    }

    /// Writes the next version, and returns its number. The caller holds the right to write.
    #[inline(always)]
    pub(crate) fn write(&self, fill: impl FnOnce(&[AtomicU64])) -> u64 {
        // Relaxed: the last writer's store, which came with the right to write.
        let version = self.committed.load(Ordering::Relaxed).wrapping_add(1);
        self.writing.store(version, Ordering::Release); // E3
        fence(Ordering::Release); // E2
        fill(self.buffer(version));
        self.committed.store(version, Ordering::Release); // E1
        version
    }
}
