//! Waiting for three feed handlers and a timer at once. One of the handlers is killed.
//!
//! ```sh
//! cargo run --example select_pipes
//! ```

use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use tombolo::select::{Selector, Source, Timer};
use tombolo::spawn::{self, CommandExt};
use tombolo::{RecvError, pipe};

const FEEDS: u64 = 3;
const PRICES: u64 = 100;

/// A child: sends the prices of one feed.
fn handle_feed(feed: u64) -> Result<(), Box<dyn Error>> {
    let mut tx: pipe::Sender<u64> = spawn::take("prices")?;
    for price in 0..PRICES {
        tx.send(price)?;
        thread::sleep(Duration::from_micros(100 * (feed + 1)));
    }
    if feed == 0 {
        thread::sleep(Duration::MAX); // until it is killed
    }
    Ok(())
}

fn start(feed: u64) -> Result<(Child, pipe::Receiver<u64>), Box<dyn Error>> {
    let (tx, rx) = pipe::Options::<u64>::new().create()?;
    let mut command = Command::new(env::current_exe()?);
    command.arg(feed.to_string());
    Ok((command.pass("prices", tx)?.spawn()?, rx))
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(feed) = env::args().nth(1) {
        return handle_feed(feed.parse()?);
    }
    let (mut children, mut feeds): (Vec<_>, Vec<_>) =
        (0..FEEDS).map(start).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let mut names: Vec<u64> = (0..FEEDS).collect();
    let mut received = vec![0; FEEDS as usize];
    let mut status = Timer::every(Duration::from_millis(5));
    let mut selector = Selector::new();
    let mut statuses = 0;

    while !feeds.is_empty() {
        let mut sources: Vec<&mut dyn Source> = feeds.iter_mut().map(|feed| feed as &mut dyn Source).collect();
        sources.push(&mut status);
        let found = selector.wait(&mut sources)?;
        let Some(feed) = feeds.get_mut(found) else {
            statuses += status.take();
            continue;
        };
        match feed.try_recv() {
            Ok(_) => {
                let name = names[found] as usize;
                received[name] += 1;
                if name == 0 && received[name] == PRICES {
                    children[0].kill()?;
                }
            }
            Err(RecvError::Empty) => {}
            // The source would stay ready: leave it out from now on.
            Err(end) => {
                let end = if end == RecvError::PeerDied { "was killed" } else { "is done" };
                println!("feed {} {end} after {} prices", names[found], received[names[found] as usize]);
                feeds.remove(found);
                names.remove(found);
            }
        }
    }
    for child in &mut children {
        child.wait()?;
    }
    assert!(statuses > 0);
    Ok(())
}
