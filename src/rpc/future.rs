//! Futures of replies. Needs the feature `async`.

use std::borrow::Borrow;
use std::task::Poll;

use crate::error::{self, CallError};
use crate::primitive::AtomicU64;
use crate::rpc::call_half::{CallHalf, Reply};
use crate::rpc::caller::{ByteCaller, Caller, fill_value, read_value};
use crate::types::Shareable;
use crate::wait::{Pollable, Timeout, WaitState, Waiter, poll_until_ready};

impl Pollable for CallHalf {
    fn wait_state(&mut self) -> &mut WaitState {
        self.waiter.wait_state()
    }

    fn check_here(&self) -> error::Result<()> {
        self.participant().check_for("wait for a reply")
    }
}

/// A call that is not finished. Dropping it gives the request up.
struct Call<'a>(&'a mut CallHalf);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl CallHalf {
    async fn finish_async<R>(
        &mut self,
        mut read: impl FnMut(Reply<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        poll_until_ready(self, |half| match half.finish(Timeout::NonBlocking, &mut read) {
            Err(CallError::NotReady) => Poll::Pending,
            outcome => Poll::Ready(outcome),
        })
        .await
    }

    async fn call_async<R>(
        &mut self,
        fill: impl FnOnce(&[AtomicU64]),
        read: impl FnMut(Reply<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.start(fill)?;
        Call(self).0.finish_async(read).await
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
impl<Q: Shareable, A: Shareable> Caller<Q, A> {
    /// Makes a request and returns the reply as [`call`](Self::call) does, without blocking the
    /// thread.
    ///
    /// A future that is dropped before it is ready, by `select!` or a timeout for instance, gives
    /// the request up. Once it was polled, the request may have been executed, or be so later. To
    /// know that, [`start`](Self::start) the request, and [`cancel`](Self::cancel) it. Works with
    /// any executor.
    ///
    /// # Errors
    /// Those of [`call`](Self::call), and [`Unfinished`](CallError::Unfinished).
    ///
    /// # Examples
    /// ```
    /// let (mut caller, mut responder) = tombolo::rpc::Options::<u64, u64>::new().create()?;
    /// let responding = std::thread::spawn(move || responder.serve(|number| 2 * number));
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// assert_eq!(caller.call_async(20).await?, 40);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # drop(caller);
    /// # responding.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn call_async(&mut self, request: impl Borrow<Q>) -> Result<A, CallError> {
        self.half.call_async(fill_value(request.borrow()), read_value).await
    }

    /// Waits for the reply to the request that was started as [`finish`](Self::finish) does,
    /// without blocking the thread.
    ///
    /// If the future is dropped before it is ready, the request stays, and the next call finishes
    /// it. Works with any executor.
    ///
    /// # Errors
    /// Those of [`finish`](Self::finish).
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// let (mut caller, mut responder) = tombolo::rpc::Options::<u64, u64>::new().create()?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// caller.start(20)?;
    /// if tokio::time::timeout(Duration::from_millis(1), caller.finish_async()).await.is_err() {
    ///     assert!(!caller.cancel(), "no responder has taken it");
    /// }
    /// # assert!(matches!(responder.try_recv(), Err(tombolo::RecvError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn finish_async(&mut self) -> Result<A, CallError> {
        self.half.finish_async(read_value).await
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
impl ByteCaller {
    /// Makes a request and receives the reply as [`call`](Self::call) does, without blocking the
    /// thread. See [`Caller::call_async`].
    ///
    /// # Errors
    /// Those of [`call`](Self::call), and [`Unfinished`](CallError::Unfinished).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (mut caller, mut responder) = tombolo::rpc::Options::bytes().create()?;
    /// # let responding = std::thread::spawn(move || responder.serve(|name| [b"hello, ", name].concat()));
    /// let mut reply = Vec::new();
    /// assert_eq!(caller.call_async("Ada", &mut reply).await?, 10);
    /// assert_eq!(reply, b"hello, Ada");
    /// # drop(caller);
    /// # responding.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn call_async(&mut self, request: impl AsRef<[u8]>, reply: &mut Vec<u8>) -> Result<usize, CallError> {
        let (fill, read) = (self.fill(request.as_ref())?, self.read_into(reply));
        self.half.call_async(fill, read).await
    }

    /// Waits for the reply to the request that was started as [`finish`](Self::finish) does,
    /// without blocking the thread. See [`Caller::finish_async`].
    ///
    /// # Errors
    /// Those of [`finish`](Self::finish).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (mut caller, mut responder) = tombolo::rpc::Options::bytes().create()?;
    /// caller.start("Ada")?;
    /// responder.recv_async().await?.reply("hello")?;
    /// let mut reply = Vec::new();
    /// assert_eq!(caller.finish_async(&mut reply).await?, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn finish_async(&mut self, reply: &mut Vec<u8>) -> Result<usize, CallError> {
        let read = self.read_into(reply);
        self.half.finish_async(read).await
    }
}
