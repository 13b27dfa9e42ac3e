//! One direction of a pipe as one of its two sides lives it: waiting for the other, ringing for it, learning that it left
//! or died, leaving oneself. What moves through the ring is not this file's business.

use std::fmt;
use std::sync::Arc;

use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::owner::{Owner, View};
use crate::raw::spsc::ProducerChange;
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::pipe::{PipeLayout, ring};
use crate::region::lifecycle::{LifecycleHooks, Registration};
use crate::region::participant::{LEFT, ParticipantStatus};
use crate::region::words::{Mapped, Word};
use crate::sys::{Deadline, membarrier};
use crate::wait::{WaitEnd, WaitState, WaitStrategy, Waiter};

/// An end of the peer that is to be reported, and the view that told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerEnd {
    stop: WaitEnd,
    view: View,
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

    /// The side that a seat plays in a ring: ring 0 leads from seat 0 to seat 1, ring 1 back.
    pub(crate) fn of(seat: usize, ring: usize) -> Self {
        if seat == ring { Self::Producer } else { Self::Consumer }
    }

    pub(crate) fn role(self, region: &Region, ring: usize) -> Owner<Mapped> {
        let at = PipeLayout::ring(ring);
        let (word, from) = match self {
            Self::Producer => (ring::PRODUCER_OWNER, ring::PRODUCER_START),
            Self::Consumer => (ring::CONSUMER_OWNER, ring::CONSUMER_START),
        };
        Owner::new(region.word(at + word), [region.word(at + from), region.word(at + from + 1)])
    }

    /// What this side moves.
    pub(crate) fn index(self, region: &Region, ring: usize) -> Word {
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

    /// Becomes this side of the ring, where the last one stopped. The caller holds the seat and the admission.
    pub(crate) fn take(self, region: &Region, ring: usize) {
        let from = self.index(region, ring).load(Ordering::Acquire);
        self.role(region, ring).take(from);
        if self == Self::Consumer {
            self.event(region, ring).mark_peer_left(false);
        }
        // Whoever waits for a peer to come need not wait for its slice to end.
        self.other().event(region, ring).wake(1);
    }
}

pub(crate) struct Connection {
    seat: Arc<Registration>,
    side: Side,
    own: Owner<Mapped>,
    peer: Owner<Mapped>,
    /// What we sleep on.
    ear: EventCount<Mapped>,
    /// What the peer sleeps on.
    bell: EventCount<Mapped>,
    /// The last peer whose end was reported, and the end.
    told: Option<(u64, WaitEnd)>,
    /// The consumer that a producer has in mind.
    known: View,
    pace: WaitState,
}

impl Connection {
    pub(crate) fn new(seat: Arc<Registration>, ring: usize, wait: WaitStrategy) -> Self {
        let region = seat.region();
        let side = Side::of(seat.index(), ring);
        let (ear, bell) = (side.event(region, ring), side.other().event(region, ring));
        if !membarrier::register() {
            ear.require_fences();
            bell.require_fences();
        }
        let (own, peer) = (side.role(region, ring), side.other().role(region, ring));
        let known = peer.view();
        let pace = WaitState::new(wait, region);
        seat.leave_at_exit();
        Self { side, own, peer, ear, bell, told: None, known, pace, seat }
    }

    pub(crate) fn seat(&self) -> &Arc<Registration> {
        &self.seat
    }

    /// False in a process that was forked from the handle's own.
    #[inline]
    pub(crate) fn is_from_this_process(&self) -> bool {
        self.seat.region().is_from_this_process()
    }

    /// Whether the peer has left, by a word that is in this side's cache anyway.
    #[inline]
    pub(crate) fn peer_has_left(&self) -> bool {
        self.bell.peer_has_left() && self.peer.view().is_closed()
    }

    /// Call after publishing or releasing.
    #[inline]
    pub(crate) fn ring(&self) {
        self.bell.notify(1);
    }

    /// How many peers, and how many deaths of peers, came to an end between two views without a report.
    fn unreported(&self, earlier: View, now: View) -> (u64, u64) {
        let (came, died) = now.since(earlier);
        // Of epoch 0 there was nobody to end.
        let ended = came.saturating_sub(u64::from(earlier.epoch() == 0));
        match self.told {
            Some((epoch, WaitEnd::PeerDied)) if epoch == earlier.epoch() => {
                (ended.saturating_sub(1), died.saturating_sub(1))
            }
            Some((epoch, WaitEnd::Closed)) if epoch == earlier.epoch() => (ended.saturating_sub(1), died),
            _ => (ended, died),
        }
    }

    /// How the producer ended whose messages are all read, unless that was reported.
    pub(crate) fn owed(&self, succession: ProducerChange) -> Option<WaitEnd> {
        match self.unreported(succession.ended, succession.view) {
            (0, _) => None,
            (_, 0) => Some(WaitEnd::Closed),
            _ => Some(WaitEnd::PeerDied),
        }
    }
}

/// The end of a side, for the other.
fn close(side: Side, own: &Owner<Mapped>, ear: &EventCount<Mapped>, bell: &EventCount<Mapped>) {
    own.close();
    if side == Side::Consumer {
        ear.mark_peer_left(true); // for the producer to see in passing
    }
    bell.wake(1);
}

/// A pipe's layout. Whatever opens a region as a pipe checks that it is one.
pub(crate) fn layout(region: &Region) -> &PipeLayout {
    match region.layout() {
        Layout::Pipe(layout) => layout,
        other => unreachable!("{} opened as a pipe", other.kind()),
    }
}

pub(crate) static HOOKS: LifecycleHooks =
    LifecycleHooks { announce_exit, has_undelivered, role_name: |region, index| layout(region).role_name(index) };

/// Whether messages wait for a peer that has not joined yet, or has died.
fn has_undelivered(region: &Region, leaver: usize) -> bool {
    let other = 1 - leaver.min(1);
    region.participants().state(other) != LEFT && queued_for(region, other) > 0
}

/// Positions that were published towards a participant and not yet released by it: slots, or words of
/// records.
pub(crate) fn queued_for(region: &Region, index: usize) -> u64 {
    // Ring 0 leads from participant 0 to participant 1, ring 1 back. A one-way pipe has no ring 1.
    let ring = 1 - index.min(1);
    if ring as u64 >= layout(region).directions {
        return 0;
    }
    let index = |side: Side| side.index(region, ring).load(Ordering::Acquire);
    let head = index(Side::Consumer);
    index(Side::Producer).wrapping_sub(head)
}

/// Announces the end of a participant, in each direction.
fn announce_exit(seat: &Registration) {
    let region = seat.region();
    for ring in 0..layout(region).directions as usize {
        let side = Side::of(seat.index(), ring);
        let event = |side: Side| side.event(region, ring);
        close(side, &side.role(region, ring), &event(side), &event(side.other())); // L1, L2
    }
    region.participants().set_state(seat.index(), LEFT); // L3
}

impl Waiter for Connection {
    type End = PeerEnd;

    fn peer_end(&mut self) -> Option<PeerEnd> {
        let view = self.peer.view();
        // Known to be dead, and nobody has come since.
        let dead = self.told == Some((view.epoch(), WaitEnd::PeerDied));
        // A consumer learns of a succession from its ring, behind the last message.
        let succeeded = self.side == Side::Producer && self.unreported(self.known, view).1 > 0;
        let stop = match (view.is_closed(), dead || succeeded) {
            (true, _) => WaitEnd::Closed,
            (false, true) => WaitEnd::PeerDied,
            (false, false) => return None,
        };
        Some(PeerEnd { stop, view })
    }

    fn check_liveness(&mut self, _: Deadline) -> Option<PeerEnd> {
        let peer = 1 - self.seat.index().min(1);
        let view = self.peer.view();
        let stop = match self.seat.region().participants().status(peer) {
            ParticipantStatus::Alive => return None,
            ParticipantStatus::LockLost => WaitEnd::LockLost,
            // Whatever its record says: a role is open only while its lock is held.
            ParticipantStatus::Dead | ParticipantStatus::Left | ParticipantStatus::Vacant => WaitEnd::PeerDied,
        };
        if view.is_open() && self.peer.view() == view {
            return Some(PeerEnd { stop, view });
        }
        self.peer_end() // it closed, or another came, while we asked
    }

    fn report_end(&mut self, end: PeerEnd) -> WaitEnd {
        let news = end.stop == WaitEnd::PeerDied && self.unreported(self.known, end.view).1 > 0;
        // News is of a predecessor: the one who is there now has not ended.
        if !(self.side == Side::Producer && news) {
            self.told = Some((end.view.epoch(), end.stop));
        }
        self.known = end.view;
        end.stop
    }

    fn event(&self) -> &EventCount<Mapped> {
        &self.ear
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.pace
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_from_this_process() && !self.seat.is_transferred() {
            close(self.side, &self.own, &self.ear, &self.bell);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("side", &self.side)
            .field("wait", &self.pace.wait())
            .field("seat", &self.seat)
            .finish()
    }
}
