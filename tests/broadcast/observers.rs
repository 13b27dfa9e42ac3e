//! Observers read without taking part.

use std::fs;
use std::time::Duration;

use tombolo::broadcast::{Options, Policy};
use tombolo::{Directory, Endpoint, ErrorKind, RecvError};

use crate::support::TestDir;

const SHORT: Duration = Duration::from_millis(20);

/// The lines of /proc/self/maps about a file.
fn mappings(path: &str) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.ends_with(path)).map(str::to_string).collect()
}

#[test]
fn observer_sees_everything_and_changes_nothing() {
    let dir = TestDir::new();
    for policy in [Policy::Lossless, Policy::Lossy, Policy::EvictSlow { lag: 4 }] {
        let options = Options::<u64>::new().capacity(8).history(2).policy(policy).directory(dir.names());
        let mut publisher = options.publisher("name").unwrap();
        (0..5).for_each(|number| publisher.publish(number).unwrap());
        let file = dir.names().join("name");
        let before = (fs::read(&file).unwrap(), Directory::at(dir.names()).inspect("name").unwrap().participants.len());
        let mut observer = options.observer("name").unwrap();
        let mut new = options.clone().replay(0).observer("name").unwrap();
        assert_eq!([observer.recv(), observer.recv()], [Ok(3), Ok(4)]);
        assert_eq!([observer.try_recv(), new.try_recv()], [Err(RecvError::Empty); 2]);
        assert_eq!(observer.recv_timeout(SHORT), Err(RecvError::TimedOut));
        let after = (fs::read(&file).unwrap(), Directory::at(dir.names()).inspect("name").unwrap().participants.len());
        assert!(before == after, "the region has changed");
        // 8 hold, whatever the policy: nobody waits for an observer.
        (5..20).for_each(|number| publisher.try_publish(number).unwrap());
        assert_eq!(observer.recv(), Err(RecvError::Lagged { missed: 7 }));
        assert!(observer.try_iter().map(Result::unwrap).eq(12..20));
        drop(publisher);
        assert_eq!(observer.recv(), Err(RecvError::Closed));
        assert_eq!(new.iter().filter_map(Result::ok).last(), Some(19));
    }
}

#[test]
fn observer_has_no_mapping_that_can_be_written() {
    let dir = TestDir::new();
    let options = Options::bytes().directory(dir.names()).history(3);
    let mut publisher = options.publisher("name").unwrap();
    publisher.publish([7; 600]).unwrap();
    publisher.abandon().unwrap(); // the name stays, and this process has no mapping of its own any more
    assert_eq!(mappings("/name"), [""; 0]);
    let mut observer = options.observer("name").unwrap();
    let found = mappings("/name");
    assert!(!found.is_empty() && found.iter().all(|line| line.contains(" r--s ")), "{found:?}");
    let mut message = Vec::new();
    assert_eq!(observer.recv(&mut message), Ok(600));
    assert_eq!(message, [7; 600]);
}

#[test]
fn observer_of_a_missing_or_other_region_is_refused() {
    let dir = TestDir::new();
    let options = Options::<u64>::new().directory(dir.names());
    assert_eq!(options.observer("name").unwrap_err().kind(), ErrorKind::NotFound);
    let _queue = tombolo::queue::Options::<u64>::new().directory(dir.names()).sender("name").unwrap();
    assert_eq!(options.observer("name").unwrap_err().kind(), ErrorKind::WrongType);
}
