//! The three things that the processes do together, as each side does them.
//!
//! Both sides go through the same steps: a file, announced by its length and answered by what arrived; a stream of
//! small messages up to one that ends it, answered likewise; round trips up to one that ends them.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use xxhash_rust::xxh3::Xxh3Default as Xxh3;

use super::MESSAGE_LEN;
use super::transport::{Far, Near, Packet};

/// What is to be done.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub file: &'a [u8],
    /// How often the file goes across.
    pub times: u64,
    pub messages: u64,
    pub round_trips: u64,
}

impl Job<'_> {
    pub fn bytes(&self) -> u64 {
        self.file.len() as u64 * self.times
    }
}

/// How it went.
pub struct Outcome {
    pub file_time: Duration,
    /// What was sent, since the time was up on a slow machine.
    pub messages: u64,
    pub messages_time: Duration,
    /// Nanoseconds.
    pub round_trips: Histogram<u64>,
    /// What did not arrive as it was sent, one sentence each.
    pub wrong: Vec<String>,
}

/// Streams of small messages and round trips end by then, however many there should have been.
const BUDGET: Duration = Duration::from_millis(2500);

/// Messages between two looks at the clock.
const ROUND: u64 = 1024;

/// The longest latency that is told apart from longer ones.
const LATENCY_MAX: u64 = 60_000_000_000;

/// Index of the packet after the last.
const END: u64 = u64::MAX;

/// Before the round trips that are timed, so that both sides are awake and warm.
const WARM_UP: u64 = 1000;

/// The small message of that index: eight words, all different, all known to both sides.
#[inline]
fn packet(index: u64) -> Packet {
    let seed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = |at: u32| seed.rotate_left(8 * at) ^ u64::from(at);
    [index, word(1), word(2), word(3), word(4), word(5), word(6), word(7)]
}

pub fn near(far: &mut impl Near, job: &Job) -> io::Result<Outcome> {
    let mut wrong = Vec::new();

    let started = Instant::now();
    far.send(&[job.bytes(), 0, 0, 0, 0, 0, 0, 0])?;
    for _ in 0..job.times {
        job.file.chunks(MESSAGE_LEN).try_for_each(|message| far.send_file(message))?;
    }
    let [arrived, checksum, ..] = far.recv()?;
    let file_time = started.elapsed();
    let mut hash = Xxh3::new();
    (0..job.times).for_each(|_| hash.update(job.file));
    if (arrived, checksum) != (job.bytes(), hash.digest()) {
        wrong.push(format!(
            "file: {arrived} bytes with checksum {checksum:016x} arrived, {} with {:016x} were sent",
            job.bytes(),
            hash.digest()
        ));
    }

    let started = Instant::now();
    let mut messages = 0;
    while messages < job.messages && (messages % ROUND != 0 || started.elapsed() < BUDGET) {
        far.send_value(&packet(messages))?;
        messages += 1;
    }
    far.send_value(&packet(END))?;
    let [arrived, intact, ..] = far.recv()?;
    let messages_time = started.elapsed();
    if (arrived, intact) != (messages, messages) {
        wrong.push(format!("messages: {messages} were sent, {arrived} arrived, {intact} of them intact"));
    }

    let mut round_trips = histogram();
    let mut trip = 0;
    let mut differing = 0;
    let started = Instant::now();
    while trip < WARM_UP + job.round_trips && (trip % ROUND != 0 || started.elapsed() < BUDGET) {
        let question = packet(trip);
        let asked = Instant::now();
        far.send(&question)?;
        let answer = far.recv()?;
        let nanos = asked.elapsed().as_nanos();
        differing += u64::from(answer != question);
        if trip >= WARM_UP {
            round_trips.saturating_record(u64::try_from(nanos).unwrap_or(LATENCY_MAX));
        }
        trip += 1;
    }
    far.send(&packet(END))?;
    let _ = far.recv()?;
    if differing > 0 {
        wrong.push(format!("round trips: {differing} of {trip} answers differ from their questions"));
    }

    Ok(Outcome { file_time, messages, messages_time, round_trips, wrong })
}

pub fn far(near: &mut impl Far) -> io::Result<()> {
    let [length, ..] = near.recv()?;
    let mut buffer = vec![0; MESSAGE_LEN];
    let mut hash = Xxh3::new();
    let mut arrived = 0;
    while arrived < length {
        // A pipe knows no messages: what comes after the file must stay in it.
        let rest = usize::try_from(length - arrived).unwrap_or(MESSAGE_LEN).min(MESSAGE_LEN);
        let count = near.recv_file(&mut buffer[..rest])?;
        hash.update(&buffer[..count]);
        arrived += count as u64;
    }
    near.send(&[arrived, hash.digest(), 0, 0, 0, 0, 0, 0])?;

    let mut arrived = 0;
    let mut intact = 0;
    loop {
        let value = near.recv_value()?;
        if value == packet(END) {
            break;
        }
        intact += u64::from(value == packet(arrived));
        arrived += 1;
    }
    near.send(&[arrived, intact, 0, 0, 0, 0, 0, 0])?;

    loop {
        let question = near.recv()?;
        near.send(&question)?;
        if question == packet(END) {
            return Ok(());
        }
    }
}

/// Three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}
