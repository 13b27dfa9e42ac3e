//! Waiting for requests and for replies without blocking. Futures of replies are in `future.rs`.

#[cfg(feature = "async")]
use crate::error::RecvError;
use crate::rpc::{ByteCaller, ByteResponder, Caller, Responder};
#[cfg(feature = "async")]
use crate::rpc::{ByteRequest, Request};
use crate::types::Shareable;
use crate::wait::pollable;
#[cfg(feature = "async")]
use crate::wait::{Timeout, poll_until_ready, unless_empty};

pollable!([Q: Shareable, A: Shareable] Responder<Q, A>, half.waiter.participant, "a request or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([] ByteResponder, half.waiter.participant, "a request or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([Q: Shareable, A: Shareable] Caller<Q, A>, half.waiter.participant, "the reply to a request that was started may be there, or an end", "[`NotReady`](crate::rpc::CallError::NotReady) or [`NoRequest`](crate::rpc::CallError::NoRequest)");
pollable!([] ByteCaller, half.waiter.participant, "the reply to a request that was started may be there, or an end", "[`NotReady`](crate::rpc::CallError::NotReady) or [`NoRequest`](crate::rpc::CallError::NoRequest)");

#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
impl<Q: Shareable, A: Shareable> Responder<Q, A> {
    /// Receives one request as [`recv`](Self::recv) does, without blocking the thread.
    ///
    /// A future that is dropped before it is ready has received nothing. A request that is dropped
    /// without a reply, with the task that has it for instance, is
    /// [`Dropped`](crate::rpc::CallError::Dropped) for its caller. Works with any executor.
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv).
    ///
    /// # Examples
    /// ```
    /// let (mut caller, mut responder) = tombolo::rpc::Options::<u64, u64>::new().create()?;
    /// let calling = std::thread::spawn(move || caller.call(20));
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let request = responder.recv_async().await?;
    /// let double = 2 * *request;
    /// request.reply(double)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// assert_eq!(calling.join().unwrap(), Ok(40));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn recv_async(&mut self) -> Result<Request<'_, Q, A>, RecvError> {
        let attempt = |responder: &mut &mut Self| unless_empty(responder.take(Timeout::NonBlocking));
        let value = poll_until_ready(&mut *self, attempt).await?;
        Ok(self.request(value))
    }
}

#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
impl ByteResponder {
    /// Receives one request as [`recv`](Self::recv) does, without blocking the thread. See
    /// [`Responder::recv_async`].
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (mut caller, mut responder) = tombolo::rpc::Options::bytes().create()?;
    /// caller.start("Ada")?;
    /// let request = responder.recv_async().await?;
    /// let greeting = [b"hello, ", &request[..]].concat();
    /// request.reply(greeting)?;
    /// let mut reply = Vec::new();
    /// assert_eq!(caller.finish_async(&mut reply).await?, 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn recv_async(&mut self) -> Result<ByteRequest<'_>, RecvError> {
        let attempt = |responder: &mut &mut Self| unless_empty(responder.take(Timeout::NonBlocking));
        poll_until_ready(&mut *self, attempt).await?;
        Ok(self.request())
    }
}
