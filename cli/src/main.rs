//! The `tombolo` command: passes data between processes through shared memory, and looks after the
//! names they use.

#![deny(unsafe_code)] // except in streams.rs

mod args;
mod demo;
mod doctor;
mod failure;
mod inspect;
mod location;
mod map;
mod output;
mod streams;
mod transfer;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::location::Location;

fn main() -> ExitCode {
    // `run` drops everything it holds, endpoints included, before the process exits.
    let result = match Args::try_parse() {
        Ok(args) => run(args),
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => output::print_help(&help),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: Args) -> Result<(), Failure> {
    // `send`, `recv`, `pub`, `sub` and `work` check the streams that they use.
    let prints = !matches!(
        args.command,
        Command::DemoPeer(_)
            | Command::Send(_)
            | Command::Recv(_)
            | Command::Pub(_)
            | Command::Sub(_)
            | Command::Work(_)
            | Command::Rm { .. }
    );
    if prints {
        streams::check_output()?;
    }
    let location = Location::new(args.dir);
    match args.command {
        Command::Demo(demo) => demo::run(&demo),
        Command::DemoPeer(peer) => demo::run_peer(&peer),
        Command::Send(send) => transfer::send::run(&location, &send),
        Command::Recv(recv) => transfer::recv::run(&location, &recv),
        Command::Pub(args) => transfer::send::publish(&location, &args),
        Command::Sub(args) => transfer::recv::subscribe(&location, &args),
        Command::Work(work) => transfer::work::run(&location, &work),
        Command::Ls { json } => inspect::list::run(&location, json),
        Command::Inspect { name, json } => inspect::run(&location, &name, json),
        Command::Rm { name, force } => remove(&location, &name, force),
        Command::Map(args) => map::run(&location, &args),
        Command::Doctor { json, dry_run } => doctor::run(&location, json, dry_run),
    }
}

/// `tombolo rm`.
fn remove(location: &Location, name: &str, force: bool) -> Result<(), Failure> {
    if inspect::is_unnamed(name) {
        let why = "found a region without a name; it is removed when the last process closes it";
        return Err(Failure::Usage(format!("cannot remove {name}: {why}")));
    }
    match name.split_once('/') {
        Some((namespace, object)) => location.directory.unlink_object(namespace, object, force)?,
        None => location.directory.unlink(name, force)?,
    }
    Ok(())
}
