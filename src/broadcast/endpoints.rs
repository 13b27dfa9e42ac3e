//! How publishers and subscribers are passed on to another process.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::broadcast::state::Role;
use crate::broadcast::{BytePublisher, ByteSubscriber, Options, Publisher, Subscriber};
use crate::endpoint::{Endpoint, sealed::Sealed};
use crate::error::{Error, Result};
use crate::region::lifecycle::Registration;
use crate::types::Shareable;
use crate::wait::WaitStrategy;

/// A publisher or a subscriber: [`Publisher`] or [`Subscriber`], or the one of these for byte
/// messages.
pub trait BroadcastEndpoint: Endpoint + sealed::Attach {}

pub(crate) mod sealed {
    use super::*;

    pub trait Attach: Sized {
        const ROLE: Role;

        fn attach(registration: Registration, wait: WaitStrategy, waits_for_successor: bool) -> Result<Self>;
    }
}

/// What all endpoints have in common.
macro_rules! endpoint {
    (
        $Endpoint:ty, $Message:ty, $role:ident $(, $T:ident)?;
        |$registration:ident, $wait:ident, $waits_for_successor:ident| $new:expr
    ) => {
        impl$(<$T: Shareable>)? BroadcastEndpoint for $Endpoint {}

        impl$(<$T: Shareable>)? Endpoint for $Endpoint {
            type Message = $Message;
        }

        impl$(<$T: Shareable>)? sealed::Attach for $Endpoint {
            const ROLE: Role = Role::$role;

            fn attach($registration: Registration, $wait: WaitStrategy, $waits_for_successor: bool) -> Result<Self> {
                $new
            }
        }

        impl$(<$T: Shareable>)? Sealed for $Endpoint {
            const SHARED: [&'static str; 3] = [
                "a subscriber with frames that are not dropped, or with a snapshot or an error that this process alone \
                 knows",
                "one without",
                "after dropping the frames, and receiving once from each publisher",
            ];

            fn set_passed(&self) {
                self.half.holder().pass();
            }

            fn is_transferable(&self) -> bool {
                Arc::strong_count(self.half.registration()) == 1 && !self.half.has_private_state()
            }

            fn registration(&self) -> &Arc<Registration> {
                self.half.registration()
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

endpoint!(Publisher<T>, T, Publisher, T; |registration, wait, _waits| Self::new(registration, wait));
endpoint!(BytePublisher, [u8], Publisher; |registration, wait, _waits| Self::new(registration, wait));
endpoint!(Subscriber<T>, T, Subscriber, T; |registration, wait, waits| Ok(Self::new(registration, wait, waits)));
endpoint!(ByteSubscriber, [u8], Subscriber; |registration, wait, waits| Ok(Self::new(registration, wait, waits)));
