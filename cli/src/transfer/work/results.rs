//! Where the output of the commands goes: each whole, whatever other runs print.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tombolo::queue::ByteSender;
use tombolo::{Endpoint, SendError};

use super::super::rendezvous::CHECK_INTERVAL;
use crate::failure::Failure;
use crate::location::BLOCK_LEN;

pub enum Results {
    Output(Mutex<File>),
    Queue {
        name: String,
        /// `None` after the end.
        tx: Mutex<Option<Box<ByteSender>>>,
        timeout: Option<Duration>,
    },
}

impl Results {
    /// Returns false if it gave up because of `is_stopped`.
    pub fn deliver(&self, output: &[u8], is_stopped: impl Fn() -> bool) -> Result<bool, Failure> {
        match self {
            Self::Output(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(output).map_err(|error| Failure::output(&error))?;
                Ok(true)
            }
            Self::Queue { name, tx, timeout } => {
                let started = Instant::now();
                let mut attempt = CHECK_INTERVAL;
                loop {
                    let mut tx = tx.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(tx) = tx.as_mut().filter(|_| !is_stopped()) else { return Ok(false) };
                    match tx.send_timeout(output, attempt) {
                        Ok(()) => return Ok(true),
                        Err(SendError::TimedOut) => {}
                        Err(error) => return Err(Failure::Error(format!("cannot send to {name:?}: {error}"))),
                    }
                    if timeout.is_some_and(|timeout| started.elapsed() >= timeout) {
                        return Err(Failure::TimedOut(format!("nobody took the results ({name:?}) in time")));
                    }
                    if output.len() > BLOCK_LEN {
                        attempt *= 2; // a long message starts again after each
                    }
                }
            }
        }
    }

    /// Leaves the queue. Without success, its receivers are told that a sender died: what they have
    /// is incomplete.
    pub fn end(&self, is_success: bool) {
        if let Self::Queue { tx, .. } = self {
            let tx = tx.lock().unwrap_or_else(PoisonError::into_inner).take();
            match tx {
                Some(tx) if !is_success => drop((*tx).abandon()),
                tx => drop(tx),
            }
        }
    }
}
