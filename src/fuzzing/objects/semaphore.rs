//! Semaphores whose permits belong to no process.

use super::lock::unavailable;
use super::{Content, Harness, Nested, Turn};
use crate::error::SyncError;
use crate::fuzzing::input::Input;

const MAX_PERMITS: u64 = i32::MAX as u64;

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_semaphore(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let permits = &turn.process.semaphore;
        let timeout = self.timeout(turn.variant);
        let count = [1, 1, 2, 3, 0, MAX_PERMITS as u32, 1 << 31, u32::MAX][usize::from(input.byte()) % 8];
        let wanted = u64::from(count);
        match turn.variant >> 3 & 3 {
            0 => {
                let expected = match wanted {
                    _ if wanted <= self.expected.semaphore => Ok(()),
                    count @ 0x8000_0000.. => Err(SyncError::LimitExceeded { count, limit: MAX_PERMITS }),
                    _ => Err(unavailable(timeout)),
                };
                let found = match timeout {
                    None => permits.try_acquire_many(count).map(|permit| permit.forget()),
                    Some(timeout) => permits.acquire_many_timeout(count, timeout).map(|permit| permit.forget()),
                };
                self.check("semaphore", found, expected);
                self.expected.semaphore -= if expected.is_ok() { wanted } else { 0 };
            }
            1 => {
                let sum = self.expected.semaphore + wanted;
                let expected = if sum <= MAX_PERMITS {
                    Ok(())
                } else {
                    Err(SyncError::LimitExceeded { count: sum, limit: MAX_PERMITS })
                };
                self.check("semaphore", permits.release(count), expected);
                self.expected.semaphore = if expected.is_ok() { sum } else { self.expected.semaphore };
            }
            2 => {
                let expected = if self.expected.semaphore > 0 { Ok(()) } else { Err(SyncError::WouldBlock) };
                let permit = permits.try_acquire();
                let found = permit.as_ref().map(drop).map_err(|error| *error);
                self.check("semaphore", found, expected);
                self.expected.semaphore -= u64::from(expected.is_ok());
                let Ok(permit) = permit else { return };
                nested(self, input);
                if !self.is_present(turn.side, turn.process) {
                    return std::mem::forget(permit);
                }
                self.expected.semaphore += u64::from(expected.is_ok() && self.expected.semaphore < MAX_PERMITS);
            }
            _ => self.check("semaphore", permits.available(), Ok(self.expected.semaphore as u32)),
        }
    }
}
