//! The search through all states of a protocol.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// Visits all states that follow from the first one, nearest first. `violation` gets a state and
/// those that follow it at once, and says what is wrong. Returns that, or how many states there are.
///
/// # Errors
/// What is wrong with the first such state.
pub fn visit<S: Clone + Eq + Hash>(
    first: S,
    following: impl Fn(&S) -> Vec<S>,
    violation: impl Fn(&S, &[S]) -> Option<&'static str>,
) -> Result<usize, &'static str> {
    let mut seen = HashSet::from([first.clone()]);
    let mut queue = VecDeque::from([first]);
    while let Some(state) = queue.pop_front() {
        let next = following(&state);
        if let Some(violation) = violation(&state, &next) {
            return Err(violation);
        }
        queue.extend(next.into_iter().filter(|next| seen.insert(next.clone())));
    }
    Ok(seen.len())
}
