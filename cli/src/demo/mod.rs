//! `tombolo demo`: two processes exchange data through shared memory and then through a Unix pipe,
//! check every byte, and report the speed.
//!
//! This process is the local side: it sends, measures and reports. The remote side is this program
//! again, started with a hidden command: it receives and checks.

mod cpus;
mod exchange;
mod report;
mod transport;

use std::env;
use std::fs;
use std::io::{self, stdin, stdout};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use tombolo::pipe;
use tombolo::spawn::{self, CommandExt};

use crate::args::{Demo, DemoPeer, Transport};
use crate::failure::Failure;
use crate::output::{print, print_json};
use exchange::{Job, Outcome};
use report::Report;
use transport::{Packet, PipeLocal, PipeRemote, TomboloLocal, TomboloRemote};

/// The longest message that carries a part of the file, in bytes.
const MESSAGE_LEN: usize = 1 << 20;

/// Capacity of the pipe for the file, in bytes.
const RING_LEN: usize = 8 << 20;

/// Capacity of the pipe for small messages.
const RING_CAPACITY: usize = 4096;

pub fn run(demo: &Demo) -> Result<(), Failure> {
    let path = match &demo.file {
        Some(path) => path.clone(),
        None => env::current_exe().map_err(|error| Failure::io("find this program's file", &error))?,
    };
    let file = fs::read(&path).map_err(|error| Failure::io(format_args!("read {}", path.display()), &error))?;
    let times = if file.is_empty() { 1 } else { (demo.mib << 20).div_ceil(file.len() as u64).max(1) };
    let cpus = cpus::pick_two();
    if let Some((local, _)) = cpus {
        cpus::pin(local).map_err(|error| Failure::io("stay on one CPU", &error))?;
    }
    let remote_cpu = cpus.map(|(_, remote)| remote);

    let job = Job { file: &file, times, messages: demo.messages, round_trips: demo.round_trips };
    let tombolo = through_tombolo(&job, remote_cpu)?;
    // A Unix pipe is slower: fewer small messages give a rate that is as exact.
    let smaller_job = Job { messages: demo.messages.div_ceil(10), round_trips: demo.round_trips.div_ceil(4), ..job };
    let (pipe, pipe_len) = through_pipe(&smaller_job, remote_cpu)?;

    let report = Report::new(&path, &job, cpus, pipe_len, &tombolo, &pipe);
    if demo.json {
        print_json(&report)?;
    } else {
        print(&report.to_text(&tombolo.round_trips, &pipe.round_trips))?;
    }
    match report.problems() {
        [] => Ok(()),
        problems => Err(Failure::Error(format!("not verified: {}", problems.join("; ")))),
    }
}

fn remote_command(transport: &str, cpu: Option<usize>) -> Result<Command, Failure> {
    let program = env::current_exe().map_err(|error| Failure::io("find this program's file", &error))?;
    let mut command = Command::new(program);
    command.args(["demo-peer", transport]).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(cpu) = cpu {
        command.args(["--cpu", &cpu.to_string()]);
    }
    Ok(command)
}

fn through_tombolo(job: &Job, cpu: Option<usize>) -> Result<Outcome, Failure> {
    let (file, remote_file) = pipe::Options::bytes().capacity_bytes(RING_LEN).prefault().create()?;
    let (values, remote_values) = pipe::Options::<Packet>::new().capacity(RING_CAPACITY).prefault().create()?;
    let (talk, remote_talk) = pipe::Options::<Packet>::new().create_duplex()?;
    let spawner = remote_command("tombolo", cpu)?
        .pass("file", remote_file)?
        .pass("values", remote_values)?
        .pass("talk", remote_talk)?;
    let child = spawner.spawn().map_err(|error| Failure::io("start the second process", &error))?;
    finish(child, exchange::run_local(&mut TomboloLocal { file, values, talk }, job))
}

fn through_pipe(job: &Job, cpu: Option<usize>) -> Result<(Outcome, usize), Failure> {
    let mut command = remote_command("pipe", cpu)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Failure::io("start the second process", &error))?;
    let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::Error("cannot reach the second process".to_string()));
    };
    let (mut local, pipe_len) = PipeLocal::new(to, from);
    let outcome = exchange::run_local(&mut local, job);
    drop(local);
    Ok((finish(child, outcome)?, pipe_len))
}

/// Waits for the second process. An error of this side comes first: it explains the other's.
fn finish(mut child: Child, outcome: io::Result<Outcome>) -> Result<Outcome, Failure> {
    if outcome.is_err() {
        let _ = child.kill();
    }
    let ended = child.wait().map_err(|error| Failure::io("wait for the second process", &error))?;
    let outcome = outcome.map_err(|error| Failure::io("exchange data with the second process", &error))?;
    if !ended.success() {
        return Err(Failure::Error(format!("the second process ended with {ended}")));
    }
    Ok(outcome)
}

/// The hidden command.
pub fn run_peer(peer: &DemoPeer) -> Result<(), Failure> {
    if let Some(cpu) = peer.cpu {
        cpus::pin(cpu).map_err(|error| Failure::io("stay on one CPU", &error))?;
    }
    let done = match peer.transport {
        Transport::Tombolo => exchange::run_remote(&mut TomboloRemote {
            file: spawn::take("file")?,
            values: spawn::take("values")?,
            talk: spawn::take("talk")?,
        }),
        Transport::Pipe => {
            let ends = stdin().as_fd().try_clone_to_owned().and_then(|input| {
                let output = stdout().as_fd().try_clone_to_owned()?;
                Ok((input.into(), output.into()))
            });
            let (input, output) = ends.map_err(|error| Failure::io("open the standard streams", &error))?;
            exchange::run_remote(&mut PipeRemote::new(input, output))
        }
    };
    done.map_err(|error| Failure::io("exchange data with the first process", &error))
}
