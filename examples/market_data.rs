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

use tombolo::{Pod, RecvError, SendError, Zeroable, pipe};

#[derive(Clone, Copy, Pod, Zeroable)]
#[bytemuck(crate = "tombolo::bytemuck")]
#[repr(C)]
struct Tick {
    /// In nanoseconds since 1970.
    time: u64,
    price: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    // The tag keeps out programs that mean something else by sixteen bytes.
    let options = pipe::Options::<Tick>::new().capacity(16).type_tag("tick v1");
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
    let mut rx = options.receiver("market-data")?;
    loop {
        match rx.recv() {
            Ok(tick) => println!("{:.3}, {} µs ago", tick.price, now()?.saturating_sub(tick.time) / 1000),
            // The endpoint stays ours. Another publisher may come.
            Err(RecvError::Closed | RecvError::PeerDied) => sleep(Duration::from_millis(100)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn now() -> Result<u64, Box<dyn Error>> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos().try_into()?)
}
