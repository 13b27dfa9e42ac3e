//! Regions and options of namespaces and their objects.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tombolo::pipe;
use tombolo::queue;
use tombolo::sync::{Array, Mutex, Value};
use tombolo::{Directory, Endpoint, Error, ErrorKind, Namespace, NamespaceBuilder};

use crate::support::{TestDir, start};
use crate::{NAME, expect, queue_of_bytes, queue_of_values, queue_region, values, write_word};

/// The objects of a namespace, by their indices in its table.
mod words {
    pub const VALUE: u64 = 0;
    pub const NUMBER: u64 = 1;
    pub const ARRAY: u64 = 2;
    pub const PERMITS: u64 = 3;
    pub const GATE: u64 = 4;
    pub const FLAG: u64 = 5;
    pub const QUEUE: u64 = 6;
    pub const LAST: u64 = 7;

    /// First word of the table; words of an entry.
    pub const TABLE: u64 = 64 + 4 * 16;
    pub const ENTRY: u64 = 16;
    pub const KIND: u64 = 0;
    pub const SIZE: u64 = 1;
    pub const ALIGN: u64 = 2;
    pub const TAG: u64 = 3;
    pub const COUNT: u64 = 4;
    pub const AT: u64 = 5;
    pub const WORDS: u64 = 6;
    pub const UNUSED: u64 = 7;
    pub const TITLE: u64 = 8;
}

fn builder(test_dir: &TestDir) -> NamespaceBuilder {
    Namespace::builder()
        .max_participants(4)
        .value("value", [1_u64; 2])
        .atomic("number", 7_u64)
        .array("array", &[1_u64, 2, 3, 4])
        .bounded_semaphore("permits", 3)
        .barrier("gate", 2)
        .event("flag")
        .queue::<u64>("queue", 4)
        .mutex("last", 5_u64)
        .persistent()
        .directory(test_dir.names())
}

fn existing(test_dir: &TestDir) -> NamespaceBuilder {
    Namespace::builder().directory(test_dir.names()).must_exist()
}

/// A namespace without participants.
fn namespace_region(test_dir: &TestDir) -> PathBuf {
    builder(test_dir).open(NAME).unwrap();
    test_dir.names().join(NAME)
}

/// Opening the namespace fails with this error, with and without a plan. So does inspecting it.
fn namespace_refused(test_dir: &TestDir, kind: ErrorKind, says: &[&str]) {
    let directory = Directory::at(test_dir.names());
    for error in [
        builder(test_dir).open(NAME).err(),
        existing(test_dir).open(NAME).err(),
        directory.inspect(NAME).err(),
        directory.repair(NAME).err(),
    ] {
        expect(error.unwrap_or_else(|| panic!("no error that says {says:?}")), kind, says);
    }
    assert_eq!(test_dir.leftovers(), [NAME], "what is not ours stays");
}

#[test]
fn namespace_file_truncated_or_extended_is_refused() {
    let test_dir = TestDir::new();
    let length = fs::metadata(namespace_region(&test_dir)).unwrap().len();
    for (other, found) in [
        (0, "found 0 bytes, expected a region of at least 512 bytes".to_string()),
        (100, "found 100 bytes, expected a region".to_string()),
        (512, format!("found 512 bytes, expected {length}; the file was cut or grown")),
        (4096, format!("found 4096 bytes, expected {length};")),
        (length - 1, format!("found {} bytes, expected {length};", length - 1)),
        (length + 4096, format!("found {} bytes, expected {length};", length + 4096)),
    ] {
        let test_dir = TestDir::new();
        File::options().write(true).open(namespace_region(&test_dir)).unwrap().set_len(other).unwrap();
        namespace_refused(&test_dir, ErrorKind::NotARegion, &[NAME, &found]);
    }
}

#[test]
fn namespace_header_invalid_is_refused() {
    let test_dir = TestDir::new();
    let header = fs::read(namespace_region(&test_dir)).unwrap();
    let limit = u64::from_ne_bytes(*header[9 * 8..].first_chunk().unwrap());
    let damaged = "expected a header that tombolo writes; the header is damaged: remove the region when nobody uses it";
    for (word, value, kind, says) in [
        (0, 0, ErrorKind::NotARegion, "found no magic number"),
        (1, 0, ErrorKind::WrongVersion, "found layout version 0, expected version 2; use the same version"),
        (1, 1, ErrorKind::WrongVersion, "found layout version 1, expected version 2; use the same version"),
        (2, 4096, ErrorKind::NotARegion, "expected 4096; the file was cut or grown"),
        (3, 1, ErrorKind::Corrupt, "found kind 1 with 0 directions"),
        (3, 2, ErrorKind::Corrupt, "found kind 2 with 0 directions"),
        (3, 4, ErrorKind::Corrupt, "found kind 4 with 0 directions"),
        (4, 1, ErrorKind::Corrupt, "found kind 3 with 1 directions"),
        (5, 8, ErrorKind::Corrupt, "found an element of 8 bytes aligned to 0"),
        (6, 8, ErrorKind::Corrupt, "found an element of 0 bytes aligned to 8"),
        (7, 1, ErrorKind::Corrupt, "found an element of 0 bytes"),
        (8, 0, ErrorKind::Corrupt, "found capacity 0"),
        (8, 1 << 16 | 1, ErrorKind::Corrupt, "found capacity 65537"),
        (8, 1 << 63, ErrorKind::Corrupt, damaged),
        (8, u64::MAX, ErrorKind::Corrupt, damaged),
        // With an entry less or more, the table overlaps or misses objects.
        (8, words::LAST, ErrorKind::Corrupt, "found entry 0 of its table damaged"),
        (8, words::LAST + 2, ErrorKind::Corrupt, "found entry 0 of its table damaged"),
        (9, 0, ErrorKind::Corrupt, "and limit 0 in"),
        (9, limit - 1, ErrorKind::Corrupt, damaged),
        (9, limit - 128, ErrorKind::Corrupt, "found entry 7 of its table damaged"),
        (9, limit + 8, ErrorKind::Corrupt, "found a table of objects up to word"),
        (9, limit + 128, ErrorKind::Corrupt, "found a table of objects up to word"),
        (9, 1 << 46, ErrorKind::Corrupt, damaged),
        (9, u64::MAX, ErrorKind::Corrupt, damaged),
        (10, 0, ErrorKind::Corrupt, "found words that have no meaning"),
        (10, 3, ErrorKind::Corrupt, "found words that have no meaning"),
        (11, 0, ErrorKind::Corrupt, damaged),
        (11, 3, ErrorKind::Corrupt, "found entry 0 of its table damaged"),
        (11, 5, ErrorKind::Corrupt, "found entry 0 of its table damaged"),
        (11, 4097, ErrorKind::Corrupt, damaged),
        (11, u64::MAX, ErrorKind::Corrupt, damaged),
        (12, 16, ErrorKind::Corrupt, damaged),
        (13, 1, ErrorKind::Corrupt, damaged),
        (14, 8, ErrorKind::Corrupt, damaged),
        (15, 1, ErrorKind::Corrupt, damaged),
        (16, 2, ErrorKind::Corrupt, damaged),
        (17, 1, ErrorKind::Corrupt, damaged), // publishers, of a broadcast
        (23, 1, ErrorKind::Corrupt, damaged),
        (24, 1, ErrorKind::Corrupt, damaged),
        (25, 1, ErrorKind::Corrupt, damaged), // of the replies to requests
        (28, 1, ErrorKind::Corrupt, damaged),
        (30, 1, ErrorKind::Corrupt, "found words that have no meaning"),
        (63, 1, ErrorKind::Corrupt, "found words that have no meaning"),
    ] {
        let test_dir = TestDir::new();
        write_word(&namespace_region(&test_dir), word, value);
        namespace_refused(&test_dir, kind, &[NAME, says]);
    }
}

#[test]
fn namespace_table_invalid_is_refused() {
    use words::*;
    let text = |text: &[u8; 8]| u64::from_ne_bytes(*text);
    let test_dir = TestDir::new();
    let bytes = fs::read(namespace_region(&test_dir)).unwrap();
    let word = |object: u64, word: u64| {
        let at = (TABLE + object * ENTRY + word) as usize * 8;
        u64::from_ne_bytes(*bytes[at..].first_chunk().unwrap())
    };
    let lies = [
        (VALUE, KIND, &[0, 2, 3, 4, 7, 12, 13, 14, 1 << 32, u64::MAX][..]),
        (VALUE, SIZE, &[0, 8, 15, 17, 40, 1 << 20, 1 << 61, 1 << 63, u64::MAX, !15]),
        (VALUE, ALIGN, &[0, 3, 32, 256, 1 << 63, u64::MAX]),
        (VALUE, COUNT, &[1, u64::MAX]),
        (NUMBER, SIZE, &[0, 16, 1 << 40, 1 << 62]),
        (NUMBER, KIND, &[1, 9, 10, 12]), // those that are as long hold nothing
        (ARRAY, COUNT, &[0, 17, 1 << 20, 1 << 44, 1 << 61, u64::MAX]),
        (ARRAY, SIZE, &[0, 24, 40, 1 << 61, !7]),
        (PERMITS, COUNT, &[0, 17, 1 << 16, 1 << 17, u64::MAX]),
        (PERMITS, SIZE, &[8]),
        (GATE, COUNT, &[0, 1 << 13, u64::MAX]),
        (FLAG, SIZE, &[8, 1 << 40]),
        (FLAG, COUNT, &[1]),
        (QUEUE, SIZE, &[8]),
        (QUEUE, KIND, &[1, 4, 12]),
        (LAST, KIND, &[1, 13]),
        (LAST, SIZE, &[64, 1 << 61]),
        (LAST, AT, &[0, 1, word(LAST, AT) + 16, word(LAST, AT) - 16, word(VALUE, AT), u64::MAX]),
        (VALUE, AT, &[0, word(VALUE, AT) + 1, word(VALUE, AT) + 16, word(NUMBER, AT), 1 << 61, u64::MAX]),
        (VALUE, WORDS, &[0, 16, word(VALUE, WORDS) + 1, word(VALUE, WORDS) + 16, 1 << 61, u64::MAX]),
        (LAST, WORDS, &[0, 15, 32, 1 << 20, u64::MAX]),
        (VALUE, UNUSED, &[1, u64::MAX]),
        (
            VALUE,
            TITLE,
            &[text(b"\xFFalue\0\0\0"), text(b"val\nue\0\0"), text(b"val\0ue\0\0"), text(b"\xC3\0\0\0\0\0\0\0")],
        ),
        (VALUE, TITLE + 7, &[1, 1 << 63]), // zeros in between
    ];
    for (object, at, values) in lies {
        for value in values {
            let test_dir = TestDir::new();
            write_word(&namespace_region(&test_dir), TABLE + object * ENTRY + at, *value);
            let says = format!("found entry {object} of its table damaged, expected one that tombolo writes;");
            namespace_refused(&test_dir, ErrorKind::Corrupt, &[NAME, &says, "remove the region when nobody uses it"]);
        }
    }
    // Two objects of the same name.
    let test_dir = TestDir::new();
    write_word(&namespace_region(&test_dir), TABLE + LAST * ENTRY + TITLE, word(VALUE, TITLE));
    namespace_refused(&test_dir, ErrorKind::Corrupt, &["found entry 7 of its table damaged"]);
    // No tag is invalid in itself.
    let test_dir = TestDir::new();
    write_word(&namespace_region(&test_dir), TABLE + VALUE * ENTRY + TAG, text(b"seconds\0"));
    expect(builder(&test_dir).open(NAME).unwrap_err(), ErrorKind::WrongType, &["tagged \"seconds"]);
    existing(&test_dir).open(NAME).unwrap().type_tag("seconds").value::<[u64; 2]>("value").unwrap();
}

/// The header of a queue in a namespace is validated like that of a file.
#[test]
fn namespace_queue_header_invalid_is_refused() {
    let lies = [
        (0, &[0, 1][..]),
        (1, &[0, 1]),
        (2, &[0, 4096 - 8, 8192, u64::MAX]),
        (3, &[0, 1, 3]),
        (4, &[0, 2]),
        (5, &[0, 1 << 20, 1 << 60]),
        (6, &[0, 3, 256]),
        (8, &[0, 1, 3, 1 << 20, u64::MAX]),
        (9, &[0, 16, u64::MAX]),
        (10, &[0, 3]),
        (11, &[0, 1 << 10, u64::MAX]),
        (12, &[16]),
        (13, &[1]),
        (14, &[8]),
        (15, &[1, u64::MAX]), // not mapped, and so not there
        (16, &[1]),
        (17, &[1]),
        (63, &[1]),
    ];
    for (word, values) in lies {
        for value in values {
            let test_dir = TestDir::new();
            let path = namespace_region(&test_dir);
            let at = words::TABLE + words::QUEUE * words::ENTRY + words::AT;
            let queue = u64::from_ne_bytes(*fs::read(&path).unwrap()[at as usize * 8..].first_chunk().unwrap());
            write_word(&path, queue + word, *value);
            let says = format!("found entry {} of its table damaged", words::QUEUE);
            namespace_refused(&test_dir, ErrorKind::Corrupt, &[NAME, &says, "remove the region"]);
        }
    }
}

/// A valid header of a queue of that size with extents, which are not in the mapping.
#[test]
fn namespace_queue_with_extents_is_refused() {
    let test_dir = TestDir::new();
    let header = fs::read(queue_region(&test_dir)).unwrap()[..17 * 8].to_vec();
    assert_eq!((header[2 * 8..3 * 8].to_vec(), header[15 * 8]), (12288_u64.to_ne_bytes().to_vec(), 2));
    let test_dir = TestDir::new();
    let plan = Namespace::builder().max_participants(4).persistent().directory(test_dir.names());
    plan.queue::<[u64; 200]>("queue", 4).open(NAME).unwrap();
    let path = test_dir.names().join(NAME);
    let at =
        u64::from_ne_bytes(*fs::read(&path).unwrap()[(words::TABLE + words::AT) as usize * 8..].first_chunk().unwrap());
    File::options().write(true).open(&path).unwrap().write_all_at(&header, at * 8).unwrap();
    let error = existing(&test_dir).open(NAME).unwrap_err();
    expect(error, ErrorKind::Corrupt, &["found entry 0 of its table damaged"]);
}

#[test]
fn namespace_damaged_can_be_removed() {
    let test_dir = TestDir::new();
    write_word(&namespace_region(&test_dir), words::TABLE, u64::MAX);
    namespace_refused(&test_dir, ErrorKind::Corrupt, &[NAME]);
    Directory::at(test_dir.names()).unlink(NAME, true).unwrap();
    assert_eq!(test_dir.leftovers(), [""; 0]);
    builder(&test_dir).open(NAME).unwrap();
}

#[test]
fn namespace_of_another_type_is_refused() {
    let test_dir = TestDir::new();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let namespace = builder(&test_dir).open(NAME).unwrap();
    let _pipe = values(&test_dir).sender("pipe").unwrap();
    let _queue = queue_of_values(&test_dir).sender("queue").unwrap();
    let remedy = "open it as what it is, or use another name";
    for (name, found) in [("pipe", "found a pipe"), ("queue", "found a queue")] {
        let says = [found, "cannot open this namespace", "expected a namespace", remedy];
        wrong(existing(&test_dir).open(name).unwrap_err(), &says);
        wrong(Namespace::builder().event("flag").directory(test_dir.names()).open(name).unwrap_err(), &says);
    }
    let found = "found a namespace, expected a pipe";
    wrong(values(&test_dir).sender(NAME).unwrap_err(), &["cannot open this pipe", found]);
    wrong(values(&test_dir).receiver(NAME).unwrap_err(), &[found]);
    wrong(pipe::Options::bytes().directory(test_dir.names()).open(NAME).unwrap_err(), &[found]);
    let found = "found a namespace, expected a queue";
    wrong(queue_of_values(&test_dir).sender(NAME).unwrap_err(), &["cannot open this queue", found]);
    wrong(queue_of_bytes(&test_dir).open(NAME).unwrap_err(), &[found]);

    // The same for descriptors.
    let (tx, _rx) = pipe::Options::<u64>::new().create().unwrap();
    wrong(Namespace::from_fd(tx.into_fd().unwrap()).unwrap_err(), &["found a pipe, expected a namespace"]);
    let (tx, _rx) = queue::Options::<u64>::new().create_channel().unwrap();
    wrong(Namespace::from_fd(tx.into_fd().unwrap()).unwrap_err(), &["found a queue, expected a namespace"]);
    let share = || namespace.share().unwrap();
    let error = pipe::Options::<u64>::new().from_fd::<tombolo::pipe::Sender<u64>>(share()).unwrap_err();
    wrong(error, &["found a namespace, expected a pipe"]);
    let error = queue::Options::<u64>::new().from_fd::<tombolo::queue::Sender<u64>>(share()).unwrap_err();
    wrong(error, &["found a namespace, expected a queue"]);
    wrong(Value::<u64>::from_fd(share()).unwrap_err(), &["found a namespace of 8 objects, expected one object"]);
    let single = Mutex::new(1_u64).unwrap();
    let says = ["cannot open this object: found a mutex", "expected an array"];
    wrong(Array::<u64>::from_fd(single.share().unwrap()).unwrap_err(), &says);
}

#[test]
fn object_of_another_type_is_refused() {
    let test_dir = TestDir::new();
    let namespace = builder(&test_dir).open(NAME).unwrap();
    let wrong = |error: Error, says: &[&str]| expect(error, ErrorKind::WrongType, says);
    let remedy = "open it as what it is, or use another name";
    wrong(
        namespace.value::<u64>("value").unwrap_err(),
        &["cannot open the object \"value\"", "found a value (values of 16", remedy],
    );
    wrong(namespace.value::<[u32; 4]>("value").unwrap_err(), &["aligned to 8", "aligned to 4"]);
    wrong(namespace.value::<i64>("number").unwrap_err(), &["atomic (values of 8 bytes", "expected a value", "\"i64\""]);
    wrong(namespace.atomic::<i64>("number").unwrap_err(), &["tagged \"u64\"", "tagged \"i64\""]);
    wrong(namespace.atomic::<u32>("number").unwrap_err(), &["of 8 bytes", "of 4 bytes"]);
    wrong(namespace.array::<u32>("array").unwrap_err(), &["found an array of 4 values of 8 bytes"]);
    wrong(namespace.mutex::<[u64; 2]>("value").unwrap_err(), &["found a value", "expected a mutex"]);
    wrong(
        namespace.semaphore("permits").unwrap_err(),
        &["found a bounded semaphore of 3 permits", "expected a semaphore"],
    );
    wrong(namespace.condvar("flag").unwrap_err(), &["event, expected a condition variable"]);
    let says = ["found a queue of 4 values of 8 bytes", "expected a queue of values of 4 bytes"];
    wrong(namespace.queue::<u32>("queue").unwrap_err(), &says);
    let says = ["found a queue of 4 values of 8 bytes", "expected a queue of byte messages"];
    wrong(namespace.queue_bytes("queue").unwrap_err(), &says);
    wrong(namespace.type_tag("seconds").value::<[u64; 2]>("value").unwrap_err(), &["seconds"]);
    let missing =
        "found the objects value, number, array, permits, gate, flag, queue, last, expected one of that name;";
    expect(namespace.event("missing").unwrap_err(), ErrorKind::NotFound, &["the object \"missing\"", missing]);

    // A plan with more objects or other lengths.
    let plan = || Namespace::builder().directory(test_dir.names());
    let missing = plan().event("flag").event("more").open(NAME).unwrap_err();
    expect(missing, ErrorKind::NotFound, &["the object \"more\""]);
    wrong(
        plan().array_zeroed::<u64>("array", 5).open(NAME).unwrap_err(),
        &["an array of 4 values", "expected an array"],
    );
    wrong(plan().bounded_semaphore("permits", 4).open(NAME).unwrap_err(), &["a bounded semaphore of 3 permits"]);
    wrong(plan().barrier("gate", 3).open(NAME).unwrap_err(), &["a barrier for 2 parties"]);
    wrong(plan().queue::<u32>("queue", 4).open(NAME).unwrap_err(), &["found a queue of 4 values of 8 bytes"]);
    wrong(plan().queue_bytes("queue", 4, 8).open(NAME).unwrap_err(), &["found a queue of 4 values of 8 bytes"]);
    plan().array("array", &[9_u64; 4]).open(NAME).unwrap();
}

/// The only member of a namespace that is not persistent.
pub fn store_and_die(arguments: &[String]) {
    let namespace = Namespace::builder().value("value", 1_u64).directory(&arguments[0]).open(NAME).unwrap();
    namespace.value("value").unwrap().store(&2_u64).unwrap();
    // SAFETY: ends this process, without a word to anybody.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// Opening with a wrong plan and leaving again does not count as having joined: what the dead left
/// stays for the next one with the right plan.
#[test]
fn namespace_opened_with_wrong_plan_keeps_contents() {
    let test_dir = TestDir::new();
    start("store_and_die", &[test_dir.names().to_str().unwrap()]).wait();
    let plan = || Namespace::builder().directory(test_dir.names());
    expect(plan().value("value", 1_u32).open(NAME).unwrap_err(), ErrorKind::WrongType, &["of 4 bytes"]);
    assert_eq!(test_dir.leftovers(), [NAME]);
    expect(plan().must_exist().event("flag").open(NAME).unwrap_err(), ErrorKind::NotFound, &["\"flag\""]);
    assert_eq!(plan().open(NAME).unwrap().value::<u64>("value").unwrap().load(), Ok(2));
}

#[test]
fn namespace_options_invalid_are_refused() {
    let test_dir = TestDir::new();
    let plan = || Namespace::builder().directory(test_dir.names());
    let refused = |plan: NamespaceBuilder, kind: ErrorKind, says: &[&str]| {
        expect(plan.create().unwrap_err(), kind, says);
        expect(plan.open(NAME).unwrap_err(), kind, says);
    };
    let invalid = |plan: NamespaceBuilder, says: &[&str]| refused(plan, ErrorKind::InvalidOptions, says);
    expect(plan().create().unwrap_err(), ErrorKind::InvalidOptions, &["found no objects, expected at least one"]);
    for participants in [0, 4097, 5000, 1 << 32, usize::MAX / 2 + 1, usize::MAX] {
        let says = format!("number of participants: found {participants}, expected 1 to 4096;");
        let plan = || plan().max_participants(participants);
        invalid(plan().event("flag"), &[&says]);
        invalid(plan().barrier("gate", 2), &[&says]);
        invalid(plan().rw_lock("rw", [0_u64; 2]), &[&says]);
        invalid(plan().queue::<u64>("queue", 4), &[&says]);
    }
    for length in [0, 1 << 44, 1 << 60, 1 << 61, usize::MAX / 2 + 1, usize::MAX] {
        let says = format!("with this length: found {length}, expected 1 to ");
        invalid(plan().array_zeroed::<u8>("array", length), &[&says]);
        invalid(plan().array_zeroed::<u64>("array", length), &[&says]);
        invalid(plan().array_zeroed::<[u8; 3]>("array", length), &[&says]);
    }
    let below = "expected a region below 64 TiB";
    invalid(
        plan().array_zeroed::<[u8; 1 << 30]>("array", 1 << 40),
        &["objects of more bytes than can be counted", below],
    );
    invalid(plan().array_zeroed::<u64>("array", 1 << 43), &["number of words"]);
    let third = || plan().array_zeroed::<u64>("one", 3 << 41).array_zeroed::<u64>("two", 3 << 41);
    invalid(third(), &["number of words"]);
    invalid(third().array_zeroed::<u64>("three", 3 << 41), &["number of words"]);
    invalid(plan().value("nothing", [0_u8; 0]), &["size of a value: found 0, expected at least 1 byte; use an event"]);
    invalid(plan().array::<u64>("nothing", &[]), &["found 0"]);
    invalid(plan().bounded_semaphore("none", 0), &["number of permits: found 0", "use a mutex"]);
    invalid(plan().bounded_semaphore("many", (1 << 16) + 1), &["found 65537, expected 1 to 65536;"]);
    invalid(plan().semaphore("many", 1 << 31), &["found 2147483648, expected", "to 2147483647;"]);
    invalid(plan().barrier("nobody", 0), &["number of parties: found 0"]);
    invalid(plan().barrier("crowd", 1 << 13), &["found 8192, expected 1 to 8191;"]);
    invalid(plan().queue::<u64>("queue", 0), &["plan the object \"queue\"", "capacity", "found 0"]);
    invalid(plan().queue::<u64>("queue", usize::MAX), &["plan the object", "choose a smaller capacity"]);
    invalid(plan().queue_bytes("queue", 4, usize::MAX), &["plan the object", "message limit"]);
    invalid(plan().queue_bytes("queue", 1 << 40, 1 << 40), &["plan the object"]);
    let present = plan().event("flag").open("present").unwrap();
    for plan in [plan(), plan().event("flag")].map(|plan| plan.queue::<u64>("queue", 0)) {
        expect(plan.open("present").unwrap_err(), ErrorKind::InvalidOptions, &["plan the object \"queue\""]);
        expect(plan.from_fd(present.share().unwrap()).unwrap_err(), ErrorKind::InvalidOptions, &["plan the object"]);
    }
    drop(present);

    let misnamed =
        |name: &str| refused(plan().event(name), ErrorKind::InvalidName, &["at most 64 bytes without control"]);
    misnamed(&"x".repeat(65));
    misnamed(&"é".repeat(33));
    misnamed("two\nlines");
    misnamed("end\0");
    let twice = plan().event("flag").once("flag");
    refused(
        twice,
        ErrorKind::AlreadyExists,
        &["two objects of the name \"flag\", expected a name for each; rename one"],
    );
    let much = plan().array_zeroed::<u8>("array", 1 << 43);
    refused(much, ErrorKind::NoSpace, &["choose a smaller capacity"]);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

/// One more object is refused. Neither takes as long as comparing every pair.
#[test]
fn namespace_with_most_objects_opens() {
    let test_dir = TestDir::new();
    let plan = Namespace::builder().max_participants(1).directory(test_dir.names()).persistent();
    let plan = (0..1 << 16).fold(plan, |plan, number| plan.event(&format!("an event with the number {number:08}")));
    plan.open(NAME).unwrap();
    let again = existing(&test_dir).open(NAME).unwrap();
    assert_eq!(again.objects().count(), 1 << 16);
    again.event("an event with the number 00065535").unwrap().set().unwrap();
    drop(again);
    let error = plan.event("one more").open("other").unwrap_err();
    expect(error, ErrorKind::InvalidOptions, &["number of objects: found 65537, expected 0 to 65536;"]);
}
