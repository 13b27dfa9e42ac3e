//! The last process to leave removes the name, and a lost lock does not count as a death, in
//! processes that are short of descriptors, share them with children of raw `clone` calls, end by
//! `exit` or are stopped again and again.

mod support;

use std::fs::File;
use std::mem::forget;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use memmap2::MmapOptions;
use support::{SharedCounters, TestDir, child_roles, start, until};
use tombolo::RecvError;
use tombolo::pipe;
use tombolo::queue;

child_roles!(
    leave_without_descriptors,
    wait_without_descriptors,
    lose_the_lock,
    remove_beside_clones,
    end_by_exit,
    send_and_stay,
    leave
);

const NAME: &str = "queue";

fn queue(names: &str) -> queue::Options<u64> {
    queue::Options::new().capacity(4).max_participants(4).directory(names)
}

/// From here on this process cannot open anything.
fn use_up_descriptors() -> Vec<File> {
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: sets a limit of this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

fn leave_without_descriptors(arguments: &[String]) {
    let rx = queue(&arguments[0]).receiver(NAME).unwrap();
    let _used = use_up_descriptors();
    drop(rx);
}

#[test]
fn name_last_one_leaves_without_descriptors_is_removed() {
    let test_dir = TestDir::new();
    start("leave_without_descriptors", &[test_dir.names().to_str().unwrap()]).finish();
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

fn lose_the_lock(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut tx = queue(&arguments[0]).sender(NAME).unwrap();
    tx.send(1).unwrap();
    // SAFETY: closes descriptors that are not ours to close, which is what this is about.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    counters.meet(0, 2);
    thread::sleep(Duration::from_secs(600));
    forget(tx);
}

fn wait_without_descriptors(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut rx = queue(&arguments[0]).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    let used = use_up_descriptors();
    counters.meet(0, 2);
    assert_eq!(rx.recv_timeout(Duration::from_secs(10)), Err(RecvError::LockLost));
    drop(used);
}

#[test]
fn receiver_without_descriptors_returns_lock_lost() {
    let test_dir = TestDir::new();
    let (names, counters) = (test_dir.names(), test_dir.file("counters"));
    let arguments = [names.to_str().unwrap(), counters.to_str().unwrap()];
    let sender = start("lose_the_lock", &arguments);
    start("wait_without_descriptors", &arguments).finish();
    sender.kill();
}

fn remove_beside_clones(arguments: &[String]) {
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    let cloner = thread::spawn(|| {
        while !IS_OVER.load(Ordering::Relaxed) {
            // SAFETY: a child with a copy of the memory, which makes system calls only.
            unsafe {
                if libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) == 0 {
                    let second = libc::timespec { tv_sec: 1, tv_nsec: 0 };
                    libc::syscall(libc::SYS_nanosleep, &second, 0);
                    libc::syscall(libc::SYS_exit_group, 0);
                }
            }
            thread::sleep(Duration::from_micros(500));
        }
    });
    for number in 0..3000 {
        drop(queue(&arguments[0]).receiver(&number.to_string()).unwrap());
        assert!(!Path::new(&arguments[0]).join(number.to_string()).exists(), "name {number} has stayed");
    }
    IS_OVER.store(true, Ordering::Relaxed);
    cloner.join().unwrap();
    // SAFETY: waits for children of ours.
    while unsafe { libc::waitpid(-1, null_mut(), 0) } > 0 {}
}

#[test]
fn name_last_one_leaves_beside_raw_clones_is_removed() {
    let test_dir = TestDir::new();
    start("remove_beside_clones", &[test_dir.names().to_str().unwrap()]).finish();
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

/// The words look as if a sender was killed with a claim. Then the last participant exits without
/// dropping anything.
fn end_by_exit(arguments: &[String]) {
    let rx = queue(&arguments[0]).receiver(NAME).unwrap();
    let file = File::options().read(true).write(true).open(Path::new(&arguments[0]).join(NAME)).unwrap();
    let map = MmapOptions::new().map_raw(file.as_raw_fd()).unwrap();
    // SAFETY: in the mapping, aligned, and used as atomics only.
    let word = |index: usize| unsafe { &*map.as_mut_ptr().cast::<AtomicU64>().add(index) };
    let lane = 0x580 / 8 + 3 * 16;
    // Its pid, start time, role, claim of position 0, and that it is present.
    for (at, value) in [(0, 1), (1, 1), (5, 1), (8, 1 << 6 | 1), (3, 1)] {
        word(lane + at).store(value, Ordering::SeqCst);
    }
    word(0x200 / 8).store(1, Ordering::SeqCst);
    forget(rx);
    std::process::exit(0);
}

#[test]
fn name_last_one_exits_with_unsent_message_of_dead_is_removed() {
    let test_dir = TestDir::new();
    start("end_by_exit", &[test_dir.names().to_str().unwrap()]).finish();
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

const ROUNDS: u64 = 20;

/// Words of the counters in [`leave`].
const IS_THERE: usize = 0;
const MAY_LEAVE: usize = 1;
const HAS_LEFT: usize = 2;

fn send_and_stay(arguments: &[String]) {
    let (names, counters) = (Path::new(&arguments[0]), SharedCounters::at(Path::new(&arguments[1])));
    let pipe = pipe::Options::<u64>::new().directory(names).sender("pipe").unwrap();
    let queue = queue::Options::<u64>::new().directory(names).sender(NAME).unwrap();
    counters.meet(IS_THERE, 3);
    thread::sleep(Duration::from_secs(600));
    drop((pipe, queue));
}

fn leave(arguments: &[String]) {
    let (names, counters) = (Path::new(&arguments[0]), SharedCounters::at(Path::new(&arguments[1])));
    let pipe = pipe::Options::<u64>::new().directory(names).receiver("pipe").unwrap();
    let queue = queue::Options::<u64>::new().directory(names).receiver(NAME).unwrap();
    counters.meet(IS_THERE, 3);
    until(|| counters.word(MAY_LEAVE).load(Ordering::SeqCst) == 1);
    drop((pipe, queue));
    counters.word(HAS_LEFT).store(1, Ordering::SeqCst);
}

/// What it finds out does not depend on how long it takes.
#[test]
fn name_last_one_stopped_while_leaving_is_removed() {
    for _ in 0..ROUNDS {
        let test_dir = TestDir::new();
        let (names, counters) = (test_dir.names(), test_dir.file("counters"));
        let arguments = [names.to_str().unwrap(), counters.to_str().unwrap()];
        let counters = SharedCounters::at(&counters);
        let sender = start("send_and_stay", &arguments);
        let receiver = start("leave", &arguments);
        counters.meet(IS_THERE, 3);
        sender.kill();
        counters.word(MAY_LEAVE).store(1, Ordering::SeqCst);
        while counters.word(HAS_LEFT).load(Ordering::SeqCst) == 0 {
            receiver.signal(libc::SIGSTOP);
            thread::sleep(Duration::from_millis(2));
            receiver.signal(libc::SIGCONT);
            thread::sleep(Duration::from_micros(20));
        }
        receiver.finish();
        assert_eq!(test_dir.leftovers(), [""; 0], "a name has stayed");
    }
}
