use anyhow::Result;
use kanal::{Receiver, Sender, bounded};

use super::{Blocking, receive_each, send_each, with_mpmc_message};
use crate::case::{Area, Case, Work};
use crate::harness::payload::{Fill, Message};
use crate::mpmc::{self, Backoff, Reader, Rx, Tx};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

pub struct Kanal;

impl Subject for Kanal {
    fn name(&self) -> &'static str {
        "kanal"
    }

    fn supports(&self, case: &Case) -> bool {
        case.area == Area::Mpmc && (case.blocks() || case.work == Work::Alone)
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_mpmc_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    let (tx, rx) = bounded::<M>(job.case.slots);
    match job.case.work {
        Work::Alone => mpmc::alone(job, Blocking(tx), Blocking(rx)),
        _ => mpmc::threads(job, || Ok(Blocking(tx.clone())), || Ok(Blocking(rx.clone()))),
    }
}

impl<M: Message> Tx for Blocking<Sender<M>> {
    fn send(&mut self, batch: usize, fill: &mut Fill, _: &mut Backoff) {
        send_each(batch, fill, |message| self.0.send(message).expect("the receivers are there"));
    }
}

impl<M: Message> Rx for Blocking<Receiver<M>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        let first = receive_each(1, reader, || self.0.recv().ok());
        first + receive_each(batch - 1, reader, || self.0.try_recv().ok().flatten())
    }
}
