//! How callers and responders are passed on to another process.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::endpoint::{Endpoint, sealed::Sealed};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::region::lifecycle::Registration;
use crate::rpc::state::Role;
use crate::rpc::{Behaviour, ByteCaller, ByteResponder, Caller, Options, Responder};
use crate::types::Shareable;

/// A caller or a responder: [`Caller`] or [`Responder`], or the one of these for bytes.
pub trait RpcEndpoint: Endpoint + sealed::Attach {
    /// What is replied.
    type Reply: Message + ?Sized;
}

pub(crate) mod sealed {
    use super::*;

    pub trait Attach: Sized {
        const ROLE: Role;

        fn attach(registration: Registration, behaviour: Behaviour) -> Self;
    }
}

/// What messages call an endpoint that has a request, what to have instead, and how to get there.
const fn with_request(role: Role) -> [&'static str; 3] {
    match role {
        Role::Caller => {
            ["a caller with a request that is not finished", "one without", "after finishing it, or cancelling it"]
        }
        Role::Responder => {
            ["a responder with a request that is not answered", "one without", "after replying, or dropping it"]
        }
    }
}

/// What all endpoints have in common.
macro_rules! endpoint {
    ($Endpoint:ty, $Request:ty, $Reply:ty, $role:ident $(, $Q:ident, $A:ident)?) => {
        impl$(<$Q: Shareable, $A: Shareable>)? RpcEndpoint for $Endpoint {
            type Reply = $Reply;
        }

        impl$(<$Q: Shareable, $A: Shareable>)? Endpoint for $Endpoint {
            type Message = $Request;
        }

        impl$(<$Q: Shareable, $A: Shareable>)? sealed::Attach for $Endpoint {
            const ROLE: Role = Role::$role;

            fn attach(registration: Registration, behaviour: Behaviour) -> Self {
                Self::new(registration, behaviour)
            }
        }

        impl$(<$Q: Shareable, $A: Shareable>)? Sealed for $Endpoint {
            const SHARED: [&'static str; 3] = with_request(Role::$role);

            fn set_passed(&self) {
                self.half.participant().holder().pass();
            }

            fn is_transferable(&self) -> bool {
                !self.half.has_request()
            }

            fn registration(&self) -> &Arc<Registration> {
                self.half.participant().registration()
            }

            fn from_inherited(descriptor: OwnedFd) -> Result<Self> {
                Options::default().from_fd(descriptor)
            }
        }

        impl$(<$Q: Shareable, $A: Shareable>)? TryFrom<$Endpoint> for OwnedFd {
            type Error = Error;

            /// See [`Endpoint::into_fd`].
            fn try_from(endpoint: $Endpoint) -> Result<Self> {
                endpoint.into_fd()
            }
        }

        impl$(<$Q: Shareable, $A: Shareable>)? TryFrom<OwnedFd> for $Endpoint {
            type Error = Error;

            /// See [`Options::from_fd`].
            fn try_from(descriptor: OwnedFd) -> Result<Self> {
                Sealed::from_inherited(descriptor)
            }
        }
    };
}

endpoint!(Caller<Q, A>, Q, A, Caller, Q, A);
endpoint!(ByteCaller, [u8], [u8], Caller);
endpoint!(Responder<Q, A>, Q, A, Responder, Q, A);
endpoint!(ByteResponder, [u8], [u8], Responder);
