//! Broadcasts: every subscriber receives every message.
//!
//! [`Options`] creates and opens them. A broadcast carries values of one type ([`Publisher`],
//! [`Subscriber`]) or byte messages of any length ([`BytePublisher`], [`ByteSubscriber`]). Which
//! types can be sent is described in [`pipe`](crate::pipe#which-types-can-be-sent).
//!
//! A subscriber receives what is published from when it joins, and the [history](Options::history)
//! if the broadcast keeps one. It receives each message once, or is told how many it has missed.
//!
//! The algorithm is a seqlock over a ring: a subscriber copies a message, and then looks whether it
//! was overwritten meanwhile. A subscriber that is stopped or killed harms nobody else; whether the
//! publisher waits for it is up to the [`Policy`].
//!
//! # Slow subscribers
//!
//! | [`Policy`] | the publisher | a slow subscriber | one that was killed |
//! |---|---|---|---|
//! | `Lossless` | waits | delays everybody | delays everybody once, for 20 ms |
//! | `Lossy` | never waits | gets [`Lagged`] and goes on | delays nobody |
//! | `EvictSlow` | never waits | gets [`Evicted`] | delays nobody |
//!
//! [`Lagged`]: crate::RecvError::Lagged
//! [`Evicted`]: crate::RecvError::Evicted
//!
//! # Latest values
//!
//! A broadcast of values can keep the latest value of each of some keys ([`Options::keys`]), for
//! instance the last tick of each instrument. Publishers publish with a key
//! ([`Publisher::publish_key`]). A subscriber that joins late takes a [`Subscriber::snapshot`] of
//! them all in one call, and then receives what was published since, without a gap or a repetition.
//! So does an [`Observer`], without writing anything.
//!
//! Each publisher has latest values of its own. They stay when it leaves or dies, and the next
//! publisher in its place replaces them. So a snapshot has an entry for each publisher that has
//! published a key, and one sequence for each publisher, from which the stream goes on.
//!
//! A publisher that is killed may have stored a latest value and not published the message. The
//! next publisher in its place publishes that message when it joins.

//!
//! # Frames
//!
//! A byte message that is longer than a slot can lie in a **frame**. [`Options::frames`] gives each
//! publisher some. The frames are filled once and read by all subscribers in place:
//!
//! - [`publish`](BytePublisher::publish) copies a message into a frame. A [`ZeroCopyBytePublisher`]
//!   **loans** a frame instead, and you write the message there.
//! - [`recv`](ByteSubscriber::recv) copies a message out of its frame. A [`ZeroCopyByteSubscriber`]
//!   returns a [`Frame`] instead: the message, where it lies.
//!
//! A subscriber that reads a frame has a **lease** of it, until the [`Frame`] is dropped, or `recv`
//! has copied it. The publisher never fills a frame that has a lease. The leases of a process end
//! with it, however it ends: a publisher that needs a frame notices that within 20 ms. What a
//! publisher has in a loan when it is killed was never published.
//!
//! A publisher needs a frame for each message that a subscriber may still receive, for each other
//! one that subscribers hold, and for the next message. With as many as the capacity, plus what
//! subscribers hold, plus 1 it never waits for a frame. With fewer it works, too:
//!
//! - A `Lossless` publisher waits until subscribers have received messages and dropped frames.
//! - A `Lossy` publisher gives up the oldest messages, as if it had overwritten them. It waits only
//!   if each frame has a lease.
//! - A publisher that evicts waits only for frames that subscribers hold.
//!
//! [`frame_holders`](BytePublisher::frame_holders) tells which processes hold frames. A subscriber
//! that is stopped keeps its frames.
//!
//! ```
//! use tombolo::broadcast::{Frames, Options};
//!
//! let (publisher, subscriber) = Options::bytes().frames(Frames::new(1 << 20)).create()?;
//! // SAFETY: both endpoints belong to this process.
//! let (mut publisher, mut subscriber) = unsafe { (publisher.into_zero_copy()?, subscriber.into_zero_copy()?) };
//! let mut picture = publisher.loan(640 * 480)?;
//! picture.fill(7);
//! picture.publish()?;
//! let picture = subscriber.recv_frame()?;
//! assert!(picture.len() == 640 * 480 && picture.iter().all(|&pixel| pixel == 7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod byte_publisher;
mod byte_subscriber;
mod endpoints;
mod frames;
mod membership;
mod nonblocking;
mod observer;
mod publish_half;
mod publisher;
#[cfg(feature = "serde")]
mod serde;
mod slots;
mod slow;
mod snapshot;
pub(crate) mod state;
mod subscribe_half;
mod subscriber;
mod track_reader;
mod zero_copy;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

pub use self::byte_publisher::BytePublisher;
pub use self::byte_subscriber::ByteSubscriber;
pub use self::endpoints::BroadcastEndpoint;
use self::membership::join;
pub use self::observer::{ByteObserver, Observer};
pub use self::publisher::Publisher;
pub use self::slow::SlowSubscriber;
pub use self::snapshot::{Latest, Snapshot};
use self::state::{BroadcastState, Role};
pub use self::subscriber::Subscriber;
pub use self::zero_copy::{Frame, FrameMut, ZeroCopyBytePublisher, ZeroCopyByteSubscriber};
use crate::error::Result;
use crate::message::Message;
pub use crate::message::Messages;
use crate::options::{self, CommonOptions, common_options, expect_joined};
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::broadcast::{BroadcastGeometry, BroadcastLayout, SlowPolicy};
use crate::region::layout::header::RegionKind;
use crate::region::lifecycle::{LifecycleHooks, Registration};
use crate::region::observed::ObservedRegion;
use crate::region::settings::{Bounds, Settings};
use crate::types::Shareable;

static HOOKS: LifecycleHooks = LifecycleHooks {
    announce_exit: membership::announce_exit,
    // What was published is for those that are there.
    has_undelivered: |_, _| false,
    role_name: |region, index| BroadcastState::of(region).layout.role_name(index),
};

/// What a broadcast does about subscribers that do not keep up. Its maker chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Publishers wait for the slowest subscriber. Nobody misses anything. For files, logs and
    /// replays.
    ///
    /// A subscriber that is stopped stops the publishers. To go on without it, publish with a
    /// timeout and call [`evict_slowest`](Publisher::evict_slowest).
    #[default]
    Lossless,
    /// Publishers never wait. A subscriber that is too slow misses messages, and is told how many.
    /// For prices with [keys](Options::keys), telemetry and dashboards.
    ///
    /// If the capacity is 256 or more, up to a sixteenth of it, and at most 64 messages, can be
    /// lost before the ring is full.
    Lossy,
    /// Publishers never wait. A subscriber that is `lag` or more messages behind one of them is
    /// evicted: it receives nothing any more, until it [rejoins](Subscriber::rejoin), which tells
    /// it how many messages it has missed. For subscribers that rather start afresh than go on with
    /// a gap.
    EvictSlow {
        /// At most the capacity less the history, and less than the number of frames if there are
        /// any. Of byte messages: how many slots.
        lag: usize,
    },
}

/// Memory for large byte messages, such as pictures: each publisher has `count` frames of `bytes`
/// bytes. See [Frames](self#frames).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// How many frames each publisher has.
    pub count: usize,
    /// How many bytes a frame has, rounded up to a multiple of 128.
    pub bytes: usize,
}

impl Frames {
    /// As many frames of `bytes` bytes as a broadcast of the default capacity, 8, can use, if all
    /// subscribers together hold up to 4 frames of messages that are not waiting any more.
    pub const fn new(bytes: usize) -> Self {
        Self { count: DEFAULT_FRAME_CAPACITY as usize + DEFAULT_HELD_FRAMES, bytes }
    }
}

/// Options to make or open a broadcast. `M` is `[u8]` for byte messages, or the type of the values.
///
/// # Examples
/// ```
/// use tombolo::broadcast;
///
/// # let scratch = std::env::temp_dir().join(format!("tombolo-broadcast-{}", std::process::id()));
/// let options = broadcast::Options::<f64>::new().history(2);
/// # let options = options.directory(&scratch);
/// let mut publisher = options.publisher("prices")?;
/// for price in [101.0, 101.25, 101.5] {
///     publisher.publish(price)?;
/// }
/// let mut late = options.subscriber("prices")?;
/// publisher.publish(101.75)?;
/// assert_eq!([late.recv()?, late.recv()?, late.recv()?], [101.25, 101.5, 101.75]);
/// # drop((publisher, late));
/// # std::fs::remove_dir(scratch).ok();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # How long a name lives
///
/// The name is removed when the last publisher or subscriber leaves, with the history. It stays if
/// that one was killed. The next process that opens it goes on with what is there: see
/// [`OnStale`](crate::OnStale).
#[must_use = "options make nothing until a method such as `create` or `publisher` is called"]
pub struct Options<M: Message + ?Sized> {
    common: CommonOptions,
    /// `None`: a default, which is smaller with frames.
    capacity: Option<u64>,
    /// `None`: a default if these options make a broadcast, any up to a limit if they open one.
    max_message_bytes: Option<u64>,
    /// `None`: lossless if these options make a broadcast, any if they open one.
    policy: Option<Policy>,
    /// `None`: none if these options make a broadcast, any if they open one. Values only.
    keys: Option<u64>,
    geometry: BroadcastGeometry,
    /// Messages that a subscriber gets of the history.
    replay: u64,
    waits_for_successor: bool,
    message: PhantomData<fn(&M)>,
}

const DEFAULT_CAPACITY: u64 = 1024;
/// Of a broadcast with frames.
const DEFAULT_FRAME_CAPACITY: u64 = 8;
/// Frames that subscribers can hold beside those, unless chosen otherwise.
const DEFAULT_HELD_FRAMES: usize = 4;
const DEFAULT_MAX_MESSAGE_BYTES: u64 = 64 << 10;
/// What a process accepts if it did not choose a limit.
const MAX_MESSAGE_BYTES: u64 = 1 << 30;
const DEFAULT_PUBLISHERS: u64 = 1;
const DEFAULT_SUBSCRIBERS: u64 = 64;
/// With its header a slot is 256 bytes.
const DEFAULT_SLOT_BYTES: u64 = 248;

/// `create` and the other methods that make and open broadcasts of one kind of message.
macro_rules! create_and_open {
    ($Publisher:ty, $Subscriber:ty, $Observer:ty) => {
        /// Creates an unnamed broadcast. Returns a publisher and a subscriber.
        ///
        /// More come from [`Publisher::subscriber`] and [`Publisher::try_clone`]. Other processes
        /// reach it only if you pass an endpoint to them.
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// Invalid options, or no memory.
        pub fn create(&self) -> Result<($Publisher, $Subscriber)> {
            let region = self.create_region(false)?;
            let other = region.reopen()?;
            let publisher = expect_joined(join(region, Role::Publisher, 0)?)?;
            let subscriber = expect_joined(join(other, Role::Subscriber, 0)?)?;
            Ok((self.attach(publisher)?, self.attach(subscriber)?))
        }

        /// Opens the broadcast of this name, or creates it, and becomes one of its publishers.
        ///
        /// # Blocking
        /// If every place of a publisher is taken, blocks for up to a second while one is ending,
        /// and as long as [`open_timeout`](Self::open_timeout) says. Blocks for up to 5 s if
        /// another process was stopped while it joined or left.
        ///
        /// # Errors
        /// - [`TooManyParticipants`](crate::ErrorKind::TooManyParticipants): there are as many
        ///   publishers as there can be, see [`max_publishers`](Self::max_publishers).
        /// - An invalid name, a region of another type or another policy, or no memory.
        pub fn publisher(&self, name: &str) -> Result<$Publisher> {
            self.open_or_create(name)
        }

        /// Opens the broadcast of this name, or creates it, and becomes one of its subscribers.
        ///
        /// # Blocking
        /// As [`publisher`](Self::publisher).
        ///
        /// # Errors
        /// As [`publisher`](Self::publisher), of subscribers.
        pub fn subscriber(&self, name: &str) -> Result<$Subscriber> {
            self.open_or_create(name)
        }

        /// Opens the broadcast of this name to read it without taking part in it. See [`Observer`].
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// - [`NotFound`](crate::ErrorKind::NotFound): there is no such name.
        /// - [`Permission`](crate::ErrorKind::Permission): the mode of the file does not let this
        ///   process read it, or it belongs to another user and
        ///   [`allow_other_owner`](Self::allow_other_owner) is not set.
        /// - A region of another type or another policy.
        pub fn observer(&self, name: &str) -> Result<$Observer> {
            let settings = Settings { bounds: self.bounds(), ..self.common.settings.clone() };
            let region = ObservedRegion::open(name, &settings)?;
            self.check(region.layout())?;
            <$Observer>::new(region, self.replay)
        }
    };
}

impl Options<[u8]> {
    /// Options for a broadcast of byte messages. By default they have up to 64 KiB, and 1024 slots
    /// of 248 bytes hold them.
    pub fn bytes() -> Self {
        Self::default()
    }

    /// The longest message, in bytes. The ring is made large enough for two of them.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = Some(bytes as u64);
        self
    }

    /// How many bytes of a message a slot holds, rounded up to a multiple of 8. A message takes up
    /// as many slots as it needs.
    pub fn slot_bytes(mut self, bytes: usize) -> Self {
        self.geometry.slot_bytes = bytes as u64;
        self
    }

    /// Gives each publisher [frames](crate::broadcast#frames) for the messages that are longer than
    /// a slot. The longest message is then as long as a frame. The [`capacity`](Self::capacity) is
    /// 8 unless set.
    pub fn frames(mut self, frames: Frames) -> Self {
        self.geometry.frames = frames.count as u64;
        self.geometry.frame_bytes = frames.bytes as u64;
        self
    }

    create_and_open!(BytePublisher, ByteSubscriber, ByteObserver);
}

impl<T: Shareable> Options<T> {
    /// Options for a broadcast of values of the type `T`. By default the ring of each publisher
    /// holds 1024 of them.
    ///
    /// Write the type: `Options::<u64>::new().create()`. The compiler does not infer it from the
    /// endpoints, because byte messages have methods of the same names (error E0034).
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

    /// Keeps the latest value of each of `count` keys, numbered from 0: for instance the last tick
    /// of each instrument. See [Latest values](crate::broadcast#latest-values).
    ///
    /// A broadcast is made without keys unless this is set. If it is set, one with another number
    /// of keys is refused.
    pub fn keys(mut self, count: usize) -> Self {
        self.keys = Some(count as u64);
        self
    }

    create_and_open!(Publisher<T>, Subscriber<T>, Observer<T>);
}

impl<M: Message + ?Sized> Options<M> {
    /// How many messages of each publisher the ring holds, rounded up to a power of two, at least
    /// twice the [`history`](Self::history). Of byte messages: how many slots.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages as u64);
        self
    }

    /// How many messages of each publisher are kept for subscribers that join later: none unless
    /// set. Of byte messages: how many slots.
    ///
    /// They are kept as long as somebody takes part, also after their publisher has gone.
    pub fn history(mut self, messages: usize) -> Self {
        self.geometry.history = messages as u64;
        self
    }

    /// How many messages of the history a subscriber gets at most. Unless set, it gets all. With 0
    /// it begins with what is published after it has joined.
    pub fn replay(mut self, messages: usize) -> Self {
        self.replay = messages as u64;
        self
    }

    /// What publishers do about subscribers that do not keep up. A broadcast is made
    /// [`Lossless`](Policy::Lossless) unless this is set. If it is set, one of another policy is
    /// refused.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// How many publishers there can be at a time: 1 unless set, 4096 at most. Each has a ring of
    /// its own, and memory for it.
    pub fn max_publishers(mut self, count: usize) -> Self {
        self.geometry.publishers = count as u64;
        self
    }

    /// How many subscribers there can be at a time: 64 unless set, 4096 at most.
    pub fn max_subscribers(mut self, count: usize) -> Self {
        self.geometry.subscribers = count as u64;
        self
    }

    /// A subscriber waits for the next publisher instead of returning how the last one ended. It
    /// never returns [`Closed`](crate::RecvError::Closed) or
    /// [`PeerDied`](crate::RecvError::PeerDied).
    pub fn wait_for_successor(mut self) -> Self {
        self.waits_for_successor = true;
        self
    }

    common_options!();

    /// Takes over an endpoint that [`Endpoint::into_fd`](crate::Endpoint::into_fd) turned into a
    /// descriptor, in this process or in another.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Errors
    /// Those of [`pipe::Options::from_fd`](crate::pipe::Options::from_fd).
    pub fn from_fd<E: BroadcastEndpoint<Message = M>>(&self, descriptor: OwnedFd) -> Result<E> {
        let settings = Settings { bounds: self.bounds(), ..self.common.settings.clone() };
        let region = Region::from_descriptor(descriptor, &settings)?;
        self.check(region.layout())?;
        let participants: Vec<usize> = BroadcastState::of(&region).with_role(E::ROLE).collect();
        self.attach(Registration::from_fd(region, &participants, &HOOKS)?)
    }

    fn attach<E: BroadcastEndpoint<Message = M>>(&self, registration: Registration) -> Result<E> {
        E::attach(registration, self.common.wait, self.waits_for_successor)
    }

    /// Joins a broadcast that is nested in another region.
    pub(crate) fn join<E: BroadcastEndpoint<Message = M>>(&self, region: Region) -> Result<E> {
        self.attach(expect_joined(join(region, E::ROLE, self.replay)?)?)
    }

    fn default_capacity(&self) -> u64 {
        if self.geometry.frames > 0 { DEFAULT_FRAME_CAPACITY } else { DEFAULT_CAPACITY }
    }

    pub(crate) fn layout(&self) -> Result<BroadcastLayout> {
        let element = self.common.element::<M>();
        let limit = self.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES);
        let (policy, max_lag) = match self.policy.unwrap_or_default() {
            Policy::Lossless => (SlowPolicy::Wait, 0),
            Policy::Lossy => (SlowPolicy::Overwrite, 0),
            Policy::EvictSlow { lag } => (SlowPolicy::Evict, lag as u64),
        };
        let geometry = BroadcastGeometry { policy, max_lag, keys: self.keys.unwrap_or(0), ..self.geometry };
        let capacity = self.capacity.unwrap_or(self.default_capacity());
        BroadcastLayout::new(element, capacity, limit, geometry)
    }

    fn bounds(&self) -> Bounds {
        self.common.settings.bounds.with_own_layout(&self.layout().map(Layout::Broadcast))
    }

    fn create_region(&self, named: bool) -> Result<Region> {
        Region::create(Layout::Broadcast(self.layout()?), &self.common.settings, named)
    }

    fn open_or_create<E: BroadcastEndpoint<Message = M>>(&self, name: &str) -> Result<E> {
        let open = |mut region: Region| {
            self.check(region.layout())?;
            self.report_differences(&mut region);
            join(region, E::ROLE, self.replay)?.map(|registration| self.attach(registration)).transpose()
        };
        self.common.named(name, self.bounds(), open, || {
            let registration = expect_joined(join(self.create_region(true)?, E::ROLE, 0)?)?;
            self.attach(self.common.give_name(registration, name)?)
        })
    }

    /// Adds a warning for each number that was asked for and is another one.
    fn report_differences(&self, region: &mut Region) {
        if let Some(capacity) = self.capacity {
            options::report_capacity(region, capacity.next_power_of_two(), self.default_capacity());
        }
        let Layout::Broadcast(found) = *region.layout() else { return };
        let lag = match self.policy {
            Some(Policy::EvictSlow { lag }) => lag as u64,
            _ => found.geometry.max_lag,
        };
        for (what, found, asked, default) in [
            ("history", found.geometry.history, self.geometry.history, 0),
            ("largest number of publishers", found.geometry.publishers, self.geometry.publishers, DEFAULT_PUBLISHERS),
            (
                "largest number of subscribers",
                found.geometry.subscribers,
                self.geometry.subscribers,
                DEFAULT_SUBSCRIBERS,
            ),
            ("lag at which a subscriber is evicted", found.geometry.max_lag, lag, found.geometry.max_lag),
        ] {
            if found != asked && asked != default {
                region.warnings.push(format!("the {what} is {found}, not {asked} as asked"));
            }
        }
    }

    fn check(&self, layout: &Layout) -> Result<()> {
        let limit = self.max_message_bytes.unwrap_or(MAX_MESSAGE_BYTES);
        self.common.check::<M>(layout, RegionKind::Broadcast, limit)?;
        let Layout::Broadcast(layout) = layout else { return Ok(()) };
        let keys = layout.geometry.keys;
        if let Some(expected) = self.keys.filter(|&expected| expected != keys) {
            let count = |keys| format!("{keys} keys");
            return Err(options::wrong_type(RegionKind::Broadcast, count(keys), count(expected)));
        }
        let found = Policy::of(layout);
        match self.policy {
            Some(policy) if std::mem::discriminant(&policy) != std::mem::discriminant(&found) => {
                Err(options::wrong_type(RegionKind::Broadcast, found, policy))
            }
            _ => Ok(()),
        }
    }
}

impl Policy {
    fn of(layout: &BroadcastLayout) -> Self {
        match layout.geometry.policy {
            SlowPolicy::Wait => Self::Lossless,
            SlowPolicy::Overwrite => Self::Lossy,
            SlowPolicy::Evict => Self::EvictSlow { lag: layout.geometry.max_lag as usize },
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lossless => f.write_str("lossless"),
            Self::Lossy => f.write_str("lossy"),
            Self::EvictSlow { lag } => write!(f, "evicting at a lag of {lag}"),
        }
    }
}

impl<M: Message + ?Sized> Default for Options<M> {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            capacity: None,
            max_message_bytes: None,
            policy: None,
            keys: None,
            geometry: BroadcastGeometry {
                publishers: DEFAULT_PUBLISHERS,
                subscribers: DEFAULT_SUBSCRIBERS,
                history: 0,
                policy: SlowPolicy::Wait,
                max_lag: 0,
                slot_bytes: DEFAULT_SLOT_BYTES,
                keys: 0,
                frames: 0,
                frame_bytes: 0,
            },
            replay: u64::MAX,
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
            .field("policy", &self.policy)
            .field("keys", &self.keys)
            .field("geometry", &self.geometry)
            .field("replay", &self.replay)
            .field("waits_for_successor", &self.waits_for_successor)
            .field("common", &self.common)
            .finish()
    }
}
