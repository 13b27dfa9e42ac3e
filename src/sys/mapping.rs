//! Mappings of shared files.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use memmap2::{Advice, MmapOptions, MmapRaw};

/// The unit of sizes. 4 KiB even where the hardware's pages are larger: mmap rounds up the rest.
pub(crate) const PAGE: u64 = 4096;
pub(crate) const HUGE_PAGE: u64 = 2 << 20;

/// A shared mapping of a whole file. Gives out its address only: no reference to shared bytes may
/// ever exist.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
}

impl Mapping {
    pub(crate) fn new(file: impl AsFd, length: usize) -> io::Result<Self> {
        Self::without_core_dump(MmapOptions::new().len(length).map_raw(file.as_fd().as_raw_fd())?)
    }

    /// A mapping that this process cannot write.
    pub(crate) fn read_only(file: impl AsFd, length: usize) -> io::Result<Self> {
        Self::without_core_dump(MmapOptions::new().len(length).map_raw_read_only(file.as_fd().as_raw_fd())?)
    }

    fn without_core_dump(map: MmapRaw) -> io::Result<Self> {
        // A core dump would hold everybody's messages, and the crashed process keeps its locks
        // until it is written. A sandbox may refuse this, which is no error.
        let _ = map.advise(Advice::DontDump);
        Ok(Self { map })
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn advise_huge(&self) -> io::Result<()> {
        self.map.advise(Advice::HugePage)
    }

    pub(crate) fn prefault(&self) -> io::Result<()> {
        self.map.advise(Advice::PopulateWrite)
    }

    pub(crate) fn prefault_range(&self, start: usize, length: usize) -> io::Result<()> {
        self.map.advise_range(Advice::PopulateWrite, start, length)
    }

    pub(crate) fn lock(&self) -> io::Result<()> {
        self.map.lock()
    }
}
