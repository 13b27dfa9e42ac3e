//! What all ends of pipes and queues have in common: they sit somewhere, and they can travel.

use std::os::fd::OwnedFd;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::sys::fork::ForkGuardedFd;

/// An end of a pipe or of a queue.
///
/// Its end, as the others hear of it: `Closed` if it is dropped, by a panic that unwinds too, or if
/// it is still there when the process comes to its ordinary end (`main` returns, or something calls
/// `exit`); `PeerDied` if the process is killed, aborts, calls `_exit` or becomes another program
/// (`execve`), or if the end is [abandoned](Self::abandon).
pub trait Endpoint: sealed::Sealed + Sized {
    /// What it carries.
    type Message: Message + ?Sized;

    /// Turns the end into a descriptor that carries it, for `from_fd` of its options in this or
    /// another process. Until it is picked up the part in the region stays taken as long as any
    /// copy of the descriptor is open, those of forked children included, and counts as dead when
    /// the last is closed. Once it is picked up, copies that are still open mean nothing.
    ///
    /// Another process takes the end of a named region only on tmpfs, since its file can be
    /// truncated, and an end in reserved huge pages only if it asks for them.
    ///
    /// **Blocking**: never. **Errors**: the end of a pipe was split and the other half still
    /// exists; no descriptors.
    fn into_fd(self) -> Result<OwnedFd> {
        send_off(&self).map(ForkGuardedFd::release)
    }

    /// Gives the end up as if its process had been killed: what was sent stays, and the others hear
    /// of a death where a drop would tell them that this is the end. For a transfer that breaks
    /// off.
    ///
    /// **Blocking**: never. **Errors**: the end of a pipe was split and the other half still
    /// exists; a forked child. It is dropped then.
    fn abandon(self) -> Result<()> {
        check_whole(&self, "abandon this end", "abandon it before splitting it")?;
        self.seat().mark_dead()
    }

    /// What was wished for and could not be had when the end was made.
    fn warnings(&self) -> &[String] {
        self.seat().region().warnings.as_slice()
    }

    /// The name under which the region was opened; none if it is anonymous.
    fn name(&self) -> Option<&str> {
        self.seat().region().path().map(|place| place.name.as_str())
    }

    /// Messages (bytes, for byte messages in a pipe) that can wait, in each direction.
    fn capacity(&self) -> usize {
        self.seat().region().layout().capacity() as usize
    }
}

pub(crate) mod sealed {
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    use crate::error::Result;
    use crate::region::lifecycle::Registration;

    pub trait Sealed {
        fn seat(&self) -> &Arc<Registration>;

        /// Whether nothing else depends on its seat.
        fn is_whole(&self) -> bool;

        /// Picks up a descriptor that [`into_fd`](super::End::into_fd) made, with default options.
        fn arrive(descriptor: OwnedFd) -> Result<Self>
        where
            Self: Sized;
    }
}

/// Puts an end on its way.
pub(crate) fn send_off<E: Endpoint>(end: &E) -> Result<ForkGuardedFd> {
    check_whole(end, "pass on this end", "pass it on before splitting it")?;
    end.seat().export_fd()
}

fn check_whole<E: Endpoint>(end: &E, doing: &str, remedy: &str) -> Result<()> {
    if end.is_whole() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidOptions, doing, "half of a pipe that was split", "the whole end", remedy))
}
