//! The subjects. A new one is a file here and a line in `all`.

mod array_queue;
mod bare;
mod bus;
mod crossbeam_channel;
mod disruptor;
mod futex;
#[cfg(feature = "iceoryx2")]
mod iceoryx2;
mod kanal;
mod mmap_sync;
mod parking_lot;
mod pipe;
mod posix_mq;
mod pthread;
mod rtrb;
mod seqlock;
mod seqpacket;
mod shaq;
mod shaq4;
mod stage;
mod std;
mod tokio;
mod tombolo;

use ::std::hint::spin_loop;
use ::std::iter;

use crate::case::Case;
use crate::harness::payload::{Check, Fill, Message};
use crate::harness::pin;
use crate::mpmc::Reader;
use crate::subject::Subject;

use stage::Stage;

/// In the order of the tables.
pub fn all() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(tombolo::Tombolo),
        Box::new(tombolo::Pipe),
        Box::new(tombolo::Threads),
        Box::new(tombolo::Writer),
        Box::new(tombolo::Bounded),
        Box::new(rtrb::Rtrb),
        Box::new(array_queue::ArrayQueue),
        Box::new(crossbeam_channel::CrossbeamChannel),
        Box::new(kanal::Kanal),
        Box::new(shaq::Shaq),
        Box::new(shaq4::Shaq4),
        Box::new(bus::Bus),
        Box::new(tokio::Tokio),
        Box::new(disruptor::Disruptor),
        #[cfg(feature = "iceoryx2")]
        Box::new(iceoryx2::Iceoryx2),
        Box::new(posix_mq::PosixMq),
        Box::new(pipe::Pipe),
        Box::new(seqpacket::SeqPacket),
        Box::new(futex::Futex),
        Box::new(mmap_sync::MmapSync),
        Box::new(seqlock::SeqLock),
        Box::new(bare::Copy),
        Box::new(bare::Xadd),
        Box::new(pthread::Plain),
        Box::new(pthread::Robust),
        Box::new(pthread::Semaphores),
        Box::new(parking_lot::ParkingLot),
        Box::new(std::Std),
    ]
}

// One end of a queue. The type decides how messages pass through it.

struct One<T>(T);
struct Batch<T, W>(T, Stage<W>);
struct InPlace<T>(T);
struct Spinning<T>(T);
struct Blocking<T>(T);

/// An object on cache lines of its own.
#[repr(align(128))]
struct Isolated<T>(T);

/// Whether a queue whose users wait in turn, without yielding, makes progress: each one that is
/// preempted holds up all others.
fn can_keep_order(case: &Case) -> bool {
    case.participants() <= 4 * pin::available().len()
}

/// Offers a message until the queue takes it.
fn retry<M>(mut message: M, mut push: impl FnMut(M) -> Result<(), M>) -> usize {
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

/// Sends messages one by one, where a queue cannot take several at once.
fn send_each<M: Message>(batch: usize, fill: &mut Fill, mut send: impl FnMut(M)) {
    for _ in 0..batch {
        send(M::new(fill));
    }
}

/// Returns an attempt to send a message; `push` returns the message if the queue is full.
fn offer<M>(message: M, mut push: impl FnMut(M) -> Result<(), M>) -> impl FnMut() -> bool {
    let mut message = Some(message);
    move || {
        message = message.take().and_then(|message| push(message).err());
        message.is_none()
    }
}

/// Reads up to `batch` messages, where a queue cannot return several at once.
fn receive_each<M: Message>(batch: usize, reader: &mut Reader, receive: impl FnMut() -> Option<M>) -> usize {
    iter::from_fn(receive).take(batch).map(|message| reader.read(message.words())).count()
}

/// Runs `$run` with `$M` as the type of that many words.
macro_rules! with_type_of {
    ($words:expr, $M:ident => $run:expr, $($n:literal $type:ty),*) => {
        match $words {
            $($n => {
                type $M = $type;
                $run
            })*
            words => unreachable!("no case has {words} words"),
        }
    };
}

/// Runs `$run` with `$M` as the message of an SPSC case.
macro_rules! with_spsc_message {
    ($case:expr, $M:ident => $run:expr) => {
        $crate::subjects::with_type_of!($case.words(), $M => $run,
            1 [u64; 1], 8 [u64; 8], 32 [u64; 32], 128 [u64; 128], 512 [u64; 512],
            8192 Box<[u64; 8192]>, 131072 Box<[u64; 131072]>)
    };
}

/// Runs `$run` with `$M` as the message of an MPMC case: values inline, byte messages in a box.
macro_rules! with_mpmc_message {
    ($case:expr, $M:ident => $run:expr) => {
        if $case.work == $crate::case::Work::Bytes {
            $crate::subjects::with_type_of!($case.words(), $M => $run,
                2 Box<[u64; 2]>, 8 Box<[u64; 8]>, 32 Box<[u64; 32]>, 128 Box<[u64; 128]>, 512 Box<[u64; 512]>,
                8192 Box<[u64; 8192]>, 131072 Box<[u64; 131072]>, 2097152 Box<[u64; 2097152]>)
        } else {
            $crate::subjects::with_type_of!($case.words(), $M => $run, 1 [u64; 1], 8 [u64; 8])
        }
    };
}

/// Runs `$run` with `$N` as the words of the case's value.
macro_rules! with_words {
    ($case:expr, $N:ident => $run:expr) => {
        $crate::subjects::with_words!($case, $N => $run, 1 8 32 128 512)
    };
    ($case:expr, $N:ident => $run:expr, $($words:literal)*) => {
        match $case.words() {
            $($words => {
                const $N: usize = $words;
                $run
            })*
            words => unreachable!("no value of {words} words"),
        }
    };
}

/// Runs `$run` with `$M` as the message of a broadcast.
macro_rules! with_broadcast_message {
    ($case:expr, $M:ident => $run:expr) => {
        $crate::subjects::with_type_of!($case.words(), $M => $run, 1 [u64; 1], 8 [u64; 8], 128 [u64; 128])
    };
}

use {with_broadcast_message, with_mpmc_message, with_spsc_message, with_type_of, with_words};
