//! Listeners and clients: connections, what is handed over through them, and what happens when a
//! side is refused, cut off or killed.

#[path = "../support/mod.rs"]
mod support;
#[cfg(target_arch = "x86_64")]
#[path = "../support/sweep.rs"]
mod sweep;

mod addresses;
#[cfg(target_arch = "x86_64")]
mod crash;
mod cut;
mod limits;
mod messages;
mod object;
mod refusals;
mod transfer;

use std::thread;
use std::time::Duration;

use tombolo::Error;
use tombolo::connection::{Address, Connection, Listener, Options};

use addresses::listen_and_wait;
use cut::{cut_each_handshake, send_packets_that_give_nothing};
use limits::{
    accept_one_while_short_for_another, accept_with_full_table, connect_late, connect_many_times, take_with_full_table,
    work_with_closed_descriptors,
};
use messages::{echo, send_and_exit, send_and_wait};
use object::{
    give_many_at_once, give_object_and_wait, send_packets_that_are_no_values, take_object_and_wait,
    take_object_with_full_table, take_objects_and_answer,
};
use refusals::connect_as_nobody;
use support::{TestDir, child_roles};
use transfer::{give_locked_namespace, give_queue_and_wait, take_and_answer, take_and_wait};

child_roles![
    accept_one_while_short_for_another,
    accept_with_full_table,
    connect_as_nobody,
    connect_late,
    connect_many_times,
    cut_each_handshake,
    echo,
    give_locked_namespace,
    give_many_at_once,
    give_object_and_wait,
    give_queue_and_wait,
    listen_and_wait,
    send_and_exit,
    send_and_wait,
    send_packets_that_are_no_values,
    send_packets_that_give_nothing,
    take_and_answer,
    take_and_wait,
    take_object_and_wait,
    take_object_with_full_table,
    take_objects_and_answer,
    take_with_full_table,
    work_with_closed_descriptors,
];

const KEY: &str = "a key of these tests";
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);

/// A listener at a path in the directory, and one at a free port.
fn listeners(test_dir: &TestDir) -> [Listener; 2] {
    [with_key().listen(test_dir.file("socket")).unwrap(), with_key().listen("127.0.0.1:0").unwrap()]
}

fn with_key() -> Options {
    Options::new().key(KEY)
}

/// Connects in another thread. Returns the listener's side and the client's.
fn connect(listener: &mut Listener, options: &Options) -> [Connection; 2] {
    let (address, options) = (listener.address().clone(), options.clone());
    let client = thread::spawn(move || options.connect(address));
    let accepted = listener.accept_timeout(LONG).unwrap();
    [accepted, client.join().unwrap().unwrap()]
}

/// Connects in another thread while the listener accepts. Returns the outcome of the client; the
/// listener must accept nothing.
fn connect_refused(listener: &mut Listener, address: impl Into<Address>, options: &Options) -> Error {
    let (address, options) = (address.into(), options.clone());
    let client = thread::spawn(move || options.connect(address));
    while !client.is_finished() {
        assert!(listener.accept_timeout(Duration::from_millis(10)).is_err());
    }
    client.join().unwrap().unwrap_err()
}

/// The descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
