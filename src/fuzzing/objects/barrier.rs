//! Barriers of two parties.

use std::thread;
use std::time::Duration;

use super::{Content, Harness, Turn};
use crate::error::SyncError;
use crate::object::barrier::BarrierWaitResult;

/// Bits of a pid that a barrier has room for.
const PID_BITS: u64 = (1 << 23) - 1;

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_barrier(&mut self, turn: Turn<T, E>) {
        let barrier = &turn.process.barrier;
        let own = u64::from(std::process::id()) & PID_BITS;
        let broken = self.expected.barrier_broken_by.map(|pid| SyncError::BarrierBroken { pid });
        match turn.variant % 8 {
            0 | 1 => {
                let timeout = self.timeout(turn.variant >> 3).unwrap_or_default();
                let found = barrier.wait_timeout(timeout).map(drop);
                self.check("barrier", found, Err(broken.unwrap_or(SyncError::TimedOut)));
                self.expected.barrier_broken_by.get_or_insert(own);
            }
            2 => {
                self.check("barrier", barrier.abort(), Ok(()));
                self.expected.barrier_broken_by.get_or_insert(own);
            }
            3 | 4 => {
                self.check("barrier", barrier.reset(), Ok(()));
                self.expected.barrier_broken_by = None;
            }
            _ if self.barrier_waits_left > 0 => {
                self.barrier_waits_left -= 1;
                let timeout = Duration::from_millis(if self.is_intact("barrier") { 5000 } else { 1 });
                let other = self.processes[1 - turn.side].as_ref().unwrap_or(turn.process).barrier.clone();
                let (one, another) = thread::scope(|scope| {
                    let other = scope.spawn(move || other.wait_timeout(timeout));
                    (barrier.wait_timeout(timeout), other.join().expect("no panic"))
                });
                match broken {
                    Some(broken) => self.check("barrier", (one, another), (Err(broken), Err(broken))),
                    None => {
                        let index_and_leader = |result: Result<BarrierWaitResult, _>| {
                            result.map(|passed| (passed.index(), passed.is_leader()))
                        };
                        let mut both = [index_and_leader(one), index_and_leader(another)];
                        both.sort_by_key(|passed| passed.unwrap_or_default());
                        self.check("barrier", both, [Ok((0, false)), Ok((1, true))]);
                    }
                }
            }
            _ => {}
        }
    }
}
