//! Waiting for clients.
//!
//! What: a handshake needs several messages of the client, which may send none. So a listener keeps
//! all handshakes that have begun, each with a deadline, and goes on with those whose client has
//! answered. No client delays another. If there are too many, the others wait in the backlog of the
//! socket, and the oldest handshake is refused once it had the time that a client needs. That and
//! the deadlines are times of listening: while nobody calls `accept` they stand still.
//!
//! Crash, by step
//! - bind-1 directory locked, bind-2 file of a dead listener removed, bind-3 bound, bind-4
//!   listening, bind-5 directory unlocked. Death frees the lock. After bind-3 there is a file
//!   without a listener, which the next one replaces.
//! - A listener that leaves removes its file. One that is killed leaves it. Clients that were
//!   waiting, or in the middle of a handshake, get an error.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::connection::channel::Channel;
use crate::connection::client::{connect_unix, through_stream};
use crate::connection::connection::{Connection, Peer, PeerOrigin};
use crate::connection::handshake::{Failure, Handshake, Next, Refusal, Role};
use crate::connection::transfer::TransferSocket;
use crate::connection::waiting;
use crate::connection::{Address, Options};
use crate::endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::pipe::BytePipe;
use crate::region::directory::{DirectoryLock, unlink};
use crate::sys::clock::deadline_after;
use crate::sys::file::{self, FileId};
use crate::sys::fork::ForkGuardedFd;
use crate::sys::process;
use crate::sys::socket::{self, Readiness, UnixName};
use crate::wait::Timeout;

/// Handshakes at once.
const MAX_HANDSHAKES: usize = 64;

/// How long a handshake is not refused for the sake of others, if there are too many.
const MIN_HANDSHAKE_TIME: Duration = Duration::from_millis(500);

/// How long the address of a listener is waited for whose process is ending.
const ENDING_TIMEOUT: Duration = Duration::from_secs(1);

/// Clients that are accepted between two looks at those that were before.
const MAX_ACCEPTED_AT_ONCE: usize = 16;

/// Waits for clients at an address.
///
/// A Unix socket file is removed when the listener is dropped. The file of a listener that was
/// killed is replaced by the next one.
///
/// A forked child cannot use the listener of its parent.
///
/// # Examples
/// A server with a thread for each client:
/// ```no_run
/// use tombolo::connection::Listener;
///
/// for connection in Listener::bind("/run/user/1000/market")?.incoming() {
///     let mut connection = connection?;
///     std::thread::spawn(move || {
///         println!("{} connected", connection.peer());
///         while let Ok(request) = connection.recv_object::<String>() {
///             let _ = connection.send_object(&request);
///         }
///     });
/// }
/// # Ok::<(), tombolo::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: ForkGuardedFd,
    address: Address,
    options: Options,
    /// The socket file, if there is one.
    file: Option<(PathBuf, FileId)>,
    /// The oldest first.
    handshakes: VecDeque<Pending>,
    /// When the last call of `accept` returned.
    left: Instant,
    refused: u64,
    last_refusal: Option<Error>,
}

/// A client whose handshake has begun.
struct Pending {
    channel: Channel,
    handshake: Handshake,
    peer: Peer,
    /// Later by the times in which nobody listened. So is the deadline.
    begun: Instant,
    deadline: Option<Instant>,
    has_said_hello: bool,
    /// The welcome is to be sent. It needs memory and descriptors, which may be short for a while.
    needs_welcome: bool,
    is_welcomed: bool,
    /// This side's endpoint, in memory.
    pipe: Option<BytePipe>,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.peer, f)
    }
}

/// The socket of a listener, its address, and its file, if there is one.
type Listening = (ForkGuardedFd, Address, Option<(PathBuf, FileId)>);

/// Where a handshake stands.
enum Progress {
    Waiting,
    Complete,
    /// The client is refused, or gone.
    Failed(Failure),
    /// This process has no memory or no descriptors. The next call tries again.
    Short(Error),
}

impl Options {
    /// Begins to listen at an address.
    ///
    /// # Blocking
    /// Blocks for up to a second while a process that listens there is ending: it was killed, or
    /// exits. Over TCP it is not known whether it is. Blocks for up to half a second if another
    /// listener in the same directory was stopped while it began.
    ///
    /// # Errors
    /// - [`AddressInUse`](ErrorKind::AddressInUse): there is a listener, or another program.
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): there is a file that is no socket.
    /// - [`Permission`](ErrorKind::Permission): the directory cannot be written, or the socket file
    ///   there is of another user.
    /// - [`InvalidName`](ErrorKind::InvalidName), [`InvalidOptions`](ErrorKind::InvalidOptions):
    ///   this cannot be an address, or there is no key for TCP.
    /// - [`NotFound`](ErrorKind::NotFound): there is no such directory.
    /// - [`Io`](ErrorKind::Io): there is no such host, or another error of the system.
    /// - [`Busy`](ErrorKind::Busy): another process holds the directory's lock.
    pub fn listen<A: TryInto<Address>>(&self, address: A) -> Result<Listener>
    where
        Error: From<A::Error>,
    {
        let address = address.try_into()?.checked()?;
        self.check(&address)?;
        let action = format!("listen at {address}");
        let started = Instant::now();
        let (socket, address, file) = loop {
            match self.listen_at(&address, &action) {
                Err(error) if error.kind() == ErrorKind::AddressInUse && started.elapsed() < ENDING_TIMEOUT => {
                    if !address.unix_name().is_some_and(|name| is_owner_ending(&name)) {
                        return Err(error);
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                listening => break listening?,
            }
        };
        let options = self.clone();
        let (handshakes, left) = (VecDeque::new(), Instant::now());
        Ok(Listener { socket, address, options, file, handshakes, left, refused: 0, last_refusal: None })
    }

    fn listen_at(&self, address: &Address, action: &str) -> Result<Listening> {
        let failed = |error| Error::io(action, error, "choose another address");
        Ok(match address {
            Address::Path(path) => {
                let (socket, id) = self.listen_at_path(path, action)?;
                (socket, address.clone(), Some((path.clone(), id)))
            }
            Address::Abstract(name) => {
                let socket = socket::packet_socket().map_err(failed)?;
                let name = UnixName::Abstract(name.as_bytes());
                socket::bind(&socket, &name, self.socket_mode()).map_err(|error| bind_error(action, error))?;
                socket::permit_descriptors(&socket, false); // until a client is welcomed
                socket::listen(&socket, self.backlog).map_err(failed)?;
                (socket, address.clone(), None)
            }
            Address::Tcp(text) => {
                let addresses: Vec<_> = text.to_socket_addrs().map_err(failed)?.collect();
                let socket = socket::listen_tcp(&addresses).map_err(|error| bind_error(action, error))?;
                socket::listen(&socket, self.backlog).map_err(failed)?;
                let address = socket::local_address(&socket).map_err(failed)?;
                (socket, address.into(), None)
            }
        })
    }

    fn socket_mode(&self) -> u32 {
        self.mode.unwrap_or(if self.allowed_users.is_none() { 0o600 } else { 0o666 })
    }

    /// Listeners in a directory begin one after the other. So a socket file without a listener is
    /// one of a dead listener, not of one that has bound and does not listen yet.
    fn listen_at_path(&self, path: &Path, action: &str) -> Result<(ForkGuardedFd, FileId)> {
        let failed = |error| Error::io(action, error, "choose another address, or make its directory");
        let _lock = DirectoryLock::acquire(path, action)?; // bind-1; bind-5
        let name = UnixName::Path(path);
        let socket = socket::packet_socket().map_err(failed)?;
        let bind = || socket::bind(&socket, &name, self.socket_mode()); // bind-3
        match bind() {
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
                remove_stale(path, action)?; // bind-2
                bind().map_err(|error| bind_error(action, error))?;
            }
            bound => bound.map_err(failed)?,
        }
        let id = set_mode(path, self.socket_mode() & 0o777).map_err(failed)?;
        socket::permit_descriptors(&socket, false); // until a client is welcomed
        socket::listen(&socket, self.backlog).map_err(failed)?; // bind-4
        // Another one can have taken this file for a dead listener's if the directory has no locks.
        if file::metadata_at(path).map(|metadata| metadata.id).ok() != Some(id) {
            return Err(bind_error(action, io::Error::from_raw_os_error(libc::EADDRINUSE)));
        }
        Ok((socket, id))
    }
}

/// Sets the mode of the socket file that was just made, of which the umask may have forbidden parts
/// that were asked for. Not by its name: another user of the directory can put a link to
/// another file there.
fn set_mode(path: &Path, mode: u32) -> io::Result<FileId> {
    let pinned = File::from(file::pin(path)?);
    let metadata = pinned.metadata()?;
    if !metadata.file_type().is_socket() || metadata.uid() != process::effective_user() {
        return Err(io::Error::other("another file has replaced the socket"));
    }
    if metadata.mode() & 0o777 != mode {
        fs::set_permissions(file::descriptor_path(&pinned)?, Permissions::from_mode(mode))?;
    }
    Ok(file::metadata(&pinned)?.id)
}

/// Returns whether the address is about to be free: the process that listens there is ending, or it
/// is gone by now.
fn is_owner_ending(name: &UnixName<'_>) -> bool {
    match connect_unix(name) {
        Ok(socket) => socket::peer_credentials(&socket)
            .is_ok_and(|credentials| credentials.pid != 0 && process::is_pid_ending(credentials.pid)),
        Err(error) => matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOENT)),
    }
}

/// Removes the socket file of a listener that is gone. The caller has locked the directory.
fn remove_stale(path: &Path, action: &str) -> Result<()> {
    let failed = |error| Error::io(action, error, "choose another address");
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(failed)?,
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            action,
            "a file there that is no socket",
            "nothing, or the socket of a listener that has ended",
            "choose another address, or move the file away",
        ));
    }
    match connect_unix(&UnixName::Path(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => return Err(failed(error)),
        // It accepted, or there is something that does not accept such a socket.
        _ => return Err(bind_error(action, io::Error::from_raw_os_error(libc::EADDRINUSE))),
    }
    let owner = metadata.uid();
    if owner != process::effective_user() {
        return Err(Error::new(
            ErrorKind::Permission,
            action,
            format_args!("a socket file of user {owner} there, without a listener"),
            format_args!("one of user {}", process::effective_user()),
            "have that user remove it, or choose another address",
        ));
    }
    fs::remove_file(path).map_err(failed)
}

fn bind_error(action: &str, error: io::Error) -> Error {
    if error.raw_os_error() != Some(libc::EADDRINUSE) {
        return Error::io(action, error, "choose another address");
    }
    Error::new(
        ErrorKind::AddressInUse,
        action,
        "another listener there",
        "a free address",
        "end the process that listens (`ss -lp`), or choose another address",
    )
}

impl Listener {
    /// Begins to listen at an address, with default options: see [`Options::listen`].
    pub fn bind<A: TryInto<Address>>(address: A) -> Result<Self>
    where
        Error: From<A::Error>,
    {
        Options::new().listen(address)
    }

    /// Returns the address: a path as an absolute one, and the port that the system chose for port
    /// 0.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the connection to the next client that is allowed and has the key.
    ///
    /// A client that is not, or breaks off, is refused and is no error here. It gets an error
    /// itself; see [`refused`](Self::refused) and [`last_refusal`](Self::last_refusal). Clients
    /// that do not answer do not delay others.
    ///
    /// Between two calls nobody answers clients. They wait, for as long as their
    /// [`timeout`](Options::timeout) says, and their
    /// [`handshake_timeout`](Options::handshake_timeout) stands still. Serve a client in another
    /// thread if that can take long.
    ///
    /// # Blocking
    /// Blocks until there is such a client.
    ///
    /// # Errors
    /// - [`Io`](ErrorKind::Io), [`NoSpace`](ErrorKind::NoSpace): there are no descriptors or is no
    ///   memory left. No client is lost. Close some, or wait a moment, and call it again: it
    ///   returns the same error at once until there are.
    /// - [`Forked`](ErrorKind::Forked).
    pub fn accept(&mut self) -> Result<Connection> {
        self.accept_within(Timeout::UNLIMITED)
    }

    /// Like [`accept`](Self::accept), but fails with [`TimedOut`](ErrorKind::TimedOut) after
    /// `timeout`. Handshakes that have begun go on with the next call.
    pub fn accept_timeout(&mut self, timeout: Duration) -> Result<Connection> {
        self.accept_within(Timeout::after(timeout))
    }

    /// Returns an iterator that accepts one client after the other, without end. An error does not
    /// end it: see [`accept`](Self::accept).
    pub fn incoming(&mut self) -> Incoming<'_> {
        Incoming(self)
    }

    /// Returns how many clients were refused or broke off.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns why the last one of those was.
    pub fn last_refusal(&self) -> Option<&Error> {
        self.last_refusal.as_ref()
    }

    fn accept_within(&mut self, timeout: Timeout) -> Result<Connection> {
        let action = format!("accept a client at {}", self.address);
        if !self.socket.is_from_this_process() {
            return Err(Error::forked(action));
        }
        self.add_time(self.left.elapsed());
        let outcome = self.accept_until(timeout, action);
        self.left = Instant::now();
        outcome
    }

    /// Adds the time that nobody listened to those of all handshakes.
    fn add_time(&mut self, time: Duration) {
        for pending in &mut self.handshakes {
            pending.begun += time;
            pending.deadline = pending.deadline.and_then(|deadline| deadline.checked_add(time));
        }
    }

    fn accept_until(&mut self, timeout: Timeout, action: String) -> Result<Connection> {
        loop {
            let mut shortage = None;
            if let Some(connection) = self.advance(&mut shortage) {
                return Ok(connection);
            }
            let begun = self.begin_handshakes(&action);
            self.drop_late();
            if let Some(error) = shortage {
                return Err(error);
            }
            let begun = begun?;
            if timeout.is_past() {
                return Err(self.timed_out(action));
            }
            if begun == 0 {
                self.wait(timeout).map_err(|error| Error::io(&action, error, "listen again"))?;
            }
        }
    }

    fn timed_out(&self, action: String) -> Error {
        let found = match &self.last_refusal {
            None => "none before the deadline".to_string(),
            Some(error) => format!("none before the deadline (of {} refused, the last: {error})", self.refused),
        };
        Error::new(ErrorKind::TimedOut, action, found, "a client", "start one, with the same key, or wait longer")
    }

    /// Blocks until something may have happened.
    fn wait(&self, timeout: Timeout) -> io::Result<()> {
        let mut sockets: Vec<BorrowedFd<'_>> =
            self.handshakes.iter().map(|pending| pending.channel.socket.as_fd()).collect();
        let until = if let Timeout::At(deadline) = timeout { deadline } else { None };
        let mut deadline = self.handshakes.iter().filter_map(|pending| pending.deadline).chain(until).min();
        if self.has_room() {
            sockets.push(self.socket.as_fd());
        } else {
            // Then one of them can be refused.
            let room = self.handshakes.front().map(|oldest| oldest.begun + MIN_HANDSHAKE_TIME);
            deadline = deadline.into_iter().chain(room).min();
        }
        waiting::wait_any(&sockets, Readiness::Readable, deadline).map(drop)
    }

    /// Returns whether another handshake can begin.
    fn has_room(&self) -> bool {
        self.handshakes.len() < MAX_HANDSHAKES || self.index_to_refuse().is_some()
    }

    /// Which handshake is refused if there are too many: the oldest one, but rather one whose
    /// client has shown nothing yet.
    fn index_to_refuse(&self) -> Option<usize> {
        let is_old = |pending: &Pending| pending.begun.elapsed() >= MIN_HANDSHAKE_TIME;
        let is_unknown = |pending: &Pending| is_old(pending) && !pending.is_welcomed && !pending.needs_welcome;
        self.handshakes.iter().position(is_unknown).or_else(|| self.handshakes.iter().position(is_old))
    }

    /// Accepts clients that have connected. Returns how many.
    fn begin_handshakes(&mut self, action: &str) -> Result<usize> {
        for count in 0..MAX_ACCEPTED_AT_ONCE {
            if !self.has_room() {
                return Ok(count);
            }
            let accepted = socket::accept(&self.socket);
            let accepted = accepted.map_err(|error| Error::io(action, error, "call it again"))?;
            let Some(socket) = accepted else { return Ok(count) };
            if let Err(error) = self.begin_handshake(socket, action) {
                self.refuse(error);
            }
        }
        Ok(MAX_ACCEPTED_AT_ONCE)
    }

    fn begin_handshake(&mut self, socket: ForkGuardedFd, action: &str) -> Result<()> {
        let failed = |error| Error::io(action, error, "see what else closes descriptors");
        let (channel, peer) = if matches!(self.address, Address::Tcp(_)) {
            socket::set_up_tcp(&socket).map_err(failed)?;
            let address = socket::peer_address(&socket).map_err(failed)?;
            (Channel::tcp(socket), Peer(PeerOrigin::Network(address)))
        } else {
            let credentials = socket::peer_credentials(&socket).map_err(failed)?;
            let channel = Channel::unix(socket);
            if !self.options.allows(credentials.uid) {
                let _ = channel.send(&Refusal::WrongUser.message(), &[]);
                return Err(Error::new(
                    ErrorKind::Refused,
                    action,
                    Peer(PeerOrigin::Process(credentials)),
                    "one of a user that is allowed",
                    "run it as another user, or allow this one (`allowed_users`)",
                ));
            }
            (channel, Peer(PeerOrigin::Process(credentials)))
        };
        if self.handshakes.len() >= MAX_HANDSHAKES
            && let Some(oldest) = self.index_to_refuse().and_then(|index| self.handshakes.remove(index))
        {
            let _ = oldest.channel.send(&Refusal::Overloaded.message(), &[]);
            self.refuse(Error::new(
                ErrorKind::Busy,
                action,
                format_args!("{MAX_HANDSHAKES} clients that have not answered, {} first", oldest.peer),
                "fewer",
                "find out which clients connect and do not answer",
            ));
        }
        let action = format!("{action}, {peer}");
        let (key, limit) = (self.options.key.clone(), self.options.max_message_bytes);
        let handshake = Handshake::new(Role::Listener, channel.transport(), action, key, limit)?;
        self.handshakes.push_back(Pending {
            channel,
            handshake,
            peer,
            begun: Instant::now(),
            deadline: deadline_after(self.options.handshake_timeout),
            has_said_hello: false,
            needs_welcome: false,
            is_welcomed: false,
            pipe: None,
        });
        Ok(())
    }

    fn refuse(&mut self, error: Error) {
        self.refused += 1;
        self.last_refusal = Some(error);
    }

    /// Goes on with each handshake whose client has answered. Returns a connection that is
    /// complete. A shortage of this process does not keep those from it that need nothing more.
    fn advance(&mut self, shortage: &mut Option<Error>) -> Option<Connection> {
        let mut index = 0;
        while let Some(pending) = self.handshakes.get_mut(index) {
            match pending.advance(&self.options) {
                Progress::Waiting => index += 1,
                Progress::Short(error) => {
                    *shortage = Some(error);
                    index += 1;
                }
                Progress::Complete => return self.handshakes.remove(index).map(Pending::into_connection),
                Progress::Failed(failure) => {
                    if !failure.answer.is_empty() {
                        let _ = pending.channel.send(&failure.answer, &[]);
                    }
                    // Another process may only have looked whether there is a listener.
                    let counts = pending.has_said_hello || failure.error.kind() != ErrorKind::Disconnected;
                    self.handshakes.remove(index);
                    if counts {
                        self.refuse(failure.error);
                    }
                }
            }
        }
        None
    }

    /// Refuses the clients that have not answered in time. Those that wait for this side have.
    fn drop_late(&mut self) {
        let now = Instant::now();
        let is_late =
            |pending: &Pending| !pending.needs_welcome && pending.deadline.is_some_and(|deadline| now >= deadline);
        while let Some(index) = self.handshakes.iter().position(is_late) {
            let Some(late) = self.handshakes.remove(index) else { break };
            self.refuse(Error::new(
                ErrorKind::TimedOut,
                format_args!("accept a client at {}, {}", self.address, late.peer),
                format_args!("no answer within {:?}", self.options.handshake_timeout),
                "the handshake of tombolo",
                "see whether that process is stopped",
            ));
        }
    }
}

impl Pending {
    fn advance(&mut self, options: &Options) -> Progress {
        loop {
            if self.needs_welcome {
                match self.welcome(options) {
                    Ok(()) => (self.needs_welcome, self.is_welcomed) = (false, true),
                    Err(progress) => return progress,
                }
            }
            let message = match self.channel.recv() {
                Ok(None) => return Progress::Waiting,
                // A client has no descriptors to send. They are closed.
                Ok(Some((message, _))) => message,
                Err(error) => return Progress::Failed(self.broken(&error).into()),
            };
            self.has_said_hello = true;
            let (answer, next) = match self.handshake.receive(&message) {
                Ok(done) => done,
                Err(failure) => return Progress::Failed(failure),
            };
            if !answer.is_empty()
                && let Err(error) = self.channel.send(&answer, &[])
            {
                return Progress::Failed(self.broken(&error).into());
            }
            match next {
                Next::Welcome => self.needs_welcome = true,
                Next::Complete => return Progress::Complete,
                Next::Continue | Next::TakeWelcome => {}
            }
        }
    }

    /// welcome-1
    fn welcome(&mut self, options: &Options) -> Result<(), Progress> {
        let welcome = Handshake::welcome();
        if !self.channel.is_unix() {
            return self.channel.send(welcome, &[]).map_err(|error| Progress::Failed(self.broken(&error).into()));
        }
        let failed = |error: Error| match error.kind() {
            ErrorKind::Io | ErrorKind::NoSpace => Progress::Short(error),
            _ => Progress::Failed(error.into()),
        };
        let (ours, theirs) = options.create_pipe(self.handshake.limit()).map_err(failed)?;
        let file = endpoint::export_fd(&theirs).map_err(failed)?;
        // The client is allowed and has the key, and may give something as soon as it has this.
        socket::permit_descriptors(&self.channel.socket, true);
        match self.channel.send(welcome, &[file.as_fd()]) {
            Ok(()) => {
                self.pipe = Some(ours);
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => Err(Progress::Short(Error::io(
                "welcome a client",
                error,
                "have the processes of this user take what is on its way, or raise the limit of open files (`ulimit -n`)",
            ))),
            Err(error) => Err(Progress::Failed(self.broken(&error).into())),
        }
    }

    fn broken(&self, error: &io::Error) -> Error {
        let kind = match error.kind() {
            io::ErrorKind::InvalidData => ErrorKind::WrongVersion,
            _ => ErrorKind::Disconnected,
        };
        let found = if error.kind() == io::ErrorKind::UnexpectedEof {
            "that it ended the connection, or died".to_string()
        } else {
            error.to_string()
        };
        let action = format!("accept {}", self.peer);
        Error::new(kind, action, found, "the handshake of tombolo to its end", "see whether that client still runs")
    }

    /// The handshake is complete.
    fn into_connection(self) -> Connection {
        match self.pipe {
            Some(pipe) => {
                let transfers = TransferSocket::new(self.channel.socket, self.handshake.limit());
                Connection::through_memory(pipe, transfers, self.peer)
            }
            None => through_stream(self.channel.socket, self.handshake.limit(), self.peer),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Before the socket is closed: so no other process takes the file for a dead listener's.
        if let Some((path, id)) = self.file.take()
            && self.socket.is_from_this_process()
        {
            let _ = unlink(&path, id);
        }
    }
}

/// An iterator that accepts clients. Made by [`Listener::incoming`].
#[derive(Debug)]
#[must_use = "an iterator accepts nothing until it is used"]
pub struct Incoming<'a>(&'a mut Listener);

impl Iterator for Incoming<'_> {
    type Item = Result<Connection>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.accept())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another user of the directory can put a link in place of the socket file.
    #[test]
    fn socket_file_replaced_by_a_link_its_target_keeps_its_mode() {
        let directory = std::env::temp_dir().join(format!("tombolo-listener-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let [own, other, link] = ["own", "other", "link"].map(|name| directory.join(name));
        for path in [&own, &other] {
            socket::bind(socket::packet_socket().unwrap(), &UnixName::Path(path), 0o600).unwrap();
        }
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        set_mode(&own, 0o666).unwrap();
        assert_eq!(mode(&own), 0o666);
        set_mode(&link, 0o666).unwrap_err();
        fs::remove_file(&link).unwrap();
        fs::write(&link, "no socket").unwrap();
        set_mode(&link, 0o666).unwrap_err();
        assert_eq!((mode(&other), mode(&link) & 0o022), (0o600, 0));
        fs::remove_dir_all(&directory).unwrap();
    }
}
