//! Waiting for subscribers and publishers without blocking.

#[cfg(feature = "async")]
use std::borrow::Borrow;
#[cfg(feature = "async")]
use std::future::Future;

use crate::broadcast::{BytePublisher, ByteSubscriber, Publisher, Subscriber};
#[cfg(feature = "async")]
use crate::error::SendError;
#[cfg(feature = "async")]
use crate::message::receive_methods;
use crate::types::Shareable;
use crate::wait::pollable;
#[cfg(feature = "async")]
use crate::wait::{poll_until_ready, unless_full};

pollable!([T: Shareable] Subscriber<T>, half, "a value or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([] ByteSubscriber, half, "a message or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([T: Shareable] Publisher<T>, half, "there may be room", "[`Full`](crate::error::SendError::Full)");
pollable!([] BytePublisher, half, "there may be room", "[`Full`](crate::error::SendError::Full)");

#[cfg(feature = "async")]
receive_methods!(value [T: Shareable] Subscriber<T>, T);
#[cfg(feature = "async")]
receive_methods!(bytes [] ByteSubscriber);

#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
impl<T: Shareable> Publisher<T> {
    /// Publishes one value as [`publish`](Self::publish) does, without blocking the thread.
    ///
    /// A future that is dropped before it is ready has published nothing. Works with any executor.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (mut publisher, mut subscriber) = tombolo::broadcast::Options::<f64>::new().create()?;
    /// publisher.publish_async(101.25).await?;
    /// assert_eq!(subscriber.recv_async().await?, 101.25);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish_async(&mut self, value: impl Borrow<T>) -> impl Future<Output = Result<(), SendError>> {
        poll_until_ready(self, move |publisher| unless_full(publisher.try_publish(value.borrow())))
    }

    /// Publishes one value of a key as [`publish_key`](Self::publish_key) does, without blocking
    /// the thread. See [`publish_async`](Self::publish_async).
    ///
    /// # Errors
    /// Those of [`publish_key`](Self::publish_key).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let options = tombolo::broadcast::Options::<f64>::new().keys(2);
    /// let (mut publisher, mut subscriber) = options.create()?;
    /// publisher.publish_key_async(1, 101.25).await?;
    /// assert_eq!(subscriber.recv_async().await?, 101.25);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish_key_async(
        &mut self,
        key: usize,
        value: impl Borrow<T>,
    ) -> impl Future<Output = Result<(), SendError>> {
        poll_until_ready(self, move |publisher| unless_full(publisher.try_publish_key(key, value.borrow())))
    }
}

#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
impl BytePublisher {
    /// Publishes one message as [`publish`](Self::publish) does, without blocking the thread.
    ///
    /// A future that is dropped before it is ready has published nothing. Works with any executor.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (mut publisher, mut subscriber) = tombolo::broadcast::Options::bytes().create()?;
    /// publisher.publish_async("hello").await?;
    /// let mut message = Vec::new();
    /// assert_eq!(subscriber.recv_async(&mut message).await?, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish_async(&mut self, message: impl AsRef<[u8]>) -> impl Future<Output = Result<(), SendError>> {
        poll_until_ready(self, move |publisher| unless_full(publisher.try_publish(message.as_ref())))
    }
}
