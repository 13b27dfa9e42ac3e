//! The sweeps of `sweep.rs`, of an operation on an object of a namespace.

use std::path::Path;
use std::time::Duration;

use tombolo::{Namespace, NamespaceBuilder};

use crate::common::{AT_ONCE, CrashState, LONG, WAIT_CALLS, newcomer, open_leaked, plan_for, state_of};
use crate::support::{Process, fork, until};
use crate::sweep::{NAME, SweepCounts, nested_guard, sweep, sweep_first};

/// Sweeps an operation twice. In the first sweep the survivor checks the object after a death, in
/// the second one a newcomer. In the end it must work for both.
pub fn sweep_object<O: FnOnce()>(
    plan: impl Fn(NamespaceBuilder) -> NamespaceBuilder,
    prepare: impl Fn(&'static Namespace) -> O,
    check_first: impl Fn(&Namespace, &CrashState),
    check_works: impl Fn(&Namespace),
) -> SweepCounts {
    sweep_object_first(usize::MAX, plan, prepare, check_first, check_works)
}

/// Like [`sweep_object`], for the first `calls` system calls of an operation that does not end.
pub fn sweep_object_first<O: FnOnce()>(
    calls: usize,
    plan: impl Fn(NamespaceBuilder) -> NamespaceBuilder,
    prepare: impl Fn(&'static Namespace) -> O,
    check_first: impl Fn(&Namespace, &CrashState),
    check_works: impl Fn(&Namespace),
) -> SweepCounts {
    let plan = |names: &Path| plan(plan_for(2, names));
    let round = |newcomer_first: bool| {
        sweep_first(
            calls,
            |names| plan(names).open(NAME).unwrap(),
            |names| prepare(open_leaked(plan(names))),
            |names, survivor| {
                let crash = CrashState::of(names);
                if !newcomer_first {
                    check_first(&survivor, &crash);
                    check_works(&survivor);
                }
                newcomer(plan(names), |namespace| {
                    if newcomer_first {
                        check_first(namespace, &crash);
                    }
                    check_works(namespace);
                });
                check_works(&survivor);
                assert!(CrashState::of(names).pid().is_none(), "the dead participant is still there");
            },
        )
    };
    let (one, other) = (round(false), round(true));
    SweepCounts { calls: one.calls.min(other.calls), changes: one.changes.min(other.changes) }
}

/// Sweeps what ends the sleep of another process. That one must wake up, if need be after `rescue`
/// by the survivor.
pub fn sweep_beside_sleeper<O: FnOnce()>(
    plan: impl Fn(NamespaceBuilder) -> NamespaceBuilder,
    sleep: impl Fn(&Namespace),
    prepare: impl Fn(&'static Namespace) -> O,
    rescue: impl Fn(&Namespace, &CrashState),
    check_works: impl Fn(&Namespace),
) -> SweepCounts {
    let plan = |names: &Path| plan(plan_for(3, names)).atomic("ready", 0_u64).atomic("sleeper", 0_u64);
    sweep(
        |names| {
            let survivor = plan(names).open(NAME).unwrap();
            let sleeper = fork(&nested_guard(), || {
                let namespace = plan(names).open(NAME).unwrap();
                let ready = namespace.atomic::<u64>("ready").unwrap();
                until(|| ready.load() != 0);
                namespace.atomic("sleeper").unwrap().store(u64::from(std::process::id()));
                sleep(&namespace);
            });
            (survivor, sleeper)
        },
        |names| {
            let namespace = open_leaked(plan(names));
            let operation = prepare(namespace);
            namespace.atomic("ready").unwrap().store(1_u64);
            let sleeper = namespace.atomic::<u64>("sleeper").unwrap();
            until(|| sleeper.load() != 0 && state_of(sleeper.load()) == 'S');
            operation
        },
        |names, (survivor, sleeper): (Namespace, Process)| {
            rescue(&survivor, &CrashState::of(names));
            sleeper.finish();
            check_works(&survivor);
            newcomer(plan(names), &check_works);
            check_works(&survivor);
        },
    )
}

/// Sweeps a wait for what the survivor holds, and a wait that times out. Once released, all
/// processes can get the object, even without waiting.
pub fn sweep_wait<T>(
    plan: impl Fn(NamespaceBuilder) -> NamespaceBuilder,
    take: impl Fn(&Namespace) -> T,
    wait: impl Fn(&Namespace, Duration) -> bool,
    give: impl Fn(&Namespace, T),
    check_works: impl Fn(&Namespace),
) -> SweepCounts {
    let plan = |names: &Path| plan(plan_for(2, names));
    let round = |patience: Duration| {
        sweep_first(
            WAIT_CALLS,
            |names| {
                let survivor = plan(names).open(NAME).unwrap();
                let taken = take(&survivor);
                (survivor, taken)
            },
            |names| {
                let namespace = open_leaked(plan(names));
                let wait = &wait;
                move || assert!(!wait(namespace, patience))
            },
            |names, (survivor, taken)| {
                give(&survivor, taken);
                check_works(&survivor);
                newcomer(plan(names), &check_works);
                check_works(&survivor);
            },
        )
    };
    round(AT_ONCE).covers(1, 0);
    round(LONG)
}
