//! Queues within a namespace.

use std::thread;

use tombolo::queue::{self, Queue};
use tombolo::{Endpoint, ErrorKind, Namespace, RecvError, SendError};

use crate::common::NAME;
use crate::support::{TestDir, message};

#[test]
fn namespace_queue_behaves_like_any_queue() {
    let test_dir = TestDir::new();
    let plan = Namespace::builder().queue::<[u16; 3]>("values", 5).queue_bytes("bytes", 4, 5000).event("event");
    for namespace in [plan.create().unwrap(), plan.directory(test_dir.names()).open(NAME).unwrap()] {
        let mut values: Queue<[u16; 3]> = namespace.queue("values").unwrap();
        let mut another = namespace.queue::<[u16; 3]>("values").unwrap();
        assert_eq!((values.capacity(), values.len()), (8, 0));
        for lap in 0..10 {
            (0..8).for_each(|number| values.try_send([lap, number, 0]).unwrap());
            assert_eq!(values.try_send([0; 3]), Err(SendError::Full));
            assert!(another.len() == 8 && another.is_full());
            (0..8).for_each(|number| assert_eq!(another.recv(), Ok([lap, number, 0])));
            assert_eq!(another.try_recv(), Err(RecvError::Empty));
        }
        let mut bytes = namespace.queue_bytes("bytes").unwrap();
        let mut received = Vec::new();
        for length in [0, 1, 240, 241, 4096, 4999, 5000] {
            let sent = message(length as u64, length);
            bytes.send(&sent).unwrap();
            assert_eq!(bytes.recv(&mut received), Ok(length));
            assert!(received == sent, "{length}");
        }
        assert_eq!(bytes.send([0; 5001]), Err(SendError::TooLarge { length: 5001, limit: 5000 }));
        for _ in 0..10 {
            (0..4).for_each(|number| bytes.try_send(message(number, 5000)).unwrap());
            assert_eq!(bytes.try_send(b""), Err(SendError::Full));
            (0..4).for_each(|number| {
                bytes.recv(&mut received).unwrap();
                assert!(received == message(number, 5000));
            });
        }
        thread::scope(|scope| {
            let (mut tx, mut rx) = another.split();
            scope.spawn(move || (0..5000).for_each(|number| tx.send([number; 3]).unwrap()));
            (0..5000).for_each(|number| assert_eq!(rx.recv(), Ok([number; 3])));
        });
        drop(namespace);
        let (tx, mut rx) = values.split();
        let error = tx.into_fd().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "it is not to be had apart from the others: {error}");
        rx.close().unwrap();
        assert_eq!(rx.recv(), Err(RecvError::Closed));
        assert_eq!((bytes.close(), bytes.send(b"x")), (Ok(()), Err(SendError::Closed)));
    }
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn namespace_queues_are_independent() {
    let namespace = Namespace::builder().queue::<u8>("first", 4).queue::<u8>("second", 4).create().unwrap();
    let [mut first, mut second] = ["first", "second"].map(|name| namespace.queue::<u8>(name).unwrap());
    first.send(1).unwrap();
    second.send(2).unwrap();
    first.close().unwrap();
    assert_eq!((first.recv(), first.recv()), (Ok(1), Err(RecvError::Closed)));
    assert_eq!((second.recv(), second.send(3), second.recv()), (Ok(2), Ok(()), Ok(3)));
    let other = queue::Sender::<u8>::try_clone(&second.sender().unwrap()).unwrap();
    drop((namespace, second));
    assert_eq!(other.len(), 0);
}

#[test]
fn namespace_of_one_participant_each_queue_has_one_sender_and_receiver() {
    let plan = Namespace::builder().queue::<u8>("before", 4).max_participants(1).queue::<u8>("after", 4);
    let namespace = plan.create().unwrap();
    for name in ["before", "after"] {
        let mut queue = namespace.queue::<u8>(name).unwrap();
        queue.send(1).unwrap();
        assert_eq!(queue.recv(), Ok(1));
        for error in [queue.sender().map(drop), queue.receiver().map(drop), namespace.queue::<u8>(name).map(drop)] {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::TooManyParticipants, "{name}");
        }
        let (mut tx, rx) = queue.split();
        drop(rx);
        tx.send(2).unwrap();
        assert_eq!(tx.receiver().unwrap().recv(), Ok(2));
    }
}
