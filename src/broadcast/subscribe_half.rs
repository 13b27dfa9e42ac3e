//! What subscribers of values and of byte messages have in common: a consumer for each track, which
//! take turns, and waiting for any of the publishers.

use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::broadcast::frames::Lease;
use crate::broadcast::membership;
use crate::broadcast::snapshot::Snapshot;
use crate::broadcast::state::{BroadcastState, Role};
use crate::broadcast::track_reader::TrackReader;
use crate::error::{RecvError, Result};
use crate::primitive::Ordering;
use crate::raw::Corrupt;
use crate::raw::broadcast::consumer::{Consumer, Published, Read};
use crate::raw::broadcast::frames::Leases;
use crate::raw::broadcast::latest::KEY_WORDS;
use crate::raw::broadcast::producer::Gate;
use crate::raw::event_count::EventCount;
use crate::region::Region;
use crate::region::layout::participant as record;
use crate::region::lifecycle::{Holder, Registration};
use crate::region::participant::ParticipantStatus;
use crate::region::trace;
use crate::region::words::Mapped;
use crate::sys::clock::Deadline;
use crate::sys::fork::Generation;
use crate::sys::membarrier;
use crate::types::Shareable;
use crate::wait::source::sealed::Watch;
use crate::wait::{Attempt, Timeout, WaitEnd, WaitState, WaitStrategy, Waiter};

pub(crate) struct SubscribeHalf {
    holder: Holder,
    tracks: Tracks,
    waiter: PublisherWaiter,
    /// What the next call returns: it happened in the middle of a batch of byte messages.
    pub(super) postponed: Option<RecvError>,
}

/// Messages that one publisher is read before the next one has its turn. A batch is a turn, too.
const TURN: u64 = 32;

/// The tracks of all publishers, as one subscriber reads them.
pub(super) struct Tracks {
    tracks: Vec<SubscribedTrack>,
    /// The one to read next.
    current: usize,
    /// The count at which the next one has its turn.
    turn_end: u64,
    /// Whether publishers wait for this subscriber.
    is_gated: bool,
    /// Messages read.
    count: u64,
    /// Slots published before those that it reads.
    published_before: u64,
}

struct SubscribedTrack {
    reader: TrackReader,
    leases: Leases<Mapped>,
    /// What its publisher sleeps on.
    room: EventCount<Mapped>,
}

/// Waits for a publisher.
struct PublisherWaiter {
    registration: Arc<Registration>,
    published: EventCount<Mapped>,
    waits_for_successor: bool,
    /// If no publisher was there when this subscriber joined: how many had been.
    joined_before: Option<u64>,
    /// How all publishers ended, if they did, and the membership epoch of that.
    end: Option<WaitEnd>,
    end_of: Option<u64>,
    state: WaitState,
}

impl Tracks {
    fn new(state: BroadcastState<'_>, participant: usize) -> Self {
        let is_gated = state.gate() != Gate::Open;
        let track = |index| {
            let cursor = state.cursor(index, participant - state.layout.publishers());
            let (own, next) = (cursor.state().as_active(), cursor.next());
            let consumer = Consumer::new(state.track(index), cursor, own, next, is_gated);
            let reader = TrackReader::new(consumer, state.latest(index));
            SubscribedTrack { reader, leases: state.leases(index), room: state.room(index) }
        };
        let tracks: Vec<SubscribedTrack> = (0..state.layout.publishers()).map(track).collect();
        let positions = tracks.iter().map(|track| track.reader.consumer.position());
        let published_before = positions.fold(0, u64::saturating_add);
        Self { tracks, current: 0, turn_end: TURN, is_gated, count: 0, published_before }
    }

    /// Ends the turn of the current track.
    fn end_turn(&mut self) {
        self.current = if self.current + 1 < self.tracks.len() { self.current + 1 } else { 0 };
        self.turn_end = self.count.saturating_add(TURN);
    }

    /// Reads messages of one track, if possible `want` slots. Returns `None` if there is none.
    #[inline(always)]
    fn read<R>(
        &mut self,
        want: u64,
        mut copy: impl FnMut(Published<'_, Mapped>) -> Result<(u64, R), Corrupt>,
    ) -> Result<Option<R>, RecvError> {
        for _ in 0..self.tracks.len() {
            let Some(track) = self.tracks.get_mut(self.current) else { break };
            let on_pass = || {
                if self.is_gated {
                    track.room.notify(1);
                }
            };
            match track.reader.read(want, &mut copy, on_pass)? {
                Read::Message(read) => {
                    if self.is_gated {
                        track.room.notify(1);
                    }
                    self.count = self.count.wrapping_add(1);
                    // However fast its publisher is, the others are not kept waiting.
                    if want > 1 || self.count >= self.turn_end {
                        self.end_turn();
                    }
                    return Ok(Some(read));
                }
                Read::Lagged(missed) => {
                    self.end_turn();
                    return Err(RecvError::Lagged { missed });
                }
                Read::Evicted => return Err(RecvError::Evicted),
                Read::Empty => self.end_turn(),
            }
        }
        Ok(None)
    }

    /// Sets a lease of the frame that the last read has found, and goes on behind its message.
    fn lease(&mut self, subscriber: usize, frame: u64) -> Result<(), RecvError> {
        let track = self.tracks.get_mut(self.current).ok_or(Corrupt)?;
        let read = track.reader.consumer.lease(&track.leases, subscriber, frame);
        // Whether the cursor has moved, or a lease was there for a moment.
        track.room.notify(1);
        match read? {
            Read::Message(()) => Ok(()),
            Read::Lagged(missed) => Err(RecvError::Lagged { missed }),
            Read::Evicted => Err(RecvError::Evicted),
            Read::Empty => Err(Corrupt.into()),
        }
    }

    /// Whether there is something to read.
    #[inline]
    fn probe(&self) -> bool {
        self.tracks.iter().any(|track| track.reader.consumer.probe())
    }
}

impl SubscribeHalf {
    /// The registration's cursors are active, or were evicted since.
    pub(super) fn new(registration: Registration, wait: WaitStrategy, waits_for_successor: bool) -> Self {
        let registration = Arc::new(registration);
        let state = BroadcastState::of(registration.region());
        // edge: broadcast-since
        let since = state.record_word(registration.index(), record::SINCE).load(Ordering::Acquire);
        let half = Self {
            holder: Holder::this_process(),
            tracks: Tracks::new(state, registration.index()),
            postponed: None,
            waiter: PublisherWaiter {
                published: state.published(),
                waits_for_successor,
                joined_before: since.checked_sub(1),
                end: None,
                end_of: None,
                state: WaitState::new(wait, registration.region()),
                registration: Arc::clone(&registration),
            },
        };
        registration.leave_at_exit();
        if !membarrier::register() {
            half.waiter.published.require_fences();
            half.tracks.tracks.iter().for_each(|track| track.room.require_fences());
        }
        half
    }

    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.waiter.registration
    }

    pub(super) fn state(&self) -> BroadcastState<'_> {
        BroadcastState::of(self.registration().region())
    }

    pub(super) fn wait_strategy(&self) -> WaitStrategy {
        self.waiter.state.wait()
    }

    pub(super) fn waits_for_successor(&self) -> bool {
        self.waiter.waits_for_successor
    }

    pub(super) fn wait_state(&mut self) -> &mut WaitState {
        &mut self.waiter.state
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Whether another process could not go on from here: it would receive again what a snapshot
    /// had, or not be told what was missed.
    pub(super) fn has_private_state(&self) -> bool {
        self.postponed.is_some() || self.tracks.tracks.iter().any(|track| track.reader.is_behind_snapshot())
    }

    /// Another handle of the region, to join once more.
    pub(super) fn reopen(&self) -> Result<Region> {
        self.holder.check_for(self.registration(), "take part in a broadcast")?;
        self.registration().region().reopen()
    }

    /// Begins again with the next messages. Returns how many were passed over.
    pub(super) fn rejoin(&mut self) -> Result<u64, RecvError> {
        self.holder.check::<RecvError>(self.registration())?;
        let (state, index) = (self.state(), self.registration().index());
        state.activate_cursors(index, 0)?;
        let tracks = Tracks::new(state, index);
        let before = mem::replace(&mut self.tracks, tracks);
        self.postponed = None;
        let positions = |track: &SubscribedTrack| track.reader.consumer.position();
        let (old, new) = (before.tracks.iter().map(positions), self.tracks.tracks.iter().map(positions));
        Ok(new.zip(old).map(|(new, old)| new.saturating_sub(old)).fold(0, u64::saturating_add))
    }

    pub(super) fn published_before(&self) -> u64 {
        self.tracks.published_before
    }

    /// Messages that were published and not read yet, of all tracks. Of byte messages: slots.
    pub(super) fn len(&self) -> u64 {
        self.tracks.tracks.iter().map(|track| track.reader.consumer.len()).sum()
    }

    /// How many keys the broadcast has. `None`: it has none.
    #[inline]
    pub(super) fn keys(&self) -> Option<u64> {
        self.tracks.tracks.first()?.reader.keys()
    }

    /// The words of a slot before the value.
    #[inline]
    pub(super) fn key_words(&self) -> usize {
        if self.keys().is_some() { KEY_WORDS } else { 0 }
    }

    /// Takes a snapshot of the latest values.
    pub(super) fn snapshot<T: Shareable>(&mut self) -> Result<Snapshot<T>, RecvError> {
        self.holder.check::<RecvError>(self.registration())?;
        let Tracks { tracks, is_gated, .. } = &mut self.tracks;
        let snapshot = Snapshot::take(tracks.iter_mut().map(|track| &mut track.reader))?;
        if *is_gated {
            tracks.iter().for_each(|track| track.room.notify(1));
        }
        Ok(snapshot)
    }

    /// Reads messages of one publisher, if possible `want` slots. Blocks until there is one, if the
    /// timeout allows it.
    #[inline(always)]
    pub(super) fn read<R>(
        &mut self,
        want: u64,
        timeout: Timeout,
        mut copy: impl FnMut(Published<'_, Mapped>) -> Result<(u64, R), Corrupt>,
    ) -> Result<R, RecvError> {
        self.holder.check::<RecvError>(self.registration())?;
        match self.tracks.read(want, &mut copy)? {
            Some(read) => Ok(read),
            None => self.read_slow(want, timeout, copy),
        }
    }

    /// Sets a lease of the frame that the last read has found, and goes on behind its message.
    pub(super) fn lease(&mut self, frame: u64) -> Result<Lease, RecvError> {
        let (track, state) = (self.tracks.current, self.state());
        let subscriber = self.registration().index() - state.layout.publishers();
        let (leases, room) = (state.leases(track), state.room(track));
        let words = state.frame(track, frame).ok_or(Corrupt)?;
        self.tracks.lease(subscriber, frame)?;
        let registration = Arc::clone(self.registration());
        Ok(Lease {
            leases,
            subscriber,
            frame,
            words,
            room,
            generation: Generation::current(),
            _registration: registration,
        })
    }

    #[cold]
    #[inline(never)]
    fn read_slow<R>(
        &mut self,
        want: u64,
        timeout: Timeout,
        mut copy: impl FnMut(Published<'_, Mapped>) -> Result<(u64, R), Corrupt>,
    ) -> Result<R, RecvError> {
        let Self { tracks, waiter, .. } = self;
        match timeout {
            Timeout::NonBlocking => loop {
                let end = waiter.end_of_try();
                if end.is_none() {
                    waiter.state.pause_after_burst(tracks.count);
                }
                match (tracks.read(want, &mut copy)?, end) {
                    (Some(read), _) => return Ok(read),
                    (None, Some(end)) if waiter.is_final(&end) => return Err(end.into()),
                    (None, _) if waiter.listen_after_try() => {}
                    (None, _) => return Err(RecvError::Empty),
                }
            },
            Timeout::At(deadline) => waiter.wait_for(tracks.count, deadline, |attempt| {
                if attempt.should_try(|| tracks.probe()) { tracks.read(want, &mut copy) } else { Ok(None) }
            }),
        }
    }

    /// Blocks until there is a message, if the timeout allows it. Returns whether there is.
    pub(super) fn poll(&mut self, timeout: Timeout) -> Result<bool, RecvError> {
        self.holder.check::<RecvError>(self.registration())?;
        let Self { tracks, waiter, postponed, .. } = self;
        let deadline = match timeout {
            _ if postponed.is_some() || tracks.probe() => return Ok(true),
            Timeout::NonBlocking => return waiter.end_of_try().map_or(Ok(false), |end| Err(end.into())),
            Timeout::At(deadline) => deadline,
        };
        match waiter.wait_for(tracks.count, deadline, |_| Ok::<_, RecvError>(tracks.probe().then_some(()))) {
            Ok(()) => Ok(true),
            Err(RecvError::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl PublisherWaiter {
    /// How all publishers ended. `None` if there is one, or if the first is still to come.
    fn find_end(&self, status: impl FnMut(usize) -> ParticipantStatus) -> Option<WaitEnd> {
        let state = BroadcastState::of(self.registration.region());
        let joined = state.publishers_joined();
        if self.waits_for_successor || self.joined_before == Some(joined) {
            return None;
        }
        let end = state.publishers_end(status);
        // Otherwise one may have joined behind the scan.
        end.filter(|_| state.publishers_joined() == joined)
    }
}

impl Waiter for PublisherWaiter {
    type End = WaitEnd;

    fn peer_end(&mut self) -> Option<WaitEnd> {
        let epoch = BroadcastState::of(self.registration.region()).membership_epoch();
        if self.end_of != Some(epoch) {
            self.end_of = Some(epoch);
            // Without asking the kernel: a publisher that did not leave counts as alive.
            self.end = self.find_end(|_| ParticipantStatus::Alive);
        }
        self.end
    }

    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        let region = self.registration.region();
        let epoch = BroadcastState::of(region).membership_epoch();
        let has_lost_name = region.has_lost_name() && !region.is_nested(); // a namespace has other ways
        let end = self.find_end(|index| region.participants().status(index));
        // Until a publisher joins or leaves, further calls need not ask again.
        if end.is_some() && end != Some(WaitEnd::LockLost) {
            if end == Some(WaitEnd::PeerDied) && (self.end, self.end_of) != (end, Some(epoch)) {
                trace::peers_died(region, BroadcastState::of(region).with_role(Role::Publisher));
            }
            (self.end, self.end_of) = (end, Some(epoch));
        }
        let participants = region.participants();
        let is_gone =
            |index| index == self.registration.index() || participants.status(index) == ParticipantStatus::Dead;
        let is_alone = || participants.registered().all(is_gone);
        end.or_else(|| (has_lost_name && is_alone()).then_some(WaitEnd::NameRemoved))
    }

    /// A publisher may have joined since.
    fn is_final(&mut self, end: &WaitEnd) -> bool {
        let epoch = BroadcastState::of(self.registration.region()).membership_epoch();
        *end == WaitEnd::LockLost || *end == WaitEnd::NameRemoved || self.end_of == Some(epoch)
    }

    fn event(&self) -> &EventCount<Mapped> {
        &self.published
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.state
    }
}

impl Watch for SubscribeHalf {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        if self.tracks.probe() {
            return true;
        }
        let is_here = || self.holder.is_here(&self.waiter.registration);
        attempt == Attempt::Full && (self.postponed.is_some() || !is_here() || self.waiter.has_ended())
    }

    fn check_liveness(&mut self, deadline: Deadline) {
        self.waiter.remember_death(deadline);
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0).then_some(&self.waiter.published)
    }

    fn before_sleep(&mut self) {
        self.wait_state().take_back();
    }
}

impl Drop for SubscribeHalf {
    fn drop(&mut self) {
        membership::leave(self.registration());
    }
}

impl fmt::Debug for SubscribeHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscribeHalf").field("registration", self.registration()).finish_non_exhaustive()
    }
}
