//! What pipes and queues carry, and the iterator over what a receiver gets.

use std::iter::FusedIterator;
#[cfg(feature = "async")]
use std::pin::Pin;
#[cfg(feature = "async")]
use std::task::{Context, Poll};

#[cfg(feature = "async")]
use futures_core::Stream;
#[cfg(feature = "async")]
use futures_sink::Sink;

use crate::error::RecvError;
#[cfg(feature = "async")]
use crate::error::SendError;
use crate::types::Shareable;
use crate::wait::Timeout;
#[cfg(feature = "async")]
use crate::wait::{Pollable, poll_once, unless_empty, unless_full};

/// What a pipe or a queue carries: byte messages (`[u8]`), or values of a type that is
/// [`Shareable`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to other processes as it is",
    label = "this type does not implement `tombolo::Shareable`",
    note = "for a struct of your own, write `#[derive(Clone, Copy, tombolo::Shareable)]` and `#[repr(C)]` above it; for an enum without fields the same with `#[repr(u8)]`",
    note = "instead of a tuple use such a struct, instead of an `Option` such a struct with a `bool`, instead of a reference the value itself",
    note = "send a `String` or a `Vec` as a byte message (`Options::bytes()`)",
    note = "for a type of another crate that implements `bytemuck::Pod` use `tombolo::types::Untagged`",
    note = "\"Types that can be shared\" in the documentation of `tombolo` has a table"
)]
pub trait Message: sealed::Sealed {}

impl Message for [u8] {}

#[diagnostic::do_not_recommend]
impl<T: Shareable> Message for T {}

/// The messages of a receiver, as an iterator.
///
/// `iter` and `into_iter` block for each message, `try_iter` ends when no message is there.
///
/// The iterator ends when the sender has left and everything that it sent was received. It yields
/// any other error, and ends after it. Only [`MessageLost`](RecvError::MessageLost) and
/// [`Lagged`](RecvError::Lagged) do not end it: more messages may follow.
#[derive(Debug)]
#[must_use = "an iterator receives nothing until it is used"]
pub struct Messages<R> {
    receiver: R,
    blocks: bool,
    has_ended: bool,
}

impl<R> Messages<R> {
    pub(crate) fn blocking(receiver: R) -> Self {
        Self { receiver, blocks: true, has_ended: false }
    }

    pub(crate) fn non_blocking(receiver: R) -> Self {
        Self { receiver, blocks: false, has_ended: false }
    }
}

impl<R> Messages<&mut R> {
    pub(crate) fn receiver_mut(&mut self) -> &mut R {
        self.receiver
    }
}

impl<R: sealed::Receive> Iterator for Messages<R> {
    type Item = Result<R::Message, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let timeout = if self.blocks { Timeout::UNLIMITED } else { Timeout::NonBlocking };
        let received = self.receiver.receive(timeout);
        self.has_ended = is_last(&received);
        match received {
            Err(RecvError::Closed | RecvError::Empty) => None,
            received => Some(received),
        }
    }
}

impl<R: sealed::Receive> FusedIterator for Messages<R> {}

/// Whether an iterator ends with this.
fn is_last<T>(received: &Result<T, RecvError>) -> bool {
    !matches!(received, Ok(_) | Err(RecvError::MessageLost | RecvError::Lagged { .. }))
}

/// The messages of a receiver, as a [`Stream`].
///
/// It ends when the sender has left and everything that it sent was received. It yields any other
/// error, and ends after it. Only [`MessageLost`](RecvError::MessageLost) and
/// [`Lagged`](RecvError::Lagged) do not end it: more messages may follow.
///
/// What was received is returned at once, so nothing is lost when a call of `next` is cancelled.
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
#[derive(Debug)]
#[must_use = "a stream receives nothing until it is polled"]
pub struct MessageStream<R: Pollable> {
    receiver: R,
    has_ended: bool,
}

#[cfg(feature = "async")]
impl<R: Pollable> MessageStream<R> {
    pub(crate) fn new(receiver: R) -> Self {
        Self { receiver, has_ended: false }
    }
}

/// Nothing of it is ever pinned.
#[cfg(feature = "async")]
impl<R: Pollable> Unpin for MessageStream<R> {}

#[cfg(feature = "async")]
impl<R: Pollable + sealed::Receive> Stream for MessageStream<R> {
    type Item = Result<R::Message, RecvError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        let attempt = |receiver: &mut R| unless_empty(receiver.receive(Timeout::NonBlocking));
        poll_once(&mut this.receiver, context, attempt).map(|received| {
            this.has_ended = is_last(&received);
            Some(received).filter(|received| !matches!(received, Err(RecvError::Closed)))
        })
    }
}

#[cfg(feature = "async")]
impl<R: Pollable> Drop for MessageStream<R> {
    fn drop(&mut self) {
        self.receiver.wait_state().remove_waker(false);
    }
}

/// A sender, as a [`Sink`] of messages.
///
/// It keeps at most one message, for which there was no room. Flush it, or that message is lost
/// when the sink is dropped. Closing it flushes; the receivers see the end when the sender is
/// dropped.
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
#[derive(Debug)]
#[must_use = "a sink sends nothing until it is used"]
pub struct MessageSink<S: Pollable, M> {
    sender: S,
    unsent: Option<M>,
}

#[cfg(feature = "async")]
impl<S: Pollable, M> MessageSink<S, M> {
    pub(crate) fn new(sender: S) -> Self {
        Self { sender, unsent: None }
    }
}

/// Nothing of it is ever pinned.
#[cfg(feature = "async")]
impl<S: Pollable, M> Unpin for MessageSink<S, M> {}

#[cfg(feature = "async")]
impl<S: Pollable + sealed::TrySend<M>, M> Sink<M> for MessageSink<S, M> {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_flush(context)
    }

    /// Sends a message, or keeps it if there is no room. Without a `poll_ready` before returns
    /// [`Full`](SendError::Full) while another one is kept.
    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), SendError> {
        let this = self.get_mut();
        if this.unsent.is_some() {
            return Err(SendError::Full);
        }
        match this.sender.try_send_message(&message) {
            Err(SendError::Full) => {
                this.unsent = Some(message);
                Ok(())
            }
            sent => sent,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self.get_mut();
        let Some(message) = &this.unsent else { return Poll::Ready(Ok(())) };
        let attempt = |sender: &mut S| unless_full(sender.try_send_message(message));
        let sent = poll_once(&mut this.sender, context, attempt);
        if sent.is_ready() {
            this.unsent = None;
        }
        sent
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_flush(context)
    }
}

#[cfg(feature = "async")]
impl<S: Pollable, M> Drop for MessageSink<S, M> {
    fn drop(&mut self) {
        self.sender.wait_state().remove_waker(false);
    }
}

/// The `async` methods of a receiver. Of values: what `recv` returns; of bytes: the same with a
/// buffer.
#[cfg(feature = "async")]
macro_rules! receive_methods {
    (value [$($parameters:tt)*] $Receiver:ty, $Message:ty) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
        impl<$($parameters)*> $Receiver {
            /// Receives one message as [`recv`](Self::recv) does, without blocking the thread.
            ///
            /// A future that is dropped before it is ready has received nothing. Works with any
            /// executor.
            ///
            /// # Errors
            /// As [`recv`](Self::recv).
            ///
            /// # Examples
            /// ```
            /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            /// let (mut tx, mut rx) = tombolo::pipe::Options::<u64>::new().create()?;
            /// tokio::select! {
            ///     price = rx.recv_async() => println!("{price:?}"),
            ///     () = std::future::ready(()) => {} // the other future is dropped, and nothing is lost
            /// }
            /// tx.send(7)?;
            /// assert_eq!(rx.recv_async().await?, 7);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn recv_async(
                &mut self,
            ) -> impl std::future::Future<Output = Result<$Message, $crate::error::RecvError>> {
                $crate::wait::poll_until_ready(self, |rx| $crate::wait::unless_empty(rx.try_recv()))
            }
        }
        $crate::message::receive_methods!(stream [$($parameters)*] $Receiver);
    };
    (bytes [$($parameters:tt)*] $Receiver:ty) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
        impl<$($parameters)*> $Receiver {
            /// Receives one message as [`recv`](Self::recv) does, without blocking the thread.
            ///
            /// A future that is dropped before it is ready has received nothing. Works with any
            /// executor.
            ///
            /// # Errors
            /// As [`recv`](Self::recv).
            ///
            /// # Examples
            /// ```
            /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            /// let (mut tx, mut rx) = tombolo::pipe::Options::bytes().create()?;
            /// tx.send("hello")?;
            /// let mut message = Vec::new();
            /// assert_eq!(rx.recv_async(&mut message).await?, 5);
            /// assert_eq!(message, b"hello");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn recv_async(
                &mut self,
                message: &mut Vec<u8>,
            ) -> impl std::future::Future<Output = Result<usize, $crate::error::RecvError>> {
                $crate::wait::poll_until_ready(self, |rx| $crate::wait::unless_empty(rx.try_recv(message)))
            }
        }
        $crate::message::receive_methods!(stream [$($parameters)*] $Receiver);
    };
    (stream [$($parameters:tt)*] $Receiver:ty) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
        impl<$($parameters)*> $Receiver {
            /// Returns a stream of the messages, which ends as [`iter`](Self::iter) does. See
            /// [`MessageStream`](crate::MessageStream).
            pub fn stream(&mut self) -> $crate::message::MessageStream<&mut Self> {
                $crate::message::MessageStream::new(self)
            }

            /// Returns a stream of the messages that owns the receiver, and ends as
            /// [`iter`](Self::iter) does. See [`MessageStream`](crate::MessageStream).
            pub fn into_stream(self) -> $crate::message::MessageStream<Self> {
                $crate::message::MessageStream::new(self)
            }
        }
    };
}

/// The `async` methods of a sender.
#[cfg(feature = "async")]
macro_rules! send_methods {
    (value [$($parameters:tt)*] $Sender:ty, $Message:ty) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
        impl<$($parameters)*> $Sender {
            /// Sends one value as [`send`](Self::send) does, without blocking the thread.
            ///
            /// A future that is dropped before it is ready has sent nothing. Works with any
            /// executor.
            ///
            /// # Errors
            /// As [`send`](Self::send).
            ///
            /// # Examples
            /// ```
            /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            /// let (mut tx, mut rx) = tombolo::queue::Options::<u64>::new().capacity(2).create_channel()?;
            /// let send = async {
            ///     for number in 0..100 {
            ///         tx.send_async(number).await?; // waits while the queue is full
            ///     }
            ///     drop(tx);
            ///     Ok::<(), tombolo::SendError>(())
            /// };
            /// let receive = async {
            ///     let mut sum = 0;
            ///     while let Ok(number) = rx.recv_async().await {
            ///         sum += number;
            ///     }
            ///     Ok(sum)
            /// };
            /// assert_eq!(tokio::try_join!(send, receive)?, ((), 4950));
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn send_async(
                &mut self,
                value: impl std::borrow::Borrow<$Message>,
            ) -> impl std::future::Future<Output = Result<(), $crate::error::SendError>> {
                $crate::wait::poll_until_ready(self, move |tx| $crate::wait::unless_full(tx.try_send(value.borrow())))
            }
        }
        $crate::message::send_methods!(sink [$($parameters)*] $Sender, [] $Message);
    };
    (bytes [$($parameters:tt)*] $Sender:ty, $note:literal) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
        impl<$($parameters)*> $Sender {
            /// Sends one message as [`send`](Self::send) does, without blocking the thread.
            ///
            /// A future that is dropped before it is ready has sent nothing. Works with any
            /// executor.
            ///
            /// # Errors
            #[doc = $note]
            ///
            /// # Examples
            /// ```
            /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            /// let (mut tx, mut rx) = tombolo::queue::Options::bytes().create_channel()?;
            /// tx.send_async("hello").await?;
            /// let mut message = Vec::new();
            /// rx.recv(&mut message)?;
            /// assert_eq!(message, b"hello");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn send_async(
                &mut self,
                message: impl AsRef<[u8]>,
            ) -> impl std::future::Future<Output = Result<(), $crate::error::SendError>> {
                $crate::wait::poll_until_ready(self, move |tx| $crate::wait::unless_full(tx.try_send(message.as_ref())))
            }
        }
        $crate::message::send_methods!(sink [$($parameters)*] $Sender, [M: AsRef<[u8]>] M);
    };
    (sink [$($parameters:tt)*] $Sender:ty, [$($generics:tt)*] $Message:ty) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
        impl<$($parameters)*> $Sender {
            /// Returns a sink of messages. See [`MessageSink`](crate::MessageSink).
            pub fn sink<$($generics)*>(&mut self) -> $crate::message::MessageSink<&mut Self, $Message> {
                $crate::message::MessageSink::new(self)
            }

            /// Returns a sink of messages that owns the sender. See
            /// [`MessageSink`](crate::MessageSink).
            pub fn into_sink<$($generics)*>(self) -> $crate::message::MessageSink<Self, $Message> {
                $crate::message::MessageSink::new(self)
            }
        }

        // Either the sender or the method is generic.
        impl<$($parameters)* $($generics)*> $crate::message::sealed::TrySend<$Message> for $Sender {
            fn try_send_message(&mut self, message: &$Message) -> Result<(), $crate::error::SendError> {
                self.try_send(message)
            }
        }
    };
}

#[cfg(feature = "async")]
pub(crate) use receive_methods;
#[cfg(feature = "async")]
pub(crate) use send_methods;

pub(crate) mod sealed {
    use crate::error::RecvError;
    #[cfg(feature = "async")]
    use crate::error::SendError;
    use crate::region::layout::header::ElementType;
    use crate::types::{Shape, Shareable};
    use crate::wait::Timeout;

    pub trait Sealed: 'static {
        /// What a value is. None: bytes.
        const SHAPE: Option<&'static Shape>;

        /// How a region's header describes messages of this kind.
        fn element(tag: [u8; 8]) -> ElementType;
    }

    impl Sealed for [u8] {
        const SHAPE: Option<&'static Shape> = None;

        fn element(_: [u8; 8]) -> ElementType {
            ElementType::Bytes
        }
    }

    impl<T: Shareable> Sealed for T {
        const SHAPE: Option<&'static Shape> = Some(T::SHAPE);

        fn element(tag: [u8; 8]) -> ElementType {
            ElementType::Value { size: size_of::<T>() as u64, align: align_of::<T>() as u64, tag }
        }
    }

    /// A receiver that [`Messages`](super::Messages) iterates over.
    pub trait Receive {
        type Message;

        fn receive(&mut self, timeout: Timeout) -> Result<Self::Message, RecvError>;
    }

    /// A sender that a [`MessageSink`](super::MessageSink) sends through.
    #[cfg(feature = "async")]
    pub trait TrySend<M> {
        fn try_send_message(&mut self, message: &M) -> Result<(), SendError>;
    }

    #[cfg(feature = "async")]
    impl<M, S: TrySend<M>> TrySend<M> for &mut S {
        fn try_send_message(&mut self, message: &M) -> Result<(), SendError> {
            S::try_send_message(self, message)
        }
    }

    impl<R: Receive> Receive for &mut R {
        type Message = R::Message;

        #[inline]
        fn receive(&mut self, timeout: Timeout) -> Result<R::Message, RecvError> {
            R::receive(self, timeout)
        }
    }
}
