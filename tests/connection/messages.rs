//! Messages of connections, through memory and over TCP.

use std::thread;
use std::time::Duration;

use tombolo::connection::{Client, Connection, Listener, Options};
use tombolo::{RecvError, SendError};

use crate::support::{Random, TestDir, message, number_of, start};
use crate::{LONG, SHORT, connect, listeners, with_key};

/// Sends everything back that it gets.
pub fn echo(arguments: &[String]) {
    let mut connection = with_key().wait_for_listener(LONG).connect(&*arguments[0]).unwrap();
    let mut message = Vec::new();
    while connection.recv(&mut message).is_ok() {
        connection.send(&message).unwrap();
    }
}

/// Sends three messages and leaves.
pub fn send_and_exit(arguments: &[String]) {
    let mut connection = with_key().connect(&*arguments[0]).unwrap();
    for number in 0..3 {
        connection.send(message(number, 100)).unwrap();
    }
}

/// Sends three messages and is killed.
pub fn send_and_wait(arguments: &[String]) {
    let mut connection = with_key().connect(&*arguments[0]).unwrap();
    for number in 0..3 {
        connection.send(message(number, 100)).unwrap();
    }
    let _ = connection.recv(&mut Vec::new());
}

const LENGTHS: [usize; 9] = [0, 1, 8, 1000, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 3 << 20, 17 << 20];

#[test]
fn connection_between_processes_every_length_comes_back() {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let child = start("echo", &[&listener.address().to_string()]);
        let mut connection = listener.accept_timeout(LONG).unwrap();
        let mut answer = Vec::new();
        for (number, length) in LENGTHS.into_iter().enumerate() {
            let sent = message(number as u64, length);
            // The echo cannot begin before it has all, so this does not block for long.
            connection.send(&sent).unwrap();
            assert_eq!(connection.recv(&mut answer), Ok(length));
            assert!(answer == sent, "{length} bytes");
        }
        let sent = message(9, 1000);
        connection.send(&sent).unwrap();
        assert_eq!(connection.recv_into(&mut [0; 10]), Err(RecvError::BufferTooSmall { needed: 1000 }));
        let mut buffer = [0; 1000];
        assert_eq!(connection.recv_into(&mut buffer), Ok(1000));
        assert_eq!(buffer[..], sent);
        drop(connection);
        child.finish();
    }
}

#[test]
fn connection_peer_that_exits_closes_it() {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let child = start("send_and_exit", &[&listener.address().to_string()]);
        let mut connection = listener.accept_timeout(LONG).unwrap();
        child.finish();
        let numbers: Vec<u64> = connection.rx.iter().map(|message| number_of(&message.unwrap())).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(connection.recv(&mut Vec::new()), Err(RecvError::Closed));
        assert_eq!(connection.poll(LONG), Ok(true));
    }
}

#[test]
fn connection_peer_that_is_killed_is_reported_after_its_messages() {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let child = start("send_and_wait", &[&listener.address().to_string()]);
        let mut connection = listener.accept_timeout(LONG).unwrap();
        let mut message = Vec::new();
        connection.recv(&mut message).unwrap();
        let pid = child.pid();
        assert!(!connection.is_shared_memory() || connection.peer().pid() == Some(pid as u32));
        // It has sent everything before it can receive this.
        for number in 1..3 {
            connection.recv_timeout(&mut message, LONG).unwrap();
            assert_eq!(number_of(&message), number);
        }
        assert_eq!(connection.poll(SHORT), Ok(false));
        child.kill();
        assert_eq!(connection.recv(&mut message), Err(RecvError::PeerDied));
    }
}

#[test]
fn connection_timeouts_pass_and_lose_nothing() {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let [mut one, mut other] = connect(&mut listener, &with_key());
        let mut received = Vec::new();
        assert_eq!(one.try_recv(&mut received), Err(RecvError::Empty));
        assert_eq!(one.recv_timeout(&mut received, SHORT), Err(RecvError::TimedOut));
        assert_eq!(one.poll(SHORT), Ok(false));
        // Until nothing fits.
        let mut sent = 0;
        let last = loop {
            match one.send_timeout(message(sent, 50_000), SHORT) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(last, SendError::TimedOut);
        assert_eq!(one.try_send(message(sent, 50_000)), Err(SendError::Full));
        // One that is sent in part, and then given up.
        assert_eq!(one.send_timeout(message(99, 10 << 20), SHORT), Err(SendError::TimedOut));
        for number in 0..sent {
            other.recv(&mut received).unwrap();
            assert_eq!(number_of(&received), number);
        }
        assert_eq!(other.recv_timeout(&mut received, SHORT), Err(RecvError::TimedOut));
        one.send(message(sent, 70_000)).unwrap();
        other.recv(&mut received).unwrap();
        assert_eq!(number_of(&received), sent);
    }
}

/// Sends that time out at every length and moment: each message comes whole and once, or not at
/// all, as the sender was told.
#[test]
fn connection_sends_that_time_out_come_whole_or_not_at_all() {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let [mut one, mut other] = connect(&mut listener, &with_key());
        let sender = thread::spawn(move || {
            let mut random = Random(5);
            let mut sent = Vec::new();
            for number in 0..2000 {
                let length = 8 + random.below(if number % 50 == 0 { 4 << 20 } else { 300_000 }) as usize;
                let bytes = message(number, length);
                let outcome = match random.below(3) {
                    0 if length <= one_fragment() => one.try_send(&bytes),
                    1 => one.send(&bytes),
                    _ => one.send_timeout(&bytes, Duration::from_micros(random.below(300))),
                };
                match outcome {
                    Ok(()) => sent.push(number),
                    Err(SendError::Full | SendError::TimedOut) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            sent
        });
        let mut received = Vec::new();
        for bytes in other.rx.iter() {
            received.push(number_of(&bytes.unwrap()));
        }
        let sent = sender.join().unwrap();
        assert!(sent.len() < 2000, "none timed out");
        assert!(received == sent, "{} of {} came", received.len(), sent.len());
    }
}

fn one_fragment() -> usize {
    64 << 10
}

/// The last messages come although the sender leaves at once, with unread messages of its own.
#[test]
fn connection_dropped_with_unread_messages_loses_none_of_its_own() {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        for _ in 0..20 {
            let [mut one, mut other] = connect(&mut listener, &with_key());
            other.send(message(7, 60_000)).unwrap();
            for number in 0..5 {
                one.send(message(number, 60_000)).unwrap();
            }
            drop(one);
            let numbers: Vec<u64> = other.rx.iter().map(|bytes| number_of(&bytes.unwrap())).collect();
            assert_eq!(numbers, [0, 1, 2, 3, 4]);
        }
    }
}

#[test]
fn connection_split_halves_work_in_two_threads() {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let [one, other] = connect(&mut listener, &with_key());
        let (mut tx, mut rx) = one.split();
        let echo = thread::spawn(move || {
            let (mut tx, rx) = other.split();
            for message in rx {
                tx.send(message.unwrap()).unwrap();
            }
        });
        let sender = thread::spawn(move || (0..1000).for_each(|number| tx.send(message(number, 5000)).unwrap()));
        for number in 0..1000 {
            let mut bytes = Vec::new();
            rx.recv(&mut bytes).unwrap();
            assert_eq!(number_of(&bytes), number);
        }
        sender.join().unwrap();
        echo.join().unwrap();
        assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
    }
}

#[test]
fn connection_message_limit_is_the_lower_one_of_both_sides() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let limited = Options::new().max_message_bytes(1000);
    for (listening, connecting) in [(limited.clone(), Options::new()), (Options::new(), limited)] {
        let mut listener = listening.listen(&path).unwrap();
        for side in &mut connect(&mut listener, &connecting) {
            assert_eq!(side.send([0; 1000]), Ok(()));
            assert_eq!(side.send([0; 1001]), Err(SendError::TooLarge { length: 1001, limit: 1000 }));
        }
        let mut tcp = listening.clone().key("k").listen("127.0.0.1:0").unwrap();
        for side in &mut connect(&mut tcp, &connecting.clone().key("k")) {
            assert_eq!(side.send([0; 1000]), Ok(()));
            assert_eq!(side.send([0; 1001]), Err(SendError::TooLarge { length: 1001, limit: 1000 }));
        }
    }
}

#[test]
fn connection_objects_of_serde_come_back() {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let [mut one, mut other]: [Connection; 2] = connect(&mut listener, &with_key());
        one.send_object(&("order", 7, [1.5, 2.5])).unwrap();
        assert_eq!(other.recv_object::<(String, i32, [f64; 2])>(), Ok(("order".to_string(), 7, [1.5, 2.5])));
        one.send("no number").unwrap();
        assert_eq!(other.recv_object::<[u64; 4]>(), Err(RecvError::Deserialize));
    }
}

#[test]
fn connection_in_forked_child_is_refused() {
    let (alone, test_dir) = (crate::support::alone(), TestDir::new());
    for mut listener in listeners(&test_dir) {
        let [mut one, mut other] = connect(&mut listener, &with_key());
        crate::support::fork(&alone, || {
            assert_eq!(one.send("x"), Err(SendError::Forked));
            assert_eq!(one.recv(&mut Vec::new()), Err(RecvError::Forked));
            assert_eq!(listener.accept().unwrap_err().kind(), tombolo::ErrorKind::Forked);
            assert_eq!(
                one.take_timeout::<tombolo::sync::Event>(SHORT).unwrap_err().kind(),
                if one.is_shared_memory() { tombolo::ErrorKind::Forked } else { tombolo::ErrorKind::InvalidOptions }
            );
        })
        .finish();
        // The child has not closed, removed or ended anything.
        one.send("still there").unwrap();
        let mut bytes = Vec::new();
        assert_eq!(other.recv(&mut bytes), Ok(11));
        drop(one);
        assert_eq!(other.recv(&mut bytes), Err(RecvError::Closed));
        let [_, _] = connect(&mut listener, &with_key());
    }
}

#[test]
fn client_of_default_options_reaches_listener_of_default_options() {
    let address = format!("@tombolo-test-{}", std::process::id());
    let mut listener = Listener::bind(&*address).unwrap();
    let client = thread::spawn(move || Client::connect(&*address).unwrap().send("hello").unwrap());
    let mut bytes = Vec::new();
    let mut connection = listener.accept().unwrap();
    assert_eq!(connection.recv(&mut bytes), Ok(5));
    client.join().unwrap();
}
