//! `recv NAME FILE`: FILE keeps its old content until the new one is complete, and keeps its owner,
//! mode and attributes.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use common::{Exited, Process, TestEnv, assert_bytes_eq, random_bytes};

const OLD: &[u8] = b"the old content";

const NOBODY: u32 = 65534;

fn recv(file: &Path) -> [&OsStr; 3] {
    ["recv".as_ref(), "x".as_ref(), file.as_os_str()]
}

/// Transfers data into the file.
fn transfer(env: &TestEnv, data: &[u8], file: &Path) {
    transfer_with(env, data, env.command(&recv(file)));
}

fn transfer_with(env: &TestEnv, data: &[u8], mut recv: Command) {
    let send = env.spawn_with_input(&["send", "x"], &env.file("in", data));
    Process::new(&mut recv).wait().assert_exit(0, "");
    send.wait().assert_exit(0, "");
    fs::remove_file(env.path("in")).unwrap();
    env.assert_no_names();
}

/// Starts a transfer and returns in the middle of it: the receiver has got "new".
fn start_transfer(env: &TestEnv, recv: &mut Command) -> (Process, Process) {
    let mut send = env.spawn(&["send", "x"]);
    let recv = Process::new(recv);
    send.write(b"new");
    env.wait_until_received("x");
    (send, recv)
}

/// The names in the directory of files.
fn listing(env: &TestEnv) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        fs::read_dir(env.path("")).unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

/// Checks that the file has its old content and that there is nothing beside it.
fn assert_unchanged(env: &TestEnv, file: &Path) {
    assert_eq!(fs::read(file).unwrap(), OLD);
    assert_eq!(listing(env), [Path::new(file.file_name().unwrap())], "something is left");
}

/// Whether this is root, who can act as another user. Prints what is skipped if not.
fn is_root(what: &str) -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("SKIPPED: {what} needs root");
    }
    root
}

/// Runs a shell script whose mounts no other process sees.
fn run_with_mounts(env: &TestEnv, script: &str) -> Exited {
    Process::new(env.shell("exec unshare -m sh -c \"$SCRIPT\"").env("SCRIPT", script)).wait()
}

/// Directories that belong to another user. `None` if there cannot be such a process.
fn other_users_env() -> Option<TestEnv> {
    if !is_root("running as another user") {
        return None;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_tombolo"));
    let tried = Command::new(program).arg("--version").uid(NOBODY).gid(NOBODY).stdout(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: user {NOBODY} cannot run {}", program.display());
        return None;
    }
    let env = TestEnv::new();
    for path in [env.names(), &env.path("")] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    Some(env)
}

fn as_other_user(mut command: Command) -> Command {
    command.uid(NOBODY).gid(NOBODY);
    command
}

#[test]
fn second_receiver_refused_first_copy_is_complete() {
    let env = TestEnv::new();
    let data = random_bytes(3_000_000);
    let copy = env.path("copy");
    let mut send = env.spawn(&["send", "x"]);
    let first = Process::new(&mut env.command(&recv(&copy)));
    send.write(&data[..1_000_000]);
    env.wait_until_received("x");
    for in_place in [&[][..], &["--in-place"]] {
        let mut second = env.command(&recv(&copy));
        Process::new(second.args(in_place)).wait().assert_exit(1, "process");
    }
    send.write(&data[1_000_000..]);
    send.close_input();
    send.wait().assert_exit(0, "");
    first.wait().assert_exit(0, "");
    assert_bytes_eq(&fs::read(&copy).unwrap(), &data);
    assert_eq!(listing(&env), [Path::new("copy")]);
}

#[test]
fn receiver_that_cannot_join_or_has_no_sender_leaves_file_unchanged() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    for in_place in [&[][..], &["--in-place"]] {
        let run = |name: &str| {
            let mut command = env.command(&["recv", name, file.to_str().unwrap(), "--timeout", "0.1"]);
            Process::new(command.args(in_place)).wait()
        };
        run(".bad").assert_exit(2, "cannot use this name");
        assert_unchanged(&env, &file);
        fs::write(env.name_path("junk"), "no region").unwrap();
        run("junk").assert_exit(1, "expected a region");
        fs::remove_file(env.name_path("junk")).unwrap();
        assert_unchanged(&env, &file);
    }
    env.run(&["recv", "x", file.to_str().unwrap(), "--timeout", "0.1"]).assert_exit(4, "nobody came to send");
    env.run(&["recv", "x", env.path("new").to_str().unwrap(), "--timeout", "0.1"]).assert_exit(4, "");
    assert_unchanged(&env, &file);
}

#[test]
fn sender_killed_or_interrupted_leaves_file_unchanged() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    for signal in ["KILL", "INT"] {
        let (send, recv) = start_transfer(&env, &mut env.command(&recv(&file)));
        send.signal(signal);
        recv.wait().assert_exit(3, "the file is left as it was");
        send.wait();
        assert_unchanged(&env, &file);
    }
    // A file that did not exist is not created.
    let (send, recv) = start_transfer(&env, &mut env.command(&recv(&env.path("new"))));
    send.kill();
    recv.wait().assert_exit(3, "died");
    assert_unchanged(&env, &file);
}

#[test]
fn receiver_killed_or_interrupted_leaves_file_unchanged() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    for signal in ["INT", "TERM", "HUP", "QUIT", "KILL"] {
        let (send, recv) = start_transfer(&env, &mut env.command(&recv(&file)));
        recv.signal(signal);
        assert!(!recv.wait().status.success());
        assert!(!send.wait().status.success());
        assert_unchanged(&env, &file);
    }
}

#[test]
fn disk_full_leaves_file_unchanged() {
    // A write past the limit fails if SIGXFSZ is ignored; else the signal ends the process.
    for trap in ["", "trap '' XFSZ;"] {
        let env = TestEnv::new();
        let file = env.file("copy", OLD);
        let send = env.spawn(&["send", "x", "/dev/zero"]);
        let line = format!("{trap} ulimit -f 20000; exec \"$TOMBOLO\" recv x copy");
        let recv = Process::new(&mut env.shell(&line)).wait();
        if trap.is_empty() {
            assert!(!recv.status.success());
        } else {
            recv.assert_exit(1, "cannot write the output");
        }
        assert!(!send.wait().status.success());
        assert_unchanged(&env, &file);
    }
    if !is_root("a small file system") {
        return;
    }
    let env = TestEnv::new();
    let send = env.spawn(&["send", "x", "/dev/zero"]);
    let script = "mount -t tmpfs -o size=1m tmpfs . && cd \"$FILES\" && echo old >copy && \
        { \"$TOMBOLO\" recv x copy; echo \"$?\"; cat copy; ls -A; df --output=used . | tail -n 1; }";
    let recv = run_with_mounts(&env, script);
    recv.assert_exit(0, "No space left on device");
    let printed: Vec<&str> = recv.text().split_whitespace().collect();
    assert_eq!(printed, ["1", "old", "copy", "4"]);
    send.wait().assert_exit(1, "left before the end");
}

#[test]
fn transfer_complete_replaces_file_atomically() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    let mut reader = File::open(&file).unwrap();
    let (send, recv) = start_transfer(&env, &mut env.command(&recv(&file)));
    assert_unchanged(&env, &file);
    send.finish();
    recv.wait().assert_exit(0, "");
    assert_eq!(fs::read(&file).unwrap(), b"new");
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, OLD, "a reader that has the old file open keeps reading it");
    assert_eq!(listing(&env), [Path::new("copy")]);
}

#[test]
fn new_file_gets_mode_of_umask_and_old_file_keeps_its_mode() {
    for (umask, new) in [("000", 0o666), ("022", 0o644), ("077", 0o600)] {
        let env = TestEnv::new();
        let with_umask = || env.shell(&format!("umask {umask}; exec \"$TOMBOLO\" recv x copy"));
        let mode = || fs::metadata(env.path("copy")).unwrap().mode() & 0o7777;
        transfer_with(&env, b"one", with_umask());
        assert_eq!(mode(), new);
        for kept in [0o600, 0o640, 0o777] {
            fs::set_permissions(env.path("copy"), Permissions::from_mode(kept)).unwrap();
            transfer_with(&env, b"two", with_umask());
            assert_eq!(mode(), kept);
        }
        // Set-user-ID and set-group-ID were given to other content. A write removes them, too.
        fs::set_permissions(env.path("copy"), Permissions::from_mode(0o6755)).unwrap();
        transfer_with(&env, b"three", with_umask());
        assert_eq!(mode(), 0o755);
    }
}

#[test]
fn mode_changed_during_transfer_is_kept() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    let (send, recv) = start_transfer(&env, &mut env.command(&recv(&file)));
    fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
    send.finish();
    recv.wait().assert_exit(0, "");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o604);
    assert_eq!(fs::read(&file).unwrap(), b"new");
}

#[test]
fn owner_and_group_are_kept() {
    if !is_root("another owner") {
        return;
    }
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    chown(&file, Some(NOBODY), Some(1)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    transfer(&env, b"new", &file);
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (NOBODY, 1, 0o640));
    assert_eq!(fs::read(&file).unwrap(), b"new");
}

#[test]
fn access_control_list_and_extended_attributes_are_kept() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    // A version, then tag, permissions and id of each entry: owner, user 1, group, mask, others.
    let acl: Vec<u8> = [2_u32]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .chain(
            [(1_u16, 6_u16, u32::MAX), (2, 4, 1), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
                .into_iter()
                .flat_map(|(tag, permissions, id)| {
                    [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
                }),
        )
        .collect();
    let set =
        |name: &str, value: &[u8], on: &Path| rustix::fs::setxattr(on, name, value, rustix::fs::XattrFlags::empty());
    let get = |name: &str| {
        let mut value = vec![0; 1000];
        rustix::fs::getxattr(&file, name, value.as_mut_slice()).map(|length| value[..length].to_vec())
    };
    if set("user.origin", b"elsewhere", &file).is_err() || set("system.posix_acl_access", &acl, &file).is_err() {
        eprintln!("SKIPPED: no extended attributes or access control lists in {}", file.display());
        return;
    }
    transfer(&env, b"new", &file);
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(get("user.origin").unwrap(), b"elsewhere");
    assert_eq!(get("system.posix_acl_access").unwrap(), acl);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);

    // A file without a list does not get the default one of its directory.
    rustix::fs::removexattr(&file, "system.posix_acl_access").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    set("system.posix_acl_default", &acl, &env.path("")).unwrap();
    transfer(&env, b"newer", &file);
    assert!(get("system.posix_acl_access").is_err());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn symbolic_link_stays_and_its_target_is_replaced() {
    let env = TestEnv::new();
    fs::create_dir(env.path("deep")).unwrap();
    let target = env.file("deep/target", OLD);
    symlink("deep/second", env.path("first")).unwrap();
    symlink("target", env.path("deep/second")).unwrap(); // relative to its own directory
    let (send, recv) = start_transfer(&env, &mut env.command(&recv(&env.path("first"))));
    send.kill();
    recv.wait().assert_exit(3, "died");
    assert_eq!(fs::read(&target).unwrap(), OLD);
    transfer(&env, b"new", &env.path("first"));
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(fs::read_link(env.path("first")).unwrap(), Path::new("deep/second"));
    assert_eq!(fs::read_link(env.path("deep/second")).unwrap(), Path::new("target"));
    assert_eq!(listing(&env), [Path::new("deep"), Path::new("first")]);
}

#[test]
fn dangling_link_creates_its_target_and_link_loop_exits_1() {
    let env = TestEnv::new();
    symlink("target", env.path("dangling")).unwrap();
    transfer(&env, b"new", &env.path("dangling"));
    assert_eq!(fs::read(env.path("target")).unwrap(), b"new");
    assert!(env.path("dangling").is_symlink());
    symlink("loop", env.path("loop")).unwrap();
    env.run(&recv(&env.path("loop"))).assert_exit(1, "Too many levels of symbolic links");
    symlink("gone/target", env.path("nowhere")).unwrap();
    env.run(&recv(&env.path("nowhere"))).assert_exit(1, "No such file or directory");
    env.assert_no_names();
}

#[test]
fn hard_links_keep_old_content_unless_in_place() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    fs::hard_link(&file, env.path("other")).unwrap();
    transfer(&env, b"new", &file);
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(fs::read(env.path("other")).unwrap(), OLD);
    // With --in-place they get the new one.
    fs::remove_file(&file).unwrap();
    fs::hard_link(env.path("other"), &file).unwrap();
    let mut in_place = env.command(&recv(&file));
    in_place.arg("--in-place");
    transfer_with(&env, b"new", in_place);
    assert_eq!(fs::read(env.path("other")).unwrap(), b"new");
}

#[test]
fn fifo_is_written_and_stays() {
    let env = TestEnv::new();
    let fifo = env.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    symlink("fifo", env.path("link")).unwrap();
    for path in [&fifo, &env.path("link")] {
        let path_of_reader = fifo.clone();
        let reader = thread::spawn(move || fs::read(path_of_reader).unwrap());
        transfer(&env, b"through a fifo", path);
        assert_eq!(reader.join().unwrap(), b"through a fifo");
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    }
    assert_eq!(listing(&env), [Path::new("fifo"), Path::new("link")]);
}

#[test]
fn device_is_written_and_stays() {
    let env = TestEnv::new();
    let number = fs::metadata("/dev/null").unwrap().rdev();
    transfer(&env, b"unwanted", Path::new("/dev/null"));
    symlink("/dev/null", env.path("link")).unwrap();
    transfer(&env, b"unwanted", &env.path("link"));
    let metadata = fs::symlink_metadata("/dev/null").unwrap();
    assert!(metadata.file_type().is_char_device());
    assert_eq!(metadata.rdev(), number);
}

#[test]
fn descriptor_is_written_at_its_position() {
    let env = TestEnv::new();
    for (name, to) in [
        ("/dev/stdout", ">>out"),
        ("/dev/fd/1", ">>out"),
        ("/proc/self/fd/1", ">>out"),
        ("/proc/thread-self/fd/1", ">>out"),
        ("/dev/fd/7", "7>>out"),
        ("/dev/stdout --in-place", ">>out"),
        ("-", ">>out"),
        ("/dev/stderr", "2>>out"),
    ] {
        env.file("out", b"header\n");
        let inode = fs::metadata(env.path("out")).unwrap().ino();
        transfer_with(&env, b"content\n", env.shell(&format!("exec \"$TOMBOLO\" recv x {name} {to}")));
        assert_eq!(fs::read_to_string(env.path("out")).unwrap(), "header\ncontent\n", "{name}");
        assert_eq!(fs::metadata(env.path("out")).unwrap().ino(), inode);
    }
    // The file is neither emptied nor written from its start.
    let line = "{ echo header; \"$TOMBOLO\" recv x /dev/stdout; echo footer; } >out";
    transfer_with(&env, b"content\n", env.shell(line));
    assert_eq!(fs::read_to_string(env.path("out")).unwrap(), "header\ncontent\nfooter\n");
    transfer_with(&env, b"content\n", env.shell("{ echo header; \"$TOMBOLO\" recv x /dev/fd/3 3>&1; } >out"));
    assert_eq!(fs::read_to_string(env.path("out")).unwrap(), "header\ncontent\n");
    // Descriptors that the command itself opened do not count.
    for number in 3..12 {
        let path = format!("/dev/fd/{number}");
        assert_eq!(env.run(&["recv", "x", &path, "--timeout", "0.1"]).code(), 1);
    }
    assert_eq!(listing(&env), [Path::new("out")]);
    env.assert_no_names();
}

#[test]
fn directory_is_refused_before_joining() {
    let env = TestEnv::new();
    fs::create_dir(env.path("deep")).unwrap();
    for name in ["deep", "deep/", ".", "..", "/", "deep/..", "new/", "deep/."] {
        env.run(&recv(&env.path(name))).assert_exit(1, "directory");
    }
    env.run(&recv(&env.path("none/copy"))).assert_exit(1, "No such file");
    assert_eq!(listing(&env), [Path::new("deep")]);
    env.assert_no_names();
}

#[test]
fn file_without_permission_is_refused_before_joining() {
    let Some(env) = other_users_env() else { return };
    let assert_refused = |path: &Path, message: &str| {
        for in_place in [&[][..], &["--in-place"]] {
            let mut command = as_other_user(env.command(&recv(path)));
            Process::new(command.args(in_place)).wait().assert_exit(1, message);
        }
        env.assert_no_names();
    };
    // A read-only file, or one of another user, cannot be replaced.
    let file = env.file("copy", OLD);
    assert_refused(&file, "Permission denied");
    chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
    assert_refused(&file, "Permission denied");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    // In a directory without write permission, the file can only be written in place.
    chown(env.path(""), Some(0), Some(0)).unwrap();
    assert_refused(&env.path("new"), "Permission denied");
    Process::new(&mut as_other_user(env.command(&recv(&file)))).wait().assert_exit(1, "Permission denied");
    assert_unchanged(&env, &file);
    let mut in_place = as_other_user(env.command(&recv(&file)));
    in_place.arg("--in-place");
    let mut send = Process::new(as_other_user(env.command(&["send", "x"])).stdin(Stdio::piped()));
    let recv = Process::new(&mut in_place);
    send.write(b"new");
    send.finish();
    recv.wait().assert_exit(0, "");
    assert_eq!(fs::read(&file).unwrap(), b"new");
}

#[test]
fn file_of_another_user_in_sticky_directory_is_refused() {
    let Some(env) = other_users_env() else { return };
    let file = env.file("roots", OLD);
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let elsewhere = TestEnv::new();
    let precious = elsewhere.file("precious", OLD);
    let link = env.path("link");
    symlink(&precious, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(1), Some(1)).unwrap();
    chown(&file, Some(1), Some(1)).unwrap();
    fs::set_permissions(env.path(""), Permissions::from_mode(0o1777)).unwrap();
    // Even root is refused, although the kernel would permit it.
    for path in [&file, &link] {
        Process::new(&mut as_other_user(env.command(&recv(path)))).wait().assert_exit(1, "Permission denied");
        env.run(&recv(path)).assert_exit(1, "Permission denied");
    }
    fs::set_permissions(env.path(""), Permissions::from_mode(0o1775)).unwrap();
    chown(env.path(""), Some(2), Some(NOBODY)).unwrap();
    Process::new(&mut as_other_user(env.command(&recv(&file)))).wait().assert_exit(1, "its directory is sticky");
    assert_eq!(fs::read(&file).unwrap(), OLD);
    assert_eq!(fs::read(&precious).unwrap(), OLD);
    assert_eq!(listing(&env), [Path::new("link"), Path::new("roots")]);
}

#[test]
fn owner_that_cannot_be_kept_is_refused_before_joining() {
    let Some(env) = other_users_env() else { return };
    let file = env.file("roots", OLD);
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let mut command = as_other_user(env.command(&recv(&file)));
    Process::new(&mut command).wait().assert_exit(1, "its owner cannot be kept");
    assert_unchanged(&env, &file);
    env.assert_no_names();
}

#[test]
fn mount_point_is_refused_before_joining() {
    if !is_root("a mount") {
        return;
    }
    let env = TestEnv::new();
    env.file("copy", OLD);
    env.file("other", b"mounted");
    let script = "mount --bind other copy && { \"$TOMBOLO\" recv x copy --timeout 1; echo \"$?\"; cat copy; }";
    let exited = run_with_mounts(&env, script);
    exited.assert_exit(0, "something is mounted there; write into it with --in-place");
    assert_eq!(exited.text(), "1\nmounted");
    env.assert_no_names();
}

#[test]
fn in_place_file_has_what_came_so_far() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    let inode = fs::metadata(&file).unwrap().ino();
    let mut command = env.command(&recv(&file));
    let (mut send, recv) = start_transfer(&env, command.arg("--in-place"));
    let wait_for_content = |expected: &[u8]| {
        env.wait_until("it is written", || fs::read(&file).unwrap() == expected);
    };
    wait_for_content(b"new");
    send.write(b" and more");
    wait_for_content(b"new and more");
    send.kill();
    recv.wait().assert_exit(3, "what came until then is incomplete");
    assert_eq!(fs::read(&file).unwrap(), b"new and more");
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
    // A file that does not exist is created.
    let mut command = env.command(&["recv", "x", env.path("new").to_str().unwrap()]);
    command.arg("--in-place");
    transfer_with(&env, b"made", command);
    assert_eq!(fs::read(env.path("new")).unwrap(), b"made");
}

#[test]
fn queue_lines_replace_file_when_last_sender_left() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    let mut send = env.spawn(&["send", "--queue", "--lines", "x"]);
    let recv = env.spawn(&["recv", "--queue", "--lines", "x", file.to_str().unwrap()]);
    send.write(b"one\ntwo\n");
    env.wait_until_received("x");
    assert_eq!(fs::read(&file).unwrap(), OLD);
    send.finish();
    recv.wait().assert_exit(0, "");
    assert_eq!(fs::read(&file).unwrap(), b"one\ntwo\n");
    assert_eq!(listing(&env), [Path::new("copy")]);
}

/// Messages taken out of a queue are nowhere else: the sender cannot send them again.
#[test]
fn queue_receiver_that_ends_early_keeps_part_file() {
    for signal in ["INT", "TERM", "HUP", "QUIT", "KILL"] {
        let env = TestEnv::new();
        let file = env.file("copy", OLD);
        let mut send = env.spawn(&["send", "--queue", "--lines", "x"]);
        let recv = env.spawn(&["recv", "--queue", "--lines", "x", file.to_str().unwrap()]);
        let part = env.path(&format!("copy.part-{}", recv.pid()));
        send.write(b"one\ntwo\n");
        env.wait_until("it is written", || fs::read(&part).is_ok_and(|content| content == b"one\ntwo\n"));
        recv.signal(signal);
        let recv = recv.wait();
        assert!(!recv.status.success());
        if !matches!(signal, "KILL" | "QUIT") {
            assert!(recv.errors.contains(part.to_str().unwrap()), "{recv:?}");
        }
        assert_eq!(fs::read(&part).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read(&file).unwrap(), OLD);
    }
    // The same if the last sender is killed.
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    let mut send = env.spawn(&["send", "--queue", "x"]);
    let recv = env.spawn(&["recv", "--queue", "x", file.to_str().unwrap()]);
    let part = env.path(&format!("copy.part-{}", recv.pid()));
    send.write(b"taken");
    env.wait_until_received("x");
    send.kill();
    recv.wait().assert_exit(3, &format!("what came until then is in {}", part.display()));
    assert_eq!(fs::read(&part).unwrap(), b"taken");
    assert_eq!(fs::read(&file).unwrap(), OLD);
    // No part file stays if nothing came.
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    env.run(&["recv", "--queue", "x", file.to_str().unwrap(), "--timeout", "0.1"]).assert_exit(4, "nobody came");
    assert_unchanged(&env, &file);
}

#[test]
fn two_receivers_into_one_file_last_to_end_wins() {
    for old in [true, false] {
        let env = TestEnv::new();
        let file = env.path("copy");
        if old {
            fs::write(&file, OLD).unwrap();
        }
        let mut sends = ["x", "y"].map(|name| env.spawn(&["send", name]));
        let recvs = ["x", "y"].map(|name| env.spawn(&["recv", name, file.to_str().unwrap()]));
        let data = [b'x', b'y'].map(|byte| vec![byte; 500_000]);
        for (send, data) in sends.iter_mut().zip(&data) {
            send.write(data);
        }
        let ends = sends.into_iter().zip(recvs).zip(&data);
        for ((mut send, recv), data) in ends {
            send.close_input();
            send.wait().assert_exit(0, "");
            recv.wait().assert_exit(0, "");
            assert_bytes_eq(&fs::read(&file).unwrap(), data);
        }
        assert_eq!(listing(&env), [Path::new("copy")]);
    }
}

#[test]
fn file_replaced_by_directory_or_link_during_transfer_keeps_data_beside_it() {
    for in_the_way in ["directory", "link"] {
        let env = TestEnv::new();
        let file = env.file("copy", OLD);
        let (mut send, recv) = start_transfer(&env, &mut env.command(&recv(&file)));
        fs::remove_file(&file).unwrap();
        match in_the_way {
            "directory" => fs::create_dir(&file).unwrap(),
            _ => symlink("elsewhere", &file).unwrap(),
        }
        send.close_input();
        send.wait().assert_exit(0, "");
        let recv = recv.wait();
        recv.assert_exit(1, "it is no file any more; what came is in ");
        let kept = recv.errors.trim_end().rsplit(" is in ").next().unwrap();
        assert_eq!(fs::read(kept).unwrap(), b"new");
        assert!(!file.is_file());
    }
}

#[test]
fn file_removed_during_transfer_is_created_again() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    let (send, recv) = start_transfer(&env, &mut env.command(&recv(&file)));
    fs::remove_file(&file).unwrap();
    send.finish();
    recv.wait().assert_exit(0, "");
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(listing(&env), [Path::new("copy")]);
}

#[test]
fn same_file_sent_and_received_stays_whole() {
    let env = TestEnv::new();
    let data = random_bytes(9_000_001);
    let file = env.file("same", &data);
    let recv = env.spawn(&["recv", "x", file.to_str().unwrap()]);
    env.run(&["send", "x", file.to_str().unwrap()]).assert_exit(0, "");
    recv.wait().assert_exit(0, "");
    assert_bytes_eq(&fs::read(&file).unwrap(), &data);
}

#[test]
fn unusual_file_names_work() {
    let env = TestEnv::new();
    let long = "n".repeat(255);
    let names = [&b"with space"[..], b"new\nline", b"not \xff UTF-8", b"--in-place", b"-", long.as_bytes()];
    for name in names {
        for data in [&b"first"[..], b"second"] {
            let mut command = env.command(&["recv", "x", "--"]);
            let relative = [b"./", name].concat();
            command.arg(OsStr::from_bytes(&relative)).current_dir(env.path(""));
            transfer_with(&env, data, command);
            assert_eq!(fs::read(env.path("").join(OsStr::from_bytes(name))).unwrap(), data);
        }
    }
    let mut command = env.command(&["recv", "x", "plain"]);
    command.current_dir(env.path(""));
    transfer_with(&env, b"in the current directory", command);
    assert_eq!(listing(&env).len(), names.len() + 1);
}

#[test]
fn receiver_ended_by_unhandled_signal_leaves_file_unchanged() {
    let env = TestEnv::new();
    let file = env.file("copy", OLD);
    let (mut send, recv) = start_transfer(&env, &mut env.command(&recv(&file)));
    recv.signal("USR1");
    assert_eq!(recv.wait().status.signal(), Some(10));
    send.close_input();
    send.wait().assert_exit(3, "died");
    assert_unchanged(&env, &file);
}
