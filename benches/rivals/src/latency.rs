//! Time stamps that two processes share, and their distribution.

use hdrhistogram::Histogram;

/// Returns `CLOCK_MONOTONIC` in nanoseconds, which other processes can use, unlike an `Instant`.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub struct Latency(Histogram<u64>);

impl Latency {
    pub fn new() -> Self {
        Self(Histogram::new(3).expect("three digits are supported"))
    }

    pub fn record(&mut self, nanos: u64) {
        self.0 += nanos;
    }

    pub fn quantile(&self, q: f64) -> u64 {
        self.0.value_at_quantile(q)
    }
}
