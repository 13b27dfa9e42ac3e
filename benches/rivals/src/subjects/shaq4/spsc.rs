use std::fs::File;
use std::marker::PhantomData;
use std::time::Duration;

use anyhow::Result;
use shaq4::spsc::{Consumer, Producer, minimum_file_size};

use crate::case::Case;
use crate::harness::payload::{Check, Fill, Message, Words};
use crate::link::Link;
use crate::sample::Sample;
use crate::shared_memory::{self, memfd};
use crate::spsc::{self, Rx, Tx};
use crate::subject::Job;
use crate::subjects::{Blocking, One, retry};

pub fn run<M: Message>(job: &Job) -> Result<Sample> {
    spsc::processes::<Queue<M::Words>>(job)
}

struct Queue<W> {
    file: File,
    words: PhantomData<W>,
}

impl<W: Words> Link for Queue<W> {
    type Tx = One<Producer<W>>;
    type Rx = Blocking<Consumer<W>>;

    fn create(case: &Case) -> Result<Self> {
        let file = memfd()?;
        // SAFETY: a new file; this producer is gone before another one joins.
        unsafe { Producer::<W>::create(&file, minimum_file_size::<W>(case.slots)) }?;
        Ok(Self { file, words: PhantomData })
    }

    fn address(&self) -> String {
        shared_memory::address([&self.file])
    }

    fn open(_: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared_memory::inherited(address) }?;
        Ok(Self { file, words: PhantomData })
    }

    fn tx(&self) -> Result<Self::Tx> {
        // SAFETY: one side takes the only producer, and both agree on the type.
        Ok(One(unsafe { Producer::join(&self.file) }?))
    }

    fn rx(&self) -> Result<Self::Rx> {
        // SAFETY: as for the producer.
        Ok(Blocking(unsafe { Consumer::join(&self.file) }?))
    }
}

impl<W: Words> Tx for One<Producer<W>> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        retry(fill.message(), |message| self.0.try_write(message))
    }
}

impl<W: Words> Rx for Blocking<Consumer<W>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        let Ok(message) = self.0.read_timeout(Duration::from_secs(1)) else {
            return 0;
        };
        check.read(&message);
        1
    }
}
