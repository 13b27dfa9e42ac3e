//! Measures SPSC queues against each other on the same work.

mod case;
mod contenders;
mod contest;
mod duel;
#[allow(dead_code)] // each program uses a part of it
mod harness;
mod report;
mod shared;

use std::{mem, process, ptr, thread};

use anyhow::{Context, Result};
use clap::Parser;

use case::Case;
use contenders::Contender;
use contest::{Case as _, Entrant, Options};
use duel::{Job, Sample};

/// Measures SPSC queues against each other on the same work: every message is
/// written in full, read in full and checked.
///
/// The producer is pinned to CPU 0 and the consumer to CPU 1. Contenders take
/// turns; each turn is bracketed by probes of the distance between the CPUs, and
/// results are kept apart by that regime. The baseline is rtrb, or futex.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,

    /// Play the second process of a contender
    #[arg(long, hide = true, num_args = 4..)]
    peer: Option<Vec<String>>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(peer) = &args.peer {
        return play_peer(peer);
    }
    clean_up_when_stopped();
    args.options.hold(&contenders::all(), &["rtrb", "futex"])
}

impl Entrant<Case> for Box<dyn Contender> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn can(&self, case: &Case) -> bool {
        (**self).can(case)
    }

    fn play(&self, case: Case, count: u64) -> Result<Sample> {
        self.run(&Job { case, contender: (**self).name(), count, peer: None })
    }
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

/// `--peer CONTENDER CASE COUNT GATE LINK...`, as the first process passes it.
fn play_peer(peer: &[String]) -> Result<()> {
    let [contender, case, count, links @ ..] = peer else { unreachable!("clap counts them") };
    let case = Case::all().into_iter().find(|c| c.to_string() == *case).context("no such case")?;
    let contender =
        contenders::all().into_iter().find(|c| (**c).name() == contender.as_str()).context("no such contender")?;
    let count = count.parse()?;
    contender.run(&Job { case, contender: (*contender).name(), count, peer: Some(links) })?;
    Ok(())
}
