//! Changes of single words, as another process could make them.

use super::{Content, Harness};
use crate::fuzzing::input::Input;
use crate::object::kind::{EVENT, ObjectKind};
use crate::object::table::{Entry, layout_of};
use crate::object::{once, rw_lock, semaphore, value};
use crate::primitive::{Ordering::Relaxed, WORD};
use crate::region::layout::header;
use crate::region::layout::queue::{QueueLayout, control, own};

impl<T: Content, E: Content> Harness<T, E> {
    /// Changes a word of an object, mostly one that matters, or of the participants' records, the
    /// table or the header.
    pub(super) fn corrupt_word(&mut self, input: &mut Input) {
        let layout = *layout_of(&self.region);
        let how = input.byte();
        let (start, count) = match how % 16 {
            0 => (0, self.region.layout().mapped() as usize / WORD),
            1 | 2 => (self.region.layout().participant(0), layout.participants() * own::WORDS),
            3 | 4 => (layout.entry(0), layout.first_object() - layout.entry(0)),
            _ => {
                let entry = &self.table.entries[usize::from(input.byte()) % self.table.entries.len()];
                let part = match how >> 4 & 3 {
                    0 | 1 => (0, 4),
                    2 => (16, 24),
                    _ => (0, entry.length),
                };
                (entry.start + part.0, part.1)
            }
        };
        let index = start + input.short() as usize % count;
        let word = |index: usize| self.region.word(index);
        let entry = self.table.entries.iter().find(|entry| (entry.start..entry.start + entry.length).contains(&index));
        let is_futex = entry.is_some_and(|entry| is_futex(entry, index - entry.start));
        let now = if is_futex { self.region.futex(index).load(Relaxed).into() } else { word(index).load(Relaxed) };
        let participant = u64::from(input.byte()) % (layout.participants() as u64 + 2);
        let value = match input.byte() % 8 {
            0 => input.word(),
            1 => participant + 1,
            2 => u64::from(input.byte()) << 16 | (participant + 1),
            3 => u64::from(input.byte() % 4),
            // As in a barrier.
            4 => input.short() | u64::from(input.byte()) << 35 | u64::from(input.byte()) << 43,
            5 => !0,
            _ => input.invalid_value(now),
        };
        match is_futex {
            true => self.region.futex(index).store(value as u32, Relaxed),
            false => word(index).store(value, Relaxed),
        }
        // A queue's header counts as part of the table.
        let is_header = |entry: &Entry| entry.spec.kind == ObjectKind::Queue && index - entry.start < header::WORDS;
        self.structure_intact &= entry.is_some_and(|entry| !is_header(entry));
        self.corrupted.extend(entry.map(|entry| entry.name.clone()));
    }
}

/// Returns whether a word of an object is a futex.
fn is_futex(entry: &Entry, index: usize) -> bool {
    match entry.spec.kind {
        ObjectKind::Value => index == value::words::LOCK + EVENT || index == value::words::CHANGED,
        ObjectKind::RwLock => index == EVENT || index == rw_lock::words::READERS_GONE,
        ObjectKind::Semaphore | ObjectKind::BoundedSemaphore => {
            index == EVENT || index == semaphore::words::MULTI_PERMIT_EVENT
        }
        ObjectKind::Atomic => false,
        ObjectKind::Once => index == EVENT || index == once::words::COMPLETED,
        ObjectKind::Queue => {
            let at = entry.spec.nested.as_ref().map_or(0, |_| QueueLayout::CONTROL);
            [control::READABLE, control::WRITABLE, control::BLOCKS_FREED, control::TASKS_DONE]
                .iter()
                .any(|word| at + word == index)
        }
        _ => index == EVENT,
    }
}
