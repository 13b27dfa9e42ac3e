//! What all objects of a namespace have in common.

pub(crate) mod array;
pub(crate) mod atomic;
pub(crate) mod barrier;
pub(crate) mod condvar;
pub(crate) mod describe;
pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod member;
pub(crate) mod mutex;
pub(crate) mod once;
pub(crate) mod rw_lock;
pub(crate) mod semaphore;
pub(crate) mod seq_cell;
pub(crate) mod table;
pub(crate) mod value;

use std::fmt;

use crate::object::table::ObjectKind;

/// An object of a namespace: a value, an array, a lock or another.
///
/// Each is a handle that can be cloned, shared between threads, and opened by any number of processes. A forked child can
/// read values through its parent's; whatever would take, wait or hold answers [`Forked`](crate::sync::SyncError::Forked).
pub trait Object: sealed::Sealed + Clone + fmt::Debug {
    /// What it is.
    fn kind(&self) -> ObjectKind {
        self.handle().plan.kind
    }

    /// Its name in its namespace; empty for one on its own.
    fn object_name(&self) -> &str {
        self.handle().entry().map_or("", |entry| entry.name.as_str())
    }

    /// The name of its namespace; none if that is anonymous.
    fn namespace_name(&self) -> Option<&str> {
        self.handle().member.region().path().map(|place| place.name.as_str())
    }

    /// What was wished for and could not be had when its namespace was made or opened.
    fn warnings(&self) -> &[String] {
        self.handle().member.region().warnings.as_slice()
    }
}

pub(crate) mod sealed {
    use crate::object::lock::Handle;
    use crate::object::table::ObjectSpec;

    pub trait Sealed: Sized {
        /// What such an object is; the count may differ.
        fn plan() -> ObjectSpec;
        fn attach(handle: Handle) -> Self;
        fn handle(&self) -> &Handle;
    }
}

/// `Object` and `Debug` for a type with a `handle()`, or another way to it.
macro_rules! object {
    ($name:ident $(<$t:ident>)?, $plan:expr, |$this:ident| $handle:expr) => {
        impl $(<$t: bytemuck::Pod>)? $crate::object::Object for $name $(<$t>)? {}

        impl $(<$t: bytemuck::Pod>)? $crate::object::sealed::Sealed for $name $(<$t>)? {
            fn plan() -> $crate::object::table::ObjectSpec {
                $plan
            }

            fn attach(handle: $crate::object::lock::Handle) -> Self {
                Self::from_handle(handle)
            }

            fn handle(&self) -> &$crate::object::lock::Handle {
                let $this = self;
                $handle
            }
        }

        impl $(<$t: bytemuck::Pod>)? std::fmt::Debug for $name $(<$t>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $this = self;
                f.debug_struct(stringify!($name)).field("handle", $handle).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use object;
