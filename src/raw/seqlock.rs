//! What: a value of any size that one writes and any number read, none of whom waits for another; a reader gets a whole version,
//! or tries again. Who may write is settled elsewhere (`raw/lock.rs`).
//!
//! Bytes: two words and 2^n buffers, n > 0 (four for readers that do not lock, two where a lock keeps them apart).
//!
//! ```text
//! ┌───────────┬─────────┐   ┌──────────┬──────────┬─ ─ ─ ─ ─┐
//! │ committed │ writing │   │ buffer 0 │ buffer 1 │         │   version v is in buffer v mod 2^n
//! └───────────┴─────────┘   └──────────┴──────────┴─ ─ ─ ─ ─┘
//! ```
//!
//! Invariants
//! - I1: `writing` is `committed`, or one more; both grow only.
//! - I2: the buffer of version v is written while `writing` is v, and not again before `writing` is v + 2^n.
//! - I3: `committed` is v only after version v is whole.
//!
//! Edges
//! - E1: `write`: store committed, Release · `try_read`: load committed, Acquire: the version is whole.
//! - E2: `write`: store writing, fence Release, payload · `try_read`: payload, fence Acquire, load writing: who sees any of a later
//!   version's payload sees that it was begun.
//! - E3: `write`: store writing, Release, after the last committed · `try_read`: load writing, Acquire: who sees that version v was begun sees
//!   that v - 1 was committed. So one who fails twice over the same words has seen words that no writer left.
//!
//! Crash
//! - (V1) writer, before `committed`: the version does not exist. The next writer, of the same version number, writes over it.
//! - (V2) writer, after it: it exists.
//! - reader: nothing.
//!
//! Source: Boehm, Can seqlocks get along with programming language memory models? (MSPC 2012); Lamport's buffers against the waiting.

use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::Corrupt;

/// Words beside the buffers.
pub(crate) const CONTROL: usize = 2;

/// A reader that was lapped so often has met somebody who wants it to be.
const ATTEMPTS: u32 = 1 << 14;

pub(crate) struct SeqLock<'a> {
    committed: &'a AtomicU64,
    writing: &'a AtomicU64,
    buffers: &'a [AtomicU64],
    /// Words of a buffer.
    stride: usize,
    /// Buffers, less 1.
    mask: u64,
}

/// Where a failed reader found the words.
pub(crate) type Overwritten = (u64, u64);

/// Attempts that came to nothing.
#[derive(Default)]
struct Failed {
    attempts: u32,
    last: Option<Overwritten>,
}

impl Failed {
    /// How many they are, this one not counted; there may be one more.
    #[cold]
    #[inline(never)]
    fn once_more(&mut self, now: Overwritten) -> Result<u32, Corrupt> {
        let attempts = self.attempts;
        self.attempts += 1;
        let is_hopeless = self.attempts == ATTEMPTS || self.last.replace(now) == Some(now);
        if is_hopeless { Err(Corrupt) } else { Ok(attempts) }
    }
}

impl<'a> SeqLock<'a> {
    /// Over `count` buffers, a power of two. None: no control words.
    #[inline]
    pub(crate) fn new(control: &'a [AtomicU64], buffers: &'a [AtomicU64], stride: usize, count: u64) -> Option<Self> {
        let [committed, writing] = control.first_chunk::<CONTROL>()?;
        Some(Self { committed, writing, buffers, stride, mask: count.wrapping_sub(1) })
    }

    #[inline(always)]
    fn buffer(&self, version: u64) -> &'a [AtomicU64] {
        let start = ((version & self.mask) as usize).wrapping_mul(self.stride);
        let rest = self.buffers.get(start..).unwrap_or_default();
        rest.get(..self.stride).unwrap_or_default()
    }

    /// The last whole version's number.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.committed.load(Ordering::Acquire) // E1
    }

    /// One attempt to copy the last version out; for who holds the right to write it does.
    #[inline(always)]
    pub(crate) fn try_read<R>(&self, copy: impl FnOnce(&[AtomicU64]) -> R) -> Result<(R, u64), Overwritten> {
        let version = self.version(); // E1
        let copied = copy(self.buffer(version));
        fence(Ordering::Acquire); // E2
        let writing = self.writing.load(Ordering::Acquire); // E3
        if writing.wrapping_sub(version) <= self.mask { Ok((copied, version)) } else { Err((version, writing)) }
    }

    /// Copies the last version out, and says its number; `lapped` runs after each attempt that a writer spoiled.
    #[inline(always)]
    pub(crate) fn read<R>(
        &self,
        mut copy: impl FnMut(&[AtomicU64]) -> R,
        mut lapped: impl FnMut(u32),
    ) -> Result<(R, u64), Corrupt> {
        let mut failed = Failed::default();
        loop {
            match self.try_read(|words| copy(words)) {
                Ok(done) => return Ok(done),
                Err(now) => lapped(failed.once_more(now)?),
            }
        }
    }

    /// Writes the next version; says its number. Only for who holds the right to write.
    #[inline(always)]
    pub(crate) fn write(&self, fill: impl FnOnce(&[AtomicU64])) -> u64 {
        // Relaxed: the last writer's, which came with the right to write.
        let version = self.committed.load(Ordering::Relaxed).wrapping_add(1);
        self.writing.store(version, Ordering::Release); // E3
        fence(Ordering::Release); // E2
        fill(self.buffer(version));
        self.committed.store(version, Ordering::Release); // E1
        version
    }
}
