//! Broadcasts: every subscriber sees every message, or knows what it missed.

#[path = "../support/mod.rs"]
mod support;

mod namespaces;
mod observers;
mod policies;
mod publishers;
mod subscribers;
