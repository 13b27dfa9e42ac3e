//! The later shaq has consumers that can sleep; its producers cannot.

use std::fs::File;
use std::marker::PhantomData;
use std::num::NonZero;
use std::time::Duration;

use anyhow::Result;
use shaq4::mpmc::{Consumer, Producer, minimum_file_size};

use super::{Blocking, Contender, Stage, can_keep_order, with_message};
use crate::case::{Case, Work};
use crate::harness::payload::{Fill, Message, Words};
use crate::play::{Job, Link, Sample};
use crate::shared::{self, memfd};
use crate::side::{Patience, Reader, Rx, Tx};

pub struct Shaq4;

impl Contender for Shaq4 {
    fn name(&self) -> &'static str {
        "shaq4"
    }

    fn can(&self, case: &Case) -> bool {
        case.blocks() && case.work == Work::Crowd && can_keep_order(case)
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    job.processes::<Queue<M::Words>>()
}

struct Queue<W> {
    file: File,
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
        Ok(Blocking(unsafe { Consumer::join(&file) }?))
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
impl<W: Words> Rx for Blocking<Consumer<W>> {
    fn receive(&mut self, lot: usize, reader: &mut Reader) -> usize {
        let lot = NonZero::new(lot).expect("a lot is not empty");
        let Ok(batch) = self.0.reserve_read_batch_timeout(lot, Duration::from_secs(1)) else { return 0 };
        batch.iter().for_each(|message| reader.read(message));
        batch.len()
    }
}
