//! The file that a child gets: what to run, and room for what becomes of it.
//!
//! ```text
//! offset     written by    what
//! 0          either        the pid of the child
//! 8          the child     how far it has got (`report.rs`)
//! 16         the parent    its own pid
//! 64         the child     the last panic of its first thread, or why it cannot run the function
//! 16448      the child     the last panic of another thread
//! 32832      the parent    length of the order, length of the arguments, order, arguments
//! ```
//!
//! It is read and written by calls and never mapped, so nothing that happens to it can do harm.

use std::os::fd::{AsFd, RawFd};

use crate::error::{Error, ErrorKind, Result};
use crate::process::function::Function;
use crate::sys::file;
use crate::sys::fork::ForkGuardedFd;

pub(super) const PID: u64 = 0;
pub(super) const STATE: u64 = 8;
pub(super) const PARENT: u64 = 16;
pub(super) const OWN_PANIC: u64 = 64;
pub(super) const OTHER_PANIC: u64 = OWN_PANIC + REPORT_LEN;
pub(super) const REPORT_LEN: u64 = 16 << 10;
const LENGTHS: u64 = OTHER_PANIC + REPORT_LEN;
const ORDER: u64 = LENGTHS + 16;

/// What a child is to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Start {
    pub(super) function: Function,
    pub(super) name: Option<String>,
    /// What the arguments refer to, as `describe_fd` describes it.
    pub(super) descriptors: Vec<String>,
    /// The pipe that ends a daemon, described in the same way.
    pub(super) killed_by: Option<String>,
    /// Where standard output is until the test harness has written its lines.
    pub(super) stdout: Option<RawFd>,
    pub(super) arguments: Vec<u8>,
}

type Order = ((String, u64, u64), Option<String>, Vec<String>, Option<String>, Option<RawFd>);

impl Start {
    pub(super) fn write(self, file: &ForkGuardedFd) -> Result<()> {
        let Function { build, entry, function } = self.function;
        let order: Order = ((build, entry, function), self.name, self.descriptors, self.killed_by, self.stdout);
        let order = postcard::to_stdvec(&order).map_err(|error| corrupt("write", error))?;
        let write = || {
            file::write_word_at(file, u64::from(std::process::id()), PARENT)?;
            file::write_word_at(file, order.len() as u64, LENGTHS)?;
            file::write_word_at(file, self.arguments.len() as u64, LENGTHS + 8)?;
            file::write_all_at(file, &order, ORDER)?;
            file::write_all_at(file, &self.arguments, ORDER + order.len() as u64)
        };
        write().map_err(|error| Error::io("write the arguments of a process", error, "pass less"))
    }

    pub(super) fn read(file: &ForkGuardedFd) -> Result<Self> {
        let failed = |error| Error::io("read what this process is to do", error, "spawn it again");
        let length = file::metadata(file).map_err(failed)?.length;
        let (order_len, arguments_len) =
            (read_word(file, LENGTHS).map_err(failed)?, read_word(file, LENGTHS + 8).map_err(failed)?);
        let end = ORDER.checked_add(order_len).and_then(|end| end.checked_add(arguments_len));
        if end != Some(length) {
            return Err(corrupt("read", format_args!("{length} bytes")));
        }
        let mut order = vec![0; order_len as usize];
        file::read_exact_at(file, &mut order, ORDER).map_err(failed)?;
        let mut arguments = vec![0; arguments_len as usize];
        file::read_exact_at(file, &mut arguments, ORDER + order_len).map_err(failed)?;
        // They may be large, and the file stays. If this fails, they stay, too.
        let _ = file::truncate(file, LENGTHS);
        let order: Order = postcard::from_bytes(&order).map_err(|error| corrupt("read", error))?;
        let ((build, entry, function), name, descriptors, killed_by, stdout) = order;
        Ok(Self { function: Function { build, entry, function }, name, descriptors, killed_by, stdout, arguments })
    }
}

pub(super) fn read_word(file: impl AsFd, offset: u64) -> std::io::Result<u64> {
    let mut word = [0; 8];
    file::read_exact_at(file, &mut word, offset)?;
    Ok(u64::from_ne_bytes(word))
}

fn corrupt(verb: &str, found: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format_args!("{verb} what a process is to do"),
        found,
        "what Process::spawn writes",
        "spawn it with Process::spawn",
    )
}
