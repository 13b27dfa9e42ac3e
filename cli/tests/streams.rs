//! Standard streams that are closed, full or of the wrong kind: an error, never a silent loss.

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use common::{Exited, Process, TestEnv, assert_bytes_eq, random_bytes};

/// The command with arguments and redirections, as a shell reads them.
fn command(env: &TestEnv, arguments: &str) -> Command {
    env.shell(&format!("exec \"$TOMBOLO\" {arguments}"))
}

fn run(env: &TestEnv, arguments: &str) -> Exited {
    Process::new(&mut command(env, arguments)).wait()
}

/// Commands that print. The tests add redirections.
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
fn recv_with_closed_output_is_refused_and_sender_keeps_its_data() {
    let env = TestEnv::new();
    let data = random_bytes(300_000);
    let send = env.spawn_with_input(&["send", "x"], &env.file("in", &data));
    env.wait_for_role("x", "sender");
    for line in [
        "recv x >&-",
        "recv x - >&-",
        "recv x /dev/stdout >&-",
        "recv x /dev/fd/1 >&-",
        "recv x /proc/self/fd/1 --in-place >&-",
        "recv x <&- >&-",
    ] {
        run(&env, line).assert_exit(1, "standard output is closed");
    }
    let recv = env.run(&["recv", "x"]);
    recv.assert_exit(0, "");
    assert_bytes_eq(&recv.output, &data);
    send.wait().assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn send_with_closed_input_is_refused_before_joining() {
    let env = TestEnv::new();
    let recv = env.spawn(&["recv", "x"]);
    env.wait_for_role("x", "receiver");
    for line in ["send x <&-", "send x - <&-", "send x /dev/stdin <&-", "send x --lines <&- >&- ", "send x --queue <&-"]
    {
        run(&env, line).assert_exit(1, "standard input is closed");
    }
    env.run(&["send", "x", env.file("in", b"all of it").to_str().unwrap()]).assert_exit(0, "");
    let recv = recv.wait();
    recv.assert_exit(0, "");
    assert_eq!(recv.text(), "all of it");
    env.assert_no_names();
}

#[test]
fn stream_open_in_the_wrong_direction_is_refused_before_joining() {
    let env = TestEnv::new();
    run(&env, "recv x 1</dev/zero").assert_exit(1, "not open for writing");
    run(&env, "recv x /dev/fd/7 7</dev/zero").assert_exit(1, "not open for writing");
    run(&env, "send x 0>/dev/null").assert_exit(1, "not open for reading");
    env.assert_no_names();
}

#[test]
fn printing_command_with_closed_output_exits_1() {
    let env = TestEnv::new();
    let _recv = env.spawn(&["recv", "x"]);
    env.wait_for_role("x", "receiver");
    for command in PRINTING {
        run(&env, &format!("{command} >&-")).assert_exit(1, "standard output is closed");
    }
}

#[test]
fn printing_command_with_full_output_exits_1() {
    let env = TestEnv::new();
    let _recv = env.spawn(&["recv", "x"]);
    env.wait_for_role("x", "receiver");
    for command in PRINTING {
        run(&env, &format!("{command} >/dev/full")).assert_exit(1, "No space left on device");
    }
}

#[test]
fn recv_with_full_output_exits_1() {
    let env = TestEnv::new();
    for file in ["", "/dev/full", "/dev/stdout"] {
        let send = env.spawn_with_input(&["send", "x"], &env.file("in", &random_bytes(12 << 20)));
        run(&env, &format!("recv x {file} >/dev/full")).assert_exit(1, "No space left on device");
        send.wait().assert_exit(1, "left before the end");
    }
    env.assert_no_names();
}

#[test]
fn doctor_with_closed_output_removes_nothing() {
    let env = TestEnv::new();
    let send = env.spawn_with_input(&["send", "x"], &env.file("in", b"stale"));
    env.wait_until_sent("x");
    send.kill();
    run(&env, "doctor >&-").assert_exit(1, "standard output is closed");
    assert!(env.name_path("x").exists(), "it could not say what it would remove");
    env.run(&["doctor"]).assert_exit(0, "");
    env.assert_no_names();
}

/// Python's `subprocess.DEVNULL` and Node.js open /dev/null for both directions, as std does in
/// place of a closed stream.
#[test]
fn dev_null_on_purpose_is_accepted() {
    let env = TestEnv::new();
    for to in [">/dev/null", "1<>/dev/null", "</dev/null >/dev/null 2>&1", "<&- 1<>/dev/null 2>&-"] {
        let send = env.spawn_with_input(&["send", "x"], &env.file("in", b"unwanted"));
        run(&env, &format!("recv x {to}")).assert_exit(0, "");
        send.wait().assert_exit(0, "");
        run(&env, &format!("ls {to}")).assert_exit(0, "");
    }
    for from in ["</dev/null", "0<>/dev/null"] {
        let recv = env.spawn(&["recv", "x"]);
        env.wait_for_role("x", "receiver");
        run(&env, &format!("send x {from}")).assert_exit(0, "");
        recv.wait().assert_exit(0, "");
    }
    env.assert_no_names();
}

#[test]
fn unused_stream_closed_is_accepted() {
    let env = TestEnv::new();
    let (input, output) = (env.file("in", b"from file to file"), env.path("out"));
    let line = format!("recv x '{}' <&- >&- 2>&-", output.display());
    let recv = Process::new(&mut command(&env, &line));
    let line = format!("send x '{}' <&- >&- 2>&-", input.display());
    run(&env, &line).assert_exit(0, "");
    recv.wait().assert_exit(0, "");
    assert_eq!(fs::read(output).unwrap(), b"from file to file");
    env.assert_no_names();
}

#[test]
fn standard_error_full_exit_code_stays() {
    let env = TestEnv::new();
    if !Path::new("/dev/full").exists() {
        return;
    }
    let code = |arguments: &[&str]| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        Process::new(env.command(arguments).stderr(full)).wait().code()
    };
    assert_eq!(code(&["recv", "x", "--timeout", "0.1"]), 4);
    assert_eq!(code(&["recv", "x", "/nonexistent/file"]), 1);
    assert_eq!(code(&["recv", ".x"]), 2);
    assert_eq!(code(&["recv"]), 2);
    env.assert_no_names();
}
