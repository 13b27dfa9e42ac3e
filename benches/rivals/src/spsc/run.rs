//! Two sides, one queue between them, and the clock.

use std::array;
use std::hint::spin_loop;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};

use crate::case::Work;
use crate::harness::payload::{Check, Fill};
use crate::harness::pin::{CONSUMER, PRODUCER, pin};
use crate::latency::{self, Latency};
use crate::link::Link;
use crate::sample::Sample;
use crate::shared_memory::{self, Plain, Shared};
use crate::subject::Job;

/// The sending end of a queue.
pub trait Tx {
    /// Sends up to `batch` messages that `fill` writes; none if the queue is full.
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize;
}

/// The receiving end of a queue.
pub trait Rx {
    /// Has `check` read up to `batch` messages; none if the queue is empty.
    fn receive(&mut self, batch: usize, check: &mut Check) -> usize;
}

/// Where the sides wait for each other, and where send times go without touching the payload.
#[repr(C, align(64))]
struct StartLine {
    arrived: AtomicU64,
    /// Several, so that a late receiver still finds its own time.
    stamps: [AtomicU64; 64],
}

// SAFETY: atomics only.
unsafe impl Plain for StartLine {}

impl StartLine {
    fn new() -> Self {
        Self { arrived: AtomicU64::new(0), stamps: array::from_fn(|_| AtomicU64::new(0)) }
    }

    fn wait_for_both(&self) {
        let both = (self.arrived.fetch_add(1, AcqRel) + 1).next_multiple_of(2);
        while self.arrived.load(Acquire) < both {
            spin_loop();
        }
    }

    fn stamp(&self, message: u64) -> &AtomicU64 {
        &self.stamps[message as usize % self.stamps.len()]
    }
}

/// Runs both sides in two threads of this process.
pub fn threads<T: Tx + Send, R: Rx + Send>(job: &Job, make: impl Fn() -> (T, R)) -> Result<Sample> {
    let (tx, rx) = make();
    let (back_tx, back_rx) = answers(job).then(make).unzip();
    let line = StartLine::new();
    thread::scope(|s| {
        let producer = s.spawn(|| {
            pin(PRODUCER);
            produce(job, tx, back_rx, &line)
        });
        let consumer = s.spawn(|| {
            pin(CONSUMER);
            consume(job, rx, back_tx, &line)
        });
        producer.join().expect("a panic aborts")?;
        consumer.join().expect("a panic aborts")
    })
}

/// Runs the consumer here and the producer in a second process.
pub fn processes<L: Link<Tx: Tx, Rx: Rx>>(job: &Job) -> Result<Sample> {
    match job.peer {
        // A thread of its own, so that the pinning goes with it.
        None => thread::scope(|s| s.spawn(|| lead::<L>(job)).join().expect("a panic aborts")),
        Some(addresses) => follow::<L>(job, addresses),
    }
}

fn lead<L: Link<Tx: Tx, Rx: Rx>>(job: &Job) -> Result<Sample> {
    pin(CONSUMER);
    let line = Shared::<StartLine>::create()?;
    let forth = L::create(&job.case)?;
    let back = answers(job).then(|| L::create(&job.case)).transpose()?;
    let rx = forth.rx()?;
    let back_tx = back.as_ref().map(L::tx).transpose()?;
    let mut child = job
        .participant(job.count)?
        .arg(shared_memory::address([line.file()]))
        .arg(forth.address())
        .args(back.as_ref().map(L::address))
        .spawn()?;
    thread::scope(|s| {
        // Without the other side this one would wait forever.
        s.spawn(move || match child.wait() {
            Ok(status) if status.success() => (),
            end => {
                eprintln!("second process: {end:?}");
                job.subject.clean_up();
                process::exit(1);
            }
        });
        consume(job, rx, back_tx, &line)
    })
}

fn follow<L: Link<Tx: Tx, Rx: Rx>>(job: &Job, addresses: &[String]) -> Result<Sample> {
    pin(PRODUCER);
    let (line, links) = addresses.split_first().context("no start line")?;
    // SAFETY: the first process left this descriptor to us alone.
    let [line] = unsafe { shared_memory::inherited(line) }?;
    let line = Shared::<StartLine>::map(line)?;
    let mut links = links.iter().map(|address| L::open(&job.case, address));
    let forth = links.next().context("no link")??;
    let back = links.next().transpose()?;
    let back = back.as_ref().map(L::rx).transpose()?;
    produce(job, forth.tx()?, back, &line)
}

fn answers(job: &Job) -> bool {
    job.case.work == Work::PingPong
}

/// Untimed messages that go first: they touch every page and wake both CPUs.
fn warm_up(job: &Job) -> u64 {
    match job.case.work {
        Work::PingPong => 1000,
        Work::Parked => 0,
        _ => job.case.slots as u64,
    }
}

fn produce(job: &Job, mut tx: impl Tx, back: Option<impl Rx>, line: &StartLine) -> Result<Sample> {
    let (mut fill, mut check) = (Fill::default(), Check::default());
    let start = Instant::now();
    line.wait_for_both();
    match (job.case.work, back) {
        (Work::PingPong, Some(mut back)) => {
            for _ in 0..warm_up(job) + job.count {
                receive(&mut back, 1, 1, &mut check);
                send(&mut tx, 1, 1, &mut fill);
            }
        }
        (Work::Parked, _) => {
            for message in 0..job.count {
                thread::sleep(Duration::from_millis(1));
                line.stamp(message).store(latency::now(), Relaxed);
                send(&mut tx, 1, 1, &mut fill);
            }
        }
        _ => {
            send(&mut tx, job.case.batch(), warm_up(job), &mut fill);
            line.wait_for_both();
            send(&mut tx, job.case.batch(), job.count, &mut fill);
        }
    }
    check.verify(job.case.words()).map_err(Error::msg)?;
    Ok(Sample::of_messages(job.count, start.elapsed()))
}

fn consume(job: &Job, mut rx: impl Rx, back: Option<impl Tx>, line: &StartLine) -> Result<Sample> {
    let (mut fill, mut check) = (Fill::default(), Check::default());
    let mut latency = Latency::new();
    line.wait_for_both();
    let mut start = Instant::now();
    match (job.case.work, back) {
        (Work::PingPong, Some(mut back)) => {
            for trip in 0..warm_up(job) + job.count {
                let sent = Instant::now();
                if trip == warm_up(job) {
                    start = sent;
                }
                send(&mut back, 1, 1, &mut fill);
                receive(&mut rx, 1, 1, &mut check);
                if trip >= warm_up(job) {
                    latency.record(sent.elapsed().as_nanos() as u64);
                }
            }
        }
        (Work::Parked, _) => {
            for message in 0..job.count {
                receive(&mut rx, 1, 1, &mut check);
                latency.record(latency::now() - line.stamp(message).load(Relaxed));
            }
        }
        _ => {
            receive(&mut rx, job.case.batch(), warm_up(job), &mut check);
            line.wait_for_both();
            start = Instant::now();
            receive(&mut rx, job.case.batch(), job.count, &mut check);
        }
    }
    let elapsed = start.elapsed();
    check.verify(job.case.words()).map_err(Error::msg)?;
    let timed = !job.case.is_throughput();
    let latency = timed.then(|| [0.5, 0.99].map(|q| latency.quantile(q)));
    Ok(Sample { latency, ..Sample::of_messages(job.count, elapsed) })
}

fn send(tx: &mut impl Tx, batch: usize, count: u64, fill: &mut Fill) {
    let mut left = count as usize;
    while left > 0 {
        match tx.send(batch.min(left), fill) {
            0 => spin_loop(),
            sent => left -= sent,
        }
    }
}

fn receive(rx: &mut impl Rx, batch: usize, count: u64, check: &mut Check) {
    let mut left = count as usize;
    while left > 0 {
        match rx.receive(batch.min(left), check) {
            0 => spin_loop(),
            received => left -= received,
        }
    }
}
