//! How a command ends when it does not end well: a sentence for people, an exit code for scripts.

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
    /// By this signal.
    Interrupted(u8),
    /// Nobody reads our output any more.
    OutputClosed,
}

impl Failure {
    /// An operating system's refusal, with what was being done.
    pub fn io(doing: impl Display, error: &io::Error) -> Self {
        Self::Error(format!("cannot {doing}: {error}"))
    }

    /// A failed write, which is no news if the reader has had enough.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::io("write the output", error),
        }
    }

    pub fn report(&self) -> ExitCode {
        let (code, message) = match self {
            Self::Error(message) => (1, message),
            Self::Usage(message) => (2, message),
            Self::PeerDied(message) => (3, message),
            Self::TimedOut(message) => (4, message),
            Self::Interrupted(signal) => return ExitCode::from(128 + signal),
            Self::OutputClosed => {
                // End like `cat`. Rust programs start with SIGPIPE ignored, so that the pipe could be left properly first.
                let _ = emulate_default_handler(SIGPIPE);
                return ExitCode::FAILURE;
            }
        };
        say(message);
        ExitCode::from(code)
    }
}

/// Prints a line to standard error. If that fails, the exit code has to do.
pub fn say(message: impl Display) {
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
