#![doc = include_str!("../docs/guide.md")]
#![deny(unsafe_code, missing_docs)]
// Bytes of other processes must not be able to cause a panic. Not in Cargo.toml: there it would
// hold for tests, too.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod broadcast;
#[cfg(feature = "connection")]
#[cfg_attr(docsrs, doc(cfg(feature = "connection")))]
pub mod connection;
mod endpoint;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[allow(missing_docs, clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod fuzzing;
pub mod inspect;
mod interrupt;
mod message;
mod namespace;
mod object;
mod options;
pub mod pipe;
mod primitive;
#[cfg(feature = "process")]
#[cfg_attr(docsrs, doc(cfg(feature = "process")))]
pub mod process;
pub mod queue;
mod raw;
mod region;
pub mod rpc;
pub mod select;
#[cfg(feature = "serde")]
mod serialized;
pub mod spawn;
mod sys;
#[cfg(feature = "__test-hooks")]
#[doc(hidden)]
pub mod test_hooks;
#[cfg(feature = "serde")]
mod transfer;
pub mod types;
mod wait;

pub mod sync {
    //! Values, arrays, locks and other objects that processes share.
    //!
    //! Each object is used through a handle. Clone the handle, share it between threads, and open
    //! the object in other processes:
    //!
    //! | call | what it does |
    //! |---|---|
    //! | `X::new(initial)` | creates an object without a name |
    //! | `X::create_new(name, initial)` | creates a named one, and fails if the name exists |
    //! | `X::open_or_create(name, initial)` | opens a named one, or creates it |
    //! | `X::open(name)` | opens a named one |
    //! | `x.share()`, `X::from_fd(fd)` | passes it on as a descriptor |
    //! | `command.pass(label, &x)`, `X::take(label)` | passes it to a child process |
    //!
    //! A [`Namespace`](crate::Namespace) holds several objects under one name, and chooses the
    //! directory, the permissions and how calls wait.
    //!
    //! The values in objects are of [types that can be shared](crate#types-that-can-be-shared).
    //!
    //! ```
    //! use tombolo::sync::{AtomicValue, LockError, Mutex};
    //!
    //! let hits = AtomicValue::new(0_u64)?;
    //! let balance = Mutex::new([100_i64, 0])?;
    //! hits.fetch_add(1);
    //! balance.lock().or_else(LockError::into_guard)?[0] -= 30;
    //! # Ok::<(), Box<dyn std::error::Error>>(())
    //! ```
    //!
    //! # Lock errors and `?`
    //!
    //! A [`LockError`] can hold the guard, so that you can use the lock although an earlier owner
    //! died. A guard stays in its thread and borrows the lock, so `lock()?` does not compile in a
    //! function that returns `Box<dyn Error>`. Choose one of these instead:
    //!
    //! - `lock().or_else(LockError::into_guard)?` takes the lock whatever happened to earlier
    //!   owners. What is left is a [`SyncError`], which `?` accepts. The value of a lock is whole
    //!   in any case: it is as it was last committed. Elements of an array may be set in part.
    //! - `lock().unwrap()` panics if an earlier owner died or poisoned the lock.
    //! - A `match` on [`OwnerDied`](LockError::OwnerDied) repairs what else the lock protects, and
    //!   goes on with the guard.

    pub use crate::error::{LockError, SyncError};
    pub use crate::object::Object;
    pub use crate::object::array::{Array, ArrayGuard};
    pub use crate::object::atomic::{AtomicValue, Integer, Number};
    pub use crate::object::barrier::{Barrier, BarrierWaitResult};
    pub use crate::object::bounded_semaphore::{BoundedPermit, BoundedSemaphore};
    pub use crate::object::condvar::{Condvar, WaitTimeoutResult};
    pub use crate::object::event::Event;
    pub use crate::object::kind::ObjectKind;
    pub use crate::object::mutex::{LockResult, Mutex, MutexGuard};
    pub use crate::object::once::Once;
    pub use crate::object::reentrant_mutex::{ReentrantMutex, ReentrantMutexGuard};
    pub use crate::object::rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub use crate::object::semaphore::{Permit, Semaphore};
    pub use crate::object::value::{Value, ValueWriter};
}

pub mod collections {
    //! Collections that processes share.
    //!
    //! A [`Map`] or a [`List`] is used through a handle, like the objects of [`sync`](crate::sync):
    //! clone it, share it between threads, and open it in other processes. A
    //! [`Namespace`](crate::Namespace) can have several, and chooses the directory, the permissions
    //! and how calls wait.

    pub use crate::error::{ListError, MapError};
    pub use crate::object::element::Element;
    pub use crate::object::list::List;
    pub use crate::object::map::{Counter, Map, Set};

    pub mod counter {
        //! Options for counters.

        /// The options of a map from keys to counts.
        pub type Options<K> = super::map::Options<K, i64>;
    }

    pub mod list {
        //! Options for lists.

        pub use crate::object::list::Options;
    }

    pub mod map {
        //! Options for maps, what iterates over one, and what follows a key.

        pub use crate::object::map::{Entries, Iter, Options, Watcher};
    }

    pub mod set {
        //! Options for sets.

        /// The options of a map from keys to nothing.
        pub type Options<K> = super::map::Options<K, ()>;
    }
}

pub use bytemuck::{self, Pod, Zeroable};
pub use endpoint::Endpoint;
pub use error::{Error, ErrorKind, RecvError, Result, SendError};
pub use interrupt::{InterruptHandle, interrupt_handle};
pub use message::Message;
#[cfg(feature = "async")]
pub use message::{MessageSink, MessageStream};
pub use namespace::{Namespace, NamespaceBuilder, NamespaceObject, Reference, Spec};
pub use options::OnStale;
pub use region::directory::{DIRECTORY_ENV, Directory};
pub use region::layout::header::LAYOUT_VERSION;
pub use tombolo_derive::Shareable;
pub use types::Shareable;
pub use wait::{Readiness, WaitStrategy};

/// Keeps the README's example compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Keeps the program of docs/multiprocessing.md running, and what it calls refused from compiling.
#[cfg(all(doctest, feature = "process"))]
#[doc = include_str!("../docs/multiprocessing.md")]
#[doc = include_str!("../tests/process/refused.md")]
struct Multiprocessing;
