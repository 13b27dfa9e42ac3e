//! Queues of anything that serde can serialise, in the format of postcard. Needs the feature `serde`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{RecvError, SendError};
use crate::queue::Queue;
use crate::queue::receiver::Receiver;
use crate::queue::sender::Sender;

impl Sender<[u8]> {
    /// Serialises a value and sends it as one message.
    ///
    /// **Blocking** and **Errors**: as for [`send`](Self::send), and [`Encoding`](SendError::Serialize) if the value cannot be
    /// serialised. Allocates a buffer for it.
    ///
    /// ```
    /// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct Order { id: u64, symbol: String, sides: Vec<bool> }
    ///
    /// let (mut tx, mut rx) = tombolo::Options::bytes().create_channel()?;
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

impl Receiver<[u8]> {
    /// Receives one message and makes a value of it.
    ///
    /// **Blocking** and **Errors**: as for [`recv`](Self::recv), and [`Encoding`](RecvError::Deserialize) if the message is no such
    /// value; it is gone then.
    pub fn recv_object<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        let mut message = Vec::new();
        self.recv(&mut message)?;
        match postcard::take_from_bytes(&message) {
            Ok((value, [])) => Ok(value),
            _ => Err(RecvError::Deserialize),
        }
    }
}

impl Queue<[u8]> {
    /// See [`Sender::send_object`].
    pub fn send_object<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
        self.halves().0.send_object(value)
    }

    /// See [`Receiver::recv_object`].
    pub fn recv_object<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        self.halves().1.recv_object()
    }
}
