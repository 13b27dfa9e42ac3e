//! Its consumers can sleep; its producers cannot.

use std::fs::File;
use std::marker::PhantomData;
use std::num::NonZero;
use std::time::Duration;

use anyhow::Result;
use shaq4::mpmc::{Consumer, Producer, minimum_file_size};

use crate::case::Case;
use crate::harness::payload::{Fill, Message, Words};
use crate::link::Link;
use crate::mpmc::{self, Backoff, Reader, Rx, Tx};
use crate::sample::Sample;
use crate::shared_memory::{self, memfd};
use crate::subject::Job;
use crate::subjects::Blocking;
use crate::subjects::stage::Stage;

pub fn run<M: Message>(job: &Job) -> Result<Sample> {
    mpmc::processes::<Queue<M::Words>>(job)
}

struct Queue<W> {
    file: File,
    batch: usize,
    words: PhantomData<W>,
}

struct Sending<W>(Producer<W>, Stage<W>);

impl<W: Words> Link for Queue<W> {
    type Tx = Sending<W>;
    type Rx = Blocking<Consumer<W>>;

    fn create(case: &Case) -> Result<Self> {
        let file = memfd()?;
        // SAFETY: a new file.
        unsafe { Producer::<W>::create(&file, minimum_file_size::<W>(case.slots)) }?;
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
        Ok(Sending(unsafe { Producer::join(&self.file) }?, Stage::new(self.batch)))
    }

    fn rx(&self) -> Result<Self::Rx> {
        // SAFETY: as for the producer.
        Ok(Blocking(unsafe { Consumer::join(&self.file) }?))
    }
}

impl<W: Words> Tx for Sending<W> {
    fn send(&mut self, batch: usize, fill: &mut Fill, backoff: &mut Backoff) {
        let messages = self.1.fill(batch, fill);
        match messages {
            [message] => backoff.retry(|| self.0.try_write(*message).is_ok()),
            _ => backoff.retry(|| self.0.try_write_slice(messages)),
        }
    }
}

/// Reads are in place.
impl<W: Words> Rx for Blocking<Consumer<W>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        let batch = NonZero::new(batch).expect("a batch is not empty");
        let Ok(batch) = self.0.reserve_read_batch_timeout(batch, Duration::from_secs(1)) else { return 0 };
        batch.iter().for_each(|message| reader.read(message));
        batch.len()
    }
}
