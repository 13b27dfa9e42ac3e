//! Broadcasts: every subscriber sees every message, or knows what it missed.

#[path = "../support/mod.rs"]
mod support;

mod latest;
mod namespaces;
mod observers;
mod policies;
mod processes;
mod publishers;
mod subscribers;

use latest::{latest_follower, latest_publisher};
use processes::*;

support::child_roles!(
    publish_endlessly,
    publish_beside_others,
    stay_as_publisher,
    stay_as_subscriber,
    stay_as_many_subscribers,
    receive_later,
    do_nothing,
    receive_passed,
    publish_passed,
    stay_with_passed_subscriber,
    exit_with_handles,
    publish_three,
    receive_three,
    latest_follower,
    latest_publisher,
);
