//! Requests and replies: a caller makes a request, one of the responders executes it, and the reply
//! goes to that caller.
//!
//! [`Options`] creates and opens them. Requests and replies are values of one type each
//! ([`Caller`], [`Responder`]), or bytes of any length ([`ByteCaller`], [`ByteResponder`]). With
//! the feature `serde` these carry whatever serde can serialise (`call_object`).
//! Which types can be sent is described in [`pipe`](crate::pipe#which-types-can-be-sent).
//!
//! All callers and responders of a name are in one region. Each caller has room in it for one
//! request, and for its reply.
//!
//! # How a call can end
//!
//! | what happens | [`Caller::call`] returns | executed |
//! |---|---|---|
//! | a responder replies | the reply | once |
//! | it drops the request, or panics | [`Dropped`] | it knows |
//! | its process is killed, or exits | [`ResponderDied`], within about 20 ms | perhaps |
//! | time is up, nobody had taken the request | [`TimedOut`], `taken: false` | never |
//! | time is up, a responder had taken it | [`TimedOut`], `taken: true` | perhaps, or later |
//! | the last responder leaves before it takes it | [`Closed`] | never |
//! | the last responder is killed before it takes it | [`NoResponder`] | never |
//!
//! [`Dropped`]: CallError::Dropped
//! [`ResponderDied`]: CallError::ResponderDied
//! [`TimedOut`]: CallError::TimedOut
//! [`Closed`]: CallError::Closed
//! [`NoResponder`]: CallError::NoResponder
//!
//! [`CallError::may_have_been_executed`] says the last column for every error.
//!
//! A call that has waited for long notices a death within 90 ms. A responder that is stopped is not
//! dead. Others take requests meanwhile, and a caller whose request it has waits until its time is
//! up. What it replies then goes nowhere: its [`reply`](Request::reply) returns
//! [`GivenUp`](ReplyError::GivenUp).
//!
//! # Several things at once
//!
//! [`Caller::start`] makes a request and does not wait. Meanwhile the program does something else,
//! or makes requests by other callers. [`finish`](Caller::finish) waits for the reply. Or a
//! [`Selector`](crate::select::Selector) waits for it among other things, and then
//! [`try_finish`](Caller::try_finish) takes it. Both return what a call can return. So the death of
//! a responder ends the wait of a selector, too.
//!
//! [`cancel`](Caller::cancel) gives the request up, and returns whether it may have been executed.
//! A caller that is dropped gives its request up, and so does a future of `call_async` (feature
//! `async`). A future of `finish_async` that is dropped leaves the request to the next call.
//!
//! # Successors
//!
//! A request waits for a responder that is restarted if the caller was opened with
//! [`wait_for_successor`](Options::wait_for_successor). With [`retry`](Options::retry), which is
//! for requests that may be executed twice, it also survives a responder that dies with it.
//!
//! A request whose caller is killed, or exits, before it was taken can still be executed once by a
//! responder that is there. The reply goes nowhere. One that joins later withdraws it.

mod call_half;
mod caller;
mod endpoints;
#[cfg(feature = "async")]
mod future;
mod membership;
mod nonblocking;
mod participant;
mod respond_half;
mod responder;
#[cfg(feature = "serde")]
mod serde;
mod start;
pub(crate) mod state;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

pub use self::caller::{ByteCaller, Caller};
pub use self::endpoints::RpcEndpoint;
use self::membership::join;
pub use self::responder::{ByteRequest, ByteResponder, Request, Responder};
use self::state::{Role, RpcState};
use crate::error::Result;
pub use crate::error::{CallError, ReplyError};
use crate::message::Message;
use crate::options::{self, CommonOptions, common_options, expect_joined};
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::header::{ElementType, RegionKind};
use crate::region::layout::rpc::{RpcGeometry, RpcLayout};
use crate::region::lifecycle::{LifecycleHooks, Registration};
use crate::region::settings::{Bounds, Settings};
use crate::types::{Shape, Shareable, hashed_name, type_tag};
use crate::wait::WaitStrategy;

static HOOKS: LifecycleHooks = LifecycleHooks {
    announce_exit: membership::announce_exit,
    // A request is over when its caller has gone.
    has_undelivered: |_, _| false,
    role_name: |region, index| RpcState::of(region).layout.role_name(index),
};

/// How an endpoint behaves, besides what the region is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    wait: WaitStrategy,
    waits_for_successor: bool,
    retries: bool,
}

/// Options to make or open a place for requests. `Q` and `A` are `[u8]` for bytes, or the types of
/// the requests and of the replies.
///
/// # Memory
///
/// A region has, for each possible caller, one request and as many replies as there can be
/// responders. All of it is taken when the region is made: 5.2 MiB for byte messages if nothing is
/// set, 265 MiB with 256 responders.
///
/// # Examples
/// ```
/// use tombolo::rpc;
///
/// # let scratch = std::env::temp_dir().join(format!("tombolo-rpc-{}", std::process::id()));
/// let options = rpc::Options::<u32, u64>::new();
/// # let options = options.directory(&scratch);
/// let mut responder = options.responder("squares")?;
/// std::thread::spawn(move || responder.serve(|number| u64::from(number).pow(2)));
///
/// let mut caller = options.caller("squares")?; // in another process
/// assert_eq!(caller.call(9)?, 81);
/// # drop(caller);
/// # std::fs::remove_dir(scratch).ok();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # How long a name lives
///
/// The name is removed when the last caller or responder leaves. It stays if that one was killed.
/// The next process that opens it goes on with what is there: see [`OnStale`](crate::OnStale).
#[must_use = "options make nothing until a method such as `create` or `caller` is called"]
pub struct Options<Q: Message + ?Sized, A: Message + ?Sized> {
    common: CommonOptions,
    /// What the type of the replies is called, instead of its own name.
    reply_name: Option<String>,
    /// `None`: a default if these options make a region, any up to a limit if they open one.
    max_request_bytes: Option<u64>,
    max_reply_bytes: Option<u64>,
    callers: u64,
    responders: u64,
    waits_for_successor: bool,
    retries: bool,
    message: PhantomData<fn(&Q) -> Box<A>>,
}

const DEFAULT_CALLERS: u64 = 64;
const DEFAULT_RESPONDERS: u64 = 4;
const DEFAULT_MAX_BYTES: u64 = 16 << 10;
/// What a process accepts if it did not choose a limit.
const MAX_BYTES: u64 = 1 << 30;

/// `create` and the other methods that make and open regions of one kind of message.
macro_rules! create_and_open {
    ($Caller:ty, $Responder:ty) => {
        /// Creates an unnamed place for requests. Returns a caller and a responder.
        ///
        /// More come from `try_clone`, [`Caller::responder`] and [`Responder::caller`]. Other
        /// processes reach it only if you pass an endpoint to them.
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// Invalid options, or no memory.
        pub fn create(&self) -> Result<($Caller, $Responder)> {
            let region = self.create_region(false)?;
            let other = region.reopen()?;
            // The responder first: the caller waits for none.
            let responder = expect_joined(join(other, Role::Responder)?)?;
            let caller = expect_joined(join(region, Role::Caller)?)?;
            Ok((self.attach(caller), self.attach(responder)))
        }

        /// Opens the place for requests of this name, or creates it, and becomes one of its
        /// callers.
        ///
        /// # Blocking
        /// If every place of a caller is taken, blocks for up to a second while one is ending, and
        /// as long as [`open_timeout`](Self::open_timeout) says. Blocks for up to 5 s if another
        /// process was stopped while it joined or left.
        ///
        /// # Errors
        /// - [`TooManyParticipants`](crate::ErrorKind::TooManyParticipants): there are as many
        ///   callers as there can be, see [`max_callers`](Self::max_callers).
        /// - An invalid name, a region of another type, or no memory.
        pub fn caller(&self, name: &str) -> Result<$Caller> {
            self.open_or_create(name)
        }

        /// Opens the place for requests of this name, or creates it, and becomes one of its
        /// responders.
        ///
        /// # Blocking
        /// As [`caller`](Self::caller).
        ///
        /// # Errors
        /// As [`caller`](Self::caller), of responders.
        pub fn responder(&self, name: &str) -> Result<$Responder> {
            self.open_or_create(name)
        }
    };
}

impl Options<[u8], [u8]> {
    /// Options for requests and replies of bytes. By default they have up to 16 KiB. Choose what is
    /// needed: see [Memory](Options#memory).
    pub fn bytes() -> Self {
        Self::default()
    }

    /// The longest request, in bytes. Each caller has memory for one.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.max_request_bytes = Some(bytes as u64);
        self
    }

    /// The longest reply, in bytes. Each possible caller has memory for as many as there can be
    /// [responders](Self::max_responders): see [Memory](Options#memory).
    pub fn max_reply_bytes(mut self, bytes: usize) -> Self {
        self.max_reply_bytes = Some(bytes as u64);
        self
    }

    create_and_open!(ByteCaller, ByteResponder);
}

impl<Q: Shareable, A: Shareable> Options<Q, A> {
    /// Options for requests of the type `Q` and replies of the type `A`.
    ///
    /// Write the types: `Options::<u64, f64>::new().create()`. The compiler infers them only from
    /// endpoints whose types are written, as those that a function returns. Either can be `()`: a
    /// reply that acknowledges, or a request without arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the type of the requests another name than its own. See
    /// [`pipe::Options::type_tag`](crate::pipe::Options::type_tag).
    pub fn request_tag(mut self, name: &str) -> Self {
        self.common.type_name = Some(name.to_string());
        self
    }

    /// Gives the type of the replies another name than its own.
    pub fn reply_tag(mut self, name: &str) -> Self {
        self.reply_name = Some(name.to_string());
        self
    }

    create_and_open!(Caller<Q, A>, Responder<Q, A>);
}

impl<Q: Message + ?Sized, A: Message + ?Sized> Options<Q, A> {
    /// How many callers there can be at a time: 64 unless set, 4096 at most. Each has
    /// [memory](Options#memory) of its own.
    pub fn max_callers(mut self, count: usize) -> Self {
        self.callers = count as u64;
        self
    }

    /// How many responders there can be at a time: 4 unless set, 256 at most. Each caller has
    /// [memory](Options#memory) for as many replies, so that it never waits for one that is
    /// stopped.
    pub fn max_responders(mut self, count: usize) -> Self {
        self.responders = count as u64;
        self
    }

    /// A caller waits for the next responder, and a responder for the next caller, instead of
    /// returning how the last one ended. A call returns neither [`Closed`](CallError::Closed) nor
    /// [`NoResponder`](CallError::NoResponder) then, and receiving neither
    /// [`Closed`](crate::RecvError::Closed) nor [`PeerDied`](crate::RecvError::PeerDied).
    ///
    /// [`serve`](Responder::serve) does not return then. A responder that shall stop receives with
    /// a timeout. An endpoint that is passed on as a descriptor does not keep this option: see
    /// [`from_fd`](Self::from_fd).
    pub fn wait_for_successor(mut self) -> Self {
        self.waits_for_successor = true;
        self
    }

    /// A call whose responder died makes its request again, instead of returning
    /// [`ResponderDied`](CallError::ResponderDied). For requests that may be executed twice.
    ///
    /// If the request is what kills its responder, it kills one after the other, and every one that
    /// is restarted, until the deadline of the call. So give such calls a deadline.
    ///
    /// If it is not executed again in the end, the call returns
    /// [`ResponderDied`](CallError::ResponderDied), or [`TimedOut`](CallError::TimedOut) with
    /// `taken: true`: it may have been executed by the one that died.
    ///
    /// A caller that is passed on as a descriptor does not keep this option: see
    /// [`from_fd`](Self::from_fd).
    pub fn retry(mut self) -> Self {
        self.retries = true;
        self
    }

    common_options!();

    /// Takes over an endpoint that [`Endpoint::into_fd`](crate::Endpoint::into_fd) turned into a
    /// descriptor, in this process or in another.
    ///
    /// It behaves as these options say: a descriptor keeps neither
    /// [`wait_for_successor`](Self::wait_for_successor) nor [`retry`](Self::retry). [`TryFrom`] and
    /// [`spawn::take`](crate::spawn::take) have no options, so there it has neither.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Errors
    /// Those of [`pipe::Options::from_fd`](crate::pipe::Options::from_fd).
    pub fn from_fd<E: RpcEndpoint<Message = Q, Reply = A>>(&self, descriptor: OwnedFd) -> Result<E> {
        let settings = Settings { bounds: self.bounds(), ..self.common.settings.clone() };
        let region = Region::from_descriptor(descriptor, &settings)?;
        self.check(region.layout())?;
        let participants: Vec<usize> = RpcState::of(&region).with_role(E::ROLE).collect();
        Ok(self.attach(Registration::from_fd(region, &participants, &HOOKS)?))
    }

    fn attach<E: RpcEndpoint<Message = Q, Reply = A>>(&self, registration: Registration) -> E {
        let Self { waits_for_successor, retries, .. } = *self;
        E::attach(registration, Behaviour { wait: self.common.wait, waits_for_successor, retries })
    }

    /// How a region's header describes the replies.
    fn reply_element(&self) -> ElementType {
        A::element(match &self.reply_name {
            Some(name) => type_tag(name),
            None => A::SHAPE.map_or([0; 8], Shape::tag),
        })
    }

    fn layout(&self) -> Result<Layout> {
        let max_request_bytes = self.max_request_bytes.unwrap_or(DEFAULT_MAX_BYTES);
        let max_reply_bytes = self.max_reply_bytes.unwrap_or(DEFAULT_MAX_BYTES);
        let geometry = RpcGeometry { callers: self.callers, responders: self.responders, max_reply_bytes };
        RpcLayout::new(self.common.element::<Q>(), self.reply_element(), max_request_bytes, geometry).map(Layout::Rpc)
    }

    fn bounds(&self) -> Bounds {
        self.common.settings.bounds.with_own_layout(&self.layout())
    }

    fn create_region(&self, named: bool) -> Result<Region> {
        Region::create(self.layout()?, &self.common.settings, named)
    }

    fn open_or_create<E: RpcEndpoint<Message = Q, Reply = A>>(&self, name: &str) -> Result<E> {
        let open = |mut region: Region| {
            self.check(region.layout())?;
            self.report_differences(&mut region);
            Ok(join(region, E::ROLE)?.map(|registration| self.attach(registration)))
        };
        self.common.named(name, self.bounds(), open, || {
            let registration = expect_joined(join(self.create_region(true)?, E::ROLE)?)?;
            Ok(self.attach(self.common.give_name(registration, name)?))
        })
    }

    /// Adds a warning for each number that was asked for and is another one.
    fn report_differences(&self, region: &mut Region) {
        let Layout::Rpc(found) = *region.layout() else { return };
        for (what, found, asked, default) in [
            ("largest number of callers", found.geometry.callers, self.callers, DEFAULT_CALLERS),
            ("largest number of responders", found.geometry.responders, self.responders, DEFAULT_RESPONDERS),
        ] {
            if found != asked && asked != default {
                region.warnings.push(format!("the {what} is {found}, not {asked} as asked"));
            }
        }
    }

    fn check(&self, layout: &Layout) -> Result<()> {
        self.common.check::<Q>(layout, RegionKind::Rpc, self.max_request_bytes.unwrap_or(MAX_BYTES))?;
        let Layout::Rpc(layout) = layout else { return Ok(()) };
        let expected = self.reply_element();
        if !layout.reply.matches(expected) {
            let name = self.reply_name.clone().or(A::SHAPE.map(Shape::to_string));
            let name = hashed_name(&name.unwrap_or_default());
            let found = format!("replies of {}", layout.reply);
            return Err(options::wrong_type(RegionKind::Rpc, found, format_args!("replies of {expected}{name}")));
        }
        let (found, limit) = (layout.geometry.max_reply_bytes, self.max_reply_bytes.unwrap_or(MAX_BYTES));
        if expected == ElementType::Bytes && found > limit {
            let found = format!("replies of up to {found} bytes");
            return Err(options::wrong_type(
                RegionKind::Rpc,
                found,
                format_args!("of up to {limit}: see max_reply_bytes"),
            ));
        }
        Ok(())
    }
}

impl<Q: Message + ?Sized, A: Message + ?Sized> Default for Options<Q, A> {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            reply_name: None,
            max_request_bytes: None,
            max_reply_bytes: None,
            callers: DEFAULT_CALLERS,
            responders: DEFAULT_RESPONDERS,
            waits_for_successor: false,
            retries: false,
            message: PhantomData,
        }
    }
}

impl<Q: Message + ?Sized, A: Message + ?Sized> Clone for Options<Q, A> {
    fn clone(&self) -> Self {
        Self { common: self.common.clone(), reply_name: self.reply_name.clone(), message: PhantomData, ..*self }
    }
}

impl<Q: Message + ?Sized, A: Message + ?Sized> fmt::Debug for Options<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("request", &self.common.element::<Q>())
            .field("reply", &self.reply_element())
            .field("max_request_bytes", &self.max_request_bytes)
            .field("max_reply_bytes", &self.max_reply_bytes)
            .field("callers", &self.callers)
            .field("responders", &self.responders)
            .field("waits_for_successor", &self.waits_for_successor)
            .field("retries", &self.retries)
            .field("common", &self.common)
            .finish()
    }
}
