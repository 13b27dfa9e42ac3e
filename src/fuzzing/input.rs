//! How an input is read, and the payloads that are made from numbers.

use bytemuck::Pod;

use crate::raw::spsc::value_ring::StoreKind;

/// The rest of an input, read from its front. Past its end every byte is zero.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (front, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        std::array::from_fn(|i| front.get(i).copied().unwrap_or(0))
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    pub(super) fn short(&mut self) -> u64 {
        u16::from_le_bytes(self.bytes()).into()
    }

    pub(super) fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// The next operation. The script ends with the input, so every script ends.
    pub(super) fn next_op(&mut self) -> Option<u8> {
        (!self.0.is_empty()).then(|| self.byte())
    }

    /// A value to write over `now`: any word, one near it, or one that looks like a record's
    /// header.
    pub(super) fn invalid_value(&mut self, now: u64) -> u64 {
        match self.byte() % 3 {
            0 => self.word(),
            1 => now.wrapping_add_signed(i8::from_le_bytes(self.bytes()).into()),
            _ => u64::from(self.byte()) << 56 | self.short(),
        }
    }

    pub(super) fn store_kind(&mut self) -> StoreKind {
        if self.byte() & 1 == 0 { StoreKind::Temporal } else { StoreKind::NonTemporal }
    }
}

/// `length` bytes that differ from message to message.
pub(super) fn payload(number: u64, length: u64) -> Vec<u8> {
    (0..length).map(|i| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 8 * 7)) as u8 ^ i as u8).collect()
}

pub(super) fn value<T: Pod>(number: u64) -> T {
    bytemuck::pod_read_unaligned(&payload(number, size_of::<T>() as u64))
}
