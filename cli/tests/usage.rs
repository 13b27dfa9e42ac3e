//! Wrong arguments, names and files, and what the help texts say.

mod common;

use std::fs;

use common::TestEnv;

#[test]
fn invalid_name_exits_2() {
    let env = TestEnv::new();
    let long = "n".repeat(300);
    for name in ["a/b", "", ".hidden", "new\nline", &long] {
        env.run(&["send", name]).assert_exit(2, "cannot use this name");
        env.run(&["recv", name]).assert_exit(2, "cannot use this name");
        env.run(&["inspect", name]).assert_exit(2, "cannot use this name");
    }
    env.run(&["recv", "--queue", "a/b"]).assert_exit(2, "cannot use this name");
    env.assert_no_names();
}

#[test]
fn invalid_arguments_exit_2() {
    let env = TestEnv::new();
    for arguments in [
        &["send"][..],
        &["sned", "x"],
        &["send", "x", "--timeout", "-1"],
        &["send", "x", "--capacity", "9X"],
        &["send", "--queue"],
        &["recv", "--queue", "x", "--capacity", "many"],
    ] {
        assert_eq!(env.run(arguments).code(), 2);
    }
    env.run(&["send", "--queue", "x", "--capacity", "0"]).assert_exit(2, "expected at least 1");
    env.run(&["send", "--queue", "x", "--capacity", "1000000G"]).assert_exit(2, "choose a smaller capacity");
    env.assert_no_names();
}

#[test]
fn capacity_not_honoured_prints_note() {
    let env = TestEnv::new();
    let recv = env.run(&["recv", "--queue", "x", "--capacity", "1000", "--timeout", "0"]);
    recv.assert_exit(4, "note: the capacity is 1024, not 1000 as asked");
}

#[test]
fn capacity_too_large_for_memory_exits_1() {
    let env = TestEnv::new();
    env.run(&["send", "x", "--capacity", "1000G"]).assert_exit(1, "cannot make a region");
    env.assert_no_names();
}

#[test]
fn file_that_cannot_be_opened_exits_1() {
    let env = TestEnv::new();
    env.run(&["send", "x", "/nonexistent"]).assert_exit(1, "cannot open /nonexistent");
    env.run(&["send", "x", "/"]).assert_exit(1, "it is a directory");
    env.run(&["recv", "x", "/nonexistent/file"]).assert_exit(1, "cannot create /nonexistent/file");
    env.assert_no_names();
}

#[test]
fn name_of_a_foreign_file_is_refused() {
    let env = TestEnv::new();
    fs::write(env.name_path("x"), "no region").unwrap();
    env.run(&["send", "x"]).assert_exit(1, "expected a region");
    env.run(&["recv", "x"]).assert_exit(1, "expected a region");
}

#[test]
fn pipe_and_queue_under_the_other_ones_name_are_refused() {
    let env = TestEnv::new();
    let _queue = env.spawn(&["send", "--queue", "q"]);
    env.wait_for_role("q", "sender");
    env.run(&["recv", "q"]).assert_exit(1, "found a queue");
    env.run(&["send", "q", "/dev/null"]).assert_exit(1, "found a queue");
    let _pipe = env.spawn(&["send", "p"]);
    env.wait_for_role("p", "sender");
    env.run(&["recv", "--queue", "p"]).assert_exit(1, "found a pipe, expected a queue");
}

#[test]
fn help_of_transfers_lists_exit_codes_and_examples() {
    let env = TestEnv::new();
    for arguments in [
        &["--help"][..],
        &["send", "--help"],
        &["recv", "--help"],
        &["pub", "--help"],
        &["sub", "--help"],
        &["work", "--help"],
    ] {
        let help = env.run(arguments);
        help.assert_exit(0, "");
        help.assert_shows("Exit codes:");
        help.assert_shows("--timeout ");
        if matches!(arguments[0], "send" | "recv") {
            help.assert_shows("goes to one of the receivers");
        }
    }
}

#[test]
fn help_of_each_command_has_examples() {
    let env = TestEnv::new();
    for command in ["demo", "send", "recv", "pub", "sub", "work", "ls", "inspect", "rm", "map", "doctor"] {
        env.run(&[command, "--help"]).assert_shows(&format!("Examples:\n  tombolo {command}"));
    }
}

#[test]
fn options_for_queues_and_files_elsewhere_say_why_they_are_refused() {
    let env = TestEnv::new();
    env.run(&["send", "x", "--no-wait"]).assert_exit(2, "what is left in a pipe without its sender is not kept");
    let file = env.path("out");
    env.run(&["recv", "x", "--follow", file.to_str().unwrap()]).assert_exit(2, "write into it with --in-place");
    assert_eq!(env.run(&["recv", "x", "--follow", "--senders", "2"]).code(), 2);
    env.assert_no_names();
}

#[test]
fn help_of_commands_on_names_mentions_namespaces_and_broadcasts() {
    let env = TestEnv::new();
    for command in ["ls", "inspect", "rm", "doctor"] {
        env.run(&[command, "--help"]).assert_shows("namespace");
        env.run(&[command, "--help"]).assert_shows("broadcast");
    }
}
