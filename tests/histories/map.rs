//! Histories of a map. Keys are independent, so each has a history of its own.

use std::path::Path;

use tombolo::collections::map::Options;
use tombolo::collections::{Map, MapError};
use tombolo::{Directory, Namespace, NamespaceBuilder};

use crate::buckets::keys_of_one_bucket;
use crate::linearizable::{Call, Model, check};
use crate::support::{Random, TestDir, stress_factor};
use crate::workers::{NAME, Wide, calls_with_kills, narrow, record_until_killed, wide};

#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Get,
    Insert(u64),
    Replace(u64),
    Remove,
    /// Gives the key the sum, or removes it if that is divisible by three.
    Add(u64),
    /// A compare-exchange: from what to what.
    Exchange(Option<u64>, Option<u64>),
    GetOrInsert(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found {
    /// What there was.
    Value(Option<u64>),
    IsNew(bool),
    /// What an update found, and what it left.
    Updated(Option<u64>, Option<u64>),
    Exchanged(Result<(), Option<u64>>),
    /// There was no room, and nothing happened.
    Full,
}

/// The value of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value(pub Option<u64>);

fn sum(found: Option<u64>, number: u64) -> Option<u64> {
    Some(found.unwrap_or(0).wrapping_add(number)).filter(|sum| sum % 3 != 0)
}

impl Operation {
    pub fn random(random: &mut Random, unique: u64, last: Option<u64>) -> Self {
        match random.below(10) {
            0..=2 => Self::Get,
            3 => Self::Insert(unique),
            4 => Self::Replace(unique),
            5 => Self::Remove,
            6 | 7 => Self::Add(1 + random.below(100)),
            8 => Self::Exchange(last, Some(unique).filter(|_| random.below(3) > 0)),
            _ => Self::GetOrInsert(unique),
        }
    }

    fn apply(self, map: &Map<u64, Wide>, key: u64) -> Found {
        let value = |found: Option<Wide>| Found::Value(found.map(narrow));
        let found = match self {
            Self::Get => map.get(&key).map(value),
            Self::Insert(new) => map.insert(&key, &wide(new)).map(Found::IsNew),
            Self::Replace(new) => map.replace(&key, &wide(new)).map(value),
            Self::Remove => map.remove(&key).map(value),
            Self::Add(number) => {
                let mut last = None;
                let update = |found: Option<Wide>| {
                    last = found.map(narrow);
                    sum(last, number).map(wide)
                };
                map.update(&key, update).map(|left| Found::Updated(last, left.map(narrow)))
            }
            Self::Exchange(from, to) => {
                let exchanged = map.compare_exchange(&key, from.map(wide).as_ref(), to.map(wide).as_ref());
                exchanged.map(|exchanged| Found::Exchanged(exchanged.map_err(|found| found.map(narrow))))
            }
            Self::GetOrInsert(new) => map.get_or_insert_with(&key, || wide(new)).map(|found| value(Some(found))),
        };
        found.unwrap_or_else(|error| {
            assert_eq!(error, MapError::Full, "{self:?}");
            Found::Full
        })
    }
}

impl Value {
    /// What an operation does alone.
    pub fn apply(self, operation: &Operation) -> (Self, Found) {
        let own = self.0;
        match *operation {
            Operation::Get => (self, Found::Value(own)),
            Operation::Insert(value) => (Self(Some(value)), Found::IsNew(own.is_none())),
            Operation::Replace(value) => (Self(Some(value)), Found::Value(own)),
            Operation::Remove => (Self(None), Found::Value(own)),
            Operation::Add(number) => (Self(sum(own, number)), Found::Updated(own, sum(own, number))),
            Operation::Exchange(from, to) if own == from => (Self(to), Found::Exchanged(Ok(()))),
            Operation::Exchange(..) => (self, Found::Exchanged(Err(own))),
            Operation::GetOrInsert(value) => (Self(own.or(Some(value))), Found::Value(own.or(Some(value)))),
        }
    }
}

impl Model for Value {
    type Operation = Operation;
    type Outcome = Found;

    fn after(&self, operation: &Operation, outcome: Option<&Found>) -> Option<Self> {
        let (after, found) = self.apply(operation);
        match outcome {
            Some(Found::Full) => Some(*self),
            Some(outcome) => (*outcome == found).then_some(after),
            None => Some(after),
        }
    }
}

const PARTICIPANTS: usize = 8;

fn plan(directory: &Path, entries: usize) -> NamespaceBuilder {
    let options = Options::<u64, Wide>::new().max_entries(entries);
    Namespace::builder().max_participants(PARTICIPANTS).map("map", &options).directory(directory.join("names"))
}

/// Uses the keys of one bucket, and others, that are in its arguments.
pub fn change_map(arguments: &[String]) {
    let entries = arguments[2].parse().unwrap();
    let keys: Vec<u64> = arguments[3].split(' ').map(|key| key.parse().unwrap()).collect();
    let namespace = plan(Path::new(&arguments[0]), entries).must_exist().open(NAME).unwrap();
    let map = namespace.map::<u64, Wide>("map").unwrap();
    let next = |random: &mut Random, unique| {
        let key = keys[random.below(keys.len() as u64) as usize];
        let last = if random.below(4) == 0 { None } else { map.get(&key).unwrap().map(narrow) };
        (key, Operation::random(random, unique, last))
    };
    record_until_killed(arguments, next, |(key, operation)| operation.apply(&map, key));
}

/// Returns how many calls found no room.
fn assert_histories_linearizable(entries: usize, keys_of_bucket: usize, kills: u64) -> usize {
    let test_dir = TestDir::new();
    let namespace = plan(&test_dir.file(""), entries).open(NAME).unwrap();
    let map = namespace.map::<u64, Wide>("map").unwrap();
    let mut keys: Vec<u64> =
        keys_of_one_bucket(&test_dir.names().join(NAME), PARTICIPANTS).take(keys_of_bucket).collect();
    keys.extend([1 << 40, 1 << 41]); // of any bucket
    let text = keys.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let calls =
        calls_with_kills::<(u64, Operation), Found>(&test_dir, "change_map", kills, &[&entries.to_string(), &text]);
    for &key in &keys {
        let of_key = calls.iter().filter(|call| call.operation.0 == key);
        let mut history: Vec<_> = of_key
            .map(|call| Call {
                operation: call.operation.1,
                outcome: call.outcome,
                began: call.began,
                ended: call.ended,
            })
            .collect();
        // What is left in the end belongs to it.
        history.push(Call {
            operation: Operation::Get,
            outcome: Some(Operation::Get.apply(&map, key)),
            began: u64::MAX,
            ended: u64::MAX,
        });
        check(Value(None), &history).unwrap_or_else(|contradiction| panic!("key {key}: {contradiction}"));
    }
    Directory::at(test_dir.names()).repair(NAME).unwrap();
    assert_eq!(map.len(), keys.iter().filter(|key| map.contains_key(key).unwrap()).count(), "a key twice");
    calls.iter().filter(|call| call.outcome == Some(Found::Full)).count()
}

#[test]
fn map_history_with_kills_is_linearizable() {
    let full = assert_histories_linearizable(64, 4, 30 * stress_factor());
    assert_eq!(full, 0, "with room for all");
}

/// Changes take spare blocks here, and some find none.
#[test]
fn map_history_of_full_map_with_kills_is_linearizable() {
    assert_histories_linearizable(4, 4, 30 * stress_factor());
}
