//! The objects of a namespace: what `tombolo inspect` and `tombolo ls` say of them.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use tombolo::{Element, Inspection, ObjectKind, ObjectState};

use crate::look::User;
use crate::output::table;

/// What only a namespace has.
#[derive(Serialize)]
pub struct Namespace {
    /// The name stays when everybody has left.
    pub persistent: bool,
    objects: Vec<Object>,
}

#[derive(Serialize)]
struct Object {
    name: String,
    kind: String,
    element: Option<String>,
    /// Elements, permits, parties, or the capacity of a queue.
    length: Option<u64>,
    /// `element` and `length`, for people.
    #[serde(skip)]
    of: String,
    value: Option<String>,
    /// Has its lock.
    holder: Option<Process>,
    /// Read under its lock, own permits of it, or have come to it.
    users: Vec<Users>,
    state: String,
}

#[derive(Serialize)]
struct Process {
    pid: u64,
    /// As a participant's; "unknown" if it is none.
    standing: &'static str,
}

/// One process, which may be several of an object's users.
#[derive(Serialize)]
struct Users {
    #[serde(flatten)]
    process: Process,
    count: u64,
}

/// Objects that `ls` names, of those that somebody holds.
const OBJECTS_LISTED: usize = 3;

/// Processes that a line names.
const USERS_LISTED: usize = 8;

/// The tags that the library gives to the numbers of the language, whose sizes everybody knows.
const NUMBERS: [&str; 14] =
    ["u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize", "f32", "f64", "u128", "i128"];

impl Namespace {
    pub fn new(seen: &Inspection, members: &[User]) -> Self {
        // A process that left and came again has two records: what it holds, it holds as the one that is there.
        let (there, gone): (Vec<&User>, Vec<&User>) = members.iter().partition(|member| member.is_there());
        let members = gone.into_iter().chain(there);
        let standings = members.filter_map(|member| Some((member.pid?, member.standing))).collect();
        let objects = seen.objects.iter().map(|state| Object::new(state, &standings)).collect();
        Self { persistent: seen.is_persistent, objects }
    }

    /// Who holds what, such as "book: 4711; slots: 4711 x2, 4712 (dead)".
    pub fn held_text(&self) -> String {
        let held: Vec<&Object> = self.objects.iter().filter(|object| object.is_held()).collect();
        let mut texts: Vec<String> = held.iter().take(OBJECTS_LISTED).map(|object| object.held_text()).collect();
        if held.len() > OBJECTS_LISTED {
            texts.push(format!("{} more", held.len() - OBJECTS_LISTED));
        }
        if texts.is_empty() { "nothing held".to_string() } else { texts.join("; ") }
    }

    /// One line for each object. Values come last: they can be long.
    pub fn table(&self) -> String {
        let mut rows = vec![["OBJECT", "KIND", "OF", "HOLDER", "USERS", "STATE", "VALUE"].map(String::from)];
        rows.extend(self.objects.iter().map(|object| {
            let holder = object.holder.as_ref().map_or(String::new(), Process::to_text);
            let value = object.value.clone().unwrap_or_default();
            let (users, state) = (object.users_text(), object.state.clone());
            let cells = [object.name.clone(), object.kind.clone(), object.of.clone(), holder, users, state, value];
            cells.map(|cell| if cell.is_empty() { "-".to_string() } else { cell })
        }));
        table(&rows)
    }
}

impl Object {
    fn new(seen: &ObjectState, standings: &HashMap<u64, &'static str>) -> Self {
        let process = |pid: u64| Process { pid, standing: standings.get(&pid).copied().unwrap_or("unknown") };
        let mut counts = BTreeMap::<u64, u64>::new();
        for &pid in &seen.users {
            *counts.entry(pid).or_default() += 1;
        }
        let state = match seen.holder {
            Some(_) if seen.state.is_empty() => "held".to_string(),
            _ => seen.state.clone(),
        };
        Self {
            name: seen.name.clone(),
            kind: seen.kind.to_string(),
            element: seen.element.map(|element| element.to_string()),
            length: seen.length,
            of: content_text(seen),
            value: seen.value.clone(),
            holder: seen.holder.map(process),
            users: counts.into_iter().map(|(pid, count)| Users { process: process(pid), count }).collect(),
            state,
        }
    }

    fn is_held(&self) -> bool {
        self.holder.is_some() || !self.users.is_empty()
    }

    fn held_text(&self) -> String {
        let holder = self.holder.as_ref().map(Process::to_text);
        let users = Some(self.users_text()).filter(|text| !text.is_empty());
        let by = holder.into_iter().chain(users).collect::<Vec<_>>().join(", ");
        // One on its own has no name in its namespace.
        if self.name.is_empty() { by } else { format!("{}: {by}", self.name) }
    }

    fn users_text(&self) -> String {
        let mut texts: Vec<String> = self.users.iter().take(USERS_LISTED).map(Users::to_text).collect();
        if self.users.len() > USERS_LISTED {
            texts.push(format!("{} more", self.users.len() - USERS_LISTED));
        }
        texts.join(", ")
    }
}

impl Process {
    fn to_text(&self) -> String {
        match self.standing {
            "alive" => self.pid.to_string(),
            standing => format!("{} ({standing})", self.pid),
        }
    }
}

impl Users {
    fn to_text(&self) -> String {
        match self.count {
            1 => self.process.to_text(),
            count => format!("{} x{count}", self.process.to_text()),
        }
    }
}

/// What it holds and how much of it, such as "10 x f64" or "4 permits".
fn content_text(seen: &ObjectState) -> String {
    let element = seen.element.map_or(String::new(), element_text);
    match (seen.kind, seen.length) {
        (ObjectKind::BoundedSemaphore, Some(length)) => format!("{length} permits"),
        (ObjectKind::Barrier, Some(length)) => format!("{length} parties"),
        (_, Some(length)) => format!("{length} x {element}"),
        (_, None) => element,
    }
}

/// Shorter than the library says it: for a cell of a table.
fn element_text(element: Element) -> String {
    let Element::Value { size, tag, .. } = element else { return element.to_string() };
    let length = tag.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let tag = tag.get(..length).unwrap_or_default().escape_ascii().to_string();
    match tag.as_str() {
        "" => format!("{size} bytes"),
        number if NUMBERS.contains(&number) => tag,
        _ => format!("{size} bytes tagged \"{tag}\""),
    }
}
