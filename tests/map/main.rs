//! `Map`: what is inserted is found, whole, by all processes, whoever is killed on the way.

#[path = "../support/buckets.rs"]
mod buckets;
#[path = "../support/storm.rs"]
mod storm;
#[path = "../support/mod.rs"]
mod support;

mod entries;
mod load;
mod long;
mod processes;
mod sizes;
mod snapshots;
mod waits;
mod watch;
mod wrappers;

use long::{change_long_values_until_killed, read_long_value_in_forked_child};
use processes::{change_in_forked_child, insert_passed, insert_until_killed, kill_writers_at_random};

support::child_roles!(
    kill_writers_at_random,
    change_long_values_until_killed,
    read_long_value_in_forked_child,
    insert_until_killed,
    insert_passed,
    change_in_forked_child,
);
