//! Handles that tasks and event loops wait for.

use super::WaitState;
use crate::error::Result;

/// A handle that can be waited for without blocking.
pub trait Pollable {
    #[doc(hidden)]
    fn wait_state(&mut self) -> &mut WaitState;

    /// Refuses a handle of the parent process, or one that was passed on.
    #[doc(hidden)]
    fn check_here(&self) -> Result<()>;
}

impl<E: Pollable> Pollable for &mut E {
    fn wait_state(&mut self) -> &mut WaitState {
        E::wait_state(self)
    }

    fn check_here(&self) -> Result<()> {
        E::check_here(self)
    }
}

/// Makes an endpoint pollable. `$half`: the path to what has its holder, its registration and its
/// state of waiting.
macro_rules! pollable {
    ([$($parameters:tt)*] $Endpoint:ty, $($half:ident).+, $may:literal, $until:literal) => {
        impl<$($parameters)*> $crate::wait::Pollable for $Endpoint {
            fn wait_state(&mut self) -> &mut $crate::wait::WaitState {
                self.$($half).+.wait_state()
            }

            fn check_here(&self) -> $crate::error::Result<()> {
                let half = &self.$($half).+;
                half.holder().check_for(half.registration(), "wait for an endpoint")
            }
        }

        impl<$($parameters)*> $Endpoint {
            #[doc = concat!("Returns a descriptor for event loops, which is readable while ", $may, ".")]
            ///
            #[doc = concat!("It stays readable until a call returns ", $until, ". See")]
            /// [`Readiness`](crate::Readiness).
            ///
            /// # Errors
            /// [`Forked`](crate::ErrorKind::Forked), or there can be no more descriptors.
            pub fn readiness(&mut self) -> $crate::error::Result<$crate::wait::Readiness> {
                $crate::wait::Pollable::check_here(self)?;
                $crate::wait::Pollable::wait_state(self).readiness()
            }
        }
    };
}

pub(crate) use pollable;
