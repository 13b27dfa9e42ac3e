//! One process is stopped within a batch and another is killed: that death is still repaired.

#![cfg(target_arch = "x86_64")]

mod support;
#[path = "support/sweep.rs"]
mod sweep;

use std::cell::{Cell, RefCell};
use std::mem::forget;
use std::path::Path;
use std::time::Duration;

use sweep::{NAME, kill_after_changes, sweep_stopping};
use tombolo::queue::{self, JoinError};

const CAPACITY: u64 = 8;

fn options(names: &Path) -> queue::Options<u64> {
    queue::Options::<u64>::new().capacity(CAPACITY as usize).max_participants(8).directory(names)
}

type Ends = RefCell<(queue::Sender<u64>, queue::Receiver<u64>)>;

fn ends(names: &Path) -> Ends {
    RefCell::new((options(names).sender(NAME).unwrap(), options(names).receiver(NAME).unwrap()))
}

/// Messages that can be received now.
fn received(rx: &mut queue::Receiver<u64>) -> u64 {
    std::iter::from_fn(|| rx.try_recv().ok().map(|_| rx.task_done().unwrap())).count() as u64
}

/// The slot of the batch's first message is usable again. A receiver claims the message that is in
/// it now, and is killed.
fn die_in_the_first_slot(names: &Path, (tx, rx): &mut (queue::Sender<u64>, queue::Receiver<u64>), first: u64) {
    for n in first..first + CAPACITY / 2 {
        tx.send(n).unwrap();
        assert_eq!(rx.recv_timeout(Duration::from_secs(10)), Ok(n));
        rx.task_done().unwrap();
    }
    tx.send(first).unwrap();
    let receiver = || {
        let mut own = options(names).receiver(NAME).unwrap();
        move || {
            let _ = own.try_recv();
            forget(own);
        }
    };
    assert!(kill_after_changes(names, 2, receiver), "it has its claim after its intent");
}

#[test]
fn queue_sender_stopped_in_batch_other_deaths_are_repaired() {
    let (looked, delayed) = (Cell::new(0), Cell::new(0));
    sweep_stopping(
        ends,
        |names| {
            let mut own = options(names).sender(NAME).unwrap();
            move || {
                let _ = own.try_send_many(&[1, 2, 3, 4]);
                forget(own); // leaving is not swept
            }
        },
        |names, ends| {
            let ends = &mut *ends.borrow_mut();
            if received(&mut ends.1) == 0 {
                return; // the first slot is the batch's own
            }
            die_in_the_first_slot(names, ends, 10);
            drop(options(names).receiver(NAME)); // joining repairs
            looked.set(looked.get() + 1);
            let repaired = ends.0.stats().lost;
            delayed.set(delayed.get() + 1 - repaired);
            if repaired == 1 {
                let joined = ends.0.join_timeout(Duration::from_secs(10));
                assert_eq!(joined, Err(JoinError::TasksLost { count: 1 }), "nothing is left to wait for");
            }
        },
        // What waits would keep the name.
        |_, ends| assert!(ends.borrow_mut().1.close_now().is_ok()),
    );
    if looked.get() > 0 {
        // Between the store of the first message and the next one, which completes its slot.
        assert!(looked.get() >= 6 && delayed.get() <= 1, "{} of {} delayed", delayed.get(), looked.get());
    }
}
