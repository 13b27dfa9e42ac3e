//! Where names live, and the pipes, queues and broadcasts that transfers make there.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use tombolo::broadcast::{self, Policy};
use tombolo::inspect::{ParticipantStatus, RegionInfo};
use tombolo::pipe;
use tombolo::queue::{self, OnDeath};
use tombolo::{Directory, ErrorKind, Namespace, NamespaceBuilder, OnStale};

use crate::args::Broadcast;
use crate::failure::print_message;

/// Bytes in a pipe by default: enough that neither side waits for each step of the other.
const PIPE_CAPACITY: usize = 4 << 20;

/// Messages in a queue by default: as many bytes as a pipe holds.
const QUEUE_CAPACITY: usize = PIPE_CAPACITY / BLOCK_LEN;

/// Senders and receivers of a queue: scripts start one for each line of something.
const MAX_PARTICIPANTS: usize = 1024;

/// Size of a queue's blocks: the bytes of a file that `send` puts into one message.
pub const BLOCK_LEN: usize = 4096;

/// Bytes of a slot in a broadcast of lines: most of them fit into one.
const LINE_LEN: usize = 248;

/// Slots in a broadcast of lines by default: as many bytes as a pipe holds.
const LINES_CAPACITY: usize = PIPE_CAPACITY / 256;

/// Bytes of the longest message of a broadcast. A small ring is made larger for the lower bound
/// only.
const LONGEST: RangeInclusive<usize> = 64 << 10..=1 << 20;

/// Subscribers of a broadcast. Each costs a publisher that waits for room.
pub const MAX_SUBSCRIBERS: u64 = 64;

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

    /// For a namespace that exists.
    pub fn namespace(&self) -> NamespaceBuilder {
        let builder = Namespace::builder().must_exist();
        match &self.chosen {
            Some(path) => builder.directory(path),
            None => builder,
        }
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
    /// A larger capacity does not add blocks: it is meant for lines, and most of them are short. In
    /// a queue that redelivers every message needs one.
    ///
    /// With `redeliver` it redelivers that many times; otherwise one that is there may or may not.
    pub fn queue(
        &self,
        name: &str,
        capacity: Option<usize>,
        redeliver: Option<u8>,
        in_pieces: bool,
    ) -> queue::Options<[u8]> {
        let capacity = capacity.unwrap_or(QUEUE_CAPACITY);
        let blocks = if redeliver.is_some() { capacity } else { capacity.min(QUEUE_CAPACITY) };
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
        let options = match redeliver {
            Some(times) => options.on_death(OnDeath::Redeliver { times }),
            None => options,
        };
        match &self.chosen {
            Some(path) => options.directory(path),
            None => options,
        }
    }

    /// Options of the broadcast of byte messages under this name.
    ///
    /// One whose participants were all killed is replaced: nobody is left for whom its messages
    /// were. A queue with waiting messages is not. `in_pieces`: a slot holds a piece of a file.
    pub fn broadcast(
        &self,
        name: &str,
        args: &Broadcast,
        history: Option<usize>,
        in_pieces: bool,
    ) -> broadcast::Options<[u8]> {
        let (slot, default) = if in_pieces { (BLOCK_LEN, QUEUE_CAPACITY) } else { (LINE_LEN, LINES_CAPACITY) };
        let capacity = args.capacity.unwrap_or(default);
        let found = self.directory.inspect(name).ok();
        let has_waiting = |info: &RegionInfo| info.queue.is_some() && info.rings.iter().any(|ring| ring.queued > 0);
        let on_stale = if found.as_ref().is_some_and(has_waiting) { OnStale::Resume } else { OnStale::Recreate };
        let mut options = broadcast::Options::bytes()
            .capacity(capacity)
            .slot_bytes(slot)
            .max_publishers(args.publishers.unwrap_or(1) as usize)
            .max_subscribers(MAX_SUBSCRIBERS as usize)
            .history(history.unwrap_or(0))
            .on_stale(on_stale);
        // One that is there may have longer messages, and would be refused.
        if found.is_none_or(|info| info.is_stale()) {
            let longest = (capacity.saturating_mul(slot + 8) / 4).clamp(*LONGEST.start(), *LONGEST.end());
            // The library does not evict subscribers that lag less than one message.
            let limit = args.evict_slow.map_or(usize::MAX, |lag| lag.saturating_sub(1).saturating_mul(slot));
            options = options.max_message_bytes(longest.min(limit.saturating_sub(1)));
        }
        options = match (args.lossy, args.evict_slow) {
            (true, _) => options.policy(Policy::Lossy),
            (false, Some(lag)) => options.policy(Policy::EvictSlow { lag }),
            (false, None) => options,
        };
        match &self.chosen {
            Some(path) => options.directory(path),
            None => options,
        }
    }

    /// Prints what is other than asked in a broadcast that others have made.
    pub fn print_differences(&self, name: &str, args: &Broadcast, history: Option<usize>) {
        let Ok(RegionInfo { broadcast: Some(info), rings, .. }) = self.directory.inspect(name) else { return };
        let asked = args.publishers.unwrap_or(0);
        if (rings.len() as u64) < asked {
            print_message(format_args!("note: the number of publishers is {}, not {asked} as asked", rings.len()));
        }
        let asked = history.unwrap_or(0) as u64;
        if info.history < asked {
            print_message(format_args!("note: the history is {}, not {asked} as asked", info.history));
        }
        if let (Policy::EvictSlow { lag }, Some(asked)) = (info.policy, args.evict_slow)
            && lag != asked
        {
            print_message(format_args!("note: the lag is {lag}, not {asked} as asked"));
        }
    }
}
