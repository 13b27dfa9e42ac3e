//! Requests and replies that serde can serialise. Needs the feature `serde`.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CallError, RecvError, ReplyError};
use crate::rpc::{ByteCaller, ByteRequest};
use crate::serialized::{decode, encode};
use crate::sys::clock::{Deadline, deadline_after};
use crate::wait::Timeout;

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl ByteCaller {
    /// Serialises a request, makes it, and deserialises the reply. Allocates a buffer for each.
    /// Needs the feature `serde`.
    ///
    /// A responder chooses the bytes of the reply. See
    /// [`recv_object`](crate::queue::ByteReceiver::recv_object) about peers that you do not trust.
    ///
    /// # Blocking
    /// As [`call`](Self::call).
    ///
    /// # Errors
    /// As for [`call`](Self::call), and [`Serialize`](CallError::Serialize) if the request cannot
    /// be serialised, [`Deserialize`](CallError::Deserialize) if the reply is not an `A`.
    ///
    /// # Examples
    /// ```
    /// let (mut caller, mut responder) = tombolo::rpc::Options::bytes().create()?;
    /// let responding = std::thread::spawn(move || {
    ///     let request = responder.recv().unwrap();
    ///     let (name, count): (String, usize) = request.object().unwrap();
    ///     request.reply_object(&vec![name; count])
    /// });
    /// let names: Vec<String> = caller.call_object(&("Ada", 2_usize))?;
    /// assert_eq!(names, ["Ada", "Ada"]);
    /// # responding.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_object<Q: Serialize + ?Sized, A: DeserializeOwned>(&mut self, request: &Q) -> Result<A, CallError> {
        self.call_object_within(request, None)
    }

    /// Like [`call_object`](Self::call_object), but gives up and returns
    /// [`TimedOut`](CallError::TimedOut) after `timeout`.
    pub fn call_object_timeout<Q: Serialize + ?Sized, A: DeserializeOwned>(
        &mut self,
        request: &Q,
        timeout: Duration,
    ) -> Result<A, CallError> {
        self.call_object_within(request, deadline_after(timeout))
    }

    /// Like [`call_object`](Self::call_object), but gives up and returns
    /// [`TimedOut`](CallError::TimedOut) at `deadline`. With `None` it never does.
    pub fn call_object_deadline<Q: Serialize + ?Sized, A: DeserializeOwned>(
        &mut self,
        request: &Q,
        deadline: Option<Instant>,
    ) -> Result<A, CallError> {
        self.call_object_within(request, deadline)
    }

    /// Serialises a request, and makes it. Does not wait for the reply. See
    /// [`Caller::start`](crate::rpc::Caller::start). Needs the feature `serde`.
    ///
    /// # Errors
    /// As for [`start`](Self::start), and [`Serialize`](CallError::Serialize).
    pub fn start_object<Q: Serialize + ?Sized>(&mut self, request: &Q) -> Result<(), CallError> {
        self.start(serialize(request)?)
    }

    /// Waits for the reply to the request that was started, and deserialises it. Needs the feature
    /// `serde`.
    ///
    /// # Blocking
    /// As [`call`](Self::call).
    ///
    /// # Errors
    /// As for [`finish`](Self::finish), and [`Deserialize`](CallError::Deserialize).
    ///
    /// # Examples
    /// ```
    /// let (mut caller, mut responder) = tombolo::rpc::Options::bytes().create()?;
    /// caller.start_object(&("Ada", 2_usize))?;
    /// let request = responder.recv()?;
    /// let (name, count): (String, usize) = request.object()?;
    /// request.reply_object(&vec![name; count])?;
    /// let names: Vec<String> = caller.finish_object()?;
    /// assert_eq!(names, ["Ada", "Ada"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn finish_object<A: DeserializeOwned>(&mut self) -> Result<A, CallError> {
        self.finish_object_within(Timeout::UNLIMITED)
    }

    /// Like [`finish_object`](Self::finish_object), but returns [`NotReady`](CallError::NotReady)
    /// instead of blocking. The request stays then.
    pub fn try_finish_object<A: DeserializeOwned>(&mut self) -> Result<A, CallError> {
        self.finish_object_within(Timeout::NonBlocking)
    }

    /// Like [`finish_object`](Self::finish_object), but gives up and returns
    /// [`TimedOut`](CallError::TimedOut) after `timeout`.
    pub fn finish_object_timeout<A: DeserializeOwned>(&mut self, timeout: Duration) -> Result<A, CallError> {
        self.finish_object_within(Timeout::after(timeout))
    }

    /// Like [`finish_object`](Self::finish_object), but gives up and returns
    /// [`TimedOut`](CallError::TimedOut) at `deadline`. With `None` it never does.
    pub fn finish_object_deadline<A: DeserializeOwned>(&mut self, deadline: Option<Instant>) -> Result<A, CallError> {
        self.finish_object_within(Timeout::At(deadline))
    }

    fn finish_object_within<A: DeserializeOwned>(&mut self, timeout: Timeout) -> Result<A, CallError> {
        let mut reply = Vec::new();
        self.finish_within(&mut reply, timeout)?;
        deserialize(&reply)
    }

    /// Makes a request and returns the reply as [`call_object`](Self::call_object) does, without
    /// blocking the thread. See [`Caller::call_async`](crate::rpc::Caller::call_async). Needs the
    /// features `async` and `serde`.
    ///
    /// # Errors
    /// As for [`call_object`](Self::call_object), and [`Unfinished`](CallError::Unfinished).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (mut caller, mut responder) = tombolo::rpc::Options::bytes().create()?;
    /// # let responding = std::thread::spawn(move || responder.serve(|words| words.to_vec()));
    /// let words: Vec<String> = caller.call_object_async(&vec!["as", "sent"]).await?;
    /// assert_eq!(words, ["as", "sent"]); // this responder returns the request
    /// # drop(caller);
    /// # responding.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn call_object_async<Q: Serialize + ?Sized, A: DeserializeOwned>(
        &mut self,
        request: &Q,
    ) -> Result<A, CallError> {
        let (request, mut reply) = (serialize(request)?, Vec::new());
        self.call_async(request, &mut reply).await?;
        deserialize(&reply)
    }

    /// Waits for the reply to the request that was started as
    /// [`finish_object`](Self::finish_object) does, without blocking the thread. See
    /// [`Caller::finish_async`](crate::rpc::Caller::finish_async). Needs the features `async` and
    /// `serde`.
    ///
    /// # Errors
    /// As for [`finish_object`](Self::finish_object).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (mut caller, mut responder) = tombolo::rpc::Options::bytes().create()?;
    /// caller.start_object(&7_u64)?;
    /// responder.recv()?.reply_object("seven")?;
    /// assert_eq!(caller.finish_object_async::<String>().await?, "seven");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn finish_object_async<A: DeserializeOwned>(&mut self) -> Result<A, CallError> {
        let mut reply = Vec::new();
        self.finish_async(&mut reply).await?;
        deserialize(&reply)
    }

    fn call_object_within<Q: Serialize + ?Sized, A: DeserializeOwned>(
        &mut self,
        request: &Q,
        deadline: Deadline,
    ) -> Result<A, CallError> {
        let (request, mut reply) = (serialize(request)?, Vec::new());
        self.call_within(&request, &mut reply, deadline)?;
        deserialize(&reply)
    }
}

fn serialize<Q: Serialize + ?Sized>(request: &Q) -> Result<Vec<u8>, CallError> {
    encode(request).map_err(|_| CallError::Serialize)
}

fn deserialize<A: DeserializeOwned>(reply: &[u8]) -> Result<A, CallError> {
    decode(reply).map_err(|_| CallError::Deserialize)
}

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl ByteRequest<'_> {
    /// Deserialises the request. Needs the feature `serde`.
    ///
    /// A caller chooses the bytes. See
    /// [`recv_object`](crate::queue::ByteReceiver::recv_object) about peers that you do not trust.
    ///
    /// # Errors
    /// [`Deserialize`](RecvError::Deserialize) if it is not a `Q`. It can still be answered.
    pub fn object<Q: DeserializeOwned>(&self) -> Result<Q, RecvError> {
        decode(self)
    }

    /// Serialises a reply, and replies. Allocates a buffer for it. Needs the feature `serde`.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Errors
    /// As for [`reply`](Self::reply), and [`Serialize`](ReplyError::Serialize) if the reply cannot
    /// be serialised. The request is dropped then.
    pub fn reply_object<A: Serialize + ?Sized>(self, reply: &A) -> Result<(), ReplyError> {
        let reply = encode(reply).map_err(|_| ReplyError::Serialize)?;
        self.reply(reply)
    }
}
