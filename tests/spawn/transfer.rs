//! Endpoints in transit to another process: one process has them, whatever others have copies of
//! the descriptor.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::inspect::ParticipantStatus;
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::queue;
use tombolo::spawn::{self, CommandExt};
use tombolo::{Directory, Endpoint, ErrorKind, RecvError};

use crate::support::{Process, SharedCounters, TestDir, alone, command, fork};

const NAME: &str = "name";
const SHORT: Duration = Duration::from_millis(150);

fn values() -> pipe::Options<u64> {
    pipe::Options::new().capacity(4)
}

fn named(test_dir: &TestDir) -> pipe::Options<u64> {
    values().directory(test_dir.names())
}

fn copy(descriptor: &OwnedFd) -> OwnedFd {
    descriptor.try_clone().unwrap()
}

fn live_on(test_dir: &TestDir) {
    while test_dir.names().exists() {
        thread::sleep(Duration::from_millis(20));
    }
}

fn kill(pid: u64) {
    // SAFETY: a process that this test has started, and that waits to be killed.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) }, 0);
}

/// Sends its process id through a pipe, a number through a queue, and waits for the end of its
/// input.
pub fn work(_: &[String]) {
    let mut tx: Sender<u64> = spawn::take("pipe").unwrap();
    let mut work: queue::Sender<u64> = spawn::take("queue").unwrap();
    work.send(7).unwrap();
    tx.send(u64::from(std::process::id())).unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Does as [`work`], but starts a child of its own before it takes the endpoints.
pub fn work_beside_a_child(arguments: &[String]) {
    let mut child = Command::new("cat").stdout(Stdio::null()).spawn().unwrap();
    fs::write(&arguments[0], child.id().to_string()).unwrap();
    work(arguments);
    child.wait().unwrap();
}

/// A shell that runs `inner` and outlives it; both end when their input does.
fn wrapped(inner: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" \"$@\"; cat"]).arg(inner.get_program()).args(inner.get_args());
    shell.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    shell
}

struct Worker {
    child: Child,
    rx: Receiver<u64>,
    results: queue::Receiver<u64>,
    pid: u64,
}

fn hire(mut command: Command) -> Worker {
    command.stdin(Stdio::piped());
    let (tx, mut rx) = values().create().unwrap();
    let (work, mut results) = queue::Options::<u64>::new().capacity(2).max_participants(2).create_channel().unwrap();
    let spawner = command.pass("pipe", tx).unwrap().pass("queue", work).unwrap();
    let child = spawner.spawn().unwrap();
    assert_eq!(results.recv(), Ok(7));
    let pid = rx.recv().unwrap();
    Worker { child, rx, results, pid }
}

impl Worker {
    /// Kills it: both peers report its death, although others have copies of its descriptors.
    fn kill_and_check(mut self) {
        kill(self.pid);
        assert_eq!(self.rx.recv(), Err(RecvError::PeerDied));
        assert_eq!(self.results.recv(), Err(RecvError::PeerDied));
        // Its participant record can be used again.
        let mut tx = self.results.sender().unwrap();
        tx.send(8).unwrap();
        assert_eq!(self.results.recv(), Ok(8));
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[test]
fn spawn_child_killed_behind_shell_is_reported_dead() {
    let _sandbox = TestDir::new();
    let mut worker = hire(wrapped(&command("work", &[])));
    assert_ne!(worker.pid, u64::from(worker.child.id()));
    assert_eq!(worker.child.try_wait().unwrap(), None, "the shell lives");
    worker.kill_and_check();
}

#[test]
fn spawn_child_killed_beside_its_own_child_is_reported_dead() {
    let test_dir = TestDir::new();
    let file = test_dir.file("child");
    let worker = hire(command("work_beside_a_child", &[file.to_str().unwrap()]));
    let child = fs::read_to_string(&file).unwrap();
    assert!(fs::exists(format!("/proc/{child}")).unwrap(), "that child lives");
    worker.kill_and_check();
}

#[test]
fn spawn_command_used_again_passes_only_new_endpoints() {
    let _test_dir = TestDir::new();
    let mut command = command("work", &[]);
    command.stdin(Stdio::null());
    for _ in 0..3 {
        let (tx, mut rx) = values().create().unwrap();
        let options = queue::Options::<u64>::new().capacity(2).max_participants(2);
        let (work, mut results) = options.create_channel().unwrap();
        let spawner = (&mut command).pass("pipe", tx).unwrap().pass("queue", work).unwrap();
        let mut child = spawner.spawn().unwrap();
        assert_eq!((results.recv(), rx.recv()), (Ok(7), Ok(u64::from(child.id()))));
        assert!(child.wait().unwrap().success());
    }
    for variable in ["TOMBOLO_END_pipe", "TOMBOLO_END_queue"] {
        assert!(command.get_envs().all(|(name, value)| name != variable || value.is_none()), "{command:?}");
    }
    assert!(
        !command.stderr(Stdio::null()).spawn().unwrap().wait().unwrap().success(),
        "a child that nothing was passed to"
    );
}

#[test]
fn spawn_fork_in_between_keeps_no_endpoint() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let (tx, mut rx) = named(&test_dir).create().unwrap();
    fs::create_dir_all(test_dir.names()).unwrap();
    let spawner = Command::new("true").pass("end", tx).unwrap();
    let _bystander = fork(&alone, || live_on(&test_dir));
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut), "it is in transit");
    // The child ends without having taken it.
    spawner.spawn().unwrap().wait().unwrap();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}

#[test]
fn descriptor_in_transit_copied_by_fork_is_alive_until_closed() {
    let (alone, test_dir) = (alone(), TestDir::new());
    fs::create_dir_all(test_dir.names()).unwrap();
    let (tx, mut rx) = values().create().unwrap();
    let descriptor = tx.into_fd().unwrap();
    let bystander = fork(&alone, || live_on(&test_dir));
    drop(descriptor);
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut));
    bystander.kill();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}

#[test]
fn descriptor_taken_copies_in_forks_hold_nothing() {
    let (alone, test_dir) = (alone(), TestDir::new());
    fs::create_dir_all(test_dir.names()).unwrap();
    let (tx, mut rx) = values().create().unwrap();
    let mut descriptor = Some(tx.into_fd().unwrap());
    let _bystander = fork(&alone, || live_on(&test_dir));
    let worker = fork(&alone, || {
        let mut tx: Sender<u64> = values().from_fd(descriptor.take().unwrap()).unwrap();
        tx.send(1).unwrap();
        live_on(&test_dir);
    });
    assert_eq!(rx.recv(), Ok(1));
    worker.kill();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied), "though two processes have copies of the descriptor");
}

#[test]
fn spawn_by_forked_child_is_refused() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    let (tx, mut rx) = values().create().unwrap();
    let mut spawner = Some(Command::new("true").pass("end", tx).unwrap());
    fork(&alone, || {
        let error = spawner.take().unwrap().spawn().unwrap_err();
        assert!(error.to_string().contains("fork"), "{error}");
    })
    .finish();
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut), "the parent still has it");
    drop(spawner);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn spawn_label_used_twice_is_refused_and_both_endpoints_close() {
    let ((one, mut first), (two, mut second)) = (values().create().unwrap(), values().create().unwrap());
    let spawner = command("nobody", &[]).pass("end", one).unwrap();
    let error = spawner.pass("end", two).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    for word in ["\"end\"", "second time", "choose another label"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!((first.recv(), second.recv()), (Err(RecvError::Closed), Err(RecvError::Closed)));
}

#[test]
fn descriptor_taken_copy_is_refused_ever_after() {
    let test_dir = TestDir::new();
    let mut rx = named(&test_dir).receiver(NAME).unwrap();
    let refused = |descriptor: &OwnedFd| {
        let error = values().from_fd::<Sender<u64>>(copy(descriptor)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("taken already"), "{error}");
    };
    let stale = named(&test_dir).sender(NAME).unwrap().into_fd().unwrap();
    let tx: Sender<u64> = values().from_fd(copy(&stale)).unwrap();
    refused(&stale);
    // In transit once more.
    let descriptor = tx.into_fd().unwrap();
    refused(&stale);
    let mut tx: Sender<u64> = values().from_fd(copy(&descriptor)).unwrap();
    refused(&stale);
    refused(&descriptor);
    tx.send(1).unwrap();
    drop(tx);
    refused(&stale);
    refused(&descriptor);
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Closed)));
    // Copies do not keep others from opening the name.
    let mut tx = named(&test_dir).sender(NAME).unwrap();
    refused(&stale);
    refused(&descriptor);
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
}

#[test]
fn descriptor_in_transit_endpoint_is_in_use() {
    // Alone: a copy in the fork of another test would be alive.
    let (_alone, test_dir) = (alone(), TestDir::new());
    let mut rx = named(&test_dir).receiver(NAME).unwrap();
    let descriptor = named(&test_dir).sender(NAME).unwrap().into_fd().unwrap();
    assert_eq!(named(&test_dir).sender(NAME).unwrap_err().kind(), ErrorKind::EndpointInUse { pid: 0 });
    let standing = || Directory::at(test_dir.names()).inspect(NAME).unwrap().participants[0].status;
    assert_eq!(standing(), ParticipantStatus::Alive);
    drop(descriptor);
    assert_eq!(standing(), ParticipantStatus::Dead);
    let mut tx = named(&test_dir).sender(NAME).unwrap();
    tx.send(1).unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Err(RecvError::PeerDied), Ok(1)));
}

#[test]
fn descriptor_taken_by_two_at_once_one_is_refused() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let counters = SharedCounters::at(&test_dir.file("counters"));
    for round in 0..30 {
        let (tx, mut rx) = values().create().unwrap();
        let mut descriptor = Some(tx.into_fd().unwrap());
        counters.word(1).store(0, Ordering::SeqCst);
        let mut take = || {
            let descriptor = descriptor.take().unwrap();
            counters.meet(0, 2);
            match values().from_fd::<Sender<u64>>(descriptor) {
                Ok(mut tx) => tx.send(round).unwrap(),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
                    counters.word(1).fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        let both = [fork(&alone, &mut take), fork(&alone, &mut take)];
        both.into_iter().for_each(Process::finish);
        assert_eq!(counters.word(1).load(Ordering::SeqCst), 1, "one of them is refused");
        assert_eq!((rx.recv(), rx.recv()), (Ok(round), Err(RecvError::Closed)));
    }
}
