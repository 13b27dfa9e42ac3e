//! Queues of values that serde can serialise, in the format of postcard. Needs the feature `serde`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{RecvError, SendError};
use crate::queue::{ByteQueue, ByteReceiver, ByteSender};

impl ByteSender {
    /// Serialises a value and sends it as one message. Allocates a buffer for it.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As for [`send`](Self::send), and [`Serialize`](SendError::Serialize) if the value cannot be
    /// serialised.
    ///
    /// # Examples
    /// ```
    /// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct Order { id: u64, symbol: String, sides: Vec<bool> }
    ///
    /// let (mut tx, mut rx) = tombolo::queue::Options::bytes().create_channel()?;
    /// let order = Order { id: 7, symbol: "TMBL".into(), sides: vec![true, false] };
    /// tx.send_object(&order)?;
    /// assert_eq!(rx.recv_object::<Order>()?, order);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_object<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
        let message = postcard::to_stdvec(value).map_err(|_| SendError::Serialize)?;
        self.send(&message)
    }
}

impl ByteReceiver {
    /// Receives one message and deserialises it.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As for [`recv`](Self::recv), and [`Deserialize`](RecvError::Deserialize) if the message is
    /// not such a value. Then it is gone.
    pub fn recv_object<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        let mut message = Vec::new();
        self.recv(&mut message)?;
        match postcard::take_from_bytes(&message) {
            Ok((value, [])) => Ok(value),
            _ => Err(RecvError::Deserialize),
        }
    }
}

impl ByteQueue {
    /// See [`ByteSender::send_object`].
    pub fn send_object<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
        self.tx.send_object(value)
    }

    /// See [`ByteReceiver::recv_object`].
    pub fn recv_object<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        self.rx.recv_object()
    }
}
