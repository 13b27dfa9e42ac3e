//! Responders to values and to byte messages, and the requests that they receive.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::error::{RecvError, ReplyError, Result};
use crate::primitive::{AtomicU64, Ordering, load_short, load_value_into, store_short, store_value};
use crate::raw::rpc::Outcome;
use crate::region::lifecycle::Registration;
use crate::rpc::Behaviour;
use crate::rpc::caller::{ByteCaller, Caller, resize};
use crate::rpc::respond_half::RespondHalf;
use crate::rpc::state::Role;
use crate::types::{Shareable, Unchecked, bits_of};
use crate::wait::Timeout;
use crate::wait::source::source;

/// Receives requests of the type `Q`, and replies with values of the type `A`.
///
/// Any of several responders receives a request, and only that one. A responder has one request at
/// a time. Threads that respond at the same time have a responder each
/// ([`try_clone`](Self::try_clone)).
///
/// A forked child cannot use the responder of its parent ([`RecvError::Forked`]).
pub struct Responder<Q: Shareable, A: Shareable> {
    pub(super) half: RespondHalf,
    message: PhantomData<fn(Q) -> A>,
}

/// A request of a [`Caller`]. It dereferences to the value.
///
/// If it is dropped without a [`reply`](Self::reply), its caller gets
/// [`Dropped`](crate::rpc::CallError::Dropped).
#[must_use = "the caller waits for a reply"]
pub struct Request<'a, Q: Shareable, A: Shareable> {
    value: Q,
    held: Held<'a>,
    reply: PhantomData<fn(A)>,
}

/// Receives requests of bytes, and replies with bytes.
///
/// See [`Responder`], which does the same with values.
#[derive(Debug)]
pub struct ByteResponder {
    pub(super) half: RespondHalf,
    /// The request that was received last.
    message: Vec<u8>,
    max_request_bytes: usize,
    max_reply_bytes: usize,
}

/// A request of a [`ByteCaller`]. It dereferences to the bytes.
///
/// If it is dropped without a [`reply`](Self::reply), its caller gets
/// [`Dropped`](crate::rpc::CallError::Dropped).
#[must_use = "the caller waits for a reply"]
pub struct ByteRequest<'a> {
    message: &'a [u8],
    max_reply_bytes: usize,
    held: Held<'a>,
}

/// Drops the request unless it is answered.
struct Held<'a>(&'a mut RespondHalf);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.drop_held();
    }
}

/// The methods that responders to values and to bytes share.
macro_rules! responder_methods {
    ($Caller:ty) => {
        /// Blocks until a caller is there.
        ///
        /// # Errors
        /// [`TimedOut`](RecvError::TimedOut), [`Forked`](RecvError::Forked).
        pub fn wait_for_caller(&self, timeout: Duration) -> Result<(), RecvError> {
            self.half.participant().wait_for_peer(timeout)
        }

        /// Returns how many callers there are. One that died and was not noticed yet is counted.
        pub fn callers(&self) -> usize {
            self.half.participant().state().count(Role::Caller)
        }

        /// Makes another responder in the same region.
        ///
        /// # Blocking
        /// Blocks for up to 5 s if another process was stopped while it joined or left.
        ///
        /// # Errors
        /// There are as many responders as there can be
        /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)): see
        /// [`max_responders`](crate::rpc::Options::max_responders). Or there is no free descriptor.
        pub fn try_clone(&self) -> Result<Self> {
            self.half.participant().join_again()
        }

        /// Makes a caller in the same region.
        ///
        /// # Blocking
        /// As [`try_clone`](Self::try_clone).
        ///
        /// # Errors
        /// As [`try_clone`](Self::try_clone), of callers.
        pub fn caller(&self) -> Result<$Caller> {
            self.half.participant().join_again()
        }
    };
}

impl<Q: Shareable, A: Shareable> Responder<Q, A> {
    pub(super) fn new(registration: Registration, behaviour: Behaviour) -> Self {
        Self { half: RespondHalf::new(registration, behaviour), message: PhantomData }
    }

    /// Receives one request.
    ///
    /// # Blocking
    /// Blocks until there is one, as the [`WaitStrategy`](crate::WaitStrategy) says. While there
    /// are requests, it makes no system call.
    ///
    /// # Errors
    /// - [`Closed`](RecvError::Closed), [`PeerDied`](RecvError::PeerDied): the last caller has
    ///   left, or died. Others may follow: see
    ///   [`wait_for_successor`](crate::rpc::Options::wait_for_successor).
    /// - [`InvalidValue`](RecvError::InvalidValue): a request was no value. It is dropped.
    /// - [`LockLost`](RecvError::LockLost), [`NameRemoved`](RecvError::NameRemoved),
    ///   [`Forked`](RecvError::Forked).
    ///
    /// # Examples
    /// ```
    /// let (mut caller, mut responder) = tombolo::rpc::Options::<u64, u64>::new().create()?;
    /// let calling = std::thread::spawn(move || caller.call(20));
    /// let request = responder.recv()?;
    /// let double = 2 * *request;
    /// request.reply(double)?;
    /// assert_eq!(calling.join().unwrap(), Ok(40));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv(&mut self) -> Result<Request<'_, Q, A>, RecvError> {
        self.recv_within(Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Request<'_, Q, A>, RecvError> {
        self.recv_within(Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Request<'_, Q, A>, RecvError> {
        self.recv_within(Timeout::after(timeout))
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) at `deadline`. With
    /// `None` it never does.
    #[inline]
    pub fn recv_deadline(&mut self, deadline: Option<Instant>) -> Result<Request<'_, Q, A>, RecvError> {
        self.recv_within(Timeout::At(deadline))
    }

    /// Replies to each request with what `respond` returns, until the last caller has left.
    ///
    /// A caller that has given up is no error, nor is a request that is no value. If `respond`
    /// panics, the caller gets [`Dropped`](crate::rpc::CallError::Dropped).
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv), but for [`Closed`](RecvError::Closed) and
    /// [`InvalidValue`](RecvError::InvalidValue).
    pub fn serve(&mut self, mut respond: impl FnMut(Q) -> A) -> Result<(), RecvError> {
        loop {
            match self.recv() {
                Ok(request) => {
                    let reply = respond(request.value);
                    match request.reply(reply) {
                        Err(ReplyError::Forked) => return Err(RecvError::Forked),
                        _ => continue, // or the caller has given up
                    }
                }
                Err(RecvError::InvalidValue) => {}
                Err(RecvError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    #[inline]
    fn recv_within(&mut self, timeout: Timeout) -> Result<Request<'_, Q, A>, RecvError> {
        let value = self.take(timeout)?;
        Ok(self.request(value))
    }

    /// Receives a request, which this half holds.
    #[inline]
    pub(super) fn take(&mut self, timeout: Timeout) -> Result<Q, RecvError> {
        self.half.recv(timeout, |words| {
            let mut value = Unchecked::<Q>::zeroed();
            load_value_into(words.get(1..).unwrap_or_default(), value.bits_mut());
            value.check()
        })
    }

    /// The request that was taken.
    #[inline]
    pub(super) fn request(&mut self, value: Q) -> Request<'_, Q, A> {
        Request { value, held: Held(&mut self.half), reply: PhantomData }
    }

    responder_methods!(Caller<Q, A>);
}

impl<Q: Shareable, A: Shareable> Request<'_, Q, A> {
    /// Replies. Takes the reply, or a reference to it.
    ///
    /// # Blocking
    /// Never. It makes no system call, unless the caller sleeps.
    ///
    /// # Errors
    /// [`GivenUp`](ReplyError::GivenUp) if the caller has given up, or another one has its place. A
    /// caller that gives up at this very moment, or whose death nobody has noticed, does not see
    /// the reply, and that is no error.
    #[inline]
    pub fn reply(self, reply: impl Borrow<A>) -> Result<(), ReplyError> {
        let reply = reply.borrow();
        self.held.0.reply(Outcome::Replied, |table, taken| {
            store_value(table.reply(taken.caller, taken.buffer()), bits_of(reply));
        })
    }
}

impl<Q: Shareable, A: Shareable> Deref for Request<'_, Q, A> {
    type Target = Q;

    fn deref(&self) -> &Q {
        &self.value
    }
}

impl ByteResponder {
    pub(super) fn new(registration: Registration, behaviour: Behaviour) -> Self {
        let half = RespondHalf::new(registration, behaviour);
        let layout = half.participant().state().layout;
        let (max_request_bytes, max_reply_bytes) = (layout.max_message_bytes, layout.geometry.max_reply_bytes);
        let (max_request_bytes, max_reply_bytes) = (max_request_bytes as usize, max_reply_bytes as usize);
        Self { half, message: Vec::new(), max_request_bytes, max_reply_bytes }
    }

    /// Receives one request.
    ///
    /// # Blocking
    /// As [`Responder::recv`].
    ///
    /// # Errors
    /// Those of [`Responder::recv`], and [`OutOfMemory`](RecvError::OutOfMemory),
    /// [`Corrupt`](RecvError::Corrupt). The request is dropped then.
    pub fn recv(&mut self) -> Result<ByteRequest<'_>, RecvError> {
        self.recv_within(Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    pub fn try_recv(&mut self) -> Result<ByteRequest<'_>, RecvError> {
        self.recv_within(Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<ByteRequest<'_>, RecvError> {
        self.recv_within(Timeout::after(timeout))
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) at `deadline`. With
    /// `None` it never does.
    pub fn recv_deadline(&mut self, deadline: Option<Instant>) -> Result<ByteRequest<'_>, RecvError> {
        self.recv_within(Timeout::At(deadline))
    }

    /// Replies to each request with what `respond` returns, until the last caller has left.
    ///
    /// A caller that has given up is no error, nor is a reply that is too long: its caller gets
    /// [`ReplyTooLarge`](crate::rpc::CallError::ReplyTooLarge). If `respond` panics, the caller
    /// gets [`Dropped`](crate::rpc::CallError::Dropped). So does the caller of a request that is
    /// corrupt, or for which there is no memory.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv), but for [`Closed`](RecvError::Closed),
    /// [`Corrupt`](RecvError::Corrupt) and [`OutOfMemory`](RecvError::OutOfMemory).
    pub fn serve<R: AsRef<[u8]>>(&mut self, mut respond: impl FnMut(&[u8]) -> R) -> Result<(), RecvError> {
        loop {
            match self.recv() {
                Ok(request) => {
                    let reply = respond(&request);
                    match request.reply(reply) {
                        Err(ReplyError::Forked) => return Err(RecvError::Forked),
                        _ => continue, // or the caller has given up, or was told
                    }
                }
                // The request is dropped: one caller does not end the server of the others.
                Err(RecvError::Corrupt | RecvError::OutOfMemory) => {}
                Err(RecvError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn recv_within(&mut self, timeout: Timeout) -> Result<ByteRequest<'_>, RecvError> {
        self.take(timeout)?;
        Ok(self.request())
    }

    /// Receives a request, which this half holds.
    pub(super) fn take(&mut self, timeout: Timeout) -> Result<(), RecvError> {
        let Self { half, message, max_request_bytes, .. } = self;
        half.recv(timeout, |words| copy_request(words, *max_request_bytes, message))
    }

    /// The request that was taken.
    pub(super) fn request(&mut self) -> ByteRequest<'_> {
        let Self { half, message, max_reply_bytes, .. } = self;
        ByteRequest { message, max_reply_bytes: *max_reply_bytes, held: Held(half) }
    }

    responder_methods!(ByteCaller);
}

/// Copies a request. Its length may be invalid: also because the caller has given up, and writes
/// the next one.
fn copy_request(words: &[AtomicU64], limit: usize, message: &mut Vec<u8>) -> Result<(), RecvError> {
    let (length, payload) = words.split_first().ok_or(RecvError::Corrupt)?;
    let length = usize::try_from(length.load(Ordering::Relaxed)).ok(); // ordered by the claim word
    let length = length.filter(|&length| length <= limit).ok_or(RecvError::Corrupt)?;
    if !resize(message, length) {
        return Err(RecvError::OutOfMemory);
    }
    load_short(payload, message);
    Ok(())
}

impl ByteRequest<'_> {
    /// Replies.
    ///
    /// # Blocking
    /// Never. It makes no system call, unless the caller sleeps.
    ///
    /// # Errors
    /// [`GivenUp`](ReplyError::GivenUp) as for [`Request::reply`], and
    /// [`TooLarge`](ReplyError::TooLarge) if the reply is longer than
    /// [`max_reply_bytes`](crate::rpc::Options::max_reply_bytes): the caller gets
    /// [`ReplyTooLarge`](crate::rpc::CallError::ReplyTooLarge).
    pub fn reply(self, reply: impl AsRef<[u8]>) -> Result<(), ReplyError> {
        let (reply, limit) = (reply.as_ref(), self.max_reply_bytes);
        if reply.len() > limit {
            self.held.0.reply(Outcome::TooLarge, |_, _| {})?;
            return Err(ReplyError::TooLarge { length: reply.len(), limit });
        }
        self.held.0.reply(Outcome::Replied, |table, taken| {
            if let Some(length) = table.reply_length(taken.caller, taken.buffer()) {
                // Relaxed: published by the answer.
                length.store(reply.len() as u64, Ordering::Relaxed);
            }
            store_short(table.reply(taken.caller, taken.buffer()), reply);
        })
    }
}

impl Deref for ByteRequest<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.message
    }
}

impl<Q: Shareable, A: Shareable> fmt::Debug for Responder<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("half", &self.half).finish()
    }
}

impl<Q: Shareable + fmt::Debug, A: Shareable> fmt::Debug for Request<'_, Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Request").field(&self.value).finish()
    }
}

impl fmt::Debug for ByteRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteRequest").field("length", &self.message.len()).finish()
    }
}

source!([Q: Shareable, A: Shareable] Responder<Q, A>, half);
source!([] ByteResponder, half);
