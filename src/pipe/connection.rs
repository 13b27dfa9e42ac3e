//! One direction of a pipe, as one of its two sides sees it: it waits for the peer, notifies it,
//! learns that it left or died, and leaves. What moves through the ring is the codec's business.

use std::fmt;
use std::sync::Arc;

use crate::error::NotHere;
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::owner::{Owner, OwnerState};
use crate::raw::spsc::ProducerChange;
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::pipe::{PipeLayout, ring};
use crate::region::lifecycle::{Holder, LifecycleHooks, Registration};
use crate::region::participant::{LEFT, ParticipantStatus};
use crate::region::trace;
use crate::region::words::{Mapped, Word};
use crate::sys::{clock::Deadline, membarrier};
use crate::wait::{WaitEnd, WaitState, WaitStrategy, Waiter};

/// An end of the peer that is to be reported, and the state of the peer's side that showed it.
#[derive(Clone, Copy, Debug)]
pub struct PeerEnd {
    end: WaitEnd,
    peer: OwnerState,
}

impl From<PeerEnd> for WaitEnd {
    fn from(end: PeerEnd) -> Self {
        end.end
    }
}

/// Owners that one call sees come and go.
const MAX_CHANGES: u32 = 16;

/// How an endpoint waits, and what it makes of its peers.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOptions {
    pub(crate) wait: WaitStrategy,
    /// A receiver waits for the next sender instead of reporting the end of the last one.
    pub(crate) waits_for_successor: bool,
    /// The end of a sender that was over when this endpoint joined.
    pub(crate) previous_end: Option<PeerEnd>,
}

/// The two sides of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Producer => Self::Consumer,
            Self::Consumer => Self::Producer,
        }
    }

    /// The side of a participant. Ring 0 leads from participant 0 to participant 1, ring 1 back.
    pub(crate) fn of(participant: usize, ring: usize) -> Self {
        if participant == ring { Self::Producer } else { Self::Consumer }
    }

    pub(crate) fn owner(self, region: &Region, ring: usize) -> Owner<Mapped> {
        let at = PipeLayout::ring(ring);
        let (word, start) = match self {
            Self::Producer => (ring::PRODUCER_OWNER, ring::PRODUCER_START),
            Self::Consumer => (ring::CONSUMER_OWNER, ring::CONSUMER_START),
        };
        Owner::new(region.word(at + word), [region.word(at + start), region.word(at + start + 1)])
    }

    /// The word of the position that this side moves.
    pub(crate) fn position(self, region: &Region, ring: usize) -> Word {
        let word = match self {
            Self::Producer => ring::TAIL,
            Self::Consumer => ring::HEAD,
        };
        region.word(PipeLayout::ring(ring) + word)
    }

    /// The event that this side sleeps on.
    fn event(self, region: &Region, ring: usize) -> EventCount<Mapped> {
        let word = match self {
            Self::Producer => ring::WRITABLE,
            Self::Consumer => ring::READABLE,
        };
        EventCount::new(region.futex(PipeLayout::ring(ring) + word))
    }

    /// Becomes the owner of this side of the ring, where the last owner stopped. The caller has
    /// locked the participant and the membership.
    pub(crate) fn acquire(self, region: &Region, ring: usize) {
        let start = self.position(region, ring).load(Ordering::Acquire); // edge: ring-position
        self.owner(region, ring).acquire(start);
        if self == Self::Consumer {
            self.event(region, ring).set_peer_left(false);
        }
        // A peer that waits for this side to come need not sleep through its interval.
        self.other().event(region, ring).wake(1);
    }
}

pub(crate) struct Connection {
    registration: Arc<Registration>,
    holder: Holder,
    side: Side,
    owner: Owner<Mapped>,
    peer: Owner<Mapped>,
    /// What this side sleeps on.
    pub(super) wait_event: EventCount<Mapped>,
    /// What the peer sleeps on.
    pub(super) peer_event: EventCount<Mapped>,
    /// The epoch of the last peer whose end was reported, and that end.
    reported_end: Option<(u64, WaitEnd)>,
    /// The peer as it was at the last report.
    seen_peer: OwnerState,
    waits_for_successor: bool,
    /// The epoch of a sender whose end this receiver was not there to see.
    previous: Option<u64>,
    wait_state: WaitState,
}

impl Connection {
    pub(crate) fn new(registration: Arc<Registration>, ring: usize, options: ConnectionOptions) -> Self {
        let region = registration.region();
        let side = Side::of(registration.index(), ring);
        let (wait_event, peer_event) = (side.event(region, ring), side.other().event(region, ring));
        if !membarrier::register() {
            wait_event.require_fences();
            peer_event.require_fences();
        }
        let (owner, peer) = (side.owner(region, ring), side.other().owner(region, ring));
        let seen_peer = peer.state();
        let wait_state = WaitState::new(options.wait, region);
        let is_consumer = side == Side::Consumer;
        let previous = options.previous_end.filter(|_| is_consumer).map(|PeerEnd { end, peer }| (peer.epoch(), end));
        registration.leave_at_exit();
        Self {
            holder: Holder::this_process(),
            side,
            owner,
            peer,
            wait_event,
            peer_event,
            reported_end: previous,
            seen_peer,
            waits_for_successor: is_consumer && options.waits_for_successor,
            previous: previous.map(|(epoch, _)| epoch),
            wait_state,
            registration,
        }
    }

    pub(crate) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    pub(crate) fn region(&self) -> &Region {
        self.registration.region()
    }

    /// See [`Holder::is_here`].
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.holder.is_here(&self.registration)
    }

    #[inline]
    pub(super) fn check_holder<E: NotHere>(&self) -> Result<(), E> {
        self.holder.check(&self.registration)
    }

    pub(crate) fn holder(&self) -> &Holder {
        &self.holder
    }

    fn peer_index(&self) -> usize {
        other(self.registration.index())
    }

    /// The process that the peer's record names.
    pub(crate) fn peer_pid(&self) -> Option<u64> {
        Some(self.region().participants().pid(self.peer_index())).filter(|&pid| pid != 0)
    }

    /// What error messages call the peer.
    pub(crate) fn peer_name(&self) -> &'static str {
        match (layout(self.region()).directions, self.side) {
            (1, Side::Producer) => "the receiver",
            (1, Side::Consumer) => "the sender",
            _ => "the other endpoint",
        }
    }

    pub(crate) fn peer_watch(&self) -> PeerWatch {
        let ring = if self.side == Side::Producer { self.registration.index() } else { self.peer_index() };
        PeerWatch {
            registration: Arc::clone(&self.registration),
            index: self.peer_index(),
            owner: self.side.other().owner(self.region(), ring),
            gone: None,
        }
    }

    /// Whether the end of that peer is reported. If not, this side waits for the next one.
    fn reports_end_of(&self, peer: OwnerState) -> bool {
        !self.waits_for_successor && self.previous != Some(peer.epoch())
    }

    /// Whether the peer has left, by its own word. A producer first checks the bit in
    /// `peer_event`, which is in its cache.
    #[cold]
    pub(super) fn peer_has_closed(&self) -> bool {
        self.peer.state().is_closed()
    }

    /// How many peers ended, and how many of those died, between two views, without the end that
    /// was reported already.
    fn unreported_count(&self, earlier: OwnerState, now: OwnerState) -> (u64, u64) {
        let (joined, died) = now.changes_since(earlier);
        // Of epoch 0 there was no peer to end.
        let ended = joined.saturating_sub(u64::from(earlier.epoch() == 0));
        match self.reported_end {
            Some((epoch, WaitEnd::PeerDied)) if epoch == earlier.epoch() => {
                (ended.saturating_sub(1), died.saturating_sub(1))
            }
            Some((epoch, WaitEnd::Closed)) if epoch == earlier.epoch() => (ended.saturating_sub(1), died),
            _ => (ended, died),
        }
    }

    /// How the producer ended whose messages are all read. None if that was reported.
    pub(crate) fn unreported_end(&self, change: ProducerChange) -> Option<WaitEnd> {
        match self.unreported_count(change.ended, change.next) {
            _ if self.waits_for_successor => None,
            (0, _) => None,
            (_, 0) => Some(WaitEnd::Closed),
            _ => Some(WaitEnd::PeerDied),
        }
    }
}

/// One side of a ring, as the other looks for its owner.
pub(crate) struct PeerWatch {
    registration: Arc<Registration>,
    index: usize,
    owner: Owner<Mapped>,
    /// An owner of which the kernel has said that it is gone. It does not come back.
    gone: Option<OwnerState>,
}

impl PeerWatch {
    /// The owner's status. Asks the kernel once about each owner that is gone.
    pub(crate) fn status(&mut self) -> ParticipantStatus {
        for _ in 0..MAX_CHANGES {
            let owner = self.owner.state();
            if owner.is_closed() {
                return ParticipantStatus::Left;
            }
            if !owner.is_open() {
                return ParticipantStatus::Vacant;
            }
            if self.gone == Some(owner) {
                return ParticipantStatus::Dead;
            }
            let status = self.registration.region().participants().status(self.index);
            // Otherwise it left, or another came, during the check.
            if self.owner.state() == owner {
                if matches!(status, ParticipantStatus::Alive | ParticipantStatus::LockLost) {
                    return status;
                }
                self.gone = Some(owner);
            }
        }
        ParticipantStatus::Alive // somebody is there, to change it that often
    }
}

/// Ends a side, for the peer to see.
fn close(side: Side, owner: &Owner<Mapped>, wait_event: &EventCount<Mapped>, peer_event: &EventCount<Mapped>) {
    owner.close();
    if side == Side::Consumer {
        wait_event.set_peer_left(true); // so that the producer sees it with one load
    }
    peer_event.wake(1);
}

/// A pipe's layout. Everything that opens a region as a pipe has checked that it is one.
pub(crate) fn layout(region: &Region) -> &PipeLayout {
    match region.layout() {
        Layout::Pipe(layout) => layout,
        other => unreachable!("{} opened as a pipe", other.kind()),
    }
}

/// The other participant of a pipe, which is also the ring of its messages.
pub(super) fn other(participant: usize) -> usize {
    1 - participant.min(1)
}

/// The end of the sender from which that participant would receive, if it is over and everything of
/// it was received. Nobody waits for it: the participant waits for the next sender, as it would
/// under a new name.
pub(super) fn previous_end(region: &Region, participant: usize) -> Option<PeerEnd> {
    let sender = other(participant); // and the ring of its messages
    if sender as u64 >= layout(region).directions {
        return None;
    }
    let peer = Side::Producer.owner(region, sender).state();
    let end = match region.participants().status(sender) {
        _ if peer.is_closed() => WaitEnd::Closed,
        ParticipantStatus::Dead | ParticipantStatus::Left if peer.is_open() => WaitEnd::PeerDied,
        _ => return None,
    };
    // Last: what the sender had published by its end is seen here.
    (queued_for(region, participant) == 0).then_some(PeerEnd { end, peer })
}

pub(crate) static HOOKS: LifecycleHooks =
    LifecycleHooks { announce_exit, has_undelivered, role_name: |region, index| layout(region).role_name(index) };

/// Whether messages wait for a peer that has not joined yet, or has died.
fn has_undelivered(region: &Region, leaver: usize) -> bool {
    let other = other(leaver);
    region.participants().state(other) != LEFT && queued_for(region, other) > 0
}

/// Positions that were published towards a participant and not yet released by it: slots, or words
/// of records.
pub(crate) fn queued_for(region: &Region, participant: usize) -> u64 {
    // A one-way pipe has no ring 1.
    let ring = other(participant);
    if ring as u64 >= layout(region).directions {
        return 0;
    }
    let position = |side: Side| side.position(region, ring).load(Ordering::Acquire); // edge: snapshot
    let head = position(Side::Consumer);
    position(Side::Producer).wrapping_sub(head)
}

/// Announces the end of a participant, in each direction.
fn announce_exit(registration: &Registration) {
    let region = registration.region();
    for ring in 0..layout(region).directions as usize {
        let side = Side::of(registration.index(), ring);
        let event = |side: Side| side.event(region, ring);
        close(side, &side.owner(region, ring), &event(side), &event(side.other())); // leave-1, leave-2
    }
    region.participants().set_state(registration.index(), LEFT); // leave-3
}

impl Waiter for Connection {
    type End = PeerEnd;

    fn peer_end(&mut self) -> Option<PeerEnd> {
        let peer = self.peer.state();
        if !self.reports_end_of(peer) {
            return None;
        }
        // It was reported dead, and no other has come since.
        let is_dead = self.reported_end == Some((peer.epoch(), WaitEnd::PeerDied));
        // A consumer learns of a successor from its ring, behind the last message.
        let was_replaced = self.side == Side::Producer && self.unreported_count(self.seen_peer, peer).1 > 0;
        let end = match (peer.is_closed(), is_dead || was_replaced) {
            (true, _) => WaitEnd::Closed,
            (false, true) => WaitEnd::PeerDied,
            (false, false) => return None,
        };
        Some(PeerEnd { end, peer })
    }

    fn check_liveness(&mut self, _: Deadline) -> Option<PeerEnd> {
        let has_lost_name = self.region().has_lost_name();
        let peer = self.peer.state();
        let end = match self.region().participants().status(self.peer_index()) {
            ParticipantStatus::Alive => return None,
            ParticipantStatus::LockLost => WaitEnd::LockLost,
            // Whatever its record says: a side is open only while its participant is locked.
            ParticipantStatus::Dead | ParticipantStatus::Left | ParticipantStatus::Vacant => WaitEnd::PeerDied,
        };
        let found = if peer.is_open() && self.peer.state() == peer {
            let is_reported = end == WaitEnd::LockLost || self.reports_end_of(peer);
            is_reported.then_some(PeerEnd { end, peer })
        } else {
            self.peer_end() // it closed, or another came, during the check
        };
        found.or_else(|| has_lost_name.then_some(PeerEnd { end: WaitEnd::NameRemoved, peer }))
    }

    /// A peer that had opened the name before it was removed may have joined meanwhile.
    fn is_final(&mut self, PeerEnd { end, peer }: &PeerEnd) -> bool {
        *end != WaitEnd::NameRemoved || self.peer.state() == *peer
    }

    fn report_end(&mut self, PeerEnd { end, peer }: PeerEnd) -> WaitEnd {
        if end == WaitEnd::NameRemoved {
            return end; // not the peer's
        }
        let is_predecessor = self.side == Side::Producer
            && end == WaitEnd::PeerDied
            && self.unreported_count(self.seen_peer, peer).1 > 0;
        // The end of a predecessor is not that of the peer that is there now.
        if !is_predecessor {
            if end == WaitEnd::PeerDied && self.reported_end != Some((peer.epoch(), end)) {
                trace::peer_died(self.region(), self.peer_index());
            }
            self.reported_end = Some((peer.epoch(), end));
        }
        self.seen_peer = peer;
        end
    }

    fn event(&self) -> &EventCount<Mapped> {
        &self.wait_event
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.wait_state
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_here() && !self.registration.is_transferred() {
            close(self.side, &self.owner, &self.wait_event, &self.peer_event);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("side", &self.side)
            .field("wait", &self.wait_state.wait())
            .field("registration", &self.registration)
            .finish()
    }
}
