//! Connecting to a listener.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::channel::Channel;
use crate::connection::connection::{Connection, Peer, PeerOrigin};
use crate::connection::handshake::{Handshake, Next, Role};
use crate::connection::stream::{StreamReceiver, StreamSender, StreamSocket};
use crate::connection::transfer::TransferSocket;
use crate::connection::waiting;
use crate::connection::{Address, Options};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupts;
use crate::sys::clock::{Deadline, deadline_after};
use crate::sys::fork::ForkGuardedFd;
use crate::sys::socket::{self, Readiness, UnixName};

/// Pauses between two attempts to find a listener.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// The side that connects.
#[derive(Debug)]
pub enum Client {}

impl Client {
    /// Connects to a listener, with default options: see [`Options::connect`].
    pub fn connect<A: TryInto<Address>>(address: A) -> Result<Connection>
    where
        Error: From<A::Error>,
    {
        Options::new().connect(address)
    }
}

impl Options {
    /// Connects to a listener.
    ///
    /// # Blocking
    /// Blocks until the listener has accepted, for as long as [`timeout`](Self::timeout) says, and
    /// before that until there is a listener, for as long as
    /// [`wait_for_listener`](Self::wait_for_listener) says. The lookup of a host name may take
    /// longer.
    ///
    /// # Errors
    /// - [`NotFound`](ErrorKind::NotFound): there is no listener.
    /// - [`Refused`](ErrorKind::Refused): one of the two has another key, or runs as a user that
    ///   the other does not allow.
    /// - [`TimedOut`](ErrorKind::TimedOut): the listener does not accept.
    /// - [`Busy`](ErrorKind::Busy): as many clients wait there as [`backlog`](Self::backlog) says,
    ///   for as long as `wait_for_listener` says; or too many handshakes have begun.
    /// - [`Permission`](ErrorKind::Permission): the mode of the socket file, or of its directory,
    ///   forbids it.
    /// - [`Disconnected`](ErrorKind::Disconnected): the listener ended meanwhile.
    /// - [`WrongVersion`](ErrorKind::WrongVersion): the listener is of another version, or is
    ///   something else.
    /// - [`InvalidName`](ErrorKind::InvalidName), [`InvalidOptions`](ErrorKind::InvalidOptions):
    ///   this cannot be an address, or there is no key for TCP.
    /// - [`Io`](ErrorKind::Io): there is no such host, there are no descriptors left, or another
    ///   error of the system.
    pub fn connect<A: TryInto<Address>>(&self, address: A) -> Result<Connection>
    where
        Error: From<A::Error>,
    {
        let address = address.try_into()?.checked()?;
        self.check(&address)?;
        let action = format!("connect to {address}");
        let search_deadline = deadline_after(self.listener_timeout);
        let mut deadline = None;
        let (channel, peer) = match address.unix_name() {
            Some(name) => {
                let socket = find_listener(&action, search_deadline, || connect_unix(&name))?;
                deadline = deadline_after(self.timeout);
                let credentials = socket::peer_credentials(&socket)
                    .map_err(|error| Error::io(&action, error, "use a newer kernel"))?;
                if !self.allows(credentials.uid) {
                    return Err(Error::new(
                        ErrorKind::Refused,
                        action,
                        format_args!("a listener of user {}", credentials.uid),
                        "one of a user that is allowed",
                        "see which program is at that address, or allow its user (`allowed_users`)",
                    ));
                }
                (Channel::unix(socket), Peer(PeerOrigin::Process(credentials)))
            }
            None => {
                let socket = find_listener(&action, search_deadline, || {
                    deadline = deadline_after(self.timeout);
                    connect_tcp(&address.to_string(), deadline)
                })?;
                let failed = |error| Error::io(&action, error, "try again");
                socket::set_up_tcp(&socket).map_err(failed)?;
                let address = socket::peer_address(&socket).map_err(failed)?;
                (Channel::tcp(socket), Peer(PeerOrigin::Network(address)))
            }
        };
        let (transport, key) = (channel.transport(), self.key.clone());
        let handshake = Handshake::new(Role::Client, transport, action.clone(), key, self.max_message_bytes)?;
        self.shake_hands(channel, handshake, peer, &action, deadline)
    }

    fn shake_hands(
        &self,
        mut channel: Channel,
        mut handshake: Handshake,
        peer: Peer,
        action: &str,
        deadline: Deadline,
    ) -> Result<Connection> {
        let mut sent = channel.send(handshake.hello(), &[]); // hello-1
        loop {
            // Before what was not sent is reported: a listener that refused has said why.
            let (message, descriptors) = match channel.recv() {
                Ok(Some(received)) => received,
                Err(error) => return Err(broken(action, error)),
                Ok(None) => {
                    sent.as_ref().map_err(|error| broken(action, io::Error::from(error.kind())))?;
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Err(Error::new(
                            ErrorKind::TimedOut,
                            action,
                            format_args!("no answer within {:?}", self.timeout),
                            "a listener that accepts",
                            "see whether it is stopped or busy, or wait longer (`timeout`)",
                        ));
                    }
                    let waited = waiting::wait(&channel.socket, Readiness::Readable, deadline);
                    waited.map_err(|error| broken(action, error))?;
                    continue;
                }
            };
            let (answer, next) = match handshake.receive(&message) {
                Ok(done) => done,
                Err(failure) => {
                    if !failure.answer.is_empty() {
                        let _ = channel.send(&failure.answer, &[]);
                    }
                    return Err(failure.error);
                }
            };
            if !answer.is_empty() {
                sent = channel.send(&answer, &[]); // proof-1
            }
            if next == Next::TakeWelcome {
                let limit = handshake.limit();
                if !channel.is_unix() {
                    channel.send(Handshake::ready(), &[]).map_err(|error| broken(action, error))?; // ready-1
                    return Ok(through_stream(channel.socket, limit, peer));
                }
                let Ok([descriptor]) = <[_; 1]>::try_from(descriptors) else {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        action,
                        "a welcome without a descriptor, or with several",
                        "one",
                        "see which program is at that address",
                    ));
                };
                let pipe = self.pipe_options(limit).from_fd(descriptor)?;
                channel.send(Handshake::ready(), &[]).map_err(|error| broken(action, error))?; // ready-1
                let transfers = TransferSocket::new(channel.socket, handshake.limit());
                return Ok(Connection::through_memory(pipe, transfers, peer));
            }
        }
    }
}

/// A connection over TCP, after its handshake.
pub(super) fn through_stream(socket: ForkGuardedFd, limit: u64, peer: Peer) -> Connection {
    let socket = StreamSocket::new(socket);
    let rx = StreamReceiver::new(Arc::clone(&socket), limit);
    Connection::through_stream(StreamSender::new(socket, limit), rx, peer)
}

/// An error of the socket in the middle of a handshake.
fn broken(action: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Error::new(
            ErrorKind::Disconnected,
            action,
            "that the listener ended the connection, or died",
            "it to accept",
            "see whether it still runs, and connect again",
        ),
        io::ErrorKind::InvalidData => {
            let expected = "the handshake of tombolo";
            Error::new(ErrorKind::WrongVersion, action, error, expected, "see which program is at that address")
        }
        _ => Error::io(action, error, "try again"),
    }
}

/// Tries until there is a listener, or until the deadline.
fn find_listener(
    action: &str,
    deadline: Deadline,
    mut connect: impl FnMut() -> io::Result<ForkGuardedFd>,
) -> Result<ForkGuardedFd> {
    let mut pause = FIRST_PAUSE;
    let interrupts = Interrupts::of_this_thread();
    loop {
        let error = match connect() {
            Ok(socket) => return Ok(socket),
            Err(error) => error,
        };
        let is_absent = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED));
        let is_full = error.raw_os_error() == Some(libc::EAGAIN);
        let rest = deadline.map_or(MAX_PAUSE, |deadline| deadline.saturating_duration_since(Instant::now()));
        if (is_absent || is_full) && !rest.is_zero() {
            if interrupts.take() {
                return Err(Error::interrupted(action));
            }
            interrupts.sleep(pause.min(rest));
            pause = MAX_PAUSE.min(2 * pause);
            continue;
        }
        return Err(match error.raw_os_error() {
            _ if is_absent => Error::new(
                ErrorKind::NotFound,
                action,
                "no listener",
                "one",
                "start it first, or wait for it (`wait_for_listener`)",
            ),
            _ if is_full => Error::new(
                ErrorKind::Busy,
                action,
                "that as many clients wait there as can",
                "a listener that accepts",
                "see whether it is stopped or busy, or wait for it (`wait_for_listener`)",
            ),
            Some(libc::EPROTOTYPE) => Error::new(
                ErrorKind::WrongVersion,
                action,
                "a socket of another type",
                "a listener of tombolo",
                "see which program is at that address",
            ),
            _ if error.kind() == io::ErrorKind::TimedOut => {
                Error::new(ErrorKind::TimedOut, action, "no answer", "one", "see whether that host can be reached")
            }
            _ => Error::io(action, error, "check the address"),
        });
    }
}

pub(super) fn connect_unix(name: &UnixName<'_>) -> io::Result<ForkGuardedFd> {
    let socket = socket::packet_socket()?;
    socket::connect(&socket, name)?;
    Ok(socket)
}

fn connect_tcp(text: &str, deadline: Deadline) -> io::Result<ForkGuardedFd> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    let addresses: Vec<_> = text.to_socket_addrs()?.collect();
    for (index, address) in addresses.iter().enumerate() {
        // An equal part of what is left, so that one that does not answer leaves time for others.
        let count = (addresses.len() - index) as u32;
        let now = Instant::now();
        let part = deadline.map(|deadline| now + deadline.saturating_duration_since(now) / count);
        outcome = connect_to(*address, part);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn connect_to(address: SocketAddr, deadline: Deadline) -> io::Result<ForkGuardedFd> {
    let socket = socket::begin_tcp_connection(address)?;
    while !socket::connect_outcome(&socket)? {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        waiting::wait(&socket, Readiness::Writable, deadline)?;
    }
    Ok(socket)
}
