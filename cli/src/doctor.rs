//! `tombolo doctor`: goes through the names and removes what dead processes left behind. In a queue or namespace that others
//! use, it puts right what they left behind.

use std::fmt::Write;

use serde::Serialize;
use tombolo::ErrorKind;

use crate::failure::Failure;
use crate::look::View;
use crate::output::{print, print_json};
use crate::place::Place;

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
    /// None if it is no region of ours.
    region: Option<View>,
}

pub fn run(place: &Place, json: bool, dry_run: bool) -> Result<(), Failure> {
    let mut findings = Vec::new();
    for name in place.directory.names()? {
        findings.extend(examine(place, name, dry_run));
    }
    if json {
        print_json(&findings)?;
    } else {
        print(&story(place, &findings))?;
    }
    match findings.iter().filter(|finding| finding.action == Action::CouldNotRemove).count() {
        0 => Ok(()),
        count => Err(Failure::Error(format!("{count} of the abandoned names could not be removed"))),
    }
}

/// What is behind a name and what was done about it; none if it went meanwhile.
fn examine(place: &Place, name: String, dry_run: bool) -> Option<Finding> {
    let view = match place.directory.inspect(&name) {
        Ok(seen) => View::new(&seen),
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            return Some(Finding { name, action: Action::LeftAlone, reason: error.to_string(), region: None });
        }
    };
    let users = view.users_text();
    let (action, reason) = if view.participants.iter().any(|user| user.standing == "alive") {
        match repair(place, &name, &view, dry_run) {
            Ok((action, what)) => (action, format!("{what}in use: {users}")),
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => (Action::LeftAlone, error.to_string()),
        }
    } else if view.participants.iter().any(|user| user.standing == "lock lost") {
        (Action::LeftAlone, format!("used by a process that closed a descriptor that was not its own, end it: {users}"))
    } else if view.is_persistent() {
        (Action::LeftAlone, format!("persistent, stays until `tombolo rm` removes it: {users}"))
    } else if view.owes_messages() {
        let waits = view.loss_text();
        (Action::LeftAlone, format!("stays until they are received, or `tombolo rm` removes it: {waits}; {users}"))
    } else {
        let reason = format!("abandoned: {users}; {}", view.loss_text());
        if dry_run {
            (Action::WouldRemove, reason)
        } else {
            match place.directory.unlink_if_abandoned(&name) {
                Ok(true) => (Action::Removed, reason),
                Ok(false) => (Action::LeftAlone, "in use: somebody came just now".to_string()),
                Err(error) if error.kind() == ErrorKind::NotFound => return None,
                Err(error) => (Action::CouldNotRemove, error.to_string()),
            }
        }
    };
    Some(Finding { name, action, reason, region: Some(view) })
}

/// Puts right what the dead left behind in a queue or namespace that is in use.
fn repair(place: &Place, name: &str, view: &View, dry_run: bool) -> tombolo::Result<(Action, String)> {
    let dead = view.participants.iter().filter(|user| user.standing == "dead").count();
    if !view.is_repairable() || dead == 0 {
        return Ok((Action::LeftAlone, String::new()));
    }
    if dry_run {
        return Ok((Action::WouldRepair, format!("{dead} dead to put right; ")));
    }
    Ok(match place.directory.repair(name)? {
        0 => (Action::LeftAlone, "its dead are being put right by others, or cannot be yet; ".to_string()),
        count => (Action::Repaired, format!("{count} dead put right; ")),
    })
}

fn story(place: &Place, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{}: {} ({})", finding.name, finding.action.to_text(), finding.reason);
    }
    let count = |action| findings.iter().filter(|finding| finding.action == action).count();
    let _ = writeln!(
        text,
        "{}: {} names, {} abandoned",
        place.directory.path().display(),
        findings.len(),
        count(Action::Removed) + count(Action::WouldRemove) + count(Action::CouldNotRemove),
    );
    text
}
