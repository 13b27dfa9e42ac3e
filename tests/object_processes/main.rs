//! The objects of `tombolo::sync` between processes: names and descriptors, deaths of owners and
//! waiters, signals, stops, forks, load, and random kills.

#[path = "../support/mod.rs"]
mod support;

mod array;
mod barrier;
mod bounded_semaphore;
mod common;
mod condvar;
mod fairness;
mod fork;
mod kill_stress;
mod load;
mod mutex;
mod namespace;
mod once;
mod passing;
mod rw_lock;
mod value;
mod waiters;
mod waits;

use array::set_continuously;
use barrier::wait_at_barrier;
use common::hold;
use fairness::{read_repeatedly, take_repeatedly, try_and_leave};
use fork::{fork_with_handles, fork_with_sections};
use kill_stress::work_until_killed;
use load::{count_everything, ping_pong};
use mutex::{hold_and_close_descriptors, hold_and_fork};
use namespace::{fail_to_join, forget_and_leave, join_and_stay, open_and_stay, race_for_name, send_and_stay};
use passing::{use_every_object, use_passed_namespace, use_passed_objects};
use value::{stay_inside_call, store_continuously};
use waiters::wait_under_signals;
use waits::wait_and_leave;

support::child_roles!(
    set_continuously,
    wait_at_barrier,
    hold,
    read_repeatedly,
    take_repeatedly,
    try_and_leave,
    fork_with_handles,
    fork_with_sections,
    work_until_killed,
    count_everything,
    ping_pong,
    hold_and_close_descriptors,
    hold_and_fork,
    fail_to_join,
    forget_and_leave,
    join_and_stay,
    open_and_stay,
    race_for_name,
    send_and_stay,
    use_every_object,
    use_passed_namespace,
    use_passed_objects,
    stay_inside_call,
    store_continuously,
    wait_under_signals,
    wait_and_leave
);
