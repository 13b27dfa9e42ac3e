//! Futures of locks, condition variables and barriers: tasks of one thread and of several, of one process and of others, cancelled at
//! every point, beside owners that are killed, and in forked children.

#[path = "support/executor.rs"]
mod executor;
#[path = "support/peers.rs"]
mod peers;
mod support;

use std::cell::Cell;
use std::future::Future;
use std::mem;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use executor::{
    Canceller, Unpark, all_get_their_turn, block_on, endless, poll, smol_block_on, tokio_block_on, waiter_thread_sleeps,
};
use peers::{NAME, counters, enter, enter_with};
use support::{SharedCounters, TestDir, alone, child_roles, fork, start, until};
use tombolo::sync::{Array, Barrier, Condvar, LockError, LockResult, Mutex, Once, RwLock, SyncError};
use tombolo::{Namespace, WaitStrategy};

child_roles!(
    increment,
    lock_once,
    hold_the_mutex,
    leak_a_guard,
    read_until_killed,
    wait_for_the_mutex_of,
    write_beside_a_reader,
    increment_and_compare,
    echo_by_condvar,
    wait_once,
    wait_for_nothing,
    meet,
    meet_once_and_stay,
    meet_beside_one_that_is_killed,
);

const ROUNDS: u64 = 2000;

fn objects(names: &Path) -> Namespace {
    let builder = Namespace::builder().mutex("count", 0_u64).rw_lock("pair", [0_u64; 2]).semaphore("begun", 0);
    let builder = builder.condvar("changed").barrier("start", 3);
    builder.wait(WaitStrategy::Park).directory(names).open(NAME).unwrap()
}

fn count(arguments: &[String]) -> Mutex<u64> {
    objects(Path::new(&arguments[0])).mutex("count").unwrap()
}

fn pair(arguments: &[String]) -> RwLock<[u64; 2]> {
    objects(Path::new(&arguments[0])).rw_lock("pair").unwrap()
}

fn is_pending<F: Future>(future: Pin<&mut F>, unpark: &std::sync::Arc<Unpark>) -> bool {
    poll(future, unpark).is_pending()
}

fn error_of<G>(locked: LockResult<G>) -> SyncError {
    match locked {
        Err(LockError::Failed(error)) => error,
        Err(_) => panic!("an error with a guard"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn mutex_held_by_task_of_same_thread_future_waits_for_unlock() {
    let (_alone, _test_dir) = (alone(), endless());
    let (mutex, unpark) = (Mutex::new(1).unwrap(), Unpark::new());
    let mut guard = block_on(mutex.lock_async()).unwrap();
    let (mut second, mut third) = (Box::pin(mutex.lock_async()), Box::pin(mutex.lock_async()));
    assert!(is_pending(second.as_mut(), &unpark));
    assert!(is_pending(third.as_mut(), &unpark));
    assert_eq!(error_of(mutex.try_lock()), SyncError::WouldDeadlock);
    assert_eq!(error_of(mutex.lock()), SyncError::WouldDeadlock);
    *guard = 2;
    drop(guard);
    until(|| unpark.count.load(Ordering::SeqCst) > 0);
    let guard = block_on(second).unwrap();
    assert_eq!(*guard, 2);
    assert!(is_pending(third.as_mut(), &unpark));
    drop(guard);
    assert_eq!(*block_on(third).unwrap(), 2);
}

fn tasks_of_one_thread(run: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>)) {
    let mutex = Mutex::new(0_u64).unwrap();
    let inside = Rc::new(Cell::new(0));
    let task = |mutex: Mutex<u64>, inside: Rc<Cell<u64>>| async move {
        for _ in 0..ROUNDS / 10 {
            let mut guard = mutex.lock_async().await.unwrap();
            assert_eq!(inside.replace(1), 0);
            futures_lite::future::yield_now().await; // the others find it locked
            *guard += 1;
            inside.set(0);
        }
    };
    let (first, second) = (task(mutex.clone(), Rc::clone(&inside)), task(mutex.clone(), inside));
    run(Box::pin(async move {
        futures_lite::future::zip(first, second).await;
    }));
    assert_eq!(*mutex.lock().unwrap(), 2 * (ROUNDS / 10));
}

#[test]
fn mutex_tasks_of_one_thread_take_turns() {
    let (_alone, _test_dir) = (alone(), endless());
    tasks_of_one_thread(block_on);
}

#[test]
fn mutex_tasks_of_one_thread_under_tokio_take_turns() {
    let (_alone, _test_dir) = (alone(), endless());
    tasks_of_one_thread(tokio_block_on);
}

#[test]
fn mutex_tasks_of_one_thread_under_smol_take_turns() {
    let (_alone, _test_dir) = (alone(), endless());
    tasks_of_one_thread(smol_block_on);
}

fn increment(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let count = count(arguments);
    for _ in 0..ROUNDS {
        *count.lock().unwrap() += 1;
    }
}

#[test]
fn mutex_tasks_and_processes_lose_no_wake_up() {
    let (_alone, test_dir) = (alone(), endless());
    let count = objects(&test_dir.names()).mutex::<u64>("count").unwrap();
    let other = enter(&test_dir, "increment");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let count = count.clone();
            runtime.spawn(async move {
                for _ in 0..ROUNDS {
                    *count.lock_async().await.unwrap() += 1;
                }
            })
        })
        .collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    other.finish();
    assert_eq!(*count.lock().unwrap(), 5 * ROUNDS);
}

fn lock_once(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let count = count(arguments);
    counters.word(0).store(1, Ordering::SeqCst);
    *count.lock().unwrap() += 1;
}

/// The wake-up for the lock goes to this process, whose task ends without taking it. The other
/// process sleeps without end.
#[test]
fn mutex_future_woken_and_dropped_wakes_another_process() {
    let (_alone, test_dir) = (alone(), endless());
    let counters = counters(&test_dir);
    let (count, unpark) = (objects(&test_dir.names()).mutex::<u64>("count").unwrap(), Unpark::new());
    let guard = count.lock().unwrap();
    let mut future = Box::pin(count.lock_async());
    assert!(is_pending(future.as_mut(), &unpark));
    until(waiter_thread_sleeps); // first, so the kernel wakes it first
    let other = enter(&test_dir, "lock_once");
    until(|| counters.word(0).load(Ordering::SeqCst) == 1);
    thread::sleep(Duration::from_millis(50));
    drop(guard);
    until(|| unpark.count.load(Ordering::SeqCst) > 0);
    drop(future);
    other.finish();
    assert_eq!(*count.lock().unwrap(), 1);
}

#[test]
fn mutex_lock_cancelled_at_every_point_leaves_it_unlocked() {
    let (_alone, _test_dir) = (alone(), endless());
    let (mutex, mut canceller) = (Mutex::new(0).unwrap(), Canceller::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                *mutex.lock().unwrap() += 1;
            }
        });
        let mut locked = 0;
        while locked < ROUNDS {
            if let Some(guard) = canceller.run(mutex.lock_async()) {
                *guard.unwrap() += 1;
                locked += 1;
            }
        }
    });
    assert_eq!(*mutex.try_lock().unwrap(), 2 * ROUNDS);
}

#[test]
fn mutex_task_and_threads_in_a_loop_all_get_their_turn() {
    let (_alone, _test_dir) = (alone(), endless());
    let mutex = Mutex::new(0).unwrap();
    all_get_their_turn(|| mutex.lock().unwrap(), async || mutex.lock_async().await.unwrap());
}

#[test]
fn mutex_newcomer_task_lets_one_that_has_waited_go_first() {
    let (_alone, _test_dir) = (alone(), endless());
    let (mutex, unpark) = (Mutex::new(0).unwrap(), Unpark::new());
    let guard = mutex.lock().unwrap();
    let mut first = Box::pin(mutex.lock_async());
    assert!(is_pending(first.as_mut(), &unpark));
    thread::sleep(Duration::from_millis(5));
    assert!(is_pending(first.as_mut(), &unpark)); // it has waited for so long that it goes first
    drop(guard);
    let mut second = Box::pin(mutex.lock_async());
    assert!(is_pending(second.as_mut(), &unpark));
    drop(block_on(first).unwrap());
    drop(block_on(second).unwrap());
}

#[test]
fn mutex_future_polled_by_two_threads_guard_is_of_the_last() {
    let (_alone, _test_dir) = (alone(), endless());
    let (mutex, unpark) = (Mutex::new(0).unwrap(), Unpark::new());
    let guard = mutex.lock().unwrap();
    let mut future = Box::pin(mutex.lock_async());
    assert!(is_pending(future.as_mut(), &unpark));
    drop(guard);
    thread::scope(|scope| {
        let (locked, is_locked) = std::sync::mpsc::channel();
        let (unlock, may_unlock) = std::sync::mpsc::channel::<()>();
        let mutex = &mutex;
        scope.spawn(move || {
            let guard = block_on(future).unwrap();
            assert_eq!(error_of(mutex.try_lock()), SyncError::WouldDeadlock);
            locked.send(()).unwrap();
            may_unlock.recv().unwrap();
            drop(guard);
        });
        is_locked.recv().unwrap();
        assert_eq!(error_of(mutex.try_lock()), SyncError::WouldBlock);
        unlock.send(()).unwrap();
    });
    drop(mutex.lock().unwrap());
}

fn hold_the_mutex(arguments: &[String]) {
    let objects = objects(Path::new(&arguments[0]));
    let count = objects.mutex::<u64>("count").unwrap();
    let _guard = count.lock().unwrap();
    objects.semaphore("begun").unwrap().release(1).unwrap();
    thread::sleep(Duration::from_secs(3600));
}

fn leak_a_guard(arguments: &[String]) {
    let objects = objects(Path::new(&arguments[0]));
    let count = objects.mutex::<u64>("count").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| mem::forget(block_on(count.lock_async()).unwrap()));
    });
    assert_eq!(error_of(count.try_lock()), SyncError::WouldBlock); // its thread is gone
    objects.semaphore("begun").unwrap().release(1).unwrap();
    thread::sleep(Duration::from_secs(3600));
}

fn wait_for_the_mutex_of(arguments: &[String]) {
    let objects = objects(Path::new(&arguments[0]));
    let holder = start(&arguments[2], &[&arguments[0]]);
    objects.semaphore("begun").unwrap().acquire().unwrap().forget();
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        holder.kill();
    });
    let count = objects.mutex::<u64>("count").unwrap();
    let locked = block_on(async {
        // All of them wait, and only the first is told.
        let first = async { matches!(count.lock_async().await, Err(LockError::OwnerDied(_))) };
        let second = async { matches!(count.lock_async().await, Err(LockError::OwnerDied(_))) };
        futures_lite::future::zip(first, second).await
    });
    assert!(locked.0 ^ locked.1, "{locked:?}");
    killer.join().unwrap();
}

#[test]
fn mutex_owner_killed_one_future_reports_owner_died() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    enter_with(&test_dir, "wait_for_the_mutex_of", &["hold_the_mutex"]).finish();
}

#[test]
fn mutex_guard_leaked_by_thread_that_is_gone_future_waits_for_its_process() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    enter_with(&test_dir, "wait_for_the_mutex_of", &["leak_a_guard"]).finish();
}

#[test]
fn mutex_poisoned_future_reports_poisoned_until_cleared() {
    let (_alone, _test_dir) = (alone(), endless());
    let mutex = Mutex::new(0).unwrap();
    mutex.lock().unwrap().poison();
    match block_on(mutex.lock_async()) {
        Err(LockError::Poisoned(mut guard)) => guard.clear_poison(),
        other => panic!("{other:?}"),
    }
    drop(block_on(mutex.lock_async()).unwrap());
}

#[test]
fn forked_child_polls_and_drops_futures_of_locks_of_its_parent() {
    let (alone, _test_dir) = (alone(), endless());
    let (mutex, lock, unpark) = (Mutex::new(0).unwrap(), RwLock::new(0).unwrap(), Unpark::new());
    let (held, reader) = (mutex.lock().unwrap(), lock.read().unwrap());
    let (mut locks, mut writes) = (Some(Box::pin(mutex.lock_async())), Some(Box::pin(lock.write_async())));
    let barrier = Barrier::new(2).unwrap();
    let mut meets = Some(Box::pin(barrier.wait_async()));
    assert!(is_pending(meets.as_mut().unwrap().as_mut(), &unpark));
    assert!(is_pending(locks.as_mut().unwrap().as_mut(), &unpark));
    assert!(is_pending(writes.as_mut().unwrap().as_mut(), &unpark));
    let child = fork(&alone, || {
        let (mut locks, mut writes) = (locks.take().unwrap(), writes.take().unwrap());
        let Poll::Ready(locked) = poll(locks.as_mut(), &unpark) else { panic!("it waits in a child") };
        assert_eq!(error_of(locked), SyncError::Forked);
        let Poll::Ready(locked) = poll(writes.as_mut(), &unpark) else { panic!("it waits in a child") };
        assert_eq!(error_of(locked), SyncError::Forked);
        drop((locks, writes, meets.take()));
        assert_eq!(error_of(block_on(lock.read_async())), SyncError::Forked);
    });
    child.finish();
    thread::scope(|scope| {
        // The task still waits for the readers, and no further ones come in.
        scope.spawn(|| assert_eq!(error_of(lock.try_read()), SyncError::WouldBlock));
    });
    assert_eq!(barrier.wait().map(|result| result.is_leader()), Ok(true));
    assert_eq!(block_on(meets.take().unwrap()).map(|result| result.index()), Ok(0));
    drop((held, reader));
    drop(block_on(locks.take().unwrap()).unwrap());
    drop(block_on(writes.take().unwrap()).unwrap());
}

#[test]
fn rw_lock_task_that_waits_to_write_lets_no_reader_in_until_dropped() {
    let (_alone, _test_dir) = (alone(), endless());
    let (lock, unpark, of_writer) = (RwLock::new(1).unwrap(), Unpark::new(), Unpark::new());
    thread::scope(|scope| {
        let (read, has_read) = std::sync::mpsc::channel();
        let (leave, may_leave) = std::sync::mpsc::channel::<()>();
        let lock = &lock;
        scope.spawn(move || {
            let _guard = lock.read().unwrap();
            read.send(()).unwrap();
            may_leave.recv().unwrap();
        });
        has_read.recv().unwrap();
        let mut writer = Box::pin(lock.write_async());
        assert!(is_pending(writer.as_mut(), &of_writer));
        let mut reader = pin!(lock.read_async());
        assert!(is_pending(reader.as_mut(), &unpark));
        // A call that blocks would keep the task from its turn.
        assert_eq!(error_of(lock.try_read()), SyncError::WouldDeadlock);
        assert_eq!(error_of(lock.write()), SyncError::WouldDeadlock);
        let mut writer = thread::scope(|scope| {
            let moved = scope.spawn(|| {
                assert!(is_pending(writer.as_mut(), &of_writer));
                assert_eq!(error_of(lock.try_read()), SyncError::WouldDeadlock);
                writer
            });
            moved.join().unwrap()
        });
        assert_eq!(error_of(lock.try_read()), SyncError::WouldBlock);
        assert!(is_pending(writer.as_mut(), &of_writer));
        drop(writer);
        until(|| unpark.count.load(Ordering::SeqCst) > 0);
        assert_eq!(*block_on(reader.as_mut()).unwrap(), 1);
        leave.send(()).unwrap();
    });
    *block_on(lock.write_async()).unwrap() = 2;
    assert_eq!(*lock.read().unwrap(), 2);
}

#[test]
fn rw_lock_last_reader_of_same_thread_wakes_task_that_waits_to_write() {
    let (_alone, _test_dir) = (alone(), endless());
    let (lock, unpark) = (RwLock::new(1).unwrap(), Unpark::new());
    let (first, second) = (lock.read().unwrap(), block_on(lock.read_async()).unwrap());
    let mut writer = Box::pin(lock.write_async());
    assert!(is_pending(writer.as_mut(), &unpark));
    drop(first);
    assert!(is_pending(writer.as_mut(), &unpark));
    drop(second);
    until(|| unpark.count.load(Ordering::SeqCst) > 0);
    drop(block_on(writer).unwrap());
}

fn increment_and_compare(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let pair = pair(arguments);
    for _ in 0..ROUNDS {
        let [left, right] = *pair.read().unwrap();
        assert_eq!(left, right);
        let mut guard = pair.write().unwrap();
        guard[0] += 1;
        guard[1] += 1;
    }
}

#[test]
fn rw_lock_futures_cancelled_at_every_point_lose_no_wake_up() {
    let (_alone, test_dir) = (alone(), endless());
    let pair = objects(&test_dir.names()).rw_lock::<[u64; 2]>("pair").unwrap();
    let others = [0; 2].map(|_| enter(&test_dir, "increment_and_compare"));
    let (mut canceller, mut written) = (Canceller::new(), 0);
    while written < ROUNDS {
        if let Some(guard) = canceller.run(pair.read_async()) {
            let [left, right] = *guard.unwrap();
            assert_eq!(left, right);
        }
        if let Some(guard) = canceller.run(pair.write_async()) {
            let mut guard = guard.unwrap();
            guard[0] += 1;
            guard[1] += 1;
            written += 1;
        }
    }
    others.into_iter().for_each(support::Process::finish);
    assert_eq!(*pair.try_read().unwrap(), [3 * ROUNDS; 2]);
}

fn read_until_killed(arguments: &[String]) {
    let objects = objects(Path::new(&arguments[0]));
    let pair = objects.rw_lock::<[u64; 2]>("pair").unwrap();
    let _guard = pair.read().unwrap();
    objects.semaphore("begun").unwrap().release(1).unwrap();
    thread::sleep(Duration::from_secs(3600));
}

fn write_beside_a_reader(arguments: &[String]) {
    let objects = objects(Path::new(&arguments[0]));
    let reader = start("read_until_killed", &[&arguments[0]]);
    objects.semaphore("begun").unwrap().acquire().unwrap().forget();
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        reader.kill();
    });
    let pair = objects.rw_lock::<[u64; 2]>("pair").unwrap();
    drop(block_on(pair.write_async()).unwrap());
    killer.join().unwrap();
}

#[test]
fn rw_lock_reader_killed_future_gets_to_write() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    enter(&test_dir, "write_beside_a_reader").finish();
}

#[test]
fn array_section_of_task_of_same_thread_future_waits_for_its_end() {
    let (_alone, _test_dir) = (alone(), endless());
    let (array, unpark) = (Array::<u64>::new(&[0; 4]).unwrap(), Unpark::new());
    let mut section = block_on(array.lock_async()).unwrap();
    let mut future = Box::pin(array.lock_async());
    assert!(is_pending(future.as_mut(), &unpark));
    section.set(1, 7).unwrap();
    drop(section);
    until(|| unpark.count.load(Ordering::SeqCst) > 0);
    assert_eq!(block_on(future).unwrap().get(1), Ok(7));
}

#[test]
fn once_run_by_another_thread_futures_wait_until_it_is_done() {
    let (_alone, _test_dir) = (alone(), endless());
    let (once, times, unpark) = (Once::new().unwrap(), AtomicU64::new(0), Unpark::new());
    let act = || _ = times.fetch_add(1, Ordering::SeqCst);
    let (mut waits, mut calls) = (Box::pin(once.wait_async()), Box::pin(once.call_once_async(act)));
    assert!(is_pending(waits.as_mut(), &unpark));
    thread::scope(|scope| {
        let (begin, has_begun) = std::sync::mpsc::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let once = &once;
        scope.spawn(move || {
            let wait = || {
                begin.send(()).unwrap();
                may_end.recv().unwrap();
                act();
            };
            once.call_once(wait).unwrap();
        });
        has_begun.recv().unwrap();
        assert!(is_pending(calls.as_mut(), &unpark));
        end.send(()).unwrap();
        block_on(waits).unwrap();
        block_on(calls).unwrap();
    });
    block_on(once.call_once_async(act)).unwrap();
    assert_eq!(times.load(Ordering::SeqCst), 1);
}

fn echo_by_condvar(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let objects = objects(Path::new(&arguments[0]));
    let (count, changed) = (objects.mutex::<u64>("count").unwrap(), objects.condvar("changed").unwrap());
    let mut guard = count.lock().unwrap();
    while *guard < 2 * ROUNDS {
        guard = changed.wait_while(guard, |count| *count % 2 == 0 && *count < 2 * ROUNDS).unwrap();
        if *guard % 2 == 1 {
            *guard += 1;
            changed.notify_one().unwrap();
        }
    }
}

#[test]
fn condvar_ping_pong_of_futures_loses_no_notification() {
    let (_alone, test_dir) = (alone(), endless());
    let objects = objects(&test_dir.names());
    let (count, changed) = (objects.mutex::<u64>("count").unwrap(), objects.condvar("changed").unwrap());
    let echo = enter(&test_dir, "echo_by_condvar");
    tokio_block_on(async {
        for round in 0..ROUNDS {
            let mut guard = count.lock_async().await.unwrap();
            *guard += 1;
            changed.notify_one().unwrap();
            while *guard % 2 == 1 {
                guard = changed.wait_async(guard).await.unwrap();
            }
            assert_eq!(*guard, 2 * (round + 1));
        }
    });
    echo.finish();
}

fn wait_once(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let objects = objects(Path::new(&arguments[0]));
    let (count, changed) = (objects.mutex::<u64>("count").unwrap(), objects.condvar("changed").unwrap());
    let mut guard = count.lock().unwrap();
    *guard += 1;
    drop(changed.wait(guard).unwrap());
}

/// The notification goes to this process, whose task ends before it has the mutex. The other process
/// sleeps without end.
#[test]
fn condvar_future_notified_and_dropped_notifies_another_process() {
    let (_alone, test_dir) = (alone(), endless());
    let objects = objects(&test_dir.names());
    let (count, changed) = (objects.mutex::<u64>("count").unwrap(), objects.condvar("changed").unwrap());
    for is_polled_again in [false, true] {
        let (unpark, before) = (Unpark::new(), *count.lock().unwrap());
        let mut future = Box::pin(changed.wait_async(count.lock().unwrap()));
        assert!(is_pending(future.as_mut(), &unpark));
        until(waiter_thread_sleeps); // first, so the kernel wakes it first
        let other = enter(&test_dir, "wait_once");
        until(|| *count.lock().unwrap() > before);
        thread::sleep(Duration::from_millis(50));
        let guard = count.lock().unwrap();
        changed.notify_one().unwrap();
        until(|| unpark.count.load(Ordering::SeqCst) > 0);
        if is_polled_again {
            assert!(is_pending(future.as_mut(), &unpark)); // it waits for the mutex
        }
        drop(future);
        drop(guard);
        other.finish();
    }
}

fn wait_for_nothing(_: &[String]) {
    let (mutex, changed) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    drop(block_on(changed.wait_async(mutex.lock().unwrap())).unwrap());
}

#[test]
fn condvar_process_that_would_notify_is_gone_future_ends_all_the_same() {
    let (_alone, _test_dir) = (alone(), TestDir::new());
    start("wait_for_nothing", &[]).finish();
}

fn meet(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let barrier = objects(Path::new(&arguments[0])).barrier("start").unwrap();
    for _ in 0..ROUNDS {
        barrier.wait().unwrap();
    }
}

#[test]
fn barrier_tasks_and_a_process_meet_again_and_again() {
    let (_alone, test_dir) = (alone(), endless());
    let barrier = objects(&test_dir.names()).barrier("start").unwrap();
    let other = enter(&test_dir, "meet");
    smol_block_on(async {
        for _ in 0..ROUNDS {
            let (first, second) = futures_lite::future::zip(barrier.wait_async(), barrier.wait_async()).await;
            assert_ne!(first.unwrap().index(), second.unwrap().index());
        }
    });
    other.finish();
}

#[test]
fn barrier_future_dropped_after_arrival_breaks_it() {
    let (_alone, _test_dir) = (alone(), endless());
    let (barrier, unpark) = (Barrier::new(3).unwrap(), Unpark::new());
    drop(barrier.wait_async()); // it has not arrived
    let (mut first, mut second) = (Box::pin(barrier.wait_async()), Box::pin(barrier.wait_async()));
    assert!(is_pending(first.as_mut(), &unpark));
    assert!(is_pending(second.as_mut(), &unpark));
    drop(first);
    until(|| unpark.count.load(Ordering::SeqCst) > 0);
    let pid = u64::from(std::process::id());
    assert_eq!(block_on(second), Err(SyncError::BarrierBroken { pid }));
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
}

fn meet_once_and_stay(arguments: &[String]) {
    let objects = objects(Path::new(&arguments[0]));
    let barrier = objects.barrier("start").unwrap();
    let mut future = Box::pin(barrier.wait_async());
    assert!(is_pending(future.as_mut(), &Unpark::new()));
    objects.semaphore("begun").unwrap().release(1).unwrap();
    thread::sleep(Duration::from_secs(3600));
}

fn meet_beside_one_that_is_killed(arguments: &[String]) {
    let objects = objects(Path::new(&arguments[0]));
    let other = start("meet_once_and_stay", &[&arguments[0]]);
    objects.semaphore("begun").unwrap().acquire().unwrap().forget();
    let pid = other.pid() as u64;
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        other.kill();
    });
    let barrier = objects.barrier("start").unwrap();
    assert_eq!(block_on(barrier.wait_async()), Err(SyncError::BarrierBroken { pid }));
    killer.join().unwrap();
}

#[test]
fn barrier_party_killed_future_reports_broken() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    enter(&test_dir, "meet_beside_one_that_is_killed").finish();
}
