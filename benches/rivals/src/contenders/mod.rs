//! Who takes part. A new contender is a file here and a line in `all`.

mod array_queue;
mod crossbeam_channel;
mod futex;
#[cfg(feature = "iceoryx2")]
mod iceoryx2;
mod mpsc;
mod pipe;
mod rtrb;
mod seqpacket;
mod shaq;
mod shaq4;
mod tombolo;

use std::hint::spin_loop;
use std::mem::MaybeUninit;
use std::slice;

use anyhow::Result;

use crate::case::Case;
use crate::duel::{Job, Sample};
use crate::harness::payload::{Check, Fill, Message, Words};

pub trait Contender {
    fn name(&self) -> &'static str;
    fn can(&self, case: &Case) -> bool;
    /// Hands its queue to `job.threads` or `job.processes`.
    fn run(&self, job: &Job) -> Result<Sample>;
}

/// In the order of the tables.
pub fn all() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(tombolo::Tombolo),
        Box::new(rtrb::Rtrb),
        Box::new(array_queue::ArrayQueue),
        Box::new(crossbeam_channel::Channel),
        Box::new(mpsc::SyncChannel),
        Box::new(shaq::Shaq),
        Box::new(shaq4::Shaq4),
        #[cfg(feature = "iceoryx2")]
        Box::new(iceoryx2::Iceoryx2),
        Box::new(pipe::Pipe),
        Box::new(seqpacket::SeqPacket),
        Box::new(futex::Futex),
    ]
}

/// Removes what a run that is cut short would leave behind.
pub fn clean_up() {
    #[cfg(feature = "iceoryx2")]
    iceoryx2::sweep();
}

// One end of a queue; the type says how messages pass through it.

struct One<T>(T);
struct Batch<T, W>(T, Stage<W>);
struct InPlace<T>(T);
struct Blocking<T>(T);

/// A side's own memory, for queues that messages are copied into and out of.
struct Stage<W>(Box<[MaybeUninit<W>]>);

impl<W: Words> Stage<W> {
    fn new(case: &Case) -> Self {
        Self(Box::new_zeroed_slice(case.lot()))
    }

    fn room(&mut self, lot: usize) -> &mut [MaybeUninit<W>] {
        &mut self.0[..lot]
    }

    fn messages(&self, lot: usize) -> &[W] {
        // SAFETY: zeros at first, whole messages later.
        unsafe { self.0[..lot].assume_init_ref() }
    }

    fn messages_mut(&mut self, lot: usize) -> &mut [W] {
        // SAFETY: as above.
        unsafe { self.0[..lot].assume_init_mut() }
    }

    fn bytes(&mut self, lot: usize) -> &mut [u8] {
        let room = self.room(lot);
        // SAFETY: as above; any bytes make words, and words have no padding.
        unsafe { slice::from_raw_parts_mut(room.as_mut_ptr().cast(), size_of_val(room)) }
    }

    fn fill(&mut self, lot: usize, fill: &mut Fill) {
        self.room(lot).iter_mut().for_each(|slot| fill.write(slot));
    }

    fn check(&self, lot: usize, check: &mut Check) {
        self.messages(lot).iter().for_each(|message| check.read(message));
    }
}

/// Offers a message until the queue takes it.
fn insist<M>(mut message: M, mut push: impl FnMut(M) -> Result<(), M>) -> usize {
    while let Err(refused) = push(message) {
        message = refused;
        spin_loop();
    }
    1
}

/// Reads a message that was taken by value.
fn take<M: Message, E>(message: Result<M, E>, check: &mut Check) -> usize {
    message.map_or(0, |message| {
        check.read(message.words());
        1
    })
}

/// Runs `$run` with `$M` as the message type of the case's size.
macro_rules! with_message {
    ($case:expr, $M:ident => $run:expr) => {
        with_message!($case, $M => $run,
            1 [u64; 1], 8 [u64; 8], 32 [u64; 32], 128 [u64; 128], 512 [u64; 512],
            8192 Box<[u64; 8192]>, 131072 Box<[u64; 131072]>)
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
