//! Waiting for requests without blocking.

use crate::rpc::{ByteResponder, Responder};
use crate::types::Shareable;
use crate::wait::pollable;

pollable!([Q: Shareable, A: Shareable] Responder<Q, A>, half, "a request or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([] ByteResponder, half, "a request or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
