//! Measures what the others lose when a participant of a queue is stopped or killed.

use std::env;
use std::fmt::Display;
use std::io;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use tombolo::queue;
use tombolo::spawn::CommandExt;

use rivals::harness::pin;
use rivals::now;
use rivals::shared_memory::{self, Plain, Shared};
use rivals::subject::die_with;

/// Stops and kills one of eight busy processes, four that send and four that receive.
///
/// Measures what that does to the other seven: how much they still pass on, how long nothing is
/// passed on, how many messages are lost, and when the queue has all its slots again.
#[derive(Parser)]
struct Args {
    /// How often to stop a process, and how often to kill one
    #[arg(long, default_value_t = 20)]
    rounds: usize,

    /// Be one of the eight processes
    #[arg(long, hide = true, num_args = 3)]
    worker: Option<Vec<String>>,
}

const LABEL: &str = "worker";
const PRODUCERS: usize = 4;
const WORKERS: usize = 8;

/// Messages are counted per tick; in nanoseconds.
const TICK: u64 = 50_000;
const TICKS: usize = 1 << 14;
/// Messages between two reads of the clock.
const BATCH: u32 = 8;

/// Ticks in a window of measurement: 100 ms.
const WINDOW: u64 = 2000;
/// Long enough for the others to notice a stop.
const SETTLED: Duration = Duration::from_millis(5);
/// Well above the time in which the queue is repaired.
const REPAIR_TIMEOUT: Duration = Duration::from_millis(1000);
/// How many stops to try until one comes in mid-operation.
const TRIES: usize = 500;

type Message = [u64; 1];

/// What each process has passed on, and when.
#[repr(C)]
struct SharedCounters {
    /// For each worker and tick: `tick << 16 | messages`. Only the worker writes its own.
    cells: [[AtomicU64; TICKS]; WORKERS],
}

// SAFETY: atomics only.
unsafe impl Plain for SharedCounters {}

impl SharedCounters {
    fn count(&self, worker: usize, messages: u32) {
        let tick = now() / TICK;
        let cell = &self.cells[worker][tick as usize % TICKS];
        let before = cell.load(Relaxed);
        let before = if before >> 16 == tick & (u64::MAX >> 16) { before } else { tick << 16 };
        cell.store(before + u64::from(messages), Relaxed);
    }

    /// Returns what all workers passed on in one tick.
    fn messages(&self, tick: u64) -> u64 {
        let cells = self.cells.iter().map(|cells| cells[tick as usize % TICKS].load(Relaxed));
        cells.filter(|cell| cell >> 16 == tick & (u64::MAX >> 16)).map(|cell| cell & 0xffff).sum()
    }

    fn sum(&self, from: u64) -> u64 {
        (from..from + WINDOW).map(|tick| self.messages(tick)).sum()
    }

    /// Returns the longest time in which nothing was passed on, in milliseconds.
    fn pause(&self, from: u64) -> f64 {
        let (mut longest, mut now) = (0, 0);
        for tick in from..from + WINDOW {
            now = if self.messages(tick) == 0 { now + 1 } else { 0 };
            longest = longest.max(now);
        }
        (longest * TICK) as f64 / 1e6
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.worker {
        Some(worker) => work(&worker),
        None => Workers::start()?.measure(args.rounds),
    }
}

/// `--worker LEADER COUNTERS INDEX`
fn work(args: &[String]) -> Result<()> {
    let [leader, counters, index] = args else { unreachable!("clap counts them") };
    let (leader, index): (u32, usize) = (leader.parse()?, index.parse()?);
    die_with(leader)?;
    // SAFETY: the first process left this descriptor to us alone.
    let [counters] = unsafe { shared_memory::inherited(counters) }?;
    let counters = Shared::<SharedCounters>::map(counters)?;
    let cpus = pin::available();
    pin::pin(cpus[index % cpus.len()]);
    if index < PRODUCERS {
        let mut tx: queue::Sender<Message> = queue::Options::<Message>::new().take(LABEL)?;
        pass_on(&counters, index, || Ok(tx.send([7])?))
    } else {
        let mut rx: queue::Receiver<Message> = queue::Options::<Message>::new().take(LABEL)?;
        pass_on(&counters, index, || Ok(rx.recv().map(|_| ())?))
    }
}

fn pass_on(counters: &SharedCounters, index: usize, mut message: impl FnMut() -> Result<()>) -> Result<()> {
    loop {
        for _ in 0..BATCH {
            message()?;
        }
        counters.count(index, BATCH);
    }
}

struct Workers {
    tx: queue::Sender<Message>,
    rx: queue::Receiver<Message>,
    counters: Shared<SharedCounters>,
    workers: Vec<Child>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

impl Workers {
    fn start() -> Result<Self> {
        let (tx, rx) = queue::Options::<Message>::new().create_channel()?;
        let mut workers = Self { tx, rx, counters: Shared::create()?, workers: Vec::new() };
        for index in 0..WORKERS {
            let worker = workers.spawn(index)?;
            workers.workers.push(worker);
        }
        Ok(workers)
    }

    fn spawn(&self, index: usize) -> Result<Child> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--worker", &std::process::id().to_string(), &shared_memory::address([self.counters.file()])]);
        command.arg(index.to_string());
        let spawner = match index {
            ..PRODUCERS => command.pass(LABEL, self.tx.try_clone()?)?,
            _ => command.pass(LABEL, self.rx.try_clone()?)?,
        };
        Ok(spawner.spawn()?)
    }

    fn stats(&self) -> queue::Stats {
        self.tx.stats()
    }

    fn signal(&self, index: usize, signal: i32) -> Result<()> {
        // SAFETY: a child that has not been waited for.
        let outcome = unsafe { libc::kill(self.workers[index].id() as i32, signal) };
        ensure!(outcome == 0, io::Error::last_os_error());
        Ok(())
    }

    /// Blocks for a window; returns the tick in which it began.
    fn window(&self) -> u64 {
        let start = now() / TICK + 1;
        sleep(Duration::from_nanos((WINDOW + 2) * TICK));
        start
    }

    /// Stops a worker in mid-operation; returns the tick of the stop.
    fn stop(&self, index: usize) -> Result<u64> {
        for _ in 0..TRIES {
            let stopped = now() / TICK;
            self.signal(index, libc::SIGSTOP)?;
            sleep(SETTLED);
            // Another worker may be preempted in mid-operation, but not for that long.
            if self.stats().quarantined > 0 {
                return Ok(stopped);
            }
            self.signal(index, libc::SIGCONT)?;
            sleep(SETTLED);
        }
        bail!("{TRIES} stops never came in mid-operation")
    }

    /// Returns what the others pass on while one is stopped, relative to what all pass on.
    fn others(&self, index: usize) -> Result<f64> {
        loop {
            self.stop(index)?;
            let others = self.counters.sum(self.window());
            let was_stopped = self.stats().quarantined > 0;
            self.signal(index, libc::SIGCONT)?;
            sleep(SETTLED);
            if was_stopped {
                return Ok(others as f64 / self.counters.sum(self.window()) as f64);
            }
        }
    }

    /// Stops a worker in mid-operation, and kills it there.
    fn kill(&mut self, index: usize) -> Result<KillImpact> {
        let usual_pause = self.counters.pause(self.window());
        let stopped = self.stop(index)?;
        let (before, killed) = (self.stats(), Instant::now());
        self.workers[index].kill()?;
        self.workers[index].wait()?;
        let repaired = loop {
            let now = self.stats();
            if now.quarantined == 0 && now.senders + now.receivers < before.senders + before.receivers {
                break killed.elapsed();
            }
            ensure!(killed.elapsed() < REPAIR_TIMEOUT, "not repaired after {REPAIR_TIMEOUT:?}: {now:?}");
            sleep(SETTLED / 8);
        };
        self.window();
        let (pause, lost) = (self.counters.pause(stopped), self.stats().lost - before.lost);
        self.workers[index] = self.spawn(index)?;
        sleep(5 * SETTLED);
        Ok(KillImpact { pause, usual_pause, lost, repaired: repaired.as_secs_f64() * 1e3 })
    }

    fn measure(mut self, rounds: usize) -> Result<()> {
        ensure!(rounds > 0, "no rounds: ask for at least one");
        sleep(20 * SETTLED); // until all are busy
        println!("4P4C, 8 B, one by one, calls that wait, {} CPUs; median (min to max)", pin::available().len());
        let ratios: Vec<f64> = (0..rounds).map(|round| self.others(round % WORKERS)).collect::<Result<_>>()?;
        println!("stopped in mid-operation, {rounds} times");
        line("  what the others pass on, of what all do", &ratios, "x");
        let kills: Vec<KillImpact> = (0..rounds).map(|round| self.kill(round % WORKERS)).collect::<Result<_>>()?;
        println!("killed in mid-operation, {rounds} times");
        let column = |of: fn(&KillImpact) -> f64| kills.iter().map(of).collect::<Vec<_>>();
        line("  longest pause of all in the 100 ms after", &column(|kill| kill.pause), " ms");
        line("  the same without a kill", &column(|kill| kill.usual_pause), " ms");
        line("  messages lost", &column(|kill| kill.lost as f64), "");
        line("  repaired after", &column(|kill| kill.repaired), " ms");
        Ok(())
    }
}

/// What one kill did to the others.
struct KillImpact {
    pause: f64,
    usual_pause: f64,
    lost: u64,
    repaired: f64,
}

fn line(what: &str, values: &[f64], unit: impl Display) {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let [min, max] = [values[0], values[values.len() - 1]];
    println!("{what:44} {:.2}{unit} ({min:.2} to {max:.2})", values[values.len() / 2]);
}
