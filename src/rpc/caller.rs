//! Callers: of values, and of byte messages.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::error::{CallError, Result};
use crate::primitive::{AtomicU64, Ordering, load_short, load_value_into, store_short, store_value};
use crate::raw::Corrupt;
use crate::region::lifecycle::Registration;
use crate::rpc::Behaviour;
use crate::rpc::call_half::{CallHalf, Reply};
use crate::rpc::responder::{ByteResponder, Responder};
use crate::rpc::state::Role;
use crate::sys::clock::{Deadline, deadline_after};
use crate::types::{Shareable, Unchecked, bits_of};
use crate::wait::source::source;

/// Makes requests of the type `Q`, and receives replies of the type `A`.
///
/// A caller has one request at a time. Threads that make requests at the same time have a caller
/// each ([`try_clone`](Self::try_clone)).
///
/// The algorithm is a slot with a compare-and-swap for each step (`raw/rpc.rs`).
///
/// A forked child cannot use the caller of its parent ([`CallError::Forked`]).
pub struct Caller<Q: Shareable, A: Shareable> {
    pub(super) half: CallHalf,
    message: PhantomData<fn(Q) -> A>,
}

/// Makes requests of bytes, and receives replies of bytes.
///
/// See [`Caller`], which does the same with values.
#[derive(Debug)]
pub struct ByteCaller {
    pub(super) half: CallHalf,
    max_request_bytes: usize,
    max_reply_bytes: usize,
}

/// The methods that callers of values and of bytes share.
macro_rules! caller_methods {
    ($Responder:ty) => {
        /// Blocks until a responder is there. A request that is made before waits for one.
        ///
        /// # Errors
        /// [`TimedOut`](CallError::TimedOut), [`Forked`](CallError::Forked).
        pub fn wait_for_responder(&self, timeout: Duration) -> Result<(), CallError> {
            self.half.participant().wait_for_peer(timeout)
        }

        /// Returns how many responders there are. One that died and was not noticed yet is counted.
        pub fn responders(&self) -> usize {
            self.half.participant().state().count(Role::Responder)
        }

        /// Makes another caller in the same region.
        ///
        /// # Blocking
        /// Blocks for up to 5 s if another process was stopped while it joined or left.
        ///
        /// # Errors
        /// There are as many callers as there can be
        /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)): see
        /// [`max_callers`](crate::rpc::Options::max_callers). Or there is no free descriptor.
        pub fn try_clone(&self) -> Result<Self> {
            self.half.participant().join_again()
        }

        /// Makes a responder in the same region.
        ///
        /// # Blocking
        /// As [`try_clone`](Self::try_clone).
        ///
        /// # Errors
        /// As [`try_clone`](Self::try_clone), of responders.
        pub fn responder(&self) -> Result<$Responder> {
            self.half.participant().join_again()
        }
    };
}

impl<Q: Shareable, A: Shareable> Caller<Q, A> {
    pub(super) fn new(registration: Registration, behaviour: Behaviour) -> Self {
        Self { half: CallHalf::new(registration, behaviour), message: PhantomData }
    }

    /// Makes a request, and returns the reply. Takes the request, or a reference to it.
    ///
    /// # Blocking
    /// Blocks until there is a reply, as the [`WaitStrategy`](crate::WaitStrategy) says. If no
    /// responder has ever been there, it waits for the first one. It makes no system call if a
    /// responder polls and replies within about 50 µs, except for a check that responders are alive
    /// if the last one was 20 ms ago.
    ///
    /// # Errors
    /// - [`ResponderDied`](CallError::ResponderDied): the process that had the request died. Other
    ///   responders do not execute it again, unless [`retry`](crate::rpc::Options::retry) is set.
    /// - [`Dropped`](CallError::Dropped): the responder dropped the request without a reply.
    /// - [`Closed`](CallError::Closed), [`NoResponder`](CallError::NoResponder): the last responder
    ///   has left, or died, and the request was not executed.
    /// - [`Unfinished`](CallError::Unfinished): a request was [started](Self::start) and is not
    ///   finished. This one was not made.
    /// - [`LockLost`](CallError::LockLost), [`NameRemoved`](CallError::NameRemoved),
    ///   [`Corrupt`](CallError::Corrupt), [`InvalidValue`](CallError::InvalidValue),
    ///   [`Forked`](CallError::Forked).
    ///
    /// # Examples
    /// ```
    /// let (mut caller, mut responder) = tombolo::rpc::Options::<[f64; 2], f64>::new().create()?;
    /// let responding = std::thread::spawn(move || responder.serve(|[a, b]| a * b));
    /// assert_eq!(caller.call([6.0, 7.0])?, 42.0);
    /// drop(caller);
    /// responding.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn call(&mut self, request: impl Borrow<Q>) -> Result<A, CallError> {
        self.call_within(request.borrow(), None)
    }

    /// Like [`call`](Self::call), but gives up and returns [`TimedOut`](CallError::TimedOut) after
    /// `timeout`.
    #[inline]
    pub fn call_timeout(&mut self, request: impl Borrow<Q>, timeout: Duration) -> Result<A, CallError> {
        self.call_within(request.borrow(), deadline_after(timeout))
    }

    /// Like [`call`](Self::call), but gives up and returns [`TimedOut`](CallError::TimedOut) at
    /// `deadline`. With `None` it never does.
    #[inline]
    pub fn call_deadline(&mut self, request: impl Borrow<Q>, deadline: Option<Instant>) -> Result<A, CallError> {
        self.call_within(request.borrow(), deadline)
    }

    #[inline]
    fn call_within(&mut self, request: &Q, deadline: Deadline) -> Result<A, CallError> {
        self.half.call(deadline, fill_value(request), read_value)
    }

    caller_methods!(Responder<Q, A>);
}

impl ByteCaller {
    pub(super) fn new(registration: Registration, behaviour: Behaviour) -> Self {
        let half = CallHalf::new(registration, behaviour);
        let layout = half.participant().state().layout;
        let (max_request_bytes, max_reply_bytes) = (layout.max_message_bytes, layout.geometry.max_reply_bytes);
        Self { max_request_bytes: max_request_bytes as usize, max_reply_bytes: max_reply_bytes as usize, half }
    }

    /// Makes a request, and receives the reply into `reply`, whose old content it replaces. Returns
    /// the length of the reply in bytes.
    ///
    /// # Blocking
    /// As [`Caller::call`].
    ///
    /// # Errors
    /// Those of [`Caller::call`], and [`TooLarge`](CallError::TooLarge) if the request is longer
    /// than [`max_request_bytes`](crate::rpc::Options::max_request_bytes),
    /// [`ReplyTooLarge`](CallError::ReplyTooLarge), and [`OutOfMemory`](CallError::OutOfMemory).
    /// After an error the content of `reply` is unspecified.
    ///
    /// # Examples
    /// ```
    /// let (mut caller, mut responder) = tombolo::rpc::Options::bytes().create()?;
    /// let responding = std::thread::spawn(move || responder.serve(|name| [b"hello, ", name].concat()));
    /// let mut reply = Vec::new();
    /// caller.call("Ada", &mut reply)?;
    /// assert_eq!(reply, b"hello, Ada");
    /// drop(caller);
    /// responding.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call(&mut self, request: impl AsRef<[u8]>, reply: &mut Vec<u8>) -> Result<usize, CallError> {
        self.call_within(request.as_ref(), reply, None)
    }

    /// Like [`call`](Self::call), but gives up and returns [`TimedOut`](CallError::TimedOut) after
    /// `timeout`.
    pub fn call_timeout(
        &mut self,
        request: impl AsRef<[u8]>,
        reply: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<usize, CallError> {
        self.call_within(request.as_ref(), reply, deadline_after(timeout))
    }

    /// Like [`call`](Self::call), but gives up and returns [`TimedOut`](CallError::TimedOut) at
    /// `deadline`. With `None` it never does.
    pub fn call_deadline(
        &mut self,
        request: impl AsRef<[u8]>,
        reply: &mut Vec<u8>,
        deadline: Option<Instant>,
    ) -> Result<usize, CallError> {
        self.call_within(request.as_ref(), reply, deadline)
    }

    pub(super) fn call_within(
        &mut self,
        request: &[u8],
        reply: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<usize, CallError> {
        let (fill, read) = (self.fill(request)?, self.read_into(reply));
        self.half.call(deadline, fill, read)
    }

    /// Returns what writes a request into its cell.
    pub(super) fn fill<'a>(&self, request: &'a [u8]) -> Result<impl FnOnce(&[AtomicU64]) + use<'a>, CallError> {
        let (length, limit) = (request.len(), self.max_request_bytes);
        if length > limit {
            return Err(CallError::TooLarge { length, limit });
        }
        Ok(move |words: &[AtomicU64]| {
            if let Some((place, payload)) = words.split_first() {
                // Relaxed: published by the claim word.
                place.store(length as u64, Ordering::Relaxed);
                store_short(payload, request);
            }
        })
    }

    /// Returns what copies a reply, and returns its length.
    pub(super) fn read_into<'a>(
        &self,
        reply: &'a mut Vec<u8>,
    ) -> impl FnMut(Reply<'_>) -> Result<usize, CallError> + use<'a> {
        let limit = self.max_reply_bytes;
        move |found| {
            let length = usize::try_from(found.length).ok().filter(|&length| length <= limit);
            let length = length.ok_or(Corrupt)?;
            if !resize(reply, length) {
                return Err(CallError::OutOfMemory);
            }
            load_short(found.words, reply);
            Ok(length)
        }
    }

    caller_methods!(ByteResponder);
}

/// Returns what writes a request into its cell.
#[inline]
pub(super) fn fill_value<Q: Shareable>(request: &Q) -> impl FnOnce(&[AtomicU64]) {
    |words| {
        if let Some((_, payload)) = words.split_first() {
            store_value(payload, bits_of(request));
        }
    }
}

/// Copies a reply.
#[inline]
pub(super) fn read_value<A: Shareable>(reply: Reply<'_>) -> Result<A, CallError> {
    let mut value = Unchecked::<A>::zeroed();
    load_value_into(reply.words, value.bits_mut());
    value.check()
}

/// Makes a buffer that long. Returns false if there is no memory.
pub(super) fn resize(buffer: &mut Vec<u8>, length: usize) -> bool {
    let has_memory = buffer.try_reserve(length.saturating_sub(buffer.len())).is_ok();
    if has_memory {
        buffer.resize(length, 0);
    }
    has_memory
}

impl<Q: Shareable, A: Shareable> fmt::Debug for Caller<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("half", &self.half).finish()
    }
}

source!([Q: Shareable, A: Shareable] Caller<Q, A>, half);
source!([] ByteCaller, half);
