//! `Namespace`: creation, abandonment, participants, inspection and repair.

use std::mem::forget;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tombolo::inspect::ParticipantStatus;
use tombolo::sync::SyncError;
use tombolo::{Directory, ErrorKind, Namespace, NamespaceBuilder, OnStale, RecvError};

use crate::common::{
    MOMENT, NAME, Pair, any_guard, counters, open, opened, owner_died, plan, refusal, report_ready_and_park, spin,
    start_ready, start_role, stop, take_and_forget,
};
use crate::support::{Random, SharedCounters, TestDir};

const RACES: u64 = 200;

fn race(names: &Path, counters: &SharedCounters, delay: u64) {
    for round in 0..RACES {
        counters.meet(1, 2);
        let plan = Namespace::builder().atomic("atomic", 0_u64).event("event").directory(names);
        let namespace = plan.open(&format!("race-{round}")).unwrap();
        namespace.atomic::<u64>("atomic").unwrap().fetch_add(1);
        counters.meet(2, 2);
        assert_eq!(namespace.atomic::<u64>("atomic").unwrap().load(), 2, "in round {round}");
        counters.meet(3, 2);
        spin(round % delay);
        drop(namespace); // while the other process does the same
        counters.meet(4, 2);
        assert_eq!(Directory::at(names).names().unwrap(), [""; 0], "in round {round}");
    }
}

pub fn race_for_name(arguments: &[String]) {
    race(Path::new(&arguments[0]), &SharedCounters::at(Path::new(&arguments[1])), 21);
}

#[test]
fn namespace_concurrent_create_yields_one() {
    let test_dir = TestDir::new();
    let other = start_role(&test_dir, "race_for_name", &[]);
    race(&test_dir.names(), &counters(&test_dir), 20);
    other.finish();
}

#[test]
fn namespace_only_process_killed_name_and_values_remain() {
    let test_dir = TestDir::new();
    for abandoned in [OnStale::Resume, OnStale::Recreate] {
        start_ready(&test_dir, "hold", &["mutex", "storing", "permits", "re-entrant"]).kill();
        assert_eq!(test_dir.leftovers(), [NAME]);
        let inspection = Directory::at(test_dir.names()).inspect(NAME).unwrap();
        assert!(inspection.is_stale());
        assert_eq!(inspection.participants[0].status, ParticipantStatus::Dead);
        let namespace = plan().on_stale(abandoned).directory(test_dir.names()).open(NAME).unwrap();
        let again = plan().on_stale(OnStale::Recreate).directory(test_dir.names()).open(NAME).unwrap();
        let (mutex, value) = (namespace.mutex::<Pair>("mutex").unwrap(), again.value::<Pair>("storing").unwrap());
        let permits = namespace.bounded_semaphore("permits").unwrap();
        assert_eq!(permits.available(), 3);
        if abandoned == OnStale::Resume {
            assert_eq!((*owner_died(mutex.lock()), value.load()), ([1; 2], Ok([1; 2])), "as last committed");
        }
        assert_eq!(value.store(&[2; 2]), Ok(()));
        let left = if abandoned == OnStale::Resume { [1; 2] } else { [0; 2] };
        assert_eq!(mutex.lock().map(|guard| *guard).unwrap(), left);
        assert_eq!(again.value::<Pair>("storing").unwrap().load(), Ok([2; 2]), "the one that is in use");
        drop((namespace, again, mutex, value, permits));
        assert_eq!(test_dir.leftovers(), [""; 0]);
    }
}

#[test]
fn namespace_abandoned_can_be_recreated_with_other_plan() {
    let test_dir = TestDir::new();
    start_ready(&test_dir, "hold", &["mutex"]).kill();
    let other = Namespace::builder().event("another").directory(test_dir.names());
    assert_eq!(other.open(NAME).unwrap_err().kind(), ErrorKind::NotFound, "the old one is there");
    assert_eq!(test_dir.leftovers(), [NAME], "and stays");
    let namespace = other.on_stale(OnStale::Recreate).open(NAME).unwrap();
    assert_eq!(namespace.objects().count(), 1);
}

pub fn open_and_stay(arguments: &[String]) {
    let (_namespace, counters) = opened(arguments);
    report_ready_and_park(&counters);
}

#[test]
fn namespace_last_process_leaves_name_is_removed_unless_persistent() {
    let test_dir = TestDir::new();
    let children = [start_ready(&test_dir, "open_and_stay", &[]), start_ready(&test_dir, "open_and_stay", &[])];
    drop(open(&test_dir));
    assert_eq!(test_dir.leftovers(), [NAME]);
    let [first, second] = children;
    first.kill();
    drop(open(&test_dir));
    assert_eq!(test_dir.leftovers(), [NAME], "one is left");
    second.kill();
    drop(open(&test_dir));
    assert_eq!(test_dir.leftovers(), [""; 0]);

    drop(plan().persistent().directory(test_dir.names()).open(NAME).unwrap());
    open(&test_dir).atomic::<u64>("atomic").unwrap().store(5);
    start_ready(&test_dir, "open_and_stay", &[]).kill();
    let replacing = plan().on_stale(OnStale::Recreate).directory(test_dir.names()).open(NAME).unwrap();
    assert_eq!(replacing.atomic::<u64>("atomic").unwrap().load(), 5);
    drop(replacing);
    assert_eq!(test_dir.leftovers(), [NAME]);
    Directory::at(test_dir.names()).unlink(NAME, false).unwrap();
}

fn plan_of_three(names: &Path) -> NamespaceBuilder {
    plan().max_participants(3).directory(names)
}

pub fn join_and_stay(arguments: &[String]) {
    let namespace = plan_of_three(Path::new(&arguments[0])).open(NAME).unwrap();
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    let _guard = (arguments[2] == "holding").then(|| any_guard(mutex.lock()).unwrap());
    report_ready_and_park(&SharedCounters::at(Path::new(&arguments[1])));
}

pub fn fail_to_join(arguments: &[String]) {
    let error = plan_of_three(Path::new(&arguments[0])).open(NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyParticipants);
    let text = error.to_string();
    arguments[2..].iter().for_each(|pid| assert!(text.contains(pid.as_str()), "{pid} is not in: {text}"));
}

#[test]
fn namespace_full_error_names_participants_until_one_dies() {
    let test_dir = TestDir::new();
    let namespace = plan_of_three(&test_dir.names()).open(NAME).unwrap();
    let mut others = [(); 2].map(|()| Some(start_ready(&test_dir, "join_and_stay", &["idle"])));
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    let mut random = Random(3);
    for round in 0..15 {
        if round % 5 == 0 {
            let pids = [&others[0], &others[1]].map(|other| other.as_ref().unwrap().pid().to_string());
            stop(others[1].as_ref().unwrap());
            let own = std::process::id().to_string();
            start_role(&test_dir, "fail_to_join", &[&pids[0], &pids[1], &own]).finish();
            others[1].as_ref().unwrap().signal(libc::SIGCONT);
        }
        let slot = &mut others[random.below(2) as usize];
        slot.take().unwrap().kill();
        *slot = Some(start_ready(&test_dir, "join_and_stay", &["holding"]));
        assert_eq!(refusal(mutex.lock_timeout(Duration::from_millis(1))), SyncError::TimedOut, "it is alive");
        slot.take().unwrap().kill();
        *slot = Some(start_ready(&test_dir, "join_and_stay", &["idle"]));
        drop(owner_died(mutex.lock()));
        drop(mutex.lock().unwrap());
    }
    let inspection = Directory::at(test_dir.names()).inspect(NAME).unwrap();
    assert_eq!(inspection.participants.iter().map(|participant| participant.joins).sum::<u64>(), 1 + 2 + 15 * 2);
}

#[test]
fn namespace_process_killed_everything_held_is_released() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let everything = ["mutex", "re-entrant", "array", "writing", "storing", "permits"];
    for _ in 0..5 {
        start_ready(&test_dir, "hold", &everything).kill();
        assert_eq!(
            namespace.bounded_semaphore("permits").unwrap().acquire_many(3).map(|permit| permit.forget()),
            Ok(())
        );
        assert_eq!(namespace.bounded_semaphore("permits").unwrap().release(3), Ok(()));
        drop(owner_died(namespace.mutex::<Pair>("mutex").unwrap().lock()));
        drop(owner_died(namespace.reentrant_mutex::<u64>("re-entrant").unwrap().try_lock()));
        drop(owner_died(namespace.array::<[u64; 3]>("array").unwrap().lock()));
        drop(owner_died(namespace.rw_lock::<Pair>("writing").unwrap().read()));
        assert_eq!(namespace.value::<Pair>("storing").unwrap().store(&[0; 2]), Ok(()));
    }
}

#[test]
fn namespace_inspect_names_holders_repair_releases_dead() {
    let test_dir = TestDir::new();
    let directory = Directory::at(test_dir.names());
    let owner = start_ready(&test_dir, "hold", &["mutex", "reading", "permits", "storing"]);
    let pid = owner.pid() as u64;
    let seen = |name: &str| {
        let object = directory.inspect(NAME).unwrap().objects.into_iter().find(|object| object.name == name).unwrap();
        (object.holder, object.users)
    };
    assert_eq!((seen("mutex"), seen("storing")), ((Some(pid), vec![]), (Some(pid), vec![])));
    assert_eq!((seen("writing"), seen("permits")), ((None, vec![pid]), (None, vec![pid; 2])));
    assert_eq!(directory.repair(NAME).unwrap(), 0, "it is alive");
    owner.kill();
    assert_eq!(directory.repair(NAME).unwrap(), 1);
    for name in ["mutex", "storing", "writing", "permits"] {
        assert_eq!(seen(name), (None, vec![]), "{name}");
    }
    drop(owner_died(open(&test_dir).mutex::<Pair>("mutex").unwrap().lock()));
}

pub fn forget_and_leave(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    ["mutex", "array", "storing", "permits"].into_iter().for_each(|what| take_and_forget(&namespace, what));
    let reading = namespace.rw_lock::<Pair>("reading").unwrap();
    forget(reading.read().unwrap());
    drop(reading);
    drop(namespace); // leaves the namespace
    counters.meet(0, 2);
    counters.meet(0, 2);
}

#[test]
fn namespace_left_forgotten_guards_are_released() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let child = start_ready(&test_dir, "forget_and_leave", &[]);
    let standing = Directory::at(test_dir.names()).inspect(NAME).unwrap().participants[1].status;
    assert_eq!(standing, ParticipantStatus::Left, "and runs");
    assert_eq!(*owner_died(namespace.mutex::<Pair>("mutex").unwrap().lock()), [1; 2]);
    drop(owner_died(namespace.array::<[u64; 3]>("array").unwrap().lock()));
    drop(namespace.rw_lock::<Pair>("reading").unwrap().write().unwrap());
    assert_eq!(namespace.value::<Pair>("storing").unwrap().try_store(&[2; 2]), Ok(()));
    assert_eq!(
        namespace.bounded_semaphore("permits").unwrap().try_acquire_many(3).map(|permit| permit.forget()),
        Ok(())
    );
    counters(&test_dir).meet(0, 2);
    child.finish();
}

/// Sends a number and keeps its sender.
pub fn send_and_stay(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    let mut queue = namespace.queue::<u64>("queue").unwrap();
    queue.send(1).unwrap();
    report_ready_and_park(&counters);
}

#[test]
fn namespace_queue_last_sender_killed_recv_reports_peer_died() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let (tx, mut rx) = namespace.queue::<u64>("queue").unwrap().split();
    let sender = start_ready(&test_dir, "send_and_stay", &[]);
    assert_eq!(rx.recv(), Ok(1));
    drop(tx);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| rx.recv());
        thread::sleep(MOMENT);
        sender.kill();
        assert_eq!(waiting.join().unwrap(), Err(RecvError::PeerDied));
    });
}
