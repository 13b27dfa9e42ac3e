//! A region that is a broadcast, as words: its tracks, its cursors, and its publishers.

use crate::broadcast::Policy;
use crate::primitive::{Ordering, fence};
use crate::raw::broadcast::Track;
use crate::raw::broadcast::cursor::Cursor;
use crate::raw::broadcast::frames::Leases;
use crate::raw::broadcast::latest::Latest;
use crate::raw::broadcast::producer::Gate;
use crate::raw::event_count::EventCount;
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::broadcast::{BroadcastLayout, SlowPolicy, control, cursor, track};
use crate::region::participant::ParticipantStatus;
use crate::region::trace;
use crate::region::words::{Mapped, Word, Words};
use crate::wait::WaitEnd;

/// A view of a region that is a broadcast.
#[derive(Clone, Copy)]
pub(crate) struct BroadcastState<'a> {
    pub(crate) region: &'a Region,
    pub(crate) layout: &'a BroadcastLayout,
}

impl<'a> BroadcastState<'a> {
    /// The caller has checked that the region is a broadcast.
    pub(crate) fn of(region: &'a Region) -> Self {
        match region.layout() {
            Layout::Broadcast(layout) => Self { region, layout },
            other => unreachable!("{} opened as a broadcast", other.kind()),
        }
    }

    /// A word of the control block.
    pub(crate) fn word(self, index: usize) -> Word {
        self.region.word(BroadcastLayout::CONTROL + index)
    }

    /// What subscribers sleep on.
    pub(super) fn published(self) -> EventCount<Mapped> {
        EventCount::new(self.region.futex(BroadcastLayout::CONTROL + control::PUBLISHED))
    }

    /// What the publisher of a track sleeps on.
    pub(super) fn room(self, index: usize) -> EventCount<Mapped> {
        EventCount::new(self.region.futex(self.layout.track(index) + track::ROOM))
    }

    pub(crate) fn track(self, index: usize) -> Track<Mapped> {
        let (at, (start, length)) = (self.layout.track(index), self.layout.data(index));
        Track {
            tail: self.region.word(at + track::TAIL),
            begun: self.region.word(at + track::BEGUN),
            slots: self.region.words(start, length),
            capacity: self.layout.capacity,
            stride: self.layout.stride(),
        }
    }

    /// The latest values of a track. `None` if the broadcast has no keys.
    pub(super) fn latest(self, index: usize) -> Option<Latest<Mapped>> {
        let (keys, (start, length)) = (self.layout.geometry.keys, self.layout.latest(index));
        (keys > 0).then(|| Latest::new(self.region.words(start, length), keys, self.layout.value_words()))
    }

    pub(crate) fn tail(self, index: usize) -> Word {
        self.region.word(self.layout.track(index) + track::TAIL)
    }

    pub(crate) fn cursor(self, track: usize, subscriber: usize) -> Cursor<Mapped> {
        let at = self.layout.cursor(track, subscriber);
        Cursor { state: self.region.word(at + cursor::STATE), next: self.region.word(at + cursor::NEXT) }
    }

    pub(crate) fn leases(self, track: usize) -> Leases<Mapped> {
        let (start, length) = self.layout.leases(track);
        Leases {
            words: self.region.words(start, length),
            stride: self.layout.lease_words(),
            count: self.layout.geometry.frames,
        }
    }

    /// The words of a frame. `None` if there is no such frame.
    pub(super) fn frame(self, track: usize, frame: u64) -> Option<Words> {
        let (start, length) = self.layout.frame(track, frame)?;
        Some(self.region.words(start, length))
    }

    /// Clears the leases that dead subscribers have in a track. Returns whether there are leases of
    /// a process that runs without its lock.
    pub(super) fn clear_dead_leases(self, track: usize) -> bool {
        let (leases, participants) = (self.leases(track), self.region.participants());
        let mut is_lock_lost = false;
        for subscriber in leases.holders() {
            let Some(index) = self.with_role(Role::Subscriber).nth(subscriber) else { continue };
            if !participants.while_vacant(index, || leases.clear_all(subscriber)) {
                is_lock_lost |= participants.status(index) == ParticipantStatus::LockLost;
            }
        }
        is_lock_lost
    }

    pub(super) fn gate(self) -> Gate {
        match self.layout.geometry.policy {
            SlowPolicy::Wait => Gate::Wait,
            SlowPolicy::Overwrite => Gate::Open,
            SlowPolicy::Evict => Gate::Evict { lag: self.layout.geometry.max_lag },
        }
    }

    pub(crate) fn policy(self) -> Policy {
        Policy::of(self.layout)
    }

    /// How often a subscriber was evicted because it lagged.
    pub(crate) fn evicted(self) -> u64 {
        self.word(control::EVICTED).load(Ordering::Relaxed) // a statistic
    }

    /// Evicts dead subscribers, and clears their leases. Returns how many were evicted.
    pub(crate) fn evict_dead(self) -> usize {
        let participants = self.region.participants();
        let mut evicted = 0;
        for (index, subscriber) in self.with_role(Role::Subscriber).zip(0..) {
            let cursors = (0..self.layout.publishers()).map(|track| self.cursor(track, subscriber));
            let active: Vec<_> =
                cursors.filter_map(|cursor| cursor.protected().map(|(state, _)| (cursor, state))).collect();
            fence(Ordering::SeqCst); // edge: broadcast-evict
            if !active.is_empty() && participants.status(index) == ParticipantStatus::Dead {
                active.iter().for_each(|(cursor, state)| _ = cursor.evict(*state));
                trace::repaired(self.region, index);
                evicted += 1;
            }
        }
        (0..self.layout.publishers()).for_each(|track| _ = self.clear_dead_leases(track));
        self.wake_all();
        evicted
    }

    /// The participants that are publishers, or subscribers.
    pub(crate) fn with_role(self, role: Role) -> std::ops::Range<usize> {
        let publishers = self.layout.publishers();
        match role {
            Role::Publisher => 0..publishers,
            Role::Subscriber => publishers..publishers + self.layout.subscribers(),
        }
    }

    pub(super) fn membership_epoch(self) -> u64 {
        self.word(control::MEMBERSHIP_EPOCH).load(Ordering::Acquire) // edge: broadcast-members
    }

    /// How many publishers have joined so far.
    pub(super) fn publishers_joined(self) -> u64 {
        self.word(control::PUBLISHERS_JOINED).load(Ordering::Acquire) // edge: broadcast-members
    }

    pub(super) fn increment(self, index: usize) {
        self.word(index).fetch_add(1, Ordering::AcqRel); // edge: broadcast-members
    }

    /// How all publishers ended. `None` if there is one. `status` answers for each.
    pub(super) fn publishers_end(self, mut status: impl FnMut(usize) -> ParticipantStatus) -> Option<WaitEnd> {
        let mut end = WaitEnd::Closed;
        let participants = self.region.participants();
        for index in self.with_role(Role::Publisher).filter(|&index| participants.is_occupied(index)) {
            match status(index) {
                ParticipantStatus::Alive => return None,
                ParticipantStatus::LockLost => end = WaitEnd::LockLost,
                ParticipantStatus::Dead if end == WaitEnd::Closed => end = WaitEnd::PeerDied,
                _ => {}
            }
        }
        Some(end)
    }

    pub(super) fn wake_all(self) {
        self.published().wake(u32::MAX);
        (0..self.layout.publishers()).for_each(|index| self.room(index).wake(u32::MAX));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Publisher,
    Subscriber,
}
