//! A participant's own memory, for queues that messages are copied into and out of.

use crate::harness::payload::{Check, Fill, Words};
use crate::mpmc::Reader;

pub struct Stage<W>(Box<[W]>);

impl<W: Words> Stage<W> {
    /// With room for as many messages.
    pub fn new(batch: usize) -> Self {
        Self(bytemuck::zeroed_slice_box(batch))
    }

    /// Writes messages, and returns them.
    pub fn fill(&mut self, batch: usize, fill: &mut Fill) -> &mut [W] {
        let messages = &mut self.0[..batch];
        messages.iter_mut().for_each(|message| fill.overwrite(message));
        messages
    }

    pub fn messages(&mut self, batch: usize) -> &mut [W] {
        &mut self.0[..batch]
    }

    pub fn bytes(&mut self, batch: usize) -> &mut [u8] {
        bytemuck::cast_slice_mut(self.messages(batch))
    }

    pub fn check(&self, count: usize, check: &mut Check) {
        self.0[..count].iter().for_each(|message| check.read(message));
    }

    /// Returns `count`.
    pub fn read(&self, count: usize, reader: &mut Reader) -> usize {
        self.0[..count].iter().for_each(|message| reader.read(message));
        count
    }
}
