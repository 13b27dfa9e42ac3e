//! `pub` and `sub`: every subscriber gets every message, or learns what it missed.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use common::{Process, SIGPIPE, TestEnv, assert_bytes_eq, count, random_bytes};
use serde_json::{Value, json};
use tombolo::broadcast::{Frames, Options};

const PUB: [&str; 3] = ["pub", "b", "--lines"];
const SUB: [&str; 3] = ["sub", "b", "--lines"];

/// More lines than a ring holds.
const MANY: usize = 100_000;

fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

/// The numbers from 1 on, one in each line.
fn lines(count: usize) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

/// Starts a subscriber and waits until `count` are there.
fn subscribe(env: &TestEnv, arguments: &[&str], count: usize) -> Process {
    let sub = env.spawn(arguments);
    wait_for_subscribers(env, count);
    sub
}

/// Waits until exactly `count` subscribers get what is published. They join a moment before.
fn wait_for_subscribers(env: &TestEnv, count: usize) {
    let is_ready = |user: &Value| {
        let lags = user["lags"].as_array();
        user["standing"] == "alive" && lags.is_some_and(|lags| lags.iter().all(Value::is_u64))
    };
    env.wait_for_state("b", |region| {
        region["participants"].as_array().unwrap().iter().filter(|user| is_ready(user)).count() == count
    });
}

/// A subscriber of lines that is stopped before anything is published.
fn stopped_subscriber(env: &TestEnv, arguments: &[&str]) -> Process {
    let sub = subscribe(env, arguments, 1);
    sub.signal("STOP");
    sub
}

#[test]
fn broadcast_of_lines_every_subscriber_gets_all() {
    let env = TestEnv::new();
    let expected = lines(MANY);
    let input = env.file("in", expected.as_bytes());
    let publisher = env.spawn_with_input(&with(&PUB, &["--subscribers", "3"]), &input);
    env.wait_for_role("b", "publisher");
    let subs = [(); 3].map(|()| env.spawn(&SUB));
    publisher.wait().assert_exit(0, "");
    for sub in subs {
        let sub = sub.wait();
        sub.assert_exit(0, "");
        assert_bytes_eq(&sub.output, expected.as_bytes());
    }
    env.assert_no_names();
}

#[test]
fn broadcast_of_a_file_every_subscriber_gets_all_bytes() {
    for length in [0, 1, 4_095, 4_097, 262_145, 9_000_001] {
        let env = TestEnv::new();
        let data = random_bytes(length);
        let input = env.file("in", &data);
        let outputs = [env.path("one"), env.path("two")];
        let subs = outputs.each_ref().map(|output| env.spawn(&["sub", "b", output.to_str().unwrap()]));
        wait_for_subscribers(&env, 2);
        env.run(&["pub", "b", input.to_str().unwrap()]).assert_exit(0, "");
        for (sub, output) in subs.into_iter().zip(outputs) {
            sub.wait().assert_exit(0, "");
            assert_bytes_eq(&fs::read(output).unwrap(), &data);
        }
        env.assert_no_names();
    }
}

#[test]
fn broadcast_of_long_and_empty_lines_keeps_all_bytes() {
    let env = TestEnv::new();
    let input = [&vec![b'x'; 900_000][..], b"\n\n\nsome\r\n", &vec![b'y'; 249], b"\nno newline"].concat();
    let sub = subscribe(&env, &SUB, 1);
    env.run(&with(&PUB, &[env.file("in", &input).to_str().unwrap()])).assert_exit(0, "");
    let sub = sub.wait();
    sub.assert_exit(0, "");
    assert_bytes_eq(&sub.output, &[&input[..], b"\n"].concat());

    let input = env.file("in", &vec![b'x'; 1_100_000]);
    env.run(&with(&PUB, &[input.to_str().unwrap()]))
        .assert_exit(1, "at most 1048576 are accepted; send without --lines");
    env.assert_no_names();
}

#[test]
fn publisher_without_subscribers_ends_and_leaves_no_name() {
    let env = TestEnv::new();
    let input = env.file("in", lines(MANY).as_bytes());
    let note = "note: 100000 messages were published in \"b\" while nobody subscribed; --subscribers waits";
    env.run(&with(&PUB, &[input.to_str().unwrap()])).assert_exit(0, note);
    let quiet = env.run(&with(&PUB, &["--quiet", input.to_str().unwrap()]));
    quiet.assert_exit(0, "");
    assert_eq!(quiet.errors, "");
    env.assert_no_names();
}

#[test]
fn publisher_whose_subscriber_came_does_not_say_that_nobody_did() {
    let env = TestEnv::new();
    let input = env.file("in", b"one\n");
    let before = subscribe(&env, &SUB, 1);
    let output = env.run(&with(&PUB, &[input.to_str().unwrap()]));
    before.wait().assert_exit(0, "");
    assert_eq!(output.errors, "");

    let publisher = env.spawn(&with(&PUB, &["--subscribers", "1", input.to_str().unwrap()]));
    let after = env.spawn(&SUB);
    let output = publisher.wait();
    after.wait().assert_exit(0, "");
    assert_eq!(output.errors, "");
    env.assert_no_names();
}

#[test]
fn lossy_subscriber_stopped_tells_what_it_missed() {
    let env = TestEnv::new();
    let expected = lines(MANY);
    let file = env.path("out");
    let sub = stopped_subscriber(&env, &with(&SUB, &["--lossy", file.to_str().unwrap()]));
    let input = env.file("in", expected.as_bytes());
    env.run(&with(&PUB, &[input.to_str().unwrap()])).assert_exit(0, "");
    sub.signal("CONT");
    let output = sub.wait();
    let received = fs::read_to_string(file).unwrap();
    let missed = MANY - received.lines().count();
    assert!(missed > 0 && expected.ends_with(&received), "the last lines are there");
    output.assert_exit(5, &format!("note: missed {missed} messages of \"b\": too slow"));
    assert!(output.errors.ends_with(&format!("missed {missed} messages; the file has all others\n")), "{output:?}");
    env.assert_no_names();
}

#[test]
fn lossy_subscriber_of_a_stream_that_missed_a_part_leaves_the_file() {
    let env = TestEnv::new();
    let file = env.file("out", b"old");
    let sub = stopped_subscriber(&env, &["sub", "b", "--lossy", "--quiet", file.to_str().unwrap()]);
    let input = env.file("in", &random_bytes(9_000_001));
    env.run(&["pub", "b", input.to_str().unwrap()]).assert_exit(0, "");
    sub.signal("CONT");
    let sub = sub.wait();
    sub.assert_exit(5, "the file is left as it was");
    assert_eq!(sub.errors.lines().count(), 1, "--quiet: only the end is told");
    assert_eq!(fs::read(file).unwrap(), b"old");
    env.assert_no_names();
}

/// A subscriber that was stopped, and evicted by 100,000 lines.
fn evicted_subscriber(env: &TestEnv, publisher: &[&str], subscriber: &[&str]) -> (Process, Process) {
    let sub = stopped_subscriber(env, subscriber);
    let mut publisher = env.spawn(publisher);
    publisher.write(lines(MANY).as_bytes());
    env.wait_for_state("b", |region| region["participants"][1]["lags"] == json!([null]));
    env.run(&["ls"]).assert_shows(&format!("subscriber {} alive (evicted)", sub.pid()));
    (publisher, sub)
}

#[test]
fn slow_subscriber_of_lines_is_evicted_rejoins_and_says_what_it_missed() {
    let env = TestEnv::new();
    let file = env.file("out", b"old");
    let (mut publisher, sub) =
        evicted_subscriber(&env, &PUB, &with(&SUB, &["--evict-slow", "100", file.to_str().unwrap()]));
    env.wait_for_state("b", |region| count(region, "sent") == MANY as u64);
    let region = env.json(&["inspect", "b", "--json"]);
    assert_eq!((&region["broadcast"]["evicted"], &region["broadcast"]["max_lag"]), (&json!(1), &json!(100)));
    sub.signal("CONT");
    wait_for_subscribers(&env, 1);
    publisher.write(b"next\n");
    publisher.finish();
    let sub = sub.wait();
    sub.assert_exit(5, "note: missed 100000 messages of \"b\": too slow, and evicted");
    sub.assert_exit(5, "this subscriber of \"b\" missed 100000 messages; the file has all others");
    assert_eq!(fs::read(file).unwrap(), b"next\n");
    env.assert_no_names();
}

#[test]
fn slow_subscriber_of_a_stream_is_evicted_and_says_what_to_do() {
    let env = TestEnv::new();
    let file = env.file("out", b"old");
    let (publisher, sub) =
        evicted_subscriber(&env, &["pub", "b"], &["sub", "b", "--evict-slow", "2", file.to_str().unwrap()]);
    sub.signal("CONT");
    let sub = sub.wait();
    sub.assert_exit(1, "goes on without this subscriber, which was too slow and missed ");
    sub.assert_exit(1, "or make the broadcast with a larger --evict-slow");
    assert_eq!(fs::read(file).unwrap(), b"old");
    publisher.finish();
    env.assert_no_names();
}

#[test]
fn lossless_subscriber_killed_publisher_and_others_go_on() {
    let env = TestEnv::new();
    let expected = lines(MANY);
    let victim = stopped_subscriber(&env, &SUB);
    let other = subscribe(&env, &SUB, 2);
    let publisher = env.spawn_with_input(&PUB, &env.file("in", expected.as_bytes()));
    // It is full: the victim has read nothing.
    env.wait_for_state("b", |region| region["directions"][0]["queued"] == region["capacity"]);
    victim.kill();
    publisher.wait().assert_exit(0, "");
    let other = other.wait();
    other.assert_exit(0, "");
    assert_bytes_eq(&other.output, expected.as_bytes());
    env.assert_no_names();
}

#[test]
fn lossless_subscriber_stopped_publisher_says_for_whom_it_waits() {
    let env = TestEnv::new();
    let sub = stopped_subscriber(&env, &SUB);
    let input = env.file("in", lines(MANY).as_bytes());
    let publisher = env.run(&with(&PUB, &["--timeout", "2.5", input.to_str().unwrap()]));
    publisher.assert_exit(4, "the slowest subscriber took nothing (\"b\") within 2.5 s");
    let note = format!("note: waiting for subscriber {} (tombolo) of \"b\", 16384 messages behind", sub.pid());
    assert_eq!(publisher.errors.matches(&note).count(), 1, "{publisher:?}");
    sub.signal("CONT");
    let sub = sub.wait();
    sub.assert_exit(3, "the last publisher of \"b\" died, or broke off, before the end");
    assert_eq!(sub.text(), lines(16384));
    env.assert_no_names();
}

#[test]
fn late_subscriber_gets_as_much_of_the_history_as_it_wants() {
    let env = TestEnv::new();
    let mut publisher = env.spawn(&with(&PUB, &["--history", "4"]));
    publisher.write(lines(9).as_bytes());
    env.wait_for_state("b", |region| count(region, "sent") == 9);
    let subs = [&["--history", "2"][..], &[], &["--history", "0"]].map(|history| env.spawn(&with(&SUB, history)));
    wait_for_subscribers(&env, 3);
    env.run(&["ls"]).assert_shows("history 4 slots");
    publisher.write(b"10\n");
    publisher.finish();
    for (sub, expected) in subs.into_iter().zip(["8\n9\n10\n", "6\n7\n8\n9\n10\n", "10\n"]) {
        let sub = sub.wait();
        sub.assert_exit(0, "");
        assert_eq!(sub.text(), expected);
    }
    env.assert_no_names();
}

#[test]
fn subscriber_that_missed_the_beginning_of_a_stream_leaves_the_file() {
    let env = TestEnv::new();
    let file = env.file("out", b"old");
    let mut publisher = env.spawn(&["pub", "b"]);
    publisher.write(b"the beginning, ");
    env.wait_until_sent("b");
    let sub = subscribe(&env, &["sub", "b", file.to_str().unwrap()], 1);
    let lines = subscribe(&env, &SUB, 2);
    publisher.write(b"the end");
    publisher.finish();
    let sub = sub.wait();
    sub.assert_exit(5, "note: the beginning of \"b\" is missing: 1 message came before this subscriber");
    sub.assert_exit(5, "missed 1 message; the file is left as it was");
    assert_eq!(fs::read(file).unwrap(), b"old");
    let lines = lines.wait();
    lines.assert_exit(0, "");
    assert_eq!((lines.text(), &*lines.errors), ("the end\n", ""), "lines are of use one by one");
    env.assert_no_names();
}

#[test]
fn subscriber_that_may_have_missed_the_beginning_says_so() {
    let env = TestEnv::new();
    let first = subscribe(&env, &["sub", "b", "--follow"], 1);
    env.run(&["pub", "b", env.file("in", b"first").to_str().unwrap()]).assert_exit(0, "");
    let publisher = env.spawn_with_input(&["pub", "b", "--subscribers", "2"], &env.file("in", b"second"));
    env.wait_for_role("b", "publisher");
    let second = env.run(&["sub", "b"]);
    second.assert_exit(0, "note: the publisher of \"b\" may have begun before");
    assert_eq!(second.text(), "second");
    publisher.wait().assert_exit(0, "");
    env.wait_for_state("b", |region| count(region, "queued") == 0);
    first.signal("INT");
    assert_eq!(first.wait().text(), "firstsecond");
    env.assert_no_names();
}

#[test]
fn two_publishers_subscriber_gets_the_lines_of_both_in_order() {
    let env = TestEnv::new();
    let sub = subscribe(&env, &with(&SUB, &["--publishers", "2"]), 1);
    let mut publishers = [(); 2].map(|()| env.spawn(&PUB));
    env.wait_for_roles("b", "publisher", 2);
    for (publisher, number) in publishers.iter_mut().zip(1..) {
        let lines: String = (0..1000).map(|line| format!("{number} {line:04}\n")).collect();
        publisher.write(lines.as_bytes());
        publisher.close_input();
    }
    publishers.into_iter().for_each(|publisher| publisher.wait().assert_exit(0, ""));
    let sub = sub.wait();
    sub.assert_exit(0, "");
    for number in ["1 ", "2 "] {
        let found: Vec<&str> = sub.text().lines().filter(|line| line.starts_with(number)).collect();
        assert!(found.len() == 1000 && found.is_sorted());
    }
    env.assert_no_names();
}

#[test]
fn second_publisher_without_a_place_waits_for_the_first() {
    let env = TestEnv::new();
    let sub = subscribe(&env, &with(&SUB, &["--follow"]), 1);
    let mut first = env.spawn(&PUB);
    env.wait_for_role("b", "publisher");
    let second = env.run(&with(&PUB, &["--timeout", "0.5", "--publishers", "2"]));
    second.assert_exit(4, "note: waiting for a free place in \"b\"; its maker can allow more with --publishers");
    first.write(b"first\n");
    first.finish();
    let mut second = env.spawn(&with(&PUB, &["--publishers", "2", "--history", "3"]));
    second.write(b"second\n");
    second.close_input();
    let second = second.wait();
    second.assert_exit(0, "note: the number of publishers is 1, not 2 as asked");
    second.assert_exit(0, "note: the history is 0, not 3 as asked");
    env.wait_for_state("b", |region| count(region, "sent") == 2 && count(region, "queued") == 0);
    sub.signal("INT");
    let sub = sub.wait();
    sub.assert_exit(130, "");
    assert_eq!(sub.text(), "first\nsecond\n");
    env.assert_no_names();
}

#[test]
fn publisher_that_starts_again_continues_with_a_following_subscriber() {
    let env = TestEnv::new();
    let sub = subscribe(&env, &with(&SUB, &["--follow"]), 1);
    let mut killed = env.spawn(&PUB);
    killed.write(b"one\n");
    env.wait_for_state("b", |region| count(region, "sent") == 1);
    killed.kill();
    let mut next = env.spawn(&PUB);
    next.write(b"two\n");
    next.finish();
    env.wait_for_state("b", |region| count(region, "sent") == 2 && count(region, "queued") == 0);
    sub.signal("TERM");
    let sub = sub.wait();
    sub.assert_exit(143, "");
    assert_eq!(sub.text(), "one\ntwo\n");
    env.assert_no_names();
}

#[test]
fn publisher_killed_subscriber_exits_3_and_doctor_removes_the_name() {
    let env = TestEnv::new();
    let mut publisher = env.spawn(&PUB);
    publisher.write(b"one\n");
    let sub = subscribe(&env, &SUB, 1);
    env.wait_for_role("b", "publisher");
    publisher.kill();
    sub.wait().assert_exit(3, "the last publisher of \"b\" died");
    env.assert_no_names();

    let publisher = env.spawn(&PUB);
    env.wait_for_role("b", "publisher");
    publisher.kill();
    assert_eq!(env.names_json()[0]["abandoned"], true);
    env.run(&["doctor", "--dry-run"]).assert_shows("b: would be removed (abandoned: publisher");
    env.run(&["doctor"]).assert_shows("b: removed (abandoned: publisher");
    env.assert_no_names();

    // What it left is of no use to anybody who comes later.
    let publisher = env.spawn(&PUB);
    env.wait_for_role("b", "publisher");
    publisher.kill();
    let sub = env.spawn(&with(&SUB, &["--lossy"]));
    wait_for_subscribers(&env, 1);
    env.run(&with(&PUB, &["--lossy"])).assert_exit(0, "");
    sub.wait().assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn interrupted_publisher_exits_128_plus_signal_and_subscribers_fail() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let env = TestEnv::new();
        let file = env.file("out", b"old");
        let sub = subscribe(&env, &["sub", "b", file.to_str().unwrap()], 1);
        let publisher = env.spawn(&["pub", "b", "/dev/zero"]);
        env.wait_until_received("b");
        publisher.signal(signal);
        publisher.wait().assert_exit(code, "");
        sub.wait().assert_exit(3, "broke off, before the end; the file is left as it was");
        assert_eq!(fs::read(file).unwrap(), b"old");
        env.assert_no_names();
    }
}

#[test]
fn interrupted_subscriber_exits_128_plus_signal_and_publisher_goes_on() {
    let env = TestEnv::new();
    let mut publisher = env.spawn(&PUB);
    let [interrupted, other] = [1, 2].map(|count| subscribe(&env, &SUB, count));
    publisher.write(b"one\n");
    env.wait_until_received("b");
    interrupted.signal("INT");
    interrupted.wait().assert_exit(130, "");
    publisher.write(b"two\n");
    publisher.finish();
    let other = other.wait();
    other.assert_exit(0, "");
    assert_eq!(other.text(), "one\ntwo\n");
    env.assert_no_names();
}

#[test]
fn waiting_side_interrupted_leaves_no_name() {
    let env = TestEnv::new();
    for arguments in [&with(&PUB, &["--subscribers", "1"])[..], &PUB, &SUB] {
        let process = env.spawn(arguments);
        env.wait_until("it has joined", || env.name_path("b").exists());
        process.signal("INT");
        process.wait().assert_exit(130, "");
        env.assert_no_names();
    }
}

#[test]
fn signal_ignored_by_the_caller_stays_ignored() {
    let env = TestEnv::new();
    let spawn_ignoring = |arguments: &str| {
        let mut command = env.shell(&format!("trap '' INT; exec \"$TOMBOLO\" {arguments}"));
        Process::new(command.stdin(Stdio::piped()))
    };
    let sub = spawn_ignoring("sub b --lines");
    wait_for_subscribers(&env, 1);
    let mut publisher = spawn_ignoring("pub b --lines");
    publisher.write(b"before\n");
    env.wait_until_received("b");
    sub.signal("INT");
    publisher.signal("INT");
    thread::sleep(Duration::from_millis(200)); // time for several checks of the signals
    publisher.write(b"after\n");
    publisher.finish();
    let sub = sub.wait();
    sub.assert_exit(0, "");
    assert_eq!(sub.text(), "before\nafter\n");
    env.assert_no_names();
}

#[test]
fn subscriber_whose_reader_leaves_dies_of_sigpipe() {
    let env = TestEnv::new();
    let mut command = env.command(&SUB);
    let (reader, writer) = std::io::pipe().unwrap();
    let sub = Process::new(command.stdout(writer));
    drop((command, reader));
    wait_for_subscribers(&env, 1);
    let input = env.file("in", lines(MANY).as_bytes());
    env.run(&with(&PUB, &[input.to_str().unwrap()])).assert_exit(0, "");
    let sub = sub.wait();
    assert_eq!((sub.status.signal(), &*sub.errors), (Some(SIGPIPE), ""));
    env.assert_no_names();
}

#[test]
fn fifos_on_both_sides_are_read_and_written() {
    let env = TestEnv::new();
    let script = "mkfifo in out; cat out > copy & \"$TOMBOLO\" sub b out & \"$TOMBOLO\" pub b in --subscribers 1 & \
                  seq 50000 > in; wait";
    Process::new(&mut env.shell(script)).wait().assert_exit(0, "");
    assert_bytes_eq(&fs::read(env.path("copy")).unwrap(), lines(50_000).as_bytes());
    let publisher = env.spawn(&["pub", "b", env.path("in").to_str().unwrap(), "--timeout", "0.2"]);
    publisher.wait().assert_exit(4, "nobody opened the FIFO to write");
    env.assert_no_names();
}

#[test]
fn peers_that_do_not_come_time_out() {
    let env = TestEnv::new();
    env.run(&with(&PUB, &["--subscribers", "2", "--timeout", "0.2"])).assert_exit(4, "only 0 of 2 subscribers came");
    env.run(&with(&SUB, &["--timeout", "0.2"])).assert_exit(4, "nobody came to send");
    let _publisher = env.spawn(&PUB);
    env.wait_for_role("b", "publisher");
    env.run(&with(&SUB, &["--timeout", "0.2"])).assert_exit(4, "nothing came");
}

#[test]
fn publisher_that_waits_for_subscribers_does_not_count_the_dead() {
    let env = TestEnv::new();
    let alive = subscribe(&env, &SUB, 1);
    subscribe(&env, &SUB, 2).kill();
    let publisher = env.run(&with(&PUB, &["--subscribers", "2", "--timeout", "0.2"]));
    publisher.assert_exit(4, "only 1 of 2 subscribers came");
    alive.wait().assert_exit(3, "broke off");
    env.assert_no_names();
}

#[test]
fn options_of_a_broadcast_that_exists_are_noted_if_they_differ() {
    let env = TestEnv::new();
    let sub = subscribe(&env, &with(&SUB, &["--evict-slow", "100", "--capacity", "1K"]), 1);
    let publisher = env.run(&with(&PUB, &["--evict-slow", "50", "--capacity", "8K", "--publishers", "9"]));
    publisher.assert_exit(0, "note: the lag is 100, not 50 as asked");
    publisher.assert_exit(0, "note: the capacity is 1024, not 8192 as asked");
    publisher.assert_exit(0, "note: the number of publishers is 1, not 9 as asked");
    sub.wait().assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn options_that_contradict_are_refused() {
    let env = TestEnv::new();
    for more in [&["--lossy", "--evict-slow", "9"][..], &["--publishers", "0"], &["--history", "-1"]] {
        assert_eq!(env.run(&with(&PUB, more)).code(), 2);
        assert_eq!(env.run(&with(&SUB, more)).code(), 2);
    }
    assert_eq!(env.run(&with(&PUB, &["--subscribers", "65"])).code(), 2);
    env.run(&with(&PUB, &["--evict-slow", "1"])).assert_exit(2, "allow more");
    env.run(&with(&PUB, &["--capacity", "1000000G"])).assert_exit(2, "choose a smaller capacity");
    env.run(&["pub", "a/b"]).assert_exit(2, "cannot use this name");
    env.run(&["sub", "a/b"]).assert_exit(2, "cannot use this name");
    let file = env.path("out");
    env.run(&with(&SUB, &["--follow", file.to_str().unwrap()])).assert_exit(2, "write into it with --in-place");
    env.assert_no_names();

    let sub = subscribe(&env, &SUB, 1);
    env.run(&with(&PUB, &["--lossy"])).assert_exit(1, "found lossless, expected lossy");
    env.run(&["send", "b", "/dev/null"]).assert_exit(1, "found a broadcast");
    sub.kill();
    let _queue = env.spawn(&["send", "--queue", "q"]);
    env.wait_for_role("q", "sender");
    env.run(&["pub", "q"]).assert_exit(1, "found a queue");
    env.run(&["sub", "q"]).assert_exit(1, "found a queue");
}

#[test]
fn queue_with_waiting_messages_is_not_replaced() {
    let env = TestEnv::new();
    let input = env.file("in", b"one\n");
    env.run(&["send", "b", "--queue", "--lines", "--no-wait", input.to_str().unwrap()]).assert_exit(0, "");
    env.run(&PUB).assert_exit(1, "found a queue");
    assert_eq!(env.run(&["recv", "b", "--queue", "--lines"]).text(), "one\n");
    env.assert_no_names();
}

#[test]
fn broadcast_is_shown_repaired_and_removed() {
    let env = TestEnv::new();
    let mut publisher = env.spawn(&with(&PUB, &["--history", "3", "--publishers", "2"]));
    env.wait_for_role("b", "publisher");
    let dead = stopped_subscriber(&env, &SUB);
    let alive = subscribe(&env, &SUB, 2);
    publisher.write(b"one\ntwo\n");
    env.wait_for_state("b", |region| count(region, "sent") == 2);
    let pids = [publisher.pid(), dead.pid(), alive.pid()];
    dead.kill();
    env.wait_for_state("b", |region| region["participants"][2]["lags"][0] == 0);

    let region = env.json(&["inspect", "b", "--json"]);
    assert_eq!((&region["kind"], &region["unit"]), (&json!("broadcast"), &json!("slots")));
    assert_eq!((&region["capacity"], &region["abandoned"]), (&json!(16384), &json!(false)));
    let direction =
        |sent: u64, queued: u64| json!({"from": "publisher", "to": "subscribers", "sent": sent, "queued": queued});
    assert_eq!(region["directions"], json!([direction(2, 2), direction(0, 0)]));
    assert_eq!(
        region["broadcast"],
        json!({"policy": "lossless", "history": 3, "evicted": 0, "keys": 0, "frames": 0, "frames_held": 0, "max_publishers": 2, "max_subscribers": 64})
    );
    let subscriber = |pid: u64, standing: &str, lags: [Option<u64>; 2]| json!({"part": "subscriber", "pid": pid, "standing": standing, "joins": 1, "lags": lags});
    let live = json!({"part": "publisher", "pid": pids[0], "standing": "alive", "joins": 1});
    let reading = subscriber(pids[2], "alive", [Some(0), Some(0)]);
    let participants = json!([live, subscriber(pids[1], "dead", [Some(2), Some(0)]), reading]);
    assert_eq!(region["participants"], participants);
    assert_eq!(env.names_json(), json!([region]));

    let list = env.run(&["ls"]);
    list.assert_shows("lossless, 2 slots unread, history 3 slots");
    list.assert_shows(&format!("publisher {} alive, subscriber {} dead (2 behind)", pids[0], pids[1]));
    let details = env.run(&["inspect", "b"]);
    for line in [
        "policy       lossless\n",
        "history      3 slots\n",
        "evicted      0\n",
        "publishers   up to 2\n",
        "publisher    to subscribers: 2 slots sent, 2 slots queued\n",
        &format!("subscriber   alive, process {}, joined once, 0 behind\n", pids[2]),
    ] {
        details.assert_shows(line);
    }
    assert_eq!(details.text().matches("to subscribers").count(), 1, "a ring without a publisher is not shown");

    env.run(&["doctor", "--dry-run"]).assert_shows("b: would be repaired (1 dead to repair; in use: ");
    env.run(&["doctor"]).assert_shows("b: repaired (1 dead repaired; in use: ");
    let region = env.json(&["inspect", "b", "--json"]);
    assert_eq!(region["participants"], json!([live, subscriber(pids[1], "dead", [None, None]), reading]));
    env.run(&["doctor"]).assert_shows("b: left alone (in use: publisher");

    env.run(&["rm", "b"]).assert_exit(1, "expected no participant alive");
    env.run(&["rm", "b", "--force"]).assert_exit(0, "");
    env.assert_no_names();
    publisher.write(b"three\n");
    publisher.finish();
    let alive = alive.wait();
    alive.assert_exit(0, "");
    assert_eq!(alive.text(), "one\ntwo\nthree\n");
}

#[test]
fn broadcast_inspect_shows_keys_and_frames() {
    let env = TestEnv::new();
    let keyed = Options::<u64>::new().keys(500).directory(env.names()).publisher("ticks").unwrap();
    let (publisher, subscriber) = {
        let options = Options::bytes().frames(Frames { count: 5, bytes: 4096 }).directory(env.names());
        (options.publisher("pictures").unwrap(), options.subscriber("pictures").unwrap())
    };
    // SAFETY: both endpoints belong to this process.
    let (mut publisher, mut subscriber) =
        unsafe { (publisher.into_zero_copy().unwrap(), subscriber.into_zero_copy().unwrap()) };
    publisher.loan(4000).unwrap().publish().unwrap();
    let held = subscriber.recv_frame().unwrap();
    let text = env.run(&["inspect", "pictures"]);
    text.assert_shows("frames       5 for each publisher");
    text.assert_shows("frames held  1");
    env.run(&["ls"]).assert_shows("1 of 5 frames held");
    env.run(&["inspect", "ticks"]).assert_shows("keys         500");
    drop((held, keyed));
}
