//! Reentrant mutexes.

use super::lock::{ExpectedLock, outcome};
use super::{Content, Harness, Nested, Turn};
use crate::fuzzing::input::Input;
use crate::raw::robust_lock::History;

pub(super) struct ExpectedReentrantMutex<T> {
    pub(super) content: T,
    pub(super) lock: ExpectedLock,
    /// How many times it is locked, less one.
    pub(super) depth: u32,
}

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_reentrant_mutex(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let timeout = self.timeout(turn.variant);
        let state = &mut self.expected.reentrant_mutex;
        let is_held = state.lock.owner == Some(turn.side);
        let expected = if is_held { Ok(History::default()) } else { state.lock.lock(turn.side, timeout) };
        state.depth += u32::from(is_held);
        let (found, guard) = outcome(match timeout {
            None => turn.process.reentrant_mutex.try_lock(),
            Some(timeout) => turn.process.reentrant_mutex.lock_timeout(timeout),
        });
        self.check("reentrant_mutex", found, expected);
        let Some(guard) = guard else { return };
        self.check("reentrant_mutex", guard.get(), Ok(self.expected.reentrant_mutex.content));
        nested(self, input);
        if !self.is_present(turn.side, turn.process) {
            return std::mem::forget(guard);
        }
        let content = self.next_content();
        self.check("reentrant_mutex", guard.set(&content), Ok(()));
        let state = &mut self.expected.reentrant_mutex;
        state.content = content;
        match state.depth.checked_sub(1) {
            Some(depth) => state.depth = depth,
            None => state.lock.unlock(false),
        }
        match turn.variant & 0x80 {
            0 => drop(guard),
            _ => {
                guard.keep_locked();
                self.check("reentrant_mutex", turn.process.reentrant_mutex.unlock(), Ok(()));
            }
        }
    }
}
