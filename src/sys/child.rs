//! A child on its way from fork to the first lines of its `main`.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::event::{PollFd, PollFlags, poll};

/// What a child does before it executes its program.
pub(crate) struct Preparation {
    /// The descriptors that it keeps.
    pub(crate) keep: Vec<RawFd>,
    /// A file to whose first eight bytes it writes its pid.
    pub(crate) pid_file: RawFd,
    /// A pipe by whose hang-up it is killed.
    pub(crate) killed_by: Option<RawFd>,
    /// A file that becomes its standard output. That number means its standard output then.
    pub(crate) stdout: Option<RawFd>,
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
            kill_at_hang_up(pipe)?; // child-2
        }
        if let Some(other) = self.stdout {
            let stdout = control(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3)?;
            for (from, to) in [(other, libc::STDOUT_FILENO), (stdout, other)] {
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

/// Has the kernel kill this process when nobody can write to the pipe any more. Ends it if that is
/// so already.
///
/// That needs no thread that waits, reaches a stopped process, and does not depend on the thread
/// that forked this one, as `PR_SET_PDEATHSIG` does. It survives `execve`, and holds as long as the
/// descriptor is open in this process.
fn kill_at_hang_up(pipe: RawFd) -> io::Result<()> {
    control(pipe, F_SETSIG, libc::SIGKILL)?;
    control(pipe, libc::F_SETOWN, std::process::id() as libc::c_int)?;
    control(pipe, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK)?;
    control(pipe, libc::F_SETFD, 0)?;
    // After that: whatever hangs up from now on is seen by the kernel.
    // SAFETY: open, as the calls above have shown.
    let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
    if has_hung_up(pipe)? {
        // SAFETY: ends this process.
        unsafe { libc::_exit(libc::EXIT_FAILURE) };
    }
    Ok(())
}

fn has_hung_up(pipe: BorrowedFd<'_>) -> io::Result<bool> {
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

/// Keeps a pipe open until this process ends, for [`Preparation::killed_by`]. Its own children do
/// not get it.
pub(crate) fn keep_until_end(pipe: RawFd) -> bool {
    control(pipe, libc::F_SETFD, libc::FD_CLOEXEC).is_ok()
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

/// Runs `action` while this thread blocks all signals, so that a thread which it starts gets none
/// that are for the program.
pub(crate) fn without_signals<R>(action: impl FnOnce() -> R) -> R {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: sets the mask that was.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
        }
    }
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the first call fills `all`, and the second fills `before`. Neither fails with such
    // arguments.
    let _restore = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
        Restore(before.assume_init())
    };
    action()
}

/// Creates a file in memory that processes read and write by calls.
pub(crate) fn create_report(name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?)
}
