//! Semaphores whose permits belong to a process.

use super::lock::unavailable;
use super::{BOUND, Content, Harness, Nested, Turn};
use crate::error::SyncError;
use crate::fuzzing::input::Input;

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_bounded_semaphore(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let (permits, side) = (&turn.process.bounded_semaphore, turn.side);
        let timeout = self.timeout(turn.variant);
        let count = [1, 1, 2, 3, 0, BOUND + 1, 1 << 31, u32::MAX][usize::from(input.byte()) % 8];
        let left = BOUND.saturating_sub(self.expected.bounded_semaphore.iter().sum());
        match turn.variant >> 3 & 3 {
            0 => {
                let expected = match count {
                    _ if count <= left => Ok(()),
                    _ if count > BOUND => Err(SyncError::LimitExceeded { count: count.into(), limit: BOUND.into() }),
                    _ => Err(unavailable(timeout)),
                };
                let found = match timeout {
                    None => permits.try_acquire_many(count).map(|permit| permit.forget()),
                    Some(timeout) => permits.acquire_many_timeout(count, timeout).map(|permit| permit.forget()),
                };
                self.check("bounded_semaphore", found, expected);
                self.expected.bounded_semaphore[side] += if expected.is_ok() { count } else { 0 };
            }
            1 => {
                let expected =
                    if count <= self.expected.bounded_semaphore[side] { Ok(()) } else { Err(SyncError::NotOwner) };
                self.check("bounded_semaphore", permits.release(count), expected);
                self.expected.bounded_semaphore[side] -= if expected.is_ok() { count } else { 0 };
            }
            2 => {
                let expected = if left > 0 { Ok(()) } else { Err(SyncError::WouldBlock) };
                let permit = permits.try_acquire();
                let found = permit.as_ref().map(drop).map_err(|error| *error);
                self.check("bounded_semaphore", found, expected);
                self.expected.bounded_semaphore[side] += u32::from(expected.is_ok());
                let Ok(permit) = permit else { return };
                nested(self, input);
                if !self.is_present(side, turn.process) {
                    return std::mem::forget(permit);
                }
                // An operation in between can have released it.
                self.expected.bounded_semaphore[side] = self.expected.bounded_semaphore[side].saturating_sub(1);
            }
            _ => {
                self.check("bounded_semaphore", permits.available(), left);
                assert!(permits.available() <= permits.bound());
            }
        }
    }
}
