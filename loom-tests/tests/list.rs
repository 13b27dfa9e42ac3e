//! Visits all states of the protocol of a list (`src/raw/list.rs`): three participants read and
//! change a short list, are killed between any two steps, and are repaired by others, who may be
//! killed, too. A newcomer takes the place of the dead one.
//!
//! Each access to a shared word is a step, but for a few that no other order can tell apart: a
//! directory is loaded and stored at once. A chunk has one element. Weak memory is not modelled
//! here: for that, loom runs the shipping code (`src/models/list.rs`).
//!
//! Each mutant leaves out or changes one thing of the protocol, and the checker must find it.

use std::ops::Range;

use loom_tests::states::visit;

const PARTICIPANTS: usize = 3;
/// Blocks for directories. The chunks follow.
const DIRECTORIES: usize = 3;
const BLOCKS: usize = DIRECTORIES + 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Set(u8, u8),
    Push(u8),
    Remove(u8),
    Get(u8),
}

use Operation::{Get, Push, Remove, Set};

impl Operation {
    /// Which elements it replaces, or reads, in a list of that length.
    fn range(self, length: usize) -> Range<usize> {
        match self {
            Set(at, _) | Remove(at) | Get(at) => at.into()..usize::from(at) + 1,
            Push(_) => length..length,
        }
    }

    fn item(self) -> Option<u8> {
        match self {
            Set(_, value) | Push(value) => Some(value),
            Remove(_) | Get(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    ReaderDoesNotLookAgain,
    RootWithoutGeneration,
    FreedBeforeCommit,
    AnnouncedLate,
    IntentAfterCommit,
    NotMarked,
    MarkedAfterCommit,
    MarkedWithoutCompare,
    IntentClearedFirst,
    FailedCommitClearsFirst,
    RepairLoadsIntentFirst,
    RepairIgnoresMark,
    RepairFreesWithoutReference,
    RepairFreesBeforeItClearsIntent,
}

/// What the block has: the chunks of a directory, or the value of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Block {
    /// The owner word: both change together.
    generation: u8,
    owner: Option<u8>,
    content: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Root {
    generation: u8,
    directory: u8,
}

/// A block, as allocated once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ref {
    block: u8,
    generation: u8,
}

/// The record of one participant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Record {
    /// The root that it is about to commit, and whether that is known to be committed.
    intent: Option<(Root, bool)>,
    replaced: Vec<Ref>,
    new: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Start,
    LoadDirectory,
    LoadChunk,
    LookAgain,
    Allocate(u8),
    /// Only a mutant has this step.
    AnnounceLate(u8),
    StoreIntent,
    Mark,
    Commit,
    // Only mutants have these two steps.
    MarkLate,
    StoreIntentLate,
    // The commit has succeeded.
    FreeReplaced(u8),
    // Or it has failed.
    FreeNew(u8),
    ClearNew(bool),
    ClearIntent(bool),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Participant {
    is_alive: bool,
    /// Which operation of its program it is at.
    at: u8,
    step: Step,
    root: Root,
    directory: Vec<u8>,
    maker: Option<u8>,
    value: Option<u8>,
    own: Vec<Ref>,
    is_done: bool,
}

impl Participant {
    fn new(at: u8) -> Self {
        Self {
            is_alive: true,
            at,
            step: Step::Start,
            root: Root::default(),
            directory: Vec::new(),
            maker: None,
            value: None,
            own: Vec::new(),
            is_done: false,
        }
    }
}

/// How far the repair of a dead participant has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Repair {
    LoadRoot,
    LoadIntent(Root),
    /// Only a mutant does it in this order.
    LoadRootLast(Option<(Root, bool)>),
    FreeReplaced(u8),
    FreeNew(u8),
    ClearNew(bool),
    ClearIntent(bool),
    End,
}

const FIRST_STEP: [Repair; PARTICIPANTS] = [Repair::LoadRoot; PARTICIPANTS];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    blocks: Vec<Block>,
    root: Root,
    records: [Record; PARTICIPANTS],
    participants: [Participant; PARTICIPANTS],
    repairs: [Repair; PARTICIPANTS],
    kills: u8,
    /// What the list has, by the commits so far.
    elements: Vec<u8>,
    violation: Option<&'static str>,
}

impl State {
    /// Two elements, in chunks of the participants 1 and 0, and the directory is of 0.
    fn new() -> Self {
        let mut blocks = vec![Block::default(); BLOCKS];
        let used = |owner, content: &[u8]| Block { generation: 0, owner: Some(owner), content: content.to_vec() };
        let first = DIRECTORIES as u8;
        blocks[0] = used(0, &[first, first + 1]);
        blocks[DIRECTORIES] = used(1, &[10]);
        blocks[DIRECTORIES + 1] = used(0, &[11]);
        Self {
            blocks,
            root: Root::default(),
            records: Default::default(),
            participants: std::array::from_fn(|_| Participant::new(0)),
            repairs: FIRST_STEP,
            kills: 0,
            elements: vec![10, 11],
            violation: None,
        }
    }

    fn block(&self, index: u8) -> &Block {
        &self.blocks[usize::from(index)]
    }

    fn reference(&self, block: u8) -> Ref {
        Ref { block, generation: self.block(block).generation }
    }

    fn is_allocated(&self, of: Ref) -> bool {
        self.block(of.block).owner.is_some() && self.block(of.block).generation == of.generation
    }

    fn free(&mut self, of: Ref, is_checked: bool) {
        if self.is_allocated(of) || !is_checked {
            let block = &mut self.blocks[usize::from(of.block)];
            block.owner = None;
            block.generation += 1;
        }
    }

    fn violation(&self, is_final: bool) -> Option<&'static str> {
        if self.violation.is_some() {
            return self.violation;
        }
        let directory = self.root.directory;
        let chunks = &self.block(directory).content;
        if chunks.iter().chain([&directory]).any(|&block| self.block(block).owner.is_none()) {
            return Some("a linked block is free");
        }
        let found: Vec<u8> = chunks.iter().flat_map(|&chunk| self.block(chunk).content.clone()).collect();
        if found != self.elements {
            return Some("not what was committed");
        }
        let is_lost = |block: u8| self.block(block).owner.is_some() && block != directory && !chunks.contains(&block);
        (is_final && (0..BLOCKS as u8).any(is_lost)).then_some("a block is lost")
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
            let is_alive = participant.is_alive;
            let operation = self.programs[index].get(usize::from(participant.at));
            if is_alive && operation.is_none() {
                continue;
            }
            if state.kills < self.kills {
                let mut next = state.clone();
                next.kills += 1;
                next.participants[index].is_alive = false;
                // A repairer that dies: the next one begins again.
                next.repairs[index] = Repair::LoadRoot;
                if next.repairs != state.repairs || is_alive {
                    found.push(next);
                }
            }
            let mut next = state.clone();
            match operation {
                Some(&operation) if is_alive => self.advance(&mut next, index, operation),
                _ => self.repair(&mut next, index),
            }
            found.push(next);
        }
        found
    }

    /// One step of the repair of a dead participant. At the end a newcomer takes its place.
    fn repair(&self, state: &mut State, index: usize) {
        let record = state.records[index].clone();
        let decide = |root: Root, intent: Option<(Root, bool)>| {
            let is_marked = |is_marked| is_marked && self.mutant != Mutant::RepairIgnoresMark;
            let is_committed = intent.is_some_and(|(next, marked)| is_marked(marked) || next == root);
            match is_committed {
                true => Repair::FreeReplaced(0),
                false if self.mutant == Mutant::RepairFreesBeforeItClearsIntent => Repair::FreeNew(0),
                false => Repair::ClearIntent(false),
            }
        };
        state.repairs[index] = match state.repairs[index] {
            Repair::LoadRoot if self.mutant == Mutant::RepairLoadsIntentFirst => Repair::LoadRootLast(record.intent),
            Repair::LoadRoot => Repair::LoadIntent(state.root),
            Repair::LoadIntent(root) => decide(root, record.intent),
            Repair::LoadRootLast(intent) => decide(state.root, intent),
            Repair::FreeReplaced(at) => match record.replaced.get(usize::from(at)) {
                Some(&of) => {
                    state.free(of, self.mutant != Mutant::RepairFreesWithoutReference);
                    Repair::FreeReplaced(at + 1)
                }
                None => Repair::ClearNew(true),
            },
            Repair::FreeNew(at) => match record.new.get(usize::from(at)) {
                Some(&block) => {
                    if state.block(block).owner == Some(index as u8) {
                        state.free(state.reference(block), true);
                    }
                    Repair::FreeNew(at + 1)
                }
                None => Repair::ClearNew(false),
            },
            Repair::ClearNew(is_committed) => {
                state.records[index].new.clear();
                if is_committed { Repair::ClearIntent(true) } else { Repair::End }
            }
            Repair::ClearIntent(is_committed) => {
                state.records[index].intent = None;
                if is_committed { Repair::End } else { Repair::FreeNew(0) }
            }
            Repair::End => {
                state.records[index] = Record::default();
                state.participants[index] = Participant::new(state.participants[index].at + 1);
                Repair::LoadRoot
            }
        };
    }

    /// One step of an operation.
    fn advance(&self, state: &mut State, index: usize, operation: Operation) {
        let mut own = state.participants[index].clone();
        let range = operation.range(own.directory.len());
        let is_get = matches!(operation, Get(_));
        let next_root = Root {
            generation: own.root.generation + 1,
            directory: own.own.first().map_or(0, |directory| directory.block),
        };
        match own.step {
            Step::Start => {
                own.root = state.root;
                own.step = Step::LoadDirectory;
            }
            Step::LoadDirectory => {
                let block = state.block(own.root.directory);
                (own.directory, own.maker) = (block.content.clone(), block.owner);
                let is_there = operation.range(own.directory.len()).end <= own.directory.len();
                if is_get {
                    own.step = if is_there { Step::LoadChunk } else { Step::LookAgain };
                } else if state.root != own.root {
                    own = Participant::new(own.at);
                } else if is_there {
                    self.announce(state, index, &mut own, operation);
                } else {
                    own = Participant::new(own.at + 1);
                }
            }
            Step::LoadChunk => {
                own.value = state.block(own.directory[range.start]).content.first().copied();
                own.step = Step::LookAgain;
            }
            Step::LookAgain => {
                if state.root != own.root && self.mutant != Mutant::ReaderDoesNotLookAgain {
                    own = Participant::new(own.at);
                } else {
                    if own.value != state.elements.get(range.start).copied() {
                        state.violation = Some("a reader got what was not there");
                    }
                    own = Participant::new(own.at + 1);
                }
            }
            Step::Allocate(at) => {
                if state.block(at).owner.is_none() {
                    state.blocks[usize::from(at)].owner = Some(index as u8);
                    own.own.push(state.reference(at));
                    if self.mutant == Mutant::AnnouncedLate {
                        state.participants[index] = Participant { step: Step::AnnounceLate(at), ..own };
                        return;
                    }
                }
                self.announce(state, index, &mut own, operation);
            }
            Step::AnnounceLate(at) => {
                state.records[index].new.push(at);
                self.announce(state, index, &mut own, operation);
            }
            Step::StoreIntent => {
                if self.mutant != Mutant::IntentAfterCommit {
                    state.records[index].intent = Some((next_root, false));
                }
                own.step = match self.mutant {
                    Mutant::NotMarked | Mutant::MarkedAfterCommit => Step::Commit,
                    _ => Step::Mark,
                };
            }
            Step::Mark | Step::MarkLate => {
                if let Some(maker) = own.maker {
                    let intent = &mut state.records[usize::from(maker)].intent;
                    let is_loose = self.mutant == Mutant::MarkedWithoutCompare;
                    if let Some((_, is_marked)) =
                        intent.as_mut().filter(|intent| is_loose || **intent == (own.root, false))
                    {
                        *is_marked = true;
                    }
                }
                own.step = if own.step == Step::Mark { Step::Commit } else { Step::FreeReplaced(0) };
            }
            Step::Commit => {
                let is_same = match self.mutant {
                    Mutant::RootWithoutGeneration => state.root.directory == own.root.directory,
                    _ => state.root == own.root,
                };
                if is_same {
                    state.root = Root { generation: state.root.generation + 1, ..next_root };
                    let now = operation.range(state.elements.len());
                    state.elements.splice(now, operation.item());
                    own.is_done = true;
                    own.step = Step::FreeReplaced(0);
                    match self.mutant {
                        Mutant::MarkedAfterCommit => own.step = Step::MarkLate,
                        Mutant::IntentClearedFirst => state.records[index].intent = None,
                        Mutant::IntentAfterCommit => own.step = Step::StoreIntentLate,
                        _ => {}
                    }
                } else {
                    if self.mutant == Mutant::FailedCommitClearsFirst {
                        state.records[index].new.clear();
                    }
                    own.step = Step::ClearIntent(false);
                }
            }
            Step::StoreIntentLate => {
                state.records[index].intent = Some((next_root, false));
                own.step = Step::FreeReplaced(0);
            }
            Step::FreeReplaced(at) => match state.records[index].replaced.get(usize::from(at)) {
                Some(&of) => {
                    state.free(of, true);
                    own.step = Step::FreeReplaced(at + 1);
                }
                None => own.step = Step::ClearNew(true),
            },
            Step::FreeNew(at) => match own.own.get(usize::from(at)) {
                Some(&of) => {
                    state.free(of, true);
                    own.step = Step::FreeNew(at + 1);
                }
                None => own.step = Step::ClearNew(false),
            },
            Step::ClearNew(is_committed) => {
                state.records[index].new.clear();
                own.step = Step::ClearIntent(true);
                if !is_committed {
                    own = Participant::new(own.at + u8::from(own.is_done));
                }
            }
            Step::ClearIntent(is_committed) => {
                state.records[index].intent = None;
                own.step = Step::FreeNew(0);
                if is_committed {
                    own = Participant::new(own.at + 1);
                }
            }
        }
        state.participants[index] = own;
    }

    /// Says which block is about to be allocated, or builds what is new. Nobody looks at any of this
    /// before the next step, unless the participant dies.
    fn announce(&self, state: &mut State, index: usize, own: &mut Participant, operation: Operation) {
        let blocks = match own.own.len() {
            0 => 0..DIRECTORIES,
            1 if operation.item().is_some() => DIRECTORIES..BLOCKS,
            _ => return self.build(state, index, own, operation),
        };
        let Some(block) = blocks.into_iter().find(|&block| state.blocks[block].owner.is_none()) else {
            own.is_done = true;
            own.step = Step::FreeNew(0);
            return;
        };
        let new = &mut state.records[index].new;
        new.truncate(own.own.len());
        if self.mutant != Mutant::AnnouncedLate {
            new.push(block as u8);
        }
        own.step = Step::Allocate(block as u8);
    }

    fn build(&self, state: &mut State, index: usize, own: &mut Participant, operation: Operation) {
        let range = operation.range(own.directory.len());
        let mut chunks = own.directory.clone();
        chunks.splice(range.clone(), own.own.get(1).map(|chunk| chunk.block));
        state.blocks[usize::from(own.own[0].block)].content = chunks;
        if let Some(chunk) = own.own.get(1) {
            state.blocks[usize::from(chunk.block)].content = operation.item().into_iter().collect();
        }
        let replaced = own.directory[range].iter().chain([&own.root.directory]);
        let replaced: Vec<Ref> = replaced.map(|&block| state.reference(block)).collect();
        if self.mutant == Mutant::FreedBeforeCommit {
            replaced.iter().for_each(|&of| state.free(of, true));
        }
        state.records[index].replaced = replaced;
        own.step = Step::StoreIntent;
    }

    /// Returns what is wrong, or how many states there are.
    fn check(&self) -> Result<usize, &'static str> {
        let violation = |state: &State, next: &[State]| {
            let is_final = next.iter().all(|next| next.kills > state.kills);
            state.violation(is_final)
        };
        visit(State::new(), |state| self.successors(state), violation)
    }
}

fn check(programs: [&[Operation]; PARTICIPANTS], kills: u8, mutant: Mutant) -> Result<usize, &'static str> {
    Model { programs: programs.map(<[Operation]>::to_vec), kills, mutant }.check()
}

/// The reader's chunk, and the directory, are used again.
const READ: [&[Operation]; PARTICIPANTS] = [&[Set(0, 20), Remove(1)], &[], &[Get(0)]];
/// Two writers.
const TWO: [&[Operation]; PARTICIPANTS] = [&[Set(0, 20)], &[Remove(1)], &[]];
/// Each replaces what the other one has committed, in a block that was used before.
const REPLACED: [&[Operation]; PARTICIPANTS] = [&[Set(0, 20), Push(21)], &[Set(0, 30)], &[]];
const THREE: [&[Operation]; PARTICIPANTS] = [&[Set(1, 20)], &[Remove(1)], &[Remove(0)]];

#[test]
fn list_protocol_killed_anywhere_keeps_its_promises() {
    for (programs, kills) in [(READ, 1), (TWO, 2), (REPLACED, 1)] {
        let states = check(programs, kills, Mutant::None);
        println!("{programs:?}, kills: {kills}: {states:?} states");
        assert!(states.is_ok(), "{programs:?}: {states:?}");
    }
}

/// Too many orders to add a kill.
#[test]
fn list_protocol_three_writers_keeps_its_promises() {
    let states = check(THREE, 0, Mutant::None);
    println!("{THREE:?}: {states:?} states");
    assert!(states.is_ok(), "{states:?}");
}

#[test]
fn list_protocol_mutant_is_found() {
    // A look that takes its time, while the directory is freed and used again.
    let again: [&[Operation]; PARTICIPANTS] = [&[Set(0, 20)], &[Set(1, 5), Set(1, 6)], &[]];
    let found = [
        (Mutant::ReaderDoesNotLookAgain, READ, 0, "a reader got what was not there"),
        (Mutant::RootWithoutGeneration, again, 0, "not what was committed"),
        (Mutant::FreedBeforeCommit, READ, 0, "a linked block is free"),
        (Mutant::AnnouncedLate, READ, 1, "a block is lost"),
        (Mutant::IntentAfterCommit, READ, 1, "a linked block is free"),
        (Mutant::NotMarked, TWO, 1, "a linked block is free"),
        (Mutant::MarkedAfterCommit, TWO, 1, "a linked block is free"),
        (Mutant::MarkedWithoutCompare, READ, 1, "a linked block is free"),
        (Mutant::IntentClearedFirst, READ, 1, "a linked block is free"),
        (Mutant::FailedCommitClearsFirst, TWO, 1, "a block is lost"),
        (Mutant::RepairLoadsIntentFirst, TWO, 1, "a linked block is free"),
        (Mutant::RepairIgnoresMark, TWO, 1, "a linked block is free"),
        (Mutant::RepairFreesWithoutReference, TWO, 1, "a linked block is free"),
        // The repairer dies, and another writer commits a root with the same directory.
        (Mutant::RepairFreesBeforeItClearsIntent, TWO, 2, "a linked block is free"),
    ];
    for (mutant, programs, kills, what) in found {
        assert_eq!(check(programs, kills, mutant), Err(what), "{mutant:?}");
    }
}
