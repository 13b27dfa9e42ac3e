//! A block of the payload pool that is in no message: a sender fills it in place, or a receiver
//! reads it in place.
//!
//! The owner word has the participant's index. So the participant stays as long as the block is not
//! freed: it holds its lock, and nobody else gets its index. If the process dies, repair frees the
//! block (`raw/pool.rs` B1, B5, B6).

use std::sync::Arc;

use crate::queue::state::QueueState;
use crate::raw::event_count::EventCount;
use crate::raw::pool::{BlockRef, Pool};
use crate::region::layout::queue::control;
use crate::region::lifecycle::Registration;
use crate::region::words::Mapped;
use crate::sys::fork::Generation;

/// Frees the block when it is dropped, unless it was sent.
pub(super) struct OwnedBlock {
    pool: Pool<Mapped>,
    blocks_freed: EventCount<Mapped>,
    block: Option<BlockRef>,
    /// The process that has allocated it or taken it over.
    process: Generation,
    /// Last: the block is freed before the participant can go.
    _registration: Arc<Registration>,
}

impl OwnedBlock {
    /// `block` is that participant's.
    pub(super) fn new(registration: &Arc<Registration>, block: BlockRef) -> Self {
        let state = QueueState::of(registration.region());
        let (start, length) = state.layout.owners();
        Self {
            pool: Pool::new(state.region.words(start, length)),
            blocks_freed: state.event(control::BLOCKS_FREED),
            block: Some(block),
            process: Generation::current(),
            _registration: Arc::clone(registration),
        }
    }

    /// Its reference, if it was not sent.
    pub(super) fn block_ref(&self) -> Option<BlockRef> {
        self.block
    }

    /// A message has the block now.
    pub(super) fn set_sent(&mut self) {
        self.block = None;
    }
}

impl Drop for OwnedBlock {
    fn drop(&mut self) {
        // A forked child has a copy of this, and not the block.
        if let Some(block) = self.block.filter(|_| self.process.is_current()) {
            self.pool.free(block);
            self.blocks_freed.notify(u32::MAX);
        }
    }
}
