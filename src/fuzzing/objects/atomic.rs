//! Atomic numbers.

use super::{Content, Harness, Turn};
use crate::fuzzing::input::Input;

impl<T: Content, E: Content> Harness<T, E> {
    pub(super) fn use_atomic(&mut self, turn: Turn<T, E>, input: &mut Input) {
        let (atomic, operand) = (&turn.process.atomic, input.short() as i16);
        let before = self.expected.atomic;
        let (found, expected, after) = match turn.variant % 12 {
            0 => (atomic.load(), before, before),
            1 => (operand, operand, {
                atomic.store(operand);
                operand
            }),
            2 => (atomic.swap(operand), before, operand),
            3 => (atomic.fetch_add(operand), before, before.wrapping_add(operand)),
            4 => (atomic.fetch_sub(operand), before, before.wrapping_sub(operand)),
            5 => (atomic.fetch_max(operand), before, before.max(operand)),
            6 => (atomic.fetch_min(operand), before, before.min(operand)),
            7 => (atomic.fetch_and(operand), before, before & operand),
            8 => (atomic.fetch_or(operand), before, before | operand),
            9 => (atomic.fetch_xor(operand), before, before ^ operand),
            10 => (atomic.compare_exchange(before, operand).unwrap_or_else(|seen| seen), before, operand),
            _ => {
                let found = atomic.compare_exchange(operand, 5).unwrap_or_else(|seen| seen);
                (found, before, if operand == before { 5 } else { before })
            }
        };
        self.check("atomic", found, expected);
        self.expected.atomic = after;
    }
}
