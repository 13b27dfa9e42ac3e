//! A set of cases, and what its tables show.

use crate::case::Case;
use crate::sample::Sample;

pub trait Suite {
    /// The text of `--help`.
    fn about(&self) -> &'static str;
    /// Subjects to compare with; the first that takes part in a case counts.
    fn baselines(&self) -> &'static [&'static str];
    fn cases(&self) -> Vec<Case>;
    /// How much to do in a first turn, to find out how long it takes.
    fn first_count(&self, case: &Case) -> u64;
    /// The units of `results`.
    fn units(&self, case: &Case) -> [&'static str; 2];
    fn results(&self, case: &Case, sample: &Sample) -> [f64; 2];
    /// More is better.
    fn speed(&self, case: &Case, sample: &Sample) -> f64;
    /// What else to say about all turns of one subject.
    fn note(&self, _: &Case, _: &[&Sample]) -> Option<String> {
        None
    }
}
