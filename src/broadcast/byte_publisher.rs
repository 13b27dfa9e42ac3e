//! The publisher of a broadcast of byte messages.

use std::time::{Duration, Instant};

use crate::broadcast::ByteSubscriber;
use crate::broadcast::membership::join;
use crate::broadcast::publish_half::PublishHalf;
use crate::broadcast::publisher::publisher_methods;
use crate::broadcast::slots::store_part;
use crate::broadcast::slow::SlowSubscriber;
use crate::broadcast::state::Role;
use crate::error::{Result, SendError};
use crate::options::expect_joined;
use crate::primitive::store_bytes;
use crate::region::lifecycle::Registration;
use crate::wait::source::source;
use crate::wait::{Timeout, WaitStrategy};

/// Publishes byte messages to all [`ByteSubscriber`]s of a broadcast.
///
/// See [`Publisher`](crate::broadcast::Publisher), which does the same with values. A message takes
/// up as many slots as it needs, or a frame if the broadcast has
/// [frames](crate::broadcast#frames).
#[derive(Debug)]
pub struct BytePublisher {
    pub(super) half: PublishHalf,
}

impl BytePublisher {
    pub(super) fn new(registration: Registration, wait: WaitStrategy) -> Result<Self> {
        let half = PublishHalf::new(registration, wait)?;
        let state = half.state();
        if state.layout.geometry.frames > 0 {
            let (start, length) = state.layout.frames(half.registration().index());
            state.region.prefault(start, length);
        }
        Ok(Self { half })
    }

    /// Publishes one message.
    ///
    /// # Blocking
    /// As [`Publisher::publish`](crate::broadcast::Publisher::publish).
    ///
    /// # Errors
    /// Those of [`Publisher::publish`](crate::broadcast::Publisher::publish), and
    /// [`TooLarge`](SendError::TooLarge) if it is longer than
    /// [`max_message_bytes`](crate::broadcast::Options::max_message_bytes).
    ///
    /// # Examples
    /// ```
    /// let (mut publisher, mut subscriber) = tombolo::broadcast::Options::bytes().create()?;
    /// publisher.publish(b"news")?;
    /// let mut message = Vec::new();
    /// assert_eq!(subscriber.recv(&mut message)?, 4);
    /// assert_eq!(message, b"news");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.publish_within(message.as_ref(), Timeout::UNLIMITED)
    }

    /// Like [`publish`](Self::publish), but returns [`Full`](SendError::Full) instead of blocking.
    pub fn try_publish(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.publish_within(message.as_ref(), Timeout::NonBlocking)
    }

    /// Like [`publish`](Self::publish), but returns [`TimedOut`](SendError::TimedOut) after
    /// `timeout`.
    pub fn publish_timeout(&mut self, message: impl AsRef<[u8]>, timeout: Duration) -> Result<(), SendError> {
        self.publish_within(message.as_ref(), Timeout::after(timeout))
    }

    /// Like [`publish`](Self::publish), but returns [`TimedOut`](SendError::TimedOut) at
    /// `deadline`. With `None` it never does.
    pub fn publish_deadline(&mut self, message: impl AsRef<[u8]>, deadline: Option<Instant>) -> Result<(), SendError> {
        self.publish_within(message.as_ref(), Timeout::At(deadline))
    }

    /// Publishes messages from the front of `messages`, one by one, as long as there is room.
    /// Returns how many.
    ///
    /// # Blocking
    /// Blocks until at least one message could be published.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish), if they concern the first message. No message was
    /// published then.
    pub fn publish_many<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, SendError> {
        let mut timeout = Timeout::UNLIMITED;
        for (count, message) in messages.iter().enumerate() {
            match self.publish_within(message.as_ref(), timeout) {
                Err(error) if count == 0 => return Err(error),
                Err(_) => return Ok(count),
                Ok(()) => timeout = Timeout::NonBlocking,
            }
        }
        Ok(messages.len())
    }

    publisher_methods!(ByteSubscriber);

    /// Returns the length of the longest message, in bytes.
    pub fn max_message_bytes(&self) -> usize {
        self.half.state().layout.max_message_bytes as usize
    }

    /// Returns the subscribers that hold frames of this publisher, the one with the most first.
    ///
    /// If a message that needs a frame cannot be published in time, the publisher has waited for
    /// one of these, or for the [slowest](Self::slowest) to receive.
    pub fn frame_holders(&self) -> Vec<SlowSubscriber> {
        self.half.frame_holders()
    }

    fn publish_within(&mut self, message: &[u8], timeout: Timeout) -> Result<(), SendError> {
        let layout = self.half.state().layout;
        let (length, limit) = (message.len() as u64, layout.max_message_bytes);
        if length > limit {
            return Err(SendError::TooLarge { length: message.len(), limit: limit as usize });
        }
        if layout.geometry.frames > 0 && length > layout.geometry.slot_bytes {
            let frame = self.half.take_frame(timeout)?;
            store_bytes(&self.half.frame(frame)?, message);
            return self.half.publish_frame(frame, message.len());
        }
        let slots = layout.slots_of(length);
        self.half.publish(slots, slots, timeout, |number, slot| store_part(message, number, slot)).map(drop)
    }
}

source!([] BytePublisher, half);
