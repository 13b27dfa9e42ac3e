//! A child on its way from fork to the first lines of its `main`.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// What a child does before it executes its program.
pub(crate) struct Preparation {
    /// The descriptors that it keeps.
    pub(crate) keep: Vec<RawFd>,
    /// A file to whose first eight bytes it writes its pid.
    pub(crate) pid_file: RawFd,
    /// A pipe by whose hang-up it is killed.
    pub(crate) killed_by: Option<RawFd>,
    /// What becomes its standard output, and the number under which it gets the other one.
    pub(crate) stdout: Option<(RawFd, RawFd)>,
}

/// Makes the child of `command` prepare itself. The command is for one child, and the descriptors
/// stay open until it is spawned.
pub(crate) fn prepare(command: &mut Command, preparation: Preparation) {
    // SAFETY: between fork and exec it makes system calls only, which are async-signal-safe. It
    // allocates and frees nothing: an `io::Error` of a number is the number.
    unsafe { command.pre_exec(move || preparation.run()) };
}

impl Preparation {
    fn run(&self) -> io::Result<()> {
        for &descriptor in &self.keep {
            control(descriptor, libc::F_SETFD, 0)?;
        }
        // child-1: forked
        let pid = u64::from(std::process::id()).to_ne_bytes();
        // SAFETY: reads the eight bytes.
        if unsafe { libc::pwrite(self.pid_file, pid.as_ptr().cast(), pid.len(), 0) } != pid.len() as isize {
            return Err(io::Error::last_os_error());
        }
        if let Some(pipe) = self.killed_by {
            control(pipe, libc::F_SETFD, 0)?;
            if is_killed_at_hang_up(pipe, std::process::id())? {
                // SAFETY: ends this process.
                unsafe { libc::_exit(libc::EXIT_FAILURE) };
            } // child-2
        }
        if let Some((replacement, stdout)) = self.stdout {
            for (from, to) in [(libc::STDOUT_FILENO, stdout), (replacement, libc::STDOUT_FILENO)] {
                // SAFETY: the numbers are ours to change: this process has only this thread.
                if unsafe { libc::dup2(from, to) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        Ok(())
    }
}

fn control(descriptor: RawFd, request: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: the requests used here take a number; a bad descriptor is an error, not a danger.
    let answer = unsafe { libc::fcntl(descriptor, request, argument) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Has the kernel kill a process when nobody can write to the pipe any more. Returns whether that
/// is so already.
///
/// That needs no thread that waits, reaches a stopped process, and does not depend on the thread
/// that forked it, as `PR_SET_PDEATHSIG` does. It survives `execve`, and holds as long as the
/// description is open in that process. Doing it once more, in either process, changes nothing.
pub(crate) fn is_killed_at_hang_up(pipe: RawFd, pid: u32) -> io::Result<bool> {
    control(pipe, F_SETSIG, libc::SIGKILL)?;
    control(pipe, libc::F_SETOWN, pid as libc::c_int)?;
    control(pipe, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK)?;
    // After that: whatever hangs up from now on is seen by the kernel.
    // SAFETY: open, as the calls above have shown.
    let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
    let mut polled = [PollFd::from_borrowed_fd(pipe, PollFlags::empty())];
    Ok(poll(&mut polled, Some(&Default::default()))? == 1)
}

/// Not in every version of the libc crate. Linux 2.4, <asm-generic/fcntl.h>.
const F_SETSIG: libc::c_int = 10;

/// In a child: makes the number mean nothing again, and the file under it its standard output.
/// Returns whether it could.
pub(crate) fn restore_stdout(descriptor: RawFd) -> bool {
    if descriptor <= libc::STDERR_FILENO || control(descriptor, libc::F_GETFD, 0).is_err() {
        return false;
    }
    // SAFETY: open, and left by our parent for this. Nothing else here knows the number.
    let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // SAFETY: standard output stays open, as another file.
    unsafe { libc::dup2(file.as_raw_fd(), libc::STDOUT_FILENO) >= 0 }
}

/// Removes a variable from the environment of this process.
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: for the beginning of `main`, as `process::init` says, when no other thread reads the
    // environment outside of std.
    unsafe { std::env::remove_var(name) };
}

/// Gives this process its name as `ps` and `top` show it: the first 15 bytes.
pub(crate) fn set_name(name: &[u8]) {
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Kills a child that nobody has waited for, and waits for it.
pub(crate) fn kill_and_wait(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
        while let Err(Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
    }
}

/// Returns whether children of this thread are in another PID namespace than it is.
pub(crate) fn has_children_elsewhere() -> bool {
    let namespace = |name| fs::metadata(name).map(|file| file.ino()).ok();
    namespace("/proc/thread-self/ns/pid") != namespace("/proc/thread-self/ns/pid_for_children")
}

/// Creates a file in memory that processes read and write by calls.
pub(crate) fn create_report(name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?)
}
