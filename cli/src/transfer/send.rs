//! `tombolo send` and `tombolo pub`: a file, or standard input, into a pipe, a queue or a
//! broadcast.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::SendError;
use tombolo::broadcast::SlowSubscriber;
use tombolo::inspect::RegionKind;

use super::destination::path::check_named_input;
use super::progress::Progress;
use super::rendezvous::{CHECK_INTERVAL, Meeting, POLL_INTERVAL, Peer, Rendezvous, Role, Status};
use super::signals::Signals;
use super::transport::{SendEndpoint, print_warnings};
use super::worker::{BUFFER_LEN, Worker};
use crate::args::{Pub, SendArgs, Stream};
use crate::failure::{Failure, print_message};
use crate::location::Location;
use crate::streams;

/// The longest line that is sent as one message: the default limit of pipes and queues.
const MAX_LINE_LEN: usize = 1 << 30;

/// How long a publisher waits for a subscriber before it says so.
const NOTE_AFTER: Duration = Duration::from_secs(1);

pub fn run(location: &Location, args: &SendArgs) -> Result<(), Failure> {
    let (transfer, stream, waits) = (&args.transfer, &args.transfer.stream, !args.no_wait);
    let sending = Sending { stream, waits, subscribers: 0, has_capacity: transfer.capacity.is_some() };
    if transfer.queue {
        let meeting = Meeting::of(stream, RegionKind::Queue, Role::Sender);
        sending.run(location, meeting, |name| {
            location.queue(name, transfer.capacity, transfer.redeliver, !stream.lines).sender(name)
        })
    } else if args.no_wait {
        let reason = "what is left in a pipe without its sender is not kept";
        Err(Failure::Usage(format!("cannot send to a pipe without waiting: {reason}; use a queue (--queue)")))
    } else {
        let meeting = Meeting::of(stream, RegionKind::Pipe, Role::Sender);
        sending.run(location, meeting, |name| location.pipe(transfer.capacity).sender(name))
    }
}

/// `tombolo pub`.
pub fn publish(location: &Location, args: &Pub) -> Result<(), Failure> {
    let (stream, options) = (&args.stream, &args.broadcast);
    let has_capacity = options.capacity.is_some();
    let sending = Sending { stream, waits: false, subscribers: args.subscribers, has_capacity };
    let meeting = Meeting::of(stream, RegionKind::Broadcast, Role::Sender);
    sending.run(location, meeting, |name| {
        let publisher = location.broadcast(name, options, args.history, !stream.lines).publisher(name)?;
        if !stream.quiet {
            location.print_differences(name, options, args.history);
        }
        Ok(publisher)
    })
}

/// What is to be sent, and to how many.
struct Sending<'a> {
    stream: &'a Stream,
    /// Wait until receivers have taken everything.
    waits: bool,
    /// How many subscribers must be there at the beginning.
    subscribers: u64,
    /// The user chose a capacity.
    has_capacity: bool,
}

impl Sending<'_> {
    fn run<S: SendEndpoint>(
        &self,
        location: &Location,
        meeting: Meeting<'_>,
        open: impl Fn(&str) -> tombolo::Result<S>,
    ) -> Result<(), Failure> {
        let &Self { stream, waits, .. } = self;
        let mut rendezvous = Rendezvous::new(location, Signals::watch()?, meeting);
        let (input, length) = {
            let stream = stream.clone();
            rendezvous.run_blocking("nobody opened the FIFO to write", move || open_input(&stream))??
        };
        let tx = rendezvous.join(open)?;
        if self.has_capacity && !stream.quiet {
            print_warnings(&tx);
        }
        let progress = Progress::new(length, stream.quiet);
        let (name, quiet, reported) = (&stream.name, stream.quiet, BTreeSet::new());
        let (peer_seen, blocked_since) = (false, None);
        let mut job =
            SendJob { tx, rendezvous, progress, name, quiet, waits, sent: 0, peer_seen, blocked_since, reported };
        let came = job.rendezvous.wait_for_subscribers(self.subscribers);
        match came.and_then(|()| job.run(reader(input), stream.lines)) {
            Ok(()) => {
                if meeting.kind == RegionKind::Broadcast {
                    job.report_if_alone();
                }
                Ok(()) // dropping the sender ends the stream
            }
            Err(failure) if waits || meeting.kind == RegionKind::Broadcast => {
                job.tx.abort(&job.rendezvous);
                Err(failure)
            }
            Err(failure) => {
                let _ = job.tx.abandon(); // as in `abort`, but what it has sent stays
                Err(failure)
            }
        }
    }
}

/// Returns the input, and its length if that is known.
fn open_input(stream: &Stream) -> Result<(File, Option<u64>), Failure> {
    let (opened, shown) = match stream.named_file() {
        Some(path) => {
            check_named_input(path)?;
            (File::open(path), path.display().to_string())
        }
        None => (Ok(streams::input()?), "standard input".to_string()),
    };
    let with_metadata = |file: File| file.metadata().map(|metadata| (file, metadata));
    let opened = opened.and_then(with_metadata);
    let (file, metadata) = opened.map_err(|error| Failure::io(format_args!("open {shown}"), &error))?;
    if metadata.is_dir() {
        return Err(Failure::Error(format!("cannot send {shown}: it is a directory")));
    }
    let length = (metadata.is_file() && metadata.len() > 0).then_some(metadata.len());
    Ok((file, length))
}

/// Starts a worker that fills each buffer with one read. An empty buffer means the end of the
/// input.
fn reader(mut input: File) -> Worker {
    let mut worker = Worker::start(move |buffer| {
        buffer.resize(BUFFER_LEN, 0);
        let count = loop {
            match input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        buffer.truncate(count);
        Ok(())
    });
    worker.submit_all();
    worker
}

struct SendJob<'a, S> {
    tx: S,
    rendezvous: Rendezvous<'a>,
    progress: Progress,
    name: &'a str,
    quiet: bool,
    /// Wait until receivers have taken everything.
    waits: bool,
    /// Messages.
    sent: u64,
    /// A receiver has been here.
    peer_seen: bool,
    /// Since when there has been no room.
    blocked_since: Option<Instant>,
    /// The subscribers that were reported for holding this publisher back.
    reported: BTreeSet<u64>,
}

impl<S: SendEndpoint> SendJob<'_, S> {
    fn run(&mut self, mut input: Worker, lines: bool) -> Result<(), Failure> {
        let chunk_len = self.tx.chunk_len();
        let mut line = Vec::new();
        loop {
            let collected = input.collect(CHECK_INTERVAL);
            let Some(buffer) = collected.map_err(|error| Failure::io("read the input", &error))? else {
                self.wait_for_input()?;
                continue;
            };
            if buffer.is_empty() {
                break;
            }
            if lines {
                self.send_lines(&buffer, &mut line)?;
            } else {
                buffer.chunks(chunk_len).try_for_each(|chunk| self.send_message(chunk))?;
            }
            self.progress.add(buffer.len());
            input.submit(buffer);
        }
        if !line.is_empty() {
            self.send_message(&line)?;
        }
        if self.waits { self.drain() } else { Ok(()) }
    }

    /// Sends the lines that end in this buffer. `partial` keeps the beginning of the next one.
    fn send_lines(&mut self, buffer: &[u8], partial: &mut Vec<u8>) -> Result<(), Failure> {
        for piece in buffer.split_inclusive(|&byte| byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(line) if partial.is_empty() => self.send_message(line)?,
                Some(end) => {
                    partial.extend_from_slice(end);
                    self.send_message(partial)?;
                    partial.clear();
                }
                None => partial.extend_from_slice(piece),
            }
            if partial.len() > MAX_LINE_LEN {
                return Err(Failure::Error(format!(
                    "cannot send a line: found more than {MAX_LINE_LEN} bytes without a newline; \
                     send without --lines"
                )));
            }
        }
        Ok(())
    }

    fn send_message(&mut self, message: &[u8]) -> Result<(), Failure> {
        let mut timeout = CHECK_INTERVAL;
        loop {
            match self.tx.send_timeout(message, timeout) {
                Ok(()) => break,
                Err(SendError::TimedOut) => self.wait_for_room()?,
                // The last receiver is gone, and the queue is full.
                Err(SendError::Closed | SendError::PeerDied) if !self.waits && !self.rendezvous.status().is_closed => {
                    self.wait_for_room()?;
                    thread::sleep(POLL_INTERVAL);
                }
                Err(error) => return Err(self.failure(error)),
            }
            if message.len() > self.tx.chunk_len() {
                // A long message starts again after each timeout, so give it more time.
                timeout *= 2;
            }
        }
        self.sent += 1;
        self.blocked_since = None;
        self.rendezvous.reset_timeout();
        self.rendezvous.check_signals() // a fast transfer never waits, which would check them
    }

    fn wait_for_room(&mut self) -> Result<(), Failure> {
        self.check_receiver()?;
        let reason = match self.tx.slowest() {
            Some(slowest) => {
                self.report_slowest(&slowest);
                "the slowest subscriber took nothing"
            }
            None if self.peer_seen => "the receiver took nothing",
            None => "nobody came to receive",
        };
        self.rendezvous.keep_waiting(reason)
    }

    /// Says whom a publisher waits for, once for each subscriber.
    fn report_slowest(&mut self, slowest: &SlowSubscriber) {
        let blocked_since = *self.blocked_since.get_or_insert_with(Instant::now);
        if blocked_since.elapsed() >= NOTE_AFTER && !self.quiet && self.reported.insert(slowest.pid) {
            let SlowSubscriber { pid, process_name, lag, .. } = slowest;
            let process = process_name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
            print_message(format_args!(
                "note: waiting for subscriber {pid}{process} of {:?}, {lag} messages behind",
                self.name
            ));
        }
    }

    /// Says that what was published had no subscriber.
    fn report_if_alone(&self) {
        if self.sent > 0 && !self.quiet && self.rendezvous.is_alone() {
            let Self { name, sent, .. } = self;
            let messages = if *sent == 1 { "a message was" } else { &format!("{sent} messages were") };
            print_message(format_args!(
                "note: {messages} published in {name:?} while nobody subscribed; --subscribers waits for subscribers"
            ));
        }
    }

    /// A slow input does not count against the receiver's timeout, once there is a receiver.
    fn wait_for_input(&mut self) -> Result<(), Failure> {
        self.check_receiver()?;
        if !self.waits {
            return self.rendezvous.check_signals();
        }
        if self.peer_seen {
            self.rendezvous.reset_timeout();
        }
        self.rendezvous.keep_waiting("nobody came to receive")
    }

    fn check_receiver(&mut self) -> Result<(), Failure> {
        match self.rendezvous.peer() {
            Peer::Here => self.peer_seen = true,
            Peer::Left | Peer::Died if !self.waits => {}
            Peer::Left => return Err(self.failure(SendError::Closed)),
            Peer::Died => return Err(self.failure(SendError::PeerDied)),
            Peer::NameRemoved if !self.peer_seen => return Err(self.name_removed()),
            Peer::NameRemoved | Peer::NotYet => {}
        }
        Ok(())
    }

    /// Waits until receivers have taken everything. The transfer is complete only then.
    fn drain(&mut self) -> Result<(), Failure> {
        let mut pause = Duration::from_micros(100);
        let mut last_remaining = u64::MAX;
        let mut goal = None;
        loop {
            let Status { peer, sent, queued, lost, .. } = self.rendezvous.status();
            // Other senders of a queue wait for what they send after this.
            let goal = *goal.get_or_insert(sent);
            let received = sent.saturating_sub(queued);
            let reason = match (peer, goal.saturating_sub(received)) {
                (Peer::Here | Peer::Left, 0) => {
                    if lost > 0 {
                        let name = self.name;
                        print_message(format_args!("messages in {name:?} that were lost with their receivers: {lost}"));
                    }
                    return Ok(());
                }
                // It has the memory and can go on reading, but its progress cannot be seen any
                // more.
                (Peer::NameRemoved, _) if self.peer_seen => return Ok(()),
                (Peer::NameRemoved, _) => return Err(self.name_removed()),
                (Peer::Left, _) => return Err(self.failure(SendError::Closed)),
                (Peer::Died, _) => return Err(self.failure(SendError::PeerDied)),
                (Peer::NotYet, _) => "nobody came to receive",
                (Peer::Here, remaining) => {
                    self.peer_seen = true;
                    if mem::replace(&mut last_remaining, remaining) != remaining {
                        self.rendezvous.reset_timeout();
                    }
                    "the receiver took nothing"
                }
            };
            self.rendezvous.keep_waiting(reason)?;
            thread::sleep(pause);
            pause = (pause * 2).min(POLL_INTERVAL);
        }
    }

    fn failure(&self, error: SendError) -> Failure {
        let (name, receiver) = (self.name, S::RECEIVER);
        match error {
            SendError::Closed => Failure::Error(format!("{receiver} of {name:?} left before the end")),
            SendError::PeerDied => {
                Failure::PeerDied(format!("{receiver} of {name:?} died before the end; start both sides again"))
            }
            error @ SendError::TooLarge { .. } => {
                Failure::Error(format!("cannot send a line to {name:?}: {error}; send without --lines"))
            }
            error => Failure::Error(format!("cannot send to {name:?}: {error}")),
        }
    }

    fn name_removed(&self) -> Failure {
        Failure::Error(format!("somebody removed the name {:?} before a receiver came", self.name))
    }
}
