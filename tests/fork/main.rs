//! Processes that fork and do not exec: what the child can do with what its parent has open.

#[path = "../support/mod.rs"]
mod support;

mod handles;
mod zero_copy;
