//! From spawning a process to its first message.
//!
//! `Process::spawn` and a message through a pipe of tombolo, beside `Command::spawn` of the same
//! binary and a byte through a Unix pipe. The pipe of tombolo is there before, as the queue of a
//! pool is; to create one is measured by itself. Each round takes all subjects in turn. The second
//! table is of a parent that has touched a lot of memory.
//!
//! `cargo bench --bench process`; `-- --rounds 50` takes less time.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::stats::Spread;
use tombolo::pipe::{self, Sender};
use tombolo::process::{self, Builder};

#[allow(dead_code, unused_imports)] // benches/spsc.rs uses all of it
mod harness;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// A byte through a Unix pipe.
const CHILD: &str = "--child";

const LARGE: usize = 1 << 30;

fn command() -> Result<Duration> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(CHILD).stdout(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn()?;
    child.stdout.take().ok_or("a pipe")?.read_exact(&mut [0])?;
    let took = began.elapsed();
    child.wait()?;
    Ok(took)
}

fn send(mut tx: Sender<u64>) {
    let _ = tx.send(1);
}

fn process(is_daemon: bool) -> Result<Duration> {
    let (tx, mut rx) = pipe::Options::<u64>::new().create()?;
    let began = Instant::now();
    let process = Builder::new().daemon(is_daemon).spawn(send, tx)?;
    rx.recv()?;
    let took = began.elapsed();
    process.join()?;
    Ok(took)
}

fn create() -> Result<Duration> {
    let began = Instant::now();
    let _ends = pipe::Options::<u64>::new().create()?;
    Ok(began.elapsed())
}

type Subject = (&'static str, fn() -> Result<Duration>);

const SUBJECTS: [Subject; 4] = [
    ("Command::spawn, a byte", command),
    ("Process::spawn, a message", || process(false)),
    ("Process::spawn of a daemon", || process(true)),
    ("creating a pipe", create),
];

fn compare(rounds: usize) -> Result {
    let mut samples = SUBJECTS.map(|_| Vec::new());
    for round in 0..rounds {
        for turn in 0..SUBJECTS.len() {
            let index = (round + turn) % SUBJECTS.len();
            samples[index].push(SUBJECTS[index].1()?.as_secs_f64() * 1e6);
        }
    }
    let spread = |index: usize| Spread::of(samples[index].iter().copied()).ok_or("no rounds");
    let base = spread(0)?.median;
    for (index, (name, _)) in SUBJECTS.iter().enumerate() {
        let Spread { median, min, max, .. } = spread(index)?;
        println!("| {name} | {median:.0} | {min:.0} to {max:.0} | {:.2} |", median / base);
    }
    Ok(())
}

fn main() -> Result {
    process::init();
    let arguments: Vec<_> = env::args().collect();
    if arguments.iter().any(|argument| argument == CHILD) {
        return Ok(io::stdout().write_all(b"1")?);
    }
    let rounds = arguments.iter().skip_while(|argument| *argument != "--rounds").nth(1);
    let rounds = rounds.map_or(Ok(300), |rounds| rounds.parse())?;
    println!("| subject | µs | fastest to slowest | to the first |");
    println!("|:--|--:|--:|--:|");
    compare(rounds)?;
    let memory = black_box(vec![1_u8; LARGE]);
    println!("\nOf a parent with {} MiB:\n", memory.len() >> 20);
    compare(rounds / 10 + 1)
}
