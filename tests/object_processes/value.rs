//! `Value`: writers that die or stop.

use std::path::Path;
use std::thread;
use std::time::Duration;

use tombolo::Namespace;
use tombolo::sync::SyncError;

use crate::common::{MOMENT, NAME, Pair, open, opened, report_ready_and_park, start_ready, stop};
use crate::support::{Random, SharedCounters, TestDir};

/// Stays in the middle of a `call_once` or of an update.
pub fn stay_inside_call(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    if arguments[2] == "doing" {
        namespace.once("doing").unwrap().call_once(|| report_ready_and_park(&counters)).unwrap();
    } else {
        let value = namespace.value::<Pair>("storing").unwrap();
        value.store(&[1; 2]).unwrap();
        let _ = value.update(|value| {
            *value = [9; 2];
            report_ready_and_park(&counters)
        });
    }
}

#[test]
fn value_writer_killed_last_stored_value_remains() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let value = namespace.value::<Pair>("storing").unwrap();
    for role in [("hold", "storing"), ("stay_inside_call", "updating")] {
        value.store(&[0; 2]).unwrap();
        let writer = start_ready(&test_dir, role.0, &[role.1]);
        assert_eq!((value.load(), value.try_store(&[2; 2])), (Ok([1; 2]), Err(SyncError::WouldBlock)));
        assert_eq!(value.update_timeout(MOMENT, |_| unreachable!()), Err(SyncError::TimedOut));
        thread::scope(|scope| {
            let storing = scope.spawn(|| value.update(|value| value[0] += 1));
            thread::sleep(MOMENT);
            writer.kill();
            assert_eq!(storing.join().unwrap(), Ok([2, 1]));
        });
        start_ready(&test_dir, role.0, &[role.1]).kill();
        drop(value.writer().unwrap());
        assert_eq!((value.try_store(&[3; 2]), value.load()), (Ok(()), Ok([3; 2])));
    }
}

/// Long enough that a stop is likely to hit while it is stored.
pub type Long = [u64; 512];

pub fn store_continuously(arguments: &[String]) {
    let namespace = long_values(Path::new(&arguments[0]));
    let (value, array) = (namespace.value::<Long>("value").unwrap(), namespace.array::<Long>("array").unwrap());
    SharedCounters::at(Path::new(&arguments[1])).meet(0, 2);
    for number in 0.. {
        value.store(&[number; 512]).unwrap();
        array.set(0, [number; 512]).unwrap();
    }
}

pub fn long_values(names: &Path) -> Namespace {
    let plan = Namespace::builder().value("value", [0_u64; 512]).array_zeroed::<Long>("array", 1);
    plan.directory(names).open(NAME).unwrap()
}

#[test]
fn value_writer_stopped_or_killed_reads_do_not_block() {
    let test_dir = TestDir::new();
    let namespace = long_values(&test_dir.names());
    let (value, array) = (namespace.value::<Long>("value").unwrap(), namespace.array::<Long>("array").unwrap());
    let is_whole = |long: Long| assert!(long.iter().all(|&word| word == long[0]), "torn");
    let mut random = Random(8);
    for _ in 0..10 {
        let writer = start_ready(&test_dir, "store_continuously", &[]);
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
