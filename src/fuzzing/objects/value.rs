//! Values with a version.

use super::lock::ExpectedLock;
use super::{Content, Harness, Nested, Turn};
use crate::error::SyncError;
use crate::fuzzing::input::Input;

pub(super) struct ExpectedValue<T> {
    pub(super) content: T,
    pub(super) version: u64,
    /// The version that each process saw last.
    pub(super) seen: [u64; 2],
    pub(super) writer: ExpectedLock,
}

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_value(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let (value, side) = (&turn.process.value, turn.side);
        let timeout = self.timeout(turn.variant >> 3);
        match turn.variant % 8 {
            0..=2 => {
                self.check("value", value.load(), Ok(self.expected.value.content));
                self.expected.value.seen[side] = self.expected.value.version;
            }
            3 | 4 => {
                let content = self.next_content();
                let mut lock = self.expected.value.writer;
                let expected = lock.lock(side, timeout).map(drop);
                let found = match timeout {
                    None => value.try_store(&content),
                    Some(timeout) => value.store_timeout(&content, timeout),
                };
                self.check("value", found, expected);
                if expected.is_ok() {
                    self.record_store(side, content);
                }
            }
            5 | 6 => {
                let new: T = self.next_content();
                let expected = self.expected.value.writer.lock(side, timeout).map(|_| new);
                let before = self.expected.value.content;
                self.calls_running[side] += 1;
                let change = |content: &mut T| {
                    self.check("value", *content, before);
                    *content = new;
                    nested(self, input);
                };
                let found = match timeout {
                    None => value.try_update(change),
                    Some(timeout) => value.update_timeout(timeout, change),
                };
                self.calls_running[side] -= 1;
                self.check("value", found, expected);
                if expected.is_ok() {
                    self.expected.value.writer.unlock(false);
                    self.record_store(side, new);
                }
            }
            _ => {
                let state = &self.expected.value;
                let is_seen = state.seen[side] == state.version;
                let expected = if is_seen { Err(SyncError::TimedOut) } else { Ok(state.content) };
                self.check("value", value.wait_for_change(timeout.unwrap_or_default()), expected);
                self.expected.value.seen[side] = self.expected.value.version;
            }
        }
    }

    /// A process stored `content`, and has seen it.
    fn record_store(&mut self, side: usize, content: T) {
        let state = &mut self.expected.value;
        state.content = content;
        state.version += 1;
        state.seen[side] = state.version;
    }

    /// Stores several times with one writer.
    pub(super) fn hold_writer(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let expected = self.expected.value.writer.lock(turn.side, None).map(drop);
        let writer = turn.process.value.try_writer();
        let found = writer.as_ref().map(drop).map_err(|error| *error);
        self.check("value", found, expected);
        let Ok(mut writer) = writer else { return };
        for _ in 0..=turn.variant % 4 {
            nested(self, input);
            if !self.is_present(turn.side, turn.process) {
                return std::mem::forget(writer);
            }
            let content = self.next_content();
            match turn.variant & 0x10 {
                0 => self.check("value", writer.store(&content), Ok(())),
                _ => self.check("value", writer.update(|value| *value = content), Ok(content)),
            }
            self.record_store(turn.side, content);
        }
        self.expected.value.writer.unlock(false);
    }
}
