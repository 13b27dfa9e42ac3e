//! `tombolo ls`: one line for each name and each unnamed region.

use indicatif::BinaryBytes;
use tombolo::ErrorKind;

use super::unnamed;
use super::view::{Entry, NamedEntry, RegionView};
use crate::failure::{Failure, print_message};
use crate::location::Location;
use crate::output::{print, print_json, table};

pub fn run(location: &Location, json: bool) -> Result<(), Failure> {
    let mut entries = Vec::new();
    for name in location.directory.names()? {
        let entry = match location.directory.inspect(&name) {
            Ok(info) => Entry::Region(Box::new(RegionView::new(&info))),
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // removed since `names`
            Err(error) => Entry::Problem { problem: error.to_string() },
        };
        entries.push(NamedEntry { name, open_in: Vec::new(), entry });
    }
    match unnamed::entries() {
        Ok(unnamed) => entries.extend(unnamed),
        Err(error) => print_message(format_args!("only names are listed: {error}")),
    }
    if json {
        return print_json(&entries);
    }
    let mut rows = vec![["NAME", "KIND", "OF", "CAPACITY", "CONTENT", "SIZE", "USERS"].map(String::from)];
    rows.extend(entries.into_iter().map(cells));
    print(&table(&rows))
}

fn cells(NamedEntry { name, open_in, entry }: NamedEntry) -> [String; 7] {
    let dash = || "-".to_string();
    let open = unnamed::open_text(&open_in).map_or(String::new(), |text| format!("; {text}"));
    match entry {
        Entry::Region(view) => [
            name,
            view.kind.to_string(),
            view.element.clone().unwrap_or_else(dash),
            view.amount(view.capacity),
            view.content_text(),
            BinaryBytes(view.size).to_string(),
            view.users_text() + &open,
        ],
        Entry::Problem { problem } => [name, dash(), dash(), dash(), dash(), dash(), problem + &open],
    }
}
