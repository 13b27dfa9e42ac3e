//! Measures SPSC queues against each other on the same work.

mod case;
mod contenders;
mod duel;
mod harness;
mod report;
mod shared;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;
use std::{mem, process, ptr, thread};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use case::Case;
use contenders::Contender;
use duel::{Job, Sample};
use harness::{pin, rounds};
use report::Outcome;

/// Measures SPSC queues against each other on the same work: every message is
/// written in full, read in full and checked.
///
/// The producer is pinned to CPU 0 and the consumer to CPU 1. Contenders take
/// turns; each turn is bracketed by probes of the distance between the CPUs, and
/// results are kept apart by that regime.
#[derive(Parser)]
struct Args {
    /// Turns that each contender takes on each case
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Length of one turn
    #[arg(long, default_value_t = 150)]
    millis: u64,

    /// Contenders to compare with; the first one that took part in a case counts
    #[arg(long, value_delimiter = ',', default_value = "rtrb,futex")]
    baseline: Vec<String>,

    /// Keep what matches: message sizes in bytes, contenders, and cases or parts
    /// of their names, for example `64,1024,rtrb,shaq,in-place,ping-pong`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Write all samples to this file
    #[arg(long)]
    json: Option<PathBuf>,

    /// Print the cases and who can take part in them, and stop
    #[arg(long)]
    list: bool,

    /// Play the second process of a contender
    #[arg(long, hide = true, num_args = 4..)]
    peer: Option<Vec<String>>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(peer) = &args.peer {
        return play_peer(peer);
    }
    ensure!(pin::have_both(), "two CPUs are needed, 0 for the producer and 1 for the consumer");
    clean_up_when_stopped();
    let only = Only::new(&args.only)?;
    let mut samples = Vec::new();
    let mut table = None;
    for case in Case::all() {
        let contenders: Vec<_> = contenders::all()
            .into_iter()
            .filter(|contender| contender.can(&case) && only.keeps(&case, contender.name()))
            .collect();
        if contenders.is_empty() {
            continue;
        }
        if args.list {
            let names: Vec<_> = contenders.iter().map(|contender| contender.name()).collect();
            println!("{case}: {}", names.join(" "));
            continue;
        }
        let outcome = measure(case, &contenders, &args)?;
        if table.replace(case.is_throughput()) != Some(case.is_throughput()) {
            println!("\n{}", report::header(&case));
        }
        println!("{}", outcome.rows().join("\n"));
        samples.extend(outcome.samples());
    }
    if let Some(path) = &args.json {
        serde_json::to_writer_pretty(File::create(path)?, &samples)?;
    }
    Ok(())
}

/// Leaves nothing behind on Ctrl-C either.
fn clean_up_when_stopped() {
    // SAFETY: the set is made before it is used; threads inherit the mask.
    let signals = unsafe {
        let mut signals: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGINT);
        libc::sigaddset(&mut signals, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &signals, ptr::null_mut());
        signals
    };
    thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: both places are valid.
        unsafe { libc::sigwait(&signals, &mut signal) };
        contenders::clean_up();
        process::exit(128 + signal);
    });
}

fn measure(case: Case, contenders: &[Box<dyn Contender>], args: &Args) -> Result<Outcome> {
    let run = |entrant: usize, count| {
        let contender = &contenders[entrant];
        let job = Job { case, contender: contender.name(), count, peer: None };
        contender.run(&job).with_context(|| format!("{} on {case}", contender.name()))
    };
    let length = Duration::from_millis(args.millis);
    let counts = (0..contenders.len())
        .map(|entrant| calibrate(&case, length, |count| run(entrant, count)))
        .collect::<Result<Vec<_>>>()?;
    let turns = rounds::interleave(args.rounds, contenders.len(), |entrant| run(entrant, counts[entrant]))?;
    let contenders: Vec<_> = contenders.iter().map(|contender| contender.name()).collect();
    let base = args.baseline.iter().find_map(|base| contenders.iter().position(|c| c == base));
    Ok(Outcome { case, contenders, base, turns })
}

/// How many messages take about `length`.
fn calibrate(case: &Case, length: Duration, run: impl Fn(u64) -> Result<Sample>) -> Result<u64> {
    let mut count = 64 * case.lot() as u64;
    loop {
        let sample = run(count)?;
        if sample.elapsed >= length / 10 {
            let scale = length.as_secs_f64() / sample.elapsed.as_secs_f64();
            return Ok((count as f64 * scale).ceil() as u64);
        }
        count *= 8;
    }
}

/// `--peer CONTENDER CASE COUNT GATE LINK...`, as the first process passes it.
fn play_peer(peer: &[String]) -> Result<()> {
    let [contender, case, count, links @ ..] = peer else { unreachable!("clap counts them") };
    let case = Case::all().into_iter().find(|c| c.to_string() == *case).context("no such case")?;
    let contender = contenders::all().into_iter().find(|c| c.name() == contender).context("no such contender")?;
    let count = count.parse()?;
    contender.run(&Job { case, contender: contender.name(), count, peer: Some(links) })?;
    Ok(())
}

/// Filters; those of one kind add up, different kinds narrow each other.
#[derive(Default)]
struct Only {
    sizes: Vec<usize>,
    contenders: Vec<String>,
    cases: Vec<String>,
}

impl Only {
    fn new(terms: &[String]) -> Result<Self> {
        let contenders = contenders::all();
        let sizes: Vec<_> = Case::all().iter().map(|case| case.size).collect();
        let cases: Vec<_> = Case::all().iter().map(Case::to_string).collect();
        let mut only = Self::default();
        for term in terms {
            if let Some(size) = sizes.iter().find(|size| size.to_string() == *term) {
                only.sizes.push(*size);
            } else if contenders.iter().any(|contender| contender.name() == term) {
                only.contenders.push(term.clone());
            } else {
                let known = term.parse::<usize>().is_err() && cases.iter().any(|case| case.contains(term));
                ensure!(known, "{term} is no size, contender or part of a case");
                only.cases.push(term.clone());
            }
        }
        Ok(only)
    }

    fn keeps(&self, case: &Case, contender: &str) -> bool {
        fn any<T>(terms: &[T], matches: impl Fn(&T) -> bool) -> bool {
            terms.is_empty() || terms.iter().any(matches)
        }
        any(&self.sizes, |&size| size == case.size)
            && any(&self.contenders, |name| name == contender)
            && any(&self.cases, |part| case.to_string().contains(part))
    }
}
