//! Arrays and their lock.

use super::lock::{ExpectedLock, outcome};
use super::{Content, Harness, LENGTH, Nested, Turn};
use crate::error::SyncError;
use crate::fuzzing::input::Input;
use crate::object::kind::STATE;

pub(super) struct ExpectedArray<E> {
    pub(super) elements: Vec<E>,
    pub(super) lock: ExpectedLock,
}

impl<T: Content, E: Content> Harness<T, E> {
    /// Whether a call that waits for the object's lock without end returns.
    fn lock_call_returns(&self, name: &str, lock: &ExpectedLock, side: usize) -> bool {
        self.owner(name, STATE) == 0 || self.is_intact(name) && lock.owner == Some(side)
    }

    pub(super) fn use_array(&mut self, turn: Turn<T, E>, input: &mut Input) {
        let (array, state) = (&turn.process.array, &self.expected.array);
        let start = usize::from(input.byte()) % (LENGTH + 2);
        let count = usize::from(input.byte()) % (LENGTH + 2);
        let start = if turn.variant >= 0xF0 { usize::MAX - start } else { start };
        let end = start.saturating_add(count);
        let outside = |index: usize| SyncError::OutOfBounds { index, length: LENGTH };
        let range = if end <= LENGTH { Ok(()) } else { Err(outside(end)) };
        let is_lock_free = matches!(size_of::<E>(), 1 | 2 | 4 | 8);
        let returns = self.lock_call_returns("array", &state.lock, turn.side);
        let locked = if state.lock.owner.is_some() { Err(SyncError::WouldDeadlock) } else { Ok(()) };
        match turn.variant % 8 {
            0 => self.check("array", array.get(start), state.elements.get(start).copied().ok_or(outside(start))),
            1 if is_lock_free || returns => {
                let content = self.next_content();
                let index = if start < LENGTH { Ok(()) } else { Err(outside(start)) };
                let expected = if is_lock_free { index } else { index.and(locked) };
                self.check("array", array.set(start, content), expected);
                expected.into_iter().for_each(|()| self.expected.array.elements[start] = content);
            }
            2 | 3 if returns => {
                let contents: Vec<E> = (0..count).map(|_| self.next_content()).collect();
                let expected = range.and(locked);
                self.check("array", array.store_from(start, &contents), expected);
                expected.into_iter().for_each(|()| self.expected.array.elements[start..end].copy_from_slice(&contents));
            }
            4 | 5 => {
                let mut contents = vec![E::zeroed(); count];
                let found = array.load_into(start, &mut contents).map(|()| contents);
                self.check("array", found, range.map(|()| state.elements[start..end].to_vec()));
            }
            6 if returns => self.check("array", array.snapshot(), locked.map(|()| state.elements.clone())),
            _ => {
                self.check("array", array.to_vec(), Ok(state.elements.clone()));
                self.check("array", array.iter().collect(), state.elements.clone());
            }
        }
    }

    pub(super) fn hold_array_lock(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let timeout = self.timeout(turn.variant);
        let expected = self.expected.array.lock.lock(turn.side, timeout);
        let (found, guard) = outcome(match timeout {
            None => turn.process.array.try_lock(),
            Some(timeout) => turn.process.array.lock_timeout(timeout),
        });
        self.check("array", found, expected);
        let Some(mut guard) = guard else { return };
        let start = usize::from(turn.variant >> 3) % LENGTH;
        let contents: Vec<E> = (start..LENGTH).map(|_| self.next_content()).collect();
        self.check("array", guard.store_from(start, &contents), Ok(()));
        self.expected.array.elements[start..].copy_from_slice(&contents);
        nested(self, input);
        if !self.is_present(turn.side, turn.process) {
            return std::mem::forget(guard);
        }
        let content = self.next_content();
        self.check("array", guard.set(start, content), Ok(()));
        self.expected.array.elements[start] = content;
        self.check("array", guard.to_vec(), Ok(self.expected.array.elements.clone()));
        self.expected.array.lock.unlock(false);
    }
}
