//! A model of the transfer of an endpoint: every order of the steps in `src/region/participant.rs`
//! (T1 to T4, A1 to A4, J2) of the processes that transfer an endpoint, take it, have a copy of its
//! descriptor, or want to join, with a death at every step. All states are visited. Each mutant of
//! the protocol must be noticed.

use std::collections::HashSet;

/// Two processes that take, one that joins, and a wrapper that only has copies. The first one
/// begins with the endpoint.
const PROCESSES: usize = 4;
const JOINER: usize = 2;
const WRAPPER: usize = 3;
/// How often the endpoint is transferred.
const TRANSFERS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Idle,
    Holds,
    /// With the description of that transfer opened; locked; with nobody recorded.
    Gives(usize, u8),
    /// With the descriptor of that transfer: checks; locks; checks again; unlocks the transfer's
    /// byte; records itself.
    Takes(usize, u8),
    /// With both bytes locked; with the registration's only.
    Joins(u8),
    Leaves,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Description {
    Own(usize),
    Transfer(usize),
}
use Description::{Own, Transfer};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    at: [At; PROCESSES],
    registration: Option<Description>,
    transfer: Option<Description>,
    /// Which processes have a copy of the descriptor of each transfer.
    copies: [[bool; PROCESSES]; TRANSFERS],
    begun: usize,
    /// How many have taken the endpoint of each transfer.
    taken: [u8; TRANSFERS],
}

/// Mistakes in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    /// The registration is unlocked before the transfer's byte is locked.
    FreesFirst,
    /// Any process with a descriptor may take the registration.
    DoesNotCheck,
    /// A process that came in time may take the registration later.
    ChecksOnce,
    /// The transfer's byte stays locked.
    KeepsTheTransfer,
    /// The transfer's byte is unlocked before the registration is locked.
    ArrivesTooEarly,
    /// A newcomer locks the registration's byte only.
    JoinsBeside,
}

impl State {
    fn new() -> Self {
        let mut at = [At::Idle; PROCESSES];
        at[0] = At::Holds;
        Self {
            at,
            registration: Some(Own(0)),
            transfer: None,
            copies: [[false; PROCESSES]; TRANSFERS],
            begun: 0,
            taken: [0; TRANSFERS],
        }
    }

    fn is_locked(&self) -> bool {
        self.registration.is_some() || self.transfer.is_some()
    }

    /// The processes that may use the endpoint.
    fn holders(&self) -> usize {
        let holds = |at: &&At| match at {
            At::Holds | At::Gives(..) | At::Joins(_) | At::Leaves => true,
            At::Takes(_, step) => *step >= 3,
            At::Idle | At::Dead => false,
        };
        self.at.iter().filter(holds).count()
    }

    fn is_in_transfer(&self) -> bool {
        matches!(self.transfer, Some(Transfer(_)))
    }

    fn close(&mut self, process: usize, transfer: usize) {
        self.copies[transfer][process] = false;
        if self.copies[transfer] == [false; PROCESSES] {
            self.free(Transfer(transfer));
        }
    }

    /// A description is closed.
    fn free(&mut self, description: Description) {
        for byte in [&mut self.registration, &mut self.transfer] {
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

    fn die(&self, process: usize) -> Self {
        self.with(|next| {
            next.at[process] = At::Dead;
            next.free(Own(process));
            (0..TRANSFERS).for_each(|transfer| next.close(process, transfer));
        })
    }

    /// The states after the next step of a process.
    fn steps(&self, process: usize, mutant: Mutant) -> Vec<Self> {
        let mut next = Vec::new();
        match self.at[process] {
            At::Dead => {}
            At::Idle => {
                for transfer in (0..TRANSFERS).filter(|&transfer| self.copies[transfer][process]) {
                    next.push(self.with(|next| next.close(process, transfer)));
                    if process < JOINER {
                        next.push(self.with(|next| next.at[process] = At::Takes(transfer, 0)));
                    }
                }
                let is_free = self.registration.is_none() && (self.transfer.is_none() || mutant == Mutant::JoinsBeside);
                if process == JOINER && is_free {
                    next.push(self.with(|next| {
                        next.registration = Some(Own(process));
                        next.transfer = next.transfer.or(Some(Own(process)));
                        next.at[process] = At::Joins(0);
                    }));
                }
            }
            At::Joins(_) => next.push(self.with(|next| {
                next.transfer = next.transfer.filter(|&byte| byte != Own(process));
                next.at[process] = At::Holds;
            })),
            At::Holds => {
                next.push(self.with(|next| next.at[process] = At::Leaves));
                if self.begun < TRANSFERS {
                    next.push(self.with(|next| {
                        next.copies[next.begun][process] = true;
                        next.at[process] = At::Gives(next.begun, 0);
                        next.begun += 1;
                    }));
                }
            }
            At::Leaves => next.push(self.with(|next| {
                next.free(Own(process));
                next.at[process] = At::Idle;
            })),
            At::Gives(transfer, step) => next.push(self.with(|next| {
                let frees = if mutant == Mutant::FreesFirst { 0 } else { 1 };
                if step == frees {
                    next.free(Own(process));
                } else {
                    assert_eq!(next.transfer, None, "nobody else has it locked");
                    next.transfer = Some(Transfer(transfer));
                }
                next.at[process] = At::Gives(transfer, step + 1);
                if step == 1 {
                    // Every process gets a copy.
                    (0..PROCESSES).for_each(|process| next.copies[transfer][process] = next.at[process] != At::Dead);
                    next.at[process] = At::Idle;
                }
            })),
            At::Takes(transfer, step) => next.push(self.with(|next| {
                let checks = mutant != Mutant::DoesNotCheck && mutant != Mutant::ArrivesTooEarly;
                let checks = checks && (step == 0 || mutant != Mutant::ChecksOnce);
                let refused = match step {
                    0 | 2 => checks && next.transfer != Some(Transfer(transfer)),
                    1 => next.registration.is_some_and(|byte| byte != Own(process)),
                    _ => false,
                };
                match step {
                    0 if mutant == Mutant::ArrivesTooEarly => next.free(Transfer(transfer)),
                    1 if !refused => next.registration = Some(Own(process)),
                    3 if mutant != Mutant::KeepsTheTransfer => next.free(Transfer(transfer)),
                    _ => {}
                }
                next.taken[transfer] += u8::from(step == 3);
                next.at[process] = if step == 4 { At::Holds } else { At::Takes(transfer, step + 1) };
                if refused {
                    next.free(Own(process));
                    next.at[process] = At::Idle;
                }
                if refused || step == 4 {
                    next.close(process, transfer);
                }
            })),
        }
        next
    }

    /// What is wrong with a state.
    fn fault(&self) -> Option<&'static str> {
        if self.holders() > 1 || (self.holders() == 1 && self.registration.is_none()) {
            return Some("two own the endpoint, or one without its lock");
        }
        if self.at.contains(&At::Holds) && self.transfer.is_some() {
            return Some("a copy of a descriptor keeps the registration beside its owner");
        }
        if self.taken.iter().any(|&count| count > 1) {
            return Some("an endpoint is taken twice");
        }
        let is_quiet = self.at.iter().all(|at| matches!(at, At::Idle | At::Dead));
        if is_quiet && self.registration.is_some() {
            return Some("a registration without an owner is locked");
        }
        // A process with the right descriptor that is alone gets the endpoint.
        if let (true, Some(Transfer(transfer))) = (is_quiet, self.transfer) {
            for process in (0..JOINER).filter(|&process| self.copies[transfer][process]) {
                let mut state = self.with(|next| next.at[process] = At::Takes(transfer, 0));
                while let At::Takes(..) = state.at[process] {
                    state = state.steps(process, Mutant::None).remove(0);
                }
                if state.at[process] != At::Holds {
                    return Some("an endpoint in transfer cannot be taken");
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
        let is_owned = state.holders() == 1 || state.is_in_transfer();
        for process in 0..PROCESSES {
            let mut next = if process == WRAPPER { Vec::new() } else { state.steps(process, mutant) };
            if process == WRAPPER && state.at[process] == At::Idle {
                (0..TRANSFERS).for_each(|transfer| next.push(state.with(|next| next.close(process, transfer))));
            }
            // A step that is neither a leave, nor the close of a last copy, nor a death, keeps the
            // registration locked.
            let gives_up = |at: At| matches!(at, At::Leaves | At::Idle);
            for after in &next {
                if is_owned && !gives_up(state.at[process]) && !after.is_locked() {
                    return Err(format!("a registration that is free in between: {state:?} {after:?}"));
                }
            }
            if state.at[process] != At::Dead {
                next.push(state.die(process));
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
        Mutant::DoesNotCheck,
        Mutant::ChecksOnce,
        Mutant::KeepsTheTransfer,
        Mutant::ArrivesTooEarly,
        Mutant::JoinsBeside,
    ] {
        let fault = explore(mutant).expect_err(&format!("{mutant:?}"));
        println!("{mutant:?}: {fault}");
    }
}
