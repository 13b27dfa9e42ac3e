//! Several participants, one queue between them, and the clock.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};

use super::side::{Backoff, Reader, Rx, Tx};
use super::start_line::{Phase, StartLine};
use crate::case::Work;
use crate::harness::payload::Fill;
use crate::harness::pin::pin;
use crate::latency::Latency;
use crate::link::{Link, Role};
use crate::sample::Sample;
use crate::shared_memory::{self, Shared};
use crate::subject::Job;

/// Runs both sides in one thread.
pub fn alone(job: &Job, mut tx: impl Tx + Send, mut rx: impl Rx + Send) -> Result<Sample> {
    // A thread of its own, so that the pinning goes with it.
    let run = || {
        pin_participant(job, Role::Producer, 0);
        let (mut fill, mut backoff) = (Fill::default(), Backoff::new(job.is_oversubscribed()));
        let mut reader = Reader::new(Phase::Timed);
        let start = Instant::now();
        for _ in 0..job.count {
            tx.send(1, &mut fill, &mut backoff);
            rx.receive(1, &mut reader);
        }
        let elapsed = start.elapsed();
        let (seen, _) = reader.check.tally();
        ensure!(seen == job.count, "{seen} messages arrived of {}", job.count);
        reader.check.verify(job.case.words()).map_err(Error::msg)?;
        Ok(Sample::of_messages(job.count, elapsed))
    };
    thread::scope(|s| s.spawn(run).join().expect("a panic aborts"))
}

/// Runs all participants in threads of this process.
pub fn threads<T: Tx + Send, R: Rx + Send>(
    job: &Job,
    tx: impl Fn() -> Result<T>,
    rx: impl Fn() -> Result<R>,
) -> Result<Sample> {
    let line = &StartLine::new();
    let txs: Vec<T> = (0..job.case.writers).map(|_| tx()).collect::<Result<_>>()?;
    let rxs: Vec<R> = (0..job.case.readers).map(|_| rx()).collect::<Result<_>>()?;
    thread::scope(|s| {
        for (index, tx) in txs.into_iter().enumerate() {
            s.spawn(move || {
                pin_participant(job, Role::Producer, index);
                produce(job, tx, index, line);
            });
        }
        for (index, rx) in rxs.into_iter().enumerate() {
            s.spawn(move || {
                pin_participant(job, Role::Consumer, index);
                consume(job, rx, line);
            });
        }
    });
    finish(job, line)
}

/// Runs each participant in a process of its own.
pub fn processes<L: Link<Tx: Tx, Rx: Rx>>(job: &Job) -> Result<Sample> {
    match job.peer {
        None => lead::<L>(job),
        Some(peer) => follow::<L>(job, peer),
    }
}

/// Participants that still run when this fails die with this process.
fn lead<L: Link<Tx: Tx, Rx: Rx>>(job: &Job) -> Result<Sample> {
    let line = Shared::<StartLine>::create()?;
    let link = L::create(&job.case)?;
    let producers = (0..job.case.writers).map(|index| (Role::Producer, index));
    let consumers = (0..job.case.readers).map(|index| (Role::Consumer, index));
    for (role, index) in producers.chain(consumers) {
        let mut command = job.participant(job.count)?;
        command.arg(shared_memory::address([line.file()])).args([role.name(), &index.to_string()]);
        link.spawn(command, role)?;
    }
    for _ in 0..job.case.participants() {
        let mut status = 0;
        // SAFETY: the place is valid, and this process has no other children.
        let child = unsafe { libc::wait(&mut status) };
        ensure!(child > 0, io::Error::last_os_error());
        ensure!(status == 0, "process {child} of a participant ended with wait status {status:#x}");
    }
    finish(job, &line)
}

fn follow<L: Link<Tx: Tx, Rx: Rx>>(job: &Job, peer: &[String]) -> Result<Sample> {
    let [line, role, index, address] = peer else { unreachable!("the first process passes them all") };
    let (role, index): (Role, usize) = (role.parse()?, index.parse()?);
    // SAFETY: the first process left this descriptor to us alone.
    let [line] = unsafe { shared_memory::inherited(line) }?;
    let line = Shared::<StartLine>::map(line)?;
    pin_participant(job, role, index);
    match role {
        Role::Producer => {
            let link = L::open(&job.case, address)?;
            let tx = link.tx()?;
            produce(job, tx, index, &line);
        }
        Role::Consumer => {
            let link = L::open(&job.case, address)?;
            let rx = link.rx()?;
            consume(job, rx, &line);
        }
    }
    Ok(Sample::of_messages(job.count, Duration::ZERO))
}

/// Round robin; without a CPU for each participant, consumers begin at the second.
fn pin_participant(job: &Job, role: Role, index: usize) {
    let first = match role {
        Role::Producer => 0,
        Role::Consumer if job.is_oversubscribed() => 1,
        Role::Consumer => job.case.writers,
    };
    pin(job.cpus[(first + index) % job.cpus.len()]);
}

/// Returns the messages of each producer.
fn share(job: &Job, phase: Phase) -> u64 {
    match phase {
        // Of a publisher that is timed, the warm-up is part of each millisecond's sleep.
        Phase::WarmUp if job.case.work == Work::Publish => 1,
        Phase::WarmUp => job.case.slots as u64,
        Phase::Timed => job.count.div_ceil(job.case.writers as u64),
    }
}

fn produce(job: &Job, mut tx: impl Tx, index: usize, line: &StartLine) {
    let batch = job.case.batch();
    let mut backoff = Backoff::new(job.is_oversubscribed());
    line.wait_for_all(job.case.participants());
    tx.connect();
    for phase in Phase::ALL {
        let share = share(job, phase);
        let mut fill = Fill::from(index as u64 * share);
        let mut left = share as usize;
        let mut latency = Latency::new();
        line.wait_for_all(job.case.participants());
        while left > 0 {
            if job.case.work == Work::Publish {
                // Meanwhile those that block fall asleep.
                thread::sleep(Duration::from_millis(1));
                let start = Instant::now();
                tx.send(1, &mut fill, &mut backoff);
                latency.record(start.elapsed().as_nanos() as u64);
                left -= 1;
                continue;
            }
            tx.send(batch.min(left), &mut fill, &mut backoff);
            left -= batch.min(left);
        }
        line.record_latency(&latency);
        if line.is_last(phase, job.case.writers) {
            // Behind all messages, and enough even if each consumer takes a batch of them.
            for _ in 0..job.case.readers * batch {
                tx.send(1, &mut Fill::from(phase.stop()), &mut backoff);
            }
        }
    }
    // No participant leaves before the others have finished.
    line.wait_for_all(job.case.participants());
}

fn consume(job: &Job, mut rx: impl Rx, line: &StartLine) {
    let batch = job.case.batch();
    let mut backoff = Backoff::new(job.is_oversubscribed());
    line.wait_for_all(job.case.participants());
    rx.connect();
    for phase in Phase::ALL {
        let mut reader = Reader::new(phase);
        line.wait_for_all(job.case.participants());
        while !reader.stopped {
            match rx.receive(batch, &mut reader) {
                0 => backoff.back_off(),
                _ => backoff.reset(),
            }
        }
        line.add(phase, &reader.check);
    }
    line.wait_for_all(job.case.participants());
}

fn finish(job: &Job, line: &StartLine) -> Result<Sample> {
    let producers = job.case.writers as u64;
    let (messages, copies) = (share(job, Phase::Timed) * producers, job.case.copies());
    let sample = Sample::of_messages(messages, line.elapsed());
    if job.case.work == Work::Lossy {
        let failed = (messages * copies).checked_sub(line.seen(Phase::Timed)).context("a message arrived twice")?;
        return Ok(Sample { failed, ..sample });
    }
    for phase in Phase::ALL {
        line.verify(phase, share(job, phase) * producers, job.case.words(), copies)?;
    }
    let latency = (job.case.work == Work::Publish).then(|| line.latency());
    Ok(Sample { latency, ..sample })
}
