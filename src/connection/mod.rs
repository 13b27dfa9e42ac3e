//! Listeners and clients: processes that are no relatives meet at an address, and hand endpoints
//! over. Needs the feature `connection`.
//!
//! A [`Listener`] waits at an [`Address`], a [`Client`] connects to it, and each has a
//! [`Connection`] then. Over a Unix socket its messages go through memory, and either side
//! [gives](Connection::give) pipes, queues, broadcasts, namespaces and objects to the other. With
//! the feature `serde` it gives a value with several of them in it (`give_object`). Over TCP the
//! same [`Connection`] carries messages between machines.
//!
//! ```
//! use tombolo::connection::{Client, Listener};
//!
//! # let address = format!("@tombolo-doc-{}", std::process::id());
//! # let address = address.as_str();
//! let mut listener = Listener::bind(address)?; // such as "@market", or "/run/market"
//! # let client = std::thread::spawn({ let address = address.to_string(); move || {
//! #     let mut connection = Client::connect(&address)?;
//! #     connection.send("hello").unwrap();
//! #     Ok::<(), tombolo::Error>(())
//! # }});
//! // In another process:
//! //     let mut connection = Client::connect("@market")?;
//! //     connection.send("hello")?;
//! let mut connection = listener.accept()?;
//! let mut message = Vec::new();
//! connection.recv(&mut message)?;
//! assert_eq!(message, b"hello");
//! # client.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Tasks
//!
//! Listeners and connections have no futures and no descriptors. An `accept` waits for several
//! clients that prove that they may connect, each with a time limit, and a message over TCP is
//! kept in parts until it is whole. Call them in a thread that may block. What they hand over has
//! futures (feature `async`):
//!
//! ```
//! use tombolo::connection::{Client, Listener};
//! use tombolo::{RecvError, queue};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let address = format!("@tombolo-doc-tasks-{}", std::process::id());
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let mut listener = Listener::bind(address.as_str())?;
//! let server = tokio::task::spawn_blocking(move || {
//!     let (mut jobs, worker) = queue::Options::<u64>::new().create_channel()?;
//!     listener.accept()?.give(worker)?;
//!     jobs.send(7)?;
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
//! });
//! // In another process:
//! let connect = move || Client::connect(address.as_str())?.take();
//! let mut worker: queue::Receiver<u64> = tokio::task::spawn_blocking(connect).await??;
//! # #[cfg(feature = "async")]
//! assert_eq!(worker.recv_async().await?, 7);
//! # server.await?.map_err(|error| error.to_string())?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # Permission to connect
//!
//! - Over a Unix socket each side asks the kernel as which user the other runs. By default both
//!   must be the same: see [`Options::allowed_users`].
//! - With a [key](Options::key) each side proves that it has the key, without showing it. Over TCP
//!   there must be one.
//!
//! Over TCP nothing is encrypted, and the proof is for the moment of connecting: a machine on the
//! way that can change packets can take a connection over. Use it within a network that you trust,
//! or through a tunnel.
//!
//! Over a Unix socket a program of an allowed user to which a client connects instead of the
//! listener can pass everything on between the two, and take what the listener gives. The key does
//! not prevent that. Allow only users that you trust with what is handed over.
//!
//! What is handed over is shared with the other side from then on, as the guide says of all
//! endpoints: it can read it, fill it, and write any bytes into it.

mod address;
mod channel;
mod client;
#[expect(clippy::module_inception, reason = "it is what the module is about")]
mod connection;
mod handshake;
mod listener;
#[cfg(feature = "serde")]
mod object;
mod stream;
mod transfer;
mod waiting;

use std::time::Duration;

pub use self::address::Address;
pub use self::client::Client;
pub use self::connection::{Connection, Peer, Receiver, Sender};
use self::handshake::Key;
pub use self::listener::{Incoming, Listener};
pub use self::transfer::GiveError;
use crate::error::{Error, ErrorKind, Result};
use crate::pipe::{self, BytePipe};
use crate::sys::process;
use crate::wait::WaitStrategy;

const DEFAULT_BACKLOG: u32 = 128;
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_CAPACITY: usize = 1 << 20;
const DEFAULT_MAX_MESSAGE_BYTES: u64 = 1 << 30;

/// Options to listen and to connect.
///
/// # Examples
/// ```
/// use tombolo::connection::Options;
///
/// let options = Options::new().key("a secret of both sides");
/// let listener = options.listen("127.0.0.1:0")?;
/// println!("clients connect to {}", listener.address());
/// # Ok::<(), tombolo::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options make nothing until `listen` or `connect` is called"]
pub struct Options {
    key: Option<Key>,
    /// None: only the user of this process.
    allowed_users: Option<Vec<u32>>,
    mode: Option<u32>,
    backlog: u32,
    handshake_timeout: Duration,
    timeout: Duration,
    listener_timeout: Duration,
    capacity: usize,
    max_message_bytes: u64,
    wait: WaitStrategy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            key: None,
            allowed_users: None,
            mode: None,
            backlog: DEFAULT_BACKLOG,
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            timeout: DEFAULT_TIMEOUT,
            listener_timeout: Duration::ZERO,
            capacity: DEFAULT_CAPACITY,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            wait: WaitStrategy::default(),
        }
    }
}

impl Options {
    /// The default: no key, only processes of the same user, messages of up to 1 GiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key, which both sides must have. Required over TCP.
    ///
    /// Choose it at random, of 16 bytes or more: from the proofs of a connection a key can be found
    /// out by trying, if it can be guessed.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(Key::new(key.as_ref()));
        self
    }

    /// The users as which the other side may run, by number, over a Unix socket. Unless set, only
    /// the effective user of this process.
    ///
    /// Both sides check. To serve another user, the listener must allow that user, and the client
    /// the listener's. What is handed over must be accessible to that user, too: an unnamed region
    /// is, and a named one if its mode permits it.
    ///
    /// In a user namespace all users without a number there have the same one, usually 65534. Do
    /// not allow that one, and use a key if this process has that number itself.
    pub fn allowed_users(mut self, users: impl IntoIterator<Item = u32>) -> Self {
        self.allowed_users = Some(users.into_iter().collect());
        self
    }

    /// The permissions of a listener's socket file. Unless set, 0o600, and 0o666 if other users are
    /// allowed.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// How many clients can wait for a listener to accept them. 128 unless set; the kernel has a
    /// limit of its own (net.core.somaxconn).
    pub fn backlog(mut self, clients: u32) -> Self {
        self.backlog = clients;
        self
    }

    /// How long a listener waits for the answers of one client, which does not delay others, while
    /// it is in [`accept`](Listener::accept). 5 seconds unless set.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How long a client waits until the listener has accepted it, without the time until there is
    /// one, or room in its backlog: see [`wait_for_listener`](Self::wait_for_listener). 30 seconds
    /// unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a client waits until there is a listener, and room in its
    /// [`backlog`](Self::backlog). Unless set, it does not.
    pub fn wait_for_listener(mut self, timeout: Duration) -> Self {
        self.listener_timeout = timeout;
        self
    }

    /// The size of a connection's ring in each direction, in bytes: see
    /// [`pipe::Options::capacity_bytes`]. That of the listener counts. Of no effect over TCP.
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// The longest message. The lower one of the two sides counts.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes as u64;
        self
    }

    /// What blocking calls of a connection through memory do while they wait.
    pub fn wait(mut self, wait: WaitStrategy) -> Self {
        self.wait = wait;
        self
    }

    /// Refuses what cannot work, before anything is made.
    fn check(&self, address: &Address) -> Result<()> {
        let (found, expected, remedy) = match &self.key {
            Some(key) if key.is_empty() => ("an empty key", "one that is hard to guess", "choose 16 bytes at random"),
            None if matches!(address, Address::Tcp(_)) => {
                ("no key", "one: anybody can reach a port of TCP", "give both sides the same key")
            }
            _ => return self.pipe_options(self.max_message_bytes).check_layout(),
        };
        Err(Error::new(ErrorKind::InvalidOptions, format_args!("use {address}"), found, expected, remedy))
    }

    fn allows(&self, user: u32) -> bool {
        match &self.allowed_users {
            Some(users) => users.contains(&user),
            None => user == process::effective_user(),
        }
    }

    /// The options of a pipe for messages of up to this length.
    fn pipe_options(&self, limit: u64) -> pipe::Options<[u8]> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        pipe::Options::bytes().capacity_bytes(self.capacity).max_message_bytes(limit).wait(self.wait)
    }

    fn create_pipe(&self, limit: u64) -> Result<(BytePipe, BytePipe)> {
        self.pipe_options(limit).create_duplex()
    }
}
