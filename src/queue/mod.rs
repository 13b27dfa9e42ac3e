//! Queues: any number of senders and receivers. Each message goes to one receiver.
//!
//! [`Options`] creates and opens them. A queue carries values of one type ([`Sender`],
//! [`Receiver`], [`Queue`]) or byte messages of any length ([`ByteSender`], [`ByteReceiver`],
//! [`ByteQueue`]). Which types can be sent is described in
//! [`pipe`](crate::pipe#which-types-can-be-sent).
//!
//! The algorithm is Vyukov's bounded queue. A process that stops or dies in the middle of an
//! operation blocks nobody: its slot is quarantined, and the others skip it.
//!
//! # Jobs and workers
//!
//! Unless you ask for it, a message is delivered once. What a worker has received and not finished
//! when it dies is not delivered to another. If that matters, let each worker iterate over its
//! [`Receiver::tasks`], or call [`Receiver::task_done`] when it has done a job, and let the
//! producer call [`Sender::join`]. It returns [`JoinError::TasksLost`] if a worker died or left
//! with a job.
//!
//! When the last receiver is gone, calls of senders return `Closed` or `PeerDied`. If all workers
//! may be gone for a while, keep a receiver in the producer that receives nothing: then senders
//! wait. Or call [`Sender::wait_for_peer`] after such an error.
//!
//! # Redelivery
//!
//! A queue that was made with [`on_death(OnDeath::Redeliver { times })`](Options::on_death) keeps
//! each message until its receiver has finished it, by [`Task::done`] or [`Receiver::task_done`].
//! If the receiver dies or leaves before that, or drops the [`Task`], another one gets the message.
//!
//! ```
//! use tombolo::queue::{self, OnDeath};
//!
//! let options = queue::Options::bytes().on_death(OnDeath::Redeliver { times: 3 });
//! # let (mut jobs, mut worker) = options.create_channel()?;
//! # jobs.send("resize 7.jpg")?;
//! # drop(jobs);
//! while let Ok(job) = worker.recv_task() {
//!     if job.is_redelivered() {
//!         // An earlier worker may have done it, or half of it.
//!     }
//!     job.done()?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - Each message is done **at least once**. A worker that is killed after its work and before
//!   `done` leaves a message that is delivered again. So work must bear being done twice:
//!   [`Task::is_redelivered`] tells when that can happen, and [`Task::deliveries`] how often.
//! - A message that was delivered `times` + 1 times is not delivered any more. It becomes a dead
//!   letter, which stays in the queue under its name until [`DeadLetter::remove`] or
//!   [`DeadLetter::redrive`]. `tombolo recv NAME --dead-letters` shows and removes them.
//! - A receiver that is stopped keeps its messages. Only a dead one, or one that left, loses them.
//! - Messages that are delivered again come first. The order of the others is as sent.
//! - [`Sender::join`] returns `Ok` when everything that was sent before the call is done. If some
//!   of it is dead letters, it returns [`JoinError::DeadLetters`], and does so again until they are
//!   removed.
//! - What a receiver gets by `recv`, `iter` or a `for` loop over it is finished by
//!   [`task_done`](Receiver::task_done) only. Without that it holds everything, until no block is
//!   free and the senders wait.
//! - A receiver gets `Closed` only when no other receiver holds a message: if that one dies, it is
//!   to get it. So `Closed` comes as late as the slowest of them is done. But one that holds
//!   messages itself does not wait for others: finish them, and call again.
//! - Two receivers in one thread are two: if the first holds a message, `recv` of the second never
//!   returns `Closed`. Let no receiver that only keeps a place, as in the producer, hold one.
//! - A message takes up a slot while it is queued, and a block until it is done. To deliver it
//!   again takes no room, so that a full queue takes back its own messages.
//!   [`unfinished`](Options::unfinished) limits how many can be in hand.
//! - There are no [frames](#frames) in such a queue: messages are copied in and out.
//!
//! # Frames
//!
//! Large messages, such as video frames, need not be copied. [`ByteSender::into_zero_copy`] gives a
//! sender that fills a block in place, and [`ByteReceiver::into_zero_copy`] a receiver that reads
//! it there. The receiver holds the block until it drops the [`Frame`]. Meanwhile the queue goes on
//! without that block, and the slot is free.
//!
//! ```
//! use tombolo::queue::{Blocks, Options};
//!
//! /// Two wait, each of two workers holds one, and one is being filled.
//! const BLOCKS: Blocks = Blocks { count: 2 + 2 + 1, bytes: 3 << 20 };
//! let options = Options::bytes().capacity(BLOCKS.count).blocks(BLOCKS).max_message_bytes(BLOCKS.bytes).prefault();
//! # let (tx, rx) = options.create_channel()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - Make a block for each message that may wait, for each frame that a worker may hold and for
//!   each that a sender fills; and for each worker that may be killed, until that is noticed. If
//!   there are fewer, [`loan`](ZeroCopyByteSender::loan) waits.
//! - Give the queue as many slots as blocks, so that a frame that is filled finds a slot.
//! - Set [`max_message_bytes`](Options::max_message_bytes) to the length of a block. Then there are
//!   no extents, and [`Stats::shortage`] tells whether blocks are short.
//! - Blocks have memory from the beginning. [`prefault`](Options::prefault) maps it when the queue
//!   is made or opened, not at the first use of each page.
//! - If a process is killed, the blocks that it filled or held come back: a sender that waits for
//!   one notices after 20 ms at most. A process that is stopped keeps its blocks, and only those.
//! - A message whose worker was killed is a lost task: see above.

mod byte_receiver;
mod byte_sender;
mod dead_letter;
pub(crate) mod endpoints;
pub(crate) mod half;
mod handle;
pub(crate) mod membership;
mod nonblocking;
mod owned_block;
pub(crate) mod participant;
pub(crate) mod payload;
mod peer;
mod receiver;
mod recv_half;
pub(crate) mod redelivery;
mod repair;
mod sender;
#[cfg(feature = "serde")]
mod serde;
pub(crate) mod state;
mod stats;
mod task;
pub(crate) mod task_iter;
mod tasks;
mod zero_copy;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

pub use self::byte_receiver::ByteReceiver;
pub use self::byte_sender::ByteSender;
pub use self::dead_letter::{DeadLetter, DeadLetters};
pub use self::endpoints::QueueEndpoint;
pub use self::handle::{ByteQueue, Queue};
use self::membership::Origin;
use self::participant::Role;
pub use self::receiver::Receiver;
pub use self::sender::Sender;
use self::state::QueueState;
pub use self::stats::{Shortage, Stats};
pub use self::task::Task;
pub use self::task_iter::Tasks;
pub use self::zero_copy::{Frame, FrameMut, ZeroCopyByteReceiver, ZeroCopyByteSender};
use crate::error::Result;
pub use crate::error::{JoinError, TaskDoneError};
use crate::message::Message;
pub use crate::message::Messages;
use crate::options::{self, CommonOptions, common_options, expect_joined};
use crate::primitive::Ordering;
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::header::RegionKind;
use crate::region::layout::queue::{MAX_BLOCKS, QueueGeometry, QueueLayout, control};
use crate::region::lifecycle::{LifecycleHooks, Registration};
use crate::region::settings::{Bounds, Settings};
use crate::types::Shareable;

static HOOKS: LifecycleHooks = LifecycleHooks {
    announce_exit: participant::announce_exit,
    has_undelivered: |region, _| {
        let queue = QueueState::of(region);
        let head = queue.word(control::HEAD).load(Ordering::Acquire); // edge: snapshot
        queue.tail().position() != head || queue.has_deliveries()
    },
    role_name: |region, index| QueueState::of(region).role_name(index),
};

/// Options to make or open a queue. `M` is `[u8]` for byte messages, or the type of the values.
///
/// # Examples
/// ```
/// use tombolo::queue;
///
/// let (mut tx, mut rx) = queue::Options::<u64>::new().capacity(8).max_participants(4).create_channel()?;
/// let mut another = tx.try_clone()?;
/// tx.send(1)?;
/// another.send(2)?;
/// assert_eq!([rx.recv()?, rx.recv()?], [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Making and opening
///
/// | | [pipe](crate::pipe::Options) | queue |
/// |---|---|---|
/// | a sender and a receiver, unnamed | `create` | [`create_channel`](Self::create_channel) |
/// | to send and receive, unnamed | `create_duplex`: two | [`create`](Self::create): one |
/// | a sender, named | `sender` | [`sender`](Self::sender) |
/// | a receiver, named | `receiver` | [`receiver`](Self::receiver) |
/// | to send and receive, named | `open` | [`open`](Self::open) |
///
/// # How long a name lives
///
/// | name of | the last participant leaves | it is killed |
/// |---|---|---|
/// | pipe | removed or stays: see [there](crate::pipe::Options#how-long-a-name-lives) | stays |
/// | queue | removed, unless messages wait | stays |
/// | [namespace](crate::Namespace) | removed, with everything in it | stays |
/// | [persistent](crate::NamespaceBuilder::persistent) namespace | stays | stays |
///
/// If you open a name that stayed, you continue with what is there: see
/// [`OnStale`](crate::OnStale). [`close_now`](Receiver::close_now) discards the messages that wait.
/// [`Directory::unlink`](crate::Directory::unlink) removes the name with them.
#[must_use = "options make nothing until a method such as `create` or `open` is called"]
pub struct Options<M: Message + ?Sized> {
    common: CommonOptions,
    capacity: u64,
    max_message_bytes: u64,
    geometry: QueueGeometry,
    /// How many blocks. `None`: as many as messages.
    blocks: Option<u64>,
    /// How many extents. `None`: as [`default_extents`] says.
    extents: Option<u64>,
    on_death: Option<OnDeath>,
    /// How many messages can be received and not done. `None`: two for each participant.
    unfinished: Option<u64>,
    reports_lost_messages: bool,
    message: PhantomData<fn(&M)>,
}

/// What becomes of a message whose receiver dies, or leaves, without having finished it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDeath {
    /// It is lost, and counted: [`Stats::tasks_lost`]. [`join`](Sender::join) reports it.
    #[default]
    Lose,
    /// It is delivered to another receiver, up to this number of times. Then it is a
    /// [dead letter](Receiver::dead_letters). See [Redelivery](crate::queue#redelivery).
    Redeliver {
        /// How often, after the first delivery. 254 at most; 0: it is a dead letter at once.
        times: u8,
    },
}

impl OnDeath {
    /// The most deliveries, as in the header of a queue.
    fn deliveries(self) -> u64 {
        match self {
            Self::Lose => 0,
            Self::Redeliver { times } => u64::from(times) + 1,
        }
    }

    pub(crate) fn of(deliveries: u64) -> Self {
        deliveries.checked_sub(1).map_or(Self::Lose, |times| Self::Redeliver { times: times as u8 })
    }
}

impl fmt::Display for OnDeath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lose => f.write_str("loses the messages of the dead"),
            Self::Redeliver { times } => write!(f, "redelivers {times} times"),
        }
    }
}

/// The blocks of a queue of byte messages. They hold the messages that do not fit into slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// How many there are.
    pub count: usize,
    /// The length of each, in bytes.
    pub bytes: usize,
}

const DEFAULT_CAPACITY: u64 = 1024;
const DEFAULT_MAX_MESSAGE_BYTES: u64 = 1 << 30;
const DEFAULT_PARTICIPANTS: u64 = 64;
/// With its control word and payload header, a slot is 256 bytes.
const DEFAULT_INLINE_BYTES: u64 = 240;
const DEFAULT_BLOCK_BYTES: u64 = 4096;
/// The file ends with the extents. File systems accept one of this length, most of which is a hole.
const DEFAULT_EXTENTS_BYTES: u64 = 2 << 40;

/// One extent for each message of a full ring and for each participant, which may be stopped while
/// it has one; if the file does not become too long by that.
fn default_extents(capacity: u64, participants: u64, max_message_bytes: u64) -> u64 {
    let most = (DEFAULT_EXTENTS_BYTES / max_message_bytes.max(1)).clamp(1, MAX_BLOCKS);
    capacity.saturating_add(participants).min(most)
}

/// `create` and the other methods that make and open queues of one kind of message.
macro_rules! create_and_open {
    ($Sender:ty, $Receiver:ty, $Queue:ident $(<$T:ident>)?) => {
        /// Creates an unnamed queue. Returns one handle that sends and receives.
        ///
        /// Other processes reach it only if you [split](Queue::split) the handle and pass a half
        /// to them.
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// Invalid options, or no memory.
        pub fn create(&self) -> Result<$Queue$(<$T>)?> {
            let region = self.create_region(false)?;
            let first = membership::join(region, Role::Sender, Origin::Opened { sibling: None })?;
            let (tx, rx) = self.pair(expect_joined(first)?)?;
            Ok($Queue { tx, rx })
        }

        /// Creates an unnamed queue. Returns a sender and a receiver of it.
        ///
        /// Other processes reach it only if you pass one to them.
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// Invalid options, or no memory.
        pub fn create_channel(&self) -> Result<($Sender, $Receiver)> {
            Ok(self.create()?.split())
        }

        /// Opens the queue of this name, or creates it, and becomes one of its senders: of the open
        /// run, or, if that was [closed](Sender::close), the first of the next one.
        ///
        /// # Blocking
        /// If every place is taken, blocks for up to a second while a participant is ending, and
        /// as long as [`open_timeout`](Self::open_timeout) says. Blocks for up to 5 s if another
        /// process was stopped while it joined or left.
        ///
        /// # Errors
        /// An invalid name, a region of another type, or no memory. The queue has as many
        /// participants as it can, or senders of 255 closed runs still exist
        /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)).
        pub fn sender(&self, name: &str) -> Result<$Sender> {
            Ok(self.attach(self.open_or_create(name, Role::Sender)?))
        }

        /// Opens the queue of this name, or creates it, and becomes one of its receivers.
        ///
        /// If the stream is over, because everything was received and all senders have left or were
        /// closed, the receiver waits for the next sender, as it does under a name that is new.
        ///
        /// # Blocking
        /// As [`sender`](Self::sender).
        ///
        /// # Errors
        /// As [`sender`](Self::sender).
        pub fn receiver(&self, name: &str) -> Result<$Receiver> {
            Ok(self.attach(self.open_or_create(name, Role::Receiver)?))
        }

        /// Opens the queue of this name, or creates it, to send and to receive.
        ///
        /// # Blocking
        /// As [`sender`](Self::sender).
        ///
        /// # Errors
        /// As [`sender`](Self::sender).
        pub fn open(&self, name: &str) -> Result<$Queue$(<$T>)?> {
            let (tx, rx) = self.pair(self.open_or_create(name, Role::Sender)?)?;
            Ok($Queue { tx, rx })
        }

        /// Joins a queue that is nested in another region.
        pub(crate) fn join(&self, region: Region) -> Result<$Queue$(<$T>)?> {
            self.check(&region, region.layout().max_message_bytes())?; // its maker chose the limit
            let first = membership::join(region, Role::Sender, Origin::Opened { sibling: None })?;
            let (tx, rx) = self.pair(expect_joined(first)?)?;
            Ok($Queue { tx, rx })
        }
    };
}

impl Options<[u8]> {
    /// Options for a queue of byte messages of any length.
    ///
    /// By default 1024 messages can be queued, of up to 1 GiB each: up to 240 bytes lie in a slot,
    /// up to 4 KiB in a block, longer ones in extents, which take up memory only while they are
    /// used. So the longer your messages are, the fewer you may want to be queued: with a
    /// [`capacity`](Self::capacity) of 16, frames of 1 MB take up 16 MB at most.
    pub fn bytes() -> Self {
        Self::default()
    }

    /// The longest message, in bytes. A peer cannot make this process keep more than this.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes as u64;
        self
    }

    /// The longest message that lies in its slot, where it is fastest. Every slot has this length.
    /// It is rounded up to a multiple of 8, at least 16.
    pub fn inline_bytes(mut self, bytes: usize) -> Self {
        self.geometry.inline_bytes = bytes as u64;
        self
    }

    /// The blocks for messages that do not fit into slots. By default there is one for each message
    /// that can be queued. A message that finds no free block takes an extent.
    pub fn blocks(mut self, blocks: Blocks) -> Self {
        self.blocks = Some(blocks.count as u64);
        self.geometry.block_bytes = blocks.bytes as u64;
        self
    }

    /// How many messages longer than a block can be queued, being sent and being received. Each
    /// occupies an extent, which is as long as the longest message.
    ///
    /// By default there is one for each message that can be queued and for each participant, so
    /// that a queue is not full of long messages before it is full. But all of them together have
    /// 2 TiB at most: 2048 for the default limit of 1 GiB. To have more, lower
    /// [`max_message_bytes`](Self::max_message_bytes). With fewer, a long message can find no room
    /// while [`is_full`](ByteSender::is_full) is false, and [`Stats::shortage`] tells why.
    ///
    /// Memory for them is allocated when they are sent, and released when they are received. The
    /// queue retains up to 64 MiB of it for the next ones, see [`Stats::extents_bytes`]. The last
    /// participant to leave releases that, too.
    pub fn extents(mut self, count: usize) -> Self {
        self.extents = Some(count as u64);
        self
    }

    create_and_open!(ByteSender, ByteReceiver, ByteQueue);
}

impl<T: Shareable> Options<T> {
    /// Options for a queue of values of the type `T`. By default 1024 of them can be queued.
    ///
    /// Write the type: `Options::<u64>::new().create()`. The compiler does not infer it from the
    /// handles, because byte messages have methods of the same names (error E0034).
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the type another name than its own, for instance `"tick v1"`. A participant with
    /// another name is refused, like one of another size or alignment.
    ///
    /// The region holds eight bytes for it, as for the type's own name
    /// ([`Shape::tag`](crate::types::Shape::tag)). An empty name matches any type of the same size
    /// and alignment.
    pub fn type_tag(mut self, name: &str) -> Self {
        self.common.type_name = Some(name.to_string());
        self
    }

    create_and_open!(Sender<T>, Receiver<T>, Queue<T>);
}

impl<M: Message + ?Sized> Options<M> {
    /// How many messages can be queued, rounded up to a power of two, at least 2.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages as u64;
        self
    }

    /// How many handles there can be at a time: 64 unless set, 4096 at most. Each sender and each
    /// receiver is one.
    pub fn max_participants(mut self, count: usize) -> Self {
        self.geometry.participants = count as u64;
        self
    }

    /// What becomes of a message whose receiver dies, or leaves, without a
    /// [`task_done`](Receiver::task_done) for it. Unless set, it is lost.
    ///
    /// The process that makes the queue chooses. One that opens it need not set this. If it does,
    /// it is refused unless the queue was made like that. [`Receiver::on_death`] returns the
    /// choice.
    ///
    /// # Examples
    /// ```
    /// use tombolo::queue::{self, JoinError, OnDeath};
    ///
    /// let options = queue::Options::<u64>::new().on_death(OnDeath::Redeliver { times: 1 });
    /// let (mut jobs, mut worker) = options.create_channel()?;
    /// jobs.send(7)?;
    /// drop(worker.recv_task()?); // the first delivery
    /// drop(worker.recv_task()?); // and the second
    /// assert_eq!(jobs.join(), Err(JoinError::DeadLetters { count: 1 }));
    /// for letter in jobs.dead_letters()? {
    ///     assert_eq!(letter?.remove(), Some(7));
    /// }
    /// assert_eq!(jobs.join(), Ok(()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_death(mut self, on_death: OnDeath) -> Self {
        self.on_death = Some(on_death);
        self
    }

    /// How many messages of a queue that redelivers can be in hand besides those that are queued:
    /// being sent, received and not finished, or dead letters. Unless set, two for each
    /// participant.
    ///
    /// Each message takes a block (or, if it is longer, an extent) until it is finished or removed.
    /// There are as many as [`capacity`](Self::capacity) and this together, unless `blocks` or
    /// `extents` say otherwise. When all are taken, senders wait, as for a full queue;
    /// [`Stats::shortage`] tells why. So a receiver that never finishes, or dead letters that
    /// nobody removes, stop the senders in the end. Receivers never need a free block.
    pub fn unfinished(mut self, messages: usize) -> Self {
        self.unfinished = Some(messages as u64);
        self
    }

    /// Makes receivers of this process return [`MessageLost`](crate::RecvError::MessageLost) when
    /// messages were lost with a process that died while receiving them. One receiver gets it,
    /// once. Unless set, they are only counted in [`Stats::lost`].
    pub fn report_lost_messages(mut self) -> Self {
        self.reports_lost_messages = true;
        self
    }

    common_options!();

    /// Takes over a half that [`Endpoint::into_fd`](crate::Endpoint::into_fd) turned into a
    /// descriptor, in this process or in another.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Errors
    /// - It is not such a descriptor, the half is of another type, or the region is damaged.
    /// - The region is larger than [`max_region_bytes`](Self::max_region_bytes), or it consists of
    ///   reserved huge pages and [`huge_pages`](Self::huge_pages) is not set.
    /// - The file can be truncated and is not on tmpfs.
    /// - The file can be truncated and belongs to another user, and
    ///   [`allow_other_owner`](Self::allow_other_owner) is not set.
    pub fn from_fd<E: QueueEndpoint<Message = M>>(&self, descriptor: OwnedFd) -> Result<E> {
        let settings = Settings { bounds: self.bounds(), ..self.common.settings.clone() };
        let region = Region::from_descriptor(descriptor, &settings)?;
        self.check(&region, self.max_message_bytes)?;
        let participants: Vec<usize> = QueueState::of(&region).with_role(E::ROLE).collect();
        Ok(self.attach(Registration::from_fd(region, &participants, &HOOKS)?))
    }

    pub(crate) fn attach<E: QueueEndpoint<Message = M>>(&self, registration: Registration) -> E {
        E::attach(registration, self.common.wait, self.reports_lost_messages)
    }

    /// For a queue in another region.
    pub(crate) fn without_extents(mut self) -> Self {
        self.extents = Some(0);
        self
    }

    /// The two halves of a handle that sends and receives. The sender has joined.
    fn pair<S, R>(&self, sender: Registration) -> Result<(S, R)>
    where
        S: QueueEndpoint<Message = M>,
        R: QueueEndpoint<Message = M>,
    {
        let origin = Origin::Opened { sibling: Some(sender.index()) };
        let receiver = expect_joined(membership::join(sender.region().reopen()?, Role::Receiver, origin)?)?;
        let (sender_index, receiver_index) = (sender.index(), receiver.index());
        let (mut tx, mut rx): (S, R) = (self.attach(sender), self.attach(receiver));
        tx.half_mut().participant.set_sibling(Some(receiver_index));
        rx.half_mut().participant.set_sibling(Some(sender_index));
        Ok((tx, rx))
    }

    /// The longest message that lies in its slot, as asked for.
    pub(crate) fn inline_limit(&self) -> usize {
        self.geometry.inline_bytes as usize
    }

    pub(crate) fn layout(&self) -> Result<QueueLayout> {
        let capacity = self.capacity.max(2).checked_next_power_of_two().unwrap_or(self.capacity);
        // Too large a capacity is then refused as such, and not as too many blocks.
        let QueueGeometry { participants, .. } = self.geometry;
        let deliveries = self.on_death.unwrap_or_default().deliveries();
        let unfinished = if deliveries == 0 { 0 } else { self.unfinished.unwrap_or(participants.saturating_mul(2)) };
        let messages = capacity.saturating_add(unfinished);
        let geometry = QueueGeometry {
            blocks: self.blocks.unwrap_or(messages.min(MAX_BLOCKS)),
            extents: self.extents.unwrap_or_else(|| default_extents(messages, participants, self.max_message_bytes)),
            deliveries,
            ..self.geometry
        };
        QueueLayout::new(self.common.element::<M>(), self.capacity, self.max_message_bytes, geometry)
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

    fn open_or_create(&self, name: &str, role: Role) -> Result<Registration> {
        let origin = Origin::Opened { sibling: None };
        let open = |mut region: Region| {
            self.check(&region, self.max_message_bytes)?;
            self.report_capacity(&mut region);
            membership::join(region, role, origin)
        };
        self.common.named(name, self.bounds(), open, || {
            let registration = expect_joined(membership::join(self.create_region(true)?, role, origin)?)?;
            self.common.give_name(registration, name)
        })
    }

    fn check(&self, region: &Region, limit: u64) -> Result<()> {
        self.common.check::<M>(region.layout(), RegionKind::Queue, limit)?;
        let found = OnDeath::of(QueueState::of(region).layout.geometry.deliveries);
        match self.on_death {
            Some(expected) if expected != found => {
                let (found, expected) = (format!("a queue that {found}"), format!("one that {expected}"));
                Err(options::wrong_type(RegionKind::Queue, found, expected))
            }
            _ => Ok(()),
        }
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
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            geometry: QueueGeometry {
                participants: DEFAULT_PARTICIPANTS,
                inline_bytes: DEFAULT_INLINE_BYTES,
                blocks: 0,
                block_bytes: DEFAULT_BLOCK_BYTES,
                extents: 0,
                deliveries: 0,
            },
            blocks: None,
            extents: None,
            on_death: None,
            unfinished: None,
            reports_lost_messages: false,
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
            .field("geometry", &self.geometry)
            .field("blocks", &self.blocks)
            .field("extents", &self.extents)
            .field("on_death", &self.on_death)
            .field("unfinished", &self.unfinished)
            .field("reports_lost_messages", &self.reports_lost_messages)
            .field("common", &self.common)
            .finish()
    }
}
