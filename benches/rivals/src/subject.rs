//! A library or system call that takes part, and one turn of it.

use std::env;
use std::io;
use std::process::{self, Command};

use anyhow::{Context, Result, ensure};

use crate::case::Case;
use crate::harness::pin;
use crate::sample::Sample;

/// One row of the tables.
pub trait Subject: Sync {
    fn name(&self) -> &'static str;
    fn supports(&self, case: &Case) -> bool;
    /// Passes its queue or object to a function `threads` or `processes` of the case's suite.
    fn run(&self, job: &Job) -> Result<Sample>;
    /// Removes what a turn that is cut short leaves behind.
    fn clean_up(&self) {}
}

/// One turn of one subject on one case.
pub struct Job<'a> {
    pub case: Case,
    pub subject: &'a dyn Subject,
    /// Messages to pass on; of objects, nanoseconds to go on for.
    pub count: u64,
    pub cpus: Vec<usize>,
    /// In the process of a participant: what the first process tells it.
    pub peer: Option<&'a [String]>,
}

impl<'a> Job<'a> {
    /// Must be called before this thread is pinned.
    pub fn new(case: Case, subject: &'a dyn Subject, count: u64) -> Self {
        Self { case, subject, count, cpus: pin::available(), peer: None }
    }

    /// Whether there are more participants than CPUs.
    pub fn is_oversubscribed(&self) -> bool {
        self.case.participants() > self.cpus.len()
    }

    /// This program again, as a participant that does `count` and dies with this process.
    pub fn participant(&self, count: u64) -> io::Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("--peer").arg(process::id().to_string());
        command.args([self.subject.name(), &self.case.to_string(), &count.to_string()]);
        Ok(command)
    }
}

/// Runs the participant that `Job::participant` started, with these arguments and the suite's.
pub fn run_participant(args: &[String], cases: &[Case], subjects: &[Box<dyn Subject>]) -> Result<()> {
    let [leader, subject, case, count, peer @ ..] = args else { unreachable!("clap counts them") };
    die_with(leader.parse()?)?;
    let case = *cases.iter().find(|c| c.to_string() == *case).context("no such case")?;
    let subject = subjects.iter().find(|s| s.name() == subject.as_str()).context("no such subject")?;
    subject.run(&Job { peer: Some(peer), ..Job::new(case, &**subject, count.parse()?) })?;
    Ok(())
}

/// Lets the kernel kill this process when the process that started it ends.
pub fn die_with(leader: u32) -> Result<()> {
    // SAFETY: plain system calls.
    let parent = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::getppid()
    };
    ensure!(parent as u32 == leader, "the first process has ended");
    Ok(())
}
