//! The Disruptor for Rust. Its ring is written and read in place.

use std::cell::RefCell;

use ::disruptor::{BusySpin, EventPoller, Producer, SingleProducerBarrier, build_single_producer};
use anyhow::{Context, Result};

use super::{Spinning, with_broadcast_message};
use crate::case::{Area, Case, Work};
use crate::harness::payload::{Fill, Words};
use crate::mpmc::{self, Backoff, Reader, Rx, Tx};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

pub struct Disruptor;

impl Subject for Disruptor {
    fn name(&self) -> &'static str {
        "disruptor"
    }

    fn supports(&self, case: &Case) -> bool {
        case.area == Area::Broadcast && case.work != Work::Lossy && !case.blocks()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_broadcast_message!(job.case, M => run::<M>(job))
    }
}

fn run<W: Words + Sync>(job: &Job) -> Result<Sample> {
    let builder = build_single_producer(job.case.slots, W::zeroed, BusySpin);
    if job.case.readers == 1 {
        let (poller, builder) = builder.new_event_poller();
        return threads(job, builder.build(), vec![poller]);
    }
    let mut builder = builder.with_multi_consumer();
    let mut pollers = Vec::new();
    for _ in 0..job.case.readers {
        let (poller, next) = builder.new_event_poller();
        pollers.push(poller);
        builder = next;
    }
    threads(job, builder.build(), pollers)
}

type Poller<W> = EventPoller<W, SingleProducerBarrier>;

fn threads<W: Words + Sync>(job: &Job, producer: impl Producer<W> + Send, pollers: Vec<Poller<W>>) -> Result<Sample> {
    let (producer, pollers) = (RefCell::new(Some(producer)), RefCell::new(pollers));
    mpmc::threads(
        job,
        || Ok(Publishing(producer.take().context("one publisher")?, std::marker::PhantomData)),
        || Ok(Spinning(pollers.borrow_mut().pop().context("a poller for each subscriber")?)),
    )
}

struct Publishing<P, W>(P, std::marker::PhantomData<W>);

impl<W: Words + Sync, P: Producer<W>> Tx for Publishing<P, W> {
    fn send(&mut self, batch: usize, fill: &mut Fill, backoff: &mut Backoff) {
        match batch {
            1 => backoff.retry(|| self.0.try_publish(|slot| fill.overwrite(slot)).is_ok()),
            _ => backoff
                .retry(|| self.0.try_batch_publish(batch, |slots| slots.for_each(|slot| fill.overwrite(slot))).is_ok()),
        }
    }
}

impl<W: Words + Sync> Rx for Spinning<Poller<W>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        let Ok(mut events) = self.0.take(batch as u64) else { return 0 };
        (&mut events).map(|message| reader.read(message)).count()
    }
}
