//! `tombolo demo`: two processes exchange data through shared memory and then through a Unix pipe, check every byte, and
//! say how fast it was.
//!
//! This process is the near side: it sends, times and reports. The far side is this program once more, with a hidden
//! command: it receives and checks.

mod cpus;
mod exchange;
mod report;
mod transport;

use std::env;
use std::fs;
use std::io::{self, stdin, stdout};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use tombolo::{Handover, PipeOptions};

use crate::args::{Demo, DemoPeer, Transport};
use crate::failure::Failure;
use crate::output::{print, print_json};
use exchange::{Job, Outcome};
use report::Report;
use transport::{Packet, PipeFar, PipeNear, TomboloFar, TomboloNear};

/// Messages of the file's stream are this long, at most.
const MESSAGE_LEN: usize = 1 << 20;

/// Bytes that wait in shared memory, at most.
const RING_LEN: usize = 8 << 20;

/// Small messages that wait in shared memory, at most.
const RING_VALUES: usize = 4096;

pub fn run(demo: &Demo) -> Result<(), Failure> {
    let path = match &demo.file {
        Some(path) => path.clone(),
        None => env::current_exe().map_err(|error| Failure::io("find this program's file", &error))?,
    };
    let file = fs::read(&path).map_err(|error| Failure::io(format_args!("read {}", path.display()), &error))?;
    let times = if file.is_empty() { 1 } else { (demo.mib << 20).div_ceil(file.len() as u64).max(1) };
    let cpus = cpus::pick_two();
    if let Some((near, _)) = cpus {
        cpus::pin(near).map_err(|error| Failure::io("stay on one CPU", &error))?;
    }
    let far_cpu = cpus.map(|(_, far)| far);

    let job = Job { file: &file, times, messages: demo.messages, round_trips: demo.round_trips };
    let tombolo = through_tombolo(&job, far_cpu)?;
    // A pipe takes its time: fewer of the small ones, for a rate that is as good.
    let less = Job { messages: demo.messages.div_ceil(10), round_trips: demo.round_trips.div_ceil(4), ..job };
    let (pipe, pipe_len) = through_pipe(&less, far_cpu)?;

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

fn far_side(transport: &str, cpu: Option<usize>) -> Result<Command, Failure> {
    let program = env::current_exe().map_err(|error| Failure::io("find this program's file", &error))?;
    let mut command = Command::new(program);
    command.args(["demo-peer", transport]).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(cpu) = cpu {
        command.args(["--cpu", &cpu.to_string()]);
    }
    Ok(command)
}

fn through_tombolo(job: &Job, cpu: Option<usize>) -> Result<Outcome, Failure> {
    let (file, far_file) = PipeOptions::bytes().capacity_len(RING_LEN).prefault().one_way()?;
    let (values, far_values) = PipeOptions::values::<Packet>().capacity(RING_VALUES).prefault().one_way()?;
    let (talk, far_talk) = PipeOptions::values::<Packet>().duplex()?;
    let handover = Handover::new(far_side("tombolo", cpu)?);
    let handover = handover.give("file", far_file)?.give("values", far_values)?.give("talk", far_talk)?;
    let child = handover.spawn().map_err(|error| Failure::io("start the second process", &error))?;
    finish(child, exchange::near(&mut TomboloNear { file, values, talk }, job))
}

fn through_pipe(job: &Job, cpu: Option<usize>) -> Result<(Outcome, usize), Failure> {
    let mut command = far_side("pipe", cpu)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Failure::io("start the second process", &error))?;
    let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::Error("cannot reach the second process".to_string()));
    };
    let (mut near, pipe_len) = PipeNear::new(to, from);
    let outcome = exchange::near(&mut near, job);
    drop(near);
    Ok((finish(child, outcome)?, pipe_len))
}

/// The near side's own troubles first: they explain the far side's.
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

pub fn peer(peer: &DemoPeer) -> Result<(), Failure> {
    if let Some(cpu) = peer.cpu {
        cpus::pin(cpu).map_err(|error| Failure::io("stay on one CPU", &error))?;
    }
    let done = match peer.transport {
        Transport::Tombolo => exchange::far(&mut TomboloFar {
            file: tombolo::handed("file")?,
            values: tombolo::handed("values")?,
            talk: tombolo::handed("talk")?,
        }),
        Transport::Pipe => {
            let ends = stdin().as_fd().try_clone_to_owned().and_then(|input| {
                let output = stdout().as_fd().try_clone_to_owned()?;
                Ok((input.into(), output.into()))
            });
            let (input, output) = ends.map_err(|error| Failure::io("open the standard streams", &error))?;
            exchange::far(&mut PipeFar::new(input, output))
        }
    };
    done.map_err(|error| Failure::io("exchange data with the first process", &error))
}
