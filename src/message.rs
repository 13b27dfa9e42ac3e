//! What pipes, queues and objects hold, and the iterator over what a receiver gets.

use std::iter::FusedIterator;

use bytemuck::Pod;

use crate::error::RecvError;
use crate::wait::Timeout;

/// What a pipe or a queue carries: byte messages (`[u8]`), or values of one [`Pod`] type.
///
/// A type is `Pod` if every bit pattern is one of its values: numbers, arrays of them, and
/// `#[repr(C)]` structs of such fields without padding. See
/// [Types that can be shared](crate#types-that-can-be-shared) for other types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent through shared memory as it is",
    label = "not every bit pattern is a `{Self}`, or it has padding, or it points elsewhere",
    note = "for a struct, derive `Clone, Copy, tombolo::Pod, tombolo::Zeroable` with `#[bytemuck(crate = \"tombolo::bytemuck\")]` and `#[repr(C)]`, and fill padding with a field",
    note = "for a `bool` or an `enum` use a `u8`, for a tuple a struct, for an `Option` a struct with a `u8`, for a `usize` in a struct a `u64`",
    note = "send a `String` or a `Vec` as a byte message (`Options::bytes()`)",
    note = "\"Types that can be shared\" in the documentation of `tombolo` has a table"
)]
pub trait Message: sealed::Sealed {}

impl Message for [u8] {}

#[diagnostic::do_not_recommend]
impl<T: Pod> Message for T {}

/// What an object can hold: a value of a [`Pod`] type. Every such type is `Shareable`.
///
/// See [Types that can be shared](crate#types-that-can-be-shared) for other types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be held in shared memory as it is",
    label = "not every bit pattern is a `{Self}`, or it has padding, or it points elsewhere",
    note = "for a struct, derive `Clone, Copy, tombolo::Pod, tombolo::Zeroable` with `#[bytemuck(crate = \"tombolo::bytemuck\")]` and `#[repr(C)]`, and fill padding with a field",
    note = "for a `bool` or an `enum` use a `u8`, for a tuple a struct, for an `Option` a struct with a `u8`, for a `usize` in a struct a `u64`",
    note = "for a `String` or a `Vec` use a struct of a length and an array such as `[u8; 64]`",
    note = "\"Types that can be shared\" in the documentation of `tombolo` has a table"
)]
pub trait Shareable: Pod {}

#[diagnostic::do_not_recommend]
impl<T: Pod> Shareable for T {}

/// The messages of a receiver, as an iterator.
///
/// `iter` and `into_iter` block for each message, `try_iter` ends when no message is there.
///
/// The iterator ends when the sender has left and everything that it sent was received. It yields
/// any other error, and ends after it. Only
/// [`MessageLost`](RecvError::MessageLost) does not end it: more messages may follow.
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

impl<R: sealed::Receive> Iterator for Messages<R> {
    type Item = Result<R::Message, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let timeout = if self.blocks { Timeout::UNLIMITED } else { Timeout::NonBlocking };
        let received = self.receiver.receive(timeout);
        self.has_ended = !matches!(received, Ok(_) | Err(RecvError::MessageLost));
        match received {
            Err(RecvError::Closed | RecvError::Empty) => None,
            received => Some(received),
        }
    }
}

impl<R: sealed::Receive> FusedIterator for Messages<R> {}

pub(crate) mod sealed {
    use bytemuck::Pod;

    use crate::error::RecvError;
    use crate::region::layout::header::ElementType;
    use crate::wait::Timeout;

    pub trait Sealed: 'static {
        /// How a region's header describes messages of this kind.
        fn element(tag: [u8; 8]) -> ElementType;
    }

    impl Sealed for [u8] {
        fn element(_: [u8; 8]) -> ElementType {
            ElementType::Bytes
        }
    }

    impl<T: Pod> Sealed for T {
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
