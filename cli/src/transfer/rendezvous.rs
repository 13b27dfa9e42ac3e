//! Meeting the peer under a name, and how long to wait for it.

use std::mem;
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tombolo::inspect::{ElementType, ParticipantStatus, RegionInfo, RegionKind, RingInfo, SubscriberInfo};
use tombolo::{Directory, Endpoint, ErrorKind, RecvError};

use super::signals::Signals;
use crate::args::{Stay, Stream};
use crate::failure::{Failure, print_message};
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
    /// What the library calls it.
    fn name(self, kind: RegionKind) -> &'static str {
        match (self, kind) {
            (Self::Sender, RegionKind::Broadcast) => "publisher",
            (Self::Receiver, RegionKind::Broadcast) => "subscriber",
            (Self::Sender, _) => "sender",
            (Self::Receiver, _) => "receiver",
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
    /// Messages whose receivers died or left before they were done with them, since this process
    /// joined.
    pub lost: u64,
    /// A program has closed the queue for the senders that are there.
    pub is_closed: bool,
}

/// Whether a receiver can get a stream from its beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// No sender was there that could have sent something before.
    Ahead,
    /// What was sent before is the beginning of the stream.
    Missed,
    /// What was sent before may be of an earlier sender.
    Unknown,
}

/// What a command wants under a name.
#[derive(Clone, Copy)]
pub struct Meeting<'a> {
    pub name: &'a str,
    pub kind: RegionKind,
    pub role: Role,
    /// Messages are pieces of a stream. Otherwise each is of use by itself.
    pub in_pieces: bool,
    pub timeout: Option<Duration>,
    pub quiet: bool,
}

impl<'a> Meeting<'a> {
    pub fn of(stream: &'a Stream, kind: RegionKind, role: Role) -> Self {
        let &Stream { ref name, lines, timeout, quiet, .. } = stream;
        Self { name, kind, role, in_pieces: !lines, timeout, quiet }
    }
}

/// What was in a queue or a broadcast when this process joined.
#[derive(Default)]
struct Found {
    /// How many peers had joined.
    peers: u64,
    has_live_peer: bool,
    /// A peer took the place of an earlier one.
    has_successor: bool,
    /// No sender had joined before, unless this one.
    is_first: bool,
    sent: u64,
    received: u64,
    lost: u64,
    /// How many senders had joined before the queue was last out of use.
    former_senders: u64,
    /// To a receiver: the senders have ended. The queue takes it for one that waits for others.
    is_late: bool,
}

pub struct Rendezvous<'a> {
    directory: &'a Directory,
    meeting: Meeting<'a>,
    signals: Signals,
    found: Found,
    /// As many senders have joined as a receiver waits for.
    all_have_come: bool,
    waiting_since: Instant,
}

impl<'a> Rendezvous<'a> {
    pub fn new(location: &'a Location, signals: Signals, meeting: Meeting<'a>) -> Self {
        let (directory, waiting_since) = (&location.directory, Instant::now());
        Self { directory, meeting, signals, found: Found::default(), all_have_come: false, waiting_since }
    }

    /// Refuses the name of a namespace, and of what other programs have filled with messages.
    ///
    /// Opening it as a pipe or queue of bytes fails as well, unless all its participants were
    /// killed. Then it would pass for what an earlier transfer left behind, and be replaced.
    pub fn refuse_foreign(&self) -> Result<(), Failure> {
        let Meeting { name, kind, .. } = self.meeting;
        let Some(info) = self.inspect() else { return Ok(()) }; // opening it reports any problem
        let waiting = info.rings.iter().map(|ring| ring.queued).sum::<u64>() + in_hand(&info);
        let is_ours = info.kind == kind && info.element == ElementType::Bytes;
        let (found, remedy) = match info.kind {
            RegionKind::Namespace => (info.kind.to_string(), "see what is in it with `tombolo inspect`"),
            RegionKind::Pipe | RegionKind::Queue if waiting > 0 && !is_ours => (
                format!("{} of {} in which {waiting} wait", info.kind, info.element),
                "receive them with the program that made it, remove them with `tombolo rm`",
            ),
            _ => return Ok(()),
        };
        Err(Failure::Error(format!(
            "cannot use {name:?} for a transfer: found {found}, expected {kind}; {remedy}, or use another name",
        )))
    }

    /// Makes a call that may block, such as opening a FIFO. `reason` says what did not happen if it
    /// blocks for too long.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        reason: &str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, result) = mpsc::channel();
        let started = Instant::now();
        thread::spawn(move || done.send(call()));
        loop {
            match result.recv_timeout(CHECK_INTERVAL) {
                Ok(value) => return Ok(value),
                // On a busy machine it may take a while although it does not block.
                Err(RecvTimeoutError::Timeout) if started.elapsed() < GRACE => self.check_signals()?,
                Err(RecvTimeoutError::Timeout) => self.keep_waiting(reason)?,
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Error("a thread ended".to_string())),
            }
        }
    }

    /// Opens our endpoint as soon as no earlier transfer under this name is still ending, and there
    /// is a place for it.
    pub fn join<E: Endpoint>(&mut self, open: impl Fn(&str) -> tombolo::Result<E>) -> Result<E, Failure> {
        let started = Instant::now();
        let mut is_noted = self.meeting.quiet;
        loop {
            self.refuse_foreign()?;
            let before = self.inspect();
            let is_ending =
                before.as_ref().is_some_and(|info| self.is_earlier_transfer_ending(info, started.elapsed() >= GRACE));
            if !is_ending {
                if let Some(endpoint) = self.try_join(before, &open)? {
                    self.reset_timeout();
                    return Ok(endpoint);
                }
                if !is_noted {
                    is_noted = true;
                    let Meeting { name, kind, role, .. } = self.meeting;
                    print_message(match (kind, role) {
                        (RegionKind::Broadcast, Role::Sender) => format!(
                            "note: waiting for a free place in {name:?}; its maker can allow more with --publishers"
                        ),
                        (RegionKind::Broadcast, Role::Receiver) => {
                            format!("note: waiting for a free place in {name:?}")
                        }
                        _ => format!("note: waiting for a free place in {name:?}; one is for a receiver"),
                    });
                }
            }
            self.keep_waiting(match is_ending {
                true => "an earlier transfer under that name is not over",
                false => "no place was free",
            })?;
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Returns `None` if no place is free. `before` is what there was before.
    fn try_join<E: Endpoint>(
        &mut self,
        before: Option<RegionInfo>,
        open: impl Fn(&str) -> tombolo::Result<E>,
    ) -> Result<Option<E>, Failure> {
        if before.as_ref().is_some_and(|info| self.shuts_out_receivers(info, 1)) {
            return Ok(None);
        }
        // What is found is not of one moment: a sender may have come, sent and left meanwhile.
        let former_senders = before.as_ref().filter(|info| is_out_of_use(info)).map(|info| joined(info, Role::Sender));
        let former_senders = former_senders.filter(|&count| {
            self.inspect().is_some_and(|info| is_out_of_use(&info) && joined(&info, Role::Sender) == count)
        });
        let endpoint = match open(self.meeting.name) {
            Ok(endpoint) => endpoint,
            Err(error) if error.kind() == ErrorKind::TooManyParticipants => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(after) = self.inspect() else { return Ok(Some(endpoint)) };
        if self.shuts_out_receivers(&after, 0) {
            return Ok(None);
        }
        let (other, (sent, queued)) = (self.meeting.role.other(), flow(&after));
        let has_peer = |info: &RegionInfo| standing(info, other) == Some(ParticipantStatus::Alive);
        let has_successor = after.participants.iter().any(|one| one.joins > 1 && one.role == other.name(after.kind));
        let has_live_peer = before.as_ref().is_some_and(has_peer) || has_peer(&after);
        let was_out_of_use = former_senders.is_some();
        let former_senders = former_senders.unwrap_or(0);
        self.found = Found {
            peers: joined(&after, other),
            has_live_peer,
            has_successor,
            is_first: joined(&after, Role::Sender) <= 1,
            sent,
            received: sent.saturating_sub(queued),
            lost: tasks_lost(&after),
            // Fewer have joined now: it was replaced.
            former_senders: if joined(&after, Role::Sender) < former_senders { 0 } else { former_senders },
            is_late: after.queue.is_some() && !was_out_of_use && is_over(&after, Role::Sender),
        };
        Ok(Some(endpoint))
    }

    /// Whether no receiver is there, and none could join after `more` others.
    fn shuts_out_receivers(&self, info: &RegionInfo, more: u64) -> bool {
        let is_alive = |status| status == ParticipantStatus::Alive;
        self.meeting.role == Role::Sender
            && info.queue.is_some_and(|queue| !is_alive(queue.receivers))
            && info.participants.iter().filter(|one| is_alive(one.status)).count() as u64 + more
                >= info.max_participants
    }

    /// Whether an earlier process of our role is gone while its peer is still there. Joining now
    /// would mean to receive the middle of a stream, or to send to a receiver that is about to
    /// leave.
    ///
    /// In a queue whose messages are of use by themselves, a newcomer goes on where others have
    /// left. It waits only for receivers that are about to report that a sender died.
    fn is_earlier_transfer_ending(&self, info: &RegionInfo, grace_is_over: bool) -> bool {
        let Meeting { role, in_pieces, .. } = self.meeting;
        let is_survived =
            |role: Role| is_over(info, role) && standing(info, role.other()) == Some(ParticipantStatus::Alive);
        let is_queue = info.queue.is_some();
        if (is_queue || info.broadcast.is_some()) && !in_pieces {
            let has_died = standing(info, role) == Some(ParticipantStatus::Dead);
            return role == Role::Sender && has_died && is_survived(role) && !grace_is_over;
        }
        let has_unread = role == Role::Sender && flow(info).1 > 0;
        // A receiver that comes late gets what is left.
        let is_ending = match (info.kind, role) {
            // One may come at any time.
            (RegionKind::Broadcast, Role::Receiver) => false,
            (RegionKind::Queue, Role::Sender) => is_survived(role) || is_survived(role.other()),
            _ => is_survived(role),
        };
        is_ending && (has_unread || !grace_is_over)
    }

    /// Whether this receiver was there at the beginning of the stream. To ask before it receives.
    pub fn beginning(&self) -> Beginning {
        match self.found {
            Found { has_live_peer: false, .. } => Beginning::Ahead,
            Found { has_successor: true, .. } => Beginning::Unknown,
            _ => Beginning::Missed,
        }
    }

    /// Waits until that many subscribers receive what is published.
    pub fn wait_for_subscribers(&mut self, count: u64) -> Result<(), Failure> {
        if count == 0 {
            return Ok(());
        }
        let mut came = 0;
        loop {
            let Some(info) = self.inspect().filter(|info| self.is_member(info)) else {
                let name = self.meeting.name;
                return Err(Failure::Error(format!("somebody removed the name {name:?} before all subscribers came")));
            };
            let ready = subscribers(&info);
            if mem::replace(&mut came, ready) != ready {
                self.reset_timeout();
            }
            if ready >= count {
                return Ok(());
            }
            self.keep_waiting(&format!("only {ready} of {count} subscribers came"))?;
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Whether no peer was there when this process joined, and none has come since.
    pub fn is_alone(&self) -> bool {
        let came = |info: &RegionInfo| joined(info, self.meeting.role.other()) > self.found.peers;
        !self.found.has_live_peer && self.inspect().is_some_and(|info| self.is_member(&info) && !came(&info))
    }

    /// Whether a receiver is to end that has learnt that the last sender is gone.
    ///
    /// The last one of all may have come since. So only what it learns after all have come counts.
    pub fn is_end(&mut self, stay: &Stay) -> bool {
        match stay.senders {
            _ if stay.follow => false,
            None => true,
            Some(count) => {
                let joined = self.inspect().map_or(0, |info| joined(&info, Role::Sender));
                let have_come = joined.saturating_sub(self.found.former_senders) >= count;
                mem::replace(&mut self.all_have_come, have_come)
            }
        }
    }

    /// Returns how the senders ended if they had before this receiver joined, and everything that
    /// was left is received.
    pub fn late_end(&mut self, stay: &Stay) -> Option<RecvError> {
        if !self.found.is_late || self.waiting_since.elapsed() < GRACE || !self.is_end(stay) {
            return None;
        }
        let info = self.inspect().filter(|info| flow(info).1 == 0)?;
        match standing(&info, Role::Sender) {
            Some(ParticipantStatus::Left) => Some(RecvError::Closed),
            Some(ParticipantStatus::Dead) => Some(RecvError::PeerDied),
            _ => None,
        }
    }

    pub fn peer(&self) -> Peer {
        self.status().peer
    }

    pub fn status(&self) -> Status {
        let Some(info) = self.inspect().filter(|info| self.is_member(info)) else {
            return Status { peer: Peer::NameRemoved, sent: 0, queued: 0, lost: 0, is_closed: false };
        };
        let (sent, queued) = flow(&info);
        let peer = match standing(&info, self.meeting.role.other()) {
            Some(ParticipantStatus::Vacant) => Peer::NotYet,
            Some(status @ (ParticipantStatus::Left | ParticipantStatus::Dead)) if !self.has_come(&info, status) => {
                Peer::NotYet
            }
            Some(ParticipantStatus::Left) => Peer::Left,
            Some(ParticipantStatus::Dead) => Peer::Died,
            Some(_) => Peer::Here,
            None => Peer::NameRemoved,
        };
        let lost = tasks_lost(&info).saturating_sub(self.found.lost);
        Status { peer, sent, queued, lost, is_closed: info.queue.is_some_and(|queue| queue.stats.is_closed) }
    }

    /// Whether the last peer, which ended like that, was one for us.
    ///
    /// One that ended before we joined a queue was not. Nor is a receiver that was about to leave
    /// then, because of the end of earlier senders: it takes nothing any more.
    fn has_come(&self, info: &RegionInfo, end: ParticipantStatus) -> bool {
        let (Found { peers, has_live_peer, received, is_first, .. }, (sent, queued)) = (&self.found, flow(info));
        let was_leaving = end == ParticipantStatus::Left && !is_first && sent.saturating_sub(queued) == *received;
        info.kind == RegionKind::Pipe
            || joined(info, self.meeting.role.other()) > *peers
            || *has_live_peer && !was_leaving
    }

    /// Leaves as a sender, then removes the name if it is that of our region, nobody else is there
    /// and nothing of use waits.
    pub fn remove_name_after(&self, leave: impl FnOnce()) {
        let has_left = |info: &RegionInfo| {
            let name = Role::Sender.name(info.kind);
            info.participants.iter().any(|one| one.role == name && one.status == ParticipantStatus::Left)
        };
        let is_removable = self.inspect().is_some_and(|info| {
            let (sent, queued) = flow(&info);
            let is_of_use = has_left(&info) || sent.saturating_sub(queued) < self.found.sent;
            self.is_member(&info) && (info.queue.is_none() || self.meeting.in_pieces || !is_of_use)
        });
        leave();
        if is_removable {
            // If this fails, the next transfer or `tombolo doctor` removes it.
            let _ = self.directory.unlink_if_stale(self.meeting.name);
        }
    }

    fn inspect(&self) -> Option<RegionInfo> {
        self.directory.inspect(self.meeting.name).ok()
    }

    /// Whether this process takes part in the region.
    fn is_member(&self, info: &RegionInfo) -> bool {
        info.participants.iter().any(|one| {
            one.role == self.meeting.role.name(info.kind)
                && one.status == ParticipantStatus::Alive
                && one.pid == u64::from(process::id())
        })
    }

    /// Starts the timeout again, after the peer did something or while it is our turn.
    pub fn reset_timeout(&mut self) {
        self.waiting_since = Instant::now();
    }

    /// Returns an error if it is time to stop waiting for the peer; `reason` says what it did not
    /// do.
    pub fn keep_waiting(&self, reason: &str) -> Result<(), Failure> {
        self.check_signals()?;
        match self.meeting.timeout {
            Some(limit) if self.waiting_since.elapsed() >= limit => {
                let name = self.meeting.name;
                Err(Failure::TimedOut(format!("{reason} ({name:?}) within {} s", limit.as_secs_f64())))
            }
            _ => Ok(()),
        }
    }

    /// Like [`keep_waiting`](Self::keep_waiting), for a receiver. `was_seen`: a sender has been
    /// here. `is_over`: only a new sender can send something.
    pub fn wait_for_sender(&self, was_seen: &mut bool, is_over: bool) -> Result<(), Failure> {
        match self.peer() {
            Peer::NotYet => {}
            Peer::NameRemoved if is_over || !*was_seen => {
                let name = self.meeting.name;
                return Err(Failure::Error(format!("somebody removed the name {name:?} before a sender came")));
            }
            _ => *was_seen = true, // if it is gone, the next receive returns why
        }
        self.keep_waiting(if *was_seen { "nothing came" } else { "nobody came to send" })
    }

    pub fn check_signals(&self) -> Result<(), Failure> {
        self.signals.check()
    }
}

/// The standing of a role: in a queue or a broadcast, that of all its participants together.
fn standing(info: &RegionInfo, role: Role) -> Option<ParticipantStatus> {
    let name = role.name(info.kind);
    let mut standings = info.participants.iter().filter(|one| one.role == name).map(|one| one.status);
    match (&info.queue, role) {
        (Some(queue), Role::Sender) => Some(queue.senders),
        (Some(queue), Role::Receiver) => Some(queue.receivers),
        (None, _) if info.kind == RegionKind::Broadcast => {
            // Which one was the last is not known: a death counts for more than a clean end.
            let order = |status: &ParticipantStatus| match status {
                ParticipantStatus::Vacant => 0,
                ParticipantStatus::Left => 1,
                ParticipantStatus::Dead => 2,
                ParticipantStatus::Alive => 4,
                _ => 3,
            };
            Some(standings.max_by_key(order).unwrap_or(ParticipantStatus::Vacant))
        }
        (None, _) => standings.next(),
    }
}

/// How many live subscribers receive from every publisher.
fn subscribers(info: &RegionInfo) -> u64 {
    let receives = |one: &SubscriberInfo| one.lags.iter().all(Option::is_some) && is_alive(info, one);
    info.broadcast.iter().flat_map(|broadcast| &broadcast.subscribers).filter(|one| receives(one)).count() as u64
}

fn is_alive(info: &RegionInfo, subscriber: &SubscriberInfo) -> bool {
    let name = Role::Receiver.name(info.kind);
    let mut participants = info.participants.iter().filter(|one| one.role == name && one.pid == subscriber.pid);
    participants.any(|one| one.status == ParticipantStatus::Alive)
}

/// Whether all of a role have left or died.
fn is_over(info: &RegionInfo, role: Role) -> bool {
    matches!(standing(info, role), Some(ParticipantStatus::Left | ParticipantStatus::Dead))
}

/// How many processes have joined in a role.
fn joined(info: &RegionInfo, role: Role) -> u64 {
    match (&info.queue, role) {
        (Some(queue), Role::Sender) => queue.senders_joined,
        (Some(queue), Role::Receiver) => queue.receivers_joined,
        (None, _) => {
            let name = role.name(info.kind);
            info.participants.iter().filter(|one| one.role == name).map(|one| one.joins).sum()
        }
    }
}

/// Whether no process is there, and nothing waits.
fn is_out_of_use(info: &RegionInfo) -> bool {
    flow(info).1 + in_hand(info) == 0 && info.participants.iter().all(|one| one.status != ParticipantStatus::Alive)
}

/// Messages of a queue that redelivers which receivers have, or had when they were killed. Dead
/// letters do not count: no receiver gets them.
fn in_hand(info: &RegionInfo) -> u64 {
    info.queue.as_ref().map_or(0, |queue| queue.stats.unfinished + queue.stats.requeued)
}

fn tasks_lost(info: &RegionInfo) -> u64 {
    info.queue.as_ref().map_or(0, |queue| queue.stats.tasks_lost)
}

/// What was sent so far, and how much of that still waits. In a broadcast it waits as long as there
/// is a live subscriber that has not read it.
fn flow(info: &RegionInfo) -> (u64, u64) {
    let sum = |count: fn(&RingInfo) -> u64| info.rings.iter().map(count).sum();
    let waiting = info.broadcast.as_ref().map(|broadcast| {
        let subscribers = broadcast.subscribers.iter().filter(|one| is_alive(info, one));
        subscribers.map(|one| one.lags.iter().flatten().sum()).max().unwrap_or(0)
    });
    (sum(|ring| ring.sent), waiting.unwrap_or_else(|| sum(|ring| ring.queued)))
}
