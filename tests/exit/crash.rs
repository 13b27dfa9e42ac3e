//! The crash sweep of an exit: the process is killed after every step of the library's leaving.

use std::mem::forget;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use tombolo::queue;
use tombolo::{Namespace, RecvError};

use crate::pipe;
use crate::sweep::{NAME, mark, sweep};

fn jobs(names: &Path) -> queue::Options<u64> {
    queue::Options::new().capacity(2).max_participants(2).directory(names)
}

static IS_VICTIM: AtomicBool = AtomicBool::new(false);

/// Runs when the library has left.
extern "C" fn end_of_the_operation() {
    if IS_VICTIM.load(Ordering::Relaxed) {
        mark();
    }
}

/// Registers [`end_of_the_operation`] to run after the library's own handler, which is registered
/// when the first endpoint opens. Forked victims inherit both.
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

/// The steps L1 to L5 of docs/failure.md, at the end of a process.
#[test]
fn exit_with_pipe_endpoint_killed_at_each_step_successor_works() {
    come_last();
    let swept = sweep(
        |names| pipe(names).receiver(NAME).unwrap(),
        |names| {
            let tx = pipe(names).sender(NAME).unwrap();
            move || {
                forget(tx);
                exit();
            }
        },
        |names, mut rx| {
            let end = rx.recv().unwrap_err();
            assert!([RecvError::Closed, RecvError::PeerDied].contains(&end), "{end}");
            let mut tx = pipe(names).sender(NAME).unwrap();
            tx.send(1).unwrap();
            assert_eq!(rx.recv(), Ok(1));
        },
    );
    swept.covers(4, 4);
}

/// The records are marked LEAVING, and then left in the same steps.
#[test]
fn exit_as_last_of_queue_and_namespace_killed_at_each_step_successor_works() {
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
            tx.send(99).unwrap();
            drop(tx);
            assert_eq!((rx.recv(), rx.recv()), (Ok(99), Err(RecvError::Closed)));
            let plan = Namespace::builder().mutex("lock", 0_u64).max_participants(1).directory(names);
            assert!(plan.open("space").unwrap().mutex::<u64>("lock").unwrap().lock().is_ok());
        },
    );
    swept.covers(8, 4);
}
