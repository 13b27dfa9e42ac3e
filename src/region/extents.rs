//! Extents: parts of a region's file behind its mapping, for what is long. They are read and
//! written as a file. An extent has memory only where something was written, until it is given
//! back. Where there is none, writing is an error, where a mapping would raise a signal.

use crate::region::Region;
use crate::sys::available_memory::is_available;
use crate::sys::file;

/// Bytes that a handle writes to extents between two checks for available memory. So a short
/// message or value costs no additional system call.
pub(crate) const CHECK_EVERY: u64 = 1 << 20;

/// Whether that part of the file can be written with the memory that is available. On a disk it
/// always can.
pub(crate) fn has_room(region: &Region, at: u64, length: u64) -> bool {
    let file = region.file();
    is_available(length)
        || !file::is_memory(file)
        // Some of it may have memory already.
        || is_available(length - file::present(file, at, length).min(length))
}
