//! What publishers of values and of byte messages have in common: a track, the cursors of its
//! readers, and waiting for the slowest of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::broadcast::membership;
use crate::broadcast::slots::{frame_of, store_frame};
use crate::broadcast::slow::SlowSubscriber;
use crate::broadcast::state::{BroadcastState, Role};
use crate::error::{Result, SendError};
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::Corrupt;
use crate::raw::broadcast::cursor::{Cursor, CursorState};
use crate::raw::broadcast::frames::FramePool;
use crate::raw::broadcast::latest::Latest;
use crate::raw::broadcast::producer::{Gate, Producer};
use crate::raw::event_count::EventCount;
use crate::region::Region;
use crate::region::layout::broadcast::control;
use crate::region::lifecycle::{Holder, Registration};
use crate::region::participant::ParticipantStatus;
use crate::region::trace;
use crate::region::words::{Mapped, Word, Words};
use crate::sys::clock::{Deadline, deadline_after};
use crate::sys::membarrier;
use crate::wait::source::sealed::Watch;
use crate::wait::{Attempt, Timeout, WaitEnd, WaitState, WaitStrategy, Waiter};

pub(crate) struct PublishHalf {
    holder: Holder,
    producer: Producer<Mapped>,
    /// `None` if the broadcast has no keys.
    latest: Option<Latest<Mapped>>,
    frames: FramePool<Mapped>,
    cursors: Cursors,
    /// What subscribers sleep on.
    published: EventCount<Mapped>,
    evicted: Word,
    waiter: RoomWaiter,
}

/// Those of all subscribers in one track.
type Cursors = Arc<[Cursor<Mapped>]>;

/// Waits for the slowest subscriber of a track.
struct RoomWaiter {
    registration: Arc<Registration>,
    cursors: Cursors,
    room: EventCount<Mapped>,
    /// Whether it waits for a frame, too.
    needs_frame: bool,
    state: WaitState,
}

impl PublishHalf {
    pub(super) fn new(registration: Registration, wait: WaitStrategy) -> Result<Self> {
        let registration = Arc::new(registration);
        let state = BroadcastState::of(registration.region());
        let (track, history) = (registration.index(), state.layout.geometry.history);
        let latest = state.latest(track);
        let attach = || {
            let mut producer = Producer::attach(state.track(track), state.gate(), history)?;
            let has_finished = latest.as_ref().map_or(Ok(false), |latest| producer.finish(latest))?;
            Ok((producer, has_finished))
        };
        let (producer, has_finished) = attach().map_err(|Corrupt| state.corrupt("publish in"))?;
        let cursors: Cursors = (0..state.layout.subscribers()).map(|index| state.cursor(track, index)).collect();
        let half = Self {
            holder: Holder::this_process(),
            frames: FramePool::attach(state.leases(track), &producer, frame_of),
            producer,
            latest,
            cursors: Arc::clone(&cursors),
            published: state.published(),
            evicted: state.word(control::EVICTED),
            waiter: RoomWaiter {
                cursors,
                room: state.room(track),
                needs_frame: false,
                state: WaitState::new(wait, registration.region()),
                registration: Arc::clone(&registration),
            },
        };
        registration.leave_at_exit();
        if !membarrier::register() {
            half.published.require_fences();
            half.waiter.room.require_fences();
        }
        if has_finished {
            half.published.notify(u32::MAX);
        }
        Ok(half)
    }

    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.waiter.registration
    }

    pub(super) fn state(&self) -> BroadcastState<'_> {
        BroadcastState::of(self.registration().region())
    }

    pub(super) fn wait_state(&mut self) -> &mut WaitState {
        &mut self.waiter.state
    }

    pub(super) fn wait_strategy(&self) -> WaitStrategy {
        self.waiter.state.wait()
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// See [`SubscribeHalf`](crate::broadcast::subscribe_half::SubscribeHalf).
    pub(super) fn has_private_state(&self) -> bool {
        false
    }

    /// Another handle of the region, to join once more.
    pub(super) fn reopen(&self) -> Result<Region> {
        self.holder.check_for(self.registration(), "take part in a broadcast")?;
        self.registration().region().reopen()
    }

    /// Publishes up to `count` slots together, which `fill` writes, but at least `least`. Returns
    /// how many. Blocks while there is no room for those.
    #[inline(always)]
    pub(super) fn publish(
        &mut self,
        least: u64,
        count: u64,
        timeout: Timeout,
        fill: impl FnMut(u64, &[AtomicU64]),
    ) -> Result<u64, SendError> {
        self.holder.check::<SendError>(self.registration())?;
        if self.producer.room() < least {
            self.wait_for_room(least, timeout)?;
        }
        let count = count.min(self.producer.room());
        self.producer.publish(count, fill)?;
        self.published.notify(u32::MAX);
        Ok(count)
    }

    pub(super) fn has_keys(&self) -> bool {
        self.latest.is_some()
    }

    /// Publishes one message of a key, whose value `fill` writes. Blocks while there is no room.
    #[inline(always)]
    pub(super) fn publish_key(
        &mut self,
        key: usize,
        timeout: Timeout,
        fill: impl Fn(&[AtomicU64]),
    ) -> Result<(), SendError> {
        self.holder.check::<SendError>(self.registration())?;
        let keys = self.latest.as_ref().map_or(0, Latest::keys) as usize;
        if key >= keys {
            return Err(SendError::InvalidKey { key, keys });
        }
        if self.producer.room() == 0 {
            self.wait_for_room(1, timeout)?;
        }
        if let Some(latest) = &self.latest {
            self.producer.publish_key(latest, key as u64, fill)?;
        }
        self.published.notify(u32::MAX);
        Ok(())
    }

    /// Takes a frame that nobody reads. Blocks while there is none.
    pub(super) fn take_frame(&mut self, timeout: Timeout) -> Result<u64, SendError> {
        self.holder.check::<SendError>(self.registration())?;
        if self.producer.room() < 1 {
            self.wait_for_room(1, timeout)?;
        }
        match self.frames.take(&mut self.producer) {
            Some(frame) => Ok(frame),
            None => {
                self.waiter.needs_frame = true;
                self.wait_for(1, timeout, |producer, frames| frames.take(producer))
            }
        }
    }

    /// The words of a frame.
    pub(super) fn frame(&self, frame: u64) -> Result<Words, SendError> {
        self.state().frame(self.registration().index(), frame).ok_or_else(|| Corrupt.into())
    }

    /// Publishes a message that lies in a frame that was taken.
    pub(super) fn publish_frame(&mut self, frame: u64, length: usize) -> Result<(), SendError> {
        self.holder.check::<SendError>(self.registration())?;
        self.frames.publish(&mut self.producer, frame, |slot| store_frame(slot, frame, length as u64))?;
        self.published.notify(u32::MAX);
        Ok(())
    }

    fn wait_for_room(&mut self, least: u64, timeout: Timeout) -> Result<(), SendError> {
        self.waiter.needs_frame = false;
        self.wait_for(least, timeout, |producer, _| (producer.room() >= least).then_some(()))
    }

    /// Attempts until it succeeds, each time after a scan for `want` more slots.
    #[cold]
    #[inline(never)]
    fn wait_for<T>(
        &mut self,
        want: u64,
        timeout: Timeout,
        mut attempt: impl FnMut(&mut Producer<Mapped>, &mut FramePool<Mapped>) -> Option<T>,
    ) -> Result<T, SendError> {
        let Self { producer, frames, cursors, evicted, waiter, .. } = self;
        let position = producer.position();
        let mut attempt = || {
            producer.scan(cursors, want, |_| {
                evicted.fetch_add(1, Ordering::Relaxed); // a statistic
            });
            attempt(producer, frames)
        };
        if let Some(done) = attempt() {
            return Ok(done);
        }
        match timeout {
            Timeout::NonBlocking => loop {
                if let Some(end) = waiter.end_of_try() {
                    return Err(end.into());
                }
                match attempt() {
                    Some(done) => return Ok(done), // the dead were evicted
                    None if waiter.listen_after_try() => {}
                    None => return Err(SendError::Full),
                }
            },
            Timeout::At(deadline) => waiter.wait_for(position, deadline, |_| Ok(attempt())),
        }
    }

    /// The subscribers that receive what is published from now on.
    pub(super) fn subscribers(&self) -> usize {
        self.cursors.iter().filter(|cursor| cursor.state().is_active()).count()
    }

    /// Blocks until there are `count` subscribers.
    pub(super) fn wait_for_subscribers(&mut self, count: usize, timeout: Duration) -> Result<(), SendError> {
        self.holder.check::<SendError>(self.registration())?;
        let (registration, cursors) = (Arc::clone(self.registration()), &*self.cursors);
        let is_active = |(_, cursor): &(usize, &Cursor<Mapped>)| cursor.state().is_active();
        let is_live = |&(index, cursor): &(usize, &Cursor<Mapped>)| {
            let state = cursor.state();
            let status = status_or_evict(&registration, cursors, index, state);
            state.is_active() && !matches!(status, ParticipantStatus::Dead | ParticipantStatus::Left)
        };
        // The kernel is asked only about as many as are wanted.
        let are_there = |_| {
            let has_enough = cursors.iter().enumerate().filter(is_active).take(count).count() == count;
            let has_live =
                has_enough && cursors.iter().enumerate().filter(is_active).filter(is_live).take(count).count() == count;
            Ok(has_live.then_some(()))
        };
        self.waiter.wait_for(self.producer.position(), deadline_after(timeout), are_there)
    }

    /// Evicts the subscriber that is farthest behind.
    pub(super) fn evict_slowest(&mut self) -> Option<SlowSubscriber> {
        let (index, (state, next)) = self.waiter.slowest().filter(|_| self.state().gate() != Gate::Open)?;
        let found = self.describe(index, next);
        self.cursors.get(index)?.evict(state).then_some(found)
    }

    /// The subscriber that is farthest behind.
    pub(super) fn slowest(&self) -> Option<SlowSubscriber> {
        self.waiter.slowest().map(|(index, (_, next))| self.describe(index, next))
    }

    /// A subscriber that reads `next` next.
    fn describe(&self, index: usize, next: u64) -> SlowSubscriber {
        let state = self.state();
        let lag = self.producer.position().saturating_sub(next).min(state.layout.capacity);
        SlowSubscriber::new(state, self.waiter.participant(index), lag, self.frames.leases().held(index))
    }

    /// The subscribers that hold frames, the one with the most first.
    pub(super) fn frame_holders(&self) -> Vec<SlowSubscriber> {
        let (state, leases, tail) = (self.state(), self.frames.leases(), self.producer.position());
        let lag = |index: usize| {
            let cursor = self.cursors.get(index)?;
            let next = cursor.protected().map_or(tail, |(_, next)| next);
            Some(tail.saturating_sub(next).min(state.layout.capacity))
        };
        let holder = |index| {
            let participant = self.waiter.participant(index);
            Some(SlowSubscriber::new(state, participant, lag(index)?, leases.held(index)))
        };
        let mut holders: Vec<_> = leases.holders().filter_map(holder).collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.frames));
        holders
    }
}

/// Asks the kernel about the subscriber of a cursor, which had that state. Evicts it if it is gone.
fn status_or_evict(
    registration: &Registration,
    cursors: &[Cursor<Mapped>],
    index: usize,
    state: CursorState,
) -> ParticipantStatus {
    fence(Ordering::SeqCst); // edge: broadcast-evict
    let region = registration.region();
    let participant = BroadcastState::of(region).with_role(Role::Subscriber).start + index;
    let status = region.participants().status(participant);
    if matches!(status, ParticipantStatus::Dead | ParticipantStatus::Left | ParticipantStatus::Vacant)
        && let Some(cursor) = cursors.get(index)
        && cursor.evict(state)
        && status == ParticipantStatus::Dead
    {
        trace::peer_died(region, participant);
    }
    status
}

impl RoomWaiter {
    /// The cursor that is farthest behind, with its state and the position to read next.
    fn slowest(&self) -> Option<(usize, (CursorState, u64))> {
        let found = self.cursors.iter().enumerate().filter_map(|(index, cursor)| Some((index, cursor.protected()?)));
        found.min_by_key(|&(_, (_, next))| next)
    }

    /// The participant of a cursor.
    fn participant(&self, cursor: usize) -> usize {
        BroadcastState::of(self.registration.region()).with_role(Role::Subscriber).start + cursor
    }
}

impl Waiter for RoomWaiter {
    type End = WaitEnd;

    fn peer_end(&mut self) -> Option<WaitEnd> {
        None // without subscribers there is room
    }

    /// Evicts the slowest subscriber if it is gone, then the next one, up to one that runs. Clears
    /// the leases of those that are gone.
    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        let state = BroadcastState::of(self.registration.region());
        if self.needs_frame && state.clear_dead_leases(self.registration.index()) {
            return Some(WaitEnd::LockLost);
        }
        // No more than there are places. In each, one dies at most.
        for _ in 0..self.cursors.len() {
            let (index, (state, _)) = self.slowest()?;
            match status_or_evict(&self.registration, &self.cursors, index, state) {
                ParticipantStatus::Alive => return None,
                ParticipantStatus::LockLost => return Some(WaitEnd::LockLost),
                ParticipantStatus::Dead | ParticipantStatus::Left | ParticipantStatus::Vacant => {}
            }
        }
        None
    }

    fn event(&self) -> &EventCount<Mapped> {
        &self.room
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.state
    }
}

impl Watch for PublishHalf {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        if self.producer.room() > 0 && !self.waiter.needs_frame {
            return true;
        }
        if attempt == Attempt::Probe {
            return false;
        }
        if !self.holder.is_here(self.registration()) {
            return true;
        }
        let Self { producer, frames, cursors, evicted, waiter, .. } = self;
        producer.scan(cursors, 1, |_| {
            evicted.fetch_add(1, Ordering::Relaxed); // a statistic
        });
        // What is taken stays free.
        let is_ready = producer.room() > 0 && (!waiter.needs_frame || frames.take(producer).is_some());
        waiter.needs_frame &= !is_ready; // the next message may be another one
        is_ready
    }

    /// Those that are gone are evicted, so that there is room.
    fn check_liveness(&mut self, deadline: Deadline) {
        self.waiter.remember_death(deadline);
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0).then_some(&self.waiter.room)
    }

    fn before_sleep(&mut self) {
        self.wait_state().take_back();
    }
}

impl Drop for PublishHalf {
    fn drop(&mut self) {
        membership::leave(self.registration());
    }
}

impl fmt::Debug for PublishHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishHalf").field("registration", self.registration()).finish_non_exhaustive()
    }
}
