//! What a child is: which program, with which streams, and what lets it in.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tombolo::Endpoint;
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::process::{Builder, Process, ProcessError};
use tombolo::{ErrorKind, RecvError};

use crate::common::descriptors;
use crate::support::{TestDir, report};

#[test]
fn child_spawns_children_of_its_own() {
    fn descend((mut tx, depth): (Sender<u64>, u64)) {
        tx.send(depth).unwrap();
        if depth > 0 {
            Process::spawn(descend, (tx, depth - 1)).unwrap().join().unwrap();
        }
    }
    let _test_dir = TestDir::new();
    let (tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    let worker = Process::spawn(descend, (tx, 3)).unwrap();
    let received: Vec<_> = rx.into_iter().collect();
    assert_eq!(worker.join(), Ok(()));
    assert_eq!(received, [3, 2, 1, 0].map(Ok));
}

#[test]
fn child_in_another_pid_namespace_runs_its_function() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let body = |tx: Sender<u64>| {
        // SAFETY: affects the children of this process.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            report("SKIPPED: no other PID namespace is permitted here");
            std::process::exit(0);
        }
        let send_pid = |mut tx: Sender<u64>| tx.send(u64::from(std::process::id())).unwrap();
        Builder::new().daemon(true).spawn(send_pid, tx).unwrap().join().unwrap();
    };
    let worker = Process::spawn(body, tx).unwrap();
    assert_eq!(worker.join(), Ok(()));
    assert!(matches!(rx.recv(), Ok(1) | Err(RecvError::Closed | RecvError::PeerDied)));
}

#[test]
fn environment_and_directory_without_a_fork_are_the_builders() {
    let _test_dir = TestDir::new();
    let body = |()| {
        let variables = ["ONE", "TWO", "HOME"].map(|name| env::var(name).ok());
        assert_eq!(variables, [Some("1".to_string()), Some("2".to_string()), None]);
        assert_eq!(env::current_dir().unwrap(), Path::new("/proc"));
        assert!(env::var_os("PATH").is_some());
    };
    let builder = Builder::new().env("ONE", "1").envs([("TWO", "2"), ("HOME", "3")]).env_remove("HOME");
    builder.current_dir("/proc").spawn(body, ()).unwrap().join().unwrap();
    let cleared = |()| {
        let names: Vec<_> = env::vars().map(|(name, _)| name).collect();
        assert_eq!(names, ["ONE"]);
    };
    Builder::new().env("TWO", "2").env_clear().env("ONE", "1").spawn(cleared, ()).unwrap().join().unwrap();
}

#[test]
fn streams_environment_and_directory_are_the_builders() {
    let _test_dir = TestDir::new();
    let body = |()| {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).unwrap();
        let variables = ["ONE", "TWO", "HOME"].map(|name| env::var(name).unwrap_or_default());
        print!("{text} {variables:?} {}", env::current_dir().unwrap().display());
        eprint!("to standard error");
    };
    let pipes = Builder::new().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let builder = pipes.env_clear().env("ONE", "1").envs([("TWO", "2"), ("HOME", "3")]).env_remove("HOME");
    let mut worker = builder.current_dir("/proc").spawn(body, ()).unwrap();
    worker.stdin.take().unwrap().write_all(b"from standard input").unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    worker.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    worker.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(worker.join(), Ok(()));
    // Nothing of the test harness.
    assert_eq!(out, r#"from standard input ["1", "2", ""] /proc"#);
    assert_eq!(err, "to standard error");
}

#[test]
fn output_to_a_file_has_nothing_of_the_harness() {
    let test_dir = TestDir::new();
    let path = test_dir.file("output");
    for text in ["one", "two"] {
        let file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        Builder::new().stdout(file).spawn(|text: String| println!("{text}"), text.into()).unwrap().join().unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
}

#[test]
fn name_is_the_handles_and_the_processs() {
    let _test_dir = TestDir::new();
    let body = |name: String| {
        let comm = format!("/proc/self/task/{}/comm", rustix::thread::gettid().as_raw_nonzero());
        assert_eq!(fs::read_to_string(comm).unwrap().trim_end_matches('\n'), &name[..name.len().min(15)]);
    };
    for name in ["worker", "a name of many bytes"] {
        let worker = Builder::new().name(name).spawn(body, name.to_string()).unwrap();
        assert_eq!(worker.name(), Some(name));
        assert_eq!(worker.join(), Ok(()));
    }
    let own = Path::new(&env::args_os().next().unwrap()).file_name().unwrap().to_str().unwrap().to_string();
    assert_eq!(Process::spawn(body, own).unwrap().join(), Ok(()));
    let error = Builder::new().name("with\0zero").spawn(body, String::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
}

#[test]
fn child_inherits_no_variable_and_no_other_descriptor() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    fn list() -> u64 {
        let list = Command::new("ls").arg("/proc/self/fd").output().unwrap();
        String::from_utf8(list.stdout).unwrap().lines().count() as u64
    }
    let body = |mut tx: Sender<u64>| {
        assert!(env::vars_os().all(|(name, _)| !name.to_string_lossy().starts_with("TOMBOLO_")));
        // A program that this one starts has none of ours.
        tx.send(list()).unwrap();
    };
    let worker = Builder::new().env_clear().env("PATH", "/usr/bin:/bin").spawn(body, tx).unwrap();
    assert_eq!(rx.recv(), Ok(list()), "as many as one that this process starts");
    assert_eq!(worker.join(), Ok(()));
}

const ROLE: &str = "TEST_PROCESS_ROLE";

/// Is run in a copy of this binary, whose file it replaces.
#[test]
fn program_that_is_replaced() {
    if env::var_os(ROLE).is_none() {
        return;
    }
    let own = env::current_exe().unwrap();
    let other = own.with_extension("other");
    fs::write(&other, "#!/bin/sh\nexit 1\n").unwrap();
    fs::rename(&other, &own).unwrap();
    Process::spawn(|number: u64| assert_eq!(number, 5), 5).unwrap().join().unwrap();
    fs::remove_file(&own).unwrap();
    Process::spawn(|number: u64| assert_eq!(number, 6), 6).unwrap().join().unwrap();
}

#[test]
fn binary_replaced_or_removed_child_runs_the_old_one() {
    let _test_dir = TestDir::new();
    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("replaced-{}", std::process::id()));
    fs::copy("/proc/self/exe", &copy).unwrap();
    let arguments = ["--exact", "children::program_that_is_replaced", "--nocapture"];
    let output = Command::new(&copy).args(arguments).env(ROLE, "1").output();
    let _ = fs::remove_file(&copy);
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
fn function_of_another_build_is_not_called() {
    let _test_dir = TestDir::new();
    tombolo::test_hooks::pretend_build("another build");
    let worker = Builder::new().stderr(Stdio::null()).spawn(|()| panic!("called"), ()).unwrap();
    let Err(ProcessError::NotStarted(reason)) = worker.join() else { panic!("{:?}", worker.join()) };
    assert!(reason.contains("another build"), "{reason}");
}

#[test]
fn function_of_a_shared_library_is_refused() {
    let _test_dir = TestDir::new();
    // SAFETY: never called.
    let function = unsafe { mem::transmute::<*const (), fn(u64)>(libc::getppid as *const ()) };
    let error = Process::spawn(function, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    assert!(error.to_string().contains("shared library"), "{error}");
}

/// Is run by children that do not call `init`: it must not spawn.
#[test]
fn child_that_did_not_initialise() {
    if env::var_os(ROLE).is_none() {
        return;
    }
    for _ in 0..3 {
        let error = Process::spawn(|()| {}, ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotInitialised, "{error}");
        assert!(error.to_string().contains("process::init()"), "{error}");
    }
    // Nor is what it starts taken for it.
    let status = Command::new("/proc/self/exe").args(["tombolo_process", "--exact"]).status().unwrap();
    assert_eq!(status.code(), Some(70));
    std::process::exit(42);
}

#[test]
fn child_that_never_calls_init_is_told_and_so_is_its_parent() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let mut builder = Builder::new().stdout(Stdio::null()).env(ROLE, "1");
    // As a main would that goes on where it should have called `init`.
    builder.command().args(["--skip", "tombolo_process", "children::child_that_did_not_initialise"]);
    let worker = builder.spawn(|_: Sender<u64>| {}, tx).unwrap();
    let ended = worker.join();
    assert!(matches!(&ended, Err(ProcessError::NotInitialised(status)) if status.code() == Some(42)), "{ended:?}");
    assert!(ended.unwrap_err().to_string().contains("call it first in main"));
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}

#[test]
fn variable_of_another_process_is_refused() {
    let _test_dir = TestDir::new();
    for description in ["", "3:1:2", "nonsense", "-1:0:0"] {
        let mut command = Command::new("/proc/self/exe");
        command.args(["tombolo_process", "--exact", "--nocapture"]).env("TOMBOLO_PROCESS", description);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{text}");
        assert!(text.contains("TOMBOLO_PROCESS"), "{text}");
    }
}

#[test]
fn descriptors_closed_before_the_program_spawn_fails() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let mut builder = Builder::new();
    // SAFETY: between fork and exec of a child.
    unsafe {
        builder.command().pre_exec(|| {
            let (mut path, mut link) = ([0_u8; 64], [0_u8; 64]);
            for descriptor in 3..1000 {
                write!(&mut path[..], "/proc/self/fd/{descriptor}\0")?;
                let length = libc::readlink(path.as_ptr().cast(), link.as_mut_ptr().cast(), link.len());
                // Not the others, by which std reports the failure.
                if length > 0 && link.starts_with(b"/memfd:tombolo") {
                    libc::close(descriptor);
                }
            }
            Ok(())
        });
    }
    let error = builder.spawn(|_: Sender<u64>| {}, tx).unwrap_err();
    assert!(error.to_string().contains("closes descriptors"), "{error}");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

/// A child that closes what is not its own reports less, and writes into no other file.
#[test]
fn descriptors_closed_by_the_function_its_end_is_seen() {
    let test_dir = TestDir::new();
    let path = test_dir.file("other");
    let body = |path: PathBuf| {
        // SAFETY: that is the point: nothing else here uses them.
        unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
        let files: Vec<_> = (0..20).map(|_| File::create(&path).unwrap()).collect();
        assert!(files[0].as_raw_fd() == 3);
        panic!("not reported");
    };
    let worker = Builder::new().stderr(Stdio::null()).spawn(body, path.clone()).unwrap();
    let ended = worker.join();
    assert!(matches!(&ended, Err(ProcessError::Failed(status)) if status.code() == Some(101)), "{ended:?}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

/// From no descriptor left to as many as a spawn needs.
#[test]
fn descriptor_table_full_spawn_fails_and_leaks_nothing() {
    let _test_dir = TestDir::new();
    let body = |()| {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = descriptors();
        let limit = getrlimit(Resource::Nofile);
        let allow = |count| setrlimit(Resource::Nofile, Rlimit { current: Some(count), ..limit }).unwrap();
        let mut failures = 0;
        for spare in 0.. {
            let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
            let builder = Builder::new().daemon(true);
            // The highest number in use is less than the count of them plus a few.
            allow(descriptors() as u64 - 1 + spare);
            let spawned = builder.spawn(|mut tx: Sender<u64>| tx.send(1).unwrap(), tx);
            allow(limit.current.unwrap());
            match spawned {
                Err(error) => {
                    failures += 1;
                    assert!(error.to_string().contains("limit of open files"), "{error}");
                    assert_eq!(rx.recv(), Err(RecvError::Closed));
                }
                // The child has the same limit, and may need more.
                Ok(worker) => {
                    let received = rx.recv();
                    match worker.join() {
                        Ok(()) => assert_eq!(received, Ok(1)),
                        Err(_) => assert_eq!(received, Err(RecvError::PeerDied)),
                    }
                    let has_run = received == Ok(1);
                    drop((worker, rx));
                    assert_eq!(descriptors(), before);
                    if has_run {
                        break;
                    }
                    continue;
                }
            }
            drop(rx);
            assert_eq!(descriptors(), before);
        }
        assert!(failures > 4, "{failures}");
    };
    Builder::new().stderr(Stdio::inherit()).spawn(body, ()).unwrap().join().unwrap();
}

/// Nothing that this library opens may become a standard stream, here or in a child: a message to
/// standard error would be written to it.
#[test]
fn streams_closed_in_parent_child_runs_and_writes_into_no_region() {
    let _test_dir = TestDir::new();
    let body = |closed: u32| {
        for stream in (0..3).filter(|stream| closed & 1 << stream != 0) {
            // SAFETY: that is the point: nothing else here uses them.
            unsafe { libc::close(stream) };
        }
        let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        let write = |mut tx: Sender<u64>| {
            for stream in 0..3 {
                // SAFETY: reads the text. If this is the region, its header is gone.
                unsafe { libc::pwrite(stream, c"some text".as_ptr().cast(), 9, 0) };
            }
            tx.send(1).unwrap();
        };
        let worker = Builder::new().daemon(true).spawn(write, tx).unwrap();
        assert_eq!(worker.join(), Ok(()));
        assert_eq!(rx.recv(), Ok(1));
        rx.into_fd().map(Receiver::<u64>::try_from).unwrap().unwrap(); // it reads the header
        let refused = Process::spawn(|_: Refused| {}, Refused).unwrap().join();
        assert!(matches!(&refused, Err(ProcessError::NotStarted(_))), "{refused:?}");
    };
    for closed in 1..8 {
        let quiet = Builder::new().stdout(Stdio::null()).stderr(Stdio::null());
        assert_eq!(quiet.spawn(body, closed).unwrap().join(), Ok(()), "{closed:03b}");
    }
}

/// What no child can deserialise.
struct Refused;

impl serde::Serialize for Refused {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> serde::Deserialize<'de> for Refused {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("refused"))
    }
}
