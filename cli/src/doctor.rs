//! `tombolo doctor`: removes names that dead processes left behind, and repairs queues, broadcasts,
//! namespaces and requests that are still in use.

use std::fmt::Write;

use serde::Serialize;
use tombolo::ErrorKind;

use crate::failure::Failure;
use crate::inspect::view::RegionView;
use crate::location::Location;
use crate::output::{print, print_json};

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    LeftAlone,
    Repaired,
    WouldRepair,
    Removed,
    WouldRemove,
    CouldNotRemove,
}

impl Action {
    fn to_text(self) -> &'static str {
        match self {
            Self::LeftAlone => "left alone",
            Self::Repaired => "repaired",
            Self::WouldRepair => "would be repaired",
            Self::Removed => "removed",
            Self::WouldRemove => "would be removed",
            Self::CouldNotRemove => "could not be removed",
        }
    }
}

#[derive(Serialize)]
struct Finding {
    name: String,
    action: Action,
    reason: String,
    /// `None` if the file is not a region.
    region: Option<RegionView>,
}

pub fn run(location: &Location, json: bool, dry_run: bool) -> Result<(), Failure> {
    let mut findings = Vec::new();
    for name in location.directory.names()? {
        findings.extend(examine(location, name, dry_run));
    }
    let orphans = if dry_run { 0 } else { location.directory.remove_orphans()? };
    if json {
        print_json(&findings)?;
    } else {
        print(&summary(location, &findings, orphans))?;
    }
    match findings.iter().filter(|finding| finding.action == Action::CouldNotRemove).count() {
        0 => Ok(()),
        count => Err(Failure::Error(format!("{count} of the abandoned names could not be removed"))),
    }
}

/// Examines one name and does what is needed. Returns `None` if the name is gone.
fn examine(location: &Location, name: String, dry_run: bool) -> Option<Finding> {
    let view = match location.directory.inspect(&name) {
        Ok(info) => RegionView::new(&info),
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            return Some(Finding { name, action: Action::LeftAlone, reason: error.to_string(), region: None });
        }
    };
    let users = view.users_text();
    let (action, reason) = if view.participants.iter().any(|user| user.standing == "alive") {
        match repair(location, &name, &view, dry_run) {
            Ok((action, what)) => (action, format!("{what}in use: {users}")),
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => (Action::LeftAlone, error.to_string()),
        }
    } else if view.participants.iter().any(|user| user.standing == "lock lost") {
        (Action::LeftAlone, format!("used by a process that closed a descriptor that was not its own, end it: {users}"))
    } else if view.is_persistent() {
        (Action::LeftAlone, format!("persistent, stays until `tombolo rm` removes it: {users}"))
    } else if view.has_waiting_messages() {
        let waiting = view.data_loss();
        (Action::LeftAlone, format!("stays until they are received, or `tombolo rm` removes it: {waiting}; {users}"))
    } else {
        let reason = format!("abandoned: {users}; {}", view.data_loss());
        if dry_run {
            (Action::WouldRemove, reason)
        } else {
            match location.directory.unlink_if_stale(&name) {
                Ok(true) => (Action::Removed, reason),
                Ok(false) => (Action::LeftAlone, "in use: a process has just joined".to_string()),
                Err(error) if error.kind() == ErrorKind::NotFound => return None,
                Err(error) => (Action::CouldNotRemove, error.to_string()),
            }
        }
    };
    Some(Finding { name, action, reason, region: Some(view) })
}

/// Repairs a queue, broadcast, namespace or place for requests that is in use. Returns the action
/// and the beginning of its reason.
fn repair(location: &Location, name: &str, view: &RegionView, dry_run: bool) -> tombolo::Result<(Action, String)> {
    let dead = view.dead_to_repair();
    if dead == 0 {
        return Ok((Action::LeftAlone, String::new()));
    }
    if dry_run {
        return Ok((Action::WouldRepair, format!("{dead} dead to repair; ")));
    }
    Ok(match location.directory.repair(name)? {
        0 => (Action::LeftAlone, "others are repairing its dead, or it cannot be repaired yet; ".to_string()),
        count => (Action::Repaired, format!("{count} dead repaired; ")),
    })
}

fn summary(location: &Location, findings: &[Finding], orphans: usize) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{}: {} ({})", finding.name, finding.action.to_text(), finding.reason);
    }
    if orphans > 0 {
        let owners = if orphans == 1 { "namespace that is" } else { "namespaces that are" };
        let _ = writeln!(text, "objects of {orphans} {owners} gone: removed");
    }
    let count = |action| findings.iter().filter(|finding| finding.action == action).count();
    let _ = writeln!(
        text,
        "{}: {} {}, {} abandoned",
        location.directory.path().display(),
        findings.len(),
        if findings.len() == 1 { "name" } else { "names" },
        count(Action::Removed) + count(Action::WouldRemove) + count(Action::CouldNotRemove),
    );
    text
}
