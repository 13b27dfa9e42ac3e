use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::{Blocking, Contender, Spinning, each, offer, some, with_message};
use crate::case::{Case, Work};
use crate::harness::payload::{Fill, Message};
use crate::play::{Job, Sample};
use crate::side::{Patience, Reader, Rx, Tx};

pub struct Channel;

impl Contender for Channel {
    fn name(&self) -> &'static str {
        "channel"
    }

    fn can(&self, _: &Case) -> bool {
        true
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    let (tx, rx) = bounded::<M>(job.case.slots);
    match job.case.work {
        Work::Alone => job.alone(Spinning(tx), Spinning(rx)),
        _ if job.case.blocks() => job.threads(|| Ok(Blocking(tx.clone())), || Ok(Blocking(rx.clone()))),
        _ => job.threads(|| Ok(Spinning(tx.clone())), || Ok(Spinning(rx.clone()))),
    }
}

impl<M: Message> Tx for Spinning<Sender<M>> {
    fn send(&mut self, lot: usize, fill: &mut Fill, patience: &mut Patience) {
        let push = |message| self.0.try_send(message).map_err(TrySendError::into_inner);
        each(lot, fill, |message| patience.insist(offer(message, push)));
    }
}

impl<M: Message> Rx for Spinning<Receiver<M>> {
    fn receive(&mut self, lot: usize, reader: &mut Reader) -> usize {
        some(lot, reader, || self.0.try_recv().ok())
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
        first + some(lot - 1, reader, || self.0.try_recv().ok())
    }
}
