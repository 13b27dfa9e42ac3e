//! Tables of descriptors that are full, descriptors that something else closes, and what is left
//! after many connections.

use std::fs;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use rustix::net::{SendFlags, send};
use tombolo::connection::{Listener, Options};
use tombolo::pipe::{self, Sender};
use tombolo::{ErrorKind, RecvError, SendError};

use crate::refusals::{READY, raw_client, raw_hello};
use crate::support::{TestDir, start};
use crate::{LONG, SHORT, connect, descriptors, listeners, with_key};

/// Sets how many more descriptors this process can open.
pub fn leave_descriptors(count: usize) {
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| {
        let name = entry.unwrap().file_name();
        name.to_str().unwrap().parse::<usize>().unwrap()
    });
    let highest = open.max().unwrap();
    // Free numbers below the highest one count, too: fill them.
    while descriptors() - 1 <= highest {
        std::mem::forget(fs::File::open("/dev/null").unwrap());
    }
    let open = descriptors() - 1; // without the listing itself
    let limit = libc::rlimit { rlim_cur: (open + count) as u64, rlim_max: 4096 };
    // SAFETY: a struct that is read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

pub fn leave_enough_descriptors() {
    let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    // SAFETY: a struct that is read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// Connects when it is told to by the end of another connection, and says how it went.
pub fn connect_late(arguments: &[String]) {
    let mut connection = with_key().timeout(LONG).connect(&*arguments[0]).unwrap();
    connection.send("connected").unwrap();
    let _ = connection.recv(&mut Vec::new());
}

/// A listener without free descriptors: it gets errors, and no client is lost.
pub fn accept_with_full_table(_: &[String]) {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let before = descriptors();
        for free in 0..12 {
            let client = start("connect_late", &[&listener.address().to_string()]);
            // Until it has connected.
            thread::sleep(SHORT);
            leave_descriptors(free);
            let accepted = listener.accept_timeout(Duration::from_millis(200));
            leave_enough_descriptors();
            let mut connection = match accepted {
                Ok(connection) => connection,
                Err(error) => {
                    assert!([ErrorKind::Io, ErrorKind::TimedOut].contains(&error.kind()), "{free} left: {error}");
                    assert!(free > 0 || error.kind() == ErrorKind::Io, "{error}");
                    listener.accept_timeout(LONG).unwrap()
                }
            };
            assert_eq!(connection.recv(&mut Vec::new()), Ok(9), "{free} descriptors left");
            drop(connection);
            client.finish();
        }
        assert_eq!(listener.refused(), 0, "{:?}", listener.last_refusal());
        drop(listener);
        assert!(descriptors() >= before - 1);
    }
}

/// A client for which descriptors are short does not keep another one from being accepted, which
/// needs no more.
pub fn accept_one_while_short_for_another(_: &[String]) {
    let test_dir = TestDir::new();
    let hello = raw_hello(&test_dir);
    let path = test_dir.file("socket");
    let mut listener = Options::new().handshake_timeout(LONG).listen(&path).unwrap();
    let [short, ready] = [raw_client(&path), raw_client(&path)];
    send(&ready, &hello, SendFlags::NOSIGNAL).unwrap();
    assert_eq!(listener.accept_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    leave_descriptors(0);
    send(&short, &hello, SendFlags::NOSIGNAL).unwrap();
    assert_eq!(listener.accept_timeout(SHORT).unwrap_err().kind(), ErrorKind::Io);
    send(&ready, READY, SendFlags::NOSIGNAL).unwrap();
    listener.accept_timeout(LONG).unwrap();
    assert_eq!(listener.accept_timeout(SHORT).unwrap_err().kind(), ErrorKind::Io);
    leave_enough_descriptors();
    assert_eq!(listener.accept_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    send(&short, READY, SendFlags::NOSIGNAL).unwrap();
    listener.accept_timeout(LONG).unwrap();
    assert_eq!(listener.refused(), 0);
}

#[test]
fn listener_short_of_descriptors_accepts_clients_that_need_none() {
    start("accept_one_while_short_for_another", &[]).finish();
}

/// A process without free descriptors: what it takes stays there, what it gives stays its own.
pub fn take_with_full_table(_: &[String]) {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let mut failed = [0; 2];
    for free in 0..8 {
        let (tx, mut rx) = pipe::Options::<u64>::new().capacity(4).create().unwrap();
        leave_descriptors(free);
        let given = one.give(tx);
        leave_enough_descriptors();
        if let Err(error) = given {
            failed[0] += 1;
            assert_eq!(error.error().kind(), ErrorKind::Io, "{error}");
            assert!(error.to_string().contains("ulimit -n"), "{error}");
            one.give(error.into_returned()).unwrap();
        }
        leave_descriptors(free);
        let taken = other.take::<Sender<u64>>();
        leave_enough_descriptors();
        let mut tx = taken.unwrap_or_else(|error| {
            failed[1] += 1;
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(error.to_string().contains("ulimit -n"), "{error}");
            assert_eq!(rx.recv_timeout(Duration::from_millis(50)), Err(RecvError::TimedOut), "it lives");
            other.take().unwrap()
        });
        tx.send(7).unwrap();
        drop(tx);
        assert_eq!([rx.recv(), rx.recv()], [Ok(7), Err(RecvError::Closed)], "{free} descriptors left");
    }
    assert!(failed[0] >= 1 && failed[1] >= 2, "{failed:?}");
}

#[test]
fn listener_with_full_descriptor_table_loses_no_client() {
    start("accept_with_full_table", &[]).finish();
}

#[test]
fn handover_with_full_descriptor_table_loses_nothing() {
    start("take_with_full_table", &[]).finish();
}

/// The sockets of this process.
fn sockets() -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let is_socket = fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        if is_socket {
            found.push(entry.file_name().to_str().unwrap().parse().unwrap());
        }
    }
    found
}

/// Something closes all sockets of this process, and opens other files under their numbers.
fn close_sockets() {
    let null = fs::File::open("/dev/null").unwrap();
    for socket in sockets() {
        // SAFETY: the numbers are owned by objects that must notice this.
        assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), socket) }, socket);
    }
}

pub fn work_with_closed_descriptors(_: &[String]) {
    let test_dir = TestDir::new();
    let [mut unix, mut tcp] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut unix, &with_key());
    let [mut near, mut far] = connect(&mut tcp, &with_key());
    close_sockets();
    // Messages through memory need no socket.
    one.send("in memory").unwrap();
    assert_eq!(other.recv(&mut Vec::new()), Ok(9));
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let error = one.give(tx).unwrap_err();
    assert_eq!(error.error().kind(), ErrorKind::Io, "{error}");
    error.into_returned().send(7).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    for error in [
        other.take::<Sender<u64>>().unwrap_err(),
        other.take_timeout::<Sender<u64>>(LONG).unwrap_err(),
        unix.accept().unwrap_err(),
        tcp.accept_timeout(LONG).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("closes descriptors"), "{error}");
    }
    assert_eq!(near.send("x"), Err(SendError::Closed));
    assert_eq!(far.recv(&mut Vec::new()), Err(RecvError::Closed));
    assert_eq!(far.poll(LONG), Ok(true));
    let before = descriptors();
    drop((one, other, near, far, unix, tcp));
    assert_eq!(sockets(), [0; 0]);
    // What has the numbers now is not closed: only the regions are.
    assert!(descriptors() < before);
    assert!(
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .any(|entry| { fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy() == "/dev/null") })
    );
}

#[test]
fn connection_whose_descriptors_were_closed_returns_errors() {
    start("work_with_closed_descriptors", &[]).finish();
}

const CYCLES: usize = 1000;

/// Connects, exchanges a message and an endpoint, and disconnects, many times.
pub fn connect_many_times(_: &[String]) {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let address = listener.address().clone();
        let mut before = None;
        let client = thread::spawn(move || {
            for _ in 0..=CYCLES {
                let mut connection = with_key().timeout(LONG).connect(&address).unwrap();
                if connection.is_shared_memory() {
                    connection.take::<Sender<u64>>().unwrap().send(7).unwrap();
                }
                connection.send("x").unwrap();
                assert_eq!(connection.recv(&mut Vec::new()), Err(RecvError::Closed));
            }
        });
        for _ in 0..=CYCLES {
            let mut connection = listener.accept_timeout(LONG).unwrap();
            if connection.is_shared_memory() {
                let (tx, mut rx) = pipe::Options::<u64>::new().capacity(2).create().unwrap();
                connection.give(tx).unwrap();
                assert_eq!(rx.recv(), Ok(7));
            }
            assert_eq!(connection.recv(&mut Vec::new()), Ok(1));
            drop(connection);
            // The client may be closing the one before, and opening the next one.
            before.get_or_insert_with(descriptors);
        }
        client.join().unwrap();
        let _ = listener.accept_timeout(Duration::from_millis(20));
        assert!(descriptors() <= before.unwrap(), "{} of {before:?}", descriptors());
        assert_eq!(listener.refused(), 0, "{:?}", listener.last_refusal());
        drop(listener);
    }
    assert_eq!(memfds(), 0);
}

fn memfds() -> usize {
    let mappings = fs::read_to_string("/proc/self/maps").unwrap();
    mappings.lines().filter(|line| line.contains("memfd:tombolo")).count()
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    start("connect_many_times", &[]).finish();
}

#[test]
fn listener_dropped_in_the_middle_of_handshakes_ends_them() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let mut listener: Listener = with_key().listen(&path).unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || with_key().timeout(LONG).connect(&path))
        })
        .collect();
    thread::sleep(SHORT);
    // Accepts one of them, and has begun with the others.
    let mut connection = listener.accept_timeout(LONG).unwrap();
    drop(listener);
    connection.send("accepted").unwrap();
    let mut accepted = 0;
    for thread in waiting {
        match thread.join().unwrap() {
            // One that was welcomed, and whose answer came too late, learns it from the connection.
            Ok(mut client) => match client.recv_timeout(&mut Vec::new(), LONG) {
                Ok(_) => accepted += 1,
                Err(error) => assert!(matches!(error, RecvError::Closed | RecvError::PeerDied), "{error}"),
            },
            // One that began late finds no listener.
            Err(error) => {
                assert!([ErrorKind::Disconnected, ErrorKind::NotFound].contains(&error.kind()), "{error}");
            }
        }
    }
    assert_eq!(accepted, 1);
}
