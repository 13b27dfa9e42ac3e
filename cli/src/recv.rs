//! `tombolo recv`: out of a pipe or a queue, into a file or standard output.

use std::fs::File;
use std::io::{self, Write};
use std::mem;

use tombolo::RecvError;

use crate::args::Recv;
use crate::ends::RecvEnd;
use crate::failure::Failure;
use crate::place::Place;
use crate::progress::Progress;
use crate::rendezvous::{Part, Peer, Rendezvous, SLICE, print_notes, refuse_namespace};
use crate::target::{Opened, Replacement, Target};
use crate::worker::{BUFFER_LEN, Worker};

pub fn run(place: &Place, recv: &Recv) -> Result<(), Failure> {
    let transfer = &recv.transfer;
    if transfer.queue {
        receive(place, recv, |name| place.queue(transfer.capacity).receiver(name))
    } else {
        receive(place, recv, |name| place.pipe(transfer.capacity).receiver(name))
    }
}

fn receive<R: RecvEnd>(place: &Place, recv: &Recv, enter: impl Fn(&str) -> tombolo::Result<R>) -> Result<(), Failure> {
    let transfer = &recv.transfer;
    refuse_namespace(place, transfer)?; // before a FIFO is opened, which may wait for its reader
    let target = Target::find(recv)?;
    let mut rendezvous = Rendezvous::new(place, transfer, Part::Receiver)?;
    let rx = rendezvous.join(|name| {
        refuse_namespace(place, transfer)?;
        Ok(enter(name)?)
    })?;
    // Nothing that was there is touched before.
    let Opened { file, replacement } = target.open()?;
    print_notes(&rx, transfer);
    let progress = Progress::new(None, transfer.quiet);
    let (name, lines) = (&transfer.name, transfer.lines);
    let output = writer(file);
    let receiving = Receiving { rx, rendezvous, progress, output, name, lines, met: false };
    receiving.everything(replacement)
}

/// Writes buffers out and empties them.
fn writer(mut output: File) -> Worker {
    Worker::start(move |buffer| {
        output.write_all(buffer)?;
        buffer.clear();
        Ok(())
    })
}

/// Writes the file to the disk. Only then is it certain that there was room for it, and that a crash
/// of the machine after the rename leaves the old content or the new one.
fn syncer(file: File) -> Worker {
    let mut file = Some(file);
    let mut worker = Worker::start(move |_| match file.take().map_or(Ok(()), |file| file.sync_all()) {
        // A file system that knows nothing of it.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        done => done,
    });
    worker.give_all();
    worker
}

struct Receiving<'a, R> {
    rx: R,
    rendezvous: Rendezvous<'a>,
    progress: Progress,
    output: Worker,
    name: &'a str,
    lines: bool,
    /// A sender has been here.
    met: bool,
}

impl<R: RecvEnd> Receiving<'_, R> {
    fn everything(mut self, replacement: Option<Replacement>) -> Result<(), Failure> {
        let mut message = Vec::new();
        let end = loop {
            let mut batch = self.free_buffer()?;
            let end = self.fill(&mut batch, &mut message)?;
            self.progress.add(batch.len());
            self.output.give(batch);
            if let Some(end) = end {
                break end;
            }
            self.rendezvous.check_signals()?; // a transfer at full speed never waits
        };
        self.await_output()?;
        match (end, replacement) {
            (RecvError::Closed, None) => Ok(()),
            (RecvError::Closed, Some(replacement)) => {
                let file = replacement.file().map_err(|error| Failure::output(&error))?;
                self.output = syncer(file);
                self.await_output()?;
                replacement.finish()
            }
            (RecvError::PeerDied, replacement) => Err(Failure::PeerDied(format!(
                "{} of {:?} died, or broke off, before the end; {}",
                R::SENDER,
                self.name,
                match replacement {
                    Some(_) => "the file is left as it was",
                    None => "what came until then is incomplete",
                }
            ))),
            (error, _) => Err(Failure::Error(format!("cannot receive from {:?}: {error}", self.name))),
        }
    }

    /// Returns when everything that was given is written.
    fn await_output(&mut self) -> Result<(), Failure> {
        while !self.output.is_idle(SLICE).map_err(|error| Failure::output(&error))? {
            self.rendezvous.check_signals()?;
        }
        Ok(())
    }

    fn free_buffer(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(buffer) = self.output.take(SLICE).map_err(|error| Failure::output(&error))? {
                return Ok(buffer);
            }
            self.rendezvous.check_signals()?;
        }
    }

    /// Collects what is there; waits only if there is nothing. Says why nothing more will come, if so.
    fn fill(&mut self, batch: &mut Vec<u8>, message: &mut Vec<u8>) -> Result<Option<RecvError>, Failure> {
        while batch.len() < BUFFER_LEN {
            let received =
                if batch.is_empty() { self.rx.recv_timeout(message, SLICE) } else { self.rx.try_recv(message) };
            match received {
                Ok(_) => {
                    self.met = true;
                    self.rendezvous.go_on();
                    if self.lines {
                        message.push(b'\n');
                    }
                    if batch.is_empty() {
                        mem::swap(batch, message); // saves a copy of a large one
                    } else {
                        batch.extend_from_slice(message);
                    }
                }
                Err(RecvError::Empty) => break,
                Err(RecvError::TimedOut) => self.wait_for_message()?,
                Err(end) => return Ok(Some(end)),
            }
        }
        Ok(None)
    }

    fn wait_for_message(&mut self) -> Result<(), Failure> {
        // The output may have been closed after the last write was accepted.
        self.output.collect().map_err(|error| Failure::output(&error))?;
        match self.rendezvous.peer() {
            Peer::NotYet => {}
            Peer::Nameless if !self.met => {
                let name = self.name;
                return Err(Failure::Error(format!("somebody removed the name {name:?} before a sender came")));
            }
            _ => self.met = true, // if it is gone, the next receive says how
        }
        self.rendezvous.keep_waiting(if self.met { "nothing came" } else { "nobody came to send" })
    }
}
