//! What all endpoints of pipes and queues have in common: they belong to a region, and they can be
//! passed to another process.

use std::os::fd::OwnedFd;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::sys::fork::ForkGuardedFd;

/// An endpoint of a pipe or of a queue.
///
/// How its end reaches the peers depends on how it ends:
///
/// - They get `Closed` if it is dropped, also by a panic that unwinds, and if it still exists when
///   the process exits normally (`main` returns, or something calls `exit`).
/// - They get `PeerDied` if the process is killed, aborts, calls `_exit` or becomes another program
///   (`execve`), and if the endpoint is [abandoned](Self::abandon).
pub trait Endpoint: sealed::Sealed + Sized {
    /// What it carries.
    type Message: Message + ?Sized;

    /// Turns the endpoint into a descriptor, which `from_fd` of its options turns back into an
    /// endpoint, in this process or in another.
    ///
    /// Until then the endpoint stays in use as long as any copy of the descriptor is open, also
    /// copies in forked children. If the last copy is closed, the peers get `PeerDied`. Once
    /// `from_fd` has taken the endpoint over, copies that are still open have no effect.
    ///
    /// Another process accepts an endpoint of a named region only on tmpfs, because the file can be
    /// truncated. It accepts an endpoint in reserved huge pages only if its options allow huge
    /// pages.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Errors
    /// The endpoint is half of a split pipe and the other half still exists, there are
    /// [frames](crate::queue::Frame) of it, it has a request that is not answered, or there is no
    /// free descriptor.
    fn into_fd(self) -> Result<OwnedFd> {
        export_fd(&self).map(ForkGuardedFd::release)
    }

    /// Gives the endpoint up as if its process had been killed. What was sent stays, and the peers
    /// get `PeerDied` where a drop would give them `Closed`. Use it for a transfer that breaks off.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Errors
    /// The endpoint is half of a split pipe and the other half still exists, there are
    /// [frames](crate::queue::Frame) of it, it has a request that is not answered, or this is a
    /// forked child. The endpoint is dropped then.
    fn abandon(self) -> Result<()> {
        check_transferable(&self, "abandon")?;
        self.registration().mark_dead()
    }

    /// The options that could not be honoured when the endpoint was made. It works without them.
    ///
    /// If a call has waited for a second or more, it also looks whether the region still has its
    /// name. A warning says so if the name was removed, or leads to another region: those that open
    /// it then wait there.
    fn warnings(&self) -> &[String] {
        self.registration().region().warnings()
    }

    /// The name under which the region was opened. None if it has no name.
    fn name(&self) -> Option<&str> {
        self.registration().region().path().map(|path| path.name.as_str())
    }

    /// How many messages can wait in each direction. For byte messages in a pipe: how many bytes.
    fn capacity(&self) -> usize {
        self.registration().region().layout().capacity() as usize
    }
}

pub(crate) mod sealed {
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    use crate::error::Result;
    use crate::region::lifecycle::Registration;

    pub trait Sealed {
        fn registration(&self) -> &Arc<Registration>;

        /// What messages call an endpoint whose registration something else shares, what to have
        /// instead, and how to get there.
        const SHARED: [&'static str; 3] =
            ["half of a pipe that was split", "the whole endpoint", "before splitting it"];

        /// Refuses every call on this handle from now on, unless the endpoint is taken back.
        fn set_passed(&self);

        /// Whether nothing else shares the registration.
        fn is_transferable(&self) -> bool {
            true
        }

        /// Takes over a descriptor that [`into_fd`](super::Endpoint::into_fd) made, with default
        /// options.
        fn from_inherited(descriptor: OwnedFd) -> Result<Self>
        where
            Self: Sized;
    }
}

/// A descriptor that carries the endpoint to another process.
pub(crate) fn export_fd<E: Endpoint>(endpoint: &E) -> Result<ForkGuardedFd> {
    check_transferable(endpoint, "pass")?;
    let file = endpoint.registration().export_fd()?;
    endpoint.set_passed();
    Ok(file)
}

fn check_transferable<E: Endpoint>(endpoint: &E, verb: &str) -> Result<()> {
    let [found, expected, when] = if endpoint.registration().is_transferred() {
        // By an `Arc` in an argument, or by a `Serialize` that writes it twice.
        ["one that was passed before", "one that is still here", "once only"]
    } else if endpoint.is_transferable() {
        return Ok(());
    } else {
        E::SHARED
    };
    let (action, remedy) = (format_args!("{verb} this endpoint"), format_args!("{verb} it {when}"));
    Err(Error::new(ErrorKind::InvalidOptions, action, found, expected, remedy))
}
