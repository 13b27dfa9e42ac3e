//! Messages that were delivered as often as is allowed, and never done.

use std::fmt;
use std::ops::Deref;
use std::vec;

use crate::error::RecvError;
use crate::primitive::Ordering;
use crate::queue::half::Half;
use crate::queue::redelivery::Redelivery;
use crate::raw::pool::BlockRef;
use crate::raw::redelivery::delivery_count;
use crate::region::layout::queue::control;

/// A message that was delivered as often as the queue allows, and whose receivers all died or left
/// without finishing it.
///
/// It dereferences to the message. The queue keeps it until [`remove`](Self::remove) or
/// [`redrive`](Self::redrive). To drop this changes nothing.
pub struct DeadLetter<'a, M> {
    half: &'a Half,
    letter: BlockRef,
    message: M,
}

/// The dead letters of a queue at the time of the call, in the order in which they were sent.
///
/// Made by [`dead_letters`](crate::queue::Receiver::dead_letters). One that cannot be read, in a
/// damaged region, is [`Corrupt`](RecvError::Corrupt): it is removed, and counted in
/// [`Stats::dropped`](crate::queue::Stats::dropped). The iterator goes on behind it.
pub struct DeadLetters<'a, M> {
    half: &'a Half,
    letters: vec::IntoIter<BlockRef>,
    read: fn(&Half, BlockRef) -> Result<M, RecvError>,
}

impl<'a, M> DeadLetters<'a, M> {
    pub(super) fn of(half: &'a Half, read: fn(&Half, BlockRef) -> Result<M, RecvError>) -> Result<Self, RecvError> {
        half.participant.check_holder::<RecvError>()?;
        let letters = half.payload.redelivery().map(Redelivery::dead_letters).unwrap_or_default();
        Ok(Self { half, letters: letters.into_iter(), read })
    }
}

impl<'a, M> Iterator for DeadLetters<'a, M> {
    type Item = Result<DeadLetter<'a, M>, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (half, read) = (self.half, self.read);
        self.letters.find_map(|letter| {
            let message = read(half, letter);
            // Another may have taken it meanwhile, and its block may have another message.
            let is_whole = half.payload.redelivery()?.deliveries().is_dead_letter(letter);
            if is_whole && message.as_ref().is_err_and(|reason| *reason == RecvError::Corrupt) {
                remove_unreadable(half, letter);
            }
            is_whole.then(|| message.map(|message| DeadLetter { half, letter, message }))
        })
    }
}

/// Removes what nobody can read, so that its block can be used again. It is counted.
#[cold]
fn remove_unreadable(half: &Half, letter: BlockRef) {
    if take(half, letter).is_some() {
        // Relaxed: a statistic.
        half.participant.state().word(control::DROPPED).fetch_add(1, Ordering::Relaxed);
    }
}

/// Removes a dead letter. `None`: another has taken it.
fn take(half: &Half, letter: BlockRef) -> Option<()> {
    let Half { participant, payload, .. } = half;
    let deliveries = payload.redelivery().filter(|_| participant.is_here())?.deliveries();
    let taken = deliveries.remove(letter, participant.index())?;
    payload.finish(participant.region(), taken);
    participant.notify_block_freed();
    Some(())
}

impl<M> DeadLetter<'_, M> {
    /// Returns how often the message was delivered.
    pub fn deliveries(&self) -> u32 {
        delivery_count(self.letter.owner) as u32
    }

    /// Returns the message.
    pub fn message(&self) -> &M {
        &self.message
    }

    /// Removes the dead letter from the queue, and returns the message. `None`: another process has
    /// taken it meanwhile.
    ///
    /// # Blocking
    /// Never.
    pub fn remove(self) -> Option<M> {
        take(self.half, self.letter).map(|()| self.message)
    }

    /// Makes it a message again, which was never delivered, for the next receiver. False: another
    /// process has taken it meanwhile.
    ///
    /// # Blocking
    /// Never.
    pub fn redrive(self) -> bool {
        let Half { participant, payload, .. } = self.half;
        let redelivery = payload.redelivery().filter(|_| participant.is_here());
        let is_redriven = redelivery.is_some_and(|redelivery| redelivery.deliveries().redrive(self.letter));
        if is_redriven {
            participant.pass_on_wake_up();
        }
        is_redriven
    }
}

impl<M> Deref for DeadLetter<'_, M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

impl<M: fmt::Debug> fmt::Debug for DeadLetter<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("message", &self.message)
            .field("deliveries", &self.deliveries())
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for DeadLetters<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("left", &self.letters.len()).finish_non_exhaustive()
    }
}
