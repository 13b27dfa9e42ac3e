//! `tombolo map`: reads and changes a map whose keys are text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::time::Duration;

use serde_json::{Map as JsonMap, Value};
use tombolo::collections::{Map, MapError};
use tombolo::sync::ObjectKind;

use crate::args::{MapAction, MapArgs};
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{print, print_json};
use crate::transfer::signals::Signals;

type Texts = Map<str, [u8]>;

/// Between two looks at the signals.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

pub fn run(location: &Location, args: &MapArgs) -> Result<(), Failure> {
    match &args.action {
        MapAction::Ls { name, json: false } => print(&list(&open(location, name)?)?),
        MapAction::Ls { name, json: true } => print_json(&dump(&open(location, name)?)?),
        MapAction::Get { name, key } => print(&get(&open(location, name)?, name, key)?),
        MapAction::Put { name, key, value } => {
            open(location, name)?.insert(key, value.as_bytes()).map(drop).map_err(|error| failure(name, error))
        }
        MapAction::Load { name } => load(&open(location, name)?, name),
        MapAction::Rm { name, key } => match open(location, name)?.remove(key).map_err(|error| failure(name, error))? {
            Some(_) => Ok(()),
            None => Err(missing(name, key)),
        },
        MapAction::Watch { name, key } => watch(&open(location, name)?, name, key),
    }
}

/// Opens NAME, or OBJECT of NAME/OBJECT.
fn open(location: &Location, name: &str) -> Result<Texts, Failure> {
    let (region, object) = name.split_once('/').unwrap_or((name, ""));
    let namespace = location.namespace().open(region)?;
    if object.is_empty() && !namespace.objects().any(|(name, _)| name.is_empty()) {
        let maps = namespace.objects().filter(|(_, kind)| *kind == ObjectKind::Map);
        let maps: Vec<String> = maps.map(|(object, _)| format!("{region}/{object}")).collect();
        let found = if maps.is_empty() { "no map".to_string() } else { maps.join(", ") };
        return Err(Failure::Usage(format!("{region:?} is a namespace with {found}: name one of its maps")));
    }
    Ok(namespace.map(object)?)
}

fn failure(name: &str, error: MapError) -> Failure {
    Failure::Error(format!("map {name:?}: {error}"))
}

fn missing(name: &str, key: &str) -> Failure {
    Failure::Error(format!("map {name:?} has no key {key:?}"))
}

fn get(map: &Texts, name: &str, key: &str) -> Result<String, Failure> {
    let value = map.get(key).map_err(|error| failure(name, error))?;
    Ok(text(&value.ok_or_else(|| missing(name, key))?) + "\n")
}

/// Bytes that are no text are shown as escapes.
fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// All entries, in the order of their keys.
fn entries(map: &Texts) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let entries: Result<Vec<_>, MapError> = map.iter().collect();
    let mut entries = entries.map_err(|error| Failure::Error(format!("cannot read the map: {error}")))?;
    entries.sort_unstable();
    Ok(entries)
}

fn list(map: &Texts) -> Result<String, Failure> {
    let mut lines = String::new();
    for (key, value) in entries(map)? {
        let _ = writeln!(lines, "{key}\t{}", text(&value).escape_debug());
    }
    Ok(lines)
}

fn dump(map: &Texts) -> Result<Value, Failure> {
    let entries = entries(map)?.into_iter().map(|(key, value)| (key, Value::String(text(&value))));
    Ok(Value::Object(entries.collect::<JsonMap<String, Value>>()))
}

/// Inserts the entries of a JSON object on standard input, up to the first that is refused.
fn load(map: &Texts, name: &str) -> Result<(), Failure> {
    let entries: BTreeMap<String, String> = serde_json::from_reader(io::stdin().lock())
        .map_err(|error| Failure::Error(format!("standard input is no JSON object of texts: {error}")))?;
    for (key, value) in entries {
        map.insert(&key, value.as_bytes()).map_err(|error| failure(name, error))?;
    }
    Ok(())
}

/// Prints the value, and each other one from then on, until a signal comes.
fn watch(map: &Texts, name: &str, key: &str) -> Result<(), Failure> {
    let signals = Signals::watch()?;
    let mut current: Option<Vec<u8>> = None;
    loop {
        signals.check()?;
        match map.wait_for_change(key, current.as_deref(), WATCH_INTERVAL) {
            Ok(next) => {
                let line = next.as_deref().map_or(String::new(), |value| text(value).escape_debug().to_string());
                print(&format!("{line}\n"))?;
                current = next;
            }
            Err(MapError::TimedOut | MapError::Interrupted) => {}
            Err(error) => return Err(failure(name, error)),
        }
    }
}
