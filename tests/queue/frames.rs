//! Messages that are written and read in place: who has a block, and how it comes back.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use crate::processes::{MOMENT, NAME, enter, stay};
use crate::support::{Process, SharedCounters, TestDir, message, number_of, until};
use tombolo::queue::{self, Blocks, Shortage, ZeroCopyByteReceiver, ZeroCopyByteSender};
use tombolo::{Endpoint, ErrorKind, RecvError, SendError};

const FRAME: usize = 1 << 20;

/// Frames of 1 MiB in so many blocks, and nothing longer.
fn frames(test_dir: &TestDir, blocks: usize) -> queue::Options<[u8]> {
    of_blocks(blocks).directory(test_dir.names())
}

fn of_blocks(count: usize) -> queue::Options<[u8]> {
    queue::Options::bytes()
        .capacity(8)
        .max_participants(8)
        .blocks(Blocks { count, bytes: FRAME })
        .max_message_bytes(FRAME)
}

fn sender(options: &queue::Options<[u8]>) -> ZeroCopyByteSender {
    // SAFETY: the processes of a test use the region through the library only.
    unsafe { options.sender(NAME).unwrap().into_zero_copy().unwrap() }
}

fn receiver(options: &queue::Options<[u8]>) -> ZeroCopyByteReceiver {
    // SAFETY: as above.
    unsafe { options.receiver(NAME).unwrap().into_zero_copy().unwrap() }
}

fn fill(tx: &mut ZeroCopyByteSender, number: u64) -> Result<(), SendError> {
    let mut frame = tx.loan_timeout(FRAME, 100 * MOMENT)?;
    frame.copy_from_slice(&message(number, FRAME));
    frame.send()
}

/// The arguments of a process of these tests: options and counters.
fn of_arguments(arguments: &[String]) -> (queue::Options<[u8]>, SharedCounters) {
    (of_blocks(3).directory(&arguments[0]), SharedCounters::at(arguments[1].as_ref()))
}

fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

/// Starts a process and waits until it is where it stays.
fn start_staying(test_dir: &TestDir, role: &str) -> Process {
    let process = enter(test_dir, role, &[]);
    counters(test_dir).meet(0, 2);
    process
}

#[test]
fn queue_frames_dropped_out_of_order_blocks_are_used_again() {
    let test_dir = TestDir::new();
    let options = frames(&test_dir, 4);
    let (mut tx, mut rx) = (sender(&options), receiver(&options));
    assert_eq!(tx.max_frame_bytes(), FRAME);
    for round in 0..4 {
        (0..4).for_each(|index| fill(&mut tx, 4 * round + index).unwrap());
        let mut held: Vec<_> = (0..4).map(|_| Some(rx.recv_frame().unwrap())).collect();
        assert_eq!(tx.get_ref().stats().used_blocks, 4);
        for index in [2, 0, 3, 1] {
            assert!(tx.try_loan(1).is_err() || index != 2, "all blocks are held");
            assert_eq!(number_of(held[index].as_ref().unwrap()), 4 * round + index as u64);
            held[index] = None;
            drop(tx.try_loan(1).unwrap());
        }
    }
    assert_eq!(tx.get_ref().stats().used_blocks, 0);
}

#[test]
fn queue_loan_without_free_block_is_full() {
    let test_dir = TestDir::new();
    let options = frames(&test_dir, 2);
    let (mut tx, mut rx) = (sender(&options), receiver(&options));
    fill(&mut tx, 1).unwrap();
    let first = rx.recv_frame().unwrap();
    fill(&mut tx, 2).unwrap();
    assert_eq!(tx.try_loan(FRAME).err(), Some(SendError::Full));
    assert_eq!(tx.loan_timeout(FRAME, MOMENT).err(), Some(SendError::TimedOut));
    assert_eq!(tx.get_ref().stats().shortage(FRAME), Some(Shortage::Blocks));
    let waiting = thread::spawn(move || {
        fill(&mut tx, 3).unwrap();
        tx
    });
    thread::sleep(MOMENT);
    drop(first); // wakes it
    let mut tx = waiting.join().unwrap();
    assert_eq!([2, 3].map(|_| number_of(&rx.recv_frame().unwrap())), [2, 3]);
    // Dropped, or sent in part.
    tx.loan(FRAME).unwrap().fill(1);
    let mut frame = tx.loan(FRAME).unwrap();
    frame[..2].copy_from_slice(b"ab");
    frame.send_first(2).unwrap();
    assert_eq!(&*rx.recv_frame().unwrap(), b"ab");
    assert_eq!(rx.try_recv_frame().err(), Some(RecvError::Empty));
    let found = tx.loan(FRAME + 1).err();
    assert_eq!(found, Some(SendError::TooLarge { length: FRAME + 1, limit: FRAME }));
}

#[test]
fn queue_frame_in_slot_or_extent_is_copied() {
    let _watchdog = TestDir::new();
    let options = queue::Options::bytes().capacity(4).blocks(Blocks { count: 1, bytes: 4096 }).extents(1);
    let (tx, rx) = options.max_message_bytes(10_000).create_channel().unwrap();
    // SAFETY: both ends are ours.
    let (mut tx, mut rx) = unsafe { (tx.into_zero_copy().unwrap(), rx.into_zero_copy().unwrap()) };
    for length in [10, 300, 9000] {
        tx.send(message(1, length)).unwrap();
        let frame = rx.recv_frame().unwrap();
        assert_eq!(*frame, message(1, length)[..]);
        let stats = tx.get_ref().stats();
        assert_eq!((stats.used_blocks, stats.used_extents), (u64::from(length == 300), 0));
    }
    // What is written in place can be received by copying, and the other way round.
    tx.loan(4096).unwrap().send().unwrap();
    assert_eq!(rx.into_inner().recv(&mut Vec::new()), Ok(4096));
    assert_eq!(tx.get_ref().stats().pooled, 0);
}

#[test]
fn queue_frame_without_blocks_or_with_frames_is_refused() {
    let _watchdog = TestDir::new();
    let options = queue::Options::bytes().blocks(Blocks { count: 0, bytes: 0 }).capacity(4);
    let (tx, rx) = options.create_channel().unwrap();
    // SAFETY: both ends are ours.
    let errors = unsafe { [tx.into_zero_copy().err(), rx.into_zero_copy().err()] };
    for error in errors {
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("a queue without blocks"), "{error}");
    }
    let (tx, rx) = of_blocks(2).create_channel().unwrap();
    // SAFETY: as above.
    let (mut tx, mut rx) = unsafe { (tx.into_zero_copy().unwrap(), rx.into_zero_copy().unwrap()) };
    fill(&mut tx, 1).unwrap();
    let frame = rx.recv_frame().unwrap();
    let error = rx.into_inner().into_fd().unwrap_err();
    assert!(error.to_string().contains("frames that are not dropped"), "{error}");
    assert_eq!(number_of(&frame), 1);
}

/// Holds two frames at a time, and drops the later one first.
pub fn work_on_frames(arguments: &[String]) {
    let (options, counters) = of_arguments(arguments);
    let mut rx = receiver(&options);
    counters.meet(0, 4);
    let mut held = None;
    loop {
        match rx.recv_frame_timeout(MOMENT) {
            Ok(frame) => {
                counters.word(8 + number_of(&frame) as usize).fetch_add(1, SeqCst);
                rx.task_done().unwrap();
                if held.is_some() {
                    drop(frame);
                    held = None;
                } else {
                    held = Some(frame);
                }
            }
            Err(RecvError::TimedOut) => held = None,
            Err(error) => return assert_eq!(error, RecvError::Closed),
        }
    }
}

#[test]
fn queue_frames_of_three_workers_arrive_once() {
    let test_dir = TestDir::new();
    let mut tx = sender(&frames(&test_dir, 3));
    let workers: Vec<_> = (0..3).map(|_| enter(&test_dir, "work_on_frames", &[])).collect();
    let counters = counters(&test_dir);
    counters.meet(0, 4);
    (0..60).for_each(|number| fill(&mut tx, number).unwrap());
    assert_eq!(tx.join(), Ok(()));
    drop(tx);
    workers.into_iter().for_each(Process::finish);
    assert!((0..60).all(|number| counters.word(8 + number).load(SeqCst) == 1));
}

pub fn hold_two_frames(arguments: &[String]) {
    let (options, counters) = of_arguments(arguments);
    let mut rx = receiver(&options);
    let held = [rx.recv_frame().unwrap(), rx.recv_frame().unwrap()];
    counters.meet(0, 2);
    until(|| counters.word(1).load(SeqCst) == 1);
    assert_eq!([number_of(&held[0]), number_of(&held[1])], [1, 2]);
}

#[test]
fn queue_frame_holder_killed_blocks_return() {
    let test_dir = TestDir::new();
    let options = frames(&test_dir, 3);
    let (mut tx, mut other) = (sender(&options), receiver(&options));
    fill(&mut tx, 1).unwrap();
    fill(&mut tx, 2).unwrap();
    let holder = start_staying(&test_dir, "hold_two_frames");
    // The others go on with the third block.
    for number in 3..6 {
        fill(&mut tx, number).unwrap();
        assert_eq!(number_of(&other.recv_frame().unwrap()), number);
    }
    fill(&mut tx, 6).unwrap();
    assert_eq!(tx.try_loan(FRAME).err(), Some(SendError::Full));
    holder.kill();
    (7..9).for_each(|number| fill(&mut tx, number).unwrap());
    assert_eq!([6, 7, 8].map(|_| number_of(&other.recv_frame().unwrap())), [6, 7, 8]);
    let stats = tx.get_ref().stats();
    assert_eq!((stats.used_blocks, stats.lost, stats.tasks_lost), (0, 0, 2));
}

#[test]
fn queue_frame_holder_stopped_frames_stay() {
    let test_dir = TestDir::new();
    let options = frames(&test_dir, 3);
    let (mut tx, mut other) = (sender(&options), receiver(&options));
    fill(&mut tx, 1).unwrap();
    fill(&mut tx, 2).unwrap();
    let holder = start_staying(&test_dir, "hold_two_frames");
    holder.signal(libc::SIGSTOP);
    for number in 3..40 {
        fill(&mut tx, number).unwrap();
        assert_eq!(number_of(&other.recv_frame().unwrap()), number);
    }
    fill(&mut tx, 40).unwrap();
    assert_eq!(tx.loan_timeout(FRAME, 5 * MOMENT).err(), Some(SendError::TimedOut));
    counters(&test_dir).word(1).store(1, SeqCst);
    holder.signal(libc::SIGCONT);
    holder.finish();
    fill(&mut tx, 41).unwrap();
    assert_eq!(tx.get_ref().stats().used_blocks, 2);
}

/// Keeps a frame and leaves the queue.
pub fn leave_with_frame(arguments: &[String]) {
    let (options, counters) = of_arguments(arguments);
    let mut rx = receiver(&options);
    let frame = rx.recv_frame().unwrap();
    drop(rx);
    counters.meet(0, 2);
    until(|| counters.word(1).load(SeqCst) == 1);
    assert_eq!(number_of(&frame), 1);
    std::mem::forget(frame); // the process ends with it
}

#[test]
fn queue_frame_outlives_receiver_and_comes_back() {
    for is_killed in [false, true] {
        let test_dir = TestDir::new();
        let options = frames(&test_dir, 3);
        let (mut tx, rx) = (sender(&options), receiver(&options));
        fill(&mut tx, 1).unwrap();
        let holder = start_staying(&test_dir, "leave_with_frame");
        assert_eq!(tx.get_ref().stats().receivers, 1, "it has left");
        // Newcomers leave its place alone, whatever they do with theirs.
        for number in 2..12 {
            let mut newcomers: Vec<_> = (0..5).map(|_| options.receiver(NAME).unwrap()).collect();
            fill(&mut tx, number).unwrap();
            assert_eq!(newcomers[number as usize % 5].recv(&mut Vec::new()), Ok(FRAME));
            newcomers.into_iter().for_each(|newcomer| newcomer.abandon().unwrap());
        }
        assert_eq!(tx.get_ref().stats().used_blocks, 1);
        if is_killed {
            holder.kill();
        } else {
            counters(&test_dir).word(1).store(1, SeqCst);
            holder.finish();
        }
        (0..3).for_each(|number| fill(&mut tx, number).unwrap());
        assert_eq!(tx.get_ref().stats().used_blocks, 3);
        drop(receiver(&options)); // joining repairs
        assert_eq!(rx.get_ref().stats().receivers, 1);
    }
}

#[test]
fn queue_frame_outlives_receiver_keeps_its_place() {
    let test_dir = TestDir::new();
    let options = frames(&test_dir, 3).max_participants(2).open_timeout(Duration::ZERO);
    let (mut tx, mut rx) = (sender(&options), receiver(&options));
    fill(&mut tx, 1).unwrap();
    let frame = rx.recv_frame().unwrap();
    drop(rx);
    (2..4).for_each(|number| fill(&mut tx, number).unwrap());
    assert_eq!(tx.loan(1).err(), Some(SendError::Closed), "to the sender it has left");
    assert_eq!(options.receiver(NAME).unwrap_err().kind(), ErrorKind::TooManyParticipants);
    assert_eq!(number_of(&frame), 1);
    thread::spawn(move || drop(frame)).join().unwrap();
    let mut rx = receiver(&options);
    assert_eq!([2, 3].map(|_| number_of(&rx.recv_frame().unwrap())), [2, 3]);
    // The name goes with the last one, whatever frames there are.
    fill(&mut tx, 4).unwrap();
    let frame = rx.recv_frame().unwrap();
    drop((tx, rx));
    assert_eq!(number_of(&frame), 4);
    drop(frame);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

pub fn stay_with_loan(arguments: &[String]) {
    let (options, counters) = of_arguments(arguments);
    let mut tx = sender(&options);
    let mut frame = tx.loan(FRAME).unwrap();
    frame.fill(1);
    stay(&counters)
}

#[test]
fn queue_loan_of_killed_sender_returns() {
    let test_dir = TestDir::new();
    let options = frames(&test_dir, 3);
    let (mut tx, mut rx) = (sender(&options), receiver(&options));
    let holder = start_staying(&test_dir, "stay_with_loan");
    (1..3).for_each(|number| fill(&mut tx, number).unwrap());
    assert_eq!(tx.try_loan(FRAME).err(), Some(SendError::Full));
    holder.kill();
    fill(&mut tx, 3).unwrap();
    assert_eq!([1, 2, 3].map(|_| number_of(&rx.recv_frame().unwrap())), [1, 2, 3]);
    assert_eq!(tx.get_ref().stats().used_blocks, 0);
}
