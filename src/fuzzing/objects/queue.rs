//! A queue in a namespace.

use super::{Content, Harness, SLOTS};
use crate::error::{RecvError, SendError};

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_queue(&mut self, variant: u8) {
        match variant % 4 {
            0 | 1 => {
                self.number += 1;
                let expected = if self.expected.queue.len() < SLOTS { Ok(()) } else { Err(SendError::Full) };
                let found = self.queue.try_send(self.number);
                self.check("queue", found, expected);
                if expected.is_ok() {
                    self.expected.queue.push_back(self.number);
                }
            }
            2 => {
                let expected = self.expected.queue.pop_front().ok_or(RecvError::Empty);
                let found = self.queue.try_recv();
                self.check("queue", found, expected);
            }
            _ => self.check("queue", self.queue.len(), self.expected.queue.len()),
        }
    }
}
