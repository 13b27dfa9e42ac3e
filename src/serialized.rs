//! Values as byte messages, in the format of postcard: the calls that the byte endpoints of pipes
//! and queues have in common. Needs the feature `serde`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{RecvError, SendError};

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SendError> {
    postcard::to_stdvec(value).map_err(|_| SendError::Serialize)
}

pub(crate) fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, RecvError> {
    match postcard::take_from_bytes(message) {
        Ok((value, [])) => Ok(value),
        _ => Err(RecvError::Deserialize),
    }
}

/// `send_object` in all forms. `$create`: makes a sender and a receiver, for the example. `$tx`:
/// the half that sends, if the endpoint does both.
macro_rules! send_object_methods {
    ($Endpoint:ty, $create:literal $(, $tx:ident)?) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl $Endpoint {
            /// Serialises a value and sends it as one message. Allocates a buffer for it. Needs the
            /// feature `serde`.
            ///
            /// # Blocking
            /// As [`send`](Self::send).
            ///
            /// # Errors
            /// As for [`send`](Self::send), and [`Serialize`](SendError::Serialize) if the value
            /// cannot be serialised.
            ///
            /// # Examples
            /// ```
            /// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
            /// struct Order { id: u64, symbol: String, sides: Vec<bool> }
            ///
            #[doc = concat!("let (mut tx, mut rx) = ", $create, "?;")]
            /// let order = Order { id: 7, symbol: "TMBL".into(), sides: vec![true, false] };
            /// tx.send_object(&order)?;
            /// assert_eq!(rx.recv_object::<Order>()?, order);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn send_object<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
                self$(.$tx)?.send(encode(value)?)
            }

            /// Like [`send_object`](Self::send_object), but returns [`Full`](SendError::Full)
            /// instead of blocking.
            pub fn try_send_object<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
                self$(.$tx)?.try_send(encode(value)?)
            }

            /// Like [`send_object`](Self::send_object), but returns
            /// [`TimedOut`](SendError::TimedOut) after `timeout`.
            pub fn send_object_timeout<T: Serialize + ?Sized>(
                &mut self,
                value: &T,
                timeout: Duration,
            ) -> Result<(), SendError> {
                self$(.$tx)?.send_timeout(encode(value)?, timeout)
            }

            /// Like [`send_object`](Self::send_object), but returns
            /// [`TimedOut`](SendError::TimedOut) at `deadline`. With `None` it never does.
            pub fn send_object_deadline<T: Serialize + ?Sized>(
                &mut self,
                value: &T,
                deadline: Option<Instant>,
            ) -> Result<(), SendError> {
                self$(.$tx)?.send_deadline(encode(value)?, deadline)
            }
        }
    };
}

/// `recv_object` in all forms. `$rx`: the half that receives, if the endpoint does both.
macro_rules! recv_object_methods {
    ($Endpoint:ty $(, $rx:ident)?) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl $Endpoint {
            /// Receives one message and deserialises it. Needs the feature `serde`.
            ///
            /// `T` is the type that was sent. The message does not say what that was: another type
            /// is an error, or a wrong value. An array and a `Vec` are different types: the length
            /// of an array is not sent.
            ///
            /// A peer chooses the bytes. If `T` contains itself, as a tree does, they can nest as
            /// deeply as the message is long, and deserialising can overflow the stack; and a `Vec`
            /// of elements that take no bytes, such as `()`, can have any length. From a peer that
            /// you do not trust receive other types.
            ///
            /// # Blocking
            /// As [`recv`](Self::recv).
            ///
            /// # Errors
            /// As for [`recv`](Self::recv), and [`Deserialize`](RecvError::Deserialize) if the
            /// message is not such a value. Then it is gone.
            pub fn recv_object<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
                decode(&self$(.$rx)?.receive(Timeout::UNLIMITED)?)
            }

            /// Like [`recv_object`](Self::recv_object), but returns [`Empty`](RecvError::Empty)
            /// instead of blocking.
            pub fn try_recv_object<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
                decode(&self$(.$rx)?.receive(Timeout::NonBlocking)?)
            }

            /// Like [`recv_object`](Self::recv_object), but returns
            /// [`TimedOut`](RecvError::TimedOut) after `timeout`.
            pub fn recv_object_timeout<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<T, RecvError> {
                decode(&self$(.$rx)?.receive(Timeout::after(timeout))?)
            }

            /// Like [`recv_object`](Self::recv_object), but returns
            /// [`TimedOut`](RecvError::TimedOut) at `deadline`. With `None` it never does.
            pub fn recv_object_deadline<T: DeserializeOwned>(
                &mut self,
                deadline: Option<Instant>,
            ) -> Result<T, RecvError> {
                decode(&self$(.$rx)?.receive(Timeout::At(deadline))?)
            }
        }
    };
}

/// `send_object_async`, for an endpoint with `send_async`. `$tx`: as for `send_object_methods`.
#[cfg(feature = "async")]
macro_rules! send_object_async_methods {
    ($Endpoint:ty $(, $tx:ident)?) => {
        #[cfg_attr(docsrs, doc(cfg(all(feature = "async", feature = "serde"))))]
        impl $Endpoint {
            /// Serialises a value and sends it as one message, without blocking the thread. Needs
            /// the features `serde` and `async`.
            ///
            /// A future that is dropped before it is ready has sent nothing.
            ///
            /// # Errors
            /// As for `send_async`, and [`Serialize`](SendError::Serialize) if the value cannot be
            /// serialised.
            ///
            /// # Examples
            /// See [`recv_object_async` of a pipe](crate::pipe::ByteReceiver::recv_object_async).
            pub async fn send_object_async<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
                self$(.$tx)?.send_async(encode(value)?).await
            }
        }
    };
}

/// `recv_object_async`, for an endpoint with `recv_async`. `$rx`: as for `recv_object_methods`.
#[cfg(feature = "async")]
macro_rules! recv_object_async_methods {
    ($Endpoint:ty $(, $rx:ident)?) => {
        #[cfg_attr(docsrs, doc(cfg(all(feature = "async", feature = "serde"))))]
        impl $Endpoint {
            /// Receives one message and deserialises it, without blocking the thread. Needs the
            /// features `serde` and `async`.
            ///
            /// A future that is dropped before it is ready has received nothing.
            ///
            /// # Errors
            /// As [`recv_object`](Self::recv_object), which says what to consider with peers that
            /// you do not trust.
            ///
            /// # Examples
            /// ```
            /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            /// let (mut tx, mut rx) = tombolo::pipe::Options::bytes().create()?;
            /// tx.send_object_async(&("prices", vec![101.25, 101.5])).await?;
            /// let (name, prices): (String, Vec<f64>) = rx.recv_object_async().await?;
            /// assert_eq!((name.as_str(), prices.len()), ("prices", 2));
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub async fn recv_object_async<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
                let mut message = Vec::new();
                self$(.$rx)?.recv_async(&mut message).await?;
                decode(&message)
            }
        }
    };
}

#[cfg(feature = "async")]
pub(crate) use {recv_object_async_methods, send_object_async_methods};
pub(crate) use {recv_object_methods, send_object_methods};
