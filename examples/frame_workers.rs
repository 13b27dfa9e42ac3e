//! Video frames of 3 MiB to four workers, which read them in place; the results in order. A worker
//! is killed, and what it may have had is sent again: `cargo run --release --example frame_workers`

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use tombolo::queue::{self, Blocks, ZeroCopyByteSender};
use tombolo::spawn::{self, CommandExt};
use tombolo::{RecvError, SendError};

const FRAMES: u64 = 200;
const WORKERS: usize = 4;
/// Frames that are queued or being worked on.
const WINDOW: u64 = 2 * WORKERS as u64;
/// Full HD, 12 bits a pixel. All of the window may be sent again, and one is drawn.
const BLOCKS: Blocks = Blocks { count: 2 * WINDOW as usize + 1, bytes: 1920 * 1080 * 3 / 2 };

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("work") { work() } else { produce() }
}

fn work() -> Result<(), Box<dyn Error>> {
    let frames: queue::ByteReceiver = spawn::take("frames")?;
    let mut answers: queue::Sender<[u64; 2]> = spawn::take("answers")?;
    // SAFETY: the parent and its workers run this program, and use the region through tombolo only.
    let mut frames = unsafe { frames.into_zero_copy()? };
    while let Ok(frame) = frames.recv_frame() {
        let (number, pixels) = frame.split_first_chunk().ok_or("a frame without a number")?;
        let sum: u64 = pixels.iter().map(|&pixel| u64::from(pixel)).sum();
        answers.send([u64::from_le_bytes(*number), sum / pixels.len() as u64])?;
    }
    Ok(())
}

fn draw(frames: &mut ZeroCopyByteSender, number: u64) -> Result<(), SendError> {
    let mut frame = frames.loan(BLOCKS.bytes)?;
    frame.fill(number as u8);
    frame[..8].copy_from_slice(&number.to_le_bytes());
    frame.send()
}

fn produce() -> Result<(), Box<dyn Error>> {
    let options = queue::Options::bytes().capacity(BLOCKS.count).blocks(BLOCKS).max_message_bytes(BLOCKS.bytes);
    let (frames, work) = options.prefault().create_channel()?;
    // SAFETY: as above.
    let mut frames = unsafe { frames.into_zero_copy()? };
    let mut answers = queue::Options::<[u64; 2]>::new().create()?; // a frame's number, and how bright it is
    let start = |answers: &queue::Queue<[u64; 2]>| -> Result<Child, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let spawner = command.arg("work").pass("frames", work.try_clone()?)?;
        Ok(spawner.pass("answers", answers.sender()?)?.spawn()?)
    };
    let mut workers = (0..WORKERS).map(|_| start(&answers)).collect::<Result<Vec<_>, _>>()?;
    let (mut early, mut next, mut sent) = (BTreeMap::new(), 0, 0); // early: before an earlier frame's
    while next < FRAMES {
        while sent < FRAMES.min(next + WINDOW) {
            draw(&mut frames, sent)?;
            sent += 1;
            if sent == FRAMES / 2 {
                workers[0].kill()?; // SIGKILL, most likely with a frame
            }
        }
        match answers.recv_timeout(Duration::from_millis(10)) {
            Ok([number, brightness]) => _ = early.insert(number, brightness),
            Err(RecvError::TimedOut | RecvError::PeerDied) => {} // all workers died: new ones come
            Err(error) => return Err(error.into()),
        }
        while let Some(brightness) = early.remove(&next) {
            assert_eq!(brightness, next % 256, "frame {next}");
            next += 1;
        }
        for worker in &mut workers {
            if worker.try_wait()?.is_some() {
                *worker = start(&answers)?;
                let open: Vec<u64> = (next..sent).filter(|number| !early.contains_key(number)).collect();
                println!("a worker died: another one starts, and frames {open:?} are sent again");
                open.into_iter().try_for_each(|number| draw(&mut frames, number))?;
            }
        }
    }
    drop((frames, work)); // the end of the stream
    workers.iter_mut().try_for_each(|worker| worker.wait().map(drop))?;
    println!("{next} results in order");
    Ok(())
}
