//! Functions of this binary that run in processes of their own.

#[path = "../support/executor.rs"]
mod executor;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_arch = "x86_64")]
#[path = "../support/sweep.rs"]
mod sweep;

mod arguments;
mod children;
mod common;
mod crash;
mod daemons;
mod ends;
mod kept;
mod misuse;
mod reaper;
mod tasks;

tombolo::process::init_in_tests!();
