//! Byte messages as a queue carries them: short ones in the slot, longer ones in a place of the pool that the slot names.
//!
//! ```text
//!  a slot's payload   63                       1      0
//!                    ├──────────────────────────┼────────┼──────────────────────┬──────────────────────┐
//!                    │ length in bytes          │ POOLED │ place, or bytes ..   │ owner, or bytes ..   │ bytes ..
//!                    └──────────────────────────┴────────┴──────────────────────┴──────────────────────┘
//! ```
//!
//! The pool's first places are blocks, which are mapped. The rest are extents: parts of the file that are read and written
//! as a file, because memory for the longest message many times over is there only once it is used, and if there is none
//! then that must be an error and not a signal.

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use crate::error::{RecvError, SendError};
use crate::primitive::{AtomicU64, Ordering, WORD, load_bytes, load_short, store_bytes, store_short};
use crate::queue::state::QueueState;
use crate::raw::mpmc;
use crate::raw::pool::{BlockRef, Pool};
use crate::region::Region;
use crate::region::layout::queue::QueueLayout;
use crate::region::words::{Mapped, Words};
use crate::sys::available_memory::is_available;
use crate::sys::{file, mapping};

const POOLED: u64 = 1;

/// How much memory an extent keeps from one message to the next: to get it anew for each costs more than to copy it. The
/// first ones are used first, and keep more; all of them together keep 64 MiB.
fn kept(extent: u64) -> u64 {
    KEPT.get(extent as usize).map_or(0, |mib| mib << 20)
}

/// Bytes that a handle may put into extents without asking whether there is memory for them: short messages are sent
/// without a system call more.
const UNASKED: u64 = 1 << 20;

/// In MiB.
const KEPT: [u64; 12] = [32, 16, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1];

/// Why a message that was received cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadError {
    Corrupt,
    OutOfMemory,
}

impl From<PayloadError> for RecvError {
    fn from(reason: PayloadError) -> Self {
        match reason {
            PayloadError::Corrupt => Self::Corrupt,
            PayloadError::OutOfMemory => Self::OutOfMemory,
        }
    }
}

/// What a slot says about its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    length: u64,
    /// Where it is, if not in the slot.
    token: Option<BlockRef>,
}

impl Label {
    /// Words of one that names a place.
    pub(crate) const POOLED_WORDS: usize = 3;

    /// For a message that fits into the slot.
    #[inline]
    pub(crate) fn inline(message: &[u8]) -> Self {
        Self { length: message.len() as u64, token: None }
    }

    /// The ring publishes it.
    #[inline(always)]
    pub(crate) fn write(self, payload: &[AtomicU64]) {
        let [first, place, owner, ..] = payload else { return };
        first.store(self.length << 1 | u64::from(self.token.is_some()), Ordering::Relaxed);
        if let Some(token) = self.token {
            place.store(token.block, Ordering::Relaxed);
            owner.store(token.owner, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(payload: &[AtomicU64]) -> Self {
        let word = |at: usize| payload.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        let token = (word(0) & POOLED != 0).then(|| BlockRef { block: word(1), owner: word(2) });
        Self { length: word(0) >> 1, token }
    }
}

/// Access to the pool of one queue.
pub(crate) struct PayloadPool {
    pool: Pool<Mapped>,
    blocks: Words,
    layout: QueueLayout,
    inline_bytes: usize,
    /// Where we last found a place: it is likely to be free again, and in our cache.
    hint: u64,
    /// Bytes that went into extents since the last question whether there is memory for them.
    unasked: u64,
    /// What each lane had taken when the first dead one was repaired.
    taken: OnceLock<BTreeMap<usize, Vec<BlockRef>>>,
}

impl PayloadPool {
    pub(crate) fn new(region: &Region, lane: usize) -> Self {
        let layout = *QueueState::of(region).layout;
        let (start, length) = layout.owners();
        let pool = Pool::new(region.words(start, length));
        let (start, length) = layout.blocks();
        let share = layout.all_blocks() / layout.participants() as u64;
        let inline_bytes = layout.geometry.inline_bytes.min(layout.max_message_bytes) as usize;
        Self {
            pool,
            blocks: region.words(start, length),
            layout,
            inline_bytes,
            hint: lane as u64 * share,
            unasked: 0,
            taken: OnceLock::new(),
        }
    }

    /// The longest message that goes into a slot.
    #[inline]
    pub(crate) fn inline_bytes(&self) -> usize {
        self.inline_bytes
    }

    /// The longest message.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.layout.max_message_bytes as usize
    }

    /// Puts a message into the block that was used last or the one after it, if it fits and one of them is free.
    #[inline(always)]
    pub(crate) fn stow_at_once(&mut self, lane: usize, message: &[u8]) -> Option<Label> {
        let geometry = self.layout.geometry;
        let after = if self.hint + 1 < geometry.blocks { self.hint + 1 } else { 0 };
        if message.len() as u64 > geometry.block_bytes || self.hint >= geometry.blocks {
            return None;
        }
        let token = self.pool.allocate_at(lane, self.hint).or_else(|| self.pool.allocate_at(lane, after))?;
        let Some(words) = self.block(token.block) else {
            self.pool.free(token);
            return None;
        };
        store_bytes(words, message);
        self.hint = token.block;
        Some(Label { length: message.len() as u64, token: Some(token) })
    }

    /// Puts a message into a place of the pool. None: there is none free now.
    pub(crate) fn stow(&mut self, region: &Region, lane: usize, message: &[u8]) -> Result<Option<Label>, SendError> {
        let length = message.len() as u64;
        let geometry = self.layout.geometry;
        let block =
            if length <= geometry.block_bytes { self.pool.allocate(lane, 0, geometry.blocks, self.hint) } else { None };
        let Some(token) =
            block.or_else(|| self.pool.allocate(lane, geometry.blocks, geometry.extents, geometry.blocks))
        else {
            return Ok(None);
        };
        if token.block < geometry.blocks {
            self.hint = token.block;
        }
        let stored = match self.block(token.block) {
            Some(words) => {
                store_bytes(words, message);
                Ok(())
            }
            None => self.write_extent(region, lane, message, token.block - geometry.blocks),
        };
        if stored.is_err() {
            self.pool.free(token);
            return Err(SendError::OutOfMemory);
        }
        Ok(Some(Label { length, token: Some(token) }))
    }

    /// Writes a message into an extent that this lane has taken. If there is no memory for it, the extent has none
    /// afterwards.
    fn write_extent(&mut self, region: &Region, lane: usize, message: &[u8], index: u64) -> io::Result<()> {
        let (file, at, length) = (region.file(), self.layout.extent(index), message.len() as u64);
        self.unasked = self.unasked.saturating_add(length);
        let asks = self.unasked >= UNASKED;
        if asks {
            self.unasked = 0;
        }
        let write = || {
            if asks && !has_room(region, at, length) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            file::write_all_at(file, message, at)
        };
        write().or_else(|_| {
            self.discard(region, index, 0, u64::MAX);
            self.release_kept(region, lane);
            write().inspect_err(|_| self.discard(region, index, 0, u64::MAX))
        })
    }

    /// Gives the memory back that free extents keep for the next message.
    pub(crate) fn release_kept(&self, region: &Region, lane: usize) {
        for index in 0..self.layout.geometry.extents.min(KEPT.len() as u64) {
            // Taken meanwhile, so that nobody writes to it.
            if let Some(token) = self.pool.allocate_at(lane, self.layout.geometry.blocks + index) {
                self.discard(region, index, 0, u64::MAX);
                self.pool.free(token);
            }
        }
    }

    /// Gives the memory back that extents keep behind the messages in them. Nobody else may take part
    /// in the queue: a message that is received makes room for a longer one.
    pub(crate) fn release_behind_messages(&self, region: &Region, ring: &mpmc::RingWords<Mapped>) {
        // A ring that cannot be read keeps its memory.
        let _ = ring.for_each_message(|payload| {
            let label = Label::read(payload);
            let extent = label.token.and_then(|token| token.block.checked_sub(self.layout.geometry.blocks));
            if let Some(index) = extent.filter(|&index| index < self.layout.geometry.extents) {
                let length = label.length.min(self.layout.max_message_bytes).next_multiple_of(mapping::PAGE);
                self.discard(region, index, length, u64::MAX);
            }
        });
    }

    /// Gives memory of an extent back, from one byte up to another. If that fails it stays with the extent.
    fn discard(&self, region: &Region, index: u64, from: u64, to: u64) {
        // Whole pages: only those are given back, and the extent ends with one.
        let to = to.min(self.layout.max_message_bytes).next_multiple_of(mapping::PAGE);
        if from < to {
            let _ = file::discard(region.file(), self.layout.extent(index) + from, to - from);
        }
    }

    /// Bytes of memory that the extents have, as far as the file system says.
    pub(crate) fn extents_bytes(&self, region: &Region) -> u64 {
        match self.layout.geometry.extents {
            0 => 0,
            _ => file::metadata(region.file()).map_or(0, |facts| facts.allocated.saturating_sub(self.layout.mapped())),
        }
    }

    /// What was stowed will not be sent.
    pub(crate) fn unstow(&self, region: &Region, label: Label) {
        if let Some(token) = label.token {
            self.give_back(region, token, label.length);
        }
    }

    /// Writes a slot's payload.
    #[inline]
    pub(crate) fn fill(label: Label, message: &[u8], payload: &[AtomicU64]) {
        match label.token {
            None => Self::fill_inline(message, payload),
            Some(_) => label.write(payload),
        }
    }

    /// Writes the payload of a slot in which the message fits.
    #[inline(always)]
    pub(crate) fn fill_inline(message: &[u8], payload: &[AtomicU64]) {
        if let Some((first, rest)) = payload.split_first() {
            first.store((message.len() as u64) << 1, Ordering::Relaxed); // the ring publishes it
            store_short(rest, message);
        }
    }

    /// Takes the message that a slot's payload is or names, and gives its place back. True: it had one.
    #[inline(always)]
    pub(crate) fn open(
        &self,
        region: &Region,
        payload: &[AtomicU64],
        message: &mut Vec<u8>,
    ) -> Result<bool, PayloadError> {
        let Some((first, rest)) = payload.split_first() else { return Err(PayloadError::Corrupt) };
        let first = first.load(Ordering::Relaxed);
        if first & POOLED != 0 {
            return self.open_pooled(region, payload, message);
        }
        if first >> 1 > self.inline_bytes as u64 {
            return Err(PayloadError::Corrupt);
        }
        resize(message, (first >> 1) as usize)?;
        load_short(rest, message);
        Ok(false)
    }

    #[cold]
    #[inline(never)]
    fn open_pooled(&self, region: &Region, payload: &[AtomicU64], message: &mut Vec<u8>) -> Result<bool, PayloadError> {
        let label = Label::read(payload);
        let token = label.token.ok_or(PayloadError::Corrupt)?; // a peer may have changed it
        let outcome = self.read_place(region, token, label.length, message);
        self.give_back(region, token, label.length);
        outcome.map(|()| true)
    }

    fn read_place(
        &self,
        region: &Region,
        token: BlockRef,
        length: u64,
        message: &mut Vec<u8>,
    ) -> Result<(), PayloadError> {
        let (geometry, limit) = (self.layout.geometry, self.layout.max_message_bytes);
        let most = if token.block < geometry.blocks { geometry.block_bytes.min(limit) } else { limit };
        if length > most || token.block >= self.layout.all_blocks() {
            return Err(PayloadError::Corrupt);
        }
        let length = usize::try_from(length).map_err(|_| PayloadError::Corrupt)?;
        resize(message, length)?;
        match self.block(token.block) {
            Some(words) => {
                load_bytes(words, message);
                Ok(())
            }
            None => file::read_exact_at(region.file(), message, self.layout.extent(token.block - geometry.blocks))
                .map_err(|_| PayloadError::Corrupt),
        }
    }

    /// Gives back the place of a message that nobody will receive.
    pub(crate) fn lose(&self, region: &Region, payload: &[AtomicU64]) {
        self.unstow(region, Label::read(payload));
    }

    /// Gives back what a dead lane took and did not send. Its claims are repaired. For one repair: all lanes that it is called
    /// for were dead at the first call, so that one look at all places is enough for them.
    pub(crate) fn reclaim(&self, region: &Region, ring: &mpmc::RingWords<Mapped>, lane: usize) {
        let take_out_sent = |tokens: &mut Vec<BlockRef>| {
            let mut sent = Vec::new();
            let read = ring.for_each_message(|payload| {
                let Some(token) = Label::read(payload).token else { return };
                if tokens.binary_search(&token).is_ok() {
                    sent.push(token);
                }
            });
            sent.sort_unstable();
            // What cannot be read is not given back.
            tokens.retain(|token| read.is_ok() && sent.binary_search(token).is_err());
        };
        let taken = self.taken.get_or_init(|| self.pool.by_owner(self.layout.participants()));
        let taken = taken.get(&lane).cloned().unwrap_or_default();
        self.pool.free_unsent_of(taken, take_out_sent, |token| self.give_back(region, token, u64::MAX));
    }

    /// Places of the pool in use.
    pub(crate) fn taken(&self) -> u64 {
        self.pool.allocated()
    }

    /// `length`: how much of the place was used, or more.
    fn give_back(&self, region: &Region, token: BlockRef, length: u64) {
        if let Some(index) = token.block.checked_sub(self.layout.geometry.blocks)
            && index < self.layout.geometry.extents
            && length > kept(index)
            && self.pool.is_allocated(token)
        {
            // Before anybody else can have it.
            self.discard(region, index, kept(index), length);
        }
        self.pool.free(token);
    }

    /// The words of a place that is mapped.
    fn block(&self, place: u64) -> Option<&[AtomicU64]> {
        let length = self.layout.geometry.block_bytes as usize / WORD;
        let start = usize::try_from(place).ok()?.checked_mul(length)?;
        self.blocks.get(start..start.checked_add(length)?).filter(|_| place < self.layout.geometry.blocks)
    }
}

/// Whether so much of the file can be written without more memory than there is. On a disk it can.
fn has_room(region: &Region, at: u64, length: u64) -> bool {
    let file = region.file();
    is_available(length)
        || !file::is_memory(file)
        // Some of it may be there already.
        || is_available(length - file::present(file, at, length).min(length))
}

/// Makes room for a message; its old content is of no use.
#[inline(always)]
fn resize(message: &mut Vec<u8>, length: usize) -> Result<(), PayloadError> {
    if length > message.len() {
        lengthen(message, length)?;
    }
    message.truncate(length);
    Ok(())
}

#[cold]
fn lengthen(message: &mut Vec<u8>, length: usize) -> Result<(), PayloadError> {
    message.try_reserve(length.saturating_sub(message.len())).map_err(|_| PayloadError::OutOfMemory)?;
    message.resize(length, 0);
    Ok(())
}
