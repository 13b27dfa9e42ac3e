//! Whether a history of calls is linearizable: each call seems to happen at one moment between its
//! begin and its end. The call of a killed process happened before its death or never, which is
//! strict linearizability.
//!
//! Goes through the history once, and keeps all configurations that explain it so far: a state, and
//! those running calls that have happened. A call happens in a configuration as late as it can.
//!
//! Source: the property is Herlihy and Wing's (1990), its form for crashes Aguilera and Frølund's
//! (2003). The search is Wing and Gong's (1993), with Lowe's configurations that are not visited
//! twice (2017).

use std::collections::HashSet;
use std::fmt::{Debug, Write};
use std::hash::Hash;

/// What an object does if its calls come one after the other.
pub trait Model: Clone + Eq + Hash + Debug {
    type Operation: Copy + Debug;
    type Outcome: Copy + Debug;

    /// The state after an operation. None: it cannot have had that outcome. Without an outcome, any
    /// is possible.
    fn after(&self, operation: &Self::Operation, outcome: Option<&Self::Outcome>) -> Option<Self>;
}

#[derive(Clone, Copy, Debug)]
pub struct Call<O, R> {
    pub operation: O,
    /// None: its process was killed meanwhile.
    pub outcome: Option<R>,
    pub began: u64,
    /// When it returned, or its process was dead.
    pub ended: u64,
}

/// Why a history is not linearizable.
#[derive(Debug)]
pub struct Contradiction {
    /// Of the call that cannot be explained.
    pub call: usize,
    text: String,
}

impl Contradiction {
    fn new<M: Model>(calls: &[Call<M::Operation, M::Outcome>], call: usize, states: HashSet<M>) -> Self {
        let mut text = format!("no order explains call {call} of {}. Before it: {states:?}", calls.len());
        for (number, other) in calls.iter().enumerate() {
            let is_near = number.abs_diff(call) < 8 || (other.began..=other.ended).contains(&calls[call].ended);
            if is_near {
                let _ = write!(text, "\n{number:6} {other:?}");
            }
        }
        Self { call, text }
    }
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A state, and the running calls that have happened, by their places.
type Configuration<M> = (M, u64);

/// Checks a history of an object that began in this state. Returns the most configurations that it
/// had to keep.
pub fn check<M: Model>(initial: M, calls: &[Call<M::Operation, M::Outcome>]) -> Result<usize, Contradiction> {
    let begins = calls.iter().enumerate().map(|(call, own)| (own.began, false, call));
    let ends = calls.iter().enumerate().map(|(call, own)| (own.ended, true, call));
    let mut events: Vec<_> = begins.chain(ends).collect();
    events.sort_unstable(); // of two at one time, both may have been first: the begin gives more freedom
    let mut configurations = HashSet::from([(initial, 0)]);
    let mut running: Vec<Option<usize>> = Vec::new();
    let mut most = 1;
    for (_, is_end, call) in events {
        let place = |running: &[Option<usize>], of| running.iter().position(|found| *found == of);
        if !is_end {
            let free = place(&running, None).unwrap_or_else(|| {
                running.push(None);
                running.len() - 1
            });
            assert!(free < 64, "too many calls at a time");
            running[free] = Some(call);
            continue;
        }
        let own = place(&running, Some(call)).expect("began");
        let next = end(&configurations, calls, &running, own);
        if next.is_empty() {
            let states = configurations.into_iter().map(|(state, _)| state).collect();
            return Err(Contradiction::new(calls, call, states));
        }
        configurations = next;
        most = most.max(configurations.len());
        running[own] = None;
    }
    Ok(most)
}

/// The configurations after the end of a call.
fn end<M: Model>(
    configurations: &HashSet<Configuration<M>>,
    calls: &[Call<M::Operation, M::Outcome>],
    running: &[Option<usize>],
    own: usize,
) -> HashSet<Configuration<M>> {
    let is_killed = running[own].is_some_and(|call| calls[call].outcome.is_none());
    let mut next = HashSet::new();
    let mut seen = HashSet::new();
    let mut open: Vec<_> = configurations.iter().cloned().collect();
    while let Some((state, happened)) = open.pop() {
        if happened & 1 << own != 0 {
            next.insert((state, happened & !(1 << own)));
            continue;
        }
        for (place, call) in running.iter().enumerate() {
            let Some(call) = call.filter(|_| happened & 1 << place == 0) else { continue };
            if let Some(after) = state.after(&calls[call].operation, calls[call].outcome.as_ref()) {
                let configuration = (after, happened | 1 << place);
                if seen.insert(configuration.clone()) {
                    open.push(configuration);
                }
            }
        }
        if is_killed {
            next.insert((state, happened));
        }
    }
    next
}
