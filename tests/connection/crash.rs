//! The crash sweep of connections: each side is killed after every system call of connecting,
//! accepting, giving and taking, and after every change of the region that is handed over.

use std::mem::forget;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tombolo::connection::{Connection, Listener};
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::{Error, ErrorKind, RecvError};

use crate::sweep::{NAME, sweep};
use crate::{LONG, connect, with_key};

const MOMENT: Duration = Duration::from_millis(20);

fn socket(names: &Path) -> PathBuf {
    names.parent().unwrap().join("socket")
}

fn values(names: &Path) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(names)
}

/// A thread that repeats something until it succeeds, or is to stop because the victim is dead.
struct Repeating<R> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<R>,
}

impl<R: Send + 'static> Repeating<R> {
    fn start(mut attempt: impl FnMut(bool) -> Option<R> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_last = Arc::clone(&stop);
        let repeat = move || {
            loop {
                if let Some(outcome) = attempt(is_last.load(Ordering::SeqCst)) {
                    return outcome;
                }
            }
        };
        Self { stop, thread: thread::spawn(repeat) }
    }

    /// The victim is dead.
    fn finish(self) -> R {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

type Accepting = Repeating<(Listener, Option<Connection>)>;

/// Accepts the victim, and does something with its connection.
fn accept(names: &Path, mut then: impl FnMut(&mut Connection) + Send + 'static) -> Accepting {
    let mut listener = Some(with_key().listen(socket(names)).unwrap());
    Repeating::start(move |is_last| {
        let mut accepted = listener.as_mut().unwrap().accept_timeout(MOMENT).ok();
        if let Some(connection) = &mut accepted {
            then(connection);
        }
        (is_last || accepted.is_some()).then(|| (listener.take().unwrap(), accepted))
    })
}

/// Another client is accepted, and nothing of the dead one is in the way.
fn assert_usable(listener: &mut Listener) {
    let [mut one, mut other] = connect(listener, &with_key());
    one.send("usable").unwrap();
    assert_eq!(other.recv(&mut Vec::new()), Ok(6));
}

#[test]
fn client_killed_at_each_step_listener_goes_on() {
    let swept = sweep(
        |names| accept(names, |_| {}),
        |names| {
            let path = socket(names);
            move || forget(with_key().connect(path).unwrap())
        },
        |_, accepting| {
            let (mut listener, accepted) = accepting.finish();
            if let Some(mut connection) = accepted {
                assert_eq!(connection.recv_timeout(&mut Vec::new(), LONG), Err(RecvError::PeerDied));
                assert_eq!(connection.take::<Sender<u64>>().unwrap_err().kind(), ErrorKind::Disconnected);
            }
            assert_usable(&mut listener);
        },
    );
    swept.covers(20, 0);
}

#[test]
fn listener_killed_at_each_step_client_gets_an_error_and_successor_begins() {
    let swept = sweep(
        |names| {
            let path = socket(names);
            let outcome = move |is_last: bool| match with_key().timeout(LONG).connect(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound && !is_last => None,
                outcome => Some(outcome),
            };
            Repeating::<Result<Connection, Error>>::start(outcome)
        },
        |names| {
            let path = socket(names);
            move || {
                let mut listener = with_key().listen(path).unwrap();
                forget(listener.accept().unwrap());
                forget(listener);
            }
        },
        |names, connecting| {
            match connecting.finish() {
                Ok(mut connection) => {
                    assert_eq!(connection.recv_timeout(&mut Vec::new(), LONG), Err(RecvError::PeerDied));
                }
                Err(error) => {
                    assert!([ErrorKind::NotFound, ErrorKind::Disconnected].contains(&error.kind()), "{error}");
                }
            }
            assert_usable(&mut with_key().listen(socket(names)).unwrap());
        },
    );
    swept.covers(30, 0);
}

/// What a value carries in the sweeps: two ends of named pipes, and plain data.
type Given = (Sender<u64>, String, Vec<Sender<u64>>);

const SECOND: &str = "second";

fn given(names: &Path) -> Given {
    let [tx, second] = [NAME, SECOND].map(|name| values(names).sender(name).unwrap());
    (tx, "text".into(), vec![second])
}

/// Another sender takes the place of the dead one, sends a message and leaves.
fn succeed(names: &Path, mut rx: Receiver<u64>) {
    let mut tx = values(names).sender(NAME).unwrap();
    tx.send(99).unwrap();
    drop(tx);
    let heard: Vec<_> = (0..9).map(|_| rx.recv()).take_while(|heard| *heard != Err(RecvError::Closed)).collect();
    assert!(matches!(heard[..], [Ok(99)] | [Err(RecvError::PeerDied), Ok(99)]), "{heard:?}");
}

#[test]
fn giver_killed_at_each_step_other_side_has_it_or_peer_reports_death() {
    let taken = std::cell::Cell::new([0; 2]);
    let swept = sweep(
        |names| (accept(names, |_| {}), values(names).receiver(NAME).unwrap()),
        |names| {
            let mut connection = with_key().connect(socket(names)).unwrap();
            let tx = values(names).sender(NAME).unwrap();
            move || {
                connection.give(tx).unwrap();
                forget(connection);
            }
        },
        |names, (accepting, mut rx)| {
            let (_listener, accepted) = accepting.finish();
            let mut counts = taken.get();
            match accepted.unwrap().take::<Sender<u64>>() {
                Ok(mut tx) => {
                    counts[0] += 1;
                    tx.send(1).unwrap();
                    drop(tx);
                    assert_eq!([rx.recv(), rx.recv()], [Ok(1), Err(RecvError::Closed)]);
                }
                Err(error) => {
                    counts[1] += 1;
                    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
                    succeed(names, rx);
                }
            }
            taken.set(counts);
        },
    );
    swept.covers(5, 2);
    assert!(swept.calls == usize::MAX || taken.get().iter().all(|&count| count >= 2), "{:?}", taken.get());
}

#[test]
fn taker_killed_at_each_step_peer_reports_death() {
    let swept = sweep(
        |names| {
            let rx = values(names).receiver(NAME).unwrap();
            let mut tx = Some(values(names).sender(NAME).unwrap());
            (accept(names, move |connection| connection.give(tx.take().unwrap()).unwrap()), rx)
        },
        |names| {
            let mut connection = with_key().connect(socket(names)).unwrap();
            // It has come before the first step, so that each run makes the same steps.
            connection.rx.poll(MOMENT).unwrap();
            move || {
                forget(connection.take::<Sender<u64>>().unwrap());
                forget(connection);
            }
        },
        |names, (accepting, mut rx)| {
            let (_listener, accepted) = accepting.finish();
            // The connection is the survivor's, and holds nothing of what was given through it.
            let _connection = accepted.unwrap();
            assert_eq!(rx.recv(), Err(RecvError::PeerDied));
            succeed(names, rx);
        },
    );
    swept.covers(8, 3);
}

#[test]
fn giver_of_a_value_killed_at_each_step_other_side_has_it_whole_or_peers_report_death() {
    let taken = std::cell::Cell::new([0; 2]);
    let swept = sweep(
        |names| (accept(names, |_| {}), [NAME, SECOND].map(|name| values(names).receiver(name).unwrap())),
        |names| {
            let mut connection = with_key().connect(socket(names)).unwrap();
            let value = given(names);
            move || {
                connection.give_object(value).unwrap();
                forget(connection);
            }
        },
        |_, (accepting, receivers)| {
            let (_listener, accepted) = accepting.finish();
            let mut counts = taken.get();
            match accepted.unwrap().take_object::<Given>() {
                Ok((tx, text, second)) => {
                    counts[0] += 1;
                    assert_eq!(text, "text");
                    for (mut tx, mut rx) in [tx].into_iter().chain(second).zip(receivers) {
                        tx.send(1).unwrap();
                        drop(tx);
                        assert_eq!([rx.recv(), rx.recv()], [Ok(1), Err(RecvError::Closed)]);
                    }
                }
                Err(error) => {
                    counts[1] += 1;
                    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                    for mut rx in receivers {
                        assert_eq!(rx.recv(), Err(RecvError::PeerDied));
                    }
                }
            }
            taken.set(counts);
        },
    );
    swept.covers(12, 2);
    assert!(swept.calls == usize::MAX || taken.get().iter().all(|&count| count >= 2), "{:?}", taken.get());
}

#[test]
fn taker_of_a_value_killed_at_each_step_peers_report_death() {
    let swept = sweep(
        |names| {
            let receivers = [NAME, SECOND].map(|name| values(names).receiver(name).unwrap());
            let mut value = Some(given(names));
            (accept(names, move |connection| connection.give_object(value.take().unwrap()).unwrap()), receivers)
        },
        |names| {
            let mut connection = with_key().connect(socket(names)).unwrap();
            // It has come before the first step, so that each run makes the same steps.
            connection.rx.poll(MOMENT).unwrap();
            move || {
                forget(connection.take_object::<Given>().unwrap());
                forget(connection);
            }
        },
        |_, (accepting, receivers)| {
            let (_listener, accepted) = accepting.finish();
            let _connection = accepted.unwrap();
            for mut rx in receivers {
                assert_eq!(rx.recv(), Err(RecvError::PeerDied));
            }
        },
    );
    swept.covers(20, 3);
}
