//! Requests and replies: every call returns its own reply, or says what became of its request.

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod options;
mod processes;
mod started;
mod storm;

use processes::*;
use storm::{storm_caller, storm_responder};

support::child_roles!(
    respond_endlessly,
    take_and_stay,
    stay_as_responder,
    exit_with_request,
    call_once_and_stay,
    stay_as_caller,
    exit_with_handles,
    exit_while_calling,
    call_passed,
    respond_passed,
    storm_caller,
    storm_responder,
);
