//! Latest values of a broadcast in a region whose words another process has changed.

use std::time::Duration;

use tombolo::RecvError;
use tombolo::broadcast::{Options, Policy};

use crate::support::{Random, TestDir};
use crate::{Intruder, NAME, SHORT};

/// Words of the header.
const HEADER: usize = 64;

/// Whatever a word says, calls return, and deliver at most what fits into the ring.
#[test]
fn broadcast_of_latest_values_with_any_word_changed_returns() {
    let mut random = Random(0x1a7e57);
    let mut corrupt = 0;
    for policy in [Policy::Lossless, Policy::Lossy] {
        let test_dir = TestDir::new();
        let options = Options::<u64>::new().keys(2).capacity(2).max_subscribers(3).policy(policy);
        let options = options.wait_for_successor().directory(test_dir.names());
        let words = {
            let _publisher = options.publisher(NAME).unwrap();
            Intruder::at(&test_dir.names().join(NAME)).words()
        };
        for index in HEADER..words {
            for value in [1, u64::MAX, random.next()] {
                let mut publisher = options.publisher(NAME).unwrap();
                let mut subscriber = options.subscriber(NAME).unwrap();
                (0..2).for_each(|key| publisher.publish_key(key, 7).unwrap());
                subscriber.snapshot().unwrap();
                let intruder = Intruder::at(&test_dir.names().join(NAME));
                let before = intruder.get(index);
                intruder.set(index, value);
                for _ in 0..2 {
                    corrupt += u64::from(subscriber.snapshot().is_err_and(|error| error == RecvError::Corrupt));
                    let _ = publisher.try_publish_key(1, 8);
                    let received = (0..20).filter(|_| subscriber.recv_key_timeout(Duration::ZERO).is_ok()).count();
                    assert!(received <= 4, "{received} messages with word {index} as {value:#x}");
                    corrupt += u64::from(subscriber.recv_key_timeout(SHORT / 10) == Err(RecvError::Corrupt));
                }
                drop(publisher);
                // The next publisher looks for a message to finish.
                drop(options.publisher(NAME));
                intruder.set(index, before);
                drop(subscriber);
                let _ = std::fs::remove_file(test_dir.names().join(NAME));
            }
        }
    }
    assert!(corrupt > 20, "Corrupt was returned {corrupt} times");
}
