//! Queues of values that serde can serialise. Needs the feature `serde`.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{RecvError, SendError};
use crate::message::sealed::Receive;
use crate::queue::{ByteQueue, ByteReceiver, ByteSender};
use crate::serialized::{decode, encode, recv_object_methods, send_object_methods};
#[cfg(feature = "async")]
use crate::serialized::{recv_object_async_methods, send_object_async_methods};
use crate::wait::Timeout;

send_object_methods!(ByteSender, "tombolo::queue::Options::bytes().create_channel()");
recv_object_methods!(ByteReceiver);
send_object_methods!(ByteQueue, "tombolo::queue::Options::bytes().create_channel()", tx);
recv_object_methods!(ByteQueue, rx);

#[cfg(feature = "async")]
send_object_async_methods!(ByteSender);
#[cfg(feature = "async")]
recv_object_async_methods!(ByteReceiver);
#[cfg(feature = "async")]
send_object_async_methods!(ByteQueue, tx);
#[cfg(feature = "async")]
recv_object_async_methods!(ByteQueue, rx);
