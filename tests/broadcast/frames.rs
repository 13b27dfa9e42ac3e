//! Frames: large messages that are written and read in place, by processes that are killed, stopped
//! and slow.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use tombolo::broadcast::{
    BytePublisher, ByteSubscriber, Frame, Frames, Options, Policy, ZeroCopyBytePublisher, ZeroCopyByteSubscriber,
};
use tombolo::inspect::ParticipantStatus;
use tombolo::{Endpoint, ErrorKind, RecvError, SendError};

use crate::support::{
    Process, Random, SharedCounters, TestDir, message, number_of, start, stress_factor, stress_random, until,
};

const NAME: &str = "frames";

/// The endpoint that copies.
trait Inner {
    type Endpoint;

    fn inner(&mut self) -> &mut Self::Endpoint;
}

impl Inner for ZeroCopyBytePublisher {
    type Endpoint = BytePublisher;

    fn inner(&mut self) -> &mut BytePublisher {
        // SAFETY: no test replaces it.
        unsafe { self.get_mut() }
    }
}

impl Inner for ZeroCopyByteSubscriber {
    type Endpoint = ByteSubscriber;

    fn inner(&mut self) -> &mut ByteSubscriber {
        // SAFETY: no test replaces it.
        unsafe { self.get_mut() }
    }
}
const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(60);
/// Not a multiple of a page, nor of eight.
const LENGTH: usize = 20_003;

fn frames(count: usize) -> Options<[u8]> {
    Options::bytes().capacity(4).max_subscribers(4).frames(Frames { count, bytes: LENGTH })
}

fn create(options: &Options<[u8]>) -> (ZeroCopyBytePublisher, ZeroCopyByteSubscriber) {
    let (publisher, subscriber) = options.create().unwrap();
    // SAFETY: both endpoints belong to this process.
    unsafe { (publisher.into_zero_copy().unwrap(), subscriber.into_zero_copy().unwrap()) }
}

fn publisher(options: &Options<[u8]>) -> ZeroCopyBytePublisher {
    // SAFETY: every process that has the name runs this test.
    unsafe { options.publisher(NAME).unwrap().into_zero_copy().unwrap() }
}

fn subscriber(options: &Options<[u8]>) -> ZeroCopyByteSubscriber {
    // SAFETY: as above.
    unsafe { options.subscriber(NAME).unwrap().into_zero_copy().unwrap() }
}

fn another(publisher: &ZeroCopyBytePublisher) -> ZeroCopyByteSubscriber {
    // SAFETY: as above.
    unsafe { publisher.get_ref().subscriber().unwrap().into_zero_copy().unwrap() }
}

/// Of the length of a frame for some numbers, shorter for others. Always longer than a slot.
fn length_of(number: u64) -> usize {
    LENGTH - (number % 7) as usize * 2_801
}

fn publish(publisher: &mut ZeroCopyBytePublisher, number: u64) -> Result<(), SendError> {
    publish_within(publisher, number, LONG)
}

/// Fills a loan in place, or lets the publisher copy.
fn publish_within(publisher: &mut ZeroCopyBytePublisher, number: u64, timeout: Duration) -> Result<(), SendError> {
    let content = message(number, length_of(number));
    match number % 4 {
        0 => publisher.inner().publish_timeout(&content, timeout),
        1 => {
            let mut frame = publisher.loan_timeout(LENGTH, timeout)?;
            frame[..content.len()].copy_from_slice(&content);
            frame.publish_first(content.len())
        }
        _ => {
            let mut frame = publisher.loan_timeout(content.len(), timeout)?;
            frame.copy_from_slice(&content);
            frame.publish()
        }
    }
}

fn try_publish(publisher: &mut ZeroCopyBytePublisher, number: u64) -> Result<(), SendError> {
    publisher.try_loan(100).and_then(|mut frame| {
        frame.copy_from_slice(&message(number, 100));
        frame.publish()
    })
}

// ---- in one process ----

#[test]
fn frame_is_read_in_place_by_all_subscribers() {
    for count in [2, 3, 4, 5, 9] {
        let (mut publisher, mut first) = create(&frames(count));
        let mut second = another(&publisher);
        let mut copied = Vec::new();
        for number in 0..60 {
            publish(&mut publisher, number).unwrap();
            let frame = first.recv_frame().unwrap();
            let other = second.try_recv_frame().unwrap();
            assert_eq!([number_of(&frame), number_of(&other)], [number; 2]);
            assert_eq!(frame.len(), length_of(number));
            assert_eq!(frame.as_ptr(), other.as_ptr(), "it was copied");
            assert!((frame.as_ptr() as usize).is_multiple_of(128));
            drop(frame);
            publish(&mut publisher, number + 1000).unwrap();
            assert_eq!(first.inner().recv(&mut copied), Ok(length_of(number + 1000)));
            assert_eq!(number_of(&copied), number + 1000);
            assert_eq!(number_of(&other), number, "overwritten while it is held");
            assert_eq!(number_of(&second.recv_frame().unwrap()), number + 1000);
        }
        assert_eq!(first.try_recv_frame().unwrap_err(), RecvError::Empty);
        assert_eq!(first.recv_frame_timeout(SHORT).unwrap_err(), RecvError::TimedOut);
        drop(publisher);
        assert_eq!(first.recv_frame().unwrap_err(), RecvError::Closed);
    }
}

#[test]
fn frame_count_of_one_is_enough() {
    for policy in [Policy::Lossless, Policy::Lossy] {
        let (mut publisher, mut subscriber) = create(&frames(1).policy(policy));
        for number in 0..40 {
            publish(&mut publisher, number).unwrap();
            let frame = subscriber.recv_frame().unwrap();
            assert_eq!(try_publish(&mut publisher, 99), Err(SendError::Full));
            assert_eq!(number_of(&frame), number);
        }
    }
}

#[test]
fn lossless_publisher_without_a_free_frame_waits_and_names_the_holder() {
    let (mut publisher, mut subscriber) = create(&frames(3));
    let mut held: VecDeque<Frame> = VecDeque::new();
    for number in 0..3 {
        publish(&mut publisher, number).unwrap();
        held.push_back(subscriber.recv_frame().unwrap());
    }
    assert_eq!(publisher.try_loan(9).unwrap_err(), SendError::Full);
    assert_eq!(publisher.loan_timeout(9, SHORT).unwrap_err(), SendError::TimedOut);
    assert_eq!(publisher.loan_deadline(9, Some(Instant::now() + SHORT)).unwrap_err(), SendError::TimedOut);
    assert_eq!(publisher.inner().try_publish([7; 999]), Err(SendError::Full));
    publisher.inner().try_publish(b"a slot needs no frame").unwrap();
    let holders = publisher.get_ref().frame_holders();
    assert_eq!(holders.len(), 1);
    let holder = &holders[0];
    assert_eq!((holder.pid, holder.frames, holder.lag), (u64::from(std::process::id()), 3, 1));
    assert_eq!(holder.status, ParticipantStatus::Alive);
    assert_eq!(publisher.get_ref().slowest().unwrap().frames, 3);
    // Given back in another order than received.
    for (index, number) in [(1, 1), (1, 2), (0, 0)] {
        let frame = held.remove(index).unwrap();
        thread::scope(|scope| {
            let blocked = scope.spawn(|| publish(&mut publisher, number + 10));
            thread::sleep(SHORT);
            assert_eq!(number_of(&frame), number);
            drop(frame);
            assert_eq!(blocked.join().unwrap(), Ok(()));
        });
        assert!(held.iter().all(|frame| number_of(frame) < 3));
    }
    assert!(publisher.get_ref().frame_holders().is_empty());
    assert_eq!(&*subscriber.recv_frame().unwrap(), b"a slot needs no frame");
    let received: Vec<u64> = (0..3).map(|_| number_of(&subscriber.recv_frame().unwrap())).collect();
    assert_eq!(received, [11, 12, 10]);
}

#[test]
fn lossless_publisher_waits_for_messages_that_were_not_received() {
    let (mut publisher, mut subscriber) = create(&frames(2));
    publish(&mut publisher, 0).unwrap();
    publish(&mut publisher, 1).unwrap();
    assert_eq!(try_publish(&mut publisher, 2), Err(SendError::Full), "there are two frames, and four slots");
    assert_eq!(number_of(&subscriber.recv_frame().unwrap()), 0);
    publish(&mut publisher, 2).unwrap();
    assert_eq!(number_of(&subscriber.recv_frame().unwrap()), 1);
    assert_eq!(number_of(&subscriber.recv_frame().unwrap()), 2);
}

#[test]
fn lossy_publisher_gives_up_the_oldest_message_and_waits_only_for_leases() {
    let (mut publisher, mut subscriber) = create(&frames(3).policy(Policy::Lossy));
    publish(&mut publisher, 0).unwrap();
    let held = subscriber.recv_frame().unwrap();
    for number in 1..50 {
        publish(&mut publisher, number).unwrap();
    }
    let Err(RecvError::Lagged { missed }) = subscriber.recv_frame() else { panic!("two frames hold two messages") };
    let first = subscriber.recv_frame().unwrap();
    assert_eq!(number_of(&first), missed + 1);
    let second = subscriber.recv_frame().unwrap();
    assert_eq!((number_of(&held), number_of(&first), number_of(&second)), (0, 48, 49));
    assert_eq!(try_publish(&mut publisher, 50), Err(SendError::Full));
    drop(first);
    try_publish(&mut publisher, 50).unwrap();
    try_publish(&mut publisher, 51).unwrap();
    assert_eq!((number_of(&held), number_of(&second)), (0, 49));
    assert_eq!(subscriber.recv_frame().unwrap_err(), RecvError::Lagged { missed: 1 });
    assert_eq!(number_of(&subscriber.recv_frame().unwrap()), 51);
}

#[test]
fn evicting_publisher_evicts_instead_of_waiting_and_the_evicted_keeps_its_frame() {
    // With more slots than frames, too.
    for capacity in [4, 16] {
        let options = frames(6).capacity(capacity).policy(Policy::EvictSlow { lag: 4 });
        let (mut publisher, mut slow) = create(&options);
        let mut fast = another(&publisher);
        publish(&mut publisher, 0).unwrap();
        let held = slow.recv_frame().unwrap();
        for number in 1..30 {
            try_publish(&mut publisher, number).unwrap();
        }
        assert_eq!(slow.recv_frame().unwrap_err(), RecvError::Evicted);
        assert_eq!(number_of(&held), 0);
        assert_eq!((slow.inner().rejoin(), fast.inner().rejoin()), (Ok(29), Ok(30)));
        publish(&mut publisher, 30).unwrap();
        assert_eq!([number_of(&slow.recv_frame().unwrap()), number_of(&held)], [30, 0]);
        for number in 31..50 {
            try_publish(&mut publisher, number).unwrap();
            assert_eq!(number_of(&slow.recv_frame().unwrap()), number, "it never lags more than allowed");
        }
        assert_eq!(fast.recv_frame().unwrap_err(), RecvError::Evicted);
    }
}

#[test]
fn frame_loan_that_is_dropped_is_free_again() {
    for policy in [Policy::Lossless, Policy::Lossy] {
        let (mut publisher, mut subscriber) = create(&frames(1).policy(policy));
        for number in 0..20 {
            for _ in 0..3 {
                publisher.loan(LENGTH).unwrap().fill(0xEE);
            }
            assert_eq!(subscriber.try_recv_frame().unwrap_err(), RecvError::Empty);
            publish(&mut publisher, number).unwrap();
            assert_eq!(number_of(&subscriber.recv_frame().unwrap()), number);
        }
    }
}

#[test]
fn frame_outlives_its_subscriber_whose_place_it_keeps() {
    let (mut publisher, mut subscriber) = create(&frames(2).max_subscribers(1));
    publish(&mut publisher, 0).unwrap();
    let frame = subscriber.recv_frame().unwrap();
    drop(subscriber);
    for number in 1..10 {
        publish(&mut publisher, number).unwrap();
        assert_eq!(number_of(&frame), 0);
    }
    assert_eq!(publisher.get_ref().frame_holders()[0].status, ParticipantStatus::Alive);
    let error = publisher.get_ref().subscriber().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyParticipants, "{error}");
    thread::scope(|scope| scope.spawn(move || assert_eq!(number_of(&frame), 0)).join().unwrap());
    let mut next = another(&publisher);
    publish(&mut publisher, 10).unwrap();
    let frame = next.recv_frame().unwrap();
    drop((publisher, next));
    assert_eq!(number_of(&frame), 10, "the frame has the mapping");
}

#[test]
fn subscriber_with_frames_is_not_passed_on() {
    let (mut publisher, mut subscriber) = create(&frames(2));
    publish(&mut publisher, 0).unwrap();
    let frame = subscriber.recv_frame().unwrap();
    let error = subscriber.into_inner().into_fd().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("frame"), "{error}");
    drop(frame);
    let subscriber = publisher.get_ref().subscriber().unwrap();
    subscriber.into_fd().unwrap();
}

#[test]
fn frame_message_is_copied_into_a_buffer_that_is_large_enough() {
    let (mut publisher, mut subscriber) = create(&frames(1));
    publish(&mut publisher, 1).unwrap();
    let (subscriber, needed) = (subscriber.inner(), length_of(1));
    let mut buffer = vec![0; LENGTH];
    assert_eq!(subscriber.recv_into(&mut buffer[..needed - 1]), Err(RecvError::BufferTooSmall { needed }));
    assert_eq!(subscriber.recv_into(&mut buffer), Ok(needed));
    assert_eq!(number_of(&buffer[..needed]), 1);
    assert_eq!(publisher.loan(LENGTH + 1000).unwrap_err(), SendError::TooLarge { length: 21_003, limit: 20_096 });
    let too_large = publisher.inner().publish(vec![0; 20_097]);
    assert_eq!(too_large, Err(SendError::TooLarge { length: 20_097, limit: 20_096 }));
    publisher.loan(0).unwrap().publish().unwrap();
    assert_eq!(subscriber.recv_into(&mut []), Ok(0));
}

#[test]
fn frames_that_cannot_work_are_refused() {
    let (publisher, subscriber) = Options::bytes().create().unwrap();
    // SAFETY: both endpoints belong to this process.
    let errors = unsafe { [publisher.into_zero_copy().unwrap_err(), subscriber.into_zero_copy().unwrap_err()] };
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("`frames`"), "{error}");
    }
    for (options, what) in [
        (frames(2).history(2), "number of frames"),
        (frames(1).policy(Policy::EvictSlow { lag: 3 }), "lag"),
        (Options::bytes().frames(Frames { count: 3, bytes: 0 }), "length of a frame"),
        (Options::bytes().frames(Frames { count: 1 << 40, bytes: 9 }), "number of frames"),
        (Options::bytes().frames(Frames { count: 1 << 24, bytes: 1 << 40 }), "capacity"),
    ] {
        let error = options.create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn newcomer_gets_the_history_of_frames() {
    let dir = TestDir::new();
    let options = frames(5).history(2).directory(dir.names());
    let mut publisher = publisher(&options);
    for number in 0..9 {
        publish(&mut publisher, number).unwrap();
    }
    let mut late = subscriber(&options);
    assert_eq!([late.recv_frame(), late.recv_frame()].map(|frame| number_of(&frame.unwrap())), [7, 8]);
    drop(publisher);
    // A successor knows which frames are named.
    let mut publisher = crate::frames::publisher(&options);
    let mut later = subscriber(&options);
    publish(&mut publisher, 9).unwrap();
    let received: Vec<u64> = (0..3).map(|_| number_of(&later.recv_frame().unwrap())).collect();
    assert_eq!(received, [7, 8, 9]);
}

/// It takes no lease, so the publisher never waits for it.
#[test]
fn observer_copies_frames_or_is_told_what_it_missed() {
    for policy in [Policy::Lossless, Policy::Lossy] {
        let dir = TestDir::new();
        let options = frames(2).policy(policy).directory(dir.names());
        let mut publisher = publisher(&options);
        let mut observer = options.observer(NAME).unwrap();
        let (mut message, mut copied, mut missed) = (Vec::new(), 0, 0);
        for number in 0..20 {
            publish(&mut publisher, number).unwrap();
            assert_eq!(observer.recv(&mut message), Ok(length_of(number)));
            assert_eq!(number_of(&message), number);
        }
        thread::scope(|scope| {
            scope.spawn(move || (20..2_000).for_each(|number| publish(&mut publisher, number).unwrap()));
            let mut next = 20;
            loop {
                match observer.recv(&mut message) {
                    Ok(_) => {
                        assert_eq!(number_of(&message), next);
                        (copied, next) = (copied + 1, next + 1);
                    }
                    Err(RecvError::Lagged { missed: count }) => (missed, next) = (missed + count, next + count),
                    Err(end) => break assert_eq!(end, RecvError::Closed),
                }
            }
            assert_eq!(next, 2_000);
        });
        assert!(copied > 0, "{missed} missed");
    }
}

// ---- processes ----

/// Where the processes of a test meet.
fn counters(dir: &Path) -> SharedCounters {
    SharedCounters::at(&dir.join("counters"))
}

const READY: usize = 0;
const GO: usize = 1;

/// Options that are passed to a role: directory, frames, subscribers, lossy or not.
fn options(dir: &Path, count: usize, subscribers: usize, policy: Policy) -> Options<[u8]> {
    frames(count).max_subscribers(subscribers).policy(policy).directory(dir.join("names"))
}

fn from_arguments(arguments: &[String]) -> (PathBuf, Options<[u8]>) {
    let dir = PathBuf::from(&arguments[0]);
    let policy = if arguments[3] == "lossy" { Policy::Lossy } else { Policy::Lossless };
    let options = options(&dir, arguments[1].parse().unwrap(), arguments[2].parse().unwrap(), policy);
    (dir, options)
}

fn start_role(role: &str, dir: &TestDir, count: usize, subscribers: usize, policy: Policy, seed: u64) -> Process {
    let directory = dir.file("");
    let policy = if policy == Policy::Lossy { "lossy" } else { "lossless" };
    let numbers = [count, subscribers].map(|number| number.to_string());
    start(role, &[directory.to_str().unwrap(), &numbers[0], &numbers[1], policy, &seed.to_string()])
}

/// Receives two messages, holds them until told, and then receives on.
pub fn hold_two_frames(arguments: &[String]) {
    let (dir, options) = from_arguments(arguments);
    let mut subscriber = subscriber(&options);
    let counters = counters(&dir);
    counters.word(READY).fetch_add(1, Ordering::SeqCst);
    let held = [subscriber.recv_frame().unwrap(), subscriber.recv_frame().unwrap()];
    counters.word(READY).fetch_add(1, Ordering::SeqCst);
    until(|| counters.word(GO).load(Ordering::SeqCst) > 0);
    held.iter().zip(0..).for_each(|(frame, number)| assert_eq!(number_of(frame), number));
    drop(held);
    while subscriber.recv_frame().is_ok() {}
}

fn wait_until_ready(counters: &SharedCounters, count: u64) {
    until(|| counters.word(READY).load(Ordering::SeqCst) >= count);
}

/// A publisher, and a process that holds both of its frames.
fn with_holder(dir: &TestDir, subscribers: usize, policy: Policy) -> (ZeroCopyBytePublisher, Process) {
    let options = options(&dir.file(""), 2, subscribers, policy);
    let mut publisher = publisher(&options);
    let holder = start_role("hold_two_frames", dir, 2, subscribers, policy, 0);
    let counters = counters(&dir.file(""));
    wait_until_ready(&counters, 1);
    publish(&mut publisher, 0).unwrap();
    publish(&mut publisher, 1).unwrap();
    wait_until_ready(&counters, 2);
    assert_eq!(publisher.loan_timeout(9, SHORT).unwrap_err(), SendError::TimedOut);
    (publisher, holder)
}

#[test]
fn frame_holder_killed_publisher_goes_on() {
    for policy in [Policy::Lossless, Policy::Lossy] {
        let dir = TestDir::new();
        let (mut publisher, holder) = with_holder(&dir, 4, policy);
        let pid = holder.pid() as u64;
        let holders = publisher.get_ref().frame_holders();
        assert_eq!((holders.len(), holders[0].pid, holders[0].frames), (1, pid, 2));
        thread::scope(|scope| {
            let blocked = scope.spawn(|| publish(&mut publisher, 2));
            thread::sleep(SHORT);
            holder.kill();
            assert_eq!(blocked.join().unwrap(), Ok(()));
        });
        assert!(publisher.get_ref().frame_holders().is_empty());
        (3..20).for_each(|number| publish(&mut publisher, number).unwrap());
    }
}

#[test]
fn frame_holder_killed_try_loan_succeeds_after_some_calls() {
    let dir = TestDir::new();
    let (mut publisher, holder) = with_holder(&dir, 4, Policy::Lossless);
    holder.kill();
    until(|| try_publish(&mut publisher, 2).is_ok());
}

#[test]
fn frame_holder_stopped_is_waited_for_and_named() {
    let dir = TestDir::new();
    let (mut publisher, holder) = with_holder(&dir, 4, Policy::Lossy);
    holder.signal(libc::SIGSTOP);
    assert_eq!(publisher.loan_timeout(9, 4 * SHORT).unwrap_err(), SendError::TimedOut);
    let found = &publisher.get_ref().frame_holders()[0];
    assert_eq!((found.pid, found.status, found.frames), (holder.pid() as u64, ParticipantStatus::Alive, 2));
    counters(&dir.file("")).word(GO).store(1, Ordering::SeqCst);
    holder.signal(libc::SIGCONT);
    publish(&mut publisher, 2).unwrap();
    drop(publisher);
    holder.finish();
}

/// The publisher does not ask the kernel, because it never waits.
#[test]
fn frame_holder_killed_newcomer_in_its_place_has_no_frames() {
    let dir = TestDir::new();
    let (mut publisher, holder) = with_holder(&dir, 1, Policy::Lossy);
    holder.kill();
    let mut newcomer = subscriber(&options(&dir.file(""), 2, 1, Policy::Lossy));
    assert!(publisher.get_ref().frame_holders().is_empty());
    try_publish(&mut publisher, 2).unwrap();
    let held = newcomer.recv_frame().unwrap();
    for number in 3..20 {
        try_publish(&mut publisher, number).unwrap();
        assert_eq!(number_of(&newcomer.recv_frame().unwrap()), number);
    }
    assert_eq!(number_of(&held), 2);
}

/// Publishes two messages, writes half of another one, and waits to be killed.
pub fn die_with_a_loan(arguments: &[String]) {
    let (dir, options) = from_arguments(arguments);
    let mut publisher = publisher(&options);
    publish(&mut publisher, 0).unwrap();
    publish(&mut publisher, 1).unwrap();
    let mut frame = publisher.loan(LENGTH).unwrap();
    frame[..LENGTH / 2].fill(0xEE);
    counters(&dir).word(READY).fetch_add(1, Ordering::SeqCst);
    thread::sleep(2 * LONG);
}

#[test]
fn publisher_killed_with_a_loan_successor_has_all_frames() {
    for policy in [Policy::Lossless, Policy::Lossy] {
        let dir = TestDir::new();
        let options = options(&dir.file(""), 4, 4, policy).wait_for_successor();
        let mut subscriber = subscriber(&options);
        let process = start_role("die_with_a_loan", &dir, 4, 4, policy, 0);
        wait_until_ready(&counters(&dir.file("")), 1);
        let held = subscriber.recv_frame().unwrap();
        process.kill();
        let mut successor = publisher(&options);
        // One is held, one is named, the others are free.
        publish(&mut successor, 2).unwrap();
        publish(&mut successor, 3).unwrap();
        let mut received = Vec::new();
        while let Ok(frame) = subscriber.try_recv_frame() {
            received.push(number_of(&frame));
        }
        assert_eq!(received, [1, 2, 3]);
        let all: Vec<Frame> = (10..13)
            .map(|number| {
                publish(&mut successor, number).unwrap();
                subscriber.recv_frame().unwrap()
            })
            .collect();
        assert_eq!(try_publish(&mut successor, 13), Err(SendError::Full));
        assert_eq!(number_of(&held), 0);
        assert!(all.iter().zip(10..).all(|(frame, number)| number_of(frame) == number));
    }
}

const PUBLISHED: usize = 2;
/// Of each subscriber.
const RECEIVED: usize = 8;

/// Publishes numbers until it is told to stop.
pub fn publish_frames(arguments: &[String]) {
    let (dir, options) = from_arguments(arguments);
    let counters = counters(&dir);
    let mut publisher = publisher(&options);
    while counters.word(GO).load(Ordering::SeqCst) == 0 {
        let number = counters.word(PUBLISHED).fetch_add(1, Ordering::SeqCst);
        match publish_within(&mut publisher, number, SHORT) {
            Ok(()) | Err(SendError::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Receives, holds some frames for a while, and drops them in any order. Looks at each twice.
pub fn hold_and_drop_frames(arguments: &[String]) {
    let (dir, options) = from_arguments(arguments);
    let index: usize = arguments[4].parse().unwrap();
    let mut random = Random(u64::from(std::process::id()) << 8 | 1);
    let counters = counters(&dir);
    let mut subscriber = subscriber(&options.clone().wait_for_successor());
    let (mut held, mut last, mut copied) = (Vec::<(Frame, u64)>::new(), 0, Vec::new());
    while counters.word(GO).load(Ordering::SeqCst) == 0 {
        let number = match random.below(4) {
            0 => subscriber.inner().recv_timeout(&mut copied, SHORT).map(|_| number_of(&copied)),
            _ => subscriber.recv_frame_timeout(SHORT).map(|frame| {
                let number = number_of(&frame);
                held.push((frame, number));
                number
            }),
        };
        match number {
            Ok(number) => {
                counters.word(RECEIVED + index).fetch_add(1, Ordering::Relaxed);
                assert!(last == 0 || number > last, "{number} after {last}");
                last = number;
            }
            Err(RecvError::TimedOut | RecvError::Lagged { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        while held.len() > random.below(3) as usize {
            let (frame, number) = held.swap_remove(random.below(held.len() as u64) as usize);
            assert_eq!(number_of(&frame), number, "overwritten while it was held");
        }
    }
}

#[test]
fn frames_of_processes_that_are_killed_are_never_torn() {
    for (policy, seed) in [(Policy::Lossless, 1), (Policy::Lossy, 2)] {
        let dir = TestDir::new();
        let mut random = stress_random(seed);
        let counters = counters(&dir.file(""));
        let start_one = |number: usize| {
            let role = if number == 0 { "publish_frames" } else { "hold_and_drop_frames" };
            start_role(role, &dir, 12, 3, policy, number as u64)
        };
        let mut processes: Vec<Process> = (0..3).map(start_one).collect();
        let received = || {
            counters.word(RECEIVED + 1).load(Ordering::Relaxed).min(counters.word(RECEIVED + 2).load(Ordering::Relaxed))
        };
        let (started, mut kills) = (Instant::now(), 0);
        while started.elapsed() < Duration::from_secs(2) * stress_factor() as u32 || received() < 100 {
            thread::sleep(Duration::from_millis(random.below(60)));
            let victim = random.below(3) as usize;
            processes.remove(victim).kill();
            processes.insert(victim, start_one(victim));
            kills += 1;
        }
        counters.word(GO).store(1, Ordering::SeqCst);
        processes.into_iter().for_each(Process::finish);
        assert!(kills > 10, "{kills}");
    }
}

// ---- hostile words ----

/// The words of a region, as a hostile process writes them.
struct Intruder(MmapRaw);

impl Intruder {
    fn at(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        Self(MmapOptions::new().map_raw(&file).unwrap())
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.0.len() / 8);
        // SAFETY: in the mapping, aligned, and used as an atomic only.
        unsafe { &*self.0.as_mut_ptr().cast::<AtomicU64>().add(index) }
    }

    /// The slot of the message of that length that lies in a frame.
    fn slot(&self, length: usize) -> usize {
        let header = 1 << 62 | length as u64;
        (0..self.0.len() / 8).find(|&index| self.word(index).load(Ordering::SeqCst) == header).unwrap()
    }

    /// The leases of frame 0, of which one subscriber holds the frame, and one word is changed by that.
    fn leases(&self, hold: impl FnOnce()) -> usize {
        let load = || (0..1 << 10).map(|index| self.word(index).load(Ordering::SeqCst)).collect::<Vec<_>>();
        let before = load();
        hold();
        let after = load();
        (0..before.len()).rfind(|&index| before[index] == 0 && after[index] == 1).unwrap()
    }
}

#[test]
fn slot_with_hostile_words_is_corrupt_or_another_message() {
    for (header, frame) in [
        (1 << 62 | 500, 2),
        (1 << 62 | 500, u64::MAX),
        (1 << 62 | 500, 1 << 61),
        (1 << 62 | 30_000, 0),
        (1 << 62 | ((1 << 62) - 1), 0),
    ] {
        let dir = TestDir::new();
        let options = frames(2).directory(dir.names());
        let (mut publisher, mut subscriber) = (publisher(&options), subscriber(&options));
        publish(&mut publisher, 1).unwrap();
        let intruder = Intruder::at(&dir.names().join(NAME));
        let slot = intruder.slot(length_of(1));
        intruder.word(slot).store(header, Ordering::SeqCst);
        intruder.word(slot + 1).store(frame, Ordering::SeqCst);
        assert_eq!(subscriber.try_recv_frame().unwrap_err(), RecvError::Corrupt);
        assert_eq!(subscriber.inner().try_recv(&mut Vec::new()), Err(RecvError::Corrupt));
        // A successor reads the slots, too.
        drop(publisher);
        let mut successor = crate::frames::publisher(&options);
        for number in 0..3 {
            assert!(matches!(try_publish(&mut successor, number), Ok(()) | Err(SendError::Full)));
        }
    }
}

#[test]
fn lease_that_nobody_has_set_is_waited_for_with_a_deadline() {
    let dir = TestDir::new();
    let options = frames(1).directory(dir.names());
    let (mut publisher, mut subscriber) = (publisher(&options), subscriber(&options));
    let intruder = Intruder::at(&dir.names().join(NAME));
    publish(&mut publisher, 1).unwrap();
    let mut held = None;
    let leases = intruder.leases(|| held = Some(subscriber.recv_frame().unwrap()));
    drop(held);
    // Of a subscriber that there cannot be.
    intruder.word(leases).store(1 << 40, Ordering::SeqCst);
    assert_eq!(publisher.loan_timeout(9, SHORT).unwrap_err(), SendError::TimedOut);
    assert!(publisher.get_ref().frame_holders().is_empty());
    // Of one that there is not: cleared.
    intruder.word(leases).store(1 << 3, Ordering::SeqCst);
    publish(&mut publisher, 2).unwrap();
    assert_eq!(intruder.word(leases).load(Ordering::SeqCst), 0);
    // Of the subscriber that is about to set it.
    intruder.word(leases).store(1, Ordering::SeqCst);
    assert_eq!(subscriber.try_recv_frame().unwrap_err(), RecvError::Corrupt);
    // None, though one holds it: the frame is filled while it is read, which only `unsafe` shows.
    intruder.word(leases).store(0, Ordering::SeqCst);
    drop(subscriber.recv_frame().unwrap());
    publish(&mut publisher, 3).unwrap();
}
