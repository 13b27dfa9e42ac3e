//! Open-file-description locks on bytes (`fcntl(2)`, F_OFD_*).
//!
//! The kernel frees them when the last descriptor of the description is closed, at the latest when
//! the process ends. Unlike classic record locks they survive the closing of other descriptors of
//! the same file. The bytes need not exist in the file, and locking does not change it.

#![allow(unsafe_code)]

#[cfg(feature = "__test-hooks")]
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

#[cfg(feature = "__test-hooks")]
thread_local! {
    /// The number of calls that this thread has made, for tests.
    pub(crate) static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Attempts to lock one byte exclusively. Returns false if another description holds the lock.
/// Locking again what this description holds succeeds.
pub(crate) fn try_lock(file: impl AsFd, byte: u64) -> io::Result<bool> {
    try_lock_all(file, byte, 1)
}

/// Attempts to lock all these bytes at once. Returns false, and locks none, if another description
/// holds any of them.
pub(crate) fn try_lock_all(file: impl AsFd, start: u64, length: u64) -> io::Result<bool> {
    match call(file, libc::F_OFD_SETLK, libc::F_WRLCK, start, length) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn unlock(file: impl AsFd, byte: u64) -> io::Result<()> {
    call(file, libc::F_OFD_SETLK, libc::F_UNLCK, byte, 1).map(drop)
}

/// Returns whether a description other than that of `file` holds the byte.
pub(crate) fn is_locked_elsewhere(file: impl AsFd, byte: u64) -> io::Result<bool> {
    is_locked_elsewhere_in(file, byte, 1)
}

/// Returns whether a description other than that of `file` holds any of these bytes. Length 0 means
/// all from `start` on. The kernel checks all of them at one moment.
pub(crate) fn is_locked_elsewhere_in(file: impl AsFd, start: u64, length: u64) -> io::Result<bool> {
    locked_elsewhere_in(file, start, length).map(|byte| byte.is_some())
}

/// Returns the first byte of a lock that another description holds within those bytes, if there is
/// one. Of several locks it may be any.
///
/// Only exclusive locks count. A process that may only read the file can take shared ones, and must
/// not be able to make a dead participant look alive.
pub(crate) fn locked_elsewhere_in(file: impl AsFd, start: u64, length: u64) -> io::Result<Option<u64>> {
    let lock = call(file, libc::F_OFD_GETLK, libc::F_RDLCK, start, length)?;
    let is_locked = libc::c_int::from(lock.l_type) != libc::F_UNLCK;
    Ok(is_locked.then(|| u64::try_from(lock.l_start).unwrap_or(start).max(start)))
}

fn call(file: impl AsFd, command: libc::c_int, kind: libc::c_int, start: u64, length: u64) -> io::Result<libc::flock> {
    #[cfg(feature = "__test-hooks")]
    CALLS.set(CALLS.get() + 1);
    // SAFETY: all zeros is a valid flock. OFD commands require l_pid = 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = start.try_into().map_err(io::Error::other)?;
    lock.l_len = length.try_into().map_err(io::Error::other)?;
    loop {
        // SAFETY: the descriptor is live, and the flock is valid and outlives the call.
        if unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &mut lock) } == 0 {
            return Ok(lock);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
