//! What: the latest value of each key of a track. A subscriber copies them all, a **snapshot**, and
//! then reads on in the ring. It passes over what the snapshot has, and misses nothing.
//!
//! Bytes: for each key a seqlock of four buffers (`raw/seqlock.rs`). A slot of such a track begins
//! with a word for the key.
//!
//! ```text
//!       ┌───────────┬─────────┐   ┌──────────┬───────┬─ ─ ─ ─ ─┐
//! key   │ committed │ writing │   │ position │ value │ ...     │   four buffers
//!       └───────────┴─────────┘   └──────────┴───────┴─ ─ ─ ─ ─┘
//!       ┌─────┬───────┐
//! slot  │ key │ value │
//!       └─────┴───────┘
//! ```
//!
//! Invariants
//! - I1: a key without a version has no value.
//! - I2: if tail is t, the latest value of each key has the position of the key's last message
//!   below t, or a later one. No position is above t.
//! - I3: if a latest value has the position t, the message at t is whole in its slot, and nothing
//!   but it is published there. So a publisher writes one message at a time.
//! - I4: a snapshot begins at a tail t, and goes on there. Of a key's messages from t on it passes
//!   over those up to the position of the value that it has loaded. These are at most as many as
//!   the capacity, plus 1. More, or a position above the tail as loaded afterwards, is `Corrupt`.
//!
//! Edges
//! - E8: `publish_key`: commit the latest value, then E1 of `mod.rs` · a snapshot: load tail by
//!   that, then the latest values. It sees those of all messages below that tail.
//! - E9: `publish_key`: store tail, then commit the next latest value · a snapshot: load that
//!   value, then tail. No position is above the tail. The seqlock orders both.
//!
//! Crash
//! - publisher, before it commits the latest value: the message does not exist, as in `mod.rs`.
//! - publisher, after that and before it stores tail: snapshots have the message, the stream does
//!   not. The successor publishes it before anything else (`finish`). It finds the key in the slot.
//! - subscriber: nothing. It moves its cursor when it has the whole snapshot.
//!
//! Source: the market data feeds of exchanges, whose snapshots have a sequence number for the feed
//! and one for each instrument (CME MDP 3.0, tags 369 and 83); fuzzy checkpoints of databases.

use super::consumer::{Consumer, Published, Read};
use super::producer::Producer;
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::seqlock::{CONTROL, SeqLockView};
use crate::raw::{Corrupt, Memory};

/// Buffers of a key's latest value. A power of two.
pub(crate) const BUFFERS: u64 = 4;

/// What a buffer holds besides the value: its position.
pub(crate) const HEADER_WORDS: usize = 1;

/// What a slot holds besides the value: its key.
pub(crate) const KEY_WORDS: usize = 1;

/// Words of the latest value of one key.
pub(crate) const fn words_of_key(value_words: usize) -> usize {
    CONTROL + BUFFERS as usize * (HEADER_WORDS + value_words)
}

/// The key and the value of a slot. They may be those of another message, until the read has
/// succeeded.
#[inline]
pub(crate) fn split_slot(slot: &[AtomicU64]) -> Result<(u64, &[AtomicU64]), Corrupt> {
    let (key, value) = slot.split_at_checked(KEY_WORDS).ok_or(Corrupt)?;
    Ok((load_first(key)?, value))
}

fn load_first(words: &[AtomicU64]) -> Result<u64, Corrupt> {
    // Relaxed: ordered by E2 of `mod.rs`, or by that of the seqlock.
    Ok(words.first().ok_or(Corrupt)?.load(Ordering::Relaxed))
}

/// The latest values of one track.
pub(crate) struct Latest<M: Memory> {
    /// Those of all keys.
    words: M::Words,
    keys: u64,
    value_words: usize,
}

impl<M: Memory> Latest<M> {
    pub(crate) fn new(words: M::Words, keys: u64, value_words: usize) -> Self {
        Self { words, keys, value_words }
    }

    #[inline]
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    #[inline]
    fn of(&self, key: u64) -> Option<SeqLockView<'_>> {
        if key >= self.keys {
            return None;
        }
        let (length, stride) = (words_of_key(self.value_words), HEADER_WORDS + self.value_words);
        let start = (key as usize).checked_mul(length)?;
        let (control, buffers) = self.words.get(start..start.checked_add(length)?)?.split_at_checked(CONTROL)?;
        SeqLockView::view(control, buffers, stride, BUFFERS)
    }

    /// The position of the latest value of a key, and what `copy` makes of its words. `None` if
    /// the key has none. `copy` must accept any words, and may be called several times.
    fn load<R>(
        &self,
        key: u64,
        mut copy: impl FnMut(&[AtomicU64]) -> Result<R, Corrupt>,
    ) -> Result<Option<(u64, R)>, Corrupt> {
        let latest = self.of(key).ok_or(Corrupt)?;
        if latest.version() == 0 {
            return Ok(None); // I1
        }
        let copied = latest.read(
            |words| {
                let (position, value) = words.split_at_checked(HEADER_WORDS).ok_or(Corrupt)?;
                Ok((load_first(position)?, copy(value)?))
            },
            |_| {},
        );
        copied?.0.map(Some)
    }
}

impl<M: Memory> Producer<M> {
    /// Publishes one message of a key. `fill` writes the value, twice. The caller has checked that
    /// there is room, and that there is such a key.
    #[inline]
    pub(crate) fn publish_key(
        &mut self,
        latest: &Latest<M>,
        key: u64,
        fill: impl Fn(&[AtomicU64]),
    ) -> Result<(), Corrupt> {
        let of_key = latest.of(key).ok_or(Corrupt)?;
        let position = self.position();
        let store = |words: &[AtomicU64], first: u64| {
            if let Some((header, value)) = words.split_first() {
                header.store(first, Ordering::Relaxed); // ordered by tail, or by the seqlock
                fill(value);
            }
        };
        self.publish(1, |_, slot| {
            store(slot, key);
            of_key.write(|buffer| store(buffer, position)); // E8, E9
        })
    }

    /// Publishes the message that the last publisher did not come to publish, if its key has it
    /// already. To be called before anything is published. Returns whether there was one.
    pub(crate) fn finish(&mut self, latest: &Latest<M>) -> Result<bool, Corrupt> {
        // Whatever is in the slot, it is that message's if the key's position says so (I3).
        let (key, _) = split_slot(self.next_slot().ok_or(Corrupt)?)?;
        match latest.load(key, |_| Ok(()))? {
            Some((position, ())) if position > self.position() => Err(Corrupt),
            Some((position, ())) if position == self.position() => {
                self.publish_written();
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// What a snapshot has of one track, from where it began.
pub(crate) struct Seen {
    /// Where it began.
    start: u64,
    /// Keys in order, each with the position of its value.
    latest: Vec<(u64, u64)>,
    /// Behind the last of these positions.
    end: u64,
    /// How many messages it may still pass over.
    allowance: u64,
}

impl Seen {
    /// For a snapshot of `keys` keys. `None` if there is no memory.
    pub(crate) fn with_keys(keys: u64) -> Option<Self> {
        let mut latest = Vec::new();
        latest.try_reserve_exact(keys as usize).ok()?;
        Some(Self { start: 0, latest, end: 0, allowance: 0 })
    }

    /// Begins the snapshot behind everything that is published. Returns false if the cursor was
    /// evicted.
    pub(crate) fn begin<M: Memory>(&mut self, consumer: &mut Consumer<M>) -> Result<bool, Corrupt> {
        self.start = consumer.reload_tail()?; // E8
        self.allowance = consumer.capacity().saturating_add(1);
        Ok(!consumer.is_evicted())
    }

    /// Loads the latest value of a key, of each key once and in order.
    pub(crate) fn load<M: Memory, R>(
        &mut self,
        latest: &Latest<M>,
        key: u64,
        copy: impl FnMut(&[AtomicU64]) -> Result<R, Corrupt>,
    ) -> Result<Option<(u64, R)>, Corrupt> {
        let loaded = latest.load(key, copy)?; // E9
        if let Some((position, _)) = loaded.as_ref().filter(|(position, _)| *position >= self.start) {
            self.latest.push((key, *position));
            self.end = self.end.max(position.saturating_add(1));
        }
        Ok(loaded)
    }

    /// Ends the snapshot: checks the positions of its values. Until [`go_on`](Self::go_on) the
    /// consumer stays where it was.
    pub(crate) fn end<M: Memory>(&self, consumer: &mut Consumer<M>) -> Result<(), Corrupt> {
        let tail = consumer.reload_tail()?; // E9
        if self.end > tail.saturating_add(1) { Err(Corrupt) } else { Ok(()) } // I4
    }

    /// Passes over everything that was published when the snapshot began. Returns what else is to
    /// be passed over, if anything is.
    pub(crate) fn go_on<M: Memory>(self, consumer: &mut Consumer<M>) -> Option<Self> {
        consumer.advance(self.start.wrapping_sub(consumer.position()));
        (self.end > self.start).then_some(self)
    }

    /// Where the snapshot began: it has the latest of all messages before.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    fn has(&self, key: u64, position: u64) -> bool {
        let found = self.latest.binary_search_by_key(&key, |&(key, _)| key);
        found.ok().and_then(|index| self.latest.get(index)).is_some_and(|&(_, latest)| position <= latest)
    }

    /// Messages at the front that the snapshot has.
    fn count_at_front<M: Memory>(&self, published: &Published<'_, M>) -> Result<u64, Corrupt> {
        for number in 0..published.count() {
            let (key, _) = split_slot(published.slot(number).ok_or(Corrupt)?)?;
            if !self.has(key, published.position().wrapping_add(number)) {
                return Ok(number);
            }
        }
        Ok(published.count())
    }

    /// Reads one message that the snapshot does not have. `None` if there were only others.
    pub(crate) fn read<M: Memory, R>(
        &mut self,
        consumer: &mut Consumer<M>,
        mut copy: impl FnMut(Published<'_, M>) -> Result<(u64, R), Corrupt>,
    ) -> Result<Read<Option<R>>, Corrupt> {
        let mut passed = 0;
        let read = consumer.read(|published| {
            passed = self.count_at_front(&published)?;
            match published.one(passed) {
                None => Ok((passed, None)),
                Some(one) => copy(one).map(|(used, read)| (passed.wrapping_add(used), Some(read))),
            }
        })?;
        if matches!(read, Read::Message(_)) {
            self.allowance = self.allowance.checked_sub(passed).ok_or(Corrupt)?; // I4
        }
        Ok(read)
    }

    /// Whether nothing more is to be passed over.
    pub(crate) fn is_over<M: Memory>(&self, consumer: &Consumer<M>) -> bool {
        consumer.position() >= self.end
    }
}
