//! `tombolo recv`: out of a pipe or a queue, into a file or standard output.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::thread;

use tombolo::RecvError;

use super::destination::replacement::Replacement;
use super::destination::{Destination, Output};
use super::progress::Progress;
use super::rendezvous::{CHECK_INTERVAL, Meeting, POLL_INTERVAL, Rendezvous, Role};
use super::signals::Signals;
use super::transport::{RecvEndpoint, print_warnings};
use super::worker::{BUFFER_LEN, Worker};
use crate::args::{Recv, Stay};
use crate::failure::Failure;
use crate::location::Location;

pub fn run(location: &Location, recv: &Recv) -> Result<(), Failure> {
    let transfer = &recv.transfer;
    if transfer.queue {
        receive(location, recv, |name| location.queue(name, transfer.capacity, !transfer.lines).receiver(name))
    } else {
        receive(location, recv, |name| location.pipe(transfer.capacity).receiver(name))
    }
}

fn receive<R: RecvEndpoint>(
    location: &Location,
    recv: &Recv,
    open: impl Fn(&str) -> tombolo::Result<R>,
) -> Result<(), Failure> {
    let transfer = &recv.transfer;
    let mut rendezvous = Rendezvous::new(location, Signals::watch()?, Meeting::of(transfer, Role::Receiver));
    rendezvous.refuse_namespace()?; // opening a FIFO as the target may wait for its reader
    let target = {
        let recv = recv.clone();
        rendezvous.run_blocking("nobody opened the FIFO to read", move || Destination::find(&recv))??
    };
    let rx = rendezvous.join(open)?;
    // Existing files are not changed before this.
    let Output { file, replacement } = target.open()?;
    print_warnings(&rx, transfer);
    let progress = Progress::new(None, transfer.quiet);
    let (name, lines, stay) = (&transfer.name, transfer.lines, &recv.stay);
    let output = writer(file);
    let job = RecvJob { rx, rendezvous, progress, output, name, lines, stay, peer_seen: false };
    job.run(replacement)
}

/// Starts a worker that writes and clears each buffer.
fn writer(mut output: File) -> Worker {
    Worker::start(move |buffer| {
        output.write_all(buffer)?;
        buffer.clear();
        Ok(())
    })
}

/// Starts a worker that syncs the file to the disk.
///
/// Some file systems report a full disk only then. It also makes sure that after a crash of the
/// machine the renamed file has its whole content.
fn syncer(file: File) -> Worker {
    let mut file = Some(file);
    let mut worker = Worker::start(move |_| match file.take().map_or(Ok(()), |file| file.sync_all()) {
        // The file system cannot sync.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    });
    worker.submit_all();
    worker
}

struct RecvJob<'a, R> {
    rx: R,
    rendezvous: Rendezvous<'a>,
    progress: Progress,
    output: Worker,
    name: &'a str,
    lines: bool,
    stay: &'a Stay,
    /// A sender has been here.
    peer_seen: bool,
}

impl<R: RecvEndpoint> RecvJob<'_, R> {
    fn run(mut self, replacement: Option<Replacement>) -> Result<(), Failure> {
        let mut message = Vec::new();
        let end = loop {
            let mut batch = self.idle_buffer()?;
            let end = self.fill(&mut batch, &mut message)?;
            self.progress.add(batch.len());
            self.output.submit(batch);
            if let Some(end) = end {
                break end;
            }
            self.rendezvous.check_signals()?; // a fast transfer never waits, which would check them
        };
        self.wait_for_output()?;
        match (end, replacement) {
            (RecvError::Closed, None) => Ok(()),
            (RecvError::Closed, Some(replacement)) => {
                let file = replacement.file().map_err(|error| Failure::output(&error))?;
                self.output = syncer(file);
                self.wait_for_output()?;
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

    /// Waits until all submitted buffers are written.
    fn wait_for_output(&mut self) -> Result<(), Failure> {
        while !self.output.is_idle(CHECK_INTERVAL).map_err(|error| Failure::output(&error))? {
            self.rendezvous.check_signals()?;
        }
        Ok(())
    }

    fn idle_buffer(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(buffer) = self.output.collect(CHECK_INTERVAL).map_err(|error| Failure::output(&error))? {
                return Ok(buffer);
            }
            self.rendezvous.check_signals()?;
        }
    }

    /// Collects the messages that are there, and waits only if there are none. Returns the reason
    /// if no more will come.
    fn fill(&mut self, batch: &mut Vec<u8>, message: &mut Vec<u8>) -> Result<Option<RecvError>, Failure> {
        while batch.len() < BUFFER_LEN {
            let received = if batch.is_empty() {
                self.rx.recv_timeout(message, CHECK_INTERVAL)
            } else {
                self.rx.try_recv(message)
            };
            match received {
                Ok(_) => {
                    self.peer_seen = true;
                    self.rendezvous.reset_timeout();
                    if self.lines {
                        message.push(b'\n');
                    }
                    if batch.is_empty() {
                        mem::swap(batch, message); // saves copying a long message
                    } else {
                        batch.extend_from_slice(message);
                    }
                }
                Err(RecvError::Empty) => break,
                Err(RecvError::TimedOut) => {
                    if let Some(end) = self.rendezvous.late_end(self.stay) {
                        return Ok(Some(end));
                    }
                    self.wait_for_message(false)?;
                }
                Err(RecvError::Closed | RecvError::PeerDied) if !self.rendezvous.is_end(self.stay) => {
                    if !batch.is_empty() {
                        break;
                    }
                    self.wait_for_message(true)?;
                    thread::sleep(POLL_INTERVAL); // until another sender comes, this is the answer
                }
                Err(end) => return Ok(Some(end)),
            }
        }
        Ok(None)
    }

    /// `is_over`: only a new sender can send something.
    fn wait_for_message(&mut self, is_over: bool) -> Result<(), Failure> {
        // The output may have failed after the last buffer was submitted.
        self.output.poll().map_err(|error| Failure::output(&error))?;
        self.rendezvous.wait_for_sender(&mut self.peer_seen, is_over)
    }
}
