//! The peer of an endpoint: whether there is one, and waiting until one comes.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::pipe::connection::Connection;
use crate::raw::event_count::EventCount;
use crate::region::participant::ParticipantStatus;
use crate::region::words::Mapped;
use crate::sys::clock::{Deadline, deadline_after};
use crate::wait::{WaitEnd, WaitState, Waiter};

/// A wait for a peer, whatever became of the last one.
struct PeerWait<'a>(&'a mut Connection);

impl Waiter for PeerWait<'_> {
    type End = WaitEnd;

    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        self.0.region().has_lost_name().then_some(WaitEnd::NameRemoved)
    }

    // A peer that joins wakes what the other side sleeps on.
    fn event(&self) -> &EventCount<Mapped> {
        self.0.event()
    }

    fn wait_state(&mut self) -> &mut WaitState {
        self.0.wait_state()
    }
}

/// Blocks until each of these connections, which are those of one endpoint, has a living peer.
pub(super) fn wait<const N: usize>(connections: [&mut Connection; N], timeout: Duration) -> Result<()> {
    let deadline = deadline_after(timeout);
    for connection in connections {
        connection.holder().check_for(connection.registration(), "wait for a peer")?;
        let mut peer = connection.peer_watch();
        let waited = PeerWait(connection).wait_on(deadline, |_| match peer.status() {
            ParticipantStatus::Alive => Ok(Some(())),
            ParticipantStatus::LockLost => Err(WaitEnd::LockLost),
            _ => Ok(None),
        });
        waited.map_err(|end| error(connection, end, timeout))?;
    }
    Ok(())
}

fn error(connection: &Connection, end: WaitEnd, timeout: Duration) -> Error {
    let action = format!("wait for {} of {}", connection.peer_name(), connection.region().display_name());
    let pid = connection.peer_pid();
    let last = pid.map_or("one".to_string(), |pid| format!("process {pid}"));
    match end {
        WaitEnd::LockLost => Error::lock_lost(action, pid),
        WaitEnd::NameRemoved => Error::name_removed(action),
        WaitEnd::Interrupted => Error::interrupted(action),
        _ => Error::new(
            ErrorKind::TimedOut,
            action,
            match connection.peer_watch().status() {
                ParticipantStatus::Dead => format!("only {last}, which died, within {timeout:?}"),
                ParticipantStatus::Left => format!("only {last}, which left, within {timeout:?}"),
                _ => format!("none within {timeout:?}"),
            },
            "one that lives",
            "start it, with the same name and directory",
        ),
    }
}

/// The methods of every endpoint about its peer. `$half`: the path to the half that answers for it;
/// `$each`: to each of its halves.
macro_rules! peer_methods {
    ($($half:ident).+, [$($($each:ident).+),+]) => {
        /// Blocks until a living peer is there. Returns at once if one is.
        ///
        /// It does not matter what became of the peers before: use it to wait for the first one,
        /// and for the successor of one that has left or died. A peer on its way to another
        /// process, which has not taken it yet, counts as one that lives.
        ///
        /// # Blocking
        /// Up to `timeout`, as the [`WaitStrategy`](crate::WaitStrategy) says.
        ///
        /// # Errors
        /// - [`TimedOut`](crate::ErrorKind::TimedOut): none came. The message says what is known of
        ///   the last one.
        /// - [`NameRemoved`](crate::ErrorKind::NameRemoved): none can come. Open the name again.
        /// - [`LockLost`](crate::ErrorKind::LockLost): the peer closed a descriptor that was not
        ///   its own.
        /// - [`Forked`](crate::ErrorKind::Forked).
        ///
        /// # Examples
        /// ```
        /// use std::time::Duration;
        ///
        /// let (mut tx, mut rx) = tombolo::pipe::Options::<u64>::new().create()?;
        /// tx.wait_for_peer(Duration::from_secs(5))?;
        /// drop(tx);
        /// let error = rx.wait_for_peer(Duration::ZERO).unwrap_err();
        /// assert_eq!(error.kind(), tombolo::ErrorKind::TimedOut);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn wait_for_peer(&mut self, timeout: std::time::Duration) -> $crate::error::Result<()> {
            $crate::pipe::peer::wait([$(&mut self.$($each).+.connection),+], timeout)
        }

        /// Returns whether a peer is there, or how the last one ended, at this moment. The next
        /// moment may be different. A peer on its way to another process is alive; its
        /// [`peer_pid`](Self::peer_pid) is `None`.
        ///
        /// A sender can notice by it that its receiver was killed: sending itself reports that only
        /// when the ring is full. If the kernel does not answer, as in a forked child, the peer
        /// counts as alive.
        ///
        /// # Blocking
        /// Never. It makes a system call or two.
        ///
        /// # Examples
        /// ```
        /// use tombolo::inspect::ParticipantStatus;
        ///
        /// let (tx, rx) = tombolo::pipe::Options::<u64>::new().create()?;
        /// assert_eq!(tx.peer_status(), ParticipantStatus::Alive);
        /// drop(rx);
        /// assert_eq!(tx.peer_status(), ParticipantStatus::Left);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn peer_status(&self) -> $crate::region::participant::ParticipantStatus {
            self.$($half).+.connection.peer_watch().status()
        }

        /// Returns the process of the peer, or of the last one, as it recorded itself. None if
        /// there was none yet, or if the endpoint is on its way to another process.
        pub fn peer_pid(&self) -> Option<u64> {
            self.$($half).+.connection.peer_pid()
        }
    };
}

pub(super) use peer_methods;
