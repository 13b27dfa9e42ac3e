//! What the operations on a list cost, with elements of 8 and 64 bytes; and changes by several
//! threads of a process at once. Rounds of all rows take turns, so that whatever else the machine
//! does is shared. Prints nanoseconds for each operation, the median of all rounds.
//!
//! `cargo bench --bench list [-- ROUNDS]`

use std::borrow::Borrow;
use std::env;
use std::error::Error;
use std::hint::black_box;
use std::thread;
use std::time::Instant;

use tombolo::collections::{Element, List, ListError, list};

const LENGTH: usize = 10_000;
/// Operations of a round, and of one by several threads.
const OPERATIONS: usize = 100;
const MANY: usize = 8000;
const DEFAULT_ROUNDS: usize = 1000;
const THREADS: [usize; 4] = [1, 2, 4, 8];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A row of the table: its name, the operations of a round, and a round.
type Row = (String, usize, Box<dyn Fn() -> std::result::Result<(), ListError>>);

/// The next of some positions that are far from each other.
fn position(operation: usize) -> usize {
    operation * 7919 % (LENGTH - 1)
}

fn rows<E: Element + ?Sized + 'static>(what: &str, element: E::Owned, options: &list::Options<E>) -> Result<Vec<Row>>
where
    E::Owned: Clone + 'static,
{
    let list = List::new(&options.clone().max_length(LENGTH + 1))?;
    for _ in 0..LENGTH {
        list.push(element.borrow())?;
    }
    let mut rows = Vec::<Row>::new();
    let mut row = |name: &str, operation: fn(&List<E>, usize, &E) -> std::result::Result<(), ListError>| {
        let (list, element) = (list.clone(), element.clone());
        let round = move || (0..OPERATIONS).try_for_each(|nth| operation(&list, nth, black_box(element.borrow())));
        rows.push((format!("{what}: {name}"), OPERATIONS, Box::new(round)));
    };
    row("get", |list, nth, _| {
        black_box(list.get(position(nth))?);
        Ok(())
    });
    row("set", |list, nth, element| list.set(position(nth), element));
    row("push, pop", |list, _, element| {
        list.push(element)?;
        black_box(list.pop()?);
        Ok(())
    });
    row("insert, remove in the middle", |list, _, element| {
        list.insert(LENGTH / 2, element)?;
        black_box(list.remove(LENGTH / 2)?);
        Ok(())
    });
    row("range, of each element", |list, nth, _| {
        if nth == 0 {
            black_box(list.range(..OPERATIONS)?);
        }
        Ok(())
    });
    Ok(rows)
}

/// Each thread replaces elements of its own. It replaces so many that its start does not count.
fn contended() -> Result<Vec<Row>> {
    let list = List::new(&list::Options::<u64>::new().max_length(LENGTH))?;
    list.extend_from_slice(&[0; LENGTH])?;
    let row = |threads: usize| -> Row {
        let list = list.clone();
        let round = move || {
            thread::scope(|scope| {
                let list = &list;
                let change = |own: usize| (0..MANY / threads).try_for_each(|nth| list.set(own * 1000 + nth % 1000, &1));
                let others: Vec<_> = (0..threads).map(|own| scope.spawn(move || change(own))).collect();
                others.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(ListError::Corrupt)))
            })
        };
        (format!("8 bytes: set, {threads} threads"), MANY, Box::new(round))
    };
    Ok(THREADS.map(row).into())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<()> {
    let rounds = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(DEFAULT_ROUNDS);
    let text = "x".repeat(64);
    let mut all = rows::<u64>("8 bytes", 7, &list::Options::new())?;
    all.extend(rows::<[u64; 8]>("64 bytes", [7; 8], &list::Options::new())?);
    all.extend(rows::<str>("text of 64 bytes", text, &list::Options::new().max_element_bytes(64))?);
    all.extend(contended()?);
    let mut times = vec![Vec::new(); all.len()];
    for _ in 0..rounds {
        for ((_, operations, round), times) in all.iter().zip(&mut times) {
            let began = Instant::now();
            round()?;
            times.push(began.elapsed().as_secs_f64() * 1e9 / *operations as f64);
        }
    }
    println!("a list of {LENGTH} elements, {rounds} rounds, ns for each operation:");
    for ((name, ..), times) in all.iter().zip(times) {
        println!("{:10.0}  {name}", median(times));
    }
    Ok(())
}
