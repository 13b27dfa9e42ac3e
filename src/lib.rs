#![doc = include_str!("../docs/architecture.md")]
#![deny(unsafe_code, missing_docs)]
#![cfg(target_os = "linux")]

mod sys;

mod array;
mod atomic;
mod barrier;
mod condvar;
#[cfg(feature = "serde")]
mod encoded;
mod end;
mod error;
mod event;
#[doc(hidden)]
pub mod fuzzing;
mod glance;
mod handover;
mod held;
mod in_place;
mod inspect;
mod kept;
mod lanes;
mod latch;
mod layout;
mod link;
mod liveness;
mod members;
mod message;
mod mutex;
mod names;
mod namespace;
mod object;
mod once;
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
mod rw_lock;
mod semaphore;
mod sender;
mod standalone;
mod stores;
mod stream;
mod sync;
mod table;
mod unreadable;
mod value;
mod verdicts;
mod wait;

pub use array::{Array, ArrayGuard};
pub use atomic::{AtomicValue, Integer, Number};
pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::Condvar;
pub use end::End;
pub use error::{Error, ErrorKind, LockError, RecvError, Result, SendError, SyncError};
pub use event::Event;
pub use glance::ObjectState;
pub use handover::{Handover, handed};
pub use in_place::{MessageRef, Room, Slots, TrustedReceiver, TrustedSender, Values};
pub use inspect::{Inspection, Participant, QueueState, RingState};
pub use layout::{Element, Kind, LAYOUT_VERSION};
pub use liveness::Standing;
pub use message::Message;
pub use mutex::{LockResult, Mutex, MutexGuard, ReentrantMutex, ReentrantMutexGuard};
pub use names::{DIRECTORY_VARIABLE, Directory};
pub use namespace::{Namespace, NamespaceBuilder};
pub use object::Object;
pub use once::Once;
pub use options::Abandoned;
pub use pipe::{Pipe, PipeEnd, PipeOptions, pipe};
pub use queue::{Queue, QueueEnd, QueueOptions, queue};
pub use queue_half::QueueStats;
pub use queue_receiver::QueueReceiver;
pub use queue_sender::QueueSender;
pub use receiver::Receiver;
pub use region::Report;
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};
pub use sender::Sender;
pub use stream::{ByteReader, ByteWriter};
pub use table::ObjectKind;
pub use value::{Value, ValueWriter};
pub use wait::Wait;

/// Keeps the README's example compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
