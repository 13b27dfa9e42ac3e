//! SIGINT, SIGTERM and SIGHUP, as a flag to check between two waits.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// The number of the last signal, or 0.
#[derive(Clone)]
pub struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Starts to watch. The first signal sets the flag; a second one ends the process at once.
    pub fn watch() -> Result<Self, Failure> {
        let register = || -> io::Result<Arc<AtomicUsize>> {
            let signal = Arc::new(AtomicUsize::new(0));
            let seen = Arc::new(AtomicBool::new(false));
            let ignored = ignored();
            for number in [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|number| ignored >> (number - 1) & 1 == 0) {
                // Handlers run in order of registration. With `seen` set first, the first signal
                // would already shut down.
                flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&seen))?;
                flag::register(number, Arc::clone(&seen))?;
                flag::register_usize(number, Arc::clone(&signal), number.unsigned_abs() as usize)?;
            }
            Ok(signal)
        };
        register().map(Self).map_err(|error| Failure::io("watch for signals", &error))
    }

    pub fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Failure::Interrupted(signal.try_into().unwrap_or(u8::MAX))),
        }
    }
}

/// Makes sure that the system reports how children ended. It does not if SIGCHLD is ignored, which
/// can be inherited.
pub fn keep_exit_statuses() -> Result<(), Failure> {
    flag::register(SIGCHLD, Arc::default()).map(drop).map_err(|error| Failure::io("watch for signals", &error))
}

/// The signals that the program was started with as ignored, as `nohup` does. Bit N - 1 stands for
/// signal N.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
