//! Golden bytes: the words of a region in memory, compared with readable files in `tests/golden/`.
//! Two processes may have different builds of this library, so these bytes are a contract.
//!
//! `TOMBOLO_BLESS=1` writes the files of a new layout version and removes those of the old one. It
//! never rewrites a file of the same version: this test exists to prevent a change of layout
//! without a new version number.

#![cfg(target_endian = "little")]

use std::fmt::Write;
use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tombolo::broadcast;
use tombolo::collections::{list, map};
use tombolo::pipe::{self, BytePipe};
use tombolo::queue;
use tombolo::rpc::{self, CallError};
use tombolo::types::Untagged;
use tombolo::{Endpoint, LAYOUT_VERSION, Namespace, RecvError, SendError, Shareable, WaitStrategy};

const REMEDY: &str = "the layout changed: raise LAYOUT_VERSION and rewrite the golden files with TOMBOLO_BLESS=1";

const GOLDEN: [&str; 17] = [
    "values",
    "bytes",
    "queue-values",
    "queue-bytes",
    "queue-redelivery",
    "broadcast-values",
    "broadcast-bytes",
    "broadcast-keys",
    "broadcast-frames",
    "rpc-values",
    "rpc-bytes",
    "namespace",
    "tags",
    "map",
    "map-long",
    "list",
    "list-of-bytes",
];

/// The names of the words, by offset in bytes. `docs/layout.md` has the other names of some, under
/// "Names in the golden files". Written out and not taken from the library, which is under test.
const HEADER: [(usize, &str); 29] = [
    (0x00, "magic"),
    (0x08, "version"),
    (0x10, "size"),
    (0x18, "kind"),
    (0x20, "directions"),
    (0x28, "element size"),
    (0x30, "element align"),
    (0x38, "element tag"),
    (0x40, "capacity"),
    (0x48, "limit"),
    (0x50, "life"),
    (0x58, "lanes"),
    (0x60, "inline len"),
    (0x68, "blocks"),
    (0x70, "block len"),
    (0x78, "extents"),
    (0x80, "persistent"),
    (0x88, "publishers"),
    (0x90, "history"),
    (0x98, "slow policy"),
    (0xa0, "max lag"),
    (0xa8, "keys"),
    (0xb0, "frames"),
    (0xb8, "frame bytes"),
    (0xc0, "deliveries"),
    (0xc8, "reply size"),
    (0xd0, "reply align"),
    (0xd8, "reply tag"),
    (0xe0, "reply limit"),
];
const SEATS: usize = 0x200;
const SEAT_LEN: usize = 0x40;
const SEAT: [(usize, &str); 5] =
    [(0x00, "pid"), (0x08, "started"), (0x10, "namespace"), (0x18, "state"), (0x20, "joins")];
const RINGS: usize = 0x400;
const RING_LEN: usize = 0x200;
const RING: [(usize, &str); 8] = [
    (0x000, "tail"),
    (0x008, "producer role"),
    (0x010, "producer from"),
    (0x080, "head"),
    (0x088, "consumer role"),
    (0x090, "consumer from"),
    (0x100, "readable"),
    (0x180, "writable"),
];

const CONTROL: usize = 0x200;
const QUEUE: [(usize, &str); 17] = [
    (0x000, "tail"),
    (0x080, "head"),
    (0x088, "requeued"),
    (0x100, "readable"),
    (0x180, "writable"),
    (0x200, "roomy"),
    (0x280, "idle"),
    (0x300, "lost"),
    (0x308, "verdict"),
    (0x310, "count"),
    (0x318, "reported"),
    (0x320, "dropped"),
    (0x328, "changes"),
    (0x330, "senders came"),
    (0x338, "receivers came"),
    (0x340, "senders ended"),
    (0x348, "receivers ended"),
];
const LANES: usize = 0x580;
const LANE_LEN: usize = 0x80;
const LANE: [(usize, &str); 12] = [
    (0x00, "pid"),
    (0x08, "started"),
    (0x10, "namespace"),
    (0x18, "state"),
    (0x20, "joins"),
    (0x28, "part"),
    (0x30, "run"),
    (0x38, "since"),
    (0x40, "intent"),
    (0x48, "open"),
    (0x50, "tasks lost"),
    (0x58, "pending tasks lost"),
];

const BROADCAST: [(usize, &str); 4] =
    [(0x000, "published"), (0x080, "membership epoch"), (0x088, "publishers joined"), (0x090, "evicted")];
const RECORDS: usize = 0x380;
const RECORD: [(usize, &str); 8] = [
    (0x00, "pid"),
    (0x08, "started"),
    (0x10, "namespace"),
    (0x18, "state"),
    (0x20, "joins"),
    (0x28, "role"),
    (0x30, "run"),
    (0x38, "since"),
];
const TRACK_LEN: usize = 0x100;
const TRACK: [(usize, &str); 3] = [(0x00, "tail"), (0x80, "room"), (0xc0, "begun")];
const CURSOR_LEN: usize = 0x80;
const CURSOR: [(usize, &str); 2] = [(0x00, "state"), (0x08, "next")];

const RPC: [(usize, &str); 6] = [
    (0x000, "requests"),
    (0x080, "joined"),
    (0x100, "membership epoch"),
    (0x108, "callers joined"),
    (0x110, "responders joined"),
    (0x118, "callers end"),
];
const CELL: [(usize, &str); 2] = [(0x00, "claim"), (0x08, "length")];
const BUFFER: [(usize, &str); 4] = [(0x00, "answer"), (0x08, "event"), (0x10, "length"), (0x18, "abandoned")];

const MEMBERS: usize = 0x200;
const ENTRY_LEN: usize = 0x80;
const ENTRY: [(usize, &str); 15] = [
    (0x00, "kind"),
    (0x08, "size"),
    (0x10, "align"),
    (0x18, "tag"),
    (0x20, "count"),
    (0x28, "at"),
    (0x30, "words"),
    (0x40, "name"),
    (0x48, "name"),
    (0x50, "name"),
    (0x58, "name"),
    (0x60, "name"),
    (0x68, "name"),
    (0x70, "name"),
    (0x78, "name"),
];

/// The words of each kind of object, by the codes of the kinds, from 1 on. Repeated words come
/// last.
const OBJECTS: [(&str, &[(usize, &str)]); 16] = [
    (
        "value",
        &[
            (0x00, "committed"),
            (0x08, "writing"),
            (0x80, "lock state"),
            (0x88, "lock event"),
            (0x100, "news"),
            (0x108, "plea"),
        ],
    ),
    ("atomic", &[(0x00, "value")]),
    ("array", &[(0x00, "state"), (0x08, "event")]),
    ("mutex", &[(0x00, "state"), (0x08, "event"), (0x10, "committed"), (0x18, "writing")]),
    ("re-entrant mutex", &[(0x00, "state"), (0x08, "event"), (0x10, "committed"), (0x18, "writing")]),
    ("rw lock", &[(0x00, "state"), (0x08, "event"), (0x10, "committed"), (0x18, "writing"), (0x80, "drained")]),
    ("semaphore", &[(0x00, "available"), (0x08, "event"), (0x10, "event of several")]),
    ("bounded semaphore", &[(0x08, "event"), (0x10, "event of several")]),
    ("condvar", &[(0x08, "event")]),
    ("event", &[(0x00, "flag"), (0x08, "event")]),
    ("barrier", &[(0x00, "state"), (0x08, "event")]),
    ("once", &[(0x00, "state"), (0x08, "event"), (0x10, "done"), (0x18, "event of done")]),
    ("queue", &[]),
    ("broadcast", &[]),
    (
        "map",
        &[
            (0x00, "seed"),
            (0x08, "key size"),
            (0x10, "key align"),
            (0x18, "key tag"),
            (0x20, "value size"),
            (0x28, "value align"),
            (0x30, "value tag"),
            (0x38, "buckets"),
            (0x40, "classes"),
        ],
    ),
    ("list", &[(0x00, "root"), (0x08, "event"), (0x10, "longest")]),
];
const VALUE: usize = 1;
const ARRAY: usize = 3;
const RW_LOCK: usize = 6;
const BOUNDED: usize = 8;
const BARRIER: usize = 11;
const QUEUE_OBJECT: usize = 13;
const MAP: usize = 15;
const LIST: usize = 16;

/// Words that differ from process to process.
const VOLATILE: [&str; 5] = ["pid", "started", "namespace", "seed", "hash"];

const IS_QUEUE: u8 = 2;
const IS_NAMESPACE: u8 = 3;
const IS_BROADCAST: u8 = 4;
const IS_RPC: u8 = 5;

fn find(words: &[(usize, &'static str)], at: usize) -> &'static str {
    words.iter().find(|word| word.0 == at).map_or("", |word| word.1)
}

fn name(offset: usize, bytes: &[u8]) -> String {
    let rings = usize::from(bytes[0x20]);
    let (area, word) = if offset < SEATS {
        ("header".to_string(), find(&HEADER, offset))
    } else if bytes[0x18] == IS_QUEUE {
        name_in_queue(offset, bytes)
    } else if bytes[0x18] == IS_NAMESPACE {
        return name_in_namespace(offset, bytes);
    } else if bytes[0x18] == IS_BROADCAST {
        name_in_broadcast(offset, bytes)
    } else if bytes[0x18] == IS_RPC {
        name_in_rpc(offset, bytes)
    } else if offset < RINGS {
        (format!("seat {}", (offset - SEATS) / SEAT_LEN), find(&SEAT, offset % SEAT_LEN))
    } else if offset < RINGS + rings * RING_LEN {
        (format!("ring {}", (offset - RINGS) / RING_LEN), find(&RING, offset % RING_LEN))
    } else {
        ("data".to_string(), "")
    };
    format!("{area} {word}").trim_end().to_string()
}

fn name_in_queue(offset: usize, bytes: &[u8]) -> (String, &'static str) {
    let header = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    let [element, capacity, limit, deliveries] = [0x28, 0x40, 0x48, 0xc0].map(header);
    let [lanes, inline, blocks, block, extents] = [0x58, 0x60, 0x68, 0x70, 0x78].map(header);
    let owners = LANES + lanes * LANE_LEN;
    let known = owners + (blocks + extents) * 8;
    let marks = (known + if deliveries == 0 { 0 } else { (blocks + extents) * 16 }).next_multiple_of(128);
    let slots = (marks + capacity * 8).next_multiple_of(128);
    let (label, payload) = match element {
        0 => ("label", 16 + inline),
        _ if deliveries > 0 => ("label", 16 + 16),
        _ => ("", 8 + element.next_multiple_of(8)),
    };
    let first_block = slots + (capacity * payload).next_multiple_of(128);
    let first_extent = (first_block + blocks * block).next_multiple_of(4096);
    if offset < LANES {
        ("queue".to_string(), find(&QUEUE, offset - CONTROL))
    } else if offset < owners {
        (format!("lane {}", (offset - LANES) / LANE_LEN), find(&LANE, (offset - LANES) % LANE_LEN))
    } else if offset < known {
        (format!("owner {}", (offset - owners) / 8), "")
    } else if offset < marks {
        (format!("delivery {}", (offset - known) / 16), find(&[(0, "position"), (8, "length")], (offset - known) % 16))
    } else if offset < slots {
        (format!("mark {}", (offset - marks) / 8), "")
    } else if offset < slots + capacity * payload {
        (
            format!("slot {}", (offset - slots) / payload),
            find(&[(0, "control"), (8, label)], (offset - slots) % payload),
        )
    } else if offset >= first_extent {
        (format!("extent {}", (offset - first_extent) / limit.next_multiple_of(4096)), "")
    } else {
        (format!("block {}", (offset - first_block) / block), "")
    }
}

/// Where the tracks, the cursors, the latest values, the leases and the slots of a broadcast begin,
/// and the bytes of a slot.
fn parts_of_broadcast(bytes: &[u8]) -> [usize; 6] {
    let [element, subscribers, inline, publishers] = [0x28, 0x58, 0x60, 0x88].map(|at| word(bytes, at));
    let [keys, frames] = [0xa8, 0xb0].map(|at| word(bytes, at));
    let tracks = (RECORDS + (publishers + subscribers) * SEAT_LEN).next_multiple_of(128);
    let cursors = tracks + publishers * TRACK_LEN;
    let latest = cursors + publishers * subscribers * CURSOR_LEN;
    let leases = latest + publishers * keys * latest_len(element);
    let slots = (leases + publishers * frames * subscribers.div_ceil(64) * 8).next_multiple_of(128);
    let stride = match (element, keys) {
        (0, _) => 8 + inline,
        (_, 0) => element.next_multiple_of(8),
        (..) => 8 + element.next_multiple_of(8),
    };
    [tracks, cursors, latest, leases, slots, stride]
}

/// Two versions, and four buffers of a position and a value.
fn latest_len(element: usize) -> usize {
    16 + 4 * (8 + element.next_multiple_of(8))
}

fn name_in_broadcast(offset: usize, bytes: &[u8]) -> (String, &'static str) {
    let [element, capacity, subscribers, publishers] = [0x28, 0x40, 0x58, 0x88].map(|at| word(bytes, at));
    let [keys, frames, frame_bytes] = [0xa8, 0xb0, 0xb8].map(|at| word(bytes, at));
    let [tracks, cursors, latest, leases, slots, stride] = parts_of_broadcast(bytes);
    let data = (capacity * stride).next_multiple_of(128);
    let first_frame = (slots + publishers * data).next_multiple_of(4096);
    if offset < RECORDS {
        ("broadcast".to_string(), find(&BROADCAST, offset - CONTROL))
    } else if offset < tracks {
        (format!("record {}", (offset - RECORDS) / SEAT_LEN), find(&RECORD, (offset - RECORDS) % SEAT_LEN))
    } else if offset < cursors {
        (format!("track {}", (offset - tracks) / TRACK_LEN), find(&TRACK, (offset - tracks) % TRACK_LEN))
    } else if offset < latest {
        let cursor = (offset - cursors) / CURSOR_LEN;
        let name = format!("cursor of {} in {}", cursor % subscribers, cursor / subscribers);
        (name, find(&CURSOR, (offset - cursors) % CURSOR_LEN))
    } else if offset < leases {
        let (of, within) = ((offset - latest) / latest_len(element), (offset - latest) % latest_len(element));
        let name = format!("key {} of {}", of % keys, of / keys);
        match within.checked_sub(16).map(|within| (within / (8 + element), within % (8 + element))) {
            None => (name, find(&[(0, "committed"), (8, "writing")], within)),
            Some((buffer, within)) => (format!("{name} buffer {buffer}"), find(&[(0, "position")], within)),
        }
    } else if offset < slots {
        let lease = (offset - leases) / 8 / subscribers.div_ceil(64);
        (format!("leases of frame {} of {}", lease % frames, lease / frames), "")
    } else if offset < slots + publishers * data {
        let (track, within) = ((offset - slots) / data, (offset - slots) % data);
        let header = match (element, keys) {
            (0, _) => "header",
            (_, 0) => "",
            (..) => "key",
        };
        (format!("slot {} of {track}", within / stride), find(&[(0, header)], within % stride))
    } else {
        let frame = (offset - first_frame) / frame_bytes;
        (format!("frame {} of {}", frame % frames, frame / frames), "")
    }
}

/// Where the bits of the callers, the cells, the buffers and the end of a region for requests are, and
/// the bytes of a cell and of a buffer.
fn parts_of_rpc(bytes: &[u8]) -> [usize; 6] {
    let [callers, limit, responders, reply_limit] = [0x40, 0x48, 0x58, 0xe0].map(|at| word(bytes, at));
    let active = (RECORDS + (callers + responders) * SEAT_LEN).next_multiple_of(128);
    let cells = active + (callers.div_ceil(64) * 8).next_multiple_of(128);
    let (cell, buffer) = ((16 + limit).next_multiple_of(128), (32 + reply_limit).next_multiple_of(128));
    let buffers = cells + callers * cell;
    [active, cells, buffers, buffers + callers * responders * buffer, cell, buffer]
}

fn name_in_rpc(offset: usize, bytes: &[u8]) -> (String, &'static str) {
    let [active, cells, buffers, _, cell, buffer] = parts_of_rpc(bytes);
    let responders = word(bytes, 0x58);
    if offset < RECORDS {
        ("rpc".to_string(), find(&RPC, offset - CONTROL))
    } else if offset < active {
        (format!("record {}", (offset - RECORDS) / SEAT_LEN), find(&RECORD, (offset - RECORDS) % SEAT_LEN))
    } else if offset < cells {
        ("active".to_string(), "")
    } else if offset < buffers {
        (format!("cell {}", (offset - cells) / cell), find(&CELL, (offset - cells) % cell))
    } else {
        let index = (offset - buffers) / buffer;
        let name = format!("buffer {} of {}", index % responders, index / responders);
        (name, find(&BUFFER, (offset - buffers) % buffer))
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize
}

/// An object of a namespace, as its entry describes it; offsets and lengths in bytes.
struct Object<'a> {
    name: &'a str,
    kind: usize,
    size: usize,
    at: usize,
    end: usize,
}

fn objects(bytes: &[u8]) -> impl Iterator<Item = Object<'_>> {
    let table = MEMBERS + word(bytes, 0x58) * LANE_LEN;
    (0..word(bytes, 0x40)).map(move |index| {
        let entry = &bytes[table + index * ENTRY_LEN..][..ENTRY_LEN];
        let [kind, size, at, words] = [0x00, 0x08, 0x28, 0x30].map(|at| word(entry, at));
        let name = std::str::from_utf8(&entry[0x40..]).unwrap().trim_end_matches('\0');
        Object { name, kind, size, at: at * 8, end: (at + words) * 8 }
    })
}

fn name_in_namespace(offset: usize, bytes: &[u8]) -> String {
    let lanes = word(bytes, 0x58);
    let table = MEMBERS + lanes * LANE_LEN;
    if offset < table {
        return format!("lane {} {}", (offset - MEMBERS) / LANE_LEN, find(&LANE, (offset - MEMBERS) % LANE_LEN));
    }
    let Some(Object { name: object, kind, size, at, .. }) = objects(bytes).find(|o| (o.at..o.end).contains(&offset))
    else {
        return format!("entry {} {}", (offset - table) / ENTRY_LEN, find(&ENTRY, (offset - table) % ENTRY_LEN));
    };
    if kind == QUEUE_OBJECT {
        return format!("{object}: {}", name(offset - at, &bytes[at..]));
    }
    let offset = offset - at;
    let known = find(OBJECTS[kind - 1].1, offset);
    if known.is_empty() && kind == MAP {
        format!("{object}: {}", name_in_map(lanes, word(bytes, at + 0x38), offset))
    } else if known.is_empty() {
        format!("{object}: {}", name_of_many(kind, size, lanes, offset))
    } else {
        format!("{object}: {known}")
    }
}

fn name_of_many(kind: usize, size: usize, lanes: usize, offset: usize) -> String {
    let length = size.next_multiple_of(8);
    let stride = if length > 64 { length.next_multiple_of(64) } else { length };
    let readers = lanes.div_ceil(4) * 8;
    let buffers = match kind {
        VALUE if length <= 8 => 0x10,
        VALUE => 0x180,
        RW_LOCK if offset < 0x100 + readers => return format!("readers {}", (offset - 0x100) / 8),
        RW_LOCK => 0x100 + readers.next_multiple_of(128),
        ARRAY if matches!(size, 1 | 2 | 4 | 8) => return "elements".to_string(),
        ARRAY => {
            let (cell, within) = ((offset - 0x80) / (16 + 2 * length), (offset - 0x80) % (16 + 2 * length));
            return match within {
                0 => format!("element {cell} committed"),
                8 => format!("element {cell} writing"),
                _ => format!("element {cell} buffer {}", (within - 16) / length),
            };
        }
        LIST => return name_in_list(offset),
        BOUNDED => return format!("owner {}", (offset - 0x80) / 8),
        BARRIER => return format!("mark {}", (offset - 0x80) / 8),
        _ if 0x20 + 2 * length <= 0x80 => 0x20,
        _ => 0x80,
    };
    format!("buffer {}", (offset - buffers) / stride)
}

/// The parts of a map of up to 16 buckets, one entry and one spare block.
fn name_in_map(lanes: usize, buckets: usize, offset: usize) -> String {
    let owners = 0x180 + buckets * 0x80;
    let records = owners + 0x80;
    let blocks = records + lanes * 8 * 0x180;
    match offset {
        0x48..0x80 => {
            format!("class {} {}", (offset - 0x40) / 16, if offset.is_multiple_of(16) { "words" } else { "entries" })
        }
        0x80..0xa0 => format!("class {} extent", (offset - 0x80) / 8),
        0x100 => "head".into(),
        _ if offset < owners => "event".into(),
        _ if offset < records => format!("owner {}", (offset - owners) / 8),
        _ if offset < blocks => {
            format!("intent record {} word {}", (offset - records) / 0x180, (offset - records) % 0x180 / 8)
        }
        _ if (offset - blocks) / 8 % 8 == 1 => format!("block {}: value length and hash", (offset - blocks) / 64),
        _ => format!("block {} word {}", (offset - blocks) / 64, (offset - blocks) / 8 % 8),
    }
}

/// The parts of a list of up to ten elements of a word, or of eight of two, with one lane: 14 blocks, of which 3 are
/// directories of 6 words, and the others are chunks of 8.
fn name_in_list(offset: usize) -> String {
    let (records, directories) = (0x100, 0x280);
    let chunks = directories + 3 * 6 * 8;
    match offset {
        _ if offset < records => format!("owner {}", (offset - 0x80) / 8),
        _ if offset < directories => {
            let (record, within) = ((offset - records) / 168, (offset - records) % 168 / 8);
            match within {
                0 => format!("intent record {record}: intent"),
                1 => format!("intent record {record}: blocks"),
                2 => format!("intent record {record}: references"),
                3..9 => format!("intent record {record}: block {}", within - 3),
                _ => format!("intent record {record}: reference {}", (within - 9) / 2),
            }
        }
        _ if offset < chunks => {
            format!("block {} word {}", (offset - directories) / 48, (offset - directories) % 48 / 8)
        }
        _ => format!("block {} word {}", 3 + (offset - chunks) / 64, (offset - chunks) % 64 / 8),
    }
}

/// Every word that has changed.
fn dump(bytes: &[u8], before: &[u8]) -> String {
    let mut text = String::new();
    let words = bytes.chunks_exact(8).zip(before.chunks_exact(8)).enumerate();
    for (index, (word, _)) in words.filter(|(_, (word, before))| word != before) {
        let name = name(index * 8, bytes);
        let hex: Vec<_> = word.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown: String = word.iter().map(|&byte| if byte.is_ascii_graphic() { byte as char } else { '.' }).collect();
        let line = if VOLATILE.iter().any(|volatile| name.ends_with(volatile)) {
            format!("{:#06x}  {:23}  |........|  {name}", index * 8, "varies")
        } else {
            format!("{:#06x}  {}  |{shown}|  {name}", index * 8, hex.join(" "))
        };
        writeln!(text, "{line}").unwrap();
    }
    writeln!(text, "{:#06x}  the end", bytes.len()).unwrap();
    text
}

/// A directory for one named region, and the file of the region, which outlives its name.
struct Stage {
    directory: PathBuf,
    /// The region when it was last shown; zeros at first.
    bytes: Vec<u8>,
    text: String,
}

impl Stage {
    fn new(what: &str, title: &str) -> Self {
        let directory = PathBuf::from(format!("/dev/shm/tombolo-golden-{what}-{}", std::process::id()));
        Self { directory, bytes: Vec::new(), text: format!("layout version {LAYOUT_VERSION}: {title}\n") }
    }

    fn file(&self) -> File {
        File::open(self.directory.join("golden")).unwrap()
    }

    fn show(&mut self, when: &str, file: &File) {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        mask_events(&mut bytes);
        self.bytes.resize(bytes.len(), 0);
        write!(self.text, "\n{when}\n{}", dump(&bytes, &self.bytes)).unwrap();
        self.bytes = bytes;
    }
}

/// Whether processes need real fences depends on the kernel and not on the layout: bit 1 of the
/// event words. When a process is woken does not belong to the layout either: only the lowest bits
/// of a queue's event words are shown. Of requests, nothing that depends on who sleeps is: neither
/// event words nor the bits of callers.
fn mask_events(bytes: &mut [u8]) {
    if bytes[0x18] == IS_QUEUE {
        for at in [0x100, 0x180, 0x200, 0x280].map(|event| CONTROL + event) {
            bytes[at] &= 5;
            bytes[at + 1..at + 4].fill(0);
        }
        return;
    }
    if bytes[0x18] == IS_BROADCAST {
        let rooms = (0..word(bytes, 0x88)).map(|track| parts_of_broadcast(bytes)[0] + track * TRACK_LEN + 0x80);
        for event in rooms.chain([CONTROL]).collect::<Vec<_>>() {
            bytes[event] &= 5;
            bytes[event + 1..event + 4].fill(0);
        }
        return;
    }
    if bytes[0x18] == IS_RPC {
        let [active, cells, buffers, end, _, buffer] = parts_of_rpc(bytes);
        let events = (buffers..end).step_by(buffer).map(|buffer| buffer + 0x08);
        events.chain([CONTROL, CONTROL + 0x80]).for_each(|event| bytes[event..event + 4].fill(0));
        bytes[active..cells].fill(0);
        return;
    }
    if bytes[0x18] == IS_NAMESPACE {
        let objects: Vec<_> = objects(bytes).map(|object| (object.kind, object.at, object.end)).collect();
        for (kind, at, end) in objects {
            let is_event = |name: &str| name.contains("event") || matches!(name, "news" | "drained");
            for (event, _) in OBJECTS[kind - 1].1.iter().filter(|(_, name)| is_event(name)) {
                bytes[at + event] &= 5;
                bytes[at + event + 1..at + event + 4].fill(0);
            }
            if kind == MAP {
                bytes[at + 0x180] &= 5;
            }
            if kind == QUEUE_OBJECT {
                mask_events(&mut bytes[at..end]);
            }
        }
        return;
    }
    for ring in 0..usize::from(bytes[0x20]) {
        for event in [0x100, 0x180] {
            bytes[RINGS + ring * RING_LEN + event] &= !2;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn golden(what: &str) -> PathBuf {
    folder().join(format!("v{LAYOUT_VERSION}-{what}.txt"))
}

fn blessing() -> bool {
    std::env::var_os("TOMBOLO_BLESS").is_some_and(|value| value == "1")
}

fn compare(what: &str, found: &str) {
    let path = golden(what);
    if blessing() && !path.exists() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; {REMEDY}", path.display()));
    if let Some((line, (expected, found))) =
        expected.lines().zip(found.lines()).enumerate().find(|(_, (expected, found))| expected != found)
    {
        panic!("{}:{}:\nexpected {expected}\nfound    {found}\n{REMEDY}", path.display(), line + 1);
    }
    assert_eq!(expected.lines().count(), found.lines().count(), "{}: {REMEDY}\n{found}", path.display());
}

#[test]
fn pipe_of_values_bytes_match_golden_file() {
    let mut stage = Stage::new("values", "one-way values [u64; 2] tagged \"golden!!\", capacity 4");
    let options = || pipe::Options::<[u64; 2]>::new().capacity(4).type_tag("golden!!").directory(&stage.directory);
    let (sender, receiver) = (options().create_new(), options().must_exist());

    let mut tx = sender.sender("golden").unwrap();
    let file = stage.file();
    stage.show("the sender has come", &file);
    let mut rx = receiver.receiver("golden").unwrap();
    for i in 1..=3 {
        tx.send([i, i << 56 | 0xabcd]).unwrap();
    }
    assert_eq!(rx.recv(), Ok([1, 1 << 56 | 0xabcd]));
    stage.show("so has the receiver; three values sent, one received", &file);
    drop(tx);
    stage.show("the sender has left", &file);
    drop(rx);
    stage.show("the receiver has left", &file);
    compare("values", &stage.text);
}

#[test]
fn pipe_of_bytes_bytes_match_golden_file() {
    let mut stage = Stage::new("bytes", "duplex bytes, capacity 256, messages up to 1000");
    let options = pipe::Options::bytes().capacity_bytes(256).max_message_bytes(1000).directory(&stage.directory);

    let mut one: BytePipe = options.clone().create_new().open("golden").unwrap();
    let mut two: BytePipe = options.must_exist().open("golden").unwrap();
    let file = stage.file();
    let mut message = Vec::new();
    for length in [100, 100] {
        one.send(vec![0x11; length]).unwrap();
        two.recv(&mut message).unwrap();
    }
    one.send(b"").unwrap();
    one.send(b"a message that is behind a skip").unwrap();
    two.send([0x22; 150]).unwrap();
    stage.show("out: 100, 100, 0 and 31 bytes sent, the first two received; back: 150 bytes sent, in parts", &file);
    compare("bytes", &stage.text);
}

/// Long enough to fall asleep.
const NAP: Duration = Duration::from_millis(100);

#[test]
fn queue_of_values_bytes_match_golden_file() {
    let mut stage = Stage::new("queue-values", "a queue of values [u64; 2] tagged \"golden!!\", capacity 4, 3 lanes");
    let options = queue::Options::<[u64; 2]>::new().capacity(4).max_participants(3).type_tag("golden!!");
    let options = options.wait(WaitStrategy::Park).directory(&stage.directory);

    let mut tx = options.clone().create_new().sender("golden").unwrap();
    let file = stage.file();
    stage.show("a sender has come", &file);
    let mut rx = options.must_exist().receiver("golden").unwrap();
    assert_eq!(rx.recv_timeout(NAP), Err(RecvError::TimedOut));
    stage.show("so has a receiver, and has slept", &file);
    for i in 1..=3 {
        tx.send([i, i << 56 | 0xabcd]).unwrap();
    }
    assert_eq!((rx.recv(), rx.recv()), (Ok([1, 1 << 56 | 0xabcd]), Ok([2, 2 << 56 | 0xabcd])));
    rx.task_done().unwrap();
    assert_eq!(tx.join_timeout(NAP), Err(queue::JoinError::TimedOut));
    stage.show("three values sent, two received, one of them done; the sender has waited for the rest", &file);
    let second = rx.sender().unwrap();
    drop(tx);
    stage.show("a second sender has come, the first has left", &file);
    second.close().unwrap();
    drop(second);
    stage.show("the run is closed, the second sender has left as well", &file);
    let third = rx.sender().unwrap();
    stage.show("a third sender has begun the next run", &file);
    drop(third);
    stage.show("and has left", &file);
    drop(rx);
    stage.show("the receiver has left, with a value there and a task open", &file);
    compare("queue-values", &stage.text);
}

#[test]
fn queue_of_bytes_bytes_match_golden_file() {
    let title = "a queue of bytes, capacity 4, 3 lanes, 16 bytes in a slot, 2 blocks of 64, 2 extents of up to 5000";
    let mut stage = Stage::new("queue-bytes", title);
    let options = queue::Options::bytes().capacity(4).max_participants(3).max_message_bytes(5000);
    let options = options
        .inline_bytes(16)
        .blocks(queue::Blocks { count: 2, bytes: 64 })
        .extents(2)
        .wait(WaitStrategy::Park)
        .directory(&stage.directory);

    let mut tx = options.clone().create_new().sender("golden").unwrap();
    let mut rx = options.must_exist().receiver("golden").unwrap();
    let file = stage.file();
    for message in [&b"in the slot"[..], &[0x11; 40], &[0x22; 70], &[0x33; 65]] {
        tx.send(message).unwrap();
    }
    stage.show("11, 40, 70 and 65 bytes sent: in a slot, a block and two extents", &file);
    assert_eq!(tx.send_timeout(b"", NAP), Err(SendError::TimedOut));
    assert_eq!(tx.send_timeout([0x44; 5000], NAP), Err(SendError::TimedOut));
    stage.show("the sender has waited for a slot, and for an extent", &file);
    let mut message = Vec::new();
    for length in [11, 40, 70] {
        assert_eq!(rx.recv(&mut message), Ok(length));
    }
    tx.send(b"").unwrap();
    tx.send([0x55; 41]).unwrap();
    stage.show("the first three received; 0 and 41 bytes sent", &file);
    assert_eq!(rx.close_now(), Ok(3));
    stage.show("closed, and the last three thrown away", &file);
    compare("queue-bytes", &stage.text);
}

#[test]
fn queue_that_redelivers_bytes_match_golden_file() {
    let title = "a queue of values [u64; 2] tagged \"golden!!\", capacity 2, 3 lanes, that redelivers once";
    let mut stage = Stage::new("queue-redelivery", title);
    let options = queue::Options::<[u64; 2]>::new().capacity(2).max_participants(3).type_tag("golden!!");
    let options = options.on_death(queue::OnDeath::Redeliver { times: 1 }).unfinished(2);
    let options = options.wait(WaitStrategy::Park).directory(&stage.directory);

    let mut tx = options.clone().create_new().sender("golden").unwrap();
    let mut rx = options.must_exist().receiver("golden").unwrap();
    let file = stage.file();
    for i in 1..=2 {
        tx.send([i, i << 56 | 0xabcd]).unwrap();
    }
    stage.show("a sender and a receiver have come; two values sent", &file);
    assert_eq!((rx.recv(), rx.recv()), (Ok([1, 1 << 56 | 0xabcd]), Ok([2, 2 << 56 | 0xabcd])));
    rx.task_done().unwrap();
    tx.send([3, 4]).unwrap();
    stage.show("both received, the first done; a third sent", &file);
    let mut second = rx.try_clone().unwrap();
    drop(rx);
    stage.show("a second receiver has come, the first has left", &file);
    assert_eq!((second.recv(), second.recv()), (Ok([2, 2 << 56 | 0xabcd]), Ok([3, 4])));
    stage.show("it has received both", &file);
    let _third = second.try_clone().unwrap();
    drop(second);
    stage.show("and has left", &file);
    compare("queue-redelivery", &stage.text);
}

#[test]
fn broadcast_of_values_bytes_match_golden_file() {
    let title = "a broadcast of values [u64; 2] tagged \"golden!!\", lossless, capacity 4, history 2, of 2 publishers";
    let mut stage = Stage::new("broadcast-values", &format!("{title} to 3 subscribers"));
    let options = broadcast::Options::<[u64; 2]>::new().capacity(4).history(2).type_tag("golden!!");
    let options = options.max_publishers(2).max_subscribers(3).wait(WaitStrategy::Park).directory(&stage.directory);

    let mut first = options.clone().create_new().subscriber("golden").unwrap();
    let file = stage.file();
    stage.show("a subscriber has come, before any publisher", &file);
    let mut publisher = options.clone().must_exist().publisher("golden").unwrap();
    for i in 1..=3 {
        publisher.publish([i, i << 56 | 0xabcd]).unwrap();
    }
    assert_eq!(first.recv(), Ok([1, 1 << 56 | 0xabcd]));
    stage.show("so has a publisher; three values published, one received", &file);
    let mut second = options.must_exist().subscriber("golden").unwrap();
    assert_eq!(second.recv(), Ok([2, 2 << 56 | 0xabcd]));
    stage.show("a second subscriber has come, and received one of the history", &file);
    let mut other = publisher.try_clone().unwrap();
    assert_eq!(other.publish_many(&[[7, 8], [9, 10]]), Ok(2));
    stage.show("a second publisher has come, and published two values", &file);
    let dead = second.try_clone().unwrap();
    dead.abandon().unwrap();
    assert_eq!((second.recv(), second.recv()), (Ok([3, 3 << 56 | 0xabcd]), Ok([7, 8])));
    assert_eq!((first.recv(), first.recv()), (Ok([2, 2 << 56 | 0xabcd]), Ok([3, 3 << 56 | 0xabcd])));
    for i in 4..=8 {
        publisher.publish([i, 0]).unwrap();
        assert_eq!(first.recv_many(&mut [[0; 2]; 3]).is_ok(), second.recv_many(&mut [[0; 2]; 3]).is_ok());
    }
    stage.show("a third subscriber has died and was evicted; five more values published", &file);
    drop(second);
    drop(other);
    stage.show("the second publisher and the second subscriber have left", &file);
    drop(publisher);
    stage.show("so has the first publisher", &file);
    compare("broadcast-values", &stage.text);
}

#[test]
fn broadcast_of_bytes_bytes_match_golden_file() {
    let title = "a broadcast of bytes, messages up to 40, in slots of 16, capacity 8, one publisher, 2 subscribers";
    let mut stage = Stage::new("broadcast-bytes", &format!("{title}, evicting at a lag of 6"));
    let options = broadcast::Options::bytes().slot_bytes(16).max_message_bytes(40).capacity(8).max_subscribers(2);
    let options = options.policy(broadcast::Policy::EvictSlow { lag: 6 }).directory(&stage.directory);

    let mut publisher = options.clone().create_new().publisher("golden").unwrap();
    let file = stage.file();
    let mut fast = options.clone().must_exist().subscriber("golden").unwrap();
    let mut slow = options.must_exist().subscriber("golden").unwrap();
    publisher.publish(b"").unwrap();
    publisher.publish(b"in a slot").unwrap();
    publisher.publish([0x11; 40]).unwrap();
    let mut message = Vec::new();
    assert_eq!([(); 3].map(|()| fast.recv(&mut message)), [Ok(0), Ok(9), Ok(40)]);
    stage.show("0, 9 and 40 bytes published: in one, one and three slots; one of two subscribers has them", &file);
    publisher.publish([0x22; 17]).unwrap();
    assert_eq!((slow.recv(&mut message), fast.recv(&mut message)), (Err(RecvError::Evicted), Ok(17)));
    stage.show("17 bytes published; the other subscriber was evicted", &file);
    slow.rejoin().unwrap();
    publisher.publish([0x33; 33]).unwrap();
    assert_eq!(slow.recv(&mut message), Ok(33));
    stage.show("it has rejoined and received 33 bytes", &file);
    compare("broadcast-bytes", &stage.text);
}

#[test]
fn broadcast_of_keys_bytes_match_golden_file() {
    let mut stage = Stage::new("broadcast-keys", "a lossy broadcast of u64, 2 keys, capacity 4, 2 publishers");
    let options = broadcast::Options::<u64>::new().keys(2).capacity(4).policy(broadcast::Policy::Lossy);
    let options = options.max_publishers(2).max_subscribers(1).directory(&stage.directory);

    let mut publisher = options.clone().create_new().publisher("golden").unwrap();
    let file = stage.file();
    publisher.publish_key(1, 0x11).unwrap();
    stage.show("a value of key 1 published", &file);
    let mut other = publisher.try_clone().unwrap();
    other.publish_key(0, 0x22).unwrap();
    (0x31..0x36).for_each(|value| publisher.publish_key(value % 2, value as u64).unwrap());
    stage.show("one of key 0 by a second publisher, and five more by the first", &file);
    let mut subscriber = options.must_exist().subscriber("golden").unwrap();
    let snapshot = subscriber.snapshot().unwrap();
    assert_eq!(snapshot.iter().count(), 3);
    stage.show("a subscriber has come, and taken a snapshot", &file);
    compare("broadcast-keys", &stage.text);
}

#[test]
fn broadcast_of_frames_bytes_match_golden_file() {
    let title = "a broadcast of bytes in slots of 16, capacity 4, 2 frames of 256, one publisher, 65 subscribers";
    let mut stage = Stage::new("broadcast-frames", title);
    let frames = broadcast::Frames { count: 2, bytes: 200 };
    let options = broadcast::Options::bytes().slot_bytes(16).capacity(4).max_subscribers(65).frames(frames);
    let options = options.directory(&stage.directory);

    let mut publisher = options.clone().create_new().publisher("golden").unwrap();
    let file = stage.file();
    let subscriber = options.must_exist().subscriber("golden").unwrap();
    // SAFETY: both endpoints belong to this process.
    let mut subscriber = unsafe { subscriber.into_zero_copy().unwrap() };
    publisher.publish([0x11; 16]).unwrap();
    publisher.publish([0x22; 17]).unwrap();
    stage.show("16 and 17 bytes published: in a slot, and in a frame", &file);
    assert_eq!(subscriber.recv_frame().unwrap().len(), 16);
    let frame = subscriber.recv_frame().unwrap();
    publisher.publish([0x33; 24]).unwrap();
    stage.show("the subscriber reads the frame; 24 bytes published in another one", &file);
    drop(frame);
    stage.show("it has given the frame back", &file);
    compare("broadcast-frames", &stage.text);
}

#[test]
fn rpc_of_values_bytes_match_golden_file() {
    let title = "requests [u64; 2] tagged \"golden!!\" and replies u32 tagged \"reply!!!\", 2 callers, 2 responders";
    let mut stage = Stage::new("rpc-values", title);
    let options = rpc::Options::<[u64; 2], u32>::new().request_tag("golden!!").reply_tag("reply!!!");
    let options = options.max_callers(2).max_responders(2).wait(WaitStrategy::Park).directory(&stage.directory);

    let mut caller = options.clone().create_new().caller("golden").unwrap();
    let file = stage.file();
    stage.show("a caller has come, before any responder", &file);
    let mut responder = options.clone().must_exist().responder("golden").unwrap();
    stage.show("so has a responder", &file);
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call([1, 1 << 56 | 0xabcd]));
        let request = responder.recv().unwrap();
        stage.show("a request was made and taken", &file);
        request.reply(0x11).unwrap();
        assert_eq!(calling.join().unwrap(), Ok(0x11));
    });
    stage.show("and answered", &file);
    assert_eq!(caller.call_timeout([2, 3], NAP), Err(CallError::TimedOut { taken: false }));
    stage.show("another request was given up", &file);
    let mut second = options.must_exist().caller("golden").unwrap();
    let mut other = responder.try_clone().unwrap();
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| second.call([4, 5]));
        drop(other.recv().unwrap());
        assert_eq!(calling.join().unwrap(), Err(CallError::Dropped));
    });
    stage.show("a second caller has come, and a second responder, which has dropped its request", &file);
    drop((other, second));
    stage.show("both have left", &file);
    drop(responder);
    stage.show("so has the first responder", &file);
    compare("rpc-values", &stage.text);
}

#[test]
fn rpc_of_bytes_bytes_match_golden_file() {
    let title = "requests of up to 40 bytes and replies of up to 200, one caller, one responder";
    let mut stage = Stage::new("rpc-bytes", title);
    let options = rpc::Options::bytes().max_request_bytes(40).max_reply_bytes(200).max_callers(1).max_responders(1);
    let options = options.directory(&stage.directory);

    let mut caller = options.clone().create_new().caller("golden").unwrap();
    let file = stage.file();
    let mut responder = options.must_exist().responder("golden").unwrap();
    let mut reply = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            responder.recv().unwrap().reply([0x22; 17]).unwrap();
            assert!(responder.recv().unwrap().reply([0x33; 201]).is_err());
        });
        assert_eq!(caller.call([0x11; 9], &mut reply), Ok(17));
        stage.show("9 bytes answered by 17", &file);
        assert_eq!(caller.call([0x44; 40], &mut reply), Err(CallError::ReplyTooLarge));
    });
    stage.show("40 bytes answered by too many", &file);
    compare("rpc-bytes", &stage.text);
}

#[test]
fn namespace_bytes_match_golden_file() {
    let mut stage = Stage::new("namespace", "a persistent namespace with an object of each kind, 3 lanes");
    let plan = Namespace::builder()
        .max_participants(3)
        .value("value", [0x11_u64, 0x12])
        .type_tag("") // this and others had no tags at first
        .value("short", 0x13_u64)
        .atomic("number", -2_i16)
        .array("narrow", &[0x14_u16, 0x15, 0x16, 0x17, 0x18])
        .array("wide", &[[0x19_u8; 12], [0x1a; 12]])
        .type_tag("")
        .mutex("mutex", 0x1b_u64)
        .mutex("heavy", [0x1c_u64; 9])
        .type_tag("golden!!")
        .reentrant_mutex("again", 0x1d_u32)
        .rw_lock("routes", [0x1e_u64; 2])
        .type_tag("")
        .semaphore("permits", 4)
        .bounded_semaphore("slots", 3)
        .condvar("news")
        .event("flag")
        .barrier("gate", 1)
        .once("first")
        .queue::<u64>("orders", 2)
        .persistent();
    let namespace = plan.create_new().directory(&stage.directory).wait(WaitStrategy::Park).open("golden").unwrap();
    let file = stage.file();
    stage.show("made, with its maker there", &file);

    namespace.value("value").unwrap().store(&[0x21_u64, 0x22]).unwrap();
    let short = namespace.value("short").unwrap();
    short.store(&0x23_u64).unwrap();
    short.update(|value| *value += 1).unwrap();
    namespace.atomic("number").unwrap().fetch_add(5_i16);
    let narrow = namespace.array("narrow").unwrap();
    narrow.store_from(1, &[0x25_u16, 0x26, 0x27]).unwrap();
    let wide = namespace.array("wide").unwrap();
    wide.set(1, [0x28_u8; 12]).unwrap();
    *namespace.mutex("mutex").unwrap().lock().unwrap() = 0x29_u64;
    let again = namespace.reentrant_mutex("again").unwrap();
    let (outer, inner) = (again.lock().unwrap(), again.lock().unwrap());
    inner.set(&0x2a_u32).unwrap();
    let routes = namespace.rw_lock("routes").unwrap();
    *routes.write().unwrap() = [0x2b_u64; 2];
    let reading = routes.read().unwrap();
    namespace.semaphore("permits").unwrap().acquire().unwrap().forget();
    let slots = namespace.bounded_semaphore("slots").unwrap();
    slots.acquire_many(2).unwrap().forget();
    namespace.event("flag").unwrap().set().unwrap();
    assert!(namespace.barrier("gate").unwrap().wait().unwrap().is_leader());
    namespace.once("first").unwrap().call_once(|| ()).unwrap();
    let mut queue = namespace.queue::<u64>("orders").unwrap();
    queue.send(0x2c).unwrap();
    let heavy = namespace.type_tag("golden!!").mutex("heavy").unwrap();
    let mut guard = heavy.lock().unwrap();
    *guard = [0x2d_u64; 9];
    guard = namespace.condvar("news").unwrap().wait_timeout(guard, NAP).unwrap().0;
    assert_eq!(locked(&file, 0..1 << 8), [0]);
    assert_eq!(locked(&file, (15 + 1) << 32..((15 + 1) << 32) + (1 << 8)), [(15 + 1) << 32, ((15 + 1) << 32) + 2]);
    stage.show("each used; two locks are held, one is read under, two permits are taken, the queue is open", &file);

    guard.poison();
    drop((guard, outer, inner, reading, queue));
    slots.release(1).unwrap();
    stage.show("given back, but for a permit; one lock is poisoned, and the queue has been left", &file);
    std::mem::forget(routes.write().unwrap());
    drop((namespace, short, narrow, wide, again, routes, slots, heavy));
    stage.show("its maker has left, with a lock that it forgot", &file);
    compare("namespace", &stage.text);
}

#[derive(Clone, Copy, Shareable)]
#[repr(u8)]
enum Side {
    Buy,
    #[allow(dead_code, reason = "part of the tag")]
    Sell,
}

#[derive(Clone, Copy, Shareable)]
#[repr(C)]
struct Order {
    price: f64,
    volume: u32,
    side: Side,
    is_hidden: bool,
    reserved: [u8; 2],
}

#[test]
fn tag_bytes_match_golden_file() {
    let mut stage = Stage::new("tags", "a namespace whose types have the tags of their names, 1 lane");
    let order = Order { price: 1.0, volume: 2, side: Side::Buy, is_hidden: true, reserved: [0; 2] };
    let plan = Namespace::builder()
        .max_participants(1)
        .value("number", 0x11_u128)
        .value("array", [18.5_f32; 3])
        .value("nested", [[0x13_u16; 2]; 2])
        .value("flag", true)
        .value("letter", 'x')
        .value("side", Side::Buy)
        .value("order", order)
        .value("untagged", Untagged(0x14_u64))
        .queue::<[i8; 4]>("queue", 2)
        .directory(&stage.directory);
    let namespace = plan.create_new().open("golden").unwrap();
    let file = stage.file();
    stage.show("made, with its maker there", &file);
    drop(namespace);
    compare("tags", &stage.text);
}

/// The bytes of this range that are locked.
fn locked(file: &File, bytes: Range<i64>) -> Vec<i64> {
    bytes
        .filter(|byte| {
            // SAFETY: all zeros is a lock, of which the kernel reads and writes the fields; the
            // descriptor is open.
            let lock = unsafe {
                let mut lock: libc::flock = std::mem::zeroed();
                (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as _, *byte, 1);
                assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock), 0);
                lock
            };
            i32::from(lock.l_type) != libc::F_UNLCK
        })
        .collect()
}

/// What the source and docs/layout.md call a word of the golden files.
fn name_in_source(name: &str) -> &str {
    match name {
        "news" => "changed",
        "plea" => "backoff request",
        "drained" => "readers gone",
        "event of several" => "multi-permit event",
        "event of done" => "completed",
        name => name,
    }
}

/// The golden files contain what docs/layout.md and the pictures in the source tell about the words
/// of the objects.
#[test]
fn object_pictures_match_golden_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/layout.md")).unwrap();
    for (code, (kind, words)) in (1..).zip(OBJECTS) {
        let row = document.lines().find(|line| line.starts_with(&format!("| {code} | {kind} |")));
        let row = row.unwrap_or_else(|| panic!("docs/layout.md has no row for kind {code}, {kind}"));
        for (offset, name) in words {
            let name = name_in_source(name);
            assert!(row.contains(&format!("`+{offset:#04x}` {name}")), "{offset:#x} {name} is not in: {row}");
        }
        let file = match kind {
            "list" => "list/words",
            "map" => "map/words",
            "re-entrant mutex" => "mutex",
            "bounded semaphore" => "semaphore",
            "queue" | "broadcast" => "nested",
            other => other,
        };
        let source = fs::read_to_string(root.join(format!("src/object/{}.rs", file.replace(' ', "_")))).unwrap();
        let picture = source.lines().filter_map(|line| line.strip_prefix("//!")).skip_while(|line| *line != " words");
        let rows: Vec<&str> = picture.skip(1).take_while(|line| *line != " ```").collect();
        assert!(!rows.is_empty(), "{file} has no picture of its words");
        for (offset, name) in words {
            let word = (offset / 8).to_string();
            let row = rows.iter().find_map(|row| row.trim_start().strip_prefix(&word)?.strip_prefix("  "));
            let row = row.unwrap_or_else(|| panic!("{file} has no row for word {word}, {name}"));
            let name = name_in_source(name);
            assert!(row.starts_with(name), "{offset:#x} {name} is not in: {row}");
        }
    }
}

#[test]
fn map_bytes_match_golden_file() {
    let mut stage = Stage::new("map", "a map of one entry, from [u8; 3] to bytes, 1 lane");
    let options = map::Options::<[u8; 3], [u8]>::new().entries(map::Entries { count: 1, bytes: 48 });
    let plan = Namespace::builder().max_participants(1).map("map", &options).directory(&stage.directory);
    let namespace = plan.create_new().open("golden").unwrap();
    let file = stage.file();
    stage.show("made, with its maker there", &file);
    let map = namespace.map::<[u8; 3], [u8]>("map").unwrap();
    map.insert(&[0x11, 0x12, 0x13], &[0x14; 11]).unwrap();
    stage.show("a key inserted", &file);
    map.insert(&[0x11, 0x12, 0x13], &[0x15; 40]).unwrap();
    stage.show("replaced, by the spare block", &file);
    map.clear().unwrap();
    stage.show("cleared", &file);
    compare("map", &stage.text);
}

/// In which of its eight buckets a key is differs from map to map.
#[test]
fn map_of_long_values_bytes_match_golden_file() {
    let mut stage = Stage::new("map-long", "a map of one entry, from [u8; 3] to up to 70000 bytes, 1 lane");
    let options = map::Options::<[u8; 3], [u8]>::new().entries(map::Entries { count: 1, bytes: 70_000 });
    let plan = Namespace::builder().max_participants(1).map("map", &options).directory(&stage.directory);
    let namespace = plan.create_new().open("golden").unwrap();
    let file = stage.file();
    stage.show("made, with its maker there", &file);
    let map = namespace.map::<[u8; 3], [u8]>("map").unwrap();
    for (extent, byte) in [(0, 0x14), (1, 0x15)] {
        map.insert(&[0x11, 0x12, 0x13], &[byte; 70_000]).unwrap();
        let bytes = fs::read(stage.directory.join("golden")).unwrap();
        let (start, length) = (bytes.len() - (2 - extent) * 18 * 4096, 18 * 4096);
        let (value, rest) = bytes[start..start + length].split_at(70_000);
        assert!(value == [byte; 70_000] && rest.iter().all(|&byte| byte == 0), "extent {extent}");
    }
    compare("map-long", &stage.text);
}

#[test]
fn list_bytes_match_golden_file() {
    let mut stage = Stage::new("list", "a list of up to ten [u8; 3], 1 lane");
    let options = list::Options::<[u8; 3]>::new().max_length(10);
    let plan = Namespace::builder().max_participants(1).list("list", &options).directory(&stage.directory);
    let namespace = plan.create_new().open("golden").unwrap();
    let file = stage.file();
    stage.show("made, with its maker there", &file);
    let list = namespace.list::<[u8; 3]>("list").unwrap();
    list.extend_from_slice(&[[0x11; 3], [0x12; 3]]).unwrap();
    stage.show("two elements appended", &file);
    list.set(1, &[0x13; 3]).unwrap();
    stage.show("one of them replaced", &file);
    list.extend_from_slice(&[[0x14; 3]; 8]).unwrap();
    stage.show("full, in two chunks", &file);
    list.clear().unwrap();
    stage.show("cleared", &file);
    compare("list", &stage.text);
}

#[test]
fn list_of_bytes_bytes_match_golden_file() {
    let mut stage = Stage::new("list-of-bytes", "a list of up to eight elements of up to 8 bytes, 1 lane");
    let options = list::Options::<[u8]>::new().max_length(8).max_element_bytes(8);
    let plan = Namespace::builder().max_participants(1).list("list", &options).directory(&stage.directory);
    let namespace = plan.create_new().open("golden").unwrap();
    let file = stage.file();
    stage.show("made, with its maker there", &file);
    let list = namespace.list::<[u8]>("list").unwrap();
    list.extend_from_slice(&[&[0x11; 8][..], &[0x12; 3], &[]]).unwrap();
    stage.show("three elements appended", &file);
    list.remove(0).unwrap();
    stage.show("one of them removed", &file);
    compare("list-of-bytes", &stage.text);
}

#[test]
fn golden_files_match_layout_version() {
    let title = format!("layout version {LAYOUT_VERSION}: ");
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let known = GOLDEN.iter().any(|what| golden(what) == path);
        if blessing() && !known {
            fs::remove_file(&path).unwrap();
            continue;
        }
        assert!(known, "{} is of another version: {REMEDY}", path.display());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&title), "{} does not begin with {title:?}: {REMEDY}", path.display());
        let version = format!("0x0008  {:02x} 00 00 00 00 00 00 00", LAYOUT_VERSION);
        assert!(text.contains(&version), "{} has another version in its header: {REMEDY}", path.display());
    }
    assert!(blessing() || GOLDEN.iter().all(|what| golden(what).exists()), "a golden file is missing: {REMEDY}");
}
