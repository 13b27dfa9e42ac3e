//! What a child tells its parent: how far it has got, and its last panics. The parent reads that
//! when the child has ended.
//!
//! Each of these is one write, so a child that is killed in the middle has told less, and nothing
//! wrong. Panics do not pile up: each thread that is not the first overwrites what the others told.

use std::any::Any;
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
    /// A panic there ends the process by SIGABRT.
    Aborting(Place),
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
            Self::Aborting(Place::Own) => 5,
            Self::Aborting(Place::Other) => 6,
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
            5 => Self::Aborting(Place::Own),
            6 => Self::Aborting(Place::Other),
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
    let thread = thread.as_deref().map(|thread| cut(thread, REPORT_LEN / 8));
    let record: Record = (thread, cut(source, REPORT_LEN / 8), *line, *column, cut_message(message));
    let Ok(record) = postcard::to_stdvec(&record) else { return };
    let mut bytes = (record.len() as u64).to_ne_bytes().to_vec();
    bytes.extend(record);
    let _ = file::write_all_at(file, &bytes, place.offset());
}

/// Reports a panic that has just begun.
pub(super) fn report_panic(file: &ForkGuardedFd, place: Place, panic: &Panic) {
    let cannot_unwind = |begin: &&str| panic.message.starts_with(begin);
    // These come after the panic that is the cause.
    let is_consequence = ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];
    let is_consequence = is_consequence.iter().any(cannot_unwind);
    if !is_consequence || read_panic(file, place).is_none() {
        write_panic(file, place, panic);
    }
    let checks = ["unsafe precondition(s) violated", "misaligned pointer dereference", "null pointer dereference"];
    if cfg!(panic = "abort") || is_consequence || checks.iter().any(cannot_unwind) {
        State::Aborting(place).write(file);
    }
}

/// Makes the own panic the one that ends the function, by its payload. It need not be the last that
/// was reported: one that `resume_unwind` goes on with, as that of a thread, is not reported again.
pub(super) fn attribute_panic(file: &ForkGuardedFd, payload: &(dyn Any + Send)) {
    let message = message_of(payload);
    // A record has the beginning of the message.
    let is_of = |panic: &Panic| panic.message == cut_message(&message);
    if read_panic(file, Place::Own).is_some_and(|panic| is_of(&panic)) {
        return;
    }
    let elsewhere = read_panic(file, Place::Other).filter(is_of);
    let unknown = Panic { thread: None, file: String::new(), line: 0, column: 0, message };
    write_panic(file, Place::Own, &elsewhere.unwrap_or(unknown));
}

/// Room for the rest of the record: a letter has up to four bytes.
fn cut(text: &str, limit: u64) -> String {
    text.chars().take(limit as usize / 4).collect()
}

fn cut_message(message: &str) -> String {
    cut(message, REPORT_LEN / 2)
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

fn message_of(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text.to_string(),
        (_, Some(text)) => text.clone(),
        _ => "a panic with a value that is no text".to_string(),
    }
}

pub(super) fn describe(info: &PanicHookInfo<'_>) -> Panic {
    let message = message_of(info.payload());
    let place = info.location();
    Panic {
        thread: thread::current().name().map(String::from),
        file: place.map_or_else(String::new, |place| place.file().to_string()),
        line: place.map_or(0, |place| place.line()),
        column: place.map_or(0, |place| place.column()),
        message,
    }
}
