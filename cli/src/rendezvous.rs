//! Meeting the other side under a name, and how long to wait for it.

use std::path::Path;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::{Directory, End, Participant, Standing};

use crate::args::Transfer;
use crate::failure::Failure;
use crate::place::Place;
use crate::signals::Signals;

/// No wait is longer without a look at the signals.
pub const SLICE: Duration = Duration::from_millis(50);

/// By then a side that lost its peer has noticed and gone. One that is still there means to go on with a new peer.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Sender,
    Receiver,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

/// What the name's directory shows of the other side.
pub enum Peer {
    NotYet,
    Here,
    Left,
    Died,
    /// Somebody took the name away: nobody new can come.
    Nameless,
}

pub struct Rendezvous<'a> {
    directory: &'a Directory,
    name: &'a str,
    part: Part,
    signals: Signals,
    timeout: Option<Duration>,
    waiting_since: Instant,
}

impl<'a> Rendezvous<'a> {
    pub fn new(place: &'a Place, transfer: &'a Transfer, part: Part) -> Result<Self, Failure> {
        Ok(Self {
            directory: &place.directory,
            name: &transfer.name,
            part,
            signals: Signals::watch()?,
            timeout: transfer.timeout,
            waiting_since: Instant::now(),
        })
    }

    /// Opens our end, once no earlier transfer is on its way out under that name.
    pub fn join<E: End>(&mut self, open: impl Fn(&str) -> tombolo::Result<E>) -> Result<E, Failure> {
        let started = Instant::now();
        while self.is_winding_down(started.elapsed() >= GRACE) {
            self.keep_waiting("an earlier transfer under that name is not over")?;
            thread::sleep(SLICE / 5);
        }
        let end = open(self.name)?;
        self.go_on();
        Ok(end)
    }

    /// Whether our part has been played to its end while the peer of that time is still there. To come in now
    /// would be to get the middle of a stream, or to send into one that is about to be closed.
    fn is_winding_down(&self, graced: bool) -> bool {
        // Whatever is wrong with that name, opening it will say so.
        let Ok(seen) = self.directory.inspect(self.name) else { return false };
        let standing = |part: Part| standing(&seen.participants, part).map(|participant| participant.standing);
        let over = matches!(standing(self.part), Some(Standing::Left | Standing::Dead));
        let unread = self.part == Part::Sender && seen.rings.iter().any(|ring| ring.queued > 0);
        over && standing(self.part.other()) == Some(Standing::Alive) && (unread || !graced)
    }

    pub fn peer(&self) -> Peer {
        self.look().0
    }

    /// The other side, and how much it has not taken yet.
    pub fn look(&self) -> (Peer, u64) {
        let Ok(seen) = self.directory.inspect(self.name) else { return (Peer::Nameless, 0) };
        let us = standing(&seen.participants, self.part);
        let ours = us.is_some_and(|us| us.standing == Standing::Alive && us.pid == u64::from(process::id()));
        let peer = match standing(&seen.participants, self.part.other()).map(|peer| peer.standing) {
            Some(Standing::Vacant) if ours => Peer::NotYet,
            Some(Standing::Left) if ours => Peer::Left,
            Some(Standing::Dead) if ours => Peer::Died,
            Some(_) if ours => Peer::Here,
            _ => Peer::Nameless, // the name means another region now
        };
        (peer, seen.rings.iter().map(|ring| ring.queued).sum())
    }

    /// Takes the name away, if it is still that of our region.
    pub fn remove_name(&self) {
        if !matches!(self.peer(), Peer::Nameless) {
            // If it fails, the next transfer or `tombolo doctor` cleans up.
            let _ = self.directory.unlink(self.name, true);
        }
    }

    /// The other side did something, or it is our turn: the time starts again.
    pub fn go_on(&mut self) {
        self.waiting_since = Instant::now();
    }

    /// Between two slices of a wait for the other side: whether there is a reason to give up.
    pub fn keep_waiting(&self, because: &str) -> Result<(), Failure> {
        self.check_signals()?;
        match self.timeout {
            Some(limit) if self.waiting_since.elapsed() >= limit => {
                Err(Failure::TimedOut(format!("{because} ({:?}) within {} s", self.name, limit.as_secs_f64())))
            }
            _ => Ok(()),
        }
    }

    pub fn check_signals(&self) -> Result<(), Failure> {
        self.signals.check()
    }
}

fn standing(participants: &[Participant], part: Part) -> Option<&Participant> {
    participants.iter().find(|participant| participant.part == part.name())
}

/// What became of the user's wishes, unless they do not care.
pub fn print_notes(end: &impl End, transfer: &Transfer) {
    if transfer.capacity.is_some() && !transfer.quiet {
        for warning in end.report().warnings() {
            eprintln!("tombolo: note: {warning}");
        }
    }
}

/// The file that the user named, if it is not a standard stream.
pub fn named_file(transfer: &Transfer) -> Option<&Path> {
    transfer.file.as_deref().filter(|path| path.as_os_str() != "-")
}
