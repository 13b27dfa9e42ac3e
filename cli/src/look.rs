//! `tombolo ls` and `tombolo inspect`: what the regions look like, for people and for programs.

use std::fmt::Write;

use indicatif::BinaryBytes;
use serde::Serialize;
use tombolo::{Element, ErrorKind, Inspection, Kind, Standing};

use crate::failure::Failure;
use crate::objects::Namespace;
use crate::output::{print, print_json, table};
use crate::place::Place;

/// A region, in our own words: what `--json` prints is not to change with the library's types.
#[derive(Serialize)]
pub struct View {
    kind: &'static str,
    /// Of messages, as its longest; a namespace has none of its own.
    element: Option<String>,
    capacity: u64,
    /// What `capacity`, `sent` and `queued` count.
    unit: &'static str,
    max_message_len: Option<u64>,
    size: u64,
    directions: Vec<Direction>,
    pub participants: Vec<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Queue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<Namespace>,
    pub abandoned: bool,
}

/// What only a queue has.
#[derive(Serialize)]
struct Queue {
    lanes: u64,
    /// By the living and the dead.
    lanes_used: u64,
    quarantined: u64,
    lost: u64,
    dropped: u64,
    pooled: u64,
    /// Bytes of memory for long messages, waiting and kept.
    extents_len: u64,
    closed: bool,
}

#[derive(Serialize)]
struct Direction {
    from: &'static str,
    to: &'static str,
    sent: u64,
    queued: u64,
}

#[derive(Serialize)]
pub struct User {
    pub part: &'static str,
    /// None if nobody has been there, or if it is on its way to a child process.
    pub pid: Option<u64>,
    pub standing: &'static str,
    joins: u64,
}

/// A name, and what is behind it.
#[derive(Serialize)]
struct Listed {
    name: String,
    #[serde(flatten)]
    found: Found,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    Region(Box<View>),
    Problem { problem: String },
}

impl View {
    pub fn new(seen: &Inspection) -> Self {
        let users: Vec<User> = seen
            .participants
            .iter()
            .map(|participant| User {
                part: participant.part,
                pid: (participant.pid != 0).then_some(participant.pid),
                standing: match participant.standing {
                    Standing::Vacant => "vacant",
                    Standing::Alive => "alive",
                    Standing::Left => "left",
                    Standing::Dead => "dead",
                    Standing::LockLost => "lock lost",
                    _ => "unknown",
                },
                joins: participant.joins,
            })
            .collect();
        let queue = seen.queue.map(|state| Queue {
            lanes: state.lanes,
            lanes_used: users.iter().filter(|user| user.is_there()).count() as u64,
            quarantined: state.quarantined,
            lost: state.lost,
            dropped: state.dropped,
            pooled: state.pooled,
            extents_len: state.extents_len,
            closed: state.is_closed,
        });
        let namespace = (seen.kind == Kind::Namespace).then(|| Namespace::new(seen, &users));
        // The first ring leads from the first part to the second, another one back.
        let part = |index: usize| match seen.kind {
            Kind::Queue => ["senders", "receivers"][index % 2],
            _ => users.get(index % 2).map_or("", |user| user.part),
        };
        let directions = seen.rings.iter().enumerate().map(|(index, ring)| Direction {
            from: part(index),
            to: part(index + 1),
            sent: ring.sent,
            queued: ring.queued,
        });
        Self {
            kind: match seen.kind {
                Kind::Pipe => "pipe",
                Kind::Queue => "queue",
                Kind::Namespace => "namespace",
                _ => "unknown",
            },
            element: namespace.is_none().then(|| seen.element.to_string()),
            capacity: seen.capacity,
            unit: match (seen.kind, seen.element) {
                (Kind::Pipe, Element::Bytes) => "bytes",
                (Kind::Namespace, _) => "objects",
                _ => "messages",
            },
            max_message_len: namespace.is_none().then_some(seen.max_message_len),
            size: seen.size,
            directions: directions.collect(),
            queue,
            namespace,
            abandoned: seen.is_abandoned(),
            participants: users,
        }
    }

    fn amount(&self, count: u64) -> String {
        if self.unit == "bytes" { BinaryBytes(count).to_string() } else { format!("{count} {}", self.unit) }
    }

    /// What its dead left behind is put right by others; in a pipe it is for their successors.
    pub fn is_repairable(&self) -> bool {
        self.queue.is_some() || self.namespace.is_some()
    }

    pub fn is_persistent(&self) -> bool {
        self.namespace.as_ref().is_some_and(|namespace| namespace.persistent)
    }

    /// A queue in which messages wait: its name is to stay.
    pub fn owes_messages(&self) -> bool {
        self.queue.is_some() && self.queued() > 0
    }

    fn queued(&self) -> u64 {
        self.directions.iter().map(|direction| direction.queued).sum()
    }

    /// What goes with it: such as "3 messages were waiting in it".
    pub fn loss_text(&self) -> String {
        match (&self.namespace, self.queued()) {
            (Some(_), _) => format!("{} were in it", self.amount(self.capacity)),
            (None, 0) => "nothing was waiting in it".to_string(),
            (None, queued) => format!("{} were waiting in it", self.amount(queued)),
        }
    }

    /// Such as "sender 4711 alive, receiver vacant", or "1 of 64 lanes: sender 4711 alive".
    pub fn users_text(&self) -> String {
        // Of a pipe every part is told, else who is there.
        let is_told = |user: &&User| !self.is_repairable() || user.is_there();
        let texts: Vec<String> = self.participants.iter().filter(is_told).map(User::to_text).collect();
        let users = if texts.is_empty() { "nobody".to_string() } else { texts.join(", ") };
        match &self.queue {
            Some(queue) => format!("{} of {} lanes: {users}", queue.lanes_used, queue.lanes),
            None => users,
        }
    }

    /// What waits, and of a queue what is amiss: such as "3 messages, 1 lost". Of a namespace, who holds what.
    fn content_text(&self) -> String {
        if let Some(namespace) = &self.namespace {
            return namespace.held_text();
        }
        let mut text = self.amount(self.queued());
        if let Some(queue) = &self.queue {
            let amiss = [("quarantined", queue.quarantined), ("lost", queue.lost), ("dropped", queue.dropped)];
            for (what, count) in amiss.into_iter().filter(|&(_, count)| count > 0) {
                let _ = write!(text, ", {count} {what}");
            }
        }
        text
    }

    fn details(&self) -> String {
        let mut text = format!("kind         {}\n", self.kind);
        if let (Some(element), Some(longest)) = (&self.element, self.max_message_len) {
            let (capacity, longest) = (self.amount(self.capacity), BinaryBytes(longest));
            let _ = write!(text, "element      {element}\ncapacity     {capacity}\nlongest      {longest}\n");
        }
        let _ = writeln!(text, "size         {}", BinaryBytes(self.size));
        if let Some(namespace) = &self.namespace {
            let persistent = if namespace.persistent { "yes" } else { "no" };
            let _ = write!(text, "objects      {}\npersistent   {persistent}\n", self.capacity);
        }
        if let Some(queue) = &self.queue {
            let _ = writeln!(text, "lanes        {} of {} used", queue.lanes_used, queue.lanes);
            for (what, count) in [
                ("quarantined", queue.quarantined),
                ("lost", queue.lost),
                ("dropped", queue.dropped),
                ("pooled", queue.pooled),
            ] {
                let _ = writeln!(text, "{what:<12} {}", self.amount(count));
            }
            let _ = writeln!(text, "extents      {}", BinaryBytes(queue.extents_len));
            let _ = writeln!(text, "closed       {}", if queue.closed { "yes" } else { "no" });
        }
        for direction in &self.directions {
            let (sent, queued) = (self.amount(direction.sent), self.amount(direction.queued));
            let _ = writeln!(text, "{:<12} to {}: {sent} sent, {queued} queued", direction.from, direction.to);
        }
        for user in &self.participants {
            let pid = user.pid.map_or(String::new(), |pid| format!(", process {pid}"));
            let _ = writeln!(text, "{:<12} {}{pid}, joined {} times", user.part, user.standing, user.joins);
        }
        if let Some(namespace) = &self.namespace {
            let _ = write!(text, "\n{}", namespace.table());
        }
        text
    }
}

impl User {
    /// Takes up a place, dead or alive.
    pub fn is_there(&self) -> bool {
        !matches!(self.standing, "left" | "vacant")
    }

    fn to_text(&self) -> String {
        match self.pid {
            Some(pid) => format!("{} {pid} {}", self.part, self.standing),
            None => format!("{} {}", self.part, self.standing),
        }
    }
}

pub fn ls(place: &Place, json: bool) -> Result<(), Failure> {
    let mut listed = Vec::new();
    for name in place.directory.names()? {
        let found = match place.directory.inspect(&name) {
            Ok(seen) => Found::Region(Box::new(View::new(&seen))),
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // it went while we looked
            Err(error) => Found::Problem { problem: error.to_string() },
        };
        listed.push(Listed { name, found });
    }
    if json {
        return print_json(&listed);
    }
    let mut rows = vec![["NAME", "KIND", "OF", "CAPACITY", "CONTENT", "SIZE", "USERS"].map(String::from)];
    let dash = || "-".to_string();
    rows.extend(listed.into_iter().map(|Listed { name, found }| match found {
        Found::Region(view) => [
            name,
            view.kind.to_string(),
            view.element.clone().unwrap_or_else(dash),
            view.amount(view.capacity),
            view.content_text(),
            BinaryBytes(view.size).to_string(),
            view.users_text(),
        ],
        Found::Problem { problem } => [name, dash(), dash(), dash(), dash(), dash(), problem],
    }));
    print(&table(&rows))
}

pub fn inspect(place: &Place, name: &str, json: bool) -> Result<(), Failure> {
    let view = Box::new(View::new(&place.directory.inspect(name)?));
    if json {
        return print_json(&Listed { name: name.to_string(), found: Found::Region(view) });
    }
    print(&format!("name         {name}\n{}", view.details()))
}
