//! Reads are in place.

use std::fs::File;
use std::marker::PhantomData;
use std::num::NonZeroUsize;

use ::shaq4::broadcast::{Broadcast, BroadcastConfig, Consumer, Producer, ProducerId};
use anyhow::{Context, Result};

use crate::case::Case;
use crate::harness::payload::{Fill, Words};
use crate::link::Link;
use crate::mpmc::{self, Backoff, Reader, Rx, Tx};
use crate::sample::Sample;
use crate::shared_memory::{self, memfd};
use crate::subject::Job;
use crate::subjects::Spinning;
use crate::subjects::stage::Stage;

pub fn run<W: Words + Sync>(job: &Job) -> Result<Sample> {
    mpmc::processes::<Queue<W>>(job)
}

struct Queue<W> {
    file: File,
    batch: usize,
    words: PhantomData<W>,
}

struct Sending<W: Words + Sync>(Producer<W>, Stage<W>);

impl<W: Words + Sync> Link for Queue<W> {
    type Tx = Sending<W>;
    type Rx = Spinning<Consumer<W>>;

    fn create(case: &Case) -> Result<Self> {
        let file = memfd()?;
        let config = BroadcastConfig { capacity: case.slots, producer_slots: 1, consumer_slots: case.readers };
        // SAFETY: a new file.
        unsafe { Broadcast::<W>::create(&file, config) }?;
        Ok(Self { file, batch: case.batch(), words: PhantomData })
    }

    fn address(&self) -> String {
        shared_memory::address([&self.file])
    }

    fn open(case: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared_memory::inherited(address) }?;
        Ok(Self { file, batch: case.batch(), words: PhantomData })
    }

    fn tx(&self) -> Result<Self::Tx> {
        // SAFETY: all agree on the type.
        Ok(Sending(
            unsafe { Producer::join(&self.file, ProducerId::new(0)) }.context("joining")?,
            Stage::new(self.batch),
        ))
    }

    fn rx(&self) -> Result<Self::Rx> {
        // SAFETY: as for the producer.
        Ok(Spinning(unsafe { Consumer::join(&self.file) }.context("joining")?))
    }
}

impl<W: Words + Sync> Tx for Sending<W> {
    fn send(&mut self, batch: usize, fill: &mut Fill, backoff: &mut Backoff) {
        let messages = self.1.fill(batch, fill);
        match messages {
            [message] => backoff.retry(|| self.0.try_write(*message).is_ok()),
            _ => backoff.retry(|| self.0.try_write_slice(messages)),
        }
    }
}

impl<W: Words + Sync> Rx for Spinning<Consumer<W>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        let batch = NonZeroUsize::new(batch).unwrap_or(NonZeroUsize::MIN);
        let Some(batch) = self.0.try_reserve_read_batch(batch) else { return 0 };
        let (front, back) = batch.as_slices();
        front.iter().chain(back).map(|message| reader.read(message)).count()
    }
}
