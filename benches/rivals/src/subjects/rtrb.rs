use std::hint::spin_loop;

use anyhow::Result;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::{Batch, InPlace, One, Stage, retry, take, with_spsc_message};
use crate::case::{Area, Case, Transfer};
use crate::harness::payload::{Check, Fill, Message, Words};
use crate::sample::Sample;
use crate::spsc::{self, Rx, Tx};
use crate::subject::{Job, Subject};

pub struct Rtrb;

impl Subject for Rtrb {
    fn name(&self) -> &'static str {
        "rtrb"
    }

    fn supports(&self, case: &Case) -> bool {
        case.area == Area::Spsc && !case.blocks()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_spsc_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    let case = &job.case;
    match case.transfer {
        Transfer::One => spsc::threads(job, || {
            let (tx, rx) = RingBuffer::<M>::new(case.slots);
            (One(tx), One(rx))
        }),
        Transfer::Batch => spsc::threads(job, || {
            let (tx, rx) = RingBuffer::<M::Words>::new(case.slots);
            (Batch(tx, Stage::new(case.batch())), Batch(rx, Stage::new(case.batch())))
        }),
        Transfer::InPlace | Transfer::InPlaceBatch => spsc::threads(job, || {
            let (tx, rx) = RingBuffer::<M::Words>::new(case.slots);
            (InPlace(tx), InPlace(rx))
        }),
    }
}

impl<M: Message> Tx for One<Producer<M>> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        retry(M::new(fill), |m| self.0.push(m).map_err(|PushError::Full(m)| m))
    }
}

impl<M: Message> Rx for One<Consumer<M>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.pop(), check)
    }
}

impl<W: Words> Tx for Batch<Producer<W>, W> {
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize {
        self.1.fill(batch, fill);
        while self.0.push_entire_slice(self.1.messages(batch)).is_err() {
            spin_loop();
        }
        batch
    }
}

impl<W: Words> Rx for Batch<Consumer<W>, W> {
    fn receive(&mut self, batch: usize, check: &mut Check) -> usize {
        if self.0.pop_entire_slice(self.1.messages(batch)).is_err() {
            return 0;
        }
        self.1.check(batch, check);
        batch
    }
}

impl<W: Words> Tx for InPlace<Producer<W>> {
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize {
        let Ok(mut chunk) = self.0.write_chunk_uninit(batch) else {
            return 0;
        };
        let (first, second) = chunk.as_mut_slices();
        for part in [first, second] {
            part.iter_mut().for_each(|slot| fill.write(slot));
        }
        // SAFETY: every slot has just been written.
        unsafe { chunk.commit_all() };
        batch
    }
}

impl<W: Words> Rx for InPlace<Consumer<W>> {
    fn receive(&mut self, batch: usize, check: &mut Check) -> usize {
        let Ok(chunk) = self.0.read_chunk(batch) else {
            return 0;
        };
        let (first, second) = chunk.as_slices();
        for part in [first, second] {
            part.iter().for_each(|message| check.read(message));
        }
        chunk.commit_all();
        batch
    }
}
