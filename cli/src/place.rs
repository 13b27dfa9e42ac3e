//! The directory of the names, as the user chose it.

use std::path::PathBuf;

use tombolo::{Abandoned, Directory, PipeOptions};

/// Room enough that neither side of a transfer waits for the other's every move.
const CAPACITY: usize = 4 << 20;

pub struct Place {
    chosen: Option<PathBuf>,
    pub directory: Directory,
}

impl Place {
    pub fn new(chosen: Option<PathBuf>) -> Self {
        let directory = chosen.as_ref().map_or_else(Directory::default, Directory::at);
        Self { chosen, directory }
    }

    /// A pipe of bytes for one transfer. The remains of one that both sides died in are of no use to anybody.
    pub fn pipe(&self, capacity: Option<usize>) -> PipeOptions<[u8]> {
        let options = PipeOptions::bytes().capacity_len(capacity.unwrap_or(CAPACITY)).abandoned(Abandoned::Replace);
        match &self.chosen {
            Some(path) => options.directory(path),
            None => options,
        }
    }
}
