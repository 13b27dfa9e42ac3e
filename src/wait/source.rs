//! What a selector knows of the things that it waits for.

use std::time::Instant;

use crate::raw::event_count::EventCount;
use crate::region::words::Mapped;
use crate::sys::clock::Deadline;
use crate::sys::poll::PollFd;
use crate::wait::Attempt;

/// Something that a [`Selector`](crate::select::Selector) can wait for.
///
/// The table in [`select`](crate::select) says which types are sources, and when each is ready.
/// This trait cannot be implemented outside of this crate.
pub trait Source: sealed::Watch {}

impl<S: Source + ?Sized> Source for &mut S {}

/// `None` is never ready, and keeps the indices of the sources behind it.
impl<S: Source> Source for Option<S> {}

pub(crate) mod sealed {
    use super::{Attempt, Deadline, EventCount, Instant, Mapped, PollFd};

    /// The methods of a source.
    pub trait Watch {
        /// Whether a `try_` call would do more than return that it would have to wait. A probe may
        /// miss that, and may be wrong.
        fn is_ready(&mut self, attempt: Attempt) -> bool;

        /// Asks the kernel whether the peers are gone. If they are, the source is ready from then
        /// on, and the next `try_` call that finds nothing else returns so.
        fn check_liveness(&mut self, _deadline: Deadline) {}

        /// The event counts that announce that it may be ready, from 0 on.
        fn event(&self, _index: usize) -> Option<&EventCount<Mapped>> {
            None
        }

        /// When it is ready by itself.
        fn due(&self) -> Option<Instant> {
            None
        }

        /// The descriptor that is ready when this source is.
        fn descriptor(&self) -> Option<PollFd<'_>> {
            None
        }

        /// Called before a sleep. What waits for the source without blocking would get the
        /// wake-ups, so it is taken back.
        fn before_sleep(&mut self) {}

        /// Called after a sleep.
        fn on_wake(&mut self) {}
    }

    impl<S: Watch + ?Sized> Watch for &mut S {
        fn is_ready(&mut self, attempt: Attempt) -> bool {
            (**self).is_ready(attempt)
        }

        fn check_liveness(&mut self, deadline: Deadline) {
            (**self).check_liveness(deadline);
        }

        fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
            (**self).event(index)
        }

        fn due(&self) -> Option<Instant> {
            (**self).due()
        }

        fn descriptor(&self) -> Option<PollFd<'_>> {
            (**self).descriptor()
        }

        fn before_sleep(&mut self) {
            (**self).before_sleep();
        }

        fn on_wake(&mut self) {
            (**self).on_wake();
        }
    }

    impl<S: Watch> Watch for Option<S> {
        fn is_ready(&mut self, attempt: Attempt) -> bool {
            self.as_mut().is_some_and(|source| source.is_ready(attempt))
        }

        fn check_liveness(&mut self, deadline: Deadline) {
            if let Some(source) = self {
                source.check_liveness(deadline);
            }
        }

        fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
            self.as_ref()?.event(index)
        }

        fn due(&self) -> Option<Instant> {
            self.as_ref()?.due()
        }

        fn descriptor(&self) -> Option<PollFd<'_>> {
            self.as_ref()?.descriptor()
        }

        fn before_sleep(&mut self) {
            if let Some(source) = self {
                source.before_sleep();
            }
        }

        fn on_wake(&mut self) {
            if let Some(source) = self {
                source.on_wake();
            }
        }
    }
}

/// Makes an endpoint a source, as the part of it that `$half` leads to.
macro_rules! source {
    ([$($parameters:tt)*] $endpoint:ty, $($half:tt).+) => {
        impl<$($parameters)*> $crate::wait::source::Source for $endpoint {}

        impl<$($parameters)*> $crate::wait::source::sealed::Watch for $endpoint {
            #[inline]
            fn is_ready(&mut self, attempt: $crate::wait::Attempt) -> bool {
                $crate::wait::source::sealed::Watch::is_ready(&mut self.$($half).+, attempt)
            }

            fn check_liveness(&mut self, deadline: $crate::sys::clock::Deadline) {
                $crate::wait::source::sealed::Watch::check_liveness(&mut self.$($half).+, deadline);
            }

            fn event(
                &self,
                index: usize,
            ) -> Option<&$crate::raw::event_count::EventCount<$crate::region::words::Mapped>> {
                $crate::wait::source::sealed::Watch::event(&self.$($half).+, index)
            }

            fn due(&self) -> Option<std::time::Instant> {
                $crate::wait::source::sealed::Watch::due(&self.$($half).+)
            }

            fn before_sleep(&mut self) {
                $crate::wait::source::sealed::Watch::before_sleep(&mut self.$($half).+);
            }

            fn on_wake(&mut self) {
                $crate::wait::source::sealed::Watch::on_wake(&mut self.$($half).+);
            }
        }
    };
}

pub(crate) use source;
