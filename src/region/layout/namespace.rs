//! The bytes of a namespace's region.
//!
//! ```text
//! words
//!      0  header
//!     64  participants  16 words each: a record, then padding
//!    ...  table         16 words for each object: see object/table.rs
//!    ...  objects       each a multiple of 16 words, all of them up to a page's end
//!    ...  extents       of all objects: not mapped, and without memory until used
//! ```

use super::header;
use super::{MAX_PARTICIPANTS, PADDING_WORDS, SIZE_MAX, bytes_of, invalid, queue};
use crate::error::Result;
use crate::primitive::WORD;
use crate::sys::mapping::PAGE;

const PARTICIPANTS_AT: usize = header::WORDS;
const PARTICIPANT_WORDS: usize = queue::own::WORDS;

/// Words of an object's entry in the table.
pub(crate) const ENTRY_WORDS: usize = PADDING_WORDS;

/// Objects that a namespace can have.
const MAX_OBJECTS: u64 = 1 << 16;

/// A namespace's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceLayout {
    /// Objects.
    pub(crate) objects: u64,
    /// Words of all objects.
    pub(crate) object_words: u64,
    /// Bytes of all extents, whole pages.
    pub(crate) extent_bytes: u64,
    participants: u64,
    /// Whether the name is to stay when the last participant has left.
    pub(crate) persistent: bool,
    /// Bytes of the file.
    pub(super) size: u64,
}

impl NamespaceLayout {
    pub(crate) fn new(
        objects: u64,
        object_words: u64,
        extent_bytes: u64,
        participants: u64,
        persistent: bool,
    ) -> Result<Self> {
        let (least_words, most_words) = if objects > 0 { (1, SIZE_MAX / WORD as u64) } else { (0, 0) };
        for (what, found, least, most) in [
            ("number of objects", objects, 0, MAX_OBJECTS),
            ("number of participants", participants, 1, MAX_PARTICIPANTS),
            ("number of words", object_words, least_words, most_words),
            ("number of bytes of long values", extent_bytes, 0, SIZE_MAX),
        ] {
            if !(least..=most).contains(&found) {
                return Err(invalid("namespace", what, found, format_args!("{least} to {most}"), "choose another"));
            }
        }
        let layout = Self { objects, object_words, extent_bytes, participants, persistent, size: 0 };
        let size = layout.mapped_bytes().and_then(|mapped| mapped.checked_add(extent_bytes));
        match size.filter(|&size| size <= SIZE_MAX && extent_bytes.is_multiple_of(PAGE)) {
            Some(size) => Ok(Self { size, ..layout }),
            None => Err(invalid("region", "capacity", objects, "a region below 64 TiB", "choose a smaller capacity")),
        }
    }

    /// The part of it that has memory from the beginning.
    fn mapped_bytes(&self) -> Option<u64> {
        bytes_of((self.first_object() as u64).checked_add(self.object_words)?)
    }

    /// Bytes to map. The extents begin there.
    pub(crate) fn mapped(&self) -> u64 {
        match self.extent_bytes {
            0 => self.size,
            _ => self.mapped_bytes().unwrap_or(0),
        }
    }

    pub(super) fn store(&self, words: &mut [u64; header::USED]) {
        words[header::KIND] = header::NAMESPACE;
        words[header::CAPACITY] = self.objects;
        words[header::MAX_MESSAGE_BYTES] = self.object_words * WORD as u64;
        words[header::PARTICIPANTS] = self.participants;
        words[header::EXTENTS] = self.extent_bytes;
        words[header::PERSISTENT] = u64::from(self.persistent);
    }

    pub(crate) fn participants(&self) -> usize {
        self.participants as usize
    }

    /// First word of a participant's record.
    pub(super) fn participant(index: usize) -> usize {
        PARTICIPANTS_AT + index * PARTICIPANT_WORDS
    }

    /// First word of an object's entry in the table.
    pub(crate) fn entry(&self, index: usize) -> usize {
        Self::participant(self.participants()) + index * ENTRY_WORDS
    }

    /// First word of the first object.
    pub(crate) fn first_object(&self) -> usize {
        self.entry(self.objects as usize)
    }
}
