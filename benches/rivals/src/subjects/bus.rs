use std::cell::RefCell;

use ::bus::{Bus as Sender, BusReader};
use anyhow::{Context, Result};

use super::{Blocking, Spinning, offer, receive_each, send_each, with_broadcast_message};
use crate::case::{Area, Case, Transfer, Work};
use crate::harness::payload::{Fill, Message, Words};
use crate::mpmc::{self, Backoff, Reader, Rx, Tx};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

pub struct Bus;

impl Subject for Bus {
    fn name(&self) -> &'static str {
        "bus"
    }

    fn supports(&self, case: &Case) -> bool {
        case.area == Area::Broadcast && case.work != Work::Lossy && case.transfer == Transfer::One
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_broadcast_message!(job.case, M => run::<M>(job))
    }
}

fn run<W: Message + Words + Sync>(job: &Job) -> Result<Sample> {
    let mut bus = Sender::<W>::new(job.case.slots);
    let readers = RefCell::new((0..job.case.readers).map(|_| bus.add_rx()).collect::<Vec<_>>());
    let bus = RefCell::new(Some(bus));
    let bus = || bus.take().context("one publisher");
    let reader = || readers.borrow_mut().pop().context("a reader for each subscriber");
    if job.case.blocks() {
        mpmc::threads(job, || Ok(Blocking(bus()?)), || Ok(Blocking(reader()?)))
    } else {
        mpmc::threads(job, || Ok(Spinning(bus()?)), || Ok(Spinning(reader()?)))
    }
}

impl<W: Message + Words + Sync> Tx for Spinning<Sender<W>> {
    fn send(&mut self, batch: usize, fill: &mut Fill, backoff: &mut Backoff) {
        send_each(batch, fill, |message: W| backoff.retry(offer(message, |message| self.0.try_broadcast(message))));
    }
}

impl<W: Message + Words + Sync> Rx for Spinning<BusReader<W>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        receive_each(batch, reader, || self.0.try_recv().ok())
    }
}

impl<W: Message + Words + Sync> Tx for Blocking<Sender<W>> {
    fn send(&mut self, batch: usize, fill: &mut Fill, _: &mut Backoff) {
        send_each(batch, fill, |message: W| self.0.broadcast(message));
    }
}

impl<W: Message + Words + Sync> Rx for Blocking<BusReader<W>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        receive_each(batch, reader, || self.0.recv().ok())
    }
}
