//! Keeps the two sides on two CPUs.

use std::{io, mem};

pub const PRODUCER: usize = 0;
pub const CONSUMER: usize = 1;

/// Binds the calling thread to one CPU; panics if the kernel refuses.
pub fn pin(cpu: usize) {
    // SAFETY: an all-zero set is a valid empty one, and it outlives the call.
    let status = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    let error = io::Error::last_os_error();
    assert_eq!(status, 0, "cannot pin to CPU {cpu}: {error}");
}

/// Returns whether this thread may use both CPUs.
pub fn have_both() -> bool {
    [PRODUCER, CONSUMER].iter().all(|cpu| available().contains(cpu))
}

/// Returns the CPUs that the calling thread may use.
pub fn available() -> Vec<usize> {
    // SAFETY: as in `pin`; the kernel fills the set in, or leaves it empty.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &mut set);
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}
