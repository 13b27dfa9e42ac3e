//! Histories of a list. Each is about the list as a whole.

use std::path::Path;

use tombolo::collections::list::Options;
use tombolo::collections::{List, ListError};
use tombolo::{Directory, Namespace, NamespaceBuilder};

use crate::linearizable::{Call, Model, check};
use crate::support::{Random, TestDir, stress_factor};
use crate::workers::{NAME, Wide, calls_with_kills, narrow, record_until_killed, wide};

#[derive(Clone, Copy, Debug)]
pub enum Change {
    Push(u64),
    Pop,
    Get(usize),
    Set(usize, u64),
    Insert(usize, u64),
    Remove(usize),
    Add(usize, u64),
    /// Appends it twice, in one step.
    Extend(u64),
    Truncate(usize),
    Len,
    ToVec,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    Done,
    Element(Option<u64>),
    Len(usize),
    All(Elements),
    /// There was no room.
    Full,
    OutOfBounds,
    /// Nothing happened, for a reason that does not follow from the elements.
    Busy,
}

/// So many that they lie in several chunks.
const CAPACITY: usize = 8;

/// The elements of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Elements {
    length: usize,
    /// Those behind the last one are 0.
    elements: [u64; CAPACITY],
}

impl Elements {
    pub fn of(found: &[u64]) -> Self {
        let mut elements = [0; CAPACITY];
        elements[..found.len()].copy_from_slice(found);
        Self { length: found.len(), elements }
    }

    /// What a change does alone, as a vector of std does it.
    pub fn apply(self, change: &Change) -> (Self, Seen) {
        let mut all = self.elements[..self.length].to_vec();
        let (length, is_there) = (all.len(), |index: usize| index < self.length);
        let seen = match *change {
            Change::Push(_) | Change::Insert(..) if length == CAPACITY => return (self, Seen::Full),
            Change::Extend(_) if length + 2 > CAPACITY => return (self, Seen::Full),
            Change::Insert(index, _) if index > length => return (self, Seen::OutOfBounds),
            Change::Set(index, _) | Change::Remove(index) | Change::Add(index, _) if !is_there(index) => {
                return (self, Seen::OutOfBounds);
            }
            Change::Get(index) | Change::Remove(index) => Seen::Element(all.get(index).copied()),
            Change::Pop => Seen::Element(all.last().copied()),
            Change::Len => Seen::Len(length),
            Change::ToVec => Seen::All(self),
            _ => Seen::Done,
        };
        match *change {
            Change::Push(value) => all.push(value),
            Change::Pop => all.truncate(length.saturating_sub(1)),
            Change::Set(index, value) => all[index] = value,
            Change::Insert(index, value) => all.insert(index, value),
            Change::Remove(index) => _ = all.remove(index),
            Change::Add(index, number) => all[index] += number,
            Change::Extend(value) => all.extend([value; 2]),
            Change::Truncate(length) => all.truncate(length),
            Change::Get(_) | Change::Len | Change::ToVec => {}
        }
        (Self::of(&all), seen)
    }
}

impl Model for Elements {
    type Operation = Change;
    type Outcome = Seen;

    fn after(&self, change: &Change, outcome: Option<&Seen>) -> Option<Self> {
        let (after, seen) = self.apply(change);
        match outcome {
            Some(Seen::Busy) => Some(*self),
            Some(outcome) => (*outcome == seen).then_some(after),
            None => Some(after),
        }
    }
}

impl Change {
    fn random(random: &mut Random, unique: u64) -> Self {
        let index = random.below(CAPACITY as u64) as usize;
        match random.below(16) {
            0 | 1 => Self::Push(unique),
            2 => Self::Pop,
            3..=5 => Self::Get(index),
            6 | 7 => Self::Set(index, unique),
            8 | 9 => Self::Insert(index, unique),
            10 => Self::Remove(index),
            11 | 12 => Self::Add(index, 1),
            13 if random.below(4) == 0 => Self::Truncate(index),
            13 => Self::Extend(unique),
            14 => Self::Len,
            _ => Self::ToVec,
        }
    }

    fn apply(self, list: &List<Wide>) -> Seen {
        let done = |()| Seen::Done;
        let seen = match self {
            Self::Push(value) => list.push(&wide(value)).map(done),
            Self::Pop => list.pop().map(|found| Seen::Element(found.map(narrow))),
            Self::Get(index) => list.get(index).map(|found| Seen::Element(found.map(narrow))),
            Self::Set(index, value) => list.set(index, &wide(value)).map(done),
            Self::Insert(index, value) => list.insert(index, &wide(value)).map(done),
            Self::Remove(index) => list.remove(index).map(|found| Seen::Element(Some(narrow(found)))),
            Self::Add(index, number) => list.update(index, |found| wide(narrow(found) + number)).map(done),
            Self::Extend(value) => list.extend_from_slice(&[wide(value); 2]).map(done),
            Self::Truncate(length) => list.truncate(length).map(done),
            Self::Len => list.len().map(Seen::Len),
            Self::ToVec => {
                list.to_vec().map(|all| Seen::All(Elements::of(&all.into_iter().map(narrow).collect::<Vec<_>>())))
            }
        };
        seen.unwrap_or_else(|error| match error {
            ListError::Full { limit: CAPACITY, .. } => Seen::Full,
            ListError::OutOfBounds { .. } => Seen::OutOfBounds,
            ListError::Busy => Seen::Busy,
            other => panic!("{self:?}: {other}"),
        })
    }
}

fn plan(directory: &Path) -> NamespaceBuilder {
    let options = Options::<Wide>::new().max_length(CAPACITY);
    Namespace::builder().max_participants(8).list("list", &options).directory(directory.join("names"))
}

pub fn change_list(arguments: &[String]) {
    let namespace = plan(Path::new(&arguments[0])).must_exist().open(NAME).unwrap();
    let list = namespace.list::<Wide>("list").unwrap();
    record_until_killed(arguments, Change::random, |change| change.apply(&list));
}

#[test]
fn list_history_with_kills_is_linearizable() {
    let test_dir = TestDir::new();
    let namespace = plan(&test_dir.file("")).open(NAME).unwrap();
    let list = namespace.list::<Wide>("list").unwrap();
    let mut history = calls_with_kills::<Change, Seen>(&test_dir, "change_list", 30 * stress_factor(), &[]);
    let busy = history.iter().filter(|call| call.outcome == Some(Seen::Busy)).count();
    assert!(busy * 10 <= history.len(), "{busy} of {} calls did nothing", history.len());
    // What is left in the end belongs to it.
    let left = Change::ToVec.apply(&list);
    history.push(Call { operation: Change::ToVec, outcome: Some(left), began: u64::MAX, ended: u64::MAX });
    check(Elements::default(), &history).unwrap_or_else(|contradiction| panic!("{contradiction}"));
    Directory::at(test_dir.names()).repair(NAME).unwrap();
}
