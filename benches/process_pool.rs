//! What a job costs in a pool of processes, in one of threads, and in Python's
//! `multiprocessing.Pool` if there is a `python3`.
//!
//! Each runs `map` over small jobs, with the same number of workers and the same chunks. Prints the
//! median of several rounds, and the ratio to the pool of processes.

use std::error::Error;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::process::{self, ProcessPool, pool};

const JOBS: u64 = 10_000;
const ROUNDS: usize = 9;
/// As Python chooses them for two workers, and one job at a time.
const CHUNKS: [usize; 2] = [250, 1];

fn square(number: u64) -> u64 {
    number * number
}

fn expected() -> impl Iterator<Item = u64> {
    (0..JOBS).map(square)
}

fn measure(mut round: impl FnMut()) -> Duration {
    round();
    let mut times = [(); ROUNDS].map(|()| {
        let began = Instant::now();
        round();
        began.elapsed()
    });
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn with_processes(pool: &ProcessPool, chunk: usize) -> Duration {
    measure(|| assert!(pool.map(square, 0..JOBS).chunk_size(chunk).map(Result::unwrap).eq(expected())))
}

/// The lower bound: the same work by threads, which share the memory, with channels of std.
fn with_threads(workers: usize, chunk: usize) -> Duration {
    let (jobs, queue) = mpsc::channel::<Vec<u64>>();
    let (done, results) = mpsc::channel::<Vec<u64>>();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..workers {
            let (queue, done) = (&queue, done.clone());
            scope.spawn(move || {
                loop {
                    let Ok(chunk) = queue.lock().unwrap().recv() else { return };
                    done.send(chunk.into_iter().map(square).collect()).unwrap();
                }
            });
        }
        let time = measure(|| {
            let mut chunks = 0;
            for start in (0..JOBS).step_by(chunk) {
                jobs.send((start..JOBS.min(start + chunk as u64)).collect()).unwrap();
                chunks += 1;
            }
            let mut squares: Vec<u64> = results.iter().take(chunks).flatten().collect();
            squares.sort_unstable();
            assert!(squares.into_iter().eq(expected()));
        });
        drop(jobs);
        time
    })
}

fn with_python(workers: usize, chunk: usize) -> Option<Duration> {
    let program = "import sys, time
from multiprocessing import Pool
def square(number):
    return number * number
if __name__ == '__main__':
    workers, chunk, jobs, rounds = map(int, sys.argv[1:])
    with Pool(workers) as pool:
        times = []
        for _ in range(rounds + 1):
            began = time.monotonic()
            assert pool.map(square, range(jobs), chunk) == [square(number) for number in range(jobs)]
            times.append(time.monotonic() - began)
    print(int(sorted(times[1:])[rounds // 2] * 1e9))";
    let numbers = [workers, chunk, JOBS as usize, ROUNDS].map(|number| number.to_string());
    let output = Command::new("python3").args(["-c", program]).args(numbers).stderr(Stdio::inherit()).output().ok()?;
    Some(Duration::from_nanos(String::from_utf8(output.stdout).ok()?.trim().parse().ok()?))
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();
    let workers = thread::available_parallelism()?.get();
    let pool = pool::Builder::new().processes(workers).build()?;
    println!("{JOBS} jobs, {workers} workers, median of {ROUNDS}");
    for chunk in CHUNKS {
        let own = with_processes(&pool, chunk);
        let print = |name: &str, time: Option<Duration>| match time {
            None => println!("chunks of {chunk:3}, {name:9}: not there"),
            Some(time) => println!(
                "chunks of {chunk:3}, {name:9}: {:9.2?}, {:6.0} ns a job, {:5.2} times the pool of processes",
                time,
                time.as_nanos() as f64 / JOBS as f64,
                time.as_secs_f64() / own.as_secs_f64()
            ),
        };
        print("processes", Some(own));
        print("threads", Some(with_threads(workers, chunk)));
        print("python", with_python(workers, chunk));
    }
    pool.join()?;
    Ok(())
}
