//! Two processes that mean different types are told so when the second one opens the region.

use std::path::Path;

use tombolo::pipe::{self, Receiver};
use tombolo::sync::{Array, Mutex, Value};
use tombolo::types::Untagged;
use tombolo::{Endpoint, Error, ErrorKind, Namespace, Shareable, queue};

use crate::support::TestDir;

/// Makes something of each kind with elements of type `A`, and opens it as of type `B`. Returns
/// the results.
fn open_as<A: Shareable + Default, B: Shareable + Default>(
    directory: &Path,
    tag_a: Option<&str>,
    tag_b: Option<&str>,
) -> Vec<(&'static str, Option<Error>)> {
    fn pipe<T: Shareable>(directory: &Path, tag: Option<&str>) -> pipe::Options<T> {
        let options = pipe::Options::new().directory(directory);
        tag.iter().fold(options, |options, tag| options.type_tag(tag))
    }
    fn queue<T: Shareable>(directory: &Path, tag: Option<&str>) -> queue::Options<T> {
        let options = queue::Options::new().directory(directory);
        tag.iter().fold(options, |options, tag| options.type_tag(tag))
    }
    let (pipe_a, pipe_b) = (pipe::<A>(directory, tag_a), pipe::<B>(directory, tag_b));
    let (queue_a, queue_b) = (queue::<A>(directory, tag_a), queue::<B>(directory, tag_b));

    let _tx = pipe_a.sender("sender").unwrap();
    let _rx = pipe_a.receiver("receiver").unwrap();
    let _duplex = pipe_a.open("duplex").unwrap();
    let (_unnamed, unnamed) = pipe_a.create().unwrap();
    let _queue = queue_a.open("queue").unwrap();
    let mut results = vec![
        ("receiver", pipe_b.receiver("sender").err()),
        ("sender", pipe_b.sender("receiver").err()),
        ("duplex pipe", pipe_b.open("duplex").err()),
        ("descriptor", pipe_b.from_fd::<Receiver<B>>(unnamed.into_fd().unwrap()).err()),
        ("queue", queue_b.open("queue").err()),
        ("sender of a queue", queue_b.sender("queue").err()),
        ("receiver of a queue", queue_b.receiver("queue").err()),
    ];
    if tag_a.or(tag_b).is_none() {
        results.extend([
            ("value on its own", Value::<B>::from_fd(Value::new(A::default()).unwrap().share().unwrap()).err()),
            ("array on its own", Array::<B>::from_fd(Array::new(&[A::default()]).unwrap().share().unwrap()).err()),
            ("mutex on its own", Mutex::<B>::from_fd(Mutex::new(A::default()).unwrap().share().unwrap()).err()),
        ]);
    }

    let tagged = |plan: tombolo::NamespaceBuilder| tag_a.iter().fold(plan, |plan, tag| plan.type_tag(tag));
    let plan = tagged(Namespace::builder().value("value", A::default()));
    let plan = tagged(plan.array("array", &[A::default()]));
    let plan = tagged(plan.mutex("mutex", A::default()));
    let plan = tagged(plan.reentrant_mutex("reentrant", A::default()));
    let plan = tagged(plan.rw_lock("rw lock", A::default()));
    let plan = tagged(plan.queue::<A>("queue", 2));
    let objects = plan.directory(directory).open("objects").unwrap();
    let objects = tag_b.iter().fold(objects, |objects, tag| objects.type_tag(tag));
    let again = Namespace::builder().value("value", B::default());
    let again = tag_b.iter().fold(again, |plan, tag| plan.type_tag(tag)).directory(directory);
    results.extend([
        ("value", objects.value::<B>("value").err()),
        ("array", objects.array::<B>("array").err()),
        ("mutex", objects.mutex::<B>("mutex").err()),
        ("re-entrant mutex", objects.reentrant_mutex::<B>("reentrant").err()),
        ("rw lock", objects.rw_lock::<B>("rw lock").err()),
        ("queue of a namespace", objects.queue::<B>("queue").err()),
        ("planned value", again.open("objects").err()),
    ]);
    results
}

#[track_caller]
fn refused<A: Shareable + Default, B: Shareable + Default>(says: &[&str]) {
    let test_dir = TestDir::new();
    for (what, error) in open_as::<A, B>(&test_dir.names(), None, None) {
        let error = error.unwrap_or_else(|| panic!("{what}: accepted"));
        assert_eq!(error.kind(), ErrorKind::WrongType, "{what}: {error}");
        for text in says {
            assert!(error.to_string().contains(text), "{what}: no {text:?} in: {error}");
        }
    }
}

#[track_caller]
fn accepted<A: Shareable + Default, B: Shareable + Default>(tag_a: Option<&str>, tag_b: Option<&str>) {
    let test_dir = TestDir::new();
    for (what, error) in open_as::<A, B>(&test_dir.names(), tag_a, tag_b) {
        assert!(error.is_none(), "{what}: {}", error.unwrap());
    }
}

#[test]
fn number_opened_as_another_of_same_size_is_refused_and_named() {
    refused::<f64, u64>(&["tagged \"f64\"", "expected", "tagged \"u64\""]);
    refused::<u64, f64>(&["tagged \"u64\"", "tagged \"f64\""]);
    refused::<u64, i64>(&["tagged \"u64\"", "tagged \"i64\""]);
    refused::<u8, i8>(&["tagged \"u8\"", "tagged \"i8\""]);
    refused::<u8, bool>(&["tagged \"u8\"", "tagged \"bool\""]);
    refused::<char, u32>(&["tagged \"char\"", "tagged \"u32\""]);
    refused::<u128, i128>(&["tagged \"u128\"", "tagged \"i128\""]);
}

#[test]
fn array_opened_as_another_of_same_size_is_refused_and_named() {
    refused::<[f32; 3], [u32; 3]>(&["tagged \"[f32;3]\"", "tagged \"[u32;3]\""]);
    refused::<[u16; 4], [[u16; 2]; 2]>(&[
        "tagged \"[u16;4]\"",
        "tagged 0x2cc5af2ea062d7fd",
        "which is \"[[u16;2];2]\"",
    ]);
    refused::<u32, [u32; 1]>(&["tagged \"u32\"", "tagged \"[u32;1]\""]);
}

mod ours {
    #[derive(Clone, Copy, Debug, Default, PartialEq, tombolo::Shareable)]
    #[repr(C)]
    pub struct Tick {
        pub price: f64,
        pub volume: u64,
    }
}

mod theirs {
    #[derive(Clone, Copy, Debug, Default, PartialEq, tombolo::Shareable)]
    #[repr(C)]
    pub struct Tick {
        pub price: f64,
        pub volume: u64,
    }
}

mod others {
    #[derive(Clone, Copy, Debug, Default, PartialEq, tombolo::Shareable)]
    #[repr(C)]
    pub struct Tick {
        pub volume: u64,
        pub price: f64,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq, tombolo::Shareable)]
    #[repr(C)]
    pub struct Trade {
        pub price: f64,
        pub volume: u64,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq, tombolo::Shareable)]
    #[repr(u8)]
    pub enum Side {
        #[default]
        Buy,
        Sell,
    }

    pub mod swapped {
        #[derive(Clone, Copy, Debug, Default, PartialEq, tombolo::Shareable)]
        #[repr(u8)]
        pub enum Side {
            #[default]
            Sell,
            Buy,
        }
    }
}

#[test]
fn struct_opened_as_another_of_same_size_is_refused_and_named() {
    refused::<others::Trade, ours::Tick>(&["which is \"Tick{price:f64,volume:u64}\""]);
    refused::<ours::Tick, others::Trade>(&["which is \"Trade{price:f64,volume:u64}\""]);
    refused::<ours::Tick, others::Tick>(&["which is \"Tick{volume:u64,price:f64}\""]);
    refused::<[u64; 2], ours::Tick>(&["tagged \"[u64;2]\"", "which is \"Tick{price:f64,volume:u64}\""]);
    refused::<others::Side, others::swapped::Side>(&["which is \"Side:u8{Sell=0,Buy=1}\""]);
}

#[test]
fn struct_of_same_name_and_fields_is_accepted_from_another_module() {
    accepted::<ours::Tick, theirs::Tick>(None, None);
}

#[test]
fn tag_of_zero_matches_any_type_of_same_size() {
    accepted::<f64, u64>(Some(""), None);
    accepted::<f64, u64>(None, Some(""));
    accepted::<others::Trade, ours::Tick>(Some(""), None);
    accepted::<u64, Untagged<f64>>(None, None);
    accepted::<Untagged<f64>, u64>(None, None);
    let test_dir = TestDir::new();
    for (what, error) in open_as::<u64, u32>(&test_dir.names(), Some(""), Some("")) {
        assert_eq!(error.unwrap_or_else(|| panic!("{what}: accepted")).kind(), ErrorKind::WrongType, "{what}");
    }
}

#[test]
fn type_tag_takes_the_place_of_the_type_name() {
    accepted::<others::Trade, ours::Tick>(Some("trade v1"), Some("trade v1"));
    let test_dir = TestDir::new();
    for (what, error) in open_as::<f64, f64>(&test_dir.names(), Some("metres"), None) {
        let error = error.unwrap_or_else(|| panic!("{what}: accepted"));
        assert!(error.to_string().contains("tagged \"metres\"") && error.to_string().contains("\"f64\""), "{error}");
    }
}

/// As docs/layout.md has them.
#[test]
fn tag_of_type_is_as_documented() {
    fn word<T: Shareable>() -> u64 {
        u64::from_le_bytes(T::SHAPE.tag())
    }
    let document = include_str!("../../docs/layout.md");
    for (text, tag) in [
        (u64::SHAPE.to_string(), word::<u64>()),
        (<[f32; 3]>::SHAPE.to_string(), word::<[f32; 3]>()),
        (<[u8; 4096]>::SHAPE.to_string(), word::<[u8; 4096]>()),
        (ours::Tick::SHAPE.to_string(), word::<ours::Tick>()),
        (others::Side::SHAPE.to_string(), word::<others::Side>()),
    ] {
        assert!(document.contains(&format!("| `{text}` | `{tag:#018x}` |")), "{text} {tag:#018x}");
    }
}
