//! `List`: what is appended is there once, whole and in order, for all processes, whoever is killed
//! on the way.

#[path = "../support/storm.rs"]
mod storm;
#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod elements;
mod processes;
mod stops;
mod waits;

use processes::{change_in_forked_child, kill_writers_at_random, push_passed, push_until_killed};
use stops::{insert_until_killed, remove_until_killed};

support::child_roles!(
    kill_writers_at_random,
    push_until_killed,
    push_passed,
    change_in_forked_child,
    insert_until_killed,
    remove_until_killed,
);
