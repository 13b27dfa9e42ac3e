//! Transfers that fail: what each side reports, and that no name is left behind.

mod common;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use common::{LARGE, PIPE, Process, QUEUE, SIGPIPE, TestEnv, random_bytes};

#[test]
fn transfer_without_peer_times_out() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let wait_all = |arguments: &[&str], message: &str| {
            let waiting: Vec<Process> = (0..transport.places).map(|_| env.spawn(arguments)).collect();
            waiting.into_iter().for_each(|process| process.wait().assert_exit(4, message));
            env.assert_no_names();
        };
        for length in [0, 1, LARGE] {
            let input = env.file("in", &random_bytes(length));
            let send = transport.send(&[input.to_str().unwrap(), "--timeout", "0.2"]);
            wait_all(&send, "nobody came to receive");
        }
        // Standard input has nothing to send yet, either.
        wait_all(&transport.send(&["--timeout", "0.2"]), "nobody came to receive");
        wait_all(&transport.recv(&["--timeout", "0.2"]), "nobody came to send");
    }
}

#[test]
fn transfer_with_idle_peer_times_out() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let send = env.spawn(&transport.send(&[]));
        env.run(&transport.recv(&["--timeout", "0.2"])).assert_exit(4, "nothing came");
        send.wait().assert_exit(1, &format!("{} of \"x\" left before the end", transport.receiver));
        env.assert_no_names();

        // A receiver whose output is a pipe that nobody reads.
        let mut blocked = env.command(&transport.recv(&[])).spawn().unwrap();
        let input = env.file("in", &random_bytes(LARGE));
        let send = env.run(&transport.send(&[input.to_str().unwrap(), "--timeout", "0.2"]));
        send.assert_exit(4, "the receiver took nothing");
        let mut output = Vec::new();
        blocked.stdout.take().unwrap().read_to_end(&mut output).unwrap();
        assert_eq!(blocked.wait().unwrap().code(), Some(3), "a timeout of the sender is not the end of the stream");
        assert!(output.len() < LARGE);
        env.assert_no_names();
    }
}

#[test]
fn sender_killed_receiver_writes_what_came_and_exits_3() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let (send, recv) = env.start_transfer(&transport);
        send.kill();
        let recv = recv.wait();
        recv.assert_exit(3, &format!("{} of \"x\" died", transport.sender));
        assert_eq!(recv.text(), "some of it");
        env.assert_no_names();
        env.assert_transfer_works(&transport);
    }
}

#[test]
fn receiver_killed_while_sender_waits_for_input_sender_exits_3() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let (send, recv) = env.start_transfer(&transport);
        recv.kill();
        send.wait().assert_exit(3, &format!("{} of \"x\" died", transport.receiver));
        env.assert_no_names();
        env.assert_transfer_works(&transport);
    }
}

#[test]
fn receiver_killed_while_sender_waits_for_it_sender_exits_3() {
    for transport in [PIPE, QUEUE] {
        // The sender waits for room, or for the receiver to take the rest.
        for length in [LARGE, 1 << 20] {
            let env = TestEnv::new();
            let send = env.spawn_with_input(&transport.send(&[]), &env.file("in", &random_bytes(length)));
            env.wait_for_role("x", "sender");
            // Its output is a pipe that nobody reads.
            let mut recv = env.command(&transport.recv(&[])).spawn().unwrap();
            env.wait_until_received("x");
            recv.kill().unwrap();
            recv.wait().unwrap();
            send.wait().assert_exit(3, &format!("{} of \"x\" died", transport.receiver));
            env.assert_no_names();
            env.assert_transfer_works(&transport);
        }
    }
}

#[test]
fn both_sides_killed_next_transfer_works() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let (send, recv) = env.start_transfer(&transport);
        send.kill();
        recv.kill();
        env.assert_transfer_works(&transport);
    }
}

#[test]
fn lone_sender_killed_next_transfer_works() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let send = env.spawn_with_input(&transport.send(&[]), &env.file("in", b"stale"));
        env.wait_until_sent("x");
        send.kill();
        env.assert_transfer_works(&transport);
    }
}

#[test]
fn pipe_receiver_restarted_at_once_gets_the_next_senders_stream() {
    for _ in 0..10 {
        let env = TestEnv::new();
        let (send, recv) = env.start_transfer(&PIPE);
        recv.kill();
        // The old sender is still there, or just gone.
        let recv = env.spawn(&["recv", "x"]);
        send.wait().assert_exit(3, "died");
        let send = env.spawn_with_input(&["send", "x"], &env.file("in", b"fresh"));
        assert_eq!(recv.wait().text(), "fresh");
        send.wait().assert_exit(0, "");
        env.assert_no_names();
    }
}

#[test]
fn output_closed_receiver_dies_of_sigpipe() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        let send = env.spawn_with_input(&transport.send(&[]), &env.file("in", &random_bytes(LARGE)));
        let mut recv = env.command(&transport.recv(&[])).stdout(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        recv.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and closes it
        assert_eq!(recv.wait().unwrap().signal(), Some(SIGPIPE), "like cat");
        send.wait().assert_exit(1, &format!("{} of \"x\" left before the end", transport.receiver));
        env.assert_no_names();
    }
}

#[test]
fn pipe_second_sender_or_receiver_is_refused() {
    let env = TestEnv::new();
    let (send, recv) = env.start_transfer(&PIPE);
    env.run(&["send", "x", "--timeout", "5"]).assert_exit(1, &format!("process {}", send.pid()));
    env.run(&["recv", "x", "--timeout", "5"]).assert_exit(1, &format!("process {}", recv.pid()));
    send.finish();
    assert_eq!(recv.wait().text(), "some of it", "the first ones are not disturbed");
    env.assert_no_names();
}

#[test]
fn name_removed_while_waiting_exits_1() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        for (arguments, role) in [(transport.send(&[]), "sender"), (transport.recv(&[]), "receiver")] {
            let waiting = env.spawn(&arguments);
            env.wait_for_role("x", role);
            env.run(&["rm", "x", "--force"]).assert_exit(0, "");
            waiting.wait().assert_exit(1, "somebody removed the name \"x\"");
            env.assert_no_names();
        }
    }
}
