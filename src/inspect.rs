//! Looking at named regions from outside, without taking part in them, and removing them.

use crate::error::{ErrorKind, Result};
use crate::object::member;
use crate::object::table::Table;
use crate::primitive::Ordering;
use crate::queue::participant::Role;
use crate::queue::payload::PayloadPool;
use crate::queue::state::QueueState;
use crate::region::Region;
use crate::region::directory::{Directory, unlink};
use crate::region::layout::Layout;
use crate::region::layout::pipe::PipeLayout;
use crate::region::layout::pipe::ring;
use crate::region::layout::queue::control;
use crate::region::participant::{LEAVING, LEFT};
use crate::region::settings::{Bounds, Settings};
use crate::region::unreadable::{Unreadable, is_about_content};
use crate::sys::file;

pub use crate::object::describe::ObjectInfo;
pub use crate::region::layout::header::{ElementType, RegionKind};
pub use crate::region::participant::ParticipantStatus;

/// What a region looked like at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegionInfo {
    /// What it is for.
    pub kind: RegionKind,
    /// What its messages are made of.
    pub element: ElementType,
    /// Messages (bytes, for byte messages in a pipe) that each ring holds; objects of a namespace.
    pub capacity: u64,
    /// The longest message, in bytes.
    pub max_message_bytes: u64,
    /// Bytes of memory. A queue's long messages take more while they wait, and some of it is kept for the next ones
    /// ([`QueueInfo::extents_bytes`]).
    pub size: u64,
    /// One for each direction; a queue has one, a namespace none.
    pub rings: Vec<RingInfo>,
    /// One for each part that a process can play; in a queue or namespace one for each lane that somebody holds, or was the last to leave.
    pub participants: Vec<ParticipantInfo>,
    /// Participants that there can be.
    pub max_participants: u64,
    /// Whether the name stays when everybody has left.
    pub is_persistent: bool,
    /// What only a queue has.
    pub queue: Option<QueueInfo>,
    /// The objects of a namespace.
    pub objects: Vec<ObjectInfo>,
}

/// One direction of a pipe, or a queue.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RingInfo {
    /// Messages sent since the beginning (bytes of ring space, for byte messages in a pipe).
    pub sent: u64,
    /// Of those, not yet received.
    pub queued: u64,
}

/// The state of a queue, beside its ring's.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Participants that there can be.
    pub max_participants: u64,
    /// All senders as one: alive if any is, else how the last one ended.
    pub senders: ParticipantStatus,
    /// All receivers as one, likewise.
    pub receivers: ParticipantStatus,
    /// As in [`queue::Stats`](crate::queue::Stats), like those that follow.
    pub quarantined: u64,
    /// Messages that died with their receivers.
    pub lost: u64,
    /// Messages that were thrown away.
    pub dropped: u64,
    /// Large messages in the pool.
    pub pooled: u64,
    /// Bytes of memory for messages longer than a block, waiting and kept.
    pub extents_bytes: u64,
    /// Whether a run was closed, and no sender has begun the next one.
    pub is_closed: bool,
}

/// One seat of a region.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ParticipantInfo {
    /// Its part: "sender", "receiver", or "end 0" and "end 1" of a duplex pipe.
    pub role: &'static str,
    /// The process that holds or held it, as it recorded itself; 0 for none, or one on its way to a child.
    pub pid: u64,
    /// What the kernel and the records say.
    pub status: ParticipantStatus,
    /// How many processes have played this part so far.
    pub joins: u64,
}

impl RegionInfo {
    /// Whether nobody is there any more, and the name was not to stay.
    pub fn is_stale(&self) -> bool {
        !self.is_persistent
            && self.participants.iter().all(|participant| participant.status != ParticipantStatus::Alive)
    }
}

impl Directory {
    /// Looks at the region of that name.
    ///
    /// **Blocking**: never. **Errors**: no such region, or something that is none.
    pub fn inspect(&self, name: &str) -> Result<RegionInfo> {
        region_info(&self.open(name)?)
    }

    /// Removes a name. Unless forced, only if no live process uses the region; forced, its users keep its memory and
    /// the name is free for another. Never removes another file that was given the name meanwhile.
    ///
    /// **Blocking**: up to 5 s, if a process was stopped while joining or leaving. **Errors**: no such region,
    /// [`InUse`](crate::ErrorKind::InUse), [`Busy`](crate::ErrorKind::Busy) if a process was stopped while it
    /// removed a name of this directory.
    pub fn unlink(&self, name: &str, force: bool) -> Result<()> {
        // Held on to from before the look at it: what takes its place meanwhile is not removed in its stead.
        let path = self.resolve(name)?;
        let pinned = file::pin(&path);
        let id = pinned.as_ref().ok().and_then(|file| Some(file::metadata(file).ok()?.id));
        match self.open(name) {
            // Damaged, cut or of another version: by force the file goes, whatever it was.
            Err(error) if force && error.kind() != ErrorKind::NotFound => {
                let Some(id) = id else { return Err(error) };
                match Unreadable::open(name, &self.settings()) {
                    Ok(file) if file.id() == Some(id) => file.remove().map(drop),
                    _ => unlink(&path, id).map(drop),
                }
            }
            region => region?.remove(force),
        }
    }

    /// Removes a name, with whatever waits there, if everybody who used its region is gone. Returns
    /// whether it did. One that is persistent stays.
    ///
    /// A region that this version cannot read, because it is of another layout version, cut or damaged, is removed as
    /// well once nobody holds a lock on it. A file that is no region is not.
    ///
    /// **Blocking** and **Errors**: as for [`unlink`](Self::unlink).
    pub fn unlink_if_stale(&self, name: &str) -> Result<bool> {
        match self.open(name) {
            Err(error) if is_about_content(&error) => {
                let file = Unreadable::open(name, &self.settings())?;
                if file.is_a_region() { file.remove_if_stale() } else { Err(error) }
            }
            region => region?.remove_if_stale(),
        }
    }

    /// Puts right what dead participants of a queue or namespace left behind, which its live ones otherwise do when they next wait; says
    /// how many lanes serve again. None of a pipe's, and none while somebody else is at it.
    ///
    /// **Blocking**: never for others, but it looks at every lane, however long that takes. **Errors**: no such region, or something that is none.
    pub fn repair(&self, name: &str) -> Result<usize> {
        let region = self.open(name)?;
        match region.layout().kind() {
            RegionKind::Pipe => Ok(0),
            RegionKind::Queue => Ok(QueueState::of(&region).repair(None)),
            RegionKind::Namespace => {
                let table = Table::parse(&region)?;
                let mut repaired = table.repair(&region, None);
                for (index, entry) in table.entries.iter().enumerate() {
                    if let Some(layout) = entry.plan.queue {
                        repaired += QueueState::of(&region.sub_region(entry.at, index, Layout::Queue(layout), None)?)
                            .repair(None);
                    }
                }
                Ok(repaired)
            }
        }
    }

    fn open(&self, name: &str) -> Result<Region> {
        Region::open(name, &self.settings())
    }

    fn settings(&self) -> Settings {
        Settings { directory: self.clone(), allow_other_owner: true, bounds: Bounds::NONE, ..Settings::default() }
    }
}

fn region_info(region: &Region) -> Result<RegionInfo> {
    let (layout, participants) = (region.layout(), region.participants());
    // A participant of a queue or a namespace that never joined, or was repaired, is not shown.
    let is_pipe = layout.kind() == RegionKind::Pipe;
    let is_shown = |&index: &usize| is_pipe || participants.is_occupied(index) || participants.state(index) == LEFT;
    let (mut rings, mut queue, mut objects) = (Vec::new(), None, Vec::new());
    match layout {
        Layout::Pipe(pipe) => rings.extend((0..pipe.directions as usize).map(|index| ring_info(region, pipe, index))),
        Layout::Queue(_) => {
            let state = QueueState::of(region);
            let words = state.ring_words();
            rings.push(RingInfo { sent: words.load_tail().position(), queued: words.len() });
            queue = Some(queue_info(state));
        }
        Layout::Namespace(_) => objects = region.glance(&Table::parse(region)?.entries),
    }
    let participant = |index| ParticipantInfo {
        role: role_name(region, index),
        pid: participants.pid(index),
        status: match participants.status(index) {
            // It left when its process exited. There is only something to repair.
            ParticipantStatus::Dead if participants.state(index) == LEAVING => ParticipantStatus::Left,
            status => status,
        },
        joins: participants.joins(index),
    };
    Ok(RegionInfo {
        kind: layout.kind(),
        element: layout.element(),
        capacity: layout.capacity(),
        max_message_bytes: layout.max_message_bytes(),
        size: layout.mapped(),
        rings,
        participants: (0..participants.len()).filter(is_shown).map(participant).collect(),
        max_participants: participants.len() as u64,
        is_persistent: layout.is_persistent(),
        queue,
        objects,
    })
}

fn role_name(region: &Region, index: usize) -> &'static str {
    match region.layout() {
        Layout::Pipe(pipe) => pipe.role_name(index),
        Layout::Queue(_) => QueueState::of(region).role_name(index),
        Layout::Namespace(_) => member::role_name(region, index),
    }
}

fn queue_info(queue: QueueState<'_>) -> QueueInfo {
    let (words, pool) = (queue.ring_words(), PayloadPool::new(queue.region, 0));
    let count = |index| queue.word(index).load(Ordering::Acquire);
    QueueInfo {
        max_participants: queue.layout.participants() as u64,
        senders: queue.role_status(Role::Sender),
        receivers: queue.role_status(Role::Receiver),
        quarantined: words.quarantined(),
        lost: count(control::LOST),
        dropped: count(control::DROPPED),
        pooled: pool.taken(),
        extents_bytes: pool.extents_bytes(queue.region),
        is_closed: words.is_closed(),
    }
}

fn ring_info(region: &Region, pipe: &PipeLayout, index: usize) -> RingInfo {
    let unit = match pipe.element {
        ElementType::Bytes => 8,
        ElementType::Value { .. } => 1,
    };
    let at = PipeLayout::ring(index);
    let head = region.word(at + ring::HEAD).load(Ordering::Acquire);
    let tail = region.word(at + ring::TAIL).load(Ordering::Acquire);
    // Both change meanwhile, and either may be invalid: a snapshot, not a promise.
    let queued = tail.wrapping_sub(head).saturating_mul(unit).min(pipe.capacity);
    RingInfo { sent: tail.saturating_mul(unit), queued }
}
