//! A producer, any number of workers, results back. Kill and start workers as you like: each job is
//! done.
//!
//! ```sh
//! cargo run --example work_queue work    # in as many terminals as you like
//! cargo run --example work_queue         # in another
//! ```

use std::collections::BTreeMap;
use std::error::Error;

use tombolo::queue::{self, OnDeath};

const JOBS: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("work") { work() } else { produce() }
}

/// A job whose worker dies before it is done goes to another one.
fn jobs() -> queue::Options<u64> {
    queue::Options::new().on_death(OnDeath::Redeliver { times: 100 })
}

/// A job that was done twice has two results: room for those, as they are received at the end.
fn results() -> queue::Options<[u64; 2]> {
    queue::Options::new().capacity(2 * JOBS)
}

fn work() -> Result<(), Box<dyn Error>> {
    let mut jobs = jobs().receiver("jobs")?;
    let mut results = results().sender("results")?;
    for job in jobs.tasks() {
        let job = job?;
        let primes = (2..job).filter(|n| (2..*n).all(|divisor| n % divisor != 0)).count();
        results.send([job, primes as u64])?;
    }
    Ok(())
}

fn produce() -> Result<(), Box<dyn Error>> {
    // The other halves stay here: so both queues go on while there is no worker.
    let (mut jobs, _waiting) = jobs().open("jobs")?.split();
    let (_open, mut results) = results().open("results")?.split();
    (1..=JOBS as u64).try_for_each(|job| jobs.send(job))?;
    jobs.join()?;
    let mut primes_below = BTreeMap::new();
    for result in results.try_iter() {
        let [job, primes] = result?;
        primes_below.insert(job, primes);
    }
    for (job, primes) in primes_below {
        println!("there are {primes} primes below {job}");
    }
    Ok(())
}
