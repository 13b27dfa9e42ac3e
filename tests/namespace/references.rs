//! References: what they lead to, and what a dangling one returns.

use std::path::Path;

use tombolo::collections::{Map, map};
use tombolo::sync::{Array, AtomicValue, Event, Value};
use tombolo::{ErrorKind, Namespace, Reference, Spec, queue};

use crate::support::{TestDir, start};
use crate::{NAME, alone_with_directory, assert_error, builder, open};

#[test]
fn reference_stored_in_an_object_leads_to_another_one() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let mut orders = namespace.create("orders", Spec::queue::<u64>(4)).unwrap();
    namespace.create("price", Spec::value(1.5_f64)).unwrap();
    let names = ["orders", "price"].map(|name| namespace.reference(name).unwrap());
    let table: Array<Reference> = namespace.create("table", Spec::array(&names)).unwrap();
    namespace.create("root", Spec::value(namespace.reference("table").unwrap())).unwrap();
    orders.send(7).unwrap();
    drop(table);

    let other = open(&test_dir);
    let root: Reference = other.value("root").unwrap().load().unwrap();
    let table: Array<Reference> = root.open(&other).unwrap();
    let mut found: queue::Queue<u64> = table.get(0).unwrap().open(&other).unwrap();
    assert_eq!(found.recv(), Ok(7));
    assert_eq!(table.get(1).unwrap().open::<Value<f64>>(&other).unwrap().load(), Ok(1.5));
    assert_eq!(table.get(1).unwrap().name(), "price");
    assert_error(table.get(1).unwrap().open::<Event>(&other), ErrorKind::WrongType, &["price", "event"]);
}

#[test]
fn reference_to_removed_object_returns_removed() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let held = namespace.create("x", Spec::value(1_u64)).unwrap();
    let reference = namespace.reference("x").unwrap();
    assert_eq!(namespace.reference("x").unwrap(), reference);
    namespace.remove("x").unwrap();
    assert_error(reference.open::<Value<u64>>(&namespace), ErrorKind::Removed, &["\"x\"", "removed"]);

    namespace.create("x", Spec::value(2_u64)).unwrap();
    assert_error(reference.open::<Value<u64>>(&namespace), ErrorKind::Removed, &["\"x\"", "another object"]);
    let next = namespace.reference("x").unwrap();
    assert_ne!(next, reference);
    assert_eq!(next.open::<Value<u64>>(&namespace).unwrap().load(), Ok(2));
    assert_eq!(held.load(), Ok(1));
}

#[test]
fn reference_to_planned_object_leads_to_it() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = builder(&test_dir.names()).value("planned", 1_u64).open(NAME).unwrap();
    let reference = namespace.reference("planned").unwrap();
    assert_eq!(reference.open::<Value<u64>>(&namespace).unwrap().load(), Ok(1));
    assert_error(namespace.reference("x"), ErrorKind::NotFound, &["planned"]);
}

#[test]
fn reference_to_nothing_or_of_other_namespace_is_an_error() {
    let (_alone, test_dir) = alone_with_directory();
    let other_dir = TestDir::new();
    let namespace = open(&test_dir);
    let nothing = Reference::default();
    assert_eq!(nothing.name(), "");
    assert_error(nothing.open::<Event>(&namespace), ErrorKind::NotFound, &[]);

    namespace.create("x", Spec::event()).unwrap();
    let reference = namespace.reference("x").unwrap();
    let other = open(&other_dir);
    assert_error(reference.open::<Event>(&other), ErrorKind::Removed, &["\"x\""]);
    other.create("x", Spec::event()).unwrap();
    assert_error(reference.open::<Event>(&other), ErrorKind::Removed, &["\"x\""]);
    let damaged: Reference = reference_of_bits([u64::MAX; 9]);
    assert_error(damaged.open::<Event>(&namespace), ErrorKind::Removed, &[]);
}

/// A reference whose bits another process wrote.
fn reference_of_bits(bits: [u64; 9]) -> Reference {
    let value = Namespace::builder().value("bits", bits).type_tag("").create().unwrap();
    value.type_tag("").value("bits").unwrap().load().unwrap()
}

#[test]
fn reference_serialised_is_the_same() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    namespace.create("price", Spec::value(1.5_f64)).unwrap();
    let reference = namespace.reference("price").unwrap();
    let mut queue = namespace.create("queue", Spec::queue_bytes(4, 200)).unwrap();
    queue.send_object(&reference).unwrap();
    assert_eq!(queue.recv_object::<Reference>().unwrap(), reference);
}

#[test]
fn reference_to_planned_object_of_other_namespace_returns_removed() {
    let (_alone, test_dir) = alone_with_directory();
    let plan = || builder(&test_dir.names()).value("planned", 1_u64);
    let (first, other) = (plan().open(NAME).unwrap(), plan().open("other").unwrap());
    let reference = first.reference("planned").unwrap();
    assert_eq!(first.reference("planned").unwrap(), reference);
    assert_eq!(reference.open::<Value<u64>>(&open(&test_dir)).unwrap().load(), Ok(1));
    assert_error(reference.open::<Value<u64>>(&other), ErrorKind::Removed, &["planned", "another"]);
    drop(first);
    let successor = plan().open(NAME).unwrap();
    assert_error(reference.open::<Value<u64>>(&successor), ErrorKind::Removed, &["planned", "another"]);

    let unnamed = || Namespace::builder().value("planned", 1_u64).create().unwrap();
    let (first, other) = (unnamed(), unnamed());
    let reference = first.reference("planned").unwrap();
    let same = Namespace::from_fd(first.share().unwrap()).unwrap();
    assert_eq!(reference.open::<Value<u64>>(&same).unwrap().load(), Ok(1));
    assert_error(reference.open::<Value<u64>>(&other), ErrorKind::Removed, &["planned", "another"]);
}

pub fn follow_references(arguments: &[String]) {
    let namespace = builder(Path::new(&arguments[0])).must_exist().open(NAME).unwrap();
    let accounts: Map<str, Reference> = namespace.map("accounts").unwrap();
    for (name, reference) in accounts.iter().map(Result::unwrap) {
        assert_eq!(reference.name(), format!("account of {name}"));
        reference.open::<AtomicValue<u64>>(&namespace).unwrap().fetch_add(5);
    }
    // One that this process creates, in place of another.
    namespace.remove("account of bob").unwrap();
    namespace.create("account of bob", Spec::atomic(100_u64)).unwrap();
    let lists: Map<str, [u8]> = namespace.map("lists").unwrap();
    let members: Vec<(String, Reference)> = lists.get_object("members").unwrap().unwrap();
    for (name, reference) in members {
        let account = reference.open::<AtomicValue<u64>>(&namespace);
        match name.as_str() {
            "bob" => assert_error(account, ErrorKind::Removed, &["bob", "another object"]),
            _ => assert_eq!(account.unwrap().load(), 6),
        }
    }
    accounts.insert("bob", &namespace.reference("account of bob").unwrap()).unwrap();
}

#[test]
fn reference_in_values_of_a_map_leads_other_processes_to_objects() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let options = map::Options::<str, Reference>::new().max_entries(10);
    let accounts = namespace.create("accounts", Spec::map(&options)).unwrap();
    let mut members = Vec::new();
    for name in ["alice", "bob"] {
        let object = format!("account of {name}");
        namespace.create(&object, Spec::atomic(1_u64)).unwrap();
        let reference = namespace.reference(&object).unwrap();
        accounts.insert(name, &reference).unwrap();
        members.push((name.to_string(), reference));
    }
    let options = map::Options::<str, [u8]>::new().entries(map::Entries { count: 10, bytes: 1000 });
    let lists = namespace.create("lists", Spec::map(&options)).unwrap();
    lists.insert_object("members", &members).unwrap();
    start("follow_references", &[test_dir.names().to_str().unwrap()]).finish();

    let account = |name| accounts.get(name).unwrap().unwrap().open::<AtomicValue<u64>>(&namespace).unwrap();
    assert_eq!((account("alice").load(), account("bob").load()), (6, 100));
    assert_error(members[1].1.open::<AtomicValue<u64>>(&namespace), ErrorKind::Removed, &["bob"]);
    drop((lists, accounts, namespace));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}
