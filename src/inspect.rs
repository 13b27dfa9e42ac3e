//! Looking at named regions from outside, without taking part in them, and removing them.

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Element, Kind, ring};
use crate::liveness::Standing;
use crate::names::Directory;
use crate::region::{Region, Settings, unlink};
use crate::sync::Ordering;

/// What a region looked like at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// What it is for.
    pub kind: Kind,
    /// What its messages are made of.
    pub element: Element,
    /// Messages (bytes, for byte messages) that each ring holds.
    pub capacity: u64,
    /// The longest message, in bytes.
    pub max_message_len: u64,
    /// Bytes of memory.
    pub size: u64,
    /// One for each direction.
    pub rings: Vec<RingState>,
    /// One for each part that a process can play.
    pub participants: Vec<Participant>,
}

/// One direction of a pipe.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RingState {
    /// Messages sent since the beginning (bytes of ring space, for byte messages).
    pub sent: u64,
    /// Of those, not yet received.
    pub queued: u64,
}

/// One seat of a region.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Participant {
    /// Its part: "sender", "receiver", or "end 0" and "end 1" of a duplex pipe.
    pub part: &'static str,
    /// The process that holds or held it, as it recorded itself; 0 for none, or one on its way to a child.
    pub pid: u64,
    /// What the kernel and the records say.
    pub standing: Standing,
    /// How many processes have played this part so far.
    pub joins: u64,
}

impl Inspection {
    /// Whether nobody is there any more, and somebody was.
    pub fn is_abandoned(&self) -> bool {
        self.participants.iter().all(|participant| participant.standing != Standing::Alive)
    }
}

impl Directory {
    /// Looks at the region of that name.
    ///
    /// **Blocking**: never. **Errors**: no such region, or something that is none.
    pub fn inspect(&self, name: &str) -> Result<Inspection> {
        Ok(self.open(name)?.inspect())
    }

    /// Removes a name. Unless forced, only if no live process uses the region; forced, its users keep its memory and
    /// the name is free for another.
    ///
    /// **Blocking**: up to 5 s, if a process was stopped while joining or leaving. **Errors**: no such region,
    /// [`InUse`](crate::ErrorKind::InUse).
    pub fn unlink(&self, name: &str, force: bool) -> Result<()> {
        match self.open(name) {
            // Damaged, cut or of another version: by force the file goes, whatever it was.
            Err(error) if force && error.kind() != ErrorKind::NotFound => {
                let path = self.resolve(name)?;
                unlink(&path)
                    .map_err(|error| Error::io(format_args!("remove {name:?}"), error, "check the permissions"))
            }
            region => region?.remove(force),
        }
    }

    /// Removes a name if everybody who used its region is gone; says whether.
    ///
    /// **Blocking** and **Errors**: as for [`unlink`](Self::unlink).
    pub fn unlink_if_abandoned(&self, name: &str) -> Result<bool> {
        self.open(name)?.remove_if_abandoned()
    }

    fn open(&self, name: &str) -> Result<Region> {
        Region::open(name, &Settings { directory: self.clone(), any_owner: true, ..Settings::default() })
    }
}

impl Region {
    fn inspect(&self) -> Inspection {
        let layout = self.layout();
        Inspection {
            kind: layout.kind,
            element: layout.element,
            capacity: layout.capacity,
            max_message_len: layout.limit,
            size: layout.size,
            rings: (0..layout.directions as usize).map(|index| self.ring_state(index)).collect(),
            participants: (0..layout.seats())
                .map(|index| Participant {
                    part: self.part_name(index),
                    pid: self.pid(index),
                    standing: self.standing(index),
                    joins: self.joins(index),
                })
                .collect(),
        }
    }

    fn ring_state(&self, index: usize) -> RingState {
        let layout = self.layout();
        let unit = match layout.element {
            Element::Bytes => 8,
            Element::Value { .. } => 1,
        };
        let at = layout.ring(index);
        let head = self.word(at + ring::HEAD).load(Ordering::Acquire);
        let tail = self.word(at + ring::TAIL).load(Ordering::Acquire);
        // Both move while we look, and either may be a lie: an answer, not a promise.
        let queued = tail.wrapping_sub(head).saturating_mul(unit).min(layout.capacity);
        RingState { sent: tail.saturating_mul(unit), queued }
    }
}
