//! The crash sweeps: each operation is cut off by SIGKILL after every step that another process
//! could notice.

#![cfg(target_arch = "x86_64")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/sweep.rs"]
mod sweep;

mod broadcast;
mod latest;
mod pipe;
mod queue;
mod redelivery;
mod rpc;
