//! What all objects of a namespace have in common.

use std::fmt;

use crate::region::Report;
use crate::table::ObjectKind;

/// An object of a namespace: a value, an array, a lock or another.
///
/// Each is a handle that can be cloned, shared between threads, and opened by any number of processes. A forked child can
/// read values through its parent's; whatever would take, wait or hold answers [`Forked`](crate::SyncError::Forked).
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
        self.handle().member.region().place().map(|place| place.name.as_str())
    }

    /// What was wished for and could not be had when its namespace was made or opened.
    fn report(&self) -> &Report {
        &self.handle().member.region().report
    }
}

pub(crate) mod sealed {
    use crate::latch::Handle;
    use crate::table::Plan;

    pub trait Sealed: Sized {
        /// What such an object is; the count may differ.
        fn plan() -> Plan;
        fn attach(handle: Handle) -> Self;
        fn handle(&self) -> &Handle;
    }
}

/// `Object` and `Debug` for a type with a `handle()`, or another way to it.
macro_rules! object {
    ($name:ident $(<$t:ident>)?, $plan:expr, |$this:ident| $handle:expr) => {
        impl $(<$t: bytemuck::Pod>)? $crate::object::Object for $name $(<$t>)? {}

        impl $(<$t: bytemuck::Pod>)? $crate::object::sealed::Sealed for $name $(<$t>)? {
            fn plan() -> $crate::table::Plan {
                $plan
            }

            fn attach(handle: $crate::latch::Handle) -> Self {
                Self::from_handle(handle)
            }

            fn handle(&self) -> &$crate::latch::Handle {
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
