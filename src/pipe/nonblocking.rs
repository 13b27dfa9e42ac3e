//! Waiting for endpoints of pipes without blocking.

#[cfg(feature = "async")]
use crate::message::{receive_methods, send_methods};
use crate::pipe::{ByteReceiver, ByteSender, Receiver, Sender};
use crate::types::Shareable;
use crate::wait::{Waiter, pollable};

pollable!([T: Shareable] Receiver<T>, half.connection, "a value or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([] ByteReceiver, half.connection, "a message or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([T: Shareable] Sender<T>, half.connection, "there may be room, or an end", "[`Full`](crate::error::SendError::Full)");
pollable!([] ByteSender, half.connection, "there may be room, or an end", "[`Full`](crate::error::SendError::Full)");

#[cfg(feature = "async")]
receive_methods!(value [T: Shareable] Receiver<T>, T);
#[cfg(feature = "async")]
receive_methods!(bytes [] ByteReceiver);
#[cfg(feature = "async")]
send_methods!(value [T: Shareable] Sender<T>, T);
#[cfg(feature = "async")]
send_methods!(bytes [] ByteSender, "As [`send`](Self::send). A message longer than [`max_inline_bytes`](Self::max_inline_bytes) is [`TooLarge`](crate::error::SendError::TooLarge): a future that is dropped would leave a part of it.");
