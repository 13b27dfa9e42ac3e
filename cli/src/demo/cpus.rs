//! Pins each process to a CPU, so that the scheduler cannot disturb the times by moving them.

use std::fs;
use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Returns two CPUs that this process may use, on different cores if possible.
pub fn pick_two() -> Option<(usize, usize)> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let first = cpus.next()?;
    let others: Vec<usize> = cpus.collect();
    let other_core = others.iter().copied().find(|&cpu| !share_a_core(cpu, first));
    Some((first, other_core.or_else(|| others.first().copied())?))
}

/// The hardware threads on the same core, as the system writes them. `None` if it does not say.
fn siblings(cpu: usize) -> Option<String> {
    fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")).ok()
}

pub fn share_a_core(one: usize, other: usize) -> bool {
    siblings(one).is_some_and(|cpus| Some(cpus) == siblings(other))
}

pub fn pin(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}
