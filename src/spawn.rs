//! Handing ends of pipes and queues to a child process.
//!
//! An end travels by a descriptor that holds its seat until it arrives (`liveness.rs`): at no
//! instant is the seat free, so the peer never mistakes the journey for a death, and notices if the
//! last process dies that has the descriptor and has not picked the end up. From the pick-up on
//! only the child's death counts, whoever else has inherited the descriptor.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::{Child, Command};

use crate::endpoint::{self, Endpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::namespace::{Namespace, NamespaceBuilder};
use crate::pipe::{self, PipeEndpoint};
use crate::queue::{self, QueueEndpoint};
use crate::sys::fork::{self, ForkGuardedFd};
use crate::sys::process;

/// The environment variable that tells a child which descriptor is the end of this label.
fn variable(label: &str) -> String {
    format!("TOMBOLO_END_{label}")
}

/// A command that will be given ends of pipes and queues. The child picks them up with [`handed`].
///
/// ```
/// use std::process::Command;
/// use tombolo::Endpoint;
/// use tombolo::pipe::Pipe;
/// use tombolo::spawn::Handover;
///
/// # if std::env::var_os("TOMBOLO_END_parent").is_some() {
/// # let mut parent: Pipe = tombolo::spawn::handed("parent")?;
/// # parent.send(b"hello from the child")?;
/// # return Ok(());
/// # }
/// let (mut ours, theirs) = tombolo::pipe::Options::bytes().create_duplex()?;
/// let program = std::env::current_exe()?;
/// let mut child = Handover::new(Command::new(program)).give("parent", theirs)?.spawn()?;
/// // In the child: let mut parent: Pipe = tombolo::spawn::handed("parent")?;
/// //               parent.send(b"hello from the child")?;
/// let mut message = Vec::new();
/// ours.recv(&mut message)?;
/// assert_eq!(message, b"hello from the child");
/// child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Handover {
    command: Command,
    ends: Vec<Given>,
}

/// An end on its way: still closed properly if it does not get there.
struct Given {
    label: String,
    end: Box<dyn Passable>,
    file: ForkGuardedFd,
    arrived: bool,
}

trait Passable {
    fn take_back(&self, file: &ForkGuardedFd);
}

impl<E: Endpoint> Passable for E {
    fn take_back(&self, file: &ForkGuardedFd) {
        self.registration().take_back(file);
    }
}

/// What is shared is not given up.
struct Shared;

impl Passable for Shared {
    fn take_back(&self, _: &ForkGuardedFd) {}
}

impl Drop for Given {
    fn drop(&mut self) {
        if !self.arrived {
            self.end.take_back(&self.file);
        }
    }
}

impl Handover {
    /// Prepares a command; set its arguments before or through [`command`](Self::command).
    pub fn new(command: Command) -> Self {
        Self { command, ends: Vec::new() }
    }

    /// The command, for arguments, environment and standard streams.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Gives an end to the child, under a label that it will ask for.
    ///
    /// **Errors**: the label is not one of letters, digits and underscores, or was given already;
    /// the end is half of a split pipe; no descriptors. This end is closed then, and so are those
    /// that were given before.
    pub fn give<E: Endpoint + 'static>(self, label: &str, end: E) -> Result<Self> {
        self.check_label(label)?;
        let file = endpoint::export_fd(&end)?;
        self.add(label, Box::new(end), file)
    }

    /// Lets the child into a namespace, or a namespace of one object, under a label that it will ask for with
    /// [`Namespace::handed`], or the object's own `handed`.
    ///
    /// **Errors**: the label is not one of letters, digits and underscores, or was given already;
    /// no descriptors.
    pub fn share(self, label: &str, namespace: &Namespace) -> Result<Self> {
        self.check_label(label)?;
        let file = namespace.share()?;
        let file =
            ForkGuardedFd::new(|| Ok(file)).map_err(|error| Error::io("share a namespace", error, "try again"))?;
        self.add(label, Box::new(Shared), file)
    }

    fn check_label(&self, label: &str) -> Result<()> {
        check_label(label)?;
        if self.ends.iter().all(|given| given.label != label) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidName,
            "hand over an end under this label",
            format_args!("{label:?} for the second time"),
            "a label of its own for each",
            "choose another label",
        ))
    }

    fn add(mut self, label: &str, end: Box<dyn Passable>, file: ForkGuardedFd) -> Result<Self> {
        let given = Given { label: label.to_string(), end, file, arrived: false };
        let announcement = process::describe_fd(&given.file);
        self.ends.push(given);
        let announcement = announcement.map_err(|error| Error::io("hand over an end", error, "try again"))?;
        self.command.env(variable(label), announcement);
        Ok(self)
    }

    /// Starts the child. From here on the ends are its own; if it cannot be started they are closed.
    ///
    /// **Blocking**: as [`Command::spawn`]. **Errors**: as [`Command::spawn`]; a forked child has
    /// nothing to give.
    pub fn spawn(mut self) -> io::Result<Child> {
        if self.ends.iter().any(|given| !given.file.is_from_this_process()) {
            return Err(io::Error::other(Error::forked("hand over an end")));
        }
        let descriptors: Vec<RawFd> = self.ends.iter().map(|given| given.file.as_fd().as_raw_fd()).collect();
        process::inherit(&mut self.command, descriptors.clone());
        let child = fork::keeping(&descriptors, || self.command.spawn())?;
        for given in &mut self.ends {
            given.arrived = true;
        }
        Ok(child)
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").field("command", &self.command).field("ends", &self.ends.len()).finish()
    }
}

fn check_label(label: &str) -> Result<()> {
    if !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidName,
        "hand over an end under this label",
        format_args!("{label:?}"),
        "letters, digits and underscores",
        "choose another label",
    ))
}

/// Picks up the end that the parent gave under this label, with default options. Each can be picked up once.
///
/// **Blocking**: never. **Errors**: no such label, picked up already, an end of another type.
pub fn handed<E: Endpoint>(label: &str) -> Result<E> {
    E::from_inherited(pick_up(label)?)
}

/// The descriptor behind a label.
pub(crate) fn pick_up(label: &str) -> Result<OwnedFd> {
    check_label(label)?;
    let missing = |found: String| {
        Error::new(
            ErrorKind::NotFound,
            format_args!("pick up the end {label:?}"),
            found,
            "an end that the parent gave",
            "give it with Handover::give, under the same label, and pick it up once",
        )
    };
    let variable = variable(label);
    let text = std::env::var(&variable).map_err(|_| missing(format!("no variable {variable}")))?;
    process::take_inherited(&text).ok_or_else(|| missing(format!("{variable}={text}, and no such descriptor")))
}

impl<M: Message + ?Sized> pipe::Options<M> {
    /// Picks up the end that the parent gave under this label. See [`handed`].
    pub fn handed<E: PipeEndpoint<Message = M>>(&self, label: &str) -> Result<E> {
        self.from_fd(pick_up(label)?)
    }
}

impl<M: Message + ?Sized> queue::Options<M> {
    /// Picks up the half of a queue that the parent gave under this label. See [`handed`].
    pub fn handed<E: QueueEndpoint<Message = M>>(&self, label: &str) -> Result<E> {
        self.from_fd(pick_up(label)?)
    }
}

impl Namespace {
    /// Comes into the namespace that the parent shared under this label ([`Handover::share`]).
    ///
    /// **Blocking** and **Errors**: as [`open`](Self::open); no such label, picked up already.
    pub fn handed(label: &str) -> Result<Self> {
        Self::builder().handed(label)
    }
}

impl NamespaceBuilder {
    /// Comes into the namespace that the parent shared under this label. See [`Namespace::handed`].
    pub fn handed(&self, label: &str) -> Result<Namespace> {
        self.from_fd(pick_up(label)?)
    }
}
