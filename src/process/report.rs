//! What a child tells its parent: how far it has got, and its last panics. The parent reads that
//! when the child has ended.
//!
//! Each of these is one write, so a child that is killed in the middle has told less, and nothing
//! wrong. Panics do not pile up: each thread that is not the first overwrites what the others told.

use std::panic::PanicHookInfo;
use std::thread;

use crate::process::error::Panic;
use crate::process::start::{OTHER_PANIC, OWN_PANIC, REPORT_LEN, STATE, read_word};
use crate::sys::file;
use crate::sys::fork::ForkGuardedFd;

/// How far a child has got. The code is in the lowest byte of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not called `init`.
    Spawned,
    /// `init` has read what to do.
    Started,
    /// The function has returned, and the process exits with this code.
    Returned(u8),
    /// The function has panicked.
    Panicked,
    /// `init` could not run the function. It tells why.
    Refused,
}

impl State {
    pub(super) fn write(self, file: &ForkGuardedFd) {
        let word = match self {
            Self::Spawned => 0,
            Self::Started => 1,
            Self::Returned(code) => 2 | u64::from(code) << 8,
            Self::Panicked => 3,
            Self::Refused => 4,
        };
        // If it fails the parent learns less.
        let _ = file::write_word_at(file, word, STATE);
    }

    pub(super) fn read(file: &ForkGuardedFd) -> Self {
        let word = read_word(file, STATE).unwrap_or_default();
        match word & 0xFF {
            0 => Self::Spawned,
            2 => Self::Returned((word >> 8) as u8),
            3 => Self::Panicked,
            4 => Self::Refused,
            _ => Self::Started,
        }
    }
}

/// Whose panic it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Of the thread that runs the function.
    Own,
    /// Of another thread.
    Other,
}

impl Place {
    fn offset(self) -> u64 {
        match self {
            Self::Own => OWN_PANIC,
            Self::Other => OTHER_PANIC,
        }
    }
}

/// Thread, file, line, column, message.
type Record = (Option<String>, String, u32, u32, String);

pub(super) fn write_panic(file: &ForkGuardedFd, place: Place, panic: &Panic) {
    let Panic { thread, file: source, line, column, message } = panic;
    // Room for the rest of the record.
    let cut = |text: &str, limit: u64| text.chars().take(limit as usize / 4).collect::<String>();
    let thread = thread.as_deref().map(|thread| cut(thread, REPORT_LEN / 8));
    let record: Record = (thread, cut(source, REPORT_LEN / 8), *line, *column, cut(message, REPORT_LEN / 2));
    let Ok(record) = postcard::to_stdvec(&record) else { return };
    let mut bytes = (record.len() as u64).to_ne_bytes().to_vec();
    bytes.extend(record);
    let _ = file::write_all_at(file, &bytes, place.offset());
}

pub(super) fn read_panic(file: &ForkGuardedFd, place: Place) -> Option<Panic> {
    let length = read_word(file, place.offset()).ok().filter(|&length| 0 < length && length <= REPORT_LEN - 8)?;
    let mut record = vec![0; length as usize];
    file::read_exact_at(file, &mut record, place.offset() + 8).ok()?;
    let (thread, source, line, column, message): Record = postcard::from_bytes(&record).ok()?;
    Some(Panic { thread, file: source, line, column, message })
}

/// Tells why the function cannot run.
pub(super) fn refuse(file: &ForkGuardedFd, reason: &str) {
    let reason = Panic { thread: None, file: String::new(), line: 0, column: 0, message: reason.to_string() };
    write_panic(file, Place::Own, &reason);
    State::Refused.write(file);
}

pub(super) fn describe(info: &PanicHookInfo<'_>) -> Panic {
    let payload = info.payload();
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text.to_string(),
        (_, Some(text)) => text.clone(),
        _ => "a panic with a value that is no text".to_string(),
    };
    let place = info.location();
    Panic {
        thread: thread::current().name().map(String::from),
        file: place.map_or_else(String::new, |place| place.file().to_string()),
        line: place.map_or(0, |place| place.line()),
        column: place.map_or(0, |place| place.column()),
        message,
    }
}
