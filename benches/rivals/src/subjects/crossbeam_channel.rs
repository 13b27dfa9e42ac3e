use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::{Blocking, One, Spinning, offer, receive_each, send_each, take, with_mpmc_message, with_spsc_message};
use crate::case::{Area, Case, Work};
use crate::harness::payload::{Check, Fill, Message};
use crate::mpmc::{self, Backoff, Reader};
use crate::sample::Sample;
use crate::spsc;
use crate::subject::{Job, Subject};

pub struct CrossbeamChannel;

impl Subject for CrossbeamChannel {
    fn name(&self) -> &'static str {
        "crossbeam-channel"
    }

    fn supports(&self, case: &Case) -> bool {
        match case.area {
            Area::Spsc => !case.is_throughput(),
            Area::Mpmc => true,
            Area::Broadcast | Area::Objects => false,
        }
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.area {
            Area::Spsc => with_spsc_message!(job.case, M => run_spsc::<M>(job)),
            _ => with_mpmc_message!(job.case, M => run_mpmc::<M>(job)),
        }
    }
}

fn run_spsc<M: Message>(job: &Job) -> Result<Sample> {
    let make = || bounded::<M>(job.case.slots);
    if job.case.blocks() {
        spsc::threads(job, || {
            let (tx, rx) = make();
            (Blocking(tx), Blocking(rx))
        })
    } else {
        spsc::threads(job, || {
            let (tx, rx) = make();
            (Blocking(tx), One(rx))
        })
    }
}

fn run_mpmc<M: Message>(job: &Job) -> Result<Sample> {
    let (tx, rx) = bounded::<M>(job.case.slots);
    match job.case.work {
        Work::Alone => mpmc::alone(job, Spinning(tx), Spinning(rx)),
        _ if job.case.blocks() => mpmc::threads(job, || Ok(Blocking(tx.clone())), || Ok(Blocking(rx.clone()))),
        _ => mpmc::threads(job, || Ok(Spinning(tx.clone())), || Ok(Spinning(rx.clone()))),
    }
}

impl<M: Message> spsc::Tx for Blocking<Sender<M>> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        self.0.send(M::new(fill)).expect("the receiver is there");
        1
    }
}

impl<M: Message> spsc::Rx for One<Receiver<M>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.try_recv(), check)
    }
}

impl<M: Message> spsc::Rx for Blocking<Receiver<M>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.recv(), check)
    }
}

impl<M: Message> mpmc::Tx for Spinning<Sender<M>> {
    fn send(&mut self, batch: usize, fill: &mut Fill, backoff: &mut Backoff) {
        let push = |message| self.0.try_send(message).map_err(TrySendError::into_inner);
        send_each(batch, fill, |message| backoff.retry(offer(message, push)));
    }
}

impl<M: Message> mpmc::Rx for Spinning<Receiver<M>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        receive_each(batch, reader, || self.0.try_recv().ok())
    }
}

impl<M: Message> mpmc::Tx for Blocking<Sender<M>> {
    fn send(&mut self, batch: usize, fill: &mut Fill, _: &mut Backoff) {
        send_each(batch, fill, |message| self.0.send(message).expect("the receivers are there"));
    }
}

impl<M: Message> mpmc::Rx for Blocking<Receiver<M>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        let first = receive_each(1, reader, || self.0.recv().ok());
        first + receive_each(batch - 1, reader, || self.0.try_recv().ok())
    }
}
