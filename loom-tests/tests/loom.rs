//! Runs every model over all interleavings within the preemption bound.

#![allow(dead_code, reason = "no model uses all of the algorithms' interface")]

#[path = "../src/models/mod.rs"]
mod models;
#[path = "../src/primitive/loom.rs"]
mod primitive;
#[path = "../../src/raw/mod.rs"]
mod raw;
