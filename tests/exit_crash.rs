//! The crash sweep of a process's ordinary end, cut off by SIGKILL after every step of the leaving.

#![cfg(target_arch = "x86_64")]

mod support;
#[path = "support/sweep.rs"]
mod sweep;

use std::mem::forget;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use sweep::{NAME, mark, sweep};
use tombolo::{Namespace, PipeOptions, QueueOptions, RecvError};

fn values(names: &Path) -> PipeOptions<u64> {
    PipeOptions::values().capacity(4).directory(names)
}

fn jobs(names: &Path) -> QueueOptions<u64> {
    QueueOptions::values().capacity(2).max_participants(2).directory(names)
}

static IS_VICTIM: AtomicBool = AtomicBool::new(false);

/// Where the library has left.
extern "C" fn end_of_the_operation() {
    if IS_VICTIM.load(Ordering::Relaxed) {
        mark();
    }
}

/// Has that called after the library's own, which is registered with the first seat. Forked victims
/// inherit both.
fn come_last() {
    static REGISTERED: Once = Once::new();
    // SAFETY: only registers it.
    REGISTERED.call_once(|| assert_eq!(unsafe { libc::atexit(end_of_the_operation) }, 0));
}

fn exit() {
    IS_VICTIM.store(true, Ordering::Relaxed);
    // SAFETY: the victim is a child that was forked while no other test ran.
    unsafe { libc::exit(0) }
}

/// liveness.rs L1 to L5 at the end of a process.
#[test]
fn ending_with_the_end_of_a_pipe() {
    come_last();
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let tx = values(names).sender(NAME).unwrap();
            move || {
                forget(tx);
                exit();
            }
        },
        |names, mut rx| {
            let end = rx.recv().unwrap_err();
            assert!([RecvError::Closed, RecvError::PeerDied].contains(&end), "{end}");
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send(&1).unwrap();
            assert_eq!(rx.recv(), Ok(1));
        },
    );
    swept.covers(4, 4);
}

/// lanes.rs and members.rs: LEAVING, and what comes after that.
#[test]
fn ending_with_lanes_as_the_last() {
    come_last();
    let swept = sweep(
        |_| (),
        |names| {
            let tx = jobs(names).sender(NAME).unwrap();
            let plan = Namespace::builder().mutex("lock", 0_u64).max_participants(1).directory(names);
            let namespace = plan.open("space").unwrap();
            move || {
                forget((tx, namespace));
                exit();
            }
        },
        |names, ()| {
            let mut rx = jobs(names).receiver(NAME).unwrap();
            let mut tx = jobs(names).sender(NAME).unwrap();
            tx.send(&99).unwrap();
            drop(tx);
            assert_eq!((rx.recv(), rx.recv()), (Ok(99), Err(RecvError::Closed)));
            let plan = Namespace::builder().mutex("lock", 0_u64).max_participants(1).directory(names);
            assert!(plan.open("space").unwrap().mutex::<u64>("lock").unwrap().lock().is_ok());
        },
    );
    swept.covers(8, 4);
}
