//! Endpoints on their way to another process, as a child takes them or as a descriptor.

#[path = "../support/mod.rs"]
mod support;
#[cfg(target_arch = "x86_64")]
#[path = "../support/sweep.rs"]
mod sweep;

#[cfg(target_arch = "x86_64")]
mod crash;
mod transfer;

use support::child_roles;
use transfer::{work, work_beside_a_child};

child_roles![work, work_beside_a_child];
