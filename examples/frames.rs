//! Video frames of 3 MiB that are drawn in the ring by one process and looked at there by another:
//! no copies.
//!
//! ```sh
//! cargo run --release --example frames
//! ```

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::Instant;

use tombolo::RecvError;
use tombolo::pipe::{self, ByteReceiver};
use tombolo::spawn::{self, CommandExt};

/// Full HD, 12 bits a pixel.
const FRAME: usize = 1920 * 1080 * 3 / 2;
const FRAMES: u32 = 120;

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("screen") { screen() } else { camera() }
}

fn camera() -> Result<(), Box<dyn Error>> {
    // A message in place takes half the ring at most; this one holds ten.
    let (tx, theirs) = pipe::Options::bytes().capacity_bytes(10 * FRAME).prefault().create()?;
    let mut child = Command::new(env::current_exe()?).arg("screen").pass("frames", theirs)?.spawn()?;

    // SAFETY: only this process and its child, which runs this program, can reach the region, and
    // this program touches it through tombolo only. A process that may trace them could break this;
    // such processes are trusted here.
    let mut tx = unsafe { tx.into_zero_copy() };
    for number in 0..FRAMES {
        let mut frame = tx.reserve(FRAME)?;
        frame.fill(number as u8);
        frame.commit(FRAME);
    }
    drop(tx); // the end of the stream
    child.wait()?;
    Ok(())
}

fn screen() -> Result<(), Box<dyn Error>> {
    let rx: ByteReceiver = spawn::take("frames")?;
    // SAFETY: as above; the parent runs this program.
    let mut rx = unsafe { rx.into_zero_copy() };
    let start = Instant::now();
    for number in 0.. {
        match rx.peek() {
            Ok(frame) if frame.iter().all(|&byte| byte == number as u8) => frame.release(),
            Ok(_) => return Err(format!("frame {number} is damaged").into()),
            Err(RecvError::Closed) => {
                println!("{number} frames in {:?}", start.elapsed());
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
