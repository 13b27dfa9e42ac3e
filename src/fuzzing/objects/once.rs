//! Initialisation that happens once.

use super::{Content, Harness, Nested, Turn};
use crate::error::SyncError;
use crate::fuzzing::input::Input;
use crate::object::kind::STATE;

pub(super) struct ExpectedOnce {
    pub(super) is_completed: bool,
    /// The process whose closure runs.
    pub(super) running: Option<usize>,
}

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_once(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let once = &turn.process.once;
        let done = self.expected.once.is_completed;
        match turn.variant % 4 {
            0 => self.check("once", once.is_completed(), done),
            1 => {
                let timeout = self.timeout(turn.variant >> 2).unwrap_or_default();
                self.check("once", once.wait_timeout(timeout), if done { Ok(()) } else { Err(SyncError::TimedOut) });
            }
            _ => {
                let is_running_here = self.is_intact("once") && self.expected.once.running == Some(turn.side);
                if !done && !is_running_here && self.owner("once", STATE) != 0 {
                    return; // it would wait without end
                }
                let running = self.expected.once.running;
                let expected = if !done && is_running_here { Err(SyncError::WouldDeadlock) } else { Ok(()) };
                let mut times = 0;
                self.calls_running[turn.side] += 1;
                let found = once.call_once(|| {
                    times += 1;
                    self.expected.once.running = Some(turn.side);
                    nested(self, input);
                });
                self.calls_running[turn.side] -= 1;
                self.check("once", (found, times), (expected, u32::from(!done && !is_running_here)));
                self.expected.once.running = running;
                self.expected.once.is_completed |= found.is_ok();
            }
        }
    }
}
