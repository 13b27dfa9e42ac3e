//! How processes end, and what their parent learns of it.

use tombolo::process::{Process, ProcessError};

use crate::support::TestDir;

#[test]
fn function_panics_join_returns_message_and_place() {
    let _test_dir = TestDir::new();
    let worker = Process::spawn(|number: u64| assert_eq!(number, 7, "not seven"), 8).unwrap();
    let Err(ProcessError::Panicked(panic)) = worker.join() else { panic!("{:?}", worker.join()) };
    assert!(panic.message.contains("not seven"), "{panic}");
    assert!(panic.file.ends_with("ends.rs"), "{panic}");
    assert_eq!(worker.exit_status().unwrap().code(), Some(101));
}
