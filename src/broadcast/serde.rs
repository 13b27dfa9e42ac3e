//! Broadcasts of values that serde can serialise. Needs the feature `serde`.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::broadcast::{BytePublisher, ByteSubscriber};
use crate::error::{RecvError, SendError};
use crate::message::sealed::Receive;
#[cfg(feature = "async")]
use crate::serialized::recv_object_async_methods;
use crate::serialized::{decode, encode, recv_object_methods};
use crate::wait::Timeout;

recv_object_methods!(ByteSubscriber);
#[cfg(feature = "async")]
recv_object_async_methods!(ByteSubscriber);

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl BytePublisher {
    /// Serialises a value and publishes it as one message. Allocates a buffer for it. Needs the
    /// feature `serde`.
    ///
    /// # Blocking
    /// As [`publish`](Self::publish).
    ///
    /// # Errors
    /// As for [`publish`](Self::publish), and [`Serialize`](SendError::Serialize) if the value
    /// cannot be serialised.
    ///
    /// # Examples
    /// ```
    /// let (mut publisher, mut subscriber) = tombolo::broadcast::Options::bytes().create()?;
    /// publisher.publish_object(&("TMBL", [101.25, 101.5]))?;
    /// assert_eq!(subscriber.recv_object::<(String, [f64; 2])>()?, ("TMBL".into(), [101.25, 101.5]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish_object<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
        self.publish(encode(value)?)
    }

    /// Like [`publish_object`](Self::publish_object), but returns [`Full`](SendError::Full) instead
    /// of blocking.
    pub fn try_publish_object<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
        self.try_publish(encode(value)?)
    }

    /// Like [`publish_object`](Self::publish_object), but returns
    /// [`TimedOut`](SendError::TimedOut) after `timeout`.
    pub fn publish_object_timeout<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.publish_timeout(encode(value)?, timeout)
    }

    /// Like [`publish_object`](Self::publish_object), but returns
    /// [`TimedOut`](SendError::TimedOut) at `deadline`. With `None` it never does.
    pub fn publish_object_deadline<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        self.publish_deadline(encode(value)?, deadline)
    }

    /// Serialises a value and publishes it as one message, without blocking the thread. Needs the
    /// features `serde` and `async`. See [`publish_async`](Self::publish_async).
    ///
    /// # Errors
    /// As for [`publish_object`](Self::publish_object).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (mut publisher, mut subscriber) = tombolo::broadcast::Options::bytes().create()?;
    /// publisher.publish_object_async(&vec!["one", "two"]).await?;
    /// let words: Vec<String> = subscriber.recv_object_async().await?;
    /// assert_eq!(words, ["one", "two"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(all(feature = "async", feature = "serde"))))]
    pub async fn publish_object_async<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
        self.publish_async(encode(value)?).await
    }
}
