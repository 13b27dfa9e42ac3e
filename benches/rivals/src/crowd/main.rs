//! Measures queues with any number of producers and consumers against each other.

mod case;
mod contenders;
#[path = "../contest.rs"]
mod contest;
mod gate;
#[path = "../harness/mod.rs"]
#[allow(dead_code)] // each program uses a part of it
mod harness;
mod play;
#[path = "../report.rs"]
mod report;
#[path = "../shared.rs"]
mod shared;
mod side;

use std::path::Path;

use anyhow::{Context, Result};
use clap::Parser;

use case::Case;
use contest::{Case as _, Entrant, Options};
use play::{Job, Peer, Sample};

/// Measures queues with several producers and consumers against each other:
/// every message is written in full, read in full and checked, over all consumers
/// together.
///
/// Participants are spread over the CPUs. Contenders take turns; each turn is
/// bracketed by probes of the distance between CPUs 0 and 1, and results are kept
/// apart by that regime. The baseline is array-queue, or channel.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,

    /// Play one participant, in a process of its own
    #[arg(long, hide = true, num_args = 7)]
    peer: Option<Vec<String>>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(peer) = &args.peer {
        return play_peer(peer);
    }
    if Path::new("/usr/include/boost/interprocess").exists() {
        println!("boost-mq takes no part: its headers are here, but nobody has written the contender.");
    } else {
        println!("boost-mq takes no part: there are no Boost headers on this machine.");
    }
    args.options.hold(&contenders::all(), &["array-queue", "channel"])
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

/// `--peer CONTENDER CASE COUNT GATE PART INDEX ADDRESS`, as the first process passes it.
fn play_peer(peer: &[String]) -> Result<()> {
    let [contender, case, count, gate, part, index, address] = peer else { unreachable!("clap counts them") };
    let case = Case::all().into_iter().find(|c| c.to_string() == *case).context("no such case")?;
    let contender =
        contenders::all().into_iter().find(|c| (**c).name() == contender.as_str()).context("no such contender")?;
    let peer = Peer { gate, part: part.parse()?, index: index.parse()?, address };
    contender.run(&Job::new(case, (*contender).name(), count.parse()?, Some(peer)))?;
    Ok(())
}
