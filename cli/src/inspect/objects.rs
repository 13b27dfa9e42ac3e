//! The objects of a namespace, as `tombolo inspect` and `tombolo ls` show them.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use tombolo::inspect::{ElementType, MapInfo, MapSizeInfo, ObjectInfo};
use tombolo::sync::ObjectKind;

use super::view::process_text;

/// The most processes that one cell of a table names.
const USERS_SHOWN: usize = 8;

/// The tags that the library gives to Rust's numbers. Their sizes need not be shown.
const NUMBERS: [&str; 14] =
    ["u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize", "f32", "f64", "u128", "i128"];

/// An object. The fields are the keys of the JSON output.
#[derive(Serialize)]
pub struct Object {
    name: String,
    kind: String,
    element: Option<String>,
    /// The number of elements, permits or parties, or the capacity of a queue.
    length: Option<u64>,
    /// `element` and `length`, for people.
    #[serde(skip)]
    of: String,
    value: Option<String>,
    /// The process that has the object's lock.
    holder: Option<Process>,
    /// The processes that hold a read lock, own permits or wait at the barrier.
    users: Vec<ObjectUser>,
    state: String,
    /// What only a map has.
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<MapView>,
}

/// How full a map is, and how its entries are spread.
#[derive(Serialize)]
struct MapView {
    sizes: Vec<SizeView>,
    /// Entries of a bucket, on average.
    load: f64,
    /// How many buckets have no entry, one, two, and so on.
    chains: Vec<u64>,
}

/// Entries of one size.
#[derive(Serialize)]
struct SizeView {
    bytes: u64,
    used: u64,
    capacity: u64,
}

#[derive(Serialize)]
struct Process {
    pid: u64,
    /// As in the region's participants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid_namespace: Option<u32>,
    /// As in the region's participants; "unknown" for a process that is none of them.
    standing: &'static str,
}

/// A process that uses an object, `count` times.
#[derive(Serialize)]
struct ObjectUser {
    #[serde(flatten)]
    process: Process,
    count: u64,
}

impl Object {
    /// `processes` has the status of each process of the region, as shown, and its PID namespace if
    /// that is another one.
    pub fn new(info: &ObjectInfo, processes: &HashMap<u64, (&'static str, Option<u32>)>) -> Self {
        let process = |pid: u64| {
            let (standing, pid_namespace) = processes.get(&pid).copied().unwrap_or(("unknown", None));
            Process { pid, pid_namespace, standing }
        };
        let mut counts = BTreeMap::<u64, u64>::new();
        for &pid in &info.users {
            *counts.entry(pid).or_default() += 1;
        }
        let state = match info.holder {
            Some(_) if info.state.is_empty() => "held".to_string(),
            _ => info.state.clone(),
        };
        Self {
            name: info.name.clone(),
            kind: info.kind.to_string(),
            element: info.element.map(|element| element.to_string()),
            length: info.length,
            of: content_text(info),
            value: info.value.clone(),
            holder: info.holder.map(process),
            users: counts.into_iter().map(|(pid, count)| ObjectUser { process: process(pid), count }).collect(),
            state,
            map: info.map.as_ref().map(MapView::new),
        }
    }

    pub fn is_held(&self) -> bool {
        self.holder.is_some() || !self.users.is_empty()
    }

    pub fn held_text(&self) -> String {
        let holder = self.holder.as_ref().map(Process::to_text);
        let users = Some(self.users_text()).filter(|text| !text.is_empty());
        let processes = holder.into_iter().chain(users).collect::<Vec<_>>().join(", ");
        // An object that is alone in its region has no name of its own.
        if self.name.is_empty() { processes } else { format!("{}: {processes}", self.name) }
    }

    /// Its line in a table.
    pub fn cells(&self) -> [String; 7] {
        let holder = self.holder.as_ref().map_or(String::new(), Process::to_text);
        let value = self.value.clone().unwrap_or_default();
        let (users, state) = (self.users_text(), self.state.clone());
        let cells = [self.name.clone(), self.kind.clone(), self.of.clone(), holder, users, state, value];
        cells.map(|cell| if cell.is_empty() { "-".to_string() } else { cell })
    }

    /// Lines below the table, of a map.
    pub fn map_text(&self) -> Option<String> {
        // An object that is alone in its region has no name of its own.
        let name = if self.name.is_empty() { String::new() } else { format!("map          {}\n", self.name) };
        Some(format!("\n{name}{}", self.map.as_ref()?.to_text()))
    }

    fn users_text(&self) -> String {
        let mut texts: Vec<String> = self.users.iter().take(USERS_SHOWN).map(ObjectUser::to_text).collect();
        if self.users.len() > USERS_SHOWN {
            texts.push(format!("{} more", self.users.len() - USERS_SHOWN));
        }
        texts.join(", ")
    }
}

impl MapView {
    fn new(info: &MapInfo) -> Self {
        let size = |size: &MapSizeInfo| SizeView { bytes: size.bytes, used: size.used, capacity: size.capacity };
        Self { sizes: info.sizes.iter().map(size).collect(), load: info.load(), chains: info.chains.clone() }
    }

    fn to_text(&self) -> String {
        let size = |size: &SizeView| format!("{} of {} up to {} bytes", size.used, size.capacity, size.bytes);
        let sizes = self.sizes.iter().map(size).collect::<Vec<_>>().join(", ");
        // The longest first: these are what makes operations slow.
        let chains = self.chains.iter().enumerate().rev().filter(|(_, count)| **count > 0);
        let chains = chains.map(|(length, count)| format!("{count} of {length}")).collect::<Vec<_>>().join(", ");
        format!("entries      {sizes}\nload         {:.2} entries per bucket\nbuckets      {chains}\n", self.load)
    }
}

impl Process {
    fn to_text(&self) -> String {
        let process = process_text(self.pid, self.pid_namespace);
        match self.standing {
            "alive" => process,
            standing => format!("{process} ({standing})"),
        }
    }
}

impl ObjectUser {
    fn to_text(&self) -> String {
        match self.count {
            1 => self.process.to_text(),
            count => format!("{} x{count}", self.process.to_text()),
        }
    }
}

/// What the object holds and how much of it, such as "10 x f64" or "4 permits".
fn content_text(info: &ObjectInfo) -> String {
    let element = info.element.map_or(String::new(), element_text);
    match (info.kind, info.length) {
        (ObjectKind::BoundedSemaphore, Some(length)) => format!("{length} permits"),
        (ObjectKind::Barrier, Some(length)) => format!("{length} parties"),
        (_, Some(length)) => format!("{length} x {element}"),
        (_, None) => element,
    }
}

/// A short form of the library's text, for a cell of a table.
fn element_text(element: ElementType) -> String {
    let ElementType::Value { size, tag, .. } = element else { return element.to_string() };
    if !tag.is_ascii() {
        let hash = u64::from_le_bytes(tag);
        return format!("{size} bytes tagged {hash:#018x}");
    }
    let length = tag.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let tag = tag.get(..length).unwrap_or_default().escape_ascii().to_string();
    match tag.as_str() {
        "" => format!("{size} bytes"),
        number if NUMBERS.contains(&number) => tag,
        array if array.starts_with('[') && array.ends_with(']') => tag,
        _ => format!("{size} bytes tagged \"{tag}\""),
    }
}
