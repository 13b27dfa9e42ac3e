//! The crash sweep of queues.

use std::cell::Cell;
use std::iter::from_fn;
use std::mem::forget;
use std::path::Path;
use std::time::Duration;

use crate::support;
use crate::sweep::{NAME, SweepCounts, kill_after_changes, sweep};
use tombolo::queue::{self, ByteQueue, JoinError, Queue};
use tombolo::{OnStale, RecvError, SendError};

type Value = [u64; 2];

const CAPACITY: usize = 4;

fn values(names: &Path) -> queue::Options<Value> {
    queue::Options::new().capacity(CAPACITY).max_participants(6).directory(names)
}

/// Up to 16 bytes in the slot, up to 64 in one of two blocks, longer ones in one extent.
fn bytes(names: &Path) -> queue::Options<[u8]> {
    queue::Options::bytes()
        .capacity(CAPACITY)
        .max_participants(6)
        .inline_bytes(16)
        .blocks(queue::Blocks { count: 2, bytes: 64 })
        .extents(1)
        .max_message_bytes(500)
        .directory(names)
}

/// Holds after every repair, once everything is received: no slot is quarantined, no block is
/// taken.
fn is_whole(stats: queue::Stats) {
    assert_eq!((stats.queued, stats.quarantined, stats.pooled), (0, 0, 0), "{stats:?}");
}

/// A newcomer repairs. Returns the messages that are left.
fn recover(names: &Path, survivor: &mut Queue<Value>) -> Vec<u64> {
    let newcomer = values(names).open(NAME).unwrap();
    let received = std::iter::from_fn(|| survivor.try_recv().ok()).map(|value| value[0]).collect();
    is_whole(survivor.stats());
    for round in 0..2 {
        for number in 0..CAPACITY as u64 {
            survivor.try_send([number; 2]).unwrap_or_else(|error| panic!("round {round}, {number}: {error}"));
        }
        assert!(survivor.try_send([0; 2]).is_err());
        for number in 0..CAPACITY as u64 {
            assert_eq!(survivor.try_recv(), Ok([number; 2]));
        }
    }
    drop(newcomer);
    received
}

fn recover_bytes(names: &Path, survivor: &mut ByteQueue) -> Vec<Vec<u8>> {
    let newcomer = bytes(names).open(NAME).unwrap();
    let mut message = Vec::new();
    let received = std::iter::from_fn(|| survivor.try_recv(&mut message).ok().map(|_| message.clone())).collect();
    is_whole(survivor.stats());
    for _ in 0..2 {
        let full = [support::message(1, 50), support::message(2, 64), support::message(3, 500), support::message(4, 3)];
        for message in &full {
            survivor.try_send(message).unwrap();
        }
        for expected in &full {
            survivor.try_recv(&mut message).unwrap();
            assert_eq!(&message, expected);
        }
    }
    drop(newcomer);
    received
}

/// The survivor, with messages 1 and 2 of these lengths.
fn with_messages(names: &Path, lengths: [usize; 2]) -> ByteQueue {
    let mut queue = bytes(names).open(NAME).unwrap();
    queue.send(support::message(1, lengths[0])).unwrap();
    queue.send(support::message(2, lengths[1])).unwrap();
    queue
}

/// raw/mpmc/mod.rs C1 to C4 of a sender.
#[test]
fn queue_sender_killed_sending_value_arrives_or_not() {
    let swept = sweep(
        |names| {
            let mut queue = values(names).open(NAME).unwrap();
            queue.send([1; 2]).unwrap();
            queue
        },
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            move || {
                tx.send([2; 2]).unwrap();
                forget(tx);
            }
        },
        |names, mut survivor| {
            let received = recover(names, &mut survivor);
            assert!(received == [1] || received == [1, 2], "{received:?}");
            assert_eq!(survivor.stats().lost, 0, "what was not sent is not lost");
        },
    );
    swept.covers(0, 6);
}

/// Counts the steps at which a message is counted as lost twice: while it was received, and as a
/// task. There is one, between the two stores that make it a task and release its slot.
#[derive(Default)]
struct CountedTwice(Cell<u64>);

impl CountedTwice {
    /// Whatever the survivor has not received is a lost task, and `join` says so.
    fn check(&self, survivor: &mut Queue<Value>, sent: u64, received: u64) {
        let stats = survivor.stats();
        let excess = received + stats.tasks_lost - sent;
        assert!(excess == 0 || excess == 1 && stats.lost > 0, "{received} of {sent} received, {stats:?}");
        self.0.set(self.0.get() + excess);
        while survivor.task_done().is_ok() {}
        let expected = if received == sent { Ok(()) } else { Err(JoinError::TasksLost { count: stats.tasks_lost }) };
        assert_eq!((survivor.join(), survivor.join()), (expected, Ok(())));
    }
}

fn with_three_messages(names: &Path) -> Queue<Value> {
    let mut queue = values(names).open(NAME).unwrap();
    assert_eq!(queue.send_many(&[[1; 2], [2; 2], [3; 2]]), Ok(3));
    queue
}

/// raw/mpmc/mod.rs C1 to C4 of a receiver.
#[test]
fn queue_receiver_killed_receiving_value_is_repaired() {
    let counted_twice = CountedTwice::default();
    let swept = sweep(
        with_three_messages,
        |names| {
            let mut rx = values(names).receiver(NAME).unwrap();
            move || {
                assert_eq!(rx.recv(), Ok([1; 2]));
                forget(rx);
            }
        },
        |names, mut survivor| {
            let received = recover(names, &mut survivor);
            let lost = survivor.stats().lost;
            // Neither lost nor received here: the dead receiver had it.
            assert!(received == [1, 2, 3] && lost == 0 || received == [2, 3] && lost <= 1, "{received:?}, {lost} lost");
            counted_twice.check(&mut survivor, 3, received.len() as u64);
        },
    );
    swept.covers(0, 5);
    assert!(counted_twice.0.get() <= 1);
}

/// queue/tasks.rs: the victim has two tasks when it begins to leave.
#[test]
fn queue_receiver_killed_leaving_with_tasks_each_is_counted_once() {
    let swept = sweep(
        with_three_messages,
        |names| {
            let mut rx = values(names).receiver(NAME).unwrap();
            assert_eq!((rx.recv(), rx.recv()), (Ok([1; 2]), Ok([2; 2])));
            move || drop(rx)
        },
        |names, mut survivor| {
            assert_eq!(recover(names, &mut survivor), [3]);
            assert_eq!((survivor.stats().tasks_lost, survivor.stats().lost), (2, 0));
            CountedTwice::default().check(&mut survivor, 3, 1);
        },
    );
    swept.covers(4, 7);
}

/// queue/tasks.rs: the victim repairs after a receiver that has died with two tasks. The next one
/// repairs, and so does one that finds the victim's own record.
#[test]
fn queue_repairer_killed_tasks_are_counted_once() {
    let swept = sweep(
        |names| {
            let queue = with_three_messages(names);
            kill_after_changes(names, usize::MAX, || {
                let mut rx = values(names).receiver(NAME).unwrap();
                move || {
                    assert_eq!(rx.recv_many(&mut [[0; 2]; 2]), Ok(2));
                    forget(rx);
                }
            });
            queue
        },
        |names| {
            let options = values(names);
            move || forget(options.sender(NAME).unwrap())
        },
        |names, mut survivor| {
            assert_eq!(recover(names, &mut survivor), [3]);
            CountedTwice::default().check(&mut survivor, 3, 1);
        },
    );
    swept.covers(8, 12);
}

/// raw/mpmc/mod.rs: each message of a batch is complete or absent.
#[test]
fn queue_participant_killed_in_batch_is_repaired() {
    let swept = sweep(
        |names| values(names).open(NAME).unwrap(),
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            let mut rx = values(names).receiver(NAME).unwrap();
            move || {
                assert_eq!(tx.send_many(&[[1; 2], [2; 2], [3; 2]]), Ok(3));
                assert_eq!(rx.recv_many(&mut [[0; 2]; 3]), Ok(3));
                forget((tx, rx));
            }
        },
        |names, mut survivor| {
            let received = recover(names, &mut survivor);
            let lost = survivor.stats().lost;
            assert!(received.is_sorted() && received.len() as u64 + lost <= 3, "{received:?}, {lost} lost");
        },
    );
    swept.covers(0, 20);
}

fn sending_bytes(length: usize) -> SweepCounts {
    let sent = support::message(2, length);
    sweep(
        |names| {
            let mut queue = bytes(names).open(NAME).unwrap();
            queue.send(support::message(1, 20)).unwrap();
            queue
        },
        |names| {
            let mut tx = bytes(names).sender(NAME).unwrap();
            let sent = sent.clone();
            move || {
                tx.send(&sent).unwrap();
                forget(tx);
            }
        },
        |names, mut survivor| {
            let received = recover_bytes(names, &mut survivor);
            assert_eq!(received[0], support::message(1, 20));
            assert!(received.len() == 1 || received[1..] == [&sent[..]], "{received:?}");
            assert_eq!(survivor.stats().lost, 0);
        },
    )
}

fn receiving_bytes(length: usize) -> SweepCounts {
    sweep(
        |names| with_messages(names, [length, 40]),
        |names| {
            let mut rx = bytes(names).receiver(NAME).unwrap();
            move || {
                assert_eq!(rx.recv(&mut Vec::with_capacity(512)), Ok(length));
                forget(rx);
            }
        },
        |names, mut survivor| {
            let received = recover_bytes(names, &mut survivor);
            let (lost, second) = (survivor.stats().lost, support::message(2, 40));
            let all = [support::message(1, length), second.clone()];
            assert!(received == all && lost == 0 || received == [second] && lost <= 1, "{received:?}, {lost} lost");
        },
    )
}

/// raw/pool.rs B1, B2. The shorter message is in a block, the longer one in an extent.
#[test]
fn queue_sender_killed_sending_bytes_frees_block_or_extent() {
    for (length, calls, changes) in [(60, 0, 15), (400, 1, 8)] {
        sending_bytes(length).covers(calls, changes);
    }
}

/// raw/pool.rs B3. The shorter message is in a block, the longer one in an extent.
#[test]
fn queue_receiver_killed_receiving_bytes_frees_block_or_extent() {
    for (length, calls, changes) in [(60, 0, 6), (400, 1, 6)] {
        receiving_bytes(length).covers(calls, changes);
    }
}

fn sender_in_place(names: &Path) -> queue::ZeroCopyByteSender {
    // SAFETY: the processes of a sweep use the region through the library only.
    unsafe { bytes(names).sender(NAME).unwrap().into_zero_copy().unwrap() }
}

fn receiver_in_place(names: &Path) -> queue::ZeroCopyByteReceiver {
    // SAFETY: as above.
    unsafe { bytes(names).receiver(NAME).unwrap().into_zero_copy().unwrap() }
}

/// raw/pool.rs B1, B2: the victim fills a block in place.
#[test]
fn queue_sender_killed_filling_block_in_place_frees_it() {
    let sent = support::message(2, 60);
    let swept = sweep(
        |names| {
            let mut queue = bytes(names).open(NAME).unwrap();
            queue.send(support::message(1, 20)).unwrap();
            queue
        },
        |names| {
            let (mut tx, sent) = (sender_in_place(names), sent.clone());
            move || {
                let mut frame = tx.loan(60).unwrap();
                frame.copy_from_slice(&sent);
                frame.send().unwrap();
                forget(tx);
            }
        },
        |names, mut survivor| {
            let received = recover_bytes(names, &mut survivor);
            assert_eq!(received[0], support::message(1, 20));
            assert!(received.len() == 1 || received[1..] == [&sent[..]], "{received:?}");
            assert_eq!(survivor.stats().lost, 0);
        },
    );
    swept.covers(0, 9);
}

/// raw/pool.rs B5, B6: the victim takes a block over, and frees it.
#[test]
fn queue_receiver_killed_reading_block_in_place_frees_it() {
    let swept = sweep(
        |names| with_messages(names, [60, 40]),
        |names| {
            let mut rx = receiver_in_place(names);
            move || {
                assert_eq!(rx.recv_frame().unwrap().len(), 60);
                forget(rx);
            }
        },
        |names, mut survivor| {
            let received = recover_bytes(names, &mut survivor);
            let (lost, second) = (survivor.stats().lost, support::message(2, 40));
            let all = [support::message(1, 60), second.clone()];
            assert!(received == all && lost == 0 || received == [second] && lost <= 1, "{received:?}, {lost} lost");
        },
    );
    swept.covers(0, 7);
}

/// queue/participant.rs L1 to L4: the victim leaves, and drops what it reads in place later.
#[test]
fn queue_receiver_killed_leaving_with_frame_block_is_freed() {
    let swept = sweep(
        |names| with_messages(names, [60, 40]),
        |names| {
            let mut rx = receiver_in_place(names);
            let frame = rx.recv_frame().unwrap();
            move || {
                drop(rx);
                drop(frame);
            }
        },
        |names, mut survivor| {
            assert_eq!(recover_bytes(names, &mut survivor), [support::message(2, 40)]);
            assert_eq!((survivor.stats().tasks_lost, survivor.stats().lost), (1, 0));
        },
    );
    swept.covers(4, 8);
}

/// raw/pool.rs B4: the victim repairs after a receiver that has died with a block. The next one
/// repairs, and so does one that finds the victim's own record.
#[test]
fn queue_repairer_killed_block_read_in_place_is_freed() {
    let swept = sweep(
        |names| {
            let queue = with_messages(names, [60, 40]);
            kill_after_changes(names, usize::MAX, || {
                let mut rx = receiver_in_place(names);
                move || {
                    let frame = rx.recv_frame().unwrap();
                    forget((frame, rx));
                }
            });
            queue
        },
        |names| {
            let options = bytes(names);
            move || forget(options.sender(NAME).unwrap())
        },
        |names, mut survivor| {
            assert_eq!(recover_bytes(names, &mut survivor), [support::message(2, 40)]);
            assert_eq!((survivor.stats().tasks_lost, survivor.stats().lost), (1, 0));
        },
    );
    swept.covers(8, 12);
}

/// queue/participant.rs J1 to J4; a newcomer finds out which participant has died.
#[test]
fn queue_participant_killed_joining_is_repaired() {
    let swept = sweep(
        |names| {
            let mut queue = values(names).open(NAME).unwrap();
            queue.send([1; 2]).unwrap();
            queue
        },
        |names| {
            let options = values(names);
            move || forget(options.open(NAME).unwrap())
        },
        |names, mut survivor| {
            assert_eq!(recover(names, &mut survivor), [1]);
            let stats = survivor.stats();
            assert_eq!((stats.senders, stats.receivers), (1, 1), "no participant is given up");
        },
    );
    swept.covers(16, 12);
}

/// queue/participant.rs J4a to J4c, raw/mpmc/mod.rs N1 and N2: the victim begins the next run and
/// sends in it. Messages of the earlier run come first, and a later run is complete.
#[test]
fn queue_sender_killed_joining_next_run_is_repaired() {
    let swept = sweep(
        |names| {
            let (mut tx, rx) = values(names).open(NAME).unwrap().split();
            tx.send([1; 2]).unwrap();
            tx.close().unwrap();
            (tx, rx)
        },
        |names| {
            let options = values(names);
            move || {
                let mut tx = options.sender(NAME).unwrap();
                tx.send([2; 2]).unwrap();
                forget(tx);
            }
        },
        |names, (mut old, mut rx)| {
            let mut newcomer = values(names).sender(NAME).unwrap();
            newcomer.send([3; 2]).unwrap();
            assert_eq!(old.try_send([9; 2]), Err(SendError::Closed), "its run is over");
            let received: Vec<u64> = from_fn(|| rx.try_recv().ok()).map(|value| value[0]).collect();
            assert!(received == [1, 3] || received == [1, 2, 3], "{received:?}");
            assert_eq!(rx.recv_timeout(Duration::ZERO), Err(RecvError::TimedOut), "one of the run is there");
            drop(newcomer);
            assert_eq!(rx.recv(), Err(RecvError::Closed));
            is_whole(rx.stats());
        },
    );
    swept.covers(16, 15);
}

/// queue/participant.rs X1 to X3: the run is open or closed, and all its senders and receivers are
/// told the same.
#[test]
fn queue_closer_killed_run_is_open_or_closed() {
    let swept = sweep(
        |names| {
            let (tx, rx) = values(names).open(NAME).unwrap().split();
            (tx, rx)
        },
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            move || {
                tx.send([1; 2]).unwrap();
                tx.close().unwrap();
                forget(tx);
            }
        },
        |names, (mut tx, mut rx)| {
            let mut received: Vec<u64> = from_fn(|| rx.try_recv().ok()).map(|value| value[0]).collect();
            let is_closed = rx.stats().is_closed;
            let expected = if is_closed { RecvError::Closed } else { RecvError::TimedOut };
            assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(expected));
            assert_eq!(tx.try_send([2; 2]), if is_closed { Err(SendError::Closed) } else { Ok(()) });
            let mut newcomer = values(names).sender(NAME).unwrap();
            newcomer.try_send([3; 2]).unwrap();
            received.extend(from_fn(|| rx.try_recv().ok()).map(|value| value[0]));
            let all: &[u64] = if is_closed { &[1, 3] } else { &[1, 2, 3] };
            assert!(received == all || !is_closed && received == all[1..], "{received:?}, closed: {is_closed}");
            drop((tx, newcomer));
            assert_eq!(rx.recv(), Err(RecvError::Closed));
            is_whole(rx.stats());
        },
    );
    swept.covers(0, 8);
}

/// queue/participant.rs L1 to L4.
#[test]
fn queue_participant_killed_leaving_is_repaired() {
    let swept = sweep(
        |names| values(names).open(NAME).unwrap(),
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send([1; 2]).unwrap();
            move || drop(tx)
        },
        |names, mut survivor| assert_eq!(recover(names, &mut survivor), [1]),
    );
    swept.covers(4, 3);
}

/// region/participant.rs L4 to L6: the last one removes the name; the next one starts afresh or
/// continues.
#[test]
fn queue_last_participant_killed_leaving_name_works_again() {
    let swept = sweep(
        |_| (),
        |names| {
            let mut queue = values(names).open(NAME).unwrap();
            queue.send([1; 2]).unwrap();
            move || drop(queue)
        },
        |names, ()| {
            let mut queue = values(names).open(NAME).unwrap();
            let received = recover(names, &mut queue);
            assert!(received.is_empty() || received == [1], "{received:?}");
        },
    );
    swept.covers(8, 6);
}

#[test]
fn queue_creator_killed_name_works_again() {
    let swept = sweep(
        |_| (),
        |names| {
            let options = bytes(names);
            move || forget(options.open(NAME).unwrap())
        },
        |names, ()| {
            let mut queue = bytes(names).open(NAME).unwrap();
            assert_eq!(recover_bytes(names, &mut queue), [[0_u8; 0]; 0]);
        },
    );
    swept.covers(12, 0);
}

/// queue/participant.rs R1 to R4, raw/mpmc/mod.rs R1 to R5, raw/pool.rs B4: the victim repairs
/// after a participant that has left claims, blocks and an extent.
#[test]
fn queue_repairer_killed_next_one_repairs() {
    let swept = sweep(
        |names| {
            let survivor = with_messages(names, [400, 60]);
            // Its intent and head: two messages are claimed and none is read.
            kill_after_changes(names, 2, || {
                let mut rx = bytes(names).receiver(NAME).unwrap();
                move || {
                    let mut messages = [Vec::with_capacity(512), Vec::with_capacity(512)];
                    let _ = rx.recv_many(&mut messages);
                }
            });
            survivor
        },
        |names| {
            let options = bytes(names);
            move || forget(options.sender(NAME).unwrap())
        },
        |names, mut survivor| {
            let received = recover_bytes(names, &mut survivor);
            let lost = survivor.stats().lost;
            assert_eq!((received.len(), lost), (0, 2), "{received:?}, {lost} lost");
            assert_eq!(survivor.stats().tasks_lost, 2);
        },
    );
    swept.covers(8, 12);
}

/// After the death of a closing process the run is open, or closed and drained.
#[test]
fn queue_closer_killed_discarding_next_one_discards() {
    let swept = sweep(
        |names| with_messages(names, [400, 60]),
        |names| {
            let mut rx = bytes(names).receiver(NAME).unwrap();
            move || {
                assert_eq!(rx.close_now(), Ok(2));
                forget(rx);
            }
        },
        |names, mut survivor| {
            let newcomer = bytes(names).open(NAME).unwrap();
            let mut message = Vec::new();
            let received = std::iter::from_fn(|| survivor.recv_timeout(&mut message, Duration::ZERO).ok()).count();
            let stats = survivor.stats();
            is_whole(stats);
            // Messages are counted as discarded after they are discarded.
            assert!(received as u64 + stats.lost + stats.dropped <= 2, "{received} received, {stats:?}");
            drop(newcomer);
        },
    );
    swept.covers(1, 8);
}

/// queue/mod.rs: a stale queue is removed and created again.
#[test]
fn queue_replacer_killed_name_works_again() {
    let swept = sweep(
        |names| {
            let (mut tx, rx) = values(names).open(NAME).unwrap().split();
            tx.send([1; 2]).unwrap();
            for end in [tombolo::Endpoint::into_fd(tx), tombolo::Endpoint::into_fd(rx)] {
                drop(end.unwrap()); // a descriptor that nobody takes counts as dead
            }
        },
        |names| {
            let options = values(names).on_stale(OnStale::Recreate);
            move || forget(options.open(NAME).unwrap())
        },
        |names, ()| {
            let mut queue = values(names).open(NAME).unwrap();
            let received = recover(names, &mut queue);
            assert!(received.is_empty() || received == [1], "{received:?}");
        },
    );
    swept.covers(20, 1);
}
