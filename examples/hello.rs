//! A process and its child say hello, over a pipe that nobody else can reach.
//!
//! ```sh
//! cargo run --example hello
//! ```

use std::env;
use std::error::Error;
use std::process::{self, Command};

use tombolo::pipe::BytePipe;
use tombolo::spawn::{self, CommandExt};

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("child") { child() } else { parent() }
}

fn parent() -> Result<(), Box<dyn Error>> {
    let (mut ours, theirs) = tombolo::pipe::Options::bytes().create_duplex()?;
    let mut child = Command::new(env::current_exe()?).arg("child").pass("parent", theirs)?.spawn()?;

    ours.send(format!("hello from the parent, {}", process::id()).as_bytes())?;
    let mut message = Vec::new();
    // If the child died now, this would say so instead of waiting.
    ours.recv(&mut message)?;
    println!("the parent got: {}", String::from_utf8_lossy(&message));
    child.wait()?;
    Ok(())
}

fn child() -> Result<(), Box<dyn Error>> {
    let mut parent: BytePipe = spawn::take("parent")?;
    let mut message = Vec::new();
    parent.recv(&mut message)?;
    println!("the child got: {}", String::from_utf8_lossy(&message));
    parent.send(format!("hello from the child, {}", process::id()).as_bytes())?;
    Ok(())
}
