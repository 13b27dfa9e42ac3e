//! Pipes: how they are made, and the end that does both.

pub(crate) mod connection;
pub mod io;
pub(crate) mod receiver;
pub(crate) mod sender;
pub(crate) mod store_policy;
pub(crate) mod zero_copy;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;

use crate::endpoint::{Endpoint, sealed::Sealed};
use crate::error::{RecvError, Result, SendError};
use crate::message::Message;
use crate::options::{self, CommonOptions, common_options, fresh};
use crate::pipe::connection::{Connection, Side};
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::header::{ElementType, RegionKind};
use crate::region::lifecycle::Registration;
use crate::region::settings::{Bounds, Settings};
use crate::wait::WaitStrategy;

pub use self::receiver::Receiver;
pub use self::sender::Sender;
pub use self::zero_copy::{ReadChunk, ReadMessage, WriteChunk, WriteMessage, ZeroCopyReceiver, ZeroCopySender};

/// How a pipe is made or opened. `M` is `[u8]` for messages of any length, or a plain type for values of that type.
///
/// ```
/// use tombolo::WaitStrategy;
/// use tombolo::pipe;
///
/// let (mut tx, mut rx) = pipe::Options::<u64>::new().capacity(8).wait(WaitStrategy::Spin).create()?;
/// tx.send(&7)?;
/// assert_eq!(rx.recv()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Options<M: Message + ?Sized> {
    common: CommonOptions,
    capacity: u64,
    limit: u64,
    message: PhantomData<fn(&M)>,
}

const DEFAULT_BYTES: u64 = 1 << 20;
const DEFAULT_VALUES: u64 = 1024;
const DEFAULT_LIMIT: u64 = 1 << 30;

impl Options<[u8]> {
    /// A pipe for messages of any length. By default 1 MiB of ring for each direction, messages up to 1 GiB.
    pub fn bytes() -> Self {
        Self::default()
    }

    /// The size of the ring in bytes, rounded up to a power of two, at least 128. Longer messages stream through it.
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.capacity = bytes as u64;
        self
    }

    /// The longest message, in bytes; a peer cannot make us keep more than this.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.limit = bytes as u64;
        self
    }
}

impl<T: Pod> Options<T> {
    /// A pipe for values of the type `T`. By default 1024 of them for each direction.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many messages may wait, rounded up to a power of two.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages as u64;
        self
    }

    /// Eight bytes that name the type; an end whose tag differs is refused, like one of another size or alignment.
    pub fn tag(mut self, tag: [u8; 8]) -> Self {
        self.common.tag = tag;
        self
    }
}

impl<M: Message + ?Sized> Options<M> {
    common_options!();

    /// Two connected ends, each of which sends and receives. Nobody else can reach them unless handed one.
    ///
    /// **Blocking**: never. **Errors**: invalid options, no memory.
    pub fn create_duplex(&self) -> Result<(Pipe<M>, Pipe<M>)> {
        self.unnamed()
    }

    /// An end that sends and an end that receives. Nobody else can reach them unless handed one.
    ///
    /// **Blocking**: never. **Errors**: invalid options, no memory.
    pub fn create(&self) -> Result<(Sender<M>, Receiver<M>)> {
        self.unnamed()
    }

    /// Opens, or makes, the one-way pipe of that name and becomes its sender.
    ///
    /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: an invalid name, a region of
    /// another type, a live sender ([`ErrorKind::EndpointInUse`](crate::ErrorKind::EndpointInUse)), no memory.
    pub fn sender(&self, name: &str) -> Result<Sender<M>> {
        self.named(name)
    }

    /// Opens, or makes, the one-way pipe of that name and becomes its receiver. Else like [`sender`](Self::sender).
    pub fn receiver(&self, name: &str) -> Result<Receiver<M>> {
        self.named(name)
    }

    /// Opens, or makes, the duplex pipe of that name and takes its first free end. Else like [`sender`](Self::sender).
    pub fn open(&self, name: &str) -> Result<Pipe<M>> {
        self.named(name)
    }

    /// Takes over an end that was turned into a descriptor by [`Endpoint::into_fd`], here or in another process.
    ///
    /// **Blocking**: never. **Errors**: not such a descriptor, another type, a damaged region, one of more than
    /// [`max_region_bytes`](Self::max_region_bytes) or of reserved huge pages without [`huge_pages`](Self::huge_pages);
    /// a file that can be truncated, unless it is on tmpfs and belongs to this user, or [`allow_other_owner`](Self::allow_other_owner).
    pub fn from_fd<E: PipeEndpoint<Message = M>>(&self, descriptor: OwnedFd) -> Result<E> {
        let settings = Settings { bounds: self.bounds(E::DIRECTIONS), ..self.common.settings.clone() };
        let region = Region::from_descriptor(descriptor, &settings)?;
        self.check(&region, E::DIRECTIONS)?;
        let seat = Registration::from_fd(region, E::SEATS, &connection::HOOKS)?;
        E::seated(Arc::new(seat), self.common.wait)
    }

    fn layout(&self, directions: u64) -> Result<Layout> {
        Layout::pipe(M::element(self.common.tag), directions, self.capacity, self.limit)
    }

    fn bounds(&self, directions: u64) -> Bounds {
        self.common.settings.bounds.with_own_layout(&self.layout(directions))
    }

    fn create_region(&self, directions: u64, named: bool) -> Result<Region> {
        let mut region = Region::create(self.layout(directions)?, &self.common.settings, named)?;
        self.report_capacity(&mut region);
        Ok(region)
    }

    fn unnamed<A: PipeEndpoint<Message = M>, B: PipeEndpoint<Message = M>>(&self) -> Result<(A, B)> {
        let region = self.create_region(A::DIRECTIONS, false)?;
        let other = region.reopen()?;
        let first = fresh(join(region, &[0])?)?;
        let second = fresh(join(other, &[1])?)?;
        Ok((A::seated(Arc::new(first), self.common.wait)?, B::seated(Arc::new(second), self.common.wait)?))
    }

    fn named<E: PipeEndpoint<Message = M>>(&self, name: &str) -> Result<E> {
        let open = |mut region: Region| {
            self.check(&region, E::DIRECTIONS)?;
            self.report_capacity(&mut region);
            let seat = join(region, E::SEATS)?;
            seat.map(|seat| E::seated(Arc::new(seat), self.common.wait)).transpose()
        };
        self.common.named(name, self.bounds(E::DIRECTIONS), open, || {
            let seat = fresh(join(self.create_region(E::DIRECTIONS, true)?, E::SEATS)?)?;
            E::seated(Arc::new(self.common.publish(seat, name)?), self.common.wait)
        })
    }

    fn check(&self, region: &Region, directions: u64) -> Result<()> {
        options::check(region, RegionKind::Pipe, M::element(self.common.tag), self.limit)?;
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
            ElementType::Bytes => DEFAULT_BYTES,
            ElementType::Value { .. } => DEFAULT_VALUES,
        }
    }
}

impl<M: Message + ?Sized> Default for Options<M> {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            capacity: Self::default_capacity(),
            limit: DEFAULT_LIMIT,
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
            .field("element", &M::element(self.common.tag))
            .field("capacity", &self.capacity)
            .field("max_message_bytes", &self.limit)
            .field("common", &self.common)
            .finish()
    }
}

fn join(region: Region, seats: &[usize]) -> Result<Option<Registration>> {
    Registration::join(region, |_| seats.to_vec(), 0, &connection::HOOKS, take_roles)
}

/// Every role that the seat plays, while nobody else can join or leave.
fn take_roles(region: &Region, seat: usize) -> Result<()> {
    for ring in 0..connection::layout(region).directions as usize {
        Side::of(seat, ring).take(region, ring);
    }
    Ok(())
}

/// An end of a pipe: [`Pipe`], [`Sender`] or [`Receiver`].
pub trait PipeEndpoint: Endpoint {
    #[doc(hidden)]
    const DIRECTIONS: u64;
    #[doc(hidden)]
    const SEATS: &'static [usize];
    #[doc(hidden)]
    fn seated(seat: Arc<Registration>, wait: WaitStrategy) -> Result<Self>;
}

impl<M: Message + ?Sized> PipeEndpoint for Sender<M> {
    const DIRECTIONS: u64 = 1;
    const SEATS: &'static [usize] = &[0];

    fn seated(seat: Arc<Registration>, wait: WaitStrategy) -> Result<Self> {
        Sender::new(Connection::new(seat, 0, wait), 0)
    }
}

impl<M: Message + ?Sized> PipeEndpoint for Receiver<M> {
    const DIRECTIONS: u64 = 1;
    const SEATS: &'static [usize] = &[1];

    fn seated(seat: Arc<Registration>, wait: WaitStrategy) -> Result<Self> {
        Receiver::new(Connection::new(seat, 0, wait), 0)
    }
}

impl<M: Message + ?Sized> PipeEndpoint for Pipe<M> {
    const DIRECTIONS: u64 = 2;
    const SEATS: &'static [usize] = &[0, 1];

    fn seated(seat: Arc<Registration>, wait: WaitStrategy) -> Result<Self> {
        let (out, back) = (seat.index(), 1 - seat.index().min(1));
        // Both links first: if anything fails from here on, dropping them closes both directions.
        let (tx, rx) = (Connection::new(Arc::clone(&seat), out, wait), Connection::new(seat, back, wait));
        Ok(Self { tx: Sender::new(tx, out)?, rx: Receiver::new(rx, back)? })
    }
}

impl<M: Message + ?Sized> Sealed for Sender<M> {
    fn seat(&self) -> &Arc<Registration> {
        self.link().seat()
    }

    fn is_whole(&self) -> bool {
        is_whole_half::<Self>(self.link().seat())
    }

    fn arrive(descriptor: OwnedFd) -> Result<Self> {
        Options::default().from_fd(descriptor)
    }
}

impl<M: Message + ?Sized> Sealed for Receiver<M> {
    fn seat(&self) -> &Arc<Registration> {
        self.link().seat()
    }

    fn is_whole(&self) -> bool {
        is_whole_half::<Self>(self.link().seat())
    }

    fn arrive(descriptor: OwnedFd) -> Result<Self> {
        Options::default().from_fd(descriptor)
    }
}

/// Not half of a pipe that was split.
fn is_whole_half<E: PipeEndpoint>(seat: &Arc<Registration>) -> bool {
    Arc::strong_count(seat) == 1 && connection::layout(seat.region()).directions == E::DIRECTIONS
}

impl<M: Message + ?Sized> Sealed for Pipe<M> {
    fn seat(&self) -> &Arc<Registration> {
        self.tx.link().seat()
    }

    fn is_whole(&self) -> bool {
        Arc::ptr_eq(self.tx.link().seat(), self.rx.link().seat())
    }

    fn arrive(descriptor: OwnedFd) -> Result<Self> {
        Options::default().from_fd(descriptor)
    }
}

impl<M: Message + ?Sized> Endpoint for Sender<M> {
    type Message = M;
}

impl<M: Message + ?Sized> Endpoint for Receiver<M> {
    type Message = M;
}

impl<M: Message + ?Sized> Endpoint for Pipe<M> {
    type Message = M;
}

/// An end of a duplex pipe: a [`Sender`] and a [`Receiver`] that leave together.
///
/// Dropping it is an end of stream for the other end, after what was sent. A process that dies with it is
/// [`RecvError::PeerDied`] there, after what was sent.
#[derive(Debug)]
pub struct Pipe<M: Message + ?Sized = [u8]> {
    /// The outgoing direction.
    pub tx: Sender<M>,
    /// The incoming direction.
    pub rx: Receiver<M>,
}

impl<M: Message + ?Sized> Pipe<M> {
    /// The two directions, for two threads. Each is closed when its half is dropped.
    pub fn split(self) -> (Sender<M>, Receiver<M>) {
        (self.tx, self.rx)
    }

    /// See [`Receiver::poll`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.rx.poll(timeout)
    }
}

impl Pipe<[u8]> {
    /// See [`Sender::send`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.tx.send(message)
    }

    /// See [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.tx.send_timeout(message, timeout)
    }

    /// See [`Receiver::recv`].
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.rx.recv(message)
    }

    /// See [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.rx.recv_timeout(message, timeout)
    }

    /// See [`Receiver::recv_into`].
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.rx.recv_into(buffer)
    }
}

impl<T: Pod> Pipe<T> {
    /// See [`Sender::send`].
    pub fn send(&mut self, value: &T) -> Result<(), SendError> {
        self.tx.send(value)
    }

    /// See [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.tx.send_timeout(value, timeout)
    }

    /// See [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.rx.recv()
    }

    /// See [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.rx.recv_timeout(timeout)
    }
}
