//! The objects of a namespace. What they have in common is here; each object's file has its handle,
//! and, as a [`Kind`](kind::Kind), its words, repair and description.

pub(crate) mod array;
pub(crate) mod atomic;
pub(crate) mod barrier;
pub(crate) mod bounded_semaphore;
pub(crate) mod condvar;
pub(crate) mod element;
pub(crate) mod event;
mod fairness;
#[cfg(feature = "async")]
mod future;
pub(crate) mod kind;
pub(crate) mod list;
mod lock;
pub(crate) mod map;
pub(crate) mod member;
pub(crate) mod mutex;
pub(crate) mod nested;
pub(crate) mod once;
pub(crate) mod reentrant_mutex;
pub(crate) mod repair;
pub(crate) mod rw_lock;
pub(crate) mod semaphore;
mod seq_cell;
pub(crate) mod spec;
pub(crate) mod table;
pub(crate) mod value;
mod writers;

use std::fmt;
use std::sync::Arc;

use crate::error::SyncError;
use crate::object::kind::{ObjectKind, ObjectWords};
use crate::object::member::{LocalState, Membership};
use crate::object::spec::ObjectSpec;
use crate::object::table::Entry;
use crate::raw::event_count::EventCount;
use crate::region::words::{Mapped, Word, Words};
use crate::sys::fork::Generation;
use crate::sys::membarrier;
use crate::wait::WaitStrategy;

/// An object of a namespace: a value, an array, a lock or another.
///
/// Each is a handle that can be cloned and shared between threads. Any number of processes can open
/// the object.
///
/// A forked child can read values through a handle of its parent. Everything that takes, waits or
/// holds returns [`Forked`](crate::sync::SyncError::Forked) there.
pub trait Object: sealed::Sealed + Clone + fmt::Debug {
    /// Returns what it is.
    fn kind(&self) -> ObjectKind {
        self.handle().spec.kind
    }

    /// Returns its name in its namespace. Empty for an object on its own.
    fn object_name(&self) -> &str {
        let membership = &self.handle().membership;
        // One that was created in a namespace has a region of its name.
        let path = membership.owner().and_then(|_| membership.region().path());
        let entry = || self.handle().entry().map_or("", |entry| entry.name.as_str());
        path.map_or_else(entry, |path| path.name.as_str())
    }

    /// Returns the name of its namespace. `None` if that has no name.
    fn namespace_name(&self) -> Option<&str> {
        let membership = &self.handle().membership;
        let namespace = membership.owner().unwrap_or(membership);
        namespace.region().path().map(|place| place.name.as_str())
    }

    /// Returns which options of its namespace could not be honoured, each in a sentence. The object
    /// works without them.
    fn warnings(&self) -> &[String] {
        self.handle().membership.region().warnings()
    }
}

pub(crate) mod sealed {
    use crate::object::Handle;
    use crate::object::spec::ObjectSpec;

    pub trait Sealed: Sized {
        /// What such an object is. The count may differ.
        fn spec() -> ObjectSpec;
        fn attach(handle: Handle) -> Self;
        fn handle(&self) -> &Handle;
    }
}

/// `Object` and `Debug` for a type with a `handle()`, or another way to it.
macro_rules! object {
    ($name:ident $(<$t:ident>)?, $spec:expr, |$this:ident| $handle:expr) => {
        $crate::object::object!([$($t: $crate::types::Shareable)?] $name $(<$t>)?, $spec, |$this| $handle);
    };
    ([$($generics:tt)*] $name:ident $(<$($t:ident),+>)?, $spec:expr, |$this:ident| $handle:expr) => {
        impl<$($generics)*> $crate::object::Object for $name $(<$($t),+>)? {}

        impl<$($generics)*> $crate::object::sealed::Sealed for $name $(<$($t),+>)? {
            fn spec() -> $crate::object::spec::ObjectSpec {
                $spec
            }

            fn attach(handle: $crate::object::Handle) -> Self {
                Self::from_handle(handle)
            }

            fn handle(&self) -> &$crate::object::Handle {
                let $this = self;
                $handle
            }
        }

        impl<$($generics)*> std::fmt::Debug for $name $(<$($t),+>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $this = self;
                f.debug_struct(stringify!($name)).field("handle", $handle).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use object;

/// An object of a namespace, as this process uses it.
#[derive(Clone)]
pub struct Handle {
    pub(crate) membership: Arc<Membership>,
    /// What only this process knows of the object.
    pub(crate) local: Arc<LocalState>,
    /// The process that made the handle.
    generation: Generation,
    /// Which participant of the namespace that is.
    pub(crate) participant: usize,
    /// Number of the object.
    object: usize,
    /// First word of the object.
    start: usize,
    /// Words of the object.
    length: usize,
    /// Where in the file its extents begin.
    extents: u64,
    pub(crate) spec: ObjectSpec,
    pub(crate) wait: WaitStrategy,
}

impl Handle {
    pub(crate) fn new(membership: Arc<Membership>, object: usize, entry: &Entry, wait: WaitStrategy) -> Self {
        Self {
            local: membership.local(object),
            generation: membership.generation(),
            participant: membership.participant(),
            membership,
            object,
            start: entry.start,
            length: entry.length,
            extents: entry.extents,
            spec: entry.spec,
            wait,
        }
    }

    /// None: there is no such object. Then nothing made this handle.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        self.membership.table().entries.get(self.object)
    }

    /// Its words, as those see them that have no handle.
    pub(crate) fn object(&self) -> ObjectWords<'_> {
        ObjectWords {
            region: self.membership.region(),
            index: self.object,
            spec: &self.spec,
            start: self.start,
            length: self.length,
            extents: self.extents,
        }
    }

    pub(crate) fn word(&self, offset: usize) -> Word {
        self.object().word(offset)
    }

    pub(crate) fn words(&self, offset: usize, length: usize) -> Words {
        self.object().words(offset, length)
    }

    /// An event to sleep on.
    pub(crate) fn event(&self, offset: usize) -> EventCount<Mapped> {
        let event = self.object().event(offset);
        if !membarrier::register() {
            event.require_fences();
        }
        event
    }

    /// False in a process that was forked from the one that made the handle.
    #[inline(always)]
    pub(crate) fn is_from_this_process(&self) -> bool {
        self.generation.is_current()
    }

    #[inline(always)]
    pub(crate) fn check_process(&self) -> Result<(), SyncError> {
        if self.generation.is_current() { Ok(()) } else { Err(SyncError::Forked) }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An object on its own has the name of its namespace.
        let region = self.membership.region().path().map(|path| path.name.as_str());
        let name = self.entry().map(|entry| entry.name.as_str()).filter(|name| !name.is_empty()).or(region);
        f.debug_struct("Handle").field("kind", &self.spec.kind).field("name", &name).finish_non_exhaustive()
    }
}
