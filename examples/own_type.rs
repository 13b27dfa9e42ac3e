//! A type of your own in shared memory, with tombolo as the only dependency.
//!
//! ```sh
//! cargo run --example own_type
//! ```

use tombolo::sync::Value;
use tombolo::{Shareable, pipe};

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(u8)]
enum Side {
    Bid,
    Ask,
}

/// `reserved` is in the place of padding.
#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(C)]
struct Quote {
    price: f64,
    volume: u32,
    side: Side,
    reserved: [u8; 3],
}

impl Quote {
    fn new(price: f64, volume: u32, side: Side) -> Self {
        Self { price, volume, side, reserved: [0; 3] }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut tx, mut rx) = pipe::Options::<Quote>::new().create()?;
    tx.send(Quote::new(101.25, 300, Side::Bid))?;
    println!("received {:?}", rx.recv()?);

    let last = Value::new(Quote::new(101.5, 100, Side::Ask))?;
    last.update(|quote| quote.volume -= 40)?;
    println!("the last quote is {:?}", last.load()?);
    Ok(())
}
