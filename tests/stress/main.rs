//! Processes that are stopped and killed at random moments under load.

#[path = "../support/mod.rs"]
mod support;

mod broadcast;
mod pipe;
mod queue;

use broadcast::*;
use pipe::*;
use queue::*;

support::child_roles!(
    send_pipe_bytes,
    send_pipe_values,
    receive_pipe_bytes,
    receive_pipe_values,
    go_on_sending,
    go_on_receiving,
    send_values,
    send_bytes,
    send_large,
    receive_values,
    receive_bytes,
    receive_large,
    join_and_leave,
    wait_for_the_rest,
    publish_values,
    publish_bytes,
    subscribe_values,
    subscribe_bytes,
);
