//! `Map`: what is inserted is found, whole, by all processes, whoever is killed on the way.

#[path = "../support/mod.rs"]
mod support;

mod entries;
mod long;
mod processes;
mod sizes;
mod waits;

use long::{change_long_values_until_killed, read_long_value_in_forked_child};
use processes::{change_in_forked_child, change_until_killed, insert_passed, insert_until_killed};

support::child_roles!(
    change_until_killed,
    change_long_values_until_killed,
    read_long_value_in_forked_child,
    insert_until_killed,
    insert_passed,
    change_in_forked_child
);
