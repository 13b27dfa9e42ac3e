//! Signals that ask the command to stop, and those that its caller wants ignored.

mod common;

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use common::{LARGE, PIPE, Process, QUEUE, TestEnv, random_bytes};

#[test]
fn interrupted_side_exits_128_plus_signal_and_peer_fails() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        for transport in [PIPE, QUEUE] {
            let env = TestEnv::new();
            let (send, recv) = env.start_transfer(&transport);
            send.signal(signal);
            send.wait().assert_exit(code, "");
            recv.wait().assert_exit(3, "broke off");
            env.assert_no_names();

            let (send, recv) = env.start_transfer(&transport);
            recv.signal(signal);
            recv.wait().assert_exit(code, "");
            send.wait().assert_exit(1, &format!("{} of \"x\" left before the end", transport.receiver));
            env.assert_no_names();
        }
    }
}

#[test]
fn both_sides_interrupted_leave_no_name() {
    let env = TestEnv::new();
    for signal in ["INT", "TERM"] {
        let (send, recv) = env.start_transfer(&PIPE);
        recv.signal(signal);
        send.signal(signal);
        recv.wait();
        send.wait();
        env.assert_no_names();
    }
}

#[test]
fn side_interrupted_before_its_peer_came_leaves_no_name() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        for transport in [PIPE, QUEUE] {
            let env = TestEnv::new();
            let send = env.spawn_with_input(&transport.send(&[]), &env.file("in", &random_bytes(LARGE)));
            env.wait_until_sent("x");
            send.signal(signal);
            send.wait().assert_exit(code, "");
            env.assert_no_names();

            let recv = env.spawn(&transport.recv(&[]));
            env.wait_for_role("x", "receiver");
            recv.signal(signal);
            recv.wait().assert_exit(code, "");
            env.assert_no_names();
        }
    }
}

#[test]
fn interrupt_at_full_speed_stops_the_transfer() {
    for transport in [PIPE, QUEUE] {
        let env = TestEnv::new();
        for command in ["send", "recv"] {
            let send = env.spawn(&transport.send(&["/dev/zero"]));
            let recv = env.spawn(&transport.recv(&["/dev/null"]));
            env.wait_until_received("x");
            let (interrupted, peer, peer_code) = if command == "send" { (send, recv, 3) } else { (recv, send, 1) };
            interrupted.signal("INT");
            interrupted.wait().assert_exit(130, "");
            peer.wait().assert_exit(peer_code, "before the end");
            env.assert_no_names();
        }
    }
}

#[test]
fn signal_ignored_by_the_caller_stays_ignored() {
    for signal in ["INT", "TERM", "HUP"] {
        let env = TestEnv::new();
        // As `nohup` does.
        let spawn_ignoring = |arguments: &str| {
            let mut command = env.shell(&format!("trap '' {signal}; exec \"$TOMBOLO\" {arguments}"));
            Process::new(command.stdin(Stdio::piped()))
        };
        let recv = spawn_ignoring("recv x");
        let mut send = spawn_ignoring("send x");
        send.write(b"before, ");
        env.wait_until_received("x");
        recv.signal(signal);
        send.signal(signal);
        thread::sleep(Duration::from_millis(200)); // time for several checks of the signals
        send.write(b"after");
        send.finish();
        let recv = recv.wait();
        recv.assert_exit(0, "");
        assert_eq!(recv.text(), "before, after");
        env.assert_no_names();
    }
}
