//! What one does wrong at first: each gets an error that says what to do instead. What does not
//! even compile is in refused.md.

use std::fmt::Debug;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tombolo::pipe::{self, Sender};
use tombolo::process::{self, Process};
use tombolo::{ErrorKind, RecvError};

use crate::kept::Kept;
use crate::support::{TestDir, report};

/// A sender that its `Serialize` passes twice, as two fields of a derived one could.
struct Twice(Sender<u64>);

impl Serialize for Twice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.0, &self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Twice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <(Sender<u64>, Sender<u64>)>::deserialize(deserializer).map(|(tx, _)| Self(tx))
    }
}

fn send(tx: Kept<Sender<u64>>) {
    tx.get().send(1).unwrap();
}

#[track_caller]
fn assert_refused<T: Debug>(outcome: tombolo::Result<T>, words: &[&str]) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn sender_passed_twice_in_one_argument_is_refused_and_closed() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    assert_refused(Process::spawn(|_: Twice| {}, Twice(tx)), &["was passed before", "pass it once only"]);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn sender_passed_to_two_children_second_spawn_is_refused() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let tx = Kept::new(tx);
    let worker = Process::spawn(send, tx.clone()).unwrap();
    assert_refused(Process::spawn(send, tx), &["was passed before", "pass it once only"]);
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(worker.join(), Ok(()));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn half_of_a_split_pipe_in_arguments_other_half_goes_on() {
    let _test_dir = TestDir::new();
    let (mut ours, theirs) = pipe::Options::<u64>::new().create_duplex().unwrap();
    let (tx, mut rx) = theirs.split();
    assert_refused(Process::spawn(|_: Sender<u64>| {}, tx), &["half of a pipe", "before splitting"]);
    ours.send(7).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    drop(rx);
    assert_eq!(ours.recv(), Err(RecvError::Closed));
}

#[test]
fn init_called_again_after_the_first_returns() {
    let _test_dir = TestDir::new();
    process::init();
    process::init();
    let worker = Process::spawn(
        |()| {
            process::init(); // in a child that runs its function, too
            Process::spawn(|()| {}, ()).unwrap().join().unwrap();
        },
        (),
    );
    assert_eq!(worker.unwrap().join(), Ok(()));
}

#[test]
fn program_started_by_an_explicit_loader_spawn_is_refused() {
    const VARIABLE: &str = "TOMBOLO_TEST_EXPLICIT_LOADER";
    const LOADERS: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let _test_dir = TestDir::new();
    if std::env::var_os(VARIABLE).is_some() {
        return assert_refused(Process::spawn(|()| {}, ()), &["explicit loader", "execute the program"]);
    }
    let Some(loader) = LOADERS.iter().find(|loader| std::path::Path::new(loader).exists()) else {
        return report("SKIPPED: no loader of glibc");
    };
    let name = "misuse::program_started_by_an_explicit_loader_spawn_is_refused";
    let mut program = std::process::Command::new(loader);
    program.arg(std::env::current_exe().unwrap()).args(["--exact", name]).env(VARIABLE, "");
    let output = program.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
