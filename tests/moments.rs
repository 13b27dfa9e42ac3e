//! Races that random runs rarely meet: one process is stopped after each step of an operation,
//! another one does what makes that step matter, and the first goes on.

#![cfg(target_arch = "x86_64")]

mod support;
#[path = "support/sweep.rs"]
mod sweep;

use std::cell::{Cell, RefCell};
use std::mem::forget;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use support::{Process, SharedCounters, TestDir, alone, child_roles, fork, report, start, until};
use sweep::{NAME, kill_after_changes, nested_guard, sweep_stopping};
use tombolo::inspect::ParticipantStatus;
use tombolo::pipe;
use tombolo::queue::{self, Queue};
use tombolo::sync::LockError;
use tombolo::{Directory, Endpoint, ErrorKind, Namespace, NamespaceBuilder, RecvError, SendError, WaitStrategy};

child_roles!(hold_the_mutex, wait_for_the_mutex, join_and_leave, receive_nothing);

type Value = [u64; 2];

const CAPACITY: u64 = 4;

/// Room for a survivor that sends and receives, and for two more participants.
fn values(names: &Path) -> queue::Options<Value> {
    queue::Options::new().capacity(CAPACITY as usize).max_participants(4).directory(names)
}

/// Checks that no slot is in quarantine: the ring takes as many messages as it has room for, twice
/// around.
fn works(queue: &mut Queue<Value>) {
    while queue.try_recv().is_ok() {}
    assert_eq!(queue.stats().quarantined, 0, "a slot stays in quarantine");
    for _ in 0..2 {
        for number in 0..CAPACITY {
            queue.try_send([number; 2]).unwrap_or_else(|error| panic!("message {number}: {error}"));
        }
        for number in 0..CAPACITY {
            assert_eq!(queue.try_recv(), Ok([number; 2]));
        }
    }
}

/// A sender is killed while it claims a slot that another sender, which is stopped, may have
/// claimed, too. The repair has to be deferred, and until it is done no other process may have the
/// dead sender's participant record.
#[test]
fn queue_repair_deferred_participant_stays_taken() {
    let deferred = Cell::new(0);
    let swept = sweep_stopping(
        |names| values(names).open(NAME).unwrap(),
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            move || {
                tx.send([1; 2]).unwrap();
                forget(tx);
            }
        },
        |names, _| {
            // Its first change is the intent, the second the tail: then it has a claim.
            let was_killed = kill_after_changes(names, 2, || {
                let mut tx = values(names).sender(NAME).unwrap();
                move || tx.send([2; 2]).unwrap()
            });
            assert!(was_killed);
            // Its participant record is the only one that could be free.
            match values(names).sender(NAME) {
                Ok(mut tx) => {
                    let _ = tx.try_send([3; 2]);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TooManyParticipants);
                    deferred.set(deferred.get() + 1);
                }
            }
        },
        |names, mut survivor| {
            drop(values(names).sender(NAME).unwrap()); // repairs
            works(&mut survivor);
        },
    );
    swept.covers(0, 4);
    assert!(deferred.get() > 0 || swept.calls == usize::MAX, "no repair was deferred");
}

/// Makes a sender that has died: a descriptor that no process takes is a death.
fn die(names: &Path) {
    let tx = values(names).sender(NAME).unwrap();
    drop(Endpoint::into_fd(tx).unwrap());
}

/// Whether a participant lives is read from a lock and from its record. In between, the record can
/// become that of a successor, which lives.
#[test]
fn inspect_while_successor_joins_reports_no_lost_lock() {
    let swept = sweep_stopping(
        |names| {
            let survivor = values(names).receiver(NAME).unwrap();
            die(names);
            (survivor, RefCell::new(None::<queue::Sender<Value>>))
        },
        |names| {
            let directory = Directory::at(names);
            move || {
                let standings: Vec<_> =
                    directory.inspect(NAME).unwrap().participants.iter().map(|it| it.status).collect();
                assert!(!standings.contains(&ParticipantStatus::LockLost), "{standings:?}");
            }
        },
        |names, (_, newcomer)| _ = newcomer.replace(Some(values(names).sender(NAME).unwrap())),
        |_, (survivor, newcomer)| drop((survivor, newcomer)),
    );
    swept.covers(5, 0);
}

/// The same for a receiver that waits: it may report the death of the predecessor, but not of the
/// successor.
#[test]
fn queue_recv_while_successor_joins_does_not_end() {
    let swept = sweep_stopping(
        |names| (values(names).receiver(NAME).unwrap(), RefCell::new(None::<queue::Sender<Value>>)),
        |names| {
            let mut rx = values(names).wait(WaitStrategy::Park).receiver(NAME).unwrap();
            die(names);
            move || {
                let error = rx.recv_timeout(Duration::from_millis(25)).unwrap_err();
                assert!(matches!(error, tombolo::RecvError::PeerDied | tombolo::RecvError::TimedOut), "{error:?}");
                forget(rx);
            }
        },
        |names, (_, newcomer)| _ = newcomer.replace(Some(values(names).sender(NAME).unwrap())),
        |_, (survivor, newcomer)| drop((survivor, newcomer)),
    );
    swept.covers(5, 0);
}

fn plan(names: &Path) -> NamespaceBuilder {
    Namespace::builder()
        .mutex("mutex", 0_u64)
        .condvar("condition")
        .max_participants(6)
        .wait(WaitStrategy::Park)
        .directory(names)
}

/// A wait on a condition variable unlocks the mutex and goes to sleep. A notification in between
/// must wake it. Nothing else would here, because sleeps do not end by themselves.
#[test]
fn condvar_notified_between_unlock_and_sleep_wakes() {
    const IN_TIME: usize = 0;
    let counters = |names: &Path| SharedCounters::at(&names.with_file_name("counters"));
    let open = |namespace: &Namespace| {
        let (mutex, condition) = (namespace.mutex::<u64>("mutex").unwrap(), namespace.condvar("condition").unwrap());
        let is_free = mutex.try_lock().map(|mut guard| *guard = 1).is_ok();
        if is_free {
            condition.notify_all().unwrap();
        }
        is_free
    };
    let caught = Cell::new(0);
    let swept = sweep_stopping(
        |names| {
            let namespace = plan(names).open(NAME).unwrap();
            // If the victim sleeps before it gets to the step at which it is stopped, this process
            // wakes it.
            let opener = fork(&nested_guard(), || {
                let namespace = plan(names).open(NAME).unwrap();
                let (began, counters) = (Instant::now(), counters(names));
                let is_in_time = || counters.word(IN_TIME).load(Ordering::SeqCst) == 1;
                until(|| is_in_time() || began.elapsed() > Duration::from_secs(2) && open(&namespace));
            });
            (namespace, opener)
        },
        |names| {
            tombolo::test_hooks::disable_liveness_interval();
            let namespace: &'static Namespace = Box::leak(Box::new(plan(names).open(NAME).unwrap()));
            let mutex: &'static _ = Box::leak(Box::new(namespace.mutex::<u64>("mutex").unwrap()));
            let condition = namespace.condvar("condition").unwrap();
            let guard = mutex.lock().unwrap();
            move || forget(condition.wait_while(guard, |open| *open == 0).unwrap())
        },
        |names, (namespace, _)| {
            if open(namespace) {
                counters(names).word(IN_TIME).store(1, Ordering::SeqCst);
                caught.set(caught.get() + 1);
            }
        },
        |_, (_, opener)| opener.finish(),
    );
    swept.covers(1, 3);
    assert!(caught.get() > 0 || swept.calls == usize::MAX);
}

/// A sender sees a receiver that is joining, and leaves without having sent anything. The receiver
/// reports `Closed`, however far it had come.
#[test]
fn queue_receiver_seen_by_sender_reports_closed() {
    let seen = Cell::new(0);
    sweep_stopping(
        |names| RefCell::new(Some(values(names).sender(NAME).unwrap())),
        |names| {
            let late = names.with_file_name("late");
            let names = names.to_path_buf();
            move || {
                let mut rx = values(&names).receiver(NAME).unwrap();
                std::fs::write(names.with_file_name("joined"), b"").unwrap();
                if rx.recv_timeout(Duration::from_millis(60)) == Err(RecvError::TimedOut) {
                    std::fs::write(late, b"").unwrap();
                }
                forget(rx); // leaving is no part of this sweep
            }
        },
        |names, tx: &RefCell<Option<queue::Sender<Value>>>| {
            let is_joining = !names.with_file_name("joined").exists();
            if is_joining && tx.borrow().as_ref().is_some_and(|tx| tx.stats().receivers == 1) {
                drop(tx.take());
                seen.set(seen.get() + 1);
            }
        },
        |names, tx| {
            let late = names.with_file_name("late");
            let _ = std::fs::remove_file(names.with_file_name("joined"));
            let is_late = std::fs::remove_file(late).is_ok() && tx.borrow().is_none();
            assert!(!is_late, "the sender saw the receiver and left, and the receiver did not report it");
            drop(tx);
            // The receiver was killed.
            let _ = Directory::at(names).unlink(NAME, false);
        },
    );
    report(&format!("seen at {} stops", seen.get()));
}

/// The same in a pipe, for a sender that looks at the lock of the receiver.
#[test]
fn pipe_receiver_seen_by_sender_reports_closed() {
    let options = |names: &Path| pipe::Options::<Value>::new().directory(names);
    let seen = Cell::new(0);
    sweep_stopping(
        |names| RefCell::new(Some(options(names).sender(NAME).unwrap())),
        |names| {
            let (late, joined) = (names.with_file_name("late"), names.with_file_name("joined"));
            let options = options(names);
            move || {
                let mut rx = options.receiver(NAME).unwrap();
                std::fs::write(joined, b"").unwrap();
                if rx.recv_timeout(Duration::from_millis(60)) == Err(RecvError::TimedOut) {
                    std::fs::write(late, b"").unwrap();
                }
                forget(rx); // leaving is no part of this sweep
            }
        },
        |names, tx: &RefCell<Option<pipe::Sender<Value>>>| {
            let is_joining = !names.with_file_name("joined").exists();
            let receiver = || Directory::at(names).inspect(NAME).unwrap().participants[1].status;
            if is_joining && tx.borrow().is_some() && receiver() == ParticipantStatus::Alive {
                drop(tx.take());
                seen.set(seen.get() + 1);
            }
        },
        |names, tx| {
            let _ = std::fs::remove_file(names.with_file_name("joined"));
            let is_late = std::fs::remove_file(names.with_file_name("late")).is_ok() && tx.borrow().is_none();
            assert!(!is_late, "the sender saw the receiver and left, and the receiver did not report it");
            drop(tx);
            // The receiver was killed.
            let _ = Directory::at(names).unlink(NAME, true);
        },
    );
    report(&format!("seen at {} stops", seen.get()));
    assert!(seen.get() > 0);
}

fn enter(test_dir: &TestDir, part: &str) -> Process {
    start(part, &[test_dir.names().to_str().unwrap(), test_dir.file("counters").to_str().unwrap()])
}

fn surroundings(arguments: &[String]) -> (Namespace, SharedCounters) {
    (plan(Path::new(&arguments[0])).open(NAME).unwrap(), SharedCounters::at(Path::new(&arguments[1])))
}

fn hold_the_mutex(arguments: &[String]) {
    let (namespace, counters) = surroundings(arguments);
    let mutex = namespace.mutex::<u64>("mutex").unwrap();
    let _guard = mutex.lock().unwrap();
    counters.meet(0, 2);
    loop {
        thread::park();
    }
}

fn wait_for_the_mutex(arguments: &[String]) {
    let (namespace, counters) = surroundings(arguments);
    let mutex = namespace.mutex::<u64>("mutex").unwrap();
    counters.meet(0, 2);
    let _ = mutex.lock();
}

fn join_and_leave(arguments: &[String]) {
    drop(surroundings(arguments));
}

/// A waiter that has waited for long makes newcomers yield. A newcomer that finds the lock free,
/// and unlocks it again for the waiters, must not be the only one that learns of the owner's death.
#[test]
fn mutex_owner_killed_while_newcomers_yield_next_lock_reports_owner_died() {
    let _alone = alone();
    let test_dir = TestDir::new();
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let mutex = plan(&test_dir.names()).open(NAME).unwrap().mutex::<u64>("mutex").unwrap();
    let owner = enter(&test_dir, "hold_the_mutex");
    counters.meet(0, 2);
    let waiter = enter(&test_dir, "wait_for_the_mutex");
    counters.meet(0, 2);
    thread::sleep(Duration::from_millis(200)); // by then newcomers have to yield
    stop(&waiter);
    owner.kill();
    enter(&test_dir, "join_and_leave").finish(); // repairs: the lock is free, and the death is not yet reported
    assert!(!mutex.is_locked());
    assert!(matches!(mutex.lock(), Err(LockError::OwnerDied(_))), "the death was reported to no process");
    waiter.signal(libc::SIGCONT);
    waiter.finish();
}

/// Stops a process, and returns when it has stopped.
fn stop(process: &Process) {
    process.signal(libc::SIGSTOP);
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    until(|| state().rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')));
}

/// The same without a death: the newcomer unlocks the mutex again and leaves it to the waiters for
/// at least a millisecond.
#[test]
fn mutex_with_long_waiter_newcomer_yields() {
    let _alone = alone();
    let test_dir = TestDir::new();
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let mutex = plan(&test_dir.names()).open(NAME).unwrap().mutex::<u64>("mutex").unwrap();
    let guard = mutex.lock().unwrap();
    let waiter = enter(&test_dir, "wait_for_the_mutex");
    counters.meet(0, 2);
    thread::sleep(Duration::from_millis(200)); // by then newcomers have to yield
    stop(&waiter);
    drop(guard);
    let began = Instant::now();
    drop(mutex.lock().unwrap());
    assert!(began.elapsed() >= Duration::from_millis(1), "it did not yield");
    waiter.signal(libc::SIGCONT);
    waiter.finish();
}

fn receive_nothing(arguments: &[String]) {
    let (names, counters) = (Path::new(&arguments[0]), SharedCounters::at(Path::new(&arguments[1])));
    let _rx = pipe::Options::<u64>::new().capacity(1).directory(names).receiver(NAME).unwrap();
    counters.meet(0, 2);
    loop {
        thread::park();
    }
}

/// Between two checks of the sender two receivers are killed, and a third one joins: the sender
/// reports one death.
#[test]
fn pipe_two_receivers_killed_between_checks_sender_reports_one_death() {
    let _alone = alone();
    let test_dir = TestDir::new();
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let mut receivers = Vec::new();
    let mut tx = None;
    for killed in [true, true, false] {
        let receiver = enter(&test_dir, "receive_nothing");
        counters.meet(0, 2);
        if tx.is_none() {
            let mut sender = pipe::Options::<u64>::new().capacity(1).directory(test_dir.names()).sender(NAME).unwrap();
            sender.try_send(1).unwrap();
            tx = Some(sender);
        }
        if killed { receiver.kill() } else { receivers.push(receiver) }
    }
    let mut tx = tx.unwrap();
    assert_eq!(tx.try_send(2), Err(SendError::PeerDied));
    assert_eq!(tx.try_send(2), Err(SendError::Full));
    drop(tx);
}
