//! What pipes and queues carry, and the iterator over what a receiver gets.

use std::iter::FusedIterator;

use crate::error::RecvError;
use crate::types::Shareable;
use crate::wait::Timeout;

/// What a pipe or a queue carries: byte messages (`[u8]`), or values of a type that is
/// [`Shareable`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to other processes as it is",
    label = "this type does not implement `tombolo::Shareable`",
    note = "for a struct of your own, write `#[derive(Clone, Copy, tombolo::Shareable)]` and `#[repr(C)]` above it; for an enum without fields the same with `#[repr(u8)]`",
    note = "instead of a tuple use such a struct, instead of an `Option` such a struct with a `bool`, instead of a reference the value itself",
    note = "send a `String` or a `Vec` as a byte message (`Options::bytes()`)",
    note = "for a type of another crate that implements `bytemuck::Pod` use `tombolo::types::Untagged`",
    note = "\"Types that can be shared\" in the documentation of `tombolo` has a table"
)]
pub trait Message: sealed::Sealed {}

impl Message for [u8] {}

#[diagnostic::do_not_recommend]
impl<T: Shareable> Message for T {}

/// The messages of a receiver, as an iterator.
///
/// `iter` and `into_iter` block for each message, `try_iter` ends when no message is there.
///
/// The iterator ends when the sender has left and everything that it sent was received. It yields
/// any other error, and ends after it. Only [`MessageLost`](RecvError::MessageLost) and
/// [`Lagged`](RecvError::Lagged) do not end it: more messages may follow.
#[derive(Debug)]
#[must_use = "an iterator receives nothing until it is used"]
pub struct Messages<R> {
    receiver: R,
    blocks: bool,
    has_ended: bool,
}

impl<R> Messages<R> {
    pub(crate) fn blocking(receiver: R) -> Self {
        Self { receiver, blocks: true, has_ended: false }
    }

    pub(crate) fn non_blocking(receiver: R) -> Self {
        Self { receiver, blocks: false, has_ended: false }
    }
}

impl<R> Messages<&mut R> {
    pub(crate) fn receiver_mut(&mut self) -> &mut R {
        self.receiver
    }
}

impl<R: sealed::Receive> Iterator for Messages<R> {
    type Item = Result<R::Message, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let timeout = if self.blocks { Timeout::UNLIMITED } else { Timeout::NonBlocking };
        let received = self.receiver.receive(timeout);
        self.has_ended = !matches!(received, Ok(_) | Err(RecvError::MessageLost | RecvError::Lagged { .. }));
        match received {
            Err(RecvError::Closed | RecvError::Empty) => None,
            received => Some(received),
        }
    }
}

impl<R: sealed::Receive> FusedIterator for Messages<R> {}

pub(crate) mod sealed {
    use crate::error::RecvError;
    use crate::region::layout::header::ElementType;
    use crate::types::{Shape, Shareable};
    use crate::wait::Timeout;

    pub trait Sealed: 'static {
        /// What a value is. None: bytes.
        const SHAPE: Option<&'static Shape>;

        /// How a region's header describes messages of this kind.
        fn element(tag: [u8; 8]) -> ElementType;
    }

    impl Sealed for [u8] {
        const SHAPE: Option<&'static Shape> = None;

        fn element(_: [u8; 8]) -> ElementType {
            ElementType::Bytes
        }
    }

    impl<T: Shareable> Sealed for T {
        const SHAPE: Option<&'static Shape> = Some(T::SHAPE);

        fn element(tag: [u8; 8]) -> ElementType {
            ElementType::Value { size: size_of::<T>() as u64, align: align_of::<T>() as u64, tag }
        }
    }

    /// A receiver that [`Messages`](super::Messages) iterates over.
    pub trait Receive {
        type Message;

        fn receive(&mut self, timeout: Timeout) -> Result<Self::Message, RecvError>;
    }

    impl<R: Receive> Receive for &mut R {
        type Message = R::Message;

        #[inline]
        fn receive(&mut self, timeout: Timeout) -> Result<R::Message, RecvError> {
            R::receive(self, timeout)
        }
    }
}
