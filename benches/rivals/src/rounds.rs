//! Interleaved rounds, and what can be concluded from them.
//!
//! Subjects take turns, so that a drift of the machine affects all of them. They are compared
//! within a round only.

use crate::harness::probe::{LinkRegime, Probed, with_probe};
use crate::harness::stats::Spread;

pub struct Turn<T> {
    pub round: usize,
    pub subject: usize,
    pub measured: Probed<T>,
}

/// Lets `subjects` take `rounds` turns each; every round starts with another one.
pub fn interleave<T, E>(
    rounds: usize,
    subjects: usize,
    mut measure: impl FnMut(usize) -> Result<T, E>,
) -> Result<Vec<Turn<T>>, E> {
    let mut turns = Vec::with_capacity(rounds * subjects);
    for round in 0..rounds {
        for subject in (0..subjects).map(|i| (i + round) % subjects) {
            let measured = with_probe(|| measure(subject))?;
            turns.push(Turn { round, subject, measured });
        }
    }
    Ok(turns)
}

/// Returns the scores of one subject in one regime.
pub fn scores<T>(turns: &[Turn<T>], subject: usize, regime: LinkRegime, score: impl Fn(&T) -> f64) -> Option<Spread> {
    let own = turns.iter().filter(|turn| turn.subject == subject && turn.measured.regime == regime);
    Spread::of(own.map(|turn| score(&turn.measured.value)))
}

/// Returns the ratios of `subject` to `base` over the rounds in which both met the same regime.
pub fn ratios<T>(
    turns: &[Turn<T>],
    [subject, base]: [usize; 2],
    regime: LinkRegime,
    score: impl Fn(&T) -> f64,
) -> Option<Spread> {
    let find = |round, subject| {
        let turn =
            turns.iter().find(|turn| (turn.round, turn.subject, turn.measured.regime) == (round, subject, regime))?;
        Some(score(&turn.measured.value))
    };
    let rounds = turns.iter().map(|turn| turn.round + 1).max().unwrap_or(0);
    Spread::of((0..rounds).filter_map(|round| Some(find(round, subject)? / find(round, base)?)))
}
