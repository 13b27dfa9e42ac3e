#![doc = include_str!("../docs/architecture.md")]
#![deny(unsafe_code, missing_docs)]
#![cfg(target_os = "linux")]

mod sys;

mod end;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod handover;
mod in_place;
mod inspect;
mod lanes;
mod layout;
mod link;
mod liveness;
mod message;
mod names;
#[cfg(feature = "serde")]
mod objects;
mod options;
mod parcels;
mod patience;
mod pipe;
mod queue;
mod queue_half;
mod queue_receiver;
mod queue_sender;
mod raw;
mod receiver;
mod region;
mod sender;
mod stores;
mod stream;
mod sync;
mod wait;

pub use end::End;
pub use error::{Error, ErrorKind, RecvError, Result, SendError};
pub use handover::{Handover, handed};
pub use in_place::{MessageRef, Room, Slots, TrustedReceiver, TrustedSender, Values};
pub use inspect::{Inspection, Participant, QueueState, RingState};
pub use layout::{Element, Kind, LAYOUT_VERSION};
pub use liveness::Standing;
pub use message::Message;
pub use names::{DIRECTORY_VARIABLE, Directory};
pub use options::Abandoned;
pub use pipe::{Pipe, PipeEnd, PipeOptions, pipe};
pub use queue::{Queue, QueueEnd, QueueOptions, queue};
pub use queue_half::QueueStats;
pub use queue_receiver::QueueReceiver;
pub use queue_sender::QueueSender;
pub use receiver::Receiver;
pub use region::Report;
pub use sender::Sender;
pub use stream::{ByteReader, ByteWriter};
pub use wait::Wait;

/// Keeps the README's example compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
