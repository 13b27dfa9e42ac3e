//! The work on each message: every word is written, every word is read.
//!
//! Word `i` of message `m` is `m + i`, so a lost, repeated or torn message changes the sum.

use std::mem::MaybeUninit;

/// The bytes of one message.
pub trait Words: bytemuck::Pod + tombolo::Shareable + Send {
    fn write(slot: &mut MaybeUninit<Self>, first: u64);
    fn sum(&self) -> u64;
    /// The first word, which is the number of the message.
    fn number(&self) -> u64;
}

impl<const N: usize> Words for [u64; N] {
    #[inline]
    fn write(slot: &mut MaybeUninit<Self>, first: u64) {
        let start = slot.as_mut_ptr().cast::<u64>();
        for i in 0..N {
            // SAFETY: the slot has room for N words.
            unsafe { start.add(i).write(first.wrapping_add(i as u64)) };
        }
    }

    #[inline]
    fn sum(&self) -> u64 {
        self.iter().fold(0, |sum, &word| sum.wrapping_add(word))
    }

    #[inline]
    fn number(&self) -> u64 {
        self[0]
    }
}

/// A message as a queue of values holds it: small ones inline, large ones in a box.
pub trait Message: Send + 'static {
    type Words: Words;

    fn new(fill: &mut Fill) -> Self;
    fn words(&self) -> &Self::Words;
}

impl<const N: usize> Message for [u64; N] {
    type Words = Self;

    #[inline]
    fn new(fill: &mut Fill) -> Self {
        fill.message()
    }

    #[inline]
    fn words(&self) -> &Self {
        self
    }
}

impl<const N: usize> Message for Box<[u64; N]> {
    type Words = [u64; N];

    #[inline]
    fn new(fill: &mut Fill) -> Self {
        let mut slot = Box::new_uninit();
        fill.write(&mut slot);
        // SAFETY: `fill` wrote every word.
        unsafe { slot.assume_init() }
    }

    #[inline]
    fn words(&self) -> &[u64; N] {
        self
    }
}

/// Writes messages, one after the other.
#[derive(Default)]
pub struct Fill {
    next: u64,
}

impl Fill {
    /// Starts with this message instead of message 0.
    pub fn from(number: u64) -> Self {
        Self { next: number }
    }

    #[inline]
    pub fn write<W: Words>(&mut self, slot: &mut MaybeUninit<W>) {
        W::write(slot, self.next);
        self.next = self.next.wrapping_add(1);
    }

    #[inline]
    pub fn overwrite<W: Words>(&mut self, slot: &mut W) {
        // SAFETY: `write` leaves a whole message behind.
        self.write(unsafe { &mut *std::ptr::from_mut(slot).cast::<MaybeUninit<W>>() });
    }

    #[inline]
    pub fn message<W: Words>(&mut self) -> W {
        let mut slot = MaybeUninit::uninit();
        self.write(&mut slot);
        // SAFETY: every word was written.
        unsafe { slot.assume_init() }
    }
}

/// Reads messages and sums them up.
#[derive(Default)]
pub struct Check {
    seen: u64,
    sum: u64,
}

impl Check {
    /// Sums up what several readers have read.
    pub fn of(seen: u64, sum: u64) -> Self {
        Self { seen, sum }
    }

    /// Returns the number of messages and the sum over their words.
    pub fn tally(&self) -> (u64, u64) {
        (self.seen, self.sum)
    }

    #[inline]
    pub fn read(&mut self, message: &impl Words) {
        self.sum = self.sum.wrapping_add(message.sum());
        self.seen += 1;
    }

    /// Compares with the sum over all messages of `words` words.
    pub fn verify(&self, words: usize) -> Result<(), String> {
        self.verify_copies(words, 1)
    }

    /// The same if each message was read `copies` times.
    pub fn verify_copies(&self, words: usize, copies: u64) -> Result<(), String> {
        let (messages, words) = (u128::from(self.seen / copies), words as u128);
        let below = |n: u128| n * n.saturating_sub(1) / 2;
        let expected = ((words * below(messages) + messages * below(words)) as u64).wrapping_mul(copies);
        if self.sum == expected {
            Ok(())
        } else {
            Err(format!("checksum of {messages} messages is {:#x}, expected {expected:#x}", self.sum))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_lost_or_repeated_message_fails() {
        let mut fill = Fill::default();
        let messages: [[u64; 8]; 4] = std::array::from_fn(|_| fill.message());
        let sum = |seen: &[usize]| {
            let mut check = Check::default();
            seen.iter().for_each(|&i| check.read(&messages[i]));
            check.verify(8)
        };
        assert!(sum(&[0, 1, 2, 3]).is_ok());
        assert!(sum(&[0, 1, 3]).is_err());
        assert!(sum(&[0, 1, 1, 3]).is_err());
    }
}
