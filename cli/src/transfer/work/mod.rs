//! `tombolo work`: runs a command for each message of a queue.
//!
//! The main thread receives, and takes a message only when it can be worked on at once. Each
//! message has a thread that runs the command and delivers its output, both of which can block. So
//! the main thread always notices signals.

mod command;
mod results;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tombolo::RecvError;
use tombolo::inspect::RegionKind;
use tombolo::queue::{ByteReceiver, OnDeath};

use self::command::{Group, Run, Template};
use self::results::Results;
use super::rendezvous::{CHECK_INTERVAL, Meeting, POLL_INTERVAL, Rendezvous, Role};
use super::signals::{self, Signals};
use crate::args::Work;
use crate::failure::{Failure, print_message};
use crate::location::Location;
use crate::streams;

/// How long the commands have to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the rest of a killed command's run takes at most.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

pub fn run(location: &Location, work: &Work) -> Result<(), Failure> {
    if work.into.as_ref() == Some(&work.name) {
        return Err(Failure::Usage(format!("cannot send results into {:?}: it is the queue of the work", work.name)));
    }
    let template = Template::new(&work.command, work.lines)?;
    if let Some(warning) = template.warning().filter(|_| !work.quiet) {
        print_message(format_args!("note: {warning}"));
    }
    let signals = Signals::watch()?;
    signals::keep_exit_statuses()?;
    let meeting = |name, role| {
        let (kind, timeout, quiet) = (RegionKind::Queue, work.timeout, work.quiet);
        Meeting { name, kind, role, in_pieces: false, timeout, quiet }
    };
    let results = match &work.into {
        None => Results::Output(Mutex::new(streams::output()?)),
        Some(name) => {
            let mut rendezvous = Rendezvous::new(location, signals.clone(), meeting(name.as_str(), Role::Sender));
            let tx = rendezvous.join(|name| location.queue(name, None, None, false).sender(name))?;
            Results::Queue { name: name.clone(), tx: Mutex::new(Some(Box::new(tx))), timeout: work.timeout }
        }
    };
    let mut rendezvous = Rendezvous::new(location, signals, meeting(work.name.as_str(), Role::Receiver));
    let rx = rendezvous.join(|name| location.queue(name, None, work.redeliver, false).receiver(name));
    let rx = rx.inspect_err(|_| results.end(false))?;
    let (outcomes, ended) = mpsc::channel();
    let retries = Retries { count: work.retries, delay: work.retry_delay, quiet: work.quiet };
    let shared = Arc::new(Shared { template, results, retries, outcomes });
    let running = BTreeMap::new();
    let redelivers = rx.on_death() != OnDeath::Lose;
    let (spare, taken, failed, sender_seen) = (Vec::new(), 0, 0, false);
    let mut job =
        WorkJob { rx, redelivers, spare, rendezvous, work, shared, ended, running, taken, failed, sender_seen };
    let result = job.run();
    if result.is_err() {
        job.stop();
    }
    job.shared.results.end(matches!(result, Ok(RecvError::Closed)));
    job.summary(&result?)
}

/// What the threads share.
struct Shared {
    template: Template,
    results: Results,
    retries: Retries,
    outcomes: Sender<(u64, Outcome)>,
}

/// What to do about a command that fails.
struct Retries {
    count: u64,
    delay: Duration,
    quiet: bool,
}

/// What came of a message.
enum Outcome {
    Done,
    /// The command failed for good.
    Failed(String),
    /// The commands are stopped, and this one has not succeeded.
    Unfinished,
    /// No message can be worked on.
    Error(Failure),
}

/// A message that is being worked on.
struct Task {
    message: Arc<Vec<u8>>,
    group: Arc<Group>,
    /// If the queue redelivers: the receiver that has this message and no other, to finish it in
    /// any order. Dropped, it gives the message back.
    rx: Option<ByteReceiver>,
}

struct WorkJob<'a> {
    rx: ByteReceiver,
    /// Messages that are not done go to others.
    redelivers: bool,
    /// Receivers that have finished their messages.
    spare: Vec<ByteReceiver>,
    rendezvous: Rendezvous<'a>,
    work: &'a Work,
    shared: Arc<Shared>,
    ended: Receiver<(u64, Outcome)>,
    /// By the number of the message.
    running: BTreeMap<u64, Task>,
    taken: u64,
    failed: u64,
    sender_seen: bool,
}

impl WorkJob<'_> {
    /// Returns how the senders ended, when everything is worked on.
    fn run(&mut self) -> Result<RecvError, Failure> {
        let mut end = None;
        loop {
            self.rendezvous.check_signals()?;
            match end {
                Some(end) if self.running.is_empty() => return Ok(end),
                None if (self.running.len() as u64) < self.work.jobs => {
                    self.collect(Duration::ZERO)?;
                    end = self.receive()?;
                }
                _ => self.collect(CHECK_INTERVAL)?,
            }
        }
    }

    fn summary(&self, end: &RecvError) -> Result<(), Failure> {
        let Self { failed, taken, work, .. } = self;
        match end {
            _ if *failed > 0 => Err(Failure::Error(format!("the command failed for {failed} of {taken} messages"))),
            RecvError::PeerDied => Err(Failure::PeerDied(format!(
                "the last sender of {:?} died, or broke off, before the end; what it sent until then is done",
                work.name
            ))),
            _ => Ok(()),
        }
    }

    /// Receives one message and starts to work on it. Waits for a moment if there is none. Returns
    /// the reason if no more will come.
    fn receive(&mut self) -> Result<Option<RecvError>, Failure> {
        let stay = &self.work.stay;
        let mut message = Vec::new();
        let timeout = if self.running.is_empty() { CHECK_INTERVAL } else { POLL_INTERVAL };
        match self.rx.recv_timeout(&mut message, timeout) {
            Ok(_) => self.start(message)?,
            Err(RecvError::TimedOut) => match self.rendezvous.late_end(stay) {
                None => self.wait_for_message(false)?,
                end => return Ok(end),
            },
            Err(end @ (RecvError::Closed | RecvError::PeerDied)) => {
                if self.rendezvous.is_end(stay) {
                    return Ok(Some(end));
                }
                self.wait_for_message(true)?;
                thread::sleep(POLL_INTERVAL); // until another sender comes, this is the answer
            }
            Err(error) => {
                return Err(Failure::Error(format!("cannot receive from {:?}: {error}", self.work.name)));
            }
        }
        Ok(None)
    }

    /// `is_over`: only a new sender can send something.
    fn wait_for_message(&mut self, is_over: bool) -> Result<(), Failure> {
        if !self.running.is_empty() {
            self.rendezvous.reset_timeout();
        }
        self.rendezvous.wait_for_sender(&mut self.sender_seen, is_over)
    }

    fn start(&mut self, message: Vec<u8>) -> Result<(), Failure> {
        self.rendezvous.reset_timeout();
        self.sender_seen = true;
        self.taken += 1;
        let number = self.taken;
        let rx = if self.redelivers { Some(self.replace_receiver()?) } else { None };
        let task = Task { message: Arc::new(message), group: Arc::default(), rx };
        let (shared, message, group) = (Arc::clone(&self.shared), Arc::clone(&task.message), Arc::clone(&task.group));
        self.running.insert(number, task);
        let thread = thread::Builder::new().spawn(move || {
            let outcome = shared.work_on(&message, &group);
            let _ = shared.outcomes.send((number, outcome));
        });
        thread.map(drop).map_err(|error| Failure::io("start a thread", &error))
    }

    /// Returns the receiver that has received, and continues with another one.
    fn replace_receiver(&mut self) -> Result<ByteReceiver, Failure> {
        let next = self.spare.pop().map_or_else(|| self.rx.try_clone(), Ok)?;
        Ok(mem::replace(&mut self.rx, next))
    }

    /// Takes note of the messages that were worked on. Waits for one if there is none.
    fn collect(&mut self, timeout: Duration) -> Result<(), Failure> {
        let mut next = self.ended.recv_timeout(timeout).ok();
        while let Some((number, outcome)) = next {
            self.settle(number, outcome)?;
            next = self.ended.try_recv().ok();
        }
        Ok(())
    }

    fn settle(&mut self, number: u64, outcome: Outcome) -> Result<(), Failure> {
        match outcome {
            Outcome::Done => {
                match self.running.remove(&number).and_then(|task| task.rx) {
                    None => drop(self.rx.task_done()), // there is one
                    Some(mut rx) => {
                        let _ = rx.task_done();
                        self.spare.push(rx);
                    }
                }
            }
            Outcome::Failed(reason) => {
                self.failed += 1;
                if let Some(task) = self.running.remove(&number) {
                    print_unsuccessful(&format!("failed ({reason})"), &task.message);
                }
            }
            Outcome::Unfinished => {}
            Outcome::Error(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Ends all commands, and prints the messages for which they have not succeeded.
    fn stop(&mut self) {
        for (signal, timeout) in [(Signal::TERM, STOP_TIMEOUT), (Signal::KILL, KILL_TIMEOUT)] {
            for task in self.running.values() {
                task.group.stop(signal);
            }
            self.await_threads(timeout);
        }
        for task in mem::take(&mut self.running).into_values() {
            print_unsuccessful("unfinished", &task.message);
        }
    }

    /// Waits until each thread has said what came of its message.
    fn await_threads(&mut self, timeout: Duration) {
        let started = Instant::now();
        // The threads of others that have ended, with an error or unfinished.
        while Arc::strong_count(&self.shared) > 1 && started.elapsed() < timeout {
            if let Ok((number, outcome)) = self.ended.recv_timeout(POLL_INTERVAL) {
                let _ = self.settle(number, outcome); // the first error is the one to report
            }
        }
        while let Ok((number, outcome)) = self.ended.try_recv() {
            let _ = self.settle(number, outcome);
        }
    }
}

impl Shared {
    /// Runs the command until it succeeds, and delivers its output.
    fn work_on(&self, message: &[u8], group: &Group) -> Outcome {
        let mut tries = 0;
        loop {
            tries += 1;
            let reason = match self.template.run(message, group) {
                Ok(Run::Succeeded(output)) => match self.results.deliver(&output, || group.is_stopped()) {
                    Ok(true) => return Outcome::Done,
                    Ok(false) => return Outcome::Unfinished,
                    Err(failure) => return Outcome::Error(failure),
                },
                Ok(Run::Impossible(reason)) => return Outcome::Failed(reason.to_string()),
                Ok(Run::Stopped) => return Outcome::Unfinished,
                Ok(Run::Failed(reason)) => reason,
                // It fails for other messages as well, and must not use them up.
                Err(error) => return Outcome::Error(Failure::io("run the command", &error)),
            };
            if group.is_stopped() {
                return Outcome::Unfinished;
            }
            let Retries { count, delay, quiet } = self.retries;
            if tries > count {
                return Outcome::Failed(format!("{reason}, {tries} tries"));
            }
            if !quiet {
                let most = count.saturating_add(1);
                print_unsuccessful(&format!("trying again ({reason}, try {tries} of {most})"), message);
            }
            if group.is_stopped_within(delay) {
                return Outcome::Unfinished;
            }
        }
    }
}

/// Prints a message for which the command has not succeeded, as a line that a script can take
/// apart: "tombolo: ", what happened, ": ", the message.
fn print_unsuccessful(what: &str, message: &[u8]) {
    let line = [b"tombolo: ".as_slice(), what.as_bytes(), b": ", message, b"\n"].concat();
    let _ = io::stderr().write_all(&line);
}
