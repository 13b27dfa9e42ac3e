//! Errors: [`Error`] of setting up, whose message says what to do about it, and [`SendError`],
//! [`RecvError`], [`SyncError`] and others of using it, which are `Copy` and cost nothing.
//! `remedy_of` has the remedies of all errors of the operating system, by cause.

use std::fmt;
use std::io;

/// The result of everything that creates, opens or removes.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be created, opened, passed on or removed.
///
/// The message says what was attempted, what was found, what was expected, and what to do about it.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<io::Error>,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This cannot be a name: it is empty, too long, hidden, or contains a slash.
    InvalidName,
    /// No region can have this capacity, size, alignment or mode, or the operation does not apply
    /// to this endpoint.
    InvalidOptions,
    /// There is a region of that name already.
    AlreadyExists,
    /// There is no region of that name, or no listener at that address.
    NotFound,
    /// The file is not a region, or it is cut short.
    NotARegion,
    /// The region is of another layout version than [`LAYOUT_VERSION`](crate::LAYOUT_VERSION).
    WrongVersion,
    /// The region or the object is of another kind, or holds values of another type.
    WrongType,
    /// The region's description of itself is contradictory.
    Corrupt,
    /// A live process holds that endpoint.
    EndpointInUse {
        /// That process, as it recorded itself. 0 if it did not.
        pid: u64,
    },
    /// As many live processes take part as can. The message lists them.
    TooManyParticipants,
    /// The kernel holds no lock of a process that runs and takes part. The process closed a
    /// descriptor that was not its own. Its death could not be noticed.
    LockLost {
        /// The process that lost its lock.
        pid: u64,
    },
    /// A live process uses the region, which was not to be removed then.
    InUse {
        /// A process that uses it.
        pid: u64,
    },
    /// Another process is joining or leaving, and does not finish.
    Busy,
    /// No peer came before the deadline.
    TimedOut,
    /// The thread was [interrupted](crate::InterruptHandle) while it waited.
    Interrupted,
    /// The region's name was removed, or leads to another region. No other process finds this one.
    NameRemoved,
    /// The object that a [`Reference`](crate::Reference) means was removed.
    Removed,
    /// The handle belongs to the process that forked this one.
    Forked,
    /// serde cannot serialise the value, or what was serialised is no such value.
    NotSerializable,
    /// `main` has not called [`process::init`](crate::process::init).
    #[cfg(feature = "process")]
    #[cfg_attr(docsrs, doc(cfg(feature = "process")))]
    NotInitialised,
    /// There is not enough memory or disk for the region.
    NoSpace,
    /// The file or its directory belongs to another user, or others may write it.
    Permission,
    /// A live listener has this address, or another program uses it.
    AddressInUse,
    /// One side of a connection refused the other: it has another key, or runs as a user that is
    /// not allowed.
    Refused,
    /// The other side of a connection left, died, or was cut off.
    Disconnected,
    /// Any other error of the operating system.
    Io,
}

impl Error {
    /// Makes one sentence: "cannot open x: found .., expected ..; remedy".
    pub(crate) fn new(
        kind: ErrorKind,
        action: impl fmt::Display,
        found: impl fmt::Display,
        expected: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self { kind, message: format!("cannot {action}: found {found}, expected {expected}; {remedy}"), source: None }
    }

    /// An error of the operating system. `remedy` is what to do if the cause alone does not say it.
    pub(crate) fn io(action: impl fmt::Display, source: io::Error, remedy: impl fmt::Display) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            io::ErrorKind::StorageFull
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => ErrorKind::NoSpace,
            io::ErrorKind::AddrInUse => ErrorKind::AddressInUse,
            _ if Interrupted::is_in(&source) => ErrorKind::Interrupted,
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof => ErrorKind::Disconnected,
            _ => ErrorKind::Io,
        };
        let remedy = remedy_of(&source).map_or_else(|| remedy.to_string(), str::to_string);
        Self { kind, message: format!("cannot {action}: {source}; {remedy}"), source: Some(source) }
    }

    pub(crate) fn interrupted(action: impl fmt::Display) -> Self {
        Self::io(action, Interrupted.into(), "")
    }

    pub(crate) fn forked(action: impl fmt::Display) -> Self {
        let expected = "one of this process's own";
        Self::new(ErrorKind::Forked, action, "a handle of the parent process's", expected, "open one after the fork")
    }

    pub(crate) fn passed(action: impl fmt::Display) -> Self {
        let (found, expected) = ("an endpoint that was passed to another process", "one that is still here");
        Self::new(ErrorKind::InvalidOptions, action, found, expected, "use it before passing it, or make another one")
    }

    /// The peer runs without its lock, so that its death could not be noticed.
    pub(crate) fn lock_lost(action: impl fmt::Display, pid: Option<u64>) -> Self {
        Self::new(
            ErrorKind::LockLost { pid: pid.unwrap_or(0) },
            action,
            format_args!("{} running without its lock", pid.map_or("one".to_string(), |pid| format!("process {pid}"))),
            "its lock held or the process gone",
            "that process closed descriptors that were not its own; end it",
        )
    }

    /// No peer is there, and none can come.
    pub(crate) fn name_removed(action: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::NameRemoved,
            action,
            "that its name was removed or leads to another region",
            "the name, by which others find it",
            "open the name again, on both sides",
        )
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The message, not the fields: this is what a `main` that returns an error prints.
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

/// The cause of an error: without /proc a process cannot open a file again that it has open.
#[derive(Debug)]
pub(crate) struct NotInProc;

impl fmt::Display for NotInProc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/proc does not show this thread's descriptors")
    }
}

impl std::error::Error for NotInProc {}

/// The cause of an error: the thread was interrupted.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl Interrupted {
    pub(crate) fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<Self>())
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(INTERRUPTED)
    }
}

impl std::error::Error for Interrupted {}

impl From<Interrupted> for io::Error {
    fn from(interrupted: Interrupted) -> Self {
        Self::new(INTERRUPTED_KIND, interrupted)
    }
}

const INTERRUPTED: &str = "the thread was interrupted while it waited";

/// Not [`io::ErrorKind::Interrupted`], after which `read_exact`, `write_all` and others of std
/// would just try again.
const INTERRUPTED_KIND: io::ErrorKind = io::ErrorKind::Other;

/// Returns what to do about an error of the operating system, by its cause. `None`: that depends on
/// what was attempted.
fn remedy_of(error: &io::Error) -> Option<&'static str> {
    if error.get_ref().is_some_and(|cause| cause.is::<NotInProc>()) {
        return Some("mount /proc, that of this PID namespace (`mount -t proc proc /proc`); a chroot needs it, too");
    }
    if Interrupted::is_in(error) {
        return Some("call again to go on waiting");
    }
    Some(match error.raw_os_error()? {
        libc::EMFILE => "close files, or raise the limit of open files of this process (`ulimit -n`)",
        libc::ENFILE => "close files of any process, or raise the limit of open files of the system (fs.file-max)",
        libc::ENOMEM => "free memory, choose a smaller capacity, or raise the limit of this process (`ulimit -v`)",
        libc::EAGAIN => "raise the limit of locked memory of this process (`ulimit -l`)",
        libc::ENOSPC | libc::EDQUOT => {
            "make room there, choose a smaller capacity, or name another directory; in a container, enlarge /dev/shm"
        }
        libc::EFBIG => "raise the limit of file sizes of this process (`ulimit -f`), or choose a smaller capacity",
        libc::EACCES | libc::EPERM => {
            "check whose it is and its mode (`ls -ld`), and whether a sandbox forbids this; or name another directory"
        }
        libc::EROFS => "name a directory on a file system that is not read-only",
        libc::ENAMETOOLONG => "choose a shorter name, or a directory with a shorter path",
        libc::ENOTDIR => "name another directory: a part of that path is a file",
        libc::EISDIR => "choose another name, or move the directory away",
        libc::ELOOP => "choose another name or directory, or remove the symbolic link",
        libc::EOPNOTSUPP | libc::ENODEV => {
            "that file system has no unnamed files or no preallocation: name a directory on tmpfs, ext4, xfs or btrfs"
        }
        libc::ENOSYS => "use a newer kernel, or have the sandbox allow the system call",
        libc::EBADF => "find out what in this process closes descriptors that are not its own",
        _ => return None,
    })
}

/// The messages of an error that has no fields but those of its variants.
///
/// `{:?}` shows the variant and the message, since a `main` that returns the error, and `unwrap`,
/// print that. [`io::Error`] does the same.
macro_rules! messages {
    ($error:ident { $($variant:ident $({ $($field:ident $(: $value:literal)?),* })? => $message:literal,)* }) => {
        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant $({ $($field $(: $value)?),* })? => write!(f, $message),)*
                }
            }
        }

        impl fmt::Debug for $error {
            #[allow(unreachable_patterns, reason = "a variant may have several messages")]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let variant = match self {
                    $(Self::$variant { .. } => stringify!($variant),)*
                };
                write!(f, "{variant} ({self})")
            }
        }

        impl std::error::Error for $error {}
    };
}

/// Why a message was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room now, and the call does not wait. Try again later.
    ///
    /// A pipe or a queue of values has no free slot then. A queue of byte messages has no free
    /// slot, or no free memory for messages of that length:
    /// [`Stats::shortage`](crate::queue::Stats::shortage) tells which.
    Full,
    /// The receiver has left. In a queue the last receiver has left, or the run of this sender was
    /// closed.
    Closed,
    /// The process of the receiver died. Messages that are queued wait for its successor. The
    /// sender stays usable.
    ///
    /// In a pipe this is returned when the ring is full. Until then sending to a receiver that was
    /// killed succeeds, for its successor: `peer_status` returns what became of it.
    PeerDied,
    /// There was no room before the deadline.
    TimedOut,
    /// The thread was [interrupted](crate::InterruptHandle) while it waited for room. Nothing was
    /// sent.
    Interrupted,
    /// The message is longer than this call, or this pipe, accepts.
    TooLarge {
        /// Bytes of the message.
        length: usize,
        /// The most bytes that are accepted.
        limit: usize,
    },
    /// The peer wrote something into the region that no correct peer writes.
    Corrupt,
    /// The handle belongs to the process that forked this one.
    Forked,
    /// The endpoint was passed to another process. This handle of it was kept.
    Passed,
    /// The kernel holds no lock of the receiver though its process runs. Its death could not be
    /// noticed.
    LockLost,
    /// There is no room and no receiver, and none can come: the region's name was removed, or leads
    /// to another region. Open the name again. Noticed by calls that wait, after a second or two.
    NameRemoved,
    /// There is no memory for a large message.
    OutOfMemory,
    /// The value cannot be serialised.
    Serialize,
    /// There is no such key in this broadcast. See
    /// [`keys`](crate::broadcast::Options::keys).
    InvalidKey {
        /// The key.
        key: usize,
        /// How many keys there are, numbered from 0. 0 if the broadcast was made without keys.
        keys: usize,
    },
    /// The broadcast has keys, and the message has none: use
    /// [`publish_key`](crate::broadcast::Publisher::publish_key).
    KeyMissing,
}

/// Why no message was received.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecvError {
    /// There is no message, and the call does not wait.
    Empty,
    /// End of stream: everything was received, and the sender has left. In a queue the last sender
    /// has left, or the open run was closed. Another sender may follow, as after
    /// [`PeerDied`](Self::PeerDied).
    Closed,
    /// The process of the sender died. Everything that it had sent was received.
    ///
    /// The receiver stays usable. In a pipe each further call returns this at once, until another
    /// sender joins; then calls wait for that sender's messages. A receiver that outlives its
    /// senders waits for the next one with [`wait_for_peer`](crate::pipe::Receiver::wait_for_peer),
    /// or is opened with
    /// [`wait_for_successor`](crate::pipe::Options::wait_for_successor) and never gets this.
    PeerDied,
    /// No message came before the deadline.
    TimedOut,
    /// The thread was [interrupted](crate::InterruptHandle) while it waited. No message was taken.
    Interrupted,
    /// The next message is longer than the buffer. It stays queued.
    BufferTooSmall {
        /// Bytes that the buffer must have.
        needed: usize,
    },
    /// The peer wrote something into the region that no correct peer writes.
    Corrupt,
    /// The handle belongs to the process that forked this one.
    Forked,
    /// The endpoint was passed to another process. This handle of it was kept.
    Passed,
    /// The kernel holds no lock of the sender though its process runs. Its death could not be
    /// noticed.
    LockLost,
    /// There is no message and no sender, and none can come: the region's name was removed, or
    /// leads to another region. Open the name again. Noticed by calls that wait, after a second or
    /// two.
    NameRemoved,
    /// A message was lost with a receiver that died while it read it: a large message of a pipe, or
    /// any message of a queue that reports lost messages. The messages after it are whole.
    MessageLost,
    /// Messages of a broadcast were overwritten before this subscriber read them. The next call
    /// goes on with the oldest one that is left.
    Lagged {
        /// How many messages of one publisher. Of byte messages: how many slots.
        missed: u64,
    },
    /// The broadcast goes on without this subscriber: it lagged more than the broadcast allows, or
    /// it was taken for dead. `rejoin` begins again with the next message.
    Evicted,
    /// There is no memory for the message. In a pipe it stays queued, unless part of it had been
    /// received. In a queue it is dropped.
    OutOfMemory,
    /// The message cannot be deserialised as the expected type. It is dropped.
    Deserialize,
    /// The bytes are no value of the type: a 2 where a `bool` is. It is dropped. The sender has
    /// another type, or is hostile.
    InvalidValue,
    /// The broadcast was made without [`keys`](crate::broadcast::Options::keys).
    NoKeys,
}

/// Why a task was not reported as done.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// Each message that this handle has received was reported already, or the message was received
    /// by another handle.
    NoTask,
    /// This handle belongs to the process that forked this one.
    Forked,
    /// The endpoint was passed to another process. This handle of it was kept.
    Passed,
}

/// Why a [`Selector`](crate::select::Selector) returned no source.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SelectError {
    /// No source is ready, and the call does not block.
    NotReady,
    /// No source was ready before the deadline.
    TimedOut,
    /// The thread was [interrupted](crate::InterruptHandle) while it waited.
    Interrupted,
    /// There are no sources to wait for.
    NoSources,
}

/// Why [`join`](crate::queue::Sender::join) did not find every task done.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JoinError {
    /// All other tasks are done, and nobody will do these: their receivers died or left without a
    /// [`task_done`](crate::queue::Receiver::task_done) for them.
    ///
    /// Each handle reports each of them once. So you can send again what was not answered, and
    /// join again.
    TasksLost {
        /// How many, since the handle was made, or since it last returned this error.
        count: u64,
    },
    /// All others are done, and these were delivered as often as the queue
    /// [allows](crate::queue::OnDeath): the queue has them as
    /// [dead letters](crate::queue::Receiver::dead_letters), until they are removed.
    DeadLetters {
        /// How many of those that were sent before the call.
        count: u64,
    },
    /// The last receiver left before everything was received.
    Closed,
    /// The last receiver died before everything was received.
    PeerDied,
    /// Not everything was done before the deadline.
    TimedOut,
    /// The thread was [interrupted](crate::InterruptHandle) while it waited.
    Interrupted,
    /// A receiver wrote something into the region that no correct receiver writes.
    Corrupt,
    /// The handle belongs to the process that forked this one.
    Forked,
    /// The endpoint was passed to another process. This handle of it was kept.
    Passed,
    /// The kernel holds no lock of a receiver though its process runs. Its death could not be
    /// noticed.
    LockLost,
    /// No receiver is there, and none can come: the region's name was removed, or leads to another
    /// region.
    NameRemoved,
}

/// Why a request has no reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallError {
    /// There is no reply yet. The request that was started is still there.
    NotReady,
    /// There is no request to finish: none was started, or it is finished.
    NoRequest,
    /// The last request that was started is not finished: finish it, or cancel it. The new one was
    /// not made.
    Unfinished,
    /// There was no reply before the deadline. The request was given up.
    TimedOut {
        /// Whether a responder had taken the request, now or before a [retry]: it may have been
        /// executed, or be so later. If not, it never is.
        ///
        /// [retry]: crate::rpc::Options::retry
        taken: bool,
    },
    /// The thread was [interrupted](crate::InterruptHandle) while it waited. The request was given
    /// up.
    Interrupted {
        /// As of [`TimedOut`](Self::TimedOut).
        taken: bool,
    },
    /// The process of the responder that had the request died or exited. The request may have been
    /// executed. It is not executed again, except by one that took it at the very moment at which
    /// the last one left.
    ResponderDied,
    /// The responder dropped the request without a reply.
    Dropped,
    /// The last responder has left. The request was not executed.
    Closed,
    /// The process of the last responder died, and no responder is there. The request was not
    /// executed. Make it again later, or open the caller with
    /// [`wait_for_successor`](crate::rpc::Options::wait_for_successor).
    NoResponder,
    /// The request is longer than can be. It was not made.
    TooLarge {
        /// Bytes of the request.
        length: usize,
        /// The most bytes that a request can have.
        limit: usize,
    },
    /// The request was executed, and the reply was longer than
    /// [`max_reply_bytes`](crate::rpc::Options::max_reply_bytes).
    ReplyTooLarge,
    /// Another process wrote something into the region that no correct process writes.
    Corrupt,
    /// The handle belongs to the process that forked this one.
    Forked,
    /// The caller was passed to another process. This handle of it was kept.
    Passed,
    /// The kernel holds no lock of a responder though its process runs. Its death could not be
    /// noticed. The request may have been executed.
    LockLost,
    /// No responder is there, and none can come: the region's name was removed, or leads to another
    /// region. The request was not executed.
    NameRemoved,
    /// There is no memory for the reply.
    OutOfMemory,
    /// The bytes of the reply are no value of the type.
    InvalidValue,
    /// The request cannot be serialised.
    Serialize,
    /// The reply is not such a value.
    Deserialize,
}

impl CallError {
    /// Whether the request may have been executed, or be so later. If not, it never is, and it is
    /// safe to make it again.
    ///
    /// # Examples
    /// ```
    /// use tombolo::rpc::CallError;
    ///
    /// assert!(!CallError::NoResponder.may_have_been_executed());
    /// assert!(CallError::ResponderDied.may_have_been_executed());
    /// ```
    pub fn may_have_been_executed(self) -> bool {
        match self {
            Self::TimedOut { taken } | Self::Interrupted { taken } => taken,
            Self::Closed | Self::NoResponder | Self::NameRemoved => false,
            Self::NoRequest | Self::Unfinished => false,
            Self::NotReady => true,
            Self::TooLarge { .. } | Self::Serialize | Self::Forked | Self::Passed => false,
            Self::ResponderDied | Self::Dropped | Self::LockLost | Self::Corrupt => true,
            Self::ReplyTooLarge | Self::OutOfMemory | Self::InvalidValue | Self::Deserialize => true,
        }
    }
}

/// Why a reply did not reach its caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplyError {
    /// The caller does not wait any more: its time was up, or it died and was replaced or repaired.
    GivenUp,
    /// The reply is longer than can be. The caller was told.
    TooLarge {
        /// Bytes of the reply.
        length: usize,
        /// The most bytes that a reply can have.
        limit: usize,
    },
    /// The handle belongs to the process that forked this one.
    Forked,
    /// The reply cannot be serialised. The request was dropped.
    Serialize,
}

/// Why an operation on an object failed. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncError {
    /// It is not available, and the call does not wait.
    WouldBlock,
    /// It did not become available before the deadline.
    TimedOut,
    /// The thread was [interrupted](crate::InterruptHandle) while it waited.
    Interrupted,
    /// This thread holds it already, and it is not re-entrant.
    WouldDeadlock,
    /// This thread does not hold it. For a bounded semaphore: this process holds fewer
    /// permits.
    NotOwner,
    /// There cannot be as many permits, or read guards in one process.
    LimitExceeded {
        /// The number that was asked for.
        count: u64,
        /// The largest number there can be.
        limit: u64,
    },
    /// There is no such element.
    OutOfBounds {
        /// The index, or the end of the range, that was asked for.
        index: usize,
        /// The number of elements.
        length: usize,
    },
    /// The barrier is broken.
    BarrierBroken {
        /// The process that died while it waited, gave up waiting, or aborted the barrier. 0 if the
        /// barrier was reset.
        pid: u64,
    },
    /// Another process wrote something into the region that no correct process writes.
    Corrupt,
    /// The bytes are no value of the type: a 2 where a `bool` is. Another process has another type,
    /// or is hostile. Store a value, if the object lets you do that without a lock.
    InvalidValue,
    /// The handle belongs to the process that forked this one.
    Forked,
    /// The kernel holds no lock of the owner though its process runs. Its death could not be
    /// noticed.
    LockLost,
}

/// Why an operation on a map failed. It has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapError {
    /// There is no room for an entry of that size. Or fifteen other keys have the same hash, which
    /// happens to keys that were chosen for it. Remove entries, or make a larger map.
    ///
    /// In a full map, too, an entry can be removed, and replaced by one of the same
    /// [size](crate::collections::map::Entries).
    Full,
    /// Others changed the map during each of many attempts, or their changes, which are not
    /// finished, have the memory that this one needs. Nothing was changed. Try again, or let the
    /// writers pause. Instead of a snapshot use [`iter`](crate::collections::Map::iter), which
    /// copies one bucket after the other.
    Busy,
    /// The key and the value are longer than an entry can be.
    TooLong {
        /// Bytes of both, each rounded up to a multiple of eight.
        length: usize,
        /// The most bytes that an entry with this key can have: see
        /// [`map::Options::entries`](crate::collections::map::Options::entries). If it is the key
        /// that is too long: the most bytes of a key.
        limit: usize,
    },
    /// The closure of [`update`](crate::collections::Map::update) changed an entry of the bucket
    /// that it was called for, and did so again when it was called again. Its own changes are made.
    /// Change the map before or after the update instead.
    Nested,
    /// It did not happen before the deadline.
    TimedOut,
    /// The thread was [interrupted](crate::InterruptHandle) while it waited.
    Interrupted,
    /// The bytes are no value of the type: a 2 where a `bool` is, or no UTF-8 where a `str` is.
    InvalidValue,
    /// Another process wrote something into the region that no correct process writes.
    Corrupt,
    /// The handle belongs to the process that forked this one.
    Forked,
    /// There is no memory for a copy of the value, or in the map for a [long
    /// value](crate::collections::map::Options#long-values). Nothing was changed.
    OutOfMemory,
    /// The value cannot be serialised.
    Serialize,
    /// The bytes are not a value of the expected type.
    Deserialize,
}

/// Why an operation on a [`List`](crate::collections::List) failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListError {
    /// There is no room for more elements. Remove some, or make a longer list.
    Full {
        /// Elements that there would be.
        length: usize,
        /// The most elements that there can be: see
        /// [`list::Options::max_length`](crate::collections::list::Options::max_length).
        limit: usize,
    },
    /// The element is longer than one can be.
    TooLong {
        /// Its length, in bytes.
        length: usize,
        /// The most bytes that an element can have: see
        /// [`max_element_bytes`](crate::collections::list::Options::max_element_bytes).
        limit: usize,
    },
    /// There is no such element.
    OutOfBounds {
        /// Where it would be.
        index: usize,
        /// Elements that there are.
        length: usize,
    },
    /// Others changed the list during each of many attempts, or their changes, which are not
    /// finished, have the memory that this one needs. Nothing was changed. Try again, or ask for
    /// fewer elements at a time.
    Busy,
    /// It did not happen before the deadline.
    TimedOut,
    /// The thread was [interrupted](crate::InterruptHandle) while it waited.
    Interrupted,
    /// The bytes are no value of the type: a 2 where a `bool` is, or no UTF-8 where a `str` is.
    InvalidValue,
    /// Another process wrote something into the region that no correct process writes.
    Corrupt,
    /// The handle belongs to the process that forked this one.
    Forked,
    /// There is no memory for a copy of the elements.
    OutOfMemory,
    /// The value cannot be serialised.
    Serialize,
    /// The bytes are not a value of the expected type.
    Deserialize,
}

/// Why a lock was not acquired, or was acquired in a state that needs attention. `G` is the guard.
///
/// Use [`into_guard`](Self::into_guard) where `?` does not accept this error. See
/// [Lock errors and `?`](crate::sync#lock-errors-and-).
pub enum LockError<G> {
    /// The lock is acquired, and an earlier owner died while it held it.
    ///
    /// The value of a mutex or a read-write lock is as it was last committed. Elements of an array
    /// may have been set in part. Repair whatever else the lock protects, or
    /// [`poison`](crate::sync::MutexGuard::poison) it. The error is returned until an owner that
    /// got it has unlocked. In a read-write lock that has to be a writer.
    OwnerDied(G),
    /// The lock is acquired, and an earlier owner [poisoned](crate::sync::MutexGuard::poison) it.
    /// The error is returned until a [`clear_poison`](crate::sync::MutexGuard::clear_poison).
    Poisoned(G),
    /// The lock is not acquired.
    Failed(SyncError),
}

impl<G> LockError<G> {
    /// Returns the guard if the lock was acquired, whatever happened to earlier owners.
    ///
    /// # Errors
    ///
    /// The error of [`Failed`](Self::Failed).
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
}

impl<G> From<SyncError> for LockError<G> {
    fn from(error: SyncError) -> Self {
        Self::Failed(error)
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(_) => write!(f, "OwnerDied(..) ({self})"),
            Self::Poisoned(_) => write!(f, "Poisoned(..) ({self})"),
            Self::Failed(error) => write!(f, "Failed({error:?})"),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(_) => f.write_str("the lock is acquired, and an earlier owner died while it held it"),
            Self::Poisoned(_) => f.write_str("the lock is acquired, and an earlier owner poisoned it"),
            Self::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<G> std::error::Error for LockError<G> {}

messages!(SyncError {
    WouldBlock => "it is not available, and the call does not wait",
    TimedOut => "it did not become available before the deadline",
    Interrupted => "the thread was interrupted while it waited",
    WouldDeadlock => "this thread holds it already",
    NotOwner => "the caller does not hold it",
    LimitExceeded { count, limit } => "{count} were asked for, where there can be at most {limit}",
    OutOfBounds { index, length } => "index {index} is outside of an array of {length} elements",
    BarrierBroken { pid: 0 } => "the barrier was reset",
    BarrierBroken { pid } => "the barrier was broken by process {pid}, which died, gave up or aborted it",
    Corrupt => "another process wrote invalid data into the region",
    InvalidValue => "another process wrote bytes that are no value of this type",
    Forked => "this handle belongs to the parent process; open one of your own",
    LockLost => "the owner runs without its kernel lock: it closed a descriptor that was not its own; end it",
});

impl From<SyncError> for io::Error {
    fn from(error: SyncError) -> Self {
        let kind = match error {
            SyncError::WouldBlock => io::ErrorKind::WouldBlock,
            SyncError::TimedOut => io::ErrorKind::TimedOut,
            SyncError::Interrupted => INTERRUPTED_KIND,
            SyncError::WouldDeadlock => io::ErrorKind::Deadlock,
            SyncError::NotOwner => io::ErrorKind::PermissionDenied,
            SyncError::LimitExceeded { .. } | SyncError::OutOfBounds { .. } => io::ErrorKind::InvalidInput,
            SyncError::BarrierBroken { .. } | SyncError::LockLost => io::ErrorKind::ConnectionReset,
            SyncError::Corrupt | SyncError::InvalidValue => io::ErrorKind::InvalidData,
            SyncError::Forked => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}

messages!(MapError {
    Full => "there is no room for an entry of that size: remove entries, or make a larger map",
    TooLong { length, limit } => "the entry has {length} bytes, where it can have at most {limit}: make a map of larger entries, or of longer keys",
    Nested => "the closure of the update changed the map itself, each time it was called: let it only read the map",
    Busy => "others change the map without a pause, or have its memory: try again, or let them pause",
    TimedOut => "it did not happen before the deadline",
    Interrupted => "the thread was interrupted while it waited",
    InvalidValue => "another process wrote bytes that are no value of this type",
    Corrupt => "another process wrote invalid data into the region",
    Forked => "this handle belongs to the parent process; open one of your own",
    OutOfMemory => "there is no memory for the value: remove others, or make more memory available",
    Serialize => "the value cannot be serialised",
    Deserialize => "the bytes are not a value of the expected type",
});

impl From<MapError> for io::Error {
    fn from(error: MapError) -> Self {
        let kind = match error {
            MapError::Full => io::ErrorKind::StorageFull,
            MapError::TooLong { .. } | MapError::Serialize => io::ErrorKind::InvalidInput,
            MapError::Busy => io::ErrorKind::ResourceBusy,
            MapError::Nested => io::ErrorKind::Deadlock,
            MapError::TimedOut => io::ErrorKind::TimedOut,
            MapError::Interrupted => INTERRUPTED_KIND,
            MapError::InvalidValue | MapError::Corrupt | MapError::Deserialize => io::ErrorKind::InvalidData,
            MapError::Forked => io::ErrorKind::Unsupported,
            MapError::OutOfMemory => io::ErrorKind::OutOfMemory,
        };
        Self::new(kind, error)
    }
}

messages!(ListError {
    Full { length, limit } => "the list would have {length} elements, where it can have at most {limit}: remove some, or make a longer list",
    TooLong { length, limit } => "the element has {length} bytes, where it can have at most {limit}: make a list of longer elements",
    OutOfBounds { index, length } => "index {index} is outside of a list of {length} elements",
    Busy => "others change the list without a pause, or have its memory: try again, or ask for fewer elements at a time",
    TimedOut => "it did not happen before the deadline",
    Interrupted => "the thread was interrupted while it waited",
    InvalidValue => "another process wrote bytes that are no value of this type",
    Corrupt => "another process wrote invalid data into the region",
    Forked => "this handle belongs to the parent process; open one of your own",
    OutOfMemory => "there is no memory for a copy of the elements",
    Serialize => "the value cannot be serialised",
    Deserialize => "the bytes are not a value of the expected type",
});

impl From<ListError> for io::Error {
    fn from(error: ListError) -> Self {
        let kind = match error {
            ListError::Full { .. } => io::ErrorKind::StorageFull,
            ListError::TooLong { .. } | ListError::OutOfBounds { .. } | ListError::Serialize => {
                io::ErrorKind::InvalidInput
            }
            ListError::Busy => io::ErrorKind::ResourceBusy,
            ListError::TimedOut => io::ErrorKind::TimedOut,
            ListError::Interrupted => INTERRUPTED_KIND,
            ListError::InvalidValue | ListError::Corrupt | ListError::Deserialize => io::ErrorKind::InvalidData,
            ListError::Forked => io::ErrorKind::Unsupported,
            ListError::OutOfMemory => io::ErrorKind::OutOfMemory,
        };
        Self::new(kind, error)
    }
}

messages!(SendError {
    Full => "there is no room now: the ring is full, or the memory for messages of that length",
    Closed => "the last receiver has left, or the queue was closed",
    PeerDied => "the process of the last receiver died",
    TimedOut => "there was no room before the deadline",
    Interrupted => "the thread was interrupted while it waited",
    TooLarge { length, limit } => "the message has {length} bytes, where at most {limit} are accepted",
    Corrupt => "another process wrote invalid data into the region",
    Forked => "this handle belongs to the parent process; open one of your own",
    Passed => "this endpoint was passed to another process, which alone can use it; keep no handle of it",
    LockLost => "the receiver runs without its kernel lock: it closed a descriptor that was not its own; end it",
    NameRemoved => "no receiver can come: the name of the region was removed; open it again",
    OutOfMemory => "there is no memory for the message",
    Serialize => "the value cannot be serialised",
    InvalidKey { key, keys: 0 } => "key {key}, in a broadcast without keys: publish without a key, or make it with keys",
    InvalidKey { key, keys } => "key {key}, where the broadcast has {keys} keys, from 0 on; make it with more keys",
    KeyMissing => "a message without a key, in a broadcast with keys: publish it with a key",
});

messages!(RecvError {
    Empty => "there is no message, and the call does not wait",
    Closed => "the last sender or publisher has left, or the queue was closed, and everything was received",
    PeerDied => "the process of the last sender or publisher died, and everything was received",
    TimedOut => "no message came before the deadline",
    Interrupted => "the thread was interrupted while it waited",
    BufferTooSmall { needed } => "the next message needs a buffer of {needed} bytes",
    Corrupt => "another process wrote invalid data into the region",
    Forked => "this handle belongs to the parent process; open one of your own",
    Passed => "this endpoint was passed to another process, which alone can use it; keep no handle of it",
    LockLost => "the sender runs without its kernel lock: it closed a descriptor that was not its own; end it",
    NameRemoved => "no sender can come: the name of the region was removed; open it again",
    MessageLost => "a message was lost with a receiver that died while it read it",
    Lagged { missed } => "too slow: messages overwritten before they were read: {missed}",
    Evicted => "too slow: the broadcast goes on without this subscriber, until it rejoins",
    OutOfMemory => "there is no memory for the message",
    InvalidValue => "the message is not a value of the expected type",
    Deserialize => "the message is not a value of the expected type; receive the type that was sent (an array is not a Vec)",
    NoKeys => "the broadcast has no keys: make it with keys",
});

messages!(SelectError {
    NotReady => "no source is ready now; wait for one",
    TimedOut => "no source was ready in time",
    Interrupted => "the thread was interrupted while it waited",
    NoSources => "there are no sources to wait for, so the wait would never end; give it at least one",
});

messages!(TaskDoneError {
    NoTask => "every message that this handle received was reported already; another handle cannot report it",
    Forked => "this handle belongs to the parent process; open one of your own",
    Passed => "this endpoint was passed to another process, which alone can use it; keep no handle of it",
});

messages!(JoinError {
    DeadLetters { count } => "messages that were delivered as often as allowed and never done: {count}; they are kept as dead letters, remove them or have them delivered again",
    TasksLost { count } => "tasks not done, since their receivers died or left with them: {count}; send them again",
    Closed => "the last receiver left before everything was received",
    PeerDied => "the process of the last receiver died before everything was received",
    TimedOut => "not everything was done before the deadline",
    Interrupted => "the thread was interrupted while it waited",
    Corrupt => "another process wrote invalid data into the region",
    Forked => "this handle belongs to the parent process; open one of your own",
    Passed => "this endpoint was passed to another process, which alone can use it; keep no handle of it",
    LockLost => "a receiver runs without its kernel lock: it closed a descriptor that was not its own; end it",
    NameRemoved => "no receiver can come: the name of the region was removed; open it again",
});

messages!(CallError {
    NotReady => "there is no reply yet",
    NoRequest => "there is no request to finish; start one first",
    Unfinished => "the last request is not finished; finish it or cancel it, or make the new one by another caller",
    TimedOut { taken: false } => "no responder took the request before the deadline; it is not executed",
    TimedOut { taken } => "there was no reply before the deadline; the request may be executed (taken: {taken})",
    Interrupted { taken: false } => "the thread was interrupted while it waited; the request is not executed",
    Interrupted { taken } => "the thread was interrupted while it waited; the request may be executed (taken: {taken})",
    ResponderDied => "the process of the responder died with the request, which may have been executed",
    Dropped => "the responder dropped the request without a reply",
    Closed => "the last responder has left; the request was not executed",
    NoResponder => "the process of the last responder died; the request was not executed, make it again later",
    TooLarge { length, limit } => "the request has {length} bytes, where at most {limit} are accepted",
    ReplyTooLarge => "the reply is longer than max_reply_bytes",
    Corrupt => "another process wrote invalid data into the region",
    Forked => "this handle belongs to the parent process; open one of your own",
    Passed => "this endpoint was passed to another process, which alone can use it; keep no handle of it",
    LockLost => "a responder runs without its kernel lock: it closed a descriptor that was not its own; end it",
    NameRemoved => "no responder can come: the name of the region was removed; open it again",
    OutOfMemory => "there is no memory for the reply",
    InvalidValue => "the reply is not a value of the expected type",
    Serialize => "the request cannot be serialised",
    Deserialize => "the reply is not a value of the expected type; expect the type that was sent (an array is not a Vec)",
});

messages!(ReplyError {
    GivenUp => "the caller does not wait for the reply any more",
    TooLarge { length, limit } => "the reply has {length} bytes, where at most {limit} are accepted",
    Forked => "this handle belongs to the parent process; open one of your own",
    Serialize => "the reply cannot be serialised",
});

impl From<CallError> for io::Error {
    fn from(error: CallError) -> Self {
        let kind = match error {
            CallError::NotReady => io::ErrorKind::WouldBlock,
            CallError::NoRequest | CallError::Unfinished => io::ErrorKind::InvalidInput,
            CallError::TimedOut { .. } => io::ErrorKind::TimedOut,
            CallError::Interrupted { .. } => INTERRUPTED_KIND,
            CallError::ResponderDied | CallError::LockLost => io::ErrorKind::ConnectionReset,
            CallError::Dropped => io::ErrorKind::ConnectionAborted,
            CallError::Closed => io::ErrorKind::BrokenPipe,
            CallError::NoResponder | CallError::NameRemoved => io::ErrorKind::NotConnected,
            CallError::TooLarge { .. } | CallError::Serialize => io::ErrorKind::InvalidInput,
            CallError::ReplyTooLarge | CallError::Corrupt => io::ErrorKind::InvalidData,
            CallError::InvalidValue | CallError::Deserialize => io::ErrorKind::InvalidData,
            CallError::Forked | CallError::Passed => io::ErrorKind::Unsupported,
            CallError::OutOfMemory => io::ErrorKind::OutOfMemory,
        };
        Self::new(kind, error)
    }
}

impl From<ReplyError> for io::Error {
    fn from(error: ReplyError) -> Self {
        let kind = match error {
            ReplyError::GivenUp => io::ErrorKind::BrokenPipe,
            ReplyError::TooLarge { .. } | ReplyError::Serialize => io::ErrorKind::InvalidInput,
            ReplyError::Forked => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}

/// An error of a call on an endpoint that this process does not have.
pub(crate) trait NotHere {
    const FORKED: Self;
    const PASSED: Self;
}

macro_rules! not_here {
    ($($error:ident),*) => { $(
        impl NotHere for $error {
            const FORKED: Self = Self::Forked;
            const PASSED: Self = Self::Passed;
        }
    )* };
}

not_here!(SendError, RecvError, TaskDoneError, JoinError, CallError);

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = match error {
            SendError::Full => io::ErrorKind::WouldBlock,
            SendError::Closed => io::ErrorKind::BrokenPipe,
            SendError::PeerDied | SendError::LockLost => io::ErrorKind::ConnectionReset,
            SendError::NameRemoved => io::ErrorKind::NotConnected,
            SendError::TimedOut => io::ErrorKind::TimedOut,
            SendError::Interrupted => INTERRUPTED_KIND,
            SendError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            SendError::Corrupt => io::ErrorKind::InvalidData,
            SendError::Forked | SendError::Passed => io::ErrorKind::Unsupported,
            SendError::OutOfMemory => io::ErrorKind::OutOfMemory,
            SendError::Serialize | SendError::InvalidKey { .. } | SendError::KeyMissing => io::ErrorKind::InvalidInput,
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
            RecvError::NameRemoved => io::ErrorKind::NotConnected,
            RecvError::TimedOut => io::ErrorKind::TimedOut,
            RecvError::Interrupted => INTERRUPTED_KIND,
            RecvError::BufferTooSmall { .. } => io::ErrorKind::InvalidInput,
            RecvError::Corrupt | RecvError::MessageLost | RecvError::Lagged { .. } => io::ErrorKind::InvalidData,
            RecvError::Evicted => io::ErrorKind::ConnectionAborted,
            RecvError::Deserialize | RecvError::InvalidValue => io::ErrorKind::InvalidData,
            RecvError::Forked | RecvError::Passed | RecvError::NoKeys => io::ErrorKind::Unsupported,
            RecvError::OutOfMemory => io::ErrorKind::OutOfMemory,
        };
        Self::new(kind, error)
    }
}

impl From<SelectError> for io::Error {
    fn from(error: SelectError) -> Self {
        let kind = match error {
            SelectError::NotReady => io::ErrorKind::WouldBlock,
            SelectError::TimedOut => io::ErrorKind::TimedOut,
            SelectError::Interrupted => INTERRUPTED_KIND,
            SelectError::NoSources => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl From<TaskDoneError> for io::Error {
    fn from(error: TaskDoneError) -> Self {
        let kind = match error {
            TaskDoneError::NoTask => io::ErrorKind::InvalidInput,
            TaskDoneError::Forked | TaskDoneError::Passed => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        let kind = match error {
            JoinError::TasksLost { .. } | JoinError::DeadLetters { .. } => io::ErrorKind::Other,
            JoinError::Closed => io::ErrorKind::BrokenPipe,
            JoinError::PeerDied | JoinError::LockLost => io::ErrorKind::ConnectionReset,
            JoinError::NameRemoved => io::ErrorKind::NotConnected,
            JoinError::TimedOut => io::ErrorKind::TimedOut,
            JoinError::Interrupted => INTERRUPTED_KIND,
            JoinError::Corrupt => io::ErrorKind::InvalidData,
            JoinError::Forked | JoinError::Passed => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}
