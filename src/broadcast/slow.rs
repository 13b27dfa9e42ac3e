//! The subscriber that holds a publisher back.

use crate::broadcast::state::BroadcastState;
use crate::region::participant::ParticipantStatus;
use crate::sys::process;

/// A subscriber of a broadcast that holds a publisher back, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowSubscriber {
    /// Its process. 0 if the subscriber is on its way to another process.
    pub pid: u64,
    /// What the system calls that process, if it can be looked up.
    pub process_name: Option<String>,
    /// Whether the process runs or is dead. A process that is stopped is `Alive`.
    pub status: ParticipantStatus,
    /// How many messages of this publisher it has not read. Of byte messages: how many slots.
    pub lag: u64,
    /// How many frames of this publisher it holds. See [`Frames`](crate::broadcast::Frames).
    pub frames: u64,
}

impl SlowSubscriber {
    pub(super) fn new(state: BroadcastState<'_>, participant: usize, lag: u64, frames: u64) -> Self {
        let participants = state.region.participants();
        let pid = participants.pid(participant);
        let is_here = participants.other_pid_namespace(participant).is_none();
        Self {
            pid,
            process_name: if is_here { process::name_of(pid) } else { None },
            status: participants.status(participant),
            lag,
            frames,
        }
    }
}
