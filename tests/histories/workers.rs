//! Processes that use one object and write down their calls, while some are killed and stopped.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::journal::{Journal, now};
use crate::linearizable::Call;
use crate::support::{Process, Random, SharedCounters, TestDir, report, start, stress_random, until};

/// The name of the namespace.
pub const NAME: &str = "histories";
/// At a time.
const PROCESSES: usize = 4;
/// Of one process. When it has made these it waits for its end.
const CALLS: usize = 5000;
/// Most calls of a process without a pause.
const BURST: u64 = 200;

/// A value that shows whether it is whole.
pub type Wide = [u64; 4];

pub fn wide(number: u64) -> Wide {
    [number, !number, number.wrapping_mul(3), number.rotate_left(32)]
}

pub fn narrow(found: Wide) -> u64 {
    assert_eq!(found, wide(found[0]), "a torn value");
    found[0]
}

/// Where a process says that it has begun.
fn place(counters: &SharedCounters, number: u64) -> &AtomicU64 {
    counters.word(number as usize % 512)
}

/// Makes calls at random and writes them down, until this process is killed. Its arguments are the
/// directory of the test and its number. `next` gets that number and the number of the call.
pub fn record_until_killed<O: Copy, R: Copy>(
    arguments: &[String],
    mut next: impl FnMut(&mut Random, u64) -> O,
    mut call: impl FnMut(O) -> R,
) {
    let (directory, number) = (Path::new(&arguments[0]), arguments[1].parse::<u64>().unwrap());
    let mut journal = Journal::at(&directory.join(format!("journal {number}")), CALLS);
    let mut random = stress_random(number);
    place(&SharedCounters::at(&directory.join("counters")), number).store(number + 1, Ordering::SeqCst);
    let mut is_full = false;
    while !is_full {
        for _ in 0..random.below(BURST) {
            // No two calls have one number.
            let unique = (number * CALLS as u64 + journal.len() as u64 + 1) << 8;
            let operation = next(&mut random, unique);
            is_full |= !journal.record(operation, || call(operation));
        }
        if random.below(4) == 0 {
            thread::sleep(Duration::from_micros(random.below(100)));
        }
    }
    loop {
        thread::park();
    }
}

/// Runs several processes in this role, kills that many of them one after the other, and stops some
/// for a while. Returns the calls of all, in the order of their begins.
pub fn calls_with_kills<O: Copy, R: Copy>(
    test_dir: &TestDir,
    role: &str,
    kills: u64,
    arguments: &[&str],
) -> Vec<Call<O, R>> {
    let directory = test_dir.file("");
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let mut random = stress_random(7);
    let mut started = 0;
    let mut begin = || -> (u64, Process) {
        let number = started.to_string();
        let child = start(role, &[&[directory.to_str().unwrap(), &number], arguments].concat());
        started += 1;
        (started - 1, child)
    };
    let mut children: Vec<_> = (0..PROCESSES).map(|_| begin()).collect();
    let mut calls = Vec::new();
    let mut end = |(number, child): (u64, Process)| {
        until(|| place(&counters, number).load(Ordering::SeqCst) > number);
        child.kill();
        let path = test_dir.file(&format!("journal {number}"));
        calls.extend(Journal::<O, R>::at(&path, CALLS).calls(now()));
        std::fs::remove_file(path).unwrap();
    };
    for _ in 0..kills {
        thread::sleep(Duration::from_micros(random.below(4000)));
        let chosen = random.below(PROCESSES as u64) as usize;
        if random.below(3) == 0 {
            children[chosen].1.signal(libc::SIGSTOP);
            thread::sleep(Duration::from_micros(random.below(3000)));
            children[chosen].1.signal(libc::SIGCONT);
        }
        end(children.remove(chosen));
        children.push(begin());
    }
    children.into_iter().for_each(&mut end);
    calls.sort_unstable_by_key(|call| call.began);
    let cut_off = calls.iter().filter(|call| call.outcome.is_none()).count();
    let overlapping = calls.windows(2).filter(|pair| pair[1].began < pair[0].ended).count();
    report(&format!(
        "{role}: {} calls of {started} processes, {overlapping} overlap the next one, {cut_off} were cut off",
        calls.len()
    ));
    calls
}
