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

/// What all endpoints have in common. `$holds`: whether the endpoint has something that another
/// process would not get.
macro_rules! endpoint {
    (
        $Endpoint:ty, $Request:ty, $Reply:ty, $role:ident $(, $Q:ident, $A:ident)?; |$this:ident| $holds:expr
    ) => {
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
            const SHARED: [&'static str; 3] =
                ["a responder with a request that is not answered", "one without", "after replying, or dropping it"];

            fn set_passed(&self) {
                self.half.participant().holder().pass();
            }

            fn is_transferable(&self) -> bool {
                let $this = self;
                !$holds
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

endpoint!(Caller<Q, A>, Q, A, Caller, Q, A; |_this| false);
endpoint!(ByteCaller, [u8], [u8], Caller; |_this| false);
endpoint!(Responder<Q, A>, Q, A, Responder, Q, A; |this| this.half.holds_request());
endpoint!(ByteResponder, [u8], [u8], Responder; |this| this.half.holds_request());
