//! Queues that deliver the messages of dead receivers again.

use std::mem::forget;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::processes::{MOMENT, NAME, counters, enter, from_arguments, start_joined, stay, values};
use crate::support::{Process, TestDir, alone, fork, message, stress_factor, stress_random, until};
use tombolo::queue::{self, Blocks, JoinError, OnDeath, Shortage, TaskDoneError};
use tombolo::spawn::{self, CommandExt};
use tombolo::{Endpoint, ErrorKind, Namespace, RecvError, SendError};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

fn redelivering(times: u8) -> queue::Options<u64> {
    queue::Options::new().on_death(OnDeath::Redeliver { times })
}

fn named(test_dir: &TestDir, times: u8) -> queue::Options<u64> {
    values(test_dir).on_death(OnDeath::Redeliver { times })
}

/// Receives everything, one task after the other, with the number of its delivery.
fn drain(rx: &mut queue::Receiver<u64>) -> Vec<(u64, u32)> {
    let mut received = Vec::new();
    while let Ok(task) = rx.try_recv_task() {
        received.push((*task, task.deliveries()));
        task.done().unwrap();
    }
    received
}

/// Receives some messages, and finishes none.
pub fn hold_and_stay(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    (0..arguments[2].parse().unwrap()).for_each(|_| assert!(rx.recv().is_ok()));
    stay(&counters);
}

fn start_holding(test_dir: &TestDir, count: &str) -> Process {
    let process = enter(test_dir, "hold_and_stay", &[count]);
    counters(test_dir).meet(0, 2);
    process
}

#[test]
fn redelivery_task_dropped_message_comes_again_first() {
    let _watchdog = TestDir::new();
    let (mut tx, mut rx) = redelivering(9).create_channel().unwrap();
    assert_eq!(tx.send_many(&[1, 2, 3]), Ok(3));
    for delivery in 1..=3 {
        let task = rx.recv_task().unwrap();
        assert_eq!((*task, task.deliveries(), task.is_redelivered()), (1, delivery, delivery > 1));
        task.give_back();
    }
    assert_eq!(drain(&mut rx), [(1, 4), (2, 1), (3, 1)]);
    assert_eq!((tx.join(), tx.stats().used_blocks), (Ok(()), 0));
}

#[test]
fn redelivery_bytes_of_any_length_come_again_whole() {
    let _watchdog = TestDir::new();
    let options = queue::Options::bytes().capacity(4).on_death(OnDeath::Redeliver { times: 9 });
    let (mut tx, mut rx) = options.max_message_bytes(1 << 20).create_channel().unwrap();
    let mut received = Vec::new();
    for length in [0, 1, 8, 240, 4096, 4097, 65_537, 1 << 20] {
        let sent = message(7, length);
        tx.send(&sent).unwrap();
        assert_eq!(rx.recv(&mut received), Ok(length));
        assert_eq!((&received, rx.deliveries()), (&sent, 1));
        let stats = tx.stats();
        assert_eq!((stats.unfinished, stats.pooled), (1, 1));
        let mut second = rx.try_clone().unwrap();
        drop(rx);
        let task = second.recv_task().unwrap();
        assert_eq!((&*task, task.deliveries()), (&sent, 2));
        assert_eq!(task.done(), Ok(sent));
        assert_eq!((tx.join(), tx.stats().pooled, second.try_recv(&mut received)), (Ok(()), 0, Err(RecvError::Empty)));
        rx = second;
    }
    assert_eq!(tx.send(vec![0; (1 << 20) + 1]), Err(SendError::TooLarge { length: (1 << 20) + 1, limit: 1 << 20 }));
}

#[test]
fn redelivery_worker_killed_messages_come_again_in_order() {
    let test_dir = TestDir::new();
    let (mut tx, mut rx) = (named(&test_dir, 9).sender(NAME).unwrap(), named(&test_dir, 9).receiver(NAME).unwrap());
    for round in 0..5 {
        assert_eq!(tx.send_many(&[1, 2, 3, 4, 5]), Ok(5));
        let worker = start_holding(&test_dir, "3");
        assert_eq!((tx.stats().unfinished, tx.join_timeout(MOMENT)), (3, Err(JoinError::TimedOut)));
        worker.kill();
        let received: Vec<_> = (0..5)
            .map(|_| {
                let task = rx.recv_task_timeout(LONG).unwrap();
                let received = (*task, task.deliveries());
                task.done().unwrap();
                received
            })
            .collect();
        // What waits is received until the death is noticed.
        let mut again: Vec<_> = received.iter().filter(|message| message.1 == 2).map(|message| message.0).collect();
        assert_eq!(again, [1, 2, 3], "round {round}: {received:?}");
        again.extend(received.iter().filter(|message| message.1 == 1).map(|message| message.0));
        assert_eq!(again, [1, 2, 3, 4, 5], "round {round}: {received:?}");
        assert_eq!((tx.join(), tx.stats().tasks_lost, tx.stats().lost), (Ok(()), 0, 0));
    }
}

#[test]
fn redelivery_worker_stopped_keeps_its_message() {
    let test_dir = TestDir::new();
    let (mut tx, mut rx) = (named(&test_dir, 9).sender(NAME).unwrap(), named(&test_dir, 9).receiver(NAME).unwrap());
    tx.send(7).unwrap();
    let worker = start_holding(&test_dir, "1");
    worker.signal(libc::SIGSTOP);
    assert_eq!(rx.recv_timeout(4 * MOMENT), Err(RecvError::TimedOut), "it may go on");
    assert_eq!(tx.join_timeout(MOMENT), Err(JoinError::TimedOut));
    worker.kill();
    assert_eq!((rx.recv_timeout(LONG), rx.deliveries()), (Ok(7), 2));
}

/// Sleeps until a message comes.
pub fn wait_for_one(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    counters.meet(0, 2);
    let task = rx.recv_task().unwrap();
    assert_eq!((*task, task.deliveries()), (7, 2));
    task.done().unwrap();
}

#[test]
fn redelivery_sleeping_receiver_is_woken() {
    let test_dir = TestDir::new();
    let mut tx = named(&test_dir, 9).sender(NAME).unwrap();
    tx.send(7).unwrap();
    let worker = start_holding(&test_dir, "1");
    let other = start_joined(&test_dir, "wait_for_one");
    thread::sleep(MOMENT);
    worker.kill();
    other.finish();
    assert_eq!(tx.join_timeout(LONG), Ok(()));
}

#[test]
fn redelivery_limit_reached_message_is_kept_under_its_name() {
    let test_dir = TestDir::new();
    let options = named(&test_dir, 1);
    let mut tx = options.sender(NAME).unwrap();
    assert_eq!(tx.send_many(&[1, 2]), Ok(2));
    for _ in 0..2 {
        start_holding(&test_dir, "1").kill();
    }
    let mut rx = options.receiver(NAME).unwrap();
    until(|| {
        let _ = tx.join_timeout(MOMENT);
        tx.stats().dead_letters == 1
    });
    assert_eq!(drain(&mut rx), [(2, 1)], "the dead letter is not delivered");
    assert_eq!(tx.join(), Err(JoinError::DeadLetters { count: 1 }));
    assert_eq!(tx.join(), Err(JoinError::DeadLetters { count: 1 }), "as long as it is there");
    drop((tx, rx));
    let mut later = values(&test_dir).open(NAME).unwrap();
    assert_eq!(later.on_death(), OnDeath::Redeliver { times: 1 });
    let letters: Vec<_> = later.dead_letters().unwrap().map(|letter| (*letter.unwrap(), 2)).collect();
    assert_eq!(letters, [(1, 2)], "it is still there");
    let mut other = values(&test_dir).sender(NAME).unwrap();
    let letter = later.dead_letters().unwrap().next().unwrap().unwrap();
    assert_eq!(letter.deliveries(), 2);
    let same = other.dead_letters().unwrap().next().unwrap().unwrap();
    assert_eq!((same.remove(), letter.remove()), (Some(1), None), "one of two has it");
    assert_eq!((later.join(), later.stats().used_blocks), (Ok(()), 0));
    drop((later, other));
    assert!(test_dir.leftovers().is_empty(), "nothing keeps the name");
}

#[test]
fn redelivery_dead_letter_redriven_is_new() {
    let _watchdog = TestDir::new();
    let (mut tx, mut rx) = redelivering(0).create_channel().unwrap();
    tx.send(7).unwrap();
    drop(rx.recv_task().unwrap());
    assert_eq!((rx.try_recv(), tx.stats().dead_letters), (Err(RecvError::Empty), 1));
    assert!(tx.dead_letters().unwrap().next().unwrap().unwrap().redrive());
    let task = rx.recv_task().unwrap();
    assert_eq!((*task, task.deliveries(), task.is_redelivered()), (7, 1, false));
    task.done().unwrap();
    assert_eq!(tx.join(), Ok(()));
}

/// Each of two workers holds two messages, the ring has as many as fit, and every block is taken.
#[test]
fn redelivery_full_queue_takes_its_messages_back() {
    let test_dir = TestDir::new();
    let options = named(&test_dir, 9).capacity(2).unfinished(4);
    let mut tx = options.sender(NAME).unwrap();
    let mut workers = Vec::new();
    for _ in 0..2 {
        assert_eq!(tx.send_many(&[1, 2]), Ok(2));
        workers.push(start_holding(&test_dir, "2"));
    }
    assert_eq!(tx.send_many(&[3, 4]), Ok(2));
    let stats = tx.stats();
    assert_eq!((stats.queued, stats.unfinished, stats.used_blocks, stats.blocks), (2, 4, 6, 6));
    assert_eq!((tx.try_send(5), stats.shortage(8)), (Err(SendError::Full), Some(Shortage::Slots)));
    workers.into_iter().for_each(Process::kill);
    let mut rx = options.receiver(NAME).unwrap();
    let mut received: Vec<_> = (0..6)
        .map(|_| {
            let value = rx.recv_timeout(LONG).unwrap();
            rx.task_done().unwrap();
            value
        })
        .collect();
    received.sort_unstable();
    assert_eq!((received, tx.join()), (vec![1, 1, 2, 2, 3, 4], Ok(())));
}

#[test]
fn redelivery_blocks_used_up_senders_wait_and_learn_why() {
    let _watchdog = TestDir::new();
    let (mut tx, mut rx) = redelivering(0).capacity(2).unfinished(1).create_channel().unwrap();
    for value in 0..3 {
        tx.send(value).unwrap();
        rx.recv().unwrap();
    }
    assert_eq!((tx.try_send(9), tx.stats().shortage(8)), (Err(SendError::Full), Some(Shortage::Blocks)));
    assert_eq!(tx.send_timeout(9, MOMENT), Err(SendError::TimedOut));
    thread::scope(|scope| {
        let sending = scope.spawn(|| tx.send(9));
        thread::sleep(MOMENT);
        rx.task_done().unwrap();
        assert_eq!(sending.join().unwrap(), Ok(()), "a block is free");
    });
    let _place = rx.try_clone().unwrap();
    drop(rx);
    assert_eq!((tx.stats().dead_letters, tx.try_send(9)), (2, Err(SendError::Full)));
    assert_eq!(tx.stats().shortage(8), Some(Shortage::DeadLetters));
    let letters: Vec<_> = tx.dead_letters().unwrap().map(|letter| letter.unwrap().remove().unwrap()).collect();
    assert_eq!((letters, tx.try_send(9)), (vec![1, 2], Ok(())));
}

#[test]
fn redelivery_shortage_names_what_would_help() {
    let _watchdog = TestDir::new();
    let options = queue::Options::bytes().capacity(4).blocks(Blocks { count: 2, bytes: 64 }).extents(1);
    let (mut tx, mut rx) = options.on_death(OnDeath::Redeliver { times: 0 }).create_channel().unwrap();
    tx.send([1; 8]).unwrap();
    drop(rx.recv_task().unwrap());
    tx.send([2; 1000]).unwrap();
    let stats = tx.stats();
    assert_eq!((stats.dead_letters, stats.shortage(1000), stats.shortage(8)), (1, Some(Shortage::Extents), None));
    drop(rx.recv_task().unwrap());
    assert_eq!((tx.stats().dead_letters, tx.stats().shortage(1000)), (2, Some(Shortage::DeadLetters)));
}

#[test]
fn redelivery_batch_cut_short_next_call_returns_why() {
    let test_dir = TestDir::new();
    let options = queue::Options::<bool>::new().on_death(OnDeath::Redeliver { times: 0 }).directory(test_dir.names());
    let mut rx = options.receiver(NAME).unwrap();
    // One that ignores tags.
    let options = queue::Options::<u8>::new().on_death(OnDeath::Redeliver { times: 0 }).directory(test_dir.names());
    let mut tx = options.type_tag("").sender(NAME).unwrap();
    assert_eq!(tx.send_many(&[1, 7, 0]), Ok(3));
    let mut batch = [false; 3];
    assert_eq!((rx.recv_many(&mut batch), batch[0]), (Ok(1), true));
    assert_eq!(rx.try_recv(), Err(RecvError::InvalidValue));
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(false), Err(RecvError::Empty)));
}

/// A newcomer finds the memory of the messages, and not what was there before them.
#[test]
fn redelivery_last_one_leaves_memory_behind_messages_is_released() {
    const LONG_MESSAGE: usize = 4 << 20;
    for times in [0, 9] {
        let test_dir = TestDir::new();
        let options = queue::Options::bytes().capacity(2).extents(2).max_message_bytes(LONG_MESSAGE);
        let options = options.on_death(OnDeath::Redeliver { times }).directory(test_dir.names());
        let (mut tx, mut rx) = options.open(NAME).unwrap().split();
        tx.send(vec![1; LONG_MESSAGE]).unwrap();
        rx.recv_task().unwrap().done().unwrap();
        tx.send([2; 100_000]).unwrap();
        let before = tx.stats();
        assert!(before.used_extents == 1 && before.extents_bytes >= LONG_MESSAGE as u64, "{before:?}");
        assert_eq!(rx.recv(&mut Vec::new()), Ok(100_000));
        drop((tx, rx));
        let mut again = options.open(NAME).unwrap();
        let stats = again.stats();
        assert_eq!((stats.used_extents, stats.requeued + stats.dead_letters), (1, 1));
        assert!(stats.extents_bytes < LONG_MESSAGE as u64 / 2, "{stats:?}");
        let letter = again.dead_letters().unwrap().next().map(|letter| letter.unwrap().remove().unwrap());
        let message = letter.unwrap_or_else(|| again.recv_task().unwrap().done().unwrap());
        assert!(message == [2; 100_000]);
    }
}

#[test]
fn redelivery_join_waits_for_what_was_sent_before() {
    let _watchdog = TestDir::new();
    let (mut tx, mut rx) = redelivering(9).create_channel().unwrap();
    tx.send(1).unwrap();
    rx.recv().unwrap();
    let (mut later, mut other) = (tx.try_clone().unwrap(), rx.try_clone().unwrap());
    thread::scope(|scope| {
        let joining = scope.spawn(|| tx.join());
        thread::sleep(MOMENT);
        later.send(2).unwrap(); // join was called before
        assert_eq!(other.recv(), Ok(2), "and it is not done, either");
        assert!(!joining.is_finished());
        rx.task_done().unwrap();
        assert_eq!(joining.join().unwrap(), Ok(()));
    });
    assert_eq!(later.join_timeout(MOMENT), Err(JoinError::TimedOut), "in hand");
    drop(other);
    assert_eq!(later.join_timeout(MOMENT), Err(JoinError::TimedOut), "given back");
    assert_eq!((rx.recv(), rx.task_done(), later.join()), (Ok(2), Ok(()), Ok(())));
    later.send(3).unwrap();
    assert_eq!(later.join_timeout(MOMENT), Err(JoinError::TimedOut), "queued");
}

#[test]
fn redelivery_task_done_twice_or_by_another_is_refused() {
    let _watchdog = TestDir::new();
    let (mut tx, mut rx) = redelivering(9).create_channel().unwrap();
    let mut other = rx.try_clone().unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(other.task_done(), Err(TaskDoneError::NoTask), "another has received it");
    assert_eq!((rx.task_done(), rx.task_done()), (Ok(()), Err(TaskDoneError::NoTask)));
    assert!(TaskDoneError::NoTask.to_string().contains("another handle"));
    assert_eq!(tx.join(), Ok(()));
    assert_eq!(tx.send_many(&[1, 2]), Ok(2));
    assert_eq!((rx.recv(), rx.recv(), rx.task_done()), (Ok(1), Ok(2), Ok(())));
    let mut rx = {
        drop(rx);
        other.try_clone().unwrap()
    };
    assert_eq!((rx.recv(), rx.deliveries(), rx.task_done()), (Ok(2), 2, Ok(())), "the oldest first: 1 is done");
    // A task finishes its own.
    assert_eq!(tx.send_many(&[1, 2]), Ok(2));
    assert_eq!(rx.recv(), Ok(1));
    rx.recv_task().unwrap().done().unwrap();
    drop(rx);
    assert_eq!((other.recv(), other.deliveries()), (Ok(1), 2), "2 is done");
}

#[test]
fn redelivery_opened_with_other_options_is_refused() {
    let test_dir = TestDir::new();
    let _plain = values(&test_dir).sender("plain").unwrap();
    let _redelivering = named(&test_dir, 3).sender(NAME).unwrap();
    let refused = [
        (named(&test_dir, 3), "plain", "loses the messages of the dead", "redelivers 3 times"),
        (named(&test_dir, 4), NAME, "redelivers 3 times", "redelivers 4 times"),
        (values(&test_dir).on_death(OnDeath::Lose), NAME, "redelivers 3 times", "loses the messages of the dead"),
    ];
    for (options, name, found, expected) in refused {
        let error = options.receiver(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType);
        let text = error.to_string();
        assert!(text.contains(found) && text.contains(expected) && text.contains("the same options"), "{text}");
    }
    let rx = values(&test_dir).receiver(NAME).unwrap();
    assert_eq!(rx.on_death(), OnDeath::Redeliver { times: 3 });
    let error = redelivering(255).create().unwrap_err();
    assert!(error.to_string().contains("limit of deliveries") && error.to_string().contains("0 to 255"), "{error}");
    let (tx, _rx) = queue::Options::bytes().on_death(OnDeath::Redeliver { times: 1 }).create_channel().unwrap();
    // SAFETY: both endpoints belong to this process.
    let error = unsafe { tx.into_zero_copy() }.unwrap_err();
    assert!(error.to_string().contains("redelivers"), "{error}");
}

#[test]
fn redelivery_receivers_see_the_end_when_nothing_can_come() {
    let test_dir = TestDir::new();
    let options = named(&test_dir, 9);
    let mut tx = options.sender(NAME).unwrap();
    let mut rx = options.receiver(NAME).unwrap();
    tx.send(7).unwrap();
    let worker = start_holding(&test_dir, "1");
    drop(tx);
    assert_eq!(rx.try_recv(), Err(RecvError::Empty), "it may come");
    assert_eq!(rx.recv_timeout(2 * MOMENT), Err(RecvError::TimedOut));
    worker.kill();
    assert_eq!((rx.recv(), rx.deliveries()), (Ok(7), 2));
    assert_eq!(rx.recv(), Err(RecvError::Closed), "what it holds itself does not come");
    rx.task_done().unwrap();
}

/// It joins when there is no sender and nothing is queued, but another receiver may die.
#[test]
fn redelivery_worker_joins_after_senders_left_sees_the_end() {
    let test_dir = TestDir::new();
    let options = named(&test_dir, 9);
    for is_killed_before in [true, false] {
        let (mut tx, place) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
        tx.send(7).unwrap();
        let worker = start_holding(&test_dir, "1");
        drop(tx);
        if is_killed_before {
            worker.kill();
            let mut rx = options.receiver(NAME).unwrap();
            assert_eq!((rx.recv_timeout(LONG), rx.deliveries(), rx.task_done()), (Ok(7), 2, Ok(())));
            assert_eq!(rx.recv_timeout(LONG), Err(RecvError::Closed));
        } else {
            let mut rx = options.receiver(NAME).unwrap();
            assert_eq!(rx.recv_timeout(2 * MOMENT), Err(RecvError::TimedOut));
            worker.kill();
            assert_eq!((rx.recv_timeout(LONG), rx.deliveries(), rx.task_done()), (Ok(7), 2, Ok(())));
            assert_eq!(rx.recv_timeout(LONG), Err(RecvError::Closed));
        }
        drop(place);
    }
}

#[test]
fn redelivery_receivers_that_hold_messages_do_not_wait_for_each_other() {
    let _watchdog = TestDir::new();
    let (mut tx, mut one) = redelivering(9).create_channel().unwrap();
    let (mut two, mut idle) = (one.try_clone().unwrap(), one.try_clone().unwrap());
    assert_eq!(tx.send_many(&[1, 2]), Ok(2));
    assert_eq!((one.recv(), two.recv()), (Ok(1), Ok(2)));
    drop(tx);
    thread::scope(|scope| {
        let ended = [&mut one, &mut two].map(|rx| scope.spawn(|| (rx.recv(), rx.task_done())));
        for ended in ended {
            assert_eq!(ended.join().unwrap(), (Err(RecvError::Closed), Ok(())));
        }
    });
    assert_eq!(idle.recv(), Err(RecvError::Closed), "nobody holds anything");
}

/// Ends in good order, without having dropped its receiver.
pub fn hold_and_exit(arguments: &[String]) {
    let (options, _) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    forget(rx);
    std::process::exit(0);
}

#[test]
fn redelivery_worker_exited_message_comes_again() {
    let test_dir = TestDir::new();
    let (mut tx, mut rx) = (named(&test_dir, 9).sender(NAME).unwrap(), named(&test_dir, 9).receiver(NAME).unwrap());
    tx.send(7).unwrap();
    enter(&test_dir, "hold_and_exit", &[]).finish();
    assert_eq!((rx.recv_timeout(LONG), rx.deliveries()), (Ok(7), 2));
}

pub fn finish_what_was_passed(_: &[String]) {
    let mut rx: queue::Receiver<u64> = spawn::take("rx").unwrap();
    rx.task_done().unwrap();
    drop(rx.recv_task().unwrap());
}

#[test]
fn redelivery_receiver_passed_on_keeps_its_messages() {
    let _watchdog = TestDir::new();
    let (mut tx, mut rx) = redelivering(9).create_channel().unwrap();
    let mut other = rx.try_clone().unwrap();
    assert_eq!(tx.send_many(&[1, 2, 3]), Ok(3));
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
    let command = crate::support::command("finish_what_was_passed", &[]).pass("rx", rx).unwrap();
    Process::from(command.spawn().unwrap()).finish();
    assert_eq!(drain(&mut other), [(2, 2), (3, 2)], "1 is done");

    tx.send(4).unwrap();
    assert_eq!(other.recv(), Ok(4));
    let descriptor: OwnedFd = other.into_fd().unwrap();
    let mut again: queue::Receiver<u64> = redelivering(9).from_fd(descriptor).unwrap();
    assert_eq!((again.task_done(), tx.join()), (Ok(()), Ok(())));
}

#[test]
fn redelivery_queue_in_namespace_redelivers() {
    let test_dir = TestDir::new();
    let builder = || Namespace::builder().directory(test_dir.names()).queue_with("jobs", &redelivering(1));
    let namespace = builder().open("space").unwrap();
    let mut first = namespace.queue::<u64>("jobs").unwrap();
    let alone = alone();
    first.send(7).unwrap();
    fork(&alone, || {
        let mut theirs = builder().open("space").unwrap().queue::<u64>("jobs").unwrap();
        assert_eq!(theirs.recv(), Ok(7));
        // SAFETY: ends the child, as a kill does.
        unsafe { libc::_exit(0) };
    })
    .finish();
    drop(alone);
    let task = loop {
        if let Ok(task) = first.recv_task() {
            break (*task, task.deliveries());
        }
    };
    assert_eq!(task, (7, 2));
    assert_eq!(first.stats().dead_letters, 1, "dropped after its second delivery");
    assert_eq!(first.dead_letters().unwrap().next().unwrap().unwrap().remove(), Some(7));
}

#[test]
fn redelivery_close_now_discards_what_waits() {
    let _watchdog = TestDir::new();
    let (mut tx, mut rx) = redelivering(9).create_channel().unwrap();
    assert_eq!(tx.send_many(&[1, 2, 3]), Ok(3));
    assert_eq!(rx.recv(), Ok(1));
    rx.recv_task().unwrap().give_back();
    assert_eq!(rx.close_now(), Ok(2));
    assert_eq!((tx.stats().dropped, tx.stats().unfinished, tx.stats().used_blocks), (2, 1, 1));
    assert_eq!((rx.task_done(), rx.recv()), (Ok(()), Err(RecvError::Closed)));
}

#[test]
fn redelivery_batches_are_tasks_of_their_own() {
    let _watchdog = TestDir::new();
    let (mut tx, mut rx) = redelivering(9).capacity(4).create_channel().unwrap();
    assert_eq!(tx.try_send_many(&[1, 2, 3, 4, 5]), Ok(4));
    let mut batch = [0; 8];
    assert_eq!((rx.recv_many(&mut batch), &batch[..4]), (Ok(4), &[1, 2, 3, 4][..]));
    assert_eq!(tx.stats().unfinished, 4);
    (0..4).for_each(|_| rx.task_done().unwrap());
    assert_eq!(tx.join(), Ok(()));

    let options = queue::Options::bytes().on_death(OnDeath::Redeliver { times: 1 }).capacity(4);
    let (mut tx, mut rx) = options.blocks(Blocks { count: 4, bytes: 64 }).create_channel().unwrap();
    assert_eq!(tx.send_many(&["one", "two"]), Ok(1));
    assert_eq!(tx.send_many(&["two"]), Ok(1));
    let mut messages = vec![Vec::new(); 3];
    assert_eq!(rx.recv_many(&mut messages), Ok(2));
    assert_eq!(messages, [&b"one"[..], b"two", b""]);
    assert_eq!((rx.task_done(), rx.task_done(), tx.join()), (Ok(()), Ok(()), Ok(())));
}

// ---- the storm ------------------------------------------------------------------------------------------------------

const JOBS: u64 = 500;
/// In the counter of a job: how often it was delivered without and with the mark, and done.
const UNMARKED: u64 = 1;
const MARKED: u64 = 1 << 20;
const DONE: u64 = 1 << 40;
const FIRST_COUNTER: usize = 8;

/// Works until it is killed, on up to three jobs at a time. It may be killed anywhere.
pub fn work_until_killed(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    let count = |job: u64, what| counters.word(FIRST_COUNTER + job as usize).fetch_add(what, Ordering::SeqCst);
    let mut held = Vec::new();
    loop {
        let received = if held.is_empty() { rx.recv() } else { rx.try_recv() };
        if let Ok(job) = received {
            count(job, if rx.deliveries() > 1 { MARKED } else { UNMARKED });
            held.push(job);
        }
        if received.is_err() || held.len() > 2 {
            thread::sleep(Duration::from_micros(500));
            for job in held.drain(..) {
                count(job, DONE);
                rx.task_done().unwrap();
            }
        }
    }
}

#[test]
fn redelivery_storm_every_job_is_done_and_duplicates_are_marked() {
    let test_dir = TestDir::new();
    let options = named(&test_dir, 254).capacity(64).unfinished(256);
    let mut tx = options.sender(NAME).unwrap();
    let _place = options.receiver(NAME).unwrap(); // receives nothing, so that senders wait
    let mut random = stress_random(7);
    let mut workers: Vec<_> = (0..4).map(|_| enter(&test_dir, "work_until_killed", &[])).collect();
    let mut kills = 0;
    for job in 0..JOBS {
        tx.send(job).unwrap();
        if random.below(12) == 0 && kills < 40 * stress_factor() {
            kills += 1;
            let worker = workers.swap_remove(random.below(4) as usize);
            match random.below(4) {
                0 => {
                    worker.signal(libc::SIGSTOP);
                    thread::sleep(Duration::from_millis(random.below(30)));
                }
                1 => {} // while it works
                _ => thread::sleep(Duration::from_millis(random.below(10))),
            }
            worker.kill();
            workers.push(enter(&test_dir, "work_until_killed", &[]));
        }
    }
    assert_eq!(tx.join_timeout(LONG), Ok(()), "{:?}", tx.stats());
    workers.into_iter().for_each(Process::kill);
    let counters = counters(&test_dir);
    let mut redelivered = 0;
    for job in 0..JOBS {
        let counter = counters.word(FIRST_COUNTER + job as usize).load(Ordering::SeqCst);
        let unmarked = counter % MARKED;
        redelivered += counter / MARKED % MARKED;
        assert!(unmarked <= 1, "job {job} was delivered {unmarked} times as new");
        assert!(counter >= DONE, "job {job} was not done");
    }
    assert!(kills > 10 && redelivered > 0, "{kills} kills, {redelivered} redelivered");
    let stats = tx.stats();
    assert_eq!(
        (stats.lost, stats.tasks_lost, stats.dead_letters, stats.used_blocks, stats.quarantined),
        (0, 0, 0, 0, 0)
    );
}
