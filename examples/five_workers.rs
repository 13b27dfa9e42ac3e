//! Five processes run at once, each with a number of its own.
//!
//! ```sh
//! cargo run --example five_workers
//! ```

use std::error::Error;

use tombolo::process::{self, Process};

fn work(number: u32) {
    println!("Worker: {number}");
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let workers = (0..5).map(|number| Process::spawn(work, number));
    for worker in workers.collect::<Result<Vec<_>, _>>()? {
        worker.join()?;
    }
    Ok(())
}
