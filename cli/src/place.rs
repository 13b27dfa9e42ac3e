//! The directory of the names, as the user chose it.

use std::path::PathBuf;

use tombolo::{Abandoned, Directory, PipeOptions, QueueOptions};

/// Room enough that neither side of a transfer waits for the other's every move.
const CAPACITY: usize = 4 << 20;

/// The same for a queue, in messages.
const MESSAGES: usize = CAPACITY / PIECE_LEN;

/// Bytes of a file that go through a queue as one message: a block.
pub const PIECE_LEN: usize = 4096;

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

    /// A queue of byte messages, likewise. However many may wait, blocks are for no more than usual: lines are short.
    pub fn queue(&self, capacity: Option<usize>) -> QueueOptions<[u8]> {
        let capacity = capacity.unwrap_or(MESSAGES);
        let options = QueueOptions::bytes().capacity(capacity).blocks(capacity.min(MESSAGES), PIECE_LEN);
        let options = options.abandoned(Abandoned::Replace);
        match &self.chosen {
            Some(path) => options.directory(path),
            None => options,
        }
    }
}
