//! Visits all states of the protocol of a map (`src/raw/map.rs`): three participants read and change
//! a few keys of two buckets, are killed between any two steps, and are repaired by others, who may
//! be killed, too.
//!
//! Each access to a shared word is a step, but for a few that no other order can tell apart: a
//! reference is stored at once, and a repairer looks at a whole chain. Weak memory is not modelled
//! here: for that, loom runs the shipping code (`src/models/map.rs`).
//!
//! Each mutant leaves out or changes one thing of the protocol, and the checker must find it.

use std::collections::{HashSet, VecDeque};

const PARTICIPANTS: usize = 3;
const BUCKETS: u8 = 2;
/// Blocks of the map.
const BLOCKS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Put(u8, u8),
    Remove(u8),
    Get(u8),
}

impl Operation {
    fn key(self) -> u8 {
        match self {
            Self::Put(key, _) | Self::Remove(key) | Self::Get(key) => key,
        }
    }

    fn value(self) -> Option<u8> {
        if let Self::Put(_, value) = self { Some(value) } else { None }
    }
}

use Operation::{Get, Put, Remove};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    ReaderDoesNotLookAgain,
    NoIntent,
    IntentClearedBeforeFreed,
    FreedBeforeCommit,
    WriterFreesWithoutReference,
    RepairFreesWithoutReference,
    RepairKeepsOwnBlocks,
    HeadWithoutGeneration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Block {
    /// The owner word: both change together.
    generation: u8,
    owner: Option<u8>,
    key: u8,
    value: u8,
    next: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Head {
    generation: u8,
    length: u8,
    first: u8,
}

/// A block, as allocated once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ref {
    block: u8,
    generation: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Seen {
    block: Ref,
    key: u8,
    value: u8,
    next: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Start,
    LoadLink,
    LoadValue,
    LookAgain,
    Allocate,
    StoreLink(u8),
    StoreValue(u8),
    StoreIntent,
    Commit,
    Free,
    /// Of the commit that succeeded, or of one that failed.
    ClearIntent(bool),
    FreeOwn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Participant {
    is_alive: bool,
    is_repaired: bool,
    /// Which operation of its program it is at.
    at: u8,
    step: Step,
    head: Head,
    walk: Vec<Seen>,
    next: u8,
    /// Key and link of a block whose value is not loaded yet.
    half: (u8, u8),
    own: Vec<Ref>,
    /// There was no free block.
    is_full: bool,
}

impl Participant {
    const NEW: Self = Self {
        is_alive: true,
        is_repaired: false,
        at: 0,
        step: Step::Start,
        head: Head { generation: 0, length: 0, first: 0 },
        walk: Vec::new(),
        next: 0,
        half: (0, 0),
        own: Vec::new(),
        is_full: false,
    };

    fn start_over(&mut self) {
        *self = Self { at: self.at, ..Self::NEW };
    }

    fn finish(&mut self) {
        *self = Self { at: self.at + 1, ..Self::NEW };
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    blocks: [Block; BLOCKS],
    heads: [Head; BUCKETS as usize],
    intents: [Vec<Ref>; PARTICIPANTS],
    participants: [Participant; PARTICIPANTS],
    /// What the repairer of a dead participant is about to free.
    to_free: [Option<Ref>; PARTICIPANTS],
    kills: u8,
    /// What the map has, by the commits so far.
    entries: Vec<(u8, u8)>,
    violation: Option<&'static str>,
}

fn bucket(key: u8) -> usize {
    usize::from(key % BUCKETS)
}

impl State {
    /// Keys 0 and 2 in one bucket, in blocks of the participants 0 and 1.
    fn new() -> Self {
        let mut blocks = [Block { generation: 0, owner: None, key: 0, value: 0, next: 0 }; BLOCKS];
        blocks[0] = Block { generation: 0, owner: Some(0), key: 0, value: 10, next: 1 };
        blocks[1] = Block { generation: 0, owner: Some(1), key: 2, value: 12, next: 0 };
        Self {
            blocks,
            heads: [Head { generation: 0, length: 2, first: 0 }, Head::default()],
            intents: [const { Vec::new() }; PARTICIPANTS],
            participants: [Participant::NEW; PARTICIPANTS],
            to_free: [None; PARTICIPANTS],
            kills: 0,
            entries: vec![(0, 10), (2, 12)],
            violation: None,
        }
    }

    fn block(&mut self, index: u8) -> &mut Block {
        &mut self.blocks[usize::from(index)]
    }

    fn chain(&self, bucket: usize) -> Vec<u8> {
        let head = self.heads[bucket];
        let follow = |&at: &u8| Some(self.blocks[usize::from(at)].next);
        std::iter::successors(Some(head.first), follow).take(head.length.into()).collect()
    }

    fn is_allocated(&self, of: Ref) -> bool {
        let block = self.blocks[usize::from(of.block)];
        block.owner.is_some() && block.generation == of.generation
    }

    fn free(&mut self, of: Ref, is_checked: bool) {
        if self.is_allocated(of) || !is_checked {
            let block = self.block(of.block);
            *block = Block { generation: block.generation + 1, owner: None, ..*block };
        }
    }

    /// Whether repair may free it: nothing links it. The block itself says in which bucket to look.
    fn is_left_over(&self, of: Ref) -> bool {
        let key = self.blocks[usize::from(of.block)].key;
        self.is_allocated(of) && !self.chain(bucket(key)).contains(&of.block)
    }

    fn value_of(&self, key: u8) -> Option<u8> {
        self.entries.iter().find(|entry| entry.0 == key).map(|entry| entry.1)
    }

    fn violation(&self, is_final: bool) -> Option<&'static str> {
        if self.violation.is_some() {
            return self.violation;
        }
        let linked: Vec<u8> = (0..usize::from(BUCKETS)).flat_map(|bucket| self.chain(bucket)).collect();
        let blocks = linked.iter().map(|&block| self.blocks[usize::from(block)]);
        if blocks.clone().any(|block| block.owner.is_none()) {
            return Some("a linked block is free");
        }
        let mut found: Vec<(u8, u8)> = blocks.map(|block| (block.key, block.value)).collect();
        found.sort_unstable();
        if found != self.entries {
            return Some("not what was committed");
        }
        let is_lost = |block: usize| self.blocks[block].owner.is_some() && !linked.contains(&(block as u8));
        (is_final && (0..BLOCKS).any(is_lost)).then_some("a block is lost")
    }
}

struct Model {
    programs: [Vec<Operation>; PARTICIPANTS],
    kills: u8,
    mutant: Mutant,
}

impl Model {
    fn successors(&self, state: &State) -> Vec<State> {
        let mut found = Vec::new();
        for index in 0..PARTICIPANTS {
            let participant = &state.participants[index];
            if !participant.is_alive {
                if !participant.is_repaired {
                    self.repair(state, index, &mut found);
                }
                continue;
            }
            let Some(&operation) = self.programs[index].get(usize::from(participant.at)) else { continue };
            if state.kills < self.kills {
                let mut next = state.clone();
                next.kills += 1;
                next.participants[index].is_alive = false;
                found.push(next);
            }
            let mut next = state.clone();
            self.advance(&mut next, index, operation);
            found.push(next);
        }
        found
    }

    /// One step of the repair of a dead participant.
    fn repair(&self, state: &State, index: usize, found: &mut Vec<State>) {
        let mut next = state.clone();
        if let Some(of) = next.to_free[index].take() {
            if state.kills < self.kills {
                // The repairer dies. The next one begins again.
                found.push(State { kills: state.kills + 1, ..next.clone() });
            }
            next.free(of, self.mutant != Mutant::RepairFreesWithoutReference);
            found.push(next);
            return;
        }
        let own = (0..BLOCKS as u8).filter(|&block| {
            self.mutant != Mutant::RepairKeepsOwnBlocks && state.blocks[usize::from(block)].owner == Some(index as u8)
        });
        let own = own.map(|block| Ref { block, generation: state.blocks[usize::from(block)].generation });
        if let Some(&of) = state.intents[index].iter().find(|&&of| state.is_left_over(of)) {
            next.to_free[index] = Some(of);
        } else if !state.intents[index].is_empty() {
            next.intents[index].clear();
        } else if let Some(of) = own.into_iter().find(|&of| state.is_left_over(of)) {
            next.to_free[index] = Some(of);
        } else {
            next.participants[index].is_repaired = true;
        }
        found.push(next);
    }

    /// One step of an operation.
    fn advance(&self, state: &mut State, index: usize, operation: Operation) {
        let key = operation.key();
        let head_now = state.heads[bucket(key)];
        let mut own = state.participants[index].clone();
        let hit = own.walk.last().copied().filter(|seen| seen.key == key);
        let passed: Vec<Ref> = hit.iter().flat_map(|_| own.walk.iter().map(|seen| seen.block)).collect();
        let copies = passed.len().saturating_sub(1);
        let needed = copies + usize::from(operation.value().is_some());
        let (rest, rest_length) = match hit {
            Some(seen) => (seen.next, own.head.length - own.walk.len() as u8),
            None => (own.head.first, own.head.length),
        };
        match own.step {
            Step::Start => {
                (own.head, own.next) = (head_now, head_now.first);
                own.step = if head_now.length == 0 { Step::LookAgain } else { Step::LoadLink };
            }
            Step::LoadLink => {
                let block = *state.block(own.next);
                own.half = (block.key, block.next);
                own.step = Step::LoadValue;
            }
            Step::LoadValue => {
                let block = *state.block(own.next);
                let (seen_key, next) = own.half;
                let of = Ref { block: own.next, generation: block.generation };
                own.walk.push(Seen { block: of, key: seen_key, value: block.value, next });
                own.next = next;
                let is_over = seen_key == key || own.walk.len() == usize::from(own.head.length);
                own.step = if is_over { Step::LookAgain } else { Step::LoadLink };
            }
            Step::LookAgain => {
                let is_trusting = self.mutant == Mutant::ReaderDoesNotLookAgain && matches!(operation, Get(_));
                if head_now != own.head && !is_trusting {
                    own.start_over();
                } else if matches!(operation, Get(_)) {
                    if hit.map(|seen| seen.value) != state.value_of(key) {
                        state.violation = Some("a reader got what was not there");
                    }
                    own.finish();
                } else if hit.is_none() && operation.value().is_none() {
                    own.finish();
                } else {
                    own.step = Step::Allocate;
                }
            }
            Step::Allocate if own.own.len() == needed => {
                own.step = if needed == 0 { Step::StoreIntent } else { Step::StoreLink(0) }
            }
            Step::Allocate => match state.blocks.iter().position(|block| block.owner.is_none()) {
                Some(free) => {
                    let block = &mut state.blocks[free];
                    block.owner = Some(index as u8);
                    own.own.push(Ref { block: free as u8, generation: block.generation });
                }
                None => (own.is_full, own.step) = (true, Step::FreeOwn),
            },
            Step::StoreLink(at) | Step::StoreValue(at) => {
                let of = usize::from(at);
                let (new_key, new_value) = match (operation.value(), of) {
                    (Some(value), 0) => (key, value),
                    (Some(_), _) => (own.walk[of - 1].key, own.walk[of - 1].value),
                    (None, _) => (own.walk[of].key, own.walk[of].value),
                };
                let next = own.own.get(of + 1).map_or(rest, |next| next.block);
                let block = state.block(own.own[of].block);
                if own.step == Step::StoreLink(at) {
                    (block.key, block.next) = (new_key, next);
                    own.step = Step::StoreValue(at);
                } else {
                    block.value = new_value;
                    own.step = if of + 1 < needed { Step::StoreLink(at + 1) } else { Step::StoreIntent };
                }
            }
            Step::StoreIntent => {
                if self.mutant != Mutant::NoIntent {
                    state.intents[index].clone_from(&passed);
                }
                if self.mutant == Mutant::FreedBeforeCommit {
                    passed.iter().for_each(|&of| state.free(of, true));
                }
                own.step = Step::Commit;
            }
            Step::Commit => {
                let is_same = match self.mutant {
                    Mutant::HeadWithoutGeneration => {
                        (head_now.first, head_now.length) == (own.head.first, own.head.length)
                    }
                    _ => head_now == own.head,
                };
                if is_same {
                    let first = own.own.first().map_or(rest, |first| first.block);
                    let length = rest_length + needed as u8;
                    state.heads[bucket(key)] = Head { generation: head_now.generation + 1, length, first };
                    state.entries.retain(|entry| entry.0 != key);
                    state.entries.extend(operation.value().map(|value| (key, value)));
                    state.entries.sort_unstable();
                    own.own = passed;
                    own.step = match self.mutant {
                        Mutant::IntentClearedBeforeFreed => {
                            state.intents[index].clear();
                            Step::Free
                        }
                        _ => Step::Free,
                    };
                } else {
                    own.step = Step::ClearIntent(false);
                }
            }
            Step::Free => match own.own.pop() {
                Some(of) => state.free(of, self.mutant != Mutant::WriterFreesWithoutReference),
                None => own.step = Step::ClearIntent(true),
            },
            Step::ClearIntent(is_committed) => {
                state.intents[index].clear();
                if is_committed { own.finish() } else { own.step = Step::FreeOwn }
            }
            Step::FreeOwn => match own.own.pop() {
                Some(of) => state.free(of, true),
                None if own.is_full => own.finish(),
                None => own.start_over(),
            },
        }
        state.participants[index] = own;
    }

    /// Returns what is wrong, or how many states there are.
    fn check(&self) -> Result<usize, &'static str> {
        let first = State::new();
        let mut seen = HashSet::from([first.clone()]);
        let mut queue = VecDeque::from([first]);
        while let Some(state) = queue.pop_front() {
            let next = self.successors(&state);
            let is_final = next.iter().all(|next| next.kills > state.kills);
            if let Some(violation) = state.violation(is_final) {
                return Err(violation);
            }
            queue.extend(next.into_iter().filter(|next| seen.insert(next.clone())));
        }
        Ok(seen.len())
    }
}

fn check(programs: [&[Operation]; PARTICIPANTS], kills: u8, mutant: Mutant) -> Result<usize, &'static str> {
    Model { programs: programs.map(<[Operation]>::to_vec), kills, mutant }.check()
}

/// Two writers and a reader in one bucket.
const PROGRAMS: [[&[Operation]; PARTICIPANTS]; 3] = [
    [&[Put(0, 20)], &[Remove(2)], &[Get(2)]],
    [&[Remove(0)], &[Put(4, 30)], &[Get(2)]],
    [&[Put(0, 20), Put(0, 21)], &[], &[Get(0)]],
];

#[test]
fn map_protocol_killed_anywhere_keeps_its_promises() {
    for programs in PROGRAMS {
        let states = check(programs, 1, Mutant::None);
        println!("{programs:?}, kills: 1: {states:?} states");
        assert!(states.is_ok(), "{programs:?}: {states:?}");
    }
}

/// Three writers in one bucket: too many orders to add a kill.
#[test]
fn map_protocol_three_writers_keeps_its_promises() {
    let programs: [&[Operation]; PARTICIPANTS] = [&[Put(4, 20)], &[Put(4, 30)], &[Remove(2)]];
    let states = check(programs, 0, Mutant::None);
    println!("{programs:?}: {states:?} states");
    assert!(states.is_ok(), "{states:?}");
}

/// The one that dies has linked block 0, which two others want to free, and the third to allocate.
const FREED_BY_TWO: [&[Operation]; PARTICIPANTS] = [&[Get(0)], &[Put(0, 20)], &[Put(1, 30)]];

#[test]
fn map_protocol_two_killed_keeps_its_promises() {
    for programs in [FREED_BY_TWO, [&[Put(0, 20)], &[Remove(0)], &[]]] {
        let states = check(programs, 2, Mutant::None);
        println!("{programs:?}, kills: 2: {states:?} states");
        assert!(states.is_ok(), "{programs:?}: {states:?}");
    }
}

#[test]
fn map_protocol_mutant_is_found() {
    // A look that takes its time, while the block in front is freed and used again.
    let again: [&[Operation]; PARTICIPANTS] = [&[Put(2, 20)], &[Put(0, 5), Put(0, 6)], &[]];
    let found = [
        (Mutant::ReaderDoesNotLookAgain, PROGRAMS[2], 0, "a reader got what was not there"),
        (Mutant::NoIntent, PROGRAMS[0], 1, "a block is lost"),
        (Mutant::IntentClearedBeforeFreed, PROGRAMS[0], 1, "a block is lost"),
        (Mutant::FreedBeforeCommit, PROGRAMS[0], 0, "a linked block is free"),
        (Mutant::WriterFreesWithoutReference, FREED_BY_TWO, 1, "a linked block is free"),
        (Mutant::RepairFreesWithoutReference, FREED_BY_TWO, 1, "a linked block is free"),
        (Mutant::RepairKeepsOwnBlocks, PROGRAMS[0], 1, "a block is lost"),
        (Mutant::HeadWithoutGeneration, again, 0, "not what was committed"),
    ];
    for (mutant, programs, kills, what) in found {
        assert_eq!(check(programs, kills, mutant), Err(what), "{mutant:?}");
    }
}
