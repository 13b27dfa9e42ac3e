//! How a death is told from a lost lock: a process that closed its descriptors has lost its lock
//! and lives on.

mod support;

use std::fs;
use std::mem::forget;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use support::{SharedCounters, TestDir, alone, child_roles, command, fork, report};
use tombolo::broadcast;
use tombolo::inspect::ParticipantStatus;
use tombolo::pipe;
use tombolo::queue;
use tombolo::sync::{LockError, Mutex};
use tombolo::{Directory, Endpoint, ErrorKind, Namespace, RecvError, SendError};

child_roles![inside];

const PIPE: &str = "pipe";
const QUEUE: &str = "queue";

fn pipe(names: impl AsRef<Path>) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(names.as_ref())
}

fn queue(names: impl AsRef<Path>) -> queue::Options<u64> {
    queue::Options::new().capacity(4).max_participants(4).directory(names.as_ref())
}

fn lock(names: &Path) -> Mutex<u64> {
    let plan = Namespace::builder().mutex("lock", 0_u64).max_participants(2);
    plan.directory(names).open("space").unwrap().mutex("lock").unwrap()
}

/// Loses every lock that this process holds.
fn close_everything() {
    // SAFETY: nothing here uses a descriptor any more.
    assert_eq!(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) }, 0);
}

fn live_on(test_dir: &TestDir) {
    while test_dir.file("").exists() {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn lock_lost_by_sender_is_reported_before_its_death() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let careless = fork(&alone, || {
        let mut tx = pipe(test_dir.names()).sender(PIPE).unwrap();
        tx.send(1).unwrap();
        close_everything();
        counters.meet(0, 2);
        live_on(&test_dir);
    });
    counters.meet(0, 2);
    let pid = careless.pid() as u64;
    let mut rx = pipe(test_dir.names()).receiver(PIPE).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.recv(), Err(RecvError::LockLost));
    let error = pipe(test_dir.names()).sender(PIPE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockLost { pid });
    assert!(error.to_string().contains(&pid.to_string()), "{error}");
    let inspection = Directory::at(test_dir.names()).inspect(PIPE).unwrap();
    assert_eq!(inspection.participants[0].status, ParticipantStatus::LockLost);
    careless.kill();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied), "now it is dead");
    let mut tx = pipe(test_dir.names()).sender(PIPE).unwrap();
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
}

#[test]
fn lock_lost_by_receiver_is_reported_before_its_death() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let careless = fork(&alone, || {
        let _rx = pipe(test_dir.names()).receiver(PIPE).unwrap();
        close_everything();
        counters.meet(0, 2);
        live_on(&test_dir);
    });
    counters.meet(0, 2);
    let mut tx = pipe(test_dir.names()).sender(PIPE).unwrap();
    let error = (0..10).find_map(|number| tx.send(number).err());
    assert_eq!(error, Some(SendError::LockLost));
    careless.kill();
    assert_eq!(tx.send(9), Err(SendError::PeerDied));
}

#[test]
fn lock_lost_by_queue_sender_is_reported_before_its_death() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let careless = fork(&alone, || {
        let tx = queue(test_dir.names()).sender(QUEUE).unwrap();
        close_everything();
        counters.meet(0, 2);
        live_on(&test_dir);
        forget(tx);
    });
    counters.meet(0, 2);
    let mut rx = queue(test_dir.names()).receiver(QUEUE).unwrap();
    assert_eq!(rx.recv(), Err(RecvError::LockLost));
    let seen = Directory::at(test_dir.names()).inspect(QUEUE).unwrap();
    assert_eq!(seen.participants[0].status, ParticipantStatus::LockLost);
    careless.kill();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}

#[test]
fn lock_lost_of_own_endpoint_is_not_reopened_while_handle_lives() {
    let (alone, test_dir) = (alone(), TestDir::new());
    fork(&alone, || {
        let handles = (pipe(test_dir.names()).sender(PIPE).unwrap(), queue(test_dir.names()).sender(QUEUE).unwrap());
        close_everything();
        let error = pipe(test_dir.names()).sender(PIPE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LockLost { pid: u64::from(std::process::id()) });
        let there = queue(test_dir.names()).receiver(QUEUE).unwrap();
        assert_eq!(there.stats().senders, 1, "it is not repaired");
        forget(handles);
    })
    .finish();
}

#[test]
fn lock_lost_with_main_thread_ended_is_not_reported_as_death() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let careless = fork(&alone, || {
        let tx = pipe(test_dir.names()).sender(PIPE).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                while fs::read_to_string("/proc/self/maps").is_ok_and(|maps| !maps.is_empty()) {
                    thread::sleep(Duration::from_millis(1));
                }
                close_everything();
                counters.meet(0, 2);
                live_on(&test_dir);
                forget(tx);
            });
            // SAFETY: ends this thread only; the other one borrows from a stack that stays where it
            // is.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
    });
    counters.meet(0, 2);
    let mut rx = pipe(test_dir.names()).receiver(PIPE).unwrap();
    assert_eq!(rx.recv(), Err(RecvError::LockLost));
    careless.signal(libc::SIGKILL);
    drop(careless);
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}

/// Whether this process is root; says so if it is not and the test has to be skipped.
fn is_root() -> bool {
    // SAFETY: asks for a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        report("SKIPPED: not run as root, so this was not tested");
    }
    is_root
}

#[test]
fn lock_lost_with_memory_map_hidden_is_not_reported_as_death() {
    if !is_root() {
        return;
    }
    let (alone, test_dir) = (alone(), TestDir::new());
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let careless = fork(&alone, || {
        let tx = pipe(test_dir.names()).mode(0o666).sender(PIPE).unwrap();
        fs::set_permissions(test_dir.names(), fs::Permissions::from_mode(0o777)).unwrap();
        close_everything();
        counters.meet(0, 2);
        live_on(&test_dir);
        forget(tx);
    });
    counters.meet(0, 2);
    fork(&alone, || {
        // SAFETY: a process of its own; nobody else's identity changes.
        unsafe { assert_eq!((libc::setgid(65534), libc::setuid(65534)), (0, 0)) };
        let mut rx = pipe(test_dir.names()).allow_other_owner().receiver(PIPE).unwrap();
        assert!(fs::read(format!("/proc/{}/maps", careless.pid())).is_err(), "it can be read");
        assert_eq!(rx.recv(), Err(RecvError::LockLost));
    })
    .finish();
    careless.kill();
}

/// Runs in a PID namespace of its own, with the /proc of the outer one, in which the victim's
/// number is that of another process.
fn inside(arguments: &[String]) {
    let [names, outer] = arguments else { panic!("{arguments:?}") };
    let names = Path::new(names);
    let outer: libc::pid_t = outer.parse().unwrap();
    let alone = alone();
    let lock = lock(names);
    let mut rx = pipe(names).receiver(PIPE).unwrap();
    let mut results = queue(names).receiver(QUEUE).unwrap();
    fs::write("/proc/sys/kernel/ns_last_pid", (outer - 1).to_string()).unwrap();
    let victim = fork(&alone, || {
        let own = self::lock(names);
        let mut tx = pipe(names).sender(PIPE).unwrap();
        let work = queue(names).sender(QUEUE).unwrap();
        forget(own.lock().unwrap());
        tx.send(1).unwrap();
        thread::sleep(Duration::from_secs(600));
        forget((tx, work));
    });
    assert_eq!(victim.pid(), outer, "its number is that of a process outside, which runs");
    assert_eq!(rx.recv(), Ok(1));
    victim.kill();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
    assert_eq!(results.recv(), Err(RecvError::PeerDied));
    assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_))));
    let mut tx = pipe(names).sender(PIPE).unwrap();
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    fs::write(names.join("done"), "").unwrap();
}

#[test]
fn proc_of_other_pid_namespace_death_is_reported() {
    if !is_root() {
        return;
    }
    let test_dir = TestDir::new();
    let names = test_dir.names();
    fs::create_dir_all(&names).unwrap();
    let outer = std::process::id().to_string();
    let inner = command("inside", &[names.to_str().unwrap(), &outer]);
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]).arg(inner.get_program()).args(inner.get_args());
    unshare.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdout(Stdio::null());
    let status = match unshare.status() {
        Ok(status) if names.join("done").exists() => status,
        Ok(status) if status.code() == Some(1) && names.read_dir().unwrap().next().is_none() => {
            return report("SKIPPED: no PID namespace can be made here, so this was not tested");
        }
        outcome => panic!("{outcome:?}"),
    };
    assert!(status.success());
}

/// Takes shared locks of the bytes of the second participant, through a file that is only read.
fn lock_shared(path: &Path) -> fs::File {
    let file = fs::File::open(path).unwrap();
    // SAFETY: all zeros is a lock, of which the fields are set; the descriptor is open.
    let outcome = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        (lock.l_type, lock.l_start, lock.l_len) = (libc::F_RDLCK as _, 2, 2);
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock)
    };
    assert_eq!(outcome, 0);
    file
}

#[test]
fn death_is_noticed_though_a_reader_of_the_file_holds_shared_locks() {
    let test_dir = TestDir::new();
    let (mut tx, rx) = (pipe(test_dir.names()).sender(PIPE).unwrap(), pipe(test_dir.names()).receiver(PIPE).unwrap());
    rx.abandon().unwrap();
    let _reader = lock_shared(&test_dir.names().join(PIPE));
    assert_eq!((0..5).find_map(|number| tx.send(number).err()), Some(SendError::PeerDied));

    let options = broadcast::Options::<u64>::new().capacity(2).directory(test_dir.names());
    let mut publisher = options.publisher("broadcast").unwrap();
    options.subscriber("broadcast").unwrap().abandon().unwrap();
    let _reader = lock_shared(&test_dir.names().join("broadcast"));
    (0..10).for_each(|number| publisher.publish(number).unwrap());
}
