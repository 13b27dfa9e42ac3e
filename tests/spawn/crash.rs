//! The crash sweep of transfers: an endpoint is passed on, taken back and taken by another process,
//! and each of these is killed after every step. The others report a death or have the endpoint,
//! and the next process can take its place.

use std::cell::Cell;
use std::mem::forget;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tombolo::pipe::{self, Receiver, Sender};
use tombolo::queue;
use tombolo::spawn::CommandExt;
use tombolo::{Endpoint, ErrorKind, RecvError};

use crate::sweep::{NAME, sweep, sweep_stopping};

const SHORT: Duration = Duration::from_millis(50);

fn values(names: &Path) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(names)
}

fn jobs(names: &Path) -> queue::Options<u64> {
    queue::Options::new().capacity(2).max_participants(2).directory(names)
}

fn copy(descriptor: &OwnedFd) -> OwnedFd {
    descriptor.try_clone().unwrap()
}

/// Another sender takes the place of the dead one, sends a message and leaves.
fn succeed(names: &Path, mut rx: Receiver<u64>) {
    let mut tx = values(names).sender(NAME).unwrap();
    tx.send(99).unwrap();
    drop(tx);
    let heard: Vec<_> = (0..9).map(|_| rx.recv()).take_while(|heard| *heard != Err(RecvError::Closed)).collect();
    assert!(matches!(heard[..], [Ok(99)] | [Err(RecvError::PeerDied), Ok(99)]), "{heard:?}");
}

fn succeed_in_queue(names: &Path, mut rx: queue::Receiver<u64>) {
    let mut tx = jobs(names).sender(NAME).unwrap();
    tx.send(99).unwrap();
    drop(tx);
    assert_eq!((rx.recv(), rx.recv()), (Ok(99), Err(RecvError::Closed)));
}

/// The steps T1 to T4 of docs/failure.md.
#[test]
fn into_fd_killed_at_each_step_peer_reports_death() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let tx = values(names).sender(NAME).unwrap();
            move || forget(tx.into_fd().unwrap())
        },
        |names, mut rx| {
            assert_eq!(rx.recv(), Err(RecvError::PeerDied));
            succeed(names, rx);
        },
    );
    swept.covers(4, 3);
}

/// As above, but the process is stopped: at no step is its endpoint free.
#[test]
fn into_fd_stopped_at_each_step_endpoint_is_in_use() {
    let swept = sweep_stopping(
        |names| Cell::new(Some(values(names).receiver(NAME).unwrap())),
        |names| {
            let tx = values(names).sender(NAME).unwrap();
            move || forget(tx.into_fd().unwrap())
        },
        |names, rx| {
            let mut heard = rx.take().unwrap();
            assert_eq!(heard.recv_timeout(SHORT), Err(RecvError::TimedOut));
            assert!(matches!(values(names).sender(NAME).unwrap_err().kind(), ErrorKind::EndpointInUse { .. }));
            rx.set(Some(heard));
        },
        |names, rx| {
            let mut rx = rx.take().unwrap();
            assert_eq!(rx.recv(), Err(RecvError::PeerDied), "it was killed in the end");
            succeed(names, rx);
        },
    );
    swept.covers(4, 3);
}

/// The steps T1 to T4, then L1 to L6, because no child is spawned and the endpoint is taken back.
#[test]
fn spawn_not_started_killed_at_each_step_endpoint_is_free() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let tx = values(names).sender(NAME).unwrap();
            move || drop(Command::new("nothing").pass("end", tx).unwrap())
        },
        |names, mut rx| {
            let end = rx.recv().unwrap_err();
            assert!([RecvError::Closed, RecvError::PeerDied].contains(&end), "{end}");
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send(1).unwrap();
            assert_eq!(rx.recv(), Ok(1));
        },
    );
    swept.covers(8, 8);
}

/// The steps A1 to A4. The survivor has a copy of the descriptor that the victim was taking.
#[test]
fn from_fd_of_pipe_killed_at_each_step_copy_is_taken_or_refused() {
    let (in_transit, taken) = (Cell::new(0), Cell::new(0));
    let swept = sweep(
        |names| {
            let rx = values(names).receiver(NAME).unwrap();
            (rx, OwnFd::keep(values(names).sender(NAME).unwrap().into_fd().unwrap()))
        },
        |names| {
            let (options, descriptor) = (values(names), OwnFd::take());
            move || forget(options.from_fd::<Sender<u64>>(descriptor).unwrap())
        },
        |names, (mut rx, kept)| match values(names).from_fd::<Sender<u64>>(copy(&kept.0)) {
            Ok(mut tx) => {
                in_transit.set(in_transit.get() + 1);
                tx.send(1).unwrap();
                drop(tx);
                assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Closed)));
            }
            Err(error) => {
                taken.set(taken.get() + 1);
                assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
                assert_eq!(rx.recv(), Err(RecvError::PeerDied), "whatever copies there are");
                succeed(names, rx);
            }
        },
    );
    swept.covers(8, 3);
    assert!(swept.calls == usize::MAX || in_transit.get() >= 8 && taken.get() >= 3);
}

/// The same for a queue. The next process that joins repairs.
#[test]
fn from_fd_of_queue_killed_at_each_step_copy_is_taken_or_refused() {
    let swept = sweep(
        |names| {
            let rx = jobs(names).receiver(NAME).unwrap();
            (rx, OwnFd::keep(jobs(names).sender(NAME).unwrap().into_fd().unwrap()))
        },
        |names| {
            let (options, descriptor) = (jobs(names), OwnFd::take());
            move || forget(options.from_fd::<queue::Sender<u64>>(descriptor).unwrap())
        },
        |names, (mut rx, kept)| {
            match jobs(names).from_fd::<queue::Sender<u64>>(copy(&kept.0)) {
                Ok(tx) => drop(tx),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
                    assert_eq!(rx.recv(), Err(RecvError::PeerDied), "whatever copies there are");
                }
            }
            succeed_in_queue(names, rx);
        },
    );
    swept.covers(8, 3);
}

/// Two processes take one endpoint: one is stopped at each step, the other takes it or is refused,
/// and one of them has it in the end.
#[test]
fn from_fd_stopped_at_each_step_one_of_two_takes_the_endpoint() {
    let swept = sweep_stopping(
        |names| {
            let rx = values(names).receiver(NAME).unwrap();
            (rx, OwnFd::keep(values(names).sender(NAME).unwrap().into_fd().unwrap()), Cell::new(None))
        },
        |names| {
            let (options, descriptor) = (values(names), OwnFd::take());
            move || {
                if let Ok(mut tx) = options.from_fd::<Sender<u64>>(descriptor) {
                    tx.send(1).unwrap();
                    forget(tx);
                }
            }
        },
        |names, (_, kept, ours)| ours.set(values(names).from_fd::<Sender<u64>>(copy(&kept.0)).ok()),
        |_, (mut rx, kept, ours)| match ours.take() {
            Some(mut tx) => {
                tx.send(2).unwrap();
                drop(tx);
                assert_eq!((rx.recv(), rx.recv()), (Ok(2), Err(RecvError::Closed)), "it was refused");
            }
            // We were refused, or the victim has not got so far and was killed before the end.
            None => {
                drop((kept, KEPT.take()));
                match rx.recv() {
                    Ok(1) => assert_eq!(rx.recv(), Err(RecvError::PeerDied)),
                    heard => assert_eq!(heard, Err(RecvError::PeerDied)),
                }
            }
        },
    );
    swept.covers(8, 3);
}

/// A descriptor; the victim finds a copy of it in [`KEPT`].
struct OwnFd(OwnedFd);

thread_local!(static KEPT: Cell<Option<OwnedFd>> = const { Cell::new(None) });

impl OwnFd {
    fn keep(descriptor: OwnedFd) -> Self {
        KEPT.set(Some(copy(&descriptor)));
        Self(descriptor)
    }

    fn take() -> OwnedFd {
        KEPT.take().unwrap()
    }
}
