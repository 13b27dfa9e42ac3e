use anyhow::Result;
use kanal::{Receiver, Sender, bounded};

use super::{Blocking, Contender, each, some, with_message};
use crate::case::{Case, Work};
use crate::harness::payload::{Fill, Message};
use crate::play::{Job, Sample};
use crate::side::{Patience, Reader, Rx, Tx};

pub struct Kanal;

impl Contender for Kanal {
    fn name(&self) -> &'static str {
        "kanal"
    }

    fn can(&self, case: &Case) -> bool {
        case.blocks() || case.work == Work::Alone
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    let (tx, rx) = bounded::<M>(job.case.slots);
    match job.case.work {
        Work::Alone => job.alone(Blocking(tx), Blocking(rx)),
        _ => job.threads(|| Ok(Blocking(tx.clone())), || Ok(Blocking(rx.clone()))),
    }
}

impl<M: Message> Tx for Blocking<Sender<M>> {
    fn send(&mut self, lot: usize, fill: &mut Fill, _: &mut Patience) {
        each(lot, fill, |message| self.0.send(message).expect("the receivers are there"));
    }
}

impl<M: Message> Rx for Blocking<Receiver<M>> {
    fn receive(&mut self, lot: usize, reader: &mut Reader) -> usize {
        let first = some(1, reader, || self.0.recv().ok());
        first + some(lot - 1, reader, || self.0.try_recv().ok().flatten())
    }
}
