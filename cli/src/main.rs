//! The `tombolo` command: pass data between processes through shared memory, and look after the names they use.

#![forbid(unsafe_code)]

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
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::place::Place;

fn main() -> ExitCode {
    // Everything is dropped, and every pipe left, before the exit code gets here.
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: Args) -> Result<(), Failure> {
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
