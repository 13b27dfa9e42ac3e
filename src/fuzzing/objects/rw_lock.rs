//! Locks for readers and writers.

use super::lock::{ExpectedLock, outcome, unavailable};
use super::{Content, Harness, Nested, Turn};
use crate::error::SyncError;
use crate::fuzzing::input::Input;
use crate::raw::robust_lock::History;

pub(super) struct ExpectedRwLock<T> {
    pub(super) content: T,
    pub(super) lock: ExpectedLock,
    /// Read guards of each process.
    pub(super) readers: [u32; 2],
}

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn read_rw_lock(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let timeout = self.timeout(turn.variant);
        let state = &self.expected.rw_lock;
        let mut lock = state.lock;
        let expected = match state.readers[turn.side] {
            0 => lock.lock(turn.side, timeout),
            _ => Ok(History { died: false, poisoned: lock.poisoned }),
        };
        let (found, guard) = outcome(match timeout {
            None => turn.process.rw_lock.try_read(),
            Some(timeout) => turn.process.rw_lock.read_timeout(timeout),
        });
        self.check("rw_lock", found, expected);
        let Some(guard) = guard else { return };
        self.expected.rw_lock.readers[turn.side] += 1;
        self.check("rw_lock", *guard, self.expected.rw_lock.content);
        let content = *guard;
        nested(self, input);
        if !self.is_present(turn.side, turn.process) {
            return std::mem::forget(guard);
        }
        assert!(*guard == content, "the guard has a copy");
        self.expected.rw_lock.readers[turn.side] -= 1;
    }

    pub(super) fn write_rw_lock(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let timeout = self.timeout(turn.variant);
        let state = &mut self.expected.rw_lock;
        let before = state.lock;
        let expected = match state.readers {
            readers if readers[turn.side] > 0 => Err(SyncError::WouldDeadlock),
            _ => state.lock.lock(turn.side, timeout),
        };
        let is_read = expected.is_ok() && state.readers != [0; 2];
        let expected = if is_read { Err(unavailable(timeout)) } else { expected };
        let (found, guard) = outcome(match timeout {
            None => turn.process.rw_lock.try_write(),
            Some(timeout) => turn.process.rw_lock.write_timeout(timeout),
        });
        self.check("rw_lock", found, expected);
        let Some(mut guard) = guard else {
            self.expected.rw_lock.lock = before;
            return;
        };
        self.check("rw_lock", *guard, self.expected.rw_lock.content);
        let mut poisoned = before.poisoned;
        let content = self.next_content();
        match turn.variant >> 3 & 7 {
            0..=2 => *guard = content,
            3 => {
                guard.poison();
                poisoned = true;
            }
            4 => {
                guard.clear_poison();
                poisoned = false;
            }
            _ => {}
        }
        nested(self, input);
        if !self.is_present(turn.side, turn.process) {
            return std::mem::forget(guard);
        }
        match turn.variant >> 3 & 7 {
            0 | 1 => self.expected.rw_lock.content = content,
            2 => guard.rollback(),
            _ => {}
        }
        self.expected.rw_lock.lock.unlock(poisoned);
    }
}
