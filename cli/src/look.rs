//! `tombolo ls` and `tombolo inspect`: what the regions look like, for people and for programs.

use std::fmt::Write;

use indicatif::BinaryBytes;
use serde::Serialize;
use tombolo::{Element, ErrorKind, Inspection, Kind, Standing};

use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::place::Place;

/// A region, in our own words: what `--json` prints is not to change with the library's types.
#[derive(Serialize)]
pub struct View {
    kind: &'static str,
    element: String,
    capacity: u64,
    /// What `capacity`, `sent` and `queued` count.
    unit: &'static str,
    max_message_len: u64,
    size: u64,
    directions: Vec<Direction>,
    pub participants: Vec<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Queue>,
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
    Region(View),
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
            closed: state.is_closed,
        });
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
                _ => "unknown",
            },
            element: seen.element.to_string(),
            capacity: seen.capacity,
            unit: match (seen.kind, seen.element) {
                (Kind::Pipe, Element::Bytes) => "bytes",
                _ => "messages",
            },
            max_message_len: seen.max_message_len,
            size: seen.size,
            directions: directions.collect(),
            queue,
            abandoned: seen.is_abandoned(),
            participants: users,
        }
    }

    fn amount(&self, count: u64) -> String {
        if self.unit == "bytes" { BinaryBytes(count).to_string() } else { format!("{count} {}", self.unit) }
    }

    pub fn is_queue(&self) -> bool {
        self.queue.is_some()
    }

    pub fn queued(&self) -> u64 {
        self.directions.iter().map(|direction| direction.queued).sum()
    }

    pub fn queued_text(&self) -> String {
        self.amount(self.queued())
    }

    /// Such as "sender 4711 alive, receiver vacant", or "1 of 64 lanes: sender 4711 alive".
    pub fn users_text(&self) -> String {
        let Some(queue) = &self.queue else {
            let texts: Vec<String> = self.participants.iter().map(User::to_text).collect();
            return texts.join(", ");
        };
        let texts: Vec<String> = self.participants.iter().filter(|user| user.is_there()).map(User::to_text).collect();
        let users = if texts.is_empty() { "nobody".to_string() } else { texts.join(", ") };
        format!("{} of {} lanes: {users}", queue.lanes_used, queue.lanes)
    }

    /// What waits, and of a queue what is amiss: such as "3 messages, 1 lost".
    fn content_text(&self) -> String {
        let mut text = self.queued_text();
        if let Some(queue) = &self.queue {
            let amiss = [("quarantined", queue.quarantined), ("lost", queue.lost), ("dropped", queue.dropped)];
            for (what, count) in amiss.into_iter().filter(|&(_, count)| count > 0) {
                let _ = write!(text, ", {count} {what}");
            }
        }
        text
    }

    fn details(&self) -> String {
        let mut text = format!(
            "kind         {}\nelement      {}\ncapacity     {}\nlongest      {}\nsize         {}\n",
            self.kind,
            self.element,
            self.amount(self.capacity),
            BinaryBytes(self.max_message_len),
            BinaryBytes(self.size),
        );
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
            Ok(seen) => Found::Region(View::new(&seen)),
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // it went while we looked
            Err(error) => Found::Problem { problem: error.to_string() },
        };
        listed.push(Listed { name, found });
    }
    if json {
        return print_json(&listed);
    }
    let mut rows = vec![["NAME", "KIND", "OF", "CAPACITY", "QUEUED", "SIZE", "USERS"].map(String::from)];
    rows.extend(listed.into_iter().map(|Listed { name, found }| match found {
        Found::Region(view) => [
            name,
            view.kind.to_string(),
            view.element.clone(),
            view.amount(view.capacity),
            view.content_text(),
            BinaryBytes(view.size).to_string(),
            view.users_text(),
        ],
        Found::Problem { problem } => {
            let dash = || "-".to_string();
            [name, dash(), dash(), dash(), dash(), dash(), problem]
        }
    }));
    print(&table(&rows))
}

/// Columns as wide as their widest cell; the last one as it comes.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

pub fn inspect(place: &Place, name: &str, json: bool) -> Result<(), Failure> {
    let view = View::new(&place.directory.inspect(name)?);
    if json {
        return print_json(&Listed { name: name.to_string(), found: Found::Region(view) });
    }
    print(&format!("name         {name}\n{}", view.details()))
}
