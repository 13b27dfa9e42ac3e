//! Ticks from a publisher to a subscriber that meet by name. Start them in any order, stop and
//! restart either.
//!
//! ```sh
//! cargo run --example market_data publish
//! cargo run --example market_data subscribe    # in another terminal
//! ```

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use tombolo::{SendError, Shareable, pipe};

#[derive(Clone, Copy, Shareable)]
#[repr(C)]
struct Tick {
    /// In nanoseconds since 1970.
    time: u64,
    price: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = pipe::Options::<Tick>::new().capacity(16);
    match std::env::args().nth(1).as_deref() {
        Some("publish") => publish(&options),
        Some("subscribe") => subscribe(&options),
        _ => Err("say publish or subscribe".into()),
    }
}

fn publish(options: &pipe::Options<Tick>) -> Result<(), Box<dyn Error>> {
    let mut tx = options.sender("market-data")?;
    for step in 0_u32.. {
        let tick = Tick { time: now()?, price: 100.0 + f64::from(step % 100) / 8.0 };
        match tx.try_send(tick) {
            // Prices do not wait: without a subscriber they are dropped, once the ring is full of
            // them.
            Ok(()) | Err(SendError::Full | SendError::Closed | SendError::PeerDied) => {}
            Err(error) => return Err(error.into()),
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn subscribe(options: &pipe::Options<Tick>) -> Result<(), Box<dyn Error>> {
    // When a publisher ends, the endpoint stays ours, and goes on with the next publisher.
    let mut rx = options.clone().wait_for_successor().receiver("market-data")?;
    for tick in rx.iter() {
        let tick = tick?;
        println!("{:.3}, {} µs ago", tick.price, now()?.saturating_sub(tick.time) / 1000);
    }
    Ok(())
}

fn now() -> Result<u64, Box<dyn Error>> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos().try_into()?)
}
