//! What a queue that redelivers costs, beside one that does not: sending, and receiving with
//! `task_done`. Rounds of both take turns in one thread, so that whatever else the machine does is
//! shared. Prints nanoseconds for each message, the median of all rounds.
//!
//! `cargo bench --bench redelivery [-- ROUNDS]`

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use tombolo::queue::{self, OnDeath};

/// Messages of a round: a short queue, as one is with workers that keep up.
const MESSAGES: usize = 16;
const DEFAULT_ROUNDS: usize = 40_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Seconds to send the messages of a round, and to receive and finish them.
type Times = (f64, f64);

/// A round of one queue.
type Round = Box<dyn FnMut() -> Result<Times>>;

fn timed(mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    (0..MESSAGES).try_for_each(|_| operation())?;
    Ok(began.elapsed().as_secs_f64())
}

fn values(on_death: OnDeath) -> Result<Round> {
    let (mut tx, mut rx) = queue::Options::<u64>::new().on_death(on_death).create_channel()?;
    Ok(Box::new(move || {
        let sent = timed(|| Ok(tx.send(black_box(7))?))?;
        let received = timed(|| {
            black_box(rx.recv()?);
            Ok(rx.task_done()?)
        })?;
        Ok((sent, received))
    }))
}

fn bytes(on_death: OnDeath, length: usize) -> Result<Round> {
    let (mut tx, mut rx) = queue::Options::bytes().on_death(on_death).create_channel()?;
    let (sent_message, mut message) = (vec![7; length], Vec::new());
    Ok(Box::new(move || {
        let sent = timed(|| Ok(tx.send(black_box(&sent_message))?))?;
        let received = timed(|| {
            black_box(rx.recv(&mut message)?);
            Ok(rx.task_done()?)
        })?;
        Ok((sent, received))
    }))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).map_or(0.0, |time| time * 1e9 / MESSAGES as f64)
}

fn compare(what: &str, rounds: usize, mut plain: Round, mut redelivering: Round) -> Result<()> {
    let (mut plain_times, mut redelivering_times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain_times.push(plain()?);
        redelivering_times.push(redelivering()?);
    }
    for (half, is_send) in [("send", true), ("recv + task_done", false)] {
        let of = |times: &Times| if is_send { times.0 } else { times.1 };
        let nanos = |times: &[Times]| median(times.iter().map(of).collect());
        let (plain, redelivering) = (nanos(&plain_times), nanos(&redelivering_times));
        let ratio = redelivering / plain;
        println!("{what:12} {half:16} {plain:7.1} ns, redelivering {redelivering:7.1} ns: {ratio:.2} times");
    }
    Ok(())
}

fn main() -> Result<()> {
    let rounds = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(DEFAULT_ROUNDS);
    let modes = [OnDeath::Lose, OnDeath::Redeliver { times: 3 }];
    let [plain, redelivering] = modes.map(values);
    compare("u64", rounds, plain?, redelivering?)?;
    for length in [64, 1024] {
        let [plain, redelivering] = modes.map(|on_death| bytes(on_death, length));
        compare(&format!("{length} bytes"), rounds, plain?, redelivering?)?;
    }
    Ok(())
}
