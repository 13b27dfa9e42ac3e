//! Several publishers, and successors.

use std::thread;

use tombolo::RecvError;
use tombolo::broadcast::{Options, Policy};

#[test]
fn values_of_several_publishers_come_in_order_of_each() {
    for policy in [Policy::Lossless, Policy::Lossy] {
        let options = Options::<[u64; 3]>::new().capacity(16).max_publishers(3).policy(policy);
        let (publisher, mut subscriber) = options.create().unwrap();
        let publishers = [publisher.try_clone().unwrap(), publisher.try_clone().unwrap(), publisher];
        thread::scope(|scope| {
            for (index, mut publisher) in publishers.into_iter().enumerate() {
                scope.spawn(move || {
                    for number in 0..20_000 {
                        publisher.publish([index as u64, number, index as u64 ^ number]).unwrap();
                    }
                });
            }
            let (mut next, mut missed) = ([0; 3], 0);
            loop {
                match subscriber.recv() {
                    Ok([index, number, check]) => {
                        assert_eq!(index ^ number, check);
                        let next = &mut next[index as usize];
                        assert!(number >= *next);
                        missed = missed.max(number - *next); // some are counted in `Lagged`
                        assert!(policy == Policy::Lossy || number == *next);
                        *next = number + 1;
                    }
                    Err(RecvError::Lagged { .. }) => assert_eq!(policy, Policy::Lossy),
                    end => break assert_eq!(end, Err(RecvError::Closed)),
                }
            }
            assert_eq!(next, [20_000; 3]);
        });
    }
}

/// However fast one publisher is, the others have their turn.
#[test]
fn publisher_that_never_rests_does_not_keep_others_waiting() {
    for policy in [Policy::Lossless, Policy::Lossy] {
        for batch in [1, 3, 8] {
            let options = Options::<u64>::new().capacity(8).max_publishers(3).policy(policy);
            let (mut busy, mut subscriber) = options.create().unwrap();
            let mut others = [busy.try_clone().unwrap(), busy.try_clone().unwrap()];
            while busy.try_publish(0).is_ok() && policy == Policy::Lossless || subscriber.len() < 8 {}
            for (number, other) in (1..).zip(&mut others) {
                other.publish(number).unwrap();
            }
            let (mut received, mut values) = (Vec::new(), [0; 8]);
            for _ in 0..40 {
                match subscriber.try_recv_many(&mut values[..batch]) {
                    Ok(count) => received.extend_from_slice(&values[..count]),
                    Err(error) => assert!(matches!(error, RecvError::Lagged { .. }), "{error}"),
                }
                for _ in 0..if policy == Policy::Lossless { batch } else { 9 } {
                    let _ = busy.try_publish(0);
                }
            }
            assert!(received.contains(&1) && received.contains(&2), "{policy:?} {batch}: {received:?}");
        }
    }
}
