//! Broadcasts: every subscriber sees every message, or knows what it missed.

#[path = "../support/mod.rs"]
mod support;

mod frames;
mod latest;
mod namespaces;
mod observers;
mod policies;
mod processes;
mod publishers;
mod subscribers;

use frames::{die_with_a_loan, hold_and_drop_frames, hold_two_frames, publish_frames};
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
    die_with_a_loan,
    hold_and_drop_frames,
    hold_two_frames,
    publish_frames,
);
