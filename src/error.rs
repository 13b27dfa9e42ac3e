//! What can go wrong: [`Error`] while setting up, which tells a story, and [`SendError`] and [`RecvError`] on the
//! data plane, which are `Copy` and cost nothing.

use std::fmt;
use std::io;

/// The result of everything that sets up, opens or removes.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed set-up: what was being done, what was found, what had been expected, and what to do about it.
pub struct Error {
    kind: ErrorKind,
    story: String,
    source: Option<io::Error>,
}

/// The kinds of [`Error`], to tell apart in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name cannot be one: empty, too long, with a slash, or hidden.
    InvalidName,
    /// A capacity, size, alignment or mode that no region can have.
    InvalidOptions,
    /// There is already a region of that name.
    AlreadyExists,
    /// There is no region of that name.
    NotFound,
    /// The file is not a region, or is cut short.
    NotARegion,
    /// A region, of another layout version than this library's.
    WrongVersion,
    /// A region of another kind, or of other elements.
    WrongType,
    /// The region's own description of itself contradicts itself.
    Corrupt,
    /// A live process plays that part already. `pid` as it recorded it; 0 if it did not say.
    EndpointInUse {
        /// The process that holds the seat.
        pid: u64,
    },
    /// Every lane of the queue is held by a live process; the message names them.
    TooManyParticipants,
    /// A seat's lock is free though its recorded process runs: somebody closed its descriptor.
    LockLost {
        /// The process that lost its lock.
        pid: u64,
    },
    /// The region is in use and was not to be removed.
    InUse {
        /// A process that uses it.
        pid: u64,
    },
    /// Another process is joining or leaving and does not get done.
    Busy,
    /// A process that was forked used a handle of its parent's.
    Forked,
    /// Not enough memory or disk for the region.
    NoSpace,
    /// The file or directory belongs to somebody else, or is open to too many.
    Permission,
    /// Any other refusal of the operating system.
    Io,
}

impl Error {
    /// `found`, `expected` and `remedy` make one sentence: "cannot open x: found .., expected ..; remedy".
    pub(crate) fn new(
        kind: ErrorKind,
        doing: impl fmt::Display,
        found: impl fmt::Display,
        expected: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self { kind, story: format!("cannot {doing}: found {found}, expected {expected}; {remedy}"), source: None }
    }

    /// An error of the operating system, with the remedy that fits what was being done.
    pub(crate) fn io(doing: impl fmt::Display, source: io::Error, remedy: impl fmt::Display) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory | io::ErrorKind::QuotaExceeded => {
                ErrorKind::NoSpace
            }
            _ => ErrorKind::Io,
        };
        Self { kind, story: format!("cannot {doing}: {source}; {remedy}"), source: Some(source) }
    }

    pub(crate) fn forked(doing: impl fmt::Display) -> Self {
        let expected = "one of this process's own";
        Self::new(ErrorKind::Forked, doing, "a handle of the parent process's", expected, "open one after the fork")
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.story)
    }
}

/// What a `main` that returns an error prints: the story, not its parts.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| error as _)
    }
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendError {
    /// No room, and the call was not to wait.
    Full,
    /// The receiver has left; of a queue, the last one has, or this sender's run was closed.
    Closed,
    /// The receiver's process died. What was in the ring waits for a successor.
    PeerDied,
    /// No room before the deadline.
    TimedOut,
    /// The message is longer than this call, or this pipe, can take.
    TooLarge {
        /// Bytes in the message.
        length: usize,
        /// Bytes that would have been taken.
        limit: usize,
    },
    /// The peer wrote something into the region that no correct peer writes.
    Corrupt,
    /// This handle belongs to the process that forked this one.
    Forked,
    /// The receiver's lock is free though its process runs: nobody can tell any more when it dies.
    LockLost,
    /// No memory for a large message.
    OutOfMemory,
    /// The value cannot be serialised.
    Serialize,
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing there, and the call was not to wait.
    Empty,
    /// The sender (of a queue, the last one) has left, or the queue's present run was closed, and
    /// everything that was sent has been received:
    /// end of stream.
    Closed,
    /// The sender's process died; everything that it had sent whole has been received.
    PeerDied,
    /// Nothing came before the deadline.
    TimedOut,
    /// The next message is longer than the buffer. It stays where it is.
    BufferTooSmall {
        /// Bytes that the buffer must have.
        needed: usize,
    },
    /// The peer wrote something into the region that no correct peer writes.
    Corrupt,
    /// This handle belongs to the process that forked this one.
    Forked,
    /// The sender's lock is free though its process runs: nobody can tell any more when it dies.
    LockLost,
    /// A message was lost with the receiver that had begun to read it: a large one of a pipe, or any of a queue that reports
    /// losses. What follows is whole.
    MessageLost,
    /// No memory for the message. In a pipe it stays where it is, unless part of it had come already; from a queue it is gone.
    OutOfMemory,
    /// The message is not one that the expected type is serialised to. It is gone.
    Deserialize,
    /// There is no task to be done: more were reported done than were received.
    NoTask,
}

/// Why a value, a lock or another object of a namespace did not do what it was asked for. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncError {
    /// It cannot be had now, and the call was not to wait.
    WouldBlock,
    /// It could not be had before the deadline.
    TimedOut,
    /// This thread holds it already, and it is not re-entrant: to wait would be for ever.
    WouldDeadlock,
    /// This thread (of a bounded semaphore, this process) does not hold it.
    NotOwner,
    /// More permits, or readers of one process, than there can be.
    LimitExceeded {
        /// How many there were to be.
        count: u64,
        /// How many there can be.
        limit: u64,
    },
    /// No such element.
    OutOfBounds {
        /// The index that was asked for; of a range, its end.
        index: usize,
        /// Elements that there are.
        length: usize,
    },
    /// The barrier broke: this process died after coming to it, or gave up. 0: it was reset.
    BarrierBroken {
        /// As it recorded itself.
        pid: u64,
    },
    /// Somebody wrote into the region what no correct process writes.
    Corrupt,
    /// This handle belongs to the process that forked this one.
    Forked,
    /// The owner's lock in the kernel is gone though its process runs: nobody can tell any more when it dies.
    LockLost,
}

/// Why a lock was not simply acquired. In two cases it was, and `G` is its guard.
pub enum LockError<G> {
    /// It is acquired; an owner died with it since the last one that knew. What a mutex holds is whole, as last committed; an array may be
    /// half replaced. Mend what it guards, and go on, or [`poison`](crate::sync::MutexGuard::poison) it. Told until one who was told has
    /// unlocked it; of a read-write lock, one who could write.
    OwnerDied(G),
    /// It is acquired; an owner gave up what it guards, see [`poison`](crate::sync::MutexGuard::poison). Told to all until somebody heals it.
    Poisoned(G),
    /// It is not acquired.
    Failed(SyncError),
}

impl<G> LockError<G> {
    /// The guard, if there is one, whatever happened to earlier owners.
    pub fn into_guard(self) -> Result<G, SyncError> {
        match self {
            Self::OwnerDied(guard) | Self::Poisoned(guard) => Ok(guard),
            Self::Failed(error) => Err(error),
        }
    }

    pub(crate) fn map<H>(self, with: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            Self::OwnerDied(guard) => LockError::OwnerDied(with(guard)),
            Self::Poisoned(guard) => LockError::Poisoned(with(guard)),
            Self::Failed(error) => LockError::Failed(error),
        }
    }

    /// What happened, without the guard.
    fn text(&self) -> String {
        match self {
            Self::OwnerDied(_) => "an owner of the lock died with it".into(),
            Self::Poisoned(_) => "the lock is poisoned".into(),
            Self::Failed(error) => error.to_string(),
        }
    }
}

impl<G> From<SyncError> for LockError<G> {
    fn from(error: SyncError) -> Self {
        Self::Failed(error)
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(_) => f.write_str("OwnerDied(..)"),
            Self::Poisoned(_) => f.write_str("Poisoned(..)"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl<G> std::error::Error for LockError<G> {}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("it cannot be had without waiting"),
            Self::TimedOut => f.write_str("it could not be had before the deadline"),
            Self::WouldDeadlock => f.write_str("this thread holds it already"),
            Self::NotOwner => f.write_str("this one does not hold it"),
            Self::LimitExceeded { count, limit } => write!(f, "{count} at once, where there can be at most {limit}"),
            Self::OutOfBounds { index, length } => write!(f, "index {index} of an array of {length}"),
            Self::BarrierBroken { pid: 0 } => f.write_str("the barrier was reset"),
            Self::BarrierBroken { pid } => write!(f, "the barrier was broken by process {pid}, which gave up or died"),
            Self::Corrupt => f.write_str("another process corrupted the region"),
            Self::Forked => f.write_str("this handle belongs to the parent process; open one of your own"),
            Self::LockLost => f.write_str("the owner's lock is gone though its process runs"),
        }
    }
}

impl std::error::Error for SyncError {}

impl From<SyncError> for io::Error {
    fn from(error: SyncError) -> Self {
        let kind = match error {
            SyncError::WouldBlock => io::ErrorKind::WouldBlock,
            SyncError::TimedOut => io::ErrorKind::TimedOut,
            SyncError::WouldDeadlock => io::ErrorKind::Deadlock,
            SyncError::NotOwner => io::ErrorKind::PermissionDenied,
            SyncError::LimitExceeded { .. } | SyncError::OutOfBounds { .. } => io::ErrorKind::InvalidInput,
            SyncError::BarrierBroken { .. } | SyncError::LockLost => io::ErrorKind::ConnectionReset,
            SyncError::Corrupt => io::ErrorKind::InvalidData,
            SyncError::Forked => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::Closed => f.write_str("the receiver has left"),
            Self::PeerDied => f.write_str("the receiver's process died"),
            Self::TimedOut => f.write_str("no room before the deadline"),
            Self::TooLarge { length, limit } => {
                write!(f, "a message of {length} bytes, where at most {limit} are taken")
            }
            Self::Corrupt => f.write_str("the receiver corrupted the region"),
            Self::Forked => f.write_str("this handle belongs to the parent process; open one of your own"),
            Self::LockLost => f.write_str("the receiver's lock is gone though its process runs"),
            Self::OutOfMemory => f.write_str("no memory for the message"),
            Self::Serialize => f.write_str("the value cannot be serialised"),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the ring is empty"),
            Self::Closed => f.write_str("the sender has left"),
            Self::PeerDied => f.write_str("the sender's process died"),
            Self::TimedOut => f.write_str("no message before the deadline"),
            Self::BufferTooSmall { needed } => write!(f, "the next message needs a buffer of {needed} bytes"),
            Self::Corrupt => f.write_str("the sender corrupted the region"),
            Self::Forked => f.write_str("this handle belongs to the parent process; open one of your own"),
            Self::LockLost => f.write_str("the sender's lock is gone though its process runs"),
            Self::MessageLost => f.write_str("a message was lost with the receiver that had begun to read it"),
            Self::OutOfMemory => f.write_str("no memory for the message"),
            Self::Deserialize => f.write_str("the message is no value of the expected type"),
            Self::NoTask => f.write_str("more tasks were reported done than were received"),
        }
    }
}

impl std::error::Error for SendError {}
impl std::error::Error for RecvError {}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = match error {
            SendError::Full => io::ErrorKind::WouldBlock,
            SendError::Closed => io::ErrorKind::BrokenPipe,
            SendError::PeerDied | SendError::LockLost => io::ErrorKind::ConnectionReset,
            SendError::TimedOut => io::ErrorKind::TimedOut,
            SendError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            SendError::Corrupt => io::ErrorKind::InvalidData,
            SendError::Forked => io::ErrorKind::Unsupported,
            SendError::OutOfMemory => io::ErrorKind::OutOfMemory,
            SendError::Serialize => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        let kind = match error {
            RecvError::Empty => io::ErrorKind::WouldBlock,
            RecvError::Closed => io::ErrorKind::UnexpectedEof,
            RecvError::PeerDied | RecvError::LockLost => io::ErrorKind::ConnectionReset,
            RecvError::TimedOut => io::ErrorKind::TimedOut,
            RecvError::BufferTooSmall { .. } | RecvError::NoTask => io::ErrorKind::InvalidInput,
            RecvError::Corrupt | RecvError::MessageLost | RecvError::Deserialize => io::ErrorKind::InvalidData,
            RecvError::Forked => io::ErrorKind::Unsupported,
            RecvError::OutOfMemory => io::ErrorKind::OutOfMemory,
        };
        Self::new(kind, error)
    }
}
