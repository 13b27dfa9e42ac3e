//! Endpoints and locks that are not dropped when their process exits: in statics, in threads,
//! forgotten.

use std::mem::forget;
use std::path::Path;
use std::sync::Mutex as Local;
use std::thread;
use std::time::Duration;

use tombolo::inspect::ParticipantStatus;
use tombolo::pipe::{Receiver, Sender};
use tombolo::queue::{self, Queue};
use tombolo::sync::{LockError, Mutex};
use tombolo::{Directory, ErrorKind, Namespace, RecvError, SendError};

use crate::support::{Process, SharedCounters, TestDir, start, until};
use crate::{NAME, jobs, names, pipe, run};

fn locks(directory: impl AsRef<Path>) -> Namespace {
    let plan = Namespace::builder().mutex("lock", 0_u64).mutex("free", 0_u64).max_participants(2);
    plan.directory(directory.as_ref()).open(NAME).unwrap()
}

static SENDER: Local<Option<Sender<u64>>> = Local::new(None);
static RECEIVER: Local<Option<Receiver<u64>>> = Local::new(None);
static WORK: Local<Option<queue::Sender<u64>>> = Local::new(None);
static RESULTS: Local<Option<queue::Receiver<u64>>> = Local::new(None);
static BOTH: Local<Option<Queue<u64>>> = Local::new(None);
static LOCK: Local<Option<Mutex<u64>>> = Local::new(None);

fn keep<T>(place: &Local<Option<T>>, value: T) {
    *place.lock().unwrap() = Some(value);
}

/// Ends in one of several ways; without any, when the test harness of its process returns from
/// `main`.
pub fn send_and_return(arguments: &[String]) {
    let mut tx = pipe(&arguments[0]).sender(NAME).unwrap();
    tx.send(1).unwrap();
    keep(&SENDER, tx);
    match arguments[1].as_str() {
        "returns" => {}
        "exits" => std::process::exit(0),
        "exits in a thread" => {
            thread::spawn(|| std::process::exit(0));
            thread::sleep(Duration::from_secs(600));
        }
        "panics" => {
            let panicked = thread::spawn(|| {
                let _tx = SENDER.lock().unwrap().take();
                panic!("as part of the test");
            });
            assert!(panicked.join().is_err());
            thread::sleep(Duration::from_secs(600));
        }
        // SAFETY: ends the process.
        "_exits" => unsafe { libc::_exit(0) },
        "aborts" => std::process::abort(),
        other => panic!("{other}"),
    }
}

#[test]
fn exit_ordinary_closes_sender_any_other_end_reports_death() {
    for (how, end) in [
        ("returns", RecvError::Closed),
        ("exits", RecvError::Closed),
        ("exits in a thread", RecvError::Closed),
        ("panics", RecvError::Closed),
        ("_exits", RecvError::PeerDied),
        ("aborts", RecvError::PeerDied),
    ] {
        let test_dir = TestDir::new();
        let mut rx = pipe(test_dir.names()).receiver(NAME).unwrap();
        let _child = start("send_and_return", &[&names(&test_dir), how]);
        assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(end)), "{how}");
        drop(rx);
        if end == RecvError::Closed {
            // The process may still be leaving.
            until(|| test_dir.leftovers().is_empty());
        }
    }
}

pub fn receive_and_return(arguments: &[String]) {
    let mut rx = pipe(&arguments[0]).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    keep(&RECEIVER, rx);
}

#[test]
fn exit_closes_receiver() {
    let test_dir = TestDir::new();
    let mut tx = pipe(test_dir.names()).sender(NAME).unwrap();
    tx.send(1).unwrap();
    run("receive_and_return", &[&names(&test_dir)]);
    assert_eq!(tx.send(2), Err(SendError::Closed));
    let mut rx = pipe(test_dir.names()).receiver(NAME).unwrap();
    tx.send(3).unwrap();
    assert_eq!(rx.recv(), Ok(3));
}

pub fn work_and_return(arguments: &[String]) {
    let mut tx = jobs(&arguments[0]).sender(NAME).unwrap();
    let mut rx = jobs(&arguments[0]).receiver(NAME).unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    keep(&WORK, tx);
    keep(&RESULTS, rx);
}

#[test]
fn exit_closes_queue_endpoints() {
    let test_dir = TestDir::new();
    let mut tx = jobs(test_dir.names()).sender(NAME).unwrap();
    tx.send(7).unwrap();
    run("work_and_return", &[&names(&test_dir)]);
    let error = (0..9).find_map(|_| tx.send_timeout(2, Duration::from_secs(60)).err());
    assert_eq!(error, Some(SendError::Closed), "when it is full");
    let seen = Directory::at(test_dir.names()).inspect(NAME).unwrap();
    assert!(seen.participants.iter().all(|participant| participant.status != ParticipantStatus::Dead), "{seen:?}");
    let mut rx = tx.receiver().unwrap();
    drop(tx);
    assert_eq!(rx.iter().collect::<Result<Vec<_>, _>>(), Ok(vec![1, 2, 2, 2]));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    // All of its participant records are free again.
    let all = (rx.sender().unwrap(), rx.sender().unwrap());
    assert_eq!((all.0.stats().senders, all.0.stats().quarantined, all.0.stats().lost), (2, 0, 0));
    drop((rx, all));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

pub fn hold_and_return(arguments: &[String]) {
    let lock = locks(&arguments[0]).mutex::<u64>("lock").unwrap();
    forget(lock.lock().unwrap());
    keep(&LOCK, lock);
}

#[test]
fn exit_with_lock_held_next_lock_reports_owner_died() {
    let test_dir = TestDir::new();
    let namespace = locks(test_dir.names());
    run("hold_and_return", &[&names(&test_dir)]);
    assert!(matches!(namespace.mutex::<u64>("lock").unwrap().lock(), Err(LockError::OwnerDied(_))));
    assert!(namespace.mutex::<u64>("free").unwrap().lock().is_ok());
    drop(namespace);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

pub fn enter_and_return(arguments: &[String]) {
    keep(&LOCK, locks(&arguments[0]).mutex("lock").unwrap());
}

pub fn keep_everything_and_return(arguments: &[String]) {
    let [in_pipe, in_queue, in_space] = arguments else { panic!("{arguments:?}") };
    keep(&SENDER, pipe(in_pipe).sender(NAME).unwrap());
    keep(&RECEIVER, pipe(in_pipe).receiver(NAME).unwrap());
    keep(&BOTH, jobs(in_queue).open(NAME).unwrap());
    keep(&LOCK, locks(in_space).mutex("lock").unwrap());
}

#[test]
fn exit_of_last_process_removes_names() {
    let test_dir = TestDir::new();
    let directories = ["a", "b", "c"].map(|name| test_dir.file(name));
    let arguments: Vec<&str> = directories.iter().map(|directory| directory.to_str().unwrap()).collect();
    run("keep_everything_and_return", &arguments);
    let left: Vec<_> = directories.iter().flat_map(|directory| directory.read_dir().unwrap()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn exit_of_all_processes_at_once_removes_name() {
    let test_dir = TestDir::new();
    for _ in 0..5 {
        let both = [0, 1].map(|_| start("enter_and_return", &[&names(&test_dir)]));
        both.into_iter().for_each(Process::finish);
        assert_eq!(test_dir.leftovers(), [""; 0]);
    }
}

static BOARD: Local<Option<SharedCounters>> = Local::new(None);

/// Runs after the library has left.
extern "C" fn go_on_after_leaving() {
    let counters = BOARD.lock().unwrap().take().unwrap();
    counters.meet(0, 2); // it has left
    counters.meet(1, 2); // it may be gone
    drop(SENDER.lock().unwrap().take());
    drop(RESULTS.lock().unwrap().take());
}

pub fn linger(arguments: &[String]) {
    keep(&BOARD, SharedCounters::at(Path::new(&arguments[1])));
    // SAFETY: before the library's own, so that it runs after that.
    assert_eq!(unsafe { libc::atexit(go_on_after_leaving) }, 0);
    keep(&SENDER, pipe(&arguments[0]).sender(NAME).unwrap());
    keep(&RESULTS, jobs(&arguments[0]).receiver("queue").unwrap());
}

#[test]
fn exit_not_finished_endpoint_stays_in_use() {
    let test_dir = TestDir::new();
    let path = test_dir.file("counters");
    let counters = SharedCounters::at(&path);
    let mut rx = pipe(test_dir.names()).receiver(NAME).unwrap();
    let mut tx = jobs(test_dir.names()).sender("queue").unwrap();
    let child = start("linger", &[&names(&test_dir), path.to_str().unwrap()]);
    counters.meet(0, 2);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    let error = (0..9).find_map(|_| tx.send_timeout(1, Duration::from_secs(60)).err());
    assert_eq!(error, Some(SendError::Closed), "when it is full");
    let pid = child.pid() as u64;
    assert_eq!(pipe(test_dir.names()).sender(NAME).unwrap_err().kind(), ErrorKind::EndpointInUse { pid });
    let two = (tx.try_clone().unwrap(), tx.try_clone().map(drop).unwrap_err().kind());
    assert_eq!(two.1, ErrorKind::TooManyParticipants, "the participant record is not free");
    counters.meet(1, 2);
    child.finish();
    let mut successor = pipe(test_dir.names()).sender(NAME).unwrap();
    successor.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    tx.try_clone().unwrap();
}

/// Sends and receives in other threads while it ends.
pub fn be_busy_and_exit(arguments: &[String]) {
    let mut tx = jobs(&arguments[0]).sender(NAME).unwrap();
    let mut rx = jobs(&arguments[0]).receiver(NAME).unwrap();
    thread::spawn(move || while tx.send(1).is_ok() {});
    thread::spawn(move || while rx.recv().is_ok() {});
    thread::sleep(Duration::from_millis(arguments[1].parse().unwrap()));
    std::process::exit(0);
}

#[test]
fn exit_during_queue_operation_loses_no_slot() {
    let test_dir = TestDir::new();
    let mut tx = jobs(test_dir.names()).sender(NAME).unwrap();
    for round in 0..20 {
        run("be_busy_and_exit", &[&names(&test_dir), &(round % 5).to_string()]);
        // Fills the queue until no receiver is left: they have left, and none has died.
        let error = (0..100).find_map(|_| tx.send_timeout(2, Duration::from_secs(60)).err());
        assert_eq!(error, Some(SendError::Closed));
        let mut rx = tx.receiver().unwrap();
        while rx.recv_timeout(Duration::from_millis(50)).is_ok() {}
        let third = tx.try_clone().unwrap();
        assert_eq!(tx.stats().quarantined, 0, "round {round}: {:?}", tx.stats());
        assert_eq!((0..5).map_while(|_| tx.try_send(3).ok()).count(), 4, "it holds as much as before");
        drop(third);
        assert_eq!((0..5).map_while(|_| rx.try_recv().ok()).count(), 4);
    }
}
