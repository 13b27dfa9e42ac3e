//! Passing endpoints, namespaces and objects to a child process.
//!
//! The parent passes each under a label, with [`CommandExt::pass`]. The child takes it under the
//! same label, with [`take`].
//!
//! ```
//! use std::process::Command;
//! use tombolo::pipe::{self, BytePipe};
//! use tombolo::spawn::{self, CommandExt};
//!
//! # if std::env::var_os("TOMBOLO_END_parent").is_some() {
//! # let mut parent: BytePipe = spawn::take("parent")?;
//! # parent.send(b"hello from the child")?;
//! # return Ok(());
//! # }
//! let (mut ours, theirs) = pipe::Options::bytes().create_duplex()?;
//! let program = std::env::current_exe()?;
//! let mut child = Command::new(program).pass("parent", theirs)?.spawn()?;
//! // In the child: let mut parent: BytePipe = spawn::take("parent")?;
//! //               parent.send(b"hello from the child")?;
//! let mut message = Vec::new();
//! ours.recv(&mut message)?;
//! assert_eq!(message, b"hello from the child");
//! child.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the peer sees
//!
//! An endpoint travels in a descriptor that keeps it in use until the child takes it. At no instant
//! is it free, so the peer never mistakes the transfer for a death. If every process that has the
//! descriptor dies before one takes the endpoint, the peer gets `PeerDied`. Once the child has
//! taken it, only the death of the child counts, whatever other processes inherited the descriptor.
//!
//! # Why `spawn` is not `Command::spawn`
//!
//! [`Spawner::spawn`] does two things that cannot be done from outside of `Command::spawn`. It
//! keeps the descriptors from every other process that this one forks meanwhile. And it closes the
//! parent's copies as soon as the child has its own, or takes the endpoints back if there is no
//! child.

use std::borrow::BorrowMut;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::{Child, Command};
use std::sync::Arc;

use crate::broadcast::{self, BroadcastEndpoint};
use crate::endpoint::{self, Endpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::namespace::{Namespace, NamespaceBuilder};
use crate::object::array::Array;
use crate::object::atomic::{AtomicValue, Number};
use crate::object::barrier::Barrier;
use crate::object::bounded_semaphore::BoundedSemaphore;
use crate::object::condvar::Condvar;
use crate::object::element::Element;
use crate::object::event::Event;
use crate::object::list::List;
use crate::object::map::{Counter, Map, Set};
use crate::object::mutex::Mutex;
use crate::object::once::Once;
use crate::object::reentrant_mutex::ReentrantMutex;
use crate::object::rw_lock::RwLock;
use crate::object::semaphore::Semaphore;
use crate::object::value::Value;
use crate::pipe::{self, PipeEndpoint};
use crate::queue::{self, QueueEndpoint};
use crate::region::lifecycle::Registration;
use crate::rpc::{self, RpcEndpoint};
use crate::sys::fork::{self, ForkGuardedFd};
use crate::sys::process;
use crate::types::Shareable;

/// The environment variable that tells a child which descriptor belongs to this label.
fn variable(label: &str) -> String {
    format!("TOMBOLO_END_{label}")
}

/// Passes endpoints, namespaces and objects to the child of a [`Command`].
///
/// Works on a command and on what its methods return, `&mut Command`. See the
/// [module](self) for an example.
pub trait CommandExt: BorrowMut<Command> + Sized {
    /// Passes something to the child, under a label of letters, digits and underscores.
    ///
    /// An endpoint moves to the child. A [`Namespace`] or an object is passed by reference and
    /// shared. The child gets it with [`take`] under the same label.
    ///
    /// The command goes into a [`Spawner`]. Start the child with [`Spawner::spawn`].
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`] if the label is not one of letters, digits and underscores, or
    ///   was used before.
    /// - [`ErrorKind::InvalidOptions`] for half of a pipe that was split, and for an endpoint of a
    ///   queue in a namespace. Pass the whole pipe, or the namespace.
    /// - [`ErrorKind::Forked`] in a forked child.
    /// - [`ErrorKind::Io`] if there are no descriptors left.
    ///
    /// The endpoint is closed then, and so are those that were passed before.
    fn pass<T: Pass>(self, label: &str, what: T) -> Result<Spawner<Self>> {
        Spawner { command: self, transfers: Vec::new() }.pass(label, what)
    }
}

impl<C: BorrowMut<Command>> CommandExt for C {}

/// A [`Command`] and what its child will get. Made by [`CommandExt::pass`].
///
/// If it is dropped without [`spawn`](Self::spawn), the endpoints are closed as if they had been
/// dropped. Whatever happens, the command can be used again afterwards.
#[must_use = "nothing is passed on until `spawn` is called"]
pub struct Spawner<C: BorrowMut<Command>> {
    command: C,
    transfers: Vec<(String, Transfer)>,
}

/// Something on its way to another process. An endpoint that does not get there is closed.
pub(crate) struct Transfer {
    sender: Box<dyn sealed::TakeBack>,
    file: ForkGuardedFd,
    is_complete: bool,
}

impl Transfer {
    pub(crate) fn new(sender: Box<dyn sealed::TakeBack>, file: ForkGuardedFd) -> Self {
        Self { sender, file, is_complete: false }
    }

    /// The descriptor that travels.
    pub(crate) fn file(&self) -> &ForkGuardedFd {
        &self.file
    }

    /// The other process has its own copy of the descriptor.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.is_complete {
            self.sender.take_back(&self.file);
        }
    }
}

impl<C: BorrowMut<Command>> Spawner<C> {
    /// Passes one more thing. Blocks and fails like [`CommandExt::pass`].
    pub fn pass<T: Pass>(mut self, label: &str, what: T) -> Result<Self> {
        check_label(label)?;
        if self.transfers.iter().any(|(other, _)| other == label) {
            return Err(Error::new(
                ErrorKind::InvalidName,
                "pass something to a child under this label",
                format_args!("{label:?} for the second time"),
                "a label of its own for each",
                "choose another label",
            ));
        }
        let (sender, file) = what.export()?;
        let transfer = Transfer::new(sender, file);
        let announcement = process::describe_fd(transfer.file());
        self.transfers.push((label.to_string(), transfer));
        let announcement = announcement.map_err(|error| Error::io("pass something to a child", error, "try again"))?;
        self.command().env(variable(label), announcement);
        Ok(self)
    }

    /// Returns the command, to set arguments, environment and standard streams.
    ///
    /// It is std's. Its own `spawn`, `status` and `output` start a child that gets nothing. Use
    /// [`spawn`](Self::spawn), and then [`Child::wait`] or [`Child::wait_with_output`].
    pub fn command(&mut self) -> &mut Command {
        self.command.borrow_mut()
    }

    /// Starts the child. From now on the endpoints belong to it.
    ///
    /// # Blocking
    ///
    /// Like [`Command::spawn`], until the child runs its program.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`]. The endpoints are closed then. A forked child has nothing to
    /// pass on.
    pub fn spawn(mut self) -> io::Result<Child> {
        if self.transfers.iter().any(|(_, transfer)| !transfer.file.is_from_this_process()) {
            return Err(io::Error::other(Error::forked("pass something to a child")));
        }
        let descriptors: Arc<[RawFd]> =
            self.transfers.iter().map(|(_, transfer)| transfer.file.as_fd().as_raw_fd()).collect();
        process::inherit(self.command(), &descriptors);
        let child = fork::keeping(&descriptors, || self.command().spawn())?;
        for (_, transfer) in &mut self.transfers {
            transfer.complete();
        }
        Ok(child)
    }
}

impl<C: BorrowMut<Command>> Drop for Spawner<C> {
    /// Leaves the command without what was meant for one child.
    fn drop(&mut self) {
        for (label, _) in &self.transfers {
            self.command.borrow_mut().env_remove(variable(label));
        }
    }
}

impl<C: BorrowMut<Command>> fmt::Debug for Spawner<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.transfers.iter().map(|(label, _)| label);
        f.debug_struct("Spawner")
            .field("command", self.command.borrow())
            .field("labels", &labels.collect::<Vec<_>>())
            .finish()
    }
}

/// What can be passed to a child.
///
/// Every [`Endpoint`] can, by value. A [`Namespace`] and the objects of [`sync`](crate::sync) can,
/// by reference.
pub trait Pass: sealed::Pass {
    /// What a transfer over a [connection](crate#how-processes-meet) that fails gives back: the
    /// endpoint. Nothing of what is passed by reference.
    type Returned;

    #[doc(hidden)]
    fn into_returned(self) -> Self::Returned;
}

/// What a child can take: every [`Endpoint`], a [`Namespace`], and the objects of
/// [`sync`](crate::sync).
pub trait Take: sealed::Take {}

pub(crate) mod sealed {
    use std::os::fd::OwnedFd;

    use crate::error::Result;
    use crate::sys::fork::ForkGuardedFd;

    pub trait Pass {
        /// Returns the descriptor that travels, and what takes it back.
        fn export(self) -> Result<(Box<dyn TakeBack>, ForkGuardedFd)>;

        /// Returns the descriptor that travels, for a transfer that can be taken back.
        fn open_transfer(&self) -> Result<ForkGuardedFd>;

        fn take_back_transfer(&self, file: &ForkGuardedFd);
    }

    pub trait Take: Sized {
        fn from_inherited(descriptor: OwnedFd) -> Result<Self>;
    }

    pub trait TakeBack {
        /// Undoes the export, so that dropping this closes the endpoint.
        fn take_back(&self, file: &ForkGuardedFd);
    }

    /// What is shared is not given up.
    impl TakeBack for () {
        fn take_back(&self, _: &ForkGuardedFd) {}
    }
}

impl<E: Endpoint + 'static> Pass for E {
    type Returned = E;

    fn into_returned(self) -> E {
        self
    }
}

impl<E: Endpoint + 'static> sealed::Pass for E {
    fn export(self) -> Result<(Box<dyn sealed::TakeBack>, ForkGuardedFd)> {
        let file = self.open_transfer()?;
        Ok((Box::new(self), file))
    }

    fn open_transfer(&self) -> Result<ForkGuardedFd> {
        endpoint::export_fd(self)
    }

    fn take_back_transfer(&self, file: &ForkGuardedFd) {
        // Not the method of the `Arc` below: this endpoint is here.
        Registration::take_back(self.registration(), file);
    }
}

impl<E: Endpoint + 'static> sealed::TakeBack for E {
    fn take_back(&self, file: &ForkGuardedFd) {
        sealed::Pass::take_back_transfer(self, file);
    }
}

/// For an endpoint that somebody else drops, afterwards.
impl sealed::TakeBack for Arc<Registration> {
    fn take_back(&self, file: &ForkGuardedFd) {
        // If it was dropped before, nobody is left to close it: its end is a death.
        if Arc::strong_count(self) > 1 {
            Registration::take_back(self, file);
        }
    }
}

impl<E: Endpoint> Take for E {}

impl<E: Endpoint> sealed::Take for E {
    fn from_inherited(descriptor: OwnedFd) -> Result<Self> {
        <Self as endpoint::sealed::Sealed>::from_inherited(descriptor)
    }
}

/// For a type with `share` and `from_fd`.
macro_rules! shared {
    ($([$($generics:tt)*] $Type:ty),* $(,)?) => { $(
        impl<$($generics)*> Pass for &$Type {
            type Returned = ();

            fn into_returned(self) {}
        }

        impl<$($generics)*> sealed::Pass for &$Type {
            fn export(self) -> Result<(Box<dyn sealed::TakeBack>, ForkGuardedFd)> {
                Ok((Box::new(()), self.open_transfer()?))
            }

            fn open_transfer(&self) -> Result<ForkGuardedFd> {
                let file = self.share()?;
                let file = ForkGuardedFd::new(|| Ok(file));
                file.map_err(|error| Error::io("share a namespace", error, "try again"))
            }

            fn take_back_transfer(&self, _: &ForkGuardedFd) {}
        }

        impl<$($generics)*> Take for $Type {}

        impl<$($generics)*> $Type {
            /// Opens the one that the parent passed under this label, which can be done once.
            /// Blocks and fails like [`spawn::take`](crate::spawn::take).
            pub fn take(label: &str) -> Result<Self> {
                take(label)
            }
        }

        impl<$($generics)*> sealed::Take for $Type {
            fn from_inherited(descriptor: OwnedFd) -> Result<Self> {
                Self::from_fd(descriptor)
            }
        }
    )* };
}

shared!([] Namespace, [] Semaphore, [] BoundedSemaphore, [] Condvar, [] Event, [] Barrier, [] Once);
shared!(
    [T: Shareable] Value<T>, [T: Number] AtomicValue<T>, [T: Shareable] Array<T>, [T: Shareable] Mutex<T>,
    [T: Shareable] ReentrantMutex<T>, [T: Shareable] RwLock<T>,
    [E: Element + ?Sized] List<E>, [K: Element + ?Sized, V: Element + ?Sized] Map<K, V>,
    [K: Element + ?Sized] Set<K>, [K: Element + ?Sized] Counter<K>,
);

fn check_label(label: &str) -> Result<()> {
    if !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidName,
        "pass something to a child under this label",
        format_args!("{label:?}"),
        "letters, digits and underscores",
        "choose another label",
    ))
}

/// Takes what the parent passed under this label, with default options. Each can be taken once.
///
/// A call that fails with [`ErrorKind::WrongType`] has taken it, too. It cannot be taken again, and
/// the peer of an endpoint gets `PeerDied`.
///
/// To take an endpoint with other options use `take` of [`pipe::Options`], [`queue::Options`] or
/// [`NamespaceBuilder`].
///
/// # Blocking
///
/// Never for an endpoint. For a namespace or an object see [`Namespace::open`].
///
/// # Errors
///
/// - [`ErrorKind::NotFound`] if there is nothing under this label, or it was taken already.
/// - [`ErrorKind::WrongType`] if it is of another type.
/// - [`ErrorKind::InvalidName`] if this cannot be a label.
pub fn take<T: Take>(label: &str) -> Result<T> {
    T::from_inherited(take_inherited(label)?)
}

/// The descriptor behind a label.
pub(crate) fn take_inherited(label: &str) -> Result<OwnedFd> {
    check_label(label)?;
    let missing = |found: String| {
        Error::new(
            ErrorKind::NotFound,
            format_args!("take {label:?}"),
            found,
            "something that the parent passed",
            "pass it with CommandExt::pass, under the same label, and take it once",
        )
    };
    let variable = variable(label);
    let text = std::env::var(&variable).map_err(|_| missing(format!("no variable {variable}")))?;
    process::take_inherited(&text).ok_or_else(|| missing(format!("{variable}={text}, and no such descriptor")))
}

impl<M: Message + ?Sized> pipe::Options<M> {
    /// Takes the endpoint that the parent passed under this label. Blocks and fails like [`take`].
    pub fn take<E: PipeEndpoint<Message = M>>(&self, label: &str) -> Result<E> {
        self.from_fd(take_inherited(label)?)
    }
}

impl<M: Message + ?Sized> queue::Options<M> {
    /// Takes the endpoint that the parent passed under this label. Blocks and fails like [`take`].
    pub fn take<E: QueueEndpoint<Message = M>>(&self, label: &str) -> Result<E> {
        self.from_fd(take_inherited(label)?)
    }
}

impl<M: Message + ?Sized> broadcast::Options<M> {
    /// Takes the endpoint that the parent passed under this label. Blocks and fails like [`take`].
    pub fn take<E: BroadcastEndpoint<Message = M>>(&self, label: &str) -> Result<E> {
        self.from_fd(take_inherited(label)?)
    }
}

impl<Q: Message + ?Sized, A: Message + ?Sized> rpc::Options<Q, A> {
    /// Takes the endpoint that the parent passed under this label. Blocks and fails like [`take`].
    pub fn take<E: RpcEndpoint<Message = Q, Reply = A>>(&self, label: &str) -> Result<E> {
        self.from_fd(take_inherited(label)?)
    }
}

impl NamespaceBuilder {
    /// Opens the namespace that the parent passed under this label. Blocks and fails like [`take`].
    pub fn take(&self, label: &str) -> Result<Namespace> {
        self.from_fd(take_inherited(label)?)
    }
}
