//! `task_done` and `join`: what is waited for, and what is lost with receivers that die or leave.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::processes::{MOMENT, NAME, counters, enter, from_arguments, start_joined, stay, values};
use crate::support::{Process, Random, SharedCounters, TestDir};
use tombolo::queue::{self, JoinError};
use tombolo::{Directory, Namespace, NamespaceBuilder};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

fn lost(count: u64) -> Result<(), JoinError> {
    Err(JoinError::TasksLost { count })
}

/// Finishes one task and starts another.
pub fn work_on_one_and_stay(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    rx.recv().unwrap();
    rx.task_done().unwrap();
    rx.recv().unwrap();
    stay(&counters);
}

/// Receives some messages, singly or in a batch, and finishes none.
fn take(rx: &mut queue::Receiver<u64>, count: &str, how: &str) {
    let count: usize = count.parse().unwrap();
    if how == "batch" {
        assert_eq!(rx.recv_many(&mut vec![0; count]), Ok(count));
    } else {
        (0..count).for_each(|_| assert!(rx.recv().is_ok()));
    }
}

pub fn take_and_stay(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    take(&mut rx, &arguments[2], &arguments[3]);
    stay(&counters);
}

/// Ends in good order, without having dropped its receiver.
pub fn take_and_exit(arguments: &[String]) {
    let (options, _) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    take(&mut rx, &arguments[2], &arguments[3]);
    forget(rx);
    std::process::exit(0);
}

/// Starts a process that has received `count` messages and finished none.
fn start_taking(test_dir: &TestDir, count: &str, how: &str) -> Process {
    let process = enter(test_dir, "take_and_stay", &[count, how]);
    counters(test_dir).meet(0, 2);
    process
}

#[test]
fn sender_join_waits_while_worker_lives() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    let _another = values(&test_dir).receiver(NAME).unwrap();
    for _ in 0..5 {
        tx.send_many(&[1, 2]).unwrap();
        let worker = start_joined(&test_dir, "work_on_one_and_stay");
        assert_eq!(tx.join_timeout(MOMENT), Err(JoinError::TimedOut), "it is at work");
        worker.signal(libc::SIGSTOP);
        assert_eq!(tx.join_timeout(3 * MOMENT), Err(JoinError::TimedOut), "it may go on");
        thread::scope(|scope| {
            let joining = scope.spawn(|| tx.join());
            thread::sleep(MOMENT);
            worker.kill();
            assert_eq!(joining.join().unwrap(), lost(1), "it will not");
        });
    }
    assert_eq!((tx.join(), tx.stats().tasks_lost), (Ok(()), 5));
}

/// Finishes one task by asking for the next.
pub fn work_by_tasks_and_stay(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    let mut tasks = rx.tasks();
    assert_eq!((tasks.next(), tasks.next()), (Some(Ok(1)), Some(Ok(2))));
    stay(&counters);
}

#[test]
fn tasks_worker_killed_in_body_task_is_lost() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send_many(&[1, 2]).unwrap();
    let worker = start_joined(&test_dir, "work_by_tasks_and_stay");
    assert_eq!(tx.join_timeout(MOMENT), Err(JoinError::TimedOut), "it is at work");
    worker.kill();
    assert_eq!((tx.join(), tx.join()), (lost(1), Ok(())));
}

#[test]
fn tasks_body_ends_early_task_is_not_done() {
    let _watchdog = TestDir::new();
    for how in ["panic", "return", "break", "break and finish"] {
        let (mut tx, mut rx) = queue::Options::<u64>::new().create_channel().unwrap();
        tx.send_many(&[1, 2, 3]).unwrap();
        let work = |rx: &mut queue::Receiver<u64>| -> Result<(), String> {
            for job in rx.tasks() {
                match (job.unwrap(), how) {
                    (1, _) => {}
                    (_, "panic") => std::panic::resume_unwind(Box::new(how)),
                    (_, "return") => return Err(how.to_string()),
                    _ => break,
                }
            }
            Ok(())
        };
        let ended = catch_unwind(AssertUnwindSafe(|| work(&mut rx)));
        match how {
            "panic" => assert!(ended.is_err()),
            "return" => assert!(ended.unwrap().is_err()),
            _ => assert_eq!(ended.unwrap(), Ok(())),
        }
        let is_done = how == "break and finish";
        if is_done {
            rx.task_done().unwrap();
        }
        assert_eq!(rx.tasks().next(), Some(Ok(3)), "it goes on");
        drop(rx);
        assert_eq!(tx.join(), lost(if is_done { 1 } else { 2 }), "{how}");
    }
}

#[test]
fn tasks_stream_ends_every_task_is_done() {
    let _watchdog = TestDir::new();
    let mut queue = queue::Options::<u64>::new().create().unwrap();
    let mut tx = queue.sender().unwrap();
    tx.send_many(&[1, 2, 3]).unwrap();
    tx.close().unwrap();
    assert_eq!(queue.tasks().map(Result::unwrap).sum::<u64>(), 6);
    assert_eq!(tx.join(), Ok(()));

    let (mut tx, mut rx) = queue::Options::bytes().create_channel().unwrap();
    tx.send("job").unwrap();
    tx.close().unwrap();
    let mut tasks = rx.tasks();
    assert_eq!(tasks.next(), Some(Ok(b"job".to_vec())));
    assert_eq!((tasks.next(), tasks.next()), (None, None));
    assert_eq!(tx.join(), Ok(()));
}

#[test]
fn sender_join_last_worker_killed_reports_what_is_left() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send_many(&[1, 2]).unwrap();
    start_joined(&test_dir, "work_on_one_and_stay").kill();
    assert_eq!(tx.join(), lost(1));
    tx.send_many(&[1, 2, 3]).unwrap();
    start_joined(&test_dir, "work_on_one_and_stay").kill();
    assert_eq!(tx.join(), Err(JoinError::PeerDied), "the third is queued");
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    assert_eq!(tx.join_timeout(MOMENT), Err(JoinError::TimedOut));
    assert_eq!((rx.recv(), rx.task_done()), (Ok(3), Ok(())));
    assert_eq!((tx.join(), tx.join()), (lost(1), Ok(())));
}

/// All of them at once, beside a worker that finishes its tasks.
#[test]
fn sender_join_workers_killed_with_tasks_counts_each_task() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).max_participants(8).sender(NAME).unwrap();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    for round in 1..=3 {
        tx.send_many(&[0; 9]).unwrap();
        let victims = [("1", "singly"), ("3", "singly"), ("1", "batch"), ("3", "batch")]
            .map(|(count, how)| start_taking(&test_dir, count, how));
        assert_eq!(rx.recv(), Ok(0));
        victims.into_iter().for_each(Process::kill);
        assert_eq!(tx.join_timeout(MOMENT), Err(JoinError::TimedOut), "one may still be done");
        rx.task_done().unwrap();
        assert_eq!((tx.join_timeout(LONG), tx.join()), (lost(8), Ok(())));
        let stats = tx.stats();
        assert_eq!((stats.tasks_lost, stats.lost, stats.receivers), (8 * round, 0, 1), "{stats:?}");
    }
}

#[test]
fn sender_join_receiver_dropped_with_tasks_counts_them() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    for _ in 0..3 {
        let mut careless = rx.try_clone().unwrap();
        tx.send_many(&[1, 2, 3]).unwrap();
        assert_eq!((careless.recv(), careless.recv(), careless.task_done()), (Ok(1), Ok(2), Ok(())));
        thread::scope(|scope| {
            let joining = scope.spawn(|| tx.join());
            assert_eq!((rx.recv(), rx.task_done()), (Ok(3), Ok(())));
            drop(careless);
            assert_eq!(joining.join().unwrap(), lost(1));
        });
    }
    tx.send(4).unwrap();
    assert_eq!(rx.recv(), Ok(4));
    drop(rx);
    assert_eq!(tx.join(), lost(1), "although it was the last one");
    assert_eq!(tx.stats().tasks_lost, 4);
}

#[test]
fn queue_worker_killed_inspect_counts_its_tasks_before_repair() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send_many(&[1, 2, 3]).unwrap();
    start_taking(&test_dir, "2", "batch").kill();
    let directory = Directory::at(test_dir.names());
    for repaired in [1, 0] {
        assert_eq!(directory.inspect(NAME).unwrap().queue.unwrap().stats.tasks_lost, 2);
        assert_eq!(directory.repair(NAME).unwrap(), repaired);
    }
    assert_eq!(tx.stats().tasks_lost, 2);
}

/// A handle that could receive what waits is no reason to wait for it: it is the one that joins.
#[test]
fn queue_join_own_receiver_is_no_other_worker() {
    let test_dir = TestDir::new();
    let mut queue = values(&test_dir).open(NAME).unwrap();
    queue.send_many(&[1, 2]).unwrap();
    let mut worker = values(&test_dir).receiver(NAME).unwrap();
    assert_eq!(worker.recv(), Ok(1));
    worker.task_done().unwrap();
    drop(worker);
    assert_eq!(queue.join_timeout(LONG), Err(JoinError::Closed));
    assert_eq!(queue.recv(), Ok(2));
    queue.task_done().unwrap();
    assert_eq!(queue.join_timeout(LONG), Ok(()));
}

#[test]
fn sender_join_worker_exits_with_tasks_counts_them() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    for has_other in [true, false] {
        let _other = has_other.then(|| values(&test_dir).receiver(NAME).unwrap());
        tx.send_many(&[1, 2]).unwrap();
        enter(&test_dir, "take_and_exit", &["2", "batch"]).finish();
        assert_eq!(tx.join(), lost(2), "another receiver: {has_other}");
    }
    tx.send_many(&[1, 2, 3]).unwrap();
    enter(&test_dir, "take_and_exit", &["2", "batch"]).finish();
    assert_eq!(tx.join(), Err(JoinError::Closed), "the third is queued");
    assert_eq!(tx.stats().tasks_lost, 6);
}

/// The handle that is passed on keeps its tasks.
#[test]
fn sender_join_receiver_passed_on_its_tasks_can_be_done() {
    let (mut tx, mut rx) = queue::Options::<u64>::new().create_channel().unwrap();
    tx.send_many(&[1, 2]).unwrap();
    assert_eq!(rx.recv_many(&mut [0; 2]), Ok(2));
    let descriptor = tombolo::Endpoint::into_fd(rx).unwrap();
    assert_eq!(tx.join_timeout(MOMENT), Err(JoinError::TimedOut), "on its way");
    let mut rx: queue::Receiver<u64> = descriptor.try_into().unwrap();
    rx.task_done().unwrap();
    assert_eq!(tx.stats().tasks_lost, 0);
    drop(tombolo::Endpoint::into_fd(rx).unwrap()); // nobody can take it any more
    assert_eq!(tx.join(), lost(1));
}

#[test]
fn sender_join_each_handle_reports_a_loss_once() {
    let test_dir = TestDir::new();
    let mut first = values(&test_dir).sender(NAME).unwrap();
    let mut second = values(&test_dir).sender(NAME).unwrap();
    let _rx = values(&test_dir).receiver(NAME).unwrap();
    first.send(1).unwrap();
    start_taking(&test_dir, "1", "singly").kill();
    assert_eq!((first.join(), first.join()), (lost(1), Ok(())));
    let mut clone = second.try_clone().unwrap();
    let mut third = values(&test_dir).sender(NAME).unwrap();
    assert_eq!((second.join(), second.join()), (lost(1), Ok(())));
    assert_eq!((clone.join(), clone.join()), (lost(1), Ok(())), "as its original did");
    assert_eq!((third.join(), third.stats().tasks_lost), (Ok(()), 1), "before it was opened");
}

/// The record of a participant is used again, and counts on.
#[test]
fn queue_record_of_lost_tasks_reused_count_is_kept() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).max_participants(3).sender(NAME).unwrap();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    for round in 1..=5 {
        tx.send_many(&[1, 2, 3]).unwrap();
        start_taking(&test_dir, "2", "singly").kill();
        assert_eq!((rx.recv(), rx.task_done()), (Ok(3), Ok(())));
        let mut successor = values(&test_dir).receiver(NAME).unwrap();
        assert_eq!(tx.stats().tasks_lost, 2 * round, "the newcomer has repaired");
        tx.send(4).unwrap();
        assert_eq!((successor.recv(), tx.join_timeout(Duration::ZERO)), (Ok(4), Err(JoinError::TimedOut)));
        successor.task_done().unwrap();
        assert_eq!(successor.task_done(), Err(queue::TaskDoneError::NoTask));
        assert_eq!((tx.join(), tx.join()), (lost(2), Ok(())));
    }
}

/// Counts what it has done in word 1, each before its `task_done`.
pub fn work_and_count(arguments: &[String]) {
    let (options, counters) = from_arguments(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    counters.meet(0, 2);
    while rx.recv().is_ok() {
        counters.word(1).fetch_add(1, Ordering::SeqCst);
        rx.task_done().unwrap();
    }
}

#[test]
fn queue_workers_killed_at_random_each_task_is_done_or_counted() {
    const KILLS: u64 = 30;
    const TASKS: u64 = 300;
    let test_dir = TestDir::new();
    let mut random = Random(15);
    let mut tx = values(&test_dir).capacity(64).max_participants(8).sender(NAME).unwrap();
    let mut workers = [(); 3].map(|()| Some(start_joined(&test_dir, "work_and_count")));
    for _ in 0..KILLS {
        let victim = &mut workers[random.below(3) as usize];
        let killed_after = random.below(TASKS);
        for task in 0..TASKS {
            if task == killed_after {
                victim.take().unwrap().kill();
            }
            tx.send(task).unwrap();
        }
        *victim = Some(start_joined(&test_dir, "work_and_count"));
    }
    let joined = tx.join();
    let (done, count) = (counters(&test_dir).word(1).load(Ordering::SeqCst), tx.stats().tasks_lost);
    assert_eq!(joined, if count == 0 { Ok(()) } else { lost(count) });
    // A worker may have died when it had done a task, or when a message was being made its task.
    let sent = KILLS * TASKS;
    assert!((sent..=sent + KILLS).contains(&(done + count)), "{done} done and {count} lost of {sent}");
    drop(tx);
    workers.into_iter().flatten().for_each(Process::finish);
}

fn two_queues(test_dir: &std::path::Path) -> NamespaceBuilder {
    Namespace::builder().queue::<u64>("one", 8).queue::<u64>("two", 8).directory(test_dir)
}

pub fn take_of_namespace_and_stay(arguments: &[String]) {
    let namespace = two_queues(arguments[0].as_ref()).open(NAME).unwrap();
    let mut queue = namespace.queue::<u64>("one").unwrap();
    (0..2).for_each(|_| assert!(queue.recv().is_ok()));
    stay(&SharedCounters::at(arguments[1].as_ref()));
}

#[test]
fn namespace_queue_worker_killed_other_queue_counts_nothing() {
    let test_dir = TestDir::new();
    let namespace = two_queues(&test_dir.names()).open(NAME).unwrap();
    let [mut one, mut two] = ["one", "two"].map(|name| namespace.queue::<u64>(name).unwrap());
    one.send(1).unwrap();
    one.send(2).unwrap();
    two.send(3).unwrap();
    assert_eq!(two.recv(), Ok(3));
    start_joined(&test_dir, "take_of_namespace_and_stay").kill();
    assert_eq!((one.join(), one.join()), (lost(2), Ok(())));
    assert_eq!(two.join_timeout(MOMENT), Err(JoinError::TimedOut), "its task is at work here");
    two.task_done().unwrap();
    assert_eq!((two.join(), one.stats().tasks_lost, two.stats().tasks_lost), (Ok(()), 2, 0));
}
