//! Pictures of 3 MB from a camera to an encoder and a preview, each a process. All use the pictures
//! where they lie. The encoder gets every picture, the preview skips to the newest one.
//!
//! ```sh
//! cargo run --release --example camera
//! ```

use std::{env, error::Error, process::Command, thread::sleep, time::Duration};
use tombolo::broadcast::{ByteSubscriber, Frames, Options};
use tombolo::spawn::{self, CommandExt};
use tombolo::{RecvError, SendError};
const PICTURE: usize = 1920 * 1080 * 3 / 2;
const PERIOD: Duration = Duration::from_millis(10);

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        None => camera(),
        Some("encoder") => viewer("encoder", PERIOD / 2, false),
        Some(_) => viewer("preview", 3 * PERIOD, true),
    }
}

fn camera() -> Result<(), Box<dyn Error>> {
    let (publisher, subscriber) = Options::bytes().frames(Frames::new(PICTURE)).create()?;
    let me = env::current_exe()?;
    let mut encoder = Command::new(&me).arg("encoder").pass("camera", subscriber)?.spawn()?;
    let mut preview = Command::new(&me).arg("preview").pass("camera", publisher.subscriber()?)?.spawn()?;
    // SAFETY: three processes of this program reach the broadcast, and use it by tombolo only.
    let mut publisher = unsafe { publisher.into_zero_copy()? };
    for number in 0..100 {
        match publisher.loan_timeout(PICTURE, PERIOD) {
            Ok(mut picture) => {
                picture.fill(number);
                picture.publish()?;
            }
            Err(SendError::TimedOut) => println!("dropped for {:?}", publisher.get_ref().slowest()),
            Err(error) => return Err(error.into()),
        }
        sleep(PERIOD);
    }
    drop(publisher); // the end of the stream
    if encoder.wait()?.success() && preview.wait()?.success() { Ok(()) } else { Err("a viewer failed".into()) }
}

fn viewer(name: &str, work: Duration, skips: bool) -> Result<(), Box<dyn Error>> {
    // SAFETY: as above.
    let mut subscriber = unsafe { spawn::take::<ByteSubscriber>("camera")?.into_zero_copy()? };
    let (mut seen, mut skipped) = (0, 0);
    loop {
        match subscriber.recv_frame() {
            Ok(_) if skips && !subscriber.get_ref().is_empty() => skipped += 1,
            Ok(picture) if picture[0] != picture[PICTURE - 1] => return Err("a torn picture".into()),
            Ok(_picture) => (seen, _) = (seen + 1, sleep(work)), // it stays as it is meanwhile
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("{name}: {seen} pictures, {skipped} skipped");
    Ok(())
}
