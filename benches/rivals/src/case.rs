//! What is measured.

use std::fmt;

/// Messages in one batch.
pub const BATCH: usize = 32;

/// Which suite a case belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// Queues with one producer and one consumer.
    Spsc,
    /// Queues with any number of producers and consumers.
    Mpmc,
    /// Messages from one publisher to each of several subscribers.
    Broadcast,
    /// Values, atomics, locks and semaphores.
    Objects,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// As many messages as possible.
    Throughput,
    /// One message, or one permit, there and back again.
    PingPong,
    /// One way to a receiver that has gone to sleep.
    Parked,
    /// As many byte messages as possible, in a queue that takes any length.
    Bytes,
    /// As many messages as possible from a publisher that does not wait for subscribers.
    Lossy,
    /// What it takes to publish a message, one each millisecond.
    Publish,
    /// One thread sends a message and receives it.
    Alone,
    /// Readers load a value without a writer.
    Load,
    /// Readers load a value that a writer stores as fast as it can.
    LoadBusy,
    /// A writer stores a value; readers load it as fast as they can.
    Store,
    /// All add to one number.
    Add,
    /// All take and release one lock.
    Lock(Section),
    /// All take and return the only permit.
    Permit,
}

/// What is done under a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Nothing,
    /// Counts in the value that the lock protects.
    Add,
    /// Computes for 100 ns, and for as long before the next time.
    Compute,
    /// Nothing, under a lock that its owner could take again.
    Reentrant,
    /// Reads the value under a shared lock.
    Read,
    /// Counts in the value under the exclusive side of a shared lock.
    Write,
}

/// How messages enter and leave the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// By value, one at a time.
    One,
    /// By value, `BATCH` at a time.
    Batch,
    /// Written and read in the queue's own memory, one at a time.
    InPlace,
    /// In the queue's own memory, `BATCH` at a time.
    InPlaceBatch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Spin,
    Block,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Case {
    pub area: Area,
    pub work: Work,
    /// Bytes of a message or value; 0 if there is neither.
    pub size: usize,
    /// Messages that the queue holds; 0 for objects.
    pub slots: usize,
    /// For queues.
    pub transfer: Transfer,
    /// For queues.
    pub wait: Wait,
    /// Participants that send or store.
    pub writers: usize,
    /// Participants that receive or load; of objects without a value, all.
    pub readers: usize,
}

impl Case {
    pub fn words(&self) -> usize {
        self.size / size_of::<u64>()
    }

    /// Messages that are passed at once.
    pub fn batch(&self) -> usize {
        match self.transfer {
            Transfer::Batch | Transfer::InPlaceBatch => BATCH,
            Transfer::One | Transfer::InPlace => 1,
        }
    }

    /// Whether messages are copied from and to memory outside the queue.
    pub fn is_by_value(&self) -> bool {
        matches!(self.transfer, Transfer::One | Transfer::Batch)
    }

    /// Whether a message is too large for the stack.
    pub fn is_large(&self) -> bool {
        self.size > 4096
    }

    /// Whether participants may go to sleep.
    pub fn blocks(&self) -> bool {
        self.wait == Wait::Block
    }

    pub fn is_throughput(&self) -> bool {
        self.work == Work::Throughput
    }

    pub fn participants(&self) -> usize {
        self.writers + self.readers
    }

    pub fn is_alone(&self) -> bool {
        self.participants() == 1
    }

    pub fn has_value(&self) -> bool {
        matches!(self.work, Work::Load | Work::LoadBusy | Work::Store)
    }

    /// Whether this participant stores a value; the writers come first.
    pub fn stores(&self, participant: usize) -> bool {
        participant < self.writers
    }

    /// How often each message is received.
    pub fn copies(&self) -> u64 {
        if self.area == Area::Broadcast { self.readers as u64 } else { 1 }
    }

    /// Whether each operation adds one to a total.
    pub fn counts(&self) -> bool {
        matches!(self.work, Work::Add | Work::Lock(Section::Add | Section::Write))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { area, work, size, slots, transfer, wait, writers, readers } = self;
        match (area, work) {
            (Area::Spsc, Work::Throughput) => write!(f, "{transfer}/{size}x{slots}"),
            (Area::Spsc, Work::PingPong) => write!(f, "{work}-{wait}/{size}x{slots}"),
            (Area::Mpmc, Work::Throughput) => write!(f, "{writers}P{readers}C-{transfer}-{wait}/{size}"),
            (Area::Mpmc, Work::Alone) => write!(f, "{work}/{size}"),
            (Area::Broadcast, Work::Throughput) => write!(f, "{transfer}/{size}-{readers}s"),
            (Area::Broadcast, Work::Publish) => write!(f, "{work}-{wait}/{size}-{readers}s"),
            (Area::Broadcast, _) => write!(f, "{work}-{transfer}/{size}-{readers}s"),
            (Area::Spsc | Area::Mpmc, _) => write!(f, "{work}/{size}x{slots}"),
            (Area::Objects, _) if self.has_value() => write!(f, "{work}/{size}-{readers}r"),
            (Area::Objects, _) => write!(f, "{work}/{readers}p"),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Throughput => "throughput",
            Self::PingPong => "ping-pong",
            Self::Parked => "parked",
            Self::Bytes => "bytes",
            Self::Lossy => "lossy",
            Self::Publish => "publish",
            Self::Alone => "alone",
            Self::Load => "load",
            Self::LoadBusy => "load-busy",
            Self::Store => "store",
            Self::Add => "add",
            Self::Lock(Section::Nothing) => "lock",
            Self::Lock(Section::Add) => "lock-add",
            Self::Lock(Section::Compute) => "lock-compute",
            Self::Lock(Section::Reentrant) => "lock-again",
            Self::Lock(Section::Read) => "read",
            Self::Lock(Section::Write) => "write",
            Self::Permit => "permit",
        })
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one",
            Self::Batch => "batch",
            Self::InPlace => "in-place",
            Self::InPlaceBatch => "in-place-batch",
        })
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::Block => "block",
        })
    }
}
