//! Names of regions that no process uses any more: they are resumed, recreated or removed.
//!
//! A region that cannot be read or is of another kind is recreated only while its file has no locks.
//! No removal ever takes the name of another file.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tombolo::inspect::ParticipantStatus;
use tombolo::pipe;
use tombolo::queue;
use tombolo::sync::Mutex;
use tombolo::{Directory, ErrorKind, LAYOUT_VERSION, Namespace, NamespaceBuilder, OnStale, RecvError};

use crate::support::{Process, SharedCounters, TestDir, alone, fork, report, start, until};
use crate::{NAME, start_in, stay, surroundings, values};

/// Words of the header.
const VERSION: u64 = 1;
const LIFE: u64 = 10;
const PERSISTENT: u64 = 16;

fn queue(test_dir: &TestDir) -> queue::Options<u64> {
    queue::Options::new().directory(test_dir.names())
}

fn space(test_dir: &TestDir) -> NamespaceBuilder {
    Namespace::builder().value("price", 0_u64).directory(test_dir.names())
}

fn path(test_dir: &TestDir) -> PathBuf {
    test_dir.names().join(NAME)
}

fn file(test_dir: &TestDir) -> File {
    File::options().read(true).write(true).open(path(test_dir)).unwrap()
}

fn write_word(file: &File, index: u64, value: u64) {
    file.write_all_at(&value.to_ne_bytes(), index * 8).unwrap();
}

fn word(file: &File, index: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, index * 8).unwrap();
    u64::from_ne_bytes(bytes)
}

pub fn send_one_and_stay(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    let mut tx = options.sender(NAME).unwrap();
    tx.send(1).unwrap();
    stay(&counters);
}

pub fn stay_in_a_queue(arguments: &[String]) {
    let _queue = queue::Options::<u64>::new().directory(&arguments[0]).open(NAME).unwrap();
    stay(&SharedCounters::at(Path::new(&arguments[1])));
}

pub fn stay_in_a_namespace(arguments: &[String]) {
    let _space = Namespace::builder().value("price", 1_u64).directory(&arguments[0]).open(NAME).unwrap();
    stay(&SharedCounters::at(Path::new(&arguments[1])));
}

#[test]
fn name_stale_is_resumed_or_recreated() {
    let test_dir = TestDir::new();
    start_in(&test_dir, "send_three_and_stay").kill();
    let inspection = Directory::at(test_dir.names()).inspect(NAME).unwrap();
    assert!(inspection.is_stale());
    assert_eq!(inspection.participants[0].status, ParticipantStatus::Dead);
    drop(values(&test_dir).on_stale(OnStale::Resume).sender(NAME).unwrap());
    let mut rx = values(&test_dir).on_stale(OnStale::Resume).receiver(NAME).unwrap();
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Ok(3)));
    drop(rx);

    let test_dir = TestDir::new();
    start_in(&test_dir, "send_three_and_stay").kill();
    let options = values(&test_dir).on_stale(OnStale::Recreate);
    let mut rx = options.receiver(NAME).unwrap();
    let mut tx = options.sender(NAME).unwrap(); // not abandoned: the receiver is here
    tx.send(9).unwrap();
    assert_eq!(rx.recv(), Ok(9));
}

#[test]
fn name_in_use_is_never_recreated() {
    let test_dir = TestDir::new();
    let _other = start_in(&test_dir, "send_three_and_stay");
    let mut rx = values(&test_dir).on_stale(OnStale::Recreate).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    assert!(!Directory::at(test_dir.names()).unlink_if_stale(NAME).unwrap());
}

/// What is wrong with a file, the error of opening it, and the function that damages it.
type Damage = (&'static str, ErrorKind, fn(&File));

/// Ways in which a file cannot be read.
fn damages() -> [Damage; 5] {
    [
        ("a later version", ErrorKind::WrongVersion, |file| write_word(file, VERSION, LAYOUT_VERSION + 1)),
        ("an earlier version", ErrorKind::WrongVersion, |file| write_word(file, VERSION, 0)),
        ("cut", ErrorKind::NotARegion, |file| file.set_len(4096).unwrap()),
        ("cut within its header", ErrorKind::NotARegion, |file| file.set_len(16).unwrap()),
        ("a damaged capacity", ErrorKind::Corrupt, |file| write_word(file, 8, 3)),
    ]
}

#[test]
fn name_stale_unreadable_is_recreated() {
    for (what, kind, damage) in damages() {
        let damage = || {
            let test_dir = TestDir::new();
            start_in(&test_dir, "send_one_and_stay").kill();
            damage(&file(&test_dir));
            test_dir
        };

        let test_dir = damage();
        assert_eq!(values(&test_dir).sender(NAME).unwrap_err().kind(), kind, "{what}: resumed by default");
        let mut rx = values(&test_dir).on_stale(OnStale::Recreate).receiver(NAME).expect(what);
        values(&test_dir).sender(NAME).unwrap().send(2).unwrap();
        assert_eq!(rx.recv(), Ok(2), "{what}");

        let test_dir = damage();
        let mut queue = queue(&test_dir).on_stale(OnStale::Recreate).open(NAME).expect(what);
        queue.send(3).unwrap();
        assert_eq!(queue.recv(), Ok(3), "{what}");

        let test_dir = damage();
        let space = space(&test_dir).on_stale(OnStale::Recreate).open(NAME).expect(what);
        assert_eq!(space.value::<u64>("price").unwrap().load(), Ok(0), "{what}");
    }
}

#[test]
fn name_stale_of_other_kind_is_recreated() {
    let test_dir = TestDir::new();
    start_in(&test_dir, "send_one_and_stay").kill();
    assert_eq!(queue(&test_dir).open(NAME).unwrap_err().kind(), ErrorKind::WrongType);
    drop(queue(&test_dir).on_stale(OnStale::Recreate).open(NAME).unwrap());

    let test_dir = TestDir::new();
    start_in(&test_dir, "stay_in_a_queue").kill();
    drop(space(&test_dir).on_stale(OnStale::Recreate).open(NAME).unwrap());

    let test_dir = TestDir::new();
    start_in(&test_dir, "stay_in_a_namespace").kill();
    drop(values(&test_dir).on_stale(OnStale::Recreate).sender(NAME).unwrap());
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn name_stale_unreadable_is_unlinked() {
    for (what, kind, damage) in damages() {
        let test_dir = TestDir::new();
        let directory = Directory::at(test_dir.names());
        let user = start_in(&test_dir, "send_one_and_stay");
        damage(&file(&test_dir));
        assert!(!directory.unlink_if_stale(NAME).unwrap(), "{what}: in use");
        user.kill();
        assert_eq!(directory.inspect(NAME).unwrap_err().kind(), kind, "{what}");
        assert!(directory.unlink_if_stale(NAME).unwrap(), "{what}");
        assert_eq!(test_dir.leftovers(), [""; 0], "{what}");
    }
}

#[test]
fn name_in_use_of_other_version_or_kind_is_never_recreated() {
    for (part, other_version) in
        [("send_one_and_stay", true), ("stay_in_a_queue", true), ("stay_in_a_namespace", false)]
    {
        let test_dir = TestDir::new();
        let user = start_in(&test_dir, part);
        let expected = if other_version {
            write_word(&file(&test_dir), VERSION, LAYOUT_VERSION + 1);
            ErrorKind::WrongVersion
        } else {
            ErrorKind::WrongType
        };
        let opened = values(&test_dir).on_stale(OnStale::Recreate).sender(NAME);
        assert_eq!(opened.unwrap_err().kind(), expected, "{part}");
        user.signal(libc::SIGSTOP); // which is no death
        let opened = values(&test_dir).on_stale(OnStale::Recreate).sender(NAME);
        assert_eq!(opened.unwrap_err().kind(), expected, "{part}, stopped");
        user.kill();
        values(&test_dir).on_stale(OnStale::Recreate).sender(NAME).expect(part);
    }
}

/// Locks a byte for as long as the file is open.
fn lock(file: &File, byte: i64) {
    // SAFETY: all zeros is a valid flock.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as _, byte, 1);
    // SAFETY: a descriptor and a flock that outlive the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[test]
fn name_of_other_version_with_any_byte_locked_is_not_recreated() {
    for byte in [0, 7, 4095, 1 << 29, (1 << 30) + 1, 1 << 32, (70_000 << 32) + 5, i64::MAX - 1] {
        let test_dir = TestDir::new();
        start_in(&test_dir, "send_one_and_stay").kill();
        let holder = file(&test_dir);
        write_word(&holder, VERSION, LAYOUT_VERSION + 1);
        lock(&holder, byte);
        let options = values(&test_dir).on_stale(OnStale::Recreate);
        assert_eq!(options.sender(NAME).unwrap_err().kind(), ErrorKind::WrongVersion, "byte {byte}");
        assert!(!Directory::at(test_dir.names()).unlink_if_stale(NAME).unwrap(), "byte {byte}");
        drop(holder);
        // A process that another test has just forked has the descriptor, and the lock, for a moment.
        until(|| options.sender(NAME).is_ok());
    }
}

#[test]
fn name_persistent_is_never_recreated() {
    let test_dir = TestDir::new();
    drop(space(&test_dir).persistent().open(NAME).unwrap());
    let directory = Directory::at(test_dir.names());
    let replace = || values(&test_dir).on_stale(OnStale::Recreate).sender(NAME).unwrap_err().kind();
    assert_eq!(replace(), ErrorKind::WrongType);
    assert!(!directory.unlink_if_stale(NAME).unwrap());
    let file = file(&test_dir);
    assert_eq!(word(&file, PERSISTENT), 1);
    write_word(&file, VERSION, LAYOUT_VERSION + 1);
    assert_eq!(replace(), ErrorKind::WrongVersion);
    assert!(!directory.unlink_if_stale(NAME).unwrap(), "of another version");
    directory.unlink(NAME, true).unwrap();
}

#[test]
fn name_of_foreign_file_is_never_recreated() {
    for content in [&[][..], &[0; 8192], b"#!/bin/sh\n", &[b'x'; 100_000]] {
        let test_dir = TestDir::new();
        fs::create_dir(test_dir.names()).unwrap();
        fs::write(path(&test_dir), content).unwrap();
        let kinds = [
            values(&test_dir).on_stale(OnStale::Recreate).sender(NAME).unwrap_err().kind(),
            queue(&test_dir).on_stale(OnStale::Recreate).open(NAME).unwrap_err().kind(),
            space(&test_dir).on_stale(OnStale::Recreate).open(NAME).unwrap_err().kind(),
            Directory::at(test_dir.names()).unlink_if_stale(NAME).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::NotARegion; 4]);
        assert_eq!(fs::read(path(&test_dir)).unwrap(), content);
    }
}

#[test]
fn name_of_other_version_is_retired_before_removal() {
    let test_dir = TestDir::new();
    start_in(&test_dir, "send_one_and_stay").kill();
    let old = file(&test_dir); // as a process that is about to join has it
    write_word(&old, VERSION, LAYOUT_VERSION + 1);
    drop(values(&test_dir).on_stale(OnStale::Recreate).sender(NAME).unwrap());
    assert_eq!(word(&old, LIFE), 2, "it looks the name up again");
}

#[test]
fn name_of_other_version_is_recreated_for_object() {
    let test_dir = TestDir::new();
    start_in(&test_dir, "stay_in_a_namespace").kill();
    write_word(&file(&test_dir), VERSION, LAYOUT_VERSION + 1);
    let builder = Namespace::builder().mutex("lock", 7_u64).directory(test_dir.names());
    let space = builder.on_stale(OnStale::Recreate).open(NAME).unwrap();
    let lock: Mutex<u64> = space.mutex("lock").unwrap();
    assert_eq!(*lock.lock().unwrap(), 7);
}

const ROUNDS: u64 = 200;

#[test]
fn name_stale_recreated_by_two_at_once_leads_to_one_region() {
    let test_dir = TestDir::new();
    start_in(&test_dir, "send_one_and_stay").kill();
    write_word(&file(&test_dir), VERSION, LAYOUT_VERSION + 1);
    let damage = test_dir.file("damage");
    fs::copy(path(&test_dir), &damage).unwrap();
    fs::remove_file(path(&test_dir)).unwrap();
    let board_path = test_dir.file("races");
    let counters = SharedCounters::at(&board_path);
    let arguments = [test_dir.names(), board_path].map(|path| path.to_str().unwrap().to_string());
    let other = start("recreate_as_receiver", &arguments.each_ref().map(String::as_str));
    for round in 0..ROUNDS {
        fs::copy(&damage, path(&test_dir)).unwrap();
        counters.meet(0, 2);
        let mut tx = values(&test_dir).on_stale(OnStale::Recreate).sender(NAME).unwrap();
        tx.send(round).unwrap();
        counters.meet(1, 2);
        drop(tx);
        counters.meet(2, 2);
        assert_eq!(test_dir.leftovers(), [""; 0], "in round {round}");
    }
    other.finish();
}

pub fn recreate_as_receiver(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let options = pipe::Options::<u64>::new().directory(&arguments[0]).on_stale(OnStale::Recreate);
    for round in 0..ROUNDS {
        counters.meet(0, 2);
        let mut rx = options.receiver(NAME).unwrap();
        assert_eq!(rx.recv(), Ok(round));
        counters.meet(1, 2);
        drop(rx);
        counters.meet(2, 2);
    }
}

#[test]
fn name_stale_recreated_and_resumed_at_once_leads_to_one_region() {
    let test_dir = TestDir::new();
    start_in(&test_dir, "send_one_and_stay").kill();
    let damage = test_dir.file("damage");
    fs::rename(path(&test_dir), &damage).unwrap();
    let board_path = test_dir.file("races");
    let counters = SharedCounters::at(&board_path);
    let arguments = [test_dir.names(), board_path].map(|path| path.to_str().unwrap().to_string());
    let other = start("resume_as_receiver", &arguments.each_ref().map(String::as_str));
    for round in 0..ROUNDS {
        fs::copy(&damage, path(&test_dir)).unwrap();
        counters.meet(0, 2);
        let mut tx = values(&test_dir).on_stale(OnStale::Recreate).sender(NAME).unwrap();
        tx.send(1000 + round).unwrap();
        counters.meet(1, 2);
        drop(tx);
        counters.meet(2, 2);
        assert_eq!(test_dir.leftovers(), [""; 0], "in round {round}");
    }
    other.finish();
}

pub fn resume_as_receiver(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let options = pipe::Options::<u64>::new().directory(&arguments[0]);
    for round in 0..ROUNDS {
        counters.meet(0, 2);
        let mut rx = options.receiver(NAME).unwrap();
        // If the old region was resumed, the old sender's message and death come first.
        loop {
            match rx.recv() {
                Ok(1) | Err(RecvError::PeerDied) => {}
                other => break assert_eq!(other, Ok(1000 + round)),
            }
        }
        counters.meet(1, 2);
        drop(rx);
        counters.meet(2, 2);
    }
}

/// Lets a traced process go on until it is about to remove a name.
#[cfg(target_arch = "x86_64")]
fn pass_until_removal(process: &mut Process) -> bool {
    let request = |request: libc::c_uint, data: usize| {
        // SAFETY: of the requests used here the only one that writes is given a place for it.
        unsafe { libc::ptrace(request, process.pid(), 0, data) }
    };
    assert_eq!(request(libc::PTRACE_SETOPTIONS, (libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD) as usize), 0);
    loop {
        assert_eq!(request(libc::PTRACE_SYSCALL, 0), 0);
        let mut status = 0;
        // SAFETY: a child of ours and a place for its status.
        assert_eq!(unsafe { libc::waitpid(process.pid(), &raw mut status, libc::__WALL) }, process.pid());
        assert!(libc::WIFSTOPPED(status), "it ended before: {status:#x}");
        // SAFETY: numbers.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        assert_eq!(request(libc::PTRACE_GETREGS, &raw mut registers as usize), 0);
        let call = registers.orig_rax as libc::c_long;
        if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 && [libc::SYS_unlink, libc::SYS_unlinkat].contains(&call) {
            return true;
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn name_removal_interrupted_keeps_name_of_successor() {
    type Act = fn(&TestDir);
    let leave: Act = |test_dir| drop(values(test_dir).sender(NAME).unwrap());
    let force: Act = |test_dir| drop(Directory::at(test_dir.names()).unlink(NAME, true));
    let replace: Act = |test_dir| drop(values(test_dir).on_stale(OnStale::Recreate).sender(NAME));
    let abandoned: Act = |test_dir| drop(Directory::at(test_dir.names()).unlink_if_stale(NAME));
    let alone = alone();
    for (what, other_version, act) in [
        ("leaving as the last", false, leave),
        ("removing by force", false, force),
        ("removing what cannot be read by force", true, force),
        ("replacing", true, replace),
        ("removing what is abandoned", true, abandoned),
    ] {
        let test_dir = TestDir::new();
        start_in(&test_dir, "send_one_and_stay").kill();
        if what == "leaving as the last" {
            values(&test_dir).receiver(NAME).unwrap().recv().unwrap(); // nothing is left that would keep the name
            fs::remove_file(path(&test_dir)).ok();
        }
        if other_version {
            write_word(&file(&test_dir), VERSION, LAYOUT_VERSION + 1);
        }
        let mut remover = fork(&alone, || {
            // SAFETY: no pointers.
            if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(77) };
            }
            // SAFETY: stops this process, for its tracer.
            unsafe { libc::raise(libc::SIGSTOP) };
            act(&test_dir);
        });
        let status = remover.wait_for_stop();
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 77 {
            return report("SKIPPED: a removal that is interrupted (ptrace is refused here)");
        }
        assert!(pass_until_removal(&mut remover), "{what}");

        // Meanwhile another process removes the name, unless that is refused while a removal is
        // under way.
        let successor = match Directory::at(test_dir.names()).unlink(NAME, true) {
            Ok(()) => Some(values(&test_dir).create_new().receiver(NAME).unwrap()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Busy, "{what}: {error}");
                None
            }
        };
        // SAFETY: no pointers; it goes on alone.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_DETACH, remover.pid(), 0, 0) }, 0);
        remover.wait();
        if successor.is_some() {
            assert_eq!(test_dir.leftovers(), [NAME], "{what}: the successor has lost its name");
        }
        drop(successor);
        drop(values(&test_dir).sender(NAME).unwrap_or_else(|error| panic!("{what}: {error}")));
        assert_eq!(test_dir.leftovers(), [""; 0], "{what}");
    }
}
