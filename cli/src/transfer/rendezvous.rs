//! Meeting the peer under a name, and how long to wait for it.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::inspect::{ParticipantStatus, RegionInfo, RegionKind, RingInfo};
use tombolo::{Directory, Endpoint};

use super::signals::Signals;
use crate::args::Transfer;
use crate::failure::Failure;
use crate::location::Location;

/// The longest wait before signals are checked again.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The longest sleep between two checks of the peer.
pub const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long a process needs at most to notice that its peer is gone, and to leave. A process that
/// is still there after that is waiting for a new peer.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Sender,
    Receiver,
}

impl Role {
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

/// The peer's state.
pub enum Peer {
    NotYet,
    Here,
    Left,
    Died,
    /// The name was removed, or now belongs to another region: nobody new can come.
    NameRemoved,
}

/// The peer's state, and the messages or bytes of all senders together.
pub struct Status {
    pub peer: Peer,
    pub sent: u64,
    pub queued: u64,
}

/// Refuses the name of a namespace.
///
/// Opening it as a pipe or queue fails as well, unless all its participants were killed. Then it
/// would pass for what an earlier transfer left behind, and be replaced.
pub fn refuse_namespace(location: &Location, transfer: &Transfer) -> Result<(), Failure> {
    let name = &transfer.name;
    match location.directory.inspect(name) {
        Ok(info) if info.kind == RegionKind::Namespace => Err(Failure::Error(format!(
            "cannot use {name:?} for a transfer: found {}, expected {}; see what is in it with \
             `tombolo inspect`, or use another name",
            info.kind,
            if transfer.queue { RegionKind::Queue } else { RegionKind::Pipe },
        ))),
        _ => Ok(()), // opening it reports any other problem
    }
}

pub struct Rendezvous<'a> {
    directory: &'a Directory,
    name: &'a str,
    role: Role,
    signals: Signals,
    timeout: Option<Duration>,
    waiting_since: Instant,
}

impl<'a> Rendezvous<'a> {
    pub fn new(location: &'a Location, transfer: &'a Transfer, role: Role) -> Result<Self, Failure> {
        Ok(Self {
            directory: &location.directory,
            name: &transfer.name,
            role,
            signals: Signals::watch()?,
            timeout: transfer.timeout,
            waiting_since: Instant::now(),
        })
    }

    /// Opens our endpoint as soon as no earlier transfer under this name is still ending.
    pub fn join<E: Endpoint>(&mut self, open: impl Fn(&str) -> Result<E, Failure>) -> Result<E, Failure> {
        let started = Instant::now();
        loop {
            let grace_is_over = started.elapsed() >= GRACE;
            if !self.is_earlier_transfer_ending(grace_is_over) {
                let endpoint = open(self.name)?;
                // The last participant of one role of a queue may have left just before we joined.
                // The sender of an empty stream does not count: it leaves as soon as it sees us.
                if grace_is_over || self.is_empty_stream() || !self.is_earlier_transfer_ending(false) {
                    self.reset_timeout();
                    return Ok(endpoint);
                }
            }
            self.keep_waiting("an earlier transfer under that name is not over")?;
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Whether an earlier process of our role is gone while its peer is still there. Joining now
    /// would mean to receive the middle of a stream, or to send to a receiver that is about to
    /// leave.
    ///
    /// In a queue a role can have many participants. There the same holds if the other role is gone
    /// while others of our role are still there.
    fn is_earlier_transfer_ending(&self, grace_is_over: bool) -> bool {
        let Ok(info) = self.directory.inspect(self.name) else {
            return false; // opening it reports the problem
        };
        let is_over =
            |role| matches!(role_standing(&info, role), Some(ParticipantStatus::Left | ParticipantStatus::Dead));
        let is_survived =
            |role: Role| is_over(role) && role_standing(&info, role.other()) == Some(ParticipantStatus::Alive);
        let has_unread = self.role == Role::Sender && info.rings.iter().any(|ring| ring.queued > 0);
        let is_ending = is_survived(self.role) || (info.queue.is_some() && is_survived(self.role.other()));
        is_ending && (has_unread || !grace_is_over)
    }

    fn is_empty_stream(&self) -> bool {
        let nothing_sent = |info: RegionInfo| info.rings.iter().all(|ring| ring.sent == 0);
        self.role == Role::Receiver && self.directory.inspect(self.name).is_ok_and(nothing_sent)
    }

    pub fn peer(&self) -> Peer {
        self.status().peer
    }

    pub fn status(&self) -> Status {
        let Ok(info) = self.directory.inspect(self.name) else {
            return Status { peer: Peer::NameRemoved, sent: 0, queued: 0 };
        };
        let is_ours = info.participants.iter().any(|one| {
            one.role == self.role.name()
                && one.status == ParticipantStatus::Alive
                && one.pid == u64::from(process::id())
        });
        let peer = match role_standing(&info, self.role.other()) {
            Some(ParticipantStatus::Vacant) if is_ours => Peer::NotYet,
            Some(ParticipantStatus::Left) if is_ours => Peer::Left,
            Some(ParticipantStatus::Dead) if is_ours => Peer::Died,
            Some(_) if is_ours => Peer::Here,
            _ => Peer::NameRemoved,
        };
        let sum = |count: fn(&RingInfo) -> u64| info.rings.iter().map(count).sum();
        Status { peer, sent: sum(|ring| ring.sent), queued: sum(|ring| ring.queued) }
    }

    /// Removes the name if it is still that of our region.
    pub fn remove_name(&self) {
        if !matches!(self.peer(), Peer::NameRemoved) {
            // If this fails, the next transfer or `tombolo doctor` removes it.
            let _ = self.directory.unlink(self.name, true);
        }
    }

    /// Leaves, then removes the name if it is that of our region and nobody else is there.
    pub fn remove_name_after(&self, leave: impl FnOnce()) {
        let is_ours = !matches!(self.peer(), Peer::NameRemoved);
        leave();
        if is_ours {
            let _ = self.directory.unlink_if_stale(self.name); // as above
        }
    }

    /// Starts the timeout again, after the peer did something or while it is our turn.
    pub fn reset_timeout(&mut self) {
        self.waiting_since = Instant::now();
    }

    /// Returns an error if it is time to stop waiting for the peer; `reason` says what it did not
    /// do.
    pub fn keep_waiting(&self, reason: &str) -> Result<(), Failure> {
        self.check_signals()?;
        match self.timeout {
            Some(limit) if self.waiting_since.elapsed() >= limit => {
                Err(Failure::TimedOut(format!("{reason} ({:?}) within {} s", self.name, limit.as_secs_f64())))
            }
            _ => Ok(()),
        }
    }

    pub fn check_signals(&self) -> Result<(), Failure> {
        self.signals.check()
    }
}

/// The standing of a role: in a queue, that of all its participants together.
fn role_standing(info: &RegionInfo, role: Role) -> Option<ParticipantStatus> {
    match (&info.queue, role) {
        (Some(queue), Role::Sender) => Some(queue.senders),
        (Some(queue), Role::Receiver) => Some(queue.receivers),
        (None, _) => info.participants.iter().find(|one| one.role == role.name()).map(|one| one.status),
    }
}
