//! What is handed over through a connection: endpoints, namespaces and objects of every kind, to
//! processes that inherit nothing.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::time::Duration;

use tombolo::broadcast;
use tombolo::connection::{Connection, GiveError};
use tombolo::pipe::{self, BytePipe, ByteReceiver, Pipe, Receiver, Sender};
use tombolo::queue;
use tombolo::sync::{AtomicValue, Event, Mutex, Value};
use tombolo::{Endpoint, ErrorKind, Namespace, RecvError, SendError};

use crate::support::{TestDir, start};
use crate::{LONG, SHORT, connect, listeners, with_key};

/// The byte that is locked to join: `MEMBERSHIP_LOCK`.
const LOCK: i64 = 1 << 30;

fn client(arguments: &[String]) -> Connection {
    with_key().wait_for_listener(LONG).connect(&*arguments[0]).unwrap()
}

/// Takes one of each kind and uses it.
pub fn take_and_answer(arguments: &[String]) {
    let mut connection = client(arguments);
    let mut rx: Receiver<u64> = connection.take().unwrap();
    let mut tx: Sender<u64> = connection.take().unwrap();
    tx.send(rx.recv().unwrap() + 1).unwrap();
    let mut duplex: Pipe<u64> = connection.take().unwrap();
    let number = duplex.recv().unwrap();
    duplex.send(number + 1).unwrap();
    let mut bytes: BytePipe = connection.take().unwrap();
    let mut message = Vec::new();
    bytes.recv(&mut message).unwrap();
    bytes.send(&message).unwrap();
    let mut jobs: queue::Receiver<u64> = connection.take().unwrap();
    let mut results: queue::Sender<u64> = connection.take().unwrap();
    results.send(jobs.recv().unwrap() + 1).unwrap();
    let mut subscriber: broadcast::Subscriber<u64> = connection.take().unwrap();
    let mut publisher: broadcast::Publisher<u64> = connection.take().unwrap();
    publisher.publish(subscriber.recv().unwrap() + 1).unwrap();
    let namespace: Namespace = connection.take().unwrap();
    namespace.atomic::<u64>("count").unwrap().fetch_add(1);
    let value: Value<u64> = connection.take().unwrap();
    value.store(&(value.load().unwrap() + 1)).unwrap();
    let event: Event = connection.take().unwrap();
    let mut file = File::from(connection.rx.take_fd().unwrap());
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    connection.send(&text).unwrap();
    event.set().unwrap();
    // Until the other side has looked at everything.
    let _ = connection.recv(&mut Vec::new());
}

#[test]
fn handover_of_each_kind_works_between_processes() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let child = start("take_and_answer", &[&listener.address().to_string()]);
    let mut connection = listener.accept_timeout(LONG).unwrap();
    let options = pipe::Options::<u64>::new().capacity(4);
    let (mut tx, theirs) = options.create().unwrap();
    connection.give(theirs).unwrap();
    let (theirs, mut rx) = options.create().unwrap();
    connection.give(theirs).unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    let (mut duplex, theirs) = options.create_duplex().unwrap();
    connection.give(theirs).unwrap();
    duplex.send(3).unwrap();
    assert_eq!(duplex.recv(), Ok(4));
    let (mut bytes, theirs) = pipe::Options::bytes().create_duplex().unwrap();
    connection.give(theirs).unwrap();
    bytes.send("bytes").unwrap();
    assert_eq!(bytes.recv(&mut Vec::new()), Ok(5));
    let jobs = queue::Options::<u64>::new().capacity(4);
    let (mut work, theirs) = jobs.create_channel().unwrap();
    connection.give(theirs).unwrap();
    let (theirs, mut results) = jobs.create_channel().unwrap();
    connection.give(theirs).unwrap();
    work.send(5).unwrap();
    assert_eq!(results.recv(), Ok(6));
    let ticks = broadcast::Options::<u64>::new().capacity(4);
    let (mut publisher, theirs) = ticks.create().unwrap();
    connection.give(theirs).unwrap();
    let (theirs, mut subscriber) = ticks.create().unwrap();
    connection.give(theirs).unwrap();
    publisher.publish(7).unwrap();
    assert_eq!(subscriber.recv(), Ok(8));
    let namespace = Namespace::builder().atomic("count", 9_u64).create().unwrap();
    connection.give(&namespace).unwrap();
    let (value, event) = (Value::new(11_u64).unwrap(), Event::new().unwrap());
    connection.give(&value).unwrap();
    connection.give(&event).unwrap();
    let path = test_dir.file("text");
    std::fs::write(&path, "text").unwrap();
    connection.tx.give_fd(File::open(&path).unwrap()).unwrap();
    let mut text = Vec::new();
    connection.recv(&mut text).unwrap();
    assert_eq!(text, b"text");
    event.wait().unwrap();
    assert_eq!(namespace.atomic::<u64>("count").unwrap().load(), 10);
    assert_eq!(value.load(), Ok(12));
    drop(connection);
    child.finish();
}

/// Takes a receiver, and waits for the end of what it carries.
pub fn take_and_wait(arguments: &[String]) {
    let mut connection = client(arguments);
    let mut rx: Receiver<u64> = connection.take().unwrap();
    connection.send("taken").unwrap();
    while rx.recv().is_ok() {}
    panic!("it was to be killed");
}

/// Gives a sender of a queue away and waits.
pub fn give_queue_and_wait(arguments: &[String]) {
    let mut connection = client(arguments);
    let (tx, rx) = queue::Options::<u64>::new().capacity(4).max_participants(2).create_channel().unwrap();
    connection.give(tx).unwrap();
    connection.send("given").unwrap();
    let _rx = rx;
    let _ = connection.recv(&mut Vec::new());
    panic!("it was to be killed");
}

#[test]
fn handover_taker_killed_peer_reports_death() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let child = start("take_and_wait", &[&listener.address().to_string()]);
    let mut connection = listener.accept_timeout(LONG).unwrap();
    let (mut tx, rx) = pipe::Options::<u64>::new().capacity(2).create().unwrap();
    connection.give(rx).unwrap();
    connection.recv(&mut Vec::new()).unwrap();
    tx.send(1).unwrap();
    child.kill();
    let error = loop {
        if let Err(error) = tx.send(2) {
            break error;
        }
    };
    assert_eq!(error, SendError::PeerDied);
    assert_eq!(connection.recv(&mut Vec::new()), Err(RecvError::PeerDied));
    let error = connection.take::<Event>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
}

/// What was given before the giver died can still be taken.
#[test]
fn handover_giver_killed_what_it_gave_can_be_taken() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let child = start("give_queue_and_wait", &[&listener.address().to_string()]);
    let mut connection = listener.accept_timeout(LONG).unwrap();
    connection.recv(&mut Vec::new()).unwrap();
    child.kill();
    let mut tx: queue::Sender<u64> = connection.take().unwrap();
    tx.send(1).unwrap();
    // The receiver of the queue died with its process.
    let error = loop {
        if let Err(error) = tx.send_timeout(2, LONG) {
            break error;
        }
    };
    assert_eq!(error, SendError::PeerDied);
    assert_eq!(connection.take::<Event>().unwrap_err().kind(), ErrorKind::Disconnected);
}

#[test]
fn handover_in_transit_is_neither_free_nor_dead() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let named = pipe::Options::<u64>::new().directory(test_dir.names());
    let mut rx = named.receiver("name").unwrap();
    one.give(named.sender("name").unwrap()).unwrap();
    drop(one);
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut));
    assert!(matches!(named.sender("name").unwrap_err().kind(), ErrorKind::EndpointInUse { .. }));
    let mut tx: Sender<u64> = other.take().unwrap();
    tx.send(7).unwrap();
    drop(tx);
    assert_eq!([rx.recv(), rx.recv()], [Ok(7), Err(RecvError::Closed)]);
}

#[test]
fn handover_not_taken_peer_reports_death() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    for drops_half in [false, true] {
        let [mut one, other] = connect(&mut listener, &with_key());
        let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        one.give(tx).unwrap();
        let (sender, receiver) = other.split();
        drop(receiver);
        let kept = drops_half.then_some(sender);
        assert_eq!(rx.recv(), Err(RecvError::PeerDied));
        drop(kept);
    }
}

/// `give` fails, and what was to be given works as before.
fn assert_returned(given: Result<(), GiveError<Sender<u64>>>, rx: &mut Receiver<u64>, kind: ErrorKind) {
    let error = given.unwrap_err();
    assert_eq!(error.error().kind(), kind, "{error}");
    let mut tx = error.into_returned();
    tx.send(7).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Closed), "not a death");
}

#[test]
fn give_that_fails_returns_the_endpoint() {
    let test_dir = TestDir::new();
    let [mut unix, mut tcp] = listeners(&test_dir);
    let options = pipe::Options::<u64>::new();
    // The other side has left, or only its receiving half has.
    for drops_half in [false, true] {
        let [mut one, other] = connect(&mut unix, &with_key());
        let (sender, receiver) = other.split();
        drop(receiver);
        let kept = drops_half.then_some(sender);
        let (tx, mut rx) = options.create().unwrap();
        assert_returned(one.give(tx), &mut rx, ErrorKind::Disconnected);
        drop(kept);
    }
    // There is no shared memory.
    let [mut one, mut other] = connect(&mut tcp, &with_key());
    let (tx, mut rx) = options.create().unwrap();
    assert_returned(one.give(tx), &mut rx, ErrorKind::InvalidOptions);
    assert_eq!(other.take::<Event>().unwrap_err().kind(), ErrorKind::InvalidOptions);
    // It cannot be passed.
    let [mut one, mut other] = connect(&mut unix, &with_key());
    let (near, mut far) = options.create_duplex().unwrap();
    let (half, _other_half) = near.split();
    let mut half = one.give(half).unwrap_err().into_returned();
    half.send(8).unwrap();
    assert_eq!(far.recv(), Ok(8));
    // There is no room.
    let mut given = 0_u64;
    let event = Event::new().unwrap();
    let error = loop {
        match one.tx.give_timeout(&event, SHORT) {
            Ok(()) => given += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.error().kind(), ErrorKind::TimedOut, "{error}");
    let (tx, mut rx) = options.create().unwrap();
    assert_returned(one.tx.give_timeout(tx, SHORT), &mut rx, ErrorKind::TimedOut);
    for _ in 0..given {
        other.take::<Event>().unwrap();
    }
    assert_eq!(other.rx.try_take::<Event>().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(other.take_timeout::<Event>(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(given > 10);
}

#[test]
fn take_of_another_type_leaves_it_there() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    one.give(tx).unwrap();
    one.give(&Mutex::new(5_u64).unwrap()).unwrap();
    for kind in [
        other.take::<Receiver<u64>>().unwrap_err().kind(),
        other.take::<Sender<f64>>().unwrap_err().kind(),
        other.take::<ByteReceiver>().unwrap_err().kind(),
        other.take::<queue::Sender<u64>>().unwrap_err().kind(),
        other.take::<AtomicValue<u64>>().unwrap_err().kind(),
    ] {
        assert_eq!(kind, ErrorKind::WrongType);
    }
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut), "it lives");
    other.take::<Sender<u64>>().unwrap().send(7).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    assert_eq!(other.take::<AtomicValue<u64>>().unwrap_err().kind(), ErrorKind::WrongType);
    let lock: Mutex<u64> = other.take().unwrap();
    assert_eq!(*lock.lock().unwrap(), 5);
}

/// A descriptor that is no endpoint is dropped. It does not block what was given after it.
#[test]
fn take_of_what_is_no_endpoint_drops_it() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    one.tx.give_fd(File::open("/dev/null").unwrap()).unwrap();
    one.tx.give_fd(File::open("/proc/self/exe").unwrap()).unwrap();
    // Of a real endpoint, but it cannot be read.
    let (tx, _rx) = pipe::Options::<u64>::new().create().unwrap();
    let region = tx.into_fd().unwrap();
    let path = format!("/proc/self/fd/{}", region.as_raw_fd());
    one.tx.give_fd(File::options().write(true).open(path).unwrap()).unwrap();
    one.give(&Event::new().unwrap()).unwrap();
    for _ in 0..3 {
        let error = other.take::<Sender<u64>>().unwrap_err();
        assert!(![ErrorKind::WrongType, ErrorKind::Disconnected].contains(&error.kind()), "{:?} {error}", error.kind());
    }
    other.take_timeout::<Event>(LONG).unwrap();
}

/// Each transfer has an open file description of its own: what one process does to the offset or
/// the locks of its descriptor does not reach the others.
#[test]
fn handover_uses_fresh_open_file_descriptions() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let namespace = Namespace::builder().atomic("count", 0_u64).create().unwrap();
    one.give(&namespace).unwrap();
    one.give(&namespace).unwrap();
    let mut files = [(); 2].map(|()| File::from(other.rx.take_fd().unwrap()));
    files[0].seek(SeekFrom::Start(7)).unwrap();
    assert_eq!(files[1].stream_position().unwrap(), 0);
    // Of an endpoint: a copy of what arrived holds nothing once it was taken.
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    one.give(tx).unwrap();
    let descriptor = other.rx.take_fd().unwrap();
    let copy = descriptor.try_clone().unwrap();
    let tx: Sender<u64> = pipe::Options::new().from_fd(descriptor).unwrap();
    tombolo::Endpoint::abandon(tx).unwrap();
    assert_eq!(rx.recv_timeout(Duration::from_secs(30)), Err(RecvError::PeerDied));
    drop(copy);
}

/// A peer can hold the lock that a process needs to join. What it gave is not lost by that.
#[test]
fn take_while_the_peer_holds_the_lock_is_busy_and_can_be_taken_later() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let mut child = start("give_locked_namespace", &[&listener.address().to_string()]);
    let mut connection = listener.accept_timeout(LONG).unwrap();
    connection.recv(&mut Vec::new()).unwrap(); // it is locked, and given
    let error = connection.take::<Namespace>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    connection.send("unlock").unwrap();
    connection.recv(&mut Vec::new()).unwrap();
    connection.take_timeout::<Namespace>(LONG).unwrap();
    connection.send("end").unwrap();
    assert_eq!(child.wait(), 0);
}

pub fn give_locked_namespace(arguments: &[String]) {
    let mut connection = client(arguments);
    let namespace = Namespace::builder().atomic("count", 0_u64).create().unwrap();
    let region = namespace.share().unwrap();
    let file = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", region.as_raw_fd())).unwrap();
    let set = |kind: i32| {
        // SAFETY: a struct of integers, which is read.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            (lock.l_type, lock.l_start, lock.l_len) = (kind as i16, LOCK, 2);
            assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock), 0);
        }
    };
    set(libc::F_WRLCK);
    connection.give(&namespace).unwrap();
    connection.send("locked").unwrap();
    connection.recv(&mut Vec::new()).unwrap();
    set(libc::F_UNLCK);
    connection.send("unlocked").unwrap();
    connection.recv(&mut Vec::new()).unwrap();
}
