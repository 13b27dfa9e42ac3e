//! A program that forgets `tombolo::process::init`. This binary has no test that calls it.

use tombolo::ErrorKind;
use tombolo::pipe::{self, Sender};
use tombolo::process::{Builder, Process};

#[test]
fn spawn_without_init_is_refused_and_starts_nothing() {
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let error = Process::spawn(|_: Sender<u64>| {}, tx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialised, "{error}");
    assert!(error.to_string().contains("init_in_tests"), "{error}");
    assert_eq!(rx.recv(), Err(tombolo::RecvError::Closed));
    let error = Builder::new().daemon(true).spawn(|()| {}, ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialised, "{error}");
    // SAFETY: asks for any child.
    let any = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!(any, -1, "there is no child");
}
