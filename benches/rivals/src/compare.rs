//! Lets subjects take turns on the cases of a suite.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::case::Case;
use crate::harness::pin;
use crate::report::{self, Outcome};
use crate::rounds::{self, Turn};
use crate::sample::Sample;
use crate::subject::{Job, Subject};
use crate::suite::Suite;

#[derive(clap::Args)]
pub struct Options {
    /// Turns that each subject takes on each case
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Length of one turn
    #[arg(long, default_value_t = 150)]
    millis: u64,

    /// Subjects to compare with; the first one that took part in a case counts
    #[arg(long, value_delimiter = ',')]
    baseline: Vec<String>,

    /// Keep what matches: message sizes in bytes, subjects, and cases or parts
    /// of their names, for example `64,1024,tombolo,one,batch`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Write all samples to this file
    #[arg(long)]
    json: Option<PathBuf>,

    /// Print the cases and the subjects that can take part in them, and stop
    #[arg(long)]
    list: bool,
}

impl Options {
    /// Measures all cases, and prints tables.
    pub fn compare(&self, suite: &dyn Suite, subjects: &[Box<dyn Subject>]) -> Result<()> {
        ensure!(pin::have_both(), "two CPUs are needed, 0 for the producer and 1 for the consumer");
        let cases = suite.cases();
        let only = Only::new(&self.only, &cases, subjects)?;
        let mut samples = Vec::new();
        let mut notes = Vec::new();
        let mut units = None;
        for case in cases {
            let subjects: Vec<_> = subjects
                .iter()
                .map(|subject| &**subject)
                .filter(|subject| subject.supports(&case) && only.keeps(&case, subject.name()))
                .collect();
            if subjects.is_empty() {
                continue;
            }
            let names: Vec<_> = subjects.iter().map(|subject| subject.name()).collect();
            if self.list {
                println!("{case}: {}", names.join(" "));
                continue;
            }
            let turns = self.turns(suite, case, &subjects)?;
            let find = |base: &str| names.iter().position(|&name| name == base);
            let base = match self.baseline.as_slice() {
                [] => suite.baselines().iter().find_map(|base| find(base)),
                chosen => chosen.iter().find_map(|base| find(base)),
            };
            if units.replace(suite.units(&case)) != Some(suite.units(&case)) {
                println!("\n{}", report::header(suite.units(&case)));
            }
            let outcome = Outcome { suite, case, subjects: names, base, turns };
            println!("{}", outcome.rows().join("\n"));
            samples.extend(outcome.samples());
            notes.extend(outcome.notes());
        }
        if !notes.is_empty() {
            println!("\n{}", notes.join("\n"));
        }
        if let Some(path) = &self.json {
            serde_json::to_writer_pretty(File::create(path)?, &samples)?;
        }
        Ok(())
    }

    fn turns(&self, suite: &dyn Suite, case: Case, subjects: &[&dyn Subject]) -> Result<Vec<Turn<Sample>>> {
        let run = |subject: usize, count| {
            let subject = subjects[subject];
            let sample = subject.run(&Job::new(case, subject, count));
            sample.with_context(|| format!("{} on {case}", subject.name()))
        };
        let length = Duration::from_millis(self.millis);
        let first = suite.first_count(&case);
        let counts = (0..subjects.len())
            .map(|subject| calibrate(first, length, |count| run(subject, count)))
            .collect::<Result<Vec<_>>>()?;
        rounds::interleave(self.rounds, subjects.len(), |subject| run(subject, counts[subject]))
    }
}

/// Returns a count that takes about `length`. A short turn of more participants than CPUs is mostly
/// the scheduler's, so the last trial is at least half as long.
fn calibrate(first: u64, length: Duration, run: impl Fn(u64) -> Result<Sample>) -> Result<u64> {
    let mut count = first;
    loop {
        let turn = run(count)?.turn;
        let scale = length.as_secs_f64() / turn.as_secs_f64();
        if turn >= length / 2 {
            return Ok((count as f64 * scale).ceil() as u64);
        }
        count = (count as f64 * scale.min(8.0)).ceil() as u64;
    }
}

/// Filters: one term of each kind must match, if there are terms of that kind.
#[derive(Default)]
struct Only {
    sizes: Vec<usize>,
    subjects: Vec<String>,
    cases: Vec<String>,
}

impl Only {
    fn new(terms: &[String], cases: &[Case], subjects: &[Box<dyn Subject>]) -> Result<Self> {
        let names: Vec<_> = cases.iter().map(Case::to_string).collect();
        let mut only = Self::default();
        for term in terms {
            if let Some(case) = cases.iter().find(|case| case.size.to_string() == *term) {
                only.sizes.push(case.size);
            } else if subjects.iter().any(|subject| subject.name() == term) {
                only.subjects.push(term.clone());
            } else {
                let known = term.parse::<usize>().is_err() && names.iter().any(|name| name.contains(term));
                ensure!(known, "{term} is no size, subject or part of a case");
                only.cases.push(term.clone());
            }
        }
        Ok(only)
    }

    fn keeps(&self, case: &Case, subject: &str) -> bool {
        fn any<T>(terms: &[T], matches: impl Fn(&T) -> bool) -> bool {
            terms.is_empty() || terms.iter().any(matches)
        }
        any(&self.sizes, |&size| size == case.size)
            && any(&self.subjects, |name| name == subject)
            && any(&self.cases, |part| case.to_string().contains(part))
    }
}
