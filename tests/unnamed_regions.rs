//! Regions without a name are found through the processes that have them open. Looking at them
//! changes nothing, and a process that pretends to have one harms nobody.

mod support;

use std::env;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use support::{Process, SharedCounters, TestDir, child_roles, command, report, start};
use tombolo::inspect::{ParticipantStatus, RegionInfo, RegionKind, UnnamedRegion, unnamed_regions};
use tombolo::pipe::{self, Sender};
use tombolo::queue;
use tombolo::spawn::{CommandExt, take};
use tombolo::{Endpoint, ErrorKind, Namespace, RecvError};

child_roles!(take_and_wait, have_a_file_with_the_link_of_a_region);

fn is_open_in(region: &UnnamedRegion, pid: u32) -> bool {
    region.descriptors.iter().any(|open| open.pid == u64::from(pid))
}

/// The region of this process that has this capacity, and what it looks like. Each test has
/// capacities of its own.
fn find(capacity: u64) -> (UnnamedRegion, RegionInfo) {
    let regions = unnamed_regions().unwrap().into_iter().filter(|region| is_open_in(region, process::id()));
    let infos = regions.filter_map(|region| Some((region.clone(), region.inspect().ok()?)));
    let mut found: Vec<_> = infos.filter(|(_, info)| info.capacity == capacity).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn statuses(info: &RegionInfo) -> Vec<(&str, u64, ParticipantStatus)> {
    info.participants.iter().map(|user| (user.role, user.pid, user.status)).collect()
}

#[test]
fn unnamed_region_passed_to_child_is_listed_once_with_both_processes() {
    const CAPACITY: u64 = 1 << 11;
    let test_dir = TestDir::new();
    let path = test_dir.file("counters");
    let counters = SharedCounters::at(&path);
    let (tx, mut rx) = pipe::Options::<u64>::new().capacity(CAPACITY as usize).create().unwrap();
    let spawner = command("take_and_wait", &[path.to_str().unwrap()]).pass("tx", tx).unwrap();
    let (here, alive, dead) = (u64::from(process::id()), ParticipantStatus::Alive, ParticipantStatus::Dead);
    assert_eq!(statuses(&find(CAPACITY).1), [("sender", 0, alive), ("receiver", here, alive)], "on its way");
    let child = Process::from(spawner.spawn().unwrap());
    counters.meet(0, 2);

    let (region, info) = find(CAPACITY);
    let there = child.pid() as u64;
    let mut pids: Vec<u64> = region.descriptors.iter().map(|open| open.pid).collect();
    assert!(pids.is_sorted());
    pids.dedup();
    assert_eq!(pids, [here.min(there), here.max(there)]);
    assert_eq!((info.kind, info.rings[0].sent, info.rings[0].queued), (RegionKind::Pipe, 1, 1));
    assert_eq!(statuses(&info), [("sender", there, alive), ("receiver", here, alive)]);

    child.kill();
    assert_eq!(statuses(&region.inspect().unwrap()), [("sender", there, dead), ("receiver", here, alive)]);
    assert_eq!((rx.recv(), rx.recv()), (Ok(7), Err(RecvError::PeerDied)), "the looks have kept nothing");
    drop(rx);
    assert_eq!(region.inspect().unwrap_err().kind(), ErrorKind::NotFound);
}

fn take_and_wait(arguments: &[String]) {
    let mut tx: Sender<u64> = take("tx").unwrap();
    tx.send(7).unwrap();
    SharedCounters::at(Path::new(&arguments[0])).meet(0, 2);
    support::until(|| false);
}

#[test]
fn unnamed_region_of_every_kind_is_inspected_and_keeps_its_bytes() {
    let mut queue = queue::Options::bytes().capacity(1 << 5).create().unwrap();
    queue.send(vec![1; 100_000]).unwrap();
    let namespace = Namespace::builder().value("a", 1_u64).mutex("b", 2_u64).event("c").create().unwrap();
    for (capacity, kind) in [(1 << 5, RegionKind::Queue), (3, RegionKind::Namespace)] {
        let (region, info) = find(capacity);
        assert_eq!(info.kind, kind);
        let own = region.descriptors.iter().find(|open| open.pid == u64::from(process::id())).unwrap();
        let bytes = || {
            let mut bytes = [0; 1 << 14];
            File::open(format!("/proc/self/fd/{}", own.fd)).unwrap().read_at(&mut bytes, 0).unwrap();
            bytes
        };
        let before = bytes();
        let looked = region.inspect().unwrap();
        assert!(before == bytes(), "{looked:?}");
        assert!(looked.participants.iter().all(|user| user.status == ParticipantStatus::Alive), "{looked:?}");
    }
    assert_eq!(find(1 << 5).1.rings[0].queued, 1);
    assert_eq!(find(3).1.objects[1].value.as_deref(), Some("2"));
    drop((queue, namespace));
}

/// Its users have given memory back. Their extents have more than that, so that the file seems whole.
#[test]
fn unnamed_queue_with_holes_is_inspected_and_keeps_them() {
    const CAPACITY: u64 = 1 << 6;
    let mut queue = queue::Options::bytes().capacity(CAPACITY as usize).create().unwrap();
    queue.send(vec![1; 1 << 20]).unwrap();
    let (region, info) = find(CAPACITY);
    let own = region.descriptors.iter().find(|open| open.pid == u64::from(process::id())).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{}", own.fd)).unwrap();
    // The blocks, which are last.
    let hole = (info.size - (32 << 12), 32 << 12);
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: numbers, and an open descriptor.
    let punched = unsafe { libc::fallocate(file.as_raw_fd(), mode, hole.0 as i64, hole.1) };
    assert_eq!(punched, 0, "{}", io::Error::last_os_error());
    let before = file.metadata().unwrap().blocks();
    assert_eq!(region.inspect().unwrap().rings[0].queued, 1);
    assert_eq!(file.metadata().unwrap().blocks(), before);
    let mut message = Vec::new();
    assert_eq!(queue.recv(&mut message), Ok(1 << 20));
}

/// An anonymous file with the name of ours.
fn imitation(content: &[u8], seals: libc::c_int) -> OwnedFd {
    // SAFETY: a string that ends in a zero byte; the new descriptor is this function's own.
    let mut file = unsafe {
        let fd = libc::memfd_create(c"tombolo".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        File::from_raw_fd(fd)
    };
    file.write_all(content).unwrap();
    // SAFETY: numbers, and an open descriptor.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
    file.into()
}

fn find_descriptor(fd: RawFd) -> Option<UnnamedRegion> {
    let is_it = |region: &UnnamedRegion| {
        region.descriptors.iter().any(|open| (open.pid, open.fd) == (u64::from(process::id()), fd))
    };
    unnamed_regions().unwrap().into_iter().find(is_it)
}

#[test]
fn unnamed_file_that_is_no_region_is_refused_or_left_out() {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    for (content, kind) in [
        (&[][..], ErrorKind::NotARegion),
        (&[0xff; 100], ErrorKind::NotARegion),
        (&[0xff; 1 << 16], ErrorKind::NotARegion),
    ] {
        let file = imitation(content, seals);
        let found = find_descriptor(file.as_raw_fd()).expect("sealed like a region");
        assert_eq!(found.inspect().unwrap_err().kind(), kind);
        let file = imitation(content, 0);
        assert!(find_descriptor(file.as_raw_fd()).is_none(), "it can be truncated at any time");
    }
}

#[test]
fn unnamed_region_whose_descriptors_change_meanwhile_does_no_harm() {
    let test_dir = TestDir::new();
    let fifo = CString::new(test_dir.file("fifo").to_str().unwrap()).unwrap();
    // SAFETY: a string that ends in a zero byte.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let fifo = OpenOptions::new().read(true).write(true).open(test_dir.file("fifo")).unwrap();
    let (tx, rx) = pipe::Options::<u64>::new().capacity(1 << 12).create().unwrap();
    let (region, _) = find(1 << 12);
    let own = region.descriptors.iter().find(|open| open.pid == u64::from(process::id())).unwrap();
    let region = File::open(format!("/proc/self/fd/{}", own.fd)).unwrap();
    let garbage = imitation(&[1; 4096], libc::F_SEAL_SHRINK);
    let changing = garbage.try_clone().unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                for file in [fifo.as_raw_fd(), region.as_raw_fd(), garbage.as_raw_fd()] {
                    // SAFETY: open descriptors; the number that changes is this test's own.
                    unsafe { libc::dup3(file, changing.as_raw_fd(), libc::O_CLOEXEC) };
                }
                // SAFETY: an open descriptor; its owner is told below.
                unsafe { libc::ftruncate(garbage.as_raw_fd(), 8192) };
                thread::sleep(Duration::from_micros(10));
            }
        });
        for _ in 0..200 {
            for region in unnamed_regions().unwrap().iter().filter(|region| is_open_in(region, process::id())) {
                let _ = region.inspect();
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
    drop((tx, rx));
}

#[test]
fn unnamed_region_imitated_by_file_with_its_link_is_not_opened() {
    let test_dir = TestDir::new();
    fs::create_dir(test_dir.names()).unwrap();
    start("have_a_file_with_the_link_of_a_region", &[test_dir.names().to_str().unwrap()]).finish();
}

/// In a chroot a file of a disk can have the path that /proc shows of an anonymous file.
fn have_a_file_with_the_link_of_a_region(arguments: &[String]) {
    let root = CString::new(arguments[0].as_str()).unwrap();
    let proc = Path::new(&arguments[0]).join("proc");
    fs::create_dir(&proc).unwrap();
    let proc = CString::new(proc.to_str().unwrap()).unwrap();
    // SAFETY: strings that end in zero bytes; the mount is private to this process and goes with it.
    let is_ready = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) == 0
            && libc::mount(c"proc".as_ptr(), proc.as_ptr(), c"proc".as_ptr(), 0, ptr::null()) == 0
            && libc::chroot(root.as_ptr()) == 0
    };
    if !is_ready {
        return report("SKIPPED: a file with the link of an unnamed region (no permission); run the tests as root");
    }
    env::set_current_dir("/").unwrap();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open("/memfd:tombolo (deleted)").unwrap();
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    assert_eq!(link, Path::new("/memfd:tombolo (deleted)"));
    // SAFETY: numbers, and an open descriptor.
    let lease = |command, kind: libc::c_int| unsafe { libc::fcntl(file.as_raw_fd(), command, kind) };
    // Any opening breaks the lease, by a signal that ends this process.
    assert_eq!(lease(libc::F_SETLEASE, libc::F_WRLCK), 0, "{}", io::Error::last_os_error());
    assert!(find_descriptor(file.as_raw_fd()).is_none());
    assert_eq!(lease(libc::F_GETLEASE, 0), libc::F_WRLCK, "it was opened");
}

#[test]
fn unnamed_region_that_travels_can_still_be_taken_after_a_look() {
    let (tx, mut rx) = pipe::Options::<u64>::new().capacity(1 << 13).create().unwrap();
    let travelling = tx.into_fd().unwrap();
    assert_eq!(find(1 << 13).1.participants[0].status, ParticipantStatus::Alive);
    let mut tx = Sender::<u64>::try_from(travelling).unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}
