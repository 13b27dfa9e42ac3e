//! A hostile peer that writes anything at any time. Every call still returns by its deadline,
//! nothing panics, and other regions of the process are not affected.

#[path = "../support/mod.rs"]
mod support;

mod broadcast;
mod latest;
mod list;
mod map;
mod object;
mod pipe;
mod queue;
mod rpc;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use broadcast::*;
use list::corrupt_list;
use map::{corrupt_long_map, corrupt_map};
use memmap2::{MmapOptions, MmapRaw};
use object::*;
use pipe::*;
use queue::*;
use rpc::*;
use support::{Process, Random, TestDir, child_roles, start};
use tombolo::pipe::Options;

child_roles!(
    corrupt_pipe,
    announce_endlessly,
    rejoin_endlessly,
    corrupt_queue,
    feed_queue_endlessly,
    open_and_leave,
    stay_in_queue,
    stay_in_namespace,
    corrupt_namespace,
    corrupt_objects,
    overwrite_endlessly,
    change_endlessly,
    corrupt_broadcast,
    publish_rests_endlessly,
    corrupt_rpc,
    await_replies_in_the_second_buffer,
    corrupt_list,
    corrupt_map,
    corrupt_long_map,
    request_endlessly,
);

const NAME: &str = "target";

/// The first word of a region behind its header, as docs/layout.md has it.
const REGION_STATE: usize = 10;

const SHORT: Duration = Duration::from_millis(1);

/// The words of a region, as a hostile process writes them.
struct Intruder(MmapRaw);

impl Intruder {
    fn at(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        Self(MmapOptions::new().map_raw(&file).unwrap())
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words());
        // SAFETY: in the mapping, aligned, and used as an atomic only.
        unsafe { &*self.0.as_mut_ptr().cast::<AtomicU64>().add(index) }
    }

    fn words(&self) -> usize {
        self.0.len() / 8
    }

    fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::SeqCst);
    }

    fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::SeqCst)
    }
}

fn attack(test_dir: &TestDir, role: &str, seed: u64) -> Process {
    start(role, &[test_dir.names().join(NAME).to_str().unwrap(), &seed.to_string()])
}

/// Uses regions that are under attack for a while. Another region must not be affected.
fn under_attack<T>(role: &str, make: impl Fn(&TestDir) -> T, use_target: impl Fn(&mut T, &mut Random)) {
    let (mut tx, mut rx) = Options::<u64>::new().capacity(8).create().unwrap();
    let mut random = Random(7);
    for seed in 1..=8 {
        let test_dir = TestDir::new();
        let mut target = make(&test_dir);
        let attacker = attack(&test_dir, role, seed);
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(60) {
            use_target(&mut target, &mut random);
            let number = random.next();
            tx.send(number).unwrap();
            assert_eq!(rx.recv(), Ok(number));
        }
        drop(target); // while the attack continues
        attacker.kill();
    }
}

/// Far longer than any call that does not wait, even on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// The result of a call that must not wait much longer than [`SHORT`].
fn soon<T>(call: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let answer = call();
    assert!(started.elapsed() < SOON, "it took {:?}", started.elapsed());
    answer
}
