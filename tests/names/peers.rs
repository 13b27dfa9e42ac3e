//! Peers that come and go: waiting for one, taking the place of one that ends, going on with the next,
//! and names that are removed under those that wait.

use std::fs;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::inspect::ParticipantStatus;
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::sync::Event;
use tombolo::{Endpoint, ErrorKind, Namespace, OnStale, RecvError, SendError, queue};

use crate::support::{Process, TestDir, start, until};
use crate::{NAME, counters, start_in, stay, surroundings, values};

const NONE: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_millis(30);
/// Longer than it takes to notice that a name is gone.
const LONG: Duration = Duration::from_secs(3);

/// How many numbers a sender sends.
const NUMBERS: u64 = 100;

fn small(test_dir: &TestDir) -> pipe::Options<u64> {
    values(test_dir).capacity(8)
}

/// Sends its numbers, from the one of the counter on, and ends as its last argument says.
pub fn send_numbers_and_end(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    let first = counters.word(1).load(Ordering::SeqCst);
    let mut tx = options.capacity(8).sender(NAME).unwrap();
    for number in first..first + NUMBERS {
        tx.send(number).unwrap();
    }
    match arguments[2].as_str() {
        "leave" => drop(tx),
        "exit" => {
            std::mem::forget(tx);
            std::process::exit(0);
        }
        "killed" => {
            // SAFETY: we mean it.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        _ => stay(&counters),
    }
}

fn start_with(test_dir: &TestDir, role: &str, more: &str) -> Process {
    start(role, &[test_dir.names().to_str().unwrap(), test_dir.file("counters").to_str().unwrap(), more])
}

/// Ends a process that [`stay`]s, and does not wait until it is gone.
fn end(process: &Process, how: &str) {
    if how == "stopped" {
        process.signal(libc::SIGSTOP);
    }
    process.signal(libc::SIGKILL);
}

#[test]
fn receiver_waits_for_successor_gets_all_messages_of_each_sender_once() {
    let test_dir = TestDir::new();
    let counters = counters(&test_dir);
    let mut rx = small(&test_dir).wait_for_successor().receiver(NAME).unwrap();
    let mut expected = 0..;
    for how in ["leave", "exit", "killed", "stays", "stopped", "leave"] {
        let first = expected.start;
        counters.word(1).store(first, Ordering::SeqCst);
        let mut sender = start_with(&test_dir, "send_numbers_and_end", how);
        for _ in 0..NUMBERS {
            assert_eq!(rx.recv(), Ok(expected.next().unwrap()));
        }
        if matches!(how, "stays" | "stopped") {
            counters.meet(0, 2);
            end(&sender, how);
        }
        // The end is there now, or comes while this waits.
        assert_eq!((rx.recv_timeout(SHORT), rx.try_recv(), rx.poll(SHORT)), TIMES_UP, "{how}");
        sender.wait();
        assert_eq!((rx.recv_timeout(SHORT), rx.try_recv(), rx.poll(SHORT)), TIMES_UP, "{how}");
        assert_eq!(rx.try_iter().next(), None);
    }
}

const TIMES_UP: (Result<u64, RecvError>, Result<u64, RecvError>, Result<bool, RecvError>) =
    (Err(RecvError::TimedOut), Err(RecvError::Empty), Ok(false));

#[test]
fn byte_receiver_waits_for_successor_drops_what_a_dead_sender_had_begun() {
    let test_dir = TestDir::new();
    let options = pipe::Options::bytes().capacity_bytes(128).directory(test_dir.names());
    let mut rx = options.clone().wait_for_successor().receiver(NAME).unwrap();
    let mut tx = options.sender(NAME).unwrap();
    assert_eq!(tx.send_timeout([7; 1000], NONE), Err(SendError::TimedOut), "a part of it was sent");
    tx.abandon().unwrap();
    let mut message = Vec::new();
    assert_eq!(rx.recv_timeout(&mut message, SHORT), Err(RecvError::TimedOut));
    options.sender(NAME).unwrap().send("next").unwrap();
    assert_eq!((rx.recv(&mut message), message), (Ok(4), b"next".to_vec()));
}

pub fn hold_much_memory_and_stay(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    // The kernel frees it before the locks.
    let memory = vec![1_u8; 64 << 20];
    let mut endpoint = options.capacity(8).open(NAME).unwrap();
    endpoint.send(1).unwrap();
    std::hint::black_box(&memory);
    stay(&counters);
}

pub fn send_with_much_memory_and_stay(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    let memory = vec![1_u8; 64 << 20];
    let mut tx = options.sender(NAME).unwrap();
    tx.send(1).unwrap();
    std::hint::black_box(&memory);
    stay(&counters);
}

pub fn exit_slowly(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    let memory = vec![1_u8; 64 << 20];
    let endpoint = options.capacity(8).open(NAME).unwrap();
    std::mem::forget((endpoint, memory));
    counters.meet(0, 2);
}

#[test]
fn endpoint_killed_place_is_taken_at_once() {
    let test_dir = TestDir::new();
    // Keeps the name.
    let mut ours = small(&test_dir).open(NAME).unwrap();
    for round in 0..20 {
        let how = ["killed", "stopped", "exits"][round % 3];
        let role = if how == "exits" { "exit_slowly" } else { "hold_much_memory_and_stay" };
        let child = start_in(&test_dir, role);
        if how == "exits" {
            until(|| ours.peer_status() == ParticipantStatus::Left);
        } else {
            end(&child, how);
        }
        let mut successor =
            small(&test_dir).open(NAME).unwrap_or_else(|error| panic!("{how} in round {round}: {error}"));
        let sent = round as u64 + 10;
        successor.send(sent).unwrap();
        // After what the one before has sent, and its end.
        until(|| ours.recv() == Ok(sent));
    }
}

#[test]
fn sender_killed_name_is_recreated_at_once() {
    let test_dir = TestDir::new();
    for how in ["killed", "stopped", "killed"] {
        let child = start_in(&test_dir, "send_with_much_memory_and_stay");
        end(&child, how);
        let _tx = values(&test_dir).on_stale(OnStale::Recreate).sender(NAME).unwrap();
        assert_eq!(values(&test_dir).receiver(NAME).unwrap().try_recv(), Err(RecvError::Empty), "{how}");
    }
}

#[test]
fn queue_place_of_killed_participant_is_taken_at_once() {
    let test_dir = TestDir::new();
    let options = queue::Options::<u64>::new().max_participants(2).directory(test_dir.names());
    let _ours = options.receiver(NAME).unwrap();
    for _ in 0..5 {
        let child = start_in(&test_dir, "send_to_small_queue_and_stay");
        end(&child, "killed");
        drop(options.sender(NAME).unwrap());
    }
}

pub fn send_to_small_queue_and_stay(arguments: &[String]) {
    let (_, counters) = surroundings(arguments);
    let memory = vec![1_u8; 64 << 20];
    let _tx = queue::Options::<u64>::new().max_participants(2).directory(&arguments[0]).sender(NAME).unwrap();
    std::hint::black_box(&memory);
    stay(&counters);
}

#[test]
fn open_timeout_waits_for_place_of_living_process() {
    let test_dir = TestDir::new();
    let _ours = values(&test_dir).open(NAME).unwrap();
    let child = start_in(&test_dir, "stay_with_an_endpoint");
    let pid = child.pid() as u64;
    for stopped in [false, true] {
        if stopped {
            child.signal(libc::SIGSTOP);
        }
        for options in [values(&test_dir), values(&test_dir).open_timeout(NONE), values(&test_dir).open_timeout(SHORT)]
        {
            let error = options.open(NAME).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::EndpointInUse { pid });
            assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
        }
    }
    let patient = values(&test_dir).open_timeout(Duration::MAX);
    let waiting = thread::spawn(move || patient.open(NAME).map(drop));
    thread::sleep(SHORT);
    assert!(!waiting.is_finished());
    child.kill();
    waiting.join().unwrap().unwrap();
}

#[test]
fn wait_for_peer_returns_when_a_living_peer_is_there() {
    let test_dir = TestDir::new();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    assert_eq!((rx.peer_status(), rx.peer_pid()), (ParticipantStatus::Vacant, None));
    let error = rx.wait_for_peer(SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("the sender of the region \"name\": found none"), "{error}");
    for round in 0..3 {
        let waiting = thread::spawn(move || {
            rx.wait_for_peer(Duration::MAX).unwrap();
            rx
        });
        let child = start_in(&test_dir, "send_three_and_stay");
        rx = waiting.join().unwrap();
        let pid = child.pid() as u64;
        assert_eq!((rx.peer_status(), rx.peer_pid()), (ParticipantStatus::Alive, Some(pid)));
        rx.wait_for_peer(NONE).unwrap();
        child.signal(libc::SIGSTOP);
        rx.wait_for_peer(NONE).unwrap();
        child.kill();
        assert_eq!(rx.peer_status(), ParticipantStatus::Dead);
        let error = rx.wait_for_peer(SHORT).unwrap_err();
        assert!(error.to_string().contains(&format!("only process {pid}, which died")), "{error}");
        let received: Vec<_> = (0..5).map(|_| rx.recv()).collect();
        let died = Err(RecvError::PeerDied);
        assert_eq!(received, [Ok(1), Ok(2), Ok(3), died, died], "in round {round}");
    }
    drop(values(&test_dir).sender(NAME).unwrap());
    assert_eq!(rx.peer_status(), ParticipantStatus::Left);
    assert_eq!(rx.wait_for_peer(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(rx);

    let mut tx = values(&test_dir).sender(NAME).unwrap();
    let waiting = thread::spawn(move || tx.wait_for_peer(Duration::MAX).map(|()| tx));
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    let mut tx = waiting.join().unwrap().unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn wait_for_peer_on_its_way_counts_as_living() {
    let _watchdog = TestDir::new();
    let (mut tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    let on_its_way = rx.into_fd().unwrap();
    tx.wait_for_peer(NONE).unwrap();
    assert_eq!((tx.peer_status(), tx.peer_pid()), (ParticipantStatus::Alive, None));
    let rx = Receiver::<u64>::try_from(on_its_way).unwrap();
    tx.wait_for_peer(NONE).unwrap();
    assert_eq!(tx.peer_pid(), Some(u64::from(std::process::id())));
    drop(rx.into_fd().unwrap());
    assert_eq!(tx.wait_for_peer(NONE).unwrap_err().kind(), ErrorKind::TimedOut, "it is lost");
    assert_eq!(tx.peer_status(), ParticipantStatus::Dead);

    let (mut tx, rx) = queue::Options::<u64>::new().create_channel().unwrap();
    let on_its_way = rx.into_fd().unwrap();
    tx.wait_for_peer(NONE).unwrap();
    drop(on_its_way);
    assert_eq!(tx.wait_for_peer(NONE).unwrap_err().kind(), ErrorKind::TimedOut, "it is lost");
}

#[test]
fn sender_notices_killed_receiver_by_peer_status_before_ring_is_full() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send(1).unwrap();
    start_in(&test_dir, "receive_one_and_stay").kill();
    assert_eq!(tx.send(2), Ok(()), "for its successor");
    assert_eq!(tx.peer_status(), ParticipantStatus::Dead);
    assert_eq!(tx.wait_for_peer(NONE).unwrap_err().kind(), ErrorKind::TimedOut);
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    tx.wait_for_peer(NONE).unwrap();
    assert_eq!(rx.recv(), Ok(2));
}

#[test]
fn pipe_wait_for_peer_returns_when_both_directions_work() {
    let test_dir = TestDir::new();
    let mut ours = values(&test_dir).open(NAME).unwrap();
    for (round, how) in ["killed", "leaves", "stopped", "leaves", "leaves"].into_iter().enumerate() {
        let error = ours.wait_for_peer(NONE).unwrap_err();
        assert!(error.to_string().contains("the other endpoint"), "{error}");
        let waiting = thread::spawn(move || ours.wait_for_peer(Duration::MAX).map(|()| ours));
        let child = if how == "leaves" { None } else { Some(start_in(&test_dir, "stay_with_an_endpoint")) };
        let theirs = child.is_none().then(|| values(&test_dir).open(NAME).unwrap());
        ours = waiting.join().unwrap().unwrap();
        assert_eq!(ours.send(round as u64), Ok(()), "{how}");
        assert_eq!(ours.peer_status(), ParticipantStatus::Alive);
        drop(theirs);
        if let Some(child) = child {
            end(&child, how);
        }
        let expected = if how == "leaves" { RecvError::Closed } else { RecvError::PeerDied };
        assert_eq!(ours.recv(), Err(expected));
    }
}

/// With `open` it would take the other endpoint, and be its own successor's peer.
#[test]
fn client_restarted_before_server_comes_is_the_client_again() {
    let test_dir = TestDir::new();
    let options = values(&test_dir);
    for round in 1..=3 {
        start_in(&test_dir, "send_as_client_and_stay").kill();
        let mut client = options.client(NAME).unwrap();
        client.send(round).unwrap();
        let own = Err(ErrorKind::EndpointInUse { pid: u64::from(std::process::id()) });
        assert_eq!(options.client(NAME).map(drop).map_err(|error| error.kind()), own);
        let mut server = options.clone().wait_for_successor().server(NAME).unwrap();
        assert_eq!(options.server(NAME).map(drop).map_err(|error| error.kind()), own);
        assert_eq!((server.recv(), server.recv()), (Ok(7), Ok(round)));
        server.send(round).unwrap();
        assert_eq!(client.recv(), Ok(round));
        server.abandon().unwrap();
        assert_eq!(client.recv(), Err(RecvError::PeerDied));
        client.abandon().unwrap();
    }
}

pub fn send_as_client_and_stay(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    let mut client = options.client(NAME).unwrap();
    client.send(7).unwrap();
    stay(&counters);
}

#[test]
fn receiver_joins_after_the_end_waits_for_next_sender() {
    let test_dir = TestDir::new();
    let options = values(&test_dir);
    // Everything was received, and both were killed.
    let sender = start_in(&test_dir, "send_three_and_stay");
    let mut rx = options.receiver(NAME).unwrap();
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Ok(3)));
    sender.kill();
    rx.abandon().unwrap();
    let mut rx = options.receiver(NAME).unwrap();
    assert_eq!((rx.try_recv(), rx.recv_timeout(SHORT)), (Err(RecvError::Empty), Err(RecvError::TimedOut)));
    assert_eq!((rx.poll(SHORT), rx.peer_status()), (Ok(false), ParticipantStatus::Dead));
    // The next sender is one of its own: first its message, and no end before that.
    let mut tx = options.sender(NAME).unwrap();
    tx.send(4).unwrap();
    assert_eq!(rx.recv(), Ok(4));
    drop(tx);
    assert_eq!((rx.recv(), rx.recv()), (Err(RecvError::Closed), Err(RecvError::Closed)));
    // It has left, and the name is kept by a process that opens both in turn.
    let keeper: Sender<u64> = options.sender(NAME).unwrap();
    drop(rx);
    keeper.abandon().unwrap();
    let mut rx: Receiver<u64> = options.receiver(NAME).unwrap();
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut));
    drop(options.sender(NAME).unwrap());
    assert_eq!(rx.recv(), Err(RecvError::Closed), "it was there");
}

#[test]
fn receiver_joins_after_the_end_with_message_unread_gets_it_and_the_end() {
    let test_dir = TestDir::new();
    let options = values(&test_dir);
    start_in(&test_dir, "send_three_and_stay").kill();
    let mut rx = options.receiver(NAME).unwrap();
    let received: Vec<_> = (0..4).map(|_| rx.recv()).collect();
    assert_eq!(received, [Ok(1), Ok(2), Ok(3), Err(RecvError::PeerDied)]);
}

#[test]
fn pipe_joins_after_the_end_waits_for_next_endpoint() {
    let test_dir = TestDir::new();
    let options = values(&test_dir);
    // Both die, and nothing is unread.
    let (first, second) = (options.open(NAME).unwrap(), options.open(NAME).unwrap());
    first.abandon().unwrap();
    second.abandon().unwrap();
    let mut ours = options.open(NAME).unwrap();
    assert_eq!(ours.recv_timeout(SHORT), Err(RecvError::TimedOut));
    let mut theirs = options.open(NAME).unwrap();
    assert_eq!(theirs.recv_timeout(SHORT), Err(RecvError::TimedOut));
    ours.send(1).unwrap();
    theirs.send(2).unwrap();
    assert_eq!((ours.recv(), theirs.recv()), (Ok(2), Ok(1)));
    drop(theirs);
    assert_eq!(ours.recv(), Err(RecvError::Closed));
}

fn remove_name(test_dir: &TestDir) {
    fs::remove_file(test_dir.names().join(NAME)).unwrap();
}

fn says_that_name_is_gone(warnings: &[String]) -> bool {
    warnings.iter().any(|warning| warning.contains("the name \"name\" was removed"))
}

#[test]
fn pipe_name_removed_under_waiter_returns_name_removed() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).capacity(1).sender(NAME).unwrap();
    remove_name(&test_dir);
    let mut rx = values(&test_dir).receiver(NAME).unwrap(); // of another region
    tx.send(1).unwrap();
    assert_eq!(tx.send(2), Err(SendError::NameRemoved));
    assert!(says_that_name_is_gone(tx.warnings()), "{:?}", tx.warnings());
    let error = tx.wait_for_peer(Duration::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameRemoved, "{error}");
    // The name leads to the other one, which waits for a sender.
    assert_eq!(rx.recv_timeout(LONG), Err(RecvError::TimedOut));
    assert_eq!(rx.warnings(), [""; 0]);
    remove_name(&test_dir);
    assert_eq!(rx.recv(), Err(RecvError::NameRemoved));
}

#[test]
fn pipe_name_removed_under_pair_goes_on() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    let mut rx = values(&test_dir).wait_for_successor().receiver(NAME).unwrap();
    remove_name(&test_dir);
    assert_eq!(rx.recv_timeout(LONG), Err(RecvError::TimedOut));
    assert!(says_that_name_is_gone(rx.warnings()));
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::NameRemoved), "no successor can come");
}

#[test]
fn queue_name_removed_under_waiter_is_noticed() {
    let test_dir = TestDir::new();
    let options = queue::Options::<u64>::new().directory(test_dir.names());
    let mut rx = options.receiver(NAME).unwrap();
    let other = options.receiver(NAME).unwrap();
    remove_name(&test_dir);
    assert_eq!(rx.recv_timeout(LONG), Err(RecvError::TimedOut), "the other receiver can make a sender");
    assert!(says_that_name_is_gone(rx.warnings()));
    other.sender().unwrap().send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    drop(other);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    drop(rx);

    let mut rx = options.receiver(NAME).unwrap();
    remove_name(&test_dir);
    assert_eq!(rx.recv(), Err(RecvError::NameRemoved));
}

#[test]
fn namespace_name_removed_under_waiter_warns() {
    let test_dir = TestDir::new();
    let builder = Namespace::builder().event("event").queue::<u64>("queue", 4).directory(test_dir.names());
    let space = builder.open(NAME).unwrap();
    remove_name(&test_dir);
    let event: Event = space.event("event").unwrap();
    assert!(event.wait_timeout(LONG).is_err());
    assert!(says_that_name_is_gone(space.warnings()));
    let (_tx, mut rx) = space.queue::<u64>("queue").unwrap().split();
    assert_eq!(rx.recv_timeout(LONG), Err(RecvError::TimedOut));
    assert!(says_that_name_is_gone(rx.warnings()));
}
