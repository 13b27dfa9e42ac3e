//! Why a wait ended without what it waited for, and what each kind of call makes of it.

use crate::error::{CallError, JoinError, ListError, MapError, RecvError, SendError, SyncError};
use crate::raw::Corrupt;
use crate::region::trace;

/// Why a wait ended without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Closed,
    PeerDied,
    LockLost,
    /// No peer is there, and no other process can find the region.
    NameRemoved,
    TimedOut,
    Interrupted,
    Corrupt,
}

/// The outcomes that pipes and queues report by the same names.
macro_rules! from_wait_end {
    ($($error:ty),*) => {$(
        impl From<WaitEnd> for $error {
            fn from(end: WaitEnd) -> Self {
                match end {
                    WaitEnd::Closed => Self::Closed,
                    WaitEnd::PeerDied => Self::PeerDied,
                    WaitEnd::LockLost => Self::LockLost,
                    WaitEnd::NameRemoved => Self::NameRemoved,
                    WaitEnd::TimedOut => Self::TimedOut,
                    WaitEnd::Interrupted => Self::Interrupted,
                    WaitEnd::Corrupt => Corrupt.into(),
                }
            }
        }
    )*};
}

from_wait_end!(SendError, RecvError, JoinError);

macro_rules! from_corrupt {
    ($($error:ty),*) => {$(
        impl From<Corrupt> for $error {
            #[cold]
            fn from(_: Corrupt) -> Self {
                trace::corrupt();
                Self::Corrupt
            }
        }
    )*};
}

from_corrupt!(SendError, RecvError, JoinError, SyncError, CallError, MapError, ListError);

impl From<WaitEnd> for CallError {
    fn from(end: WaitEnd) -> Self {
        match end {
            WaitEnd::Closed => Self::Closed,
            WaitEnd::PeerDied => Self::NoResponder,
            WaitEnd::LockLost => Self::LockLost,
            WaitEnd::NameRemoved => Self::NameRemoved,
            WaitEnd::TimedOut => Self::TimedOut { taken: false },
            WaitEnd::Interrupted => Self::Interrupted { taken: false },
            WaitEnd::Corrupt => Corrupt.into(),
        }
    }
}

impl From<WaitEnd> for SyncError {
    fn from(end: WaitEnd) -> Self {
        match end {
            WaitEnd::LockLost => Self::LockLost,
            WaitEnd::TimedOut => Self::TimedOut,
            WaitEnd::Interrupted => Self::Interrupted,
            // Objects have no peer that could close, die or never come.
            WaitEnd::Corrupt | WaitEnd::Closed | WaitEnd::PeerDied | WaitEnd::NameRemoved => Corrupt.into(),
        }
    }
}
