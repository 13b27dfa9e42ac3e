//! Several processes at work on the same objects.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tombolo::Namespace;

use crate::common::{Pair, counters, open, opened, start_ready, start_role};
use crate::support::{Process, TestDir};

const PROCESSES: u64 = 4;
const EACH: u64 = 600;

pub fn count_everything(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    let (mutex, reentrant) =
        (namespace.mutex::<Pair>("mutex").unwrap(), namespace.reentrant_mutex::<u64>("re-entrant").unwrap());
    let (wide, bytes) = (namespace.array::<[u64; 3]>("array").unwrap(), namespace.array::<u8>("bytes").unwrap());
    let (lock, value) = (namespace.rw_lock::<Pair>("writing").unwrap(), namespace.value::<Pair>("storing").unwrap());
    let (plain, bounded) = (namespace.semaphore("semaphore").unwrap(), namespace.bounded_semaphore("bounded").unwrap());
    let (atomic, once) = (namespace.atomic::<u64>("atomic").unwrap(), namespace.once("doing").unwrap());
    // A permit protects a plain counter on the counters.
    let count = |index: usize| {
        let word = counters.word(index);
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    };
    counters.meet(0, PROCESSES + 1);
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
        plain.acquire().unwrap().forget();
        count(10);
        plain.release(1).unwrap();
        let permit = bounded.acquire().unwrap();
        count(11);
        drop(permit);
        once.call_once(|| count(12)).unwrap();
        atomic.fetch_add(1);
    }
}

#[test]
fn object_concurrent_processes_lose_no_update() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let counters = counters(&test_dir);
    let others: Vec<_> = (0..PROCESSES).map(|_| start_role(&test_dir, "count_everything", &[])).collect();
    counters.meet(0, PROCESSES + 1);
    others.into_iter().for_each(Process::finish);
    let all = PROCESSES * EACH;
    assert_eq!(*namespace.mutex::<Pair>("mutex").unwrap().lock().unwrap(), [all; 2]);
    assert_eq!(namespace.reentrant_mutex::<u64>("re-entrant").unwrap().lock().unwrap().get(), Ok(all));
    assert_eq!(namespace.array::<[u64; 3]>("array").unwrap().get(0), Ok([all; 3]));
    assert_eq!(namespace.array::<u8>("bytes").unwrap().snapshot().unwrap()[3..], [all as u8; 10]);
    assert_eq!(*namespace.rw_lock::<Pair>("writing").unwrap().read().unwrap(), [all; 2]);
    assert_eq!(namespace.value::<Pair>("storing").unwrap().load(), Ok([all; 2]));
    assert_eq!(namespace.atomic::<u64>("atomic").unwrap().load(), all);
    assert_eq!([10, 11, 12].map(|index| counters.word(index).load(Ordering::SeqCst)), [all, all, 1]);
    assert_eq!(namespace.semaphore("semaphore").unwrap().available(), Ok(1));
    assert_eq!(namespace.bounded_semaphore("bounded").unwrap().available(), 1);
}

const ROUNDS: u64 = 500;

/// The other of two processes that take turns.
pub fn ping_pong(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    counters.meet(0, 2);
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
                mine.acquire().unwrap().forget();
                theirs.release(1).unwrap();
            }
            "meeting" => drop(meeting.wait().unwrap()),
            "change" => {
                let turn = 2 * round + own;
                let mut seen = change.load().unwrap();
                while seen != turn {
                    seen = change.wait_for_change(Duration::MAX).unwrap();
                }
                change.store(&(turn + 1)).unwrap();
            }
            _ => unreachable!("{by}"),
        }
    }
}

#[test]
fn object_ping_pong_loses_no_wake_up() {
    for by in ["condition", "semaphore", "meeting", "change"] {
        let test_dir = TestDir::new();
        let namespace = open(&test_dir);
        namespace.semaphore("several").unwrap().acquire_many(3).unwrap().forget();
        let other = start_ready(&test_dir, "ping_pong", &[by]);
        take_turns(&namespace, by, 0);
        other.finish();
    }
}
