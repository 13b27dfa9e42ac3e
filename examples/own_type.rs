//! A type of your own in shared memory, with tombolo as the only dependency.
//!
//! ```sh
//! cargo run --example own_type
//! ```

use tombolo::sync::Value;
use tombolo::{Pod, Zeroable, pipe};

/// Every bit pattern is a value: no `bool`, no `enum`, no pointer. No padding: `reserved` fills it.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[bytemuck(crate = "tombolo::bytemuck")] // where the derive finds bytemuck
#[repr(C)]
struct Quote {
    price: f64,
    volume: u32,
    side: u8,
    reserved: [u8; 3],
}

impl Quote {
    const BID: u8 = 0;
    const ASK: u8 = 1;

    fn new(price: f64, volume: u32, side: u8) -> Self {
        Self { price, volume, side, reserved: [0; 3] }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut tx, mut rx) = pipe::Options::<Quote>::new().create()?;
    tx.send(Quote::new(101.25, 300, Quote::BID))?;
    println!("received {:?}", rx.recv()?);

    let last = Value::new(Quote::new(101.5, 100, Quote::ASK))?;
    last.update(|quote| quote.volume -= 40)?;
    println!("the last quote is {:?}", last.load()?);
    Ok(())
}
