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

use tombolo::{LAYOUT_VERSION, Pipe, PipeOptions};

const REMEDY: &str = "the layout changed: raise LAYOUT_VERSION and rewrite the golden files with TOMBOLO_BLESS=1";

const GOLDEN: [&str; 2] = ["values", "bytes"];

/// The names of the words, by offset in bytes; `docs/layout.md` says the same. Written out rather than taken from
/// the library, which is on trial here.
const HEADER: [(usize, &str); 11] = [
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

/// What differs from process to process.
const VOLATILE: [&str; 3] = ["pid", "started", "namespace"];

fn name(offset: usize, rings: usize) -> String {
    let find = |words: &[(usize, &'static str)], at| words.iter().find(|word| word.0 == at).map_or("", |word| word.1);
    let (area, word) = if offset < SEATS {
        ("header".to_string(), find(&HEADER, offset))
    } else if offset < RINGS {
        (format!("seat {}", (offset - SEATS) / SEAT_LEN), find(&SEAT, offset % SEAT_LEN))
    } else if offset < RINGS + rings * RING_LEN {
        (format!("ring {}", (offset - RINGS) / RING_LEN), find(&RING, offset % RING_LEN))
    } else {
        ("data".to_string(), "")
    };
    format!("{area} {word}").trim_end().to_string()
}

/// Every word that is not what it was.
fn dump(bytes: &[u8], before: &[u8]) -> String {
    let rings = bytes[0x20].into();
    let mut text = String::new();
    let words = bytes.chunks_exact(8).zip(before.chunks_exact(8)).enumerate();
    for (index, (word, _)) in words.filter(|(_, (word, before))| word != before) {
        let name = name(index * 8, rings);
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
        mask_fences(&mut bytes);
        self.bytes.resize(bytes.len(), 0);
        write!(self.text, "\n{when}\n{}", dump(&bytes, &self.bytes)).unwrap();
        self.bytes = bytes;
    }
}

/// Whether processes need real fences depends on the kernel, not on the layout: bit 1 of the event words.
fn mask_fences(bytes: &mut [u8]) {
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
