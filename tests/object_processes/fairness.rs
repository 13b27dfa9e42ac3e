//! Waiters get their turn against busy processes, and leave nothing that blocks others.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::{Namespace, WaitStrategy};

use crate::common::{MOMENT, NAME, Pair, counters, open, opened, plan, spin, start_ready, start_role, stop};
use crate::support::{Process, SharedCounters, TestDir, until};
use crate::waits::{Waiting, for_each_way, is_asleep, waiting, waiting_and_then, while_held};

/// Acquires and releases the object again and again, until word 1 of the counters is set.
pub fn take_repeatedly(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let pace = arguments[3].as_str();
    let wait = if pace == "polling" { WaitStrategy::Spin } else { WaitStrategy::default() };
    let namespace = plan().wait(wait).directory(&arguments[0]).open(NAME).unwrap();
    let take = match pace {
        "at once" => waiting(&namespace, &arguments[2]),
        "later" => waiting_and_then(&namespace, &arguments[2], || spin(100)),
        // Longer than the no-barging bit holds newcomers back.
        _ => waiting_and_then(&namespace, &arguments[2], || spin(1500)),
    };
    counters.meet(0, 2);
    while counters.word(1).load(Ordering::SeqCst) == 0 {
        take(Duration::MAX).unwrap();
    }
}

/// Two of these processes leave hardly a gap for a writer.
pub fn read_repeatedly(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    let lock = namespace.rw_lock::<Pair>("writing").unwrap();
    counters.meet(0, 2);
    while counters.word(1).load(Ordering::SeqCst) == 0 {
        let guard = lock.read().unwrap();
        spin(20);
        drop(guard);
    }
}

#[test]
fn object_waiter_against_two_busy_processes_gets_its_turn() {
    let ways = ["mutex", "re-entrant", "array", "writing", "reading", "storing", "semaphore", "several", "bounded"];
    let takers = ways.iter().flat_map(|&way| ["at once", "later"].map(|pace| ("take_repeatedly", way, pace)));
    let patient = ["mutex", "writing", "bounded"].map(|way| ("take_repeatedly", way, "polling"));
    for (part, way, pace) in takers.chain(patient).chain([("read_repeatedly", "writing", "")]) {
        wait_against_two(part, way, pace, |namespace| waiting(namespace, way));
    }
    // One permit is wanted while both others want all.
    wait_against_two("take_repeatedly", "several", "later", |namespace| {
        let semaphore = namespace.semaphore("several").unwrap();
        Box::new(move |timeout| {
            semaphore.acquire_timeout(timeout).map(|permit| permit.forget()).and_then(|()| semaphore.release(1))
        })
    });
}

fn wait_against_two(part: &str, way: &str, pace: &str, waiting: impl FnOnce(&Namespace) -> Waiting) {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let takers = [(); 2].map(|()| start_ready(&test_dir, part, &[way, pace]));
    let wait = waiting(&namespace);
    for _ in 0..20 {
        assert_eq!(wait(Duration::from_secs(20)), Ok(()), "{way}, {pace}");
    }
    counters(&test_dir).word(1).store(1, Ordering::SeqCst);
    takers.into_iter().for_each(Process::finish);
}

pub fn try_and_leave(arguments: &[String]) {
    let (namespace, _) = opened(arguments);
    waiting(&namespace, &arguments[2])(Duration::ZERO).unwrap();
}

/// A waiter that has waited long sets the no-barging bit. If it never comes back, newcomers get the
/// object all the same.
#[test]
fn object_waiter_killed_or_stopped_with_no_barging_bit_blocks_nobody() {
    let ways = ["mutex", "re-entrant", "array", "writing", "storing", "semaphore", "bounded"];
    for_each_way(&ways, |test_dir, namespace, way| {
        for is_killed in [false, true] {
            let mut waiter = None;
            while_held(namespace, way, || {
                let process = start_ready(test_dir, "wait_and_leave", &[way]);
                until(|| is_asleep(&process));
                thread::sleep(2 * MOMENT);
                stop(&process);
                waiter = Some(process);
            });
            let waiter = waiter.unwrap();
            if is_killed {
                waiter.kill();
                start_role(test_dir, "try_and_leave", &[way]).finish();
            } else {
                start_role(test_dir, "try_and_leave", &[way]).finish();
                waiter.signal(libc::SIGCONT);
                waiter.finish();
            }
        }
    });
}
