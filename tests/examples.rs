//! Examples print what they are to print, or go on while their processes are killed and started
//! again at random.

#[path = "support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use support::{Random, TestDir, stress_factor, stress_random};
use tombolo::Namespace;

const KILLS: u64 = 100;

/// Of each client, as in the example.
const ORDERS: u64 = 100_000;

/// A process of an example. Dropping it kills it.
struct Example<'a> {
    test_dir: &'a TestDir,
    name: &'a str,
    arguments: &'a [&'a str],
    child: Child,
}

impl<'a> Example<'a> {
    fn start(test_dir: &'a TestDir, name: &'a str, arguments: &'a [&'a str]) -> Self {
        Self { test_dir, name, arguments, child: spawn(test_dir, name, arguments) }
    }

    /// Kills it, and starts it again at once.
    fn restart(&mut self) {
        self.child.kill().unwrap();
        let next = spawn(self.test_dir, self.name, self.arguments);
        self.child.wait().unwrap();
        self.child = next;
    }

    /// How it ended, if it did.
    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    fn finish(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{} {:?}: {status}", self.name, self.arguments);
    }
}

impl Drop for Example<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of an example.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name)
}

fn spawn(test_dir: &TestDir, name: &str, arguments: &[&str]) -> Child {
    let output = File::options().append(true).create(true).open(output(test_dir)).unwrap();
    let program = program(name);
    let mut command = Command::new(&program);
    command.args(arguments).env("TOMBOLO_DIR", test_dir.names()).stdin(Stdio::null()).stdout(output);
    command.spawn().unwrap_or_else(|error| panic!("{error}: build {} with cargo build --examples", program.display()))
}

/// What all processes of the test have printed.
fn output(test_dir: &TestDir) -> PathBuf {
    test_dir.file("output")
}

/// Runs an example to its end, and returns the lines that its processes have printed. It must end
/// well, and leave no name.
fn lines(name: &str) -> Vec<String> {
    let test_dir = TestDir::new();
    Example::start(&test_dir, name, &[]).finish();
    assert!(test_dir.leftovers().is_empty(), "{name}: {:?}", test_dir.leftovers());
    fs::read_to_string(output(&test_dir)).unwrap().lines().map(String::from).collect()
}

/// Up to two milliseconds.
fn pause(random: &mut Random) {
    sleep(Duration::from_micros(random.below(2000)));
}

#[test]
fn order_gateway_processes_killed_each_order_is_executed_once() {
    let test_dir = TestDir::new();
    let mut random = stress_random(11);
    let mut gateway = Example::start(&test_dir, "order_gateway", &["gateway", "alice", "bob"]);
    let clients = ["alice", "bob"].map(|name| (name, [name]));
    let mut clients =
        clients.each_ref().map(|(name, arguments)| (name, Example::start(&test_dir, "order_gateway", arguments)));
    for _ in 0..KILLS * stress_factor() {
        pause(&mut random);
        assert!(gateway.status().is_none(), "the gateway ended: {:?}", gateway.status());
        match clients.get_mut(random.below(3) as usize) {
            None => gateway.restart(),
            Some((_, client)) => {
                if client.status().is_none() {
                    client.restart();
                }
            }
        }
    }
    for (name, client) in clients {
        client.finish();
        // The only object of a region has no name of its own.
        let book = Namespace::builder().must_exist().directory(test_dir.names()).open(&format!("{name}-book")).unwrap();
        assert_eq!(book.value::<[u64; 2]>("").unwrap().load(), Ok([ORDERS, 300 * ORDERS]), "{name}");
    }
    assert!(gateway.status().is_none(), "the gateway ended: {:?}", gateway.status());
}

#[test]
fn render_farm_workers_killed_picture_is_whole() {
    let test_dir = TestDir::new();
    let [undisturbed, disturbed] = ["1000", "8"].map(|kill_after| {
        let file = test_dir.file(kill_after);
        Example::start(&test_dir, "render_farm", &[file.to_str().unwrap(), kill_after]).finish();
        fs::read(file).unwrap()
    });
    assert!(undisturbed.starts_with(b"P5 960 640 255\n") && undisturbed == disturbed);
    let printed = fs::read_to_string(output(&test_dir)).unwrap();
    let killed = |line: &str| line.split_once(" tiles, ")?.1.split_once(" workers died")?.0.parse().ok();
    let killed: Vec<u64> = printed.lines().filter_map(killed).collect();
    assert!(killed.len() == 2 && killed[0] == 0 && killed[1] > 0, "{printed}");
}

#[test]
fn request_reply_processes_killed_each_client_gets_all_replies() {
    let test_dir = TestDir::new();
    let mut random = stress_random(13);
    let mut servers = [(); 2].map(|()| Example::start(&test_dir, "request_reply", &["serve"]));
    let mut clients = [&["alice"], &["bob"]].map(|name| Example::start(&test_dir, "request_reply", name));
    for _ in 0..KILLS * stress_factor() {
        pause(&mut random);
        match random.below(5) as usize {
            server @ 0..2 => servers[server].restart(),
            2 if clients[0].status().is_none() => clients[0].restart(),
            _ => {}
        }
        assert!(servers.iter_mut().all(|server| server.status().is_none()), "a server ended");
    }
    clients.into_iter().for_each(Example::finish);
    let printed = fs::read_to_string(output(&test_dir)).unwrap();
    // How many primes are below each number from 1 to 1000.
    let is_prime = |number: u64| number > 1 && (2..number).all(|divisor| !number.is_multiple_of(divisor));
    let counts = (0..1000).scan(0, |count, number| {
        *count += u64::from(is_prime(number));
        Some(*count)
    });
    let sum: u64 = counts.sum();
    for name in ["alice", "bob"] {
        assert!(printed.contains(&format!("{name}: 1000 replies, {sum} in all")), "{printed}");
    }
}

#[test]
fn work_queue_workers_killed_each_job_is_done() {
    let test_dir = TestDir::new();
    let mut random = stress_random(12);
    let mut workers = [(); 4].map(|()| Example::start(&test_dir, "work_queue", &["work"]));
    let mut producer = Example::start(&test_dir, "work_queue", &[]);
    for _ in 0..KILLS * stress_factor() {
        pause(&mut random);
        if producer.status().is_some() {
            break;
        }
        workers[random.below(4) as usize].restart();
    }
    producer.finish();
    let printed = fs::read_to_string(output(&test_dir)).unwrap();
    let mut jobs: Vec<u64> =
        printed.lines().filter_map(|line| line.split_once(" primes below ")?.1.parse().ok()).collect();
    jobs.sort_unstable();
    assert!(jobs.into_iter().eq(1..=1000), "{printed}");
}

/// Each client gets its ticks whichever process is killed, and nothing is left at the address.
#[test]
fn listener_clients_and_server_killed_each_client_is_served() {
    let test_dir = TestDir::new();
    let mut random = stress_random(13);
    let address = test_dir.file("socket");
    let address = address.to_str().unwrap();
    let [server, client] = ["server", "client"].map(|role| [role, address]);
    let mut server = Example::start(&test_dir, "listener", &server);
    let mut clients = [(); 3].map(|()| Example::start(&test_dir, "listener", &client));
    for _ in 0..KILLS / 2 * stress_factor() {
        sleep(Duration::from_micros(random.below(40_000)));
        assert!(server.status().is_none(), "the server ended: {:?}", server.status());
        match clients.get_mut(random.below(4) as usize) {
            None => server.restart(),
            Some(client) => client.restart(),
        }
    }
    for client in clients {
        client.finish();
    }
    assert!(server.status().is_none(), "the server ended: {:?}", server.status());
    let printed = fs::read_to_string(output(&test_dir)).unwrap();
    assert!(printed.matches("received 2000 ticks").count() >= 3, "{printed}");
}

#[test]
fn five_workers_run_each_prints_its_number() {
    let mut lines = lines("five_workers");
    lines.sort();
    assert_eq!(lines, ["Worker: 0", "Worker: 1", "Worker: 2", "Worker: 3", "Worker: 4"]);
}

#[test]
fn manager_namespace_changed_by_worker_is_printed() {
    let expected = ["before Namespace(x=1, y=1)", "after Namespace(x=6, y=10)"];
    assert_eq!(lines("manager_namespace"), expected);
}

#[test]
fn manager_list_appended_to_by_worker_is_printed_by_another() {
    let records = ["Computers, Score: 1", "History, Score: 5", "Hindi, Score: 9", "English, Score: 3"];
    let records = records.map(|record| format!("Name: {record}"));
    assert_eq!(lines("manager_list"), [&["A New record is added".to_string()][..], &records].concat());
}

#[test]
fn manager_nested_lists_of_workers_are_found_through_the_dictionary() {
    assert_eq!(lines("manager_nested"), ["ann: [1, 2]", "bob: [3]"]);
}

/// The program is executed again, and its file is gone, or another one has its name.
#[test]
fn five_workers_binary_deleted_or_replaced_each_prints_its_number() {
    // Not in the directory of the test: that file system may execute nothing.
    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("five_workers-{}", std::process::id()));
    let _test_dir = TestDir::new();
    for replace in ["", r#"; printf '#!/bin/sh\nexit 1\n' >"$1"; chmod +x "$1""#] {
        fs::copy(program("five_workers"), &copy).unwrap();
        let script = format!(r#"exec 9<"$1"; rm "$1"{replace}; exec /proc/self/fd/9"#);
        let output = Command::new("sh").args(["-c", &script, "sh"]).arg(&copy).output();
        let _ = fs::remove_file(&copy);
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap().matches("Worker: ").count(), 5);
    }
}

#[test]
fn pipe_sender_receiver_run_prints_what_was_sent() {
    assert_eq!(lines("pipe_sender_receiver"), ["Message received: Hello, receiver!", r#"["hello", "world"]"#]);
}

#[test]
fn queue_writer_reader_run_prints_messages_in_order() {
    let expected = [1, 2, 3].map(|number| format!("Message received: message{number}"));
    assert_eq!(lines("queue_writer_reader"), expected);
}

#[test]
fn select_pipes_run_prints_how_each_feed_ended() {
    let mut lines = lines("select_pipes");
    lines.sort();
    let expected = ["feed 0 was killed", "feed 1 is done", "feed 2 is done"];
    assert_eq!(lines, expected.map(|end| format!("{end} after 100 prices")));
}

#[test]
fn epoll_readiness_run_prints_what_came() {
    let mut lines = lines("epoll_readiness");
    lines.sort();
    assert_eq!(lines, ["pipe 0: 1000 numbers", "pipe 1: 1000 numbers", "socket: hello", "timer: expired"]);
}

#[test]
fn feed_handlers_one_killed_the_others_go_on() {
    let mut lines = lines("feed_handlers");
    let position = |line: &str| lines.iter().position(|other| other == line).unwrap();
    assert!(position("the operator stops feed 2") < position("feed 2 was killed"));
    lines.sort();
    let done = [0, 1, 3, 4].map(|feed| format!("feed {feed} is done after 1000 prices"));
    let expected = [&["a signal came".to_string()], &done[..2], &["feed 2 was killed".to_string()], &done[2..]];
    assert_eq!(lines, [&expected.concat()[..], &["the operator stops feed 2".to_string()]].concat());
}

#[test]
fn value_array_run_prints_changes_of_both_processes() {
    let expected = ["3.1415927", "[0, -1, -2, -3, -4, -5, -6, -7, -8, -9]", "Processed: 42.0 [99, -1, -2]"];
    assert_eq!(lines("value_array"), expected);
}

#[test]
fn semaphore_of_two_run_lets_two_in_at_a_time() {
    let expected = ["Processing", "Processing", "Processing", "Processing", "never more than two: true"];
    assert_eq!(lines("semaphore_of_two"), expected);
}

#[test]
fn duplex_hello_run_prints_answer_and_end() {
    let expected = ["Processed: Hello from main process", r#"Answer: (42, None, "hello")"#, "the other side has gone"];
    assert_eq!(lines("duplex_hello"), expected);
}
