//! One CPU for each process: a time is worth more if the scheduler did not move anybody meanwhile.

use std::fs;
use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two CPUs that we may use, of different cores if there are such.
pub fn pick_two() -> Option<(usize, usize)> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let first = cpus.next()?;
    let others: Vec<usize> = cpus.collect();
    let apart = others.iter().copied().find(|&cpu| core(cpu).is_none_or(|core_of| Some(core_of) != core(first)));
    Some((first, apart.or_else(|| others.first().copied())?))
}

/// The hardware threads that share a core with this one, as the system writes it; none if it does not say.
fn core(cpu: usize) -> Option<String> {
    fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")).ok()
}

pub fn share_a_core(one: usize, other: usize) -> bool {
    core(one).is_some_and(|core_of| Some(core_of) == core(other))
}

pub fn pin(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}
