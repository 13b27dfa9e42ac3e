//! Where names live, and the pipes and queues that transfers make there.

use std::path::PathBuf;

use tombolo::inspect::{ParticipantStatus, RegionInfo};
use tombolo::pipe;
use tombolo::queue;
use tombolo::{Directory, ErrorKind, OnStale};

/// Bytes in a pipe by default: enough that neither side waits for each step of the other.
const PIPE_CAPACITY: usize = 4 << 20;

/// Messages in a queue by default: as many bytes as a pipe holds.
const QUEUE_CAPACITY: usize = PIPE_CAPACITY / BLOCK_LEN;

/// Senders and receivers of a queue: scripts start one for each line of something.
const MAX_PARTICIPANTS: usize = 1024;

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

    /// Options of the queue of byte messages under this name.
    ///
    /// What is left of earlier senders stays. With `in_pieces`, messages are pieces of files, and
    /// those of a killed sender are of no use: they are removed if no process uses the queue. So is
    /// what is not a queue, or cannot be read.
    ///
    /// A larger capacity does not add blocks: it is meant for lines, and most of them are short.
    pub fn queue(&self, name: &str, capacity: Option<usize>, in_pieces: bool) -> queue::Options<[u8]> {
        let capacity = capacity.unwrap_or(QUEUE_CAPACITY);
        let blocks = capacity.min(QUEUE_CAPACITY);
        let on_stale = match self.directory.inspect(name) {
            Ok(RegionInfo { queue: Some(queue), .. }) if in_pieces && queue.senders == ParticipantStatus::Dead => {
                OnStale::Recreate
            }
            Ok(RegionInfo { queue: Some(_), .. }) => OnStale::Resume,
            Err(error) if error.kind() == ErrorKind::NotFound => OnStale::Resume,
            _ => OnStale::Recreate,
        };
        let options = queue::Options::bytes()
            .capacity(capacity)
            .blocks(queue::Blocks { count: blocks, bytes: BLOCK_LEN })
            .max_participants(MAX_PARTICIPANTS)
            .on_stale(on_stale);
        match &self.chosen {
            Some(path) => options.directory(path),
            None => options,
        }
    }
}
