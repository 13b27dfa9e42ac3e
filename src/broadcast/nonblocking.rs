//! Waiting for subscribers without blocking.

use crate::broadcast::{ByteSubscriber, Subscriber};
#[cfg(feature = "async")]
use crate::message::receive_methods;
use crate::types::Shareable;
use crate::wait::pollable;

pollable!([T: Shareable] Subscriber<T>, half, "a value or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([] ByteSubscriber, half, "a message or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");

#[cfg(feature = "async")]
receive_methods!(value [T: Shareable] Subscriber<T>, T);
#[cfg(feature = "async")]
receive_methods!(bytes [] ByteSubscriber);
