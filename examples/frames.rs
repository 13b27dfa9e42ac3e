//! Video frames of 3 MiB that are drawn in the ring by one process and looked at there by another:
//! no copies, and no side waits longer for the other than it can afford.
//!
//! ```sh
//! cargo run --release --example frames
//! ```

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use tombolo::pipe::{self, ByteReceiver};
use tombolo::spawn::{self, CommandExt};
use tombolo::{RecvError, SendError};

/// Full HD, 12 bits a pixel.
const FRAME: usize = 1920 * 1080 * 3 / 2;
const FRAMES: u32 = 120;

/// The time from one frame to the next.
const PERIOD: Duration = Duration::from_millis(40);

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
    let mut dropped = 0;
    for number in 0..FRAMES {
        match tx.reserve_timeout(FRAME, PERIOD) {
            Ok(mut frame) => {
                frame.fill(number as u8);
                frame.commit(FRAME);
            }
            Err(SendError::TimedOut) => dropped += 1, // the screen is late, and the next frame is due
            Err(error) => return Err(error.into()),
        }
    }
    drop(tx); // the end of the stream
    child.wait()?;
    println!("{dropped} frames were dropped");
    Ok(())
}

fn screen() -> Result<(), Box<dyn Error>> {
    let rx: ByteReceiver = spawn::take("frames")?;
    // SAFETY: as above; the parent runs this program.
    let mut rx = unsafe { rx.into_zero_copy() };
    let start = Instant::now();
    let mut shown = 0;
    loop {
        match rx.peek_timeout(10 * PERIOD) {
            Ok(frame) if frame.iter().all(|byte| Some(byte) == frame.first()) => {
                shown += 1;
                frame.release();
            }
            Ok(_) => return Err(format!("frame {shown} is damaged").into()),
            Err(RecvError::TimedOut) => println!("the camera is late"), // show the last frame again
            Err(RecvError::Closed) => {
                println!("{shown} frames in {:?}", start.elapsed());
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}
