//! The `tombolo` command: pass data between processes through shared memory, and look after the names they use.

#![deny(unsafe_code)] // but in streams.rs

mod args;
mod demo;
mod doctor;
mod ends;
mod failure;
mod look;
mod objects;
mod output;
mod place;
mod progress;
mod recv;
mod rendezvous;
mod send;
mod signals;
mod streams;
mod target;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::place::Place;

fn main() -> ExitCode {
    // Everything is dropped, and every pipe left, before the exit code gets here.
    let done = match Args::try_parse() {
        Ok(args) => run(args),
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => output::print_help(&help),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let prints = !matches!(
        args.command,
        Command::DemoPeer(_) | Command::Send(_) | Command::Recv(_) | Command::Rm { .. } // the transfers check their own
    );
    if prints {
        streams::check_output()?;
    }
    let place = Place::new(args.dir);
    match args.command {
        Command::Demo(demo) => demo::run(&demo),
        Command::DemoPeer(peer) => demo::peer(&peer),
        Command::Send(send) => send::run(&place, &send),
        Command::Recv(recv) => recv::run(&place, &recv),
        Command::Ls { json } => look::ls(&place, json),
        Command::Inspect { name, json } => look::inspect(&place, &name, json),
        Command::Rm { name, force } => Ok(place.directory.unlink(&name, force)?),
        Command::Doctor { json, dry_run } => doctor::run(&place, json, dry_run),
    }
}
