//! `tombolo inspect` and `tombolo ls`: what is behind one name, and behind all of them.

pub mod list;
mod objects;
mod unnamed;
pub mod view;

use std::fmt::Write;

use indicatif::BinaryBytes;

use crate::failure::Failure;
use crate::location::Location;
use crate::output::{print, print_json, table};
use objects::Object;
use view::{Direction, Entry, NamedEntry, Namespace, RegionView};

/// `tombolo inspect`.
pub fn run(location: &Location, name: &str, json: bool) -> Result<(), Failure> {
    let (info, open_in) = match unnamed::parse(name) {
        Some(descriptor) => {
            let region = unnamed::find(descriptor)?;
            (region.inspect()?, unnamed::processes(&region))
        }
        None => (location.directory.inspect(name)?, Vec::new()),
    };
    let view = Box::new(RegionView::new(&info));
    if json {
        return print_json(&NamedEntry { name: name.to_string(), open_in, entry: Entry::Region(view) });
    }
    let open = unnamed::open_text(&open_in).map_or(String::new(), |text| format!("{text}\n"));
    print(&format!("name         {name}\n{open}{}", details(&view)))
}

/// Whether it is what `ls` calls a region that has no name.
pub fn is_unnamed(name: &str) -> bool {
    unnamed::parse(name).is_some()
}

fn details(view: &RegionView) -> String {
    let mut text = format!("kind         {}\n", view.kind);
    if let (Some(element), Some(longest)) = (&view.element, view.max_message_bytes) {
        let (capacity, longest) = (view.amount(view.capacity), BinaryBytes(longest));
        let _ = write!(text, "element      {element}\ncapacity     {capacity}\nlongest      {longest}\n");
    }
    let _ = writeln!(text, "size         {}", BinaryBytes(view.size));
    if let Some(namespace) = &view.namespace {
        let _ = write!(text, "objects      {}\npersistent   {}\n", view.capacity, yes_no(namespace.persistent));
    }
    if let Some(queue) = &view.queue {
        let _ = writeln!(text, "participants {} of {} used", queue.lanes_used, queue.lanes);
        for (label, count) in [
            ("quarantined", queue.quarantined),
            ("lost", queue.lost),
            ("tasks lost", queue.tasks_lost),
            ("dropped", queue.dropped),
            ("pooled", queue.pooled),
        ] {
            let _ = writeln!(text, "{label:<12} {}", view.amount(count));
        }
        let _ = writeln!(text, "extents      {}", BinaryBytes(queue.extents_bytes));
        let _ = writeln!(text, "closed       {}", yes_no(queue.closed));
        if let Some(redelivery) = &queue.redelivery {
            let _ = writeln!(text, "redelivers   {} times", redelivery.times);
            for (label, count) in [
                ("unfinished", redelivery.unfinished),
                ("to redeliver", redelivery.requeued),
                ("dead letters", redelivery.dead_letters),
            ] {
                let _ = writeln!(text, "{label:<12} {}", view.amount(count));
            }
        }
    }
    if let Some(broadcast) = &view.broadcast {
        let _ = writeln!(text, "policy       {}", broadcast.policy_text(view));
        let _ = writeln!(text, "history      {}", view.amount(broadcast.history));
        if broadcast.keys > 0 {
            let _ = writeln!(text, "keys         {}", broadcast.keys);
        }
        if broadcast.frames > 0 {
            let _ = writeln!(text, "frames       {} for each publisher", broadcast.frames);
            let _ = writeln!(text, "frames held  {}", broadcast.frames_held);
        }
        let _ = writeln!(text, "evicted      {}", broadcast.evicted);
        let _ = writeln!(text, "publishers   up to {}", broadcast.max_publishers);
        let _ = writeln!(text, "subscribers  up to {}", broadcast.max_subscribers);
    }
    if let Some(rpc) = &view.rpc {
        let _ = writeln!(text, "replies      {}", rpc.reply_text());
        let _ = writeln!(text, "callers      up to {}", rpc.max_callers);
        let _ = writeln!(text, "responders   up to {}", rpc.max_responders);
        let _ = writeln!(text, "executed now {}", view.amount(rpc.executed()));
    }
    // A publisher that has never come has a ring as well.
    let is_shown = |direction: &&Direction| view.broadcast.is_none() || direction.sent > 0;
    for direction in view.directions.iter().filter(is_shown) {
        let (sent, queued) = (view.amount(direction.sent), view.amount(direction.queued));
        let _ = writeln!(text, "{:<12} to {}: {sent} sent, {queued} queued", direction.from, direction.to);
    }
    for user in &view.participants {
        let process = user.process_text().map_or(String::new(), |process| format!(", process {process}"));
        let joins = if user.joins == 1 { "once".to_string() } else { format!("{} times", user.joins) };
        let lag = user.lag_text().map_or(String::new(), |lag| format!(", {lag}"));
        let _ = writeln!(text, "{:<12} {}{process}, joined {joins}{lag}", user.part, user.standing);
    }
    if let Some(namespace) = &view.namespace {
        let _ = write!(text, "\n{}", object_table(namespace));
        text.extend(namespace.objects.iter().filter_map(Object::map_text));
    }
    text
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// One line for each object. Values can be long, so they come last.
fn object_table(namespace: &Namespace) -> String {
    let mut rows = vec![["OBJECT", "KIND", "OF", "HOLDER", "USERS", "STATE", "VALUE"].map(String::from)];
    rows.extend(namespace.objects.iter().map(|object| object.cells()));
    table(&rows)
}
