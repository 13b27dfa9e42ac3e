//! One producer, four workers, results back; a worker that is killed costs nothing but the time of
//! its job.
//!
//! ```sh
//! cargo run --example work_queue    # kills some of its own workers; kill -9 others as you like
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use tombolo::RecvError;
use tombolo::queue;
use tombolo::spawn::{self, CommandExt};

/// Looks for numbers whose Collatz sequences are long, slowly.
type Job = u64;
/// The job, and the steps it took.
type Answer = [u64; 2];

const JOBS: u64 = 2000;
const WORKERS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("work") { work() } else { produce() }
}

fn work() -> Result<(), Box<dyn Error>> {
    let mut jobs: queue::Receiver<Job> = spawn::take("jobs")?;
    let mut answers: queue::Sender<Answer> = spawn::take("answers")?;
    for job in &mut jobs {
        let job = job?;
        let steps = std::iter::successors(Some(job), |n| Some(if n % 2 == 0 { n / 2 } else { 3 * n + 1 }));
        let steps = steps.take_while(|&n| n != 1).count() as u64;
        std::thread::sleep(Duration::from_millis(1));
        answers.send([job, steps])?;
    }
    Ok(()) // the producer has left
}

fn produce() -> Result<(), Box<dyn Error>> {
    let (mut jobs, for_workers) = queue::Options::<Job>::new().create_channel()?;
    let (from_workers, mut answers) = queue::Options::<Answer>::new().create_channel()?;
    let start = || -> Result<Child, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let spawner = command.arg("work").pass("jobs", for_workers.try_clone()?)?;
        Ok(spawner.pass("answers", from_workers.try_clone()?)?.spawn()?)
    };
    let mut workers = (0..WORKERS).map(|_| start()).collect::<Result<Vec<_>, _>>()?;
    let mut to_send: Vec<Job> = (1..=JOBS).collect();
    let mut open: BTreeSet<Job> = to_send.iter().copied().collect();
    let (mut longest, mut killed) = ([0, 0], 0);
    while !open.is_empty() {
        let sent = jobs.try_send_many(&to_send).unwrap_or(0); // full: another time
        to_send.drain(..sent);
        match answers.recv_timeout(Duration::from_millis(10)) {
            Ok(answer) if open.remove(&answer[0]) => longest = longest.max([answer[1], answer[0]]),
            Ok(_) | Err(RecvError::TimedOut) => {} // answered before its worker died
            Err(error) => return Err(error.into()),
        }
        if open.len() as u64 == JOBS / 2 && killed == 0 {
            workers[0].kill()?; // SIGKILL, in the middle of whatever it does
        }
        for worker in &mut workers {
            if worker.try_wait()?.is_some() {
                println!("worker {} died: another one starts, and what is not answered is sent again", worker.id());
                *worker = start()?;
                killed += 1;
                to_send = open.iter().copied().collect();
            }
        }
    }
    jobs.close()?;
    workers.iter_mut().try_for_each(|worker| worker.wait().map(drop))?;
    println!("{JOBS} jobs done, {killed} workers lost; {} takes {} steps", longest[1], longest[0]);
    Ok(())
}
