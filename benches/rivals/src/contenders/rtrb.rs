use std::hint::spin_loop;

use anyhow::Result;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::{Batch, Contender, InPlace, One, Stage, insist, take, with_message};
use crate::case::{Case, Way};
use crate::duel::{Job, Rx, Sample, Tx};
use crate::harness::payload::{Check, Fill, Message, Words};

pub struct Rtrb;

impl Contender for Rtrb {
    fn name(&self) -> &'static str {
        "rtrb"
    }

    fn can(&self, case: &Case) -> bool {
        !case.blocks()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    let case = &job.case;
    match case.way() {
        Way::One => job.threads(|| {
            let (tx, rx) = RingBuffer::<M>::new(case.slots);
            (One(tx), One(rx))
        }),
        Way::Batch => job.threads(|| {
            let (tx, rx) = RingBuffer::<M::Words>::new(case.slots);
            (Batch(tx, Stage::new(case)), Batch(rx, Stage::new(case)))
        }),
        Way::InPlace | Way::InPlaceBatch => job.threads(|| {
            let (tx, rx) = RingBuffer::<M::Words>::new(case.slots);
            (InPlace(tx), InPlace(rx))
        }),
    }
}

impl<M: Message> Tx for One<Producer<M>> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        insist(M::new(fill), |m| self.0.push(m).map_err(|PushError::Full(m)| m))
    }
}

impl<M: Message> Rx for One<Consumer<M>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.pop(), check)
    }
}

impl<W: Words> Tx for Batch<Producer<W>, W> {
    fn send(&mut self, lot: usize, fill: &mut Fill) -> usize {
        self.1.fill(lot, fill);
        while self.0.push_entire_slice(self.1.messages(lot)).is_err() {
            spin_loop();
        }
        lot
    }
}

impl<W: Words> Rx for Batch<Consumer<W>, W> {
    fn receive(&mut self, lot: usize, check: &mut Check) -> usize {
        if self.0.pop_entire_slice_uninit(self.1.room(lot)).is_err() {
            return 0;
        }
        self.1.check(lot, check);
        lot
    }
}

impl<W: Words> Tx for InPlace<Producer<W>> {
    fn send(&mut self, lot: usize, fill: &mut Fill) -> usize {
        let Ok(mut chunk) = self.0.write_chunk_uninit(lot) else {
            return 0;
        };
        let (first, second) = chunk.as_mut_slices();
        for part in [first, second] {
            part.iter_mut().for_each(|slot| fill.write(slot));
        }
        // SAFETY: every slot has just been written.
        unsafe { chunk.commit_all() };
        lot
    }
}

impl<W: Words> Rx for InPlace<Consumer<W>> {
    fn receive(&mut self, lot: usize, check: &mut Check) -> usize {
        let Ok(chunk) = self.0.read_chunk(lot) else {
            return 0;
        };
        let (first, second) = chunk.as_slices();
        for part in [first, second] {
            part.iter().for_each(|message| check.read(message));
        }
        chunk.commit_all();
        lot
    }
}
