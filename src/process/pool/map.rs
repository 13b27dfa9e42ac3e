//! One function, applied to what an iterator yields.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::process::function::{JobFunction, encode_bytes};
use crate::process::pool::error::JobError;
use crate::process::pool::results::{Outcome, Results, Wanted};
use crate::process::pool::shared::{Chunk, Job, Shared};
use crate::process::pool::supervisor::MAX_MESSAGE_BYTES;
use crate::transfer;

/// How many chunks each worker gets of an iterator whose length is known: more than one, since some
/// take longer. As in Python's `multiprocessing`.
const CHUNKS_PER_WORKER: usize = 4;

/// The largest chunk by default.
const MAX_CHUNK: usize = 256;

/// How many chunks may be in flight by default, for each worker.
const CHUNKS_IN_FLIGHT: usize = 4;

/// The jobs of an iterator: those that have begun or wait, and the rest of the iterator.
struct Jobs<'a, I> {
    shared: &'a Shared,
    function: Result<JobFunction>,
    /// `None`: it has ended.
    inputs: Option<I>,
    results: Arc<Results>,
    chunk_size: Option<usize>,
    in_flight: Option<usize>,
    submitted: u64,
    returned: u64,
}

impl<'a, I: Iterator> Jobs<'a, I> {
    fn new(shared: &'a Shared, function: Result<JobFunction>, inputs: I) -> Self {
        Self {
            shared,
            function,
            inputs: Some(inputs),
            results: Arc::new(Results::new()),
            chunk_size: None,
            in_flight: None,
            submitted: 0,
            returned: 0,
        }
    }

    /// Returns the result of the next job, or of any, and its number.
    fn next(&mut self, is_ordered: bool) -> Option<(u64, Outcome)>
    where
        I::Item: Serialize,
    {
        if !self.shared.is_from_this_process() {
            // Once. Nothing in here can be used.
            let has_next = self.inputs.take().is_some() || self.returned < self.submitted;
            let number = self.returned;
            self.returned = self.submitted;
            return has_next.then_some((number, Err(JobError::Forked)));
        }
        let wanted = if is_ordered { Wanted::Number(self.returned) } else { Wanted::Any };
        self.submit(wanted);
        if self.returned == self.submitted {
            return None;
        }
        let taken = self.results.take(wanted);
        let number = self.returned;
        self.returned += 1;
        Some(taken.unwrap_or_else(|error| (number, Err(error))))
    }

    /// Submits chunks while there is room for them, and at least one if there is none.
    ///
    /// An iterator of unknown length may block until it has its next item. So it is not asked while
    /// there is a result to return, unless the chunk size says that one job matters little.
    fn submit(&mut self, wanted: Wanted)
    where
        I::Item: Serialize,
    {
        let processes = self.shared.settings.processes;
        // Taken out: if the program's code panics in here, there are no more.
        while let Some(mut inputs) = self.inputs.take() {
            let may_block = self.chunk_size.is_none_or(|size| size == 1) && !is_exact(inputs.size_hint());
            let chunk_size = *self.chunk_size.get_or_insert_with(|| default_chunk_size(inputs.size_hint(), processes));
            let limit = self.in_flight.unwrap_or(processes.saturating_mul(chunk_size).saturating_mul(CHUNKS_IN_FLIGHT));
            let in_flight = self.in_flight();
            let is_full = in_flight > 0 && in_flight.saturating_add(chunk_size) > limit;
            if is_full || may_block && self.results.is_ready(wanted) {
                self.inputs = Some(inputs);
                return;
            }
            let (mut chunk, mut refused) = (Chunk::new(), Vec::new());
            let mut number = self.submitted;
            for arguments in inputs.by_ref().take(chunk_size) {
                match encode(&self.function, &arguments) {
                    Ok(message) => chunk.push_back(Job::new(message, &self.results, number)),
                    Err(error) => refused.push((number, Err(error))),
                }
                number += 1;
            }
            let is_whole = number - self.submitted == chunk_size as u64;
            self.submitted = number;
            self.results.push(refused);
            let is_accepted = chunk.is_empty() || self.shared.enqueue(chunk);
            if is_whole && is_accepted {
                self.inputs = Some(inputs);
            }
        }
    }

    fn in_flight(&self) -> usize {
        usize::try_from(self.submitted - self.returned).unwrap_or(usize::MAX)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let upper = self.inputs.as_ref().map_or(Some(0), |inputs| inputs.size_hint().1);
        let in_flight = self.in_flight();
        // No more if the pool ends.
        (in_flight, upper.and_then(|upper| upper.checked_add(in_flight)))
    }
}

/// Nobody waits for the results any more. What no worker has does not begin.
impl<I> Drop for Jobs<'_, I> {
    fn drop(&mut self) {
        if self.shared.is_from_this_process() && self.returned < self.submitted {
            self.shared.abandon(&self.results);
        }
    }
}

/// A quarter of each worker's share if the length is known, otherwise 1: then a job may be worth
/// waiting for, as when the iterator receives its items.
fn default_chunk_size(size_hint: (usize, Option<usize>), processes: usize) -> usize {
    if !is_exact(size_hint) {
        return 1;
    }
    size_hint.0.div_ceil(processes.saturating_mul(CHUNKS_PER_WORKER).max(1)).clamp(1, MAX_CHUNK)
}

/// Whether an iterator with this `size_hint` knows its length.
fn is_exact((lower, upper): (usize, Option<usize>)) -> bool {
    upper == Some(lower)
}

/// Returns the message of a job.
pub(super) fn encode<A: Serialize>(function: &Result<JobFunction>, arguments: &A) -> Result<Vec<u8>, JobError> {
    let refuse = |error: &Error| JobError::Arguments(error.to_string());
    let function = function.as_ref().map_err(refuse)?;
    let mut message = encode_bytes(arguments).map_err(|error| refuse(&error))?;
    message.extend(function.to_bytes());
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(JobError::Arguments(format!(
            "found {} bytes, expected at most {MAX_MESSAGE_BYTES}; pass a part, or the name of an object or a file",
            message.len()
        )));
    }
    Ok(message)
}

pub(super) fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Result<R, JobError> {
    transfer::decode(bytes, Vec::new()).map_err(|error| JobError::Result(error.to_string()))
}

/// An iterator and its options, as [`ProcessPool::map`](super::ProcessPool::map) and
/// [`map_unordered`](super::ProcessPool::map_unordered) return it.
macro_rules! map_iterator {
    ($(#[$doc:meta])* $Map:ident, $is_ordered:expr, $Item:ty, $item:expr) => {
        $(#[$doc])*
        ///
        /// Dropping it cancels those jobs that no worker has. The rest of a chunk that a worker has
        /// runs, and its results are dropped.
        #[must_use = "jobs are submitted when the iterator is asked for a result"]
        pub struct $Map<'a, I, A, R> {
            jobs: Jobs<'a, I>,
            function: PhantomData<fn(A) -> R>,
        }

        impl<'a, I, A, R> $Map<'a, I, A, R>
        where
            I: Iterator<Item = A>,
            A: Serialize + DeserializeOwned,
            R: Serialize + DeserializeOwned,
        {
            pub(super) fn new(shared: &'a Shared, function: fn(A) -> R, inputs: I) -> Self {
                Self { jobs: Jobs::new(shared, JobFunction::locate(function), inputs), function: PhantomData }
            }

            /// Sets how many jobs a worker gets at once; 0 is taken as 1. The default is the
            /// length of the iterator divided by four times the number of workers, at most 256, and
            /// 1 if the iterator does not know its length.
            ///
            /// Small jobs are faster in chunks. Each result comes back as soon as its job has
            /// ended, but other workers cannot take the rest of a chunk.
            pub fn chunk_size(mut self, jobs: usize) -> Self {
                self.jobs.chunk_size = Some(jobs.max(1));
                self
            }

            /// Sets how many jobs may be submitted whose results have not been returned: by
            /// default, four chunks for each worker. One chunk always may.
            ///
            /// So that much of the iterator is taken ahead, and that many results are kept.
            ///
            /// The iterator of arguments may block, as when it receives them. If it does not know
            /// its length and the chunk size is 1, a result that is there is returned before it is
            /// asked for more. If none is there it is asked, and a result that comes meanwhile
            /// waits until it answers. With 1 in flight, each result is returned before the next
            /// arguments are taken.
            pub fn in_flight(mut self, jobs: usize) -> Self {
                self.jobs.in_flight = Some(jobs);
                self
            }
        }

        impl<I, A, R> Iterator for $Map<'_, I, A, R>
        where
            I: Iterator<Item = A>,
            A: Serialize + DeserializeOwned,
            R: Serialize + DeserializeOwned,
        {
            type Item = $Item;

            /// Submits jobs while there is room, and blocks until a result is there.
            fn next(&mut self) -> Option<Self::Item> {
                let (number, outcome) = self.jobs.next($is_ordered)?;
                let result = outcome.and_then(|bytes| decode(&bytes));
                Some($item(number, result))
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.jobs.size_hint()
            }
        }

        /// An iterator of arguments that has ended is not asked again.
        impl<I, A, R> FusedIterator for $Map<'_, I, A, R>
        where
            I: Iterator<Item = A>,
            A: Serialize + DeserializeOwned,
            R: Serialize + DeserializeOwned,
        {
        }

        impl<I, A, R> fmt::Debug for $Map<'_, I, A, R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Map))
                    .field("submitted", &self.jobs.submitted)
                    .field("returned", &self.jobs.returned)
                    .finish_non_exhaustive()
            }
        }
    };
}

map_iterator!(
    /// Results in the order of their arguments.
    Map, true, Result<R, JobError>, |_, result| result
);
map_iterator!(
    /// Results as they come, each with the number of its arguments, from 0.
    MapUnordered, false, (usize, Result<R, JobError>), |number, result| (number as usize, result)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_chunk_size_of_known_length_gives_each_worker_four_chunks() {
        for (length, processes, expected) in [
            (0, 4, 1),
            (1, 4, 1),
            (16, 4, 1),
            (17, 4, 2),
            (1000, 4, 63),
            (usize::MAX, 4, MAX_CHUNK),
            (1, usize::MAX, 1),
        ] {
            assert_eq!(default_chunk_size((length, Some(length)), processes), expected, "{length} for {processes}");
        }
    }

    #[test]
    fn default_chunk_size_of_unknown_length_is_one() {
        assert_eq!(default_chunk_size((1000, None), 4), 1);
        assert_eq!(default_chunk_size((0, Some(1000)), 4), 1);
    }
}
