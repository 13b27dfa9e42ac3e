//! What the two processes exchange, from the point of view of each side.
//!
//! 1. A file. Its length comes first; the remote side answers with what arrived.
//! 2. A stream of small messages, up to one that ends it. The remote side answers as above.
//! 3. Round trips, up to one that ends them.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use xxhash_rust::xxh3::Xxh3Default as Xxh3;

use super::MESSAGE_LEN;
use super::transport::{Local, Packet, Remote};

/// What to exchange.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub file: &'a [u8],
    /// How often to send the file.
    pub times: u64,
    pub messages: u64,
    pub round_trips: u64,
}

impl Job<'_> {
    pub fn bytes(&self) -> u64 {
        self.file.len() as u64 * self.times
    }
}

/// What was measured, and whether everything arrived.
pub struct Outcome {
    pub file_time: Duration,
    /// The number of messages sent: fewer than asked for if the time was up.
    pub messages: u64,
    pub messages_time: Duration,
    /// In nanoseconds.
    pub round_trips: Histogram<u64>,
    /// What did not arrive as it was sent, one sentence each.
    pub problems: Vec<String>,
}

/// The stream of small messages and the round trips end after this time, even if incomplete.
const TIME_LIMIT: Duration = Duration::from_millis(2500);

/// Messages between two reads of the clock.
const MESSAGES_PER_CHECK: u64 = 1024;

/// Longer latencies are recorded as this one, in nanoseconds.
const MAX_LATENCY: u64 = 60_000_000_000;

/// The index of the packet that ends a stream.
const END: u64 = u64::MAX;

/// Round trips before the timed ones, so that both sides are awake and their caches warm.
const WARM_UP: u64 = 1000;

/// Returns the small message with this index: eight different words that both sides can compute.
#[inline]
fn packet(index: u64) -> Packet {
    let seed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = |at: u32| seed.rotate_left(8 * at) ^ u64::from(at);
    [index, word(1), word(2), word(3), word(4), word(5), word(6), word(7)]
}

/// Sends, times and reports.
pub fn run_local(peer: &mut impl Local, job: &Job) -> io::Result<Outcome> {
    let mut problems = Vec::new();

    let started = Instant::now();
    peer.send(&[job.bytes(), 0, 0, 0, 0, 0, 0, 0])?;
    for _ in 0..job.times {
        job.file.chunks(MESSAGE_LEN).try_for_each(|message| peer.send_file(message))?;
    }
    let [arrived, checksum, ..] = peer.recv()?;
    let file_time = started.elapsed();
    let mut hash = Xxh3::new();
    (0..job.times).for_each(|_| hash.update(job.file));
    if (arrived, checksum) != (job.bytes(), hash.digest()) {
        problems.push(format!(
            "file: {arrived} bytes with checksum {checksum:016x} arrived, {} with {:016x} were sent",
            job.bytes(),
            hash.digest()
        ));
    }

    let started = Instant::now();
    let mut messages = 0;
    while messages < job.messages && (messages % MESSAGES_PER_CHECK != 0 || started.elapsed() < TIME_LIMIT) {
        peer.send_value(&packet(messages))?;
        messages += 1;
    }
    peer.send_value(&packet(END))?;
    let [arrived, intact, ..] = peer.recv()?;
    let messages_time = started.elapsed();
    if (arrived, intact) != (messages, messages) {
        problems.push(format!("messages: {messages} were sent, {arrived} arrived, {intact} of them intact"));
    }

    let mut round_trips = histogram();
    let mut trip = 0;
    let mut wrong_answers = 0;
    let started = Instant::now();
    while trip < WARM_UP + job.round_trips && (trip % MESSAGES_PER_CHECK != 0 || started.elapsed() < TIME_LIMIT) {
        let question = packet(trip);
        let asked = Instant::now();
        peer.send(&question)?;
        let answer = peer.recv()?;
        let nanos = asked.elapsed().as_nanos();
        wrong_answers += u64::from(answer != question);
        if trip >= WARM_UP {
            round_trips.saturating_record(u64::try_from(nanos).unwrap_or(MAX_LATENCY));
        }
        trip += 1;
    }
    peer.send(&packet(END))?;
    let _ = peer.recv()?;
    if wrong_answers > 0 {
        problems.push(format!("round trips: {wrong_answers} of {trip} answers differ from their questions"));
    }

    Ok(Outcome { file_time, messages, messages_time, round_trips, problems })
}

/// Receives, checks and answers.
pub fn run_remote(peer: &mut impl Remote) -> io::Result<()> {
    let [length, ..] = peer.recv()?;
    let mut buffer = vec![0; MESSAGE_LEN];
    let mut hash = Xxh3::new();
    let mut arrived = 0;
    while arrived < length {
        // A Unix pipe has no messages: do not read beyond the end of the file.
        let rest = usize::try_from(length - arrived).unwrap_or(MESSAGE_LEN).min(MESSAGE_LEN);
        let count = peer.recv_file(&mut buffer[..rest])?;
        hash.update(&buffer[..count]);
        arrived += count as u64;
    }
    peer.send(&[arrived, hash.digest(), 0, 0, 0, 0, 0, 0])?;

    let mut arrived = 0;
    let mut intact = 0;
    loop {
        let value = peer.recv_value()?;
        if value == packet(END) {
            break;
        }
        intact += u64::from(value == packet(arrived));
        arrived += 1;
    }
    peer.send(&[arrived, intact, 0, 0, 0, 0, 0, 0])?;

    loop {
        let question = peer.recv()?;
        peer.send(&question)?;
        if question == packet(END) {
            return Ok(());
        }
    }
}

/// Records with three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}
