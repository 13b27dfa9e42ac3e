//! A worker changes a number and an array that it shares with its parent. Then the parent changes
//! them, and another worker looks.
//!
//! ```sh
//! cargo run --example value_array
//! ```

use std::error::Error;
use std::f32::consts::PI;

use tombolo::process::{self, Process};
use tombolo::sync::{Array, Event, SyncError, Value};

fn change((number, array): (Value<f32>, Array<i32>)) -> Result<(), SyncError> {
    number.store(&PI)?;
    for index in 0..array.len() {
        array.set(index, -array.get(index)?)?;
    }
    Ok(())
}

fn look((number, array, changed): (Value<f32>, Array<i32>, Event)) -> Result<(), SyncError> {
    changed.wait()?;
    println!("Processed: {:?} {:?}", number.load()?, &array.to_vec()?[..3]);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let number = Value::new(0.0)?;
    let array = Array::new(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])?;
    Process::spawn(change, (number.clone(), array.clone()))?.join()?;
    println!("{}", number.load()?);
    println!("{:?}", array.to_vec()?);

    let changed = Event::new()?;
    let worker = Process::spawn(look, (number.clone(), array.clone(), changed.clone()))?;
    number.store(&42.0)?;
    array.set(0, 99)?;
    changed.set()?;
    worker.join()?;
    Ok(())
}
