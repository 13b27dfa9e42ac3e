//! A producer, any number of workers, results back. Kill and start workers as you like: each job is
//! done.
//!
//! ```sh
//! cargo run --example work_queue work    # in as many terminals as you like
//! cargo run --example work_queue         # in another
//! ```

use std::collections::BTreeSet;
use std::error::Error;

use tombolo::queue::{self, JoinError};

/// Fewer than the queue of results can hold: it is emptied when all jobs are done.
const JOBS: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("work") { work() } else { produce() }
}

fn work() -> Result<(), Box<dyn Error>> {
    let mut jobs = queue::Options::<u64>::new().receiver("jobs")?;
    let mut results = queue::Options::<[u64; 2]>::new().sender("results")?;
    for job in jobs.tasks() {
        let job = job?;
        let primes = (2..job).filter(|n| (2..*n).all(|divisor| n % divisor != 0)).count();
        results.send([job, primes as u64])?;
    }
    Ok(())
}

fn produce() -> Result<(), Box<dyn Error>> {
    // The other halves stay here: so both queues go on while there is no worker.
    let (mut jobs, _waiting) = queue::Options::<u64>::new().open("jobs")?.split();
    let (_open, mut results) = queue::Options::<[u64; 2]>::new().open("results")?.split();
    let mut missing: BTreeSet<u64> = (1..=JOBS).collect();
    while !missing.is_empty() {
        missing.iter().try_for_each(|job| jobs.send(job))?;
        match jobs.join() {
            Err(error @ JoinError::TasksLost { .. }) => println!("{error}"), // they are sent again
            joined => joined?,
        }
        for result in results.try_iter() {
            let [job, primes] = result?;
            if missing.remove(&job) {
                println!("there are {primes} primes below {job}");
            }
        }
    }
    Ok(())
}
