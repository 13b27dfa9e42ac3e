//! A pipe that sends and receives at both ends. When a child has ended, its parent is told so.
//!
//! ```sh
//! cargo run --example duplex_hello
//! ```

use std::error::Error;

use tombolo::RecvError;
use tombolo::pipe::{self, BytePipe};
use tombolo::process::{self, Process};

/// A number, perhaps another one, and a text.
type Answer = (u32, Option<u32>, String);

fn answer(mut parent: BytePipe) -> Result<(), Box<dyn Error>> {
    println!("Processed: {}", parent.recv_object::<String>()?);
    parent.send_object::<Answer>(&(42, None, "hello".to_string()))?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let (mut ours, theirs) = pipe::Options::bytes().create_duplex()?;
    let worker = Process::spawn(answer, theirs)?;
    ours.send_object("Hello from main process")?;
    println!("Answer: {:?}", ours.recv_object::<Answer>()?);
    worker.join()?;
    if ours.recv_object::<Answer>() == Err(RecvError::Closed) {
        println!("the other side has gone");
    }
    Ok(())
}
