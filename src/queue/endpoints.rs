//! How each half of a queue takes its place, and how it is passed on to another process.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::endpoint::{Endpoint, sealed::Sealed};
use crate::error::{Error, Result};
use crate::queue::half::Half;
use crate::queue::participant::Role;
use crate::queue::{ByteReceiver, ByteSender, Options, Receiver, Sender};
use crate::region::lifecycle::Registration;
use crate::types::Shareable;
use crate::wait::WaitStrategy;

/// A half of a queue: [`Sender`] or [`Receiver`], or the one of these for byte messages.
pub trait QueueEndpoint: Endpoint + sealed::Attach {}

pub(crate) mod sealed {
    use super::*;

    pub trait Attach: Sized {
        const ROLE: Role;

        fn attach(registration: Registration, wait: WaitStrategy, reports_lost_messages: bool) -> Self;

        fn half(&self) -> &Half;

        fn half_mut(&mut self) -> &mut Half;
    }
}

/// What all halves have in common. `$half`: the path to the half that answers for the endpoint.
macro_rules! endpoint {
    (
        $Endpoint:ty, $Message:ty, $role:ident, $($half:ident).+ $(, $T:ident)?;
        |$registration:ident, $wait:ident, $reports_lost_messages:ident| $new:expr
    ) => {
        impl$(<$T: Shareable>)? QueueEndpoint for $Endpoint {}

        impl$(<$T: Shareable>)? Endpoint for $Endpoint {
            type Message = $Message;
        }

        impl$(<$T: Shareable>)? sealed::Attach for $Endpoint {
            const ROLE: Role = Role::$role;

            fn attach(
                $registration: Registration,
                $wait: WaitStrategy,
                $reports_lost_messages: bool,
            ) -> Self {
                $new
            }

            fn half(&self) -> &Half {
                &self.$($half).+
            }

            fn half_mut(&mut self) -> &mut Half {
                &mut self.$($half).+
            }
        }

        impl$(<$T: Shareable>)? Sealed for $Endpoint {
            const SHARED: [&'static str; 3] =
                ["half of a queue with frames that are not dropped", "one without", "after dropping them"];

            fn set_passed(&self) {
                self.$($half).+.participant.holder().pass();
            }

            fn is_transferable(&self) -> bool {
                Arc::strong_count(self.registration()) == 1
            }

            fn registration(&self) -> &Arc<Registration> {
                self.$($half).+.participant.registration()
            }

            fn from_inherited(descriptor: OwnedFd) -> Result<Self> {
                Options::default().from_fd(descriptor)
            }
        }

        impl$(<$T: Shareable>)? TryFrom<$Endpoint> for OwnedFd {
            type Error = Error;

            /// See [`Endpoint::into_fd`].
            fn try_from(endpoint: $Endpoint) -> Result<Self> {
                endpoint.into_fd()
            }
        }

        impl$(<$T: Shareable>)? TryFrom<OwnedFd> for $Endpoint {
            type Error = Error;

            /// See [`Options::from_fd`].
            fn try_from(descriptor: OwnedFd) -> Result<Self> {
                Sealed::from_inherited(descriptor)
            }
        }
    };
}

endpoint!(Sender<T>, T, Sender, half, T; |registration, wait, _reports| Self::new(registration, wait));
endpoint!(ByteSender, [u8], Sender, half; |registration, wait, _reports| Self::new(registration, wait));
endpoint!(Receiver<T>, T, Receiver, inner.half, T; |registration, wait, reports| {
    Self::new(registration, wait, reports)
});
endpoint!(ByteReceiver, [u8], Receiver, inner.half; |registration, wait, reports| {
    Self::new(registration, wait, reports)
});
