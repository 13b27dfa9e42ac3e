//! Broadcasts between processes that are killed, stopped, passed endpoints, and that exit.

use std::fs::File;
use std::mem::forget;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::broadcast::{self, BroadcastEndpoint, Options, Policy, Publisher, Subscriber};
use tombolo::inspect::ParticipantStatus;
use tombolo::spawn::{self, CommandExt};
use tombolo::{Directory, Endpoint, ErrorKind, OnStale, RecvError, SendError};

use crate::support::{Process, SharedCounters, TestDir, alone, command, fork, start, stress_random, until};

/// The process that publishes it, and a number.
type Value = [u64; 2];

const NAME: &str = "name";
const MOMENT: Duration = Duration::from_millis(30);
const POLICIES: [Policy; 3] = [Policy::Lossless, Policy::Lossy, Policy::EvictSlow { lag: 12 }];

fn values(names: impl AsRef<Path>) -> Options<Value> {
    Options::new().capacity(16).max_publishers(3).directory(names.as_ref())
}

fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

/// Starts a process in `role`; see [`Role`].
fn enter(test_dir: &TestDir, role: &str, policy: usize) -> Process {
    let (names, counters) = (test_dir.names(), test_dir.file("counters"));
    start(role, &[names.to_str().unwrap(), counters.to_str().unwrap(), &policy.to_string()])
}

/// Starts a process in `role` and waits until it has joined.
fn enter_joined(test_dir: &TestDir, role: &str, policy: usize) -> Process {
    let process = enter(test_dir, role, policy);
    counters(test_dir).meet(0, 2);
    process
}

/// What a child process was started with.
struct Role {
    options: Options<Value>,
    counters: SharedCounters,
}

impl Role {
    fn of(arguments: &[String]) -> Self {
        let policy = POLICIES[arguments[2].parse::<usize>().unwrap()];
        let options = values(&arguments[0]).policy(policy);
        Self { options, counters: SharedCounters::at(Path::new(&arguments[1])) }
    }

    fn stay(&self) -> ! {
        self.counters.meet(0, 2);
        loop {
            thread::park();
        }
    }
}

fn pid() -> u64 {
    u64::from(std::process::id())
}

fn pid_of(process: &Process) -> u64 {
    process.pid() as u64
}

/// Word 1 counts what was published for certain.
pub fn publish_endlessly(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut publisher = role.options.publisher(NAME).unwrap();
    for number in 0.. {
        publisher.publish([pid(), number]).unwrap();
        role.counters.word(1).store(number + 1, Ordering::SeqCst);
    }
}

/// Like [`publish_endlessly`], one of several.
pub fn publish_beside_others(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut publisher = role.options.publisher(NAME).unwrap();
    for number in 0.. {
        publisher.publish([pid(), number]).unwrap();
    }
}

pub fn stay_as_publisher(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut publisher = role.options.publisher(NAME).unwrap();
    publisher.publish([pid(), 0]).unwrap();
    role.stay()
}

pub fn stay_as_subscriber(arguments: &[String]) {
    let role = Role::of(arguments);
    let _subscriber = role.options.subscriber(NAME).unwrap();
    role.stay()
}

/// In all places but one.
pub fn stay_as_many_subscribers(arguments: &[String]) {
    let role = Role::of(arguments);
    let first = role.options.subscriber(NAME).unwrap();
    let _more: Vec<_> = (0..62).map(|_| first.try_clone().unwrap()).collect();
    role.stay()
}

/// Receives when it is told to. Word 1: what came, or the end.
pub fn receive_later(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut subscriber = role.options.subscriber(NAME).unwrap();
    role.counters.meet(0, 2);
    role.counters.meet(2, 2);
    let received = match subscriber.recv() {
        Ok([_, number]) => number + 1,
        Err(RecvError::Evicted) => u64::MAX,
        Err(RecvError::Lagged { missed }) => u64::MAX - missed,
        Err(error) => panic!("{error}"),
    };
    role.counters.word(1).store(received, Ordering::SeqCst);
}

/// The numbers of each publisher are complete, but for what `Lagged` counts.
struct Account {
    next: u64,
    missed: u64,
}

impl Account {
    fn receive(&mut self, from: u64, received: Result<Value, RecvError>) -> Result<(), RecvError> {
        match received {
            Ok([publisher, number]) => {
                assert_eq!(publisher, from);
                assert_eq!(number, self.next + self.missed, "the number that comes next");
                (self.next, self.missed) = (number + 1, 0);
                Ok(())
            }
            Err(RecvError::Lagged { missed }) => {
                self.missed += missed;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

// ---- publishers that are killed and stopped --------------------------------------------------------------------------

#[test]
fn publisher_killed_anywhere_subscribers_get_the_rest_and_its_end() {
    let mut random = stress_random(0xB20AD);
    for policy in [0, 1] {
        let test_dir = TestDir::new();
        let counters = counters(&test_dir);
        let mut subscriber = values(test_dir.names()).policy(POLICIES[policy]).subscriber(NAME).unwrap();
        for round in 0..24 {
            counters.word(1).store(0, Ordering::SeqCst);
            let publisher = enter(&test_dir, "publish_endlessly", policy);
            let from = pid_of(&publisher);
            until(|| counters.word(1).load(Ordering::SeqCst) > 0);
            let mut account = Account { next: 0, missed: 0 };
            for _ in 0..random.below(2000) {
                account.receive(from, subscriber.recv()).unwrap();
            }
            thread::sleep(Duration::from_micros(random.below(1 << (round % 12))));
            if round % 2 == 0 {
                publisher.signal(libc::SIGSTOP);
                let end = loop {
                    if let Err(end) = account.receive(from, subscriber.recv_timeout(MOMENT)) {
                        break end;
                    }
                };
                assert_eq!(end, RecvError::TimedOut, "a stopped one is not dead");
                publisher.signal(libc::SIGCONT);
            }
            publisher.kill();
            let end = loop {
                if let Err(end) = account.receive(from, subscriber.recv()) {
                    break end;
                }
            };
            assert_eq!(end, RecvError::PeerDied);
            let (total, certain) = (account.next + account.missed, counters.word(1).load(Ordering::SeqCst));
            assert!(total == certain || total == certain + 1, "{total} of {certain}");
            assert_eq!(subscriber.try_recv(), Err(RecvError::PeerDied));
        }
        drop(subscriber);
        assert_eq!(test_dir.leftovers(), [""; 0]);
    }
}

#[test]
fn publisher_of_several_killed_or_stopped_nobody_else_is_delayed() {
    for policy in [0, 1] {
        for signal in [libc::SIGSTOP, libc::SIGKILL] {
            let test_dir = TestDir::new();
            let mut subscriber = values(test_dir.names()).policy(POLICIES[policy]).subscriber(NAME).unwrap();
            let [victim, other] = [(); 2].map(|()| enter(&test_dir, "publish_beside_others", policy));
            let mut received = |from: u64, count: u64| {
                let mut left = count;
                while left > 0 {
                    match subscriber.recv() {
                        Ok([publisher, _]) => left -= u64::from(publisher == from),
                        Err(error) => assert!(matches!(error, RecvError::Lagged { .. }), "{error}"),
                    }
                }
            };
            received(pid_of(&victim), 100);
            received(pid_of(&other), 100);
            victim.signal(signal);
            received(pid_of(&other), 3000);
            let mut third = values(test_dir.names()).publisher(NAME).unwrap();
            third.publish([pid(), 0]).unwrap();
            received(pid(), 1);
            if signal == libc::SIGSTOP {
                victim.signal(libc::SIGCONT);
                received(pid_of(&victim), 100);
            }
        }
    }
}

#[test]
fn subscriber_with_wait_for_successor_outlives_killed_publishers() {
    let test_dir = TestDir::new();
    let mut subscriber = values(test_dir.names()).wait_for_successor().subscriber(NAME).unwrap();
    for _ in 0..3 {
        let publisher = enter_joined(&test_dir, "stay_as_publisher", 0);
        assert_eq!(subscriber.recv(), Ok([pid_of(&publisher), 0]));
        publisher.kill();
        assert_eq!(subscriber.recv_timeout(MOMENT), Err(RecvError::TimedOut));
        assert_eq!(subscriber.try_recv(), Err(RecvError::Empty));
    }
}

// ---- subscribers that are killed and stopped -------------------------------------------------------------------------

#[test]
fn lossless_publisher_goes_on_when_its_slowest_subscriber_is_killed() {
    for stays_blocked in [false, true] {
        let test_dir = TestDir::new();
        let mut publisher = values(test_dir.names()).publisher(NAME).unwrap();
        let subscriber = enter_joined(&test_dir, "stay_as_subscriber", 0);
        (0..16).for_each(|number| publisher.publish([pid(), number]).unwrap());
        assert_eq!(publisher.publish_timeout([pid(), 16], MOMENT), Err(SendError::TimedOut));
        assert_eq!(publisher.slowest().unwrap().pid, pid_of(&subscriber));
        if stays_blocked {
            thread::scope(|scope| {
                let blocked = scope.spawn(|| publisher.publish([pid(), 16]));
                thread::sleep(MOMENT);
                subscriber.kill();
                assert_eq!(blocked.join().unwrap(), Ok(()));
            });
        } else {
            subscriber.kill();
            assert_eq!(publisher.slowest().unwrap().status, ParticipantStatus::Dead);
        }
        (17..100).for_each(|number| publisher.publish([pid(), number]).unwrap());
        assert!(publisher.slowest().is_none());
    }
}

/// All of them at the first liveness check, and not one after the other.
#[test]
fn lossless_publisher_evicts_all_killed_subscribers_at_once() {
    let test_dir = TestDir::new();
    let mut publisher = values(test_dir.names()).publisher(NAME).unwrap();
    let mut own = publisher.subscriber().unwrap();
    enter_joined(&test_dir, "stay_as_many_subscribers", 0).kill();
    assert_eq!(publisher.subscribers(), 64, "nobody has noticed");
    let (mut published, mut timed_out) = (0, 0);
    while published < 20 {
        match publisher.publish_timeout([pid(), published], MOMENT) {
            Ok(()) => {
                assert_eq!(own.recv(), Ok([pid(), published]));
                published += 1;
            }
            Err(error) => {
                assert_eq!(error, SendError::TimedOut);
                timed_out += 1;
            }
        }
    }
    assert!(timed_out <= 2, "{timed_out} calls timed out");
}

/// A loop of calls that do not block notices a death, too.
#[test]
fn lossless_publisher_that_tries_evicts_a_killed_subscriber() {
    let test_dir = TestDir::new();
    let mut publisher = values(test_dir.names()).publisher(NAME).unwrap();
    enter_joined(&test_dir, "stay_as_subscriber", 0).kill();
    for number in 0..40 {
        until(|| publisher.try_publish([pid(), number]).is_ok());
    }
}

#[test]
fn lossless_publisher_names_the_stopped_subscriber_and_goes_on_after_it() {
    let test_dir = TestDir::new();
    let counters = counters(&test_dir);
    let mut publisher = values(test_dir.names()).publisher(NAME).unwrap();
    let mut own = publisher.subscriber().unwrap();
    let subscriber = enter_joined(&test_dir, "receive_later", 0);
    subscriber.signal(libc::SIGSTOP);
    for number in 0..16 {
        publisher.publish([pid(), number]).unwrap();
        assert_eq!(own.recv(), Ok([pid(), number]));
    }
    for _ in 0..4 {
        assert_eq!(publisher.publish_timeout([pid(), 16], MOMENT), Err(SendError::TimedOut));
    }
    let slowest = publisher.slowest().unwrap();
    assert_eq!((slowest.pid, slowest.status, slowest.lag), (pid_of(&subscriber), ParticipantStatus::Alive, 16));
    assert!(slowest.process_name.is_some());
    subscriber.signal(libc::SIGCONT);
    counters.meet(2, 2);
    publisher.publish([pid(), 16]).unwrap();
    subscriber.finish();
    assert_eq!(counters.word(1).load(Ordering::SeqCst), 1, "it missed nothing");
}

#[test]
fn publisher_that_does_not_wait_is_not_held_up_by_stopped_or_killed_subscribers() {
    for policy in [1, 2] {
        let test_dir = TestDir::new();
        let counters = counters(&test_dir);
        let mut publisher = values(test_dir.names()).policy(POLICIES[policy]).publisher(NAME).unwrap();
        enter_joined(&test_dir, "stay_as_subscriber", policy).kill();
        let stopped = enter_joined(&test_dir, "receive_later", policy);
        stopped.signal(libc::SIGSTOP);
        (0..10_000).for_each(|number| publisher.try_publish([pid(), number]).unwrap());
        stopped.signal(libc::SIGCONT);
        counters.meet(2, 2);
        stopped.finish();
        let expected = if policy == 1 { u64::MAX - (10_000 - 16) } else { u64::MAX };
        assert_eq!(counters.word(1).load(Ordering::SeqCst), expected);
    }
}

#[test]
fn publisher_waits_for_a_subscriber_that_lives() {
    let test_dir = TestDir::new();
    let mut publisher = values(test_dir.names()).publisher(NAME).unwrap();
    enter_joined(&test_dir, "stay_as_subscriber", 0).kill();
    assert_eq!(publisher.wait_for_subscribers(1, MOMENT), Err(SendError::TimedOut));
    let subscriber = enter_joined(&test_dir, "stay_as_subscriber", 0);
    publisher.wait_for_subscribers(1, Duration::from_secs(60)).unwrap();
    subscriber.signal(libc::SIGSTOP);
    publisher.wait_for_subscribers(1, Duration::from_secs(60)).unwrap();
}

/// The next subscriber takes the place of the killed one, and nothing of it is left.
#[test]
fn subscriber_takes_the_place_of_a_killed_one() {
    let test_dir = TestDir::new();
    let options = values(test_dir.names()).max_subscribers(1);
    let mut publisher = options.publisher(NAME).unwrap();
    for number in 0..5 {
        enter_joined(&test_dir, "stay_as_subscriber", 0).kill();
        (0..10).for_each(|_| publisher.publish([pid(), 99]).unwrap());
        let mut subscriber = options.subscriber(NAME).unwrap();
        assert_eq!(subscriber.try_recv(), Err(RecvError::Empty), "from when it joined");
        publisher.publish([pid(), number]).unwrap();
        assert_eq!(subscriber.recv(), Ok([pid(), number]));
    }
}

// ---- endpoints that are passed ---------------------------------------------------------------------------------------

fn start_with<E: BroadcastEndpoint + 'static>(test_dir: &TestDir, role: &str, endpoint: E) -> Process {
    let counters = test_dir.file("counters");
    command(role, &[counters.to_str().unwrap()]).pass("end", endpoint).unwrap().spawn().unwrap().into()
}

pub fn do_nothing(_: &[String]) {}

/// Word 1: the sum of the numbers.
pub fn receive_passed(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[0]));
    let mut subscriber: Subscriber<Value> = spawn::take("end").unwrap();
    for value in &mut subscriber {
        counters.word(1).fetch_add(value.unwrap()[1], Ordering::SeqCst);
    }
}

pub fn publish_passed(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[0]));
    let mut publisher: Publisher<Value> = spawn::take("end").unwrap();
    publisher.publish([pid(), 7]).unwrap();
    counters.meet(0, 2);
    counters.meet(0, 2);
}

pub fn stay_with_passed_subscriber(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[0]));
    let _subscriber: Subscriber<Value> = spawn::take("end").unwrap();
    counters.meet(0, 2);
    loop {
        thread::park();
    }
}

#[test]
fn subscriber_passed_to_a_child_goes_on_where_it_was() {
    for policy in POLICIES {
        let test_dir = TestDir::new();
        let counters = counters(&test_dir);
        let (mut publisher, mut subscriber) = Options::<Value>::new().capacity(16).policy(policy).create().unwrap();
        (0..6).for_each(|number| publisher.publish([pid(), number]).unwrap());
        assert_eq!([subscriber.recv(), subscriber.recv()], [Ok([pid(), 0]), Ok([pid(), 1])]);
        let child = start_with(&test_dir, "receive_passed", subscriber);
        (6..8).for_each(|number| publisher.publish([pid(), number]).unwrap());
        drop(publisher);
        child.finish();
        assert_eq!(counters.word(1).load(Ordering::SeqCst), (2..8).sum());
    }
}

#[test]
fn publisher_passed_to_a_child_publishes_and_its_death_is_reported() {
    for is_killed in [false, true] {
        let test_dir = TestDir::new();
        let counters = counters(&test_dir);
        let (publisher, mut subscriber) = Options::<Value>::new().create().unwrap();
        let child = start_with(&test_dir, "publish_passed", publisher);
        counters.meet(0, 2);
        assert_eq!(subscriber.recv(), Ok([pid_of(&child), 7]));
        if is_killed {
            child.kill();
            assert_eq!(subscriber.recv(), Err(RecvError::PeerDied));
        } else {
            counters.meet(0, 2);
            child.finish();
            assert_eq!(subscriber.recv(), Err(RecvError::Closed));
        }
    }
}

#[test]
fn endpoint_that_is_lost_on_its_way_counts_as_dead() {
    let test_dir = TestDir::new();
    let (mut publisher, mut subscriber) = Options::<Value>::new().capacity(4).create().unwrap();
    // Nobody takes it.
    let passed = publisher.subscriber().unwrap();
    start_with(&test_dir, "do_nothing", passed).finish();
    for number in 0..20 {
        publisher.publish([pid(), number]).unwrap();
        assert_eq!(subscriber.recv(), Ok([pid(), number]));
    }
    // Its taker is killed.
    let passed = publisher.subscriber().unwrap();
    let child = start_with(&test_dir, "stay_with_passed_subscriber", passed);
    counters(&test_dir).meet(0, 2);
    child.kill();
    for number in 0..20 {
        publisher.publish([pid(), number]).unwrap();
        assert_eq!(subscriber.recv(), Ok([pid(), number]));
    }
    // While the descriptor is open, publishers wait.
    let descriptor = publisher.subscriber().unwrap().into_fd().unwrap();
    for number in 0..4 {
        publisher.publish([pid(), number]).unwrap();
        assert_eq!(subscriber.recv(), Ok([pid(), number]));
    }
    assert_eq!(publisher.publish_timeout([pid(), 4], 2 * MOMENT), Err(SendError::TimedOut));
    let slowest = publisher.slowest().unwrap();
    assert_eq!((slowest.pid, slowest.process_name, slowest.status), (0, None, ParticipantStatus::Alive));
    drop(descriptor);
    publisher.publish([pid(), 4]).unwrap();
    assert_eq!(subscriber.recv(), Ok([pid(), 4]));
    drop(publisher.into_fd().unwrap());
    assert_eq!(subscriber.recv(), Err(RecvError::PeerDied));
}

#[test]
fn endpoint_abandoned_counts_as_dead() {
    let (mut publisher, mut subscriber) = Options::<Value>::new().capacity(4).create().unwrap();
    publisher.subscriber().unwrap().abandon().unwrap();
    for number in 0..20 {
        publisher.publish([pid(), number]).unwrap();
        assert_eq!(subscriber.recv(), Ok([pid(), number]));
    }
    publisher.abandon().unwrap();
    assert_eq!(subscriber.recv(), Err(RecvError::PeerDied));
}

// ---- forks and exits -------------------------------------------------------------------------------------------------

#[test]
fn fork_inherited_broadcast_endpoints_are_refused_and_dropped_without_effect() {
    let alone = alone();
    let test_dir = TestDir::new();
    let options = values(test_dir.names());
    let (mut publisher, mut subscriber) = (options.publisher(NAME).unwrap(), options.subscriber(NAME).unwrap());
    publisher.publish([pid(), 1]).unwrap();
    let mut endpoints = Some((publisher, subscriber));
    let child = fork(&alone, || {
        let (mut publisher, mut subscriber) = endpoints.take().unwrap();
        assert_eq!(publisher.publish([0; 2]), Err(SendError::Forked));
        assert_eq!(publisher.try_publish_many(&[[0; 2]]), Err(SendError::Forked));
        assert_eq!(publisher.wait_for_subscribers(1, MOMENT), Err(SendError::Forked));
        assert_eq!(subscriber.try_recv(), Err(RecvError::Forked));
        assert_eq!(subscriber.recv_many(&mut [[0; 2]]), Err(RecvError::Forked));
        assert_eq!(subscriber.poll(MOMENT), Err(RecvError::Forked));
        assert_eq!(subscriber.rejoin(), Err(RecvError::Forked));
        assert_eq!(publisher.subscriber().unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(subscriber.publisher().unwrap_err().kind(), ErrorKind::Forked);
        drop((publisher, subscriber));
    });
    child.finish();
    (publisher, subscriber) = endpoints.take().unwrap();
    publisher.publish([pid(), 2]).unwrap();
    assert_eq!([subscriber.recv(), subscriber.recv()], [Ok([pid(), 1]), Ok([pid(), 2])]);
    drop(publisher);
    assert_eq!(subscriber.recv(), Err(RecvError::Closed));
}

/// Leaves `main`, as it were, with handles that were not dropped.
pub fn exit_with_handles(arguments: &[String]) {
    let role = Role::of(arguments);
    let (mut publisher, subscriber) = (role.options.publisher(NAME).unwrap(), role.options.subscriber(NAME).unwrap());
    publisher.publish([pid(), 5]).unwrap();
    forget((publisher, subscriber));
    std::process::exit(0);
}

#[test]
fn process_that_exits_with_handles_leaves_and_does_not_die() {
    let test_dir = TestDir::new();
    let options = values(test_dir.names());
    let mut subscriber = options.subscriber(NAME).unwrap();
    let child = enter(&test_dir, "exit_with_handles", 0);
    let from = pid_of(&child);
    child.finish();
    assert_eq!([subscriber.recv(), subscriber.recv()], [Ok([from, 5]), Err(RecvError::Closed)]);
    let mut publisher = options.publisher(NAME).unwrap();
    assert_eq!(publisher.subscribers(), 1);
    for number in 0..40 {
        publisher.try_publish([pid(), number]).unwrap();
        assert_eq!(subscriber.recv(), Ok([pid(), number]));
    }
    drop((publisher, subscriber));
    assert_eq!(test_dir.leftovers(), [""; 0]);
    enter(&test_dir, "exit_with_handles", 0).finish();
    assert_eq!(test_dir.leftovers(), [""; 0], "the last one that exits takes the name along");
}

// ---- names -----------------------------------------------------------------------------------------------------------

fn sent(test_dir: &TestDir) -> u64 {
    Directory::at(test_dir.names()).inspect(NAME).unwrap().rings[0].sent
}

#[test]
fn name_of_a_broadcast_goes_with_the_last_one_and_stays_if_that_was_killed() {
    let test_dir = TestDir::new();
    let options = values(test_dir.names()).history(4);
    let mut publisher = options.publisher(NAME).unwrap();
    let subscriber = options.subscriber(NAME).unwrap();
    publisher.publish([pid(), 0]).unwrap();
    drop(publisher);
    assert_eq!(test_dir.leftovers(), [NAME]);
    drop(subscriber);
    assert_eq!(test_dir.leftovers(), [""; 0], "with the history");

    let mut publisher = options.publisher(NAME).unwrap();
    publisher.publish([pid(), 1]).unwrap();
    publisher.publish([pid(), 2]).unwrap();
    publisher.abandon().unwrap();
    let killed = enter_joined(&test_dir, "stay_as_publisher", 0);
    let from = pid_of(&killed);
    killed.kill();
    assert_eq!((test_dir.leftovers(), sent(&test_dir)), (vec![NAME.into()], 3));
    let mut publisher = options.publisher(NAME).unwrap();
    publisher.publish([pid(), 3]).unwrap();
    let mut subscriber = options.subscriber(NAME).unwrap();
    // Three publishers, each in the place of the one before.
    let mut received: Vec<Value> = subscriber.try_iter().map(Result::unwrap).collect();
    received.sort_unstable_by_key(|value| (value[0] == from, value[1]));
    assert_eq!(received, [[pid(), 1], [pid(), 2], [pid(), 3], [from, 0]]);
    drop((publisher, subscriber));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn successor_goes_on_at_the_position_of_a_killed_publisher() {
    let test_dir = TestDir::new();
    let options = values(test_dir.names()).max_publishers(1).history(8);
    let options_of_three = options.clone();
    for round in 0..5 {
        let mut publisher = options.publisher(NAME).unwrap();
        publisher.publish([pid(), round]).unwrap();
        publisher.abandon().unwrap();
        assert_eq!(sent(&test_dir), round + 1);
    }
    let received: Vec<Value> = options.subscriber(NAME).unwrap().try_iter().map_while(Result::ok).collect();
    assert_eq!(received, [0, 1, 2, 3, 4].map(|round| [pid(), round]));
    assert_eq!(test_dir.leftovers(), [""; 0], "the last one has left now");

    options.publisher(NAME).unwrap().abandon().unwrap();
    let mut publisher = options_of_three.on_stale(OnStale::Recreate).publisher(NAME).unwrap();
    assert_eq!(sent(&test_dir), 0);
    publisher.publish([pid(), 9]).unwrap();
    assert_eq!(options.subscriber(NAME).unwrap().recv(), Ok([pid(), 9]));
}

#[test]
fn subscriber_under_a_removed_name_is_told_so() {
    for how_it_ended in ["killed", "left", "never came"] {
        let test_dir = TestDir::new();
        let mut subscriber = values(test_dir.names()).wait_for_successor().subscriber(NAME).unwrap();
        match how_it_ended {
            "killed" => enter_joined(&test_dir, "stay_as_publisher", 0).kill(),
            "left" => values(test_dir.names()).publisher(NAME).unwrap().publish([0, 0]).unwrap(),
            _ => {}
        }
        let _ = subscriber.try_recv();
        assert_eq!(subscriber.recv_timeout(MOMENT), Err(RecvError::TimedOut));
        Directory::at(test_dir.names()).unlink(NAME, true).unwrap();
        assert_eq!(subscriber.recv(), Err(RecvError::NameRemoved), "{how_it_ended}");
        // It can make a publisher itself.
        let mut publisher = subscriber.publisher().unwrap();
        publisher.publish([pid(), 1]).unwrap();
        assert_eq!(subscriber.recv(), Ok([pid(), 1]));
    }
}

pub fn publish_three(arguments: &[String]) {
    let role = Role::of(arguments);
    role.counters.meet(0, 2);
    let mut publisher = role.options.publisher(NAME).unwrap();
    publisher.wait_for_subscribers(1, Duration::from_secs(600)).unwrap();
    (0..3).for_each(|number| publisher.publish([pid(), number]).unwrap());
}

pub fn receive_three(arguments: &[String]) {
    let role = Role::of(arguments);
    role.counters.meet(0, 2);
    let mut subscriber = role.options.subscriber(NAME).unwrap();
    let received: Vec<u64> = subscriber.iter().map(|value| value.unwrap()[1]).collect();
    assert_eq!(received, [0, 1, 2]);
}

#[test]
fn broadcast_opened_by_two_at_once_is_one() {
    for _ in 0..20 {
        let test_dir = TestDir::new();
        let both = ["publish_three", "receive_three"].map(|role| enter(&test_dir, role, 0));
        both.into_iter().for_each(Process::finish);
        assert_eq!(test_dir.leftovers(), [""; 0]);
    }
}

#[test]
fn broadcast_with_every_place_taken_refuses_and_waits_as_long_as_it_is_told() {
    let test_dir = TestDir::new();
    let options = values(test_dir.names()).max_subscribers(2).max_publishers(1);
    let publisher = options.publisher(NAME).unwrap();
    let ours = options.subscriber(NAME).unwrap();
    let theirs = enter_joined(&test_dir, "stay_as_subscriber", 0);
    let error = options.subscriber(NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyParticipants);
    for part in [pid(), pid_of(&theirs)].map(|pid| format!("process {pid}")).iter().chain([&"max_subscribers".into()]) {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(options.publisher(NAME).unwrap_err().to_string().contains("max_publishers"));
    let waiting = options.clone().open_timeout(Duration::from_secs(600));
    thread::scope(|scope| {
        let newcomer = scope.spawn(|| waiting.subscriber(NAME).unwrap());
        thread::sleep(MOMENT);
        drop(ours);
        let third = newcomer.join().unwrap();
        let newcomer = scope.spawn(|| waiting.subscriber(NAME).unwrap());
        thread::sleep(MOMENT);
        theirs.kill();
        drop((newcomer.join().unwrap(), third));
    });
    assert_eq!(publisher.subscribers(), 0);
    let error = broadcast::Options::<Value>::new().directory(test_dir.file("elsewhere")).must_exist().subscriber(NAME);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(File::open(test_dir.file("elsewhere").join(NAME)).is_err());
}
