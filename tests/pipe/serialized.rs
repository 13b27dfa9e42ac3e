//! Values that serde serialises, through pipes.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tombolo::pipe::BytePipe;
use tombolo::spawn;
use tombolo::{RecvError, SendError};

use crate::support::TestDir;
use crate::{CAPACITY, pipe_to, small};

const MOMENT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Job {
    Stop,
    Resize { path: String, sizes: Vec<(u32, u32)> },
}

fn job(length: usize) -> Job {
    Job::Resize { path: "x".repeat(length), sizes: vec![(1, 2); length / 100] }
}

/// Sends back what comes, and garbage after each `Stop`.
pub fn echo_jobs(_: &[String]) {
    let mut pipe: BytePipe = spawn::take("peer").unwrap();
    while let Ok(job) = pipe.recv_object::<Job>() {
        if job == Job::Stop {
            pipe.send([9, 9, 9]).unwrap();
        }
        pipe.send_object(&job).unwrap();
    }
}

#[test]
fn pipe_serialized_value_of_any_length_comes_back_from_child() {
    let _sandbox = TestDir::new();
    let (mut pipe, child) = pipe_to(&small(), "echo_jobs", &[]);
    for length in [0, 1, 3, 200, CAPACITY / 2, CAPACITY + 1, 100 * CAPACITY + 7] {
        pipe.send_object(&job(length)).unwrap();
        assert_eq!(pipe.recv_object(), Ok(job(length)));
        pipe.send_object_timeout(&job(length), LONG).unwrap();
        assert_eq!(pipe.recv_object_timeout(LONG), Ok(job(length)));
        pipe.send_object_deadline(&job(length), None).unwrap();
        assert_eq!(pipe.recv_object_deadline(None), Ok(job(length)));
    }
    pipe.try_send_object(&Job::Stop).unwrap();
    assert!(pipe.poll(LONG).unwrap());
    assert_eq!(pipe.try_recv_object::<Job>(), Err(RecvError::Deserialize), "garbage");
    assert_eq!(pipe.recv_object(), Ok(Job::Stop), "the garbage is gone, and what follows is whole");
    drop(pipe);
    child.finish();
}

fn is_refused<T: DeserializeOwned + Debug + PartialEq>(garbage: &[u8]) {
    let (mut tx, mut rx) = small().create().unwrap();
    tx.send(garbage).unwrap();
    tx.send_object(&7_u8).unwrap();
    assert_eq!(rx.recv_object::<T>(), Err(RecvError::Deserialize), "{garbage:?}");
    assert_eq!(rx.recv_object(), Ok(7_u8), "{garbage:?} is gone");
}

#[test]
fn receiver_serialized_garbage_is_refused_and_consumed() {
    is_refused::<Job>(&[]);
    is_refused::<Job>(&[2]); // no such variant
    is_refused::<Job>(&[0, 0]); // something is left over
    is_refused::<String>(&[2, 0xFF, 0xFF]); // not UTF-8
    is_refused::<bool>(&[2]);
    is_refused::<char>(&[3, 0xED, 0xA0, 0x80]); // a surrogate
    is_refused::<u64>(&[0xFF; 11]); // a number without end
    let huge = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1]; // a length of 2^63
    is_refused::<Vec<u64>>(&huge);
    is_refused::<String>(&huge);
    is_refused::<Vec<Vec<u8>>>(&huge);
}

#[test]
fn pipe_serialized_forms_without_room_or_message_return() {
    let deadline = || Some(Instant::now() + MOMENT);
    let (mut one, mut other) = small().create_duplex().unwrap();
    assert_eq!(other.try_recv_object::<u8>(), Err(RecvError::Empty));
    assert_eq!(other.recv_object_timeout::<u8>(MOMENT), Err(RecvError::TimedOut));
    assert_eq!(other.recv_object_deadline::<u8>(deadline()), Err(RecvError::TimedOut));
    let half = "x".repeat(one.tx.max_inline_bytes() - 8);
    while one.try_send_object(&half).is_ok() {}
    assert_eq!(one.try_send_object(&half), Err(SendError::Full));
    assert_eq!(one.send_object_timeout(&half, MOMENT), Err(SendError::TimedOut));
    assert_eq!(one.send_object_deadline(&half, deadline()), Err(SendError::TimedOut));
    let limit = one.tx.max_inline_bytes();
    let long = "x".repeat(limit);
    assert_eq!(one.try_send_object(&long), Err(SendError::TooLarge { length: limit + 2, limit }), "it would block");
    assert_eq!(other.recv_object(), Ok(half));

    struct Unserialisable;
    impl Serialize for Unserialisable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    assert_eq!(one.send_object(&Unserialisable), Err(SendError::Serialize));
    drop(other);
    assert_eq!(one.send_object(&1), Err(SendError::Closed));
    assert_eq!(one.recv_object::<u8>(), Err(RecvError::Closed));
}
