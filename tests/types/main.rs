//! Types that can be shared: their tags, the derive, and bytes of other processes that are no value.

#[path = "../support/mod.rs"]
mod support;

mod derive;
mod invalid;
mod tags;

use invalid::{store_bytes, write_pipe, write_queue};
use support::child_roles;

child_roles!(store_bytes, write_queue, write_pipe);
