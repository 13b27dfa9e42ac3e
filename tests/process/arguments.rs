//! What travels to the function, and what becomes of it if it does not get there.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tombolo::broadcast::{self, BytePublisher, ByteSubscriber, Publisher, Subscriber};
use tombolo::pipe::{self, BytePipe, ByteReceiver, ByteSender, Pipe, Receiver, Sender};
use tombolo::process::{Builder, Process, ProcessError};
use tombolo::queue;
use tombolo::rpc::{self, ByteResponder, Caller, Responder};
use tombolo::sync::{AtomicValue, LockError, Mutex, Semaphore};
use tombolo::{ErrorKind, Namespace, RecvError, SendError};

use crate::common::descriptors;
use crate::support::{TestDir, alone};

fn numbers() -> (Sender<u64>, Receiver<u64>) {
    pipe::Options::<u64>::new().capacity(4).create().unwrap()
}

fn square((mut tx, number): (Sender<u64>, u64)) {
    tx.send(number * number).unwrap();
}

#[test]
fn sender_in_arguments_child_sends() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = numbers();
    let worker = Process::spawn(square, (tx, 12)).unwrap();
    assert_eq!(rx.recv(), Ok(144));
    assert_eq!(worker.join(), Ok(()));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

/// An endpoint of each kind.
#[derive(Serialize, Deserialize)]
struct Endpoints {
    numbers: (Sender<u64>, Receiver<u64>),
    duplex: Pipe<u64>,
    bytes: (ByteSender, ByteReceiver),
    byte_duplex: Option<BytePipe>,
    jobs: (queue::Sender<u64>, queue::Receiver<u64>),
    byte_jobs: (queue::ByteSender, queue::ByteReceiver),
    ticks: (Publisher<u64>, Subscriber<u64>),
    frames: (BytePublisher, ByteSubscriber),
}

/// Sends through everything that sends, what comes out of everything that receives, plus one.
fn relay(ends: Endpoints) {
    let Endpoints { mut numbers, mut duplex, mut bytes, byte_duplex, mut jobs, mut byte_jobs, mut ticks, mut frames } =
        ends;
    numbers.0.send(numbers.1.recv().unwrap() + 1).unwrap();
    let number = duplex.recv().unwrap();
    duplex.send(number + 1).unwrap();
    let mut buffer = Vec::new();
    bytes.1.recv(&mut buffer).unwrap();
    buffer.push(1);
    bytes.0.send(&buffer).unwrap();
    let mut byte_duplex = byte_duplex.unwrap();
    byte_duplex.recv(&mut buffer).unwrap();
    buffer.push(1);
    byte_duplex.send(&buffer).unwrap();
    jobs.0.send(jobs.1.recv().unwrap() + 1).unwrap();
    byte_jobs.1.recv(&mut buffer).unwrap();
    buffer.push(1);
    byte_jobs.0.send(&buffer).unwrap();
    ticks.0.publish(ticks.1.recv().unwrap() + 1).unwrap();
    frames.1.recv(&mut buffer).unwrap();
    buffer.push(1);
    frames.0.publish(&buffer).unwrap();
}

fn answer((mut responder, factor): (Responder<u64, u64>, u64)) {
    responder.serve(|request| request * factor).unwrap();
}

fn ask((mut caller, mut bytes): (Caller<u64, u64>, ByteResponder)) {
    let reply = caller.call(12).unwrap();
    bytes.recv().unwrap().reply(reply.to_string().as_bytes()).unwrap();
}

#[test]
fn callers_and_responders_in_arguments_are_used() {
    let _test_dir = TestDir::new();
    let (caller, responder) = rpc::Options::<u64, u64>::new().create().unwrap();
    let (mut byte_caller, byte_responder) = rpc::Options::bytes().create().unwrap();
    let server = Process::spawn(answer, (responder, 3)).unwrap();
    let client = Process::spawn(ask, (caller, byte_responder)).unwrap();
    let mut reply = Vec::new();
    byte_caller.call(b"what is it?", &mut reply).unwrap();
    assert_eq!(reply, b"36");
    client.join().unwrap();
    server.join().unwrap();
}

#[test]
fn endpoint_of_each_kind_in_arguments_child_uses_it() {
    let _test_dir = TestDir::new();
    let queues = || queue::Options::<u64>::new().create_channel().unwrap();
    let byte_queues = || queue::Options::bytes().create_channel().unwrap();
    let broadcasts = || broadcast::Options::<u64>::new().create().unwrap();
    let byte_broadcasts = || broadcast::Options::bytes().create().unwrap();
    let ((mut to, from_us), (to_us, mut from)) = (numbers(), numbers());
    let (mut duplex, other_duplex) = pipe::Options::<u64>::new().create_duplex().unwrap();
    let bytes = || pipe::Options::bytes().create().unwrap();
    let ((mut bytes_to, bytes_from_us), (bytes_to_us, mut bytes_from)) = (bytes(), bytes());
    let (mut byte_duplex, other_byte_duplex) = pipe::Options::bytes().create_duplex().unwrap();
    let ((mut jobs_to, jobs_from_us), (jobs_to_us, mut jobs_from)) = (queues(), queues());
    let ((mut byte_jobs_to, byte_jobs_from_us), (byte_jobs_to_us, mut byte_jobs_from)) = (byte_queues(), byte_queues());
    let ((mut ticks_to, ticks_from_us), (ticks_to_us, mut ticks_from)) = (broadcasts(), broadcasts());
    let ((mut frames_to, frames_from_us), (frames_to_us, mut frames_from)) = (byte_broadcasts(), byte_broadcasts());
    let worker = Process::spawn(
        relay,
        Endpoints {
            numbers: (to_us, from_us),
            duplex: other_duplex,
            bytes: (bytes_to_us, bytes_from_us),
            byte_duplex: Some(other_byte_duplex),
            jobs: (jobs_to_us, jobs_from_us),
            byte_jobs: (byte_jobs_to_us, byte_jobs_from_us),
            ticks: (ticks_to_us, ticks_from_us),
            frames: (frames_to_us, frames_from_us),
        },
    )
    .unwrap();
    to.send(1).unwrap();
    duplex.send(2).unwrap();
    bytes_to.send([3]).unwrap();
    byte_duplex.send([4]).unwrap();
    jobs_to.send(5).unwrap();
    byte_jobs_to.send([6]).unwrap();
    ticks_to.publish(7).unwrap();
    frames_to.publish([8]).unwrap();
    let mut buffer = Vec::new();
    assert_eq!((from.recv(), duplex.recv()), (Ok(2), Ok(3)));
    bytes_from.recv(&mut buffer).unwrap();
    assert_eq!(buffer, [3, 1]);
    byte_duplex.recv(&mut buffer).unwrap();
    assert_eq!(buffer, [4, 1]);
    assert_eq!(jobs_from.recv(), Ok(6));
    byte_jobs_from.recv(&mut buffer).unwrap();
    assert_eq!(buffer, [6, 1]);
    assert_eq!(ticks_from.recv(), Ok(8));
    frames_from.recv(&mut buffer).unwrap();
    assert_eq!(buffer, [8, 1]);
    assert_eq!(worker.join(), Ok(()));
}

type Limits = BTreeMap<String, (Semaphore, AtomicValue<u64>)>;

fn use_objects((namespace, locks, limits): (Namespace, Vec<Mutex<u64>>, Limits)) {
    namespace.atomic::<u64>("hits").unwrap().fetch_add(1);
    for lock in &locks {
        *lock.lock().or_else(LockError::into_guard).unwrap() += 1;
    }
    for (semaphore, count) in limits.into_values() {
        let _permit = semaphore.acquire().unwrap();
        count.fetch_add(1);
    }
}

#[test]
fn namespace_and_objects_in_arguments_are_shared() {
    let _test_dir = TestDir::new();
    let namespace = Namespace::builder().atomic("hits", 10_u64).create().unwrap();
    let locks: Vec<_> = (0..3).map(|number| Mutex::new(number).unwrap()).collect();
    let limits = [("one", 1), ("two", 2)].map(|(name, count)| {
        (name.to_string(), (Semaphore::new(count).unwrap(), AtomicValue::new(u64::from(count)).unwrap()))
    });
    let arguments = (namespace.clone(), locks.clone(), BTreeMap::from(limits.clone()));
    Process::spawn(use_objects, arguments).unwrap().join().unwrap();
    assert_eq!(namespace.atomic::<u64>("hits").unwrap().load(), 11);
    assert!(locks.iter().zip(1..).all(|(lock, number)| *lock.lock().unwrap() == number));
    assert!(limits.iter().zip(2..).all(|((_, (_, count)), number)| count.load() == number));
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

#[test]
fn large_arguments_are_freed_while_the_function_runs() {
    let _test_dir = TestDir::new();
    let body = |()| {
        let (tx, mut rx) = numbers();
        let wait = |(bytes, mut tx): (Vec<u8>, Sender<u64>)| {
            drop(bytes);
            tx.send(1).unwrap();
            std::thread::sleep(std::time::Duration::from_secs(3600));
        };
        let worker = Builder::new().daemon(true).spawn(wait, (vec![1; 1 << 20], tx)).unwrap();
        assert_eq!(rx.recv(), Ok(1));
        let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|file| file.path());
        let mut reports = files.filter(|file| {
            std::fs::read_link(file).is_ok_and(|link| link.to_string_lossy().contains("tombolo-process"))
        });
        assert!(reports.all(|file| std::fs::metadata(file).unwrap().len() < 1 << 20));
        worker.kill().unwrap();
    };
    Process::spawn(body, ()).unwrap().join().unwrap();
}

#[test]
fn large_arguments_arrive_whole() {
    let _test_dir = TestDir::new();
    let bytes: Vec<u8> = (0..24_u32 << 20).map(|number| (number ^ number >> 11) as u8).collect();
    let expected = checksum(&bytes);
    Process::spawn(|(bytes, expected): (Vec<u8>, u64)| assert_eq!(checksum(&bytes), expected), (bytes, expected))
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn endpoint_serialized_outside_of_a_spawn_is_refused() {
    let _test_dir = TestDir::new();
    let (mut tx, mut rx) = numbers();
    let (mut bytes, _peer) = pipe::Options::bytes().create().unwrap();
    assert_eq!(bytes.send_object(&(1, &tx)), Err(SendError::Serialize));
    // It is usable as before.
    tx.send(3).unwrap();
    assert_eq!(rx.recv(), Ok(3));
}

/// Serialises as something else than it deserialises from, or not at all.
enum Odd {
    Fails,
    Longer,
    Shorter,
}

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fails => Err(serde::ser::Error::custom("odd")),
            Self::Longer => (0_u8, 0_u8).serialize(serializer),
            Self::Shorter => ().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer).map(|_| Self::Fails)
    }
}

fn never((mut tx, _): (Sender<u64>, Odd)) {
    tx.send(1).unwrap();
}

#[test]
fn arguments_not_serializable_endpoints_are_closed() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = numbers();
    let error = Process::spawn(never, (tx, Odd::Fails)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSerializable, "{error}");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn arguments_that_do_not_deserialize_function_is_not_called() {
    let _test_dir = TestDir::new();
    for odd in [Odd::Longer, Odd::Shorter] {
        let (tx, mut rx) = numbers();
        let worker = Process::spawn(never, (tx, odd)).unwrap();
        let Err(ProcessError::NotStarted(reason)) = worker.join() else { panic!("{:?}", worker.join()) };
        assert!(reason.contains("deserialise") && reason.contains("Odd"), "{reason}");
        assert_eq!(worker.exit_status().unwrap().code(), Some(70));
        assert!(matches!(rx.recv(), Err(RecvError::Closed | RecvError::PeerDied)));
    }
}

#[test]
fn endpoint_that_cannot_be_passed_others_are_closed() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = numbers();
    let (ours, theirs) = pipe::Options::<u64>::new().create_duplex().unwrap();
    let (half, _other_half) = theirs.split();
    let error = Process::spawn(|(_, _): (Sender<u64>, Sender<u64>)| {}, (tx, half)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    drop(ours);
}

#[test]
fn process_that_does_not_start_endpoints_are_closed() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = numbers();
    let error = Builder::new().current_dir("/nowhere/at/all").spawn(square, (tx, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn process_that_runs_something_else_peer_reports_its_death() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = numbers();
    let mut builder = Builder::new();
    // SAFETY: only executes another program.
    unsafe {
        builder.command().pre_exec(|| {
            libc::execl(c"/bin/true".as_ptr(), c"true".as_ptr(), std::ptr::null::<libc::c_char>());
            Err(io::Error::last_os_error())
        });
    }
    let worker = builder.spawn(square, (tx, 1)).unwrap();
    let ended = worker.join();
    assert!(matches!(&ended, Err(ProcessError::NotInitialised(status)) if status.success()), "{ended:?}");
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}

#[test]
fn descriptors_of_arguments_are_closed_after_the_spawn() {
    let _alone = alone();
    let _test_dir = TestDir::new();
    // In a process of its own: other tests open and close descriptors, too.
    Process::spawn(
        |()| {
            let before = descriptors();
            for _ in 0..5 {
                let (tx, mut rx) = numbers();
                let worker = Process::spawn(square, (tx, 3)).unwrap();
                assert_eq!(rx.recv(), Ok(9));
                assert_eq!(worker.join(), Ok(()));
                drop((worker, rx));
                assert_eq!(descriptors(), before);
            }
        },
        (),
    )
    .unwrap()
    .join()
    .unwrap();
}
