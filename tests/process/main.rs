//! Functions of this binary that run in processes of their own.

#[path = "../support/mod.rs"]
mod support;

mod arguments;
mod common;
mod ends;
mod misuse;

tombolo::process::init_in_tests!();
