//! Pools of processes: jobs, and workers that die.

#[path = "../support/executor.rs"]
mod executor;
#[path = "../support/mod.rs"]
mod support;

mod common;
mod deaths;
mod ends;
mod initializer;
mod jobs;
mod signals;
mod tasks;

tombolo::process::init_in_tests!();
