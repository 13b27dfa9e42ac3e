//! What is known of a region, as `--json` prints it.
//!
//! The fields are the keys of the JSON output. They are separate from the library's types, so that
//! the output does not change when those do.

use std::fmt::Write;

use indicatif::BinaryBytes;
use serde::Serialize;
use tombolo::broadcast::Policy;
use tombolo::inspect::{BroadcastInfo, ElementType, ParticipantStatus, QueueInfo, RegionInfo, RegionKind, RpcInfo};
use tombolo::queue::{OnDeath, Stats};

use super::objects::Object;

/// A name and what is behind it.
#[derive(Serialize)]
pub struct NamedEntry {
    pub name: String,
    /// The processes that have it open, if it is a region without a name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open_in: Vec<u64>,
    #[serde(flatten)]
    pub entry: Entry,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum Entry {
    Region(Box<RegionView>),
    Problem { problem: String },
}

/// A pipe, a queue, a broadcast, a place for requests or a namespace.
#[derive(Serialize)]
pub struct RegionView {
    pub(super) kind: &'static str,
    /// What a message is. A namespace has none.
    pub(super) element: Option<String>,
    pub(super) capacity: u64,
    /// The unit of `capacity`, `sent` and `queued`.
    unit: &'static str,
    /// The longest message in bytes. A namespace has none.
    pub(super) max_message_bytes: Option<u64>,
    pub(super) size: u64,
    pub(super) directions: Vec<Direction>,
    pub participants: Vec<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<Queue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broadcast: Option<Broadcast>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rpc: Option<Rpc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<Namespace>,
    abandoned: bool,
}

/// What only a queue has.
#[derive(Serialize)]
pub struct Queue {
    pub(super) lanes: u64,
    /// Includes dead participants.
    pub(super) lanes_used: u64,
    pub(super) quarantined: u64,
    pub(super) lost: u64,
    /// What receivers had when they died or left, and `lost`.
    pub(super) tasks_lost: u64,
    pub(super) dropped: u64,
    pub(super) pooled: u64,
    /// Bytes of memory for long messages, in use and kept for reuse.
    pub(super) extents_bytes: u64,
    pub(super) closed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redelivery: Option<Redelivery>,
}

/// What only a queue has that redelivers.
#[derive(Serialize)]
pub struct Redelivery {
    /// How often a message is delivered again.
    pub(super) times: u8,
    /// Messages that were received and are not done.
    pub(super) unfinished: u64,
    /// Messages that are to be delivered again.
    pub(super) requeued: u64,
    pub(super) dead_letters: u64,
}

/// What only a broadcast has. How far subscribers are behind stands with the participants.
#[derive(Serialize)]
pub struct Broadcast {
    /// "lossless", "lossy" or "evict_slow".
    policy: &'static str,
    /// With "evict_slow": at which lag a subscriber is evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_lag: Option<u64>,
    /// How much of each publisher is kept for subscribers that join later.
    pub(super) history: u64,
    /// Of how many keys the latest value is kept.
    pub(super) keys: u64,
    /// How many frames each publisher has, and how many of all subscribers hold.
    pub(super) frames: u64,
    pub(super) frames_held: u64,
    /// How often a subscriber was evicted because it lagged.
    pub(super) evicted: u64,
    /// How many there can be at a time.
    pub(super) max_publishers: u64,
    pub(super) max_subscribers: u64,
}

/// What only a place for requests has.
#[derive(Serialize)]
pub struct Rpc {
    /// What a reply is.
    pub(super) reply: String,
    pub(super) max_reply_bytes: u64,
    /// How many there can be at a time.
    pub(super) max_callers: u64,
    pub(super) max_responders: u64,
    /// The requests that have no reply yet.
    pub(super) calls: Vec<Call>,
}

/// A request that has no reply yet.
#[derive(Serialize)]
pub struct Call {
    caller: u64,
    /// `None`: no responder has taken it.
    responder: Option<u64>,
}

/// What only a namespace has.
#[derive(Serialize)]
pub struct Namespace {
    /// Whether the name stays when the last participant leaves.
    pub(super) persistent: bool,
    pub(super) objects: Vec<Object>,
}

#[derive(Serialize)]
pub struct Direction {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) sent: u64,
    pub(super) queued: u64,
}

/// A participant of a region.
#[derive(Serialize)]
pub struct User {
    pub(super) part: &'static str,
    /// `None` if nobody has joined yet, or if the endpoint is being passed to a child process.
    pub(super) pid: Option<u64>,
    /// The PID namespace in which `pid` is its number, if that is not this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid_namespace: Option<u32>,
    pub standing: &'static str,
    pub(super) joins: u64,
    /// Of a subscriber: how far it is behind each publisher, `None` where it was evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    lags: Option<Vec<Option<u64>>>,
}

impl RegionView {
    pub fn new(info: &RegionInfo) -> Self {
        let mut participants: Vec<User> = info.participants.iter().map(User::new).collect();
        let broadcast = info.broadcast.as_ref().map(|broadcast| {
            add_lags(&mut participants, broadcast);
            Broadcast::new(info, broadcast)
        });
        let queue = info.queue.map(|QueueInfo { stats, on_death, .. }| Queue {
            lanes: info.max_participants,
            lanes_used: participants.iter().filter(|user| user.is_present()).count() as u64,
            quarantined: stats.quarantined,
            lost: stats.lost,
            tasks_lost: stats.tasks_lost,
            dropped: stats.dropped,
            pooled: stats.pooled,
            extents_bytes: stats.extents_bytes,
            closed: stats.is_closed,
            redelivery: match on_death {
                OnDeath::Redeliver { times } => {
                    let Stats { unfinished, requeued, dead_letters, .. } = stats;
                    Some(Redelivery { times, unfinished, requeued, dead_letters })
                }
                _ => None,
            },
        });
        let rpc = info.rpc.as_ref().map(Rpc::new);
        let namespace = (info.kind == RegionKind::Namespace).then(|| Namespace::new(info, &participants));
        Self {
            kind: match info.kind {
                RegionKind::Pipe => "pipe",
                RegionKind::Queue => "queue",
                RegionKind::Namespace => "namespace",
                RegionKind::Broadcast => "broadcast",
                RegionKind::Rpc => "rpc",
                _ => "unknown",
            },
            element: namespace.is_none().then(|| info.element.to_string()),
            capacity: info.capacity,
            unit: match (info.kind, info.element) {
                (RegionKind::Pipe, ElementType::Bytes) => "bytes",
                (RegionKind::Broadcast, ElementType::Bytes) => "slots",
                (RegionKind::Namespace, _) => "objects",
                (RegionKind::Rpc, _) => "requests",
                _ => "messages",
            },
            max_message_bytes: namespace.is_none().then_some(info.max_message_bytes),
            size: info.size,
            directions: directions(info, &participants),
            queue,
            broadcast,
            rpc,
            namespace,
            abandoned: info.is_stale(),
            participants,
        }
    }

    /// A count with its unit.
    pub(super) fn amount(&self, count: u64) -> String {
        match (count, self.unit) {
            (count, "bytes") => BinaryBytes(count).to_string(),
            (1, unit) => format!("1 {}", unit.trim_end_matches('s')),
            (count, unit) => format!("{count} {unit}"),
        }
    }

    /// How many of the dead `doctor` can repair while others use the region. A pipe is repaired by
    /// the next process that takes the dead one's role. In a broadcast only subscribers that hold
    /// publishers back need it, and of callers and responders those with a request.
    pub fn dead_to_repair(&self) -> usize {
        let needs_repair = |user: &&User| {
            let holds_others = match (&self.broadcast, &self.rpc) {
                (Some(_), _) => user.lag().is_some(),
                (None, Some(rpc)) => rpc.has_request(user),
                (None, None) => true,
            };
            user.standing == "dead" && holds_others
        };
        if self.is_pipe() { 0 } else { self.participants.iter().filter(needs_repair).count() }
    }

    fn is_pipe(&self) -> bool {
        self.queue.is_none() && self.broadcast.is_none() && self.namespace.is_none() && self.rpc.is_none()
    }

    pub fn is_persistent(&self) -> bool {
        self.namespace.as_ref().is_some_and(|namespace| namespace.persistent)
    }

    /// Whether it is a queue, or a pipe of values, with messages in it. They wait for a successor,
    /// so it keeps its name. What is left in a pipe of bytes may be half a stream.
    pub fn has_waiting_messages(&self) -> bool {
        (self.queue.is_some() || self.is_pipe() && self.unit != "bytes") && self.waiting() > 0
    }

    fn queued(&self) -> u64 {
        self.directions.iter().map(|direction| direction.queued).sum()
    }

    /// The same, and what a queue that redelivers has besides.
    fn waiting(&self) -> u64 {
        let redelivery = self.queue.as_ref().and_then(|queue| queue.redelivery.as_ref());
        self.queued() + redelivery.map_or(0, |of| of.unfinished + of.requeued + of.dead_letters)
    }

    /// What is lost when the region is removed, such as "3 messages were waiting in it".
    pub fn data_loss(&self) -> String {
        match (&self.namespace, self.waiting()) {
            (Some(_), _) => format!("it had {}", self.amount(self.capacity)),
            (None, 0) => "nothing was waiting in it".to_string(),
            (None, 1) if self.unit != "bytes" => format!("{} was waiting in it", self.amount(1)),
            (None, queued) => format!("{} were waiting in it", self.amount(queued)),
        }
    }

    /// Such as "sender 4711 alive, receiver vacant", or "1 of 64 participants: sender 4711 alive".
    pub fn users_text(&self) -> String {
        // A pipe shows both roles, taken or not; others show only participants that are present.
        let is_shown = |user: &&User| self.is_pipe() || user.is_present();
        let texts: Vec<String> = self.participants.iter().filter(is_shown).map(User::to_text).collect();
        let users = if texts.is_empty() { "nobody".to_string() } else { texts.join(", ") };
        match &self.queue {
            Some(queue) => format!("{} of {} participants: {users}", queue.lanes_used, queue.lanes),
            None => users,
        }
    }

    /// What a pipe or queue contains, such as "3 messages, 1 lost"; for a broadcast, its policy and
    /// what is unread; for a namespace, which objects are held and by whom.
    pub(super) fn content_text(&self) -> String {
        if let Some(namespace) = &self.namespace {
            return namespace.held_text();
        }
        if let Some(broadcast) = &self.broadcast {
            return broadcast.content_text(self);
        }
        if let Some(rpc) = &self.rpc {
            return rpc.content_text(self);
        }
        let mut text = self.amount(self.queued());
        if let Some(queue) = &self.queue {
            let mut counts = vec![("quarantined", queue.quarantined), ("lost", queue.lost), ("dropped", queue.dropped)];
            if let Some(Redelivery { unfinished, requeued, dead_letters, .. }) = queue.redelivery {
                counts.extend([("unfinished", unfinished), ("to redeliver", requeued), ("dead letters", dead_letters)]);
            }
            for (label, count) in counts.into_iter().filter(|&(_, count)| count > 0) {
                let _ = write!(text, ", {count} {label}");
            }
        }
        text
    }
}

/// The first ring of a pipe leads from the first role to the second; a second ring leads back. A
/// broadcast has a ring for each publisher.
fn directions(info: &RegionInfo, participants: &[User]) -> Vec<Direction> {
    let role = |index: usize| participants.get(index % 2).map_or("", |user| user.part);
    let rings = info.rings.iter().enumerate();
    let directions = rings.map(|(index, ring)| {
        let (from, to) = match info.kind {
            RegionKind::Queue => ("senders", "receivers"),
            RegionKind::Broadcast => ("publisher", "subscribers"),
            RegionKind::Rpc => ("callers", "responders"),
            _ => (role(index), role(index + 1)),
        };
        Direction { from, to, sent: ring.sent, queued: ring.queued }
    });
    directions.collect()
}

impl Rpc {
    fn new(info: &RpcInfo) -> Self {
        let calls = info.calls.iter().map(|call| Call { caller: call.caller, responder: call.responder });
        Self {
            reply: info.reply.to_string(),
            max_reply_bytes: info.max_reply_bytes,
            max_callers: info.max_callers,
            max_responders: info.max_responders,
            calls: calls.collect(),
        }
    }

    /// Whether a process waits for a reply, or has taken a request.
    fn has_request(&self, user: &User) -> bool {
        let has = |call: &Call| user.pid == Some(call.caller) || user.pid.is_some() && user.pid == call.responder;
        self.calls.iter().any(has)
    }

    /// Such as "2 requests waiting, 1 being executed".
    fn content_text(&self, view: &RegionView) -> String {
        let mut text = format!("{} waiting", view.amount(view.queued()));
        if self.executed() > 0 {
            let _ = write!(text, ", {} being executed", self.executed());
        }
        text
    }

    /// How many requests a responder has.
    pub fn executed(&self) -> u64 {
        self.calls.iter().filter(|call| call.responder.is_some()).count() as u64
    }

    /// What a reply is, and how long.
    pub fn reply_text(&self) -> String {
        format!("{}, up to {} bytes", self.reply, self.max_reply_bytes)
    }
}

impl Broadcast {
    fn new(info: &RegionInfo, broadcast: &BroadcastInfo) -> Self {
        let (policy, max_lag) = match broadcast.policy {
            Policy::Lossless => ("lossless", None),
            Policy::Lossy => ("lossy", None),
            Policy::EvictSlow { lag } => ("evict_slow", Some(lag as u64)),
            _ => ("unknown", None),
        };
        let max_publishers = info.rings.len() as u64;
        Self {
            policy,
            max_lag,
            history: broadcast.history,
            keys: broadcast.keys,
            frames: broadcast.frames,
            frames_held: broadcast.frames_held,
            evicted: broadcast.evicted,
            max_publishers,
            max_subscribers: info.max_participants.saturating_sub(max_publishers),
        }
    }

    pub(super) fn policy_text(&self, view: &RegionView) -> String {
        self.max_lag.map_or(self.policy.to_string(), |lag| format!("evicts slow ones at a lag of {}", view.amount(lag)))
    }

    /// Such as "lossless, 3 slots unread, history 10 slots".
    fn content_text(&self, view: &RegionView) -> String {
        let mut text = format!("{}, {} unread", self.policy_text(view), view.amount(view.queued()));
        if self.history > 0 {
            let _ = write!(text, ", history {}", view.amount(self.history));
        }
        if self.frames > 0 {
            let _ = write!(text, ", {} of {} frames held", self.frames_held, self.frames * self.max_publishers);
        }
        if self.evicted > 0 {
            let _ = write!(text, ", {} evicted", self.evicted);
        }
        text
    }
}

/// Adds to each subscriber that is present how far it is behind. Both lists have the same order.
fn add_lags(participants: &mut [User], broadcast: &BroadcastInfo) {
    let mut subscribers = broadcast.subscribers.iter().peekable();
    for user in participants.iter_mut().filter(|user| user.part == "subscriber" && user.is_present()) {
        if let Some(subscriber) = subscribers.next_if(|one| Some(one.pid) == user.pid) {
            user.lags = Some(subscriber.lags.clone());
        }
    }
}

impl Namespace {
    /// The most objects that `held_text` names.
    const HELD_SHOWN: usize = 3;

    fn new(info: &RegionInfo, participants: &[User]) -> Self {
        // A process that left and joined again has two records; the one that is present counts.
        let (present, gone): (Vec<&User>, Vec<&User>) = participants.iter().partition(|user| user.is_present());
        let users = gone.into_iter().chain(present);
        let users = users.filter_map(|user| Some((user.pid?, (user.standing, user.pid_namespace)))).collect();
        let objects = info.objects.iter().map(|object| Object::new(object, &users)).collect();
        Self { persistent: info.is_persistent, objects }
    }

    /// Which objects are held and by whom, such as "book: 4711; slots: 4711 x2, 4712 (dead)".
    fn held_text(&self) -> String {
        let held: Vec<&Object> = self.objects.iter().filter(|object| object.is_held()).collect();
        let mut texts: Vec<String> = held.iter().take(Self::HELD_SHOWN).map(|object| object.held_text()).collect();
        if held.len() > Self::HELD_SHOWN {
            texts.push(format!("{} more", held.len() - Self::HELD_SHOWN));
        }
        if texts.is_empty() { "nothing held".to_string() } else { texts.join("; ") }
    }
}

/// Such as "4711", or "1 of PID namespace 4026532281".
pub(super) fn process_text(pid: u64, other_namespace: Option<u32>) -> String {
    other_namespace.map_or(pid.to_string(), |namespace| format!("{pid} of PID namespace {namespace}"))
}

impl User {
    fn new(participant: &tombolo::inspect::ParticipantInfo) -> Self {
        Self {
            part: participant.role,
            pid: (participant.pid != 0).then_some(participant.pid),
            pid_namespace: participant.other_pid_namespace,
            standing: match participant.status {
                ParticipantStatus::Vacant => "vacant",
                ParticipantStatus::Alive => "alive",
                ParticipantStatus::Left => "left",
                ParticipantStatus::Dead => "dead",
                ParticipantStatus::LockLost => "lock lost",
                _ => "unknown",
            },
            joins: participant.joins,
            lags: None,
        }
    }

    /// How far a subscriber is behind all publishers, if it was not evicted.
    fn lag(&self) -> Option<u64> {
        self.lags.as_ref()?.iter().copied().sum()
    }

    /// Such as "3 behind", or "evicted".
    pub(super) fn lag_text(&self) -> Option<String> {
        self.lags.as_ref()?;
        Some(self.lag().map_or("evicted".to_string(), |lag| format!("{lag} behind")))
    }

    /// Whether it occupies a place, dead or alive.
    fn is_present(&self) -> bool {
        !matches!(self.standing, "left" | "vacant")
    }

    pub(super) fn process_text(&self) -> Option<String> {
        Some(process_text(self.pid?, self.pid_namespace))
    }

    fn to_text(&self) -> String {
        let process = self.process_text().map_or(String::new(), |process| format!(" {process}"));
        let lag = self.lag_text().map_or(String::new(), |lag| format!(" ({lag})"));
        format!("{}{process} {}{lag}", self.part, self.standing)
    }
}
