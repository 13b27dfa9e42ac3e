//! Queues within one process: every message comes out once, and each side is told when the other
//! ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tombolo::queue::{self, JoinError, Shortage, TaskDoneError};
use tombolo::{ErrorKind, RecvError, SendError};

use crate::support::{Large, large, on_small_stack};

const MOMENT: Duration = Duration::from_millis(30);

#[test]
fn queue_many_laps_keep_order() {
    for capacity in [1, 2, 3, 64] {
        let (mut tx, mut rx) = queue::Options::<[u64; 3]>::new().capacity(capacity).create_channel().unwrap();
        let capacity = tx.capacity();
        assert!(capacity >= 2 && capacity.is_power_of_two());
        for lap in 0..10 {
            for i in 0..capacity as u64 {
                tx.try_send([lap, i, lap ^ i]).unwrap();
            }
            assert_eq!(tx.try_send([0; 3]), Err(SendError::Full));
            assert!(tx.is_full() && rx.len() == capacity);
            for i in 0..capacity as u64 {
                assert_eq!(rx.try_recv(), Ok([lap, i, lap ^ i]));
            }
            assert_eq!(rx.try_recv(), Err(RecvError::Empty));
            assert!(rx.is_empty());
        }
    }
}

#[test]
fn queue_message_of_any_length_comes_back_unchanged() {
    let mut queue = queue::Options::bytes().capacity(8).create().unwrap();
    let mut message = vec![0xEE; 7];
    let lengths = (0..600).chain([1023, 4095, 4096, 4097, 8191, 70_001, (1 << 20) + 1, (5 << 20) + 3]);
    for length in lengths {
        let sent: Vec<u8> = (0..length).map(|i| (i * 31 + length) as u8).collect();
        queue.send(&sent).unwrap();
        assert_eq!(queue.recv(&mut message), Ok(length));
        assert!(message == sent, "length {length}");
    }
    let stats = queue.stats();
    assert_eq!((stats.pooled, stats.queued, stats.lost, stats.dropped), (0, 0, 0, 0));
}

#[test]
fn queue_batches_arrive_in_order() {
    let (mut tx, mut rx) = queue::Options::<u16>::new().capacity(256).create_channel().unwrap();
    let values: Vec<u16> = (0..1000).collect();
    let mut back = Vec::new();
    let mut sent = 0;
    while back.len() < values.len() {
        while let Ok(count @ 1..) = tx.try_send_many(&values[sent..]) {
            sent += count;
        }
        let mut some = [0; 100];
        let count = rx.recv_many(&mut some).unwrap();
        back.extend_from_slice(&some[..count]);
    }
    assert_eq!(back, values);
    assert_eq!(tx.send_many(&[]), Ok(0));
    assert_eq!(rx.recv_many(&mut []), Ok(0));

    let (mut tx, mut rx) = queue::Options::bytes().create_channel().unwrap();
    let messages: Vec<Vec<u8>> = (0..50).map(|i| vec![i; if i == 20 { 10_000 } else { i as usize }]).collect();
    let mut sent = 0;
    while sent < messages.len() {
        sent += tx.send_many(&messages[sent..]).unwrap();
    }
    let mut back = vec![Vec::new(); 60];
    assert_eq!(rx.recv_many(&mut back), Ok(50));
    assert!(back[..50] == messages[..]);
}

#[test]
fn receiver_last_sender_dropped_returns_closed() {
    let (tx, mut rx) = queue::Options::<u8>::new().create_channel().unwrap();
    let mut second = tx.try_clone().unwrap();
    drop(tx);
    assert_eq!(rx.recv_timeout(MOMENT), Err(RecvError::TimedOut));
    second.send(7).unwrap();
    drop(second);
    assert_eq!(rx.recv(), Ok(7));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    assert_eq!(rx.try_recv(), Err(RecvError::Closed));
    let mut third = rx.sender().unwrap();
    third.send(8).unwrap();
    assert_eq!(rx.recv(), Ok(8));
    assert_eq!(rx.recv_timeout(MOMENT), Err(RecvError::TimedOut));
}

#[test]
fn sender_last_receiver_dropped_stops_waiting() {
    let (mut tx, rx) = queue::Options::<u8>::new().capacity(2).create_channel().unwrap();
    let second = rx.try_clone().unwrap();
    drop(rx);
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    assert_eq!(tx.send_timeout(3, MOMENT), Err(SendError::TimedOut));
    let waiting = thread::spawn(move || tx.send(3));
    thread::sleep(MOMENT);
    drop(second);
    assert_eq!(waiting.join().unwrap(), Err(SendError::Closed));
}

#[test]
fn queue_handle_for_both_does_not_wait_for_itself() {
    let mut queue = queue::Options::<u8>::new().create().unwrap();
    assert_eq!(queue.recv_timeout(MOMENT), Err(RecvError::TimedOut), "somebody may come");
    let sender = queue.sender().unwrap();
    assert_eq!(queue.recv_timeout(MOMENT), Err(RecvError::TimedOut));
    drop(sender);
    assert_eq!(queue.recv(), Err(RecvError::Closed));
    let (tx, mut rx) = queue.split();
    assert_eq!(rx.recv_timeout(MOMENT), Err(RecvError::TimedOut), "now its sender is another");
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn queue_closed_delivers_the_rest_and_refuses_more() {
    let (mut tx, mut rx) = queue::Options::<u8>::new().create_channel().unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.close(), Ok(()));
    assert_eq!(tx.close(), Err(SendError::Closed), "twice");
    assert_eq!(tx.send(2), Err(SendError::Closed));
    assert_eq!(tx.try_send_many(&[2]), Err(SendError::Closed));
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    assert!(tx.stats().is_closed);

    let mut queue = tombolo::queue::Options::bytes().create().unwrap();
    for length in [1, 1000, 100_000] {
        queue.send(vec![1; length]).unwrap();
    }
    assert_eq!(queue.stats().pooled, 2);
    assert_eq!(queue.close_now(), Ok(3));
    assert_eq!(queue.close_now(), Ok(0));
    assert_eq!(queue.send(vec![0; 1000]), Err(SendError::Closed));
    assert_eq!(queue.recv(&mut Vec::new()), Err(RecvError::Closed));
    let stats = queue.stats();
    assert_eq!((stats.dropped, stats.pooled, stats.lost), (3, 0, 0));
}

#[test]
fn queue_closed_wakes_waiting_receiver() {
    let (mut tx, mut rx) = queue::Options::bytes().capacity(2).create_channel().unwrap();
    let closer = tx.try_clone().unwrap();
    let receiving = thread::spawn(move || (rx.recv(&mut Vec::new()), rx));
    thread::sleep(MOMENT);
    closer.close().unwrap();
    let (outcome, _rx) = receiving.join().unwrap();
    assert_eq!(outcome, Err(RecvError::Closed));
    assert_eq!(tx.send(b""), Err(SendError::Closed));
}

#[test]
fn sender_join_waits_for_open_tasks() {
    let (mut tx, mut rx) = queue::Options::<u32>::new().create_channel().unwrap();
    assert_eq!(tx.join(), Ok(()), "nothing was sent");
    assert_eq!(rx.task_done(), Err(TaskDoneError::NoTask));
    tx.send(1).unwrap();
    assert_eq!(tx.join_timeout(MOMENT), Err(JoinError::TimedOut), "queued");
    rx.recv().unwrap();
    assert_eq!(tx.join_timeout(MOMENT), Err(JoinError::TimedOut), "open");
    let joining = thread::spawn(move || (tx.join(), tx));
    thread::sleep(MOMENT);
    rx.task_done().unwrap();
    let (outcome, mut tx) = joining.join().unwrap();
    assert_eq!(outcome, Ok(()));
    assert_eq!(rx.task_done(), Err(TaskDoneError::NoTask));
    tx.send(2).unwrap();
    drop(rx);
    assert_eq!(tx.join(), Err(JoinError::Closed), "nobody is left to do it");
}

#[test]
fn sender_pool_full_waits_without_deadlock() {
    let options = queue::Options::bytes()
        .capacity(4)
        .blocks(queue::Blocks { count: 1, bytes: 512 })
        .extents(1)
        .max_message_bytes(100_000);
    let (mut tx, mut rx) = options.create_channel().unwrap();
    tx.send([1; 500]).unwrap();
    tx.send([2; 501]).unwrap();
    assert_eq!(tx.try_send([3; 300]), Err(SendError::Full), "block and extent are taken");
    assert_eq!(tx.send_timeout([3; 300], MOMENT), Err(SendError::TimedOut));
    tx.send([4; 10]).unwrap();
    let senders: Vec<_> = (0..6)
        .map(|i| {
            let mut tx = tx.try_clone().unwrap();
            thread::spawn(move || (0..50).for_each(|_| tx.send(vec![i; 50_000 + usize::from(i)]).unwrap()))
        })
        .collect();
    drop(tx);
    let mut message = Vec::new();
    let mut lengths = Vec::new();
    while rx.recv(&mut message).is_ok() {
        assert!(message.iter().all(|&byte| byte == message[0]), "torn");
        lengths.push(message.len());
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert_eq!(lengths[..3], [500, 501, 10]);
    assert_eq!(lengths.len(), 303);
    assert_eq!(rx.stats().pooled, 0);
}

#[test]
fn queue_default_options_hold_long_messages_until_the_ring_is_full() {
    let (mut tx, mut rx) = queue::Options::bytes().create_channel().unwrap();
    let capacity = tx.capacity();
    for i in 0..capacity {
        assert!(!tx.is_full());
        tx.try_send(vec![i as u8; 4097]).unwrap();
    }
    let stats = tx.stats();
    assert!(tx.is_full() && stats.used_extents == capacity as u64 && stats.used_extents < stats.extents);
    assert_eq!((tx.try_send([0; 5000]), stats.shortage(5000)), (Err(SendError::Full), Some(Shortage::Slots)));
    let mut message = Vec::new();
    for i in 0..capacity {
        assert_eq!(rx.recv(&mut message), Ok(4097));
        assert_eq!(message[4096], i as u8);
    }
    // Frames of a megabyte, more than there once was room for.
    let mut frame = vec![0; 1_000_001];
    for i in 0..100 {
        frame.fill(i);
        tx.try_send(&frame).unwrap();
    }
    for i in 0..100 {
        assert_eq!(rx.recv(&mut message), Ok(1_000_001));
        assert!(message[0] == i && message.ends_with(&[i]));
    }
}

#[test]
fn queue_default_extents_suffice_for_ring_and_participants_up_to_2_tib() {
    let extents = |options: queue::Options<[u8]>| options.create().unwrap().stats().extents;
    let bytes = queue::Options::bytes;
    assert_eq!(extents(bytes()), 1024 + 64);
    assert_eq!(extents(bytes().capacity(1).max_participants(4)), 2 + 4);
    assert_eq!(extents(bytes().capacity(4000)), 2048, "of 1 GiB each");
    assert_eq!(extents(bytes().capacity(4000).max_message_bytes(1 << 20)), 4096 + 64);
    assert_eq!(extents(bytes().max_message_bytes(4096)), 0, "each fits a block");
    assert_eq!(extents(bytes().max_message_bytes(1 << 42)), 1);
    assert_eq!(extents(bytes().extents(3)), 3);
    let stats = queue::Options::<u64>::new().create().unwrap().stats();
    assert_eq!((stats.blocks, stats.extents, stats.shortage(1 << 30)), (0, 0, None), "values lie in slots");
}

#[test]
fn queue_full_of_long_messages_tells_what_it_lacks() {
    for capacity in [1, 2, 8] {
        let options = queue::Options::bytes().inline_bytes(16).blocks(queue::Blocks { count: 1, bytes: 64 }).extents(1);
        let (mut tx, mut rx) = options.capacity(capacity).create_channel().unwrap();
        let lacks = |tx: &queue::ByteSender| [0, 1, 16, 17, 64, 65, 3 << 20].map(|bytes| tx.stats().shortage(bytes));
        assert_eq!(lacks(&tx), [None; 7]);
        tx.try_send([1; 65]).unwrap();
        let extents = Some(Shortage::Extents);
        assert_eq!(lacks(&tx), [None, None, None, None, None, extents, extents]);
        assert_eq!(tx.try_send([2; 65]), Err(SendError::Full));
        assert_eq!(tx.send_timeout([2; 65], MOMENT), Err(SendError::TimedOut));
        assert!(!tx.is_full());
        tx.try_send([3; 17]).unwrap();
        let stats = tx.stats();
        assert_eq!((stats.blocks, stats.used_blocks, stats.extents, stats.used_extents, stats.pooled), (1, 1, 1, 1, 2));
        if capacity <= 2 {
            assert!(tx.is_full() && lacks(&tx) == [Some(Shortage::Slots); 7]);
        } else {
            let blocks = Some(Shortage::Blocks);
            assert_eq!(lacks(&tx), [None, None, None, blocks, blocks, extents, extents]);
            assert_eq!(tx.try_send([4; 17]), Err(SendError::Full));
            tx.try_send([5; 16]).unwrap();
        }
        rx.recv(&mut Vec::new()).unwrap();
        assert_eq!(lacks(&tx), [None; 7], "the extent serves a short message, too");
        tx.try_send([6; 17]).unwrap();
        assert_eq!(tx.stats().used_extents, 1);
    }
}

#[test]
fn queue_invalid_options_and_messages_are_refused() {
    let mut queue = queue::Options::bytes().max_message_bytes(1000).create().unwrap();
    assert_eq!(queue.send([0; 1001]), Err(SendError::TooLarge { length: 1001, limit: 1000 }));
    queue.send([0; 1000]).unwrap();
    let kind = |options: &queue::Options<[u8]>| options.create().unwrap_err().kind();
    assert_eq!(kind(&queue::Options::bytes().capacity(0)), ErrorKind::InvalidOptions);
    assert_eq!(kind(&queue::Options::bytes().capacity(usize::MAX)), ErrorKind::InvalidOptions);
    assert_eq!(kind(&queue::Options::bytes().max_participants(0)), ErrorKind::InvalidOptions);
    assert_eq!(kind(&queue::Options::bytes().max_participants(5000)), ErrorKind::InvalidOptions);
    assert_eq!(kind(&queue::Options::bytes().extents(0)), ErrorKind::InvalidOptions);
    assert_eq!(kind(&queue::Options::bytes().inline_bytes(usize::MAX)), ErrorKind::InvalidOptions);
    assert_eq!(
        kind(&queue::Options::bytes().blocks(queue::Blocks { count: usize::MAX, bytes: usize::MAX })),
        ErrorKind::InvalidOptions
    );
    queue::Options::bytes()
        .extents(0)
        .blocks(queue::Blocks { count: 0, bytes: 0 })
        .max_message_bytes(100)
        .create()
        .unwrap();
}

#[test]
fn queue_full_of_participants_error_names_them() {
    let (tx, rx) = queue::Options::<u8>::new().max_participants(3).create_channel().unwrap();
    let third = tx.try_clone().unwrap();
    let error = rx.try_clone().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyParticipants);
    let text = error.to_string();
    let process = std::process::id();
    assert!(text.contains(&format!("found all of its participants (3) taken, by process {process}, ")), "{text}");
    drop(third);
    rx.try_clone().unwrap();
}

#[test]
fn queue_many_threads_lose_nothing_and_keep_order() {
    const SENDERS: u64 = 4;
    const EACH: u64 = 5_000;
    for capacity in [2, 16, 1024] {
        let (tx, rx) = queue::Options::<[u64; 2]>::new().capacity(capacity).create_channel().unwrap();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let mut tx = tx.try_clone().unwrap();
                thread::spawn(move || (0..EACH).for_each(|n| tx.send([sender, n]).unwrap()))
            })
            .collect();
        drop(tx);
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let mut rx = rx.try_clone().unwrap();
                thread::spawn(move || rx.iter().flatten().collect::<Vec<_>>())
            })
            .collect();
        drop(rx);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let mut all = Vec::new();
        for receiver in receivers {
            let got = receiver.join().unwrap();
            for sender in 0..SENDERS {
                let numbers: Vec<u64> = got.iter().filter(|value| value[0] == sender).map(|value| value[1]).collect();
                assert!(numbers.is_sorted(), "sender {sender} was overtaken by itself");
            }
            all.extend(got);
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len() as u64, SENDERS * EACH);
    }
}

#[test]
fn receiver_iter_ends_with_the_last_sender() {
    let (mut tx, mut rx) = queue::Options::bytes().create_channel().unwrap();
    for message in ["a", "", "bc"] {
        tx.send(message.as_bytes()).unwrap();
    }
    drop(tx);
    assert_eq!(rx.iter().flatten().collect::<Vec<_>>(), [b"a".to_vec(), b"".to_vec(), b"bc".to_vec()]);
}

#[test]
fn queue_handles_are_send_and_debug() {
    fn is_send<T: Send + std::fmt::Debug>(_: &T) {}
    let queue = tombolo::queue::Options::bytes().create().unwrap();
    is_send(&queue);
    assert!(format!("{queue:?}").contains("role: Sender"));
    let (tx, rx) = queue.split();
    is_send(&tx);
    is_send(&rx);
    assert!(format!("{:?}", queue::Options::<u64>::new()).contains("size: 8"));
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum Job {
    Stop,
    Resize { path: String, sizes: Vec<(u32, u32)> },
}

#[test]
fn queue_serialized_objects_come_back_unchanged() {
    let mut queue = tombolo::queue::Options::bytes().create().unwrap();
    let job = Job::Resize { path: "x".repeat(10_000), sizes: vec![(1, 2), (3, 4)] };
    queue.send_object(&job).unwrap();
    queue.send_object(&Job::Stop).unwrap();
    assert_eq!(queue.recv_object(), Ok(job));
    assert_eq!(queue.recv_object(), Ok(Job::Stop));
    queue.send([9, 9, 9]).unwrap();
    assert_eq!(queue.recv_object::<Job>(), Err(RecvError::Deserialize), "no such variant");
    queue.send([0, 0]).unwrap();
    assert_eq!(queue.recv_object::<Job>(), Err(RecvError::Deserialize), "something is left over");
}

#[test]
fn queue_serialized_forms_without_room_or_message_return() {
    let deadline = || Some(Instant::now() + MOMENT);
    let (mut tx, mut rx) = queue::Options::bytes().capacity(1).create_channel().unwrap();
    assert_eq!(rx.try_recv_object::<u8>(), Err(RecvError::Empty));
    assert_eq!(rx.recv_object_timeout::<u8>(MOMENT), Err(RecvError::TimedOut));
    assert_eq!(rx.recv_object_deadline::<u8>(deadline()), Err(RecvError::TimedOut));
    let huge = "x".repeat(3_000_001);
    tx.try_send_object(&huge).unwrap();
    tx.send_object_timeout("", MOMENT).unwrap();
    assert_eq!(tx.try_send_object(&huge), Err(SendError::Full));
    assert_eq!(tx.send_object_timeout(&huge, MOMENT), Err(SendError::TimedOut));
    assert_eq!(tx.send_object_deadline(&(), deadline()), Err(SendError::TimedOut));
    assert_eq!(rx.recv_object_timeout(MOMENT), Ok(huge));
    assert_eq!(rx.recv_object_deadline(None), Ok(String::new()));
    assert_eq!(tx.stats().pooled, 0, "what was not sent keeps nothing");
    tx.send_object_deadline(&(), None).unwrap();
    assert_eq!(rx.try_recv_object(), Ok(()), "a message of no bytes");
}

#[test]
fn queue_value_larger_than_the_stack_is_received_in_place() {
    let (mut tx, mut rx) = queue::Options::<Large>::new().capacity(1).create_channel().unwrap();
    on_small_stack(|| {
        let mut value = large(0);
        assert_eq!(rx.try_recv_into(&mut value), Err(RecvError::Empty));
        assert_eq!(rx.recv_into_timeout(&mut value, MOMENT), Err(RecvError::TimedOut));
        assert_eq!(rx.recv_into_deadline(&mut value, Some(Instant::now() + MOMENT)), Err(RecvError::TimedOut));
        assert!(value == large(0), "unchanged");
        tx.send(large(1)).unwrap();
        tx.try_send(large(2)).unwrap();
        assert_eq!(tx.try_send(large(3)), Err(SendError::Full));
        assert_eq!((rx.recv_into(&mut value), value[5]), (Ok(()), 1));
        assert_eq!((rx.try_recv_into(&mut value), value[5]), (Ok(()), 2));
        tx.send_timeout(large(3), MOMENT).unwrap();
        tx.send_deadline(large(4), None).unwrap();
        assert_eq!((rx.recv_into_timeout(&mut value, MOMENT), value[5]), (Ok(()), 3));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(MOMENT);
                tx.send(large(5)).unwrap();
            });
            assert_eq!((rx.recv_into_deadline(&mut value, None), value[5]), (Ok(()), 4));
            rx.recv_into(&mut value).unwrap(); // by the slow path
            assert!(value == large(5));
        });
        let mut queue = queue::Options::<Large>::new().capacity(1).create().unwrap();
        queue.send(value.as_ref()).unwrap();
        value.fill(0);
        queue.recv_into(&mut value).unwrap();
        assert!(value == large(5));
    });
}

/// Each task sends its follow-up before it is done, so there is always an unfinished task.
#[test]
fn sender_join_waits_for_follow_up_tasks() {
    const WORKERS: u64 = 3;
    const CHAIN: u64 = 2_000;
    let (mut tx, rx) = queue::Options::<u64>::new().create_channel().unwrap();
    let done = Arc::new(AtomicU64::new(0));
    for _ in 0..WORKERS {
        let (mut rx, mut tx, done) = (rx.try_clone().unwrap(), tx.try_clone().unwrap(), Arc::clone(&done));
        thread::spawn(move || {
            while let Ok(left) = rx.recv() {
                if left > 0 {
                    tx.send(left - 1).unwrap();
                } else {
                    done.store(1, Ordering::SeqCst);
                }
                rx.task_done().unwrap();
            }
        });
    }
    drop(rx);
    for _ in 0..20 {
        done.store(0, Ordering::SeqCst);
        tx.send(CHAIN).unwrap();
        tx.join().unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 1, "joined in the middle");
    }
    tx.close().unwrap();
}

#[test]
fn receiver_senders_cloned_in_a_row_sees_no_end() {
    let (tx, mut rx) = queue::Options::<u8>::new().max_participants(8).create_channel().unwrap();
    let stop = Arc::new(AtomicU64::new(0));
    let cloning = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut tx = tx;
            while stop.load(Ordering::SeqCst) == 0 {
                tx = tx.try_clone().unwrap();
            }
            tx
        }
    });
    for _ in 0..20_000 {
        assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    }
    stop.store(1, Ordering::SeqCst);
    drop(cloning.join().unwrap());
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}
