//! Who takes part. A new contender is a file here and a line in `all`.

mod array_queue;
mod channel;
mod kanal;
mod pipe;
mod posix_mq;
mod shaq;
mod shaq4;
mod tombolo;

use std::iter;

use anyhow::Result;

use crate::case::Case;
use crate::harness::payload::{Fill, Message, Words};
use crate::harness::pin;
use crate::play::{Job, Sample};
use crate::side::Reader;

pub trait Contender {
    fn name(&self) -> &'static str;
    fn can(&self, case: &Case) -> bool;
    /// Hands its queue to `job.alone`, `job.threads` or `job.processes`.
    fn run(&self, job: &Job) -> Result<Sample>;
}

/// Whether a queue whose users wait in turn, without yielding, gets anywhere: each one preempted holds up all others.
fn can_keep_order(case: &Case) -> bool {
    case.participants() <= 4 * pin::available().len()
}

/// In the order of the tables.
pub fn all() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(tombolo::Processes),
        Box::new(tombolo::Threads),
        Box::new(array_queue::ArrayQueue),
        Box::new(channel::Channel),
        Box::new(kanal::Kanal),
        Box::new(shaq::Shaq),
        Box::new(shaq4::Shaq4),
        Box::new(posix_mq::PosixMq),
        Box::new(pipe::Pipe),
    ]
}

// One end of a queue; the type says what it does when it cannot go on.

struct Spinning<T>(T);
struct Blocking<T>(T);

/// A participant's own memory, for queues that messages are copied into and out of.
struct Stage<W>(Box<[W]>);

impl<W: Words> Stage<W> {
    fn new(lot: usize) -> Self {
        // SAFETY: zeros are words.
        Self(unsafe { Box::new_zeroed_slice(lot).assume_init() })
    }

    fn filled(&mut self, lot: usize, fill: &mut Fill) -> &[W] {
        let room = &mut self.0[..lot];
        room.iter_mut().for_each(|slot| fill.overwrite(slot));
        room
    }

    fn room(&mut self, lot: usize) -> &mut [W] {
        &mut self.0[..lot]
    }

    fn bytes(&mut self) -> &mut [u8] {
        bytemuck::bytes_of_mut(&mut self.0[0])
    }

    fn read(&self, count: usize, reader: &mut Reader) -> usize {
        self.0[..count].iter().for_each(|message| reader.read(message));
        count
    }
}

/// Sends messages one by one, where a queue cannot take several at once.
fn each<M: Message>(lot: usize, fill: &mut Fill, mut send: impl FnMut(M)) {
    for _ in 0..lot {
        send(M::new(fill));
    }
}

/// Offers a message until the queue takes it; `push` gives it back if it does not.
fn offer<M>(message: M, mut push: impl FnMut(M) -> Result<(), M>) -> impl FnMut() -> bool {
    let mut message = Some(message);
    move || {
        message = message.take().and_then(|message| push(message).err());
        message.is_none()
    }
}

/// Reads up to `lot` messages, where a queue cannot give several at once.
fn some<M: Message>(lot: usize, reader: &mut Reader, receive: impl FnMut() -> Option<M>) -> usize {
    iter::from_fn(receive).take(lot).map(|message| reader.read(message.words())).count()
}

/// Runs `$run` with `$M` as the message of the case: values inline, others boxed.
macro_rules! with_message {
    ($case:expr, $M:ident => $run:expr) => {
        if $case.work == $crate::case::Work::Bytes {
            with_message!($case, $M => $run,
                2 Box<[u64; 2]>, 8 Box<[u64; 8]>, 32 Box<[u64; 32]>, 128 Box<[u64; 128]>, 512 Box<[u64; 512]>,
                8192 Box<[u64; 8192]>, 131072 Box<[u64; 131072]>, 2097152 Box<[u64; 2097152]>)
        } else {
            with_message!($case, $M => $run, 1 [u64; 1], 8 [u64; 8])
        }
    };
    ($case:expr, $M:ident => $run:expr, $($words:literal $type:ty),*) => {
        match $case.words() {
            $($words => {
                type $M = $type;
                $run
            })*
            words => unreachable!("no message of {words} words"),
        }
    };
}
use with_message;
