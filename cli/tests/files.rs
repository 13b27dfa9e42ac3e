//! `recv NAME FILE`: FILE has its old content until the new one is whole, and it stays what it is.

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

use common::{Running, World, assert_same, noise};

const OLD: &[u8] = b"the old content";

const NOBODY: u32 = 65534;

/// The command in a shell, for redirections and limits.
fn shell(world: &World, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("TOMBOLO_DIR", world.names()).env("TOMBOLO", env!("CARGO_BIN_EXE_tombolo"));
    command.env("FILES", world.path("")).current_dir(world.path(""));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn recv(file: &Path) -> [&OsStr; 3] {
    ["recv".as_ref(), "x".as_ref(), file.as_os_str()]
}

/// A whole transfer into the file, in which both sides end well.
fn pass(world: &World, data: &[u8], file: &Path) {
    pass_with(world, data, world.command(&recv(file)));
}

fn pass_with(world: &World, data: &[u8], mut recv: Command) {
    let send = world.start_with(&["send", "x"], &world.file("in", data));
    Running::new(&mut recv).end().expect(0, "");
    send.end().expect(0, "");
    fs::remove_file(world.path("in")).unwrap();
    world.assert_no_names();
}

/// A transfer that has begun: something of the new content has come.
fn under_way(world: &World, recv: &mut Command) -> (Running, Running) {
    let mut send = world.start(&["send", "x"]);
    let recv = Running::new(recv);
    send.write(b"new");
    world.await_taken("x");
    (send, recv)
}

/// Names in the directory of files.
fn listing(world: &World) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

/// Neither the file nor anything beside it has changed.
fn assert_as_it_was(world: &World, file: &Path) {
    assert_eq!(fs::read(file).unwrap(), OLD);
    assert_eq!(listing(world), [Path::new(file.file_name().unwrap())], "something is left");
}

/// Only root can be somebody else.
fn is_root(what: &str) -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("SKIPPED: {what} needs root");
    }
    root
}

/// A world of another user, if that one can run the program.
fn nobodys_world() -> Option<World> {
    if !is_root("running as another user") {
        return None;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_tombolo"));
    let tried = Command::new(program).arg("--version").uid(NOBODY).gid(NOBODY).stdout(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: user {NOBODY} cannot run {}", program.display());
        return None;
    }
    let world = World::new();
    for path in [world.names(), &world.path("")] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    Some(world)
}

fn nobodys(mut command: Command) -> Command {
    command.uid(NOBODY).gid(NOBODY);
    command
}

#[test]
fn a_second_receiver_by_mistake_does_no_harm_to_the_first_ones_copy() {
    let world = World::new();
    let data = noise(3_000_000);
    let copy = world.path("copy");
    let mut send = world.start(&["send", "x"]);
    let first = Running::new(&mut world.command(&recv(&copy)));
    send.write(&data[..1_000_000]);
    world.await_taken("x");
    for in_place in [&[][..], &["--in-place"]] {
        let mut second = world.command(&recv(&copy));
        Running::new(second.args(in_place)).end().expect(1, "process");
    }
    send.write(&data[1_000_000..]);
    send.close_input();
    send.end().expect(0, "");
    first.end().expect(0, "");
    assert_same(&fs::read(&copy).unwrap(), &data);
    assert_eq!(listing(&world), [Path::new("copy")]);
}

#[test]
fn a_receiver_that_never_joins_or_meets_nobody_leaves_the_file_as_it_was() {
    let world = World::new();
    let file = world.file("copy", OLD);
    for in_place in [&[][..], &["--in-place"]] {
        let run = |name: &str| {
            let mut command = world.command(&["recv", name, file.to_str().unwrap(), "--timeout", "0.1"]);
            Running::new(command.args(in_place)).end()
        };
        run(".bad").expect(2, "cannot use this name");
        assert_as_it_was(&world, &file);
        fs::write(world.name_path("junk"), "no region").unwrap();
        run("junk").expect(1, "expected a region");
        fs::remove_file(world.name_path("junk")).unwrap();
        assert_as_it_was(&world, &file);
    }
    world.run(&["recv", "x", file.to_str().unwrap(), "--timeout", "0.1"]).expect(4, "nobody came to send");
    world.run(&["recv", "x", world.path("new").to_str().unwrap(), "--timeout", "0.1"]).expect(4, "");
    assert_as_it_was(&world, &file);
}

#[test]
fn a_sender_that_dies_leaves_the_file_as_it_was() {
    let world = World::new();
    let file = world.file("copy", OLD);
    for signal in ["KILL", "INT"] {
        let (send, recv) = under_way(&world, &mut world.command(&recv(&file)));
        send.signal(signal);
        recv.end().expect(3, "the file is left as it was");
        send.end();
        assert_as_it_was(&world, &file);
    }
    // Nor does one come into being.
    let (send, recv) = under_way(&world, &mut world.command(&recv(&world.path("new"))));
    send.kill();
    recv.end().expect(3, "died");
    assert_as_it_was(&world, &file);
}

#[test]
fn a_receiver_that_is_interrupted_or_killed_leaves_the_file_as_it_was() {
    let world = World::new();
    let file = world.file("copy", OLD);
    for signal in ["INT", "TERM", "HUP", "QUIT", "KILL"] {
        let (send, recv) = under_way(&world, &mut world.command(&recv(&file)));
        recv.signal(signal);
        assert!(!recv.end().status.success());
        assert!(!send.end().status.success());
        assert_as_it_was(&world, &file);
    }
}

#[test]
fn a_full_disk_leaves_the_file_as_it_was() {
    // The next write past the limit is refused, or a signal ends the process.
    for trap in ["", "trap '' XFSZ;"] {
        let world = World::new();
        let file = world.file("copy", OLD);
        let send = world.start(&["send", "x", "/dev/zero"]);
        let line = format!("{trap} ulimit -f 20000; exec \"$TOMBOLO\" recv x copy");
        let recv = Running::new(&mut shell(&world, &line)).end();
        if trap.is_empty() {
            assert!(!recv.status.success());
        } else {
            recv.expect(1, "cannot write the output");
        }
        assert!(!send.end().status.success());
        assert_as_it_was(&world, &file);
    }
    if !is_root("a small file system") {
        return;
    }
    let world = World::new();
    let send = world.start(&["send", "x", "/dev/zero"]);
    let script = "mount -t tmpfs -o size=1m tmpfs . && cd \"$FILES\" && echo old >copy && \
        { \"$TOMBOLO\" recv x copy; echo \"$?\"; cat copy; ls -A; df --output=used . | tail -n 1; }";
    let mut unshared = Command::new("unshare");
    let shell = shell(&world, "");
    unshared.args(["-m", "sh", "-c", script]).current_dir(world.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());
    unshared.envs(shell.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let recv = Running::new(&mut unshared).end();
    recv.expect(0, "No space left on device");
    let told: Vec<&str> = recv.text().split_whitespace().collect();
    assert_eq!(told, ["1", "old", "copy", "4"]);
    send.end().expect(1, "left before the end");
}

#[test]
fn the_file_is_replaced_at_once_at_the_end() {
    let world = World::new();
    let file = world.file("copy", OLD);
    let mut reader = File::open(&file).unwrap();
    let (mut send, recv) = under_way(&world, &mut world.command(&recv(&file)));
    assert_as_it_was(&world, &file);
    send.close_input();
    send.end().expect(0, "");
    recv.end().expect(0, "");
    assert_eq!(fs::read(&file).unwrap(), b"new");
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, OLD, "a reader that has it open goes on in the old one");
    assert_eq!(listing(&world), [Path::new("copy")]);
}

#[test]
fn a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own() {
    for (umask, new) in [("000", 0o666), ("022", 0o644), ("077", 0o600)] {
        let world = World::new();
        let with_umask = || shell(&world, &format!("umask {umask}; exec \"$TOMBOLO\" recv x copy"));
        let mode = || fs::metadata(world.path("copy")).unwrap().mode() & 0o7777;
        pass_with(&world, b"one", with_umask());
        assert_eq!(mode(), new);
        for kept in [0o600, 0o640, 0o777] {
            fs::set_permissions(world.path("copy"), Permissions::from_mode(kept)).unwrap();
            pass_with(&world, b"two", with_umask());
            assert_eq!(mode(), kept);
        }
        // Given to another content, as with a write into it.
        fs::set_permissions(world.path("copy"), Permissions::from_mode(0o6755)).unwrap();
        pass_with(&world, b"three", with_umask());
        assert_eq!(mode(), 0o755);
    }
}

#[test]
fn a_mode_that_changes_during_the_transfer_is_kept() {
    let world = World::new();
    let file = world.file("copy", OLD);
    let (mut send, recv) = under_way(&world, &mut world.command(&recv(&file)));
    fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
    send.close_input();
    recv.end().expect(0, "");
    send.end().expect(0, "");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o604);
    assert_eq!(fs::read(&file).unwrap(), b"new");
}

#[test]
fn owner_and_group_are_kept() {
    if !is_root("another owner") {
        return;
    }
    let world = World::new();
    let file = world.file("copy", OLD);
    chown(&file, Some(NOBODY), Some(1)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    pass(&world, b"new", &file);
    let facts = fs::metadata(&file).unwrap();
    assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o7777), (NOBODY, 1, 0o640));
    assert_eq!(fs::read(&file).unwrap(), b"new");
}

#[test]
fn access_control_lists_and_extended_attributes_are_kept() {
    let world = World::new();
    let file = world.file("copy", OLD);
    // An entry for user 1: version, then tag, permissions and id of the owner, user 1, group, mask,
    // others.
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
    pass(&world, b"new", &file);
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(get("user.origin").unwrap(), b"elsewhere");
    assert_eq!(get("system.posix_acl_access").unwrap(), acl);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);

    // A file without a list does not get its directory's.
    rustix::fs::removexattr(&file, "system.posix_acl_access").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    set("system.posix_acl_default", &acl, &world.path("")).unwrap();
    pass(&world, b"newer", &file);
    assert!(get("system.posix_acl_access").is_err());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let world = World::new();
    fs::create_dir(world.path("deep")).unwrap();
    let target = world.file("deep/target", OLD);
    symlink("deep/second", world.path("first")).unwrap();
    symlink("target", world.path("deep/second")).unwrap(); // relative to its own directory
    let (send, recv) = under_way(&world, &mut world.command(&recv(&world.path("first"))));
    send.kill();
    recv.end().expect(3, "died");
    assert_eq!(fs::read(&target).unwrap(), OLD);
    pass(&world, b"new", &world.path("first"));
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(fs::read_link(world.path("first")).unwrap(), Path::new("deep/second"));
    assert_eq!(fs::read_link(world.path("deep/second")).unwrap(), Path::new("target"));
    assert_eq!(listing(&world), [Path::new("deep"), Path::new("first")]);
}

#[test]
fn a_link_to_nothing_makes_its_target_and_one_to_itself_is_an_error() {
    let world = World::new();
    symlink("target", world.path("dangling")).unwrap();
    pass(&world, b"new", &world.path("dangling"));
    assert_eq!(fs::read(world.path("target")).unwrap(), b"new");
    assert!(world.path("dangling").is_symlink());
    symlink("loop", world.path("loop")).unwrap();
    world.run(&recv(&world.path("loop"))).expect(1, "Too many levels of symbolic links");
    symlink("gone/target", world.path("nowhere")).unwrap();
    world.run(&recv(&world.path("nowhere"))).expect(1, "No such file or directory");
    world.assert_no_names();
}

#[test]
fn other_names_of_the_file_keep_the_old_content() {
    let world = World::new();
    let file = world.file("copy", OLD);
    fs::hard_link(&file, world.path("other")).unwrap();
    pass(&world, b"new", &file);
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(fs::read(world.path("other")).unwrap(), OLD);
    // Unless they are to have the new one.
    fs::remove_file(&file).unwrap();
    fs::hard_link(world.path("other"), &file).unwrap();
    let mut in_place = world.command(&recv(&file));
    in_place.arg("--in-place");
    pass_with(&world, b"new", in_place);
    assert_eq!(fs::read(world.path("other")).unwrap(), b"new");
}

#[test]
fn a_fifo_is_written_and_stays_one() {
    let world = World::new();
    let fifo = world.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    symlink("fifo", world.path("link")).unwrap();
    for path in [&fifo, &world.path("link")] {
        let path_of_reader = fifo.clone();
        let reader = thread::spawn(move || fs::read(path_of_reader).unwrap());
        pass(&world, b"through a fifo", path);
        assert_eq!(reader.join().unwrap(), b"through a fifo");
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    }
    assert_eq!(listing(&world), [Path::new("fifo"), Path::new("link")]);
}

#[test]
fn a_device_is_written_and_stays_one() {
    let world = World::new();
    let number = fs::metadata("/dev/null").unwrap().rdev();
    pass(&world, b"unwanted", Path::new("/dev/null"));
    symlink("/dev/null", world.path("link")).unwrap();
    pass(&world, b"unwanted", &world.path("link"));
    let facts = fs::symlink_metadata("/dev/null").unwrap();
    assert!(facts.file_type().is_char_device());
    assert_eq!(facts.rdev(), number);
}

#[test]
fn an_open_descriptor_is_written_where_it_is() {
    let world = World::new();
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
        world.file("out", b"header\n");
        let inode = fs::metadata(world.path("out")).unwrap().ino();
        pass_with(&world, b"content\n", shell(&world, &format!("exec \"$TOMBOLO\" recv x {name} {to}")));
        assert_eq!(fs::read_to_string(world.path("out")).unwrap(), "header\ncontent\n", "{name}");
        assert_eq!(fs::metadata(world.path("out")).unwrap().ino(), inode);
    }
    // Not emptied, and not written from its start.
    let line = "{ echo header; \"$TOMBOLO\" recv x /dev/stdout; echo footer; } >out";
    pass_with(&world, b"content\n", shell(&world, line));
    assert_eq!(fs::read_to_string(world.path("out")).unwrap(), "header\ncontent\nfooter\n");
    pass_with(&world, b"content\n", shell(&world, "{ echo header; \"$TOMBOLO\" recv x /dev/fd/3 3>&1; } >out"));
    assert_eq!(fs::read_to_string(world.path("out")).unwrap(), "header\ncontent\n");
    // Nor is any of our own taken for one that was passed.
    for number in 3..12 {
        let path = format!("/dev/fd/{number}");
        assert_eq!(world.run(&["recv", "x", &path, "--timeout", "0.1"]).code(), 1);
    }
    assert_eq!(listing(&world), [Path::new("out")]);
    world.assert_no_names();
}

#[test]
fn a_directory_is_refused_before_the_join() {
    let world = World::new();
    fs::create_dir(world.path("deep")).unwrap();
    for name in ["deep", "deep/", ".", "..", "/", "deep/..", "new/", "deep/."] {
        world.run(&recv(&world.path(name))).expect(1, "directory");
    }
    world.run(&recv(&world.path("none/copy"))).expect(1, "No such file");
    assert_eq!(listing(&world), [Path::new("deep")]);
    world.assert_no_names();
}

#[test]
fn a_file_or_directory_without_permission_is_refused_before_the_join() {
    let Some(world) = nobodys_world() else { return };
    let refused = |path: &Path, said: &str| {
        for in_place in [&[][..], &["--in-place"]] {
            let mut command = nobodys(world.command(&recv(path)));
            Running::new(command.args(in_place)).end().expect(1, said);
        }
        world.assert_no_names();
    };
    // Read-only, or another's: as with a write into it.
    let file = world.file("copy", OLD);
    refused(&file, "Permission denied");
    chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
    refused(&file, "Permission denied");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    // A directory in which nothing can be made: the file can only be written.
    chown(world.path(""), Some(0), Some(0)).unwrap();
    refused(&world.path("new"), "Permission denied");
    Running::new(&mut nobodys(world.command(&recv(&file)))).end().expect(1, "Permission denied");
    assert_as_it_was(&world, &file);
    let mut in_place = nobodys(world.command(&recv(&file)));
    in_place.arg("--in-place");
    let send = Running::new(nobodys(world.command(&["send", "x"])).stdin(Stdio::piped()));
    let mut send = send;
    let recv = Running::new(&mut in_place);
    send.write(b"new");
    send.close_input();
    send.end().expect(0, "");
    recv.end().expect(0, "");
    assert_eq!(fs::read(&file).unwrap(), b"new");
}

#[test]
fn what_others_put_into_a_sticky_directory_is_not_touched() {
    let Some(world) = nobodys_world() else { return };
    let file = world.file("roots", OLD);
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let elsewhere = World::new();
    let precious = elsewhere.file("precious", OLD);
    let link = world.path("link");
    symlink(&precious, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(1), Some(1)).unwrap();
    chown(&file, Some(1), Some(1)).unwrap();
    fs::set_permissions(world.path(""), Permissions::from_mode(0o1777)).unwrap();
    // Neither another user nor root, who could.
    for path in [&file, &link] {
        Running::new(&mut nobodys(world.command(&recv(path)))).end().expect(1, "Permission denied");
        world.run(&recv(path)).expect(1, "Permission denied");
    }
    fs::set_permissions(world.path(""), Permissions::from_mode(0o1775)).unwrap();
    chown(world.path(""), Some(2), Some(NOBODY)).unwrap();
    Running::new(&mut nobodys(world.command(&recv(&file)))).end().expect(1, "its directory is sticky");
    assert_eq!(fs::read(&file).unwrap(), OLD);
    assert_eq!(fs::read(&precious).unwrap(), OLD);
    assert_eq!(listing(&world), [Path::new("link"), Path::new("roots")]);
}

#[test]
fn an_owner_that_cannot_be_kept_is_an_error_before_the_join() {
    let Some(world) = nobodys_world() else { return };
    let file = world.file("roots", OLD);
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let mut command = nobodys(world.command(&recv(&file)));
    Running::new(&mut command).end().expect(1, "its owner cannot be kept");
    assert_as_it_was(&world, &file);
    world.assert_no_names();
}

#[test]
fn a_file_that_is_mounted_is_an_error_before_the_join() {
    if !is_root("a mount") {
        return;
    }
    let world = World::new();
    world.file("copy", OLD);
    world.file("other", b"mounted");
    let script = "mount --bind other copy && { \"$TOMBOLO\" recv x copy --timeout 1; echo \"$?\"; cat copy; }";
    let mut unshared = Command::new("unshare");
    unshared.args(["-m", "sh", "-c", script]).current_dir(world.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());
    unshared.env("TOMBOLO", env!("CARGO_BIN_EXE_tombolo")).env("TOMBOLO_DIR", world.names());
    let ended = Running::new(&mut unshared).end();
    ended.expect(0, "something is mounted there; write into it with --in-place");
    assert_eq!(ended.text(), "1\nmounted");
    world.assert_no_names();
}

#[test]
fn a_file_in_place_has_what_came_so_far() {
    let world = World::new();
    let file = world.file("copy", OLD);
    let inode = fs::metadata(&file).unwrap().ino();
    let mut command = world.command(&recv(&file));
    let (mut send, recv) = under_way(&world, command.arg("--in-place"));
    let await_content = |expected: &[u8]| {
        world.await_that("it is written", || fs::read(&file).unwrap() == expected);
    };
    await_content(b"new");
    send.write(b" and more");
    await_content(b"new and more");
    send.kill();
    recv.end().expect(3, "what came until then is incomplete");
    assert_eq!(fs::read(&file).unwrap(), b"new and more");
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
    // One that is not there yet is made.
    let mut command = world.command(&["recv", "x", world.path("new").to_str().unwrap()]);
    command.arg("--in-place");
    pass_with(&world, b"made", command);
    assert_eq!(fs::read(world.path("new")).unwrap(), b"made");
}

#[test]
fn lines_of_a_queue_appear_in_the_file_when_the_last_sender_has_left() {
    let world = World::new();
    let file = world.file("copy", OLD);
    let mut send = world.start(&["send", "--queue", "--lines", "x"]);
    let recv = world.start(&["recv", "--queue", "--lines", "x", file.to_str().unwrap()]);
    send.write(b"one\ntwo\n");
    world.await_taken("x");
    assert_eq!(fs::read(&file).unwrap(), OLD);
    send.close_input();
    send.end().expect(0, "");
    recv.end().expect(0, "");
    assert_eq!(fs::read(&file).unwrap(), b"one\ntwo\n");
    assert_eq!(listing(&world), [Path::new("copy")]);
}

/// They are nowhere else: neither is the sender told, nor can it send them again.
#[test]
fn messages_taken_out_of_a_queue_are_kept_beside_the_file_if_the_receiver_does_not_come_to_its_end() {
    for signal in ["INT", "TERM", "HUP", "QUIT", "KILL"] {
        let world = World::new();
        let file = world.file("copy", OLD);
        let mut send = world.start(&["send", "--queue", "--lines", "x"]);
        let recv = world.start(&["recv", "--queue", "--lines", "x", file.to_str().unwrap()]);
        let part = world.path(&format!("copy.part-{}", recv.pid()));
        send.write(b"one\ntwo\n");
        world.await_that("it is written", || fs::read(&part).is_ok_and(|content| content == b"one\ntwo\n"));
        recv.signal(signal);
        let recv = recv.end();
        assert!(!recv.status.success());
        if !matches!(signal, "KILL" | "QUIT") {
            assert!(recv.errors.contains(part.to_str().unwrap()), "{recv:?}");
        }
        assert_eq!(fs::read(&part).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read(&file).unwrap(), OLD);
    }
    // The same if the last sender dies.
    let world = World::new();
    let file = world.file("copy", OLD);
    let mut send = world.start(&["send", "--queue", "x"]);
    let recv = world.start(&["recv", "--queue", "x", file.to_str().unwrap()]);
    let part = world.path(&format!("copy.part-{}", recv.pid()));
    send.write(b"taken");
    world.await_taken("x");
    send.kill();
    recv.end().expect(3, &format!("what came until then is in {}", part.display()));
    assert_eq!(fs::read(&part).unwrap(), b"taken");
    assert_eq!(fs::read(&file).unwrap(), OLD);
    // Nothing is kept where nothing came.
    let world = World::new();
    let file = world.file("copy", OLD);
    world.run(&["recv", "--queue", "x", file.to_str().unwrap(), "--timeout", "0.1"]).expect(4, "nobody came");
    assert_as_it_was(&world, &file);
}

#[test]
fn of_two_receivers_into_one_file_the_last_to_end_has_it_whole() {
    for old in [true, false] {
        let world = World::new();
        let file = world.path("copy");
        if old {
            fs::write(&file, OLD).unwrap();
        }
        let mut sends = ["x", "y"].map(|name| world.start(&["send", name]));
        let recvs = ["x", "y"].map(|name| world.start(&["recv", name, file.to_str().unwrap()]));
        let data = [b'x', b'y'].map(|byte| vec![byte; 500_000]);
        for (send, data) in sends.iter_mut().zip(&data) {
            send.write(data);
        }
        let ends = sends.into_iter().zip(recvs).zip(&data);
        for ((mut send, recv), data) in ends {
            send.close_input();
            send.end().expect(0, "");
            recv.end().expect(0, "");
            assert_same(&fs::read(&file).unwrap(), data);
        }
        assert_eq!(listing(&world), [Path::new("copy")]);
    }
}

#[test]
fn what_came_is_kept_beside_a_name_that_is_no_file_any_more() {
    for in_the_way in ["directory", "link"] {
        let world = World::new();
        let file = world.file("copy", OLD);
        let (mut send, recv) = under_way(&world, &mut world.command(&recv(&file)));
        fs::remove_file(&file).unwrap();
        match in_the_way {
            "directory" => fs::create_dir(&file).unwrap(),
            _ => symlink("elsewhere", &file).unwrap(),
        }
        send.close_input();
        send.end().expect(0, "");
        let recv = recv.end();
        recv.expect(1, "it is no file any more; what came is in ");
        let kept = recv.errors.trim_end().rsplit(" is in ").next().unwrap();
        assert_eq!(fs::read(kept).unwrap(), b"new");
        assert!(!file.is_file());
    }
}

#[test]
fn a_file_that_is_removed_during_the_transfer_comes_back_new() {
    let world = World::new();
    let file = world.file("copy", OLD);
    let (mut send, recv) = under_way(&world, &mut world.command(&recv(&file)));
    fs::remove_file(&file).unwrap();
    send.close_input();
    send.end().expect(0, "");
    recv.end().expect(0, "");
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(listing(&world), [Path::new("copy")]);
}

#[test]
fn the_file_that_is_sent_may_be_the_one_that_is_received_into() {
    let world = World::new();
    let data = noise(9_000_001);
    let file = world.file("same", &data);
    let recv = world.start(&["recv", "x", file.to_str().unwrap()]);
    world.run(&["send", "x", file.to_str().unwrap()]).expect(0, "");
    recv.end().expect(0, "");
    assert_same(&fs::read(&file).unwrap(), &data);
}

#[test]
fn any_name_of_a_file_will_do() {
    let world = World::new();
    let long = "n".repeat(255);
    let names = [&b"with space"[..], b"new\nline", b"not \xff UTF-8", b"--in-place", b"-", long.as_bytes()];
    for name in names {
        for data in [&b"first"[..], b"second"] {
            let mut command = world.command(&["recv", "x", "--"]);
            let relative = [b"./", name].concat();
            command.arg(OsStr::from_bytes(&relative)).current_dir(world.path(""));
            pass_with(&world, data, command);
            assert_eq!(fs::read(world.path("").join(OsStr::from_bytes(name))).unwrap(), data);
        }
    }
    let mut command = world.command(&["recv", "x", "plain"]);
    command.current_dir(world.path(""));
    pass_with(&world, b"in the current directory", command);
    assert_eq!(listing(&world).len(), names.len() + 1);
}

#[test]
fn a_receiver_that_ends_by_a_signal_it_does_not_handle_leaves_the_file_as_it_was() {
    let world = World::new();
    let file = world.file("copy", OLD);
    let (mut send, recv) = under_way(&world, &mut world.command(&recv(&file)));
    recv.signal("USR1");
    assert_eq!(recv.end().status.signal(), Some(10));
    send.close_input();
    send.end().expect(3, "died");
    assert_as_it_was(&world, &file);
}
