//! Regions from others: a file that could be cut, one without the memory that it promises, one of
//! huge pages, one larger than accepted. All of them are refused before they are touched.

mod support;

use std::env;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use support::{TestDir, alone, fork, report};
use tombolo::pipe::{self, BytePipe, Receiver, Sender};
use tombolo::queue;
use tombolo::{Endpoint, Error, ErrorKind, LAYOUT_VERSION, Namespace, OnStale};

const NAME: &str = "name";

fn values(directory: &Path) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4096).directory(directory)
}

#[track_caller]
fn expect(error: Error, kind: ErrorKind, says: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "no {text:?} in: {error}");
    }
}

/// An endpoint of a named pipe as a descriptor, and a copy of it.
fn named_end(directory: &Path) -> OwnedFd {
    values(directory).receiver(NAME).unwrap().into_fd().unwrap()
}

#[test]
fn descriptor_of_another_users_region_is_refused() {
    let test_dir = TestDir::new();
    let alone = alone();
    let descriptor = named_end(&test_dir.names());
    let file = test_dir.names().join(NAME);
    if let Err(error) = chown(&file, Some(12345), None) {
        return report(&format!("SKIPPED: a named region of another user ({error}); run the tests as root for it"));
    }
    // In a process of its own, which must survive what the owner of the file does.
    fork(&alone, || {
        let copy = descriptor.try_clone().unwrap();
        let error = values(&test_dir.names()).from_fd::<Receiver<u64>>(copy).unwrap_err();
        File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
        expect(error, ErrorKind::Permission, &["user 12345", "truncate", "allow other owners"]);
    })
    .finish();
}

#[test]
fn descriptor_of_trusted_users_region_is_accepted() {
    let test_dir = TestDir::new();
    let descriptor = named_end(&test_dir.names());
    if let Err(error) = chown(test_dir.names().join(NAME), Some(12345), None) {
        return report(&format!("SKIPPED: a named region of another user ({error}); run the tests as root for it"));
    }
    let _rx: Receiver<u64> = values(&test_dir.names()).allow_other_owner().from_fd(descriptor).unwrap();
}

#[test]
fn descriptor_of_own_region_on_tmpfs_is_accepted() {
    let test_dir = TestDir::new();
    let mut rx: Receiver<u64> = values(&test_dir.names()).from_fd(named_end(&test_dir.names())).unwrap();
    values(&test_dir.names()).sender(NAME).unwrap().send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

/// A directory on a disk, if there is one.
fn disk() -> Option<PathBuf> {
    let places = [PathBuf::from(env!("CARGO_TARGET_TMPDIR")), env::temp_dir(), PathBuf::from("/var/tmp")];
    let place = places.into_iter().find(|place| {
        let probe = values(place).create_new().sender("probe");
        let file = File::open(place);
        let is_memory =
            file.is_ok_and(|file| rustix::fs::fstatfs(&file).is_ok_and(|facts| facts.f_type == 0x0102_1994));
        probe.is_ok() && !is_memory
    });
    if place.is_none() {
        report("SKIPPED: a region on a disk (no directory for it on ext4, xfs or btrfs)");
    }
    Some(place?.join(format!("tombolo-test-{}", std::process::id())))
}

#[test]
fn descriptor_of_file_on_disk_is_refused() {
    let Some(directory) = disk() else { return };
    let error = values(&directory).from_fd::<Receiver<u64>>(named_end(&directory)).unwrap_err();
    expect(error, ErrorKind::Permission, &["not on tmpfs", "open this one by its name"]);
    let options = values(&directory).on_stale(OnStale::Recreate);
    let mut rx = options.receiver(NAME).unwrap();
    options.sender(NAME).unwrap().send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    drop(rx);
    fs::remove_dir(directory).unwrap();
}

#[test]
fn descriptor_of_unsealed_memfd_is_refused() {
    let test_dir = TestDir::new();
    let descriptor = named_end(&test_dir.names());
    fs::remove_file(test_dir.names().join(NAME)).unwrap();
    let error = values(&test_dir.names()).from_fd::<Receiver<u64>>(descriptor).unwrap_err();
    expect(error, ErrorKind::Permission, &["without a name", "expected a sealed one"]);
    let pipe = rustix::pipe::pipe().unwrap().0;
    let error = values(&test_dir.names()).from_fd::<Receiver<u64>>(pipe).unwrap_err();
    expect(error, ErrorKind::Permission, &["not on tmpfs"]);
}

/// Restores the number of huge pages that the system keeps.
struct HugePages(String);

const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    /// Makes the system keep some more.
    fn some() -> io::Result<Self> {
        let before = Self(fs::read_to_string(HUGE_PAGES)?);
        let wanted = before.0.trim().parse::<u64>().map_err(io::Error::other)? + 4;
        fs::write(HUGE_PAGES, wanted.to_string())?;
        Ok(before)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = fs::write(HUGE_PAGES, &self.0);
    }
}

#[test]
fn region_of_huge_pages_unasked_is_refused() {
    let _before = match HugePages::some() {
        Ok(before) => before,
        Err(error) => return report(&format!("SKIPPED: huge pages ({error}); run the tests as root for it")),
    };
    let options = pipe::Options::<u64>::new().huge_pages();
    let (tx, rx) = options.create().unwrap();
    let (tx, rx) = (tx.into_fd().unwrap(), rx.into_fd().unwrap());
    if rustix::fs::fstatfs(&tx).unwrap().f_type != 0x9584_58f6 {
        return report("SKIPPED: huge pages (the system has none left)");
    }
    let error = pipe::Options::new().from_fd::<Receiver<u64>>(rx.try_clone().unwrap()).unwrap_err();
    expect(error, ErrorKind::Permission, &["huge pages", "ask for huge_pages"]);
    let mut rx: Receiver<u64> = options.from_fd(rx).unwrap();
    options.from_fd::<Sender<u64>>(tx).unwrap().send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));

    let shared = Namespace::builder().event("event").huge_pages().create().unwrap().share().unwrap();
    expect(Namespace::from_fd(shared.try_clone().unwrap()).unwrap_err(), ErrorKind::Permission, &["huge pages"]);
    Namespace::builder().huge_pages().from_fd(shared).unwrap();
}

/// A sealed region of a queue for bytes, with this many blocks, whose file has only the memory of
/// its header. The description holds the lock of participant 0, a receiver.
fn sparse_queue(blocks: u64) -> OwnedFd {
    const LANES: u64 = 4;
    let (capacity, inline_bytes, block_len) = (2_u64, 16, 8_u64);
    let owners = 176 + LANES * 16;
    let marks = (owners + blocks).next_multiple_of(16);
    let slots = (marks + capacity).next_multiple_of(16);
    let blocks_at = slots + (capacity * (2 + inline_bytes / 8)).next_multiple_of(16);
    let size = ((blocks_at + blocks * block_len / 8) * 8).next_multiple_of(4096);
    let mut words = vec![0_u64; owners as usize];
    words[..5].copy_from_slice(&[u64::from_le_bytes(*b"tombolo\0"), LAYOUT_VERSION, size, 2, 1]);
    words[8..15].copy_from_slice(&[capacity, 16, 1, LANES, inline_bytes, blocks, block_len]);
    words[176 + 3] = 1; // present
    words[176 + 5] = 2; // a receiver
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("sparse", flags).unwrap());
    file.set_len(size).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
    // SAFETY: all zeros is a valid flock.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    // The second byte of participant 0: its endpoint is in transfer.
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as _, 1, 1);
    // SAFETY: a descriptor and a flock that outlive the call.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) }, 0);
    file.seek(SeekFrom::Start(1)).unwrap(); // participant 0
    file.into()
}

#[test]
fn region_without_allocated_memory_is_refused() {
    for blocks in [1 << 12, 1 << 20] {
        let error = queue::Options::bytes().from_fd::<queue::ByteReceiver>(sparse_queue(blocks)).unwrap_err();
        expect(error, ErrorKind::Corrupt, &["bytes of memory", "holes"]);
    }
    let file = File::from(sparse_queue(1 << 12));
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, file.metadata().unwrap().len()).unwrap();
    queue::Options::bytes().from_fd::<queue::ByteReceiver>(file.into()).expect("with all of its memory");

    let test_dir = TestDir::new();
    let tx = values(&test_dir.names()).sender(NAME).unwrap();
    let file = File::options().read(true).write(true).open(test_dir.names().join(NAME)).unwrap();
    let holes = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, holes, 8192, 4096).unwrap();
    expect(values(&test_dir.names()).receiver(NAME).unwrap_err(), ErrorKind::Corrupt, &[NAME, "holes"]);
    drop(tx);
}

#[test]
fn region_with_holes_opened_fills_them() {
    let test_dir = TestDir::new();
    let options = || queue::Options::bytes().directory(test_dir.names());
    let tx = options().sender(NAME).unwrap();
    let mapped = tombolo::Directory::at(test_dir.names()).inspect(NAME).unwrap().size;
    let file = File::options().read(true).write(true).open(test_dir.names().join(NAME)).unwrap();
    let holes = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let memory = || file.metadata().unwrap().blocks() * 512;
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, mapped, 1 << 20).unwrap();
    let whole = memory();
    rustix::fs::fallocate(&file, holes, mapped - (1 << 20), 1 << 20).unwrap();
    assert_eq!(memory(), whole - (1 << 20));
    let rx = options().receiver(NAME).unwrap();
    assert_eq!(memory(), whole, "there are holes left");
    drop((tx, rx));
}

#[test]
fn queue_larger_than_accepted_is_refused() {
    let test_dir = TestDir::new();
    let large = queue::Options::<u8>::new().capacity(1 << 22).directory(test_dir.names());
    let _tx = large.sender(NAME).unwrap();
    let small = queue::Options::<u8>::new().directory(test_dir.names());
    let error = small.receiver(NAME).unwrap_err();
    expect(error, ErrorKind::WrongType, &[NAME, "4194304 slots", "at most 2097152", "max_region_bytes"]);
    large.receiver(NAME).expect("asked for");
    small.clone().max_region_bytes(1 << 30).receiver(NAME).expect("accepted");
    let error = small.max_region_bytes(1 << 20).receiver(NAME).unwrap_err();
    expect(error, ErrorKind::WrongType, &["bytes of memory", "at most 1048576"]);

    let error = queue::Options::bytes().from_fd::<queue::ByteReceiver>(sparse_queue(1 << 22)).unwrap_err();
    expect(error, ErrorKind::WrongType, &["4194306 slots, blocks"]);
    let error = queue::Options::bytes().from_fd::<queue::ByteReceiver>(sparse_queue(1 << 31)).unwrap_err();
    expect(error, ErrorKind::WrongType, &["bytes of memory", "at most 17179869184"]);
}

#[test]
fn pipe_larger_than_accepted_is_refused() {
    let test_dir = TestDir::new();
    let large = pipe::Options::bytes().capacity_bytes(1 << 20).directory(test_dir.names());
    let one = large.open(NAME).unwrap();
    let bounded = pipe::Options::bytes().capacity_bytes(1024).max_region_bytes(1 << 20).directory(test_dir.names());
    expect(bounded.open(NAME).unwrap_err(), ErrorKind::WrongType, &["at most 1048576", "max_region_bytes"]);
    let error = bounded.from_fd::<BytePipe>(one.into_fd().unwrap()).unwrap_err();
    expect(error, ErrorKind::WrongType, &["at most 1048576"]);
    bounded.max_region_bytes(3 << 20).open(NAME).expect("accepted");
}

#[test]
fn namespace_larger_than_accepted_is_refused() {
    let test_dir = TestDir::new();
    let plain = || Namespace::builder().directory(test_dir.names());
    for plan in [
        (0..33).fold(plain(), |plan, number| plan.bounded_semaphore(&number.to_string(), 1 << 16)),
        plain().queue::<u8>("one", 1 << 20).queue::<u8>("two", 1 << 20).bounded_semaphore("permits", 1),
    ] {
        let space = plan.open(NAME).unwrap();
        let error = plain().from_fd(space.share().unwrap()).unwrap_err();
        expect(error, ErrorKind::WrongType, &["permits", "at most 2097152"]);
        expect(plain().open(NAME).unwrap_err(), ErrorKind::WrongType, &["max_region_bytes"]);
        plan.open(NAME).expect("asked for");
        plain().max_region_bytes(1 << 30).open(NAME).expect("accepted");
    }
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn region_created_allocates_its_memory() {
    let test_dir = TestDir::new();
    let _queue = queue::Options::bytes().capacity(64).directory(test_dir.names()).open(NAME).unwrap();
    let facts = fs::metadata(test_dir.names().join(NAME)).unwrap();
    assert!(facts.blocks() * 512 >= 64 * (256 + 4096) && facts.blocks() * 512 < 1 << 20, "{}", facts.blocks());
}
