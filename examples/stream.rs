//! Standard input to standard output through another process, as streams of bytes.
//!
//! ```sh
//! cargo run --example stream < Cargo.toml
//! ```

use std::env;
use std::error::Error;
use std::io;
use std::process::Command;

use tombolo::pipe;
use tombolo::spawn::{self, CommandExt};

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("reader") { reader() } else { writer() }
}

fn writer() -> Result<(), Box<dyn Error>> {
    let (tx, theirs) = pipe::Options::bytes().create()?;
    let mut child = Command::new(env::current_exe()?).arg("reader").pass("bytes", theirs)?.spawn()?;

    let mut writer = pipe::io::Writer::new(tx);
    let count = io::copy(&mut io::stdin(), &mut writer)?;
    drop(writer); // the end of the stream
    if !child.wait()?.success() {
        return Err("the reader failed".into());
    }
    eprintln!("{count} bytes");
    Ok(())
}

fn reader() -> Result<(), Box<dyn Error>> {
    // Should the writer die, this is an error; only if it leaves is it the end.
    let mut reader = pipe::io::Reader::new(spawn::take("bytes")?);
    io::copy(&mut reader, &mut io::stdout())?;
    Ok(())
}
