//! Senders and receivers that come late, go early, or are many.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::{PIPE, Process, QUEUE, TestEnv, count};
use tombolo::queue;

const SEND: [&str; 4] = ["send", "--queue", "q", "--lines"];
const RECV: [&str; 4] = ["recv", "--queue", "q", "--lines"];
const NO_WAIT: [&str; 5] = ["send", "--queue", "q", "--lines", "--no-wait"];

fn send(env: &TestEnv, arguments: &[&str], text: &str) -> Process {
    env.spawn_with_input(arguments, &env.file("in", text.as_bytes()))
}

#[test]
fn queue_send_without_waiting_leaves_messages_for_later_receivers() {
    for first in ["a\nb\n", ""] {
        let env = TestEnv::new();
        send(&env, &NO_WAIT, first).wait().assert_exit(0, "");
        send(&env, &NO_WAIT, "c\n").wait().assert_exit(0, "");
        let recv = env.run(&RECV);
        recv.assert_exit(0, "");
        assert_eq!(recv.text(), format!("{first}c\n"));
        env.assert_no_names();
    }
}

#[test]
fn queue_send_without_waiting_outlives_receivers_while_it_waits_for_room() {
    let env = TestEnv::new();
    let text = r#"echo $$ > pid; exec sleep 100"#;
    let mut work = env.command(&["work", "q", "--", "sh", "-c", text, "sh", "{}"]);
    let work = Process::new(work.current_dir(env.path("")));
    env.wait_for_role("q", "receiver");
    let sender = send(&env, &NO_WAIT, &"line\n".repeat(2000));
    let pid = || fs::read_to_string(env.path("pid")).unwrap_or_default();
    env.wait_until("the command runs", || pid().ends_with('\n'));
    env.wait_for_state("q", |region| count(region, "queued") == 1024);
    work.kill();
    assert!(Command::new("kill").args(["-KILL", pid().trim()]).status().unwrap().success());
    thread::sleep(Duration::from_millis(300)); // time for several checks of the receiver
    let recv = env.run(&RECV);
    recv.assert_exit(0, "");
    assert_eq!(recv.text(), "line\n".repeat(1999));
    sender.wait().assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn queue_send_without_waiting_times_out_without_room() {
    let env = TestEnv::new();
    let arguments = [&NO_WAIT[..], &["--capacity", "2", "--timeout", "0.2"]].concat();
    send(&env, &arguments, "1\n2\n3\n").wait().assert_exit(4, "nobody came to receive");
    let recv = env.run(&RECV);
    recv.assert_exit(3, "the last sender"); // the third line is missing
    assert_eq!(recv.text(), "1\n2\n");
    env.assert_no_names();
}

#[test]
fn queue_receiver_or_work_that_starts_after_the_end_ends() {
    for late in [&RECV[..], &["work", "q", "--", "echo", "{}"]] {
        let env = TestEnv::new();
        send(&env, &NO_WAIT, "a\n").wait().assert_exit(0, "");
        let mut busy = env.command(&["work", "q", "--", "sh", "-c", "until [ -e go ]; do sleep 0.01; done"]);
        let busy = Process::new(busy.current_dir(env.path("")));
        env.wait_for_state("q", |region| count(region, "queued") == 0);
        let late = env.run(late);
        late.assert_exit(0, "");
        assert!(late.output.is_empty());
        env.file("go", b"");
        busy.wait().assert_exit(0, "");
        env.assert_no_names();
    }
}

#[test]
fn receiver_that_follows_stays_for_later_senders() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let output = env.path("out");
        let recv = env.spawn(&transport.recv(&["--follow", "--in-place", output.to_str().unwrap()]));
        env.wait_for_role("x", "receiver");
        let mut expected = String::new();
        for text in ["first\n", "second\n"] {
            send(&env, &transport.send(&[]), text).wait().assert_exit(0, "");
            expected.push_str(text);
            env.wait_until("it is written", || fs::read_to_string(&output).is_ok_and(|found| found == expected));
        }
        // One that breaks off, and one that is killed.
        for signal in ["INT", "KILL"] {
            let mut broken = env.spawn(&transport.send(&[]));
            broken.write(b"broken\n");
            expected.push_str("broken\n");
            env.wait_until("it is written", || fs::read_to_string(&output).is_ok_and(|found| found == expected));
            broken.signal(signal);
            broken.wait();
        }
        send(&env, &transport.send(&[]), "last\n").wait().assert_exit(0, "");
        expected.push_str("last\n");
        env.wait_until("it is written", || fs::read_to_string(&output).is_ok_and(|found| found == expected));
        recv.signal("INT");
        recv.wait().assert_exit(130, "");
        env.assert_no_names();
    }
}

#[test]
fn receiver_that_follows_a_removed_name_exits_1() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let recv = env.spawn(&transport.recv(&["--follow"]));
        env.wait_for_role("x", "receiver");
        send(&env, &transport.send(&[]), "first\n").wait().assert_exit(0, "");
        env.run(&["rm", "x", "--force"]).assert_exit(0, "");
        recv.wait().assert_exit(1, "somebody removed the name");
    }
}

#[test]
fn receiver_of_three_senders_ends_after_the_third() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let recv = env.spawn(&transport.recv(&["--senders", "3"]));
        env.wait_for_role("x", "receiver");
        for text in ["one\n", "", "three\n"] {
            send(&env, &transport.send(&[]), text).wait().assert_exit(0, "");
        }
        let recv = recv.wait();
        recv.assert_exit(0, "");
        assert_eq!(recv.text(), "one\nthree\n");
        env.assert_no_names();
    }
}

#[test]
fn queue_senders_before_the_receiver_count_unless_of_an_earlier_use() {
    let env = TestEnv::new();
    // A killed receiver leaves the name behind.
    let killed = env.spawn(&[&RECV[..], &["--follow"]].concat());
    env.wait_for_role("q", "receiver");
    send(&env, &SEND, "old\n").wait().assert_exit(0, "");
    killed.kill();
    assert!(env.name_path("q").exists());
    let recv = env.spawn(&[&RECV[..], &["--senders", "2"]].concat());
    env.wait_for_role("q", "receiver");
    for text in ["one\n", "two\n"] {
        send(&env, &SEND, text).wait().assert_exit(0, "");
    }
    assert_eq!(recv.wait().text(), "one\ntwo\n");
    env.assert_no_names();

    for text in ["one\n", "two\n"] {
        send(&env, &NO_WAIT, text).wait().assert_exit(0, "");
    }
    let recv = env.run(&[&RECV[..], &["--senders", "2"]].concat());
    recv.assert_exit(0, "");
    assert_eq!(recv.text(), "one\ntwo\n");
    env.assert_no_names();
}

#[test]
fn queue_lines_of_a_killed_sender_wait_for_a_receiver() {
    let env = TestEnv::new();
    let mut killed = env.spawn(&SEND);
    killed.write(b"a\nb\n");
    env.wait_for_state("q", |region| count(region, "queued") == 2);
    killed.kill();
    let recv = env.run(&RECV);
    recv.assert_exit(3, "the last sender of \"q\" died");
    assert_eq!(recv.text(), "a\nb\n");
    env.assert_no_names();
}

#[test]
fn queue_interrupted_sender_keeps_what_others_left() {
    let env = TestEnv::new();
    send(&env, &NO_WAIT, "kept\n").wait().assert_exit(0, "");
    let mut interrupted = env.spawn(&SEND);
    interrupted.write(b"partial\n");
    env.wait_for_state("q", |region| count(region, "queued") == 2);
    interrupted.signal("INT");
    interrupted.wait().assert_exit(130, "");
    let recv = env.run(&RECV);
    recv.assert_exit(3, "the last sender");
    assert_eq!(recv.text(), "kept\npartial\n");
    env.assert_no_names();
}

#[test]
fn queue_sender_after_a_killed_receiver_waits_for_the_next() {
    let env = TestEnv::new();
    send(&env, &NO_WAIT, "a\nb\n").wait().assert_exit(0, "");
    let killed = env.spawn(&[&RECV[..], &["--follow"]].concat());
    env.wait_for_state("q", |region| count(region, "queued") == 0);
    killed.kill();
    let sender = send(&env, &SEND, "c\n");
    env.wait_for_state("q", |region| count(region, "queued") == 1);
    let recv = env.run(&RECV);
    recv.assert_exit(0, "");
    assert_eq!(recv.text(), "c\n");
    sender.wait().assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn queue_of_70_senders_has_a_place_for_the_receiver() {
    let env = TestEnv::new();
    let input = env.file("in", b"line\n");
    let senders: Vec<Process> = (0..70).map(|_| env.spawn_with_input(&SEND, &input)).collect();
    env.wait_for_roles("q", "sender", 70);
    let recv = env.run(&RECV);
    recv.assert_exit(0, "");
    assert_eq!(recv.text(), "line\n".repeat(70));
    senders.into_iter().for_each(|sender| sender.wait().assert_exit(0, ""));
    env.assert_no_names();
}

#[test]
fn queue_last_place_is_kept_for_a_receiver() {
    let env = TestEnv::new();
    let options = queue::Options::bytes().max_participants(3).directory(env.names());
    let ours = options.sender("q").unwrap();
    let first = send(&env, &SEND, "a\n");
    env.wait_for_roles("q", "sender", 2);
    let refused = env.run(&[&SEND[..], &["--timeout", "0.2"]].concat());
    refused.assert_exit(4, "no place was free");
    assert!(refused.errors.contains("waiting for a free place"));
    let second = send(&env, &SEND, "b\n");
    let recv = env.spawn(&RECV);
    first.wait().assert_exit(0, "");
    second.wait().assert_exit(0, "");
    drop(ours);
    let recv = recv.wait();
    recv.assert_exit(0, "");
    assert_eq!(recv.text(), "a\nb\n");
    env.assert_no_names();
}

#[test]
fn idle_sender_notices_the_end_of_its_receiver() {
    for transport in [PIPE, QUEUE] {
        for (signal, code) in [("KILL", 3), ("TERM", 1)] {
            for order in [["send", "recv"], ["recv", "send"]] {
                let env = TestEnv::new();
                let start = |command: &str| {
                    let (arguments, role) = match command {
                        "send" => (transport.send(&[]), "sender"), // its input stays open
                        _ => (transport.recv(&[]), "receiver"),
                    };
                    let process = env.spawn(&arguments);
                    env.wait_for_role("x", role);
                    process
                };
                let [first, second] = order.map(start);
                let (send, recv) = if order[0] == "send" { (first, second) } else { (second, first) };
                recv.signal(signal);
                recv.wait();
                send.wait().assert_exit(code, "before the end");
                env.assert_no_names();
            }
        }
    }
}

/// A FIFO with the name `fifo`.
fn fifo(env: &TestEnv) -> PathBuf {
    let path = env.path("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn fifo_that_nobody_opens_times_out_or_is_interrupted() {
    let env = TestEnv::new();
    let fifo = fifo(&env);
    let fifo = fifo.to_str().unwrap();
    for transport in [PIPE, QUEUE] {
        for arguments in [transport.send(&[fifo]), transport.recv(&[fifo])] {
            let timed = env.run(&[&arguments[..], &["--timeout", "0.2"]].concat());
            timed.assert_exit(4, "nobody opened the FIFO");
            // The thread that opens it starts after the signal handlers are there.
            let waiting = env.spawn(&arguments);
            let status = format!("/proc/{}/status", waiting.pid());
            env.wait_until("it waits", || {
                fs::read_to_string(&status).is_ok_and(|status| status.contains("Threads:\t2"))
            });
            waiting.signal("INT");
            waiting.wait().assert_exit(130, "");
            env.assert_no_names();
        }
    }
}

#[test]
fn fifo_opened_later_is_read_and_written() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let fifo = fifo(&env);
        let fifo = fifo.to_str().unwrap();
        let send = env.spawn(&transport.send(&[fifo, "--timeout", "20"]));
        let mut writer = env.shell("echo through > fifo").spawn().unwrap();
        let recv = env.run(&transport.recv(&[]));
        recv.assert_exit(0, "");
        assert_eq!(recv.text(), "through\n");
        send.wait().assert_exit(0, "");
        writer.wait().unwrap();

        let recv = env.spawn(&transport.recv(&[fifo, "--timeout", "20"]));
        let reader = Process::new(&mut env.shell("cat fifo"));
        crate::send(&env, &transport.send(&[]), "back\n").wait().assert_exit(0, "");
        recv.wait().assert_exit(0, "");
        assert_eq!(reader.wait().text(), "back\n");
        env.assert_no_names();
    }
}
