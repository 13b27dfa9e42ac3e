//! System calls, and instructions for which Rust has no safe function.
//!
//! The rest of the crate sees small safe functions. Nothing in here knows what a region or a ring
//! is.

pub(crate) mod available_memory;
#[cfg(feature = "process")]
pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod copy;
pub(crate) mod eventfd;
pub(crate) mod file;
pub(crate) mod file_lock;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod mapping;
pub(crate) mod membarrier;
pub(crate) mod memfd;
pub(crate) mod poll;
#[cfg(feature = "process")]
pub(crate) mod posix_spawn;
pub(crate) mod process;
#[cfg(feature = "process")]
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod signals;
#[cfg(feature = "connection")]
pub(crate) mod socket;
