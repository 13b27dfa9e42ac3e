//! Runs every model on real threads.

#![allow(dead_code, reason = "no model uses all of the algorithms' interface")]

#[path = "../src/models/mod.rs"]
mod models;
#[path = "../src/primitive/std.rs"]
mod primitive;
#[path = "../../src/raw/mod.rs"]
mod raw;
