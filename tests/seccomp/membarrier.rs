//! Without membarrier(2), refused to one of the participants or to all, from the start or later,
//! everything works.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tombolo::Namespace;
use tombolo::pipe::{self, Pipe};
use tombolo::queue;
use tombolo::spawn::{self, CommandExt};

use crate::support::{Process, TestDir, command, start, until};
use crate::{COUNT, filter};

/// From here on membarrier(2) is refused to this thread, and to those that it starts.
fn refuse_membarrier() {
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    filter(&[(libc::SYS_membarrier, refusal)], libc::SECCOMP_RET_ALLOW);
}

/// Receives from one queue and sends into another, to the end.
pub fn pass_on_without_membarrier(_: &[String]) {
    refuse_membarrier();
    let mut rx: queue::Receiver<u64> = spawn::take("from").unwrap();
    let mut tx: queue::Sender<u64> = spawn::take("to").unwrap();
    for number in &mut rx {
        tx.send(number.unwrap()).unwrap();
    }
}

pub fn take_turns_without_membarrier(arguments: &[String]) {
    refuse_membarrier();
    take_turns(&Namespace::take("namespace").unwrap(), arguments[0].parse().unwrap());
}

const TURNS: u64 = 300;

/// One of two processes, 0 or 1, that wait for each other in several ways.
fn take_turns(namespace: &Namespace, own: u64) {
    let [mine, theirs] = if own == 0 { ["first", "second"] } else { ["second", "first"] };
    let [mine, theirs] = [mine, theirs].map(|name| namespace.semaphore(name).unwrap());
    let (turn, changed) = (namespace.mutex::<u64>("turn").unwrap(), namespace.condvar("changed").unwrap());
    let (lock, meeting) = (namespace.rw_lock::<u64>("lock").unwrap(), namespace.barrier("meeting").unwrap());
    for _ in 0..TURNS {
        mine.acquire().unwrap().forget();
        theirs.release(1).unwrap();
        let mut guard = changed.wait_while(turn.lock().unwrap(), |turn| *turn % 2 != own).unwrap();
        *guard += 1;
        drop(guard);
        changed.notify_one().unwrap();
        *lock.write().unwrap() += 1;
        assert!(*lock.read().unwrap() > 0);
        meeting.wait().unwrap();
    }
}

/// There and back: between two processes without it, and between one of them and this one.
#[test]
fn membarrier_refused_queues_work() {
    let _sandbox = TestDir::new();
    for capacity in [2, 64] {
        let options = queue::Options::<u64>::new().capacity(capacity);
        let ((mut tx, there), (forth, between), (back, rx)) =
            (options.create_channel().unwrap(), options.create_channel().unwrap(), options.create_channel().unwrap());
        let pass = |from: queue::Receiver<u64>, to: queue::Sender<u64>| {
            Process::from(
                command("pass_on_without_membarrier", &[])
                    .pass("from", from)
                    .unwrap()
                    .pass("to", to)
                    .unwrap()
                    .spawn()
                    .unwrap(),
            )
        };
        let children = [pass(there, forth), pass(between, back)];
        let receiving = thread::spawn(move || rx.into_iter().map(Result::unwrap).collect::<Vec<_>>());
        (0..COUNT).for_each(|number| tx.send(number).unwrap());
        drop(tx);
        assert!(receiving.join().unwrap().into_iter().eq(0..COUNT));
        children.into_iter().for_each(|child| child.finish());
    }
}

/// One process without it and one with it, then two without it.
#[test]
fn membarrier_refused_locks_and_semaphores_work() {
    let _sandbox = TestDir::new();
    for refused in [&["1"][..], &["0", "1"]] {
        let plan = Namespace::builder().semaphore("first", 1).semaphore("second", 0).barrier("meeting", 2);
        let plan = plan.mutex("turn", 0_u64).condvar("changed").rw_lock("lock", 0_u64);
        let namespace = plan.create().unwrap();
        let start = |own: &&str| {
            Process::from(
                command("take_turns_without_membarrier", &[own])
                    .pass("namespace", &namespace)
                    .unwrap()
                    .spawn()
                    .unwrap(),
            )
        };
        let children: Vec<_> = refused.iter().map(start).collect();
        if refused.len() == 1 {
            take_turns(&namespace, 0);
        }
        children.into_iter().for_each(Process::finish);
        assert_eq!(*namespace.rw_lock::<u64>("lock").unwrap().read().unwrap(), 2 * TURNS);
    }
}

fn values(directory: &Path) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(directory)
}

pub fn receive_one_and_lose_membarrier(arguments: &[String]) {
    let mut rx = values(Path::new(&arguments[0])).receiver("name").unwrap();
    refuse_membarrier();
    assert_eq!(rx.recv(), Ok(1));
}

/// The word on which the receiver of a one-way pipe sleeps (docs/layout.md), and two of its bits.
const READABLE: u64 = 8 * (128 + 32);
const WAITERS: u32 = 1;
const FENCES: u32 = 2;

#[test]
fn membarrier_refused_later_waiter_tells_its_wakers() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir.names()).sender("name").unwrap();
    let file = File::open(test_dir.names().join("name")).unwrap();
    let word = || {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, READABLE).unwrap();
        u32::from_ne_bytes(bytes)
    };
    let child = start("receive_one_and_lose_membarrier", &[test_dir.names().to_str().unwrap()]);
    until(|| word() & WAITERS != 0);
    // It announces itself, asks for the fence, is refused and says so: a few instructions, however
    // slow the machine.
    let says_so = (0..5000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        word() & FENCES != 0
    });
    assert!(says_so, "the sender does not learn that it needs a full fence");
    tx.send(1).unwrap();
    child.finish();
}

/// Does as [`pass_on_without_membarrier`], but is refused membarrier(2) only after the first
/// message.
pub fn pass_on_and_lose_membarrier(_: &[String]) {
    let mut rx: queue::Receiver<u64> = spawn::take("from").unwrap();
    let mut tx: queue::Sender<u64> = spawn::take("to").unwrap();
    tx.send(rx.recv().unwrap()).unwrap();
    refuse_membarrier();
    for number in &mut rx {
        tx.send(number.unwrap()).unwrap();
    }
}

#[test]
fn membarrier_refused_later_queues_work() {
    let _sandbox = TestDir::new();
    for capacity in [2, 64] {
        let options = queue::Options::<u64>::new().capacity(capacity);
        let ((mut tx, there), (back, mut rx)) = (options.create_channel().unwrap(), options.create_channel().unwrap());
        let child = Process::from(
            command("pass_on_and_lose_membarrier", &[])
                .pass("from", there)
                .unwrap()
                .pass("to", back)
                .unwrap()
                .spawn()
                .unwrap(),
        );
        let receiving = thread::spawn(move || rx.iter().map(Result::unwrap).collect::<Vec<_>>());
        (0..COUNT).for_each(|number| tx.send(number).unwrap());
        drop(tx);
        assert!(receiving.join().unwrap().into_iter().eq(0..COUNT));
        child.finish();
    }
}

pub fn take_turns_and_lose_membarrier(_: &[String]) {
    let namespace = Namespace::take("namespace").unwrap();
    let mut pipe: Pipe<u64> = pipe::Options::new().take("pipe").unwrap();
    let (mine, theirs) = (namespace.semaphore("second").unwrap(), namespace.semaphore("first").unwrap());
    let lock = namespace.mutex::<u64>("lock").unwrap();
    refuse_membarrier();
    for turn in 0..TURNS {
        mine.acquire().unwrap().forget();
        *lock.lock().unwrap() += 1;
        theirs.release(1).unwrap();
        assert_eq!(pipe.recv(), Ok(turn));
        pipe.send(turn).unwrap();
    }
}

#[test]
fn membarrier_refused_later_pipes_locks_and_semaphores_work() {
    let _sandbox = TestDir::new();
    let plan = Namespace::builder().semaphore("first", 0).semaphore("second", 0).mutex("lock", 0_u64);
    let namespace = plan.create().unwrap();
    let (mut ours, theirs) = pipe::Options::<u64>::new().create_duplex().unwrap();
    let spawner = command("take_turns_and_lose_membarrier", &[])
        .pass("namespace", &namespace)
        .unwrap()
        .pass("pipe", theirs)
        .unwrap();
    let child = Process::from(spawner.spawn().unwrap());
    let (mine, theirs) = (namespace.semaphore("first").unwrap(), namespace.semaphore("second").unwrap());
    let lock = namespace.mutex::<u64>("lock").unwrap();
    for turn in 0..TURNS {
        theirs.release(1).unwrap();
        *lock.lock().unwrap() += 1;
        mine.acquire().unwrap().forget();
        ours.send(turn).unwrap();
        assert_eq!(ours.recv(), Ok(turn));
    }
    child.finish();
    assert_eq!(*lock.lock().unwrap(), 2 * TURNS);
}
