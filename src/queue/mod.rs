//! Queues: how they are made, and the handle that is both.

pub(crate) mod half;
pub(crate) mod membership;
pub(crate) mod participant;
pub(crate) mod payload;
pub(crate) mod receiver;
mod repair;
pub(crate) mod sender;
#[cfg(feature = "serde")]
pub(crate) mod serde;
pub(crate) mod state;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;

use crate::endpoint::{Endpoint, sealed::Sealed};
use crate::error::{RecvError, Result, SendError};
use crate::message::Message;
use crate::options::{self, CommonOptions, common_options, expect_joined};
use crate::primitive::Ordering;
use crate::queue::half::{Half, queue_methods};
use crate::queue::participant::{Arrival, Role};
use crate::queue::state::QueueState;
use crate::raw::mpmc::tail::Tail;
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::header::RegionKind;
use crate::region::layout::queue::{MAX_BLOCKS, QueueGeometry, QueueLayout, control};
use crate::region::lifecycle::{LifecycleHooks, Registration};
use crate::region::settings::{Bounds, Settings};

static HOOKS: LifecycleHooks = LifecycleHooks {
    announce_exit: participant::announce_exit,
    has_undelivered: |region, _| {
        let queue = QueueState::of(region);
        Tail::load(&queue.word(control::TAIL)).position() != queue.word(control::HEAD).load(Ordering::Acquire)
    },
    role_name: |region, index| QueueState::of(region).role_name(index),
};

pub use self::half::Stats;
pub use self::receiver::Receiver;
pub use self::sender::Sender;

/// How a queue is made or opened. `M` is `[u8]` for messages of any length, or a plain type for values of that type.
///
/// ```
/// use tombolo::queue;
///
/// let (mut tx, mut rx) = queue::Options::<u64>::new().capacity(8).max_participants(4).create_channel()?;
/// let mut another = tx.try_clone()?;
/// tx.send(&1)?;
/// another.send(&2)?;
/// assert_eq!([rx.recv()?, rx.recv()?], [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// How long a name lives:
///
/// | of what | the last one leaves | the last one is killed |
/// |---|---|---|
/// | [pipe](crate::pipe::Options) | the name goes; it stays if something waits for an end that has not come yet, or has died | it stays |
/// | queue | the name goes; it stays while messages wait, whoever left, and how | it stays |
/// | [namespace](crate::Namespace) | the name goes, with all that is in it | it stays |
/// | [persistent](crate::NamespaceBuilder::persistent) namespace | it stays | it stays |
///
/// Whoever opens a name that stayed goes on with what is there, see
/// [`OnStale`](crate::OnStale). [`close_now`](crate::queue::Receiver::close_now) throws away what
/// waits; [`Directory::unlink`](crate::Directory::unlink) removes a name with it.
pub struct Options<M: Message + ?Sized> {
    common: CommonOptions,
    capacity: u64,
    limit: u64,
    geometry: QueueGeometry,
    /// None: as many as messages.
    blocks: Option<u64>,
    reports_losses: bool,
    message: PhantomData<fn(&M)>,
}

const FOUND: Arrival = Arrival::Found { sibling: None };

const DEFAULT_CAPACITY: u64 = 1024;
const DEFAULT_LIMIT: u64 = 1 << 30;
const DEFAULT_PARTICIPANTS: u64 = 64;
/// With its label and control word a slot is 256 bytes.
const DEFAULT_INLINE_BYTES: u64 = 240;
const DEFAULT_BLOCK_BYTES: u64 = 4096;
const DEFAULT_EXTENTS: u64 = 64;

impl Options<[u8]> {
    /// A queue for messages of any length. By default 1024 of them: up to 240 bytes in the slot, up to 4 KiB in a block,
    /// and 64 longer ones at a time, up to 1 GiB each.
    pub fn bytes() -> Self {
        Self::default()
    }

    /// The longest message, in bytes; a peer cannot make us keep more than this.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.limit = bytes as u64;
        self
    }

    /// Bytes of a message that lie in its slot, where they are quickest; each slot is so long. Rounded up to a multiple of 8, at least 16.
    pub fn inline_bytes(mut self, bytes: usize) -> Self {
        self.geometry.inline_bytes = bytes as u64;
        self
    }

    /// How many messages that do not fit their slots may be in blocks, and how long a block is, in bytes. By default there is one for each
    /// message that may wait.
    pub fn blocks(mut self, count: usize, bytes: usize) -> Self {
        self.blocks = Some(count as u64);
        self.geometry.block_bytes = bytes as u64;
        self
    }

    /// How many messages longer than a block may wait. Their memory is taken when they are sent and given back when they
    /// are received, but for 64 MiB of the whole queue that are kept for the next ones
    /// ([`Stats::extents_bytes`](crate::queue::Stats::extents_bytes)). The last to leave gives those back, too.
    pub fn extents(mut self, count: usize) -> Self {
        self.geometry.extents = count as u64;
        self
    }
}

impl<T: Pod> Options<T> {
    /// A queue for values of the type `T`. By default 1024 of them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the type, for instance `"order v1"`. A handle with another name is refused, like one of
    /// another size or alignment.
    ///
    /// The region holds eight bytes for it: the name padded with zeros, or, if the name is longer, its
    /// 64-bit FNV-1a hash.
    pub fn type_tag(mut self, name: &str) -> Self {
        self.common.set_type_tag(name);
        self
    }
}

impl<M: Message + ?Sized> Options<M> {
    /// How many messages may wait, rounded up to a power of two, at least 2.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages as u64;
        self
    }

    /// How many handles there may be at a time, 64 unless set, 4096 at most. Each sender and each receiver is one.
    pub fn max_participants(mut self, count: usize) -> Self {
        self.geometry.participants = count as u64;
        self
    }

    /// Makes this end's receivers answer [`Lost`](RecvError::MessageLost), once for all, when messages died with a process that had begun
    /// to receive them. Otherwise [`Stats::lost`](crate::queue::Stats::lost) counts them silently.
    pub fn report_lost_messages(mut self) -> Self {
        self.reports_losses = true;
        self
    }

    common_options!();

    /// A queue that nobody else can reach unless handed a half of it.
    ///
    /// **Blocking**: never. **Errors**: invalid options, no memory.
    pub fn create(&self) -> Result<Queue<M>> {
        self.pair(self.first(Role::Sender)?)
    }

    /// A sender and a receiver of a queue that nobody else can reach unless handed one.
    ///
    /// **Blocking**: never. **Errors**: invalid options, no memory.
    pub fn create_channel(&self) -> Result<(Sender<M>, Receiver<M>)> {
        Ok(self.create()?.split())
    }

    /// Opens, or makes, the queue of that name, and becomes one of its senders: of the run that is
    /// open, or, if that was [closed](Sender::close), the first of the next one.
    ///
    /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: an invalid name, a region of
    /// another type, no free lane, or 255 closed runs whose senders are all still there
    /// ([`ErrorKind::TooManyParticipants`](crate::ErrorKind::TooManyParticipants)), no memory.
    pub fn sender(&self, name: &str) -> Result<Sender<M>> {
        self.named(name, Role::Sender).map(|seat| self.to_sender(seat))
    }

    /// Opens, or makes, the queue of that name, and becomes one of its receivers. If all is over
    /// there, sent, received and closed or left, it waits for the next sender, as at a name that is
    /// not there yet. Else like [`sender`](Self::sender).
    pub fn receiver(&self, name: &str) -> Result<Receiver<M>> {
        self.named(name, Role::Receiver).map(|seat| self.to_receiver(seat))
    }

    /// Opens, or makes, the queue of that name, to send and to receive. Else like [`sender`](Self::sender).
    pub fn open(&self, name: &str) -> Result<Queue<M>> {
        self.pair(self.named(name, Role::Sender)?)
    }

    /// Takes over a half that was turned into a descriptor by [`Endpoint::into_fd`], here or in another process.
    ///
    /// **Blocking**: never. **Errors**: not such a descriptor, another type, a damaged region, one of more than
    /// [`max_region_bytes`](Self::max_region_bytes) or of reserved huge pages without [`huge_pages`](Self::huge_pages);
    /// a file that can be truncated, unless it is on tmpfs and belongs to this user, or [`allow_other_owner`](Self::allow_other_owner).
    pub fn from_fd<E: QueueEndpoint<Message = M>>(&self, descriptor: OwnedFd) -> Result<E> {
        let settings = Settings { bounds: self.bounds(), ..self.common.settings.clone() };
        let region = Region::from_descriptor(descriptor, &settings)?;
        self.check(&region, self.limit)?;
        let lanes: Vec<usize> = QueueState::of(&region).with_role(E::ROLE).collect();
        E::seated(Registration::from_fd(region, &lanes, &HOOKS)?, self)
    }

    pub(crate) fn to_sender(&self, seat: Registration) -> Sender<M> {
        Sender::new(Arc::new(seat), self.common.wait)
    }

    pub(crate) fn to_receiver(&self, seat: Registration) -> Receiver<M> {
        Receiver::new(Arc::new(seat), self.common.wait, self.reports_losses)
    }

    fn pair(&self, seat: Registration) -> Result<Queue<M>> {
        let arrival = Arrival::Found { sibling: Some(seat.index()) };
        let other = expect_joined(membership::join(seat.region().reopen()?, Role::Receiver, arrival)?)?;
        let (mut tx, mut rx) = (self.to_sender(seat), self.to_receiver(other));
        let (sender, receiver) = (tx.half().lane.index(), rx.half().lane.index());
        tx.half_mut().lane.pair_with(Some(receiver));
        rx.half_mut().lane.pair_with(Some(sender));
        Ok(Queue { tx, rx })
    }

    /// The handle of a queue that lies in another region.
    pub(crate) fn join(&self, region: Region) -> Result<Queue<M>> {
        self.check(&region, region.layout().max_message_bytes())?; // as long as was planned there
        self.pair(expect_joined(membership::join(region, Role::Sender, FOUND)?)?)
    }

    /// Bytes of a message that lie in its slot.
    pub(crate) fn inline_limit(&self) -> usize {
        self.geometry.inline_bytes as usize
    }

    pub(crate) fn layout(&self) -> Result<QueueLayout> {
        let capacity = self.capacity.max(2).checked_next_power_of_two().unwrap_or(self.capacity);
        // At most what there can be: too large a capacity is refused as such.
        let geometry = QueueGeometry { blocks: self.blocks.unwrap_or(capacity.min(MAX_BLOCKS)), ..self.geometry };
        QueueLayout::new(M::element(self.common.tag), self.capacity, self.limit, geometry)
    }

    fn bounds(&self) -> Bounds {
        self.common.settings.bounds.with_own_layout(&self.layout().map(Layout::Queue))
    }

    pub(crate) fn create_region(&self, named: bool) -> Result<Region> {
        let mut region = Region::create(Layout::Queue(self.layout()?), &self.common.settings, named)?;
        QueueState::of(&region).ring_words().format();
        self.report_capacity(&mut region);
        Ok(region)
    }

    fn first(&self, role: Role) -> Result<Registration> {
        expect_joined(membership::join(self.create_region(false)?, role, FOUND)?)
    }

    fn named(&self, name: &str, role: Role) -> Result<Registration> {
        let open = |mut region: Region| {
            self.check(&region, self.limit)?;
            self.report_capacity(&mut region);
            membership::join(region, role, FOUND)
        };
        self.common.named(name, self.bounds(), open, || {
            self.common.publish(expect_joined(membership::join(self.create_region(true)?, role, FOUND)?)?, name)
        })
    }

    fn check(&self, region: &Region, limit: u64) -> Result<()> {
        self.common.check(region, RegionKind::Queue, M::element(self.common.tag), limit)
    }

    fn report_capacity(&self, region: &mut Region) {
        options::report_capacity(region, self.capacity, DEFAULT_CAPACITY);
    }
}

impl<M: Message + ?Sized> Default for Options<M> {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            capacity: DEFAULT_CAPACITY,
            limit: DEFAULT_LIMIT,
            geometry: QueueGeometry {
                participants: DEFAULT_PARTICIPANTS,
                inline_bytes: DEFAULT_INLINE_BYTES,
                blocks: 0,
                block_bytes: DEFAULT_BLOCK_BYTES,
                extents: DEFAULT_EXTENTS,
            },
            blocks: None,
            reports_losses: false,
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
            .field("shape", &self.geometry)
            .field("blocks", &self.blocks)
            .field("reports_losses", &self.reports_losses)
            .field("common", &self.common)
            .finish()
    }
}

/// A half of a queue: [`Sender`] or [`Receiver`].
pub trait QueueEndpoint: Endpoint {
    #[doc(hidden)]
    const ROLE: Role;
    #[doc(hidden)]
    fn seated(seat: Registration, options: &Options<Self::Message>) -> Result<Self>;
}

impl<M: Message + ?Sized> QueueEndpoint for Sender<M> {
    const ROLE: Role = Role::Sender;

    fn seated(seat: Registration, options: &Options<M>) -> Result<Self> {
        Ok(options.to_sender(seat))
    }
}

impl<M: Message + ?Sized> QueueEndpoint for Receiver<M> {
    const ROLE: Role = Role::Receiver;

    fn seated(seat: Registration, options: &Options<M>) -> Result<Self> {
        Ok(options.to_receiver(seat))
    }
}

impl<M: Message + ?Sized> Endpoint for Sender<M> {
    type Message = M;
}

impl<M: Message + ?Sized> Endpoint for Receiver<M> {
    type Message = M;
}

impl<M: Message + ?Sized> Sealed for Sender<M> {
    fn registration(&self) -> &Arc<Registration> {
        self.half().lane.seat()
    }

    fn from_inherited(descriptor: OwnedFd) -> Result<Self> {
        Options::default().from_fd(descriptor)
    }
}

impl<M: Message + ?Sized> Sealed for Receiver<M> {
    fn registration(&self) -> &Arc<Registration> {
        self.half().lane.seat()
    }

    fn from_inherited(descriptor: OwnedFd) -> Result<Self> {
        Options::default().from_fd(descriptor)
    }
}

impl<M: Message + ?Sized> Sender<M> {
    /// A receiver of the same queue. Else like [`try_clone`](Self::try_clone).
    pub fn receiver(&self) -> Result<Receiver<M>> {
        Ok(Receiver::new(self.half().another(Role::Receiver)?, self.half().lane.wait_mode(), false))
    }
}

impl<M: Message + ?Sized> Receiver<M> {
    /// A sender of the same queue, of the run that is open, or the first of the next one. Else like
    /// [`try_clone`](Self::try_clone).
    pub fn sender(&self) -> Result<Sender<M>> {
        Ok(Sender::new(self.half().another(Role::Sender)?, self.half().lane.wait_mode()))
    }
}

/// A handle that both sends and receives: a [`Sender`] and a [`Receiver`].
///
/// Its own sender is nobody that its receiver would wait for: when all others have left, it is told [`RecvError::Closed`].
#[derive(Debug)]
pub struct Queue<M: Message + ?Sized = [u8]> {
    tx: Sender<M>,
    rx: Receiver<M>,
}

impl<M: Message + ?Sized> Queue<M> {
    /// The two halves, for two threads or processes.
    pub fn split(mut self) -> (Sender<M>, Receiver<M>) {
        self.tx.half_mut().lane.pair_with(None);
        self.rx.half_mut().lane.pair_with(None);
        (self.tx, self.rx)
    }

    /// The two halves, where they are.
    #[cfg(feature = "serde")]
    pub(crate) fn halves(&mut self) -> (&mut Sender<M>, &mut Receiver<M>) {
        (&mut self.tx, &mut self.rx)
    }

    /// The receiver's, which may close the run of others as well.
    fn half(&self) -> &Half {
        self.rx.half()
    }

    queue_methods!(half);

    /// See [`Receiver::close_now`].
    pub fn close_now(&mut self) -> Result<u64, RecvError> {
        self.rx.close_now()
    }

    /// A sender of the same queue. See [`Sender::try_clone`].
    pub fn sender(&self) -> Result<Sender<M>> {
        self.tx.try_clone()
    }

    /// A receiver of the same queue. See [`Receiver::try_clone`].
    pub fn receiver(&self) -> Result<Receiver<M>> {
        self.rx.try_clone()
    }

    /// See [`Receiver::task_done`].
    pub fn task_done(&mut self) -> Result<(), RecvError> {
        self.rx.task_done()
    }

    /// See [`Sender::join`].
    pub fn join(&mut self) -> Result<(), SendError> {
        self.tx.join()
    }

    /// See [`Sender::join_timeout`].
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<(), SendError> {
        self.tx.join_timeout(timeout)
    }

    /// The name under which the queue was opened; none if it is anonymous.
    pub fn name(&self) -> Option<&str> {
        self.tx.name()
    }
}

impl<T: Pod> Queue<T> {
    /// See [`Sender::send`].
    pub fn send(&mut self, value: &T) -> Result<(), SendError> {
        self.tx.send(value)
    }

    /// See [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.tx.send_timeout(value, timeout)
    }

    /// See [`Sender::try_send`].
    pub fn try_send(&mut self, value: &T) -> Result<(), SendError> {
        self.tx.try_send(value)
    }

    /// See [`Sender::send_many`].
    pub fn send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.tx.send_many(values)
    }

    /// See [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.rx.recv()
    }

    /// See [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.rx.recv_timeout(timeout)
    }

    /// See [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.rx.try_recv()
    }

    /// See [`Receiver::recv_many`].
    pub fn recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.rx.recv_many(values)
    }

    /// See [`Receiver::iter`].
    pub fn iter(&mut self) -> impl Iterator<Item = T> {
        self.rx.iter()
    }
}

impl Queue<[u8]> {
    /// See [`Sender::send`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.tx.send(message)
    }

    /// See [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.tx.send_timeout(message, timeout)
    }

    /// See [`Sender::try_send`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.tx.try_send(message)
    }

    /// See [`Sender::send_many`].
    pub fn send_many<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, SendError> {
        self.tx.send_many(messages)
    }

    /// See [`Receiver::recv`].
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.rx.recv(message)
    }

    /// See [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.rx.recv_timeout(message, timeout)
    }

    /// See [`Receiver::try_recv`].
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.rx.try_recv(message)
    }

    /// See [`Receiver::recv_many`].
    pub fn recv_many(&mut self, messages: &mut [Vec<u8>]) -> Result<usize, RecvError> {
        self.rx.recv_many(messages)
    }

    /// See [`Receiver::iter`].
    pub fn iter(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.rx.iter()
    }
}
