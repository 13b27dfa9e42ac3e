//! How each endpoint joins a pipe, and how it is passed on.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::endpoint::{Endpoint, sealed::Sealed};
use crate::error::{Error, Result};
use crate::pipe::connection::{self, Connection, ConnectionOptions, PeerEnd, Side};
use crate::pipe::half::{RecvHalf, SendHalf};
use crate::pipe::{BytePipe, ByteReceiver, ByteSender, Options, Pipe, Receiver, Sender};
use crate::region::Region;
use crate::region::lifecycle::Registration;
use crate::types::Shareable;

/// An endpoint of a pipe: [`Sender`], [`Receiver`] or [`Pipe`], or the one of these for byte
/// messages.
pub trait PipeEndpoint: Endpoint + sealed::Attach {}

pub(crate) mod sealed {
    use super::*;

    pub trait Attach: Sealed + Sized {
        /// 1: of a one-way pipe, 2: of a duplex pipe.
        const DIRECTIONS: u64;

        /// The participants of the region that can be this endpoint.
        const PARTICIPANTS: &'static [usize];

        fn attach(registration: Arc<Registration>, options: ConnectionOptions) -> Result<Self>;
    }
}

use sealed::Attach;

/// Joins as the first free of these participants. Returns the end of a sender that was over before,
/// too. None: the region is losing its name.
pub(super) fn join(region: Region, participants: &[usize]) -> Result<Option<(Registration, Option<PeerEnd>)>> {
    let previous_ends = Cell::new([None; 2]);
    let candidates = |region: &Region| {
        // Before anybody can see this one: a peer that has seen it, and left since, was there.
        previous_ends.set([0, 1].map(|index| connection::previous_end(region, index)));
        participants.to_vec()
    };
    let places = 0..region.layout().participants();
    let joined = Registration::join(region, places, candidates, |_| {}, 0, &connection::HOOKS, acquire_sides)?;
    Ok(joined.map(|registration| {
        let end = previous_ends.get().get(registration.index()).copied().flatten();
        (registration, end)
    }))
}

/// Becomes the owner of the participant's side of each ring, while nobody else can join or leave.
fn acquire_sides(region: &Region, participant: usize) -> Result<()> {
    for ring in 0..connection::layout(region).directions as usize {
        Side::of(participant, ring).acquire(region, ring);
    }
    Ok(())
}

/// Connections of a duplex endpoint, out and back, with their rings. Both exist before anything can
/// fail: dropping them closes both directions.
fn both_directions(registration: Arc<Registration>, options: ConnectionOptions) -> [(Connection, usize); 2] {
    let (out, back) = (registration.index(), connection::other(registration.index()));
    [
        (Connection::new(Arc::clone(&registration), out, options), out),
        (Connection::new(registration, back, options), back),
    ]
}

impl<T: Shareable> Attach for Sender<T> {
    const DIRECTIONS: u64 = 1;
    const PARTICIPANTS: &'static [usize] = &[0];

    fn attach(registration: Arc<Registration>, options: ConnectionOptions) -> Result<Self> {
        Ok(Self { half: SendHalf::new(Connection::new(registration, 0, options), 0)? })
    }
}

impl Attach for ByteSender {
    const DIRECTIONS: u64 = 1;
    const PARTICIPANTS: &'static [usize] = &[0];

    fn attach(registration: Arc<Registration>, options: ConnectionOptions) -> Result<Self> {
        Self::new(Connection::new(registration, 0, options), 0)
    }
}

impl<T: Shareable> Attach for Receiver<T> {
    const DIRECTIONS: u64 = 1;
    const PARTICIPANTS: &'static [usize] = &[1];

    fn attach(registration: Arc<Registration>, options: ConnectionOptions) -> Result<Self> {
        Ok(Self { half: RecvHalf::new(Connection::new(registration, 0, options), 0)? })
    }
}

impl Attach for ByteReceiver {
    const DIRECTIONS: u64 = 1;
    const PARTICIPANTS: &'static [usize] = &[1];

    fn attach(registration: Arc<Registration>, options: ConnectionOptions) -> Result<Self> {
        Ok(Self { half: RecvHalf::new(Connection::new(registration, 0, options), 0)? })
    }
}

impl<T: Shareable> Attach for Pipe<T> {
    const DIRECTIONS: u64 = 2;
    const PARTICIPANTS: &'static [usize] = &[0, 1];

    fn attach(registration: Arc<Registration>, options: ConnectionOptions) -> Result<Self> {
        let [(tx, out), (rx, back)] = both_directions(registration, options);
        Ok(Self { tx: Sender { half: SendHalf::new(tx, out)? }, rx: Receiver { half: RecvHalf::new(rx, back)? } })
    }
}

impl Attach for BytePipe {
    const DIRECTIONS: u64 = 2;
    const PARTICIPANTS: &'static [usize] = &[0, 1];

    fn attach(registration: Arc<Registration>, options: ConnectionOptions) -> Result<Self> {
        let [(tx, out), (rx, back)] = both_directions(registration, options);
        Ok(Self { tx: ByteSender::new(tx, out)?, rx: ByteReceiver { half: RecvHalf::new(rx, back)? } })
    }
}

/// Whether a sender or a receiver is all that its participant has in the pipe. A half of a pipe
/// that was split is not, even if it is the last one.
fn is_one_way(half: &impl Sealed) -> bool {
    let registration = half.registration();
    Arc::strong_count(registration) == 1 && connection::layout(registration.region()).directions == 1
}

/// Whether a pipe consists of two halves of the same participant.
fn is_pair(tx: &impl Sealed, rx: &impl Sealed) -> bool {
    Arc::ptr_eq(tx.registration(), rx.registration())
}

/// What all endpoints have in common. `$half`: the path to the half that answers for the endpoint,
/// and `$other` to the other one of a pipe.
macro_rules! endpoint {
    ($endpoint:ty, $message:ty, $($half:ident).+ $(& $($other:ident).+)?, $is_transferable:expr $(, $value:ident)?) => {
        impl$(<$value: Shareable>)? PipeEndpoint for $endpoint {}

        impl$(<$value: Shareable>)? Endpoint for $endpoint {
            type Message = $message;
        }

        impl$(<$value: Shareable>)? Sealed for $endpoint {
            fn registration(&self) -> &Arc<Registration> {
                self.$($half).+.connection.registration()
            }

            fn set_passed(&self) {
                self.$($half).+.connection.holder().pass();
                $(self.$($other).+.connection.holder().pass();)?
            }

            fn is_transferable(&self) -> bool {
                let is_transferable: fn(&Self) -> bool = $is_transferable;
                is_transferable(self)
            }

            fn from_inherited(descriptor: OwnedFd) -> Result<Self> {
                Options::default().from_fd(descriptor)
            }
        }

        impl$(<$value: Shareable>)? TryFrom<$endpoint> for OwnedFd {
            type Error = Error;

            /// See [`Endpoint::into_fd`].
            fn try_from(endpoint: $endpoint) -> Result<Self> {
                endpoint.into_fd()
            }
        }

        impl$(<$value: Shareable>)? TryFrom<OwnedFd> for $endpoint {
            type Error = Error;

            /// See [`Options::from_fd`].
            fn try_from(descriptor: OwnedFd) -> Result<Self> {
                Sealed::from_inherited(descriptor)
            }
        }
    };
}

endpoint!(Sender<T>, T, half, is_one_way, T);
endpoint!(Receiver<T>, T, half, is_one_way, T);
endpoint!(Pipe<T>, T, tx.half & rx.half, |pipe| is_pair(&pipe.tx, &pipe.rx), T);
endpoint!(ByteSender, [u8], half, is_one_way);
endpoint!(ByteReceiver, [u8], half, is_one_way);
endpoint!(BytePipe, [u8], tx.half & rx.half, |pipe| is_pair(&pipe.tx, &pipe.rx));
