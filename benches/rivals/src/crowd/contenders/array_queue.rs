use std::sync::Arc;

use anyhow::Result;
use crossbeam_queue::ArrayQueue as Queue;

use super::{Contender, Spinning, each, offer, some, with_message};
use crate::case::{Case, Work};
use crate::harness::payload::{Fill, Message};
use crate::play::{Job, Sample};
use crate::side::{Patience, Reader, Rx, Tx};

pub struct ArrayQueue;

impl Contender for ArrayQueue {
    fn name(&self) -> &'static str {
        "array-queue"
    }

    fn can(&self, case: &Case) -> bool {
        !case.blocks()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    let queue = Arc::new(Queue::<M>::new(job.case.slots));
    let end = || Spinning(queue.clone());
    match job.case.work {
        Work::Alone => job.alone(end(), end()),
        _ => job.threads(|| Ok(end()), || Ok(end())),
    }
}

impl<M: Message> Tx for Spinning<Arc<Queue<M>>> {
    fn send(&mut self, lot: usize, fill: &mut Fill, patience: &mut Patience) {
        each(lot, fill, |message| patience.insist(offer(message, |message| self.0.push(message))));
    }
}

impl<M: Message> Rx for Spinning<Arc<Queue<M>>> {
    fn receive(&mut self, lot: usize, reader: &mut Reader) -> usize {
        some(lot, reader, || self.0.pop())
    }
}
