//! Values with endpoints, namespaces and objects in them, given as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tombolo::connection::{Connection, GiveError};
use tombolo::pipe::{self, BytePipe, ByteReceiver, Receiver, Sender};
use tombolo::sync::{Event, Mutex};
use tombolo::{ErrorKind, Namespace, RecvError, broadcast, queue};

use crate::cut::{connect_and_intrude, send_packet};
use crate::limits::{leave_descriptors, leave_enough_descriptors};
use crate::support::{Random, TestDir, start};
use crate::{LONG, SHORT, connect, descriptors, listeners, with_key};

#[derive(Serialize, Deserialize)]
enum Duty {
    Nothing,
    Publish { publisher: Box<broadcast::Publisher<u64>>, numbers: Vec<u64> },
}

/// A value with something at each depth.
#[derive(Serialize, Deserialize)]
struct Assignment {
    name: String,
    inputs: BTreeMap<String, (Receiver<u64>, Vec<queue::Receiver<u64>>)>,
    output: Option<BytePipe>,
    missing: Option<BytePipe>,
    duties: Vec<Duty>,
    shared: (Namespace, Mutex<u64>),
    done: Event,
}

/// Takes values and messages in the order in which they are sent.
pub fn take_objects_and_answer(arguments: &[String]) {
    let mut connection = with_key().wait_for_listener(LONG).connect(&*arguments[0]).unwrap();
    assert_eq!(connection.take_object::<(u64, String)>().unwrap(), (7, "plain".into()));
    let mut first: Sender<u64> = connection.take().unwrap();
    let assignment: Assignment = connection.take_object().unwrap();
    assert_eq!(connection.recv_object::<String>().unwrap(), "a message");
    let nested: (Vec<Option<Sender<u64>>>, ()) = connection.take_object().unwrap();
    let mut sum = 0;
    for (mut rx, queues) in assignment.inputs.into_values() {
        sum += rx.recv().unwrap();
        for mut rx in queues {
            sum += rx.recv().unwrap();
        }
    }
    assert!(assignment.missing.is_none());
    for duty in assignment.duties {
        if let Duty::Publish { mut publisher, numbers } = duty {
            numbers.iter().for_each(|number| publisher.publish(*number).unwrap());
        }
    }
    let (namespace, lock) = assignment.shared;
    namespace.atomic::<u64>("count").unwrap().fetch_add(1);
    *lock.lock().unwrap() += 1;
    assignment.output.unwrap().send_object(&(assignment.name, sum)).unwrap();
    first.send(1).unwrap();
    for (tx, number) in nested.0.into_iter().flatten().zip(2..) {
        { tx }.send(number).unwrap();
    }
    assignment.done.set().unwrap();
    let _ = connection.recv(&mut Vec::new());
}

#[test]
fn object_with_endpoints_at_each_depth_works_between_processes() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let child = start("take_objects_and_answer", &[&listener.address().to_string()]);
    let mut connection = listener.accept_timeout(LONG).unwrap();
    connection.give_object((7_u64, "plain".to_string())).unwrap();
    let pipe = || pipe::Options::<u64>::new().capacity(4).create().unwrap();
    let jobs = || queue::Options::<u64>::new().capacity(4).create_channel().unwrap();
    let (first, mut firsts) = pipe();
    connection.give(first).unwrap();
    let ((mut one, theirs), (mut two, queued), (mut three, other)) = (pipe(), jobs(), jobs());
    let (mut four, last) = pipe();
    let (mut output, far) = pipe::Options::bytes().create_duplex().unwrap();
    let (publisher, mut subscriber) = broadcast::Options::<u64>::new().capacity(4).create().unwrap();
    let namespace = Namespace::builder().atomic("count", 9_u64).create().unwrap();
    let (lock, done) = (Mutex::new(5_u64).unwrap(), Event::new().unwrap());
    let assignment = Assignment {
        name: "adder".into(),
        inputs: [("a".into(), (theirs, vec![queued, other])), ("b".into(), (last, Vec::new()))].into(),
        output: Some(far),
        missing: None,
        duties: vec![
            Duty::Nothing,
            Duty::Publish { publisher: publisher.into(), numbers: vec![11, 12] },
            Duty::Nothing,
        ],
        shared: (namespace.clone(), lock.clone()),
        done: done.clone(),
    };
    connection.give_object(assignment).unwrap();
    connection.send_object("a message").unwrap();
    let (nested, mut seconds) = pipe();
    let (again, mut thirds) = pipe();
    connection.give_object((vec![None, Some(nested), None, Some(again)], ())).unwrap();
    one.send(1).unwrap();
    two.send(20).unwrap();
    three.send(300).unwrap();
    four.send(4000).unwrap();
    assert_eq!(output.recv_object::<(String, u64)>().unwrap(), ("adder".into(), 4321));
    assert_eq!([subscriber.recv(), subscriber.recv()], [Ok(11), Ok(12)]);
    done.wait().unwrap();
    assert_eq!([firsts.recv(), seconds.recv(), thirds.recv()], [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(namespace.atomic::<u64>("count").unwrap().load(), 10);
    assert_eq!(*lock.lock().unwrap(), 6);
    drop(connection);
    child.finish();
    assert_eq!([seconds.recv(), thirds.recv()], [Err(RecvError::Closed); 2], "they left, and did not die");
}

/// Takes a value and waits to be killed.
pub fn take_object_and_wait(arguments: &[String]) {
    let mut connection = with_key().wait_for_listener(LONG).connect(&*arguments[0]).unwrap();
    let _taken: (u64, Vec<Sender<u64>>) = connection.take_object().unwrap();
    connection.send("taken").unwrap();
    let _ = connection.recv(&mut Vec::new());
    panic!("it was to be killed");
}

#[test]
fn object_taker_killed_each_peer_reports_death() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let child = start("take_object_and_wait", &[&listener.address().to_string()]);
    let mut connection = listener.accept_timeout(LONG).unwrap();
    let ((tx, mut rx), (other, mut other_rx)) =
        (pipe::Options::<u64>::new().create().unwrap(), pipe::Options::<u64>::new().create().unwrap());
    connection.give_object((1_u64, vec![tx, other])).unwrap();
    connection.recv(&mut Vec::new()).unwrap();
    child.kill();
    assert_eq!([rx.recv(), other_rx.recv()], [Err(RecvError::PeerDied); 2]);
}

/// Gives a value and waits to be killed.
pub fn give_object_and_wait(arguments: &[String]) {
    let mut connection = with_key().wait_for_listener(LONG).connect(&*arguments[0]).unwrap();
    let (tx, rx) = pipe::Options::<u64>::new().capacity(4).create().unwrap();
    connection.give_object(("both ends".to_string(), tx, rx)).unwrap();
    connection.send("given").unwrap();
    let _ = connection.recv(&mut Vec::new());
    panic!("it was to be killed");
}

#[test]
fn object_giver_killed_what_it_gave_can_be_taken() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let child = start("give_object_and_wait", &[&listener.address().to_string()]);
    let mut connection = listener.accept_timeout(LONG).unwrap();
    connection.recv(&mut Vec::new()).unwrap();
    child.kill();
    let (text, mut tx, mut rx): (String, Sender<u64>, Receiver<u64>) = connection.take_object().unwrap();
    tx.send(7).unwrap();
    drop(tx);
    assert_eq!((&*text, rx.recv(), rx.recv()), ("both ends", Ok(7), Err(RecvError::Closed)));
    assert_eq!(connection.take_object::<u64>().unwrap_err().kind(), ErrorKind::Disconnected);
}

#[test]
fn object_not_taken_each_peer_reports_death() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, other] = connect(&mut listener, &with_key());
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let (other_tx, mut other_rx) = pipe::Options::<u64>::new().create().unwrap();
    one.give_object((tx, 5, other_tx)).unwrap();
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut), "in transit it lives");
    drop(other);
    assert_eq!([rx.recv(), other_rx.recv()], [Err(RecvError::PeerDied); 2]);
}

type Pair = (Sender<u64>, u64, Sender<u64>);

fn pair() -> (Pair, [Receiver<u64>; 2]) {
    let [(tx, rx), (other, other_rx)] = [(); 2].map(|()| pipe::Options::<u64>::new().create().unwrap());
    ((tx, 5, other), [rx, other_rx])
}

/// Both endpoints work, and each leaves as any endpoint does.
fn assert_work((tx, five, other): Pair, receivers: [Receiver<u64>; 2]) {
    assert_eq!(five, 5);
    for (mut tx, mut rx) in [tx, other].into_iter().zip(receivers) {
        tx.send(7).unwrap();
        assert_eq!(rx.recv(), Ok(7));
        drop(tx);
        assert_eq!(rx.recv(), Err(RecvError::Closed), "not a death");
    }
}

fn returned<T>(given: Result<(), GiveError<T>>, kind: ErrorKind) -> T {
    let error = given.unwrap_err();
    assert_eq!(error.error().kind(), kind, "{error}");
    error.into_returned()
}

/// Fails after its sender was serialised.
struct Failing(Sender<u64>);

impl Serialize for Failing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)?;
        Err(serde::ser::Error::custom("on purpose"))
    }
}

impl<'de> Deserialize<'de> for Failing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Sender::deserialize(deserializer).map(Self)
    }
}

#[test]
fn give_object_that_fails_returns_the_value() {
    let test_dir = TestDir::new();
    let [mut unix, mut tcp] = listeners(&test_dir);
    // The other side has left.
    let [mut one, other] = connect(&mut unix, &with_key());
    drop(other);
    let (value, receivers) = pair();
    assert_work(returned(one.give_object(value), ErrorKind::Disconnected), receivers);
    // There is no shared memory. Messages go on.
    let [mut one, mut other] = connect(&mut tcp, &with_key());
    let (value, receivers) = pair();
    assert_work(returned(one.give_object(value), ErrorKind::InvalidOptions), receivers);
    assert_eq!(other.take_object::<u64>().unwrap_err().kind(), ErrorKind::InvalidOptions);
    one.send_object(&5_u64).unwrap();
    assert_eq!(other.recv_object(), Ok(5_u64));
    // As a message it cannot be sent, and stays what it is.
    let (value, receivers) = pair();
    for connection in [&mut one, &mut connect(&mut unix, &with_key())[0]] {
        assert_eq!(connection.send_object(&value), Err(tombolo::SendError::Serialize));
    }
    assert_work(value, receivers);
    // It cannot be serialised.
    let [mut one, mut other] = connect(&mut unix, &with_key());
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let Failing(mut tx) = returned(one.give_object(Failing(tx)), ErrorKind::NotSerializable);
    tx.send(7).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    // One endpoint in it cannot be passed: half of a pipe.
    let (near, mut far) = pipe::Options::<u64>::new().create_duplex().unwrap();
    let (half, _other_half) = near.split();
    let (mut tx, mut half) = returned(one.give_object((tx, half)), ErrorKind::InvalidOptions);
    tx.send(8).unwrap();
    half.send(9).unwrap();
    assert_eq!((rx.recv(), far.recv()), (Ok(8), Ok(9)));
    // There is no room.
    let mut given = 0;
    let returned_number = loop {
        match one.tx.give_object_timeout(given, SHORT) {
            Ok(()) => given += 1,
            error => break returned(error, ErrorKind::TimedOut),
        }
    };
    assert_eq!(returned_number, given);
    let (value, receivers) = pair();
    assert_work(returned(one.tx.give_object_timeout(value, SHORT), ErrorKind::TimedOut), receivers);
    for number in 0..given {
        assert_eq!(other.take_object::<u64>().unwrap(), number);
    }
    assert_eq!(other.rx.try_take_object::<u64>().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(other.take_object_timeout::<u64>(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(given > 10);
}

#[test]
fn object_longer_than_the_limit_of_either_side_is_refused() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key().max_message_bytes(100));
    for connection in [&mut one, &mut other] {
        let error = connection.give_object(vec![1_u8; 100]).unwrap_err();
        assert_eq!(error.error().kind(), ErrorKind::InvalidOptions, "101 bytes: {error}");
        assert_eq!(error.into_returned().len(), 100);
    }
    one.give_object(vec![1_u8; 99]).unwrap();
    assert_eq!(other.take_object::<Vec<u8>>().unwrap(), [1; 99]);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let long: Vec<u8> = (0..5_000_000).map(|number| number as u8).collect();
    one.give_object(long.clone()).unwrap();
    assert!(other.take_object::<Vec<u8>>().unwrap() == long, "5 MB, more than a socket or a ring holds");
}

/// Runs alone, so that it can count its descriptors.
pub fn give_many_at_once(_: &[String]) {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let namespace = Namespace::builder().atomic("count", 0_u64).create().unwrap();
    let before = descriptors();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let error = one.give_object((tx, vec![namespace.clone(); 252])).unwrap_err();
    assert_eq!(error.error().kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("253") && error.to_string().contains("252"), "{error}");
    let (mut tx, mut many) = error.into_returned();
    tx.send(7).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    many.truncate(251);
    one.give_object((tx, many)).unwrap();
    let (mut tx, many): (Sender<u64>, Vec<Namespace>) = other.take_object().unwrap();
    for namespace in &many {
        namespace.atomic::<u64>("count").unwrap().fetch_add(1);
    }
    assert_eq!((many.len(), namespace.atomic::<u64>("count").unwrap().load()), (251, 251));
    tx.send(8).unwrap();
    drop((tx, many));
    assert_eq!([rx.recv(), rx.recv()], [Ok(8), Err(RecvError::Closed)]);
    drop(rx);
    // Many times: nothing stays open.
    for _ in 0..100 {
        let (value, receivers) = pair();
        one.give_object(value).unwrap();
        assert_work(other.take_object().unwrap(), receivers);
        let (value, receivers) = pair();
        one.give_object(value).unwrap();
        assert_eq!(other.take_object::<String>().unwrap_err().kind(), ErrorKind::NotSerializable);
        for mut rx in receivers {
            assert_eq!(rx.recv(), Err(RecvError::PeerDied));
        }
    }
    assert_eq!(descriptors(), before);
}

#[test]
fn object_of_many_is_taken_whole_and_of_more_refused() {
    start("give_many_at_once", &[]).finish();
}

#[test]
fn take_object_and_take_leave_what_is_of_the_other_kind() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let (value, receivers) = pair();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    one.give_object(value).unwrap();
    one.give(tx).unwrap();
    assert_eq!(other.take::<Sender<u64>>().unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(other.rx.take_fd().unwrap_err().kind(), ErrorKind::WrongType);
    assert_work(other.take_object().unwrap(), receivers);
    assert_eq!(other.take_object::<Sender<u64>>().unwrap_err().kind(), ErrorKind::WrongType);
    other.take::<Sender<u64>>().unwrap().send(7).unwrap();
    assert_eq!(rx.recv(), Ok(7));
}

/// What cannot be taken as this type is dropped, with all that is in it.
#[test]
fn take_object_of_another_type_drops_it() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let wrong: [fn(&mut Connection) -> ErrorKind; 4] = [
        |connection| connection.take_object::<(Sender<u64>, String)>().unwrap_err().kind(),
        |connection| connection.take_object::<(Receiver<u64>, u64, Sender<u64>)>().unwrap_err().kind(),
        |connection| connection.take_object::<(Sender<u64>, u64, ByteReceiver)>().unwrap_err().kind(),
        |connection| connection.take_object::<Vec<Pair>>().unwrap_err().kind(),
    ];
    for take in wrong {
        let (value, receivers) = pair();
        one.give_object(value).unwrap();
        one.give_object(5_u64).unwrap();
        assert_eq!(take(&mut other), ErrorKind::NotSerializable);
        for mut rx in receivers {
            let end = rx.recv();
            assert!(matches!(end, Err(RecvError::PeerDied | RecvError::Closed)), "{end:?}");
        }
        assert_eq!(other.take_object::<u64>().unwrap(), 5);
    }
}

/// A file in memory with these bytes.
fn memory(bytes: &[u8], is_sealed: bool) -> File {
    // SAFETY: a name that ends, and a new descriptor.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"hostile".as_ptr(), libc::MFD_ALLOW_SEALING | libc::MFD_CLOEXEC);
        File::from(OwnedFd::from_raw_fd(descriptor))
    };
    file.write_all(bytes).unwrap();
    if is_sealed {
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
    }
    file
}

/// Runs alone, so that it can count its descriptors.
pub fn send_packets_that_are_no_values(_: &[String]) {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let (accepted, mut client, socket) = connect_and_intrude(&mut listener, &test_dir);
    type Taken = (Event, u64, Event);
    let event = Event::new().unwrap();
    let shared = |count: usize| (0..count).map(|_| File::from(event.share().unwrap()));
    let path = test_dir.file("file");
    fs::write(&path, [0, 5, 1]).unwrap();
    let huge = memory(&[0, 5, 1], false);
    huge.set_len(1 << 40).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let before = descriptors();
    const OBJECT: &[u8] = &[7];
    let with = |first: File, count: usize| [first].into_iter().chain(shared(count)).collect::<Vec<_>>();
    let right = |bytes: &[u8]| memory(bytes, true);
    // What the packet says, its descriptors, and what that is.
    let unreadable = |file: File| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        File::options().write(true).open(path).unwrap()
    };
    let cases: [(&[u8], Vec<File>, ErrorKind); 16] = [
        (OBJECT, with(unreadable(right(&[0, 5, 1])), 2), ErrorKind::Io),
        (OBJECT, Vec::new(), ErrorKind::Corrupt),
        (&[8], with(right(&[0, 5, 1]), 2), ErrorKind::Corrupt),
        (&[7; 5000], with(right(&[0, 5, 1]), 2), ErrorKind::Corrupt),
        (&[7, 0], with(right(&[0, 5, 1]), 2), ErrorKind::Corrupt),
        (OBJECT, with(memory(&[0, 5, 1], false), 2), ErrorKind::Corrupt),
        (OBJECT, with(File::open(&path).unwrap(), 2), ErrorKind::Corrupt),
        (OBJECT, with(File::open("/dev/zero").unwrap(), 2), ErrorKind::Corrupt),
        (OBJECT, with(OwnedFd::from(reader.try_clone().unwrap()).into(), 2), ErrorKind::Corrupt),
        (OBJECT, with(huge.try_clone().unwrap(), 2), ErrorKind::Corrupt),
        // Fewer descriptors than the bytes name, and none of those.
        (OBJECT, with(right(&[0, 5, 1]), 1), ErrorKind::NotSerializable),
        (OBJECT, with(right(&[0, 5, 1]), 0), ErrorKind::NotSerializable),
        (OBJECT, with(right(&[0, 5, 0]), 2), ErrorKind::NotSerializable),
        (OBJECT, with(right(&[0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]), 2), ErrorKind::NotSerializable),
        (OBJECT, with(right(&[0, 5]), 2), ErrorKind::NotSerializable),
        (OBJECT, with(right(&[0, 5, 1, 0]), 2), ErrorKind::NotSerializable),
    ];
    for (case, (bytes, files, kind)) in cases.into_iter().enumerate() {
        send_packet(&socket, bytes, &files);
        drop(files);
        let error = client.take_object_timeout::<Taken>(LONG).map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "case {case}: {error}");
        // What comes behind it can be taken. Descriptors that nothing names are closed.
        send_packet(&socket, OBJECT, &with(right(&[1, 5, 0]), 30));
        assert_eq!(client.take_object_timeout::<Taken>(LONG).unwrap().1, 5);
    }
    assert_eq!(descriptors(), before);
    // An endpoint that two places name, and one that is none.
    let files = with(right(&[0, 5, 1]), 1).into_iter().chain([File::open("/dev/null").unwrap()]);
    send_packet(&socket, OBJECT, &files.collect::<Vec<_>>());
    client.take_object_timeout::<Taken>(LONG).map(drop).unwrap_err();
    let mut random = Random(9);
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.next() as u8).collect();
        send_packet(&socket, OBJECT, &with(right(&bytes), random.below(4) as usize));
        if let Ok(assignment) = client.take_object_timeout::<Assignment>(LONG) {
            drop(assignment);
        }
    }
    assert_eq!(descriptors(), before);
    drop((accepted, client, socket, reader, writer));
}

#[test]
fn take_object_of_packets_that_are_no_values_is_refused_and_leaves_nothing() {
    start("send_packets_that_are_no_values", &[]).finish();
}

/// A process without free descriptors: what it takes stays there, what it gives stays its own.
pub fn take_object_with_full_table(_: &[String]) {
    type Kinds = (Event, Pair, broadcast::Subscriber<u64>, Namespace, queue::Sender<u64>, BytePipe);
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let mut failed = [0; 2];
    for free in 0..24 {
        let (value, mut receivers) = pair();
        let (mut publisher, subscriber) = broadcast::Options::<u64>::new().capacity(4).create().unwrap();
        let namespace = Namespace::builder().atomic("count", 9_u64).create().unwrap();
        let (tx, mut rx) = queue::Options::<u64>::new().capacity(4).create_channel().unwrap();
        let (mut near, far) = pipe::Options::bytes().create_duplex().unwrap();
        let event = Event::new().unwrap();
        let value: Kinds = (event.clone(), value, subscriber, namespace, tx, far);
        leave_descriptors(free);
        let given = one.give_object(value);
        leave_enough_descriptors();
        if let Err(error) = given {
            failed[0] += 1;
            assert_eq!(error.error().kind(), ErrorKind::Io, "{error}");
            one.give_object(error.into_returned()).unwrap();
        }
        leave_descriptors(free);
        let taken = other.take_object::<Kinds>();
        leave_enough_descriptors();
        let (shared, pair, mut subscriber, namespace, mut tx, mut far) = taken.unwrap_or_else(|error| {
            failed[1] += 1;
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            for rx in &mut receivers {
                assert_eq!(rx.try_recv(), Err(RecvError::Empty), "{free} left, it lives");
            }
            other.take_object().unwrap()
        });
        assert_work(pair, receivers);
        shared.set().unwrap();
        publisher.publish(1).unwrap();
        tx.send(2).unwrap();
        near.send("bytes").unwrap();
        assert_eq!((subscriber.recv(), rx.recv(), far.recv(&mut Vec::new())), (Ok(1), Ok(2), Ok(5)));
        assert_eq!(namespace.atomic::<u64>("count").unwrap().load(), 9);
        event.wait().unwrap();
    }
    assert!(failed[0] >= 7 && failed[1] >= 7, "{failed:?}");
}

#[test]
fn object_with_full_descriptor_table_loses_nothing() {
    start("take_object_with_full_table", &[]).finish();
}

#[test]
fn object_with_one_endpoint_at_two_places_is_refused() {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let [mut one, mut other] = connect(&mut listener, &with_key());
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let shared = Rc::new(tx);
    // One endpoint at two places.
    let twice = Twice(shared);
    let Twice(shared) = returned(one.give_object(twice), ErrorKind::InvalidOptions);
    let mut tx = Rc::into_inner(shared).unwrap();
    tx.send(7).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    assert_eq!(other.rx.try_take_object::<u64>().unwrap_err().kind(), ErrorKind::TimedOut);
}

struct Twice(Rc<Sender<u64>>);

impl Serialize for Twice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.0, &*self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Twice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Sender::deserialize(deserializer).map(|tx| Self(tx.into()))
    }
}
