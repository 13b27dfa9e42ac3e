//! A process fills a queue and ends. Another one takes what is there.
//!
//! ```sh
//! cargo run --example queue_writer_reader
//! ```

use std::error::Error;

use tombolo::process::{self, Process};
use tombolo::queue::{self, ByteReceiver, ByteSender};
use tombolo::{RecvError, SendError};

fn write(mut tx: ByteSender) -> Result<(), SendError> {
    for message in ["message1", "message2", "message3"] {
        tx.send(message)?;
    }
    Ok(())
}

fn read(mut rx: ByteReceiver) -> Result<(), RecvError> {
    for message in rx.try_iter() {
        println!("Message received: {}", String::from_utf8_lossy(&message?));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let (tx, rx) = queue::Options::bytes().create_channel()?;
    Process::spawn(write, tx)?.join()?;
    Process::spawn(read, rx)?.join()?;
    Ok(())
}
