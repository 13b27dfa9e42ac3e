//! Where names live, and the pipes and queues that transfers make there.

use std::path::PathBuf;

use tombolo::pipe;
use tombolo::queue;
use tombolo::{Directory, OnStale};

/// Bytes in a pipe by default: enough that neither side waits for each step of the other.
const PIPE_CAPACITY: usize = 4 << 20;

/// Messages in a queue by default: as many bytes as a pipe holds.
const QUEUE_CAPACITY: usize = PIPE_CAPACITY / BLOCK_LEN;

/// Size of a queue's blocks: the bytes of a file that `send` puts into one message.
pub const BLOCK_LEN: usize = 4096;

/// The directory of names that the user chose, or the default one.
pub struct Location {
    chosen: Option<PathBuf>,
    pub directory: Directory,
}

impl Location {
    pub fn new(chosen: Option<PathBuf>) -> Self {
        let directory = chosen.as_ref().map_or_else(Directory::default, Directory::at);
        Self { chosen, directory }
    }

    /// Options of a byte pipe for one transfer.
    ///
    /// A pipe whose both sides died is replaced: nobody could make sense of the rest of its stream.
    pub fn pipe(&self, capacity: Option<usize>) -> pipe::Options<[u8]> {
        let capacity = capacity.unwrap_or(PIPE_CAPACITY);
        let options = pipe::Options::bytes().capacity_bytes(capacity).on_stale(OnStale::Recreate);
        match &self.chosen {
            Some(path) => options.directory(path),
            None => options,
        }
    }

    /// Options of a queue of byte messages. One whose participants all died is replaced.
    ///
    /// A larger capacity does not add blocks: it is meant for lines, and most of them are short.
    pub fn queue(&self, capacity: Option<usize>) -> queue::Options<[u8]> {
        let capacity = capacity.unwrap_or(QUEUE_CAPACITY);
        let blocks = capacity.min(QUEUE_CAPACITY);
        let options =
            queue::Options::bytes().capacity(capacity).blocks(queue::Blocks { count: blocks, bytes: BLOCK_LEN });
        let options = options.on_stale(OnStale::Recreate);
        match &self.chosen {
            Some(path) => options.directory(path),
            None => options,
        }
    }
}
