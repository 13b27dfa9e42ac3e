//! Two sides, one queue between them, and the clock.

use std::array;
use std::env;
use std::hint::spin_loop;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};

use crate::case::{Case, Work};
use crate::contenders;
use crate::harness::latency::{self, Latency};
use crate::harness::payload::{Check, Fill};
use crate::harness::pin::{CONSUMER, PRODUCER, pin};
use crate::shared::{self, Plain, Shared};

/// The sending end of a queue.
pub trait Tx {
    /// Sends up to `lot` messages that `fill` writes; none if the queue is full.
    fn send(&mut self, lot: usize, fill: &mut Fill) -> usize;
}

/// The receiving end of a queue.
pub trait Rx {
    /// Has `check` read up to `lot` messages; none if the queue is empty.
    fn receive(&mut self, lot: usize, check: &mut Check) -> usize;
}

/// A queue that a second process can join.
pub trait Link: Sized {
    type Tx: Tx;
    type Rx: Rx;

    fn create(case: &Case) -> Result<Self>;
    /// What the second process needs to `open` it.
    fn address(&self) -> String;
    fn open(case: &Case, address: &str) -> Result<Self>;
    fn tx(&self) -> Result<Self::Tx>;
    fn rx(&self) -> Result<Self::Rx>;
}

/// One run of one contender on one case.
pub struct Job<'a> {
    pub case: Case,
    pub contender: &'a str,
    pub count: u64,
    /// Set in the second process: the gate and the links to open.
    pub peer: Option<&'a [String]>,
}

#[derive(Clone, Copy)]
pub struct Sample {
    pub count: u64,
    pub elapsed: Duration,
    /// p50 and p99 in nanoseconds, where single messages are timed.
    pub latency: Option<[u64; 2]>,
}

impl Sample {
    /// Messages per nanosecond; where single messages are timed, by the median.
    pub fn speed(&self) -> f64 {
        match self.latency {
            None => self.count as f64 / self.elapsed.as_nanos() as f64,
            Some([p50, _]) => 1.0 / p50 as f64,
        }
    }
}

/// Where the sides meet, and where send times go without touching the payload.
#[repr(C, align(64))]
struct Gate {
    arrived: AtomicU64,
    /// More than one: a late receiver must still find its own time.
    stamps: [AtomicU64; 64],
}

// SAFETY: atomics only.
unsafe impl Plain for Gate {}

impl Gate {
    fn new() -> Self {
        Self { arrived: AtomicU64::new(0), stamps: array::from_fn(|_| AtomicU64::new(0)) }
    }

    fn meet(&self) {
        let both = (self.arrived.fetch_add(1, AcqRel) + 1).next_multiple_of(2);
        while self.arrived.load(Acquire) < both {
            spin_loop();
        }
    }

    fn stamp(&self, message: u64) -> &AtomicU64 {
        &self.stamps[message as usize % self.stamps.len()]
    }
}

impl Job<'_> {
    /// Plays both sides in two threads of this process.
    pub fn threads<T: Tx + Send, R: Rx + Send>(&self, make: impl Fn() -> (T, R)) -> Result<Sample> {
        let (tx, rx) = make();
        let (back_tx, back_rx) = self.answers().then(make).unzip();
        let gate = Gate::new();
        thread::scope(|s| {
            let producer = s.spawn(|| {
                pin(PRODUCER);
                self.produce(tx, back_rx, &gate)
            });
            let consumer = s.spawn(|| {
                pin(CONSUMER);
                self.consume(rx, back_tx, &gate)
            });
            producer.join().expect("a panic aborts")?;
            consumer.join().expect("a panic aborts")
        })
    }

    /// Plays the consumer here and the producer in a second process.
    pub fn processes<L: Link>(&self) -> Result<Sample> {
        match self.peer {
            // A thread of its own, so that the pinning goes with it.
            None => thread::scope(|s| s.spawn(|| self.lead::<L>()).join().expect("a panic aborts")),
            Some(addresses) => self.follow::<L>(addresses),
        }
    }

    fn lead<L: Link>(&self) -> Result<Sample> {
        pin(CONSUMER);
        let gate = Shared::<Gate>::create()?;
        let forth = L::create(&self.case)?;
        let back = self.answers().then(|| L::create(&self.case)).transpose()?;
        let rx = forth.rx()?;
        let back_tx = back.as_ref().map(L::tx).transpose()?;
        let mut child = Command::new(env::current_exe()?)
            .args(["--peer", self.contender, &self.case.to_string(), &self.count.to_string()])
            .arg(shared::address([gate.file()]))
            .arg(forth.address())
            .args(back.as_ref().map(L::address))
            .spawn()?;
        thread::scope(|s| {
            // Without the other side this one would wait forever.
            s.spawn(move || match child.wait() {
                Ok(status) if status.success() => (),
                end => {
                    eprintln!("second process: {end:?}");
                    contenders::clean_up();
                    process::exit(1);
                }
            });
            self.consume(rx, back_tx, &gate)
        })
    }

    fn follow<L: Link>(&self, addresses: &[String]) -> Result<Sample> {
        // SAFETY: plain system call; it ends this process with the first one.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        pin(PRODUCER);
        let (gate, links) = addresses.split_first().context("no gate")?;
        // SAFETY: the first process left this descriptor to us alone.
        let [gate] = unsafe { shared::inherited(gate) }?;
        let gate = Shared::<Gate>::map(gate)?;
        let mut links = links.iter().map(|address| L::open(&self.case, address));
        let forth = links.next().context("no link")??;
        let back = links.next().transpose()?;
        let back = back.as_ref().map(L::rx).transpose()?;
        self.produce(forth.tx()?, back, &gate)
    }

    fn answers(&self) -> bool {
        matches!(self.case.work, Work::PingPong(_))
    }

    /// Untimed messages first: they touch every page and wake both CPUs.
    fn warm_up(&self) -> u64 {
        match self.case.work {
            Work::Throughput(_) => self.case.slots as u64,
            Work::PingPong(_) => 1000,
            Work::Parked => 0,
        }
    }

    fn produce(&self, mut tx: impl Tx, back: Option<impl Rx>, gate: &Gate) -> Result<Sample> {
        let (mut fill, mut check) = (Fill::default(), Check::default());
        let start = Instant::now();
        gate.meet();
        match (self.case.work, back) {
            (Work::PingPong(_), Some(mut back)) => {
                for _ in 0..self.warm_up() + self.count {
                    receive(&mut back, 1, 1, &mut check);
                    send(&mut tx, 1, 1, &mut fill);
                }
            }
            (Work::Parked, _) => {
                for message in 0..self.count {
                    thread::sleep(Duration::from_millis(1));
                    gate.stamp(message).store(latency::now(), Relaxed);
                    send(&mut tx, 1, 1, &mut fill);
                }
            }
            _ => {
                send(&mut tx, self.case.lot(), self.warm_up(), &mut fill);
                gate.meet();
                send(&mut tx, self.case.lot(), self.count, &mut fill);
            }
        }
        check.verify(self.case.words()).map_err(Error::msg)?;
        Ok(Sample { count: self.count, elapsed: start.elapsed(), latency: None })
    }

    fn consume(&self, mut rx: impl Rx, back: Option<impl Tx>, gate: &Gate) -> Result<Sample> {
        let (mut fill, mut check) = (Fill::default(), Check::default());
        let mut latency = Latency::new();
        gate.meet();
        let mut start = Instant::now();
        match (self.case.work, back) {
            (Work::PingPong(_), Some(mut back)) => {
                for trip in 0..self.warm_up() + self.count {
                    let sent = Instant::now();
                    if trip == self.warm_up() {
                        start = sent;
                    }
                    send(&mut back, 1, 1, &mut fill);
                    receive(&mut rx, 1, 1, &mut check);
                    if trip >= self.warm_up() {
                        latency.record(sent.elapsed().as_nanos() as u64);
                    }
                }
            }
            (Work::Parked, _) => {
                for message in 0..self.count {
                    receive(&mut rx, 1, 1, &mut check);
                    latency.record(latency::now() - gate.stamp(message).load(Relaxed));
                }
            }
            _ => {
                receive(&mut rx, self.case.lot(), self.warm_up(), &mut check);
                gate.meet();
                start = Instant::now();
                receive(&mut rx, self.case.lot(), self.count, &mut check);
            }
        }
        let elapsed = start.elapsed();
        check.verify(self.case.words()).map_err(Error::msg)?;
        let timed = !self.case.is_throughput();
        let latency = timed.then(|| [0.5, 0.99].map(|q| latency.quantile(q)));
        Ok(Sample { count: self.count, elapsed, latency })
    }
}

fn send(tx: &mut impl Tx, lot: usize, count: u64, fill: &mut Fill) {
    let mut left = count as usize;
    while left > 0 {
        match tx.send(lot.min(left), fill) {
            0 => spin_loop(),
            sent => left -= sent,
        }
    }
}

fn receive(rx: &mut impl Rx, lot: usize, count: u64, check: &mut Check) {
    let mut left = count as usize;
    while left > 0 {
        match rx.receive(lot.min(left), check) {
            0 => spin_loop(),
            received => left -= received,
        }
    }
}
