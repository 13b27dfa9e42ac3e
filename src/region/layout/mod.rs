//! The bytes of a region: what a header says, and where everything lies. docs/layout.md has the
//! whole picture, tests/golden the proof.
//!
//! A region is one page or more. Offsets are counted in 8-byte words, in native byte order: a
//! region never leaves its machine.

pub(crate) mod broadcast;
pub(crate) mod header;
pub(crate) mod namespace;
pub(crate) mod pipe;
pub(crate) mod queue;
pub(crate) mod rpc;

use std::fmt;

use self::broadcast::{BroadcastGeometry, BroadcastLayout, SlowPolicy};
use self::header::{ElementType, RegionKind};
use self::namespace::NamespaceLayout;
use self::pipe::PipeLayout;
use self::queue::{QueueGeometry, QueueLayout};
use self::rpc::{RpcGeometry, RpcLayout};
use crate::error::{Error, ErrorKind, Result};
use crate::primitive::WORD;
use crate::sys::mapping::{HUGE_PAGE, PAGE};

/// The words of a participant's record.
pub(crate) mod participant {
    pub(crate) const PID: usize = 0;
    pub(crate) const STARTED: usize = 1;
    /// The lower half: its PID namespace. The upper half: the page at which it has the region
    /// mapped.
    pub(crate) const PID_NAMESPACE: usize = 2;
    pub(crate) const STATE: usize = 3;
    pub(crate) const JOINS: usize = 4;
    /// Sender, receiver or member. Zero in a pipe, where the index says it.
    pub(crate) const ROLE: usize = 5;
    /// In a queue: a sender's run. Of a receiver, the run that was open, or closed last, when it
    /// joined.
    pub(crate) const RUN: usize = 6;
    /// In a queue, if the other role had no participant: how many of it had joined by then, plus 1.
    pub(crate) const SINCE: usize = 7;
    pub(crate) const WORDS: usize = 8;
}

/// Words that keep two shared variables apart: adjacent-line prefetchers fetch pairs of 64-byte
/// lines.
pub(crate) const PADDING_WORDS: usize = 128 / WORD;

/// More than any machine's memory, and far from overflowing any sum in here.
const SIZE_MAX: u64 = 1 << 46;

/// Participants of a queue or a namespace: a block of a pool has 16 bits for its owner.
pub(crate) const MAX_PARTICIPANTS: u64 = 4096;

/// A region's description of itself, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Pipe(PipeLayout),
    Queue(QueueLayout),
    Namespace(NamespaceLayout),
    Broadcast(BroadcastLayout),
    Rpc(RpcLayout),
}

fn invalid(kind: &str, what: &str, found: u64, expected: impl fmt::Display, remedy: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOptions, format_args!("lay out a {kind} with this {what}"), found, expected, remedy)
}

fn round_to_page(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(PAGE)
}

/// The bytes of whole pages that hold `words`. None: more than a region can have.
fn bytes_of(words: u64) -> Option<u64> {
    words.checked_mul(WORD as u64).and_then(round_to_page).filter(|&size| size <= SIZE_MAX)
}

impl Layout {
    pub(crate) fn pipe(element: ElementType, directions: u64, capacity: u64, max_message_bytes: u64) -> Result<Self> {
        PipeLayout::new(element, directions, capacity, max_message_bytes).map(Self::Pipe)
    }

    pub(crate) fn kind(&self) -> RegionKind {
        match self {
            Self::Pipe(_) => RegionKind::Pipe,
            Self::Queue(_) => RegionKind::Queue,
            Self::Namespace(_) => RegionKind::Namespace,
            Self::Broadcast(_) => RegionKind::Broadcast,
            Self::Rpc(_) => RegionKind::Rpc,
        }
    }

    pub(crate) fn element(&self) -> ElementType {
        match self {
            Self::Pipe(pipe) => pipe.element,
            Self::Queue(queue) => queue.element,
            Self::Namespace(_) => ElementType::Bytes,
            Self::Broadcast(broadcast) => broadcast.element,
            Self::Rpc(rpc) => rpc.element,
        }
    }

    /// Slots, bytes of a byte ring, objects, or callers.
    pub(crate) fn capacity(&self) -> u64 {
        match self {
            Self::Pipe(pipe) => pipe.capacity,
            Self::Queue(queue) => queue.capacity,
            Self::Namespace(namespace) => namespace.objects,
            Self::Broadcast(broadcast) => broadcast.capacity,
            Self::Rpc(rpc) => rpc.geometry.callers,
        }
    }

    /// The longest message, or all objects, in bytes.
    pub(crate) fn max_message_bytes(&self) -> u64 {
        match self {
            Self::Pipe(pipe) => pipe.max_message_bytes,
            Self::Queue(queue) => queue.max_message_bytes,
            Self::Namespace(namespace) => namespace.object_words * WORD as u64,
            Self::Broadcast(broadcast) => broadcast.max_message_bytes,
            Self::Rpc(rpc) => rpc.max_message_bytes,
        }
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Pipe(pipe) => pipe.size,
            Self::Queue(queue) => queue.size,
            Self::Namespace(namespace) => namespace.size,
            Self::Broadcast(broadcast) => broadcast.size,
            Self::Rpc(rpc) => rpc.size,
        }
    }

    pub(crate) fn with_size(mut self, bytes: u64) -> Self {
        match &mut self {
            Self::Pipe(pipe) => pipe.size = bytes,
            Self::Queue(queue) => queue.size = bytes,
            Self::Namespace(namespace) => namespace.size = bytes,
            Self::Broadcast(broadcast) => broadcast.size = bytes,
            Self::Rpc(rpc) => rpc.size = bytes,
        }
        self
    }

    /// Bytes to map.
    pub(crate) fn mapped(&self) -> u64 {
        match self {
            Self::Queue(queue) => queue.mapped(),
            Self::Namespace(namespace) => namespace.mapped(),
            Self::Pipe(_) | Self::Broadcast(_) | Self::Rpc(_) => self.size(),
        }
    }

    /// Words that one scan of everything visits, in repair and in statistics.
    pub(crate) fn steps(&self) -> u64 {
        match self {
            Self::Queue(queue) => queue.steps(),
            Self::Broadcast(broadcast) => broadcast.steps(),
            Self::Rpc(rpc) => rpc.steps(),
            Self::Pipe(_) | Self::Namespace(_) => 0,
        }
    }

    /// Participants at most.
    pub(crate) fn participants(&self) -> usize {
        match self {
            Self::Pipe(_) => PipeLayout::PARTICIPANTS,
            Self::Queue(queue) => queue.participants(),
            Self::Namespace(namespace) => namespace.participants(),
            Self::Broadcast(broadcast) => broadcast.participants(),
            Self::Rpc(rpc) => rpc.participants(),
        }
    }

    /// First word of a participant's record.
    pub(crate) fn participant(&self, index: usize) -> usize {
        debug_assert!(index < self.participants());
        match self {
            Self::Pipe(_) => PipeLayout::participant(index),
            Self::Queue(_) => QueueLayout::participant(index),
            Self::Namespace(_) => NamespaceLayout::participant(index),
            Self::Broadcast(_) => BroadcastLayout::participant(index),
            Self::Rpc(_) => RpcLayout::participant(index),
        }
    }

    /// Whether the name is to stay when the last participant has left.
    pub(crate) fn is_persistent(&self) -> bool {
        matches!(self, Self::Namespace(namespace) if namespace.persistent)
    }

    /// The header as it goes into a fresh region, all but the magic number.
    pub(crate) fn header(&self) -> [u64; header::USED] {
        let mut words = [0; header::USED];
        words[header::VERSION] = header::LAYOUT_VERSION;
        words[header::SIZE] = self.size();
        words[header::REGION_STATE] = header::ACTIVE;
        match self {
            Self::Pipe(pipe) => pipe.store(&mut words),
            Self::Queue(queue) => queue.store(&mut words),
            Self::Namespace(namespace) => namespace.store(&mut words),
            Self::Broadcast(broadcast) => broadcast.store(&mut words),
            Self::Rpc(rpc) => rpc.store(&mut words),
        }
        words
    }

    /// Accepts a header only if this library could have written it into a file of `length` bytes.
    pub(crate) fn parse(words: &[u64; header::WORDS], length: u64, what: &str) -> Result<Self> {
        let action = format!("open {what}");
        header::check(words, length, &action)?;
        let corrupt = |found: String| {
            let remedy = "the header is damaged: remove the region when nobody uses it";
            Err(Error::new(ErrorKind::Corrupt, &action, found, "a header that tombolo writes", remedy))
        };
        let directions = words[header::DIRECTIONS];
        let kind = match (words[header::KIND], directions) {
            (header::PIPE, 1 | 2) => RegionKind::Pipe,
            (header::QUEUE, 1) => RegionKind::Queue,
            (header::NAMESPACE, 0) => RegionKind::Namespace,
            (header::BROADCAST, 1) => RegionKind::Broadcast,
            (header::RPC, 2) => RegionKind::Rpc,
            (kind, directions) => return corrupt(format!("kind {kind} with {directions} directions")),
        };
        let state = words[header::REGION_STATE];
        let unused = if kind == RegionKind::Namespace { header::USED } else { header::IDENTITY };
        if !matches!(state, header::ACTIVE | header::RETIRED) || words.iter().skip(unused).any(|&word| word != 0) {
            return corrupt("words that have no meaning".into());
        }
        let (size, align) = (words[header::ELEMENT_SIZE], words[header::ELEMENT_ALIGN]);
        let element = ElementType::parse(size, align, words[header::ELEMENT_TAG]);
        // Only requests and replies can have no bytes.
        let is_possible = |element: &ElementType| kind == RegionKind::Rpc || size > 0 || *element == ElementType::Bytes;
        let Some(element) = element.filter(is_possible) else {
            return corrupt(format!("an element of {size} bytes aligned to {align}"));
        };
        let (capacity, limit) = (words[header::CAPACITY], words[header::MAX_MESSAGE_BYTES]);
        let participants = words[header::PARTICIPANTS];
        let layout = match kind {
            RegionKind::Pipe => Self::pipe(element, directions, capacity, limit),
            RegionKind::Queue => {
                let geometry = QueueGeometry {
                    participants,
                    inline_bytes: words[header::INLINE_BYTES],
                    blocks: words[header::BLOCKS],
                    block_bytes: words[header::BLOCK_BYTES],
                    extents: words[header::EXTENTS],
                    deliveries: words[header::DELIVERIES],
                };
                QueueLayout::new(element, capacity, limit, geometry).map(Self::Queue)
            }
            RegionKind::Namespace => {
                let persistent = words[header::PERSISTENT] == 1;
                let (object_words, extent_bytes) = (limit / WORD as u64, words[header::EXTENTS]);
                NamespaceLayout::new(capacity, object_words, extent_bytes, participants, persistent)
                    .map(Self::Namespace)
            }
            RegionKind::Broadcast => {
                let Some(policy) = SlowPolicy::parse(words[header::SLOW_POLICY]) else {
                    return corrupt(format!("the policy {} for slow subscribers", words[header::SLOW_POLICY]));
                };
                let geometry = BroadcastGeometry {
                    publishers: words[header::PUBLISHERS],
                    subscribers: participants,
                    history: words[header::HISTORY],
                    policy,
                    max_lag: words[header::MAX_LAG],
                    slot_bytes: words[header::INLINE_BYTES],
                    keys: words[header::KEYS],
                    frames: words[header::FRAMES],
                    frame_bytes: words[header::FRAME_BYTES],
                };
                BroadcastLayout::new(element, capacity, limit, geometry).map(Self::Broadcast)
            }
            RegionKind::Rpc => {
                let (size, align) = (words[header::REPLY_SIZE], words[header::REPLY_ALIGN]);
                let Some(reply) = ElementType::parse(size, align, words[header::REPLY_TAG]) else {
                    return corrupt(format!("replies of {size} bytes aligned to {align}"));
                };
                let max_reply_bytes = words[header::MAX_REPLY_BYTES];
                let geometry = RpcGeometry { callers: capacity, responders: participants, max_reply_bytes };
                RpcLayout::new(element, reply, limit, geometry).map(Self::Rpc)
            }
        };
        // Valid if the same layout, made anew, has the same header. The state and the
        // identity may differ, and rounding up to huge pages may have made the file longer.
        match layout {
            Ok(layout) if length >= layout.size() && length - layout.size() < HUGE_PAGE => {
                let layout = layout.with_size(length);
                let mut again = layout.header();
                again[header::MAGIC] = words[header::MAGIC];
                again[header::REGION_STATE] = state;
                again[header::IDENTITY] = words[header::IDENTITY];
                if again == words[..header::USED] {
                    return Ok(layout);
                }
            }
            _ => {}
        }
        corrupt(format!("capacity {capacity} and limit {limit} in {length} bytes"))
    }
}
