use std::fs::File;
use std::marker::PhantomData;

use anyhow::Result;
use tombolo::pipe::{self, ByteReceiver, ByteSender, PipeEndpoint, Receiver, Sender, ZeroCopyReceiver, ZeroCopySender};
use tombolo::{Endpoint, WaitStrategy};

use crate::case::{Case, Transfer};
use crate::harness::payload::{Check, Fill, Message, Words};
use crate::link::Link;
use crate::sample::Sample;
use crate::shared_memory;
use crate::spsc::{self, Rx, Tx};
use crate::subject::Job;
use crate::subjects::stage::Stage;
use crate::subjects::{Batch, InPlace};

pub fn run<M: Message>(job: &Job) -> Result<Sample> {
    let case = &job.case;
    match case.transfer {
        // Messages that do not fit the stack go as bytes.
        Transfer::One | Transfer::Batch if case.is_large() => {
            spsc::processes::<Queue<Bytes<ByteSender, M::Words>, Bytes<ByteReceiver, M::Words>>>(job)
        }
        Transfer::One => {
            spsc::processes::<Queue<Copying<Sender<M::Words>, M::Words>, Copying<Receiver<M::Words>, M::Words>>>(job)
        }
        Transfer::Batch => {
            spsc::processes::<Queue<Batch<Sender<M::Words>, M::Words>, Batch<Receiver<M::Words>, M::Words>>>(job)
        }
        Transfer::InPlace | Transfer::InPlaceBatch => {
            spsc::processes::<Queue<InPlace<ZeroCopySender<M::Words>>, InPlace<ZeroCopyReceiver<M::Words>>>>(job)
        }
    }
}

/// An end that this file's `Queue` can make for a case.
trait Side: Sized {
    type Endpoint: PipeEndpoint;

    fn options(case: &Case) -> pipe::Options<<Self::Endpoint as Endpoint>::Message>;
    /// Returns the sender and the receiver of a new pipe.
    fn create(case: &Case) -> Result<[File; 2]>;
    fn new(case: &Case, end: Self::Endpoint) -> Result<Self>;
}

fn wait(case: &Case) -> WaitStrategy {
    if case.blocks() { WaitStrategy::SpinThenPark } else { WaitStrategy::Spin }
}

fn values<W: Words>(case: &Case) -> pipe::Options<W> {
    pipe::Options::new().capacity(case.slots).wait(wait(case)).prefault()
}

macro_rules! sides {
    ($($side:ty, $end:ty, |$case:ident, $name:ident| $make:expr;)*) => {
        $(impl<W: Words> Side for $side {
            type Endpoint = $end;

            fn options(case: &Case) -> pipe::Options<W> {
                values(case)
            }

            fn create(case: &Case) -> Result<[File; 2]> {
                let (tx, rx) = values::<W>(case).create()?;
                inheritable(tx, rx)
            }

            fn new($case: &Case, $name: Self::Endpoint) -> Result<Self> {
                $make
            }
        })*
    };
}

sides! {
    Copying<Sender<W>, W>, Sender<W>, |case, end| Ok(Copying(end, Stage::new(case.batch())));
    Copying<Receiver<W>, W>, Receiver<W>, |case, end| Ok(Copying(end, Stage::new(case.batch())));
    Batch<Sender<W>, W>, Sender<W>, |case, end| Ok(Batch(end, Stage::new(case.batch())));
    Batch<Receiver<W>, W>, Receiver<W>, |case, end| Ok(Batch(end, Stage::new(case.batch())));
    // SAFETY: both processes are this program.
    InPlace<ZeroCopySender<W>>, Sender<W>, |_case, end| Ok(InPlace(unsafe { end.into_zero_copy() }?));
    // SAFETY: as above.
    InPlace<ZeroCopyReceiver<W>>, Receiver<W>, |_case, end| Ok(InPlace(unsafe { end.into_zero_copy() }?));
}

/// An end for byte messages, and a message to copy from or to.
struct Bytes<E, W>(E, Stage<W>);

impl<W: Words> Side for Bytes<ByteSender, W> {
    type Endpoint = ByteSender;

    fn options(case: &Case) -> pipe::Options<[u8]> {
        pipe::Options::bytes().capacity_bytes(case.slots * case.size).wait(wait(case)).prefault()
    }

    fn create(case: &Case) -> Result<[File; 2]> {
        let (tx, rx) = Self::options(case).create()?;
        inheritable(tx, rx)
    }

    fn new(case: &Case, end: ByteSender) -> Result<Self> {
        Ok(Self(end, Stage::new(case.batch())))
    }
}

impl<W: Words> Side for Bytes<ByteReceiver, W> {
    type Endpoint = ByteReceiver;

    fn options(case: &Case) -> pipe::Options<[u8]> {
        Bytes::<ByteSender, W>::options(case)
    }

    fn create(case: &Case) -> Result<[File; 2]> {
        Bytes::<ByteSender, W>::create(case)
    }

    fn new(case: &Case, end: ByteReceiver) -> Result<Self> {
        Ok(Self(end, Stage::new(case.batch())))
    }
}

/// Both ends, as the descriptors that carry them.
struct Queue<T, R> {
    case: Case,
    tx: File,
    rx: File,
    sides: PhantomData<(T, R)>,
}

fn inheritable(tx: impl Endpoint, rx: impl Endpoint) -> Result<[File; 2]> {
    let tx = shared_memory::inheritable(File::from(tx.into_fd()?))?;
    let rx = shared_memory::inheritable(File::from(rx.into_fd()?))?;
    Ok([tx, rx])
}

impl<T: Side + Tx, R: Side + Rx> Link for Queue<T, R> {
    type Tx = T;
    type Rx = R;

    fn create(case: &Case) -> Result<Self> {
        let [tx, rx] = T::create(case)?;
        Ok(Self { case: *case, tx, rx, sides: PhantomData })
    }

    fn address(&self) -> String {
        shared_memory::address([&self.tx, &self.rx])
    }

    fn open(case: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left these descriptors to us alone.
        let [tx, rx] = unsafe { shared_memory::inherited(address) }?;
        Ok(Self { case: *case, tx, rx, sides: PhantomData })
    }

    fn tx(&self) -> Result<T> {
        T::new(&self.case, T::options(&self.case).from_fd(self.tx.try_clone()?.into())?)
    }

    fn rx(&self) -> Result<R> {
        R::new(&self.case, R::options(&self.case).from_fd(self.rx.try_clone()?.into())?)
    }
}

/// Copies a message in, or out, one at a time; small ones by value.
struct Copying<E, W>(E, Stage<W>);

const fn is_small<W>() -> bool {
    size_of::<W>() <= 128
}

impl<W: Words> Tx for Copying<Sender<W>, W> {
    #[inline]
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        if is_small::<W>() {
            self.0.send(fill.message::<W>()).expect("the receiver is there");
            return 1;
        }
        self.1.fill(1, fill);
        let message = &self.1.messages(1)[0];
        self.0.send(message).expect("the receiver is there");
        1
    }
}

impl<W: Words> Rx for Copying<Receiver<W>, W> {
    #[inline]
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        if is_small::<W>() {
            check.read(&self.0.recv().expect("the sender is there"));
            return 1;
        }
        self.0.recv_into(&mut self.1.messages(1)[0]).expect("the sender is there");
        self.1.check(1, check);
        1
    }
}

impl<W: Words> Tx for Batch<Sender<W>, W> {
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize {
        let mut rest = &*self.1.fill(batch, fill);
        while !rest.is_empty() {
            rest = &rest[self.0.send_many(rest).expect("the receiver is there")..];
        }
        batch
    }
}

impl<W: Words> Rx for Batch<Receiver<W>, W> {
    fn receive(&mut self, batch: usize, check: &mut Check) -> usize {
        let count = self.0.recv_many(self.1.messages(batch)).expect("the sender is there");
        self.1.check(count, check);
        count
    }
}

impl<W: Words> Tx for InPlace<ZeroCopySender<W>> {
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize {
        let mut slots = self.0.reserve(batch).expect("the receiver is there");
        let count = slots.len();
        for slot in slots.iter_mut() {
            fill.overwrite(slot);
        }
        slots.commit(count);
        count
    }
}

impl<W: Words> Rx for InPlace<ZeroCopyReceiver<W>> {
    fn receive(&mut self, batch: usize, check: &mut Check) -> usize {
        let values = self.0.peek(batch).expect("the sender is there");
        let count = values.len();
        values.iter().for_each(|message| check.read(message));
        values.release();
        count
    }
}

impl<W: Words> Tx for Bytes<ByteSender, W> {
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize {
        for message in self.1.fill(batch, fill) {
            self.0.send(bytemuck::bytes_of(message)).expect("the receiver is there");
        }
        batch
    }
}

impl<W: Words> Rx for Bytes<ByteReceiver, W> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        let message = &mut self.1.messages(1)[0];
        self.0.recv_into(bytemuck::bytes_of_mut(message)).expect("the sender is there");
        self.1.check(1, check);
        1
    }
}
