//! Interleaved rounds and what can be said about them.
//!
//! Entrants take turns, so that a drift of the machine hits all of them, and
//! are compared within a round only.

use super::probe::{Bracketed, Regime, bracketed};

pub struct Turn<T> {
    pub round: usize,
    pub entrant: usize,
    pub measured: Bracketed<T>,
}

/// Lets `entrants` take `rounds` turns each; every round starts with another one.
pub fn interleave<T, E>(
    rounds: usize,
    entrants: usize,
    mut measure: impl FnMut(usize) -> Result<T, E>,
) -> Result<Vec<Turn<T>>, E> {
    let mut turns = Vec::with_capacity(rounds * entrants);
    for round in 0..rounds {
        for entrant in (0..entrants).map(|i| (i + round) % entrants) {
            let measured = bracketed(|| measure(entrant))?;
            turns.push(Turn { round, entrant, measured });
        }
    }
    Ok(turns)
}

/// What one entrant reached in one regime.
pub fn reached<T>(turns: &[Turn<T>], entrant: usize, regime: Regime, score: impl Fn(&T) -> f64) -> Option<Spread> {
    let own = turns.iter().filter(|turn| turn.entrant == entrant && turn.measured.regime == regime);
    Spread::of(own.map(|turn| score(&turn.measured.value)))
}

/// How `entrant` did against `base`, over the rounds where both met the same regime.
pub fn against<T>(
    turns: &[Turn<T>],
    [entrant, base]: [usize; 2],
    regime: Regime,
    score: impl Fn(&T) -> f64,
) -> Option<Spread> {
    let find = |round, entrant| {
        let turn =
            turns.iter().find(|turn| (turn.round, turn.entrant, turn.measured.regime) == (round, entrant, regime))?;
        Some(score(&turn.measured.value))
    };
    let rounds = turns.iter().map(|turn| turn.round + 1).max().unwrap_or(0);
    Spread::of((0..rounds).filter_map(|round| Some(find(round, entrant)? / find(round, base)?)))
}

pub struct Spread {
    pub count: usize,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        Some(Self {
            count,
            median: (values.get(count / 2)? + values[(count - 1) / 2]) / 2.0,
            min: values[0],
            max: values[count - 1],
        })
    }
}
