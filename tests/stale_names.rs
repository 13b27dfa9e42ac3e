//! Names that lead to an abandoned region which this library cannot read, or which is of another kind: they can be
//! replaced once nobody holds any lock on the file, and no removal ever takes the name of another file.

mod support;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use support::{Board, Process, Sandbox, alone, fork, parts, say, start};
use tombolo::{
    Abandoned, Directory, ErrorKind, LAYOUT_VERSION, Mutex, Namespace, NamespaceBuilder, PipeOptions, QueueOptions,
    RecvError,
};

parts!(send_and_stay, stay_in_a_queue, stay_in_a_namespace, replace_as_receiver, resume_as_receiver);

const NAME: &str = "name";
const VERSION: u64 = 1;
const LIFE: u64 = 10;
const PERSISTENT: u64 = 16;

fn pipe(sandbox: &Sandbox) -> PipeOptions<u64> {
    PipeOptions::values().directory(sandbox.names())
}

fn queue(sandbox: &Sandbox) -> QueueOptions<u64> {
    QueueOptions::values().directory(sandbox.names())
}

fn space(sandbox: &Sandbox) -> NamespaceBuilder {
    Namespace::builder().value("price", 0_u64).directory(sandbox.names())
}

fn path(sandbox: &Sandbox) -> PathBuf {
    sandbox.names().join(NAME)
}

fn file(sandbox: &Sandbox) -> File {
    File::options().read(true).write(true).open(path(sandbox)).unwrap()
}

fn write_word(file: &File, index: u64, value: u64) {
    file.write_all_at(&value.to_ne_bytes(), index * 8).unwrap();
}

fn word(file: &File, index: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, index * 8).unwrap();
    u64::from_ne_bytes(bytes)
}

fn start_in(sandbox: &Sandbox, part: &str) -> Process {
    let board = sandbox.file("board");
    let process = start(part, &[sandbox.names().to_str().unwrap(), board.to_str().unwrap()]);
    Board::at(&board).meet(0, 2);
    process
}

fn stay(board: &str) {
    Board::at(Path::new(board)).meet(0, 2);
    loop {
        std::thread::park();
    }
}

fn send_and_stay(arguments: &[String]) {
    let mut tx = PipeOptions::values::<u64>().directory(&arguments[0]).sender(NAME).unwrap();
    tx.send(&1).unwrap();
    stay(&arguments[1]);
}

fn stay_in_a_queue(arguments: &[String]) {
    let _queue = QueueOptions::values::<u64>().directory(&arguments[0]).open(NAME).unwrap();
    stay(&arguments[1]);
}

fn stay_in_a_namespace(arguments: &[String]) {
    let _space = Namespace::builder().value("price", 1_u64).directory(&arguments[0]).open(NAME).unwrap();
    stay(&arguments[1]);
}

/// What a file is made, what opening it says then, and how that is done.
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
fn an_abandoned_region_that_cannot_be_read_is_replaced() {
    for (what, kind, damage) in damages() {
        let wreck = || {
            let sandbox = Sandbox::new();
            start_in(&sandbox, "send_and_stay").kill();
            damage(&file(&sandbox));
            sandbox
        };

        let sandbox = wreck();
        assert_eq!(pipe(&sandbox).sender(NAME).unwrap_err().kind(), kind, "{what}: resumed by default");
        let mut rx = pipe(&sandbox).abandoned(Abandoned::Replace).receiver(NAME).expect(what);
        pipe(&sandbox).sender(NAME).unwrap().send(&2).unwrap();
        assert_eq!(rx.recv(), Ok(2), "{what}");

        let sandbox = wreck();
        let mut queue = queue(&sandbox).abandoned(Abandoned::Replace).open(NAME).expect(what);
        queue.send(&3).unwrap();
        assert_eq!(queue.recv(), Ok(3), "{what}");

        let sandbox = wreck();
        let space = space(&sandbox).abandoned(Abandoned::Replace).open(NAME).expect(what);
        assert_eq!(space.value::<u64>("price").unwrap().load(), Ok(0), "{what}");
    }
}

#[test]
fn an_abandoned_region_of_another_kind_is_replaced() {
    let sandbox = Sandbox::new();
    start_in(&sandbox, "send_and_stay").kill();
    assert_eq!(queue(&sandbox).open(NAME).unwrap_err().kind(), ErrorKind::WrongType);
    drop(queue(&sandbox).abandoned(Abandoned::Replace).open(NAME).unwrap());

    let sandbox = Sandbox::new();
    start_in(&sandbox, "stay_in_a_queue").kill();
    drop(space(&sandbox).abandoned(Abandoned::Replace).open(NAME).unwrap());

    let sandbox = Sandbox::new();
    start_in(&sandbox, "stay_in_a_namespace").kill();
    drop(pipe(&sandbox).abandoned(Abandoned::Replace).sender(NAME).unwrap());
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn an_abandoned_region_that_cannot_be_read_is_removed() {
    for (what, kind, damage) in damages() {
        let sandbox = Sandbox::new();
        let directory = Directory::at(sandbox.names());
        let user = start_in(&sandbox, "send_and_stay");
        damage(&file(&sandbox));
        assert!(!directory.unlink_if_abandoned(NAME).unwrap(), "{what}: in use");
        user.kill();
        assert_eq!(directory.inspect(NAME).unwrap_err().kind(), kind, "{what}");
        assert!(directory.unlink_if_abandoned(NAME).unwrap(), "{what}");
        assert_eq!(sandbox.litter(), [""; 0], "{what}");
    }
}

#[test]
fn a_region_of_another_version_or_kind_in_use_is_never_replaced() {
    for (part, other_version) in [("send_and_stay", true), ("stay_in_a_queue", true), ("stay_in_a_namespace", false)] {
        let sandbox = Sandbox::new();
        let user = start_in(&sandbox, part);
        let expected = if other_version {
            write_word(&file(&sandbox), VERSION, LAYOUT_VERSION + 1);
            ErrorKind::WrongVersion
        } else {
            ErrorKind::WrongType
        };
        let opened = pipe(&sandbox).abandoned(Abandoned::Replace).sender(NAME);
        assert_eq!(opened.unwrap_err().kind(), expected, "{part}");
        user.signal(libc::SIGSTOP); // which is no death
        let opened = pipe(&sandbox).abandoned(Abandoned::Replace).sender(NAME);
        assert_eq!(opened.unwrap_err().kind(), expected, "{part}, stopped");
        user.kill();
        pipe(&sandbox).abandoned(Abandoned::Replace).sender(NAME).expect(part);
    }
}

/// Takes the lock of a byte for as long as the file is open.
fn lock(file: &File, byte: i64) {
    // SAFETY: all zeros is a valid flock.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as _, byte, 1);
    // SAFETY: a descriptor and a flock that outlive the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[test]
fn a_lock_on_any_byte_keeps_a_region_of_another_version_from_being_replaced() {
    for byte in [0, 7, 4095, 1 << 29, (1 << 30) + 1, 1 << 32, (70_000 << 32) + 5, i64::MAX - 1] {
        let sandbox = Sandbox::new();
        start_in(&sandbox, "send_and_stay").kill();
        let holder = file(&sandbox);
        write_word(&holder, VERSION, LAYOUT_VERSION + 1);
        lock(&holder, byte);
        let options = pipe(&sandbox).abandoned(Abandoned::Replace);
        assert_eq!(options.sender(NAME).unwrap_err().kind(), ErrorKind::WrongVersion, "byte {byte}");
        assert!(!Directory::at(sandbox.names()).unlink_if_abandoned(NAME).unwrap(), "byte {byte}");
        drop(holder);
        options.sender(NAME).unwrap();
    }
}

#[test]
fn a_persistent_region_is_never_replaced() {
    let sandbox = Sandbox::new();
    drop(space(&sandbox).persistent().open(NAME).unwrap());
    let directory = Directory::at(sandbox.names());
    let replace = || pipe(&sandbox).abandoned(Abandoned::Replace).sender(NAME).unwrap_err().kind();
    assert_eq!(replace(), ErrorKind::WrongType);
    assert!(!directory.unlink_if_abandoned(NAME).unwrap());
    let file = file(&sandbox);
    assert_eq!(word(&file, PERSISTENT), 1);
    write_word(&file, VERSION, LAYOUT_VERSION + 1);
    assert_eq!(replace(), ErrorKind::WrongVersion);
    assert!(!directory.unlink_if_abandoned(NAME).unwrap(), "of another version");
    directory.unlink(NAME, true).unwrap();
}

#[test]
fn a_file_that_is_no_region_is_never_replaced() {
    for content in [&[][..], &[0; 8192], b"#!/bin/sh\n", &[b'x'; 100_000]] {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.names()).unwrap();
        fs::write(path(&sandbox), content).unwrap();
        let kinds = [
            pipe(&sandbox).abandoned(Abandoned::Replace).sender(NAME).unwrap_err().kind(),
            queue(&sandbox).abandoned(Abandoned::Replace).open(NAME).unwrap_err().kind(),
            space(&sandbox).abandoned(Abandoned::Replace).open(NAME).unwrap_err().kind(),
            Directory::at(sandbox.names()).unlink_if_abandoned(NAME).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::NotARegion; 4]);
        assert_eq!(fs::read(path(&sandbox)).unwrap(), content);
    }
}

#[test]
fn a_region_of_another_version_is_retired_before_it_loses_its_name() {
    let sandbox = Sandbox::new();
    start_in(&sandbox, "send_and_stay").kill();
    let old = file(&sandbox); // as one that is about to join has it
    write_word(&old, VERSION, LAYOUT_VERSION + 1);
    drop(pipe(&sandbox).abandoned(Abandoned::Replace).sender(NAME).unwrap());
    assert_eq!(word(&old, LIFE), 2, "it looks the name up again");
}

#[test]
fn a_standalone_object_replaces_a_region_of_another_version() {
    let sandbox = Sandbox::new();
    start_in(&sandbox, "stay_in_a_namespace").kill();
    write_word(&file(&sandbox), VERSION, LAYOUT_VERSION + 1);
    let builder = Namespace::builder().mutex("lock", 7_u64).directory(sandbox.names());
    let space = builder.abandoned(Abandoned::Replace).open(NAME).unwrap();
    let lock: Mutex<u64> = space.mutex("lock").unwrap();
    assert_eq!(*lock.lock().unwrap(), 7);
}

const ROUNDS: u64 = 200;

#[test]
fn two_that_replace_the_same_region_meet_in_one() {
    let sandbox = Sandbox::new();
    start_in(&sandbox, "send_and_stay").kill();
    write_word(&file(&sandbox), VERSION, LAYOUT_VERSION + 1);
    let wreck = sandbox.file("wreck");
    fs::copy(path(&sandbox), &wreck).unwrap();
    fs::remove_file(path(&sandbox)).unwrap();
    let board_path = sandbox.file("races");
    let board = Board::at(&board_path);
    let arguments = [sandbox.names(), board_path].map(|path| path.to_str().unwrap().to_string());
    let other = start("replace_as_receiver", &arguments.each_ref().map(String::as_str));
    for round in 0..ROUNDS {
        fs::copy(&wreck, path(&sandbox)).unwrap();
        board.meet(0, 2);
        let mut tx = pipe(&sandbox).abandoned(Abandoned::Replace).sender(NAME).unwrap();
        tx.send(&round).unwrap();
        board.meet(1, 2);
        drop(tx);
        board.meet(2, 2);
        assert_eq!(sandbox.litter(), [""; 0], "in round {round}");
    }
    other.finish();
}

fn replace_as_receiver(arguments: &[String]) {
    let board = Board::at(Path::new(&arguments[1]));
    let options = PipeOptions::values::<u64>().directory(&arguments[0]).abandoned(Abandoned::Replace);
    for round in 0..ROUNDS {
        board.meet(0, 2);
        let mut rx = options.receiver(NAME).unwrap();
        assert_eq!(rx.recv(), Ok(round));
        board.meet(1, 2);
        drop(rx);
        board.meet(2, 2);
    }
}

#[test]
fn one_that_replaces_and_one_that_resumes_meet_in_one_region() {
    let sandbox = Sandbox::new();
    start_in(&sandbox, "send_and_stay").kill();
    let wreck = sandbox.file("wreck");
    fs::rename(path(&sandbox), &wreck).unwrap();
    let board_path = sandbox.file("races");
    let board = Board::at(&board_path);
    let arguments = [sandbox.names(), board_path].map(|path| path.to_str().unwrap().to_string());
    let other = start("resume_as_receiver", &arguments.each_ref().map(String::as_str));
    for round in 0..ROUNDS {
        fs::copy(&wreck, path(&sandbox)).unwrap();
        board.meet(0, 2);
        let mut tx = pipe(&sandbox).abandoned(Abandoned::Replace).sender(NAME).unwrap();
        tx.send(&(1000 + round)).unwrap();
        board.meet(1, 2);
        drop(tx);
        board.meet(2, 2);
        assert_eq!(sandbox.litter(), [""; 0], "in round {round}");
    }
    other.finish();
}

fn resume_as_receiver(arguments: &[String]) {
    let board = Board::at(Path::new(&arguments[1]));
    let options = PipeOptions::values::<u64>().directory(&arguments[0]);
    for round in 0..ROUNDS {
        board.meet(0, 2);
        let mut rx = options.receiver(NAME).unwrap();
        // The old one's message and death come first, if the old region is where they met.
        loop {
            match rx.recv() {
                Ok(1) | Err(RecvError::PeerDied) => {}
                other => break assert_eq!(other, Ok(1000 + round)),
            }
        }
        board.meet(1, 2);
        drop(rx);
        board.meet(2, 2);
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
fn a_removal_that_was_interrupted_never_takes_a_successors_name() {
    type Act = fn(&Sandbox);
    let leave: Act = |sandbox| drop(pipe(sandbox).sender(NAME).unwrap());
    let force: Act = |sandbox| drop(Directory::at(sandbox.names()).unlink(NAME, true));
    let replace: Act = |sandbox| drop(pipe(sandbox).abandoned(Abandoned::Replace).sender(NAME));
    let abandoned: Act = |sandbox| drop(Directory::at(sandbox.names()).unlink_if_abandoned(NAME));
    let alone = alone();
    for (what, other_version, act) in [
        ("leaving as the last", false, leave),
        ("removing by force", false, force),
        ("removing what cannot be read by force", true, force),
        ("replacing", true, replace),
        ("removing what is abandoned", true, abandoned),
    ] {
        let sandbox = Sandbox::new();
        start_in(&sandbox, "send_and_stay").kill();
        if what == "leaving as the last" {
            pipe(&sandbox).receiver(NAME).unwrap().recv().unwrap(); // nothing is left that would keep the name
            fs::remove_file(path(&sandbox)).ok();
        }
        if other_version {
            write_word(&file(&sandbox), VERSION, LAYOUT_VERSION + 1);
        }
        let mut remover = fork(&alone, || {
            // SAFETY: no pointers.
            if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(77) };
            }
            // SAFETY: stops this process, for its tracer.
            unsafe { libc::raise(libc::SIGSTOP) };
            act(&sandbox);
        });
        let status = remover.wait_for_stop();
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 77 {
            return say("SKIPPED: a removal that is interrupted (ptrace is refused here)");
        }
        assert!(pass_until_removal(&mut remover), "{what}");

        // Removed by somebody else meanwhile, or not: while the first is at it, removing can be refused.
        let successor = match Directory::at(sandbox.names()).unlink(NAME, true) {
            Ok(()) => Some(pipe(&sandbox).create_new().receiver(NAME).unwrap()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Busy, "{what}: {error}");
                None
            }
        };
        // SAFETY: no pointers; it goes on alone.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_DETACH, remover.pid(), 0, 0) }, 0);
        remover.wait();
        if successor.is_some() {
            assert_eq!(sandbox.litter(), [NAME], "{what}: the successor has lost its name");
        }
        drop(successor);
        drop(pipe(&sandbox).sender(NAME).unwrap_or_else(|error| panic!("{what}: {error}")));
        assert_eq!(sandbox.litter(), [""; 0], "{what}");
    }
}
