//! Meeting the other side under a name, and how long to wait for it.

use std::path::Path;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::{Directory, End, Inspection, Kind, RingState, Standing};

use crate::args::Transfer;
use crate::failure::{Failure, say};
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

/// Refuses the name of a namespace before anything is done. Opening it would do so as well, but for one whose members were
/// all killed: that would pass for the remains of a transfer, and be replaced.
pub fn refuse_namespace(place: &Place, transfer: &Transfer) -> Result<(), Failure> {
    let name = &transfer.name;
    match place.directory.inspect(name) {
        Ok(seen) if seen.kind == Kind::Namespace => Err(Failure::Error(format!(
            "cannot use {name:?} for a transfer: found {}, expected {}; see what is in it with \
             `tombolo inspect`, or use another name",
            seen.kind,
            if transfer.queue { Kind::Queue } else { Kind::Pipe },
        ))),
        _ => Ok(()), // whatever is wrong with it, opening says so
    }
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
    pub fn join<E: End>(&mut self, open: impl Fn(&str) -> Result<E, Failure>) -> Result<E, Failure> {
        let started = Instant::now();
        loop {
            let graced = started.elapsed() >= GRACE;
            if !self.is_winding_down(graced) {
                let end = open(self.name)?;
                // The last of one part of a queue may have left just before we came. Not the sender of an empty
                // stream: it leaves as soon as it sees us.
                if graced || self.is_empty_stream() || !self.is_winding_down(false) {
                    self.go_on();
                    return Ok(end);
                }
            }
            self.keep_waiting("an earlier transfer under that name is not over")?;
            thread::sleep(SLICE / 5);
        }
    }

    /// Whether our part has been played to its end while the peer of that time is still there. To come in now
    /// would be to get the middle of a stream, or to send into one that is about to be closed. In a queue, where a part is
    /// many, also whether the other part has while others of ours are still there.
    fn is_winding_down(&self, graced: bool) -> bool {
        // Whatever is wrong with that name, opening it will say so.
        let Ok(seen) = self.directory.inspect(self.name) else { return false };
        let over = |part| matches!(standing(&seen, part), Some(Standing::Left | Standing::Dead));
        let outlived = |part: Part| over(part) && standing(&seen, part.other()) == Some(Standing::Alive);
        let unread = self.part == Part::Sender && seen.rings.iter().any(|ring| ring.queued > 0);
        let winding_down = outlived(self.part) || (seen.queue.is_some() && outlived(self.part.other()));
        winding_down && (unread || !graced)
    }

    fn is_empty_stream(&self) -> bool {
        let nothing_sent = |seen: Inspection| seen.rings.iter().all(|ring| ring.sent == 0);
        self.part == Part::Receiver && self.directory.inspect(self.name).is_ok_and(nothing_sent)
    }

    pub fn peer(&self) -> Peer {
        self.look().0
    }

    /// The other side, how much was ever sent to it, and how much of that it has not taken yet.
    pub fn look(&self) -> (Peer, u64, u64) {
        let Ok(seen) = self.directory.inspect(self.name) else { return (Peer::Nameless, 0, 0) };
        let ours = seen.participants.iter().any(|us| {
            us.part == self.part.name() && us.standing == Standing::Alive && us.pid == u64::from(process::id())
        });
        let peer = match standing(&seen, self.part.other()) {
            Some(Standing::Vacant) if ours => Peer::NotYet,
            Some(Standing::Left) if ours => Peer::Left,
            Some(Standing::Dead) if ours => Peer::Died,
            Some(_) if ours => Peer::Here,
            _ => Peer::Nameless, // the name means another region now
        };
        let sum = |count: fn(&RingState) -> u64| seen.rings.iter().map(count).sum();
        (peer, sum(|ring| ring.sent), sum(|ring| ring.queued))
    }

    /// Takes the name away, if it is still that of our region.
    pub fn remove_name(&self) {
        if !matches!(self.peer(), Peer::Nameless) {
            // If it fails, the next transfer or `tombolo doctor` cleans up.
            let _ = self.directory.unlink(self.name, true);
        }
    }

    /// Leaves, and takes the name away if it is that of our region and nobody else is there.
    pub fn remove_name_after(&self, leave: impl FnOnce()) {
        let ours = !matches!(self.peer(), Peer::Nameless);
        leave();
        if ours {
            let _ = self.directory.unlink_if_abandoned(self.name); // as above
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

/// That of all who play the part, if they can be many.
fn standing(seen: &Inspection, part: Part) -> Option<Standing> {
    match (&seen.queue, part) {
        (Some(queue), Part::Sender) => Some(queue.senders),
        (Some(queue), Part::Receiver) => Some(queue.receivers),
        (None, _) => seen.participants.iter().find(|one| one.part == part.name()).map(|one| one.standing),
    }
}

/// What became of the user's wishes, unless they do not care.
pub fn print_notes(end: &impl End, transfer: &Transfer) {
    if transfer.capacity.is_some() && !transfer.quiet {
        for warning in end.report().warnings() {
            say(format_args!("note: {warning}"));
        }
    }
}

/// The file that the user named, if it is not a standard stream.
pub fn named_file(transfer: &Transfer) -> Option<&Path> {
    transfer.file.as_deref().filter(|path| path.as_os_str() != "-")
}
