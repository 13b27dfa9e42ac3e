//! Mutexes, and condition variables that release them.

use super::lock::{ExpectedLock, outcome};
use super::{Content, Harness, Nested, Turn};
use crate::fuzzing::input::Input;
use crate::object::kind::STATE;
use crate::raw::robust_lock::History;

pub(super) struct ExpectedMutex<T> {
    pub(super) content: T,
    pub(super) lock: ExpectedLock,
}

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_mutex(&mut self, turn: Turn<T, E>, input: &mut Input, nested: &mut Nested<T, E>) {
        let timeout = self.timeout(turn.variant);
        let expected = self.expected.mutex.lock.lock(turn.side, timeout);
        let (found, guard) = outcome(match timeout {
            None => turn.process.mutex.try_lock(),
            Some(timeout) => turn.process.mutex.lock_timeout(timeout),
        });
        self.check("mutex", found, expected);
        let Some(mut guard) = guard else { return };
        self.check("mutex", *guard, self.expected.mutex.content);
        let mut poisoned = self.expected.mutex.lock.poisoned;
        let content = self.next_content();
        let action = turn.variant >> 3 & 7;
        match action {
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
        if action <= 1 {
            self.expected.mutex.content = content;
        }
        let participant = turn.process.member.participant() as u64;
        if action == 2 {
            guard.rollback();
        } else if action >= 6 && self.owner("mutex", STATE) == participant + 1 {
            // It locks the mutex again without a deadline, so the mutex must be free then.
            let sleep = self.timeout(6).unwrap_or_default();
            let (relocked, guard) = outcome(turn.process.condvar.wait_timeout(guard, sleep));
            self.check("mutex", relocked, Ok(History { died: false, poisoned }));
            if self.is_intact("mutex") {
                self.check(
                    "condvar",
                    guard.map(|(guard, result)| (*guard, result.timed_out())),
                    Some((self.expected.mutex.content, true)),
                );
            }
        } else {
            drop(guard);
        }
        self.expected.mutex.lock.unlock(poisoned);
        self.check("condvar", turn.process.condvar.notify_one(), Ok(()));
    }
}
