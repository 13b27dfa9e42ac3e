//! Messages through pipes: from one child to another, and from a child to its parent.
//!
//! ```sh
//! cargo run --example pipe_sender_receiver
//! ```

use std::error::Error;

use serde::Serialize;
use tombolo::pipe::{self, ByteReceiver, ByteSender};
use tombolo::process::{self, Process};
use tombolo::{RecvError, SendError};

fn send<T: Serialize>((mut tx, message): (ByteSender, T)) -> Result<(), SendError> {
    tx.send_object(&message)
}

fn receive(mut rx: ByteReceiver) -> Result<(), RecvError> {
    println!("Message received: {}", rx.recv_object::<String>()?);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let (tx, rx) = pipe::Options::bytes().create()?;
    let sender = Process::spawn(send, (tx, "Hello, receiver!".to_string()))?;
    let receiver = Process::spawn(receive, rx)?;
    sender.join()?;
    receiver.join()?;

    let (tx, mut rx) = pipe::Options::bytes().create()?;
    let sender = Process::spawn(send, (tx, vec!["hello".to_string(), "world".to_string()]))?;
    println!("{:?}", rx.recv_object::<Vec<String>>()?);
    sender.join()?;
    Ok(())
}
