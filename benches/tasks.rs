//! What a wait without blocking costs: the round trip between two processes that both sleep, by
//! blocking calls, by futures and by a descriptor; and a process that only waits.
//!
//! Prints medians. The rows are measured in turn, several times.

use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tombolo::{RecvError, WaitStrategy, pipe};

const ROUNDS: usize = 3000;
const TURNS: usize = 5;
const ROWS: [&str; 3] = ["blocking", "futures", "readiness"];

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

fn options() -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).wait(WaitStrategy::Park)
}

struct Side {
    rx: pipe::Receiver<u64>,
    readiness: Option<tombolo::Readiness>,
    row: String,
}

impl Side {
    fn new(mut rx: pipe::Receiver<u64>, row: &str) -> Self {
        let readiness = (row == "readiness").then(|| rx.readiness().unwrap());
        Self { rx, readiness, row: row.to_string() }
    }

    fn receive(&mut self) -> Result<u64, RecvError> {
        if self.row == "futures" {
            return block_on(self.rx.recv_async());
        }
        let Some(readiness) = &self.readiness else { return self.rx.recv() };
        loop {
            match self.rx.try_recv() {
                Err(RecvError::Empty) => {
                    let mut poll = libc::pollfd { fd: readiness.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
                    // SAFETY: one entry.
                    unsafe { libc::poll(&raw mut poll, 1, -1) };
                }
                received => return received,
            }
        }
    }
}

fn start(row: &str, prefix: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["echo", row, prefix]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn echo(row: &str, prefix: &str) {
    let mut side = Side::new(options().receiver(&format!("{prefix}-there")).unwrap(), row);
    let mut tx = options().sender(&format!("{prefix}-back")).unwrap();
    std::io::stdout().write_all(b"r").unwrap();
    std::io::stdout().flush().unwrap();
    while let Ok(value) = side.receive() {
        tx.send(value).unwrap();
    }
}

/// The median round trip.
fn round_trip(row: &str) -> Duration {
    let prefix = format!("bench-tasks-{}", std::process::id());
    let mut child = start(row, &prefix);
    let mut tx = options().sender(&format!("{prefix}-there")).unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let mut side = Side::new(options().receiver(&format!("{prefix}-back")).unwrap(), row);
    let mut times: Vec<Duration> = (0..ROUNDS as u64)
        .map(|value| {
            let started = Instant::now();
            tx.send(value).unwrap();
            assert_eq!(side.receive(), Ok(value));
            started.elapsed()
        })
        .collect();
    drop(tx);
    child.wait().unwrap();
    times.sort();
    times[times.len() / 2]
}

fn cpu_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: fills it.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// What part of a core a process takes with 100 futures that are pending, in a single task.
fn idle() -> f64 {
    let mut pipes: Vec<_> = (0..100).map(|_| options().create().unwrap()).collect();
    let mut futures: Vec<_> = pipes.iter_mut().map(|(_, rx)| Box::pin(rx.recv_async())).collect();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut poll_all = |limit: Duration| {
        let (started, before) = (Instant::now(), cpu_time());
        while started.elapsed() < limit {
            for future in &mut futures {
                assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            thread::park_timeout(limit.saturating_sub(started.elapsed()));
        }
        (cpu_time() - before).as_secs_f64() / started.elapsed().as_secs_f64()
    };
    poll_all(Duration::from_secs(3));
    poll_all(Duration::from_secs(10))
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, role, row, prefix] = &arguments[..]
        && role == "echo"
    {
        return echo(row, prefix);
    }
    let mut best = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (row, times) in ROWS.iter().zip(&mut best) {
            times.push(round_trip(row));
        }
    }
    for times in &mut best {
        times.sort();
    }
    for (row, times) in ROWS.iter().zip(&best) {
        let ratio = times[TURNS / 2].as_secs_f64() / best[0][TURNS / 2].as_secs_f64();
        println!("{row}: {:?} a round trip, both parked, {ratio:.2} times blocking {times:?}", times[TURNS / 2]);
    }
    println!("100 pending futures: {:.3} % of a core", 100.0 * idle());
}
