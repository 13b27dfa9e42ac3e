//! Processes that go on as another program: whatever they held before, they are gone.

mod support;

use std::fs;
use std::iter;
use std::mem::forget;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use support::{Board, Process, Sandbox, alone, command, fork, parts, say};
use tombolo::{
    Directory, ErrorKind, LockError, Mutex, Namespace, PipeOptions, QueueOptions, RecvError, SendError, Standing,
};

parts![hold_and_exec, receive_and_exec, reload_queue, reload_pipe, change_sides, receive, inside];

const NAME: &str = "name";

fn pipe(directory: &str) -> PipeOptions<u64> {
    PipeOptions::values().capacity(4).directory(directory)
}

fn jobs(directory: &str) -> QueueOptions<u64> {
    QueueOptions::values().capacity(4).max_participants(4).directory(directory)
}

fn directories(sandbox: &Sandbox) -> [String; 3] {
    ["pipe", "queue", "lock"].map(|kind| sandbox.file(kind).to_str().unwrap().to_string())
}

fn lock(directory: &str) -> Mutex<u64> {
    let plan = Namespace::builder().mutex("lock", 0_u64).max_participants(2);
    plan.directory(directory).open(NAME).unwrap().mutex("lock").unwrap()
}

/// Becomes a program that lives until its input ends.
fn become_cat() {
    panic!("{}", Command::new("cat").stdout(Stdio::null()).exec());
}

fn hold_and_exec(arguments: &[String]) {
    let [in_pipe, in_queue, in_lock] = arguments else { panic!("{arguments:?}") };
    let mut tx = pipe(in_pipe).sender(NAME).unwrap();
    let mut work = jobs(in_queue).sender(NAME).unwrap();
    let lock = lock(in_lock);
    forget(lock.lock().unwrap());
    work.send(&1).unwrap();
    tx.send(&1).unwrap();
    become_cat();
}

#[test]
fn a_sender_and_owner_that_execs_is_dead_for_the_others() {
    let sandbox = Sandbox::new();
    let [in_pipe, in_queue, in_lock] = directories(&sandbox);
    let mut rx = pipe(&in_pipe).receiver(NAME).unwrap();
    let mut results = jobs(&in_queue).receiver(NAME).unwrap();
    let lock = lock(&in_lock);
    let mut command = command("hold_and_exec", &[&in_pipe, &in_queue, &in_lock]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::PeerDied)));
    assert_eq!((results.recv(), results.recv()), (Ok(1), Err(RecvError::PeerDied)));
    assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_))));
    // Somebody else can come in its place, and its lane serves again.
    let mut tx = pipe(&in_pipe).sender(NAME).unwrap();
    let all: Vec<_> = (0..3).map(|_| jobs(&in_queue).sender(NAME).unwrap()).collect();
    tx.send(&2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    assert_eq!(child.try_wait().unwrap(), None, "it lives");
    drop((child.stdin.take(), all));
    child.wait().unwrap();
}

fn receive_and_exec(arguments: &[String]) {
    let mut rx = pipe(&arguments[0]).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    become_cat();
}

#[test]
fn a_receiver_that_execs_is_dead_for_its_sender() {
    let sandbox = Sandbox::new();
    let [in_pipe, ..] = directories(&sandbox);
    let mut tx = pipe(&in_pipe).sender(NAME).unwrap();
    let mut child = command("receive_and_exec", &[&in_pipe]).stdin(Stdio::piped()).spawn().unwrap();
    tx.send(&1).unwrap();
    let error = (2..).find_map(|number| tx.send(&number).err());
    assert_eq!(error, Some(SendError::PeerDied));
    assert_eq!(child.try_wait().unwrap(), None, "it lives");
    let mut rx = pipe(&in_pipe).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// Opens its end, and runs itself anew, so many times.
fn reload(part: &str, arguments: &[String], open: impl FnOnce()) {
    let left: u32 = arguments[1].parse().unwrap();
    open();
    if left > 0 {
        let left = (left - 1).to_string();
        panic!("{}", command(part, &[&arguments[0], &left]).exec());
    }
}

fn reload_queue(arguments: &[String]) {
    reload("reload_queue", arguments, || {
        let mut tx = jobs(&arguments[0]).sender(NAME).unwrap_or_else(|error| panic!("{}: {error}", arguments[1]));
        let _ = tx.try_send(&1);
        forget(tx);
    });
}

#[test]
fn a_server_that_execs_itself_again_and_again_takes_one_lane() {
    let sandbox = Sandbox::new();
    let [_, in_queue, _] = directories(&sandbox);
    let mut rx = jobs(&in_queue).receiver(NAME).unwrap();
    Process::from(command("reload_queue", &[&in_queue, "20"]).spawn().unwrap()).finish();
    assert!(rx.iter().count() >= 4, "what the queue held was kept");
    assert_eq!(rx.recv(), Err(RecvError::Closed), "the last one came to an ordinary end");
}

fn reload_pipe(arguments: &[String]) {
    reload("reload_pipe", arguments, || {
        let mut tx = pipe(&arguments[0]).sender(NAME).unwrap();
        tx.send(&arguments[1].parse().unwrap()).unwrap();
        forget(tx);
    });
}

#[test]
fn a_pipes_end_opened_again_after_exec_succeeds_its_predecessor() {
    let sandbox = Sandbox::new();
    let [in_pipe, ..] = directories(&sandbox);
    let mut rx = pipe(&in_pipe).receiver(NAME).unwrap();
    let child = Process::from(command("reload_pipe", &[&in_pipe, "10"]).spawn().unwrap());
    let (mut numbers, mut deaths) = (Vec::new(), 0);
    loop {
        match rx.recv() {
            Ok(number) => numbers.push(number),
            Err(RecvError::PeerDied) => deaths += 1,
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error} after {numbers:?}"),
        }
    }
    assert!(numbers.into_iter().eq((0..=10).rev()));
    assert!(deaths > 0, "that of the last one at least");
    child.finish();
}

/// The sender, that execs and is the receiver from then on.
fn change_sides(arguments: &[String]) {
    forget(pipe(&arguments[0]).sender(NAME).unwrap());
    panic!("{}", command("receive", &[&arguments[0]]).exec());
}

fn receive(arguments: &[String]) {
    let mut rx = pipe(&arguments[0]).receiver(NAME).unwrap();
    // Of itself, as it was before.
    let first = iter::repeat_with(|| rx.recv()).find(|heard| *heard != Err(RecvError::PeerDied));
    assert_eq!((first, rx.recv()), (Some(Ok(1)), Err(RecvError::Closed)));
}

#[test]
fn a_program_that_maps_the_region_anew_does_not_hold_what_the_one_before_it_held() {
    let sandbox = Sandbox::new();
    let [in_pipe, ..] = directories(&sandbox);
    let child = Process::from(command("change_sides", &[&in_pipe]).spawn().unwrap());
    let receiver = || Directory::at(&in_pipe).inspect(NAME).is_ok_and(|seen| seen.participants[1].joins == 1);
    support::until(receiver);
    let mut tx = pipe(&in_pipe).sender(NAME).unwrap();
    tx.send(&1).unwrap();
    drop(tx);
    child.finish();
}

// ---- locks that were lost, not given up
// --------------------------------------------------------------------------------

fn live_on(sandbox: &Sandbox) {
    while sandbox.file("").exists() {
        thread::sleep(Duration::from_millis(20));
    }
}

fn close_everything() {
    // SAFETY: nothing here uses a descriptor any more.
    assert_eq!(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) }, 0);
}

#[test]
fn a_seat_of_ones_own_that_lost_its_lock_is_not_retaken_while_its_handle_lives() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let [in_pipe, in_queue, _] = directories(&sandbox);
    fork(&alone, || {
        let handles = (pipe(&in_pipe).sender(NAME).unwrap(), jobs(&in_queue).sender(NAME).unwrap());
        close_everything();
        let error = pipe(&in_pipe).sender(NAME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LockLost { pid: u64::from(std::process::id()) });
        let queue = jobs(&in_queue).receiver(NAME).unwrap();
        assert_eq!(queue.stats().senders, 1, "it is not repaired");
        forget(handles);
    })
    .finish();
}

#[test]
fn a_process_whose_first_thread_has_ended_still_has_its_memory() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let [in_pipe, ..] = directories(&sandbox);
    let board = Board::at(&sandbox.file("board"));
    let careless = fork(&alone, || {
        let tx = pipe(&in_pipe).sender(NAME).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                while fs::read_to_string("/proc/self/maps").is_ok_and(|maps| !maps.is_empty()) {
                    thread::sleep(Duration::from_millis(1));
                }
                close_everything();
                board.meet(0, 2);
                live_on(&sandbox);
                forget(tx);
            });
            // SAFETY: ends this thread only; the other one borrows from a stack that stays where it
            // is.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
    });
    board.meet(0, 2);
    let mut rx = pipe(&in_pipe).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Err(RecvError::LockLost));
    careless.signal(libc::SIGKILL);
    drop(careless);
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}

/// Root, without whose rights the test makes no sense.
fn is_root() -> bool {
    // SAFETY: asks for a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        say("SKIPPED: not run as root, so this was not tested");
    }
    is_root
}

#[test]
fn one_who_does_not_show_its_memory_and_lost_its_lock_is_not_dead() {
    if !is_root() {
        return;
    }
    let (alone, sandbox) = (alone(), Sandbox::new());
    let [in_pipe, ..] = directories(&sandbox);
    let board = Board::at(&sandbox.file("board"));
    let careless = fork(&alone, || {
        let tx = pipe(&in_pipe).mode(0o666).sender(NAME).unwrap();
        fs::set_permissions(&in_pipe, fs::Permissions::from_mode(0o777)).unwrap();
        close_everything();
        board.meet(0, 2);
        live_on(&sandbox);
        forget(tx);
    });
    board.meet(0, 2);
    fork(&alone, || {
        // SAFETY: a process of its own; nobody else's identity changes.
        unsafe { assert_eq!((libc::setgid(65534), libc::setuid(65534)), (0, 0)) };
        let mut rx = pipe(&in_pipe).any_owner().receiver(NAME).unwrap();
        assert!(fs::read(format!("/proc/{}/maps", careless.pid())).is_err(), "it can be read");
        assert_eq!(rx.recv(), Err(RecvError::LockLost));
    })
    .finish();
    careless.kill();
}

// ---- a /proc that speaks of others
// -------------------------------------------------------------------------------------

/// In a PID namespace of its own, with the /proc of the outer one, where the number of the victim
/// is another process's.
fn inside(arguments: &[String]) {
    let [directory, outer] = arguments else { panic!("{arguments:?}") };
    let outer: libc::pid_t = outer.parse().unwrap();
    let alone = alone();
    let in_lock = PathBuf::from(directory).join("lock").to_str().unwrap().to_string();
    let lock = lock(&in_lock);
    let mut rx = pipe(directory).receiver(NAME).unwrap();
    let mut results = jobs(directory).receiver("queue").unwrap();
    fs::write("/proc/sys/kernel/ns_last_pid", (outer - 1).to_string()).unwrap();
    let victim = fork(&alone, || {
        let own = self::lock(&in_lock);
        let mut tx = pipe(directory).sender(NAME).unwrap();
        let work = jobs(directory).sender("queue").unwrap();
        forget(own.lock().unwrap());
        tx.send(&1).unwrap();
        thread::sleep(Duration::from_secs(600));
        forget((tx, work));
    });
    assert_eq!(victim.pid(), outer, "its number is that of a process outside, which runs");
    assert_eq!(rx.recv(), Ok(1));
    victim.kill();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
    assert_eq!(results.recv(), Err(RecvError::PeerDied));
    assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_))));
    let mut tx = pipe(directory).sender(NAME).unwrap();
    tx.send(&2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    fs::write(PathBuf::from(directory).join("done"), "").unwrap();
}

#[test]
fn a_death_is_seen_where_proc_is_another_namespaces() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let names = sandbox.names();
    fs::create_dir_all(&names).unwrap();
    let outer = std::process::id().to_string();
    let inner = command("inside", &[names.to_str().unwrap(), &outer]);
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]).arg(inner.get_program()).args(inner.get_args());
    unshare.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdout(Stdio::null());
    let status = match unshare.status() {
        Ok(status) if names.join("done").exists() => status,
        Ok(status) if status.code() == Some(1) && names.read_dir().unwrap().next().is_none() => {
            return say("SKIPPED: no PID namespace can be made here, so this was not tested");
        }
        outcome => panic!("{outcome:?}"),
    };
    assert!(status.success());
}

#[test]
fn a_lock_lost_by_one_who_runs_is_told_from_a_death() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let [_, in_queue, _] = directories(&sandbox);
    let board = Board::at(&sandbox.file("board"));
    let careless = fork(&alone, || {
        let tx = jobs(&in_queue).sender(NAME).unwrap();
        close_everything();
        board.meet(0, 2);
        live_on(&sandbox);
        forget(tx);
    });
    board.meet(0, 2);
    let mut rx = jobs(&in_queue).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Err(RecvError::LockLost));
    let seen = Directory::at(&in_queue).inspect(NAME).unwrap();
    assert_eq!(seen.participants[0].standing, Standing::LockLost);
    careless.kill();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}
