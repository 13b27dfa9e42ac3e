//! How a command fails: a sentence for people, an exit code for scripts.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;
use tombolo::ErrorKind;

#[derive(Debug)]
pub enum Failure {
    Error(String),
    Usage(String),
    PeerDied(String),
    TimedOut(String),
    /// The end was reached, but without some messages.
    Missed(String),
    NoKey(String),
    /// Holds the number of the signal.
    Interrupted(u8),
    /// The reader of standard output has closed it.
    OutputClosed,
}

impl Failure {
    /// An error of the operating system; `action` completes "cannot ...".
    pub fn io(action: impl Display, error: &io::Error) -> Self {
        Self::Error(format!("cannot {action}: {error}"))
    }

    /// A failed write to the output. A reader that left early is not worth a message.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::io("write the output", error),
        }
    }

    /// Prints the message and returns the exit code.
    pub fn report(&self) -> ExitCode {
        let (code, message) = match self {
            Self::Error(message) => (1, message),
            Self::Usage(message) => (2, message),
            Self::PeerDied(message) => (3, message),
            Self::TimedOut(message) => (4, message),
            Self::Missed(message) => (5, message),
            Self::NoKey(message) => (6, message),
            Self::Interrupted(signal) => return ExitCode::from(128 + signal),
            Self::OutputClosed => {
                // Die of SIGPIPE, as `cat` does. Rust ignores the signal at first, so that the
                // endpoints could be closed before this.
                let _ = emulate_default_handler(SIGPIPE);
                return ExitCode::FAILURE;
            }
        };
        print_message(message);
        ExitCode::from(code)
    }
}

/// Prints a line to standard error. Ignores errors: the exit code still tells what happened.
pub fn print_message(message: impl Display) {
    let _ = writeln!(io::stderr(), "tombolo: {message}");
}

impl From<tombolo::Error> for Failure {
    fn from(error: tombolo::Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidName | ErrorKind::InvalidOptions => Self::Usage(error.to_string()),
            _ => Self::Error(error.to_string()),
        }
    }
}
