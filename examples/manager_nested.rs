//! A dictionary of lists: its values refer to lists, one of which a worker creates while others use
//! the dictionary. No server keeps them: all processes have them in memory.
//!
//! ```sh
//! cargo run --example manager_nested
//! ```

use std::error::Error;
use std::process::id;

use tombolo::collections::{List, Map, list, map};
use tombolo::process::{self, Process};
use tombolo::{Namespace, OnStale, Reference, Spec};

/// Adds a grade to those of a student, which may be the first.
fn add_grade((namespace, student, grade): (Namespace, String, u64)) {
    let grades = namespace.open_or_create(&student, Spec::list(&list::Options::<u64>::new())).unwrap();
    grades.push(&grade).unwrap();
    let students: Map<str, Reference> = namespace.map("students").unwrap();
    students.insert(&student, &namespace.reference(&student).unwrap()).unwrap();
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    // A name that nobody else has. If a process of this number was killed, its objects go.
    let builder = Namespace::builder().on_stale(OnStale::Recreate);
    let namespace = builder.open(&format!("manager_nested-{}", id()))?;
    let students = namespace.create("students", Spec::map(&map::Options::<str, Reference>::new()))?;
    for (student, grade) in [("ann", 1), ("bob", 3), ("ann", 2)] {
        Process::spawn(add_grade, (namespace.clone(), student.to_string(), grade))?.join()?;
    }

    let mut entries = students.iter().collect::<Result<Vec<_>, _>>()?;
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (student, grades) in &entries {
        let grades: List<u64> = grades.open(&namespace)?;
        println!("{student}: {:?}", grades.to_vec()?);
    }
    Ok(())
}
