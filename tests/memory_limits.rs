//! Memory that runs out, in a file system or in a control group: this is an error and never a
//! signal. A message that could not be sent takes no memory, and what an empty queue keeps is
//! bounded.

mod support;

use std::env;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;

use support::{TestDir, child_roles, report, start};
use tombolo::collections::{MapError, map};
use tombolo::pipe;
use tombolo::queue;
use tombolo::{Directory, Endpoint, ErrorKind, Namespace, SendError};

child_roles!(
    fill_a_small_file_system,
    fill_a_small_file_system_with_values,
    insert_beyond_the_longest_file,
    make_room_in_a_small_file_system,
    make_too_large_a_region_in_a_group,
    send_too_long_a_message_in_a_group,
    make_a_region_beside_page_cache,
);

const NAME: &str = "name";
const MIB: usize = 1 << 20;

fn queue(directory: &Path) -> queue::Options<[u8]> {
    queue::Options::bytes().directory(directory)
}

/// Bytes of memory that the file of the queue takes.
fn memory(directory: &Path) -> u64 {
    fs::metadata(directory.join(NAME)).unwrap().blocks() * 512
}

/// A write beyond the limit would be a signal.
#[test]
fn memory_limit_of_a_file_refused_long_value_is_an_error() {
    start_in_a_directory("insert_beyond_the_longest_file");
}

fn insert_beyond_the_longest_file(arguments: &[String]) {
    let place = Path::new(&arguments[0]);
    let options = map::Options::<u64, [u8]>::new().entries(map::Entries { count: 4, bytes: MIB });
    let plan = || Namespace::builder().map("map", &options).directory(place);
    let namespace = plan().open(NAME).unwrap();
    let map = namespace.map::<u64, [u8]>("map").unwrap();
    assert_eq!(map.insert(&1, &[1; 5000]), Ok(true));
    let before = memory(place);
    let limit_to = |bytes: u64| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: sets a limit of this process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
    };
    limit_to(before);
    assert_eq!(
        (map.insert(&1, &[2; 5000]), map.insert(&2, &[2; 5000])),
        (Err(MapError::OutOfMemory), Err(MapError::OutOfMemory))
    );
    assert_eq!((map.get(&1), map.len(), memory(place)), (Ok(Some(vec![1; 5000])), 1, before));
    let error = plan().create().unwrap_err();
    assert!(error.kind() == ErrorKind::NoSpace && error.to_string().contains("shorter long"), "{error}");
    assert_eq!(map.remove(&1), Ok(Some(vec![1; 5000])));
    limit_to(libc::RLIM_INFINITY);
    assert_eq!((map.insert(&1, &[2; 5000]), map.get(&1)), (Ok(true), Ok(Some(vec![2; 5000]))));
}

/// Mounts a file system of 64 MiB that only this process sees. Returns false if it may not.
fn mount_small(place: &str) -> bool {
    let c = |text: &str| CString::new(text).unwrap();
    let (place, tmpfs, limit, root) = (c(place), c("tmpfs"), c("size=64m"), c("/"));
    // SAFETY: strings that end in zero bytes; the mounts are private to this thread and go with it.
    let mounted = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(ptr::null(), root.as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) == 0
            && libc::mount(tmpfs.as_ptr(), place.as_ptr(), tmpfs.as_ptr(), 0, limit.as_ptr().cast()) == 0
    };
    if !mounted {
        report("SKIPPED: too small a file system (no permission to mount); run the tests as root for it");
    }
    mounted
}

fn start_in_a_directory(part: &str) {
    let test_dir = TestDir::new();
    fs::create_dir(test_dir.names()).unwrap();
    start(part, &[test_dir.names().to_str().unwrap()]).finish();
}

#[test]
fn memory_limit_of_file_system_refused_message_takes_no_memory() {
    start_in_a_directory("fill_a_small_file_system");
}

fn fill_a_small_file_system(arguments: &[String]) {
    let place = Path::new(&arguments[0]);
    if !mount_small(&arguments[0]) {
        return;
    }
    let mut queue = queue(place).open(NAME).unwrap();
    let mut received = Vec::new();
    for _ in 0..3 {
        assert_eq!(queue.send(vec![1; 70 * MIB]), Err(SendError::OutOfMemory));
        assert_eq!(queue.stats().extents_bytes, 0);
        assert_eq!(queue.stats().pooled, 0);
        fs::write(place.join("other"), vec![0; 50 * MIB]).expect("room for others");
        assert_eq!(queue.send(vec![1; 20 * MIB]), Err(SendError::OutOfMemory), "where others have it");
        assert_eq!(queue.stats().extents_bytes, 0);
        fs::remove_file(place.join("other")).unwrap();
        queue.send(vec![2; 40 * MIB]).expect("room again");
        assert_eq!(queue.recv(&mut received), Ok(40 * MIB));
    }
}

#[test]
fn memory_limit_of_file_system_refused_long_value_takes_no_memory() {
    start_in_a_directory("fill_a_small_file_system_with_values");
}

fn fill_a_small_file_system_with_values(arguments: &[String]) {
    let place = Path::new(&arguments[0]);
    if !mount_small(&arguments[0]) {
        return;
    }
    let options = map::Options::<u64, [u8]>::new().entries(map::Entries { count: 64, bytes: 70 * MIB });
    let namespace = Namespace::builder().map("map", &options).directory(place).open(NAME).unwrap();
    let map = namespace.map::<u64, [u8]>("map").unwrap();
    let empty = memory(place);
    for round in 0..3 {
        assert_eq!(map.insert(&1, &vec![1; 70 * MIB]), Err(MapError::OutOfMemory));
        assert_eq!((memory(place), map.len()), (empty, 0));
        assert_eq!(map.insert(&1, &vec![2; 40 * MIB]), Ok(true));
        let full = memory(place);
        for refused in [map.insert(&1, &vec![3; 30 * MIB]), map.insert(&2, &vec![3; 30 * MIB])] {
            assert_eq!(refused, Err(MapError::OutOfMemory));
        }
        assert_eq!((memory(place), map.len()), (full, 1));
        assert_eq!(map.get(&1), Ok(Some(vec![2; 40 * MIB])));
        assert_eq!(map.insert(&(3 + round), &[4; 100]), Ok(true));
        assert!(map.remove(&1).unwrap().is_some() && map.remove(&(3 + round)).unwrap().is_some());
        assert_eq!(memory(place), empty);
    }
}

#[test]
fn memory_limit_of_file_system_pooled_memory_makes_room_for_long_message() {
    start_in_a_directory("make_room_in_a_small_file_system");
}

fn make_room_in_a_small_file_system(arguments: &[String]) {
    if !mount_small(&arguments[0]) {
        return;
    }
    let mut queue = queue(Path::new(&arguments[0])).open(NAME).unwrap();
    let mut received = Vec::new();
    queue.send(vec![1; 30 * MIB]).unwrap();
    queue.send(vec![2; 14 * MIB]).unwrap();
    assert_eq!((queue.recv(&mut received), queue.recv(&mut received)), (Ok(30 * MIB), Ok(14 * MIB)));
    assert!(queue.stats().extents_bytes > 40 * MIB as u64, "{:?}", queue.stats());
    queue.send(vec![3; 55 * MIB]).unwrap();
    assert_eq!(queue.recv(&mut received), Ok(55 * MIB));
}

#[test]
fn memory_limit_of_empty_queue_is_64_mib() {
    let test_dir = TestDir::new();
    let mut queue = queue(&test_dir.names()).open(NAME).unwrap();
    let base = memory(&test_dir.names());
    let mut received = Vec::new();
    for (count, length) in [(4, 40 * MIB), (20, 3 * MIB), (40, 5000), (1, 100 * MIB)] {
        let message = vec![1; length];
        (0..count).for_each(|_| queue.send(&message).unwrap());
        assert!(queue.stats().extents_bytes >= (count * length) as u64);
        (0..count).for_each(|_| assert_eq!(queue.recv(&mut received), Ok(length)));
        let kept = memory(&test_dir.names()) - base;
        assert!(kept <= 64 * MIB as u64, "{count} of {length}: {kept}");
        assert_eq!(queue.stats().extents_bytes, kept);
        let inspection = Directory::at(test_dir.names()).inspect(NAME).unwrap();
        assert_eq!(inspection.queue.unwrap().stats.extents_bytes, kept);
    }
}

#[test]
fn memory_kept_by_short_message_after_all_left_is_its_own_only() {
    let test_dir = TestDir::new();
    let mut queue = queue(&test_dir.names()).open(NAME).unwrap();
    let base = memory(&test_dir.names());
    let mut received = Vec::new();
    queue.send(vec![1; 30 * MIB]).unwrap();
    assert_eq!(queue.recv(&mut received), Ok(30 * MIB));
    queue.send(vec![2; 5000]).unwrap();
    drop(queue);
    let kept = memory(&test_dir.names()) - base;
    assert!(kept <= 2 * 4096, "{kept} bytes for a message of 5000");
    let mut queue = self::queue(&test_dir.names()).open(NAME).unwrap();
    assert_eq!(queue.recv(&mut received), Ok(5000));
    assert_eq!(received, [2; 5000]);
}

#[test]
fn memory_pooled_is_freed_by_the_last_to_leave() {
    let test_dir = TestDir::new();
    let (mut tx, mut rx) = queue(&test_dir.names()).open(NAME).unwrap().split();
    let base = memory(&test_dir.names());
    let mut received = Vec::new();
    for _ in 0..2 {
        (0..3).for_each(|_| tx.send(vec![1; 12 * MIB]).unwrap());
        (0..3).for_each(|_| assert_eq!(rx.recv(&mut received), Ok(12 * MIB)));
    }
    drop(rx.into_fd().unwrap()); // which is a death: the messages wait for another receiver
    assert!(memory(&test_dir.names()) >= base + 25 * MIB as u64, "the sender is still there");
    tx.send(vec![2; MIB]).unwrap();
    tx.send(b"short").unwrap();
    drop(tx);
    let kept = memory(&test_dir.names()) - base;
    assert!((MIB as u64..MIB as u64 + 3 * 4096).contains(&kept), "but what the messages wait in: {kept}");
    let mut rx = queue(&test_dir.names()).receiver(NAME).unwrap();
    assert_eq!((rx.recv(&mut received), rx.recv(&mut received)), (Ok(MIB), Ok(5)));
    drop(rx);
}

/// A control group of 64 MiB, and below it one without a limit of its own, which processes enter.
struct Group {
    above: PathBuf,
    below: PathBuf,
}

impl Group {
    fn new(name: &str) -> Option<Self> {
        let found = Self::make(name);
        if found.is_none() {
            report(
                "SKIPPED: a control group's limit (no memory controller, or no permission); run the tests as root for it",
            );
        }
        found
    }

    fn make(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let point = |is_it: &dyn Fn(&str) -> bool| {
            let line = mounts.lines().find(|line| line.split_once(" - ").is_some_and(|(_, kind)| is_it(kind)))?;
            line.split(' ').nth(4).map(PathBuf::from)
        };
        let name = format!("tombolo-test-{}-{name}", std::process::id());
        let v1 = point(&|kind| kind.starts_with("cgroup ") && kind.split([' ', ',']).any(|word| word == "memory"));
        let v2 = point(&|kind| kind.starts_with("cgroup2 "));
        let (root, limit) = match (v1, v2) {
            (Some(root), _) => (root, "memory.limit_in_bytes"),
            (None, Some(root)) => (root, "memory.max"),
            (None, None) => return None,
        };
        let group = Self { above: root.join(&name), below: root.join(name).join("below") };
        fs::create_dir(&group.above).ok()?;
        fs::create_dir(&group.below).ok()?;
        fs::write(group.above.join(limit), "67108864").ok()?;
        Some(group)
    }

    /// Runs a part that enters the group; it must succeed.
    fn run(&self, part: &str) {
        let test_dir = TestDir::new();
        start(part, &[test_dir.names().to_str().unwrap(), self.below.to_str().unwrap()]).finish();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.below);
        let _ = fs::remove_dir(&self.above);
    }
}

/// Moves this process into the group. Memory that it has already taken is not counted there.
fn enter_group(arguments: &[String]) {
    fs::write(Path::new(&arguments[1]).join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

#[test]
fn memory_limit_of_control_group_refuses_large_region() {
    let Some(group) = Group::new("region") else { return };
    group.run("make_too_large_a_region_in_a_group");
}

fn make_too_large_a_region_in_a_group(arguments: &[String]) {
    enter_group(arguments);
    let options = pipe::Options::bytes().capacity_bytes(256 * MIB).directory(&arguments[0]);
    for error in [options.sender(NAME).unwrap_err(), options.create().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert!(error.to_string().contains("left to the control group"), "{error}");
        assert!(error.to_string().contains("region"), "the group above: {error}");
    }
    let options = options.capacity_bytes(32 * MIB);
    let _first = options.sender(NAME).unwrap();
    let error = options.create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "beside what is there: {error}");
}

#[test]
fn memory_limit_of_control_group_refuses_large_message() {
    let Some(group) = Group::new("message") else { return };
    group.run("send_too_long_a_message_in_a_group");
}

fn send_too_long_a_message_in_a_group(arguments: &[String]) {
    let messages = [vec![1; 70 * MIB], vec![2; 30 * MIB], vec![3; MIB]];
    let [huge, large, small] = &messages;
    let mut received = vec![1; 70 * MIB];
    enter_group(arguments);
    let mut queue = queue(Path::new(&arguments[0])).open(NAME).unwrap();
    for _ in 0..3 {
        assert_eq!(queue.send(huge), Err(SendError::OutOfMemory));
        assert_eq!(queue.stats().extents_bytes, 0);
        queue.send(large).expect("room for one");
        assert_eq!(queue.send(large), Err(SendError::OutOfMemory), "and not for two");
        queue.send(small).expect("but for a small one");
        assert_eq!((queue.recv(&mut received), queue.recv(&mut received)), (Ok(30 * MIB), Ok(MIB)));
    }
    // Memory that the queue has already is not taken again.
    for _ in 0..20 {
        queue.send(large).unwrap();
        assert_eq!(queue.recv(&mut received), Ok(30 * MIB));
    }
    // Many small ones, for which the limit is not read each time.
    let sent = (0..64).take_while(|_| queue.send(small) == Ok(())).count();
    assert!((20..62).contains(&sent), "{sent}");
    assert_eq!(queue.close_now(), Ok(sent as u64));
}

#[test]
fn memory_limit_of_control_group_does_not_count_page_cache() {
    let Some(group) = Group::new("cache") else { return };
    group.run("make_a_region_beside_page_cache");
}

fn make_a_region_beside_page_cache(arguments: &[String]) {
    let piece = vec![1; MIB];
    enter_group(arguments);
    let place = [PathBuf::from(env!("CARGO_TARGET_TMPDIR")), env::temp_dir()];
    let path = place[usize::from(!place[0].is_dir())].join(format!("tombolo-test-cache-{}", std::process::id()));
    let mut file = File::create(&path).unwrap();
    (0..80).for_each(|_| file.write_all(&piece).unwrap());
    file.sync_all().unwrap();
    let usage = |name| fs::read_to_string(Path::new(&arguments[1]).join("..").join(name)).ok();
    let usage = usage("memory.usage_in_bytes").or_else(|| usage("memory.current")).unwrap();
    fs::remove_file(&path).unwrap(); // the pages stay as long as it is open
    if usage.trim().parse::<usize>().unwrap() < 50 * MIB {
        return report("SKIPPED: a control group full of page cache (there is no disk whose pages it counts)");
    }
    let options = pipe::Options::bytes().capacity_bytes(32 * MIB).directory(&arguments[0]);
    options.create().expect("what can be reclaimed is no reason to refuse");
    drop(file);
}
