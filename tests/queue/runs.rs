//! Runs of senders: which senders `close` ends, what follows, which end each side is told, and how
//! long the name of a queue lives.

use std::iter::from_fn;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::{Process, Random, SharedCounters, TestDir, start, until};
use tombolo::queue::{self, Queue};
use tombolo::{Directory, Endpoint, ErrorKind, RecvError, SendError, WaitStrategy};

const NAME: &str = "jobs";
const MOMENT: Duration = Duration::from_millis(40);

fn jobs(test_dir: &TestDir) -> queue::Options<u64> {
    queue::Options::new().capacity(2).max_participants(8).directory(test_dir.names())
}

fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

fn enter(test_dir: &TestDir, role: &str, number: u64) -> Process {
    let (names, counters) = (test_dir.names(), test_dir.file("counters"));
    start(role, &[names.to_str().unwrap(), counters.to_str().unwrap(), &number.to_string()])
}

fn from_arguments(arguments: &[String]) -> (queue::Options<u64>, SharedCounters, u64) {
    let options = queue::Options::new().capacity(2).max_participants(8).directory(&arguments[0]);
    (options, SharedCounters::at(Path::new(&arguments[1])), arguments[2].parse().unwrap())
}

fn stay(counters: &SharedCounters) -> ! {
    counters.meet(0, 2);
    loop {
        thread::park();
    }
}

/// The messages that can be received now.
fn rest(rx: &mut queue::Receiver<u64>) -> Vec<u64> {
    from_fn(|| rx.try_recv().ok()).collect()
}

/// All messages up to the end, and the end.
fn all(rx: &mut queue::Receiver<u64>) -> (Vec<u64>, RecvError) {
    (rx.iter().flatten().collect(), rx.recv().unwrap_err())
}

fn is_waiting(rx: &mut queue::Receiver<u64>) -> bool {
    rx.recv_timeout(MOMENT) == Err(RecvError::TimedOut)
}

fn is_empty(test_dir: &TestDir) -> bool {
    test_dir.leftovers().is_empty()
}

// ---- what close ends- --------------------------------------------------------------------------------------------------

#[test]
fn queue_runs_closed_before_receiver_arrive_in_order() {
    let test_dir = TestDir::new();
    let options = jobs(&test_dir).capacity(4);
    for batch in 0..3 {
        let mut tx = options.sender(NAME).unwrap();
        assert_eq!((tx.send(batch), tx.close()), (Ok(()), Ok(())));
        assert_eq!((tx.send(9), tx.close()), (Err(SendError::Closed), Err(SendError::Closed)));
    }
    let mut rx = options.receiver(NAME).unwrap();
    assert!(rx.stats().is_closed);
    assert_eq!(all(&mut rx), (vec![0, 1, 2], RecvError::Closed));
    drop(rx);
    assert!(is_empty(&test_dir));
}

#[test]
fn sender_joined_after_close_is_not_closed() {
    let test_dir = TestDir::new();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    let [mut first, mut second, mut third] = [(); 3].map(|()| jobs(&test_dir).sender(NAME).unwrap());
    first.send(1).unwrap();
    assert_eq!(second.close(), Ok(()));
    for bound in [&mut first, &mut second, &mut third] {
        assert_eq!(bound.send(9), Err(SendError::Closed));
        assert_eq!(bound.try_send_many(&[9, 9]), Err(SendError::Closed));
        assert_eq!(bound.close(), Err(SendError::Closed));
        let mut clone = bound.try_clone().unwrap();
        assert_eq!(clone.send(9), Err(SendError::Closed), "a clone belongs to its sender's run");
    }
    assert!(rx.stats().is_closed);
    let mut later = jobs(&test_dir).sender(NAME).unwrap();
    assert!(!rx.stats().is_closed, "it has begun the next run");
    later.send(2).unwrap();
    assert_eq!(first.close(), Err(SendError::Closed), "not a run of others");
    later.try_clone().unwrap().try_send(3).unwrap_err();
    assert_eq!(rest(&mut rx), [1, 2]);
    assert!(is_waiting(&mut rx), "a sender of the present run is there");
    drop((first, second, third));
    assert!(is_waiting(&mut rx));
    later.try_clone().unwrap().send(3).unwrap();
    assert_eq!(rest(&mut rx), [3]);
    drop(later);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn queue_closed_stays_closed_for_its_senders() {
    let test_dir = TestDir::new();
    let options = queue::Options::bytes().capacity(4).max_participants(3).max_message_bytes(1000);
    let options = options
        .inline_bytes(16)
        .blocks(tombolo::queue::Blocks { count: 2, bytes: 64 })
        .extents(2)
        .directory(test_dir.names());
    let (mut tx, mut rx) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    tx.send(b"before").unwrap();
    assert_eq!(tx.close(), Ok(()));
    assert_eq!((tx.close(), rx.close()), (Err(SendError::Closed), Err(SendError::Closed)), "twice");
    let long = [1; 1000];
    for message in [&b""[..], &long[..16], &long[..64], &long[..]] {
        assert_eq!(tx.send(message), Err(SendError::Closed), "{} bytes", message.len());
        assert_eq!(tx.try_send(message), Err(SendError::Closed));
        assert_eq!(tx.send_many(&[message, message]), Err(SendError::Closed));
    }
    assert_eq!(tx.send([1; 1001]), Err(SendError::TooLarge { length: 1001, limit: 1000 }), "that comes first");
    let mut late = options.open(NAME).err();
    assert_eq!(
        late.take().map(|error| error.kind()),
        Some(ErrorKind::TooManyParticipants),
        "two participants are there, it needs two"
    );
    assert_eq!(
        tx.try_clone().unwrap().try_send(b"late"),
        Err(SendError::Closed),
        "a clone belongs to the run of its sender"
    );
    assert_eq!(rx.recv(&mut Vec::new()), Ok(6), "what was there is not lost");
    assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
    assert_eq!(rx.close_now(), Ok(0));
    assert_eq!((rx.stats().pooled, rx.stats().queued, rx.stats().dropped), (0, 0, 0));
}

#[test]
fn receiver_makes_sender_after_close_begins_next_run() {
    let (tx, mut rx) = queue::Options::<u64>::new().capacity(2).create_channel().unwrap();
    tx.close().unwrap();
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    let mut next = rx.sender().unwrap();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    next.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    drop(next);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    assert_eq!(tx.receiver().unwrap().recv(), Err(RecvError::Closed), "it has what the sender has behind it");
}

#[test]
fn receiver_close_ends_the_open_run() {
    let test_dir = TestDir::new();
    let mut queue = jobs(&test_dir).open(NAME).unwrap();
    let mut other = jobs(&test_dir).sender(NAME).unwrap();
    queue.close().unwrap();
    assert_eq!((queue.send(1), other.send(1)), (Err(SendError::Closed), Err(SendError::Closed)));
    assert_eq!((queue.close(), queue.recv()), (Err(SendError::Closed), Err(RecvError::Closed)));
    let mut next = jobs(&test_dir).sender(NAME).unwrap();
    next.send(2).unwrap();
    queue.close().unwrap();
    assert_eq!((next.send(3), queue.recv(), queue.recv()), (Err(SendError::Closed), Ok(2), Err(RecvError::Closed)));
}

#[test]
fn receiver_close_now_spares_next_run() {
    let test_dir = TestDir::new();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    let mut first = jobs(&test_dir).sender(NAME).unwrap();
    first.send(1).unwrap();
    assert_eq!(rx.close_now(), Ok(1));
    let mut second = jobs(&test_dir).sender(NAME).unwrap();
    second.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    assert_eq!((rx.close_now(), rx.close_now()), (Ok(0), Ok(0)));
    assert_eq!(rx.stats().dropped, 1);
}

#[test]
fn endpoint_transferred_keeps_its_run() {
    let test_dir = TestDir::new();
    let options = jobs(&test_dir);
    let travel = |tx: queue::Sender<u64>| -> queue::Sender<u64> { options.from_fd(tx.into_fd().unwrap()).unwrap() };
    let keeper = options.receiver(NAME).unwrap();
    let old = options.sender(NAME).unwrap();
    old.close().unwrap();
    let rx = options.receiver(NAME).unwrap();
    let mut rx: queue::Receiver<u64> = options.from_fd(rx.into_fd().unwrap()).unwrap();
    assert!(is_waiting(&mut rx), "it came when all was over");
    let mut old = travel(old);
    let mut new = travel(options.sender(NAME).unwrap());
    assert_eq!((old.send(1), new.send(2)), (Err(SendError::Closed), Ok(())));
    assert_eq!(rx.recv(), Ok(2));
    drop((new, keeper));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn sender_waiting_when_run_closed_returns_closed() {
    let test_dir = TestDir::new();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    let mut tx = jobs(&test_dir).wait(WaitStrategy::Park).sender(NAME).unwrap();
    (0..2).for_each(|job| tx.send(job).unwrap());
    thread::scope(|scope| {
        let blocked = scope.spawn(|| tx.send(2));
        thread::sleep(MOMENT);
        rx.close().unwrap();
        assert_eq!(blocked.join().unwrap(), Err(SendError::Closed));
    });
    let mut next = jobs(&test_dir).sender(NAME).unwrap();
    assert_eq!(next.try_send(7), Err(SendError::Full), "the next run waits behind what waits");
    assert_eq!(rx.recv(), Ok(0));
    next.send(7).unwrap();
    assert_eq!(rest(&mut rx), [1, 7]);
}

#[test]
fn sender_run_closed_large_messages_free_their_blocks() {
    let options = queue::Options::bytes()
        .capacity(2)
        .inline_bytes(16)
        .blocks(tombolo::queue::Blocks { count: 1, bytes: 64 })
        .extents(1)
        .max_message_bytes(1000);
    let (mut tx, mut rx) = options.create_channel().unwrap();
    tx.send([1; 60]).unwrap();
    rx.close().unwrap();
    assert_eq!((tx.send([2; 60]), tx.send([2; 900])), (Err(SendError::Closed), Err(SendError::Closed)));
    let mut next = rx.sender().unwrap();
    next.send([3; 900]).unwrap();
    let mut message = Vec::new();
    assert_eq!((rx.recv(&mut message), rx.recv(&mut message)), (Ok(60), Ok(900)));
    assert_eq!(rx.stats().pooled, 0);
}

#[test]
fn sender_closed_stays_closed_when_run_numbers_repeat() {
    let test_dir = TestDir::new();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    let mut old = jobs(&test_dir).sender(NAME).unwrap();
    old.close().unwrap();
    for run in 0..600 {
        let mut tx = jobs(&test_dir).sender(NAME).unwrap();
        tx.send(run).unwrap();
        assert_eq!(old.try_send(9999), Err(SendError::Closed), "run {run}");
        assert_eq!(old.close(), Err(SendError::Closed));
        tx.close().unwrap();
        drop(tx);
        assert_eq!((rx.recv(), rx.recv()), (Ok(run), Err(RecvError::Closed)));
    }
}

#[test]
fn sender_join_all_run_numbers_used_is_refused() {
    let test_dir = TestDir::new();
    let options = jobs(&test_dir).max_participants(400);
    let mut rx = options.receiver(NAME).unwrap();
    let mut closed = Vec::new();
    let refused = loop {
        match options.sender(NAME) {
            Ok(tx) => {
                tx.close().unwrap();
                closed.push(tx);
            }
            Err(error) => break error,
        }
    };
    assert_eq!((closed.len(), refused.kind()), (256, ErrorKind::TooManyParticipants));
    assert!(refused.to_string().contains("drop senders that were closed"), "{refused}");
    closed.remove(100);
    let mut tx = options.sender(NAME).unwrap();
    tx.send(1).unwrap();
    assert!(closed.iter_mut().all(|old| old.send(9) == Err(SendError::Closed)));
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.stats().senders, 256);
}

// ---- which end each side is told ---------------------------------------------------------------------------------------

#[test]
fn receiver_joined_after_end_waits_for_next_run() {
    let test_dir = TestDir::new();
    let mut old = jobs(&test_dir).receiver(NAME).unwrap();
    for closes in [true, false, true] {
        let mut tx = jobs(&test_dir).sender(NAME).unwrap();
        tx.send(1).unwrap();
        if closes {
            tx.close().unwrap();
        }
        drop(tx);
        assert_eq!((old.recv(), old.recv()), (Ok(1), Err(RecvError::Closed)));
        let mut late = jobs(&test_dir).receiver(NAME).unwrap();
        assert!(is_waiting(&mut late));
        assert_eq!(late.try_recv(), Err(RecvError::Empty));
        assert_eq!(late.try_clone().unwrap().try_recv(), Err(RecvError::Empty), "a clone waits for the same");
        assert_eq!(old.try_recv(), Err(RecvError::Closed), "this one saw the run");
        let mut tx = jobs(&test_dir).sender(NAME).unwrap();
        assert!(is_waiting(&mut late));
        tx.send(2).unwrap();
        assert_eq!(late.recv(), Ok(2));
        if closes {
            tx.close().unwrap();
        }
        drop(tx);
        assert_eq!((late.recv(), old.recv()), (Err(RecvError::Closed), Err(RecvError::Closed)));
    }
}

#[test]
fn receiver_waiting_without_sender_close_returns_closed() {
    let test_dir = TestDir::new();
    let mut first = jobs(&test_dir).receiver(NAME).unwrap();
    let second = jobs(&test_dir).receiver(NAME).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| first.recv());
        thread::sleep(MOMENT);
        second.close().unwrap();
        assert_eq!(waiting.join().unwrap(), Err(RecvError::Closed));
    });
    let mut third = jobs(&test_dir).receiver(NAME).unwrap();
    assert!(is_waiting(&mut third), "this one came after it");
    assert_eq!(second.close(), Err(SendError::Closed));
    assert!(is_waiting(&mut third));
    let mut tx = jobs(&test_dir).sender(NAME).unwrap();
    tx.send(1).unwrap();
    drop(tx);
    assert_eq!(all(&mut third), (vec![1], RecvError::Closed));
}

#[test]
fn queue_handle_joined_after_end_waits_for_others() {
    let test_dir = TestDir::new();
    let keeper = jobs(&test_dir).receiver(NAME).unwrap();
    jobs(&test_dir).sender(NAME).unwrap().close().unwrap();
    let mut both: Queue<u64> = jobs(&test_dir).open(NAME).unwrap();
    assert_eq!(both.recv_timeout(MOMENT), Err(RecvError::TimedOut), "its own sender is nobody");
    both.send(1).unwrap();
    assert_eq!((both.recv(), both.recv_timeout(MOMENT)), (Ok(1), Err(RecvError::TimedOut)));
    drop(jobs(&test_dir).sender(NAME).unwrap());
    assert_eq!(both.recv(), Err(RecvError::Closed));
    let (tx, mut rx) = both.split();
    assert!(is_waiting(&mut rx), "now it is somebody");
    drop((tx, keeper));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn sender_joined_after_receivers_left_waits_for_next() {
    let test_dir = TestDir::new();
    let mut old = jobs(&test_dir).sender(NAME).unwrap();
    drop(jobs(&test_dir).receiver(NAME).unwrap());
    (0..2).for_each(|job| old.send(job).unwrap());
    assert_eq!(old.send(9), Err(SendError::Closed));
    let mut new = jobs(&test_dir).sender(NAME).unwrap();
    assert_eq!(new.send_timeout(2, MOMENT), Err(SendError::TimedOut));
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(0));
    new.send(2).unwrap();
    drop(rx);
    assert_eq!(new.send(3), Err(SendError::Closed));
    assert_eq!(rest(&mut jobs(&test_dir).receiver(NAME).unwrap()), [1, 2]);
}

pub fn send_close_and_leave(arguments: &[String]) {
    let (options, _, number) = from_arguments(arguments);
    let mut tx = options.sender(NAME).unwrap();
    tx.send(number).unwrap();
    tx.close().unwrap();
}

pub fn send_close_and_stay(arguments: &[String]) {
    let (options, counters, number) = from_arguments(arguments);
    let mut tx = options.sender(NAME).unwrap();
    tx.send(number).unwrap();
    tx.close().unwrap();
    stay(&counters);
}

pub fn send_and_stay(arguments: &[String]) {
    let (options, counters, number) = from_arguments(arguments);
    let mut tx = options.sender(NAME).unwrap();
    tx.send(number).unwrap();
    stay(&counters);
}

pub fn sleep_as_sender(arguments: &[String]) {
    let (options, counters, _) = from_arguments(arguments);
    let _tx = options.sender(NAME).unwrap();
    stay(&counters);
}

pub fn send_without_end(arguments: &[String]) {
    let (options, counters, _) = from_arguments(arguments);
    let mut tx = options.sender(NAME).unwrap();
    counters.meet(0, 2);
    for number in 0.. {
        match tx.send(number) {
            Ok(()) => counters.word(1).store(number + 1, std::sync::atomic::Ordering::Release),
            Err(error) => {
                assert_eq!(error, SendError::Closed);
                return;
            }
        }
    }
}

pub fn receive_to_the_end(arguments: &[String]) {
    let (options, counters, expected) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    counters.meet(0, 2);
    assert_eq!(rx.iter().flatten().sum::<u64>(), expected);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

pub fn receive_one_and_leave(arguments: &[String]) {
    let (options, _, expected) = from_arguments(arguments);
    assert_eq!(options.receiver(NAME).unwrap().recv(), Ok(expected));
}

#[test]
fn queue_processes_send_close_and_leave_runs_arrive_in_order() {
    let test_dir = TestDir::new();
    enter(&test_dir, "send_close_and_leave", 1).finish();
    enter(&test_dir, "send_close_and_leave", 2).finish();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    assert_eq!(all(&mut rx), (vec![1, 2], RecvError::Closed));
    enter(&test_dir, "send_close_and_leave", 3).finish();
    assert_eq!(all(&mut rx), (vec![3], RecvError::Closed));
    drop(rx);
    assert!(is_empty(&test_dir));
}

#[test]
fn sender_of_closed_run_killed_is_not_reported() {
    let test_dir = TestDir::new();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    let dead = enter(&test_dir, "send_close_and_stay", 1);
    counters(&test_dir).meet(0, 2);
    dead.kill();
    assert_eq!(all(&mut rx), (vec![1], RecvError::Closed), "its run was closed before it died");
    let mut tx = jobs(&test_dir).sender(NAME).unwrap();
    tx.send(2).unwrap();
    drop(tx);
    assert_eq!(all(&mut rx), (vec![2], RecvError::Closed));
}

#[test]
fn sender_last_of_open_run_killed_is_reported() {
    let test_dir = TestDir::new();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    let closed = jobs(&test_dir).sender(NAME).unwrap();
    closed.close().unwrap();
    let dead = enter(&test_dir, "send_and_stay", 1);
    counters(&test_dir).meet(0, 2);
    dead.kill();
    assert_eq!(all(&mut rx), (vec![1], RecvError::PeerDied));
    drop(closed);
    assert_eq!(rx.recv(), Err(RecvError::PeerDied), "how an earlier run's sender ended does not change that");
    let mut late = jobs(&test_dir).receiver(NAME).unwrap();
    assert!(is_waiting(&mut late));
    let mut tx = jobs(&test_dir).sender(NAME).unwrap();
    tx.send(2).unwrap();
    tx.close().unwrap();
    assert_eq!((late.recv(), late.recv(), rx.recv()), (Ok(2), Err(RecvError::Closed), Err(RecvError::Closed)));
}

#[test]
fn sender_of_closed_run_stopped_delays_nobody() {
    let test_dir = TestDir::new();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    let stopped = enter(&test_dir, "sleep_as_sender", 0);
    counters(&test_dir).meet(0, 2);
    stopped.signal(libc::SIGSTOP);
    rx.close().unwrap();
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    let mut tx = jobs(&test_dir).sender(NAME).unwrap();
    tx.send(1).unwrap();
    drop(tx);
    assert_eq!(all(&mut rx), (vec![1], RecvError::Closed));
    stopped.kill();
}

/// Senders are stopped at arbitrary points, their run is closed, and they continue. Messages that
/// were reported as sent arrive before those of the next run, nothing else arrives, and the
/// receiver sees the end of each run while the senders are stopped.
#[test]
fn sender_stopped_midway_run_can_be_closed() {
    let test_dir = TestDir::new();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    for round in 0..40_u64 {
        let counters = SharedCounters::at(&test_dir.file(&format!("counters{round}")));
        let names = test_dir.names();
        let file = test_dir.file(&format!("counters{round}"));
        let sender = start("send_without_end", &[names.to_str().unwrap(), file.to_str().unwrap(), "0"]);
        counters.meet(0, 2);
        let mut received = Vec::new();
        for _ in 0..round * 7 {
            received.push(rx.recv().unwrap());
        }
        sender.signal(libc::SIGSTOP);
        rx.close().unwrap();
        received.extend(rx.iter().flatten());
        assert_eq!(rx.recv(), Err(RecvError::Closed));
        let mut next = jobs(&test_dir).sender(NAME).unwrap();
        next.send(u64::MAX).unwrap();
        sender.signal(libc::SIGCONT);
        sender.finish();
        assert_eq!(rx.recv(), Ok(u64::MAX));
        drop(next);
        assert_eq!(rx.recv(), Err(RecvError::Closed));
        let sent = counters.word(1).load(std::sync::atomic::Ordering::Acquire);
        assert!(received.iter().copied().eq(0..sent), "round {round}: {sent} sent, {received:?}");
    }
}

/// Like the test above, but the senders are killed. A message in progress arrives or does not; the
/// next run is complete.
#[test]
fn sender_killed_midway_run_can_be_closed() {
    let test_dir = TestDir::new();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    for round in 0..40_u64 {
        let counters = SharedCounters::at(&test_dir.file(&format!("counters{round}")));
        let names = test_dir.names();
        let file = test_dir.file(&format!("counters{round}"));
        let sender = start("send_without_end", &[names.to_str().unwrap(), file.to_str().unwrap(), "0"]);
        counters.meet(0, 2);
        let mut received = Vec::new();
        for _ in 0..round * 5 {
            received.push(rx.recv().unwrap());
        }
        let closer = jobs(&test_dir).receiver(NAME).unwrap();
        sender.kill();
        closer.close().unwrap();
        received.extend(rx.iter().flatten());
        assert_eq!(rx.recv(), Err(RecvError::Closed));
        let sent = counters.word(1).load(std::sync::atomic::Ordering::Acquire);
        assert!(received.len() as u64 == sent || received.len() as u64 == sent + 1);
        assert!(received.iter().copied().eq(0..received.len() as u64));
        let mut next = jobs(&test_dir).sender(NAME).unwrap();
        (0..2).for_each(|number| next.try_send(number).unwrap());
        drop(next);
        assert_eq!(all(&mut rx), (vec![0, 1], RecvError::Closed));
        assert_eq!(rx.stats().quarantined, 0);
    }
}

#[test]
fn receiver_asleep_in_other_process_wakes_at_end_of_run() {
    let test_dir = TestDir::new();
    let keeper = jobs(&test_dir).receiver(NAME).unwrap();
    let receiver = enter(&test_dir, "receive_to_the_end", 3);
    counters(&test_dir).meet(0, 2);
    let mut tx = jobs(&test_dir).sender(NAME).unwrap();
    (1..3).for_each(|number| tx.send(number).unwrap());
    until(|| keeper.is_empty());
    thread::sleep(MOMENT); // it sleeps
    tx.close().unwrap();
    receiver.finish();
}

/// Handles join, send, close and leave at random. Few participants fit, and the ring is short.
#[test]
fn queue_runs_of_many_threads_lose_nothing() {
    let test_dir = TestDir::new();
    let options = jobs(&test_dir).max_participants(6);
    let keeper = options.receiver(NAME).unwrap();
    let sent = thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|thread| {
                let options = options.clone();
                scope.spawn(move || {
                    let mut sent = 0_u64;
                    let mut random = Random(thread + 1);
                    while sent < 400 {
                        let mut tx = options.sender(NAME).unwrap();
                        for _ in 0..random.below(6) {
                            match tx.send(thread << 32 | sent) {
                                Ok(()) => sent += 1,
                                Err(error) => {
                                    assert_eq!(error, SendError::Closed);
                                    break;
                                }
                            }
                        }
                        if random.below(2) == 0 {
                            let _ = tx.close();
                        }
                    }
                    sent
                })
            })
            .collect();
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let mut rx = keeper.try_clone().unwrap();
                scope.spawn(move || {
                    let mut received = Vec::new();
                    loop {
                        match rx.recv() {
                            Ok(u64::MAX) => return received,
                            Ok(number) => received.push(number),
                            Err(error) => assert_eq!(error, RecvError::Closed),
                        }
                    }
                })
            })
            .collect();
        let sent: Vec<u64> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        let mut last = options.sender(NAME).unwrap();
        (0..2).for_each(|_| last.send(u64::MAX).unwrap());
        let received: Vec<Vec<u64>> = receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect();
        for numbers in &received {
            for thread in 0..3 {
                assert!(numbers.iter().filter(|number| **number >> 32 == thread).is_sorted(), "out of order");
            }
        }
        let mut all: Vec<u64> = received.into_iter().flatten().collect();
        all.sort_unstable();
        let expected =
            (0..3_u64).flat_map(|thread| (0..sent[thread as usize]).map(move |number| thread << 32 | number));
        assert!(all.into_iter().eq(expected), "lost or received twice");
        sent
    });
    assert!(sent.into_iter().all(|sent| sent >= 400));
}

// ---- how long the name lives --------------------------------------------------------------------------------------------

#[test]
fn queue_unreceived_messages_keep_name_in_either_order_of_leaving() {
    for worker_first in [true, false] {
        let test_dir = TestDir::new();
        let options = jobs(&test_dir).capacity(4);
        let mut tx = options.sender(NAME).unwrap();
        (0..3).for_each(|job| tx.send(job).unwrap());
        let mut worker = options.receiver(NAME).unwrap();
        assert_eq!(worker.recv(), Ok(0));
        if worker_first {
            drop(worker);
            drop(tx);
        } else {
            drop(tx);
            drop(worker);
        }
        assert!(!is_empty(&test_dir));
        let mut next = options.receiver(NAME).unwrap();
        assert_eq!(all(&mut next), (vec![1, 2], RecvError::Closed));
        drop(next);
        assert!(is_empty(&test_dir), "nothing is owed to anybody");
    }
}

#[test]
fn queue_unreceived_messages_keep_name_between_processes() {
    let test_dir = TestDir::new();
    for job in 0..2 {
        enter(&test_dir, "send_close_and_leave", job).finish();
    }
    for job in 0..2 {
        assert!(!is_empty(&test_dir));
        enter(&test_dir, "receive_one_and_leave", job).finish();
    }
    assert!(is_empty(&test_dir));
}

#[test]
fn queue_messages_discarded_or_removed_free_the_name() {
    let test_dir = TestDir::new();
    let fill = || {
        let mut tx = jobs(&test_dir).sender(NAME).unwrap();
        (0..2).for_each(|job| tx.send(job).unwrap());
    };
    fill();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    assert_eq!(rx.close_now(), Ok(2));
    drop(rx);
    assert!(is_empty(&test_dir));
    fill();
    assert!(!is_empty(&test_dir));
    Directory::at(test_dir.names()).unlink(NAME, false).unwrap();
    assert!(is_empty(&test_dir));
}

#[test]
fn queue_closed_with_unreceived_messages_keeps_name() {
    let test_dir = TestDir::new();
    let mut queue = jobs(&test_dir).open(NAME).unwrap();
    queue.send(1).unwrap();
    queue.close().unwrap();
    drop(queue);
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    assert_eq!(all(&mut rx), (vec![1], RecvError::Closed));
    drop(rx);
    assert!(is_empty(&test_dir));
}

#[test]
fn sender_killed_unreceived_messages_keep_name() {
    let test_dir = TestDir::new();
    let dead = enter(&test_dir, "send_and_stay", 5);
    counters(&test_dir).meet(0, 2);
    dead.kill();
    let mut rx = jobs(&test_dir).receiver(NAME).unwrap();
    assert_eq!(all(&mut rx), (vec![5], RecvError::PeerDied));
    drop(rx);
    assert!(is_empty(&test_dir));
}
