//! What a subscriber of `tracing` is told: each event once, with its fields.

mod support;

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{TestDir, child_roles, start};
use tombolo::{Namespace, RecvError, WaitStrategy, broadcast, pipe, queue, rpc};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

child_roles!(
    send_one_and_be_killed,
    hold_a_lock_and_be_killed,
    publish_one_and_be_killed,
    subscribe_and_be_killed,
    take_a_request_and_be_killed
);

/// Keeps each event as one line: the level, and then its fields.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    /// The events since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        assert_eq!(event.metadata().target(), "tombolo");
        let level = *event.metadata().level();
        assert!(matches!(level, Level::DEBUG | Level::WARN));
        let mut line = Line(level.to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn recorded(body: impl FnOnce(&Recorder)) {
    let recorder = Recorder::default();
    tracing::subscriber::with_default(recorder.clone(), || body(&recorder));
}

fn assert_one(events: &[String], parts: &[&str]) {
    let matching = events.iter().filter(|event| parts.iter().all(|part| event.contains(part))).count();
    assert_eq!(matching, 1, "{parts:?} in {events:#?}");
}

fn kill_this_process() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!()
}

fn names(arguments: &[String]) -> &Path {
    Path::new(&arguments[0])
}

fn send_one_and_be_killed(arguments: &[String]) {
    let mut tx = pipe::Options::<u64>::new().directory(names(arguments)).sender("pipe").unwrap();
    tx.send(1).unwrap();
    kill_this_process()
}

fn hold_a_lock_and_be_killed(arguments: &[String]) {
    let namespace = Namespace::builder().mutex("lock", 0_u64).directory(names(arguments)).open("names");
    let lock = namespace.unwrap().mutex::<u64>("lock").unwrap();
    let _guard = lock.lock().unwrap();
    kill_this_process()
}

#[test]
fn tracing_join_and_leave_are_reported_once() {
    let test_dir = TestDir::new();
    recorded(|events| {
        let (tx, rx) = queue::Options::<u64>::new().create_channel().unwrap();
        let pid = format!("pid={}", std::process::id());
        let joined = events.take();
        assert_eq!(joined.len(), 2, "{joined:#?}");
        for participant in ["participant=0", "participant=1"] {
            assert_one(&joined, &["DEBUG", "joined", "an unnamed region", "kind=Queue", participant, "role=", &pid]);
        }
        drop((tx, rx));
        let left = events.take();
        assert_eq!(left.len(), 2, "{left:#?}");
        let options = pipe::Options::<u64>::new().directory(test_dir.names());
        let rx = options.receiver("pipe").unwrap(); // makes the region, which gets its name later
        events.take();
        let tx = options.sender("pipe").unwrap();
        assert_one(&events.take(), &["DEBUG", "joined", "the region \"pipe\"", "kind=Pipe"]);
        drop(tx);
        assert_one(&events.take(), &["DEBUG", "left", "the region \"pipe\"", "kind=Pipe"]);
        drop(rx);
        assert_one(&events.take(), &["DEBUG", "left", "kind=Pipe", &pid]);
    });
}

#[test]
fn tracing_death_of_a_peer_is_reported_once() {
    let test_dir = TestDir::new();
    recorded(|events| {
        let mut rx = pipe::Options::<u64>::new().directory(test_dir.names()).receiver("pipe").unwrap();
        let mut sender = start("send_one_and_be_killed", &[test_dir.names().to_str().unwrap()]);
        let pid = format!("pid={}", sender.pid());
        assert!(libc::WIFSIGNALED(sender.wait()));
        assert_eq!(rx.recv(), Ok(1));
        assert_eq!(rx.recv(), Err(RecvError::PeerDied));
        assert_eq!(rx.recv(), Err(RecvError::PeerDied));
        assert_one(&events.take(), &["WARN", "died", "kind=Pipe", "pipe", &pid]);
    });
}

fn publish_one_and_be_killed(arguments: &[String]) {
    let options = broadcast::Options::<u64>::new().directory(names(arguments));
    let mut publisher = options.publisher("ticks").unwrap();
    publisher.publish(1).unwrap();
    kill_this_process()
}

fn subscribe_and_be_killed(arguments: &[String]) {
    let options = broadcast::Options::<u64>::new().directory(names(arguments));
    let _rx = options.subscriber("ticks").unwrap();
    kill_this_process()
}

fn take_a_request_and_be_killed(arguments: &[String]) {
    let options = rpc::Options::<u64, u64>::new().directory(names(arguments));
    let mut responder = options.responder("calls").unwrap();
    let _request = responder.recv().unwrap();
    kill_this_process()
}

#[test]
fn tracing_death_of_publisher_is_reported_once() {
    let test_dir = TestDir::new();
    recorded(|events| {
        let options = broadcast::Options::<u64>::new().directory(test_dir.names());
        let mut rx = options.subscriber("ticks").unwrap();
        let mut publisher = start("publish_one_and_be_killed", &[test_dir.names().to_str().unwrap()]);
        let pid = format!("pid={}", publisher.pid());
        assert!(libc::WIFSIGNALED(publisher.wait()));
        assert_eq!(rx.recv(), Ok(1));
        assert_eq!(rx.recv(), Err(RecvError::PeerDied));
        assert_eq!(rx.recv(), Err(RecvError::PeerDied));
        assert_one(&events.take(), &["WARN", "died", "kind=Broadcast", "ticks", &pid]);
    });
}

#[test]
fn tracing_death_of_subscriber_is_reported_once() {
    let test_dir = TestDir::new();
    recorded(|events| {
        let options = broadcast::Options::<u64>::new().capacity(2).directory(test_dir.names());
        let mut publisher = options.publisher("ticks").unwrap();
        let mut subscriber = start("subscribe_and_be_killed", &[test_dir.names().to_str().unwrap()]);
        let pid = format!("pid={}", subscriber.pid());
        assert!(libc::WIFSIGNALED(subscriber.wait()));
        (0..10).for_each(|message| publisher.publish(message).unwrap());
        assert_one(&events.take(), &["WARN", "died", "kind=Broadcast", "ticks", &pid]);
    });
}

#[test]
fn tracing_death_of_responder_with_a_request_is_reported_once() {
    let test_dir = TestDir::new();
    recorded(|events| {
        let options = rpc::Options::<u64, u64>::new().directory(test_dir.names());
        let mut caller = options.caller("calls").unwrap();
        let mut responder = start("take_a_request_and_be_killed", &[test_dir.names().to_str().unwrap()]);
        let pid = format!("pid={}", responder.pid());
        assert_eq!(caller.call(1), Err(rpc::CallError::ResponderDied));
        assert!(libc::WIFSIGNALED(responder.wait()));
        assert_one(&events.take(), &["WARN", "died", "kind=Rpc", "calls", &pid]);
    });
}

#[test]
fn tracing_region_that_another_process_damaged_is_reported() {
    let test_dir = TestDir::new();
    recorded(|events| {
        let options = pipe::Options::<u64>::new().directory(test_dir.names());
        let mut rx = options.receiver("pipe").unwrap();
        let _tx = options.sender("pipe").unwrap();
        // The tail, as docs/layout.md has it.
        let file = File::options().write(true).open(test_dir.names().join("pipe")).unwrap();
        file.write_all_at(&u64::MAX.to_ne_bytes(), 128 * 8).unwrap();
        events.take();
        assert_eq!(rx.try_recv(), Err(RecvError::Corrupt));
        assert_one(&events.take(), &["WARN", "invalid data"]);
    });
}

#[test]
fn tracing_repair_is_reported_once() {
    let test_dir = TestDir::new();
    recorded(|events| {
        let plan = Namespace::builder().mutex("lock", 0_u64).directory(test_dir.names());
        let namespace = plan.open("names").unwrap();
        let mut owner = start("hold_a_lock_and_be_killed", &[test_dir.names().to_str().unwrap()]);
        let pid = format!("pid={}", owner.pid());
        assert!(libc::WIFSIGNALED(owner.wait()));
        let lock = namespace.mutex::<u64>("lock").unwrap();
        assert!(lock.lock().is_err());
        assert!(lock.lock().is_ok());
        assert_one(&events.take(), &["WARN", "released", "kind=Namespace", "names", &pid]);
    });
}

#[test]
fn tracing_long_wait_is_reported_once_with_its_end() {
    let _sandbox = TestDir::new();
    recorded(|events| {
        let options = queue::Options::<u64>::new().wait(WaitStrategy::Park);
        let (_tx, mut rx) = options.create_channel().unwrap();
        events.take();
        assert_eq!(rx.recv_timeout(Duration::from_millis(100)), Err(RecvError::TimedOut));
        assert_eq!(events.take(), [""; 0]);
        assert_eq!(rx.recv_timeout(Duration::from_millis(1500)), Err(RecvError::TimedOut));
        let events = events.take();
        assert_one(&events, &["DEBUG", "waits long", "waited_ms=1"]);
        assert_one(&events, &["DEBUG", "a long wait ended", "waited_ms="]);
        assert_eq!(events.len(), 2, "{events:#?}");
    });
}
