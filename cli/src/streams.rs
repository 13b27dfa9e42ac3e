//! The standard streams. Any of them may have been closed when the program was started.
//!
//! std opens /dev/null in place of a closed one before `main`, so that no file opened later gets
//! its number. Then input seems empty, every write succeeds, and data is lost without an error.
//! Afterwards the two cannot be told apart: others open /dev/null for both directions too where
//! they mean it (Python's `subprocess.DEVNULL`, Node.js). So this looks earlier than std.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio::{stderr, stdin, stdout};

use crate::failure::Failure;

/// By number.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

extern "C" fn look() {
    for (closed, stream) in CLOSED.iter().zip([stdin(), stdout(), stderr()]) {
        closed.store(fcntl_getfd(stream) == Err(Errno::BADF), Ordering::Relaxed);
    }
}

// SAFETY: The loader calls each function in this section once, before `main`, on the only thread
// there is. It passes arguments that a function without parameters ignores. `look` needs nothing
// that std prepares in or before `main`: it makes three system calls, stores to a static, and
// cannot panic.
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK: extern "C" fn() = look;

/// Whether this standard stream was closed when the program was started; false of other numbers.
fn was_closed(number: usize) -> bool {
    CLOSED.get(number).is_some_and(|closed| closed.load(Ordering::Relaxed))
}

/// Returns an error if what this descriptor shows is not what the caller of the program passed.
pub fn check(number: usize) -> Result<(), Failure> {
    match NAMES.get(number) {
        Some(name) if was_closed(number) => {
            Err(Failure::Error(format!("{name} is closed; redirect it to /dev/null if you do not need it")))
        }
        _ => Ok(()),
    }
}

/// For commands that print, before they do anything else.
pub fn check_output() -> Result<(), Failure> {
    check(1)?;
    check_writable(stdout(), NAMES[1])
}

/// Standard input, for reading.
pub fn input() -> Result<File, Failure> {
    check(0)?;
    if access(stdin()) == OFlags::WRONLY {
        return Err(Failure::Error(format!("{} is not open for reading", NAMES[0])));
    }
    own(stdin(), NAMES[0])
}

/// Standard output, for writing.
pub fn output() -> Result<File, Failure> {
    check_output()?;
    own(stdout(), NAMES[1])
}

/// Returns an error where every write would fail.
pub fn check_writable(stream: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    match access(stream) {
        OFlags::RDONLY => Err(Failure::Error(format!("{name} is not open for writing"))),
        _ => Ok(()),
    }
}

fn access(stream: BorrowedFd<'_>) -> OFlags {
    fcntl_getfl(stream).map_or(OFlags::RDWR, |flags| flags & OFlags::RWMODE)
}

fn own(stream: BorrowedFd<'_>, name: &str) -> Result<File, Failure> {
    stream.try_clone_to_owned().map(File::from).map_err(|error| Failure::io(format_args!("open {name}"), &error))
}
