//! An error of the operating system comes with a remedy for its cause. Each cause is made for real,
//! in a process of its own: limits, mounts, rights and namespaces.

mod support;

use std::env;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;

use support::{Process, TestDir, alone, child_roles, command, fork, report, start};
use tombolo::inspect::{self, ParticipantStatus};
use tombolo::pipe;
use tombolo::queue;
use tombolo::spawn::CommandExt;
use tombolo::sync::Mutex;
use tombolo::{DIRECTORY_ENV, Directory, Endpoint, Error, ErrorKind, Namespace};

child_roles!(
    open_with_few_descriptors,
    create_with_little_address_space,
    create_with_short_files,
    work_in_a_chroot,
    use_unsuitable_file_systems,
    use_a_directory_of_another_user,
    hold_in_another_pid_namespace,
);

const NAME: &str = "name";
const MIB: usize = 1 << 20;

/// Checks the kind and the remedy of an error, and that it says nothing about another cause.
fn expect(error: &Error, kind: ErrorKind, remedy: &str) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    let (_, found) = text.split_once("; ").unwrap_or_else(|| panic!("no remedy: {text}"));
    assert!(found.contains(remedy), "not {remedy:?}: {text}");
}

fn pipe_at(directory: impl Into<PathBuf>) -> Error {
    pipe::Options::<u64>::new().directory(directory).sender(NAME).unwrap_err()
}

fn skip(what: &str) {
    report(&format!("SKIPPED: {what} ({}); run the tests as root for it", io::Error::last_os_error()));
}

/// Sets the soft limit of a resource.
fn limit(resource: libc::__rlimit_resource_t, soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place for a limit, read and then written.
    let done = unsafe {
        libc::getrlimit(resource, &mut limit) == 0 && {
            limit.rlim_cur = soft.min(limit.rlim_max);
            libc::setrlimit(resource, &limit) == 0
        }
    };
    assert!(done, "{}", io::Error::last_os_error());
}

/// A mount namespace of this process alone.
fn own_mounts() -> bool {
    // SAFETY: strings that end in zero bytes.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) == 0
    }
}

fn mount(kind: &str, place: &Path, flags: libc::c_ulong, options: &str) -> bool {
    let c = |text: &str| CString::new(text).unwrap();
    let (kind, place, options) = (c(kind), c(place.to_str().unwrap()), c(options));
    // SAFETY: strings that end in zero bytes; the mount is private to this process and goes with it.
    unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) == 0 }
}

fn run_with_directory(role: &str) {
    let test_dir = TestDir::new();
    start(role, &[test_dir.names().to_str().unwrap()]).finish();
}

#[test]
fn descriptors_used_up_error_says_to_raise_their_limit() {
    run_with_directory("open_with_few_descriptors");
}

type Call<'a> = &'a dyn Fn() -> Result<(), Error>;

/// Every call fails for want of a descriptor, at whatever step, until there are enough.
fn open_with_few_descriptors(arguments: &[String]) {
    let names = PathBuf::from(&arguments[0]);
    let directory = Directory::at(&names);
    let pipes = pipe::Options::<u64>::new().directory(&names);
    let queues = queue::Options::<u64>::new().directory(&names);
    let space = || Namespace::builder().mutex("lock", 0_u64).directory(&names);
    let (kept, _unnamed) = (pipes.sender("kept").unwrap(), pipes.create().unwrap());
    let calls: [(&str, Call<'_>); 9] = [
        ("named pipe", &|| pipes.sender("pipe").map(drop)),
        ("unnamed pipe", &|| pipes.create().map(drop)),
        ("queue", &|| queues.open("queue")?.sender().map(drop)),
        ("namespace", &|| space().open("space")?.share().map(drop)),
        ("mutex", &|| Mutex::new(0_u64).map(drop)),
        ("child", &|| Command::new("true").pass("x", pipes.create()?.0).map(drop)),
        ("names", &|| directory.names().map(drop)),
        ("inspect", &|| directory.inspect("kept").map(drop)),
        ("unnamed regions", &|| inspect::unnamed_regions().map(drop)),
    ];
    let lowest = || fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let remedy = "raise the limit of open files of this process (`ulimit -n`)";
    for (what, call) in calls {
        let (mut failed, mut spare) = (0, 0);
        loop {
            limit(libc::RLIMIT_NOFILE, lowest() + spare);
            let outcome = call();
            limit(libc::RLIMIT_NOFILE, 1024);
            let Err(error) = outcome else { break };
            expect(&error, ErrorKind::Io, remedy);
            (failed, spare) = (failed + 1, spare + 1);
            assert!(spare < 50, "{what} takes that many descriptors: {error}");
        }
        assert!(failed > 0, "{what} takes no descriptor");
    }
    // An endpoint from a descriptor, of a region that was named after it was made.
    let failed = (0..50).take_while(|spare| {
        let travelling = pipes.sender(&format!("passed-{spare}")).unwrap().into_fd().unwrap();
        limit(libc::RLIMIT_NOFILE, lowest() + spare);
        let outcome = pipes.from_fd::<pipe::Sender<u64>>(travelling);
        limit(libc::RLIMIT_NOFILE, 1024);
        outcome.map_err(|error| expect(&error, ErrorKind::Io, remedy)).is_err()
    });
    assert!((1..50).contains(&failed.count()));
    drop(kept);
}

#[test]
fn address_space_used_up_error_says_to_raise_its_limit() {
    run_with_directory("create_with_little_address_space");
}

fn create_with_little_address_space(arguments: &[String]) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let used: u64 = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    limit(libc::RLIMIT_AS, used + 16 * MIB as u64);
    let options = pipe::Options::bytes().capacity_bytes(32 * MIB).directory(&arguments[0]);
    for error in [options.create().unwrap_err(), options.sender(NAME).unwrap_err()] {
        expect(
            &error,
            ErrorKind::NoSpace,
            "choose a smaller capacity, or raise the limit of this process (`ulimit -v`)",
        );
    }
}

#[test]
fn file_size_limit_error_says_to_raise_it() {
    run_with_directory("create_with_short_files");
}

fn create_with_short_files(arguments: &[String]) {
    limit(libc::RLIMIT_FSIZE, MIB as u64);
    let pipe = pipe::Options::bytes().capacity_bytes(2 * MIB).directory(&arguments[0]);
    let queue = queue::Options::bytes().directory(&arguments[0]);
    for error in [pipe.create().unwrap_err(), pipe.sender(NAME).unwrap_err()] {
        expect(&error, ErrorKind::NoSpace, "raise the limit (`ulimit -f`), or choose a smaller capacity");
    }
    for error in [queue.create().unwrap_err(), queue.sender(NAME).unwrap_err()] {
        expect(&error, ErrorKind::NoSpace, "raise the limit (`ulimit -f`), or allow fewer or shorter long messages");
    }
}

#[test]
fn chroot_without_proc_error_says_to_mount_it() {
    let test_dir = TestDir::new();
    fs::create_dir(test_dir.names()).unwrap();
    let mut command = command("work_in_a_chroot", &[test_dir.names().to_str().unwrap()]);
    Process::from(command.env_remove(DIRECTORY_ENV).spawn().unwrap()).finish();
}

fn work_in_a_chroot(arguments: &[String]) {
    let root = CString::new(arguments[0].as_str()).unwrap();
    // SAFETY: a string that ends in a zero byte.
    if unsafe { libc::chroot(root.as_ptr()) } != 0 {
        return skip("a chroot");
    }
    env::set_current_dir("/").unwrap();
    for error in [
        pipe::Options::<u64>::new().create().unwrap_err(),
        Mutex::new(0_u64).map(drop).unwrap_err(),
        pipe_at("/names"),
        queue::Options::<u64>::new().create().unwrap_err(),
    ] {
        expect(&error, ErrorKind::Io, "mount /proc");
    }
    let error = inspect::unnamed_regions().unwrap_err();
    expect(&error, ErrorKind::NotFound, "mount /proc");
    let error = pipe::Options::<u64>::new().sender(NAME).unwrap_err();
    expect(&error, ErrorKind::NotFound, "mount a tmpfs on /dev/shm, or name a directory of your own in TOMBOLO_DIR");
    expect(&pipe_at("/missing/deep"), ErrorKind::NotFound, "make the directory above it, or name another directory");
    fs::remove_dir_all("/names").unwrap();
}

#[test]
fn file_system_unsuitable_error_names_suitable_ones() {
    let test_dir = TestDir::new();
    fs::create_dir(test_dir.names()).unwrap();
    start("use_unsuitable_file_systems", &[test_dir.names().to_str().unwrap()]).finish();
}

fn use_unsuitable_file_systems(arguments: &[String]) {
    let place = Path::new(&arguments[0]);
    expect(&pipe_at("/proc"), ErrorKind::Io, "name a directory on tmpfs, ext4, xfs or btrfs");
    if !own_mounts() {
        return skip("unsuitable file systems");
    }
    if mount("tmpfs", place, libc::MS_RDONLY, "size=1m") {
        expect(&pipe_at(place), ErrorKind::Io, "name a directory on a file system that is not read-only");
        expect(&pipe_at(place.join("names")), ErrorKind::Io, "that is not read-only");
    } else {
        skip("a read-only file system");
    }
    if mount("tmpfs", place, 0, "size=64k") {
        let error = pipe::Options::bytes().capacity_bytes(MIB).directory(place).sender(NAME).unwrap_err();
        expect(&error, ErrorKind::NoSpace, "make room there, choose a smaller capacity, or name another directory");
    } else {
        skip("a small file system");
    }
    if mount("tmpfs", place, 0, "size=1m,nr_inodes=1") {
        expect(&pipe_at(place), ErrorKind::NoSpace, "make room there");
        expect(&pipe_at(place.join("names")), ErrorKind::NoSpace, "make room there");
    } else {
        skip("a file system without inodes");
    }
    if mount("hugetlbfs", place, 0, "") {
        let error = pipe_at(place);
        expect(&error, ErrorKind::Io, "name another directory, and ask for huge_pages there");
        assert!(error.to_string().contains("found a directory on hugetlbfs"), "{error}");
    } else {
        skip("hugetlbfs");
    }
}

#[test]
fn path_unsuitable_error_says_what_is_wrong_with_it() {
    let test_dir = TestDir::new();
    fs::write(test_dir.file("file"), "").unwrap();
    let another = "name another directory: a part of that path is a file";
    expect(&pipe_at(test_dir.file("file/names")), ErrorKind::Io, another);
    let long = test_dir.file(&"x".repeat(300));
    expect(&pipe_at(&long), ErrorKind::Io, "choose a shorter name, or a directory with a shorter path");
    symlink(test_dir.file("loop"), test_dir.file("loop")).unwrap();
    let link = "choose another name or directory, or remove the symbolic link";
    expect(&pipe_at(test_dir.file("loop/names")), ErrorKind::Io, link);
    fs::create_dir_all(test_dir.names().join(NAME)).unwrap();
    expect(&pipe_at(test_dir.names()), ErrorKind::Io, "choose another name, or move the directory away");
    fs::remove_dir(test_dir.names().join(NAME)).unwrap();
    symlink(test_dir.file("file"), test_dir.names().join(NAME)).unwrap();
    expect(&pipe_at(test_dir.names()), ErrorKind::Io, link);
}

#[test]
fn permission_missing_error_says_to_check_owner_and_mode() {
    let test_dir = TestDir::new();
    fs::create_dir(test_dir.names()).unwrap();
    start("use_a_directory_of_another_user", &[test_dir.names().to_str().unwrap()]).finish();
}

fn use_a_directory_of_another_user(arguments: &[String]) {
    let names = Path::new(&arguments[0]);
    drop(Namespace::builder().event("event").persistent().directory(names).open("kept").unwrap());
    // SAFETY: numbers.
    if unsafe { libc::setresgid(61_234, 61_234, 61_234) != 0 || libc::setresuid(61_234, 61_234, 61_234) != 0 } {
        return skip("a directory of another user");
    }
    let open = |name| Namespace::builder().directory(names).allow_other_owner().open(name).map(drop).unwrap_err();
    let directory = Directory::at(names);
    for error in [
        pipe_at(names),
        pipe_at(names.join("names")),
        open("kept"),
        directory.inspect("kept").unwrap_err(),
        directory.unlink("kept", true).unwrap_err(),
    ] {
        expect(&error, ErrorKind::Permission, "check whose it is and its mode (`ls -ld`)");
    }
}

#[test]
fn process_of_another_pid_namespace_is_called_so() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let ready = test_dir.file("ready");
    let holder = start("hold_in_another_pid_namespace", &[names.to_str().unwrap(), ready.to_str().unwrap()]);
    support::until(|| ready.exists());
    if fs::read(&ready).unwrap() == b"skipped" {
        return holder.finish();
    }
    let pipe = pipe::Options::<u64>::new().directory(&names);
    let foreign = "process 1 of another PID namespace (";
    let there = "end it from within that namespace (`lsns -t pid` finds it)";
    let held = pipe.sender("pipe").unwrap_err();
    expect(&held, ErrorKind::EndpointInUse { pid: 1 }, there);
    assert!(held.to_string().contains(foreign), "{held}");
    let used = Directory::at(&names).unlink("pipe", false).unwrap_err();
    expect(&used, ErrorKind::InUse { pid: 1 }, there);
    assert!(used.to_string().contains(foreign), "{used}");
    let full = queue::Options::<u64>::new().max_participants(1).directory(&names).sender("queue").unwrap_err();
    expect(&full, ErrorKind::TooManyParticipants, "wait until one leaves");
    assert!(full.to_string().contains(foreign), "{full}");

    let info = Directory::at(&names).inspect("pipe").unwrap();
    let sender = &info.participants[0];
    assert_eq!((sender.pid, sender.status), (1, ParticipantStatus::Alive));
    assert!(sender.other_pid_namespace.is_some_and(|number| number > 0), "{sender:?}");

    // A process of this namespace is called by its number alone.
    let rx = pipe.receiver("pipe").unwrap();
    let held = pipe.receiver("pipe").unwrap_err().to_string();
    assert!(held.contains(&format!("held by process {}, expected", std::process::id())), "{held}");
    assert_eq!(Directory::at(&names).inspect("pipe").unwrap().participants[1].other_pid_namespace, None);
    drop(rx);
    holder.kill();
}

/// Holds endpoints as process 1 of a new PID namespace.
fn hold_in_another_pid_namespace(arguments: &[String]) {
    let (names, ready) = (Path::new(&arguments[0]), Path::new(&arguments[1]));
    // SAFETY: concerns children only.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        skip("another PID namespace");
        return fs::write(ready, "skipped").unwrap();
    }
    let alone = alone();
    let mut inner = fork(&alone, || {
        assert_eq!(std::process::id(), 1);
        let _tx = pipe::Options::<u64>::new().directory(names).sender("pipe").unwrap();
        let _queue = queue::Options::<u64>::new().max_participants(1).directory(names).sender("queue").unwrap();
        fs::write(ready.with_extension("new"), "held").unwrap();
        fs::rename(ready.with_extension("new"), ready).unwrap();
        support::until(|| false);
    });
    inner.wait();
}

#[test]
fn endpoint_on_its_way_is_not_called_a_process() {
    let test_dir = TestDir::new();
    let pipe = pipe::Options::<u64>::new().directory(test_dir.names());
    let travelling = pipe.sender(NAME).unwrap().into_fd().unwrap();
    let held = pipe.sender(NAME).unwrap_err();
    expect(&held, ErrorKind::EndpointInUse { pid: 0 }, "wait until that has taken it and leaves");
    assert!(held.to_string().contains("held by an endpoint on its way to another process"), "{held}");
    drop(travelling);
}
