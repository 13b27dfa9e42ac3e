//! The payload of byte messages. A short message lies in its slot. A longer one lies in a block of
//! the pool, and the slot holds a reference to it.
//!
//! ```text
//!  a slot's payload   63                       1      0
//!                    ├──────────────────────────┼────────┼──────────────────────┬──────────────────────┐
//!                    │ length in bytes          │ POOLED │ block, or bytes ..   │ owner, or bytes ..   │ bytes ..
//!                    └──────────────────────────┴────────┴──────────────────────┴──────────────────────┘
//! ```
//!
//! The first blocks of the pool are mapped. The rest are extents (region/extents.rs), each as long
//! as the longest message.
//!
//! A message in a block can be read in place (`queue/zero_copy.rs`). Then the receiver takes the
//! block over instead of freeing it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use crate::error::{RecvError, SendError};
use crate::primitive::{AtomicU64, Ordering, WORD, load_bytes, load_short, store_bytes, store_short};
use crate::queue::redelivery::Redelivery;
use crate::queue::state::QueueState;
use crate::raw::Corrupt;
use crate::raw::mpmc::RingWords;
use crate::raw::pool::{BlockRef, Pool};
use crate::raw::redelivery::{Deliveries, Standing, standing};
use crate::region::Region;
use crate::region::extents::{CHECK_EVERY, has_room};
use crate::region::layout::queue::QueueLayout;
use crate::region::words::{Mapped, Words};
use crate::sys::{file, mapping};

/// In the first word of a payload: the message lies in the pool.
const POOLED: u64 = 1;

/// Memory that the first extents retain when they are freed, in MiB: 64 altogether. To allocate it
/// anew for each message takes longer than to copy the message. The first extents are used first.
const RETAINED: [u64; 12] = [32, 16, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1];

fn retained_bytes(extent: u64) -> u64 {
    RETAINED.get(extent as usize).map_or(0, |mib| mib << 20)
}

/// Why a message that was received cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadError {
    Corrupt,
    OutOfMemory,
}

impl From<PayloadError> for RecvError {
    fn from(reason: PayloadError) -> Self {
        match reason {
            PayloadError::Corrupt => Corrupt.into(),
            PayloadError::OutOfMemory => Self::OutOfMemory,
        }
    }
}

/// Length and place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PayloadHeader {
    length: u64,
    /// Where it lies, if not in the slot.
    block: Option<BlockRef>,
}

impl PayloadHeader {
    /// Words of a header that refers to a block.
    pub(crate) const POOLED_WORDS: usize = 3;

    /// For a message that was written to a block in place.
    pub(crate) fn in_block(length: usize, block: BlockRef) -> Self {
        Self { length: length as u64, block: Some(block) }
    }

    pub(super) fn length(self) -> u64 {
        self.length
    }

    pub(super) fn block(self) -> Option<BlockRef> {
        self.block
    }

    /// For a message that fits into the slot.
    #[inline]
    pub(crate) fn inline(message: &[u8]) -> Self {
        Self { length: message.len() as u64, block: None }
    }

    // Relaxed, here and below: the ring publishes the payload.
    #[inline(always)]
    pub(crate) fn store(self, payload: &[AtomicU64]) {
        let [first, block, owner, ..] = payload else { return };
        first.store(self.length << 1 | u64::from(self.block.is_some()), Ordering::Relaxed);
        if let Some(reference) = self.block {
            block.store(reference.block, Ordering::Relaxed);
            owner.store(reference.owner, Ordering::Relaxed);
        }
    }

    pub(crate) fn load(payload: &[AtomicU64]) -> Self {
        let word = |at: usize| payload.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        let block = (word(0) & POOLED != 0).then(|| BlockRef { block: word(1), owner: word(2) });
        Self { length: word(0) >> 1, block }
    }
}

/// A message that a receiver has taken out of its slot.
pub(crate) enum TakenMessage {
    /// It lay in its slot, or in an extent, which is free now.
    Copied { message: Vec<u8>, has_freed_extent: bool },
    /// It lies in a block, which is the receiver's now.
    InBlock { block: BlockRef, length: usize },
}

/// A participant's access to the payload pool of a queue.
pub(crate) struct PayloadPool {
    pool: Pool<Mapped>,
    blocks: Words,
    layout: QueueLayout,
    inline_bytes: usize,
    /// The block that was allocated last: it is likely to be free again, and in our cache.
    recent: u64,
    /// The blocks and extents of which the last message that found none free can use any.
    wanted: Range<u64>,
    /// Bytes written to extents since the last check for available memory.
    unchecked_bytes: u64,
    /// If messages of the dead are delivered again.
    redelivery: Option<Redelivery>,
    /// What each participant had allocated when the first dead one was repaired.
    allocated: OnceLock<BTreeMap<usize, Vec<BlockRef>>>,
}

impl PayloadPool {
    pub(crate) fn new(region: &Region, participant: usize) -> Self {
        let state = QueueState::of(region);
        let layout = *state.layout;
        let (start, length) = layout.owners();
        let owners = region.words(start, length);
        let redelivery = Redelivery::of(state, participant);
        let pool = if redelivery.is_some() { Pool::with_counts(owners) } else { Pool::new(owners) };
        let (start, length) = layout.blocks();
        let share = layout.all_blocks() / layout.participants() as u64;
        let inline_bytes = match redelivery {
            Some(_) => 0,
            None => layout.geometry.inline_bytes.min(layout.max_message_bytes) as usize,
        };
        Self {
            pool,
            blocks: region.words(start, length),
            layout,
            inline_bytes,
            recent: participant as u64 * share,
            wanted: 0..layout.all_blocks(),
            unchecked_bytes: 0,
            redelivery,
            allocated: OnceLock::new(),
        }
    }

    /// The longest message that fits into a slot, in bytes.
    #[inline]
    pub(crate) fn inline_bytes(&self) -> usize {
        self.inline_bytes
    }

    /// The longest message, in bytes.
    #[inline]
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.layout.max_message_bytes as usize
    }

    /// Writes a message to the block that was allocated last or to the one after it, if the message
    /// fits and one of them is free.
    #[inline(always)]
    pub(crate) fn write_to_recent_block(&mut self, participant: usize, message: &[u8]) -> Option<PayloadHeader> {
        let geometry = self.layout.geometry;
        let next = if self.recent + 1 < geometry.blocks { self.recent + 1 } else { 0 };
        if message.len() as u64 > geometry.block_bytes || self.recent >= geometry.blocks {
            return None;
        }
        let block =
            self.pool.allocate_at(participant, self.recent).or_else(|| self.pool.allocate_at(participant, next))?;
        let Some(words) = self.block_words(block.block) else {
            self.pool.free(block);
            return None;
        };
        self.fence_before_write();
        store_bytes(words, message);
        self.recent = block.block;
        Some(PayloadHeader { length: message.len() as u64, block: Some(block) })
    }

    /// The longest message that fits into a block, in bytes. 0 if there are no blocks.
    pub(crate) fn max_block_message_bytes(&self) -> usize {
        self.layout.geometry.block_bytes.min(self.layout.max_message_bytes) as usize
    }

    /// Allocates a free block for a message that is to be written in place.
    pub(crate) fn allocate_block(&mut self, participant: usize) -> Option<BlockRef> {
        let blocks = self.layout.geometry.blocks;
        let Some(block) = self.pool.allocate(participant, 0, blocks, self.recent) else {
            self.wanted = 0..blocks;
            return None;
        };
        self.recent = block.block;
        self.fence_before_write();
        Some(block)
    }

    /// Call when a block is allocated: somebody may still read it as a dead letter.
    #[inline]
    fn fence_before_write(&self) {
        if self.redelivery.is_some() {
            Deliveries::<Mapped>::fence_before_write();
        }
    }

    /// If messages of the dead are delivered again.
    #[inline]
    pub(super) fn redelivery(&self) -> Option<&Redelivery> {
        self.redelivery.as_ref()
    }

    /// Writes the slot, which the sender has claimed, of a message in the pool.
    pub(super) fn write_reference(&self, header: PayloadHeader, slot: &[AtomicU64]) {
        header.store(slot);
        if let Some(redelivery) = &self.redelivery {
            redelivery.note_sent(header);
        }
    }

    /// Writes a value to a free block. Returns `None` if there is none.
    pub(super) fn write_value(
        &mut self,
        participant: usize,
        write: impl FnOnce(&[AtomicU64]),
    ) -> Result<Option<PayloadHeader>, SendError> {
        let Some(block) = self.allocate_block(participant) else { return Ok(None) };
        let Some(words) = self.block_words(block.block) else {
            self.pool.free(block);
            return Err(Corrupt.into());
        };
        write(words);
        Ok(Some(PayloadHeader { length: self.layout.geometry.block_bytes, block: Some(block) }))
    }

    /// The value in a block.
    pub(super) fn value_words(&self, block: BlockRef) -> Result<&[AtomicU64], RecvError> {
        self.block_words(block.block).ok_or_else(|| Corrupt.into())
    }

    /// Copies the message in a block that nobody changes, and leaves it there.
    #[inline]
    pub(super) fn copy_message(
        &self,
        region: &Region,
        block: BlockRef,
        message: &mut Vec<u8>,
    ) -> Result<(), PayloadError> {
        let length = self.redelivery.as_ref().map_or(0, |redelivery| redelivery.length(block.block));
        match self.block_words(block.block) {
            Some(words) if length <= self.max_block_message_bytes() as u64 => {
                resize(message, length as usize)?;
                load_short(words, message);
                Ok(())
            }
            _ => self.read_block(region, block, length, message),
        }
    }

    /// Frees a block that the caller holds. False: it does not.
    #[inline]
    pub(super) fn finish(&self, region: &Region, held: BlockRef) -> bool {
        match &self.redelivery {
            Some(redelivery) if held.block < self.layout.geometry.blocks => redelivery.deliveries().finish(held),
            Some(redelivery) => self.finish_extent(region, redelivery, held),
            None => false,
        }
    }

    #[cold]
    fn finish_extent(&self, region: &Region, redelivery: &Redelivery, held: BlockRef) -> bool {
        // First, or a message whose memory is released would be delivered again.
        let ended = redelivery.deliveries().end(held);
        ended.map(|extent| self.free_block(region, extent, u64::MAX)).is_some()
    }

    /// The words of all blocks, and which of them is the first of one block.
    pub(crate) fn block_start(&self, block: u64) -> Option<(&Words, usize)> {
        let start = usize::try_from(block).ok()?.checked_mul(self.layout.geometry.block_bytes as usize / WORD)?;
        (block < self.layout.geometry.blocks).then_some((&self.blocks, start))
    }

    /// Writes a message to a free block or extent. Returns `None` if there is none.
    pub(crate) fn write(
        &mut self,
        region: &Region,
        participant: usize,
        message: &[u8],
    ) -> Result<Option<PayloadHeader>, SendError> {
        let length = message.len() as u64;
        let geometry = self.layout.geometry;
        let is_short = length <= geometry.block_bytes;
        let block = if is_short { self.pool.allocate(participant, 0, geometry.blocks, self.recent) } else { None };
        let extent = || self.pool.allocate(participant, geometry.blocks, geometry.extents, geometry.blocks);
        let Some(block) = block.or_else(extent) else {
            self.wanted = if is_short { 0 } else { geometry.blocks }..self.layout.all_blocks();
            return Ok(None);
        };
        if block.block < geometry.blocks {
            self.recent = block.block;
        }
        self.fence_before_write();
        let written = match self.block_words(block.block) {
            Some(words) => {
                store_bytes(words, message);
                Ok(())
            }
            None => self.write_extent(region, participant, message, block.block - geometry.blocks),
        };
        if written.is_err() {
            self.pool.free(block);
            return Err(SendError::OutOfMemory);
        }
        Ok(Some(PayloadHeader { length, block: Some(block) }))
    }

    /// Writes a message to an extent that this participant has allocated. If there is no memory for
    /// it, the extent has none afterwards.
    fn write_extent(&mut self, region: &Region, participant: usize, message: &[u8], extent: u64) -> io::Result<()> {
        let (file, at, length) = (region.file(), self.layout.extent(extent), message.len() as u64);
        self.unchecked_bytes = self.unchecked_bytes.saturating_add(length);
        let is_check_due = self.unchecked_bytes >= CHECK_EVERY;
        if is_check_due {
            self.unchecked_bytes = 0;
        }
        let write = || {
            if is_check_due && !has_room(region, at, length) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            file::write_all_at(file, message, at)
        };
        write().or_else(|_| {
            self.release_memory(region, extent, 0, u64::MAX);
            self.release_retained(region, participant);
            write().inspect_err(|_| self.release_memory(region, extent, 0, u64::MAX))
        })
    }

    /// Releases the memory that free extents retain for the next messages.
    pub(crate) fn release_retained(&self, region: &Region, participant: usize) {
        for extent in 0..self.layout.geometry.extents.min(RETAINED.len() as u64) {
            // Allocated meanwhile, so that nobody writes to it.
            if let Some(block) = self.pool.allocate_at(participant, self.layout.geometry.blocks + extent) {
                self.release_memory(region, extent, 0, u64::MAX);
                self.pool.free(block);
            }
        }
    }

    /// Releases the memory that extents have behind the messages in them: in the ring, to be
    /// delivered again, and dead letters. No other process may take part in the queue: it could
    /// receive a message, and write a longer one to the extent.
    pub(crate) fn release_behind_messages(&self, region: &Region, ring: &RingWords<Mapped>) {
        let release = |block: u64, length: u64| {
            let extent = block.checked_sub(self.layout.geometry.blocks);
            if let Some(extent) = extent.filter(|&extent| extent < self.layout.geometry.extents) {
                let length = length.min(self.layout.max_message_bytes).next_multiple_of(mapping::PAGE);
                self.release_memory(region, extent, length, u64::MAX);
            }
        };
        // A ring that cannot be read keeps its memory.
        let _ = ring.for_each_message(|payload| {
            let header = PayloadHeader::load(payload);
            if let Some(block) = header.block {
                release(block.block, header.length);
            }
        });
        let Some(redelivery) = &self.redelivery else { return };
        for block in redelivery.deliveries().blocks() {
            if matches!(standing(block.owner), Standing::Requeued | Standing::DeadLetter) {
                release(block.block, redelivery.length(block.block));
            }
        }
    }

    /// Releases memory of an extent, from one byte up to another. If that fails, the extent keeps
    /// it.
    fn release_memory(&self, region: &Region, extent: u64, from: u64, to: u64) {
        // Only whole pages are released, and the extent ends with one.
        let to = to.min(self.layout.max_message_bytes).next_multiple_of(mapping::PAGE);
        if from < to {
            let _ = file::discard(region.file(), self.layout.extent(extent) + from, to - from);
        }
    }

    /// Bytes of memory that the extents have, according to the file system.
    pub(crate) fn extents_bytes(&self, region: &Region) -> u64 {
        match self.layout.geometry.extents {
            0 => 0,
            _ => file::metadata(region.file())
                .map_or(0, |metadata| metadata.allocated.saturating_sub(self.layout.mapped())),
        }
    }

    /// Frees the block of a message that was written and will not be sent.
    pub(crate) fn free(&self, region: &Region, header: PayloadHeader) {
        if let Some(block) = header.block {
            self.free_block(region, block, header.length);
        }
    }

    /// Writes the payload of a slot. The message is in the pool already, if it belongs there.
    #[inline]
    pub(crate) fn write_slot(header: PayloadHeader, message: &[u8], payload: &[AtomicU64]) {
        match header.block {
            None => Self::write_inline(message, payload),
            Some(_) => header.store(payload),
        }
    }

    /// Writes a message that fits into the slot.
    #[inline(always)]
    pub(crate) fn write_inline(message: &[u8], payload: &[AtomicU64]) {
        if let Some((first, rest)) = payload.split_first() {
            first.store((message.len() as u64) << 1, Ordering::Relaxed); // the ring publishes it
            store_short(rest, message);
        }
    }

    /// Reads the message that a slot holds or refers to, and frees its block. Returns whether it
    /// had one.
    #[inline(always)]
    pub(crate) fn read(
        &self,
        region: &Region,
        payload: &[AtomicU64],
        message: &mut Vec<u8>,
    ) -> Result<bool, PayloadError> {
        let Some((first, rest)) = payload.split_first() else { return Err(PayloadError::Corrupt) };
        let first = first.load(Ordering::Relaxed);
        if first & POOLED != 0 {
            return self.read_pooled(region, payload, message);
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
    fn read_pooled(&self, region: &Region, payload: &[AtomicU64], message: &mut Vec<u8>) -> Result<bool, PayloadError> {
        let header = PayloadHeader::load(payload);
        let block = header.block.ok_or(PayloadError::Corrupt)?; // a peer may have changed it meanwhile
        let outcome = self.read_block(region, block, header.length, message);
        self.free_block(region, block, header.length);
        outcome.map(|()| true)
    }

    /// Takes the message that a slot holds or refers to. If it lies in a block, the block becomes
    /// the participant's. Otherwise the message is copied.
    pub(crate) fn take(
        &self,
        region: &Region,
        participant: usize,
        payload: &[AtomicU64],
    ) -> Result<TakenMessage, PayloadError> {
        let PayloadHeader { length, block } = PayloadHeader::load(payload);
        if let Some(block) = block.filter(|block| block.block < self.layout.geometry.blocks) {
            let length = usize::try_from(length).ok().filter(|&length| length <= self.max_block_message_bytes());
            let Some(length) = length else {
                self.pool.free(block);
                return Err(PayloadError::Corrupt);
            };
            // Already freed: only in a damaged region.
            let block = self.pool.take_over(block, participant).ok_or(PayloadError::Corrupt)?;
            return Ok(TakenMessage::InBlock { block, length });
        }
        let mut message = Vec::new();
        let has_freed_extent = self.read(region, payload, &mut message)?;
        Ok(TakenMessage::Copied { message, has_freed_extent })
    }

    fn read_block(
        &self,
        region: &Region,
        block: BlockRef,
        length: u64,
        message: &mut Vec<u8>,
    ) -> Result<(), PayloadError> {
        let (geometry, longest) = (self.layout.geometry, self.layout.max_message_bytes);
        let limit = if block.block < geometry.blocks { geometry.block_bytes.min(longest) } else { longest };
        if length > limit || block.block >= self.layout.all_blocks() {
            return Err(PayloadError::Corrupt);
        }
        let length = usize::try_from(length).map_err(|_| PayloadError::Corrupt)?;
        resize(message, length)?;
        match self.block_words(block.block) {
            Some(words) => {
                load_bytes(words, message);
                Ok(())
            }
            None => file::read_exact_at(region.file(), message, self.layout.extent(block.block - geometry.blocks))
                .map_err(|_| PayloadError::Corrupt),
        }
    }

    /// Frees the block of a message that nobody will receive.
    pub(crate) fn discard(&self, region: &Region, payload: &[AtomicU64]) {
        self.free(region, PayloadHeader::load(payload));
    }

    /// Frees the block of a message that the caller has claimed, to discard it.
    pub(crate) fn discard_claimed(&self, region: &Region, participant: usize, payload: &[AtomicU64]) {
        match &self.redelivery {
            // Held first: a message whose memory is released must not be delivered again.
            Some(redelivery) => {
                let _ = redelivery.hold(participant, payload).map(|held| self.finish(region, held));
            }
            None => self.discard(region, payload),
        }
    }

    /// Frees what a dead participant had allocated and not sent, or received and not freed. Its
    /// claims are repaired. Everybody for whom this is called was dead at the first call, so that
    /// one scan of the pool is enough for all.
    pub(crate) fn free_unsent(&self, region: &Region, ring: &RingWords<Mapped>, participant: usize) {
        let remove_sent = |blocks: &mut Vec<BlockRef>| {
            let mut sent = Vec::new();
            let read = ring.for_each_message(|payload| {
                let Some(block) = PayloadHeader::load(payload).block else { return };
                if blocks.binary_search(&block).is_ok() {
                    sent.push(block);
                }
            });
            sent.sort_unstable();
            // If the ring cannot be read, nothing is freed.
            blocks.retain(|block| read.is_ok() && sent.binary_search(block).is_err());
        };
        let allocated = self.of_dead(participant).to_vec();
        self.pool.free_unsent_of(allocated, remove_sent, |block| self.free_block(region, block, u64::MAX));
    }

    /// The blocks of a dead participant, as in [`free_unsent`](Self::free_unsent).
    pub(super) fn blocks_of_dead(&self, participant: usize) -> impl Iterator<Item = u64> {
        self.of_dead(participant).iter().map(|block| block.block)
    }

    fn of_dead(&self, participant: usize) -> &[BlockRef] {
        let allocated = self.allocated.get_or_init(|| self.pool.by_owner(self.layout.participants()));
        allocated.get(&participant).map_or(&[], Vec::as_slice)
    }

    /// How many blocks and how many extents are in use.
    pub(crate) fn used(&self) -> (u64, u64) {
        let blocks = self.pool.allocated_among(0..self.layout.geometry.blocks);
        (blocks, self.pool.allocated().saturating_sub(blocks))
    }

    /// Whether a block or extent is free that is of use for the message that found none last.
    pub(super) fn has_free(&self) -> bool {
        self.pool.allocated_among(self.wanted.clone()) < self.wanted.end - self.wanted.start
    }

    /// The next message may be another one.
    pub(super) fn forget_wanted(&mut self) {
        self.wanted = 0..self.layout.all_blocks();
    }

    /// `length`: how many bytes of the block were written, or more.
    fn free_block(&self, region: &Region, block: BlockRef, length: u64) {
        if let Some(extent) = block.block.checked_sub(self.layout.geometry.blocks)
            && extent < self.layout.geometry.extents
            && length > retained_bytes(extent)
            && self.pool.is_allocated(block)
        {
            // Before anybody else can allocate it.
            self.release_memory(region, extent, retained_bytes(extent), length);
        }
        self.pool.free(block);
    }

    /// The words of a block that is mapped.
    fn block_words(&self, block: u64) -> Option<&[AtomicU64]> {
        let length = self.layout.geometry.block_bytes as usize / WORD;
        let start = usize::try_from(block).ok()?.checked_mul(length)?;
        self.blocks.get(start..start.checked_add(length)?).filter(|_| block < self.layout.geometry.blocks)
    }
}

/// Makes the buffer as long as the message. Its old content need not be kept.
#[inline(always)]
fn resize(message: &mut Vec<u8>, length: usize) -> Result<(), PayloadError> {
    if length > message.len() {
        grow(message, length)?;
    }
    message.truncate(length);
    Ok(())
}

#[cold]
fn grow(message: &mut Vec<u8>, length: usize) -> Result<(), PayloadError> {
    message.try_reserve(length.saturating_sub(message.len())).map_err(|_| PayloadError::OutOfMemory)?;
    message.resize(length, 0);
    Ok(())
}
