//! Ctrl-C and its like, as a flag to look at between two waits.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

pub struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// From here on the first signal asks us to leave; a second one ends us where we are.
    pub fn watch() -> Result<Self, Failure> {
        let watching = || -> io::Result<Arc<AtomicUsize>> {
            let signal = Arc::new(AtomicUsize::new(0));
            let again = Arc::new(AtomicBool::new(false));
            let ignored = ignored();
            for number in [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|number| ignored >> (number - 1) & 1 == 0) {
                // In this order, or the first signal would already find `again` set.
                flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
                flag::register(number, Arc::clone(&again))?;
                flag::register_usize(number, Arc::clone(&signal), number.unsigned_abs() as usize)?;
            }
            Ok(signal)
        };
        watching().map(Self).map_err(|error| Failure::io("watch for signals", &error))
    }

    pub fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Failure::Interrupted(signal.try_into().unwrap_or(u8::MAX))),
        }
    }
}

/// The signals that the caller of this program wants ignored, as `nohup` does: bit N - 1 stands for signal N.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
