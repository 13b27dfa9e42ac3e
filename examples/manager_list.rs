//! A list of records: one process appends to it, another prints it. No server keeps it: all of them
//! have it in memory.
//!
//! ```sh
//! cargo run --example manager_list
//! ```

use std::error::Error;

use tombolo::Shareable;
use tombolo::collections::{List, list};
use tombolo::process::{self, Process};

#[derive(Clone, Copy, Shareable)]
#[repr(C)]
struct Record {
    name: [u8; 16],
    score: u32,
}

impl Record {
    /// The name has 16 bytes at most. Zeros fill the rest.
    fn new(text: &str, score: u32) -> Self {
        let mut name = [0; 16];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Self { name, score }
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(&self.name).trim_end_matches('\0').to_string()
    }
}

fn insert_record(records: List<Record>) {
    records.push(&Record::new("English", 3)).unwrap();
    println!("A New record is added");
}

fn print_records(records: List<Record>) {
    for record in records.iter().unwrap() {
        println!("Name: {}, Score: {}", record.name(), record.score);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let records = List::new(&list::Options::<Record>::new())?;
    records.extend_from_slice(&[Record::new("Computers", 1), Record::new("History", 5), Record::new("Hindi", 9)])?;
    Process::spawn(insert_record, records.clone())?.join()?;
    Process::spawn(print_records, records)?.join()?;
    Ok(())
}
