//! Waiting for senders and receivers of queues without blocking.

#[cfg(feature = "async")]
use crate::message::{receive_methods, send_methods};
use crate::queue::{ByteReceiver, ByteSender, Receiver, Sender};
use crate::types::Shareable;
use crate::wait::{Waiter, pollable};

pollable!([T: Shareable] Receiver<T>, inner.half.participant, "a value or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([] ByteReceiver, inner.half.participant, "a message or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([T: Shareable] Sender<T>, half.participant, "there may be room, or an end", "[`Full`](crate::error::SendError::Full)");
pollable!([] ByteSender, half.participant, "there may be room, or an end", "[`Full`](crate::error::SendError::Full)");

#[cfg(feature = "async")]
receive_methods!(value [T: Shareable] Receiver<T>, T);
#[cfg(feature = "async")]
receive_methods!(bytes [] ByteReceiver);
#[cfg(feature = "async")]
send_methods!(value [T: Shareable] Sender<T>, T);
#[cfg(feature = "async")]
send_methods!(bytes [] ByteSender, "As [`send`](Self::send).");
