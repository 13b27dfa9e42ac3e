use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Result;

use super::{Blocking, Contender, One, take, with_message};
use crate::case::{Case, Wait, Way, Work};
use crate::duel::{Job, Rx, Sample, Tx};
use crate::harness::payload::{Check, Fill, Message};

pub struct SyncChannel;

impl Contender for SyncChannel {
    fn name(&self) -> &'static str {
        "mpsc"
    }

    fn can(&self, case: &Case) -> bool {
        case.way() == Way::One
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    let make = || sync_channel::<M>(job.case.slots);
    if job.case.work == Work::PingPong(Wait::Spin) {
        job.threads(|| {
            let (tx, rx) = make();
            (One(tx), One(rx))
        })
    } else {
        job.threads(|| {
            let (tx, rx) = make();
            (One(tx), Blocking(rx))
        })
    }
}

impl<M: Message> Tx for One<SyncSender<M>> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        self.0.send(M::new(fill)).expect("the receiver is there");
        1
    }
}

impl<M: Message> Rx for One<Receiver<M>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.try_recv(), check)
    }
}

impl<M: Message> Rx for Blocking<Receiver<M>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.recv(), check)
    }
}
