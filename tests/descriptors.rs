//! Descriptor numbers that mean another file: in a thread with a descriptor table of its own, and
//! after other code has closed them. The library must not change such a file, nor conclude anything
//! from locks on it.

mod support;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use support::{TestDir, alone, child_roles, fork, start};
use tombolo::inspect::ParticipantStatus;
use tombolo::pipe;
use tombolo::queue;
use tombolo::sync::Mutex;
use tombolo::{Directory, Namespace, RecvError};

child_roles!(
    write_into_a_file_that_took_the_number,
    ask_about_locks_in_a_file_that_took_the_number,
    name_a_file_by_its_number,
    work_without_proc
);

/// From here on the calling thread has descriptors of its own.
fn unshare_descriptors() {
    // SAFETY: numbers that this thread has keep their meaning.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0, "{}", io::Error::last_os_error());
}

const LENGTH: usize = 1 << 20;

/// A file full of one byte, opened so often that in this thread it has every number that the other
/// thread may use next.
fn precious(path: &Path) -> Vec<File> {
    fs::write(path, vec![b'p'; LENGTH]).unwrap();
    (0..100).map(|_| File::options().read(true).write(true).open(path).unwrap()).collect()
}

fn is_unchanged(path: &Path) -> bool {
    fs::read(path).unwrap() == vec![b'p'; LENGTH]
}

/// Runs `body` in a thread with a descriptor table of its own, whose numbers mean other files in
/// this thread.
fn beside_another_table(path: &Path, body: impl FnOnce() + Send) {
    let (unshared, wait) = channel();
    let (go, begin) = channel();
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            unshare_descriptors();
            unshared.send(()).unwrap();
            begin.recv().unwrap();
            body();
        });
        wait.recv().unwrap();
        let _files = precious(path);
        go.send(()).unwrap();
        thread.join().unwrap();
    });
    assert!(is_unchanged(path), "an unrelated file was changed");
}

#[test]
fn descriptor_table_unshared_endpoints_work_and_other_files_stay() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    beside_another_table(&test_dir.file("precious"), || {
        let (mut tx, mut rx) = tombolo::pipe::Options::<u64>::new().create().unwrap();
        tx.send(1).unwrap();
        assert_eq!(rx.recv(), Ok(1));
        let mut queue = queue::Options::bytes().max_message_bytes(1 << 20).extents(2).create().unwrap();
        queue.send([7; 300_000]).unwrap();
        let mut received = Vec::new();
        assert_eq!(queue.recv(&mut received), Ok(300_000));
        let namespace = Namespace::builder().mutex("mutex", 5_u64).create().unwrap();
        assert_eq!(*namespace.mutex::<u64>("mutex").unwrap().lock().unwrap(), 5);
        let shared = namespace.share().unwrap();
        assert_eq!(*Namespace::builder().from_fd(shared).unwrap().mutex::<u64>("mutex").unwrap().lock().unwrap(), 5);
    });
}

/// Makes a named pipe in a thread whose numbers mean other files elsewhere.
fn name_beside_another_table(names: &Path, precious: &Path) {
    let values = || pipe::Options::<u64>::new().directory(names);
    beside_another_table(precious, || {
        let mut tx = values().sender("name").unwrap();
        let mut rx = values().receiver("name").unwrap();
        tx.send(1).unwrap();
        assert_eq!(rx.recv(), Ok(1));
        let entry = fs::metadata(names.join("name")).unwrap();
        assert_ne!(entry.ino(), fs::metadata(precious).unwrap().ino());
        assert_eq!(Directory::at(names).inspect("name").unwrap().participants.len(), 2);
    });
}

#[test]
fn descriptor_table_unshared_name_is_given_to_own_file() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    name_beside_another_table(&test_dir.names(), &test_dir.file("precious"));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

/// From here on linkat(2) refuses to link a descriptor, in this thread and those that it starts, as
/// Linux did before 6.10.
fn refuse_to_link_descriptors() {
    const FLAGS: u32 = 16 + 8 * 4;
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let (load, is) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    let mut filter = [
        step(load, 0, 0),
        step(is, libc::SYS_linkat as u32, 3),
        step(load, FLAGS, 0),
        step(is, libc::AT_EMPTY_PATH as u32, 1),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOENT as u32, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a valid program that outlives the call.
    let closed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(closed, "{}", io::Error::last_os_error());
}

fn name_a_file_by_its_number(arguments: &[String]) {
    refuse_to_link_descriptors();
    name_beside_another_table(Path::new(&arguments[0]), Path::new(&arguments[1]));
}

#[test]
fn descriptor_table_unshared_name_is_given_through_proc() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let (names, precious) = (test_dir.names(), test_dir.file("precious"));
    start("name_a_file_by_its_number", &[names.to_str().unwrap(), precious.to_str().unwrap()]).finish();
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

/// The fork handler in a child closes the library's descriptors, and no other file that has such a
/// number.
#[test]
fn descriptor_table_unshared_forked_child_keeps_files() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let path = test_dir.file("precious");
    let (unshared, wait) = channel();
    let (go, begin) = channel();
    thread::scope(|scope| {
        let (path, alone) = (&path, &alone);
        let thread = scope.spawn(move || {
            unshare_descriptors();
            unshared.send(()).unwrap();
            begin.recv().unwrap();
            let files = precious(path);
            fork(alone, || {
                for file in &files {
                    assert_eq!(file.metadata().map(|facts| facts.len()).ok(), Some(LENGTH as u64));
                }
            })
            .finish();
        });
        wait.recv().unwrap();
        let ends: Vec<_> = (0..10).map(|_| tombolo::pipe::Options::bytes().create_duplex().unwrap()).collect();
        go.send(()).unwrap();
        thread.join().unwrap();
        drop(ends);
    });
}

/// Closes everything from `first` on, as careless programs do, and gives the numbers to another
/// file.
fn take_the_numbers(first: RawFd, path: &Path) -> Vec<OwnedFd> {
    // SAFETY: nothing but the library's own descriptors is there.
    assert_eq!(unsafe { libc::close_range(first as libc::c_uint, libc::c_uint::MAX, 0) }, 0);
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut files = vec![];
    for number in (first..first + 40).filter(|&number| number != file.as_raw_fd()) {
        // SAFETY: a number that is free.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
        // SAFETY: open, and nobody else's.
        files.push(unsafe { OwnedFd::from_raw_fd(number) });
    }
    files.push(file.into());
    files
}

/// The next number that will be used.
fn next_number() -> RawFd {
    File::open("/dev/null").unwrap().as_raw_fd()
}

fn write_into_a_file_that_took_the_number(arguments: &[String]) {
    let path = Path::new(&arguments[0]);
    let first = next_number();
    let mut queue = queue::Options::bytes().max_message_bytes(1 << 20).extents(2).create().unwrap();
    let mut received = Vec::new();
    queue.send([7; 300_000]).unwrap();
    let files = take_the_numbers(first, path);
    // Whatever these return, they must not touch that file.
    let _ = queue.send([8; 300_000]);
    let _ = queue.try_recv(&mut received);
    drop(queue);
    for file in files {
        let mut byte = [0];
        assert_eq!(File::from(file).read_at(&mut byte, 0).unwrap(), 1, "a file of the program was closed");
    }
}

#[test]
fn descriptor_number_reused_large_message_is_not_written_there() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let path = test_dir.file("precious");
    drop(precious(&path));
    start("write_into_a_file_that_took_the_number", &[path.to_str().unwrap()]).finish();
    assert!(is_unchanged(&path));
}

fn ask_about_locks_in_a_file_that_took_the_number(arguments: &[String]) {
    let (directory, path) = (Path::new(&arguments[0]), Path::new(&arguments[1]));
    let first = next_number();
    let mut rx = pipe::Options::<u64>::new().directory(directory).receiver("name").unwrap();
    let _files = take_the_numbers(first, path);
    assert_eq!(rx.recv_timeout(Duration::from_millis(300)), Err(RecvError::TimedOut), "the sender is there");
}

#[test]
fn descriptor_number_reused_peer_is_not_reported_dead() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let (names, path) = (test_dir.names(), test_dir.file("precious"));
    drop(precious(&path));
    // Its record is made to lack its process id, so that only the lock shows that it lives.
    let sender = fork(&alone, || {
        let _tx = pipe::Options::<u64>::new().directory(&names).sender("name").unwrap();
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    });
    support::until(|| names.join("name").exists());
    erase_identity(&names.join("name"), sender.pid() as u64);
    let arguments = [names.to_str().unwrap(), path.to_str().unwrap()];
    start("ask_about_locks_in_a_file_that_took_the_number", &arguments).finish();
    assert!(is_unchanged(&path));
    let sender_seen = &Directory::at(&names).inspect("name").unwrap().participants[0];
    assert_eq!(sender_seen.status, ParticipantStatus::Alive);
    sender.kill();
}

/// Overwrites the first occurrence of the process id in the file.
fn erase_identity(path: &Path, pid: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = vec![0; 4096];
    support::until(|| {
        file.read_at(&mut bytes, 0).unwrap();
        let mut words = bytes.chunks_exact(8).enumerate();
        let found = words.find(|(_, word)| u64::from_le_bytes((*word).try_into().unwrap()) == pid);
        found.is_some_and(|(index, _)| file.write_all_at(&[0; 8], 8 * index as u64).is_ok())
    });
}

/// Runs where /proc is empty or, with the argument "lies", has other files than the kernel's.
fn work_without_proc(arguments: &[String]) {
    // SAFETY: a mount namespace of this process alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        support::report("SKIPPED: nothing can be mounted over /proc here (that needs root)");
        return;
    }
    let mount = |source: &std::ffi::CStr, target: &std::ffi::CStr, kind: &std::ffi::CStr, flags: libc::c_ulong| {
        // SAFETY: strings, and no data.
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) }
    };
    let private = mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE);
    if private != 0 || mount(c"none", c"/proc", c"tmpfs", 0) != 0 {
        support::report("SKIPPED: nothing can be mounted over /proc here (that needs root)");
        return;
    }
    if arguments[0] == "lies" {
        // A file for each number, and none is the right one.
        for folder in ["/proc/self/fd", "/proc/thread-self/fd"] {
            fs::create_dir_all(folder).unwrap();
            for number in 0..100 {
                fs::write(format!("{folder}/{number}"), vec![b'p'; LENGTH / 16]).unwrap();
            }
        }
    }
    let error = tombolo::pipe::Options::bytes().create_duplex().map(drop).unwrap_err().to_string();
    assert!(error.contains("mount /proc"), "{error}");
    let error = Mutex::new(1_u64).map(drop).unwrap_err().to_string();
    assert!(error.contains("mount /proc"), "{error}");
    if arguments[0] == "lies" {
        for folder in ["/proc/self/fd", "/proc/thread-self/fd"] {
            for entry in fs::read_dir(folder).unwrap() {
                let bytes = fs::read(entry.unwrap().path()).unwrap();
                assert!(bytes.iter().all(|&byte| byte == b'p'), "a file that only has such a name was changed");
            }
        }
    }
}

#[test]
fn proc_missing_error_says_what_to_mount() {
    let _sandbox = TestDir::new();
    start("work_without_proc", &["nothing"]).finish();
}

#[test]
fn proc_with_other_files_is_refused_and_leaves_them() {
    let _sandbox = TestDir::new();
    start("work_without_proc", &["lies"]).finish();
}
