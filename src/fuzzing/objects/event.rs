//! Events.

use super::{Content, Harness, Turn};
use crate::error::SyncError;

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_event(&mut self, turn: Turn<T, E>) {
        let event = &turn.process.event;
        match turn.variant % 4 {
            0 => {
                self.check("event", event.set(), Ok(()));
                self.expected.event = true;
            }
            1 => {
                self.check("event", event.clear(), Ok(()));
                self.expected.event = false;
            }
            2 => self.check("event", event.is_set(), self.expected.event),
            _ => {
                let timeout = self.timeout(turn.variant >> 2).unwrap_or_default();
                let expected = if self.expected.event { Ok(()) } else { Err(SyncError::TimedOut) };
                self.check("event", event.wait_timeout(timeout), expected);
            }
        }
    }
}
