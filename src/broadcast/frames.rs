//! A subscriber's hold on a frame: its lease, given back when it is dropped.

use std::fmt;
use std::sync::Arc;

use crate::primitive::load_bytes;
use crate::raw::broadcast::frames::Leases;
use crate::raw::event_count::EventCount;
use crate::region::lifecycle::Registration;
use crate::region::words::{Mapped, Words};
use crate::sys::fork::Generation;

pub(super) struct Lease {
    pub(super) leases: Leases<Mapped>,
    pub(super) subscriber: usize,
    pub(super) frame: u64,
    pub(super) words: Words,
    /// What the publisher sleeps on.
    pub(super) room: EventCount<Mapped>,
    /// The process that has the lease.
    pub(super) generation: Generation,
    /// Keeps the lock of the participant, without which the lease could be cleared.
    pub(super) _registration: Arc<Registration>,
}

impl Lease {
    /// Copies the first bytes of the frame.
    pub(super) fn load(&self, target: &mut [u8]) {
        load_bytes(&self.words, target);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.generation.is_current() {
            self.leases.clear(self.frame, self.subscriber);
            self.room.notify(1);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("frame", &self.frame).finish_non_exhaustive()
    }
}
