//! Four workers, of which a semaphore lets two at a time do their work.
//!
//! ```sh
//! cargo run --example semaphore_of_two
//! ```

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use tombolo::process::{self, Process};
use tombolo::sync::{AtomicValue, BoundedSemaphore, SyncError};

type Counter = AtomicValue<u32>;

fn work((semaphore, inside, most): (BoundedSemaphore, Counter, Counter)) -> Result<(), SyncError> {
    let _permit = semaphore.acquire()?; // released at the end, also if this process is killed
    most.fetch_max(inside.fetch_add(1) + 1);
    println!("Processing");
    sleep(Duration::from_millis(50));
    inside.fetch_sub(1);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let semaphore = BoundedSemaphore::new(2)?;
    let (inside, most) = (Counter::new(0)?, Counter::new(0)?);
    let workers = (0..4).map(|_| Process::spawn(work, (semaphore.clone(), inside.clone(), most.clone())));
    for worker in workers.collect::<Result<Vec<_>, _>>()? {
        worker.join()?;
    }
    println!("never more than two: {}", most.load() <= 2);
    Ok(())
}
