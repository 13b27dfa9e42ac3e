//! Broadcasts as objects of a namespace.

use std::time::Duration;

use tombolo::broadcast::{Options, Policy};
use tombolo::sync::ObjectKind;
use tombolo::{Directory, ErrorKind, Namespace, RecvError};

use crate::support::TestDir;

#[test]
fn broadcast_of_a_namespace_keeps_its_options() {
    let dir = TestDir::new();
    let ticks = Options::<[f64; 2]>::new().capacity(4).history(2).policy(Policy::Lossy).max_publishers(2);
    let news = Options::bytes().capacity(8);
    let plan = Namespace::builder().broadcast("ticks", &ticks).broadcast("news", &news).value("count", 7_u64);
    let plan = plan.directory(dir.names());
    let market = plan.open("market").unwrap();
    let mut publishers = [(); 2].map(|()| market.publisher::<[f64; 2]>("ticks").unwrap());
    assert_eq!(market.publisher::<[f64; 2]>("ticks").unwrap_err().kind(), ErrorKind::TooManyParticipants);
    for number in 0..9 {
        publishers.iter_mut().for_each(|publisher| publisher.publish([f64::from(number), 0.5]).unwrap());
    }
    let another = plan.open("market").unwrap();
    let mut late = another.subscriber::<[f64; 2]>("ticks").unwrap();
    let received: Vec<f64> = late.try_iter().map(|value| value.unwrap()[0]).collect();
    assert_eq!(received, [7.0, 8.0, 7.0, 8.0], "the history of each publisher");
    let mut subscriber = market.byte_subscriber("news").unwrap();
    let mut publisher = another.byte_publisher("news").unwrap();
    publisher.publish([3; 1000]).unwrap();
    assert_eq!(subscriber.recv(&mut Vec::new()), Ok(1000));
    let objects = Directory::at(dir.names()).inspect("market").unwrap().objects;
    assert_eq!((objects[0].kind, objects[0].length), (ObjectKind::Broadcast, Some(4)));
    assert_eq!(objects[0].state, "lossy, 18 published");
    drop((market, another));
    publisher.publish(b"the handles keep the namespace").unwrap();
    drop(publisher);
    assert_eq!(subscriber.recv(&mut Vec::new()), Ok(30));
    assert_eq!(subscriber.recv(&mut Vec::new()), Err(RecvError::Closed));
}

#[test]
fn broadcast_of_another_type_in_a_namespace_is_refused() {
    let ticks = Options::<f64>::new();
    let market = Namespace::builder().broadcast("ticks", &ticks).queue::<f64>("orders", 2).create().unwrap();
    assert_eq!(market.subscriber::<u64>("ticks").unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(market.subscriber::<f64>("orders").unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(market.queue::<f64>("ticks").unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(market.subscriber::<f64>("news").unwrap_err().kind(), ErrorKind::NotFound);
    let error = Namespace::builder().broadcast("ticks", &ticks.clone().max_publishers(0)).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("publishers"), "{error}");
}

/// Whoever has the namespace can join still.
#[test]
fn subscriber_in_a_namespace_whose_name_is_removed_waits_on() {
    let dir = TestDir::new();
    let plan = Namespace::builder().broadcast("ticks", &Options::<u64>::new()).directory(dir.names());
    let market = plan.open("market").unwrap();
    let mut subscriber = market.subscriber::<u64>("ticks").unwrap();
    Directory::at(dir.names()).unlink("market", true).unwrap();
    // Whether a name is lost is looked up once a second, from the second look on.
    for _ in 0..3 {
        assert_eq!(subscriber.recv_timeout(Duration::from_millis(800)), Err(RecvError::TimedOut));
    }
    market.publisher::<u64>("ticks").unwrap().publish(1).unwrap();
    assert_eq!(subscriber.recv(), Ok(1));
}
