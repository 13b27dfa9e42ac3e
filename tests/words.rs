//! The words and the prose: no identifiers of earlier days, no patterns that make a text hard to read,
//! no line that is too wide.

#[path = "support/sources.rs"]
mod sources;

use sources::{Source, files, rust_files};

/// Identifiers that were renamed, as whole words.
const OLD_IDENTIFIERS: &[&str] = &[
    "ADMISSION",
    "Abandoned",
    "Assembler",
    "BARRED",
    "ByteReader",
    "ByteWriter",
    "Carried",
    "Chooser",
    "Courtesy",
    "Crowded",
    "DIRECTORY_VARIABLE",
    "Handover",
    "Heels",
    "Inspection",
    "LanesTaken",
    "Lapped",
    "Latch",
    "Ledger",
    "Leaver",
    "LINE_PAIR",
    "MessageRef",
    "ObjectState",
    "Parcels",
    "Patience",
    "Patrol",
    "PipeEnd",
    "PipeOptions",
    "Plea",
    "QueueEnd",
    "QueueOptions",
    "QueueReceiver",
    "QueueSender",
    "QueueStats",
    "Relocked",
    "RingState",
    "SeatTaken",
    "Tended",
    "TrustedReceiver",
    "TrustedSender",
    "Unopened",
    "Verdicts",
    "any_owner",
    "attempt_in_turn",
    "byte_queue",
    "capacity_len",
    "clear_up",
    "close_kept",
    "disputed",
    "farewell",
    "gave_back",
    "give_up_name",
    "glance",
    "has_barred",
    "hang_up",
    "heal",
    "heed",
    "inline_len",
    "inline_max_len",
    "is_barred",
    "is_disputed",
    "is_hung_up",
    "is_kept",
    "is_time_to_ask",
    "is_worth_it",
    "lane_word",
    "lanes_of",
    "let_go",
    "make_slices_endless",
    "max_message_len",
    "max_region_len",
    "notify_slowly",
    "no_seat",
    "one_way",
    "open_existing",
    "parcels",
    "pass_free",
    "passes_over",
    "pause_after_run",
    "queue_word",
    "report_losses",
    "send_slowly",
    "recv_slowly",
    "seat_byte",
    "seems_free",
    "seems_ready",
    "send_off",
    "settle_dispute",
    "sit_down",
    "standing_of",
    "stop_or_pause",
    "stow",
    "twin",
    "unstow",
    "wait_changed",
    "was_passed_over",
    "was_robbed",
    "zeroed_array",
    "Sandbox",
    "litter",
    "wreck",
];

/// Patterns of prose to avoid, in lower case, and what to write instead.
const PATTERNS: &[(&str, &str)] = &[
    ("so many", "a number, or `count` of them"),
    ("for ever ", "forever, or without end"),
    ("in vain", "without success"),
    ("likewise", "say it again"),
    ("put right", "repair"),
    ("puts right", "repairs"),
    ("else like", "Like [`x`], but ..."),
    ("is told of", "name the error that is returned"),
    ("says whether", "Returns whether"),
    ("says how", "Returns how"),
    ("stand back", "yield"),
    ("lie down", "sleep"),
    ("at its heels", "close behind"),
    (" who ", "the process that, or a shorter sentence"),
    ("whoever", "the process that"),
    ("whomever", "the process that"),
    ("nobody lied", "every word is valid"),
    ("a lie", "an invalid value"),
];

const WIDTH: usize = 100;

/// What people read: the comments of a Rust file, or a document without code, tables and links.
fn prose(source: &Source) -> Vec<(usize, String)> {
    let is_rust = source.path.ends_with(".rs");
    let mut is_code = false;
    let mut found = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let text = if is_rust {
            let start = line.trim_start();
            if !start.starts_with("//") {
                continue;
            }
            start.trim_start_matches(['/', '!']).to_string()
        } else {
            line.to_string()
        };
        if text.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        if !is_code {
            found.push((number + 1, text));
        }
    }
    found
}

fn read_by_people() -> Vec<Source> {
    let mut found: Vec<Source> = ["src", "cli/src", "examples"].into_iter().flat_map(rust_files).collect();
    found.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs"]
            .into_iter()
            .flat_map(|path| files(path, "md")),
    );
    found
}

#[test]
fn old_identifier_is_gone() {
    let mut found = Vec::new();
    let sources = ["src", "tests", "cli", "loom-tests", "schedule-tests", "benches", "examples", "fuzz"];
    let rust = sources.into_iter().flat_map(rust_files);
    let documents =
        ["docs", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].into_iter().flat_map(|path| files(path, "md"));
    for source in rust.chain(documents).filter(|source| source.path != "tests/words.rs") {
        for (number, line) in source.text.lines().enumerate() {
            for word in line.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
                if OLD_IDENTIFIERS.contains(&word) {
                    found.push(format!("{}:{}: {word}", source.path, number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} uses of old identifiers:\n{}", found.len(), found.join("\n"));
}

#[test]
fn conflict_marker_is_gone() {
    let markers = ["<".repeat(7), ">".repeat(7)];
    for source in read_by_people() {
        for (line, number) in source.text.lines().zip(1..) {
            let is_marker = markers.iter().any(|marker| line.starts_with(marker));
            assert!(!is_marker, "{}:{number}: {line}", source.path);
        }
    }
}

#[test]
fn prose_avoids_patterns_that_are_hard_to_read() {
    let mut found = Vec::new();
    for source in read_by_people() {
        for (number, text) in prose(&source) {
            // A quotation mark around it: the pattern itself is the subject.
            let lower = format!(" {} ", text.to_lowercase());
            for (pattern, instead) in PATTERNS {
                if lower.contains(pattern) {
                    found.push(format!("{}:{number}: \"{}\": write {instead}", source.path, pattern.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} lines to rewrite:\n{}", found.len(), found.join("\n"));
}

#[test]
fn prose_is_wrapped() {
    let mut found = Vec::new();
    for source in read_by_people() {
        let is_rust = source.path.ends_with(".rs");
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, _) in prose(&source) {
            let line = lines[number - 1];
            let is_exempt =
                !is_rust && (line.trim_start().starts_with('|') || line.contains("](")) || line.contains("http");
            if line.chars().count() > WIDTH && !is_exempt {
                found.push(format!("{}:{number}: {} columns", source.path, line.chars().count()));
            }
        }
    }
    assert!(found.is_empty(), "{} lines wider than {WIDTH} columns:\n{}", found.len(), found.join("\n"));
}
