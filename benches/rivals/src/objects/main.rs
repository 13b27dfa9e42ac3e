//! Measures objects in shared memory against others on the same work.

mod case;
mod contenders;
#[path = "../contest.rs"]
mod contest;
#[path = "../harness/mod.rs"]
#[allow(dead_code)] // each program uses a part of it
mod harness;
mod play;
mod quiet;
#[path = "../report.rs"]
mod report;
#[path = "../shared.rs"]
mod shared;

use anyhow::{Context, Result};
use clap::Parser;

use case::Case;
use contest::{Case as _, Entrant, Options};
use play::{Job, Peer, Sample};

/// Measures values, atomics, locks and semaphores in shared memory against others:
/// every value is written in full, read in full and checked, and what is counted
/// under a lock is counted up at the end.
///
/// Participants are spread over the CPUs. Contenders take turns; each turn is
/// bracketed by probes of the distance between CPUs 0 and 1, and results are kept
/// apart by that regime. The baseline is mmap-sync, pthread, sem_t or xadd.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,

    /// Play one participant, in a process of its own
    #[arg(long, hide = true, num_args = 6)]
    peer: Option<Vec<String>>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match &args.peer {
        Some(peer) => play_peer(peer),
        None => args.options.hold(&contenders::all(), &["mmap-sync", "pthread", "sem_t", "xadd"]),
    }
}

impl Entrant<Case> for Box<dyn contenders::Contender> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn can(&self, case: &Case) -> bool {
        (**self).can(case)
    }

    fn play(&self, case: Case, count: u64) -> Result<Sample> {
        self.run(&Job::new(case, (**self).name(), count, None))
    }
}

/// `--peer CONTENDER CASE COUNT BOARD PARTICIPANT ADDRESS`, as the first process passes it.
fn play_peer(peer: &[String]) -> Result<()> {
    let [contender, case, count, board, participant, address] = peer else { unreachable!("clap counts them") };
    let case = Case::all().into_iter().find(|c| c.to_string() == *case).context("no such case")?;
    let contender =
        contenders::all().into_iter().find(|c| (**c).name() == contender.as_str()).context("no such contender")?;
    let peer = Peer { board, participant: participant.parse()?, address };
    contender.run(&Job::new(case, (*contender).name(), count.parse()?, Some(peer)))?;
    Ok(())
}
