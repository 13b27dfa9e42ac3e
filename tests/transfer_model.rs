//! A model of the transfer of an endpoint: every order of the steps in `src/region/participant.rs`
//! (T1 to T4, A1 to A4, J2) of the processes that transfer an endpoint, take it, have a copy of its
//! descriptor, or want to join, with a death at every step. All states are visited. Each mutant of
//! the protocol must be noticed.

use std::collections::HashSet;

/// Two processes that take, one that joins, and a wrapper that only has copies. The first one
/// begins with the endpoint.
const PEOPLE: usize = 4;
const JOINER: usize = 2;
const WRAPPER: usize = 3;
/// How often the endpoint is transferred.
const JOURNEYS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Idle,
    Holds,
    /// With the description of that transfer opened; locked; with nobody recorded.
    Passes(usize, u8),
    /// With the descriptor of that transfer: checks; locks; checks again; unlocks the transfer's
    /// byte; records itself.
    Picks(usize, u8),
    /// With both bytes locked; with the registration's only.
    Joins(u8),
    Leaves,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Description {
    Own(usize),
    Journey(usize),
}
use Description::{Journey, Own};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    at: [At; PEOPLE],
    seat: Option<Description>,
    journey: Option<Description>,
    /// Which processes have a copy of the descriptor of each transfer.
    copies: [[bool; PEOPLE]; JOURNEYS],
    begun: usize,
    /// How many have taken the endpoint of each transfer.
    arrived: [u8; JOURNEYS],
}

/// Mistakes in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    /// The registration is unlocked before the transfer's byte is locked.
    FreesFirst,
    /// Any process with a descriptor may take the registration.
    DoesNotLook,
    /// A process that came in time may take the registration later.
    LooksOnce,
    /// The transfer's byte stays locked.
    KeepsTheJourney,
    /// The transfer's byte is unlocked before the registration is locked.
    ArrivesTooEarly,
    /// A newcomer locks the registration's byte only.
    JoinsBeside,
}

impl State {
    fn new() -> Self {
        let mut at = [At::Idle; PEOPLE];
        at[0] = At::Holds;
        Self {
            at,
            seat: Some(Own(0)),
            journey: None,
            copies: [[false; PEOPLE]; JOURNEYS],
            begun: 0,
            arrived: [0; JOURNEYS],
        }
    }

    fn is_locked(&self) -> bool {
        self.seat.is_some() || self.journey.is_some()
    }

    /// The processes that may use the endpoint.
    fn holders(&self) -> usize {
        let holds = |at: &&At| match at {
            At::Holds | At::Passes(..) | At::Joins(_) | At::Leaves => true,
            At::Picks(_, step) => *step >= 3,
            At::Idle | At::Dead => false,
        };
        self.at.iter().filter(holds).count()
    }

    fn is_on_its_way(&self) -> bool {
        matches!(self.journey, Some(Journey(_)))
    }

    fn close(&mut self, who: usize, journey: usize) {
        self.copies[journey][who] = false;
        if self.copies[journey] == [false; PEOPLE] {
            self.free(Journey(journey));
        }
    }

    /// A description is closed.
    fn free(&mut self, description: Description) {
        for byte in [&mut self.seat, &mut self.journey] {
            if *byte == Some(description) {
                *byte = None;
            }
        }
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next
    }

    fn die(&self, who: usize) -> Self {
        self.with(|next| {
            next.at[who] = At::Dead;
            next.free(Own(who));
            (0..JOURNEYS).for_each(|journey| next.close(who, journey));
        })
    }

    /// The states after the next step of a process.
    fn steps(&self, who: usize, mutant: Mutant) -> Vec<Self> {
        let mut next = Vec::new();
        match self.at[who] {
            At::Dead => {}
            At::Idle => {
                for journey in (0..JOURNEYS).filter(|&journey| self.copies[journey][who]) {
                    next.push(self.with(|next| next.close(who, journey)));
                    if who < JOINER {
                        next.push(self.with(|next| next.at[who] = At::Picks(journey, 0)));
                    }
                }
                let is_free = self.seat.is_none() && (self.journey.is_none() || mutant == Mutant::JoinsBeside);
                if who == JOINER && is_free {
                    next.push(self.with(|next| {
                        next.seat = Some(Own(who));
                        next.journey = next.journey.or(Some(Own(who)));
                        next.at[who] = At::Joins(0);
                    }));
                }
            }
            At::Joins(_) => next.push(self.with(|next| {
                next.journey = next.journey.filter(|&byte| byte != Own(who));
                next.at[who] = At::Holds;
            })),
            At::Holds => {
                next.push(self.with(|next| next.at[who] = At::Leaves));
                if self.begun < JOURNEYS {
                    next.push(self.with(|next| {
                        next.copies[next.begun][who] = true;
                        next.at[who] = At::Passes(next.begun, 0);
                        next.begun += 1;
                    }));
                }
            }
            At::Leaves => next.push(self.with(|next| {
                next.free(Own(who));
                next.at[who] = At::Idle;
            })),
            At::Passes(journey, step) => next.push(self.with(|next| {
                let frees = if mutant == Mutant::FreesFirst { 0 } else { 1 };
                if step == frees {
                    next.free(Own(who));
                } else {
                    assert_eq!(next.journey, None, "nobody else has it locked");
                    next.journey = Some(Journey(journey));
                }
                next.at[who] = At::Passes(journey, step + 1);
                if step == 1 {
                    // Every process gets a copy.
                    (0..PEOPLE).for_each(|who| next.copies[journey][who] = next.at[who] != At::Dead);
                    next.at[who] = At::Idle;
                }
            })),
            At::Picks(journey, step) => next.push(self.with(|next| {
                let looks = mutant != Mutant::DoesNotLook && mutant != Mutant::ArrivesTooEarly;
                let looks = looks && (step == 0 || mutant != Mutant::LooksOnce);
                let refused = match step {
                    0 | 2 => looks && next.journey != Some(Journey(journey)),
                    1 => next.seat.is_some_and(|byte| byte != Own(who)),
                    _ => false,
                };
                match step {
                    0 if mutant == Mutant::ArrivesTooEarly => next.free(Journey(journey)),
                    1 if !refused => next.seat = Some(Own(who)),
                    3 if mutant != Mutant::KeepsTheJourney => next.free(Journey(journey)),
                    _ => {}
                }
                next.arrived[journey] += u8::from(step == 3);
                next.at[who] = if step == 4 { At::Holds } else { At::Picks(journey, step + 1) };
                if refused {
                    next.free(Own(who));
                    next.at[who] = At::Idle;
                }
                if refused || step == 4 {
                    next.close(who, journey);
                }
            })),
        }
        next
    }

    /// What is wrong with a state.
    fn fault(&self) -> Option<&'static str> {
        if self.holders() > 1 || (self.holders() == 1 && self.seat.is_none()) {
            return Some("two have the seat, or one without its lock");
        }
        if self.at.contains(&At::Holds) && self.journey.is_some() {
            return Some("a copy of a descriptor keeps a seat beside its owner");
        }
        if self.arrived.iter().any(|&count| count > 1) {
            return Some("an end is picked up twice");
        }
        let is_quiet = self.at.iter().all(|at| matches!(at, At::Idle | At::Dead));
        if is_quiet && self.seat.is_some() {
            return Some("the seat of nobody is locked");
        }
        // A process with the right descriptor that is alone gets the endpoint.
        if let (true, Some(Journey(journey))) = (is_quiet, self.journey) {
            for who in (0..JOINER).filter(|&who| self.copies[journey][who]) {
                let mut state = self.with(|next| next.at[who] = At::Picks(journey, 0));
                while let At::Picks(..) = state.at[who] {
                    state = state.steps(who, Mutant::None).remove(0);
                }
                if state.at[who] != At::Holds {
                    return Some("an end on its way cannot be picked up");
                }
            }
        }
        None
    }
}

/// Visits all states. Returns their number, or what is wrong with one.
fn explore(mutant: Mutant) -> Result<usize, String> {
    let mut seen = HashSet::from([State::new()]);
    let mut open = vec![State::new()];
    while let Some(state) = open.pop() {
        let is_owned = state.holders() == 1 || state.is_on_its_way();
        for who in 0..PEOPLE {
            let mut next = if who == WRAPPER { Vec::new() } else { state.steps(who, mutant) };
            if who == WRAPPER && state.at[who] == At::Idle {
                (0..JOURNEYS).for_each(|journey| next.push(state.with(|next| next.close(who, journey))));
            }
            // A step that is neither a leave, nor the close of a last copy, nor a death, keeps the
            // registration locked.
            let gives_up = |at: At| matches!(at, At::Leaves | At::Idle);
            for after in &next {
                if is_owned && !gives_up(state.at[who]) && !after.is_locked() {
                    return Err(format!("a seat that is free in between: {state:?} {after:?}"));
                }
            }
            if state.at[who] != At::Dead {
                next.push(state.die(who));
            }
            for after in next {
                if let Some(fault) = after.fault() {
                    return Err(format!("{fault}: {after:?}"));
                }
                if seen.insert(after.clone()) {
                    open.push(after);
                }
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn endpoint_in_transfer_has_one_owner_in_every_state() {
    let states = explore(Mutant::None).unwrap();
    assert!(states > 5_000, "{states}");
}

#[test]
fn protocol_mutants_are_all_noticed() {
    for mutant in [
        Mutant::FreesFirst,
        Mutant::DoesNotLook,
        Mutant::LooksOnce,
        Mutant::KeepsTheJourney,
        Mutant::ArrivesTooEarly,
        Mutant::JoinsBeside,
    ] {
        let fault = explore(mutant).expect_err(&format!("{mutant:?}"));
        println!("{mutant:?}: {fault}");
    }
}
