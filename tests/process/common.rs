//! What the tests of processes share.

use std::fs;
use std::io;
use std::time::Duration;

/// Long enough to show that something does not happen.
pub const SHORT: Duration = Duration::from_millis(100);

/// The descriptors of this process.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The state of a process as /proc shows it, or `None` if it is gone.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: a process that this test has started, and that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0, "{}", io::Error::last_os_error());
}
