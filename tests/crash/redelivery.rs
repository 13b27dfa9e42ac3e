//! The crash sweep of queues that deliver the messages of dead receivers again.

use std::fs;
use std::mem::forget;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::message;
use crate::sweep::{NAME, kill_after_changes, sweep};
use tombolo::RecvError;
use tombolo::queue::{self, ByteQueue, JoinError, OnDeath, Queue};

const CAPACITY: usize = 4;

fn values(names: &Path) -> queue::Options<u64> {
    let options = queue::Options::new().capacity(CAPACITY).unfinished(2).max_participants(6);
    options.on_death(OnDeath::Redeliver { times: 2 }).directory(names)
}

fn with_three_messages(names: &Path) -> Queue<u64> {
    let mut queue = values(names).open(NAME).unwrap();
    assert_eq!(queue.send_many(&[1, 2, 3]), Ok(3));
    queue
}

/// A newcomer repairs. Returns the messages that are left, each with the number of its delivery.
fn recover(names: &Path, survivor: &mut Queue<u64>) -> Vec<(u64, u32)> {
    let newcomer = values(names).open(NAME).unwrap();
    let mut received = Vec::new();
    while let Ok(task) = survivor.try_recv_task() {
        received.push((*task, task.deliveries()));
        task.done().unwrap();
    }
    let stats = survivor.stats();
    assert_eq!((stats.queued, stats.quarantined, stats.used_blocks - stats.dead_letters), (0, 0, 0), "{stats:?}");
    assert_eq!((stats.lost, stats.tasks_lost, stats.dropped), (0, 0, 0), "{stats:?}");
    for round in 0..2 {
        for number in 0..CAPACITY as u64 {
            survivor.try_send(number).unwrap_or_else(|error| panic!("round {round}, {number}: {error}"));
        }
        for number in 0..CAPACITY as u64 {
            assert_eq!((survivor.try_recv(), survivor.deliveries(), survivor.task_done()), (Ok(number), 1, Ok(())));
        }
    }
    drop(newcomer);
    received
}

/// In the directory of the test, and not of the names.
fn work_file(names: &Path) -> PathBuf {
    names.with_file_name("worked")
}

/// The messages that were not delivered before are in order, and so are the others.
fn is_in_order(received: &[(u64, u32)]) -> bool {
    received.iter().filter(|message| message.1 > 1).is_sorted()
        && received.iter().filter(|message| message.1 == 1).is_sorted()
}

/// raw/redelivery.rs D1 to D4: a message is not done before the work is, and otherwise comes again.
#[test]
fn redelivery_worker_killed_message_is_done_or_comes_again() {
    let swept = sweep(
        |names| {
            let _ = fs::remove_file(work_file(names));
            with_three_messages(names)
        },
        |names| {
            let (mut rx, work_file) = (values(names).receiver(NAME).unwrap(), work_file(names));
            move || {
                assert_eq!(rx.recv(), Ok(1));
                fs::write(work_file, "").unwrap();
                rx.task_done().unwrap();
                forget(rx);
            }
        },
        |names, mut survivor| {
            let received = recover(names, &mut survivor);
            match received.as_slice() {
                [(2, 1), (3, 1)] => assert!(work_file(names).exists(), "a message was lost"),
                [(1, 1 | 2), (2, 1), (3, 1)] => {}
                other => panic!("{other:?}"),
            }
            assert_eq!(survivor.join(), Ok(()));
        },
    );
    swept.covers(1, 6);
}

/// raw/redelivery.rs D1 to D3, when the senders have left: the other receiver gets the message, and
/// no end before it.
#[test]
fn redelivery_last_worker_killed_other_sees_no_end_before_its_message() {
    const LONG: Duration = Duration::from_secs(60);
    let swept = sweep(
        |names| {
            let mut queue = values(names).open(NAME).unwrap();
            queue.send(1).unwrap();
            queue
        },
        |names| {
            let mut rx = values(names).receiver(NAME).unwrap();
            move || {
                assert_eq!(rx.recv(), Ok(1));
                forget(rx);
            }
        },
        |_, survivor| {
            let (tx, mut rx) = survivor.split();
            drop(tx);
            assert_eq!((rx.recv_timeout(LONG), rx.task_done()), (Ok(1), Ok(())));
            assert_eq!(rx.recv_timeout(LONG), Err(RecvError::Closed));
        },
    );
    swept.covers(0, 3);
}

/// raw/redelivery.rs D5: the victim drops its task.
#[test]
fn redelivery_receiver_killed_giving_back_message_comes_again() {
    let swept = sweep(
        with_three_messages,
        |names| {
            let mut rx = values(names).receiver(NAME).unwrap();
            assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
            move || {
                drop(rx.recv_task().unwrap());
                forget(rx);
            }
        },
        |names, mut survivor| {
            let received = recover(names, &mut survivor);
            assert!(
                matches!(received[..], [(1, 2), (2, 2), (3, 1 | 2)] | [(3, 2), (1, 2), (2, 2)])
                    && is_in_order(&received),
                "{received:?}"
            );
            assert_eq!(survivor.join(), Ok(()));
        },
    );
    swept.covers(0, 6);
}

/// queue/redelivery.rs queue-requeue-2 and queue-requeue-3 of a receiver that leaves.
#[test]
fn redelivery_receiver_killed_leaving_messages_come_again_once() {
    let swept = sweep(
        with_three_messages,
        |names| {
            let mut rx = values(names).receiver(NAME).unwrap();
            assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
            move || drop(rx)
        },
        |names, mut survivor| {
            assert_eq!(recover(names, &mut survivor), [(1, 2), (2, 2), (3, 1)]);
            assert_eq!(survivor.join(), Ok(()));
        },
    );
    swept.covers(4, 6);
}

/// Kills a receiver that has two messages, after that many changes of a third receiving. Each was
/// delivered twice then, but for the third.
fn kill_receiver(names: &Path, changes: usize) {
    kill_after_changes(names, changes, || {
        let mut rx = values(names).receiver(NAME).unwrap();
        drop(rx.recv_task().unwrap());
        assert_eq!((rx.recv(), rx.deliveries(), rx.recv()), (Ok(1), 2, Ok(2)));
        move || {
            assert_eq!(rx.recv(), Ok(3));
            forget(rx);
        }
    });
}

fn check_repaired(names: &Path, survivor: &mut Queue<u64>) {
    let received = recover(names, survivor);
    assert!(matches!(received[..], [(1, 3), (2, 2), (3, 1 | 2)]), "{received:?}");
    assert_eq!(survivor.join(), Ok(()));
}

/// queue/redelivery.rs queue-requeue-1 to queue-requeue-3 of a repairer. The receiver was killed
/// before it claimed its last message, with a claim, holding it before its slot is free, and after.
#[test]
fn redelivery_repairer_killed_messages_come_again_once() {
    for changes in [0, 1, 2, 3, 4, usize::MAX] {
        let swept = sweep(
            |names| {
                let queue = with_three_messages(names);
                kill_receiver(names, changes);
                queue
            },
            |names| {
                let options = values(names);
                move || forget(options.sender(NAME).unwrap())
            },
            |names, mut survivor| check_repaired(names, &mut survivor),
        );
        swept.covers(4, 8);
    }
}

/// The repairer of a repairer that was killed.
#[test]
fn redelivery_second_repairer_killed_messages_come_again_once() {
    for changes in [4, 7, 9, 11, 13] {
        sweep(
            |names| {
                let queue = with_three_messages(names);
                kill_receiver(names, 2);
                kill_after_changes(names, changes, || {
                    let options = values(names);
                    move || forget(options.sender(NAME).unwrap())
                });
                queue
            },
            |names| {
                let options = values(names);
                move || forget(options.sender(NAME).unwrap())
            },
            |names, mut survivor| check_repaired(names, &mut survivor),
        );
    }
}

/// The limit is reached: the repairer makes dead letters.
#[test]
fn redelivery_repairer_killed_dead_letter_is_made_once() {
    let swept = sweep(
        |names| {
            let queue = with_three_messages(names);
            kill_after_changes(names, usize::MAX, || {
                let mut rx = values(names).receiver(NAME).unwrap();
                (0..2).for_each(|_| drop(rx.recv_task().unwrap()));
                move || {
                    assert_eq!((rx.recv(), rx.deliveries(), rx.recv()), (Ok(1), 3, Ok(2)));
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
            assert_eq!(recover(names, &mut survivor), [(2, 2), (3, 1)]);
            assert_eq!(survivor.join(), Err(JoinError::DeadLetters { count: 1 }));
            let letter = survivor.dead_letters().unwrap().next().unwrap().unwrap();
            assert_eq!((letter.deliveries(), letter.remove()), (3, Some(1)));
            assert_eq!((survivor.join(), survivor.stats().used_blocks), (Ok(()), 0));
        },
    );
    swept.covers(4, 8);
}

/// raw/redelivery.rs D9 and D10: one that removes a dead letter, or has it delivered.
#[test]
fn redelivery_dead_letter_taker_killed_nothing_is_left() {
    for redrives in [false, true] {
        sweep(
            |names| {
                let mut queue = with_three_messages(names);
                (0..3).for_each(|_| drop(queue.recv_task().unwrap()));
                assert_eq!(queue.stats().dead_letters, 1);
                // So that nobody looks for requeued messages now.
                assert_eq!(queue.recv_task().unwrap().done(), Ok(2));
                queue
            },
            |names| {
                let mut tx = values(names).sender(NAME).unwrap();
                move || {
                    let letter = tx.dead_letters().unwrap().next().unwrap().unwrap();
                    assert!(if redrives { letter.redrive() } else { letter.remove() == Some(1) });
                    forget(tx);
                }
            },
            |names, mut survivor| {
                let before = survivor.stats().dead_letters;
                let received = recover(names, &mut survivor);
                match received.as_slice() {
                    [(1, 1), (3, 1)] => assert!(redrives && before == 0),
                    [(3, 1)] => assert!(before == 1 || !redrives, "a message was lost"),
                    other => panic!("{other:?}"),
                }
            },
        );
    }
}

/// Messages in extents, whose memory is released when they are done, or discarded. As many are held
/// as extents retain their memory, so that the last one does not.
#[test]
fn redelivery_worker_killed_long_message_is_whole_or_done() {
    const RETAINING: usize = 12;
    let options = |names: &Path| {
        let options = queue::Options::bytes().capacity(2).max_participants(4).max_message_bytes(50_000);
        options.unfinished(RETAINING).extents(RETAINING + 2).on_death(OnDeath::Redeliver { times: 2 }).directory(names)
    };
    for discards in [false, true] {
        let swept = sweep(
            |names| -> ByteQueue {
                let mut queue = options(names).open(NAME).unwrap();
                for number in 0..RETAINING as u64 + 2 {
                    queue.send(message(number, 50_000)).unwrap();
                    if number < RETAINING as u64 {
                        assert_eq!(queue.recv(&mut Vec::new()), Ok(50_000));
                    }
                }
                queue
            },
            |names| {
                let mut rx = options(names).receiver(NAME).unwrap();
                move || {
                    if discards {
                        assert_eq!(rx.close_now(), Ok(2));
                    } else {
                        rx.recv_task().unwrap().done().unwrap();
                    }
                    forget(rx);
                }
            },
            |names, mut survivor| {
                let newcomer = options(names).open(NAME).unwrap();
                let mut numbers = Vec::new();
                while let Ok(task) = survivor.try_recv_task() {
                    let number = (0..RETAINING as u64 + 2).find(|&number| *task == message(number, 50_000));
                    numbers.push(number.expect("not the whole message"));
                    task.done().unwrap();
                }
                assert!(matches!(numbers[..], [12, 13] | [13]) || discards && numbers.is_empty(), "{numbers:?}");
                (0..RETAINING).for_each(|_| survivor.task_done().unwrap());
                assert_eq!((survivor.join(), survivor.stats().pooled), (Ok(()), 0));
                drop(newcomer);
            },
        );
        swept.covers(1, 6);
    }
}
