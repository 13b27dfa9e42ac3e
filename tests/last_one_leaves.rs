//! A name goes with the last one, and a lost lock is no death, in processes that are short of
//! descriptors, share them with children of raw `clone` calls, or end by `exit`.

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
use support::{Board, Sandbox, parts, start};
use tombolo::{QueueOptions, RecvError};

parts!(leave_without_descriptors, wait_without_descriptors, lose_the_lock, remove_beside_clones, end_by_exit);

const NAME: &str = "queue";

fn queue(names: &str) -> QueueOptions<u64> {
    QueueOptions::values().capacity(4).max_participants(4).directory(names)
}

/// From here on this process can open nothing.
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
fn the_last_one_takes_the_name_along_though_it_has_no_free_descriptor() {
    let sandbox = Sandbox::new();
    start("leave_without_descriptors", &[sandbox.names().to_str().unwrap()]).finish();
    assert_eq!(sandbox.litter(), [""; 0]);
}

fn lose_the_lock(arguments: &[String]) {
    let board = Board::at(Path::new(&arguments[1]));
    let mut tx = queue(&arguments[0]).sender(NAME).unwrap();
    tx.send(&1).unwrap();
    // SAFETY: closes descriptors that are not ours to close, which is what this is about.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    board.meet(0, 2);
    thread::sleep(Duration::from_secs(600));
    forget(tx);
}

fn wait_without_descriptors(arguments: &[String]) {
    let board = Board::at(Path::new(&arguments[1]));
    let mut rx = queue(&arguments[0]).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    let used = use_up_descriptors();
    board.meet(0, 2);
    assert_eq!(rx.recv_timeout(Duration::from_secs(10)), Err(RecvError::LockLost));
    drop(used);
}

#[test]
fn a_lost_lock_is_no_death_to_one_that_has_no_free_descriptor() {
    let sandbox = Sandbox::new();
    let (names, board) = (sandbox.names(), sandbox.file("board"));
    let arguments = [names.to_str().unwrap(), board.to_str().unwrap()];
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
fn names_are_removed_while_children_of_raw_clones_live() {
    let sandbox = Sandbox::new();
    start("remove_beside_clones", &[sandbox.names().to_str().unwrap()]).finish();
    assert_eq!(sandbox.litter(), [""; 0]);
}

/// A sender was killed with a claim, by its words. Then the last participant ends, and drops nothing.
fn end_by_exit(arguments: &[String]) {
    let rx = queue(&arguments[0]).receiver(NAME).unwrap();
    let file = File::options().read(true).write(true).open(Path::new(&arguments[0]).join(NAME)).unwrap();
    let map = MmapOptions::new().map_raw(file.as_raw_fd()).unwrap();
    // SAFETY: in the mapping, aligned, and used as atomics only.
    let word = |index: usize| unsafe { &*map.as_mut_ptr().cast::<AtomicU64>().add(index) };
    let lane = 0x580 / 8 + 3 * 16;
    // Its number, when it began, its part, its claim of position 0, and that it is there.
    for (at, value) in [(0, 1), (1, 1), (5, 1), (8, 1 << 6 | 1), (3, 1)] {
        word(lane + at).store(value, Ordering::SeqCst);
    }
    word(0x200 / 8).store(1, Ordering::SeqCst);
    forget(rx);
    std::process::exit(0);
}

#[test]
fn what_the_dead_did_not_send_keeps_no_name_when_the_last_one_exits() {
    let sandbox = Sandbox::new();
    start("end_by_exit", &[sandbox.names().to_str().unwrap()]).finish();
    assert_eq!(sandbox.litter(), [""; 0]);
}
