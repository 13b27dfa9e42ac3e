//! The tasks of a queue: how many each receiver has not finished, and how many were lost.
//!
//! A task begins when its message is received, and ends with `task_done`. If its receiver dies or
//! leaves before that, nobody will do it: it is lost. Each record counts the tasks that were lost
//! by any of the processes that were that participant.
//!
//! ```text
//! words of a participant
//!      9  unfinished   tasks received and not done
//!     10  lost         tasks lost so far
//!     11  pending      what lost is to become; 0 if it is not about to change
//! ```
//!
//! Crash, by step, of the receiver that leaves, or of the repairer of one that died:
//! (queue-task-1) pending is stored, (queue-task-2) lost is stored, (queue-task-3) unfinished is
//! 0, (queue-task-4) pending is 0. From queue-task-1 on the next repairer does the other three
//! steps again, which changes nothing where they were done. The record is not free before that.

use crate::error::TaskDoneError;
use crate::primitive::Ordering;
use crate::queue::participant::Role;
use crate::queue::state::{MAX_SKIPPED, QueueState};
use crate::raw::mpmc::RingWords;
use crate::region::layout::queue::{control, own};
use crate::region::words::{Mapped, Word};

/// Messages that a receiver has received and whose tasks are not done.
pub(super) struct UnfinishedTasks {
    count: u64,
    /// The count, for others to read.
    word: Word,
}

impl UnfinishedTasks {
    pub(super) fn of(state: QueueState<'_>, index: usize) -> Self {
        let word = state.participant_word(index, own::UNFINISHED_TASKS);
        // Relaxed: nobody else writes it.
        Self { count: word.load(Ordering::Relaxed), word }
    }

    /// Call when the message is read and still claimed: at each moment it is queued, claimed, or an
    /// unfinished task. A receiver that dies before the claim ends loses it as both.
    #[inline(always)]
    pub(super) fn begin(&mut self) {
        self.count = self.count.saturating_add(1); // the first count may be an invalid value
        self.word.store(self.count, Ordering::Release); // edge: queue-tasks
    }

    /// Returns whether this was the last one.
    pub(super) fn finish(&mut self) -> Result<bool, TaskDoneError> {
        self.count = self.count.checked_sub(1).ok_or(TaskDoneError::NoTask)?;
        self.word.store(self.count, Ordering::Release); // edge: queue-tasks
        Ok(self.count == 0)
    }

    pub(super) fn forget(&mut self, count: u64) {
        self.count = self.count.saturating_sub(count);
        self.word.store(self.count, Ordering::Release); // edge: queue-tasks
    }
}

impl QueueState<'_> {
    /// Counts the unfinished tasks of a participant as lost: the caller's own, or a dead one's.
    pub(super) fn lose_tasks(self, index: usize) {
        let word = |at| self.participant_word(index, at);
        let (unfinished, lost, pending) =
            (word(own::UNFINISHED_TASKS), word(own::TASKS_LOST), word(own::PENDING_TASKS_LOST));
        // Relaxed: nobody else writes them at this time.
        let mut total = pending.load(Ordering::Relaxed);
        if total == 0 {
            let count = unfinished.load(Ordering::Relaxed);
            if count == 0 {
                return;
            }
            total = lost.load(Ordering::Relaxed).wrapping_add(count);
            pending.store(total, Ordering::Release); // edge: queue-tasks; queue-task-1
        }
        lost.store(total, Ordering::Release); // edge: queue-tasks; queue-task-2
        unfinished.store(0, Ordering::Release); // edge: queue-tasks; queue-task-3
        pending.store(0, Ordering::Release); // edge: queue-tasks; queue-task-4
    }

    /// Messages that were received, or claimed, by participants that are gone, and not done.
    pub(crate) fn tasks_lost(self) -> u64 {
        let tasks = (0..self.layout.participants())
            .map(|index| self.participant_word(index, own::TASKS_LOST).load(Ordering::Acquire)); // edge: queue-tasks
        let claimed = self.word(control::LOST).load(Ordering::Acquire); // edge: queue-lost
        tasks.fold(claimed, u64::wrapping_add)
    }

    /// Unfinished tasks of receivers that are dead and not repaired yet, which repair will count as
    /// lost.
    pub(crate) fn tasks_of_the_dead(self) -> u64 {
        let unfinished = self.occupied_with_role(Role::Receiver).map(|index| {
            let word = self.participant_word(index, own::UNFINISHED_TASKS);
            (index, word.load(Ordering::Acquire)) // edge: queue-tasks
        });
        // The kernel is asked only about those that have any.
        let participants = self.region.participants();
        let lost = unfinished.filter(|&(index, count)| count > 0 && participants.is_dead(index, None));
        lost.fold(0, |sum, (_, count)| sum.wrapping_add(count))
    }

    /// Whether no message is queued or being received, and no receiver has an unfinished task that
    /// may still be done.
    pub(crate) fn is_idle(self, words: &RingWords<Mapped>) -> bool {
        words.advance_over_skipped(MAX_SKIPPED);
        // While nothing is sent, nothing can move from a receiver that is still to be read to one
        // that was read already.
        words.holds_without_push(|| {
            words.len() == 0
                // Receivers only: what a sender has claimed is not sent yet. One whose process
                // exits is not repaired yet.
                && !self.occupied_with_role(Role::Receiver).any(|index| self.has_task(index))
        })
    }

    /// Whether a receiver is receiving a message, or has an unfinished task.
    pub(super) fn has_task(self, index: usize) -> bool {
        let word = |at| self.participant_word(index, at).load(Ordering::Acquire); // edge: queue-tasks
        word(own::INTENT) != 0 || word(own::UNFINISHED_TASKS) != 0 || self.holds(index)
    }
}
