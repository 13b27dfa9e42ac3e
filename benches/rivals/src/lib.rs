//! Measures queues, and objects in shared memory, against others on the same work.
//!
//! A suite (`spsc`, `mpmc`, `broadcast`, `objects`) is a list of cases and the code that runs one turn of one
//! case. A subject (`subjects`) is a library that supports some of them. `compare` lets subjects
//! take turns, and `report` prints what came of it.

pub mod broadcast;
mod case;
mod compare;
#[path = "../../harness/mod.rs"]
pub mod harness;
mod latency;
mod link;
pub mod mpmc;
pub mod objects;
mod report;
mod rounds;
mod sample;
pub mod shared_memory;
pub mod spsc;
pub mod subject;
mod subjects;
mod suite;

use std::{mem, process, ptr, thread};

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser};

use compare::Options;
use suite::Suite;

pub use latency::now;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,

    /// Be one participant, in a process of its own
    #[arg(long, hide = true, num_args = 5..)]
    peer: Option<Vec<String>>,
}

/// The program for one suite.
pub fn main(suite: &dyn Suite) -> Result<()> {
    let args = Args::from_arg_matches(&Args::command().about(suite.about()).get_matches())?;
    let subjects = subjects::all();
    if let Some(peer) = &args.peer {
        return subject::run_participant(peer, &suite.cases(), &subjects);
    }
    clean_up_when_stopped();
    args.options.compare(suite, &subjects)
}

/// Leaves nothing behind after Ctrl-C either.
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
        subjects::all().iter().for_each(|subject| subject.clean_up());
        process::exit(128 + signal);
    });
}
