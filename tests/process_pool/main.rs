//! Pools of processes: jobs, and workers that die.

#[path = "../support/mod.rs"]
mod support;

mod common;
mod deaths;
mod ends;
mod initializer;
mod jobs;
mod signals;

tombolo::process::init_in_tests!();
