//! `tombolo map`: reads and changes a map.

mod element;
mod typed;

use std::fmt::Write;
use std::io;
use std::time::Duration;

use serde_json::{Map as JsonMap, Value};
use tombolo::collections::MapError;
use tombolo::sync::ObjectKind;

use self::typed::{AnyMap, Moment, Refused};
use crate::args::{MapAction, MapArgs};
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{print, print_json};
use crate::transfer::signals::Signals;

/// Between two looks at the signals.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

pub fn run(location: &Location, args: &MapArgs) -> Result<(), Failure> {
    let name = args.action.name();
    let map = open(location, name)?;
    let failed = |refused| failure(name, refused);
    match &args.action {
        MapAction::Ls { json: false, .. } => print(&list(&*map).map_err(failed)?),
        MapAction::Ls { json: true, .. } => print_json(&object(&*map, Moment::Any).map_err(failed)?),
        MapAction::Dump { .. } => print_json(&object(&*map, Moment::One).map_err(failed)?),
        MapAction::Get { key, json, .. } => {
            let value = map.get(key).map_err(failed)?.ok_or_else(|| missing(name, key))?;
            print(&format!("{}\n", if *json { value.json.to_string() } else { value.text }))
        }
        MapAction::Put { key, value, .. } => map.put(key, value).map_err(failed),
        MapAction::Load { .. } => map.load(&read_object()?).map_err(failed),
        MapAction::Rm { key, .. } => match map.remove(key).map_err(failed)? {
            true => Ok(()),
            false => Err(missing(name, key)),
        },
        MapAction::Watch { key, json, .. } => watch(&*map, name, key, *json),
    }
}

/// Opens NAME, or OBJECT of NAME/OBJECT.
fn open(location: &Location, name: &str) -> Result<Box<dyn AnyMap>, Failure> {
    let (region, object) = name.split_once('/').unwrap_or((name, ""));
    let namespace = location.namespace().open(region)?;
    if object.is_empty() && !namespace.objects().any(|(name, _)| name.is_empty()) {
        let maps = namespace.objects().filter(|(_, kind)| *kind == ObjectKind::Map);
        let maps: Vec<String> = maps.map(|(object, _)| format!("{region}/{object}")).collect();
        let found = if maps.is_empty() { "no map".to_string() } else { maps.join(", ") };
        return Err(Failure::Usage(format!("{region:?} is a namespace with {found}: name one of its maps")));
    }
    typed::open(&namespace, object)
}

fn failure(name: &str, refused: Refused) -> Failure {
    match refused {
        Refused::Map(error) => Failure::Error(format!("map {name:?}: {error}")),
        Refused::Text(text, expected) => Failure::Error(format!("map {name:?}: {text} is not {expected}")),
    }
}

fn missing(name: &str, key: &str) -> Failure {
    Failure::NoKey(format!("map {name:?} has no key {key:?}"))
}

/// A line for each entry.
fn list(map: &dyn AnyMap) -> Result<String, Refused> {
    let mut lines = String::new();
    for (key, value) in map.entries(Moment::Any)? {
        let _ = writeln!(lines, "{}\t{}", key.escape_debug(), value.text.escape_debug());
    }
    Ok(lines)
}

fn object(map: &dyn AnyMap, moment: Moment) -> Result<Value, Refused> {
    let entries = map.entries(moment)?.into_iter().map(|(key, value)| (key, value.json));
    Ok(Value::Object(entries.collect()))
}

/// Reads a JSON object from standard input.
fn read_object() -> Result<JsonMap<String, Value>, Failure> {
    serde_json::from_reader(io::stdin().lock())
        .map_err(|error| Failure::Error(format!("standard input is no JSON object: {error}")))
}

/// Prints the value, and each other one from then on, until a signal comes.
fn watch(map: &dyn AnyMap, name: &str, key: &str, is_json: bool) -> Result<(), Failure> {
    let signals = Signals::watch()?;
    let mut watcher = map.watch(key).map_err(|refused| failure(name, refused))?;
    loop {
        signals.check()?;
        let line = match watcher.next(WATCH_INTERVAL) {
            Ok(value) if is_json => value.map_or(Value::Null, |value| value.json).to_string(),
            Ok(value) => value.map_or(String::new(), |value| value.text.escape_debug().to_string()),
            Err(MapError::TimedOut | MapError::Interrupted) => continue,
            Err(error) => return Err(failure(name, error.into())),
        };
        print(&format!("{line}\n"))?;
    }
}
