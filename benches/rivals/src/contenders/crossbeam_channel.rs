use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Blocking, Contender, One, take, with_message};
use crate::case::Case;
use crate::duel::{Job, Rx, Sample, Tx};
use crate::harness::payload::{Check, Fill, Message};

pub struct Channel;

impl Contender for Channel {
    fn name(&self) -> &'static str {
        "crossbeam-channel"
    }

    fn can(&self, case: &Case) -> bool {
        !case.is_throughput()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    let make = || bounded::<M>(job.case.slots);
    if job.case.blocks() {
        job.threads(|| {
            let (tx, rx) = make();
            (One(tx), Blocking(rx))
        })
    } else {
        job.threads(|| {
            let (tx, rx) = make();
            (One(tx), One(rx))
        })
    }
}

impl<M: Message> Tx for One<Sender<M>> {
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
