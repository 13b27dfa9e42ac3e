//! A connection, and its two halves.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::connection::stream::{StreamReceiver, StreamSender};
use crate::connection::transfer::{GiveError, TransferSocket};
use crate::error::{RecvError, Result, SendError};
use crate::message::Messages;
use crate::message::sealed::Receive;
use crate::pipe::{BytePipe, ByteReceiver, ByteSender};
use crate::spawn::{Pass, Take};
use crate::sys::socket::Credentials;
use crate::wait::Timeout;

/// What is known of the other side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub(super) PeerOrigin);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerOrigin {
    Process(Credentials),
    Network(SocketAddr),
}

impl Peer {
    fn credentials(&self) -> Option<Credentials> {
        match self.0 {
            PeerOrigin::Process(credentials) => Some(credentials),
            PeerOrigin::Network(_) => None,
        }
    }

    /// Returns its process, as the kernel recorded it: the one that connected, or the one that
    /// began to listen. None over TCP, and if the process is in a PID namespace that this one
    /// cannot see.
    ///
    /// The number may mean another process by now.
    pub fn pid(&self) -> Option<u32> {
        self.credentials().map(|credentials| credentials.pid).filter(|&pid| pid != 0)
    }

    /// Returns the effective user of that process, as the kernel recorded it. None over TCP.
    pub fn uid(&self) -> Option<u32> {
        self.credentials().map(|credentials| credentials.uid)
    }

    /// Returns the effective group of that process, as the kernel recorded it. None over TCP.
    pub fn gid(&self) -> Option<u32> {
        self.credentials().map(|credentials| credentials.gid)
    }

    /// Returns its address. None over a Unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.0 {
            PeerOrigin::Process(_) => None,
            PeerOrigin::Network(address) => Some(address),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PeerOrigin::Process(Credentials { pid: 0, uid, .. }) => write!(f, "a process of user {uid}"),
            PeerOrigin::Process(Credentials { pid, uid, .. }) => write!(f, "process {pid} of user {uid}"),
            PeerOrigin::Network(address) => address.fmt(f),
        }
    }
}

/// How messages travel.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and on the path of a message")]
enum SendLink {
    Memory(ByteSender),
    Stream(StreamSender),
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the same")]
enum RecvLink {
    Memory(ByteReceiver),
    Stream(StreamReceiver),
}

/// The sending half of a [`Connection`].
#[derive(Debug)]
pub struct Sender {
    link: SendLink,
    transfers: TransferSocket,
}

/// The receiving half of a [`Connection`].
#[derive(Debug)]
pub struct Receiver {
    link: RecvLink,
    transfers: TransferSocket,
}

/// A connection to another process: byte messages in both directions, and endpoints that are handed
/// over.
///
/// Over a Unix socket messages go through memory, as in a [`BytePipe`]. Over TCP they go through
/// the socket.
///
/// When you drop it, the other side gets what was sent and then [`Closed`](RecvError::Closed). When
/// its process is killed, the other side gets [`PeerDied`](RecvError::PeerDied) instead.
#[derive(Debug)]
pub struct Connection {
    /// The outgoing direction.
    pub tx: Sender,
    /// The incoming direction.
    pub rx: Receiver,
    peer: Peer,
}

impl Connection {
    pub(super) fn through_memory(pipe: BytePipe, transfers: TransferSocket, peer: Peer) -> Self {
        let (tx, rx) = pipe.split();
        Self {
            tx: Sender { link: SendLink::Memory(tx), transfers: transfers.clone() },
            rx: Receiver { link: RecvLink::Memory(rx), transfers },
            peer,
        }
    }

    pub(super) fn through_stream(tx: StreamSender, rx: StreamReceiver, peer: Peer) -> Self {
        Self {
            tx: Sender { link: SendLink::Stream(tx), transfers: TransferSocket::none() },
            rx: Receiver { link: RecvLink::Stream(rx), transfers: TransferSocket::none() },
            peer,
        }
    }

    /// Returns the two halves, for two threads. Each direction ends when its half is dropped.
    ///
    /// Over TCP the other side notices only when both are dropped that nobody receives.
    pub fn split(self) -> (Sender, Receiver) {
        (self.tx, self.rx)
    }

    /// Returns what is known of the other side.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Returns whether messages go through memory. If not, endpoints cannot be handed over.
    pub fn is_shared_memory(&self) -> bool {
        matches!(self.tx.link, SendLink::Memory(_))
    }

    /// Sends one message. See [`Sender::send`].
    pub fn send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.tx.send(message)
    }

    /// Sends one message if that needs no waiting. See [`Sender::try_send`].
    pub fn try_send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.tx.try_send(message)
    }

    /// Sends one message, and waits for at most `timeout`. See [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, message: impl AsRef<[u8]>, timeout: Duration) -> Result<(), SendError> {
        self.tx.send_timeout(message, timeout)
    }

    /// Sends one message, and waits until `deadline` at most. See [`Sender::send_deadline`].
    pub fn send_deadline(&mut self, message: impl AsRef<[u8]>, deadline: Option<Instant>) -> Result<(), SendError> {
        self.tx.send_deadline(message, deadline)
    }

    /// Receives one message. See [`Receiver::recv`].
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.rx.recv(message)
    }

    /// Receives one message if there is one. See [`Receiver::try_recv`].
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.rx.try_recv(message)
    }

    /// Receives one message, and waits for at most `timeout`. See [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.rx.recv_timeout(message, timeout)
    }

    /// Receives one message, and waits until `deadline` at most. See [`Receiver::recv_deadline`].
    pub fn recv_deadline(&mut self, message: &mut Vec<u8>, deadline: Option<Instant>) -> Result<usize, RecvError> {
        self.rx.recv_deadline(message, deadline)
    }

    /// Returns an iterator over messages. See [`Receiver::iter`].
    pub fn iter(&mut self) -> Messages<&mut Receiver> {
        self.rx.iter()
    }

    /// Receives one message into a buffer. See [`Receiver::recv_into`].
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.rx.recv_into(buffer)
    }

    /// Blocks until there is something to receive. See [`Receiver::poll`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.rx.poll(timeout)
    }

    /// Hands an endpoint over. See [`Sender::give`].
    pub fn give<T: Pass>(&mut self, what: T) -> Result<(), GiveError<T::Returned>> {
        self.tx.give(what)
    }

    /// Hands an endpoint over, and waits for at most `timeout`. See [`Sender::give_timeout`].
    pub fn give_timeout<T: Pass>(&mut self, what: T, timeout: Duration) -> Result<(), GiveError<T::Returned>> {
        self.tx.give_timeout(what, timeout)
    }

    /// Gives the other side a copy of a descriptor. See [`Sender::give_fd`].
    pub fn give_fd(&mut self, descriptor: impl AsFd) -> Result<()> {
        self.tx.give_fd(descriptor)
    }

    /// Gives the other side a copy of a descriptor, and waits for at most `timeout`. See
    /// [`Sender::give_fd_timeout`].
    pub fn give_fd_timeout(&mut self, descriptor: impl AsFd, timeout: Duration) -> Result<()> {
        self.tx.give_fd_timeout(descriptor, timeout)
    }

    /// Takes what the other side gave. See [`Receiver::take`].
    pub fn take<E: Take>(&mut self) -> Result<E> {
        self.rx.take()
    }

    /// Takes what the other side gave, and waits for at most `timeout`. See
    /// [`Receiver::take_timeout`].
    pub fn take_timeout<E: Take>(&mut self, timeout: Duration) -> Result<E> {
        self.rx.take_timeout(timeout)
    }

    /// Takes what the other side gave, if there is something. See [`Receiver::try_take`].
    pub fn try_take<E: Take>(&mut self) -> Result<E> {
        self.rx.try_take()
    }

    /// Takes what the other side gave, as a descriptor. See [`Receiver::take_fd`].
    pub fn take_fd(&mut self) -> Result<OwnedFd> {
        self.rx.take_fd()
    }

    /// Takes what the other side gave as a descriptor, and waits for at most `timeout`. See
    /// [`Receiver::take_fd_timeout`].
    pub fn take_fd_timeout(&mut self, timeout: Duration) -> Result<OwnedFd> {
        self.rx.take_fd_timeout(timeout)
    }
}

impl Sender {
    /// Sends one message: a slice or a vector of bytes, or a string.
    ///
    /// # Blocking
    /// Blocks while there is no room. Through memory it makes no system call if there is room,
    /// unless the other side sleeps.
    ///
    /// # Errors
    /// Those of [`ByteSender::send`]. The message was not sent.
    ///
    /// Over TCP a message is sent when the kernel has it. [`PeerDied`](SendError::PeerDied) means
    /// then that the other side died, left, or cannot be reached, and messages that the kernel had
    /// may be lost. [`Closed`](SendError::Closed) means that something in this process closed the
    /// socket.
    pub fn send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.send_within(message.as_ref(), Timeout::UNLIMITED)
    }

    /// Like [`send`](Self::send), but returns [`Full`](SendError::Full) instead of blocking.
    ///
    /// Long messages cannot be sent without blocking. They are
    /// [`TooLarge`](SendError::TooLarge) here: see [`ByteSender::try_send`]. Over TCP the limit is
    /// 64 KiB.
    pub fn try_send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.send_within(message.as_ref(), Timeout::NonBlocking)
    }

    /// Like [`send`](Self::send), but returns [`TimedOut`](SendError::TimedOut) after `timeout`.
    pub fn send_timeout(&mut self, message: impl AsRef<[u8]>, timeout: Duration) -> Result<(), SendError> {
        self.send_within(message.as_ref(), Timeout::after(timeout))
    }

    /// Like [`send_timeout`](Self::send_timeout), but returns at `deadline`. With `None` it never
    /// times out.
    pub fn send_deadline(&mut self, message: impl AsRef<[u8]>, deadline: Option<Instant>) -> Result<(), SendError> {
        self.send_within(message.as_ref(), Timeout::At(deadline))
    }

    fn send_within(&mut self, message: &[u8], timeout: Timeout) -> Result<(), SendError> {
        match (&mut self.link, timeout) {
            (SendLink::Memory(tx), Timeout::NonBlocking) => tx.try_send(message),
            (SendLink::Memory(tx), Timeout::At(deadline)) => tx.send_deadline(message, deadline),
            (SendLink::Stream(tx), timeout) => tx.send(message, timeout),
        }
    }

    /// Hands something over to the other side: an [endpoint](crate::Endpoint) of a pipe, a queue or
    /// a broadcast, by value; a [`Namespace`](crate::Namespace) or an object of
    /// [`sync`](crate::sync), by reference. The other side gets it with [`take`](Receiver::take),
    /// in the order in which it was given. There is no order between what is given and messages.
    ///
    /// At no instant is the endpoint free: it is in use as long as this process, the socket or the
    /// other side has it. If the other side dies before it has taken it, or drops its connection,
    /// those at the other end of the pipe, queue or broadcast get
    /// [`PeerDied`](RecvError::PeerDied).
    ///
    /// # Blocking
    /// Blocks while the socket is full: of what was given, some hundreds wait for the other side.
    ///
    /// # Errors
    /// - [`Disconnected`](crate::ErrorKind::Disconnected): the other side has left or died.
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions): a connection over TCP, half of a
    ///   pipe that was split, or an endpoint of a queue in a namespace.
    /// - [`Io`](crate::ErrorKind::Io): there are no descriptors left, or too many are on their way
    ///   between processes of this user.
    /// - [`Forked`](crate::ErrorKind::Forked).
    ///
    /// The error [returns](GiveError::into_returned) the endpoint, which works as before.
    ///
    /// # Examples
    /// ```
    /// use tombolo::connection::{Client, Listener};
    /// use tombolo::pipe;
    ///
    /// # let address = format!("@tombolo-give-{}", std::process::id());
    /// # let address = address.as_str();
    /// let mut listener = Listener::bind(address)?; // such as "@market"
    /// // In another process:
    /// //     let mut client = Client::connect("@market")?;
    /// //     let mut prices: pipe::Receiver<u64> = client.take()?;
    /// # let client = std::thread::spawn({ let address = address.to_string(); move || {
    /// #     let mut client = Client::connect(&address)?;
    /// #     let mut prices: pipe::Receiver<u64> = client.take()?;
    /// #     Ok::<u64, tombolo::Error>(prices.recv().unwrap())
    /// # }});
    ///
    /// let mut connection = listener.accept()?;
    /// let (mut tx, rx) = pipe::Options::<u64>::new().create()?;
    /// connection.give(rx)?;
    /// tx.send(101)?; // from now on without any socket
    /// # assert_eq!(client.join().unwrap()?, 101);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn give<T: Pass>(&mut self, what: T) -> Result<(), GiveError<T::Returned>> {
        self.transfers.give(what, Timeout::UNLIMITED)
    }

    /// Like [`give`](Self::give), but fails with [`TimedOut`](crate::ErrorKind::TimedOut) after
    /// `timeout`.
    pub fn give_timeout<T: Pass>(&mut self, what: T, timeout: Duration) -> Result<(), GiveError<T::Returned>> {
        self.transfers.give(what, Timeout::after(timeout))
    }

    /// Gives the other side a copy of a descriptor: of a file, a socket, or what
    /// [`into_fd`](crate::Endpoint::into_fd) made. Blocks and fails like [`give`](Self::give).
    pub fn give_fd(&mut self, descriptor: impl AsFd) -> Result<()> {
        self.transfers.give_descriptor(descriptor.as_fd(), Timeout::UNLIMITED)
    }

    /// Like [`give_fd`](Self::give_fd), but fails with [`TimedOut`](crate::ErrorKind::TimedOut)
    /// after `timeout`.
    pub fn give_fd_timeout(&mut self, descriptor: impl AsFd, timeout: Duration) -> Result<()> {
        self.transfers.give_descriptor(descriptor.as_fd(), Timeout::after(timeout))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.transfers.end_giving();
    }
}

impl Receiver {
    /// Receives one message into `message`, whose old content it replaces. Returns its length in
    /// bytes.
    ///
    /// # Blocking
    /// Blocks until a whole message is there.
    ///
    /// # Errors
    /// Those of [`ByteReceiver::recv`]. Over TCP [`PeerDied`](RecvError::PeerDied) can also mean
    /// that the other side cannot be reached any more: the kernel gives up after 25 seconds
    /// without an answer. If something that this side sent is on its way, it gives up later, after
    /// about 15 minutes (net.ipv4.tcp_retries2): use a timeout to notice it earlier.
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    /// What has come of a message by then is kept for the next call.
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::after(timeout))
    }

    /// Like [`recv_timeout`](Self::recv_timeout), but returns at `deadline`. With `None` it never
    /// times out.
    pub fn recv_deadline(&mut self, message: &mut Vec<u8>, deadline: Option<Instant>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::At(deadline))
    }

    /// Receives one message into `buffer`. Returns its length in bytes.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv), and [`BufferTooSmall`](RecvError::BufferTooSmall) with the
    /// length that is needed. The message can still be received then.
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        match &mut self.link {
            RecvLink::Memory(rx) => rx.recv_into(buffer),
            RecvLink::Stream(rx) => rx.recv_into(buffer, Timeout::UNLIMITED),
        }
    }

    /// Blocks until there is something to receive: a message, or the end of the other side, which
    /// the next `recv` returns. Returns false when `timeout` has passed.
    ///
    /// What was given does not count: see [`take`](Self::take).
    ///
    /// # Blocking
    /// Up to `timeout`.
    ///
    /// # Errors
    /// Those of [`ByteReceiver::poll`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        match &mut self.link {
            RecvLink::Memory(rx) => rx.poll(timeout),
            RecvLink::Stream(rx) => rx.poll(timeout),
        }
    }

    /// Returns an iterator that blocks for each message, until the other side has left.
    pub fn iter(&mut self) -> Messages<&mut Self> {
        Messages::blocking(self)
    }

    /// Returns an iterator over the messages that are there already.
    pub fn try_iter(&mut self) -> Messages<&mut Self> {
        Messages::non_blocking(self)
    }

    fn recv_within(&mut self, message: &mut Vec<u8>, timeout: Timeout) -> Result<usize, RecvError> {
        match (&mut self.link, timeout) {
            (RecvLink::Memory(rx), Timeout::NonBlocking) => rx.try_recv(message),
            (RecvLink::Memory(rx), Timeout::At(deadline)) => rx.recv_deadline(message, deadline),
            (RecvLink::Stream(rx), timeout) => rx.recv(message, timeout),
        }
    }

    /// Takes what the other side gave, with default options. Use [`take_fd`](Self::take_fd) and the
    /// `from_fd` of its options for others.
    ///
    /// # Blocking
    /// Blocks until there is something.
    ///
    /// # Errors
    /// - [`Disconnected`](crate::ErrorKind::Disconnected): the other side has left or died, and
    ///   everything that it gave was taken.
    /// - [`WrongType`](crate::ErrorKind::WrongType): it is something else, or a value. It can still
    ///   be taken as what it is.
    /// - [`Io`](crate::ErrorKind::Io), [`NoSpace`](crate::ErrorKind::NoSpace): there are no
    ///   descriptors or is no memory left, or it needs more memory than this process can have. It
    ///   can still be taken, as a descriptor by [`take_fd`](Self::take_fd), too. It is dropped if
    ///   `Io` means something else, such as a descriptor that cannot be read.
    /// - [`Busy`](crate::ErrorKind::Busy): another process holds the lock that is needed to join a
    ///   namespace, for 5 seconds, which no timeout shortens. It can still be taken.
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions): a connection over TCP.
    /// - Those of `from_fd`, for what is damaged or no endpoint. It is dropped.
    pub fn take<E: Take>(&mut self) -> Result<E> {
        self.transfers.take(Timeout::UNLIMITED)
    }

    /// Like [`take`](Self::take), but fails with [`TimedOut`](crate::ErrorKind::TimedOut) after
    /// `timeout`.
    pub fn take_timeout<E: Take>(&mut self, timeout: Duration) -> Result<E> {
        self.transfers.take(Timeout::after(timeout))
    }

    /// Like [`take`](Self::take), but fails with [`TimedOut`](crate::ErrorKind::TimedOut) if there
    /// is nothing.
    pub fn try_take<E: Take>(&mut self) -> Result<E> {
        self.transfers.take(Timeout::NonBlocking)
    }

    /// Like [`take_fd`](Self::take_fd), but fails with [`TimedOut`](crate::ErrorKind::TimedOut)
    /// after `timeout`.
    pub fn take_fd_timeout(&mut self, timeout: Duration) -> Result<OwnedFd> {
        self.transfers.take_descriptor(Timeout::after(timeout))
    }

    /// Takes what the other side gave as a descriptor, for `from_fd` of [`pipe::Options`],
    /// [`queue::Options`], [`broadcast::Options`] or [`NamespaceBuilder`]. Blocks and fails like
    /// [`take`](Self::take).
    ///
    /// [`pipe::Options`]: crate::pipe::Options
    /// [`queue::Options`]: crate::queue::Options
    /// [`broadcast::Options`]: crate::broadcast::Options
    /// [`NamespaceBuilder`]: crate::NamespaceBuilder
    pub fn take_fd(&mut self) -> Result<OwnedFd> {
        self.transfers.take_descriptor(Timeout::UNLIMITED)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.transfers.end_taking();
    }
}

impl Receive for Receiver {
    type Message = Vec<u8>;

    fn receive(&mut self, timeout: Timeout) -> Result<Vec<u8>, RecvError> {
        let mut message = Vec::new();
        self.recv_within(&mut message, timeout)?;
        Ok(message)
    }
}

impl IntoIterator for Receiver {
    type Item = Result<Vec<u8>, RecvError>;
    type IntoIter = Messages<Self>;

    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

#[cfg(feature = "serde")]
mod serde {
    use std::time::{Duration, Instant};

    use ::serde::Serialize;
    use ::serde::de::DeserializeOwned;

    use super::{Connection, Receiver, Sender};
    use crate::connection::transfer::GiveError;
    use crate::error::{RecvError, Result, SendError};
    use crate::message::sealed::Receive;
    use crate::serialized::{decode, encode, recv_object_methods, send_object_methods};
    use crate::wait::Timeout;

    send_object_methods!(Sender, "tombolo::pipe::Options::bytes().create()");
    recv_object_methods!(Receiver);
    send_object_methods!(Connection, "tombolo::pipe::Options::bytes().create_duplex()", tx);
    recv_object_methods!(Connection, rx);

    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    impl Sender {
        /// Hands a value over that serde can serialise, with the endpoints, namespaces and objects
        /// in it, at any depth and up to 252. Needs the feature `serde`.
        ///
        /// What is in it travels as with [`give`](Self::give): endpoints move. The other side gets
        /// the value with [`take_object`](Receiver::take_object), or nothing of it. Values and what
        /// was given by itself are in one order. There is no order between them and messages: the
        /// other side must know which of the two comes next, from what the programs agree on or
        /// from the message before. If it does, it can call `recv` and `take_object` in the order
        /// of `send` and `give_object` here.
        ///
        /// A value of plain data is faster by [`send_object`](Self::send_object).
        ///
        /// # Blocking
        /// As [`give`](Self::give).
        ///
        /// # Errors
        /// As for [`give`](Self::give), and
        /// - [`NotSerializable`](crate::ErrorKind::NotSerializable): serde cannot serialise it.
        /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions): it has more in it than 252, or
        ///   its bytes are more than
        ///   [`max_message_bytes`](crate::connection::Options::max_message_bytes).
        /// - [`NoSpace`](crate::ErrorKind::NoSpace): there is no memory for its bytes.
        ///
        /// The error [returns](GiveError::into_returned) the value. The endpoints in it work as
        /// before.
        ///
        /// # Examples
        /// ```
        /// use tombolo::connection::{Client, Listener};
        /// use tombolo::pipe;
        ///
        /// # let address = format!("@tombolo-give-object-{}", std::process::id());
        /// # let address = address.as_str();
        /// let mut listener = Listener::bind(address)?; // such as "@market"
        /// // In another process:
        /// //     let mut client = Client::connect("@market")?;
        /// //     let (symbol, mut prices): (String, pipe::Receiver<u64>) = client.take_object()?;
        /// # let client = std::thread::spawn({ let address = address.to_string(); move || {
        /// #     let mut client = Client::connect(&address)?;
        /// #     let (symbol, mut prices): (String, pipe::Receiver<u64>) = client.take_object()?;
        /// #     Ok::<_, tombolo::Error>((symbol, prices.recv().unwrap()))
        /// # }});
        ///
        /// let mut connection = listener.accept()?;
        /// let (mut tx, rx) = pipe::Options::<u64>::new().create()?;
        /// connection.give_object(("TMBL".to_string(), rx))?;
        /// tx.send(101)?;
        /// # assert_eq!(client.join().unwrap()?, ("TMBL".to_string(), 101));
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn give_object<T: Serialize + DeserializeOwned>(&mut self, value: T) -> Result<(), GiveError<T>> {
            self.transfers.give_object(value, Timeout::UNLIMITED)
        }

        /// Like [`give_object`](Self::give_object), but fails with
        /// [`TimedOut`](crate::ErrorKind::TimedOut) after `timeout`.
        pub fn give_object_timeout<T: Serialize + DeserializeOwned>(
            &mut self,
            value: T,
            timeout: Duration,
        ) -> Result<(), GiveError<T>> {
            self.transfers.give_object(value, Timeout::after(timeout))
        }
    }

    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    impl Receiver {
        /// Takes a value that the other side gave with
        /// [`give_object`](Sender::give_object). What is in it has default options. Needs the
        /// feature `serde`.
        ///
        /// What [`recv_object`](Self::recv_object) says of peers that you do not trust applies
        /// here.
        ///
        /// # Blocking
        /// Blocks until there is something.
        ///
        /// # Errors
        /// - [`Disconnected`](crate::ErrorKind::Disconnected): the other side has left or died, and
        ///   everything that it gave was taken.
        /// - [`WrongType`](crate::ErrorKind::WrongType): what comes next was given by itself. It
        ///   can still be taken, with [`take`](Self::take).
        /// - [`Io`](crate::ErrorKind::Io), [`NoSpace`](crate::ErrorKind::NoSpace): there are not
        ///   enough descriptors for all that is in the value, or no memory for its bytes. It can
        ///   still be taken.
        /// - [`NotSerializable`](crate::ErrorKind::NotSerializable): it is not such a value, or
        ///   something in it is of another type or cannot be opened. It is dropped.
        /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions): a connection over TCP.
        /// - [`Corrupt`](crate::ErrorKind::Corrupt) and others of `from_fd`, for what is damaged.
        ///   It is dropped.
        ///
        /// When a value is dropped, the other ends of the endpoints in it get
        /// [`PeerDied`](RecvError::PeerDied), or [`Closed`](RecvError::Closed) if they had been
        /// opened already.
        pub fn take_object<T: DeserializeOwned>(&mut self) -> Result<T> {
            self.transfers.take_object(Timeout::UNLIMITED)
        }

        /// Like [`take_object`](Self::take_object), but fails with
        /// [`TimedOut`](crate::ErrorKind::TimedOut) after `timeout`.
        pub fn take_object_timeout<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<T> {
            self.transfers.take_object(Timeout::after(timeout))
        }

        /// Like [`take_object`](Self::take_object), but fails with
        /// [`TimedOut`](crate::ErrorKind::TimedOut) if there is nothing.
        pub fn try_take_object<T: DeserializeOwned>(&mut self) -> Result<T> {
            self.transfers.take_object(Timeout::NonBlocking)
        }
    }

    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    impl Connection {
        /// Hands a value over, with the endpoints in it. See [`Sender::give_object`].
        pub fn give_object<T: Serialize + DeserializeOwned>(&mut self, value: T) -> Result<(), GiveError<T>> {
            self.tx.give_object(value)
        }

        /// Takes a value that the other side gave. See [`Receiver::take_object`].
        pub fn take_object<T: DeserializeOwned>(&mut self) -> Result<T> {
            self.rx.take_object()
        }

        /// Takes a value that the other side gave, and waits for at most `timeout`. See
        /// [`Receiver::take_object_timeout`].
        pub fn take_object_timeout<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<T> {
            self.rx.take_object_timeout(timeout)
        }
    }
}
