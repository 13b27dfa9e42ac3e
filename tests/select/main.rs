//! Waits for several things at once.

#[path = "../support/mod.rs"]
mod support;

mod descriptors;
mod processes;
mod sources;
mod waits;

use processes::*;

support::child_roles!(send_once_and_stay, send_endlessly, hold_endpoints, select_and_receive);
