//! The long values of a map: each in an extent of its own (region/extents.rs). Without a value an
//! extent has no memory.

use crate::object::element::{Stored, Unreadable};
use crate::object::map::words::MapGeometry;
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::map::Extents;
use crate::region::Region;
use crate::region::extents::{CHECK_EVERY, has_room};
use crate::sys::file;

/// Bytes that are copied from one extent to another at a time.
const CHUNK: usize = 16 << 10;

/// The extents of one map.
#[derive(Clone, Copy)]
pub(super) struct MapExtents<'a> {
    pub(super) region: &'a Region,
    pub(super) geometry: &'a MapGeometry,
    /// Where in the file they begin.
    pub(super) start: u64,
    /// Bytes written since the last check for available memory.
    pub(super) unchecked_bytes: &'a AtomicU64,
}

impl<'a> MapExtents<'a> {
    /// Where a value of that length is.
    pub(super) fn value(self, extent: u64, length: usize) -> Result<Stored<'a>, Unreadable> {
        // A forked child has the mapping, and not the file.
        if !self.region.is_from_this_process() {
            return Err(Unreadable::Forked);
        }
        let (at, _) = self.place(extent).ok_or(Unreadable::Corrupt)?;
        Ok(Stored::Extent { length, file: self.region.file(), at })
    }

    /// Where an extent begins in the file, and how long it is.
    fn place(self, extent: u64) -> Option<(u64, u64)> {
        let (offset, length) = self.geometry.extent(extent)?;
        Some((self.start.checked_add(offset)?, length))
    }

    /// Whether `length` more bytes can be written.
    fn has_room(self, at: u64, length: u64) -> bool {
        // Relaxed: how often it asks need not be exact.
        let unchecked = self.unchecked_bytes.fetch_add(length, Ordering::Relaxed).saturating_add(length);
        if unchecked < CHECK_EVERY {
            return true;
        }
        self.unchecked_bytes.store(0, Ordering::Relaxed); // as above
        has_room(self.region, at, length)
    }
}

impl Extents for MapExtents<'_> {
    fn write(&self, extent: u64, value: &[u8]) -> bool {
        self.place(extent).is_some_and(|(at, _)| {
            self.has_room(at, value.len() as u64) && file::write_all_at(self.region.file(), value, at).is_ok()
        })
    }

    fn copy(&self, from: u64, to: u64, length: usize) -> bool {
        let Some(((mut from, _), (mut to, _))) = self.place(from).zip(self.place(to)) else { return false };
        if !self.has_room(to, length as u64) {
            return false;
        }
        let (file, mut buffer) = (self.region.file(), [0; CHUNK]);
        let mut left = length;
        while let Some(chunk) = buffer.get_mut(..left.min(CHUNK)).filter(|chunk| !chunk.is_empty()) {
            if file::read_exact_at(file, chunk, from).is_err() || file::write_all_at(file, chunk, to).is_err() {
                return false;
            }
            let done = chunk.len();
            (from, to, left) = (from + done as u64, to + done as u64, left - done);
        }
        true
    }

    fn give_back(&self, extent: u64) {
        if let Some((at, length)) = self.place(extent) {
            // If that fails, it keeps its memory until the next time.
            let _ = file::discard(self.region.file(), at, length);
        }
    }
}
