//! Several participants, one object between them, and the clock.

use std::array;
use std::hint::spin_loop;
use std::process::Child;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::preemption::{self, Delay, Interval};
use crate::case::Case;
use crate::harness::pin::pin;
use crate::latency::{self, Latency};
use crate::sample::Sample;
use crate::shared_memory::{self, Plain, Shared};
use crate::subject::Job;

/// An object that participants share.
pub trait Object: Sized {
    /// Whether a load may return parts of two values.
    const MAY_TEAR: bool = false;

    fn create(case: &Case) -> Result<Self>;
    /// Passes what the participant with this index does to a method of `participant`.
    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()>;
    /// Returns what all participants have counted, in a case that counts.
    fn total(&self) -> u64 {
        0
    }
}

/// An object that other processes can join.
pub trait Link: Object {
    fn address(&self) -> String;
    fn join(case: &Case, address: &str) -> Result<Self>;
}

const MAX_PARTICIPANTS: usize = 8;

/// A disturbed turn lasts at most this many times as long.
const MAX_EXTENSION: u32 = 5;

/// A smaller undisturbed share says less than a disturbed turn.
const MIN_UNDISTURBED: f64 = 0.05;

/// How long one batch of operations takes, in nanoseconds.
const BATCH_NANOS: u64 = 20_000;

const ARRIVING: u32 = 0;
const WARMING_UP: u32 = 1;
const TIMED: u32 = 2;
const OVER: u32 = 3;

/// The phase of the turn, and what each participant has done.
#[repr(C, align(128))]
struct SharedCounters {
    phase: AtomicU32,
    arrived: AtomicU32,
    slots: [Slot; MAX_PARTICIPANTS],
}

#[repr(C, align(128))]
struct Slot {
    thread: AtomicU64,
    /// How long the thread had waited for a CPU at the end.
    delay: AtomicU64,
    ops: AtomicU64,
    /// Nanoseconds of an operation in the median batch, as a float; 0 if there was none.
    batch_nanos: AtomicU64,
    /// The median and the 99th percentile of round trips; 0 if there were none.
    latency: [AtomicU64; 2],
    failed: AtomicU64,
    torn: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Plain for SharedCounters {}

impl SharedCounters {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        let slot = || Slot {
            thread: zero(),
            delay: zero(),
            ops: zero(),
            batch_nanos: zero(),
            latency: [zero(), zero()],
            failed: zero(),
            torn: zero(),
        };
        let word = || AtomicU32::new(0);
        Self { phase: word(), arrived: word(), slots: array::from_fn(|_| slot()) }
    }

    fn ops(&self, participants: usize) -> Vec<u64> {
        self.slots[..participants].iter().map(|slot| slot.ops.load(Relaxed)).collect()
    }

    /// Adds what only the participants know.
    fn complete(&self, sample: Sample, case: &Case) -> Sample {
        let slots = &self.slots[..case.participants()];
        let sum = |count: fn(&Slot) -> &AtomicU64| slots.iter().map(|slot| count(slot).load(Relaxed)).sum();
        let [first, ..] = slots else { return sample };
        let latency = first.latency.each_ref().map(|quantile| quantile.load(Relaxed));
        let latency = Some(latency).filter(|&[p50, _]| p50 > 0);
        let nanos = f64::from_bits(first.batch_nanos.load(Relaxed));
        let batch_nanos = Some(nanos).filter(|&nanos| nanos > 0.0 && case.is_alone());
        Sample { batch_nanos, latency, failed: sum(|slot| &slot.failed), torn: sum(|slot| &slot.torn), ..sample }
    }
}

/// A turn as it was observed.
struct Observed {
    intervals: Vec<Interval>,
    /// How long each participant had waited for a CPU at the last look.
    delays: Vec<u64>,
    /// When that was.
    until: Instant,
}

/// One participant, on its own CPU.
pub struct Participant<'a> {
    counters: &'a SharedCounters,
    slot: &'a Slot,
    is_alone: bool,
}

impl Participant<'_> {
    fn phase(&self) -> u32 {
        self.counters.phase.load(Acquire)
    }

    fn begin(&self) {
        // SAFETY: a plain system call.
        self.slot.thread.store(unsafe { libc::gettid() } as u64, Relaxed);
        self.counters.arrived.fetch_add(1, AcqRel);
        let mut looks = 0_u32;
        while self.phase() == ARRIVING {
            looks += 1;
            if looks > 1000 { thread::sleep(Duration::from_micros(50)) } else { spin_loop() }
        }
    }

    fn end(&self) {
        self.slot.delay.store(Delay::of(self.slot.thread.load(Relaxed) as u32).nanos(), Relaxed);
    }

    /// Repeats the operation until the turn is over.
    #[inline(always)]
    pub fn repeat(&self, mut op: impl FnMut()) {
        self.begin();
        let mut done = 0;
        let mut batch = 1;
        let mut batches = Vec::with_capacity(1 << 16);
        loop {
            let start = Instant::now();
            for _ in 0..batch {
                op();
            }
            let took = start.elapsed().as_nanos() as u64;
            done += batch;
            self.slot.ops.store(done, Relaxed);
            match self.phase() {
                OVER => break,
                TIMED if self.is_alone && batches.len() < batches.capacity() => {
                    batches.push(took as f64 / batch as f64);
                }
                WARMING_UP if took < BATCH_NANOS / 2 => batch *= 2,
                _ => {}
            }
        }
        self.end();
        batches.sort_by(f64::total_cmp);
        let median = batches.get(batches.len() / 2).copied().unwrap_or(0.0);
        self.slot.batch_nanos.store(median.to_bits(), Relaxed);
    }

    /// Repeats the operation until the turn is over, and times each.
    pub fn round_trips(&self, mut op: impl FnMut()) {
        let mut latency = Latency::new();
        self.begin();
        while self.phase() != OVER {
            let start = latency::now();
            op();
            if self.phase() == TIMED {
                latency.record(latency::now() - start);
            }
            self.slot.ops.fetch_add(1, Relaxed);
        }
        self.end();
        let [p50, p99] = &self.slot.latency;
        p50.store(latency.quantile(0.5), Relaxed);
        p99.store(latency.quantile(0.99), Relaxed);
    }

    /// Repeats the operation until it returns false: the other side has finished.
    pub fn answer(&self, mut op: impl FnMut() -> bool) {
        self.begin();
        while op() {
            self.slot.ops.fetch_add(1, Relaxed);
        }
        self.end();
    }

    /// Whether the turn is over.
    pub fn is_over(&self) -> bool {
        self.phase() == OVER
    }

    /// Counts a load that failed.
    #[cold]
    pub fn count_failed(&self) {
        self.slot.failed.fetch_add(1, Relaxed);
    }

    /// Counts a load that returned parts of two values.
    #[cold]
    pub fn count_torn(&self) {
        self.slot.torn.fetch_add(1, Relaxed);
    }
}

/// Runs all participants in threads of this process.
pub fn threads<O: Object + Sync>(job: &Job) -> Result<Sample> {
    let object = &O::create(&job.case)?;
    let counters = &SharedCounters::new();
    let observed = thread::scope(|s| {
        for index in 0..job.case.participants() {
            s.spawn(move || run_participant(job, object, counters, index).expect("nothing can fail in a thread"));
        }
        time(job, counters, || Ok(()))
    })?;
    finish(job, object, counters, observed)
}

/// Runs each participant in a process of its own.
pub fn processes<L: Link>(job: &Job) -> Result<Sample> {
    match job.peer {
        None => lead::<L>(job),
        Some(peer) => follow::<L>(job, peer),
    }
}

/// Participants that still run when this fails die with this process.
fn lead<L: Link>(job: &Job) -> Result<Sample> {
    let counters = Shared::<SharedCounters>::create()?;
    let object = L::create(&job.case)?;
    let mut children: Vec<Child> = Vec::new();
    for index in 0..job.case.participants() {
        let mut command = job.participant(job.count)?;
        command.arg(shared_memory::address([counters.file()])).args([index.to_string(), object.address()]);
        children.push(command.spawn()?);
    }
    let check = || {
        let gone = children.iter_mut().find_map(|child| child.try_wait().transpose());
        gone.map_or(Ok(()), |status| bail!("the process of a participant ended early: {status:?}"))
    };
    let observed = time(job, &counters, check)?;
    for child in &mut children {
        let status = child.wait()?;
        ensure!(status.success(), "the process of a participant ended with {status}");
    }
    finish(job, &object, &counters, observed)
}

fn follow<L: Link>(job: &Job, peer: &[String]) -> Result<Sample> {
    let [counters, index, address] = peer else { unreachable!("the first process passes them all") };
    // SAFETY: the first process left this descriptor to us alone.
    let [counters] = unsafe { shared_memory::inherited(counters) }?;
    let counters = Shared::<SharedCounters>::map(counters)?;
    run_participant(job, &L::join(&job.case, address)?, &counters, index.parse()?)?;
    Ok(Sample::default())
}

fn run_participant(job: &Job, object: &impl Object, counters: &SharedCounters, index: usize) -> Result<()> {
    pin(job.cpus[index % job.cpus.len()]);
    let participant = Participant { counters, slot: &counters.slots[index], is_alone: job.case.is_alone() };
    object.run(&job.case, index, &participant)
}

fn turn(job: &Job) -> Duration {
    Duration::from_nanos(job.count)
}

/// Longer where several share a CPU, so that each has its turns on it.
fn length(job: &Job) -> Duration {
    turn(job) * job.case.participants().div_ceil(job.cpus.len()) as u32
}

/// Participants that share a CPU disturb each other all the time; one alone is timed in batches.
fn must_be_undisturbed(job: &Job) -> bool {
    !job.is_oversubscribed() && !job.case.is_alone()
}

/// Lets all participants work for a turn; `check` fails if one of them is gone.
fn time(job: &Job, counters: &SharedCounters, mut check: impl FnMut() -> Result<()>) -> Result<Observed> {
    while counters.arrived.load(Acquire) < job.case.participants() as u32 {
        check()?;
        thread::sleep(Duration::from_micros(100));
    }
    counters.phase.store(WARMING_UP, Release);
    thread::sleep(length(job) / 10 + Duration::from_millis(1));
    counters.phase.store(TIMED, Release);
    let observed = observe(job, counters);
    counters.phase.store(OVER, Release);
    Ok(observed)
}

/// Records what happens, interval by interval.
fn observe(job: &Job, counters: &SharedCounters) -> Observed {
    let (participants, length) = (job.case.participants(), length(job));
    let extension = if must_be_undisturbed(job) { MAX_EXTENSION } else { 1 };
    let threads = counters.slots[..participants].iter().map(|slot| slot.thread.load(Relaxed) as u32);
    let delays: Vec<_> = threads.map(Delay::of).collect();
    let look = || {
        let delays: Vec<_> = delays.iter().map(Delay::nanos).collect();
        (counters.ops(participants), delays, Instant::now())
    };
    let differences = |after: &[u64], before: &[u64]| after.iter().zip(before).map(|(a, b)| a - b).collect();
    let mut intervals = Vec::new();
    let mut before = look();
    let start = before.2;
    let mut undisturbed = Duration::ZERO;
    // Longer if it is disturbed, up to a limit.
    while start.elapsed() < length || (undisturbed < length && start.elapsed() < extension * length) {
        thread::sleep(preemption::INTERVAL);
        let after = look();
        if after.1 == before.1 {
            undisturbed += after.2 - before.2;
        }
        intervals.push(Interval {
            elapsed: after.2 - before.2,
            ops: differences(&after.0, &before.0),
            delays: differences(&after.1, &before.1),
        });
        before = after;
    }
    Observed { intervals, delays: before.1, until: before.2 }
}

/// Adds up the intervals that count, when all participants have finished.
fn evaluate(job: &Job, counters: &SharedCounters, observed: Observed) -> Sample {
    let Observed { mut intervals, delays, until } = observed;
    let participants = job.case.participants();
    // A wait is known when it is over; those that ended after the last look are one more interval.
    let slots = counters.slots[..participants].iter();
    let delays = slots.zip(delays).map(|(slot, before)| slot.delay.load(Relaxed).saturating_sub(before)).collect();
    intervals.push(Interval { elapsed: until.elapsed(), ops: vec![0; participants], delays });
    let undisturbed = preemption::undisturbed(&intervals);
    intervals.pop();
    let sum = |undisturbed_only: bool| {
        let mut sample = Sample { ops: vec![0; participants], ..Sample::default() };
        for (interval, _) in
            intervals.iter().zip(&undisturbed).filter(|&(_, &undisturbed)| undisturbed || !undisturbed_only)
        {
            sample.elapsed += interval.elapsed;
            sample.ops.iter_mut().zip(&interval.ops).for_each(|(sum, ops)| *sum += ops);
        }
        sample
    };
    let (all, part) = (sum(false), sum(true));
    let share = part.elapsed.as_secs_f64() / all.elapsed.as_secs_f64();
    let is_enough = must_be_undisturbed(job) && share >= MIN_UNDISTURBED;
    if is_enough { Sample { undisturbed: Some(share), ..part } } else { all }
}

fn finish<O: Object>(job: &Job, object: &O, counters: &SharedCounters, observed: Observed) -> Result<Sample> {
    let done: u64 = counters.ops(job.case.participants()).iter().sum();
    let total = object.total();
    ensure!(total == done || !job.case.counts(), "{done} were counted, and {total} were found");
    let sample = evaluate(job, counters, observed);
    let sample = Sample { turn: turn(job), ..counters.complete(sample, &job.case) };
    ensure!(sample.torn == 0 || O::MAY_TEAR, "{} loads returned parts of two values", sample.torn);
    Ok(sample)
}
