//! One producer, four workers, results back; the jobs of a worker that is killed are sent again.
//!
//! ```sh
//! cargo run --example work_queue    # kills one of its own workers; kill -9 others as you like
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use tombolo::queue::{self, JoinError};
use tombolo::spawn::{self, CommandExt};

/// Looks for numbers whose Collatz sequences are long, slowly.
type Job = u64;
/// The job, and the steps it took.
type Answer = [u64; 2];

const JOBS: usize = 2000;
const WORKERS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("work") { work() } else { produce() }
}

fn work() -> Result<(), Box<dyn Error>> {
    let mut jobs: queue::Receiver<Job> = spawn::take("jobs")?;
    let mut answers: queue::Sender<Answer> = spawn::take("answers")?;
    while let Ok(job) = jobs.recv() {
        let steps = std::iter::successors(Some(job), |n| Some(if n % 2 == 0 { n / 2 } else { 3 * n + 1 }));
        let steps = steps.take_while(|&n| n != 1).count() as u64;
        std::thread::sleep(Duration::from_millis(1));
        answers.send([job, steps])?;
        jobs.task_done()?;
    }
    Ok(()) // the producer has left
}

fn produce() -> Result<(), Box<dyn Error>> {
    let mut jobs = queue::Options::<Job>::new().capacity(JOBS).create()?.split().0;
    // Room for all of them: they are received only when all jobs are done.
    let mut answers = queue::Options::<Answer>::new().capacity(2 * JOBS).create()?;
    let start = |jobs: &queue::Sender<Job>, answers: &queue::Queue<Answer>| -> Result<Child, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let spawner = command.arg("work").pass("jobs", jobs.receiver()?)?;
        Ok(spawner.pass("answers", answers.sender()?)?.spawn()?)
    };
    let mut workers = (0..WORKERS).map(|_| start(&jobs, &answers)).collect::<Result<Vec<_>, _>>()?;
    let mut open: BTreeSet<Job> = (1..=JOBS as u64).collect();
    open.iter().try_for_each(|job| jobs.send(job))?;
    let mut longest = [0, 0];
    std::thread::sleep(Duration::from_millis(100));
    workers[0].kill()?; // SIGKILL, in the middle of a job
    loop {
        let joined = jobs.join();
        while let Ok([job, steps]) = answers.try_recv() {
            open.remove(&job);
            longest = longest.max([steps, job]);
        }
        for worker in &mut workers {
            if joined.is_err() && worker.try_wait()?.is_some() {
                println!("worker {} died: another one starts", worker.id());
                *worker = start(&jobs, &answers)?;
            }
        }
        match joined {
            Ok(()) => break,
            Err(JoinError::TasksLost { count }) => {
                println!("{count} jobs were lost: what is not answered is sent again");
                open.iter().try_for_each(|job| jobs.send(job))?;
            }
            Err(JoinError::PeerDied) => {} // all workers: the new ones receive what is queued
            Err(error) => return Err(error.into()),
        }
    }
    drop(jobs);
    workers.iter_mut().try_for_each(|worker| worker.wait().map(drop))?;
    println!("{JOBS} jobs done, {} left; {} takes {} steps", open.len(), longest[1], longest[0]);
    Ok(())
}
