//! Standard streams that are closed, full or of the wrong kind: an error, never a silent loss.

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Ended, Running, World, assert_same, noise};

/// The command in a shell, for redirections that `Command` cannot express.
fn shell(world: &World, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("TOMBOLO_DIR", world.names()).env("TOMBOLO", env!("CARGO_BIN_EXE_tombolo"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(world: &World, line: &str) -> Ended {
    Running::new(&mut shell(world, line)).end()
}

/// Each with a redirection of its own behind it.
const PRINTING: [&str; 14] = [
    "ls",
    "ls --json",
    "inspect x",
    "inspect x --json",
    "doctor",
    "doctor --json",
    "doctor --dry-run",
    "--help",
    "--version",
    "help",
    "recv --help",
    "help send",
    "demo --mib 1 --messages 10 --round-trips 10",
    "demo --json --mib 1 --messages 10 --round-trips 10",
];

#[test]
fn receiving_into_a_closed_output_is_refused_and_costs_the_sender_nothing() {
    let world = World::new();
    let data = noise(300_000);
    let send = world.start_with(&["send", "x"], &world.file("in", &data));
    world.await_part("x", "sender");
    for line in [
        "exec \"$TOMBOLO\" recv x >&-",
        "exec \"$TOMBOLO\" recv x - >&-",
        "exec \"$TOMBOLO\" recv x /dev/stdout >&-",
        "exec \"$TOMBOLO\" recv x /dev/fd/1 >&-",
        "exec \"$TOMBOLO\" recv x /proc/self/fd/1 --in-place >&-",
        "exec \"$TOMBOLO\" recv x <&- >&-",
    ] {
        run(&world, line).expect(1, "standard output is closed");
    }
    let recv = world.run(&["recv", "x"]);
    recv.expect(0, "");
    assert_same(&recv.output, &data);
    send.end().expect(0, "");
    world.assert_no_names();
}

#[test]
fn sending_from_a_closed_input_is_refused_before_anybody_receives_an_empty_stream() {
    let world = World::new();
    let recv = world.start(&["recv", "x"]);
    world.await_part("x", "receiver");
    for line in [
        "exec \"$TOMBOLO\" send x <&-",
        "exec \"$TOMBOLO\" send x - <&-",
        "exec \"$TOMBOLO\" send x /dev/stdin <&-",
        "exec \"$TOMBOLO\" send x --lines <&- >&- ",
        "exec \"$TOMBOLO\" send x --queue <&-",
    ] {
        run(&world, line).expect(1, "standard input is closed");
    }
    world.run(&["send", "x", world.file("in", b"all of it").to_str().unwrap()]).expect(0, "");
    let recv = recv.end();
    recv.expect(0, "");
    assert_eq!(recv.text(), "all of it");
    world.assert_no_names();
}

#[test]
fn a_stream_that_is_open_the_wrong_way_is_refused_before_the_join() {
    let world = World::new();
    run(&world, "exec \"$TOMBOLO\" recv x 1</dev/zero").expect(1, "not open for writing");
    run(&world, "exec \"$TOMBOLO\" recv x /dev/fd/7 7</dev/zero").expect(1, "not open for writing");
    run(&world, "exec \"$TOMBOLO\" send x 0>/dev/null").expect(1, "not open for reading");
    world.assert_no_names();
}

#[test]
fn every_command_that_prints_refuses_a_closed_output() {
    let world = World::new();
    let _recv = world.start(&["recv", "x"]);
    world.await_part("x", "receiver");
    for command in PRINTING {
        run(&world, &format!("exec \"$TOMBOLO\" {command} >&-")).expect(1, "standard output is closed");
    }
}

#[test]
fn every_command_that_prints_reports_a_full_output() {
    let world = World::new();
    let _recv = world.start(&["recv", "x"]);
    world.await_part("x", "receiver");
    for command in PRINTING {
        run(&world, &format!("exec \"$TOMBOLO\" {command} >/dev/full")).expect(1, "No space left on device");
    }
}

#[test]
fn receiving_into_a_full_output_is_an_error() {
    let world = World::new();
    for file in ["", "/dev/full", "/dev/stdout"] {
        let send = world.start_with(&["send", "x"], &world.file("in", &noise(12 << 20)));
        run(&world, &format!("exec \"$TOMBOLO\" recv x {file} >/dev/full")).expect(1, "No space left on device");
        send.end().expect(1, "left before the end");
    }
    world.assert_no_names();
}

#[test]
fn doctor_with_a_closed_output_removes_nothing() {
    let world = World::new();
    let send = world.start_with(&["send", "x"], &world.file("in", b"stale"));
    world.await_sent("x", 8);
    send.kill();
    run(&world, "exec \"$TOMBOLO\" doctor >&-").expect(1, "standard output is closed");
    assert!(world.name_path("x").exists(), "it could not say what it would remove");
    world.run(&["doctor"]).expect(0, "");
    world.assert_no_names();
}

/// Python's `subprocess.DEVNULL` and Node.js open it for both directions, as std does in place of a
/// closed stream.
#[test]
fn an_output_that_is_meant_to_be_dev_null_is_no_closed_one() {
    let world = World::new();
    for to in [">/dev/null", "1<>/dev/null", "</dev/null >/dev/null 2>&1", "<&- 1<>/dev/null 2>&-"] {
        let send = world.start_with(&["send", "x"], &world.file("in", b"unwanted"));
        run(&world, &format!("exec \"$TOMBOLO\" recv x {to}")).expect(0, "");
        send.end().expect(0, "");
        run(&world, &format!("exec \"$TOMBOLO\" ls {to}")).expect(0, "");
    }
    for from in ["</dev/null", "0<>/dev/null"] {
        let recv = world.start(&["recv", "x"]);
        world.await_part("x", "receiver");
        run(&world, &format!("exec \"$TOMBOLO\" send x {from}")).expect(0, "");
        recv.end().expect(0, "");
    }
    world.assert_no_names();
}

#[test]
fn streams_that_a_command_does_not_use_may_be_closed() {
    let world = World::new();
    let (input, output) = (world.file("in", b"from file to file"), world.path("out"));
    let line = format!("exec \"$TOMBOLO\" recv x '{}' <&- >&- 2>&-", output.display());
    let recv = Running::new(&mut shell(&world, &line));
    let line = format!("exec \"$TOMBOLO\" send x '{}' <&- >&- 2>&-", input.display());
    run(&world, &line).expect(0, "");
    recv.end().expect(0, "");
    assert_eq!(fs::read(output).unwrap(), b"from file to file");
    world.assert_no_names();
}

#[test]
fn a_message_that_cannot_be_written_changes_no_exit_code() {
    let world = World::new();
    if !Path::new("/dev/full").exists() {
        return;
    }
    let code = |arguments: &[&str]| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        Running::new(world.command(arguments).stderr(full)).end().code()
    };
    assert_eq!(code(&["recv", "x", "--timeout", "0.1"]), 4);
    assert_eq!(code(&["recv", "x", "/nonexistent/file"]), 1);
    assert_eq!(code(&["recv", ".x"]), 2);
    assert_eq!(code(&["recv"]), 2);
    world.assert_no_names();
}
