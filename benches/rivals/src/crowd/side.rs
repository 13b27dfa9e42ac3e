//! One end of a queue, and what its user does.

use std::hint::spin_loop;
use std::thread;

use crate::gate::{Phase, STOPS};
use crate::harness::payload::{Check, Fill, Words};

/// The sending end of a queue.
pub trait Tx {
    /// Sends `lot` messages that `fill` writes, however long it takes.
    fn send(&mut self, lot: usize, fill: &mut Fill, patience: &mut Patience);
}

/// The receiving end of a queue.
pub trait Rx {
    /// Has `reader` read up to `lot` messages; says how many, none if the queue is empty.
    fn receive(&mut self, lot: usize, reader: &mut Reader) -> usize;
}

/// Fruitless attempts after which another participant may need the CPU more.
const TRIES: u32 = 100;

/// How everybody spins, whatever the queue.
pub struct Patience {
    crowded: bool,
    tries: u32,
}

impl Patience {
    /// `crowded` if there are more participants than CPUs.
    pub fn new(crowded: bool) -> Self {
        Self { crowded, tries: 0 }
    }

    pub fn rest(&mut self) {
        self.tries += 1;
        if self.crowded && self.tries > TRIES {
            thread::yield_now();
        } else {
            spin_loop();
        }
    }

    pub fn renew(&mut self) {
        self.tries = 0;
    }

    /// Tries until it works.
    #[inline]
    pub fn insist(&mut self, mut attempt: impl FnMut() -> bool) {
        while !attempt() {
            self.rest();
        }
        self.renew();
    }
}

/// Reads messages until one says to stop.
pub struct Reader {
    pub check: Check,
    stop: u64,
    pub stopped: bool,
}

impl Reader {
    pub fn new(phase: Phase) -> Self {
        Self { check: Check::default(), stop: phase.stop(), stopped: false }
    }

    #[inline]
    pub fn read(&mut self, message: &impl Words) {
        match message.number() {
            ..STOPS => self.check.read(message),
            // Of the phase before, more may be left than there were consumers.
            stop => self.stopped |= stop == self.stop,
        }
    }
}
