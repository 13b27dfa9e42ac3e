use std::fs::File;
use std::marker::PhantomData;

use anyhow::Result;
use shaq::mpmc::{Consumer, Producer, minimum_file_size, pair};

use super::{Contender, Spinning, Stage, can_keep_order, with_message};
use crate::case::{Case, Work};
use crate::harness::payload::{Fill, Message, Words};
use crate::play::{Job, Link, Sample};
use crate::shared::{self, memfd};
use crate::side::{Patience, Reader, Rx, Tx};

pub struct Shaq;

impl Contender for Shaq {
    fn name(&self) -> &'static str {
        "shaq"
    }

    fn can(&self, case: &Case) -> bool {
        !case.blocks() && can_keep_order(case)
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    match job.case.work {
        Work::Alone => {
            let (tx, rx) = pair::<M::Words>(job.case.slots)?;
            job.alone(Sending(tx, Stage::new(1)), Spinning(rx))
        }
        _ => job.processes::<Queue<M::Words>>(),
    }
}

struct Queue<W> {
    file: File,
    words: PhantomData<W>,
}

struct Sending<W>(Producer<W>, Stage<W>);

impl<W: Words> Link for Queue<W> {
    type Tx = Sending<W>;
    type Rx = Spinning<Consumer<W>>;

    fn create(case: &Case) -> Result<Self> {
        let file = memfd()?;
        // SAFETY: a new file.
        unsafe { Producer::<W>::create(&file, minimum_file_size::<W>(case.slots)) }?;
        Ok(Self { file, words: PhantomData })
    }

    fn address(&self) -> String {
        shared::address([&self.file])
    }

    fn tx(case: &Case, address: &str) -> Result<Self::Tx> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared::inherited(address) }?;
        // SAFETY: all agree on the type.
        Ok(Sending(unsafe { Producer::join(&file) }?, Stage::new(case.lot())))
    }

    fn rx(_: &Case, address: &str) -> Result<Self::Rx> {
        // SAFETY: as for the producer.
        let [file] = unsafe { shared::inherited(address) }?;
        // SAFETY: as for the producer.
        Ok(Spinning(unsafe { Consumer::join(&file) }?))
    }
}

impl<W: Words> Tx for Sending<W> {
    fn send(&mut self, lot: usize, fill: &mut Fill, patience: &mut Patience) {
        let messages = self.1.filled(lot, fill);
        match messages {
            [message] => patience.insist(|| self.0.try_write(*message).is_ok()),
            _ => patience.insist(|| self.0.try_write_slice(messages)),
        }
    }
}

/// Reads are in place.
impl<W: Words> Rx for Spinning<Consumer<W>> {
    fn receive(&mut self, lot: usize, reader: &mut Reader) -> usize {
        let Some(batch) = self.0.reserve_read_batch(lot) else { return 0 };
        for index in 0..batch.len() {
            // SAFETY: within the batch.
            reader.read(unsafe { batch.as_ref(index) });
        }
        batch.len()
    }
}
