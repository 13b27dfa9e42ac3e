//! What the sweeps have in common: plans, newcomers, and what a victim left behind.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tombolo::inspect::{ObjectInfo, ParticipantStatus, RegionInfo};
use tombolo::sync::{LockError, LockResult};
use tombolo::{Directory, Namespace, NamespaceBuilder, WaitStrategy};

use crate::support::{SharedCounters, fork, until};
use crate::sweep::{NAME, nested_guard};

/// Two words that belong together.
pub type Pair = [u64; 2];

pub const AT_ONCE: Duration = Duration::ZERO;
pub const BRIEFLY: Duration = Duration::from_millis(60);
pub const LONG: Duration = Duration::from_secs(60);

/// The longest time that a waiter sleeps without a liveness check.
pub const SLEEP: Duration = Duration::from_millis(20);

/// How many system calls of a wait are swept; later ones repeat these.
pub const WAIT_CALLS: usize = 10;

pub fn pair(number: u64) -> Pair {
    [number, !number]
}

pub fn number(pair: Pair) -> u64 {
    assert_eq!(pair[1], !pair[0], "torn");
    pair[0]
}

/// So few participants that a newcomer takes the place of the dead one. Waits sleep at once, so
/// that each victim takes the same steps.
pub fn plan_for(participants: usize, names: &Path) -> NamespaceBuilder {
    Namespace::builder().max_participants(participants).wait(WaitStrategy::Park).directory(names)
}

/// What a victim left behind, before any repair.
pub struct CrashState(pub RegionInfo);

impl CrashState {
    pub fn of(names: &Path) -> Self {
        Self(Directory::at(names).inspect(NAME).unwrap())
    }

    /// The PID of the dead process.
    pub fn pid(&self) -> Option<u64> {
        self.0
            .participants
            .iter()
            .find(|participant| participant.status == ParticipantStatus::Dead)
            .map(|dead| dead.pid)
    }

    pub fn object(&self, name: &str) -> &ObjectInfo {
        self.0.objects.iter().find(|object| object.name == name).unwrap()
    }

    /// Whether the victim died with that lock.
    pub fn held(&self, name: &str) -> bool {
        let holder = self.object(name).holder;
        holder.is_some() && holder == self.pid()
    }

    /// Whether the victim died as a reader of that lock, with permits of that semaphore, or at that
    /// barrier.
    pub fn used(&self, name: &str) -> bool {
        self.pid().is_some_and(|pid| self.object(name).users.contains(&pid))
    }
}

/// The guard, and whether an owner died.
pub fn guard_and_death<G>(result: LockResult<G>) -> (G, bool) {
    match result {
        Ok(guard) => (guard, false),
        Err(LockError::OwnerDied(guard)) => (guard, true),
        Err(error) => panic!("{error}"),
    }
}

/// Runs `act` in a process that joins, and then leaves.
pub fn newcomer(plan: NamespaceBuilder, act: impl FnOnce(&Namespace)) {
    fork(&nested_guard(), || {
        let namespace = plan.must_exist().open(NAME).unwrap();
        act(&namespace);
    })
    .finish();
}

/// Runs `act` in a process that joins, and then dies without leaving.
pub fn dead_participant(plan: NamespaceBuilder, act: impl FnOnce(&'static Namespace)) {
    fork(&nested_guard(), || act(open_leaked(plan))).finish();
}

/// A namespace that stays open until its process ends.
pub fn open_leaked(plan: NamespaceBuilder) -> &'static Namespace {
    Box::leak(Box::new(plan.open(NAME).unwrap()))
}

/// Repeats `attempt` for up to a second: the no-barging bit of a dead waiter holds newcomers back
/// for a moment.
pub fn within_a_second<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut got = None;
    let begun = Instant::now();
    until(|| {
        got = attempt();
        got.is_some() || begun.elapsed() > Duration::from_secs(1)
    });
    got.expect("no waiter is left")
}

/// The state as in ps(1): R is running, S sleeping, Z a zombie.
pub fn state_of(pid: u64) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('Z')
}

/// Whether all of its threads have ended: only then has the kernel freed its file locks.
pub fn is_gone(pid: u64) -> bool {
    state_of(pid) == 'Z' && fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) <= 1
}

pub fn counters(names: &Path) -> SharedCounters {
    SharedCounters::at(&names.with_file_name("counters"))
}
