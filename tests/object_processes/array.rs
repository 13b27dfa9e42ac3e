//! `Array`: deaths in a section, and reads beside a busy writer.

use std::path::Path;
use std::time::Duration;

use tombolo::sync::SyncError;

use crate::common::{open, owner_died, refusal, start_ready};
use crate::support::{SharedCounters, TestDir};
use crate::value::{Long, long_values};

#[test]
fn array_owner_killed_in_section_next_lock_reports_owner_died() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let array = namespace.array::<[u64; 3]>("array").unwrap();
    let owner = start_ready(&test_dir, "hold", &["array"]);
    assert_eq!(array.get(0), Ok([1; 3]), "reading takes no lock");
    assert_eq!(refusal(array.try_lock()), SyncError::WouldBlock);
    owner.kill();
    // Calls that take the lock inside leave `OwnerDied` to the next section.
    assert_eq!(array.snapshot(), Ok(vec![[1; 3], [0; 3], [0; 3]]));
    assert_eq!((array.set(1, [2; 3]), array.store_from(2, &[[3; 3]])), (Ok(()), Ok(())));
    let section = owner_died(array.lock_timeout(Duration::MAX));
    assert_eq!(section.to_vec(), Ok(vec![[1; 3], [2; 3], [3; 3]]));
    drop(section);
    drop(array.lock().unwrap());
}

/// Sets an element again and again in a section that it never leaves.
pub fn set_continuously(arguments: &[String]) {
    let array = long_values(Path::new(&arguments[0])).array::<Long>("array").unwrap();
    let mut section = array.lock().unwrap();
    let longs = [[1; 512], [2; 512]];
    SharedCounters::at(Path::new(&arguments[1])).meet(0, 2);
    loop {
        longs.iter().for_each(|long| section.store_from(0, std::slice::from_ref(long)).unwrap());
    }
}

#[test]
fn array_element_set_continuously_get_returns() {
    let test_dir = TestDir::new();
    let array = long_values(&test_dir.names()).array::<Long>("array").unwrap();
    let writer = start_ready(&test_dir, "set_continuously", &[]);
    for _ in 0..2000 {
        let long = array.get(0).unwrap();
        assert!(long.iter().all(|&word| word == long[0]), "torn");
    }
    writer.kill();
    assert_eq!(array.iter().count(), 1);
}
