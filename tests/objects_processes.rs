//! The objects of namespaces between processes: names and descriptors, deaths of who holds and who waits, signals, stops, forks,
//! crowds, and storms of kills.

mod support;

use std::fs;
use std::io;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Board, Process, Random, Sandbox, alone, command, fork, parts, say, start, storm_numbers, until};
use tombolo::{
    Abandoned, Array, ArrayGuard, BoundedSemaphore, Directory, ErrorKind, Handover, LockError, LockResult, Mutex,
    Namespace, NamespaceBuilder, Object, Once, RecvError, SendError, Standing, SyncError, Value, Wait,
};

parts!(
    change_everything,
    change_what_was_handed,
    pick_up_single_objects,
    race_for_a_name,
    hold,
    hold_and_give_up,
    forget_and_leave,
    hold_and_close_descriptors,
    join_and_stay,
    fail_to_join,
    open_and_stay,
    come_to_the_barrier,
    wait_and_leave,
    wait_under_signals,
    store_for_ever,
    set_for_ever,
    fork_with_everything,
    fork_with_sections,
    hold_and_fork,
    count_everything,
    answer,
    hammer,
    hammer_by_reading,
    try_and_leave,
    work_until_killed,
);

const NAME: &str = "name";
const MOMENT: Duration = Duration::from_millis(30);

/// Two words that belong together.
type Pair = [u64; 2];

fn board(sandbox: &Sandbox) -> Board {
    Board::at(&sandbox.file("board"))
}

/// Starts a process that plays `part`; see [`surroundings`].
fn enter(sandbox: &Sandbox, part: &str, more: &[&str]) -> Process {
    let (names, board) = (sandbox.names(), sandbox.file("board"));
    start(part, &[&[names.to_str().unwrap(), board.to_str().unwrap()], more].concat())
}

/// Starts `part` and waits until it says that it is there.
fn settle(sandbox: &Sandbox, part: &str, more: &[&str]) -> Process {
    let process = enter(sandbox, part, more);
    board(sandbox).meet(0, 2);
    process
}

/// Namespace and board of a part that was started by [`enter`].
fn surroundings(arguments: &[String]) -> (Namespace, Board) {
    (plan().directory(&arguments[0]).open(NAME).unwrap(), Board::at(Path::new(&arguments[1])))
}

fn stay(board: &Board) -> ! {
    board.meet(0, 2);
    loop {
        thread::park();
    }
}

/// Stops a process, and returns when it has stopped.
fn stop(process: &Process) {
    process.signal(libc::SIGSTOP);
    let mut status = 0;
    // SAFETY: a child of ours and a place for its status.
    let pid = unsafe { libc::waitpid(process.pid(), &mut status, libc::WUNTRACED) };
    assert!(pid == process.pid() && libc::WIFSTOPPED(status), "ended instead of stopping: {status:#x}");
}

/// In another thread, to its end.
fn elsewhere<R: Send>(action: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(action).join().unwrap())
}

/// What most of these tests are about: an object for each way to wait, named by it, and some more.
fn plan() -> NamespaceBuilder {
    Namespace::builder()
        .mutex("mutex", [0_u64; 2])
        .reentrant_mutex("re-entrant", 0_u64)
        .array("array", &[[0_u64; 3]; 3])
        .rw_lock("writing", [0_u64; 2])
        .rw_lock("reading", [0_u64; 2])
        .rw_lock("draining", [0_u64; 2])
        .value("storing", [0_u64; 2])
        .semaphore("semaphore", 1)
        .semaphore("several", 3)
        .bounded_semaphore("bounded", 1)
        .mutex("gate", 0_u8)
        .condvar("condition")
        .event("event")
        .value("change", 0_u64)
        .once("doing")
        .once("done")
        .barrier("meeting", 2)
        .atomic("atomic", 0_u64)
        .array("bytes", &[0_u8; 13])
        .bounded_semaphore("permits", 3)
        .queue::<u64>("queue", 8)
}

fn open(sandbox: &Sandbox) -> Namespace {
    plan().directory(sandbox.names()).open(NAME).unwrap()
}

/// The guard, and that an owner has died.
fn died<G: std::fmt::Debug>(result: LockResult<G>) -> G {
    match result {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("no owner died: {other:?}"),
    }
}

fn refusal<G: std::fmt::Debug>(result: LockResult<G>) -> SyncError {
    match result {
        Err(LockError::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn any<G>(result: LockResult<G>) -> Result<G, SyncError> {
    result.or_else(LockError::recover)
}

// ---- names and descriptors -------------------------------------------------------------------------------------------

/// What one process does to all objects, for another to see.
fn change(namespace: &Namespace) {
    *namespace.mutex::<Pair>("mutex").unwrap().lock().unwrap() = [1, 2];
    namespace.reentrant_mutex("re-entrant").unwrap().lock().unwrap().set(&3_u64).unwrap();
    namespace.array("array").unwrap().set(1, [4_u64; 3]).unwrap();
    namespace.array("bytes").unwrap().store_from(3, &[5_u8; 9]).unwrap();
    *namespace.rw_lock::<Pair>("writing").unwrap().write().unwrap() = [6; 2];
    namespace.value("storing").unwrap().store(&[7_u64; 2]).unwrap();
    assert_eq!(namespace.atomic::<u64>("atomic").unwrap().fetch_add(8), 0);
    namespace.semaphore("several").unwrap().acquire(1).unwrap();
    assert_eq!(namespace.bounded_semaphore("permits").unwrap().release(1), Err(SyncError::NotOwner));
    assert_eq!(namespace.mutex::<u8>("gate").unwrap().unlock(), Err(SyncError::NotOwner));
    namespace.once("done").unwrap().call_once(|| ()).unwrap();
    namespace.queue::<u64>("queue").unwrap().send(&9).unwrap();
    namespace.event("event").unwrap().set().unwrap();
    let (gate, condition) = (namespace.mutex::<u8>("gate").unwrap(), namespace.condvar("condition").unwrap());
    drop(condition.wait_while(gate.lock().unwrap(), |open| *open == 0).unwrap());
    let permits = namespace.bounded_semaphore("permits").unwrap();
    permits.acquire(1).unwrap(); // not given back
    assert!(!namespace.barrier("meeting").unwrap().wait().unwrap().is_leader());
}

/// The other side of [`change`].
fn see_changes(namespace: &Namespace) {
    namespace.event("event").unwrap().wait().unwrap();
    assert_eq!(*namespace.mutex::<Pair>("mutex").unwrap().lock().unwrap(), [1, 2]);
    assert_eq!(namespace.reentrant_mutex::<u64>("re-entrant").unwrap().lock().unwrap().get(), Ok(3));
    assert_eq!(namespace.array("array").unwrap().to_vec(), Ok(vec![[0_u64; 3], [4; 3], [0; 3]]));
    assert_eq!(namespace.array::<u8>("bytes").unwrap().snapshot().unwrap(), [0, 0, 0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 0]);
    assert_eq!(*namespace.rw_lock::<Pair>("writing").unwrap().read().unwrap(), [6; 2]);
    assert_eq!(namespace.value::<Pair>("storing").unwrap().load(), Ok([7; 2]));
    assert_eq!(namespace.atomic::<u64>("atomic").unwrap().load(), 8);
    let several = namespace.semaphore("several").unwrap();
    assert_eq!((several.available(), several.release(1), several.available()), (Ok(2), Ok(()), Ok(3)));
    assert!(namespace.once("done").unwrap().is_completed());
    assert_eq!(namespace.queue::<u64>("queue").unwrap().recv(), Ok(9));
    *namespace.mutex::<u8>("gate").unwrap().lock().unwrap() = 1;
    namespace.condvar("condition").unwrap().notify_one().unwrap();
    let (permits, meeting) = (namespace.bounded_semaphore("permits").unwrap(), namespace.barrier("meeting").unwrap());
    until(|| meeting.waiting() == 1);
    assert_eq!((permits.available(), permits.release(1)), (2, Err(SyncError::NotOwner)));
    assert!(meeting.wait().unwrap().is_leader());
    assert_eq!(permits.acquire(3), Ok(()), "who leaves leaves its permits");
    assert_eq!(permits.release(3), Ok(()));
}

fn change_everything(arguments: &[String]) {
    change(&surroundings(arguments).0);
}

fn change_what_was_handed(_: &[String]) {
    assert_eq!(Namespace::handed("nothing").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Namespace::handed("no label").unwrap_err().kind(), ErrorKind::InvalidName);
    let namespace = Namespace::handed("namespace").unwrap();
    assert_eq!(Namespace::handed("namespace").unwrap_err().kind(), ErrorKind::NotFound, "it is used up");
    let again = plan().handed("again").unwrap();
    assert!(namespace.atomic::<u64>("atomic").unwrap().load() == 0 && !again.event("event").unwrap().is_set());
    change(&again);
}

#[test]
fn every_object_is_shared_by_its_name() {
    let sandbox = Sandbox::new();
    let child = enter(&sandbox, "change_everything", &[]);
    see_changes(&open(&sandbox));
    child.finish();
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn every_object_is_shared_by_a_descriptor() {
    let sandbox = Sandbox::new();
    for namespace in [plan().anonymous().unwrap(), open(&sandbox)] {
        let handover = Handover::new(command("change_what_was_handed", &[]));
        let handover = handover.share("namespace", &namespace).unwrap().share("again", &namespace).unwrap();
        let child = Process::from(handover.spawn().unwrap());
        see_changes(&namespace);
        child.finish();
    }
    assert_eq!(sandbox.litter(), [""; 0]);
}

fn pick_up_single_objects(_: &[String]) {
    assert_eq!(Value::<u32>::handed("value").unwrap_err().kind(), ErrorKind::WrongType);
    Mutex::handed("mutex").unwrap().lock().map(|mut guard| *guard = 2_u8).unwrap();
    assert_eq!(BoundedSemaphore::handed("permits").unwrap().try_acquire(2), Err(SyncError::WouldBlock));
    let array = Array::<u16>::handed("array").unwrap();
    assert_eq!((array.len(), array.namespace_name()), (7, None));
    array.set(6, 3).unwrap();
}

#[test]
fn single_objects_are_handed_to_children() {
    let _watchdog = Sandbox::new();
    let (value, mutex) = (Value::new(1_u64).unwrap(), Mutex::new(1_u8).unwrap());
    let (permits, array) = (BoundedSemaphore::new(2).unwrap(), Array::new(&[0_u16; 7]).unwrap());
    permits.acquire(1).unwrap();
    let handover = Handover::new(command("pick_up_single_objects", &[]));
    let handover = handover.share("value", &Namespace::of(&value)).unwrap().share("mutex", &Namespace::of(&mutex));
    let handover = handover.unwrap().share("permits", &Namespace::of(&permits)).unwrap();
    let handover = handover.share("array", &Namespace::of(&array)).unwrap();
    Process::from(handover.spawn().unwrap()).finish();
    assert_eq!((*mutex.lock().unwrap(), array.get(6), permits.release(1)), (2, Ok(3), Ok(())));
}

const RACES: u64 = 200;

/// Takes a few microseconds, so that the two are now and then at every point of their ways at the same time.
fn spin(microseconds: u64) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_micros(microseconds) {}
}

fn race(names: &Path, board: &Board, delay: u64) {
    for round in 0..RACES {
        board.meet(1, 2);
        let plan = Namespace::builder().atomic("atomic", 0_u64).event("event").directory(names);
        let namespace = plan.open(&format!("race-{round}")).unwrap();
        namespace.atomic::<u64>("atomic").unwrap().fetch_add(1);
        board.meet(2, 2);
        assert_eq!(namespace.atomic::<u64>("atomic").unwrap().load(), 2, "in round {round}");
        board.meet(3, 2);
        spin(round % delay);
        drop(namespace); // while the other does the same
        board.meet(4, 2);
        assert_eq!(Directory::at(names).names().unwrap(), [""; 0], "in round {round}");
    }
}

fn race_for_a_name(arguments: &[String]) {
    race(Path::new(&arguments[0]), &Board::at(Path::new(&arguments[1])), 21);
}

#[test]
fn two_who_race_for_a_name_meet_in_one_namespace() {
    let sandbox = Sandbox::new();
    let other = enter(&sandbox, "race_for_a_name", &[]);
    race(&sandbox.names(), &board(&sandbox), 20);
    other.finish();
}

#[test]
fn a_killed_process_leaves_its_name_and_its_values() {
    let sandbox = Sandbox::new();
    for abandoned in [Abandoned::Resume, Abandoned::Replace] {
        settle(&sandbox, "hold", &["mutex", "storing", "permits", "re-entrant"]).kill();
        assert_eq!(sandbox.litter(), [NAME]);
        let inspection = Directory::at(sandbox.names()).inspect(NAME).unwrap();
        assert!(inspection.is_abandoned());
        assert_eq!(inspection.participants[0].standing, Standing::Dead);
        let namespace = plan().abandoned(abandoned).directory(sandbox.names()).open(NAME).unwrap();
        let again = plan().abandoned(Abandoned::Replace).directory(sandbox.names()).open(NAME).unwrap();
        let (mutex, value) = (namespace.mutex::<Pair>("mutex").unwrap(), again.value::<Pair>("storing").unwrap());
        let permits = namespace.bounded_semaphore("permits").unwrap();
        assert_eq!(permits.available(), 3);
        if abandoned == Abandoned::Resume {
            assert_eq!((*died(mutex.lock()), value.load()), ([1; 2], Ok([1; 2])), "as last committed");
        }
        assert_eq!(value.store(&[2; 2]), Ok(()));
        let left = if abandoned == Abandoned::Resume { [1; 2] } else { [0; 2] };
        assert_eq!(mutex.lock().map(|guard| *guard).unwrap(), left);
        assert_eq!(again.value::<Pair>("storing").unwrap().load(), Ok([2; 2]), "the one that is in use");
        drop((namespace, again, mutex, value, permits));
        assert_eq!(sandbox.litter(), [""; 0]);
    }
}

#[test]
fn an_abandoned_namespace_may_be_replaced_by_quite_another() {
    let sandbox = Sandbox::new();
    settle(&sandbox, "hold", &["mutex"]).kill();
    let other = Namespace::builder().event("another").directory(sandbox.names());
    assert_eq!(other.open(NAME).unwrap_err().kind(), ErrorKind::NotFound, "the old one is there");
    assert_eq!(sandbox.litter(), [NAME], "and stays");
    let namespace = other.abandoned(Abandoned::Replace).open(NAME).unwrap();
    assert_eq!(namespace.objects().count(), 1);
}

fn open_and_stay(arguments: &[String]) {
    let (_namespace, board) = surroundings(arguments);
    stay(&board);
}

#[test]
fn the_last_process_takes_the_name_along_unless_it_is_to_stay() {
    let sandbox = Sandbox::new();
    let children = [settle(&sandbox, "open_and_stay", &[]), settle(&sandbox, "open_and_stay", &[])];
    drop(open(&sandbox));
    assert_eq!(sandbox.litter(), [NAME]);
    let [first, second] = children;
    first.kill();
    drop(open(&sandbox));
    assert_eq!(sandbox.litter(), [NAME], "one is left");
    second.kill();
    drop(open(&sandbox));
    assert_eq!(sandbox.litter(), [""; 0]);

    drop(plan().persistent().directory(sandbox.names()).open(NAME).unwrap());
    open(&sandbox).atomic::<u64>("atomic").unwrap().store(5);
    settle(&sandbox, "open_and_stay", &[]).kill();
    let replacing = plan().abandoned(Abandoned::Replace).directory(sandbox.names()).open(NAME).unwrap();
    assert_eq!(replacing.atomic::<u64>("atomic").unwrap().load(), 5);
    drop(replacing);
    assert_eq!(sandbox.litter(), [NAME]);
    Directory::at(sandbox.names()).unlink(NAME, false).unwrap();
}

// ---- lanes -----------------------------------------------------------------------------------------------------------

fn room_for_three(names: &Path) -> NamespaceBuilder {
    plan().max_participants(3).directory(names)
}

fn join_and_stay(arguments: &[String]) {
    let namespace = room_for_three(Path::new(&arguments[0])).open(NAME).unwrap();
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    let _guard = (arguments[2] == "holding").then(|| any(mutex.lock()).unwrap());
    stay(&Board::at(Path::new(&arguments[1])));
}

fn fail_to_join(arguments: &[String]) {
    let error = room_for_three(Path::new(&arguments[0])).open(NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LanesTaken);
    let text = error.to_string();
    arguments[2..].iter().for_each(|pid| assert!(text.contains(pid.as_str()), "{pid} is not in: {text}"));
}

#[test]
fn when_all_lanes_are_taken_the_holders_are_named_until_one_dies() {
    let sandbox = Sandbox::new();
    let namespace = room_for_three(&sandbox.names()).open(NAME).unwrap();
    let mut others = [(); 2].map(|()| Some(settle(&sandbox, "join_and_stay", &["idle"])));
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    let mut random = Random(3);
    for round in 0..15 {
        if round % 5 == 0 {
            let pids = [&others[0], &others[1]].map(|other| other.as_ref().unwrap().pid().to_string());
            stop(others[1].as_ref().unwrap());
            let own = std::process::id().to_string();
            enter(&sandbox, "fail_to_join", &[&pids[0], &pids[1], &own]).finish();
            others[1].as_ref().unwrap().signal(libc::SIGCONT);
        }
        let seat = &mut others[random.below(2) as usize];
        seat.take().unwrap().kill();
        *seat = Some(settle(&sandbox, "join_and_stay", &["holding"]));
        assert_eq!(refusal(mutex.lock_timeout(Duration::from_millis(1))), SyncError::TimedOut, "it is alive");
        seat.take().unwrap().kill();
        *seat = Some(settle(&sandbox, "join_and_stay", &["idle"]));
        drop(died(mutex.lock()));
        drop(mutex.lock().unwrap());
    }
    let inspection = Directory::at(sandbox.names()).inspect(NAME).unwrap();
    assert_eq!(inspection.participants.iter().map(|participant| participant.joins).sum::<u64>(), 1 + 2 + 15 * 2);
}

// ---- who holds, and dies ---------------------------------------------------------------------------------------------

/// Takes what it is told, after committing something; leaves changes that are not committed.
fn hold(arguments: &[String]) {
    let (namespace, board) = surroundings(arguments);
    for what in &arguments[2..] {
        seize(&namespace, what);
    }
    stay(&board);
}

/// Holds for as long as the process lives.
fn seize(namespace: &Namespace, what: &str) {
    match what {
        "mutex" => {
            let mutex = namespace.mutex::<Pair>("mutex").unwrap();
            any(mutex.lock()).unwrap().fill(1);
            let mut guard = mutex.lock().unwrap();
            *guard = [9; 2];
            forget(guard);
        }
        "mending" => {
            let mutex = namespace.mutex::<Pair>("mutex").unwrap();
            let mut guard = died(mutex.lock());
            *guard = [9; 2];
            forget(guard);
        }
        "re-entrant" => {
            let mutex = namespace.reentrant_mutex::<u64>("re-entrant").unwrap();
            let guards = [any(mutex.lock()).unwrap(), mutex.lock().unwrap(), mutex.lock().unwrap()];
            guards[1].set(&1).unwrap();
            forget(guards);
        }
        "array" => {
            let array = namespace.array::<[u64; 3]>("array").unwrap();
            let mut section = any(array.lock()).unwrap();
            section.set(0, [1; 3]).unwrap();
            forget(section);
        }
        "writing" => {
            let lock = namespace.rw_lock::<Pair>("writing").unwrap();
            any(lock.write()).unwrap().fill(1);
            let mut guard = lock.write().unwrap();
            *guard = [9; 2];
            forget(guard);
        }
        "reading" => {
            let lock = namespace.rw_lock::<Pair>("writing").unwrap();
            forget([lock.read().unwrap(), lock.read().unwrap()]);
        }
        "told while reading" => {
            let lock = namespace.rw_lock::<Pair>("writing").unwrap();
            forget(died(lock.read()));
        }
        "storing" => {
            let value = namespace.value::<Pair>("storing").unwrap();
            let mut writer = value.writer().unwrap();
            writer.store(&[1; 2]).unwrap();
            forget(writer);
        }
        "permits" => namespace.bounded_semaphore("permits").unwrap().acquire(2).unwrap(),
        "semaphore" => namespace.semaphore("semaphore").unwrap().acquire(1).unwrap(),
        _ => unreachable!("{what}"),
    }
}

/// In the middle of doing what is to be done once, or of an update, when told to.
fn hold_and_give_up(arguments: &[String]) {
    let (namespace, board) = surroundings(arguments);
    if arguments[2] == "doing" {
        namespace.once("doing").unwrap().call_once(|| stay(&board)).unwrap();
    } else {
        let value = namespace.value::<Pair>("storing").unwrap();
        value.store(&[1; 2]).unwrap();
        let _ = value.update(|value| {
            *value = [9; 2];
            stay(&board)
        });
    }
}

#[test]
fn a_dead_owner_of_a_mutex_is_told_of_once_and_the_value_is_what_it_had_committed() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    // By all ways to lock, before and after the death.
    for round in 0..6 {
        let owner = settle(&sandbox, "hold", &["mutex"]);
        assert_eq!(refusal(mutex.try_lock()), SyncError::WouldBlock);
        assert_eq!(refusal(mutex.lock_timeout(MOMENT)), SyncError::TimedOut, "it is alive");
        assert_eq!((mutex.is_locked(), mutex.unlock()), (true, Err(SyncError::NotOwner)));
        thread::scope(|scope| {
            let look = || match round % 3 {
                0 => *died(mutex.lock()),
                1 => *died(mutex.lock_timeout(Duration::MAX)),
                _ => loop {
                    match mutex.try_lock() {
                        Err(LockError::Refused(SyncError::WouldBlock)) => thread::yield_now(),
                        other => break *died(other),
                    }
                },
            };
            if round < 3 {
                let looking = scope.spawn(look);
                thread::sleep(MOMENT);
                owner.kill();
                assert_eq!(looking.join().unwrap(), [1; 2]);
            } else {
                owner.kill();
                assert_eq!(look(), [1; 2]);
            }
        });
        assert_eq!(*mutex.lock().unwrap(), [1; 2], "nobody else is told");
        assert_eq!(*mutex.lock_timeout(MOMENT).unwrap(), [1; 2]);
        *mutex.lock().unwrap() = [0; 2];
    }
}

#[test]
fn a_death_in_the_middle_of_mending_is_told_to_the_next_one() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let (mutex, array) = (namespace.mutex::<Pair>("mutex").unwrap(), namespace.array::<[u64; 3]>("array").unwrap());
    settle(&sandbox, "hold", &["mutex"]).kill();
    for _ in 0..3 {
        settle(&sandbox, "hold", &["mending", "array"]).kill(); // was told, and did not unlock
    }
    drop((died(mutex.lock()), died(array.lock())));
    drop((mutex.lock().unwrap(), array.lock().unwrap()));
}

#[test]
fn a_mutex_can_be_poisoned_by_who_mends_in_vain() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    settle(&sandbox, "hold", &["mutex"]).kill();
    died(mutex.lock()).poison();
    assert!(matches!(mutex.lock(), Err(LockError::Poisoned(_))));
    settle(&sandbox, "hold", &["re-entrant"]).kill();
    any(mutex.lock()).unwrap().heal();
    drop(mutex.lock().unwrap());
}

#[test]
fn a_death_under_the_mutex_is_told_to_who_waits_for_a_condition() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let (mutex, condition) = (namespace.mutex::<Pair>("mutex").unwrap(), namespace.condvar("condition").unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let result = condition.wait_while(mutex.lock().unwrap(), |pair| *pair == [0; 2]);
            *died(result)
        });
        thread::sleep(MOMENT);
        let owner = settle(&sandbox, "hold", &["mutex"]);
        condition.notify_all().unwrap();
        thread::sleep(MOMENT);
        owner.kill();
        assert_eq!(waiting.join().unwrap(), [1; 2]);
    });
    drop(mutex.lock().unwrap());
}

#[test]
fn a_dead_owner_of_a_re_entrant_mutex_held_it_however_often() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let mutex = namespace.reentrant_mutex::<u64>("re-entrant").unwrap();
    for _ in 0..3 {
        let owner = settle(&sandbox, "hold", &["re-entrant"]);
        assert_eq!(refusal(mutex.lock_timeout(MOMENT)), SyncError::TimedOut);
        owner.kill();
        let outer = died(mutex.lock());
        let inner = mutex.lock().unwrap();
        assert_eq!((outer.get(), inner.set(&0)), (Ok(1), Ok(())), "what was set was set");
        drop(outer);
        assert_eq!(elsewhere(|| refusal(mutex.try_lock())), SyncError::WouldBlock);
        drop(inner);
        drop(mutex.lock().unwrap());
    }
}

#[test]
fn a_dead_owner_of_a_section_may_have_set_a_part_of_it() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let array = namespace.array::<[u64; 3]>("array").unwrap();
    let owner = settle(&sandbox, "hold", &["array"]);
    assert_eq!(array.get(0), Ok([1; 3]), "reading takes no lock");
    assert_eq!(refusal(array.try_lock()), SyncError::WouldBlock);
    owner.kill();
    // What takes the lock for a moment of its own leaves the news to the next section.
    assert_eq!(array.snapshot(), Ok(vec![[1; 3], [0; 3], [0; 3]]));
    assert_eq!((array.set(1, [2; 3]), array.store_from(2, &[[3; 3]])), (Ok(()), Ok(())));
    let section = died(array.lock_timeout(Duration::MAX));
    assert_eq!(section.to_vec(), Ok(vec![[1; 3], [2; 3], [3; 3]]));
    drop(section);
    drop(array.lock().unwrap());
}

#[test]
fn a_dead_writer_is_told_of_to_readers_and_to_one_writer() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let lock = namespace.rw_lock::<Pair>("writing").unwrap();
    for readers in [2, 0, 1, 0] {
        let owner = settle(&sandbox, "hold", &["writing"]);
        assert_eq!(refusal(lock.try_read()), SyncError::WouldBlock);
        assert_eq!(refusal(lock.read_timeout(MOMENT)), SyncError::TimedOut);
        assert_eq!(refusal(lock.write_timeout(MOMENT)), SyncError::TimedOut);
        owner.kill();
        (0..readers).for_each(|_| assert_eq!(*died(lock.read()), [1; 2], "who cannot mend it"));
        assert_eq!(*died(lock.write()), [1; 2]);
        assert_eq!(*lock.read().unwrap(), [1; 2]);
        assert_eq!(*lock.write().unwrap(), [1; 2]);
    }
}

#[test]
fn a_death_that_a_reader_was_told_of_is_told_to_the_next_writer_too() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let lock = namespace.rw_lock::<Pair>("writing").unwrap();
    settle(&sandbox, "hold", &["writing"]).kill();
    settle(&sandbox, "hold", &["told while reading"]).kill();
    drop(died(lock.write())); // nobody could mend anything so far
    drop(lock.write().unwrap());
}

#[test]
fn a_dead_reader_is_let_go_and_nobody_told() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let lock = namespace.rw_lock::<Pair>("writing").unwrap();
    let [first, second] = [(); 2].map(|()| settle(&sandbox, "hold", &["reading"]));
    drop(lock.read().unwrap());
    first.kill();
    assert_eq!(refusal(lock.write_timeout(3 * MOMENT)), SyncError::TimedOut, "one is left");
    thread::scope(|scope| {
        let writing = scope.spawn(|| *lock.write().unwrap() = [2; 2]);
        thread::sleep(MOMENT);
        second.kill();
        writing.join().unwrap();
    });
    settle(&sandbox, "hold", &["reading"]).kill();
    until(|| lock.try_write().is_ok()); // which does not wait, and asks now and then
    assert_eq!(*lock.read().unwrap(), [2; 2]);
}

#[test]
fn a_dead_writer_of_a_value_leaves_what_it_had_stored() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let value = namespace.value::<Pair>("storing").unwrap();
    for part in [("hold", "storing"), ("hold_and_give_up", "updating")] {
        value.store(&[0; 2]).unwrap();
        let writer = settle(&sandbox, part.0, &[part.1]);
        assert_eq!((value.load(), value.try_store(&[2; 2])), (Ok([1; 2]), Err(SyncError::WouldBlock)));
        assert_eq!(value.update_timeout(|_| unreachable!(), MOMENT), Err(SyncError::TimedOut));
        thread::scope(|scope| {
            let storing = scope.spawn(|| value.update(|value| value[0] += 1));
            thread::sleep(MOMENT);
            writer.kill();
            assert_eq!(storing.join().unwrap(), Ok([2, 1]));
        });
        settle(&sandbox, part.0, &[part.1]).kill();
        drop(value.writer().unwrap());
        assert_eq!((value.try_store(&[3; 2]), value.load()), (Ok(()), Ok([3; 2])));
    }
}

#[test]
fn what_a_dead_process_had_begun_is_done_by_the_next_one() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let once = namespace.once("doing").unwrap();
    let runner = settle(&sandbox, "hold_and_give_up", &["doing"]);
    assert!(!once.is_completed());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| once.wait());
        let doing = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut times = 0;
                once.call_once(|| times += 1).map(|()| times)
            })
        });
        thread::sleep(MOMENT);
        assert_eq!(once.wait_timeout(MOMENT), Err(SyncError::TimedOut), "it is at it");
        runner.kill();
        let times: u32 = doing.into_iter().map(|doing| doing.join().unwrap().unwrap()).sum();
        assert_eq!((times, waiting.join().unwrap()), (1, Ok(())));
    });
}

#[test]
fn permits_come_back_from_the_dead_and_those_of_a_plain_semaphore_do_not() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let (permits, plain) = (namespace.bounded_semaphore("permits").unwrap(), namespace.semaphore("semaphore").unwrap());
    for count in [2, 3, 2, 3] {
        let owner = settle(&sandbox, "hold", &["permits"]);
        assert_eq!((permits.available(), permits.release(1)), (1, Err(SyncError::NotOwner)), "they are another's");
        assert_eq!(permits.acquire_timeout(count, MOMENT), Err(SyncError::TimedOut), "it is alive");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| permits.acquire(count));
            thread::sleep(MOMENT);
            owner.kill();
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
        assert_eq!((permits.release(count), permits.available()), (Ok(()), 3));
    }
    settle(&sandbox, "hold", &["permits", "semaphore"]).kill();
    until(|| permits.try_acquire(3).is_ok()); // which does not wait, and asks now and then
    assert_eq!((permits.release(3), permits.available()), (Ok(()), 3));
    assert_eq!(plain.acquire_timeout(1, MOMENT), Err(SyncError::TimedOut));
    assert_eq!((plain.available(), plain.release(1)), (Ok(0), Ok(())), "anybody may mend that");
}

fn come_to_the_barrier(arguments: &[String]) {
    let namespace = three_parties(Path::new(&arguments[0]));
    let board = Board::at(Path::new(&arguments[1]));
    let barrier = namespace.barrier("meeting").unwrap();
    board.meet(0, 2);
    let result = barrier.wait();
    // 1: met, else who broke it.
    board.word(1).store(result.map_or_else(|error| broken_by(error) + 1, |_| 1), Ordering::SeqCst);
}

fn broken_by(error: SyncError) -> u64 {
    match error {
        SyncError::Broken { pid } => pid,
        other => panic!("{other}"),
    }
}

fn three_parties(names: &Path) -> Namespace {
    Namespace::builder().barrier("meeting", 3).directory(names).open(NAME).unwrap()
}

#[test]
fn who_dies_after_coming_to_a_barrier_breaks_it_for_the_others() {
    let sandbox = Sandbox::new();
    let barrier = three_parties(&sandbox.names()).barrier("meeting").unwrap();
    let board = board(&sandbox);
    for round in 0..3 {
        let doomed = settle(&sandbox, "come_to_the_barrier", &[]);
        until(|| barrier.waiting() == 1);
        let other = settle(&sandbox, "come_to_the_barrier", &[]);
        until(|| barrier.waiting() == 2);
        let pid = doomed.pid() as u64;
        let broken = Err(SyncError::Broken { pid });
        if round == 0 {
            doomed.kill();
            other.finish(); // it notices by itself
            assert_eq!(board.word(1).load(Ordering::SeqCst), pid + 1);
        } else {
            stop(&other); // nobody is left to notice
            doomed.kill();
            // If the third one comes before anybody noticed, they have met.
            thread::sleep(MOMENT);
            drop(three_parties(&sandbox.names()));
            let result = barrier.wait_timeout(Duration::MAX);
            assert!(result == broken || result.is_ok_and(|met| met.is_leader()), "{result:?}");
            other.signal(libc::SIGCONT);
            other.finish();
            let heard = board.word(1).load(Ordering::SeqCst);
            assert_eq!(heard, if result.is_ok() { 1 } else { pid + 1 });
        }
        if barrier.is_broken() {
            assert_eq!((barrier.wait(), barrier.wait_timeout(Duration::ZERO)), (broken, broken));
            barrier.reset().unwrap();
        }
        let [first, second] = [(); 2].map(|()| settle(&sandbox, "come_to_the_barrier", &[]));
        assert!(barrier.wait().is_ok());
        first.finish();
        second.finish();
        assert_eq!(board.word(1).load(Ordering::SeqCst), 1);
    }
}

#[test]
fn all_that_a_dead_process_held_is_let_go() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let everything = ["mutex", "re-entrant", "array", "writing", "storing", "permits"];
    for _ in 0..5 {
        settle(&sandbox, "hold", &everything).kill();
        assert_eq!(namespace.bounded_semaphore("permits").unwrap().acquire(3), Ok(()));
        assert_eq!(namespace.bounded_semaphore("permits").unwrap().release(3), Ok(()));
        drop(died(namespace.mutex::<Pair>("mutex").unwrap().lock()));
        drop(died(namespace.reentrant_mutex::<u64>("re-entrant").unwrap().try_lock()));
        drop(died(namespace.array::<[u64; 3]>("array").unwrap().lock()));
        drop(died(namespace.rw_lock::<Pair>("writing").unwrap().read()));
        assert_eq!(namespace.value::<Pair>("storing").unwrap().store(&[0; 2]), Ok(()));
    }
}

#[test]
fn who_holds_what_is_seen_and_repaired_from_outside() {
    let sandbox = Sandbox::new();
    let directory = Directory::at(sandbox.names());
    let owner = settle(&sandbox, "hold", &["mutex", "reading", "permits", "storing"]);
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
    drop(died(open(&sandbox).mutex::<Pair>("mutex").unwrap().lock()));
}

fn forget_and_leave(arguments: &[String]) {
    let (namespace, board) = surroundings(arguments);
    ["mutex", "array", "storing", "permits"].into_iter().for_each(|what| seize(&namespace, what));
    let reading = namespace.rw_lock::<Pair>("reading").unwrap();
    forget(reading.read().unwrap());
    drop(reading);
    drop(namespace); // for real
    board.meet(0, 2);
    board.meet(0, 2);
}

#[test]
fn what_was_forgotten_is_let_go_when_its_process_leaves() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let child = settle(&sandbox, "forget_and_leave", &[]);
    let standing = Directory::at(sandbox.names()).inspect(NAME).unwrap().participants[1].standing;
    assert_eq!(standing, Standing::Left, "and runs");
    assert_eq!(*died(namespace.mutex::<Pair>("mutex").unwrap().lock()), [1; 2]);
    drop(died(namespace.array::<[u64; 3]>("array").unwrap().lock()));
    drop(namespace.rw_lock::<Pair>("reading").unwrap().write().unwrap());
    assert_eq!(namespace.value::<Pair>("storing").unwrap().try_store(&[2; 2]), Ok(()));
    assert_eq!(namespace.bounded_semaphore("permits").unwrap().try_acquire(3), Ok(()));
    board(&sandbox).meet(0, 2);
    child.finish();
}

fn hold_and_close_descriptors(arguments: &[String]) {
    let (namespace, board) = surroundings(arguments);
    seize(&namespace, "mutex");
    // SAFETY: nothing here uses a descriptor any more.
    assert_eq!(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) }, 0);
    stay(&board);
}

#[test]
fn an_owner_that_closes_its_descriptors_without_dying_has_lost_its_lock() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    let careless = settle(&sandbox, "hold_and_close_descriptors", &[]);
    assert_eq!(refusal(mutex.lock()), SyncError::LockLost);
    assert_eq!(refusal(mutex.lock_timeout(Duration::MAX)), SyncError::LockLost);
    assert!(matches!(refusal(mutex.try_lock()), SyncError::WouldBlock | SyncError::LockLost), "it asks now and then");
    careless.kill();
    drop(died(mutex.lock()));
}

#[test]
fn the_last_sender_of_a_queue_in_a_namespace_is_missed() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let (tx, mut rx) = namespace.queue::<u64>("queue").unwrap().split();
    let sender = settle(&sandbox, "answer", &["queue"]);
    assert_eq!(rx.recv(), Ok(1));
    drop(tx);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| rx.recv());
        thread::sleep(MOMENT);
        sender.kill();
        assert_eq!(waiting.join().unwrap(), Err(RecvError::PeerDied));
    });
}

// ---- who waits -------------------------------------------------------------------------------------------------------

/// All ways to wait but for a meeting.
const WAYS: [&str; 15] = [
    "mutex",
    "re-entrant",
    "array",
    "writing",
    "reading",
    "draining",
    "storing",
    "semaphore",
    "several",
    "bounded",
    "condition",
    "event",
    "change",
    "doing",
    "done",
];

type Waiting = Box<dyn Fn(Duration) -> Result<(), SyncError>>;

/// A call that waits for the object of that name for so long, and gives back at once what it gets.
fn waiting(namespace: &Namespace, way: &str) -> Waiting {
    keeping(namespace, way, || ())
}

/// As [`waiting`], but does something before it gives back what can be had by few only.
fn keeping(namespace: &Namespace, way: &str, inside: fn()) -> Waiting {
    match way {
        "mutex" => {
            let mutex = namespace.mutex::<Pair>(way).unwrap();
            Box::new(move |timeout| any(mutex.lock_timeout(timeout)).map(|_guard| inside()))
        }
        "re-entrant" => {
            let mutex = namespace.reentrant_mutex::<u64>(way).unwrap();
            Box::new(move |timeout| any(mutex.lock_timeout(timeout)).map(|_guard| inside()))
        }
        "array" => {
            let array = namespace.array::<[u64; 3]>(way).unwrap();
            Box::new(move |timeout| any(array.lock_timeout(timeout)).map(|_section| inside()))
        }
        "writing" | "draining" => {
            let lock = namespace.rw_lock::<Pair>(way).unwrap();
            Box::new(move |timeout| any(lock.write_timeout(timeout)).map(|_guard| inside()))
        }
        "reading" => {
            let lock = namespace.rw_lock::<Pair>(way).unwrap();
            Box::new(move |timeout| any(lock.read_timeout(timeout)).map(|_guard| inside()))
        }
        "storing" => {
            let value = namespace.value::<Pair>(way).unwrap();
            Box::new(move |timeout| value.update_timeout(|_| inside(), timeout).map(drop))
        }
        "semaphore" | "several" => {
            let (semaphore, count) = (namespace.semaphore(way).unwrap(), if way == "several" { 3 } else { 1 });
            Box::new(move |timeout| {
                semaphore.acquire_timeout(count, timeout)?;
                inside();
                semaphore.release(count)
            })
        }
        "bounded" => {
            let semaphore = namespace.bounded_semaphore(way).unwrap();
            Box::new(move |timeout| {
                semaphore.acquire_timeout(1, timeout)?;
                inside();
                semaphore.release(1)
            })
        }
        "condition" => {
            let (gate, condition) = (namespace.mutex::<u8>("gate").unwrap(), namespace.condvar(way).unwrap());
            Box::new(move |timeout| {
                let guard = gate.lock().unwrap();
                let (_, late) = condition.wait_timeout_while(guard, timeout, |open| *open == 0).unwrap();
                if late { Err(SyncError::TimedOut) } else { Ok(()) }
            })
        }
        "event" => {
            let event = namespace.event(way).unwrap();
            Box::new(move |timeout| event.wait_timeout(timeout))
        }
        "change" => {
            let value = namespace.value::<u64>(way).unwrap();
            Box::new(move |timeout| value.wait_changed(timeout).map(drop))
        }
        "doing" => {
            let once = namespace.once(way).unwrap();
            Box::new(move |_| once.call_once(|| ()))
        }
        "done" => {
            let once = namespace.once(way).unwrap();
            Box::new(move |timeout| once.wait_timeout(timeout))
        }
        "meeting" => {
            let barrier = namespace.barrier(way).unwrap();
            Box::new(move |timeout| {
                let result = barrier.wait_timeout(timeout).map(drop);
                if result.is_err() {
                    barrier.reset()?;
                }
                result
            })
        }
        _ => unreachable!("{way}"),
    }
}

/// Sees to it that whoever waits waits, until `meanwhile` is over.
fn while_taken(namespace: &Namespace, way: &str, meanwhile: impl FnOnce()) {
    match way {
        "mutex" => {
            let mutex = namespace.mutex::<Pair>(way).unwrap();
            let _guard = mutex.lock().unwrap();
            meanwhile();
        }
        "re-entrant" => {
            let mutex = namespace.reentrant_mutex::<u64>(way).unwrap();
            let _guards = [mutex.lock().unwrap(), mutex.lock().unwrap()];
            meanwhile();
        }
        "array" => {
            let array = namespace.array::<[u64; 3]>(way).unwrap();
            let _section = array.lock().unwrap();
            meanwhile();
        }
        "writing" | "reading" => {
            let lock = namespace.rw_lock::<Pair>(way).unwrap();
            let _guard = lock.write().unwrap();
            meanwhile();
        }
        "draining" => {
            let lock = namespace.rw_lock::<Pair>(way).unwrap();
            let _guard = lock.read().unwrap();
            meanwhile();
        }
        "storing" => {
            let value = namespace.value::<Pair>(way).unwrap();
            let _writer = value.writer().unwrap();
            meanwhile();
        }
        "semaphore" | "several" => {
            let semaphore = namespace.semaphore(way).unwrap();
            let count = semaphore.available().unwrap();
            semaphore.acquire(count).unwrap();
            meanwhile();
            semaphore.release(count).unwrap();
        }
        "bounded" => {
            let semaphore = namespace.bounded_semaphore(way).unwrap();
            let _permit = semaphore.permit().unwrap();
            meanwhile();
        }
        "condition" => {
            meanwhile();
            *namespace.mutex::<u8>("gate").unwrap().lock().unwrap() = 1;
            namespace.condvar(way).unwrap().notify_one().unwrap();
        }
        "event" => {
            meanwhile();
            namespace.event(way).unwrap().set().unwrap();
        }
        "change" => {
            meanwhile();
            namespace.value::<u64>(way).unwrap().store(&1).unwrap();
        }
        "doing" => namespace.once(way).unwrap().call_once(meanwhile).unwrap(),
        "done" => {
            meanwhile();
            namespace.once(way).unwrap().call_once(|| ()).unwrap();
        }
        "meeting" => {
            meanwhile();
            namespace.barrier(way).unwrap().wait().unwrap();
        }
        _ => unreachable!("{way}"),
    }
}

/// For each way in a thread and a namespace of its own, at the same time.
fn in_each_way(ways: &[&'static str], check: impl Fn(&Sandbox, &Namespace, &'static str) + Sync) {
    thread::scope(|scope| {
        let checks: Vec<_> = ways
            .iter()
            .map(|&way| {
                let check = &check;
                scope.spawn(move || {
                    let sandbox = Sandbox::new();
                    let namespace = open(&sandbox);
                    let outcome = catch_unwind(AssertUnwindSafe(|| check(&sandbox, &namespace, way)));
                    assert!(outcome.is_ok(), "waiting for {way:?}");
                })
            })
            .collect();
        checks.into_iter().for_each(|check| check.join().unwrap());
    });
}

fn wait_and_leave(arguments: &[String]) {
    let (namespace, board) = surroundings(arguments);
    let wait = waiting(&namespace, &arguments[2]);
    board.meet(0, 2);
    wait(Duration::MAX).unwrap();
}

/// Two who sleep, the first one since longer.
fn two_waiters(sandbox: &Sandbox, way: &str) -> [Process; 2] {
    [(); 2].map(|()| {
        let process = settle(sandbox, "wait_and_leave", &[way]);
        until(|| is_asleep(&process));
        process
    })
}

/// Whether the thread that plays the part sleeps on a futex.
fn is_asleep(process: &Process) -> bool {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let tasks = || fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().map(|task| task.unwrap().path());
    let players: Vec<_> = tasks().filter(|task| read(task.join("comm")).trim() == "second_process").collect();
    let players = if players.is_empty() { tasks().collect() } else { players };
    players.into_iter().all(|task| read(task.join("syscall")).starts_with(&format!("{} ", libc::SYS_futex)))
}

#[test]
fn a_waiter_that_is_killed_is_not_missed() {
    in_each_way(&WAYS, |sandbox, namespace, way| {
        let mut survivor = None;
        while_taken(namespace, way, || {
            let [first, second] = two_waiters(sandbox, way);
            first.kill();
            survivor = Some(second);
        });
        survivor.unwrap().finish();
        if way != "change" {
            assert_eq!(waiting(namespace, way)(Duration::MAX), Ok(()));
        }
    });
}

/// The first one in the queue is stopped, so the wake-up is for it, and then it is killed.
#[test]
fn a_wake_up_does_not_die_with_whom_it_was_for() {
    in_each_way(&WAYS, |sandbox, namespace, way| {
        let mut waiters = None;
        while_taken(namespace, way, || {
            let [first, second] = two_waiters(sandbox, way);
            stop(&first);
            waiters = Some((first, second));
        });
        let (first, second) = waiters.unwrap();
        thread::sleep(MOMENT);
        first.kill();
        second.finish();
        if way != "change" {
            assert_eq!(waiting(namespace, way)(Duration::MAX), Ok(()));
        }
    });
}

#[test]
fn a_waiter_that_is_stopped_stops_nobody() {
    // But a writer that waits for readers has the lock.
    let ways: Vec<_> = WAYS.into_iter().filter(|&way| way != "draining").collect();
    in_each_way(&ways, |sandbox, namespace, way| {
        let mut waiters = None;
        while_taken(namespace, way, || {
            let [first, second] = two_waiters(sandbox, way);
            stop(&first);
            waiters = Some((first, second));
        });
        let (stopped, other) = waiters.unwrap();
        other.finish();
        if way != "change" {
            (0..100).for_each(|_| assert_eq!(waiting(namespace, way)(Duration::MAX), Ok(())));
        }
        stopped.signal(libc::SIGCONT);
        stopped.finish();
    });
}

/// Where the signal handler counts.
static COUNTER: OnceLock<Board> = OnceLock::new();

extern "C" fn count_signal(_: libc::c_int) {
    if let Some(board) = COUNTER.get() {
        board.word(4).fetch_add(1, Ordering::SeqCst);
    }
}

fn wait_under_signals(arguments: &[String]) {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let (namespace, board) = surroundings(arguments);
    let wait = waiting(&namespace, &arguments[2]);
    assert!(COUNTER.set(Board::at(Path::new(&arguments[1]))).is_ok());
    // SAFETY: zeros are a valid sigaction, without SA_RESTART; the handler only counts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        board.word(2).store(libc::gettid() as u64, Ordering::SeqCst);
    }
    board.meet(0, 2);
    if arguments[2] != "doing" {
        let started = Instant::now();
        assert_eq!(wait(TIMEOUT), Err(SyncError::TimedOut));
        assert!(started.elapsed() >= TIMEOUT);
    }
    board.word(3).store(1, Ordering::SeqCst);
    assert_eq!(wait(Duration::MAX), Ok(()));
}

#[test]
fn signals_neither_end_a_wait_nor_prolong_it() {
    let ways: Vec<_> = WAYS.into_iter().chain(["meeting"]).collect();
    in_each_way(&ways, |sandbox, namespace, way| {
        let mut waiter = None;
        while_taken(namespace, way, || {
            let process = settle(sandbox, "wait_under_signals", &[way]);
            let board = board(sandbox);
            let word = |index| board.word(index).load(Ordering::SeqCst);
            let interrupt = || {
                // SAFETY: sends a signal to a thread of our own child.
                let sent = unsafe { libc::syscall(libc::SYS_tgkill, process.pid(), word(2), libc::SIGUSR1) };
                assert_eq!(sent, 0, "{}", io::Error::last_os_error());
                thread::sleep(Duration::from_millis(1));
            };
            while word(3) == 0 {
                interrupt();
            }
            let before = word(4);
            while word(4) < before + 50 {
                interrupt();
            }
            waiter = Some(process);
        });
        waiter.unwrap().finish();
    });
}

// ---- who is stopped --------------------------------------------------------------------------------------------------

#[test]
fn a_stopped_owner_is_not_dead() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let (mutex, lock) = (namespace.mutex::<Pair>("mutex").unwrap(), namespace.rw_lock::<Pair>("writing").unwrap());
    let permits = namespace.bounded_semaphore("permits").unwrap();
    let owner = settle(&sandbox, "hold", &["mutex", "reading", "permits"]);
    stop(&owner);
    assert_eq!(refusal(mutex.lock_timeout(3 * MOMENT)), SyncError::TimedOut);
    assert_eq!(refusal(lock.write_timeout(3 * MOMENT)), SyncError::TimedOut);
    assert_eq!(permits.acquire_timeout(2, 3 * MOMENT), Err(SyncError::TimedOut));
    assert_eq!(*lock.read().unwrap(), [0; 2], "it keeps readers out no longer than it waits");
    owner.kill(); // stopped as it is
    drop((died(mutex.lock()), lock.write().unwrap()));
    assert_eq!(permits.acquire(3), Ok(()));
}

/// So long that whoever is stopped is likely to be in the middle of storing it.
type Long = [u64; 512];

fn store_for_ever(arguments: &[String]) {
    let namespace = long_values(Path::new(&arguments[0]));
    let (value, array) = (namespace.value::<Long>("value").unwrap(), namespace.array::<Long>("array").unwrap());
    Board::at(Path::new(&arguments[1])).meet(0, 2);
    for number in 0.. {
        value.store(&[number; 512]).unwrap();
        array.set(0, [number; 512]).unwrap();
    }
}

fn long_values(names: &Path) -> Namespace {
    let plan = Namespace::builder().value("value", [0_u64; 512]).zeroed_array::<Long>("array", 1);
    plan.directory(names).open(NAME).unwrap()
}

#[test]
fn a_writer_that_is_stopped_or_killed_stops_no_reader() {
    let sandbox = Sandbox::new();
    let namespace = long_values(&sandbox.names());
    let (value, array) = (namespace.value::<Long>("value").unwrap(), namespace.array::<Long>("array").unwrap());
    let is_whole = |long: Long| assert!(long.iter().all(|&word| word == long[0]), "torn");
    let mut random = Random(8);
    for _ in 0..10 {
        let writer = settle(&sandbox, "store_for_ever", &[]);
        for _ in 0..10 {
            thread::sleep(Duration::from_micros(random.below(2000)));
            is_whole(value.load().unwrap());
            stop(&writer);
            let seen = (value.version(), value.load().unwrap(), array.get(0).unwrap());
            is_whole(seen.1);
            is_whole(seen.2);
            assert!((value.version(), value.load().unwrap(), array.get(0).unwrap()) == seen, "it is stopped");
            writer.signal(libc::SIGCONT);
        }
        writer.kill();
        is_whole(value.load().unwrap());
        is_whole(array.get(0).unwrap());
        value.store(&[7; 512]).unwrap();
        array.set(0, [8; 512]).unwrap();
        assert!(value.load() == Ok([7; 512]) && array.get(0) == Ok([8; 512]));
    }
}

/// In a section of its own that it does not leave.
fn set_for_ever(arguments: &[String]) {
    let array = long_values(Path::new(&arguments[0])).array::<Long>("array").unwrap();
    let mut section = array.lock().unwrap();
    let longs = [[1; 512], [2; 512]];
    Board::at(Path::new(&arguments[1])).meet(0, 2);
    loop {
        longs.iter().for_each(|long| section.store_from(0, std::slice::from_ref(long)).unwrap());
    }
}

#[test]
fn an_element_that_is_set_without_end_can_be_read() {
    let sandbox = Sandbox::new();
    let array = long_values(&sandbox.names()).array::<Long>("array").unwrap();
    let writer = settle(&sandbox, "set_for_ever", &[]);
    for _ in 0..2000 {
        let long = array.get(0).unwrap();
        assert!(long.iter().all(|&word| word == long[0]), "torn");
    }
    writer.kill();
    assert_eq!(array.iter().count(), 1);
}

// ---- forks -----------------------------------------------------------------------------------------------------------

#[test]
fn inherited_handles_are_refused_and_dropping_guards_disturbs_nobody() {
    let sandbox = Sandbox::new();
    enter(&sandbox, "fork_with_everything", &[]).finish(); // alone in a process, as a fork has to be
    assert_eq!(sandbox.litter(), [""; 0]);
}

fn fork_with_everything(arguments: &[String]) {
    let alone = alone();
    let (namespace, _) = surroundings(arguments);
    let (mutex, gate) = (namespace.mutex::<Pair>("mutex").unwrap(), namespace.mutex::<u8>("gate").unwrap());
    let reentrant = namespace.reentrant_mutex::<u64>("re-entrant").unwrap();
    let (wide, bytes) = (namespace.array::<[u64; 3]>("array").unwrap(), namespace.array::<u8>("bytes").unwrap());
    let [lock, reading] = ["writing", "reading"].map(|name| namespace.rw_lock::<Pair>(name).unwrap());
    let (value, change) = (namespace.value::<Pair>("storing").unwrap(), namespace.value::<u64>("change").unwrap());
    let [plain, several] = ["semaphore", "several"].map(|name| namespace.semaphore(name).unwrap());
    let permits = namespace.bounded_semaphore("permits").unwrap();
    let (condition, event) = (namespace.condvar("condition").unwrap(), namespace.event("event").unwrap());
    let (meeting, atomic) = (namespace.barrier("meeting").unwrap(), namespace.atomic::<u64>("atomic").unwrap());
    let [undone, done] = ["doing", "done"].map(|name| namespace.once(name).unwrap());
    let mut queue = namespace.queue::<u64>("queue").unwrap();
    event.set().unwrap();
    done.call_once(|| ()).unwrap();
    value.store(&[1; 2]).unwrap();

    let (mut guard, mut writing, waiting) = (mutex.lock().unwrap(), lock.write().unwrap(), gate.lock().unwrap());
    (*guard, *writing) = ([1; 2], [1; 2]);
    let nested = [reentrant.lock().unwrap(), reentrant.lock().unwrap()];
    nested[0].set(&1).unwrap();
    let (sections, writer) = ((wide.lock().unwrap(), bytes.lock().unwrap()), value.writer().unwrap());
    let given_back = (reading.read().unwrap(), permits.permit().unwrap(), several.permit().unwrap());
    let mut held = Some((guard, writing, waiting, nested, sections, writer, given_back));

    let child = fork(&alone, || {
        let nothing = Duration::ZERO;
        let (mut guard, mut writing, waiting, nested, sections, mut writer, given_back) = held.take().unwrap();
        refused([mutex.lock(), mutex.try_lock(), mutex.lock_timeout(nothing)].map(refusal));
        refused([reentrant.lock(), reentrant.try_lock(), reentrant.lock_timeout(nothing)].map(refusal));
        refused([wide.lock(), wide.try_lock(), wide.lock_timeout(nothing)].map(refusal));
        refused([bytes.lock(), bytes.try_lock(), bytes.lock_timeout(nothing)].map(refusal));
        for lock in [&lock, &reading] {
            refused([lock.read(), lock.try_read(), lock.read_timeout(nothing)].map(refusal));
            refused([lock.write(), lock.try_write(), lock.write_timeout(nothing)].map(refusal));
        }
        refused([condition.wait(waiting)].map(refusal));
        let calls = [mutex.unlock(), reentrant.unlock(), gate.unlock(), nested[0].set(&9)];
        refused(calls.map(Result::unwrap_err));
        let calls = [wide.set(0, [9; 3]), wide.store_from(0, &[[9; 3]]), bytes.store_from(0, &[9])];
        refused(calls.map(Result::unwrap_err));
        refused([
            wide.snapshot().unwrap_err(),
            bytes.snapshot().unwrap_err(),
            change.wait_changed(nothing).unwrap_err(),
        ]);
        let calls = [value.store(&[9; 2]), value.try_store(&[9; 2]), value.store_timeout(&[9; 2], nothing)];
        refused(calls.map(Result::unwrap_err));
        let update = |value: &mut Pair| value.fill(9);
        let calls = [value.update(update), value.try_update(update), value.update_timeout(update, nothing)];
        refused(calls.map(Result::unwrap_err));
        refused([writer.store(&[9; 2]), writer.update(update).map(drop)].map(Result::unwrap_err));
        refused([value.writer(), value.try_writer()].map(Result::unwrap_err));
        let calls = [plain.acquire(1), plain.try_acquire(1), plain.acquire_timeout(1, nothing), plain.acquire(0)];
        refused(calls.map(Result::unwrap_err));
        let calls = [permits.acquire(1), permits.try_acquire(1), permits.acquire_timeout(1, nothing)];
        refused(calls.map(Result::unwrap_err));
        refused([plain.release(1), permits.release(1)].map(Result::unwrap_err));
        refused([plain.permit(), plain.try_permit()].map(Result::unwrap_err));
        refused([permits.permit(), permits.try_permit()].map(Result::unwrap_err));
        refused([condition.notify_one(), condition.notify_all()].map(Result::unwrap_err));
        refused([event.set(), event.clear(), event.wait(), event.wait_timeout(nothing)].map(Result::unwrap_err));
        refused([meeting.wait(), meeting.wait_timeout(nothing)].map(Result::unwrap_err));
        refused([meeting.abort(), meeting.reset()].map(Result::unwrap_err));
        let calls = [undone.call_once(|| unreachable!()), undone.wait(), undone.wait_timeout(nothing)];
        refused(calls.map(Result::unwrap_err));
        assert_eq!((queue.send(&9), queue.recv()), (Err(SendError::Forked), Err(RecvError::Forked)));
        assert_eq!(namespace.share().unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(namespace.event("event").unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(namespace.queue::<u64>("queue").map(drop).unwrap_err().kind(), ErrorKind::Forked);

        // To look is free.
        assert_eq!((value.load(), change.load(), value.version()), (Ok([1; 2]), Ok(0), 1));
        assert_eq!((atomic.fetch_add(5), bytes.set(12, 5), wide.get(0)), (0, Ok(()), Ok([0; 3])));
        assert_eq!((event.is_set(), undone.is_completed(), done.is_completed()), (true, false, true));
        assert_eq!((done.call_once(|| unreachable!()), meeting.waiting()), (Ok(()), 0));
        assert_eq!((plain.available(), several.available(), permits.available()), (Ok(1), Ok(2), 2));
        assert!(mutex.is_locked() && nested[0].get() == Ok(1));
        (*guard, *writing) = ([9; 2], [9; 2]);
        drop((guard, writing, nested, sections, writer, given_back));

        // And with handles of its own it is a process like any other.
        let own = plan().directory(&arguments[0]).open(NAME).unwrap();
        assert_eq!(refusal(own.mutex::<Pair>("mutex").unwrap().try_lock()), SyncError::WouldBlock);
        assert_eq!(own.bounded_semaphore("permits").unwrap().acquire(2), Ok(()));
        own.queue::<u64>("queue").unwrap().send(&7).unwrap();
        own.semaphore("semaphore").unwrap().acquire(1).unwrap();
    });
    child.finish();

    elsewhere(|| {
        assert_eq!(
            (refusal(mutex.try_lock()), refusal(gate.try_lock())),
            (SyncError::WouldBlock, SyncError::WouldBlock)
        );
        assert_eq!(
            (refusal(wide.try_lock()), refusal(bytes.try_lock())),
            (SyncError::WouldBlock, SyncError::WouldBlock)
        );
        assert_eq!(
            (refusal(lock.try_read()), refusal(reading.try_write())),
            (SyncError::WouldBlock, SyncError::WouldBlock)
        );
        assert_eq!(refusal(reentrant.try_lock()), SyncError::WouldBlock);
        assert_eq!(value.try_store(&[9; 2]), Err(SyncError::WouldBlock));
    });
    assert_eq!((several.available(), permits.available()), (Ok(2), 2), "the child's own came back when it left");
    assert_eq!((atomic.load(), bytes.get(12), plain.available()), (5, Ok(5), Ok(0)));
    assert_eq!((undone.is_completed(), meeting.is_broken(), event.is_set()), (false, false, true));
    let (guard, writing, waiting, nested, sections, writer, given_back) = held.unwrap();
    guard.discard();
    writing.discard();
    drop((waiting, nested, sections, writer, given_back));
    assert_eq!((*mutex.lock().unwrap(), *lock.read().unwrap(), *gate.lock().unwrap()), ([0; 2], [0; 2], 0));
    assert_eq!((value.load(), reentrant.lock().unwrap().get()), (Ok([1; 2]), Ok(1)));
    assert_eq!(wide.snapshot(), Ok(vec![[0; 3]; 3]));
    drop(reading.write().unwrap());
    assert_eq!((several.available(), permits.acquire(3), permits.release(3)), (Ok(3), Ok(()), Ok(())));
    assert_eq!(queue.recv(), Ok(7));
}

fn refused<const N: usize>(errors: [SyncError; N]) {
    assert_eq!(errors, [SyncError::Forked; N]);
}

#[test]
fn a_forked_child_does_not_write_in_its_parents_section() {
    let sandbox = Sandbox::new();
    enter(&sandbox, "fork_with_sections", &[]).finish();
}

fn fork_with_sections(_: &[String]) {
    fn check<T: bytemuck::Pod + PartialEq + std::fmt::Debug>(value: T) {
        let alone = alone();
        let array = Array::new(&[T::zeroed(); 5]).unwrap();
        let mut section: ArrayGuard<T> = array.lock().unwrap();
        let child = fork(&alone, || {
            assert_eq!(section.set(1, value), Err(SyncError::Forked));
            assert_eq!(section.store_from(2, &[value; 2]), Err(SyncError::Forked));
            assert_eq!(section.get(1), Ok(T::zeroed()));
        });
        child.finish();
        assert_eq!(section.to_vec(), Ok(vec![T::zeroed(); 5]));
    }
    check([7_u32; 3]);
    check(7_u8);
    let (value, once) = (Value::new(0_u64).unwrap(), Once::new().unwrap());
    let mut is_child = false;
    // SAFETY: the child returns from the call that it is in, and ends.
    let fork = |is_child: &mut bool| *is_child = unsafe { libc::fork() } == 0;
    let updated = value.update(|number| {
        *number = 1;
        fork(&mut is_child);
    });
    end_child(is_child, updated == Err(SyncError::Forked));
    let called = once.call_once(|| fork(&mut is_child));
    end_child(is_child, called == Err(SyncError::Forked));
    assert_eq!((updated, called, value.version()), (Ok(1), Ok(()), 1));
}

/// Ends this process if it is the child; the parent hears how it went.
fn end_child(is_child: bool, is_well: bool) {
    let mut status = 0;
    // SAFETY: the child leaves what it shares with others as it is; the parent has just this one.
    let child = unsafe {
        if is_child {
            libc::_exit(i32::from(!is_well));
        }
        libc::wait(&mut status)
    };
    assert!(child > 0 && status == 0, "{child} ended with {status:#x}");
}

/// Holds the mutex, and has a child that lives on.
fn hold_and_fork(arguments: &[String]) {
    let (namespace, board) = surroundings(arguments);
    ["mutex", "permits"].into_iter().for_each(|what| seize(&namespace, what));
    // SAFETY: the child does nothing but wait, and the test ends it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        while Path::new(&arguments[0]).exists() {
            thread::sleep(Duration::from_millis(20));
        }
        // SAFETY: ends the child without touching what it shares with others.
        unsafe { libc::_exit(0) };
    }
    board.word(1).store(child as u64, Ordering::SeqCst);
    stay(&board);
}

#[test]
fn a_death_is_noticed_although_a_child_lives_on() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let parent = settle(&sandbox, "hold_and_fork", &[]);
    let child = board(&sandbox).word(1).load(Ordering::SeqCst) as libc::pid_t;
    parent.kill();
    assert_eq!(*died(namespace.mutex::<Pair>("mutex").unwrap().lock()), [1; 2]);
    assert_eq!(namespace.bounded_semaphore("permits").unwrap().acquire(3), Ok(()));
    // SAFETY: a process of ours that has not been waited for by anybody.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0, "the child did not live on");
}

// ---- crowds ----------------------------------------------------------------------------------------------------------

const CROWD: u64 = 4;
const EACH: u64 = 600;

fn count_everything(arguments: &[String]) {
    let (namespace, board) = surroundings(arguments);
    let (mutex, reentrant) =
        (namespace.mutex::<Pair>("mutex").unwrap(), namespace.reentrant_mutex::<u64>("re-entrant").unwrap());
    let (wide, bytes) = (namespace.array::<[u64; 3]>("array").unwrap(), namespace.array::<u8>("bytes").unwrap());
    let (lock, value) = (namespace.rw_lock::<Pair>("writing").unwrap(), namespace.value::<Pair>("storing").unwrap());
    let (plain, bounded) = (namespace.semaphore("semaphore").unwrap(), namespace.bounded_semaphore("bounded").unwrap());
    let (atomic, once) = (namespace.atomic::<u64>("atomic").unwrap(), namespace.once("doing").unwrap());
    // What a permit is for: to be alone with something else.
    let count = |index: usize| {
        let word = board.word(index);
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    };
    board.meet(0, CROWD + 1);
    for round in 0..EACH {
        let mut guard = mutex.lock().unwrap();
        guard.iter_mut().for_each(|word| *word += 1);
        drop(guard);
        let outer = reentrant.lock().unwrap();
        let before = outer.get().unwrap();
        let inner = reentrant.lock().unwrap();
        inner.set(&(before + 1)).unwrap();
        drop((outer, inner));
        let mut section = wide.lock().unwrap();
        let element = section.get(0).unwrap().map(|word| word + 1);
        section.set(round as usize % 3, element).unwrap();
        section.set(0, element).unwrap();
        drop(section);
        let mut section = bytes.lock().unwrap();
        let elements = [section.get(3).unwrap().wrapping_add(1); 10];
        section.store_from(3, &elements).unwrap();
        drop(section);
        lock.write().unwrap().iter_mut().for_each(|word| *word += 1);
        let pair = *lock.read().unwrap();
        assert_eq!(pair[0], pair[1]);
        if round % 2 == 0 {
            value.update(|pair| pair.iter_mut().for_each(|word| *word += 1)).unwrap();
        } else {
            value.writer().unwrap().update(|pair| pair.iter_mut().for_each(|word| *word += 1)).unwrap();
        }
        plain.acquire(1).unwrap();
        count(10);
        plain.release(1).unwrap();
        let permit = bounded.permit().unwrap();
        count(11);
        drop(permit);
        once.call_once(|| count(12)).unwrap();
        atomic.fetch_add(1);
    }
}

#[test]
fn a_crowd_loses_no_step() {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let board = board(&sandbox);
    let crowd: Vec<_> = (0..CROWD).map(|_| enter(&sandbox, "count_everything", &[])).collect();
    board.meet(0, CROWD + 1);
    crowd.into_iter().for_each(Process::finish);
    let all = CROWD * EACH;
    assert_eq!(*namespace.mutex::<Pair>("mutex").unwrap().lock().unwrap(), [all; 2]);
    assert_eq!(namespace.reentrant_mutex::<u64>("re-entrant").unwrap().lock().unwrap().get(), Ok(all));
    assert_eq!(namespace.array::<[u64; 3]>("array").unwrap().get(0), Ok([all; 3]));
    assert_eq!(namespace.array::<u8>("bytes").unwrap().snapshot().unwrap()[3..], [all as u8; 10]);
    assert_eq!(*namespace.rw_lock::<Pair>("writing").unwrap().read().unwrap(), [all; 2]);
    assert_eq!(namespace.value::<Pair>("storing").unwrap().load(), Ok([all; 2]));
    assert_eq!(namespace.atomic::<u64>("atomic").unwrap().load(), all);
    assert_eq!([10, 11, 12].map(|index| board.word(index).load(Ordering::SeqCst)), [all, all, 1]);
    assert_eq!(namespace.semaphore("semaphore").unwrap().available(), Ok(1));
    assert_eq!(namespace.bounded_semaphore("bounded").unwrap().available(), 1);
}

const ROUNDS: u64 = 500;

/// One of two who take turns; for a queue, sends a number and stays.
fn answer(arguments: &[String]) {
    let (namespace, board) = surroundings(arguments);
    if arguments[2] == "queue" {
        namespace.queue::<u64>("queue").unwrap().send(&1).unwrap();
        let _queue = namespace.queue::<u64>("queue").unwrap();
        stay(&board);
    }
    board.meet(0, 2);
    take_turns(&namespace, &arguments[2], 1);
}

fn take_turns(namespace: &Namespace, by: &str, own: u64) {
    let (gate, condition) = (namespace.mutex::<u8>("gate").unwrap(), namespace.condvar("condition").unwrap());
    let [mine, theirs] = if own == 0 { ["semaphore", "several"] } else { ["several", "semaphore"] };
    let [mine, theirs] = [mine, theirs].map(|name| namespace.semaphore(name).unwrap());
    let (meeting, change) = (namespace.barrier("meeting").unwrap(), namespace.value::<u64>("change").unwrap());
    for round in 0..ROUNDS {
        match by {
            "condition" => {
                let mut guard = condition.wait_while(gate.lock().unwrap(), |turn| u64::from(*turn) != own).unwrap();
                *guard = 1 - *guard;
                drop(guard);
                condition.notify_one().unwrap();
            }
            "semaphore" => {
                mine.acquire(1).unwrap();
                theirs.release(1).unwrap();
            }
            "meeting" => drop(meeting.wait().unwrap()),
            "change" => {
                let turn = 2 * round + own;
                let mut seen = change.load().unwrap();
                while seen != turn {
                    seen = change.wait_changed(Duration::MAX).unwrap();
                }
                change.store(&(turn + 1)).unwrap();
            }
            _ => unreachable!("{by}"),
        }
    }
}

#[test]
fn two_who_take_turns_miss_nothing() {
    for by in ["condition", "semaphore", "meeting", "change"] {
        let sandbox = Sandbox::new();
        let namespace = open(&sandbox);
        namespace.semaphore("several").unwrap().acquire(3).unwrap();
        let other = settle(&sandbox, "answer", &[by]);
        take_turns(&namespace, by, 0);
        other.finish();
    }
}

/// Takes again at once what it has just given back, until told to end.
fn hammer(arguments: &[String]) {
    let board = Board::at(Path::new(&arguments[1]));
    let pace = arguments[3].as_str();
    let wait = if pace == "polling" { Wait::Spin } else { Wait::default() };
    let namespace = plan().wait(wait).directory(&arguments[0]).open(NAME).unwrap();
    let take = match pace {
        "at once" => waiting(&namespace, &arguments[2]),
        "later" => keeping(&namespace, &arguments[2], || spin(100)),
        // Longer than newcomers stand back.
        _ => keeping(&namespace, &arguments[2], || spin(1500)),
    };
    board.meet(0, 2);
    while board.word(1).load(Ordering::SeqCst) == 0 {
        take(Duration::MAX).unwrap();
    }
}

/// Two of these leave a writer hardly a moment.
fn hammer_by_reading(arguments: &[String]) {
    let (namespace, board) = surroundings(arguments);
    let lock = namespace.rw_lock::<Pair>("writing").unwrap();
    board.meet(0, 2);
    while board.word(1).load(Ordering::SeqCst) == 0 {
        let guard = lock.read().unwrap();
        spin(20);
        drop(guard);
    }
}

#[test]
fn nobody_is_kept_waiting_by_two_who_are_always_at_it() {
    let ways = ["mutex", "re-entrant", "array", "writing", "reading", "storing", "semaphore", "several", "bounded"];
    let hammers = ways.iter().flat_map(|&way| ["at once", "later"].map(|pace| ("hammer", way, pace)));
    let patient = ["mutex", "writing", "bounded"].map(|way| ("hammer", way, "polling"));
    for (part, way, pace) in hammers.chain(patient).chain([("hammer_by_reading", "writing", "")]) {
        against_two(part, way, pace, |namespace| waiting(namespace, way));
    }
    // Those who want all permits are in the way of one who wants one.
    against_two("hammer", "several", "later", |namespace| {
        let semaphore = namespace.semaphore("several").unwrap();
        Box::new(move |timeout| semaphore.acquire_timeout(1, timeout).and_then(|()| semaphore.release(1)))
    });
}

fn against_two(part: &str, way: &str, pace: &str, waiting: impl FnOnce(&Namespace) -> Waiting) {
    let sandbox = Sandbox::new();
    let namespace = open(&sandbox);
    let hammers = [(); 2].map(|()| settle(&sandbox, part, &[way, pace]));
    let wait = waiting(&namespace);
    for _ in 0..20 {
        assert_eq!(wait(Duration::from_secs(20)), Ok(()), "{way}, {pace}");
    }
    board(&sandbox).word(1).store(1, Ordering::SeqCst);
    hammers.into_iter().for_each(Process::finish);
}

fn try_and_leave(arguments: &[String]) {
    let (namespace, _) = surroundings(arguments);
    waiting(&namespace, &arguments[2])(Duration::ZERO).unwrap();
}

/// Who has waited for long asks newcomers to stand back; one that tries once and never again is not refused for ever.
#[test]
fn who_barred_it_and_does_not_come_keeps_it_from_nobody() {
    let ways = ["mutex", "re-entrant", "array", "writing", "storing", "semaphore", "bounded"];
    in_each_way(&ways, |sandbox, namespace, way| {
        for is_killed in [false, true] {
            let mut waiter = None;
            while_taken(namespace, way, || {
                let process = settle(sandbox, "wait_and_leave", &[way]);
                until(|| is_asleep(&process));
                thread::sleep(2 * MOMENT);
                stop(&process);
                waiter = Some(process);
            });
            let waiter = waiter.unwrap();
            if is_killed {
                waiter.kill();
                enter(sandbox, "try_and_leave", &[way]).finish();
            } else {
                enter(sandbox, "try_and_leave", &[way]).finish();
                waiter.signal(libc::SIGCONT);
                waiter.finish();
            }
        }
    });
}

// ---- storms of kills -------------------------------------------------------------------------------------------------

/// So long that whoever is killed is likely to be at it.
type Wide = [u64; 40];

fn storm_plan(names: &Path) -> NamespaceBuilder {
    Namespace::builder()
        .mutex("mutex", [0_u64; 40])
        .reentrant_mutex("re-entrant", [0_u64; 40])
        .rw_lock("lock", [0_u64; 40])
        .value("value", [0_u64; 40])
        .array("array", &[[0_u64; 3]; 4])
        .array("bytes", &[0_u16; 9])
        .atomic("atomic", 0_u64)
        .bounded_semaphore("permits", 3)
        .condvar("condition")
        .event("event")
        .barrier("meeting", 3)
        .queue::<u64>("queue", 4)
        .max_participants(8)
        .directory(names)
}

/// What is counted, by whoever did it, after it was done.
const COUNTED: [&str; 7] = ["mutex", "re-entrant", "lock", "value", "array", "bytes", "atomic"];

/// How often something was done.
fn acknowledged(board: &Board, what: usize) -> &AtomicU64 {
    board.word(16 + what)
}

/// Who is in, or died there: a thread, below its process.
fn mark(board: &Board, what: usize) -> &AtomicU64 {
    board.word(32 + what)
}

/// Whether the worker of that number has come.
fn has_come(board: &Board, worker: usize) -> &AtomicU64 {
    board.word(64 + worker)
}

/// Nobody else who lives is in, as the marks say.
fn assert_alone(what: usize, found: u64) {
    assert!(found == 0 || !runs(found >> 8), "in {} at the same time: {}", COUNTED[what], found >> 8);
}

/// Whether a process has not begun to end: then it has no memory any more.
fn runs(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(23 - 3))
        .is_some_and(|size| size != "0")
}

/// The only one in, until dropped.
struct Alone<'a> {
    board: &'a Board,
    what: usize,
    own: u64,
}

impl<'a> Alone<'a> {
    fn with(board: &'a Board, what: usize, thread: u64) -> Self {
        let own = u64::from(std::process::id()) << 8 | (thread + 1);
        assert_alone(what, mark(board, what).swap(own, Ordering::SeqCst));
        Self { board, what, own }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let found = mark(self.board, self.what).swap(0, Ordering::SeqCst);
        assert!(found == self.own || thread::panicking(), "in {} at the same time: {}", COUNTED[self.what], found >> 8);
    }
}

/// The guard, and whether it was told of a death.
fn told<G>(result: LockResult<G>) -> (G, bool) {
    match result {
        Ok(guard) => (guard, false),
        Err(LockError::OwnerDied(guard)) => (guard, true),
        Err(error) => panic!("{error}"),
    }
}

fn next(wide: &Wide) -> Wide {
    assert!(wide.iter().all(|&word| word == wide[0]), "torn: {wide:?}");
    [wide[0] + 1; 40]
}

struct Worker<'a> {
    namespace: &'a Namespace,
    board: &'a Board,
    thread: u64,
    random: Random,
}

impl Worker<'_> {
    /// One of everything, in some order.
    fn work(&mut self) {
        let Self { namespace, board, thread, random } = self;
        // What is counted more often than the rest, some of which takes its time.
        let what = random.below(30) as usize;
        let what = if what < 14 { what } else { what % 7 };
        // Who is often in is killed there, and is in the way of others who ought not to be.
        let dawdle = random.below(4).saturating_sub(1) * 100;
        match what {
            0 => {
                let mutex = namespace.mutex::<Wide>("mutex").unwrap();
                let (mut guard, _) = told(mutex.lock());
                let alone = Alone::with(board, what, *thread);
                spin(dawdle);
                *guard = next(&guard);
                drop(alone);
                drop(guard);
            }
            1 => {
                let mutex = namespace.reentrant_mutex::<Wide>("re-entrant").unwrap();
                let (outer, _) = told(mutex.lock());
                let inner = mutex.lock().unwrap();
                let alone = Alone::with(board, what, *thread);
                spin(dawdle);
                outer.set(&next(&inner.get().unwrap())).unwrap();
                drop(alone);
            }
            2 => {
                let lock = namespace.rw_lock::<Wide>("lock").unwrap();
                let (mut guard, _) = told(lock.write());
                let alone = Alone::with(board, what, *thread);
                spin(dawdle);
                *guard = next(&guard);
                drop(alone);
                drop(guard);
            }
            3 => {
                let value = namespace.value::<Wide>("value").unwrap();
                let change = |wide: &mut Wide| *wide = next(wide);
                match random.below(2) {
                    0 => value.update(change).unwrap(),
                    _ => value.writer().unwrap().update(change).unwrap(),
                };
            }
            4 => {
                let array = namespace.array::<[u64; 3]>("array").unwrap();
                let (mut section, is_mended) = told(array.lock());
                let alone = Alone::with(board, what, *thread);
                spin(dawdle);
                let first = section.get(0).unwrap();
                let elements = section.to_vec().unwrap();
                assert!(is_mended || elements.iter().all(|element| *element == first), "a part of {elements:?}");
                section.store_from(0, &[first.map(|word| word + 1); 4]).unwrap();
                drop(alone);
            }
            5 => {
                let array = namespace.array::<u16>("bytes").unwrap();
                let (mut section, is_mended) = told(array.lock());
                let alone = Alone::with(board, what, *thread);
                spin(dawdle);
                let elements = section.to_vec().unwrap();
                let is_uniform = elements.iter().all(|element| *element == elements[0]);
                assert!(is_mended || is_uniform, "a part of {elements:?}");
                section.store_from(0, &[elements[0].wrapping_add(1); 9]).unwrap();
                drop(alone);
            }
            6 => drop(namespace.atomic::<u64>("atomic").unwrap().fetch_add(1)),
            7 => {
                let lock = namespace.rw_lock::<Wide>("lock").unwrap();
                let (guard, _) = told(lock.read());
                assert_alone(2, mark(board, 2).load(Ordering::SeqCst));
                next(&guard);
                spin(dawdle);
                assert_alone(2, mark(board, 2).load(Ordering::SeqCst));
            }
            8 => {
                let value = namespace.value::<Wide>("value").unwrap();
                next(&value.load().unwrap());
                let _ = value.wait_changed(Duration::from_micros(200)).map(|wide| next(&wide));
            }
            9 => {
                let permits = namespace.bounded_semaphore("permits").unwrap();
                let count = random.below(4) as u32;
                permits.acquire(count).unwrap();
                permits.release(count).unwrap();
            }
            10 => drop(namespace.bounded_semaphore("permits").unwrap().permit().unwrap()),
            11 => {
                let mutex = namespace.mutex::<Wide>("mutex").unwrap();
                let condition = namespace.condvar("condition").unwrap();
                condition.notify_one().unwrap();
                let (guard, _) = told(mutex.lock());
                let ((guard, _), _) = told(condition.wait_timeout(guard, Duration::from_micros(200)));
                let alone = Alone::with(board, 0, *thread);
                next(&guard);
                drop(alone);
            }
            12 => {
                let event = namespace.event("event").unwrap();
                event.set().unwrap();
                event.wait_timeout(Duration::from_micros(200)).ok();
                event.clear().unwrap();
            }
            _ => {
                let meeting = namespace.barrier("meeting").unwrap();
                match meeting.wait_timeout(Duration::from_micros(500)) {
                    Ok(_) | Err(SyncError::TimedOut) => {}
                    Err(SyncError::Broken { .. }) => meeting.reset().unwrap(),
                    Err(error) => panic!("{error}"),
                }
                let mut queue = namespace.queue::<u64>("queue").unwrap();
                assert!(matches!(queue.try_send(&1), Ok(()) | Err(SendError::Full)));
                assert!(!matches!(queue.try_recv(), Err(RecvError::Corrupt | RecvError::LockLost)));
            }
        }
        if what < COUNTED.len() {
            acknowledged(board, what).fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn work_until_killed(arguments: &[String]) {
    let namespace = storm_plan(Path::new(&arguments[0])).open(NAME).unwrap();
    let board = Board::at(Path::new(&arguments[1]));
    let seed: u64 = arguments[2].parse().unwrap();
    has_come(&board, seed as usize % 1000).store(1, Ordering::SeqCst);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (namespace, board) = (&namespace, &board);
            scope.spawn(move || {
                let mut worker = Worker { namespace, board, thread, random: Random(2 * seed + thread + 1) };
                let worked = catch_unwind(AssertUnwindSafe(|| {
                    loop {
                        worker.work();
                    }
                }));
                if worked.is_err() {
                    std::process::exit(101);
                }
            });
        }
    });
}

/// What is counted in the namespace itself.
fn counts(namespace: &Namespace) -> [u64; 7] {
    let value = namespace.value::<Wide>("value").unwrap();
    let mutex = namespace.mutex::<Wide>("mutex").unwrap();
    let reentrant = namespace.reentrant_mutex::<Wide>("re-entrant").unwrap();
    let lock = namespace.rw_lock::<Wide>("lock").unwrap();
    let array = namespace.array::<[u64; 3]>("array").unwrap();
    let bytes = namespace.array::<u16>("bytes").unwrap();
    [
        next(&told(mutex.lock()).0)[0] - 1,
        next(&told(reentrant.lock()).0.get().unwrap())[0] - 1,
        next(&told(lock.read()).0)[0] - 1,
        next(&value.update(|_| ()).unwrap())[0] - 1,
        told(array.lock()).0.get(0).unwrap()[0],
        told(bytes.lock()).0.get(0).unwrap().into(),
        namespace.atomic::<u64>("atomic").unwrap().load(),
    ]
}

fn storm(seed: u64, is_watched: bool) {
    const WORKERS: usize = 3;
    const KILLS: u64 = 60;
    let sandbox = Sandbox::new();
    let board = board(&sandbox);
    let mut random = storm_numbers(seed);
    let watcher = is_watched.then(|| storm_plan(&sandbox.names()).open(NAME).unwrap());
    let mut started = 0;
    let mut begin = || {
        started += 1;
        (enter(&sandbox, "work_until_killed", &[&(seed * 1000 + started).to_string()]), started as usize)
    };
    let until_come = |worker: &(Process, usize)| until(|| has_come(&board, worker.1).load(Ordering::SeqCst) == 1);
    let mut workers: Vec<_> = (0..WORKERS).map(|_| begin()).collect();
    for _ in 0..KILLS {
        let index = random.below(WORKERS as u64) as usize;
        // Some die while they join; most do not.
        if random.below(6) > 0 {
            until_come(&workers[index]);
        }
        thread::sleep(Duration::from_micros(random.below(20_000)));
        workers.swap_remove(index).0.kill();
        workers.push(begin());
    }
    workers.iter().for_each(until_come);
    thread::sleep(MOMENT);
    workers.into_iter().for_each(|worker| worker.0.kill());
    assert_eq!(sandbox.litter(), [NAME]);
    let namespace = watcher.unwrap_or_else(|| storm_plan(&sandbox.names()).open(NAME).unwrap());
    let done = counts(&namespace);
    for (what, name) in COUNTED.into_iter().enumerate() {
        let told = acknowledged(&board, what).load(Ordering::SeqCst);
        // The element of a section that a death cut off may have been counted, and its mender counts on.
        let most = told + 2 * (KILLS + WORKERS as u64);
        let done =
            if name == "bytes" { told + u64::from((done[what] as u16).wrapping_sub(told as u16)) } else { done[what] };
        assert!((told..=most).contains(&done), "{name}: {done} done, {told} told");
    }
    let permits = namespace.bounded_semaphore("permits").unwrap();
    assert_eq!((permits.available(), permits.acquire(3), permits.release(3)), (3, Ok(()), Ok(())));
    drop(namespace.mutex::<Wide>("mutex").unwrap().lock().unwrap());
    let lock = namespace.rw_lock::<Wide>("lock").unwrap();
    drop(told(lock.write())); // as the reader was, who left it to a writer
    drop(lock.write().unwrap());
    drop(namespace.array::<u16>("bytes").unwrap().lock().unwrap());
    namespace.value::<Wide>("value").unwrap().store(&[0; 40]).unwrap();
    let meeting = namespace.barrier("meeting").unwrap();
    meeting.reset().unwrap();
    thread::scope(|scope| {
        let others = [(); 2].map(|()| scope.spawn(|| meeting.wait()));
        assert!(meeting.wait().is_ok());
        others.into_iter().for_each(|other| assert!(other.join().unwrap().is_ok()));
    });
    say(&format!("storm: {done:?} done in spite of {KILLS} kills"));
    drop((namespace, permits, lock, meeting));
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn a_storm_of_kills_leaves_everything_whole() {
    storm(1, false);
}

#[test]
fn a_storm_of_kills_leaves_everything_whole_under_the_eyes_of_a_survivor() {
    storm(2, true);
}
