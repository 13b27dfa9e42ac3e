//! The standard streams, any of which may have been closed when the program was started.
//!
//! Before `main`, std opens /dev/null in place of a closed standard stream, so that no file opened
//! later gets its number. After that, input seems empty, every write succeeds, and data is lost
//! without an error. Callers also pass /dev/null on purpose, open for both directions (Python's
//! `subprocess.DEVNULL`, Node.js), so the two cases cannot be told apart afterwards. This module
//! looks before std does.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio::{stderr, stdin, stdout};

use crate::failure::Failure;

/// Which standard streams were closed at the start, by descriptor number.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

extern "C" fn record_closed() {
    for (closed, stream) in CLOSED.iter().zip([stdin(), stdout(), stderr()]) {
        closed.store(fcntl_getfd(stream) == Err(Errno::BADF), Ordering::Relaxed);
    }
}

// SAFETY: The loader calls each function in this section once, before `main`, on the only thread
// there is. It passes arguments that a function without parameters ignores. `record_closed` needs
// nothing that std prepares in or before `main`: it makes three system calls, stores to a static,
// and cannot panic.
#[unsafe(link_section = ".init_array")]
#[used]
static RECORD_CLOSED: extern "C" fn() = record_closed;

/// Whether this standard stream was closed at the start. False for other descriptors.
fn was_closed(number: usize) -> bool {
    CLOSED.get(number).is_some_and(|closed| closed.load(Ordering::Relaxed))
}

/// Returns an error if the descriptor is a standard stream that the caller of the program closed.
pub fn check(number: usize) -> Result<(), Failure> {
    match NAMES.get(number) {
        Some(name) if was_closed(number) => {
            Err(Failure::Error(format!("{name} is closed; redirect it to /dev/null if you do not need it")))
        }
        _ => Ok(()),
    }
}

/// Checks that standard output can be written. Commands that print call this before anything else.
pub fn check_output() -> Result<(), Failure> {
    check(1)?;
    check_writable(stdout(), NAMES[1])
}

/// Returns standard input, open for reading.
pub fn input() -> Result<File, Failure> {
    check(0)?;
    if access_mode(stdin()) == OFlags::WRONLY {
        return Err(Failure::Error(format!("{} is not open for reading", NAMES[0])));
    }
    duplicate(stdin(), NAMES[0])
}

/// Returns standard output, open for writing.
pub fn output() -> Result<File, Failure> {
    check_output()?;
    duplicate(stdout(), NAMES[1])
}

/// Returns an error if the stream is not open for writing.
pub fn check_writable(stream: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    match access_mode(stream) {
        OFlags::RDONLY => Err(Failure::Error(format!("{name} is not open for writing"))),
        _ => Ok(()),
    }
}

fn access_mode(stream: BorrowedFd<'_>) -> OFlags {
    fcntl_getfl(stream).map_or(OFlags::RDWR, |flags| flags & OFlags::RWMODE)
}

fn duplicate(stream: BorrowedFd<'_>, name: &str) -> Result<File, Failure> {
    stream.try_clone_to_owned().map(File::from).map_err(|error| Failure::io(format_args!("open {name}"), &error))
}
