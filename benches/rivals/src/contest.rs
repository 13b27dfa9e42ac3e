//! Who meets whom, how often and for how long; the same for all programs of this package.

use std::fmt::Display;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{pin, rounds};
use crate::report::{self, Outcome};

#[derive(clap::Args)]
pub struct Options {
    /// Turns that each contender takes on each case
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Length of one turn
    #[arg(long, default_value_t = 150)]
    millis: u64,

    /// Contenders to compare with; the first one that took part in a case counts
    #[arg(long, value_delimiter = ',')]
    baseline: Vec<String>,

    /// Keep what matches: message sizes in bytes, contenders, and cases or parts
    /// of their names, for example `64,1024,tombolo,one,batch`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Write all samples to this file
    #[arg(long)]
    json: Option<PathBuf>,

    /// Print the cases and who can take part in them, and stop
    #[arg(long)]
    list: bool,
}

/// What is measured, and what the tables show of it.
pub trait Case: Copy + Display {
    type Sample;

    fn all() -> Vec<Self>;
    /// Bytes in a message.
    fn size(&self) -> usize;
    /// Messages to begin with, when it is not known how long they take.
    fn first_count(&self) -> u64;
    fn elapsed(sample: &Self::Sample) -> Duration;
    /// What `results` are.
    fn units(&self) -> [&'static str; 2];
    fn results(&self, sample: &Self::Sample) -> [f64; 2];
    /// More is better.
    fn speed(&self, sample: &Self::Sample) -> f64;
    /// Further fields of a raw sample.
    fn details(&self, sample: &Self::Sample) -> Value;
    /// What else there is to say of all that one contender reached.
    fn remark(&self, _: &[&Self::Sample]) -> Option<String> {
        None
    }
}

pub trait Entrant<C: Case> {
    fn name(&self) -> &'static str;
    fn can(&self, case: &C) -> bool;
    fn play(&self, case: C, count: u64) -> Result<C::Sample>;
}

impl Options {
    /// Lets all of them meet in every case, and prints what came of it.
    pub fn hold<C: Case>(&self, entrants: &[impl Entrant<C>], default_baseline: &[&str]) -> Result<()> {
        ensure!(pin::have_both(), "two CPUs are needed, 0 for the producer and 1 for the consumer");
        let only = Only::new(&self.only, entrants)?;
        let mut samples = Vec::new();
        let mut remarks = Vec::new();
        let mut units = None;
        for case in C::all() {
            let entrants: Vec<_> =
                entrants.iter().filter(|entrant| entrant.can(&case) && only.keeps(&case, entrant.name())).collect();
            if entrants.is_empty() {
                continue;
            }
            let contenders: Vec<_> = entrants.iter().map(|entrant| entrant.name()).collect();
            if self.list {
                println!("{case}: {}", contenders.join(" "));
                continue;
            }
            let turns = self.turns(case, &entrants)?;
            let find = |base: &str| contenders.iter().position(|&contender| contender == base);
            let base = match self.baseline.as_slice() {
                [] => default_baseline.iter().find_map(|base| find(base)),
                chosen => chosen.iter().find_map(|base| find(base)),
            };
            if units.replace(case.units()) != Some(case.units()) {
                println!("\n{}", report::header(case.units()));
            }
            let outcome = Outcome { case, contenders, base, turns };
            println!("{}", outcome.rows().join("\n"));
            samples.extend(outcome.samples());
            remarks.extend(outcome.remarks());
        }
        if !remarks.is_empty() {
            println!("\n{}", remarks.join("\n"));
        }
        if let Some(path) = &self.json {
            serde_json::to_writer_pretty(File::create(path)?, &samples)?;
        }
        Ok(())
    }

    fn turns<C: Case>(&self, case: C, entrants: &[&impl Entrant<C>]) -> Result<Vec<rounds::Turn<C::Sample>>> {
        let play = |entrant: usize, count| {
            let entrant = entrants[entrant];
            entrant.play(case, count).with_context(|| format!("{} on {case}", entrant.name()))
        };
        let length = Duration::from_millis(self.millis);
        let counts = (0..entrants.len())
            .map(|entrant| calibrate(&case, length, |count| play(entrant, count)))
            .collect::<Result<Vec<_>>>()?;
        rounds::interleave(self.rounds, entrants.len(), |entrant| play(entrant, counts[entrant]))
    }
}

/// How many messages take about `length`.
fn calibrate<C: Case>(case: &C, length: Duration, play: impl Fn(u64) -> Result<C::Sample>) -> Result<u64> {
    let mut count = case.first_count();
    loop {
        let elapsed = C::elapsed(&play(count)?);
        if elapsed >= length / 10 {
            let scale = length.as_secs_f64() / elapsed.as_secs_f64();
            return Ok((count as f64 * scale).ceil() as u64);
        }
        count *= 8;
    }
}

/// Filters; those of one kind add up, different kinds narrow each other.
#[derive(Default)]
struct Only {
    sizes: Vec<usize>,
    contenders: Vec<String>,
    cases: Vec<String>,
}

impl Only {
    fn new<C: Case>(terms: &[String], entrants: &[impl Entrant<C>]) -> Result<Self> {
        let sizes: Vec<_> = C::all().iter().map(C::size).collect();
        let cases: Vec<_> = C::all().iter().map(C::to_string).collect();
        let mut only = Self::default();
        for term in terms {
            if let Some(size) = sizes.iter().find(|size| size.to_string() == *term) {
                only.sizes.push(*size);
            } else if entrants.iter().any(|entrant| entrant.name() == term) {
                only.contenders.push(term.clone());
            } else {
                let known = term.parse::<usize>().is_err() && cases.iter().any(|case| case.contains(term));
                ensure!(known, "{term} is no size, contender or part of a case");
                only.cases.push(term.clone());
            }
        }
        Ok(only)
    }

    fn keeps(&self, case: &impl Case, contender: &str) -> bool {
        fn any<T>(terms: &[T], matches: impl Fn(&T) -> bool) -> bool {
            terms.is_empty() || terms.iter().any(matches)
        }
        any(&self.sizes, |&size| size == case.size())
            && any(&self.contenders, |name| name == contender)
            && any(&self.cases, |part| case.to_string().contains(part))
    }
}
