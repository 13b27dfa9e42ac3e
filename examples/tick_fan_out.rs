//! Ticks at full rate to three strategies, of which one is killed and one is stopped, while a
//! fourth joins late and is given the last price of 500 symbols in one call:
//! `cargo run --release --example tick_fan_out`

use std::error::Error;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tombolo::broadcast::{Options, Policy, Publisher, Subscriber};
use tombolo::spawn::{self, CommandExt};
use tombolo::{RecvError, SendError, Shareable};

const SYMBOLS: usize = 500;

#[derive(Clone, Copy, Shareable)]
#[repr(C)]
struct Tick {
    number: u64,
    price: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    std::env::args().nth(1).map_or_else(publish, |name| follow(&name))
}

fn publish() -> Result<(), Box<dyn Error>> {
    // Prices do not wait. A strategy that is too slow is told so, and gets the latest prices.
    let options = Options::<Tick>::new().keys(SYMBOLS).capacity(1 << 15).policy(Policy::Lossy);
    let mut publisher = options.create()?.0;
    let (steady, mut killed) = (start("steady", &publisher)?, start("killed", &publisher)?);
    let stopped = start("stopped", &publisher)?;
    let mut count = run(&mut publisher, 0)?;
    killed.kill()?;
    let signal = |signal: &str| Command::new("kill").args([signal, &stopped.id().to_string()]).status();
    signal("-STOP")?;
    count = run(&mut publisher, count)?;
    let late = start("late", &publisher)?;
    count = run(&mut publisher, count)?;
    signal("-CONT")?;
    count = run(&mut publisher, count)?;
    drop(publisher); // the strategies receive the rest, and end
    let waits = [steady, late, stopped].map(|mut strategy| strategy.wait());
    assert!(waits.into_iter().all(|status| status.is_ok_and(|status| status.success())), "something is wrong");
    println!("publisher: {} ticks without waiting for anybody", count * SYMBOLS as u64);
    Ok(())
}

/// Publishes for a while. Returns the number that each symbol has then.
fn run(publisher: &mut Publisher<Tick>, mut number: u64) -> Result<u64, SendError> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(100) {
        (0..SYMBOLS).try_for_each(|symbol| publisher.publish_key(symbol, tick(symbol, number)))?;
        number += 1;
    }
    Ok(number)
}

fn tick(symbol: usize, number: u64) -> Tick {
    Tick { number, price: 100.0 + symbol as f64 + number as f64 / 1024.0 }
}

fn start(name: &str, publisher: &Publisher<Tick>) -> Result<Child, Box<dyn Error>> {
    Ok(Command::new(std::env::current_exe()?).arg(name).pass("ticks", publisher.subscriber()?)?.spawn()?)
}

fn follow(name: &str) -> Result<(), Box<dyn Error>> {
    let mut ticks: Subscriber<Tick> = spawn::take("ticks")?;
    let (mut next, mut count, mut lags) = ([0; SYMBOLS], 0, 0);
    let first = last_prices(&mut ticks, &mut next)?;
    loop {
        match ticks.recv_key() {
            Ok((symbol, Tick { number, price })) => {
                assert!(number == next[symbol] && price == tick(symbol, number).price, "a gap or a repetition");
                (next[symbol], count) = (number + 1, count + 1);
            }
            Err(RecvError::Lagged { .. }) => (_, lags) = (last_prices(&mut ticks, &mut next)?, lags + 1),
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    assert_eq!(next, [next[0]; SYMBOLS], "not the last price of each symbol");
    println!("{name}: began with {first} prices, received {count} ticks, was too slow {lags} times");
    Ok(())
}

/// The last price of each symbol. What is received then comes behind it.
fn last_prices(ticks: &mut Subscriber<Tick>, next: &mut [u64; SYMBOLS]) -> Result<usize, RecvError> {
    let snapshot = ticks.snapshot()?;
    snapshot.iter().for_each(|last| next[last.key] = last.value.number + 1);
    Ok(snapshot.len())
}
