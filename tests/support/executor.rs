//! Executors, one of a few lines among them, and what tests of futures do with them.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::fs;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::support::{Random, TestDir, until};

/// Wakes by unparking a thread, and counts.
pub struct Unpark {
    thread: Thread,
    pub count: AtomicU64,
}

impl Unpark {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), count: AtomicU64::new(0) })
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Panics when it wakes, with something that panics when it is dropped. Takes a lot of stack.
#[derive(Default)]
pub struct Panicking(pub AtomicU64);

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        struct PanicsWhenDropped;

        impl Drop for PanicsWhenDropped {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }

        std::hint::black_box([0_u8; 512 << 10]);
        self.0.fetch_add(1, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new(PanicsWhenDropped));
    }
}

/// From here on no sleep of this process ends by itself, so a wake-up that is missing is a test that
/// hangs.
pub fn endless() -> TestDir {
    tombolo::test_hooks::disable_liveness_interval();
    TestDir::new()
}

/// The executor of a few lines.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Unpark::new());
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

pub fn poll<F: Future>(future: Pin<&mut F>, unpark: &Arc<Unpark>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(unpark))))
}

/// Drops futures at any point.
pub struct Canceller {
    random: Random,
    unpark: Arc<Unpark>,
}

impl Canceller {
    pub fn new() -> Self {
        Self { random: Random(7), unpark: Unpark::new() }
    }

    /// Drops a future before it was polled, while it waits, after it was woken, or when it is ready.
    /// Returns what it was then.
    pub fn run<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let count = || self.unpark.count.load(Ordering::SeqCst);
        let before = count();
        let mut future = pin!(future);
        let point = self.random.below(4);
        if point == 0 {
            return None;
        }
        loop {
            match poll(future.as_mut(), &self.unpark) {
                Poll::Ready(done) => return Some(done),
                Poll::Pending if point == 1 => return None,
                Poll::Pending => until(|| count() > before),
            }
            if point == 2 {
                return None;
            }
        }
    }
}

/// A task and two threads take something in a loop that one of them can have at a time, until each
/// has had it 100 times.
pub fn all_get_their_turn<G, H>(take: impl Fn() -> G + Sync, take_async: impl AsyncFn() -> H) {
    let turns: [AtomicU64; 3] = Default::default();
    let is_done = || turns.iter().all(|count| count.load(Ordering::SeqCst) >= 100);
    thread::scope(|scope| {
        for count in &turns[1..] {
            scope.spawn(|| {
                while !is_done() {
                    let _taken = take();
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        block_on(async {
            while !is_done() {
                let _taken = take_async().await;
                turns[0].fetch_add(1, Ordering::SeqCst);
            }
        });
    });
}

/// The executor of tokio, in one thread.
pub fn tokio_block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The executor of smol, in one thread.
pub fn smol_block_on<T>(future: impl Future<Output = T>) -> T {
    futures_lite::future::block_on(async_executor::LocalExecutor::new().run(future))
}

/// Whether the thread that waits for the tasks of this process is asleep. It is awake from a
/// registration until it sleeps for that, too.
pub fn waiter_thread_sleeps() -> bool {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats.filter(|stat| stat.contains("(tombolo-wait)")).any(|stat| stat.contains(") S "))
}
