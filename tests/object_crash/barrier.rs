//! `Barrier`: waits are cut off.

use std::time::Duration;

use tombolo::sync::SyncError;

use crate::common::{AT_ONCE, BRIEFLY, LONG, WAIT_CALLS};
use crate::objects::{all_wait, barrier_of};
use crate::support::until;
use crate::sweep::SweepCounts;
use crate::sweeps::{sweep_beside_sleeper, sweep_object_first};

/// raw/barrier.rs ns-barrier-1, -2.
fn sweep_wait_as_first(calls: usize, patience: Duration) -> SweepCounts {
    sweep_object_first(
        calls,
        |plan| plan.barrier("barrier", 3),
        |namespace| {
            let barrier = barrier_of(namespace);
            move || assert_eq!(barrier.wait_timeout(patience), Err(SyncError::TimedOut))
        },
        |namespace, crash| {
            let pid = crash.pid().unwrap();
            let barrier = barrier_of(namespace);
            let outcome = barrier.wait_timeout(BRIEFLY).unwrap_err();
            let is_broken = outcome == SyncError::BarrierBroken { pid };
            // It may have been killed before it was counted.
            let may_be_late = crash.object("barrier").state == "0 of 3 have arrived";
            assert!(
                is_broken || may_be_late && outcome == SyncError::TimedOut,
                "{outcome}, {:?}",
                crash.object("barrier")
            );
            assert!(is_broken || !crash.used("barrier"));
            assert!(barrier.is_broken());
        },
        |namespace| all_wait(namespace, 3),
    )
}

#[test]
fn barrier_wait_as_first_killed_others_get_broken() {
    sweep_wait_as_first(WAIT_CALLS, LONG).covers(WAIT_CALLS, 3);
}

#[test]
fn barrier_wait_timeout_killed_others_get_broken() {
    sweep_wait_as_first(usize::MAX, AT_ONCE).covers(0, 3);
}

/// raw/barrier.rs M3.
#[test]
fn barrier_wait_as_last_killed_all_agree_on_outcome() {
    const MET: u64 = 1;
    let code = |result: Result<_, SyncError>| match result {
        Ok(_) => MET,
        Err(SyncError::BarrierBroken { pid }) => pid,
        Err(error) => panic!("{error}"),
    };
    let swept = sweep_beside_sleeper(
        |plan| plan.barrier("barrier", 2).atomic("outcome", 0_u64),
        |namespace| {
            let result = barrier_of(namespace).wait();
            namespace.atomic("outcome").unwrap().store(code(result.map(drop)));
        },
        |namespace| {
            let barrier = barrier_of(namespace);
            move || assert!(barrier.wait().unwrap().is_leader())
        },
        |survivor, crash| {
            let theirs = survivor.atomic::<u64>("outcome").unwrap();
            if crash.object("barrier").state == "0 of 2 have arrived" {
                until(|| theirs.load() != 0);
                assert_eq!(theirs.load(), MET);
                return;
            }
            // The victim was not counted: either its death breaks the barrier, or the survivor
            // takes its place.
            let ours = code(barrier_of(survivor).wait().map(drop));
            until(|| theirs.load() != 0);
            assert_eq!(theirs.load(), ours);
            assert!(ours == MET || Some(ours) == crash.pid());
        },
        |namespace| all_wait(namespace, 2),
    );
    swept.covers(1, 3);
}
