use std::fs::File;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use anyhow::Result;
use shaq::spsc::{Consumer, Producer, minimum_file_size};

use crate::case::Case;
use crate::harness::payload::{Check, Fill, Message, Words};
use crate::link::Link;
use crate::sample::Sample;
use crate::shared_memory::{self, memfd};
use crate::spsc::{self, Rx, Tx};
use crate::subject::Job;
use crate::subjects::{InPlace, One, retry};

pub fn run<M: Message>(job: &Job) -> Result<Sample> {
    if job.case.is_by_value() {
        spsc::processes::<Queue<M::Words, One<Producer<M::Words>>>>(job)
    } else {
        spsc::processes::<Queue<M::Words, InPlace<Producer<M::Words>>>>(job)
    }
}

struct Queue<W, T> {
    file: File,
    ends: PhantomData<(W, T)>,
}

impl<W: Words, T: Tx + From<Producer<W>>> Link for Queue<W, T> {
    type Tx = T;
    type Rx = One<Consumer<W>>;

    fn create(case: &Case) -> Result<Self> {
        let file = memfd()?;
        // SAFETY: a new file; this producer is gone before another one joins.
        unsafe { Producer::<W>::create(&file, minimum_file_size::<W>(case.slots)) }?;
        Ok(Self { file, ends: PhantomData })
    }

    fn address(&self) -> String {
        shared_memory::address([&self.file])
    }

    fn open(_: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared_memory::inherited(address) }?;
        Ok(Self { file, ends: PhantomData })
    }

    fn tx(&self) -> Result<T> {
        // SAFETY: one side takes the only producer, and both agree on the type.
        Ok(unsafe { Producer::join(&self.file) }?.into())
    }

    fn rx(&self) -> Result<Self::Rx> {
        // SAFETY: as for the producer.
        Ok(One(unsafe { Consumer::join(&self.file) }?))
    }
}

impl<W> From<Producer<W>> for One<Producer<W>> {
    fn from(producer: Producer<W>) -> Self {
        Self(producer)
    }
}

impl<W> From<Producer<W>> for InPlace<Producer<W>> {
    fn from(producer: Producer<W>) -> Self {
        Self(producer)
    }
}

impl<W: Words> Tx for One<Producer<W>> {
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize {
        for _ in 0..batch {
            retry(fill.message(), |message| {
                self.0.try_write(message).inspect_err(|_| {
                    self.0.commit();
                    self.0.sync();
                })
            });
        }
        self.0.commit();
        batch
    }
}

impl<W: Words> Tx for InPlace<Producer<W>> {
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize {
        let mut sent = 0;
        while sent < batch {
            // SAFETY: the slot is written before it is committed.
            let Some(slot) = (unsafe { self.0.reserve() }) else {
                break;
            };
            // SAFETY: a reserved slot is ours alone until the commit.
            fill.write(unsafe { slot.cast::<MaybeUninit<W>>().as_mut() });
            sent += 1;
        }
        match sent {
            0 => self.0.sync(),
            _ => self.0.commit(),
        }
        sent
    }
}

/// Reads are in place in any case.
impl<W: Words> Rx for One<Consumer<W>> {
    fn receive(&mut self, batch: usize, check: &mut Check) -> usize {
        let mut received = 0;
        while received < batch {
            let Some(message) = self.0.try_read() else {
                break;
            };
            check.read(message);
            received += 1;
        }
        match received {
            0 => self.0.sync(),
            _ => self.0.finalize(),
        }
        received
    }
}
