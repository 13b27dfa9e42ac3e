//! Pipes of values that serde can serialise. Needs the feature `serde`.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{RecvError, SendError};
use crate::message::sealed::Receive;
use crate::pipe::{BytePipe, ByteReceiver, ByteSender};
use crate::serialized::{decode, encode, recv_object_methods, send_object_methods};
#[cfg(feature = "async")]
use crate::serialized::{recv_object_async_methods, send_object_async_methods};
use crate::wait::Timeout;

send_object_methods!(ByteSender, "tombolo::pipe::Options::bytes().create()");
recv_object_methods!(ByteReceiver);
send_object_methods!(BytePipe, "tombolo::pipe::Options::bytes().create_duplex()", tx);
recv_object_methods!(BytePipe, rx);

#[cfg(feature = "async")]
send_object_async_methods!(ByteSender);
#[cfg(feature = "async")]
recv_object_async_methods!(ByteReceiver);
#[cfg(feature = "async")]
send_object_async_methods!(BytePipe, tx);
#[cfg(feature = "async")]
recv_object_async_methods!(BytePipe, rx);
