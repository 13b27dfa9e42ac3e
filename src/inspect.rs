//! What lies under a name, or is open without one, seen from outside; removing names, and repair.
//!
//! Nothing here takes part in a region. What needs a name is a method of [`Directory`]. Regions
//! without a name, such as those of endpoints that were passed to a child process, are found by
//! [`unnamed_regions`].

use std::io;
use std::os::fd::OwnedFd;

use crate::broadcast::{self, state::BroadcastState};
use crate::error::{Error, ErrorKind, Result};
use crate::object::kind::{Description, ObjectKind, ObjectWords};
use crate::object::repair::Repair;
use crate::object::table::Table;
use crate::object::{member, nested};
use crate::primitive::Ordering;
use crate::queue::state::QueueState;
use crate::queue::{self, participant::Role};
use crate::region::directory::{Directory, unlink};
use crate::region::layout::Layout;
use crate::region::layout::pipe::PipeLayout;
use crate::region::layout::pipe::ring;
use crate::region::participant::{LEAVING, LEFT};
use crate::region::settings::{Bounds, Settings};
use crate::region::unreadable::{Unreadable, is_about_content};
use crate::region::{Region, dependents};
use crate::rpc::state::RpcState;
use crate::sys::file::{self, FileId};
use crate::sys::memfd;
use crate::sys::process::is_out_of_resources;

pub use crate::object::map::{MapInfo, MapSizeInfo};
pub use crate::region::layout::header::{ElementType, RegionKind};
pub use crate::region::participant::ParticipantStatus;
pub use crate::sys::memfd::ProcessFd;

/// What a region looked like at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegionInfo {
    /// What the region is.
    pub kind: RegionKind,
    /// What its messages are made of.
    pub element: ElementType,
    /// Messages that each ring holds; bytes for byte messages in a pipe; objects of a namespace.
    pub capacity: u64,
    /// The longest message, in bytes.
    pub max_message_bytes: u64,
    /// Bytes of memory, with those of all objects of a namespace. The extents of a queue are not
    /// included, see [`extents_bytes`](queue::Stats::extents_bytes).
    pub size: u64,
    /// One for each direction of a pipe, one for a queue, one for each publisher of a broadcast,
    /// one for all requests, none for a namespace.
    pub rings: Vec<RingInfo>,
    /// The participants of a pipe. Of a queue or a namespace those that joined and were not
    /// replaced since.
    pub participants: Vec<ParticipantInfo>,
    /// How many participants there can be.
    pub max_participants: u64,
    /// Whether the name stays when the last participant leaves.
    pub is_persistent: bool,
    /// What only a queue has.
    pub queue: Option<QueueInfo>,
    /// The objects of a namespace.
    pub objects: Vec<ObjectInfo>,
    /// What only a broadcast has.
    pub broadcast: Option<BroadcastInfo>,
    /// What only a place for requests has.
    pub rpc: Option<RpcInfo>,
}

/// One direction of a pipe, or a queue.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RingInfo {
    /// Messages sent so far; bytes of ring space for byte messages in a pipe.
    pub sent: u64,
    /// How much of that was not received yet.
    pub queued: u64,
}

/// What only a queue has.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct QueueInfo {
    /// What [`queue::Sender::stats`] returns.
    pub stats: queue::Stats,
    /// All senders as one: alive if any is, otherwise how the last one ended.
    pub senders: ParticipantStatus,
    /// All receivers as one: alive if any is, otherwise how the last one ended.
    pub receivers: ParticipantStatus,
    /// How many senders have joined so far.
    pub senders_joined: u64,
    /// How many receivers have joined so far.
    pub receivers_joined: u64,
    /// What becomes of messages whose receivers die.
    pub on_death: queue::OnDeath,
}

/// What only a broadcast has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BroadcastInfo {
    /// What publishers do about slow subscribers.
    pub policy: broadcast::Policy,
    /// How many messages of each publisher are kept for subscribers that join later. Of byte
    /// messages: slots.
    pub history: u64,
    /// Of how many keys the latest value is kept.
    pub keys: u64,
    /// How many frames each publisher has for large messages.
    pub frames: u64,
    /// How many of all frames subscribers hold.
    pub frames_held: u64,
    /// How often a subscriber was evicted because it lagged.
    pub evicted: u64,
    /// The subscribers that have joined and not left.
    pub subscribers: Vec<SubscriberInfo>,
}

/// A subscriber of a broadcast, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriberInfo {
    /// The process, as it recorded itself.
    pub pid: u64,
    /// How far it is behind each publisher, in messages, or in slots of byte messages. `None`: it
    /// was evicted there.
    pub lags: Vec<Option<u64>>,
}

/// What only a place for requests has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RpcInfo {
    /// What replies are made of.
    pub reply: ElementType,
    /// The longest reply, in bytes.
    pub max_reply_bytes: u64,
    /// How many callers there can be.
    pub max_callers: u64,
    /// How many responders there can be.
    pub max_responders: u64,
    /// The requests that have no reply yet.
    pub calls: Vec<CallInfo>,
}

/// A request that has no reply yet.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallInfo {
    /// The process that made it, as it recorded itself.
    pub caller: u64,
    /// The process that has taken it. `None`: none has.
    pub responder: Option<u64>,
}

/// An object of a namespace, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ObjectKind,
    /// The type of its values, if it holds values.
    pub element: Option<ElementType>,
    /// Elements of an array, or of a list at most, permits of a bounded semaphore, parties of a
    /// barrier, capacity of a queue.
    pub length: Option<u64>,
    /// Its value, or the first values. Numbers are shown as such, other types as bytes in
    /// hexadecimal.
    pub value: Option<String>,
    /// The process that holds its lock.
    pub holder: Option<u64>,
    /// The processes that hold read locks or permits of it, wait at it, or have an endpoint of it.
    pub users: Vec<u64>,
    /// Anything else, in a few words: "free", "set", "2 of 4 permits left".
    pub state: String,
    /// What only a map has.
    pub map: Option<MapInfo>,
}

/// One participant of a region.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ParticipantInfo {
    /// Its role: "sender", "receiver", "member", or "end 0" and "end 1" of a duplex pipe.
    pub role: &'static str,
    /// The process, as it recorded itself. 0 if nobody has joined yet, or if the endpoint is on its
    /// way to another process.
    pub pid: u64,
    /// Whether that process takes part, has left or died.
    pub status: ParticipantStatus,
    /// The PID namespace of that process, as the number of its inode, if it is not this process's
    /// own. There `pid` means that process, here it may mean another one.
    pub other_pid_namespace: Option<u32>,
    /// How many processes have been this participant so far.
    pub joins: u64,
}

/// A region without a name that processes have open.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UnnamedRegion {
    /// The descriptors by which they have it open, in the order of the processes. A process has one
    /// for each of its participants, and can have more.
    pub descriptors: Vec<ProcessFd>,
    id: FileId,
}

/// Finds the unnamed regions that processes have open, through /proc.
///
/// Each is listed once. Processes whose descriptors this one may not see are left out: those of
/// other users, unless this is root.
///
/// # Blocking
///
/// Never. Nothing of a process is opened that is not an anonymous file.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if /proc is not mounted, [`ErrorKind::Io`] if there are no descriptors
/// left.
///
/// # Examples
///
/// ```
/// use tombolo::inspect;
///
/// let (_tx, _rx) = tombolo::pipe::Options::<u64>::new().create()?;
/// let own = |region: &inspect::UnnamedRegion| {
///     region.descriptors.iter().any(|open| open.pid == u64::from(std::process::id()))
/// };
/// let regions = inspect::unnamed_regions()?;
/// let region = regions.iter().find(|region| own(region)).unwrap();
/// assert_eq!(region.inspect()?.participants.len(), 2);
/// # Ok::<(), tombolo::Error>(())
/// ```
pub fn unnamed_regions() -> Result<Vec<UnnamedRegion>> {
    let failed = |error| Error::io("find unnamed regions", error, "mount /proc");
    let mut regions = Vec::new();
    for (id, descriptors) in memfd::find().map_err(failed)? {
        let region = UnnamedRegion { descriptors, id };
        match region.open() {
            Ok(file) if file::is_sealed(&file) => regions.push(region),
            Err(error) if is_out_of_resources(&error) => return Err(failed(error)),
            _ => {} // it is still being made, is not a region, or is gone
        }
    }
    regions.sort_by_key(|region| region.descriptors.first().copied());
    Ok(regions)
}

impl UnnamedRegion {
    /// Returns what the region looks like, without taking part in it. If its processes have punched
    /// holes in it, those stay, but for the few pages that are read.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if no process has it open any more.
    /// - [`ErrorKind::NotARegion`], [`ErrorKind::WrongVersion`] or [`ErrorKind::Corrupt`] if this
    ///   version cannot read the file.
    /// - [`ErrorKind::Permission`] if it consists of reserved huge pages, which others can take
    ///   back.
    pub fn inspect(&self) -> Result<RegionInfo> {
        let file = self.open().map_err(|error| {
            Error::io("open an unnamed region", error, "list them again: its processes may have ended")
        })?;
        let settings = Settings { is_inspection: true, ..settings(Directory::default()) };
        region_info(&Region::from_descriptor(file, &settings)?)
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let mut opened = Err(io::ErrorKind::NotFound.into());
        for &descriptor in &self.descriptors {
            opened = memfd::open(descriptor, self.id);
            if opened.is_ok() {
                break;
            }
        }
        opened
    }
}

impl RegionInfo {
    /// Returns whether nobody takes part any more and the name was not to stay.
    pub fn is_stale(&self) -> bool {
        !self.is_persistent
            && self.participants.iter().all(|participant| participant.status != ParticipantStatus::Alive)
    }
}

impl Directory {
    /// Returns what the region of that name looks like, without taking part in it.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is no such name.
    /// - [`ErrorKind::NotARegion`], [`ErrorKind::WrongVersion`] or [`ErrorKind::Corrupt`] if this
    ///   version cannot read the file.
    pub fn inspect(&self, name: &str) -> Result<RegionInfo> {
        region_info(&self.open(name)?)
    }

    /// Removes a name.
    ///
    /// Without `force` the name is removed only if no live process uses the region. With `force` it
    /// is removed in any case. The users of the region keep its memory, and the name is free.
    ///
    /// Another file that was given the name meanwhile is never removed.
    ///
    /// # Blocking
    ///
    /// Up to 5 s if a process was stopped while it joined or left.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is no such name.
    /// - [`ErrorKind::InUse`] if a live process uses the region.
    /// - [`ErrorKind::Busy`] if a process was stopped while it joined or left, or while it removed
    ///   a name of this directory.
    pub fn unlink(&self, name: &str, force: bool) -> Result<()> {
        // Opened before the region is: a file that takes its place meanwhile is not removed
        // instead.
        let path = self.resolve(name)?;
        let pinned = file::pin(&path);
        let id = pinned.as_ref().ok().and_then(|file| Some(file::metadata(file).ok()?.id));
        match self.open(name) {
            // Damaged, cut short or of another version: with force the file goes, whatever it was.
            Err(error) if force && error.kind() != ErrorKind::NotFound => {
                let Some(id) = id else { return Err(error) };
                match Unreadable::open(name, &settings(self.clone())) {
                    Ok(file) if file.id() == Some(id) => file.remove().map(drop),
                    _ => unlink(&path, id).map(drop),
                }
            }
            region => region?.remove(force),
        }
    }

    /// Removes a name, with the messages that are queued under it, if nobody uses its region any
    /// more. Returns whether it did. A persistent region stays.
    ///
    /// A region that this version cannot read is removed, too, once nobody holds a lock on it: one
    /// of another layout version, cut short or damaged. A file that is not a region stays.
    ///
    /// # Blocking
    ///
    /// Like [`unlink`](Self::unlink).
    ///
    /// # Errors
    ///
    /// Those of [`unlink`](Self::unlink), without [`ErrorKind::InUse`].
    pub fn unlink_if_stale(&self, name: &str) -> Result<bool> {
        match self.open(name) {
            Err(error) if is_about_content(&error) => {
                let file = Unreadable::open(name, &settings(self.clone()))?;
                if file.is_a_region() { file.remove_if_stale() } else { Err(error) }
            }
            region => region?.remove_if_stale(),
        }
    }

    /// Repairs what dead participants of a queue or a namespace left behind. Returns how many of
    /// them were repaired and can be replaced now. In a broadcast, evicts dead subscribers. Of
    /// requests, withdraws those of dead callers, and tells callers whose responder is dead.
    ///
    /// Live participants do this when they next wait, so it is needed only where none is. A pipe
    /// needs no repair. Nothing is done while another process repairs.
    ///
    /// # Blocking
    ///
    /// Never for others, but every participant is checked, however long that takes.
    ///
    /// # Errors
    ///
    /// Those of [`inspect`](Self::inspect).
    pub fn repair(&self, name: &str) -> Result<usize> {
        let region = self.open(name)?;
        match region.layout().kind() {
            RegionKind::Pipe => Ok(0),
            RegionKind::Broadcast => Ok(BroadcastState::of(&region).evict_dead()),
            RegionKind::Queue => Ok(QueueState::of(&region).repair(None)),
            RegionKind::Rpc => Ok(RpcState::of(&region).repair()),
            RegionKind::Namespace => {
                let mut repaired = repair_namespace(&region)?;
                for (_, object) in created_objects(&region) {
                    repaired += repair_namespace(&object)?;
                }
                Ok(repaired)
            }
        }
    }

    /// Removes an object that was created in a namespace. `force` is as for
    /// [`unlink`](Self::unlink). Blocks and fails like that.
    pub fn unlink_object(&self, namespace: &str, object: &str, force: bool) -> Result<()> {
        let dependents = self.open(namespace)?.dependents();
        let Some(directory) = dependents else {
            let (action, found) = (format!("remove the object {object:?}"), format!("that {namespace:?} got none"));
            let expected = "one that was created in that namespace";
            return Err(Error::new(ErrorKind::NotFound, action, found, expected, "see `tombolo inspect`"));
        };
        directory.open(object)?.remove(force)
    }

    /// Removes the objects of namespaces that are gone. Usually they go with the namespace. They
    /// stay if a process is killed while another one removes the namespace by force, or somebody
    /// removes its file. Returns how many namespaces had left some, without those of which
    /// something stays: a directory with files that another program made there.
    ///
    /// # Blocking
    ///
    /// Up to half a second if a process was stopped while it removed one of them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Permission`] or [`ErrorKind::Io`] if the directory cannot be read.
    pub fn remove_orphans(&self) -> Result<usize> {
        match dependents::remove_orphans(self.path(), None) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            removed => removed.map_err(|error| {
                let action = format!("list {}", self.path().display());
                Error::io(action, error, "check the directory's permissions")
            }),
        }
    }

    fn open(&self, name: &str) -> Result<Region> {
        Region::open(name, &settings(self.clone()))
    }
}

/// How to open what is only looked at.
fn settings(directory: Directory) -> Settings {
    Settings { directory, allow_other_owner: true, bounds: Bounds::NONE, ..Settings::default() }
}

fn region_info(region: &Region) -> Result<RegionInfo> {
    let (layout, participants) = (region.layout(), region.participants());
    // A participant of a queue or a namespace that never joined, or was repaired, is not listed.
    let is_pipe = matches!(layout.kind(), RegionKind::Pipe);
    let is_shown = |&index: &usize| is_pipe || participants.is_occupied(index) || participants.state(index) == LEFT;
    let (mut rings, mut queue, mut objects, mut broadcast) = (Vec::new(), None, Vec::new(), None);
    let (mut rpc, mut capacity, mut size) = (None, layout.capacity(), layout.mapped());
    match layout {
        Layout::Pipe(pipe) => rings.extend((0..pipe.directions as usize).map(|index| ring_info(region, pipe, index))),
        Layout::Queue(_) => {
            let state = QueueState::of(region);
            let words = state.ring_words();
            rings.push(RingInfo { sent: words.load_tail().position(), queued: words.len() });
            queue = Some(queue_info(state));
        }
        Layout::Namespace(_) => {
            objects = describe_objects(region, &Table::parse(region)?);
            for (name, object) in created_objects(region) {
                let created = describe_objects(&object, &Table::parse(&object)?);
                objects.extend(created.into_iter().map(|object| ObjectInfo { name: name.clone(), ..object }));
                size += object.layout().mapped();
            }
            capacity = objects.len() as u64;
        }
        Layout::Broadcast(_) => {
            let state = BroadcastState::of(region);
            let info = broadcast_info(state);
            rings.extend((0..state.layout.publishers()).map(|track| {
                let queued =
                    info.subscribers.iter().filter_map(|subscriber| subscriber.lags.get(track)?.as_ref()).max();
                // edge: snapshot
                RingInfo { sent: state.tail(track).load(Ordering::Acquire), queued: queued.copied().unwrap_or(0) }
            }));
            broadcast = Some(info);
        }
        Layout::Rpc(_) => {
            let state = RpcState::of(region);
            let info = rpc_info(state);
            let table = state.table();
            let sent = (0..table.callers).map(|caller| table.requests(caller)).fold(0, u64::wrapping_add);
            let queued = info.calls.iter().filter(|call| call.responder.is_none()).count() as u64;
            rings.push(RingInfo { sent, queued });
            rpc = Some(info);
        }
    }
    let participant = |index| ParticipantInfo {
        role: role_name(region, index),
        pid: participants.pid(index),
        other_pid_namespace: participants.other_pid_namespace(index),
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
        capacity,
        max_message_bytes: layout.max_message_bytes(),
        size,
        rings,
        participants: (0..participants.len()).filter(is_shown).map(participant).collect(),
        max_participants: participants.len() as u64,
        is_persistent: layout.is_persistent(),
        queue,
        objects,
        broadcast,
        rpc,
    })
}

/// The objects that a namespace got after it was made, each with its name. Those that cannot be
/// read are left out.
fn created_objects(namespace: &Region) -> Vec<(String, Region)> {
    let Some(directory) = namespace.dependents() else { return Vec::new() };
    let names = directory.names().unwrap_or_default().into_iter();
    let objects = names.filter_map(|name| directory.open(&name).ok().map(|region| (name, region)));
    objects.filter(|(_, region)| region.layout().kind() == RegionKind::Namespace).collect()
}

/// Repairs what the dead left in a namespace's region, which may be that of one object.
fn repair_namespace(region: &Region) -> Result<usize> {
    let table = Table::parse(region)?;
    let mut repaired = Repair { region, table: &table }.all(None);
    for nested in table.objects(region).filter_map(|object| nested::open(&object, None)) {
        let nested = nested?;
        repaired += match nested.layout().kind() {
            RegionKind::Broadcast => BroadcastState::of(&nested).evict_dead(),
            _ => QueueState::of(&nested).repair(None),
        };
    }
    Ok(repaired)
}

fn rpc_info(state: RpcState<'_>) -> RpcInfo {
    let (layout, participants, table) = (state.layout, state.region.participants(), state.table());
    let call = |caller| {
        let responder = table.responder_of(caller).filter(|&responder| responder < layout.responders());
        let responder = responder.map(|responder| participants.pid(layout.callers() + responder));
        let is_open = responder.is_some() || table.is_pending(caller);
        is_open.then(|| CallInfo { caller: participants.pid(caller), responder })
    };
    RpcInfo {
        reply: layout.reply,
        max_reply_bytes: layout.geometry.max_reply_bytes,
        max_callers: layout.geometry.callers,
        max_responders: layout.geometry.responders,
        calls: (0..layout.callers()).filter_map(call).collect(),
    }
}

/// All objects, in the order of the table.
pub(crate) fn describe_objects(region: &Region, table: &Table) -> Vec<ObjectInfo> {
    let objects = table.entries.iter().zip(table.objects(region));
    objects.map(|(entry, object)| object_info(&entry.name, &object)).collect()
}

fn object_info(name: &str, object: &ObjectWords<'_>) -> ObjectInfo {
    let (spec, participants) = (object.spec, object.region.participants());
    let kind = spec.kind.functions();
    let Description { value, owner, users, mut state, map } = kind.describe(object);
    // A description is made from words that may be invalid.
    let pid = |index| if index < participants.len() { participants.pid(index) } else { 0 };
    let mut users: Vec<u64> = users.into_iter().map(pid).collect();
    if let Some(Ok(nested)) = nested::open(object, None) {
        state = match nested.layout().kind() {
            RegionKind::Broadcast => {
                let state = BroadcastState::of(&nested);
                // edge: snapshot
                let sent = |track| state.tail(track).load(Ordering::Acquire);
                let sent = (0..state.layout.publishers()).map(sent).fold(0, u64::wrapping_add);
                format!("{}, {sent} published", state.policy())
            }
            _ => {
                let words = QueueState::of(&nested).ring_words();
                let closed = if words.is_closed() { ", closed" } else { "" };
                format!("{} queued{closed}", words.len())
            }
        };
        users = nested.participants().registered().map(|index| nested.participants().pid(index)).collect();
    }
    ObjectInfo {
        name: name.to_string(),
        kind: spec.kind,
        element: spec.element(),
        length: kind.length(spec),
        value,
        holder: owner.map(pid),
        users,
        state,
        map,
    }
}

fn role_name(region: &Region, index: usize) -> &'static str {
    match region.layout() {
        Layout::Pipe(pipe) => pipe.role_name(index),
        Layout::Queue(_) => QueueState::of(region).role_name(index),
        Layout::Namespace(_) => member::role_name(region, index),
        Layout::Broadcast(broadcast) => broadcast.role_name(index),
        Layout::Rpc(rpc) => rpc.role_name(index),
    }
}

fn broadcast_info(state: BroadcastState<'_>) -> BroadcastInfo {
    let (participants, layout) = (state.region.participants(), state.layout);
    let lag = |track, subscriber| {
        let (_, next) = state.cursor(track, subscriber).protected()?;
        let tail = state.tail(track).load(Ordering::Acquire); // edge: snapshot
        Some(tail.saturating_sub(next).min(layout.capacity))
    };
    let joined = state.with_role(broadcast::state::Role::Subscriber).zip(0..);
    let joined = joined.filter(|&(index, _)| participants.is_occupied(index));
    BroadcastInfo {
        policy: state.policy(),
        history: layout.geometry.history,
        keys: layout.geometry.keys,
        frames: layout.geometry.frames,
        frames_held: (0..layout.publishers()).map(|track| state.leases(track).leased()).sum(),
        evicted: state.evicted(),
        subscribers: joined
            .map(|(index, subscriber)| SubscriberInfo {
                pid: participants.pid(index),
                lags: (0..layout.publishers()).map(|track| lag(track, subscriber)).collect(),
            })
            .collect(),
    }
}

fn queue_info(queue: QueueState<'_>) -> QueueInfo {
    let mut stats = queue::Stats::read(queue);
    stats.tasks_lost = stats.tasks_lost.wrapping_add(queue.tasks_of_the_dead());
    QueueInfo {
        // Before the statuses: the status may be that of one that joins meanwhile, but the count
        // never includes one whose status is not there yet.
        senders_joined: queue.joins(Role::Sender),
        receivers_joined: queue.joins(Role::Receiver),
        on_death: queue::OnDeath::of(queue.layout.geometry.deliveries),
        stats,
        senders: queue.role_status(Role::Sender),
        receivers: queue.role_status(Role::Receiver),
    }
}

fn ring_info(region: &Region, pipe: &PipeLayout, index: usize) -> RingInfo {
    let unit = match pipe.element {
        ElementType::Bytes => 8,
        ElementType::Value { .. } => 1,
    };
    let at = PipeLayout::ring(index);
    let head = region.word(at + ring::HEAD).load(Ordering::Acquire); // edge: snapshot
    let tail = region.word(at + ring::TAIL).load(Ordering::Acquire);
    // Both change meanwhile, and either may be invalid: a snapshot, not a promise.
    let queued = tail.wrapping_sub(head).saturating_mul(unit).min(pipe.capacity);
    RingInfo { sent: tail.saturating_mul(unit), queued }
}
