//! A value that one process stores and any number of others watch. Readers never wait for writers.
//!
//! ```sh
//! cargo run --example value          # in as many terminals as you like: prints each change
//! cargo run --example value 21.5     # in another: stores
//! ```

use std::error::Error;
use std::time::Duration;

use tombolo::sync::{SyncError, Value};

fn main() -> Result<(), Box<dyn Error>> {
    // The first process creates it, and the last one removes it.
    let temperature = Value::open_or_create("temperature", 0.0_f64)?;
    if let Some(argument) = std::env::args().nth(1) {
        return Ok(temperature.store(&argument.parse()?)?);
    }
    println!("{}", temperature.load()?);
    loop {
        match temperature.wait_for_change(Duration::from_secs(60)) {
            Ok(degrees) => println!("{degrees}"),
            Err(SyncError::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
