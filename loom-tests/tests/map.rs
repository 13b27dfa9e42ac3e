//! Visits all states of the protocol of a map (`src/raw/map.rs`): three participants read and change
//! a few keys of two buckets, are killed between any two steps, and are repaired by others, who may
//! be killed, too.
//!
//! Each access to a shared word is a step, but for a few that no other order can tell apart: a
//! reference is stored at once, one that allocates finds a block at once, and a repairer looks at a
//! whole chain. Weak memory is not modelled here: for that, loom runs the shipping code
//! (`src/models/map.rs`).
//!
//! A block is given back by a reference, which has the block's generation. That matters only if
//! somebody else has given it back before, and only a repairer does: of a participant that had
//! allocated the block, in an operation before the one in which it died. `OVERTAKEN` and
//! `OVERTAKEN_IF_FULL` are the fewest blocks and steps with which a third participant then has the
//! block.
//!
//! Each mutant leaves out or changes one thing of the protocol, and the checker must find it.

use loom_tests::states::visit;

const PARTICIPANTS: usize = 3;
const BUCKETS: u8 = 2;
/// Places in a record for blocks to allocate.
const PLACES: usize = 4;

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
    HeadWithoutGeneration,
    NoIntent,
    IntentClearedBeforeFreed,
    FreedBeforeCommit,
    AnnouncedLate,
    AnnouncementClearedBeforeFreed,
    WriterFreesWithoutReference,
    WriterMakesSpareWithoutReference,
    WriterFreesInsteadOfMakingSpare,
    NewKeyTakesSpare,
    RepairWithoutReference,
    RepairIgnoresAnnouncements,
    RepairFreesInsteadOfMakingSpare,
    ExcessCountedOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Free,
    Spare,
    Participant(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Block {
    /// The owner word: both change together.
    generation: u8,
    owner: Owner,
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

/// The intent record of one participant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Record {
    unlinked: Vec<Ref>,
    allocated: [Option<u8>; PLACES],
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
    Announce,
    Allocate(u8),
    TakeSpare(Ref),
    FreeExcess,
    StoreLink(u8),
    StoreValue(u8),
    StoreIntent,
    Commit,
    // Of the commit that succeeded, or of what was to be linked.
    Return(bool),
    ClearIntent(bool),
    ClearAnnouncement(bool),
}

/// Looks for spare blocks that are too many.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Search {
    /// How many blocks it has looked at, from the last one on.
    at: usize,
    enough: Vec<Ref>,
    /// It is about to take this one.
    found: Option<Ref>,
    /// It has taken this one, and knows whether to free it.
    taken: Option<(Ref, Option<bool>)>,
    has_freed: bool,
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
    /// What it has allocated; what it returns after its commit.
    own: Vec<Ref>,
    /// How many spare blocks it has taken and not made up for.
    spares: u8,
    /// There was no block.
    is_refused: bool,
    search: Search,
}

impl Participant {
    fn new(at: u8) -> Self {
        Self {
            is_alive: true,
            is_repaired: false,
            at,
            step: Step::Start,
            head: Head::default(),
            walk: Vec::new(),
            next: 0,
            half: (0, 0),
            own: Vec::new(),
            spares: 0,
            is_refused: false,
            search: Search::default(),
        }
    }
}

/// What the repairer of a dead participant is about to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Repair {
    Begin,
    Return(Ref),
    FreeExcess(Search),
    Clear,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    blocks: Vec<Block>,
    heads: [Head; BUCKETS as usize],
    records: [Record; PARTICIPANTS],
    participants: [Participant; PARTICIPANTS],
    repairs: [Repair; PARTICIPANTS],
    kills: u8,
    /// What the map has, by the commits so far.
    entries: Vec<(u8, u8)>,
    violation: Option<&'static str>,
}

fn bucket(key: u8) -> usize {
    usize::from(key % BUCKETS)
}

/// How a map begins: the first participants have put these keys into one bucket, each with its
/// second block.
#[derive(Clone, Copy, Debug)]
struct Start {
    keys: &'static [u8],
    free: usize,
    spare: usize,
}

impl Start {
    fn state(self) -> State {
        let block = |owner, key, next| Block { generation: 0, owner, key, value: key + 10, next };
        let mut records = [const { Record { unlinked: Vec::new(), allocated: [None; PLACES] } }; PARTICIPANTS];
        let linked = self.keys.iter().zip(0..).map(|(&key, number)| {
            records[usize::from(number)].allocated[1] = Some(number);
            block(Owner::Participant(number), key, number + 1)
        });
        let mut blocks: Vec<Block> = linked.collect();
        blocks.extend((0..self.free).map(|_| block(Owner::Free, 0, 0)));
        blocks.extend((0..self.spare).map(|_| block(Owner::Spare, 0, 0)));
        let mut heads = [Head::default(); BUCKETS as usize];
        heads[bucket(self.keys[0])].length = self.keys.len() as u8;
        State {
            blocks,
            heads,
            records,
            participants: std::array::from_fn(|_| Participant::new(0)),
            repairs: [const { Repair::Begin }; PARTICIPANTS],
            kills: 0,
            entries: self.keys.iter().map(|&key| (key, key + 10)).collect(),
            violation: None,
        }
    }
}

impl State {
    fn block(&self, index: u8) -> Block {
        self.blocks[usize::from(index)]
    }

    fn chain(&self, bucket: usize) -> Vec<u8> {
        let head = self.heads[bucket];
        let follow = |&at: &u8| Some(self.block(at).next);
        std::iter::successors(Some(head.first), follow).take(head.length.into()).collect()
    }

    /// The reference to a block as it is now.
    fn reference(&self, block: u8) -> Ref {
        Ref { block, generation: self.block(block).generation }
    }

    fn all_of(&self, owner: Owner) -> impl DoubleEndedIterator<Item = Ref> {
        let blocks = (0..self.blocks.len() as u8).filter(move |&block| self.block(block).owner == owner);
        blocks.map(|block| self.reference(block))
    }

    fn is_allocated(&self, of: Ref) -> bool {
        let block = self.block(of.block);
        block.owner != Owner::Free && block.generation == of.generation
    }

    /// Returns the new reference.
    fn give(&mut self, of: Ref, owner: Owner, is_checked: bool) -> Option<Ref> {
        (self.is_allocated(of) || !is_checked).then(|| {
            let block = &mut self.blocks[usize::from(of.block)];
            *block = Block { generation: block.generation + 1, owner, ..*block };
            self.reference(of.block)
        })
    }

    /// Whether repair may return it: nothing links it. The block itself says in which bucket to
    /// look.
    fn is_left_over(&self, of: Ref) -> bool {
        self.is_allocated(of) && !self.chain(bucket(self.block(of.block).key)).contains(&of.block)
    }

    fn value_of(&self, key: u8) -> Option<u8> {
        self.entries.iter().find(|entry| entry.0 == key).map(|entry| entry.1)
    }

    fn violation(&self, start: Start, is_final: bool) -> Option<&'static str> {
        if self.violation.is_some() {
            return self.violation;
        }
        let linked: Vec<u8> = (0..usize::from(BUCKETS)).flat_map(|bucket| self.chain(bucket)).collect();
        let blocks = linked.iter().map(|&block| self.block(block));
        if blocks.clone().any(|block| block.owner == Owner::Free) {
            return Some("a linked block is free");
        }
        if blocks.clone().any(|block| block.owner == Owner::Spare) {
            return Some("a linked block is spare");
        }
        let mut found: Vec<(u8, u8)> = blocks.map(|block| (block.key, block.value)).collect();
        found.sort_unstable();
        if found != self.entries {
            return Some("not what was committed");
        }
        let is_unlinked = |of: Ref| !linked.contains(&of.block);
        if is_final && (0..PARTICIPANTS as u8).any(|index| self.all_of(Owner::Participant(index)).any(is_unlinked)) {
            return Some("a block is lost");
        }
        (is_final && self.all_of(Owner::Spare).count() < start.spare).then_some("a spare block is missing")
    }
}

struct Model {
    start: Start,
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
                    if state.kills < self.kills && state.repairs[index] != Repair::Begin {
                        // The repairer dies. The next one begins again.
                        let mut next = State { kills: state.kills + 1, ..state.clone() };
                        next.repairs[index] = Repair::Begin;
                        found.push(next);
                    }
                    let mut next = state.clone();
                    self.repair(&mut next, index);
                    found.push(next);
                }
                continue;
            }
            let Some(&operation) = self.programs[index].get(usize::from(participant.at)) else { continue };
            if state.kills < self.kills {
                let mut next = State { kills: state.kills + 1, ..state.clone() };
                next.participants[index] = Participant { is_alive: false, ..Participant::new(0) };
                found.push(next);
            }
            let mut next = state.clone();
            self.advance(&mut next, index, operation);
            found.push(next);
        }
        found
    }

    /// One step of the repair of a dead participant.
    fn repair(&self, state: &mut State, index: usize) {
        let record = &state.records[index];
        let owner = Owner::Participant(index as u8);
        state.repairs[index] = match state.repairs[index].clone() {
            Repair::Begin => {
                let allocated = record.allocated.iter().flatten().filter(|&&block| {
                    self.mutant != Mutant::RepairIgnoresAnnouncements && state.block(block).owner == owner
                });
                let allocated = allocated.map(|&block| state.reference(block));
                let mut left = allocated.chain(record.unlinked.iter().copied());
                if record.unlinked.is_empty() && record.allocated[0].is_none() {
                    state.participants[index].is_repaired = true;
                    Repair::Begin
                } else if let Some(of) = left.find(|&of| state.is_left_over(of)) {
                    Repair::Return(of)
                } else {
                    Repair::FreeExcess(Search::default())
                }
            }
            Repair::Return(of) => {
                let is_freed = self.mutant == Mutant::RepairFreesInsteadOfMakingSpare;
                let owner = if is_freed { Owner::Free } else { Owner::Spare };
                state.give(of, owner, self.mutant != Mutant::RepairWithoutReference);
                Repair::Begin
            }
            Repair::FreeExcess(mut search) => {
                let is_over = self.search(state, &mut search, index, 0);
                if is_over { Repair::Clear } else { Repair::FreeExcess(search) }
            }
            Repair::Clear => {
                state.records[index] = Record::default();
                Repair::Begin
            }
        };
    }

    /// One step of the search for spare blocks that are too many. Returns whether it is over.
    fn search(&self, state: &mut State, search: &mut Search, index: usize, place: usize) -> bool {
        if let Some((taken, verdict)) = search.taken.take() {
            let is_counted_once = self.mutant == Mutant::ExcessCountedOnce;
            match verdict {
                None => {
                    let are_enough = is_counted_once || search.enough.iter().all(|&of| state.is_allocated(of));
                    search.taken = Some((taken, Some(are_enough)));
                }
                Some(true) => search.has_freed |= state.give(taken, Owner::Free, true).is_some(),
                Some(false) => {
                    state.give(taken, Owner::Spare, true);
                    return true;
                }
            }
        } else if let Some(found) = search.found.take() {
            search.taken = state.give(found, Owner::Participant(index as u8), true).map(|taken| (taken, None));
        } else {
            let Some(block) = state.blocks.len().checked_sub(search.at + 1) else { return true };
            search.at += 1;
            if state.blocks[block].owner == Owner::Spare {
                let of = state.reference(block as u8);
                if search.enough.len() < self.start.spare {
                    search.enough.push(of);
                } else {
                    state.records[index].allocated[place] = Some(of.block);
                    search.found = Some(of);
                }
            }
        }
        false
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
                let block = state.block(own.next);
                own.half = (block.key, block.next);
                own.step = Step::LoadValue;
            }
            Step::LoadValue => {
                let (seen_key, next) = own.half;
                let (block, value) = (state.reference(own.next), state.block(own.next).value);
                own.walk.push(Seen { block, key: seen_key, value, next });
                own.next = next;
                // What it has read may be half of something. Then the head has changed.
                let is_over = seen_key == key
                    || own.walk.len() == usize::from(own.head.length)
                    || usize::from(next) >= state.blocks.len();
                own.step = if is_over { Step::LookAgain } else { Step::LoadLink };
            }
            Step::LookAgain => {
                let is_trusting = self.mutant == Mutant::ReaderDoesNotLookAgain && matches!(operation, Get(_));
                if head_now != own.head && !is_trusting {
                    own = Participant::new(own.at);
                } else if matches!(operation, Get(_)) {
                    if hit.map(|seen| seen.value) != state.value_of(key) {
                        state.violation = Some("a reader got what was not there");
                    }
                    own = Participant::new(own.at + 1);
                } else if hit.is_none() && operation.value().is_none() {
                    own = Participant::new(own.at + 1);
                } else {
                    own.step = Step::Announce;
                }
            }
            Step::Announce => {
                if self.mutant == Mutant::AnnouncedLate
                    && let Some(last) = own.own.last()
                {
                    state.records[index].allocated[own.own.len() - 1] = Some(last.block);
                }
                let may_take_spare = hit.is_some() || self.mutant == Mutant::NewKeyTakesSpare;
                let free = state.all_of(Owner::Free).next();
                let spare = state.all_of(Owner::Spare).next_back().filter(|_| may_take_spare);
                let block = free.or(spare).map(|of| of.block).filter(|_| own.own.len() < needed);
                if self.mutant != Mutant::AnnouncedLate && block.is_some() {
                    state.records[index].allocated[own.own.len()] = block;
                }
                own.step = match (free, spare) {
                    _ if own.own.len() == needed && needed > 0 => Step::StoreLink(0),
                    _ if own.own.len() == needed => Step::StoreIntent,
                    (Some(free), _) => Step::Allocate(free.block),
                    (None, Some(spare)) => Step::TakeSpare(spare),
                    (None, None) if may_take_spare => {
                        own.is_refused = true;
                        Step::Return(false)
                    }
                    (None, None) => Step::FreeExcess,
                };
            }
            Step::Allocate(block) => {
                if state.block(block).owner == Owner::Free {
                    state.blocks[usize::from(block)].owner = Owner::Participant(index as u8);
                    own.own.push(state.reference(block));
                }
                own.step = Step::Announce;
            }
            Step::TakeSpare(of) => {
                if let Some(taken) = state.give(of, Owner::Participant(index as u8), true) {
                    own.own.push(taken);
                    own.spares += 1;
                }
                own.step = Step::Announce;
            }
            Step::FreeExcess => {
                let place = own.own.len();
                if self.search(state, &mut own.search, index, place) {
                    own.is_refused = !own.search.has_freed;
                    own.step = Step::Return(false);
                }
            }
            Step::StoreLink(at) | Step::StoreValue(at) => {
                let of = usize::from(at);
                let (new_key, new_value) = match (operation.value(), of) {
                    (Some(value), 0) => (key, value),
                    (Some(_), _) => (own.walk[of - 1].key, own.walk[of - 1].value),
                    (None, _) => (own.walk[of].key, own.walk[of].value),
                };
                let next = own.own.get(of + 1).map_or(rest, |next| next.block);
                let block = &mut state.blocks[usize::from(own.own[of].block)];
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
                    state.records[index].unlinked.clone_from(&passed);
                }
                if self.mutant == Mutant::FreedBeforeCommit {
                    passed.iter().for_each(|&of| _ = state.give(of, Owner::Free, true));
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
                own.step = Step::ClearIntent(false);
                if is_same {
                    let first = own.own.first().map_or(rest, |first| first.block);
                    let length = rest_length + needed as u8;
                    state.heads[bucket(key)] = Head { generation: head_now.generation + 1, length, first };
                    state.entries.retain(|entry| entry.0 != key);
                    state.entries.extend(operation.value().map(|value| (key, value)));
                    state.entries.sort_unstable();
                    own.own = passed;
                    own.step = Step::Return(true);
                    if self.mutant == Mutant::IntentClearedBeforeFreed {
                        state.records[index].unlinked.clear();
                    }
                }
            }
            Step::Return(is_committed) => {
                if self.mutant == Mutant::AnnouncementClearedBeforeFreed {
                    state.records[index].allocated[0] = None;
                }
                match own.own.pop() {
                    Some(of) if own.spares > 0 => {
                        let is_freed = self.mutant == Mutant::WriterFreesInsteadOfMakingSpare;
                        let owner = if is_freed { Owner::Free } else { Owner::Spare };
                        state.give(of, owner, self.mutant != Mutant::WriterMakesSpareWithoutReference);
                        own.spares -= 1;
                    }
                    Some(of) => {
                        state.give(of, Owner::Free, self.mutant != Mutant::WriterFreesWithoutReference);
                    }
                    None if is_committed => own.step = Step::ClearIntent(true),
                    None => own.step = Step::ClearAnnouncement(false),
                }
            }
            Step::ClearIntent(is_committed) => {
                state.records[index].unlinked.clear();
                own.step = if is_committed { Step::ClearAnnouncement(true) } else { Step::Return(false) };
            }
            Step::ClearAnnouncement(is_committed) => {
                state.records[index].allocated[0] = None;
                own = Participant::new(own.at + u8::from(is_committed || own.is_refused));
            }
        }
        state.participants[index] = own;
    }

    /// Returns what is wrong, or how many states there are.
    fn check(&self) -> Result<usize, &'static str> {
        let violation = |state: &State, next: &[State]| {
            let is_final = next.iter().all(|next| next.kills > state.kills);
            state.violation(self.start, is_final)
        };
        visit(self.start.state(), |state| self.successors(state), violation)
    }
}

/// How a map begins, and what each participant does.
type Case = (Start, [&'static [Operation]; PARTICIPANTS]);

fn check((start, programs): Case, kills: u8, mutant: Mutant) -> Result<usize, &'static str> {
    Model { start, programs: programs.map(<[Operation]>::to_vec), kills, mutant }.check()
}

fn assert_sound(case: Case, kills: u8) {
    let states = check(case, kills, Mutant::None);
    println!("{case:?}, kills: {kills}: {states:?} states");
    assert!(states.is_ok(), "{case:?}: {states:?}");
}

const ROOM: Start = Start { keys: &[0, 2], free: 3, spare: 0 };
const FULL: Start = Start { keys: &[0, 2], free: 0, spare: 2 };
const FULL_OF_ONE: Start = Start { keys: &[0], free: 0, spare: 1 };

/// Two writers and a reader in one bucket.
const PUT_AND_REMOVE: Case = (ROOM, [&[Put(0, 20)], &[Remove(2)], &[Get(2)]]);
const REMOVE_AND_PUT: Case = (ROOM, [&[Remove(0)], &[Put(4, 30)], &[Get(2)]]);
const PUT_TWICE: Case = (ROOM, [&[Put(0, 20), Put(0, 21)], &[], &[Get(0)]]);
const THREE_WRITERS: Case = (ROOM, [&[Put(4, 20)], &[Put(4, 30)], &[Remove(2)]]);
/// No block is free.
const COPIES_IF_FULL: Case = (FULL, [&[Put(2, 20)], &[Remove(0)], &[Put(1, 30)]]);
const NEW_KEY_IF_FULL: Case = (FULL_OF_ONE, [&[Put(0, 20)], &[Put(0, 21)], &[Put(1, 30)]]);

/// The first one dies after it has said which block it allocates. It has put block 0 there before,
/// which the second one unlinks. So repair of the first one returns the block, and the third one
/// gets it before the second one has returned it.
const OVERTAKEN: Case = (Start { keys: &[0], free: 1, spare: 0 }, [&[Put(0, 20)], &[Put(0, 21)], &[Put(1, 30)]]);
/// The same with a spare block, which the third one takes to replace what the second one has put.
const OVERTAKEN_IF_FULL: Case = (FULL_OF_ONE, [&[Put(0, 20)], &[Put(0, 21)], &[Put(0, 22)]]);

#[test]
fn map_protocol_killed_anywhere_keeps_its_promises() {
    for case in [PUT_AND_REMOVE, REMOVE_AND_PUT, PUT_TWICE, NEW_KEY_IF_FULL, OVERTAKEN, OVERTAKEN_IF_FULL] {
        assert_sound(case, 1);
    }
}

/// Too many orders to add a kill.
#[test]
fn map_protocol_three_writers_keeps_its_promises() {
    assert_sound(THREE_WRITERS, 0);
    assert_sound(COPIES_IF_FULL, 0);
}

#[test]
fn map_protocol_two_killed_keeps_its_promises() {
    for (start, programs) in [OVERTAKEN, OVERTAKEN_IF_FULL] {
        assert_sound((start, [programs[0], programs[1], &[]]), 2);
    }
    assert_sound((ROOM, [&[Put(0, 20)], &[Remove(0)], &[]]), 2);
}

#[test]
fn map_protocol_mutant_is_found() {
    // A look that takes its time, while the block in front is freed and used again.
    let again: Case = (ROOM, [&[Put(2, 20)], &[Put(0, 5), Put(0, 6)], &[]]);
    let found = [
        (Mutant::ReaderDoesNotLookAgain, PUT_TWICE, 0, "a reader got what was not there"),
        (Mutant::HeadWithoutGeneration, again, 0, "not what was committed"),
        (Mutant::NoIntent, PUT_AND_REMOVE, 1, "a block is lost"),
        (Mutant::IntentClearedBeforeFreed, PUT_AND_REMOVE, 1, "a block is lost"),
        (Mutant::FreedBeforeCommit, PUT_AND_REMOVE, 0, "a linked block is free"),
        (Mutant::AnnouncedLate, PUT_AND_REMOVE, 1, "a block is lost"),
        (Mutant::AnnouncementClearedBeforeFreed, again, 1, "a block is lost"),
        (Mutant::WriterFreesWithoutReference, OVERTAKEN, 1, "a linked block is free"),
        (Mutant::WriterMakesSpareWithoutReference, OVERTAKEN_IF_FULL, 1, "a linked block is spare"),
        (Mutant::WriterFreesInsteadOfMakingSpare, NEW_KEY_IF_FULL, 0, "a spare block is missing"),
        (Mutant::NewKeyTakesSpare, NEW_KEY_IF_FULL, 0, "a spare block is missing"),
        (Mutant::RepairWithoutReference, OVERTAKEN, 1, "a linked block is spare"),
        (Mutant::RepairIgnoresAnnouncements, PUT_AND_REMOVE, 1, "a block is lost"),
        (Mutant::RepairFreesInsteadOfMakingSpare, NEW_KEY_IF_FULL, 1, "a spare block is missing"),
        (Mutant::ExcessCountedOnce, NEW_KEY_IF_FULL, 0, "a spare block is missing"),
    ];
    for (mutant, case, kills, what) in found {
        assert_eq!(check(case, kills, mutant), Err(what), "{mutant:?}");
    }
}
