//! Golden bytes: what a region looks like in memory, word by word, against files that people can read
//! (`tests/golden/`). Two processes may have different builds of this library, so these bytes are a contract.
//!
//! `TOMBOLO_BLESS=1` writes the files of a new layout version and removes the old one's. It never rewrites a file of the
//! same version: a change of layout without a change of its number is what this test is here to prevent.

#![cfg(target_endian = "little")]

use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tombolo::{LAYOUT_VERSION, Pipe, PipeOptions, QueueOptions, RecvError, SendError, Wait};

const REMEDY: &str = "the layout changed: raise LAYOUT_VERSION and rewrite the golden files with TOMBOLO_BLESS=1";

const GOLDEN: [&str; 4] = ["values", "bytes", "queue-values", "queue-bytes"];

/// The names of the words, by offset in bytes; `docs/layout.md` says the same. Written out rather than taken from
/// the library, which is on trial here.
const HEADER: [(usize, &str); 16] = [
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
const QUEUE: [(usize, &str); 16] = [
    (0x000, "tail"),
    (0x080, "head"),
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
const LANE: [(usize, &str); 8] = [
    (0x00, "pid"),
    (0x08, "started"),
    (0x10, "namespace"),
    (0x18, "state"),
    (0x20, "joins"),
    (0x28, "part"),
    (0x40, "intent"),
    (0x48, "open"),
];

/// What differs from process to process.
const VOLATILE: [&str; 3] = ["pid", "started", "namespace"];

const IS_QUEUE: u8 = 2;

fn find(words: &[(usize, &'static str)], at: usize) -> &'static str {
    words.iter().find(|word| word.0 == at).map_or("", |word| word.1)
}

fn name(offset: usize, bytes: &[u8]) -> String {
    let rings = usize::from(bytes[0x20]);
    let (area, word) = if offset < SEATS {
        ("header".to_string(), find(&HEADER, offset))
    } else if bytes[0x18] == IS_QUEUE {
        name_in_queue(offset, bytes)
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
    let [element, capacity, limit] = [0x28, 0x40, 0x48].map(header);
    let [lanes, inline, blocks, block, extents] = [0x58, 0x60, 0x68, 0x70, 0x78].map(header);
    let owners = LANES + lanes * LANE_LEN;
    let marks = (owners + (blocks + extents) * 8).next_multiple_of(128);
    let slots = (marks + capacity * 8).next_multiple_of(128);
    let (label, payload) = if element == 0 { ("label", 16 + inline) } else { ("", 8 + element.next_multiple_of(8)) };
    let first_block = slots + (capacity * payload).next_multiple_of(128);
    let first_extent = (first_block + blocks * block).next_multiple_of(4096);
    if offset < LANES {
        ("queue".to_string(), find(&QUEUE, offset - CONTROL))
    } else if offset < owners {
        (format!("lane {}", (offset - LANES) / LANE_LEN), find(&LANE, (offset - LANES) % LANE_LEN))
    } else if offset < marks {
        (format!("owner {}", (offset - owners) / 8), "")
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

/// Every word that is not what it was.
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

/// A directory for one named region, and the region's file, which outlives its name.
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

/// Whether processes need real fences depends on the kernel, not on the layout: bit 1 of the event words. Who is woken when
/// is no layout either: of a queue's event words only the lowest bits are shown.
fn mask_events(bytes: &mut [u8]) {
    if bytes[0x18] == IS_QUEUE {
        for at in [0x100, 0x180, 0x200, 0x280].map(|event| CONTROL + event) {
            bytes[at] &= 5;
            bytes[at + 1..at + 4].fill(0);
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
fn values() {
    let mut stage = Stage::new("values", "one-way values [u64; 2] tagged \"golden!!\", capacity 4");
    let options = || PipeOptions::values::<[u64; 2]>().capacity(4).tag(*b"golden!!").directory(&stage.directory);
    let (sender, receiver) = (options().create_new(), options().open_existing());

    let mut tx = sender.sender("golden").unwrap();
    let file = stage.file();
    stage.show("the sender has come", &file);
    let mut rx = receiver.receiver("golden").unwrap();
    for i in 1..=3 {
        tx.send(&[i, i << 56 | 0xabcd]).unwrap();
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
fn bytes() {
    let mut stage = Stage::new("bytes", "duplex bytes, capacity 256, messages up to 1000");
    let options = PipeOptions::bytes().capacity_len(256).max_message_len(1000).directory(&stage.directory);

    let mut one: Pipe = options.clone().create_new().end("golden").unwrap();
    let mut two: Pipe = options.open_existing().end("golden").unwrap();
    let file = stage.file();
    let mut message = Vec::new();
    for length in [100, 100] {
        one.send(&vec![0x11; length]).unwrap();
        two.recv(&mut message).unwrap();
    }
    one.send(b"").unwrap();
    one.send(b"a message that is behind a skip").unwrap();
    two.send(&[0x22; 150]).unwrap();
    stage.show("out: 100, 100, 0 and 31 bytes sent, the first two received; back: 150 bytes sent, in parts", &file);
    compare("bytes", &stage.text);
}

/// Long enough to fall asleep in.
const NAP: Duration = Duration::from_millis(100);

#[test]
fn queue_values() {
    let mut stage = Stage::new("queue-values", "a queue of values [u64; 2] tagged \"golden!!\", capacity 4, 3 lanes");
    let options = QueueOptions::values::<[u64; 2]>().capacity(4).max_participants(3).tag(*b"golden!!");
    let options = options.wait(Wait::Park).directory(&stage.directory);

    let mut tx = options.clone().create_new().sender("golden").unwrap();
    let file = stage.file();
    stage.show("a sender has come", &file);
    let mut rx = options.open_existing().receiver("golden").unwrap();
    assert_eq!(rx.recv_timeout(NAP), Err(RecvError::TimedOut));
    stage.show("so has a receiver, and has slept", &file);
    for i in 1..=3 {
        tx.send(&[i, i << 56 | 0xabcd]).unwrap();
    }
    assert_eq!((rx.recv(), rx.recv()), (Ok([1, 1 << 56 | 0xabcd]), Ok([2, 2 << 56 | 0xabcd])));
    rx.task_done().unwrap();
    assert_eq!(tx.join_timeout(NAP), Err(SendError::TimedOut));
    stage.show("three values sent, two received, one of them done; the sender has waited for the rest", &file);
    let second = rx.sender().unwrap();
    drop(tx);
    stage.show("a second sender has come, the first has left", &file);
    second.close().unwrap();
    drop(second);
    stage.show("the queue is closed, the second sender has left as well", &file);
    drop(rx);
    stage.show("the receiver has left, with a value there and a task open", &file);
    compare("queue-values", &stage.text);
}

#[test]
fn queue_bytes() {
    let title = "a queue of bytes, capacity 4, 3 lanes, 16 bytes in a slot, 2 blocks of 64, 2 extents of up to 5000";
    let mut stage = Stage::new("queue-bytes", title);
    let options = QueueOptions::bytes().capacity(4).max_participants(3).max_message_len(5000);
    let options = options.inline_len(16).blocks(2, 64).extents(2).wait(Wait::Park).directory(&stage.directory);

    let mut tx = options.clone().create_new().sender("golden").unwrap();
    let mut rx = options.open_existing().receiver("golden").unwrap();
    let file = stage.file();
    for message in [&b"in the slot"[..], &[0x11; 40], &[0x22; 70], &[0x33; 65]] {
        tx.send(message).unwrap();
    }
    stage.show("11, 40, 70 and 65 bytes sent: in a slot, a block and two extents", &file);
    assert_eq!(tx.send_timeout(b"", NAP), Err(SendError::TimedOut));
    assert_eq!(tx.send_timeout(&[0x44; 5000], NAP), Err(SendError::TimedOut));
    stage.show("the sender has waited for a slot, and for an extent", &file);
    let mut message = Vec::new();
    for length in [11, 40, 70] {
        assert_eq!(rx.recv(&mut message), Ok(length));
    }
    tx.send(b"").unwrap();
    tx.send(&[0x55; 41]).unwrap();
    stage.show("the first three received; 0 and 41 bytes sent", &file);
    assert_eq!(rx.close_now(), Ok(3));
    stage.show("closed, and the last three thrown away", &file);
    compare("queue-bytes", &stage.text);
}

#[test]
fn golden_files_are_of_this_version() {
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
