//! Pipes: how they are made, and the end that does both.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;

use crate::error::{Error, ErrorKind, RecvError, Result, SendError};
use crate::layout::{Element, Layout};
use crate::link::{Link, Side};
use crate::liveness::{Joined, Seat};
use crate::message::Message;
use crate::names::Directory;
use crate::receiver::Receiver;
use crate::region::{Region, Report, Settings};
use crate::sender::Sender;
use crate::wait::Wait;

/// Makes an anonymous duplex pipe for byte messages, with the default options.
///
/// **Blocking**: never. **Errors**: no memory, no descriptors, no `/proc`.
///
/// ```
/// let (mut ours, mut theirs) = tombolo::pipe()?;
/// ours.send(b"over there")?;
/// let mut message = Vec::new();
/// theirs.recv(&mut message)?;
/// assert_eq!(message, b"over there");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pipe() -> Result<(Pipe, Pipe)> {
    PipeOptions::bytes().duplex()
}

/// What becomes of a name whose participants are all gone but did not all leave cleanly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Abandoned {
    /// Go on with it: messages that wait there are still delivered. The default, and lossless.
    #[default]
    Resume,
    /// Start afresh: a stream cut off in the middle is of no use to anybody.
    Replace,
}

/// Whether an end may, must or must not make the region that it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Creation {
    IfMissing,
    Always,
    Never,
}

/// How a pipe is made or opened. `M` is `[u8]` for messages of any length, or a plain type for values of that type.
///
/// ```
/// use tombolo::{PipeOptions, Wait};
///
/// let (mut tx, mut rx) = PipeOptions::values::<u64>().capacity(8).wait(Wait::Spin).one_way()?;
/// tx.send(&7)?;
/// assert_eq!(rx.recv()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PipeOptions<M: Message + ?Sized> {
    settings: Settings,
    capacity: u64,
    limit: u64,
    tag: [u8; 8],
    wait: Wait,
    abandoned: Abandoned,
    creation: Creation,
    message: PhantomData<fn(&M)>,
}

/// Times that a name may vanish between looking it up and joining.
const ATTEMPTS: u32 = 1000;

const DEFAULT_BYTES: u64 = 1 << 20;
const DEFAULT_VALUES: u64 = 1024;
const DEFAULT_LIMIT: u64 = 1 << 30;

impl PipeOptions<[u8]> {
    /// A pipe for messages of any length. By default 1 MiB of ring for each direction, messages up to 1 GiB.
    pub fn bytes() -> Self {
        Self::default()
    }

    /// The size of the ring in bytes, rounded up to a power of two, at least 128. Longer messages stream through it.
    pub fn capacity_len(mut self, bytes: usize) -> Self {
        self.capacity = bytes as u64;
        self
    }

    /// The longest message, in bytes; a peer cannot make us keep more than this.
    pub fn max_message_len(mut self, bytes: usize) -> Self {
        self.limit = bytes as u64;
        self
    }
}

impl PipeOptions<()> {
    /// A pipe for values of the type `T`. By default 1024 of them for each direction.
    pub fn values<T: Pod>() -> PipeOptions<T> {
        PipeOptions::default()
    }
}

impl<T: Pod> PipeOptions<T> {
    /// How many messages may wait, rounded up to a power of two.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages as u64;
        self
    }

    /// Eight bytes that name the type; an end whose tag differs is refused, like one of another size or alignment.
    pub fn tag(mut self, tag: [u8; 8]) -> Self {
        self.tag = tag;
        self
    }
}

impl<M: Message + ?Sized> PipeOptions<M> {
    /// What blocking calls of this end do while they wait.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The directory of the name, instead of `$TOMBOLO_DIR` or `/dev/shm/tombolo-UID`.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.directory = Directory::at(path);
        self
    }

    /// The permissions of a named file, 0o600 unless set.
    pub fn mode(mut self, mode: u32) -> Self {
        self.settings.mode = Some(mode);
        self
    }

    /// Opens a name even if its file belongs to another user.
    pub fn any_owner(mut self) -> Self {
        self.settings.any_owner = true;
        self
    }

    /// Asks for 2 MiB pages; the [`Report`] says if there are none.
    pub fn huge_pages(mut self) -> Self {
        self.settings.huge_pages = true;
        self
    }

    /// Maps every page now instead of on first touch.
    pub fn prefault(mut self) -> Self {
        self.settings.prefault = true;
        self
    }

    /// Keeps the region out of swap; the [`Report`] says if the system refuses.
    pub fn lock_memory(mut self) -> Self {
        self.settings.lock_memory = true;
        self
    }

    /// What to do about a name whose participants are all gone.
    pub fn abandoned(mut self, abandoned: Abandoned) -> Self {
        self.abandoned = abandoned;
        self
    }

    /// Refuses a name that exists.
    pub fn create_new(mut self) -> Self {
        self.creation = Creation::Always;
        self
    }

    /// Refuses a name that does not exist.
    pub fn open_existing(mut self) -> Self {
        self.creation = Creation::Never;
        self
    }

    /// Two connected ends, each of which sends and receives. Nobody else can reach them unless handed one.
    ///
    /// **Blocking**: never. **Errors**: invalid options, no memory.
    pub fn duplex(&self) -> Result<(Pipe<M>, Pipe<M>)> {
        self.anonymous()
    }

    /// An end that sends and an end that receives. Nobody else can reach them unless handed one.
    ///
    /// **Blocking**: never. **Errors**: invalid options, no memory.
    pub fn one_way(&self) -> Result<(Sender<M>, Receiver<M>)> {
        self.anonymous()
    }

    /// Opens, or makes, the one-way pipe of that name and becomes its sender.
    ///
    /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: an invalid name, a region of
    /// another type, a live sender ([`ErrorKind::SeatTaken`]), no memory.
    pub fn sender(&self, name: &str) -> Result<Sender<M>> {
        self.named(name)
    }

    /// Opens, or makes, the one-way pipe of that name and becomes its receiver. Else like [`sender`](Self::sender).
    pub fn receiver(&self, name: &str) -> Result<Receiver<M>> {
        self.named(name)
    }

    /// Opens, or makes, the duplex pipe of that name and takes its first free end. Else like [`sender`](Self::sender).
    pub fn end(&self, name: &str) -> Result<Pipe<M>> {
        self.named(name)
    }

    /// Takes over an end that was turned into a descriptor by [`End::into_fd`], here or in another process.
    ///
    /// **Blocking**: never. **Errors**: not such a descriptor, another type, a damaged region.
    pub fn from_fd<E: End<Message = M>>(&self, descriptor: OwnedFd) -> Result<E> {
        let region = Region::from_descriptor(descriptor, &self.settings)?;
        self.check(&region, E::DIRECTIONS)?;
        let seat = Seat::adopt(region, E::SEATS)?;
        E::seated(Arc::new(seat), self.wait)
    }

    fn layout(&self, directions: u64) -> Result<Layout> {
        Layout::pipe(M::element(self.tag), directions, self.capacity, self.limit)
    }

    fn anonymous<A: End<Message = M>, B: End<Message = M>>(&self) -> Result<(A, B)> {
        let mut region = Region::create(self.layout(A::DIRECTIONS)?, &self.settings, false)?;
        self.report_capacity(&mut region);
        let other = region.reopen()?;
        Ok((self.first(region, 0)?, self.first(other, 1)?))
    }

    fn first<E: End<Message = M>>(&self, region: Region, seat: usize) -> Result<E> {
        E::seated(Arc::new(join_fresh(region, &[seat])?), self.wait)
    }

    fn named<E: End<Message = M>>(&self, name: &str) -> Result<E> {
        for _ in 0..ATTEMPTS {
            if self.creation != Creation::Always {
                match self.open_named::<E>(name) {
                    Ok(Some(end)) => return Ok(end),
                    Ok(None) => continue, // it lost its name while we came
                    Err(error) if error.kind() == ErrorKind::NotFound && self.creation != Creation::Never => {}
                    Err(error) => return Err(error),
                }
            }
            match self.create_named::<E>(name) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && self.creation != Creation::Always => {}
                done => return done,
            }
        }
        Err(Error::new(
            ErrorKind::Busy,
            format_args!("open {name:?}"),
            format_args!("it made and removed {ATTEMPTS} times meanwhile"),
            "one that stays",
            "find out who does that (`tombolo inspect`), or use another name",
        ))
    }

    fn open_named<E: End<Message = M>>(&self, name: &str) -> Result<Option<E>> {
        let mut region = Region::open(name, &self.settings)?;
        if self.abandoned == Abandoned::Replace && region.remove_if_abandoned()? {
            return Ok(None);
        }
        self.check(&region, E::DIRECTIONS)?;
        self.report_capacity(&mut region);
        match Seat::join(region, E::SEATS, take_roles)? {
            Joined::Seat(seat) => E::seated(Arc::new(seat), self.wait).map(Some),
            Joined::Retired => Ok(None),
        }
    }

    fn create_named<E: End<Message = M>>(&self, name: &str) -> Result<E> {
        let mut region = Region::create(self.layout(E::DIRECTIONS)?, &self.settings, true)?;
        self.report_capacity(&mut region);
        // Seated before it has a name: nobody ever finds it empty and takes it for abandoned.
        let mut seat = join_fresh(region, E::SEATS)?;
        seat.region_mut().publish(name, &self.settings.directory)?;
        E::seated(Arc::new(seat), self.wait)
    }

    fn check(&self, region: &Region, directions: u64) -> Result<()> {
        let wrong = |found: &dyn fmt::Display, expected: &dyn fmt::Display| {
            let remedy = "use the same options on both sides, or another name";
            Err(Error::new(ErrorKind::WrongType, "open this pipe", found, expected, remedy))
        };
        let layout = region.layout();
        let element = M::element(self.tag);
        if layout.element != element {
            return wrong(&layout.element, &element);
        }
        if layout.element == Element::Bytes && layout.limit > self.limit {
            let found = format!("messages of up to {} bytes", layout.limit);
            return wrong(&found, &format!("of up to {}: see max_message_len", self.limit));
        }
        if layout.directions != directions {
            let name = |directions| if directions == 1 { "a one-way pipe" } else { "a duplex pipe" };
            return wrong(&name(layout.directions), &name(directions));
        }
        Ok(())
    }

    fn report_capacity(&self, region: &mut Region) {
        let capacity = region.layout().capacity;
        if capacity != self.capacity && self.capacity != Self::default_capacity() {
            region.report.warn(format!("the capacity is {capacity}, not {} as asked", self.capacity));
        }
    }

    fn default_capacity() -> u64 {
        match M::element([0; 8]) {
            Element::Bytes => DEFAULT_BYTES,
            Element::Value { .. } => DEFAULT_VALUES,
        }
    }
}

impl<M: Message + ?Sized> Default for PipeOptions<M> {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            capacity: Self::default_capacity(),
            limit: DEFAULT_LIMIT,
            tag: [0; 8],
            wait: Wait::default(),
            abandoned: Abandoned::default(),
            creation: Creation::IfMissing,
            message: PhantomData,
        }
    }
}

impl<M: Message + ?Sized> Clone for PipeOptions<M> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), message: PhantomData, ..*self }
    }
}

impl<M: Message + ?Sized> fmt::Debug for PipeOptions<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeOptions")
            .field("element", &M::element(self.tag))
            .field("capacity", &self.capacity)
            .field("max_message_len", &self.limit)
            .field("wait", &self.wait)
            .field("abandoned", &self.abandoned)
            .field("creation", &self.creation)
            .field("settings", &self.settings)
            .finish()
    }
}

/// A seat in a region that nobody else can see yet.
fn join_fresh(region: Region, candidates: &[usize]) -> Result<Seat> {
    match Seat::join(region, candidates, take_roles)? {
        Joined::Seat(seat) => Ok(seat),
        Joined::Retired => Err(Error::new(
            ErrorKind::Corrupt,
            "join a fresh region",
            "it retired",
            "it active",
            "find out who writes into memory that nobody was given",
        )),
    }
}

/// Every role that the seat plays, while nobody else can join or leave.
fn take_roles(region: &Region, seat: usize) -> Result<()> {
    for ring in 0..region.layout().directions as usize {
        Side::of(seat, ring).take(region, ring);
    }
    Ok(())
}

/// An end of a pipe: [`Pipe`], [`Sender`] or [`Receiver`].
pub trait End: sealed::Sealed + Sized {
    /// What it carries.
    type Message: Message + ?Sized;

    /// Turns the end into a descriptor that carries it, for [`PipeOptions::from_fd`] in this or another process. The part
    /// in the pipe stays taken as long as any copy of the descriptor is open, and counts as dead when the last is closed.
    ///
    /// **Blocking**: never. **Errors**: the end was split and the other half still exists.
    fn into_fd(self) -> Result<OwnedFd> {
        let file = sealed::prepare_to_pass(&self)?;
        self.seat().pass_on();
        Ok(file)
    }

    /// What was wished for and could not be had when the end was made.
    fn report(&self) -> &Report {
        &self.seat().region().report
    }

    /// The name under which the pipe was opened; none if it is anonymous.
    fn name(&self) -> Option<&str> {
        self.seat().region().place().map(|place| place.name.as_str())
    }

    /// Messages (bytes, for byte messages) that each direction holds.
    fn capacity(&self) -> usize {
        self.seat().region().layout().capacity as usize
    }
}

pub(crate) mod sealed {
    use super::*;

    pub trait Sealed {
        const DIRECTIONS: u64;
        /// The seats that such an end can take.
        const SEATS: &'static [usize];
        fn seated(seat: Arc<Seat>, wait: Wait) -> Result<Self>
        where
            Self: Sized;
        fn seat(&self) -> &Arc<Seat>;
        /// How many handles of its seat a whole end has.
        const HANDLES: usize;
        /// Whether its halves belong together.
        fn is_whole(&self) -> bool {
            true
        }
    }

    pub(crate) fn prepare_to_pass<E: Sealed>(end: &E) -> Result<OwnedFd> {
        let seat = end.seat();
        if Arc::strong_count(seat) > E::HANDLES || !end.is_whole() || seat.region().layout().directions != E::DIRECTIONS
        {
            return Err(Error::new(
                ErrorKind::InvalidOptions,
                "pass on this end",
                "half of a pipe that was split",
                "the whole end",
                "pass it on before splitting it",
            ));
        }
        seat.prepare_to_pass()
    }
}

impl<M: Message + ?Sized> sealed::Sealed for Sender<M> {
    const DIRECTIONS: u64 = 1;
    const SEATS: &'static [usize] = &[0];
    const HANDLES: usize = 1;

    fn seated(seat: Arc<Seat>, wait: Wait) -> Result<Self> {
        Sender::new(Link::new(seat, 0, wait), 0)
    }

    fn seat(&self) -> &Arc<Seat> {
        self.link().seat()
    }
}

impl<M: Message + ?Sized> sealed::Sealed for Receiver<M> {
    const DIRECTIONS: u64 = 1;
    const SEATS: &'static [usize] = &[1];
    const HANDLES: usize = 1;

    fn seated(seat: Arc<Seat>, wait: Wait) -> Result<Self> {
        Receiver::new(Link::new(seat, 0, wait), 0)
    }

    fn seat(&self) -> &Arc<Seat> {
        self.link().seat()
    }
}

impl<M: Message + ?Sized> sealed::Sealed for Pipe<M> {
    const DIRECTIONS: u64 = 2;
    const SEATS: &'static [usize] = &[0, 1];
    const HANDLES: usize = 2;

    fn seated(seat: Arc<Seat>, wait: Wait) -> Result<Self> {
        let (out, back) = (seat.index(), 1 - seat.index().min(1));
        // Both links first: if anything fails from here on, dropping them closes both directions.
        let (tx, rx) = (Link::new(Arc::clone(&seat), out, wait), Link::new(seat, back, wait));
        Ok(Self { tx: Sender::new(tx, out)?, rx: Receiver::new(rx, back)? })
    }

    fn is_whole(&self) -> bool {
        Arc::ptr_eq(self.tx.link().seat(), self.rx.link().seat())
    }

    fn seat(&self) -> &Arc<Seat> {
        self.tx.link().seat()
    }
}

impl<M: Message + ?Sized> End for Sender<M> {
    type Message = M;
}

impl<M: Message + ?Sized> End for Receiver<M> {
    type Message = M;
}

impl<M: Message + ?Sized> End for Pipe<M> {
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
