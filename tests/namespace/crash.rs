//! A process is killed after each step of a creation or a removal.

use std::fs;
use std::path::Path;

use tombolo::{Directory, ErrorKind, Namespace, Spec};

use crate::sweep::{NAME, sweep, sweep_stopping};
use crate::{builder, object_files};

fn open(names: &Path) -> Namespace {
    builder(names).open(NAME).unwrap()
}

/// The victim must not leave as it ends.
fn leaked(names: &Path) -> &'static Namespace {
    Box::leak(Box::new(open(names)))
}

#[test]
fn namespace_creator_killed_at_every_step_name_is_whole_or_free() {
    let counts = sweep(
        open,
        |names| {
            let namespace = leaked(names);
            move || std::mem::forget(namespace.create("x", Spec::value([7_u64; 9])).unwrap())
        },
        |names, survivor| {
            let files = object_files(names).len();
            assert_eq!(survivor.names().unwrap().len(), files, "a file that nobody finds");
            let value = survivor.open_or_create("x", Spec::value([7_u64; 9])).unwrap();
            assert_eq!(value.load(), Ok([7; 9]));
            survivor.remove("x").unwrap();
            survivor.create("x", Spec::event()).unwrap();
        },
    );
    counts.covers(15, 1);
}

#[test]
fn namespace_remover_killed_at_every_step_object_is_there_or_gone() {
    let counts = sweep(
        |names| {
            let survivor = open(names);
            survivor.create("x", Spec::value(1_u64)).unwrap();
            survivor
        },
        |names| {
            let namespace = leaked(names);
            move || namespace.remove("x").unwrap()
        },
        |names, survivor| {
            let reference = survivor.reference("x");
            // Half removed, it is removed by the next one that opens it.
            let found = survivor.value::<u64>("x").is_ok();
            assert_eq!(found, reference.is_ok());
            assert_eq!(object_files(names).len(), usize::from(found));
            survivor.open_or_create("x", Spec::value(1_u64)).unwrap();
            survivor.remove("x").unwrap();
            survivor.create("x", Spec::value(2_u64)).unwrap();
        },
    );
    counts.covers(5, 0);
}

#[test]
fn namespace_last_one_killed_at_every_step_of_leaving_next_one_removes_the_rest() {
    let counts = sweep(
        |_| (),
        |names| {
            let namespace = open(names);
            for name in ["x", "y", "z"] {
                namespace.create(name, Spec::event()).unwrap();
            }
            move || drop(namespace)
        },
        |names, ()| {
            let next = open(names);
            let left = next.names().unwrap();
            assert_eq!(left.len(), object_files(names).len());
            next.open_or_create("x", Spec::event()).unwrap();
        },
    );
    counts.covers(10, 1);
}

#[test]
fn namespace_removed_by_force_while_creator_is_stopped_nothing_stays() {
    let counts = sweep_stopping(
        |names| {
            let survivor = open(names);
            survivor.create("y", Spec::event()).unwrap();
            survivor
        },
        |names| {
            let namespace = leaked(names);
            move || match namespace.create("x", Spec::event()) {
                Ok(event) => std::mem::forget(event),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NameRemoved, "{error}"),
            }
        },
        |names, survivor| {
            let held = survivor.event("y").unwrap();
            Directory::at(names).unlink(NAME, true).unwrap();
            held.set().unwrap();
        },
        |names, survivor| {
            // If the victim ended before the point, the name is still there.
            Directory::at(names)
                .unlink(NAME, true)
                .or_else(|error| match error.kind() {
                    ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })
                .unwrap();
            assert!(survivor.create("z", Spec::event()).is_err_and(|error| error.kind() == ErrorKind::NameRemoved));
            assert_eq!(fs::read_dir(names).unwrap().count(), 0);
        },
    );
    counts.covers(15, 0);
}
