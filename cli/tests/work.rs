//! `work`: a command for each message of a queue.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Exited, Process, TestEnv, assert_bytes_eq, random_bytes};

const SEND: [&str; 4] = ["send", "--queue", "j", "--lines"];

/// `work j OPTIONS -- COMMAND`, in the directory of files.
fn work_command(env: &TestEnv, options: &[&str], command: &[&str]) -> Command {
    let mut work = env.command(&[&["work", "j"], options, &["--"], command].concat());
    work.current_dir(env.path(""));
    work
}

fn start_work(env: &TestEnv, options: &[&str], command: &[&str]) -> Process {
    Process::new(&mut work_command(env, options, command))
}

/// A shell script with the message as `$1`.
fn script(text: &str) -> [&str; 5] {
    ["sh", "-c", text, "sh", "{}"]
}

/// Leaves lines in the queue.
fn leave(env: &TestEnv, lines: &str) {
    let send = env.spawn_with_input(&[&SEND[..], &["--no-wait"]].concat(), &env.file("left", lines.as_bytes()));
    send.wait().assert_exit(0, "");
}

fn numbers(count: usize) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn wait_for_file(env: &TestEnv, file: &str) {
    env.wait_until(file, || fs::read(env.path(file)).is_ok_and(|content| !content.is_empty()));
}

#[test]
fn work_three_processes_share_the_lines_and_lose_none() {
    let env = TestEnv::new();
    let workers: Vec<Process> = (0..3).map(|_| start_work(&env, &[], &["echo", "{}"])).collect();
    env.wait_for_roles("j", "receiver", 3);
    let lines = numbers(1000);
    env.spawn_with_input(&SEND, &env.file("in", lines.as_bytes())).wait().assert_exit(0, "");
    let mut all = String::new();
    for worker in workers {
        let exited = worker.wait();
        exited.assert_exit(0, "");
        assert!(!exited.output.is_empty(), "a worker got nothing");
        all.push_str(exited.text());
    }
    assert_eq!(sorted(&all), sorted(&lines));
    env.assert_no_names();
}

/// Each command waits for the two others.
#[test]
fn work_with_three_jobs_runs_three_commands_at_a_time() {
    let env = TestEnv::new();
    leave(&env, "1\n2\n3\n");
    let text = r#"touch "here-$1"; until [ -e here-1 ] && [ -e here-2 ] && [ -e here-3 ]; do sleep 0.01; done"#;
    start_work(&env, &["-j", "3"], &script(text)).wait().assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn work_takes_no_message_that_it_does_not_work_on() {
    let env = TestEnv::new();
    leave(&env, "1\n2\n3\n4\n");
    let text = r#"echo started > "started-$1"; until [ -e go ]; do sleep 0.01; done; echo "$1""#;
    let first = start_work(&env, &["-j", "2"], &script(text));
    wait_for_file(&env, "started-1");
    wait_for_file(&env, "started-2");
    let other = start_work(&env, &[], &["echo", "{}"]).wait();
    other.assert_exit(0, "");
    assert_eq!(other.text(), "3\n4\n");
    env.file("go", b"");
    let first = first.wait();
    first.assert_exit(0, "");
    assert_eq!(sorted(first.text()), ["1", "2"]);
    env.assert_no_names();
}

#[test]
fn work_command_killed_or_failed_is_run_again() {
    let env = TestEnv::new();
    let text = r#"if mkdir "killed-$1"; then kill -KILL $$; fi 2>/dev/null
        if mkdir "failed-$1"; then exit 7; fi 2>/dev/null
        echo "$1""#;
    let work = start_work(&env, &["-j", "3"], &script(text));
    let lines = numbers(30);
    env.spawn_with_input(&SEND, &env.file("in", lines.as_bytes())).wait().assert_exit(0, "");
    let work = work.wait();
    work.assert_exit(0, "");
    assert_eq!(sorted(work.text()), sorted(&lines));
    env.assert_no_names();
}

#[test]
fn work_command_that_always_fails_prints_its_line_and_goes_on() {
    let env = TestEnv::new();
    for (options, tries) in [(&["-j", "2"][..], 4), (&["--retries", "1"], 2), (&["--retries", "0"], 1)] {
        let _ = fs::remove_file(env.path("tries"));
        leave(&env, "good\nbad one\nbetter\n");
        let text = r#"if [ "$1" = "bad one" ]; then echo >> tries; echo partial; exit 7; fi; echo "$1""#;
        let work = start_work(&env, options, &script(text)).wait();
        work.assert_exit(1, "the command failed for 1 of 3 messages");
        let failed = format!("tombolo: failed (exit status: 7, {tries} tries): bad one");
        let retries = (1..tries)
            .map(|number| format!("tombolo: trying again (exit status: 7, try {number} of {tries}): bad one"));
        let expected: Vec<String> = retries.chain([failed]).collect();
        let found: Vec<&str> = work.errors.lines().filter(|line| line.contains("bad one")).collect();
        assert_eq!(found, expected, "{work:?}");
        assert_eq!(sorted(work.text()), ["better", "good"]);
        assert_eq!(fs::read(env.path("tries")).unwrap().len(), tries);
        env.assert_no_names();
    }
}

#[test]
fn work_retry_waits_for_the_delay() {
    let env = TestEnv::new();
    leave(&env, "a\n");
    let started = Instant::now();
    let text = r#"if mkdir failed; then exit 7; fi 2>/dev/null; echo "$1""#;
    let work = start_work(&env, &["--retry-delay", "0.3", "--quiet"], &script(text)).wait();
    assert_eq!((work.code(), work.text(), work.errors.as_str()), (0, "a\n", ""));
    assert!(started.elapsed() >= Duration::from_millis(300));
    // A signal ends the delay.
    leave(&env, "b\n");
    let text = "echo failed > tried; exit 7";
    let work = start_work(&env, &["--retry-delay", "100"], &script(text));
    wait_for_file(&env, "tried");
    work.signal("TERM");
    let work = work.wait();
    work.assert_exit(143, "tombolo: unfinished: b");
    env.assert_no_names();
}

#[test]
fn work_message_would_be_the_name_of_the_shell_warns() {
    let env = TestEnv::new();
    let wrong = ["sh", "-c", r#"echo "got <$1>""#, "{}"];
    for (options, warns) in [(&[][..], true), (&["--quiet"], false)] {
        leave(&env, "a\n");
        let work = start_work(&env, options, &wrong).wait();
        work.assert_exit(0, "");
        assert_eq!(work.text(), "got <>\n");
        assert_eq!(work.errors.contains("write `sh -c SCRIPT sh {}`"), warns, "{work:?}");
    }
    leave(&env, "a\n");
    let work = start_work(&env, &[], &script(r#"echo "got <$1>""#)).wait();
    assert_eq!((work.text(), work.errors.as_str()), ("got <a>\n", ""));
}

#[test]
fn work_message_stays_one_argument() {
    let env = TestEnv::new();
    let lines = "two words\n\n$(touch made)\n`touch made`; touch made\n\"'\\\n*\n-n\n{}\n";
    leave(&env, lines);
    let work = start_work(&env, &[], &["printf", "<%s|%s>\n", "{}", "a{}b{}"]).wait();
    work.assert_exit(0, "");
    let expected: String = lines.lines().map(|line| format!("<{line}|a{line}b{line}>\n")).collect();
    assert_eq!(work.text(), expected);
    assert!(!env.path("made").exists());
    env.assert_no_names();
}

#[test]
fn work_message_that_cannot_be_an_argument_fails_and_others_go_on() {
    let env = TestEnv::new();
    leave(&env, &format!("one\na\0b\n{}\ntwo\n", "x".repeat(1 << 20)));
    let work = start_work(&env, &[], &["echo", "{}"]).wait();
    work.assert_exit(1, "failed for 2 of 4 messages");
    assert!(work.errors.contains("failed (it has a NUL byte, which no argument can have): a\0b\n"));
    assert!(work.errors.contains("failed (it is too long for an argument): xxx"));
    assert_eq!(work.text(), "one\ntwo\n");
    env.assert_no_names();
}

#[test]
fn work_without_placeholder_message_is_the_input() {
    let env = TestEnv::new();
    let long = "y".repeat(1 << 20);
    let lines = format!("one\na\0b\n\n{long}\n");
    leave(&env, &lines);
    let work = start_work(&env, &["--lines"], &["cat"]).wait();
    work.assert_exit(0, "");
    assert_bytes_eq(&work.output, lines.as_bytes());
    leave(&env, &lines);
    let work = start_work(&env, &[], &["cat"]).wait();
    assert_bytes_eq(&work.output, lines.replace('\n', "").as_bytes());
    leave(&env, &lines); // a command need not read it
    start_work(&env, &[], &["true"]).wait().assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn work_output_of_one_command_is_not_mixed_with_others() {
    let env = TestEnv::new();
    let lines = numbers(60);
    leave(&env, &lines);
    let work = start_work(&env, &["-j", "6"], &script(r#"printf "%s-" "$1"; sleep 0.01; echo "$1""#)).wait();
    work.assert_exit(0, "");
    let expected: String = lines.lines().map(|line| format!("{line}-{line}\n")).collect();
    assert_eq!(sorted(work.text()), sorted(&expected));
}

#[test]
fn work_into_queue_sends_each_output_as_one_message() {
    let env = TestEnv::new();
    let work = start_work(&env, &["-j", "3", "--into", "results"], &script(r#"echo "got"; echo "$1""#));
    let recv = env.spawn(&["recv", "--queue", "results"]);
    env.wait_for_role("results", "receiver");
    let lines = numbers(100);
    env.spawn_with_input(&SEND, &env.file("in", lines.as_bytes())).wait().assert_exit(0, "");
    let work = work.wait();
    work.assert_exit(0, "");
    assert!(work.output.is_empty());
    let recv = recv.wait();
    recv.assert_exit(0, "");
    let found: BTreeSet<&str> = recv.text().split("got\n").skip(1).map(str::trim_end).collect();
    assert_eq!(found, lines.lines().collect());
    env.assert_no_names();
}

#[test]
fn work_into_queue_results_wait_for_a_receiver() {
    let env = TestEnv::new();
    leave(&env, "a\nb\n");
    start_work(&env, &["--into", "results"], &["echo", "{}"]).wait().assert_exit(0, "");
    let recv = env.run(&["recv", "--queue", "results"]);
    recv.assert_exit(0, "");
    assert_eq!(recv.text(), "a\nb\n");
    env.assert_no_names();
}

/// A sleeping command whose process id is in the file `pid-MESSAGE`.
const SLEEP: &str = r#"echo $$ > "pid-$1"; sleep 100; echo never"#;

fn assert_process_ends(env: &TestEnv, file: &str) {
    let pid = fs::read_to_string(env.path(file)).unwrap();
    env.wait_until("the command has ended", || {
        let mut kill = Command::new("kill");
        !kill.args(["-0", pid.trim()]).stderr(Stdio::null()).status().unwrap().success()
    });
}

#[test]
fn work_interrupted_ends_its_commands_and_prints_unfinished_lines() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let env = TestEnv::new();
        leave(&env, "a\nb\nc\n");
        let work = start_work(&env, &["-j", "2", "--into", "results"], &script(SLEEP));
        wait_for_file(&env, "pid-a");
        wait_for_file(&env, "pid-b");
        let recv = env.spawn(&["recv", "--queue", "results"]);
        env.wait_for_role("results", "receiver");
        work.signal(signal);
        let work = work.wait();
        work.assert_exit(code, "");
        assert_eq!(sorted(&work.errors), ["tombolo: unfinished: a", "tombolo: unfinished: b"]);
        assert_process_ends(&env, "pid-a");
        assert_process_ends(&env, "pid-b");
        recv.wait().assert_exit(3, "died, or broke off"); // the results are incomplete
        // What it had not taken waits for the next one.
        let next = start_work(&env, &[], &["echo", "{}"]).wait();
        next.assert_exit(0, "");
        assert_eq!(next.text(), "c\n");
        env.assert_no_names();
    }
}

#[test]
fn work_interrupted_command_that_succeeds_all_the_same_is_done() {
    let env = TestEnv::new();
    leave(&env, "a\n");
    let text = r#"trap 'echo stopped; exit 0' TERM; echo ready > ready; while :; do sleep 0.01; done"#;
    let work = start_work(&env, &[], &script(text));
    wait_for_file(&env, "ready");
    work.signal("TERM");
    let work = work.wait();
    assert_eq!((work.code(), work.text()), (143, "stopped\n"));
    assert!(!work.errors.contains("unfinished"), "{work:?}"); // the shell may print that its `sleep` was killed
    env.assert_no_names();
}

#[test]
fn work_command_that_ignores_sigterm_is_killed() {
    let env = TestEnv::new();
    leave(&env, "a\n");
    let text = r#"trap '' TERM; echo $$ > pid-a; while :; do sleep 0.01; done"#;
    let work = start_work(&env, &[], &script(text));
    wait_for_file(&env, "pid-a");
    work.signal("TERM");
    work.wait().assert_exit(143, "unfinished: a");
    assert_process_ends(&env, "pid-a");
}

#[test]
fn work_signals_ignored_by_the_caller_stay_ignored_and_do_no_harm() {
    let env = TestEnv::new();
    leave(&env, "a\nb\n");
    let line = r#"trap '' HUP INT; exec env --ignore-signal=CHLD "$TOMBOLO" work j -- sh -c '
        echo $$ > "pid-$1"; until [ -e go ]; do sleep 0.01; done; echo "$1"' sh {}"#;
    let work = Process::new(&mut env.shell(line));
    wait_for_file(&env, "pid-a");
    work.signal("HUP");
    work.signal("INT");
    thread::sleep(Duration::from_millis(200)); // time for several checks of the signals
    env.file("go", b"");
    let work = work.wait();
    work.assert_exit(0, "");
    assert_eq!(work.text(), "a\nb\n");
}

#[test]
fn work_killed_loses_only_what_it_was_working_on() {
    let env = TestEnv::new();
    leave(&env, "a\nb\nc\n");
    let work = start_work(&env, &[], &script(r#"echo $$ > "pid-$1"; exec sleep 100"#));
    wait_for_file(&env, "pid-a");
    work.kill();
    let next = start_work(&env, &[], &script(r#"until [ -e go ]; do sleep 0.01; done; echo "$1""#));
    env.wait_for_state("j", |region| region["queue"]["tasks_lost"] == 1);
    env.file("go", b"");
    let next = next.wait();
    next.assert_exit(0, "");
    assert_eq!(next.text(), "b\nc\n");
    env.assert_no_names();
    kill_command(&env, "pid-a");
}

/// Ends a command whose `work` was killed: it goes on by itself.
fn kill_command(env: &TestEnv, pid_file: &str) {
    let pid = fs::read_to_string(env.path(pid_file)).unwrap();
    assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
}

/// Leaves lines in a queue that redelivers.
fn leave_to_redeliver(env: &TestEnv, times: &str, lines: &str) {
    let send = [&SEND[..], &["--no-wait", "--redeliver", times]].concat();
    env.spawn_with_input(&send, &env.file("left", lines.as_bytes())).wait().assert_exit(0, "");
}

#[test]
fn work_killed_in_queue_that_redelivers_others_do_its_lines() {
    let env = TestEnv::new();
    leave_to_redeliver(&env, "1", "a\nb\nc\n");
    // It has finished b and not a, which it received before.
    let text = r#"echo $$ > "pid-$1"; [ "$1" = b ] || exec sleep 100; echo b"#;
    let work = start_work(&env, &["-j", "2", "--redeliver", "1"], &script(text));
    for file in ["pid-a", "pid-b", "pid-c"] {
        wait_for_file(&env, file);
    }
    env.wait_for_state("j", |region| region["queue"]["redelivery"]["unfinished"] == 2);
    work.kill();
    let next = start_work(&env, &["-j", "2"], &["echo", "{}"]).wait();
    next.assert_exit(0, "");
    assert_eq!(sorted(next.text()), ["a", "c"]);
    env.assert_no_names();
    for file in ["pid-a", "pid-c"] {
        kill_command(&env, file);
    }
}

/// Every line needs a block.
#[test]
fn redeliver_queue_holds_as_many_lines_as_its_capacity() {
    let env = TestEnv::new();
    let lines = numbers(5000);
    let send = [&SEND[..], &["--no-wait", "--redeliver", "1", "--capacity", "8K"]].concat();
    env.spawn_with_input(&send, &env.file("left", lines.as_bytes())).wait().assert_exit(0, "");
    let received = env.run(&["recv", "--queue", "j", "--lines"]);
    received.assert_exit(0, "");
    assert_bytes_eq(&received.output, lines.as_bytes());
    env.assert_no_names();
}

#[test]
fn work_command_that_always_fails_line_becomes_a_dead_letter() {
    let env = TestEnv::new();
    leave_to_redeliver(&env, "1", "bad\ngood\n");
    let text = r#"if [ "$1" = bad ]; then echo >> tries; exit 7; fi; echo "$1""#;
    let work = start_work(&env, &["--retries", "0"], &script(text)).wait();
    work.assert_exit(1, "the command failed for 2 of 3 messages");
    assert_eq!((work.text(), fs::read(env.path("tries")).unwrap().len()), ("good\n", 2));
    let region = env.json(&["inspect", "j", "--json"]);
    assert_eq!(
        (&region["queue"]["redelivery"]["dead_letters"], &region["queue"]["redelivery"]["times"]),
        (&1.into(), &1.into())
    );
    env.run(&["inspect", "j"]).assert_shows("dead letters 1 message");
    env.run(&["ls"]).assert_shows("1 dead letters");
    env.run(&["doctor"]).assert_exit(0, "");
    let letters = env.run(&["recv", "j", "--lines", "--dead-letters"]);
    letters.assert_exit(0, "");
    assert_eq!(letters.text(), "bad\n");
    env.assert_no_names();
}

#[test]
fn redeliver_invalid_or_not_as_made_is_refused() {
    let env = TestEnv::new();
    for arguments in [
        &["send", "j", "--redeliver", "1"][..],
        &["send", "--queue", "j", "--redeliver", "255"],
        &["work", "j", "--redeliver", "x", "--", "true"],
        &["recv", "j", "--dead-letters", "--redeliver", "1"],
    ] {
        let refused = env.run(arguments);
        assert!(refused.code() == 2 && refused.errors.contains("redeliver"), "{refused:?}");
    }
    env.run(&["recv", "j", "--dead-letters"]).assert_exit(1, "j");
    env.assert_no_names();
    leave(&env, "a\n");
    env.run(&["recv", "j", "--lines", "--dead-letters"]).assert_exit(1, "expected one that redelivers");
    start_work(&env, &["--redeliver", "2"], &["true"]).wait().assert_exit(1, "loses the messages of the dead");
    start_work(&env, &[], &["echo", "{}"]).wait().assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn work_killed_send_tells_what_was_lost_with_it() {
    let env = TestEnv::new();
    let mut send = env.spawn(&SEND);
    send.write(b"a\nb\n");
    let work = start_work(&env, &[], &script(r#"echo $$ > "pid-$1"; exec sleep 100"#));
    wait_for_file(&env, "pid-a");
    let next = start_work(&env, &[], &["echo", "{}"]);
    env.wait_for_state("j", |region| common::count(region, "sent") == 2 && common::count(region, "queued") == 0);
    work.kill();
    send.close_input();
    assert_eq!(next.wait().text(), "b\n");
    send.wait().assert_exit(0, "messages in \"j\" that were lost with their receivers: 1");
    kill_command(&env, "pid-a");
}

#[test]
fn work_last_sender_killed_finishes_what_was_sent_and_exits_3() {
    let env = TestEnv::new();
    let work = start_work(&env, &[], &["echo", "{}"]);
    env.wait_for_role("j", "receiver");
    let mut send = env.spawn(&SEND);
    send.write(b"a\nb\n");
    env.wait_until_received("j");
    send.kill();
    let work = work.wait();
    work.assert_exit(3, "the last sender of \"j\" died");
    assert_eq!(work.text(), "a\nb\n");
    env.assert_no_names();
}

#[test]
fn work_follow_stays_for_later_senders() {
    let env = TestEnv::new();
    let work = start_work(&env, &["--follow"], &script(r#"echo done > "done-$1"; echo "$1""#));
    env.wait_for_role("j", "receiver");
    for line in ["a", "b", "c"] {
        let input = env.file("in", format!("{line}\n").as_bytes());
        env.spawn_with_input(&SEND, &input).wait().assert_exit(0, "");
        wait_for_file(&env, &format!("done-{line}"));
    }
    work.signal("TERM");
    let work = work.wait();
    work.assert_exit(143, "");
    assert_eq!((work.text(), work.errors.as_str()), ("a\nb\nc\n", ""));
    env.assert_no_names();
}

#[test]
fn work_without_sender_times_out() {
    let env = TestEnv::new();
    start_work(&env, &["--timeout", "0.2"], &["echo", "{}"]).wait().assert_exit(4, "nobody came to send");
    // A command that takes longer does not count.
    let mut send = env.spawn(&SEND);
    let work = start_work(&env, &["--timeout", "0.2"], &["sh", "-c", "sleep 0.6; cat"]);
    send.write(b"a\n");
    let work = work.wait();
    work.assert_exit(4, "nothing came");
    assert_eq!(work.text(), "a");
}

#[test]
fn work_output_closed_stops_and_keeps_the_rest() {
    let env = TestEnv::new();
    leave(&env, &numbers(1000));
    let mut work = work_command(&env, &[], &["echo", "{}"]).spawn().unwrap();
    let mut first = [0; 2];
    work.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and closes it
    let mut errors = String::new();
    work.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(!work.wait().unwrap().success());
    let next = env.run(&["recv", "--queue", "j", "--lines"]);
    let unfinished: String = errors.lines().filter_map(|line| line.strip_prefix("tombolo: unfinished: ")).collect();
    let first_left: usize = next.text().lines().next().unwrap().parse().unwrap();
    assert_eq!(unfinished, (first_left - 1).to_string());
}

#[test]
fn work_wrong_usage_exits_2_and_takes_nothing() {
    let env = TestEnv::new();
    leave(&env, "a\n");
    assert_exit_2(&start_work(&env, &[], &["no-such-program", "{}"]).wait(), "no such program");
    assert_exit_2(&start_work(&env, &[], &["./left"]).wait(), "no such program"); // not executable
    assert_exit_2(&start_work(&env, &["--into", "j"], &["cat"]).wait(), "it is the queue of the work");
    assert_exit_2(&env.run(&["work", "j"]), "CMD");
    assert_exit_2(&env.run(&["work", "j", "-j", "0", "--", "cat"]), "0");
    assert_exit_2(&env.run(&["work", "j", "--follow", "--senders", "2", "--", "cat"]), "--follow");
    let work = start_work(&env, &[], &["cat"]).wait();
    assert_eq!(work.text(), "a");
}

fn assert_exit_2(exited: &Exited, message: &str) {
    assert_eq!(exited.code(), 2, "{exited:?}");
    assert!(exited.errors.contains(message), "{exited:?}");
}

#[test]
fn work_program_that_cannot_be_run_is_no_fault_of_the_message() {
    let env = TestEnv::new();
    leave(&env, "a\nb\n");
    let text = env.file("text", &random_bytes(100));
    let mut mode = fs::metadata(&text).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&text, mode).unwrap();
    let work = start_work(&env, &[], &["./text"]).wait();
    work.assert_exit(1, "cannot run the command");
    assert!(work.errors.contains("tombolo: unfinished: a\n"));
    let next = start_work(&env, &[], &["echo", "{}"]).wait();
    assert_eq!(next.text(), "b\n");
}
