use std::sync::Arc;

use anyhow::Result;
use crossbeam_queue::ArrayQueue as Queue;

use super::{One, Spinning, offer, receive_each, retry, send_each, take, with_mpmc_message, with_spsc_message};
use crate::case::{Area, Case, Transfer, Work};
use crate::harness::payload::{Check, Fill, Message};
use crate::mpmc::{self, Backoff, Reader};
use crate::sample::Sample;
use crate::spsc;
use crate::subject::{Job, Subject};

pub struct ArrayQueue;

impl Subject for ArrayQueue {
    fn name(&self) -> &'static str {
        "array-queue"
    }

    fn supports(&self, case: &Case) -> bool {
        match case.area {
            Area::Spsc => case.transfer == Transfer::One && !case.blocks(),
            Area::Mpmc => !case.blocks(),
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
    spsc::threads(job, || {
        let queue = Arc::new(Queue::<M>::new(job.case.slots));
        (One(queue.clone()), One(queue))
    })
}

fn run_mpmc<M: Message>(job: &Job) -> Result<Sample> {
    let queue = Arc::new(Queue::<M>::new(job.case.slots));
    let end = || Spinning(queue.clone());
    match job.case.work {
        Work::Alone => mpmc::alone(job, end(), end()),
        _ => mpmc::threads(job, || Ok(end()), || Ok(end())),
    }
}

impl<M: Message> spsc::Tx for One<Arc<Queue<M>>> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        retry(M::new(fill), |message| self.0.push(message))
    }
}

impl<M: Message> spsc::Rx for One<Arc<Queue<M>>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.pop().ok_or(()), check)
    }
}

impl<M: Message> mpmc::Tx for Spinning<Arc<Queue<M>>> {
    fn send(&mut self, batch: usize, fill: &mut Fill, backoff: &mut Backoff) {
        send_each(batch, fill, |message| backoff.retry(offer(message, |message| self.0.push(message))));
    }
}

impl<M: Message> mpmc::Rx for Spinning<Arc<Queue<M>>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        receive_each(batch, reader, || self.0.pop())
    }
}
