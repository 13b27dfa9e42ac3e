//! What a pool and its workers tell each other, each through one byte pipe.
//!
//! ```text
//! to a worker      a chunk: the message of each job, then an empty message
//!   a job          arguments, function (`JobFunction`)
//! from a worker    a reply
//!   a reply        content, its kind in the last byte
//! ```
//!
//! The kind comes last so that a large result is not moved when it is taken off.

use crate::error::Error;
use crate::process::error::Panic;
use crate::process::function::JobOutcome;

/// What a worker tells.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// The initializer has run, and the worker waits for jobs.
    Ready,
    /// The initializer has failed, and the worker ends. The text is the reason.
    InitializerFailed(String),
    /// The worker has received a chunk. From now on a death is counted against its first job.
    Taken,
    /// The serialised result of the next job of the chunk.
    Returned(Vec<u8>),
    /// The next job has panicked.
    Panicked(Panic),
    /// The arguments of the next job cannot be deserialised.
    ArgumentsRefused(String),
    /// The result of the next job cannot be serialised, or is too large.
    ResultRefused(String),
    /// Before a job: the last panics until now.
    Survived(LastPanics),
}

/// The last panics of a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LastPanics {
    /// Of the thread that runs the jobs.
    pub(super) own: Option<Panic>,
    /// Of all other threads.
    pub(super) other: Option<Panic>,
}

/// The fields of a [`Panic`].
type PanicRecord = (Option<String>, String, u32, u32, String);

fn record(Panic { thread, file, line, column, message }: Panic) -> PanicRecord {
    (thread, file, line, column, message)
}

fn from_record((thread, file, line, column, message): PanicRecord) -> Panic {
    Panic { thread, file, line, column, message }
}

impl Reply {
    pub(super) fn encode(self) -> Vec<u8> {
        let (mut bytes, kind) = match self {
            Self::Ready => (Vec::new(), 0),
            Self::InitializerFailed(text) => (text.into_bytes(), 1),
            Self::Taken => (Vec::new(), 2),
            Self::Returned(result) => (result, 3),
            Self::Panicked(panic) => (postcard::to_stdvec(&record(panic)).unwrap_or_default(), 4),
            Self::ArgumentsRefused(text) => (text.into_bytes(), 5),
            Self::ResultRefused(text) => (text.into_bytes(), 6),
            Self::Survived(LastPanics { own, other }) => {
                (postcard::to_stdvec(&[own, other].map(|panic| panic.map(record))).unwrap_or_default(), 7)
            }
        };
        bytes.push(kind);
        bytes
    }

    /// `None`: no worker sends this.
    pub(super) fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let kind = bytes.pop()?;
        let text = |bytes| String::from_utf8(bytes).ok();
        Some(match kind {
            0 if bytes.is_empty() => Self::Ready,
            1 => Self::InitializerFailed(text(bytes)?),
            2 if bytes.is_empty() => Self::Taken,
            3 => Self::Returned(bytes),
            4 => Self::Panicked(from_record(postcard::from_bytes(&bytes).ok()?)),
            5 => Self::ArgumentsRefused(text(bytes)?),
            6 => Self::ResultRefused(text(bytes)?),
            7 => {
                let panics: [Option<PanicRecord>; 2] = postcard::from_bytes(&bytes).ok()?;
                let [own, other] = panics.map(|panic| panic.map(from_record));
                Self::Survived(LastPanics { own, other })
            }
            _ => return None,
        })
    }
}

impl From<JobOutcome> for Reply {
    fn from(outcome: JobOutcome) -> Self {
        let text = |error: Error| error.to_string();
        match outcome {
            JobOutcome::Returned(result) => Self::Returned(result),
            JobOutcome::ArgumentsRefused(error) => Self::ArgumentsRefused(text(error)),
            JobOutcome::ResultRefused(error) => Self::ResultRefused(text(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_encoded_decodes_as_itself() {
        let panic = Panic { thread: None, file: "a.rs".into(), line: 7, column: 1, message: "x".into() };
        for reply in [
            || Reply::Ready,
            || Reply::InitializerFailed("why".into()),
            || Reply::Taken,
            || Reply::Returned(vec![1, 2, 3]),
            || Reply::ArgumentsRefused(String::new()),
            || Reply::ResultRefused("too large".into()),
        ] {
            assert_eq!(Reply::decode(reply().encode()), Some(reply()));
        }
        assert_eq!(Reply::decode(Reply::Panicked(panic.clone()).encode()), Some(Reply::Panicked(panic.clone())));
        let panics = || LastPanics { own: None, other: Some(panic.clone()) };
        assert_eq!(Reply::decode(Reply::Survived(panics()).encode()), Some(Reply::Survived(panics())));
    }

    #[test]
    fn reply_of_arbitrary_bytes_is_refused_or_kept() {
        assert_eq!(Reply::decode(Vec::new()), None);
        assert_eq!(Reply::decode(vec![8]), None);
        assert_eq!(Reply::decode(vec![0, 0]), None, "Ready has no content");
        assert_eq!(Reply::decode(vec![0xFF, 1]), None, "no text");
        assert_eq!(Reply::decode(vec![0xFF, 4]), None, "no panic");
        assert_eq!(Reply::decode(vec![0, 7]), None, "one panic of two");
    }
}
