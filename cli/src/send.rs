//! `tombolo send`: a file, or standard input, into a pipe or a queue.

use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::thread;
use std::time::Duration;

use tombolo::SendError;

use crate::args::Transfer;
use crate::ends::SendEnd;
use crate::failure::Failure;
use crate::place::Place;
use crate::progress::Progress;
use crate::rendezvous::{Part, Peer, Rendezvous, SLICE, named_file, print_notes, refuse_namespace};
use crate::streams;
use crate::target::check_named_input;
use crate::worker::{BUFFER_LEN, Worker};

/// The longest line that goes as one message: what pipes and queues take unless told otherwise.
const LINE_MAX: usize = 1 << 30;

pub fn run(place: &Place, transfer: &Transfer) -> Result<(), Failure> {
    if transfer.queue {
        send(place, transfer, |name| place.queue(transfer.capacity).sender(name))
    } else {
        send(place, transfer, |name| place.pipe(transfer.capacity).sender(name))
    }
}

fn send<S: SendEnd>(
    place: &Place,
    transfer: &Transfer,
    enter: impl Fn(&str) -> tombolo::Result<S>,
) -> Result<(), Failure> {
    let (input, length) = open(transfer)?;
    let mut rendezvous = Rendezvous::new(place, transfer, Part::Sender)?;
    let tx = rendezvous.join(|name| {
        refuse_namespace(place, transfer)?;
        Ok(enter(name)?)
    })?;
    print_notes(&tx, transfer);
    let progress = Progress::new(length, transfer.quiet);
    let mut sending = Sending { tx, rendezvous, progress, name: &transfer.name, met: false };
    match sending.everything(reader(input), transfer.lines) {
        Ok(()) => Ok(()), // dropping the sender is the end of the stream
        Err(failure) => {
            sending.tx.break_off(&sending.rendezvous);
            Err(failure)
        }
    }
}

fn open(transfer: &Transfer) -> Result<(File, Option<u64>), Failure> {
    let (opened, shown) = match named_file(transfer) {
        Some(path) => {
            check_named_input(path)?;
            (File::open(path), path.display().to_string())
        }
        None => (Ok(streams::input()?), "standard input".to_string()),
    };
    let facts = |file: File| file.metadata().map(|facts| (file, facts));
    let (file, facts) = opened.and_then(facts).map_err(|error| Failure::io(format_args!("open {shown}"), &error))?;
    if facts.is_dir() {
        return Err(Failure::Error(format!("cannot send {shown}: it is a directory")));
    }
    let length = (facts.is_file() && facts.len() > 0).then_some(facts.len());
    Ok((file, length))
}

/// Fills buffers from the input, with whatever one read brings; an empty one is the end.
fn reader(mut input: File) -> Worker {
    let mut worker = Worker::start(move |buffer| {
        buffer.resize(BUFFER_LEN, 0);
        let count = loop {
            match input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        buffer.truncate(count);
        Ok(())
    });
    worker.give_all();
    worker
}

struct Sending<'a, S> {
    tx: S,
    rendezvous: Rendezvous<'a>,
    progress: Progress,
    name: &'a str,
    /// A receiver has been here.
    met: bool,
}

impl<S: SendEnd> Sending<'_, S> {
    fn everything(&mut self, mut input: Worker, lines: bool) -> Result<(), Failure> {
        let piece_len = self.tx.piece_len();
        let mut line = Vec::new();
        loop {
            let Some(buffer) = input.take(SLICE).map_err(|error| Failure::io("read the input", &error))? else {
                self.wait_for_input()?;
                continue;
            };
            if buffer.is_empty() {
                break;
            }
            if lines {
                self.lines(&buffer, &mut line)?;
            } else {
                buffer.chunks(piece_len).try_for_each(|piece| self.message(piece))?;
            }
            self.progress.add(buffer.len());
            input.give(buffer);
        }
        if !line.is_empty() {
            self.message(&line)?;
        }
        self.see_off()
    }

    /// Sends the lines that end in this buffer; keeps the beginning of one that does not.
    fn lines(&mut self, buffer: &[u8], begun: &mut Vec<u8>) -> Result<(), Failure> {
        for piece in buffer.split_inclusive(|&byte| byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(line) if begun.is_empty() => self.message(line)?,
                Some(end) => {
                    begun.extend_from_slice(end);
                    self.message(begun)?;
                    begun.clear();
                }
                None => begun.extend_from_slice(piece),
            }
            if begun.len() > LINE_MAX {
                return Err(Failure::Error(format!(
                    "cannot send a line: found more than {LINE_MAX} bytes without a newline; send without --lines"
                )));
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &[u8]) -> Result<(), Failure> {
        let mut patience = SLICE;
        loop {
            match self.tx.send_timeout(message, patience) {
                Ok(()) => break,
                Err(SendError::TimedOut) => self.wait_for_room()?,
                Err(error) => return Err(self.failure(error)),
            }
            if message.len() > self.tx.piece_len() {
                // It takes its time, and begins anew after every timeout: sooner or later a slice is long enough.
                patience *= 2;
            }
        }
        self.rendezvous.go_on();
        self.rendezvous.check_signals() // a transfer at full speed never waits
    }

    fn wait_for_room(&mut self) -> Result<(), Failure> {
        self.check_receiver()?;
        let because = if self.met { "the receiver took nothing" } else { "nobody came to receive" };
        self.rendezvous.keep_waiting(because)
    }

    /// The receiver is not to blame for a slow input, unless it has not even come.
    fn wait_for_input(&mut self) -> Result<(), Failure> {
        self.check_receiver()?;
        if self.met {
            self.rendezvous.go_on();
        }
        self.rendezvous.keep_waiting("nobody came to receive")
    }

    fn check_receiver(&mut self) -> Result<(), Failure> {
        match self.rendezvous.peer() {
            Peer::Here => self.met = true,
            Peer::Left => return Err(self.failure(SendError::Closed)),
            Peer::Died => return Err(self.failure(SendError::PeerDied)),
            Peer::Nameless if !self.met => return Err(self.nameless()),
            Peer::Nameless | Peer::NotYet => {}
        }
        Ok(())
    }

    /// Returns when receivers have taken everything: only then may we leave and call it done.
    fn see_off(&mut self) -> Result<(), Failure> {
        let mut pause = Duration::from_micros(100);
        let mut left = u64::MAX;
        let mut goal = None;
        loop {
            let (peer, sent, queued) = self.rendezvous.look();
            // What others send into a queue from now on is theirs to see off.
            let goal = *goal.get_or_insert(sent);
            let because = match (peer, goal.saturating_sub(sent.saturating_sub(queued))) {
                (Peer::Here | Peer::Left, 0) => return Ok(()),
                // It has the memory, though nobody can watch any more what it does with it.
                (Peer::Nameless, _) if self.met => return Ok(()),
                (Peer::Nameless, _) => return Err(self.nameless()),
                (Peer::Left, _) => return Err(self.failure(SendError::Closed)),
                (Peer::Died, _) => return Err(self.failure(SendError::PeerDied)),
                (Peer::NotYet, _) => "nobody came to receive",
                (Peer::Here, queued) => {
                    self.met = true;
                    if mem::replace(&mut left, queued) != queued {
                        self.rendezvous.go_on();
                    }
                    "the receiver took nothing"
                }
            };
            self.rendezvous.keep_waiting(because)?;
            thread::sleep(pause);
            pause = (pause * 2).min(SLICE / 5);
        }
    }

    fn failure(&self, error: SendError) -> Failure {
        let (name, receiver) = (self.name, S::RECEIVER);
        match error {
            SendError::Closed => Failure::Error(format!("{receiver} of {name:?} left before the end")),
            SendError::PeerDied => {
                Failure::PeerDied(format!("{receiver} of {name:?} died before the end; start both sides again"))
            }
            error => Failure::Error(format!("cannot send to {name:?}: {error}")),
        }
    }

    fn nameless(&self) -> Failure {
        Failure::Error(format!("somebody removed the name {:?} before a receiver came", self.name))
    }
}
