use std::sync::Arc;

use anyhow::Result;
use crossbeam_queue::ArrayQueue as Queue;

use super::{Contender, One, insist, take, with_message};
use crate::case::{Case, Way};
use crate::duel::{Job, Rx, Sample, Tx};
use crate::harness::payload::{Check, Fill, Message};

pub struct ArrayQueue;

impl Contender for ArrayQueue {
    fn name(&self) -> &'static str {
        "ArrayQueue"
    }

    fn can(&self, case: &Case) -> bool {
        case.way() == Way::One && !case.blocks()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => job.threads(|| {
            let queue = Arc::new(Queue::<M>::new(job.case.slots));
            (One(queue.clone()), One(queue))
        }))
    }
}

impl<M: Message> Tx for One<Arc<Queue<M>>> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        insist(M::new(fill), |message| self.0.push(message))
    }
}

impl<M: Message> Rx for One<Arc<Queue<M>>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.pop().ok_or(()), check)
    }
}
