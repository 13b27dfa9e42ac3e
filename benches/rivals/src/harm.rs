//! Measures what the others lose when one of a crowd is stopped or killed in the middle of its work.

#[path = "harness/mod.rs"]
#[allow(dead_code)] // each program uses a part of it
mod harness;
#[path = "shared.rs"]
#[allow(dead_code)]
mod shared;

use std::env;
use std::fmt::Display;
use std::io;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use tombolo::queue;
use tombolo::spawn::Handover;

use harness::latency::now;
use harness::pin;
use shared::{Plain, Shared};

/// Stops and kills one of eight processes, four that send and four that receive, while all are at it, and says what that does to the
/// other seven: how much they still pass on, for how long nobody passes anything on, how many messages are lost, and when the queue
/// has all its slots again.
#[derive(Parser)]
struct Args {
    /// How often to stop one, and how often to kill one
    #[arg(long, default_value_t = 20)]
    rounds: usize,

    /// Be one of the eight
    #[arg(long, hide = true, num_args = 3)]
    worker: Option<Vec<String>>,
}

const LABEL: &str = "harm";
const PRODUCERS: usize = 4;
const WORKERS: usize = 8;

/// One column of the board, in nanoseconds.
const TICK: u64 = 50_000;
const TICKS: usize = 1 << 14;
/// Messages between two looks at the clock.
const LOT: u32 = 8;

/// Over which something is measured, in ticks: 100 ms.
const SPAN: u64 = 2000;
/// Long enough for who is stopped to be missed.
const SETTLED: Duration = Duration::from_millis(5);
/// Within which the queue should be whole again, and longer.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Stops until one of them comes in the middle of an operation.
const TRIES: usize = 500;

type Message = [u64; 1];

/// Who did how much, and when.
#[repr(C)]
struct Board {
    leader: AtomicU32,
    /// For each worker and tick: `tick << 16 | messages`. Only its worker writes it.
    cells: [[AtomicU64; TICKS]; WORKERS],
}

// SAFETY: atomics only.
unsafe impl Plain for Board {}

impl Board {
    fn note(&self, worker: usize, messages: u32) {
        let tick = now() / TICK;
        let cell = &self.cells[worker][tick as usize % TICKS];
        let before = cell.load(Relaxed);
        let before = if before >> 16 == tick & (u64::MAX >> 16) { before } else { tick << 16 };
        cell.store(before + u64::from(messages), Relaxed);
    }

    /// What all of them did in one tick.
    fn messages(&self, tick: u64) -> u64 {
        let cells = self.cells.iter().map(|cells| cells[tick as usize % TICKS].load(Relaxed));
        cells.filter(|cell| cell >> 16 == tick & (u64::MAX >> 16)).map(|cell| cell & 0xffff).sum()
    }

    fn sum(&self, from: u64) -> u64 {
        (from..from + SPAN).map(|tick| self.messages(tick)).sum()
    }

    /// The most ticks in a row in which nobody did anything, in milliseconds.
    fn pause(&self, from: u64) -> f64 {
        let (mut longest, mut now) = (0, 0);
        for tick in from..from + SPAN {
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
        None => Crowd::gather()?.measure(args.rounds),
    }
}

/// `--worker LEADER BOARD INDEX`
fn work(args: &[String]) -> Result<()> {
    let [leader, board, index] = args else { unreachable!("clap counts them") };
    let (leader, index): (i32, usize) = (leader.parse()?, index.parse()?);
    // SAFETY: plain system calls.
    let parent = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::getppid()
    };
    ensure!(parent == leader, "the first process has ended");
    // SAFETY: the first process left this descriptor to us alone.
    let [board] = unsafe { shared::inherited(board) }?;
    let board = Shared::<Board>::map(board)?;
    let cpus = pin::available();
    pin::pin(cpus[index % cpus.len()]);
    if index < PRODUCERS {
        let mut tx: queue::Sender<Message> = queue::Options::<Message>::new().handed(LABEL)?;
        pass_on(&board, index, || Ok(tx.send(&[7])?))
    } else {
        let mut rx: queue::Receiver<Message> = queue::Options::<Message>::new().handed(LABEL)?;
        pass_on(&board, index, || Ok(rx.recv().map(|_| ())?))
    }
}

fn pass_on(board: &Board, index: usize, mut message: impl FnMut() -> Result<()>) -> Result<()> {
    loop {
        for _ in 0..LOT {
            message()?;
        }
        board.note(index, LOT);
    }
}

struct Crowd {
    tx: queue::Sender<Message>,
    rx: queue::Receiver<Message>,
    board: Shared<Board>,
    workers: Vec<Child>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

impl Crowd {
    fn gather() -> Result<Self> {
        let (tx, rx) = queue::Options::<Message>::new().create_channel()?;
        let mut crowd = Self { tx, rx, board: Shared::create()?, workers: Vec::new() };
        for index in 0..WORKERS {
            let worker = crowd.spawn(index)?;
            crowd.workers.push(worker);
        }
        Ok(crowd)
    }

    fn spawn(&self, index: usize) -> Result<Child> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--worker", &std::process::id().to_string(), &shared::address([self.board.file()])]);
        command.arg(index.to_string());
        let handover = Handover::new(command);
        let handover = match index {
            ..PRODUCERS => handover.give(LABEL, self.tx.try_clone()?)?,
            _ => handover.give(LABEL, self.rx.try_clone()?)?,
        };
        Ok(handover.spawn()?)
    }

    fn stats(&self) -> queue::Stats {
        self.tx.stats()
    }

    fn signal(&self, index: usize, signal: i32) -> Result<()> {
        // SAFETY: a child of ours that nobody has waited for.
        let outcome = unsafe { libc::kill(self.workers[index].id() as i32, signal) };
        ensure!(outcome == 0, io::Error::last_os_error());
        Ok(())
    }

    /// Waits until a span has passed from now on; says when it began.
    fn span(&self) -> u64 {
        let start = now() / TICK + 1;
        sleep(Duration::from_nanos((SPAN + 2) * TICK));
        start
    }

    /// Stops one in the middle of an operation; says when.
    fn stop(&self, index: usize) -> Result<u64> {
        for _ in 0..TRIES {
            let stopped = now() / TICK;
            self.signal(index, libc::SIGSTOP)?;
            sleep(SETTLED);
            // Somebody else may just be off the CPU in the middle of an operation, but not for that long.
            if self.stats().quarantined > 0 {
                return Ok(stopped);
            }
            self.signal(index, libc::SIGCONT)?;
            sleep(SETTLED);
        }
        bail!("{TRIES} stops never came in the middle of an operation")
    }

    /// How much of what all do the others do while one is stopped.
    fn others(&self, index: usize) -> Result<f64> {
        loop {
            self.stop(index)?;
            let others = self.board.sum(self.span());
            let was_stopped = self.stats().quarantined > 0;
            self.signal(index, libc::SIGCONT)?;
            sleep(SETTLED);
            if was_stopped {
                return Ok(others as f64 / self.board.sum(self.span()) as f64);
            }
        }
    }

    /// Stops one in the middle of an operation, and kills it there.
    fn kill(&mut self, index: usize) -> Result<Harm> {
        let usual = self.board.pause(self.span());
        let stopped = self.stop(index)?;
        let (before, killed) = (self.stats(), Instant::now());
        self.workers[index].kill()?;
        self.workers[index].wait()?;
        let whole = loop {
            let now = self.stats();
            if now.quarantined == 0 && now.senders + now.receivers < before.senders + before.receivers {
                break killed.elapsed();
            }
            ensure!(killed.elapsed() < PATIENCE, "not whole after {PATIENCE:?}: {now:?}");
            sleep(SETTLED / 8);
        };
        self.span();
        let (pause, lost) = (self.board.pause(stopped), self.stats().lost - before.lost);
        self.workers[index] = self.spawn(index)?;
        sleep(5 * SETTLED);
        Ok(Harm { pause, usual, lost, whole: whole.as_secs_f64() * 1e3 })
    }

    fn measure(mut self, rounds: usize) -> Result<()> {
        ensure!(rounds > 0, "no rounds: ask for at least one");
        sleep(20 * SETTLED); // until all are at it
        println!("4P4C, 8 B, one by one, calls that wait, {} CPUs; median (least to most)", pin::available().len());
        let ratios: Vec<f64> = (0..rounds).map(|round| self.others(round % WORKERS)).collect::<Result<_>>()?;
        println!("stopped in the middle of an operation, {rounds} times");
        line("  what the others pass on, to what all do", &ratios, "x");
        let harms: Vec<Harm> = (0..rounds).map(|round| self.kill(round % WORKERS)).collect::<Result<_>>()?;
        println!("killed in the middle of an operation, {rounds} times");
        let column = |of: fn(&Harm) -> f64| harms.iter().map(of).collect::<Vec<_>>();
        line("  longest pause of all, in the 100 ms after", &column(|harm| harm.pause), " ms");
        line("  the same without a kill", &column(|harm| harm.usual), " ms");
        line("  messages lost", &column(|harm| harm.lost as f64), "");
        line("  whole again after", &column(|harm| harm.whole), " ms");
        Ok(())
    }
}

/// What one kill did.
struct Harm {
    pause: f64,
    usual: f64,
    lost: u64,
    whole: f64,
}

fn line(what: &str, values: &[f64], unit: impl Display) {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let [least, most] = [values[0], values[values.len() - 1]];
    println!("{what:44} {:.2}{unit} ({least:.2} to {most:.2})", values[values.len() / 2]);
}
