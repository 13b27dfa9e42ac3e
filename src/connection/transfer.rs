//! Handing endpoints over: each travels in a packet of its own, with one descriptor, beside the
//! messages.
//!
//! What: the descriptor that travels is the one that [`spawn`](crate::spawn) gives to a child: an
//! open file description made for this transfer, which keeps the endpoint in use. It lies in the
//! socket until the other side takes it. The kernel closes it if nobody can take it any more.
//!
//! A value is such a packet, too: see `object.rs`.
//!
//! Crash, by step
//! - give-1 exported (`pass-1` to `pass-4` of `region/lifecycle.rs`), give-2 sent, give-3 own copy
//!   closed. Death before give-2 ends the endpoint: a death. After it the endpoint is the other
//!   side's.
//! - accept-1 copied from the socket, accept-2 taken (`take-1` to `take-4`), accept-3 removed from
//!   the socket. Death before accept-2, or after it, is a death: the socket's copy ends with the
//!   last descriptor of the socket, and holds nothing once the endpoint was taken.
//!
//! Source: unix(7), SCM_RIGHTS and MSG_PEEK.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::connection::{channel, waiting};
use crate::error::{Error, ErrorKind, Result};
use crate::spawn::{Pass, Take};
use crate::sys::fork::ForkGuardedFd;
use crate::sys::socket::{self, Readiness};
use crate::wait::Timeout;

/// What a packet says that has one descriptor.
pub(super) const GIVE: &[u8] = &[6];

/// What the packet of a value says: a descriptor of its bytes, and those of what is in it.
pub(super) const OBJECT: &[u8] = &[7];

/// The socket of a connection through memory, or none over TCP.
#[derive(Clone, Debug)]
pub(super) struct TransferSocket {
    socket: Option<Arc<ForkGuardedFd>>,
    /// The longest value, in bytes.
    #[cfg_attr(not(feature = "serde"), expect(dead_code, reason = "only serde has values"))]
    pub(super) limit: u64,
}

/// Why something was not given away, with what was to be given.
///
/// `?` turns it into an [`Error`] or into a `Box<dyn Error>`. What was to be given is dropped then.
pub struct GiveError<R> {
    error: Error,
    returned: R,
}

impl<R> GiveError<R> {
    #[cfg(feature = "serde")]
    pub(super) fn new(error: Error, returned: R) -> Self {
        Self { error, returned }
    }

    /// Returns why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the endpoint, or the value. It works as before.
    pub fn into_returned(self) -> R {
        self.returned
    }
}

impl<R> fmt::Display for GiveError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<R> fmt::Debug for GiveError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<R> std::error::Error for GiveError<R> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<R> From<GiveError<R>> for Error {
    fn from(error: GiveError<R>) -> Self {
        error.error
    }
}

/// Attempts to send one packet with these descriptors until the timeout, whole or not at all.
pub(super) fn send_descriptors(
    socket: &ForkGuardedFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    timeout: Timeout,
) -> io::Result<()> {
    loop {
        if socket::send_packet(socket, bytes, descriptors)? {
            return Ok(());
        }
        let Timeout::At(deadline) = timeout else { return Err(io::ErrorKind::TimedOut.into()) };
        if timeout.is_past() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        waiting::wait(socket, Readiness::Writable, deadline)?;
    }
}

impl TransferSocket {
    pub(super) fn new(socket: ForkGuardedFd, limit: u64) -> Self {
        Self { socket: Some(Arc::new(socket)), limit }
    }

    /// Over TCP.
    pub(super) fn none() -> Self {
        Self { socket: None, limit: 0 }
    }

    pub(super) fn socket(&self, action: &str) -> Result<&ForkGuardedFd> {
        match self.socket.as_deref() {
            Some(socket) if socket.is_from_this_process() => Ok(socket),
            Some(_) => Err(Error::forked(action)),
            None => Err(Error::new(
                ErrorKind::InvalidOptions,
                action,
                "a connection over TCP, which shares no memory",
                "one over a Unix socket",
                "connect to a path or an @name of the same machine",
            )),
        }
    }

    pub(super) fn give<T: Pass>(&self, what: T, timeout: Timeout) -> Result<(), GiveError<T::Returned>> {
        match self.try_give(&what, timeout) {
            // What moved to the other side is not closed here: its registration is transferred.
            Ok(()) => {
                drop(what);
                Ok(())
            }
            Err(error) => Err(GiveError { error, returned: what.into_returned() }),
        }
    }

    fn try_give<T: Pass>(&self, what: &T, timeout: Timeout) -> Result<()> {
        let action = "give an endpoint";
        let socket = self.socket(action)?;
        let file = what.open_transfer()?; // give-1
        send_descriptors(socket, GIVE, &[file.as_fd()], timeout).map_err(|error| {
            what.take_back_transfer(&file);
            give_error(action, error)
        }) // give-2; give-3
    }

    pub(super) fn give_descriptor(&self, descriptor: BorrowedFd<'_>, timeout: Timeout) -> Result<()> {
        let action = "give a descriptor";
        let socket = self.socket(action)?;
        send_descriptors(socket, GIVE, &[descriptor], timeout).map_err(|error| give_error(action, error))
    }

    pub(super) fn take<E: Take>(&self, timeout: Timeout) -> Result<E> {
        self.take_with(timeout, E::from_inherited)
    }

    pub(super) fn take_descriptor(&self, timeout: Timeout) -> Result<OwnedFd> {
        self.take_with(timeout, Ok)
    }

    fn take_with<R>(&self, timeout: Timeout, open: impl FnOnce(OwnedFd) -> Result<R>) -> Result<R> {
        let action = "take an endpoint";
        let (message, descriptors) = self.peek(action, timeout)?; // accept-1
        if message == OBJECT {
            let (found, expected, remedy) = ("a value", "an endpoint by itself", "take it with take_object");
            return Err(Error::new(ErrorKind::WrongType, action, found, expected, remedy));
        }
        let descriptors = if message == GIVE { descriptors } else { Vec::new() };
        let taken = match <[OwnedFd; 1]>::try_from(descriptors) {
            Ok([descriptor]) => open(descriptor), // accept-2
            Err(_) => Err(corrupt(action, "a packet without one, or with several", "one endpoint in each packet")),
        };
        if !taken.as_ref().is_err_and(stays) {
            self.drop_packet(); // accept-3
        }
        taken
    }

    /// Waits for the next packet. Returns copies of what is in it; the packet itself stays.
    pub(super) fn peek(&self, action: &str, timeout: Timeout) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
        let socket = self.socket(action)?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => disconnected(action),
            _ => Error::io(action, error, "try again"),
        };
        loop {
            if let Some(packet) = channel::peek_packet(socket, socket::MAX_DESCRIPTORS).map_err(failed)? {
                return Ok(packet);
            }
            let Timeout::At(deadline) = timeout else { return Err(nothing_there(action, "now")) };
            if timeout.is_past() {
                return Err(nothing_there(action, "before the deadline"));
            }
            waiting::wait(socket, Readiness::Readable, deadline).map_err(failed)?;
        }
    }

    /// Removes the packet that was peeked at.
    pub(super) fn drop_packet(&self) {
        if let Some(socket) = self.socket.as_deref() {
            let _ = socket::drop_packet(socket);
        }
    }

    /// The other side gets the end of what this side gives.
    pub(super) fn end_giving(&self) {
        if let Some(socket) = self.socket.as_deref().filter(|socket| socket.is_from_this_process()) {
            socket::shut_down_sending(socket);
        }
    }

    /// The other side can give nothing any more. What it gave and nobody took ends: the socket may
    /// stay open for the other half of this connection.
    pub(super) fn end_taking(&self) {
        if let Some(socket) = self.socket.as_deref().filter(|socket| socket.is_from_this_process()) {
            socket::shut_down_receiving(socket);
            socket::drop_packets(socket);
        }
    }
}

/// Returns whether a packet stays for another attempt: this one took nothing, and another may. What
/// can never be taken does not, or it would block what was given after it.
pub(super) fn stays(error: &Error) -> bool {
    let is_short = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOLCK));
    match error.kind() {
        ErrorKind::WrongType | ErrorKind::NoSpace | ErrorKind::Busy => true,
        ErrorKind::Io => error.source().and_then(|source| source.downcast_ref()).is_some_and(is_short),
        _ => false,
    }
}

pub(super) fn corrupt(action: &str, found: impl fmt::Display, expected: &str) -> Error {
    let remedy = "end the connection: the other side is not tombolo";
    Error::new(ErrorKind::Corrupt, action, found, expected, remedy)
}

pub(super) fn give_error(action: &str, error: io::Error) -> Error {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset, _) => disconnected(action),
        (io::ErrorKind::TimedOut, _) => Error::new(
            ErrorKind::TimedOut,
            action,
            "as many that the other side has not taken as fit into the socket",
            "room before the deadline",
            "have the other side take them, or give it more time",
        ),
        (_, Some(libc::ETOOMANYREFS)) => Error::io(
            action,
            error,
            "have the other processes of this user take what is on its way, or raise the limit of open files (`ulimit -n`)",
        ),
        _ => Error::io(action, error, "try again"),
    }
}

fn disconnected(action: &str) -> Error {
    Error::new(
        ErrorKind::Disconnected,
        action,
        "that the other side has left, died, or takes nothing",
        "it at the other end of the connection",
        "connect again",
    )
}

fn nothing_there(action: &str, when: &str) -> Error {
    Error::new(
        ErrorKind::TimedOut,
        action,
        format_args!("none {when}"),
        "one that the other side gave",
        "give one there, or wait longer",
    )
}
