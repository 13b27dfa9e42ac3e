//! Requests that are started and finished by two calls, with other work in between.

use std::borrow::Borrow;
use std::time::{Duration, Instant};

use crate::error::CallError;
use crate::rpc::caller::{ByteCaller, Caller, fill_value, read_value};
use crate::types::Shareable;
use crate::wait::Timeout;

/// What does not depend on the kind of message.
macro_rules! cancel {
    () => {
        /// Gives up the request that was started, if there is one. A reply that has come, or comes
        /// later, is discarded.
        ///
        /// Returns whether the request may have been executed, or be so later. If not, it never is.
        /// To get a reply that has come instead, finish with a timeout of zero.
        ///
        /// # Blocking
        /// Never.
        pub fn cancel(&mut self) -> bool {
            self.half.cancel()
        }
    };
}

impl<Q: Shareable, A: Shareable> Caller<Q, A> {
    /// Makes a request, and does not wait for the reply: [`finish`](Self::finish) or
    /// [`try_finish`](Self::try_finish) returns it, and [`cancel`](Self::cancel) gives the request
    /// up. Takes the request, or a reference to it.
    ///
    /// The caller is a [source](crate::select#sources) that is ready when there is a reply, or an
    /// error. A caller that is dropped gives its request up.
    ///
    /// # Blocking
    /// Never. It makes no system call, unless a responder sleeps.
    ///
    /// # Errors
    /// [`Unfinished`](CallError::Unfinished): there is a request already. Threads and tasks that
    /// make requests at the same time have a caller each ([`try_clone`](Self::try_clone)).
    /// [`Forked`](CallError::Forked).
    ///
    /// # Examples
    /// ```
    /// let (mut caller, mut responder) = tombolo::rpc::Options::<u64, u64>::new().create()?;
    /// let mut other = caller.try_clone()?;
    /// let responding = std::thread::spawn(move || responder.serve(|number| number * number));
    /// caller.start(3)?;
    /// other.start(4)?; // both are executed meanwhile
    /// assert_eq!(caller.finish()? + other.finish()?, 25);
    /// # drop((caller, other));
    /// # responding.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(&mut self, request: impl Borrow<Q>) -> Result<(), CallError> {
        self.half.start(fill_value(request.borrow()))
    }

    /// Waits for the reply to the request that was started, and returns it.
    ///
    /// # Blocking
    /// As [`call`](Self::call).
    ///
    /// # Errors
    /// Those of [`call`](Self::call), after which the request is over, and
    /// [`NoRequest`](CallError::NoRequest).
    pub fn finish(&mut self) -> Result<A, CallError> {
        self.finish_within(Timeout::UNLIMITED)
    }

    /// Like [`finish`](Self::finish), but returns [`NotReady`](CallError::NotReady) instead of
    /// blocking. The request stays then.
    ///
    /// # Examples
    /// Another source is waited for at the same time:
    ///
    /// ```
    /// use tombolo::rpc::CallError;
    /// use tombolo::{pipe, rpc, select::Selector};
    ///
    /// let (mut caller, mut responder) = rpc::Options::<u64, u64>::new().create()?;
    /// let (_tx, mut rx) = pipe::Options::<u64>::new().create()?;
    /// caller.start(20)?;
    /// assert_eq!(caller.try_finish(), Err(CallError::NotReady));
    /// # let responding = std::thread::spawn(move || responder.serve(|number| 2 * number));
    /// let mut selector = Selector::new();
    /// let reply = loop {
    ///     match selector.wait(&mut [&mut rx, &mut caller])? {
    ///         0 => _ = rx.try_recv(),
    ///         _ => match caller.try_finish() {
    ///             Err(CallError::NotReady) => {} // wait again
    ///             reply => break reply?,
    ///         },
    ///     }
    /// };
    /// assert_eq!(reply, 40);
    /// # drop(caller);
    /// # responding.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_finish(&mut self) -> Result<A, CallError> {
        self.finish_within(Timeout::NonBlocking)
    }

    /// Like [`finish`](Self::finish), but gives up and returns [`TimedOut`](CallError::TimedOut)
    /// after `timeout`.
    pub fn finish_timeout(&mut self, timeout: Duration) -> Result<A, CallError> {
        self.finish_within(Timeout::after(timeout))
    }

    /// Like [`finish`](Self::finish), but gives up and returns [`TimedOut`](CallError::TimedOut) at
    /// `deadline`. With `None` it never does.
    pub fn finish_deadline(&mut self, deadline: Option<Instant>) -> Result<A, CallError> {
        self.finish_within(Timeout::At(deadline))
    }

    fn finish_within(&mut self, timeout: Timeout) -> Result<A, CallError> {
        self.half.finish(timeout, read_value)
    }

    cancel!();
}

impl ByteCaller {
    /// Makes a request, and does not wait for the reply. See [`Caller::start`].
    ///
    /// # Errors
    /// Those of [`Caller::start`], and [`TooLarge`](CallError::TooLarge).
    ///
    /// # Examples
    /// ```
    /// let (mut caller, mut responder) = tombolo::rpc::Options::bytes().create()?;
    /// caller.start("Ada")?;
    /// let request = responder.recv()?;
    /// let greeting = [b"hello, ", &request[..]].concat();
    /// request.reply(greeting)?;
    /// let mut reply = Vec::new();
    /// assert_eq!(caller.finish(&mut reply), Ok(10));
    /// assert_eq!(reply, b"hello, Ada");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(&mut self, request: impl AsRef<[u8]>) -> Result<(), CallError> {
        let fill = self.fill(request.as_ref())?;
        self.half.start(fill)
    }

    /// Waits for the reply to the request that was started, and receives it into `reply`, whose old
    /// content it replaces. Returns its length in bytes.
    ///
    /// # Blocking
    /// As [`call`](Self::call).
    ///
    /// # Errors
    /// Those of [`call`](Self::call), after which the request is over, and
    /// [`NoRequest`](CallError::NoRequest).
    pub fn finish(&mut self, reply: &mut Vec<u8>) -> Result<usize, CallError> {
        self.finish_within(reply, Timeout::UNLIMITED)
    }

    /// Like [`finish`](Self::finish), but returns [`NotReady`](CallError::NotReady) instead of
    /// blocking. The request and the content of `reply` stay then.
    pub fn try_finish(&mut self, reply: &mut Vec<u8>) -> Result<usize, CallError> {
        self.finish_within(reply, Timeout::NonBlocking)
    }

    /// Like [`finish`](Self::finish), but gives up and returns [`TimedOut`](CallError::TimedOut)
    /// after `timeout`.
    pub fn finish_timeout(&mut self, reply: &mut Vec<u8>, timeout: Duration) -> Result<usize, CallError> {
        self.finish_within(reply, Timeout::after(timeout))
    }

    /// Like [`finish`](Self::finish), but gives up and returns [`TimedOut`](CallError::TimedOut) at
    /// `deadline`. With `None` it never does.
    pub fn finish_deadline(&mut self, reply: &mut Vec<u8>, deadline: Option<Instant>) -> Result<usize, CallError> {
        self.finish_within(reply, Timeout::At(deadline))
    }

    pub(super) fn finish_within(&mut self, reply: &mut Vec<u8>, timeout: Timeout) -> Result<usize, CallError> {
        let read = self.read_into(reply);
        self.half.finish(timeout, read)
    }

    cancel!();
}
