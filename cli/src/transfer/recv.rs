//! `tombolo recv` and `tombolo sub`: out of a pipe, a queue or a broadcast, into a file or standard
//! output.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::RecvError;
use tombolo::inspect::RegionKind;

use super::dead_letters;
use super::destination::replacement::Replacement;
use super::destination::{Destination, Output, Target};
use super::progress::Progress;
use super::rendezvous::{Beginning, CHECK_INTERVAL, Meeting, POLL_INTERVAL, Rendezvous, Role};
use super::signals::Signals;
use super::transport::{RecvEndpoint, print_warnings};
use super::worker::{BUFFER_LEN, Worker};
use crate::args::{Recv, Stay, Stream, Sub};
use crate::failure::{Failure, print_message};
use crate::location::Location;

/// The shortest time between two notes of missed messages.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

pub fn run(location: &Location, recv: &Recv) -> Result<(), Failure> {
    if recv.dead_letters {
        return dead_letters::run(location, &recv.transfer.stream);
    }
    let Recv { transfer, stay, writing, .. } = recv;
    let stream = &transfer.stream;
    let has_capacity = transfer.capacity.is_some();
    let receiving = Receiving { stream, stay, in_place: writing.in_place, has_capacity };
    if transfer.queue {
        let meeting = Meeting::of(stream, RegionKind::Queue, Role::Receiver);
        receiving.run(location, meeting, |name| {
            location.queue(name, transfer.capacity, transfer.redeliver, !stream.lines).receiver(name)
        })
    } else {
        let meeting = Meeting::of(stream, RegionKind::Pipe, Role::Receiver);
        receiving.run(location, meeting, |name| location.pipe(transfer.capacity).receiver(name))
    }
}

/// `tombolo sub`.
pub fn subscribe(location: &Location, args: &Sub) -> Result<(), Failure> {
    let (stream, options) = (&args.stream, &args.broadcast);
    let (in_place, has_capacity) = (args.writing.in_place, options.capacity.is_some());
    let stay = Stay { follow: args.follow, senders: None };
    let receiving = Receiving { stream, stay: &stay, in_place, has_capacity };
    let meeting = Meeting::of(stream, RegionKind::Broadcast, Role::Receiver);
    receiving.run(location, meeting, |name| {
        let mut made = location.broadcast(name, options, args.history, !stream.lines);
        if let Some(history) = args.history {
            made = made.replay(history);
        }
        if args.follow {
            made = made.wait_for_successor();
        }
        let subscriber = made.subscriber(name)?;
        if !stream.quiet {
            location.print_differences(name, options, None);
        }
        Ok(subscriber)
    })
}

/// What is to be received, and how it is written.
struct Receiving<'a> {
    stream: &'a Stream,
    stay: &'a Stay,
    in_place: bool,
    /// The user chose a capacity.
    has_capacity: bool,
}

impl Receiving<'_> {
    fn run<R: RecvEndpoint>(
        &self,
        location: &Location,
        meeting: Meeting<'_>,
        open: impl Fn(&str) -> tombolo::Result<R>,
    ) -> Result<(), Failure> {
        let &Self { stream, stay, in_place, .. } = self;
        let mut rendezvous = Rendezvous::new(location, Signals::watch()?, meeting);
        rendezvous.refuse_foreign()?; // opening a FIFO as the target may wait for its reader
        let destination = {
            let target = Target {
                file: stream.named_file().map(Into::into),
                in_place,
                has_no_end: stay.follow,
                // What was taken out of a queue is nowhere else.
                keeps_partial: meeting.kind == RegionKind::Queue,
                quiet: stream.quiet,
            };
            rendezvous.run_blocking("nobody opened the FIFO to read", move || Destination::find(&target))??
        };
        let rx = rendezvous.join(open)?;
        // Existing files are not changed before this.
        let Output { file, replacement } = destination.open()?;
        if self.has_capacity && !stream.quiet {
            print_warnings(&rx);
        }
        let progress = Progress::new(None, stream.quiet);
        let (output, peer_seen, missed) = (writer(file), false, Missed::default());
        let mut job = RecvJob { rx, rendezvous, progress, output, stream, stay, peer_seen, missed };
        job.check_beginning();
        job.run(replacement)
    }
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
    stream: &'a Stream,
    stay: &'a Stay,
    /// A sender has been here.
    peer_seen: bool,
    missed: Missed,
}

/// The messages that a subscriber did not get.
#[derive(Default)]
struct Missed {
    count: u64,
    /// Of these, how many the last note told, and when.
    noted: u64,
    noted_at: Option<Instant>,
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
            // Without a part of it, a stream is of no use.
            (RecvError::Closed, replacement) if self.missed.count > 0 && !self.stream.lines => {
                Err(self.incomplete(what_became_of(&replacement)))
            }
            (RecvError::Closed, None) if self.missed.count > 0 => Err(self.incomplete("it has got all others")),
            (RecvError::Closed, None) => Ok(()),
            (RecvError::Closed, Some(replacement)) => {
                let file = replacement.file().map_err(|error| Failure::output(&error))?;
                self.output = syncer(file);
                self.wait_for_output()?;
                replacement.finish()?;
                if self.missed.count > 0 { Err(self.incomplete("the file has all others")) } else { Ok(()) }
            }
            (RecvError::PeerDied, replacement) => Err(Failure::PeerDied(format!(
                "{} of {:?} died, or broke off, before the end; {}",
                R::SENDER,
                self.stream.name,
                what_became_of(&replacement)
            ))),
            (RecvError::Evicted, replacement) => Err(Failure::Error(format!(
                "{:?} goes on without this subscriber, which was too slow and missed {}; {}; start `sub` again and \
                 let it write faster, or make the broadcast with a larger --evict-slow, or with none",
                self.stream.name,
                messages(self.missed.count),
                what_became_of(&replacement)
            ))),
            (error, _) => Err(Failure::Error(format!("cannot receive from {:?}: {error}", self.stream.name))),
        }
    }

    /// The end of a stream of which something is missing.
    fn incomplete(&self, result: &str) -> Failure {
        let Missed { count, .. } = self.missed;
        Failure::Missed(format!("this subscriber of {:?} missed {}; {result}", self.stream.name, messages(count)))
    }

    /// Notes what was published of a stream before this subscriber came.
    fn check_beginning(&mut self) {
        let (before, name) = (self.rx.sent_before(), &self.stream.name);
        match self.rendezvous.beginning() {
            _ if self.stream.lines || before == 0 => {}
            Beginning::Ahead => {}
            Beginning::Missed => {
                self.missed = Missed { count: before, noted: before, noted_at: None };
                if !self.stream.quiet {
                    print_message(format_args!(
                        "note: the beginning of {name:?} is missing: {} came before this subscriber",
                        messages(before)
                    ));
                }
            }
            Beginning::Unknown if !self.stream.quiet => {
                print_message(format_args!("note: the publisher of {name:?} may have begun before"));
            }
            Beginning::Unknown => {}
        }
    }

    /// Begins again after an eviction, and counts what was missed. Without lines the stream is of
    /// no use then: returns its end.
    fn rejoin(&mut self) -> Option<RecvError> {
        match self.rx.rejoin() {
            Err(end) => Some(end),
            Ok(count) if self.stream.lines => {
                self.miss(count, "too slow, and evicted");
                None
            }
            Ok(count) => {
                self.missed.count = self.missed.count.saturating_add(count);
                Some(RecvError::Evicted)
            }
        }
    }

    /// Counts messages that were not read in time, and says so now and then.
    fn miss(&mut self, count: u64, reason: &str) {
        let Self { missed, stream, .. } = self;
        missed.count = missed.count.saturating_add(count);
        let is_due = missed.noted_at.is_none_or(|noted_at| noted_at.elapsed() >= NOTE_INTERVAL);
        if is_due && !stream.quiet {
            let new = messages(missed.count - missed.noted);
            (missed.noted, missed.noted_at) = (missed.count, Some(Instant::now()));
            print_message(format_args!("note: missed {new} of {:?}: {reason}", stream.name));
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
                    if self.stream.lines {
                        message.push(b'\n');
                    }
                    if batch.is_empty() {
                        mem::swap(batch, message); // saves copying a long message
                    } else {
                        batch.extend_from_slice(message);
                    }
                }
                Err(RecvError::Empty) => break,
                Err(RecvError::Lagged { missed }) => self.miss(missed, "too slow"),
                Err(RecvError::Evicted) => {
                    if let Some(end) = self.rejoin() {
                        return Ok(Some(end));
                    }
                }
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

/// What a failed transfer leaves.
fn what_became_of(replacement: &Option<Replacement>) -> &'static str {
    match replacement {
        Some(_) => "the file is left as it was",
        None => "what came until then is incomplete",
    }
}

fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_string() } else { format!("{count} messages") }
}
