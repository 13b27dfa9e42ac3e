//! tokio's broadcast, whose sender never waits; without a runtime.

use ::tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError, error::TryRecvError};
use anyhow::Result;

use super::{Blocking, Spinning, receive_each, send_each, with_broadcast_message};
use crate::case::{Area, Case, Transfer, Work};
use crate::harness::payload::{Fill, Message, Words};
use crate::mpmc::{self, Backoff, Reader, Rx, Tx};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

pub struct Tokio;

impl Subject for Tokio {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn supports(&self, case: &Case) -> bool {
        let never_waits = matches!(case.work, Work::Lossy | Work::Publish);
        case.area == Area::Broadcast && never_waits && case.transfer == Transfer::One
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_broadcast_message!(job.case, M => run::<M>(job))
    }
}

fn run<W: Message + Words>(job: &Job) -> Result<Sample> {
    let (sender, _receiver) = broadcast::channel::<W>(job.case.slots);
    let tx = || Ok(Spinning(sender.clone()));
    if job.case.blocks() {
        mpmc::threads(job, tx, || Ok(Blocking(sender.subscribe())))
    } else {
        mpmc::threads(job, tx, || Ok(Spinning(sender.subscribe())))
    }
}

impl<W: Message + Words> Tx for Spinning<Sender<W>> {
    fn send(&mut self, batch: usize, fill: &mut Fill, _: &mut Backoff) {
        send_each(batch, fill, |message: W| drop(self.0.send(message)));
    }
}

impl<W: Message + Words> Rx for Spinning<Receiver<W>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        let mut receive = || loop {
            match self.0.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        };
        receive_each(batch, reader, &mut receive)
    }
}

impl<W: Message + Words> Rx for Blocking<Receiver<W>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        let mut receive = || loop {
            match self.0.blocking_recv() {
                Ok(message) => return Some(message),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        };
        receive_each(batch, reader, &mut receive)
    }
}
