//! Several participants, one queue between them, and the clock.

use std::env;
use std::io;
use std::process::{Child, Command};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, bail, ensure};

use crate::case::Case;
use crate::gate::{Gate, Phase};
use crate::harness::payload::Fill;
use crate::harness::pin::{self, pin};
use crate::shared::{self, Shared};
use crate::side::{Patience, Reader, Rx, Tx};

/// A queue that other processes can join.
pub trait Link: Sized {
    type Tx: Tx;
    type Rx: Rx;

    fn create(case: &Case) -> Result<Self>;
    /// What another process needs to join, unless it is handed over by `spawn`.
    fn address(&self) -> String;
    /// Starts a participant.
    fn spawn(&self, command: Command, _: Part) -> Result<Child> {
        let mut command = command;
        Ok(command.arg(self.address()).spawn()?)
    }
    fn tx(case: &Case, address: &str) -> Result<Self::Tx>;
    fn rx(case: &Case, address: &str) -> Result<Self::Rx>;
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Producer,
    Consumer,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match [Self::Producer, Self::Consumer].into_iter().find(|part| part.name() == name) {
            Some(part) => Ok(part),
            None => bail!("{name} is no part"),
        }
    }
}

/// What the process of one participant is told.
pub struct Peer<'a> {
    pub gate: &'a str,
    pub part: Part,
    pub index: usize,
    pub address: &'a str,
}

/// One run of one contender on one case.
pub struct Job<'a> {
    pub case: Case,
    contender: &'a str,
    /// Messages of each producer.
    share: u64,
    cpus: Vec<usize>,
    peer: Option<Peer<'a>>,
}

#[derive(Clone, Copy)]
pub struct Sample {
    pub count: u64,
    pub elapsed: Duration,
}

impl<'a> Job<'a> {
    /// To be called before this process pins itself.
    pub fn new(case: Case, contender: &'a str, count: u64, peer: Option<Peer<'a>>) -> Self {
        Self { case, contender, share: count.div_ceil(case.producers as u64), cpus: pin::available(), peer }
    }

    fn count(&self) -> u64 {
        self.share * self.case.producers as u64
    }

    /// All participants, each with its index.
    fn cast(&self) -> impl Iterator<Item = (Part, usize)> {
        let producers = (0..self.case.producers).map(|index| (Part::Producer, index));
        producers.chain((0..self.case.consumers).map(|index| (Part::Consumer, index)))
    }

    /// Round robin; without a CPU for each, consumers begin at the second.
    fn pin(&self, part: Part, index: usize) {
        let first = match part {
            Part::Producer => 0,
            Part::Consumer if self.is_crowded() => 1,
            Part::Consumer => self.case.producers,
        };
        pin(self.cpus[(first + index) % self.cpus.len()]);
    }

    fn is_crowded(&self) -> bool {
        self.case.participants() > self.cpus.len()
    }

    /// Plays both sides in one thread.
    pub fn alone(&self, mut tx: impl Tx + Send, mut rx: impl Rx + Send) -> Result<Sample> {
        // A thread of its own, so that the pinning goes with it.
        let play = || {
            self.pin(Part::Producer, 0);
            let (mut fill, mut patience) = (Fill::default(), Patience::new(self.is_crowded()));
            let mut reader = Reader::new(Phase::Timed);
            let start = Instant::now();
            for _ in 0..self.share {
                tx.send(1, &mut fill, &mut patience);
                rx.receive(1, &mut reader);
            }
            let elapsed = start.elapsed();
            let (seen, _) = reader.check.tally();
            ensure!(seen == self.share, "{seen} messages arrived of {}", self.share);
            reader.check.verify(self.case.words()).map_err(Error::msg)?;
            Ok(Sample { count: self.share, elapsed })
        };
        thread::scope(|s| s.spawn(play).join().expect("a panic aborts"))
    }

    /// Plays all participants in threads of this process.
    pub fn threads<T: Tx + Send, R: Rx + Send>(
        &self,
        tx: impl Fn() -> Result<T>,
        rx: impl Fn() -> Result<R>,
    ) -> Result<Sample> {
        let gate = &Gate::new();
        let txs: Vec<T> = (0..self.case.producers).map(|_| tx()).collect::<Result<_>>()?;
        let rxs: Vec<R> = (0..self.case.consumers).map(|_| rx()).collect::<Result<_>>()?;
        thread::scope(|s| {
            for (index, tx) in txs.into_iter().enumerate() {
                s.spawn(move || {
                    self.pin(Part::Producer, index);
                    self.produce(tx, index, gate);
                });
            }
            for (index, rx) in rxs.into_iter().enumerate() {
                s.spawn(move || {
                    self.pin(Part::Consumer, index);
                    self.consume(rx, gate);
                });
            }
        });
        self.finish(gate)
    }

    /// Plays each participant in a process of its own.
    pub fn processes<L: Link>(&self) -> Result<Sample> {
        match &self.peer {
            None => self.lead::<L>(),
            Some(peer) => self.follow::<L>(peer),
        }
    }

    /// What is still running when this fails dies with this process.
    fn lead<L: Link>(&self) -> Result<Sample> {
        let gate = Shared::<Gate>::create()?;
        gate.lead();
        let link = L::create(&self.case)?;
        for (part, index) in self.cast() {
            let mut command = Command::new(env::current_exe()?);
            command
                .args(["--peer", self.contender, &self.case.to_string(), &self.count().to_string()])
                .arg(shared::address([gate.file()]))
                .args([part.name(), &index.to_string()]);
            link.spawn(command, part)?;
        }
        for _ in self.cast() {
            let mut status = 0;
            // SAFETY: the place is valid, and this process has no other children.
            let child = unsafe { libc::wait(&mut status) };
            ensure!(child > 0, io::Error::last_os_error());
            ensure!(status == 0, "process {child} of a participant ended with wait status {status:#x}");
        }
        self.finish(&gate)
    }

    fn follow<L: Link>(&self, peer: &Peer) -> Result<Sample> {
        // SAFETY: the first process left this descriptor to us alone.
        let [gate] = unsafe { shared::inherited(peer.gate) }?;
        let gate = Shared::<Gate>::map(gate)?;
        gate.follow()?;
        self.pin(peer.part, peer.index);
        match peer.part {
            Part::Producer => self.produce(L::tx(&self.case, peer.address)?, peer.index, &gate),
            Part::Consumer => self.consume(L::rx(&self.case, peer.address)?, &gate),
        }
        Ok(Sample { count: self.share, elapsed: Duration::ZERO })
    }

    /// Messages of each producer.
    fn share(&self, phase: Phase) -> u64 {
        match phase {
            Phase::WarmUp => self.case.slots as u64,
            Phase::Timed => self.share,
        }
    }

    fn produce(&self, mut tx: impl Tx, index: usize, gate: &Gate) {
        let Case { producers, consumers, .. } = self.case;
        let lot = self.case.lot();
        let mut patience = Patience::new(self.is_crowded());
        for phase in Phase::ALL {
            let share = self.share(phase);
            let mut fill = Fill::from(index as u64 * share);
            let mut left = share as usize;
            gate.meet(self.case.participants());
            while left > 0 {
                tx.send(lot.min(left), &mut fill, &mut patience);
                left -= lot.min(left);
            }
            if gate.is_last(phase, producers) {
                // Behind everybody's messages, and enough even if each consumer takes a batch of them.
                for _ in 0..consumers * lot {
                    tx.send(1, &mut Fill::from(phase.stop()), &mut patience);
                }
            }
        }
        // Nobody leaves before the others have finished.
        gate.meet(self.case.participants());
    }

    fn consume(&self, mut rx: impl Rx, gate: &Gate) {
        let lot = self.case.lot();
        let mut patience = Patience::new(self.is_crowded());
        for phase in Phase::ALL {
            let mut reader = Reader::new(phase);
            gate.meet(self.case.participants());
            while !reader.stopped {
                match rx.receive(lot, &mut reader) {
                    0 => patience.rest(),
                    _ => patience.renew(),
                }
            }
            gate.add(phase, &reader.check);
        }
        gate.meet(self.case.participants());
    }

    fn finish(&self, gate: &Gate) -> Result<Sample> {
        for phase in Phase::ALL {
            gate.verify(phase, self.share(phase) * self.case.producers as u64, self.case.words())?;
        }
        Ok(Sample { count: self.count(), elapsed: gate.elapsed() })
    }
}
