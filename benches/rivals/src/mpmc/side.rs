//! One end of a queue, and what its user does.

use std::hint::spin_loop;
use std::thread;

use super::start_line::{FIRST_STOP, Phase};
use crate::harness::payload::{Check, Fill, Words};

/// The sending end of a queue.
pub trait Tx {
    /// Called when all participants are there.
    fn connect(&mut self) {}

    /// Sends `batch` messages that `fill` writes, however long it takes.
    fn send(&mut self, batch: usize, fill: &mut Fill, backoff: &mut Backoff);
}

/// The receiving end of a queue.
pub trait Rx {
    /// Called when all participants are there.
    fn connect(&mut self) {}

    /// Has `reader` read up to `batch` messages; returns 0 if the queue is empty.
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize;
}

/// Failed attempts after which another participant may need the CPU more.
const TRIES: u32 = 100;

/// How all participants spin, whatever the queue.
pub struct Backoff {
    oversubscribed: bool,
    tries: u32,
}

impl Backoff {
    /// `oversubscribed`: there are more participants than CPUs.
    pub fn new(oversubscribed: bool) -> Self {
        Self { oversubscribed, tries: 0 }
    }

    pub fn back_off(&mut self) {
        self.tries += 1;
        if self.oversubscribed && self.tries > TRIES {
            thread::yield_now();
        } else {
            spin_loop();
        }
    }

    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// Tries until it works.
    #[inline]
    pub fn retry(&mut self, mut attempt: impl FnMut() -> bool) {
        while !attempt() {
            self.back_off();
        }
        self.reset();
    }
}

/// Reads messages until one of them ends the phase.
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
            ..FIRST_STOP => self.check.read(message),
            // Stops of the phase before can be left: there are more of them than consumers.
            stop => self.stopped |= stop == self.stop,
        }
    }
}
