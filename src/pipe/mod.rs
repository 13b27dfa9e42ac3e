//! Pipes: one sender and one receiver, in one direction or in both.
//!
//! [`Options`] creates and opens them. A pipe carries values of one type ([`Sender`], [`Receiver`],
//! [`Pipe`]) or byte messages of any length ([`ByteSender`], [`ByteReceiver`], [`BytePipe`]).
//!
//! # Which types can be sent
//!
//! Numbers, `bool`, `char`, arrays, and structs and enums of your own that derive
//! [`Shareable`]:
//!
//! ```
//! use tombolo::Shareable;
//!
//! #[derive(Clone, Copy, Shareable)]
//! #[repr(C)]
//! struct Tick {
//!     price: f64,
//!     volume: u32,
//!     is_bid: bool,
//!     reserved: [u8; 3], // up to the alignment of the struct, which is 8
//! }
//!
//! let (mut tx, mut rx) = tombolo::pipe::Options::<Tick>::new().create()?;
//! tx.send(Tick { price: 1.5, volume: 10, is_bid: true, reserved: [0; 3] })?;
//! assert_eq!(rx.recv()?.volume, 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Strings and vectors are byte messages: `tx.send(text)`. What to send instead of an `Option`, a
//! tuple and others is in [Types that can be shared](crate#types-that-can-be-shared). A type that
//! cannot be sent does not compile:
//!
//! ```compile_fail,E0277
//! let options = tombolo::pipe::Options::<Option<u8>>::default();
//! ```
//!
//! Both processes must have the same type. One that opens a pipe of another type gets
//! [`WrongType`](crate::ErrorKind::WrongType), with both types in the message.

mod byte_receiver;
mod byte_sender;
pub(crate) mod codec;
pub(crate) mod connection;
mod duplex;
mod endpoints;
mod half;
pub mod io;
mod nonblocking;
mod peer;
mod receiver;
mod sender;
#[cfg(feature = "serde")]
mod serde;
mod store_policy;
mod zero_copy;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use self::byte_receiver::ByteReceiver;
pub use self::byte_sender::ByteSender;
use self::connection::{ConnectionOptions, PeerEnd};
pub use self::duplex::{BytePipe, Pipe};
pub use self::endpoints::PipeEndpoint;
use self::endpoints::join;
pub use self::receiver::Receiver;
pub use self::sender::Sender;
pub use self::zero_copy::{
    ReadChunk, ReadMessage, WriteChunk, WriteMessage, ZeroCopyByteReceiver, ZeroCopyByteSender, ZeroCopyReceiver,
    ZeroCopySender,
};
use crate::error::Result;
use crate::message::Message;
pub use crate::message::Messages;
use crate::options::{self, CommonOptions, common_options, expect_joined};
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::header::{ElementType, RegionKind};
use crate::region::lifecycle::Registration;
use crate::region::settings::{Bounds, Settings};
use crate::types::Shareable;

/// Options to make or open a pipe. `M` is `[u8]` for byte messages, or the type of the values.
///
/// # Examples
/// ```
/// use tombolo::WaitStrategy;
/// use tombolo::pipe;
///
/// let options = pipe::Options::<u64>::new().capacity(8).wait(WaitStrategy::Spin);
/// let (mut tx, mut rx) = options.create()?;
/// tx.send(7)?;
/// assert_eq!(rx.recv()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Making and opening
///
/// | | pipe | [queue](crate::queue::Options) |
/// |---|---|---|
/// | a sender and a receiver, unnamed | [`create`](Self::create) | `create_channel` |
/// | to send and receive, unnamed | [`create_duplex`](Self::create_duplex): two | `create`: one |
/// | a sender, named | [`sender`](Self::sender) | `sender` |
/// | a receiver, named | [`receiver`](Self::receiver) | `receiver` |
/// | to send and receive, named | [`open`](Self::open) | `open` |
/// | the same, a particular endpoint | [`server`](Self::server), [`client`](Self::client) | |
///
/// # How long a name lives
///
/// | the last endpoint that is there | what it sent | the name |
/// |---|---|---|
/// | leaves | was received, or waits for an endpoint that has left | is removed |
/// | leaves | waits for an endpoint that has not joined yet, or was killed | stays |
/// | is killed | | stays |
///
/// An endpoint leaves when it is dropped, or when its process exits. The next endpoint that opens a
/// name that stayed resumes the pipe: see [`OnStale`](crate::OnStale).
/// [`Directory::unlink`](crate::Directory::unlink) removes the name, with the messages that wait.
#[must_use = "options make nothing until a method such as `create` or `open` is called"]
pub struct Options<M: Message + ?Sized> {
    common: CommonOptions,
    capacity: u64,
    max_message_bytes: u64,
    waits_for_successor: bool,
    message: PhantomData<fn(&M)>,
}

const DEFAULT_CAPACITY_BYTES: u64 = 1 << 20;
const DEFAULT_CAPACITY: u64 = 1024;
const DEFAULT_MAX_MESSAGE_BYTES: u64 = 1 << 30;

/// `create` and the other methods that make and open pipes of one kind of message.
macro_rules! create_and_open {
    ($sender:ty, $receiver:ty, $pipe:ty) => {
        /// Creates an unnamed one-way pipe. Returns its sender and its receiver.
        ///
        /// Other processes reach it only if you pass an endpoint to them.
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// Invalid options, or no memory.
        pub fn create(&self) -> Result<($sender, $receiver)> {
            self.create_unnamed()
        }

        /// Creates an unnamed duplex pipe: two endpoints, each of which sends and receives.
        ///
        /// Other processes reach it only if you pass an endpoint to them.
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// Invalid options, or no memory.
        pub fn create_duplex(&self) -> Result<($pipe, $pipe)> {
            self.create_unnamed()
        }

        /// Opens the one-way pipe of this name, or creates it, and becomes its sender.
        ///
        /// # Blocking
        /// Blocks for up to a second if the pipe has a sender whose process is ending, and as long
        /// as [`open_timeout`](Self::open_timeout) says. Blocks for up to 5 s if another process
        /// was stopped while it joined or left.
        ///
        /// # Errors
        /// - [`EndpointInUse`](crate::ErrorKind::EndpointInUse): the pipe has a sender, whose
        ///   process lives.
        /// - An invalid name, a region of another type, or no memory.
        pub fn sender(&self, name: &str) -> Result<$sender> {
            self.open_or_create(name)
        }

        /// Opens the one-way pipe of this name, or creates it, and becomes its receiver.
        ///
        /// If the last sender has ended and everything that it sent was received, the receiver
        /// waits for the next sender, as it does under a name that is new.
        ///
        /// # Blocking
        /// As [`sender`](Self::sender).
        ///
        /// # Errors
        /// As [`sender`](Self::sender). [`EndpointInUse`](crate::ErrorKind::EndpointInUse): the
        /// pipe has a receiver, whose process lives.
        pub fn receiver(&self, name: &str) -> Result<$receiver> {
            self.open_or_create(name)
        }

        /// Opens the duplex pipe of this name, or creates it, and becomes its first free endpoint.
        ///
        /// Use it if both sides do the same. If they do not, use [`server`](Self::server) and
        /// [`client`](Self::client): a process that is started again before the other side has come
        /// can become either endpoint, and two of one kind would be each other's peers.
        ///
        /// # Blocking
        /// As [`sender`](Self::sender).
        ///
        /// # Errors
        /// As [`sender`](Self::sender). [`EndpointInUse`](crate::ErrorKind::EndpointInUse): the
        /// pipe has two endpoints, whose processes live.
        pub fn open(&self, name: &str) -> Result<$pipe> {
            self.open_or_create(name)
        }

        /// Opens the duplex pipe of this name, or creates it, and becomes a particular endpoint:
        /// that of the server. Its peer is the [`client`](Self::client).
        ///
        /// # Blocking
        /// As [`sender`](Self::sender).
        ///
        /// # Errors
        /// As [`sender`](Self::sender). [`EndpointInUse`](crate::ErrorKind::EndpointInUse): the
        /// pipe has a server, whose process lives.
        pub fn server(&self, name: &str) -> Result<$pipe> {
            self.open_or_create_as(name, &[0])
        }

        /// Opens the duplex pipe of this name, or creates it, and becomes the other endpoint: that
        /// of the client. Its peer is the [`server`](Self::server).
        ///
        /// # Blocking
        /// As [`sender`](Self::sender).
        ///
        /// # Errors
        /// As [`sender`](Self::sender). [`EndpointInUse`](crate::ErrorKind::EndpointInUse): the
        /// pipe has a client, whose process lives.
        pub fn client(&self, name: &str) -> Result<$pipe> {
            self.open_or_create_as(name, &[1])
        }
    };
}

impl Options<[u8]> {
    /// Options for a pipe of byte messages of any length. By default it has a ring of 1 MiB for
    /// each direction, and messages have up to 1 GiB.
    pub fn bytes() -> Self {
        Self::default()
    }

    /// The size of the ring in bytes, rounded up to a power of two, at least 128. Longer messages
    /// stream through it.
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.capacity = bytes as u64;
        self
    }

    /// The longest message, in bytes. A peer cannot make this process keep more than this.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes as u64;
        self
    }

    create_and_open!(ByteSender, ByteReceiver, BytePipe);
}

impl<T: Shareable> Options<T> {
    /// Options for a pipe of values of the type `T`. By default 1024 of them can wait in each
    /// direction.
    ///
    /// Write the type: `Options::<u64>::new().create()`. The compiler does not infer it from the
    /// endpoints, because byte messages have methods of the same names (error E0034).
    pub fn new() -> Self {
        Self::default()
    }

    /// How many values can wait in each direction, rounded up to a power of two.
    pub fn capacity(mut self, values: usize) -> Self {
        self.capacity = values as u64;
        self
    }

    /// Gives the type another name than its own, for instance `"tick v1"`. An endpoint with
    /// another name is refused, like one of another size or alignment.
    ///
    /// The region holds eight bytes for it, as for the type's own name
    /// ([`Shape::tag`](crate::types::Shape::tag)). An empty name matches any type of the same size
    /// and alignment.
    pub fn type_tag(mut self, name: &str) -> Self {
        self.common.type_name = Some(name.to_string());
        self
    }

    create_and_open!(Sender<T>, Receiver<T>, Pipe<T>);
}

impl<M: Message + ?Sized> Options<M> {
    common_options!();

    /// A receiver waits for the next sender instead of returning how the last one ended.
    ///
    /// It receives everything that one sender sent, and then what the next one sends. Calls without
    /// a timeout block meanwhile, others return [`Empty`](crate::RecvError::Empty) or
    /// [`TimedOut`](crate::RecvError::TimedOut). It never returns
    /// [`Closed`](crate::RecvError::Closed) or [`PeerDied`](crate::RecvError::PeerDied), and its
    /// iterators do not end with a sender. A byte message that a sender had sent in part when it
    /// died is dropped.
    ///
    /// For pipes that have a name: nobody can join another one, so calls without a timeout would
    /// block without end when its sender has gone.
    ///
    /// Senders are not affected. One that is to outlive its receivers waits for the next one with
    /// [`wait_for_peer`](Sender::wait_for_peer).
    ///
    /// # Examples
    /// ```
    /// use tombolo::pipe;
    ///
    /// # let scratch = std::env::temp_dir().join(format!("tombolo-successor-{}", std::process::id()));
    /// let options = pipe::Options::<f64>::new();
    /// # let options = options.directory(&scratch);
    /// let mut rx = options.clone().wait_for_successor().receiver("prices")?;
    /// options.sender("prices")?.send(101.25)?; // and is dropped
    /// options.sender("prices")?.send(101.5)?;
    /// assert_eq!([rx.recv()?, rx.recv()?], [101.25, 101.5]);
    /// # drop(rx);
    /// # std::fs::remove_dir(scratch).ok();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_successor(mut self) -> Self {
        self.waits_for_successor = true;
        self
    }

    /// Takes over an endpoint that [`Endpoint::into_fd`](crate::Endpoint::into_fd) turned into a
    /// descriptor, in this process or in another.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Errors
    /// - It is not such a descriptor, the endpoint is of another type, or the region is damaged.
    /// - The region is larger than [`max_region_bytes`](Self::max_region_bytes), or it consists of
    ///   reserved huge pages and [`huge_pages`](Self::huge_pages) is not set.
    /// - The file can be truncated and is not on tmpfs.
    /// - The file can be truncated and belongs to another user, and
    ///   [`allow_other_owner`](Self::allow_other_owner) is not set.
    pub fn from_fd<E: PipeEndpoint<Message = M>>(&self, descriptor: OwnedFd) -> Result<E> {
        let settings = Settings { bounds: self.bounds(E::DIRECTIONS), ..self.common.settings.clone() };
        let region = Region::from_descriptor(descriptor, &settings)?;
        self.check(&region, E::DIRECTIONS)?;
        // Its process has joined before, and ends since then are for it to report.
        self.attach(Registration::from_fd(region, E::PARTICIPANTS, &connection::HOOKS)?, None)
    }

    fn attach<E: PipeEndpoint<Message = M>>(
        &self,
        registration: Registration,
        previous_end: Option<PeerEnd>,
    ) -> Result<E> {
        let (wait, waits_for_successor) = (self.common.wait, self.waits_for_successor);
        E::attach(Arc::new(registration), ConnectionOptions { wait, waits_for_successor, previous_end })
    }

    fn layout(&self, directions: u64) -> Result<Layout> {
        Layout::pipe(self.common.element::<M>(), directions, self.capacity, self.max_message_bytes)
    }

    /// Refuses options of which no duplex pipe can be made.
    #[cfg(feature = "connection")]
    pub(crate) fn check_layout(&self) -> Result<()> {
        self.layout(2).map(drop)
    }

    fn bounds(&self, directions: u64) -> Bounds {
        self.common.settings.bounds.with_own_layout(&self.layout(directions))
    }

    fn create_region(&self, directions: u64, named: bool) -> Result<Region> {
        let mut region = Region::create(self.layout(directions)?, &self.common.settings, named)?;
        self.report_capacity(&mut region);
        Ok(region)
    }

    fn create_unnamed<A: PipeEndpoint<Message = M>, B: PipeEndpoint<Message = M>>(&self) -> Result<(A, B)> {
        let region = self.create_region(A::DIRECTIONS, false)?;
        let other = region.reopen()?;
        let (first, _) = expect_joined(join(region, &[0])?)?;
        let (second, _) = expect_joined(join(other, &[1])?)?;
        Ok((self.attach(first, None)?, self.attach(second, None)?))
    }

    fn open_or_create<E: PipeEndpoint<Message = M>>(&self, name: &str) -> Result<E> {
        self.open_or_create_as(name, E::PARTICIPANTS)
    }

    /// Becomes the first of `participants` that is free.
    fn open_or_create_as<E: PipeEndpoint<Message = M>>(&self, name: &str, participants: &[usize]) -> Result<E> {
        let open = |mut region: Region| {
            self.check(&region, E::DIRECTIONS)?;
            self.report_capacity(&mut region);
            join(region, participants)?.map(|(registration, end)| self.attach(registration, end)).transpose()
        };
        self.common.named(name, self.bounds(E::DIRECTIONS), open, || {
            let (registration, _) = expect_joined(join(self.create_region(E::DIRECTIONS, true)?, participants)?)?;
            self.attach(self.common.give_name(registration, name)?, None)
        })
    }

    fn check(&self, region: &Region, directions: u64) -> Result<()> {
        self.common.check::<M>(region.layout(), RegionKind::Pipe, self.max_message_bytes)?;
        let found = connection::layout(region).directions;
        if found != directions {
            let name = |directions| if directions == 1 { "a one-way pipe" } else { "a duplex pipe" };
            return Err(options::wrong_type(RegionKind::Pipe, name(found), name(directions)));
        }
        Ok(())
    }

    fn report_capacity(&self, region: &mut Region) {
        options::report_capacity(region, self.capacity, Self::default_capacity());
    }

    fn default_capacity() -> u64 {
        match M::element([0; 8]) {
            ElementType::Bytes => DEFAULT_CAPACITY_BYTES,
            ElementType::Value { .. } => DEFAULT_CAPACITY,
        }
    }
}

impl<M: Message + ?Sized> Default for Options<M> {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            capacity: Self::default_capacity(),
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            waits_for_successor: false,
            message: PhantomData,
        }
    }
}

impl<M: Message + ?Sized> Clone for Options<M> {
    fn clone(&self) -> Self {
        Self { common: self.common.clone(), message: PhantomData, ..*self }
    }
}

impl<M: Message + ?Sized> fmt::Debug for Options<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("element", &self.common.element::<M>())
            .field("capacity", &self.capacity)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("waits_for_successor", &self.waits_for_successor)
            .field("common", &self.common)
            .finish()
    }
}
