//! Waiting until a peer is there: a sender for a receiver, a receiver for a sender.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::queue::participant::{QueueParticipant, Role, WaitFor};
use crate::queue::state::QueueState;
use crate::raw::event_count::EventCount;
use crate::region::lifecycle::Registration;
use crate::region::participant::ParticipantStatus;
use crate::region::repair::{Budget, StatusCache};
use crate::region::words::Mapped;
use crate::sys::clock::{Deadline, deadline_after};
use crate::wait::{Attempt, WaitEnd, WaitState, Waiter};

/// A wait for a peer, whatever became of those before.
struct PeerWait<'a>(&'a mut QueueParticipant);

impl Waiter for PeerWait<'_> {
    type End = WaitEnd;

    fn check_liveness(&mut self, deadline: Deadline) -> Option<WaitEnd> {
        self.0.repair_some(deadline);
        self.0.lost_name()
    }

    fn event(&self) -> &EventCount<Mapped> {
        self.0.event()
    }

    fn wait_state(&mut self) -> &mut WaitState {
        self.0.wait_state()
    }
}

/// The search for a living peer.
struct PeerSearch {
    registration: Arc<Registration>,
    peers: Role,
    sibling: Option<usize>,
    /// What the kernel has said of those that are gone.
    statuses: StatusCache,
    lock_lost: Option<usize>,
}

impl PeerSearch {
    fn find(&mut self, deadline: Deadline) -> Result<Option<()>, WaitEnd> {
        let region = self.registration.region();
        let state = QueueState::of(region);
        let budget = Budget::until(deadline);
        self.statuses.next_round(region);
        self.lock_lost = None;
        let peers = state.active_with_role(self.peers, state.tail());
        for index in peers.filter(|&index| Some(index) != self.sibling) {
            match self.statuses.status(region, index, &budget) {
                Some(ParticipantStatus::Alive) => return Ok(Some(())),
                Some(ParticipantStatus::LockLost) => self.lock_lost = Some(index),
                _ => {}
            }
        }
        if self.lock_lost.is_some() { Err(WaitEnd::LockLost) } else { Ok(None) }
    }
}

/// Blocks until a living peer is there.
pub(super) fn wait(participant: &mut QueueParticipant, timeout: Duration) -> Result<()> {
    participant.holder().check_for(participant.registration(), "wait for a peer")?;
    let deadline = deadline_after(timeout);
    let mut search = PeerSearch {
        registration: Arc::clone(participant.registration()),
        peers: participant.role().peer(),
        sibling: participant.sibling(),
        statuses: StatusCache::default(),
        lock_lost: None,
    };
    participant.set_waiting_for(WaitFor::Peer);
    let waited = PeerWait(participant).wait_on(deadline, |attempt| match attempt {
        Attempt::Probe => Ok(None),
        Attempt::Full => search.find(deadline),
    });
    waited.map_err(|end| error(&search, end, timeout))
}

fn error(search: &PeerSearch, end: WaitEnd, timeout: Duration) -> Error {
    let region = search.registration.region();
    let peer = match search.peers {
        Role::Sender => "a sender",
        Role::Receiver => "a receiver",
    };
    let action = format!("wait for {peer} of {}", region.display_name());
    match end {
        WaitEnd::LockLost => Error::lock_lost(action, search.lock_lost.map(|index| region.participants().pid(index))),
        WaitEnd::NameRemoved => Error::name_removed(action),
        WaitEnd::Interrupted => Error::interrupted(action),
        _ => Error::new(
            ErrorKind::TimedOut,
            action,
            format_args!("none within {timeout:?}"),
            "one that lives",
            "start it, with the same name and directory",
        ),
    }
}

/// `wait_for_peer` of the senders or receivers of a queue. `$half`: the path to the half that
/// answers for it; `$peer` and `$peers`: what one of its peers and all of them are called.
macro_rules! peer_methods {
    ($($half:ident).+, $peer:literal, $peers:literal) => {
        #[doc = concat!("Blocks until there is a ", $peer, " whose process lives. Returns at once if there is one.")]
        ///
        /// It does not matter what became of those before: use it to wait for the first one, and
        #[doc = concat!("for the next one after all have left or died. Every ", $peer, " counts, also one of this")]
        #[doc = concat!("process, and one on its way to another process. [`stats`](Self::stats) tells how many ", $peers, " there")]
        /// are.
        ///
        /// # Blocking
        /// Up to `timeout`, as the [`WaitStrategy`](crate::WaitStrategy) says.
        ///
        /// # Errors
        /// - [`TimedOut`](crate::ErrorKind::TimedOut): none came.
        /// - [`NameRemoved`](crate::ErrorKind::NameRemoved): none can come. Open the name again.
        /// - [`LockLost`](crate::ErrorKind::LockLost): there are only some that closed descriptors
        ///   that were not their own.
        /// - [`Forked`](crate::ErrorKind::Forked).
        ///
        /// # Examples
        /// ```
        /// use std::time::Duration;
        ///
        /// let (mut tx, mut rx) = tombolo::queue::Options::<u64>::new().create_channel()?;
        /// tx.wait_for_peer(Duration::from_secs(5))?;
        /// drop(tx);
        /// let error = rx.wait_for_peer(Duration::ZERO).unwrap_err();
        /// assert_eq!(error.kind(), tombolo::ErrorKind::TimedOut);
        /// # Ok::<(), tombolo::Error>(())
        /// ```
        pub fn wait_for_peer(&mut self, timeout: std::time::Duration) -> $crate::error::Result<()> {
            $crate::queue::peer::wait(&mut self.$($half).+.participant, timeout)
        }
    };
}

pub(super) use peer_methods;
