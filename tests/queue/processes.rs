//! Queues between processes: transferred endpoints, names, deaths, participants, forks and lost
//! messages.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Process, Random, SharedCounters, TestDir, alone, command, fork, message, number_of, start, until,
};
use tombolo::inspect::ParticipantStatus;
use tombolo::queue::{self, JoinError, QueueEndpoint, TaskDoneError};
use tombolo::spawn::{self, CommandExt};
use tombolo::{Directory, ErrorKind, OnStale, RecvError, SendError};

pub const NAME: &str = "name";
pub const MOMENT: Duration = Duration::from_millis(30);

pub fn values(test_dir: &TestDir) -> queue::Options<u64> {
    queue::Options::new().directory(test_dir.names())
}

pub fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

/// Starts a process in `role`; see [`from_arguments`].
pub fn enter(test_dir: &TestDir, role: &str, more: &[&str]) -> Process {
    let (names, counters) = (test_dir.names(), test_dir.file("counters"));
    start(role, &[&[names.to_str().unwrap(), counters.to_str().unwrap()], more].concat())
}

/// Starts a process in `role` and waits until it has joined.
pub fn start_joined(test_dir: &TestDir, role: &str) -> Process {
    let process = enter(test_dir, role, &[]);
    counters(test_dir).meet(0, 2);
    process
}

/// The options and the counters of a process that [`enter`] has started.
pub fn from_arguments(arguments: &[String]) -> (queue::Options<u64>, SharedCounters) {
    (queue::Options::new().directory(&arguments[0]), SharedCounters::at(Path::new(&arguments[1])))
}

pub fn stay(counters: &SharedCounters) -> ! {
    counters.meet(0, 2);
    loop {
        thread::park();
    }
}

pub fn do_nothing(_: &[String]) {}

// ---- transferred endpoints -- ---------------------------------------------------------------------------------------

/// Starts a process with two endpoints: one to take work from, one to send results to.
fn start_worker<E: QueueEndpoint + 'static, F: QueueEndpoint + 'static>(role: &str, work: E, results: F) -> Process {
    let spawner = command(role, &[]).pass("work", work).unwrap().pass("results", results).unwrap();
    spawner.spawn().unwrap().into()
}

pub fn double(_: &[String]) {
    let mut work: queue::Receiver<u64> = spawn::take("work").unwrap();
    let mut results: queue::Sender<u64> = spawn::take("results").unwrap();
    for number in &mut work {
        let number = number.unwrap();
        results.send(2 * number).unwrap();
    }
    assert_eq!(work.recv(), Err(RecvError::Closed));
}

#[test]
fn queue_endpoints_passed_to_children_share_the_work() {
    let test_dir = TestDir::new(); // for its watchdog
    let (mut work, their_work) = queue::Options::<u64>::new().capacity(16).create_channel().unwrap();
    let (their_results, mut results) = queue::Options::<u64>::new().capacity(16).create_channel().unwrap();
    let hand = || start_worker("double", their_work.try_clone().unwrap(), their_results.try_clone().unwrap());
    let workers = [hand(), hand(), hand()];
    drop((their_work, their_results));
    let received = thread::scope(|scope| {
        let received = scope.spawn(move || {
            let received: Vec<u64> = results.iter().flatten().collect();
            assert_eq!(results.recv(), Err(RecvError::Closed), "all of them have left");
            received
        });
        (0..3000).for_each(|number: u64| work.send(number).unwrap());
        drop(work);
        received.join().unwrap()
    });
    workers.into_iter().for_each(Process::finish);
    let mut received = received;
    received.sort_unstable();
    assert!(received.into_iter().eq((0..3000).map(|number| 2 * number)));
    drop(test_dir);
}

pub fn echo(_: &[String]) {
    let mut work: queue::ByteReceiver = spawn::take("work").unwrap();
    let mut results: queue::ByteSender = spawn::take("results").unwrap();
    for message in &mut work {
        let message = message.unwrap();
        results.send(&message).unwrap();
    }
}

#[test]
fn queue_message_of_any_length_returns_from_child() {
    let _watchdog = TestDir::new();
    let (mut work, their_work) = queue::Options::bytes().create_channel().unwrap();
    let (their_results, mut results) = queue::Options::bytes().create_channel().unwrap();
    let child = start_worker("echo", their_work, their_results);
    let mut received = vec![0xEE; 3];
    for length in [0, 1, 7, 8, 239, 240, 241, 4095, 4096, 4097, 65_537, 1 << 20, (1 << 20) + 1, 3 << 20] {
        let sent = message(length as u64, length);
        work.send(&sent).unwrap();
        assert_eq!(results.recv(&mut received), Ok(length));
        assert!(received == sent, "{length} bytes came back changed");
    }
    drop(work);
    assert_eq!(results.recv(&mut received), Err(RecvError::Closed));
    child.finish();
    assert_eq!(results.stats().pooled, 0);
}

pub fn take_wrongly(_: &[String]) {
    let error = spawn::take::<queue::Receiver<u64>>("results").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType, "it is a sender");
    assert!(error.to_string().contains("sender"), "{error}");
    let error = spawn::take::<queue::Receiver<u32>>("work").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType, "its values are longer");
    assert_eq!(spawn::take::<queue::Receiver<u64>>("work").unwrap_err().kind(), ErrorKind::NotFound, "it is used up");
}

#[test]
fn queue_endpoint_never_taken_counts_as_dead() {
    let _watchdog = TestDir::new();
    for role in ["do_nothing", "take_wrongly"] {
        let (mut work, their_work) = queue::Options::<u64>::new().capacity(2).create_channel().unwrap();
        let (their_results, mut results) = queue::Options::<u64>::new().create_channel().unwrap();
        start_worker(role, their_work, their_results).finish();
        assert_eq!(results.recv(), Err(RecvError::PeerDied));
        assert_eq!(work.send_many(&[1, 2, 3]), Ok(2));
        assert_eq!(work.send(3), Err(SendError::PeerDied));
    }
}

// ---- names -----------------------------------------------------------------------------------------------------------

const EACH: u64 = 2000;

pub fn send_numbers(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut tx = options.capacity(8).sender(NAME).unwrap();
    counters.meet(0, 6); // nobody leaves before all have come
    (1..=EACH).for_each(|number| tx.send(number).unwrap());
}

pub fn count_numbers(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.capacity(8).receiver(NAME).unwrap();
    counters.meet(0, 6);
    for number in &mut rx {
        let number = number.unwrap();
        counters.word(1).fetch_add(1, Ordering::SeqCst);
        counters.word(2).fetch_add(number, Ordering::SeqCst);
    }
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn queue_name_opened_in_any_order_connects_processes() {
    let mut random = Random(0xC0FFEE);
    for _ in 0..5 {
        let test_dir = TestDir::new();
        let mut roles =
            ["send_numbers", "send_numbers", "send_numbers", "count_numbers", "count_numbers", "count_numbers"];
        for last in (1..roles.len()).rev() {
            roles.swap(last, random.below(last as u64 + 1) as usize);
        }
        let processes: Vec<_> = roles.iter().map(|role| enter(&test_dir, role, &[])).collect();
        processes.into_iter().for_each(Process::finish);
        let word = |index| counters(&test_dir).word(index).load(Ordering::SeqCst);
        assert_eq!((word(1), word(2)), (3 * EACH, 3 * EACH * (EACH + 1) / 2), "in the order {roles:?}");
        assert_eq!(test_dir.leftovers(), [""; 0]);
    }
}

pub fn send_three_and_leave(arguments: &[String]) {
    let (options, _) = from_arguments(arguments);
    let mut tx = options.sender(NAME).unwrap();
    assert_eq!(tx.send_many(&[1, 2, 3]), Ok(3));
}

pub fn receive_and_leave(arguments: &[String]) {
    let (options, _) = from_arguments(arguments);
    let mut rx = options.must_exist().receiver(NAME).unwrap();
    assert_eq!(rx.iter().flatten().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn queue_unreceived_messages_keep_the_name() {
    let test_dir = TestDir::new();
    enter(&test_dir, "send_three_and_leave", &[]).finish();
    assert_eq!(test_dir.leftovers(), [NAME]);
    enter(&test_dir, "receive_and_leave", &[]).finish();
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn queue_receiver_killed_unreceived_message_keeps_the_name() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    drop(values(&test_dir).receiver(NAME).unwrap());
    start_joined(&test_dir, "stay_as_receiver").kill();
    tx.send(1).unwrap(); // has room, and does not notice
    drop(tx);
    assert_eq!(test_dir.leftovers(), [NAME]);
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Closed)));
}

const RACES: u64 = 300;

#[test]
fn queue_name_opened_in_a_race_connects_both() {
    let test_dir = TestDir::new();
    let (options, counters) = (values(&test_dir), counters(&test_dir));
    let other = start_joined(&test_dir, "race_as_receiver");
    for round in 0..RACES {
        counters.meet(1, 2);
        let mut tx = options.sender(&format!("race-{round}")).unwrap();
        tx.send(round).unwrap();
        counters.meet(2, 2);
        spin(round % 20);
        drop(tx); // while the receiver does the same
        counters.meet(3, 2);
        assert_eq!(test_dir.leftovers(), [""; 0], "in round {round}");
    }
    other.finish();
}

/// Spins for some microseconds, so that the two processes meet at every point sooner or later.
fn spin(microseconds: u64) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_micros(microseconds) {}
}

pub fn race_as_receiver(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    counters.meet(0, 2);
    for round in 0..RACES {
        counters.meet(1, 2);
        let mut rx = options.receiver(&format!("race-{round}")).unwrap();
        assert_eq!(rx.recv(), Ok(round));
        counters.meet(2, 2);
        spin(round % 21);
        drop(rx);
        counters.meet(3, 2);
    }
}

pub fn send_three_and_stay(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut tx = options.sender(NAME).unwrap();
    assert_eq!(tx.send_many(&[1, 2, 3]), Ok(3));
    stay(&counters);
}

pub fn receive_three_and_stay(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Ok(3)));
    stay(&counters);
}

#[test]
fn queue_all_users_dead_is_resumed() {
    let test_dir = TestDir::new();
    let senders = [start_joined(&test_dir, "send_three_and_stay"), start_joined(&test_dir, "send_three_and_stay")];
    let receiver = start_joined(&test_dir, "receive_three_and_stay");
    senders.into_iter().for_each(Process::kill);
    receiver.kill();
    let inspection = Directory::at(test_dir.names()).inspect(NAME).unwrap();
    assert!(inspection.is_stale());
    let dead = inspection.participants.iter().filter(|participant| participant.status == ParticipantStatus::Dead);
    assert_eq!(dead.count(), 3);
    let mut rx = values(&test_dir).on_stale(OnStale::Resume).receiver(NAME).unwrap();
    let stats = rx.stats();
    assert_eq!((stats.senders, stats.receivers, stats.queued, stats.lost), (0, 1, 3, 0), "the dead are repaired");
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Ok(3)));
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send(4).unwrap();
    assert_eq!(rx.recv(), Ok(4));
    drop((tx, rx));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn queue_all_users_dead_is_replaced_on_request() {
    let test_dir = TestDir::new();
    let sender = start_joined(&test_dir, "send_three_and_stay");
    let options = values(&test_dir).on_stale(OnStale::Recreate);
    assert_eq!(options.receiver(NAME).unwrap().stats().queued, 3, "its sender is alive");
    sender.kill();
    let mut rx = options.receiver(NAME).unwrap();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty), "nobody has died in this one");
    let mut tx = options.sender(NAME).unwrap(); // not abandoned: the receiver is here
    tx.send(9).unwrap();
    assert_eq!(rx.recv(), Ok(9));
    drop((rx, tx));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

// ---- the last one, and those before ----------------------------------------------------------------------------------

/// Receives until the end and stores how it ended.
pub fn store_the_end(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    counters.meet(0, 2);
    while rx.recv().is_ok() {}
    let end = rx.recv().unwrap_err();
    assert_eq!(rx.recv(), Err(end), "the end stays");
    counters.word(2).store(if end == RecvError::PeerDied { 1 } else { 2 }, Ordering::SeqCst);
}

/// Returns when all deaths so far have been repaired.
fn until_repaired(rx: &mut queue::Receiver<u64>, senders: u64) {
    while rx.stats().senders != senders {
        assert_eq!(rx.recv_timeout(MOMENT), Err(RecvError::TimedOut));
    }
}

#[test]
fn receiver_last_sender_killed_returns_peer_died() {
    let test_dir = TestDir::new();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    let senders = [(); 3].map(|()| start_joined(&test_dir, "send_three_and_stay"));
    let [first, second, last] = senders;
    for _ in 0..8 {
        rx.recv().unwrap();
    }
    let other = start_joined(&test_dir, "store_the_end"); // it may get the ninth
    first.kill();
    second.kill();
    let ninth = rx.recv_timeout(MOMENT);
    assert!(matches!(ninth, Ok(3) | Err(RecvError::TimedOut)), "{ninth:?}");
    until_repaired(&mut rx, 1);
    assert_eq!(rx.recv_timeout(MOMENT), Err(RecvError::TimedOut), "one is left");
    last.kill();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
    assert_eq!(rx.try_recv(), Err(RecvError::PeerDied));
    other.finish();
    assert_eq!(counters(&test_dir).word(2).load(Ordering::SeqCst), 1);
    enter(&test_dir, "send_three_and_leave", &[]).finish();
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Ok(3)));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn receiver_last_sender_left_after_deaths_returns_closed() {
    let test_dir = TestDir::new();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    let tx = values(&test_dir).sender(NAME).unwrap();
    let other = start_joined(&test_dir, "store_the_end");
    start_joined(&test_dir, "send_three_and_stay").kill();
    until(|| matches!(rx.recv_timeout(MOMENT), Err(RecvError::TimedOut)));
    until_repaired(&mut rx, 1);
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    other.finish();
    assert_eq!(counters(&test_dir).word(2).load(Ordering::SeqCst), 2);
}

#[test]
fn receiver_sender_killed_returns_its_messages_first() {
    let test_dir = TestDir::new();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    start_joined(&test_dir, "send_three_and_stay").kill();
    assert_eq!((rx.try_recv(), rx.recv(), rx.recv_timeout(MOMENT)), (Ok(1), Ok(2), Ok(3)));
    let end = (0..).find_map(|_| rx.try_recv().err().filter(|&error| error != RecvError::Empty));
    assert_eq!(end, Some(RecvError::PeerDied), "even if nobody waits");
}

/// Fills the queue, waits for a free slot and stores how that ended: 1 for a death.
pub fn send_until_the_end(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut tx = options.capacity(4).sender(NAME).unwrap();
    let (sent, end) = (0..).find_map(|number| Some((number, tx.send(number).err()?))).unwrap();
    counters.word(1).store(sent, Ordering::SeqCst);
    counters.word(2).store(if end == SendError::PeerDied { 1 } else { 2 }, Ordering::SeqCst);
}

/// Does the same with messages that fill the pool and not the queue.
pub fn send_large_until_the_end(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut tx = pool_of_three(Path::new(&arguments[0])).sender(NAME).unwrap();
    let (sent, end) = (0..).find_map(|number| Some((number, tx.send(message(number, 1000)).err()?))).unwrap();
    counters.word(1).store(sent, Ordering::SeqCst);
    counters.word(2).store(if end == SendError::PeerDied { 1 } else { 2 }, Ordering::SeqCst);
}

fn pool_of_three(names: &Path) -> queue::Options<[u8]> {
    queue::Options::bytes()
        .capacity(8)
        .blocks(tombolo::queue::Blocks { count: 2, bytes: 1024 })
        .extents(1)
        .max_message_bytes(4096)
        .directory(names)
}

#[test]
fn sender_last_receiver_killed_stops_waiting_for_slot() {
    let test_dir = TestDir::new();
    let counters = counters(&test_dir);
    let word = |index: usize| counters.word(index).load(Ordering::SeqCst);
    let watcher = values(&test_dir).capacity(4).sender(NAME).unwrap();
    let receivers = [(); 2].map(|()| start_joined(&test_dir, "stay_as_receiver"));
    let sender = enter(&test_dir, "send_until_the_end", &[]);
    until(|| watcher.is_full());
    let [first, last] = receivers;
    first.kill();
    until(|| watcher.stats().receivers == 1);
    thread::sleep(MOMENT);
    assert_eq!(word(2), 0, "one is left");
    last.kill();
    sender.finish();
    assert_eq!((word(1), word(2)), (4, 1));
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    drop(watcher);
    assert_eq!(rx.iter().flatten().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn sender_last_receiver_left_stops_waiting_for_slot() {
    let test_dir = TestDir::new();
    let counters = counters(&test_dir);
    let rx = values(&test_dir).capacity(4).receiver(NAME).unwrap();
    let sender = enter(&test_dir, "send_until_the_end", &[]);
    until(|| rx.is_full());
    thread::sleep(MOMENT);
    drop(rx);
    sender.finish();
    assert_eq!(counters.word(2).load(Ordering::SeqCst), 2);
}

#[test]
fn sender_last_receiver_killed_stops_waiting_for_block() {
    let test_dir = TestDir::new();
    let counters = counters(&test_dir);
    let options = pool_of_three(&test_dir.names());
    let mut watcher = options.sender(NAME).unwrap();
    let receiver = start_joined(&test_dir, "stay_as_byte_receiver");
    let sender = enter(&test_dir, "send_large_until_the_end", &[]);
    until(|| watcher.stats().pooled == 3);
    thread::sleep(MOMENT);
    assert_eq!(counters.word(2).load(Ordering::SeqCst), 0);
    receiver.kill();
    sender.finish();
    assert_eq!([1, 2].map(|index| counters.word(index).load(Ordering::SeqCst)), [3, 1]);
    watcher.send(b"a short one has room").unwrap();
    let mut rx = options.receiver(NAME).unwrap();
    drop(watcher);
    let received: Vec<_> = rx.iter().flatten().collect();
    assert_eq!(received.len(), 4);
    assert!(received[..3].iter().zip(0..).all(|(message, number)| number_of(message) == number));
    assert_eq!(rx.stats().pooled, 0);
}

pub fn stay_as_receiver(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let _rx = options.receiver(NAME).unwrap();
    stay(&counters);
}

pub fn stay_as_byte_receiver(arguments: &[String]) {
    let _rx = pool_of_three(Path::new(&arguments[0])).receiver(NAME).unwrap();
    stay(&SharedCounters::at(Path::new(&arguments[1])));
}

// ---- participants ----------------------------------------------------------------------------------------------------

pub fn join_send_and_stay(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut tx = options.sender(NAME).unwrap();
    tx.send(u64::from(std::process::id())).unwrap();
    stay(&counters);
}

#[test]
fn queue_participant_killed_its_record_is_reused() {
    let test_dir = TestDir::new();
    let mut random = Random(4);
    let mut rx = values(&test_dir).max_participants(4).receiver(NAME).unwrap();
    let mut senders = [(); 3].map(|()| start_joined(&test_dir, "join_send_and_stay")).map(Some);
    let mut pids: Vec<_> = senders.iter().map(|sender| sender.as_ref().unwrap().pid() as u64).collect();
    for _ in 0..50 {
        let place = &mut senders[random.below(3) as usize];
        place.take().unwrap().kill();
        *place = Some(start_joined(&test_dir, "join_send_and_stay"));
        pids.push(place.as_ref().unwrap().pid() as u64);
    }
    let mut received: Vec<_> = pids.iter().map(|_| rx.recv().unwrap()).collect();
    pids.sort_unstable();
    received.sort_unstable();
    assert_eq!(received, pids, "each of them sent one");
    let inspection = Directory::at(test_dir.names()).inspect(NAME).unwrap();
    assert_eq!(inspection.participants.iter().map(|participant| participant.joins).sum::<u64>(), 1 + 3 + 50);
    let queue = inspection.queue.unwrap();
    assert_eq!((queue.senders_joined, queue.receivers_joined), (3 + 50, 1));
    drop(senders);
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
    assert_eq!(rx.stats().lost, 0);
}

/// Exits on its own, so that its status shows whether it could join.
pub fn join_together(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    counters.meet(1, 3);
    let mut tx = options.sender(NAME).unwrap();
    tx.send(0).unwrap();
    std::process::exit(0);
}

/// Each of them repairs or finds another one repairing. None may find the queue full.
#[test]
fn queue_successors_joining_at_once_all_find_records() {
    let test_dir = TestDir::new();
    let mut rx = values(&test_dir).max_participants(4).receiver(NAME).unwrap();
    for _ in 0..100 {
        [(); 3].map(|()| enter(&test_dir, "join_together", &[])).into_iter().for_each(Process::finish);
        assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(0), Ok(0), Ok(0)));
    }
}

#[test]
fn queue_full_of_stopped_participants_error_names_them() {
    let test_dir = TestDir::new();
    let mut rx = values(&test_dir).max_participants(4).receiver(NAME).unwrap();
    let [first, second, third] = [(); 3].map(|()| start_joined(&test_dir, "join_send_and_stay"));
    second.signal(libc::SIGSTOP);
    for error in [values(&test_dir).sender(NAME).unwrap_err(), rx.try_clone().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::TooManyParticipants);
        let text = error.to_string();
        for pid in [first.pid(), second.pid(), third.pid(), std::process::id() as i32] {
            assert!(text.contains(&pid.to_string()), "{pid} is not in: {text}");
        }
    }
    second.kill();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send(9).unwrap();
    let mut received = [(); 4].map(|()| rx.recv().unwrap());
    received.sort_unstable();
    assert_eq!(received[0], 9, "pids are higher: {received:?}");
}

// ---- forks -----------------------------------------------------------------------------------------------------------

#[test]
fn queue_handle_inherited_by_fork_is_refused() {
    let test_dir = TestDir::new();
    enter(&test_dir, "fork_with_handles", &[]).finish(); // alone in a process, as a fork has to be
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

pub fn fork_with_handles(arguments: &[String]) {
    let alone = alone();
    let (options, _) = from_arguments(arguments);
    let mut tx = options.capacity(4).sender(NAME).unwrap();
    let rx = tx.receiver().unwrap();
    let (mut byte_tx, mut byte_rx) = queue::Options::bytes().create_channel().unwrap();
    let mut both = queue::Options::<u8>::new().create().unwrap();
    tx.send(1).unwrap();
    byte_tx.send(message(1, 1000)).unwrap();
    let mut ends = Some((tx, rx));
    let child = fork(&alone, || {
        let (mut tx, mut rx) = ends.take().unwrap();
        assert_eq!((tx.send(9), tx.try_send(9)), (Err(SendError::Forked), Err(SendError::Forked)));
        assert_eq!((tx.send_many(&[9]), tx.join()), (Err(SendError::Forked), Err(JoinError::Forked)));
        assert_eq!((rx.recv(), rx.try_recv()), (Err(RecvError::Forked), Err(RecvError::Forked)));
        assert_eq!((rx.recv_many(&mut [0]), rx.task_done()), (Err(RecvError::Forked), Err(TaskDoneError::Forked)));
        assert_eq!(tx.try_clone().unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(rx.try_clone().unwrap_err().kind(), ErrorKind::Forked);
        for length in [10, 1000, 100_000] {
            assert_eq!(byte_tx.send(vec![9; length]), Err(SendError::Forked));
            assert_eq!(byte_tx.try_send(vec![9; length]), Err(SendError::Forked));
        }
        assert_eq!(byte_rx.recv(&mut Vec::new()), Err(RecvError::Forked));
        assert_eq!((both.send(9), both.recv()), (Err(SendError::Forked), Err(RecvError::Forked)));
        drop((tx, rx));
    });
    child.finish();
    let (mut tx, mut rx) = ends.unwrap();
    (2..=4).for_each(|number| tx.try_send(number).unwrap());
    assert_eq!(tx.try_send(5), Err(SendError::Full));
    drop(tx);
    assert_eq!(rx.iter().flatten().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    assert_eq!(byte_rx.iter().flatten().next(), Some(message(1, 1000)));
    assert_eq!(byte_rx.stats().pooled, 0);
    both.send(1).unwrap();
    assert_eq!(both.recv(), Ok(1));
}

#[test]
fn queue_closed_by_forked_child_stays_open() {
    let test_dir = TestDir::new();
    enter(&test_dir, "fork_and_end", &[]).finish();
}

pub fn fork_and_end(_: &[String]) {
    let alone = alone();
    let (mut tx, mut rx) = queue::Options::<u64>::new().create_channel().unwrap();
    tx.send(1).unwrap();
    fork(&alone, || {
        assert_eq!((tx.close(), rx.close()), (Err(SendError::Forked), Err(SendError::Forked)));
        assert_eq!(rx.close_now(), Err(RecvError::Forked));
    })
    .finish();
    assert_eq!(tx.send(2), Ok(()));
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
}

// ---- losses ----------------------------------------------------------------------------------------------------------

/// Large enough that a receiver that is killed is likely to be copying.
type Large = [u64; 16_384];

fn large(names: impl AsRef<Path>) -> queue::Options<Large> {
    queue::Options::new().capacity(8).directory(names.as_ref())
}

pub fn receive_for_ever(arguments: &[String]) {
    let mut rx = large(&arguments[0]).receiver(NAME).unwrap();
    let mut place = vec![[0; 16_384]];
    SharedCounters::at(Path::new(&arguments[1])).meet(0, 2);
    while rx.recv_many(&mut place).is_ok() {}
}

/// Kills receivers until one more message is lost, then receives what is left.
fn lose_one(test_dir: &TestDir, tx: &mut queue::Sender<Large>, random: &mut Random) {
    let before = tx.stats().lost;
    while tx.stats().lost == before {
        let victim = start_joined(test_dir, "receive_for_ever");
        let until = Instant::now() + Duration::from_micros(random.below(3000));
        while Instant::now() < until {
            let _ = tx.try_send([0; 16_384]);
        }
        victim.kill();
        drop(tx.try_clone().unwrap()); // joining repairs
    }
    assert_eq!(tx.stats().lost, before + 1, "one at a time");
}

#[test]
fn receiver_message_lost_is_reported_once_on_request() {
    let test_dir = TestDir::new();
    let mut random = Random(9);
    let options = large(test_dir.names());
    let mut tx = options.sender(NAME).unwrap();
    let mut silent = options.receiver(NAME).unwrap();
    let mut first = options.clone().report_lost_messages().receiver(NAME).unwrap();
    let mut second = first.try_clone().unwrap();
    for round in 1..=5 {
        assert_eq!((first.try_recv().err(), second.try_recv().err()), (Some(RecvError::Empty), Some(RecvError::Empty)));
        lose_one(&test_dir, &mut tx, &mut random);
        while silent.try_recv().is_ok() {}
        assert_eq!(silent.try_recv().err(), Some(RecvError::Empty), "it did not ask");
        tx.send([round; 16_384]).unwrap();
        let (teller, other) = if round % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        assert_eq!(teller.recv().err(), Some(RecvError::MessageLost), "before what follows");
        assert_eq!(other.recv().unwrap(), [round; 16_384], "once for all");
        assert_eq!(teller.try_recv().err(), Some(RecvError::Empty));
    }
    let stats = tx.stats();
    assert_eq!((stats.lost, stats.quarantined, stats.queued), (5, 0, 0));
}

#[test]
fn receiver_waiting_when_message_lost_is_told() {
    let test_dir = TestDir::new();
    let options = large(test_dir.names());
    let mut tx = options.sender(NAME).unwrap();
    let mut rx = options.report_lost_messages().receiver(NAME).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let told = (0..).find_map(|_| {
                thread::sleep(Duration::from_millis(1)); // leaves most to those that are killed
                rx.recv().err()
            });
            (told, rx)
        });
        lose_one(&test_dir, &mut tx, &mut Random(10));
        let (told, mut rx) = waiting.join().unwrap();
        assert_eq!(told, Some(RecvError::MessageLost));
        drop(tx);
        while rx.try_recv().is_ok() {}
        assert_eq!(rx.recv().err(), Some(RecvError::Closed));
    });
}
