//! `Map`: what is inserted is found, whole, by all processes, whoever is killed on the way.

#[path = "../support/mod.rs"]
mod support;

mod entries;
mod load;
mod processes;
mod sizes;
mod snapshots;
mod waits;
mod watch;
mod wrappers;

use processes::{change_in_forked_child, change_until_killed, insert_passed, insert_until_killed};

support::child_roles!(change_until_killed, insert_until_killed, insert_passed, change_in_forked_child);
