//! The crash sweep of pipes.

use std::mem::forget;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::support;
use crate::sweep::{NAME, sweep};
use tombolo::pipe::{self, ByteReceiver, ByteSender, Pipe, Receiver, Sender};
use tombolo::{Directory, Endpoint, OnStale, RecvError, SendError};

type Value = [u64; 3];

const FAREWELL: Value = [99; 3];

fn values(names: &Path) -> pipe::Options<Value> {
    pipe::Options::new().capacity(4).directory(names)
}

/// A ring of 16 words: messages of up to 56 bytes in one record, longer ones in fragments of 16.
fn bytes(names: &Path) -> pipe::Options<[u8]> {
    pipe::Options::bytes().capacity_bytes(128).max_message_bytes(4096).directory(names)
}

// ---- what survivors and successors do --------------------------------------------------------------------------------

/// The next message, and how many ends of predecessors were returned before it.
fn hear(rx: &mut Receiver<Value>) -> (Value, usize) {
    let mut ends = 0;
    loop {
        match rx.recv() {
            Ok(value) => return (value, ends),
            Err(RecvError::PeerDied | RecvError::Closed) => ends += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A successor of the dead sender joins, sends a message and leaves. The survivor gets the message
/// and, unless it was told before, the end of the predecessor.
fn succeed_sender(names: &Path, mut rx: Receiver<Value>, ends_heard: usize) {
    let mut tx = values(names).sender(NAME).unwrap();
    tx.send(FAREWELL).unwrap();
    drop(tx);
    let (value, ends) = hear(&mut rx);
    assert_eq!(value, FAREWELL);
    assert!(ends + ends_heard <= 1, "one predecessor ended {ends} + {ends_heard} times");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

fn succeed_sender_of_bytes(names: &Path, mut rx: ByteReceiver) {
    let mut tx = bytes(names).sender(NAME).unwrap();
    tx.send(b"successor").unwrap();
    drop(tx);
    let mut message = Vec::new();
    rx.recv(&mut message).unwrap();
    assert_eq!(message, b"successor");
    assert_eq!(rx.recv(&mut message), Err(RecvError::Closed));
}

/// The sender sends numbers from `next` on until it is told that the receiver is gone. A new
/// receiver gets all of them once, starting at one of `first`: the dead receiver may have taken
/// those before.
fn succeed_receiver(names: &Path, mut tx: Sender<Value>, first: RangeInclusive<u64>, mut next: u64, end: &[SendError]) {
    let error = loop {
        match tx.send_timeout([next; 3], Duration::from_millis(50)) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(end.contains(&error), "{error}");
    let mut rx = values(names).receiver(NAME).unwrap();
    drop(tx);
    let received: Vec<_> = rx.iter().map(Result::unwrap).collect();
    let begun = received.first().map_or(next, |value| value[0]);
    assert!(first.contains(&begun), "{begun} comes first");
    assert!(received.iter().copied().eq((begun..next).map(|number| [number; 3])), "{received:?} up to {next}");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

/// A new receiver gets the message, unless the dead one may have taken it, and all that is sent
/// later.
fn succeed_receiver_of_bytes(names: &Path, mut tx: ByteSender, message: &[u8]) {
    let mut rx = bytes(names).receiver(NAME).unwrap();
    tx.send(b"more").unwrap();
    drop(tx);
    let messages = rx.iter().filter(|message| *message != Err(RecvError::MessageLost));
    let received: Vec<_> = messages.map(Result::unwrap).collect();
    assert!(received == [message, b"more"] || received == [b"more"], "{received:?}");
    assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
}

/// Two processes that know nothing of the crash open the name, and it works. A message of an
/// earlier sender may come first.
fn start_over(names: &Path, earlier: Option<Value>) {
    let mut rx = values(names).receiver(NAME).unwrap();
    let mut tx = values(names).sender(NAME).unwrap();
    tx.send(FAREWELL).unwrap();
    let (mut value, _) = hear(&mut rx);
    if Some(value) == earlier {
        value = hear(&mut rx).0;
    }
    assert_eq!(value, FAREWELL);
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

/// Leaves a region with one message whose only participant has died.
fn abandon(names: &Path) {
    let mut tx = values(names).sender(NAME).unwrap();
    tx.send([1; 3]).unwrap();
    drop(tx.into_fd().unwrap()); // a descriptor that nobody takes counts as dead
}

/// Moves both sides of the byte ring to four words before its end.
fn approach_the_end(tx: &mut ByteSender, rx: &mut ByteReceiver) {
    let mut message = Vec::new();
    for number in 0..3 {
        tx.send(support::message(number, 24)).unwrap();
        rx.recv(&mut message).unwrap();
    }
}

// ---- the sweeps ------------------------------------------------------------------------------------------------------

/// raw/spsc/mod.rs: before and after the store of tail.
#[test]
fn sender_killed_sending_value_arrives_or_not() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send([1; 3]).unwrap();
            move || {
                tx.send([2; 3]).unwrap();
                forget(tx);
            }
        },
        |names, mut rx| {
            let received: Vec<_> = rx.iter().map_while(Result::ok).collect();
            assert!(received == [[1; 3]] || received == [[1; 3], [2; 3]], "{received:?}");
            assert_eq!(rx.recv(), Err(RecvError::PeerDied));
            succeed_sender(names, rx, 1);
        },
    );
    swept.covers(0, 4);
    assert!(swept.calls == 0 || swept.calls == usize::MAX, "a system call, though there was room");
}

/// raw/spsc/record_ring.rs I2: padding, header and payload are published together. A message in
/// fragments is received completely or not at all.
#[test]
fn sender_killed_sending_bytes_arrive_or_not() {
    for (across_wrap, length, changes) in [(true, 48, 9), (false, 60, 2 + 4 * 3)] {
        let sent = support::message(1, length);
        let swept = sweep(
            |names| {
                let mut rx = bytes(names).receiver(NAME).unwrap();
                if across_wrap {
                    let mut tx = bytes(names).sender(NAME).unwrap();
                    approach_the_end(&mut tx, &mut rx);
                    drop(tx);
                    assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
                }
                rx
            },
            |names| {
                let mut tx = bytes(names).sender(NAME).unwrap();
                let sent = sent.clone();
                move || {
                    tx.send(&sent).unwrap();
                    forget(tx);
                }
            },
            |names, mut rx| {
                let received: Vec<_> = rx.iter().map_while(Result::ok).collect();
                assert!(received.is_empty() || received == [&sent[..]], "{received:?}");
                assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::PeerDied));
                succeed_sender_of_bytes(names, rx);
            },
        );
        swept.covers(0, changes);
    }
}

/// raw/spsc/mod.rs: before and after the store of head.
#[test]
fn receiver_killed_receiving_value_successor_gets_the_rest() {
    let swept = sweep(
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            assert_eq!(tx.send_many(&[[1; 3], [2; 3]]), Ok(2));
            tx
        },
        |names| {
            let mut rx = values(names).receiver(NAME).unwrap();
            move || {
                assert_eq!(rx.recv(), Ok([1; 3]));
                forget(rx);
            }
        },
        |names, tx| succeed_receiver(names, tx, 1..=2, 3, &[SendError::PeerDied]),
    );
    swept.covers(0, 1);
}

/// raw/spsc/mod.rs and raw/spsc/record_ring.rs: padding is released on its own, and so is each
/// fragment of a message.
#[test]
fn receiver_killed_receiving_bytes_successor_gets_the_rest() {
    for (across_wrap, length, changes) in [(true, 48, 2), (false, 60, 5)] {
        let sent = support::message(1, length);
        let swept = sweep(
            |names| {
                let mut rx = across_wrap.then(|| bytes(names).receiver(NAME).unwrap());
                let mut tx = bytes(names).sender(NAME).unwrap();
                if let Some(rx) = &mut rx {
                    approach_the_end(&mut tx, rx);
                }
                tx.send(&sent).unwrap();
                tx
            },
            |names| {
                let mut rx = bytes(names).receiver(NAME).unwrap();
                move || {
                    assert_eq!(rx.recv(&mut Vec::with_capacity(64)), Ok(length));
                    forget(rx);
                }
            },
            |names, tx| succeed_receiver_of_bytes(names, tx, &sent),
        );
        swept.covers(0, changes);
    }
}

/// region/participant.rs J1 to J5, raw/owner.rs.
#[test]
fn sender_killed_joining_is_reported_once() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let options = values(names);
            move || forget(options.sender(NAME).unwrap())
        },
        |names, mut rx| {
            // Before J4 nobody has joined; from J4 on a participant has died.
            let end = rx.recv_timeout(Duration::from_millis(50)).unwrap_err();
            assert!([RecvError::TimedOut, RecvError::PeerDied].contains(&end), "{end}");
            succeed_sender(names, rx, usize::from(end == RecvError::PeerDied));
        },
    );
    swept.covers(8, 6);
}

/// region/participant.rs J1 to J5, raw/owner.rs, raw/event_count.rs.
#[test]
fn receiver_killed_joining_is_reported_once() {
    let swept = sweep(
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send([1; 3]).unwrap();
            tx
        },
        |names| {
            let options = values(names);
            move || forget(options.receiver(NAME).unwrap())
        },
        |names, tx| succeed_receiver(names, tx, 1..=1, 2, &[SendError::TimedOut, SendError::PeerDied]),
    );
    swept.covers(8, 6);
}

/// region/mod.rs: no process ever sees an unfinished region.
#[test]
fn region_creator_killed_name_works_again() {
    let swept = sweep(
        |_| (),
        |names| {
            let options = values(names);
            move || forget(options.sender(NAME).unwrap())
        },
        |names, ()| start_over(names, None),
    );
    swept.covers(12, 0);
}

/// pipe/mod.rs: a stale region is removed and created again.
#[test]
fn region_replacer_killed_name_works_again() {
    let swept = sweep(
        abandon,
        |names| {
            let options = values(names).on_stale(OnStale::Recreate);
            move || forget(options.sender(NAME).unwrap())
        },
        |names, ()| start_over(names, Some([1; 3])),
    );
    swept.covers(20, 1);
}

/// region/participant.rs L4, L5.
#[test]
fn region_remover_killed_name_works_again() {
    let swept = sweep(
        abandon,
        |names| {
            let directory = Directory::at(names);
            move || directory.unlink(NAME, false).unwrap()
        },
        |names, ()| start_over(names, Some([1; 3])),
    );
    swept.covers(8, 1);
}

/// region/participant.rs L1 to L3, L6.
#[test]
fn sender_killed_leaving_is_reported_once() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send([1; 3]).unwrap();
            move || drop(tx)
        },
        |names, mut rx| {
            assert_eq!(rx.recv(), Ok([1; 3]));
            let end = rx.recv().unwrap_err();
            assert!([RecvError::Closed, RecvError::PeerDied].contains(&end), "{end}");
            succeed_sender(names, rx, 1);
        },
    );
    swept.covers(5, 3);
}

/// region/participant.rs L1 to L3, L6.
#[test]
fn receiver_killed_leaving_is_reported_once() {
    let swept = sweep(
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send([1; 3]).unwrap();
            tx
        },
        |names| {
            let rx = values(names).receiver(NAME).unwrap();
            move || drop(rx)
        },
        |names, tx| succeed_receiver(names, tx, 1..=1, 2, &[SendError::Closed, SendError::PeerDied]),
    );
    swept.covers(5, 3);
}

/// region/participant.rs L1 to L6.
#[test]
fn region_last_participant_killed_leaving_name_works_again() {
    let swept = sweep(
        |_| (),
        |names| {
            let tx = values(names).sender(NAME).unwrap();
            move || drop(tx)
        },
        |names, ()| start_over(names, None),
    );
    swept.covers(8, 3);
}

/// All of these steps, for a duplex endpoint.
#[test]
fn pipe_duplex_endpoint_killed_anywhere_successor_works() {
    let swept = sweep(
        |names| {
            let mut ours: Pipe<Value> = values(names).open(NAME).unwrap();
            ours.send([1; 3]).unwrap();
            ours
        },
        |names| {
            let options = values(names);
            move || {
                let mut theirs = options.open(NAME).unwrap();
                theirs.send([2; 3]).unwrap();
                assert_eq!(theirs.recv(), Ok([1; 3]));
                drop(theirs);
            }
        },
        |names, mut ours| {
            let mut received = Vec::new();
            let end = loop {
                match ours.recv_timeout(Duration::from_millis(50)) {
                    Ok(value) => received.push(value),
                    Err(end) => break end,
                }
            };
            assert!(received.is_empty() || received == [[2; 3]], "{received:?}");
            assert!([RecvError::TimedOut, RecvError::PeerDied, RecvError::Closed].contains(&end), "{end}");
            let mut successor = values(names).open(NAME).unwrap();
            ours.send(FAREWELL).unwrap();
            let (first, _) = hear(&mut successor.rx);
            assert!(first == FAREWELL || first == [1; 3] && hear(&mut successor.rx).0 == FAREWELL);
            successor.send(FAREWELL).unwrap();
            assert_eq!(hear(&mut ours.rx).0, FAREWELL);
        },
    );
    swept.covers(20, 15);
}
