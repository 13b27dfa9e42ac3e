//! What the words of a queue say about its participants: their roles, their runs, and how the last
//! participant of a role ended.

use crate::primitive::Ordering;
use crate::queue::participant::Role;
use crate::raw::event_count::EventCount;
use crate::raw::mpmc::RingWords;
use crate::raw::mpmc::tail::{RUNS, Tail};
use crate::region::Region;
use crate::region::layout::queue::{QueueLayout, control};
use crate::region::layout::{Layout, participant};
use crate::region::participant::{ParticipantStatus, REPAIRED};
use crate::region::words::{Mapped, Word};

/// Skipped positions that one call advances over, for receivers that may never come.
pub(super) const MAX_SKIPPED: u64 = 4096;

/// A view of a region that is a queue, or of a queue nested in a namespace.
#[derive(Clone, Copy)]
pub(crate) struct QueueState<'a> {
    pub(crate) region: &'a Region,
    pub(crate) layout: &'a QueueLayout,
}

/// The version of a role: a conclusion about its participants is valid while this does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoleVersion {
    /// How many have joined so far.
    pub(super) joins: u64,
    pub(super) tail: Tail,
}

impl<'a> QueueState<'a> {
    /// The caller has checked that the region is a queue.
    pub(crate) fn of(region: &'a Region) -> Self {
        match region.layout() {
            Layout::Queue(layout) => Self { region, layout },
            other => unreachable!("{} opened as a queue", other.kind()),
        }
    }

    /// A word of the control block.
    pub(crate) fn word(self, index: usize) -> Word {
        self.region.word(QueueLayout::CONTROL + index)
    }

    pub(super) fn event(self, index: usize) -> EventCount<Mapped> {
        EventCount::new(self.region.futex(QueueLayout::CONTROL + index))
    }

    pub(super) fn increment(self, index: usize) {
        self.word(index).fetch_add(1, Ordering::AcqRel); // edge: queue-changes
    }

    pub(crate) fn tail(self) -> Tail {
        Tail::load(&self.word(control::TAIL))
    }

    pub(crate) fn ring_words(self) -> RingWords<Mapped> {
        let layout = self.layout;
        let (start, length) = layout.slots();
        RingWords {
            tail: self.word(control::TAIL),
            head: self.word(control::HEAD),
            slots: self.region.words(start, length),
            marks: self.region.words(layout.marks(), layout.capacity as usize),
            capacity: layout.capacity,
            stride: layout.stride(),
        }
    }

    pub(crate) fn participant_word(self, index: usize, word: usize) -> Word {
        self.region.word(QueueLayout::participant(index) + word)
    }

    pub(super) fn role(self, index: usize) -> Role {
        let code = self.participant_word(index, participant::ROLE).load(Ordering::Relaxed);
        if code == Role::Sender.code() { Role::Sender } else { Role::Receiver }
    }

    /// The role of a participant, in a word.
    pub(crate) fn role_name(self, index: usize) -> &'static str {
        match self.participant_word(index, participant::ROLE).load(Ordering::Relaxed) {
            code if code == Role::Sender.code() => "sender",
            code if code == Role::Receiver.code() => "receiver",
            _ => "nobody",
        }
    }

    /// The participants of that role that have joined and not left, dead or alive.
    pub(crate) fn with_role(self, role: Role) -> impl Iterator<Item = usize> {
        self.region.participants().registered().filter(move |&index| self.role(index) == role)
    }

    /// The same, and those of processes that exit. They may still be in the middle of a call.
    pub(super) fn occupied_with_role(self, role: Role) -> impl Iterator<Item = usize> {
        let participants = self.region.participants();
        let is_occupied = move |index: &usize| participants.is_occupied(*index) && self.role(*index) == role;
        (0..self.layout.participants()).filter(is_occupied)
    }

    /// The run to which a sender belongs.
    pub(super) fn run(self, index: usize) -> u64 {
        self.participant_word(index, participant::RUN).load(Ordering::Acquire) % RUNS // edge: queue-run
    }

    /// Those of [`with_role`](Self::with_role) that can still send or receive: every receiver, and
    /// the senders of the open run.
    pub(super) fn active_with_role(self, role: Role, tail: Tail) -> impl Iterator<Item = usize> {
        let is_active =
            move |index: &usize| role == Role::Receiver || !tail.is_closed() && self.run(*index) == tail.run();
        self.with_role(role).filter(is_active)
    }

    pub(super) fn role_version(self, role: Role) -> RoleVersion {
        let joins = self.joins(role);
        RoleVersion { joins, tail: self.tail() }
    }

    /// How many participants have joined in that role so far.
    pub(crate) fn joins(self, role: Role) -> u64 {
        self.word(role.word_of(control::JOINED)).load(Ordering::Acquire) // edge: queue-changes
    }

    /// How the last one of that role ended.
    fn last_exit(self, role: Role) -> u64 {
        self.word(role.word_of(control::LAST_EXIT)).load(Ordering::Acquire) // edge: queue-ended
    }

    /// The status of a role: alive if any of its participants is, else how the last one ended;
    /// vacant if none has joined.
    pub(crate) fn role_status(self, role: Role) -> ParticipantStatus {
        let (joins, last_exit) = (self.joins(role), self.last_exit(role));
        let status = combined_status(self.with_role(role), |index| Some(self.region.participants().status(index)));
        status.unwrap_or(match last_exit & 0xff {
            _ if joins == 0 => ParticipantStatus::Vacant,
            REPAIRED => ParticipantStatus::Dead,
            _ => ParticipantStatus::Left,
        })
    }

    /// The status of those that can still send or receive, without the participant `except`. The
    /// caller has read `version` before.
    pub(super) fn active_status(
        self,
        role: Role,
        except: Option<usize>,
        status: impl FnMut(usize) -> Option<ParticipantStatus>,
        version: RoleVersion,
    ) -> ParticipantStatus {
        let others = self.active_with_role(role, version.tail).filter(|&index| Some(index) != except);
        let found = combined_status(others, status);
        if found == Some(ParticipantStatus::Alive) || self.role_version(role).joins != version.joins {
            return ParticipantStatus::Alive; // one that has joined behind the scan, perhaps
        }
        found.unwrap_or_else(|| {
            if self.last_exit(role) == role.exit_word(version.tail, REPAIRED) {
                ParticipantStatus::Dead
            } else {
                ParticipantStatus::Left
            }
        })
    }

    /// Records how a participant ended, for those that wait for its role. The exit of a sender of
    /// an earlier run is not recorded.
    pub(super) fn store_exit(self, index: usize, exit: u64) {
        let (role, tail) = (self.role(index), self.tail());
        if role == Role::Receiver || !tail.is_closed() && self.run(index) == tail.run() {
            let last_exit = self.word(role.word_of(control::LAST_EXIT));
            last_exit.store(role.exit_word(tail, exit), Ordering::Release); // edge: queue-ended
        }
    }

    pub(super) fn wake_all(self) {
        for event in [control::READABLE, control::WRITABLE, control::BLOCKS_FREED, control::TASKS_DONE] {
            self.event(event).wake(u32::MAX);
        }
    }
}

/// The status of several participants as one, if there are any. A participant that there is no time
/// to check (`None`) counts as alive.
fn combined_status(
    participants: impl Iterator<Item = usize>,
    mut status: impl FnMut(usize) -> Option<ParticipantStatus>,
) -> Option<ParticipantStatus> {
    let mut found = None;
    for index in participants {
        match status(index) {
            Some(ParticipantStatus::Alive) | None => return Some(ParticipantStatus::Alive),
            Some(ParticipantStatus::LockLost) => found = Some(ParticipantStatus::LockLost),
            Some(ParticipantStatus::Dead) if found.is_none() => found = Some(ParticipantStatus::Dead),
            _ => {}
        }
    }
    found
}
