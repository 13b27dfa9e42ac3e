//! `tombolo recv --dead-letters`: out of a queue that redelivers, into a file or standard output.

use std::io::Write;

use tombolo::queue::OnDeath;

use super::destination::{Destination, Output, Target};
use crate::args::Stream;
use crate::failure::Failure;
use crate::location::Location;

pub fn run(location: &Location, stream: &Stream) -> Result<(), Failure> {
    let target = Target {
        file: stream.named_file().map(Into::into),
        in_place: true, // what was removed from the queue is nowhere else
        has_no_end: false,
        keeps_partial: true,
        quiet: stream.quiet,
    };
    let destination = Destination::find(&target)?;
    let mut rx = location.queue(&stream.name, None, None, false).must_exist().receiver(&stream.name)?;
    if rx.on_death() == OnDeath::Lose {
        return Err(Failure::Error(format!(
            "cannot read dead letters of {:?}: found a queue that loses the messages of the dead, expected one that \
             redelivers; create it with --redeliver",
            stream.name
        )));
    }
    let Output { mut file, .. } = destination.open()?;
    let mut unreadable = None;
    for letter in rx.dead_letters().map_err(|error| failure(stream, error))? {
        let letter = match letter {
            Ok(letter) => letter,
            Err(error) => {
                unreadable = Some(failure(stream, error)); // those behind it are not its fault
                continue;
            }
        };
        file.write_all(&letter).map_err(|error| Failure::output(&error))?;
        if stream.lines {
            file.write_all(b"\n").map_err(|error| Failure::output(&error))?;
        }
        let _ = letter.remove(); // `None`: another process has written it, too
    }
    unreadable.map_or(Ok(()), Err)
}

fn failure(stream: &Stream, error: impl std::fmt::Display) -> Failure {
    Failure::Error(format!("cannot receive from {:?}: {error}", stream.name))
}
