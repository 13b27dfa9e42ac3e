//! What the words of a queue say of its participants: their roles, their runs, and how the last of a
//! role ended.

use crate::primitive::Ordering;
use crate::queue::participant::{Basis, Role};
use crate::raw::event_count::EventCount;
use crate::raw::mpmc::RingWords;
use crate::raw::mpmc::tail::{RUNS, Tail};
use crate::region::Region;
use crate::region::layout::queue::own;
use crate::region::layout::queue::{QueueLayout, control};
use crate::region::layout::{Layout, participant};
use crate::region::participant::{ParticipantStatus, REPAIRED};
use crate::region::words::{Mapped, Word};

/// Positions that are skipped at once for receivers that may never come.
pub(super) const MAX_SKIPPED: u64 = 4096;

/// A region that is a queue, or a queue nested in a namespace.
#[derive(Clone, Copy)]
pub(crate) struct QueueState<'a> {
    pub(crate) region: &'a Region,
    pub(crate) layout: &'a QueueLayout,
}

impl<'a> QueueState<'a> {
    /// Whatever opens a region as a queue checks that it is one.
    pub(crate) fn of(region: &'a Region) -> Self {
        match region.layout() {
            Layout::Queue(layout) => Self { region, layout },
            other => unreachable!("{} opened as a queue", other.kind()),
        }
    }

    pub(crate) fn word(self, index: usize) -> Word {
        self.region.word(QueueLayout::CONTROL + index)
    }

    pub(super) fn event(self, index: usize) -> EventCount<Mapped> {
        EventCount::new(self.region.futex(QueueLayout::CONTROL + index))
    }

    pub(super) fn count_up(self, index: usize) {
        self.word(index).fetch_add(1, Ordering::AcqRel);
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

    /// What a participant does, in a word.
    pub(crate) fn role_name(self, index: usize) -> &'static str {
        match self.participant_word(index, participant::ROLE).load(Ordering::Relaxed) {
            code if code == Role::Sender.code() => "sender",
            code if code == Role::Receiver.code() => "receiver",
            _ => "nobody",
        }
    }

    /// The lanes that were taken by that role and not given up, dead or alive.
    pub(crate) fn with_role(self, role: Role) -> impl Iterator<Item = usize> {
        self.region.participants().registered().filter(move |&index| self.role(index) == role)
    }

    pub(super) fn run(self, index: usize) -> u64 {
        self.participant_word(index, participant::RUN).load(Ordering::Acquire) % RUNS
    }

    /// Of the senders, those of the run that is open.
    pub(super) fn able_to(self, role: Role, now: Tail) -> impl Iterator<Item = usize> {
        let is_in = move |index: &usize| role == Role::Receiver || !now.is_closed() && self.run(*index) == now.run();
        self.with_role(role).filter(is_in)
    }

    pub(super) fn basis(self, role: Role) -> Basis {
        let came = self.word(role.of(control::JOINED)).load(Ordering::Acquire);
        Basis { came, now: Tail::load(&self.word(control::TAIL)) }
    }

    /// Everybody of that role as one: alive if any is, else how the last one ended; vacant if none has come.
    pub(crate) fn role_status(self, role: Role) -> ParticipantStatus {
        let came = self.word(role.of(control::JOINED)).load(Ordering::Acquire);
        let ended = self.word(role.of(control::LAST_EXIT)).load(Ordering::Acquire);
        let standing =
            self.combined_status(self.with_role(role), |index| Some(self.region.participants().status(index)));
        standing.unwrap_or(match ended & 0xff {
            _ if came == 0 => ParticipantStatus::Vacant,
            REPAIRED => ParticipantStatus::Dead,
            _ => ParticipantStatus::Left,
        })
    }

    /// Those lanes as one, if any is somebody's. A lane that there is no time to ask about counts as
    /// alive.
    pub(super) fn combined_status(
        &self,
        lanes: impl Iterator<Item = usize>,
        mut ask: impl FnMut(usize) -> Option<ParticipantStatus>,
    ) -> Option<ParticipantStatus> {
        let mut found = None;
        for index in lanes {
            match ask(index) {
                Some(ParticipantStatus::Alive) | None => return Some(ParticipantStatus::Alive),
                Some(ParticipantStatus::LockLost) => found = Some(ParticipantStatus::LockLost),
                Some(ParticipantStatus::Dead) if found.is_none() => found = Some(ParticipantStatus::Dead),
                _ => {}
            }
        }
        found
    }

    /// As [`role_status`](Self::role_status), of all who can still send, or receive, but one.
    pub(super) fn role_status_except(
        &self,
        role: Role,
        own: Option<usize>,
        ask: impl FnMut(usize) -> Option<ParticipantStatus>,
        basis: Basis,
    ) -> ParticipantStatus {
        let others = self.able_to(role, basis.now).filter(|&index| Some(index) != own);
        let found = self.combined_status(others, ask);
        if found == Some(ParticipantStatus::Alive) || self.basis(role).came != basis.came {
            return ParticipantStatus::Alive; // in a lane that we had passed, perhaps
        }
        found.unwrap_or_else(|| {
            let ended = self.word(role.of(control::LAST_EXIT)).load(Ordering::Acquire);
            if ended == role.end(basis.now, REPAIRED) { ParticipantStatus::Dead } else { ParticipantStatus::Left }
        })
    }

    /// Notes how one ended, for those who wait for its role. How one of an earlier run did is of no
    /// interest.
    pub(super) fn store_exit(self, index: usize, how: u64) {
        let (role, now) = (self.role(index), Tail::load(&self.word(control::TAIL)));
        if role == Role::Receiver || !now.is_closed() && self.run(index) == now.run() {
            self.word(role.of(control::LAST_EXIT)).store(role.end(now, how), Ordering::Release);
        }
    }

    pub(super) fn wake_all(self) {
        for event in [control::READABLE, control::WRITABLE, control::BLOCKS_FREED, control::TASKS_DONE] {
            self.event(event).wake(u32::MAX);
        }
    }

    /// Whether no message is queued or being received, and no task of a live process open.
    pub(crate) fn is_idle(self, words: &RingWords<Mapped>) -> bool {
        words.advance_over_skipped(MAX_SKIPPED);
        // If nothing is sent meanwhile, nothing can move from a lane that is still to be looked at into one that was.
        words.holds_without_push(|| {
            words.len() == 0
                // One who sends has not sent: its intent is nobody's message.
                && self.with_role(Role::Receiver).all(|index| {
                    let word = |at| self.participant_word(index, at).load(Ordering::Acquire);
                    word(own::INTENT) == 0 && word(own::UNFINISHED_TASKS) == 0
                })
        })
    }
}
