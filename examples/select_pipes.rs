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

struct Feed {
    handler: Child,
    /// None once its end was received: the source would stay ready.
    prices: Option<pipe::Receiver<u64>>,
    received: u64,
}

fn start(feed: u64) -> Result<Feed, Box<dyn Error>> {
    let (tx, rx) = pipe::Options::<u64>::new().create()?;
    let mut command = Command::new(env::current_exe()?);
    command.arg(feed.to_string());
    Ok(Feed { handler: command.pass("prices", tx)?.spawn()?, prices: Some(rx), received: 0 })
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(feed) = env::args().nth(1) {
        return handle_feed(feed.parse()?);
    }
    let mut feeds = (0..FEEDS).map(start).collect::<Result<Vec<_>, _>>()?;
    let mut status = Timer::every(Duration::from_millis(5));
    let mut selector = Selector::new();
    let mut statuses = 0;

    while feeds.iter().any(|feed| feed.prices.is_some()) {
        let prices = feeds.iter_mut().map(|feed| &mut feed.prices as &mut dyn Source);
        let mut sources: Vec<_> = prices.chain([&mut status as &mut dyn Source]).collect();
        let found = selector.wait(&mut sources)?;
        let Some(feed) = feeds.get_mut(found) else {
            statuses += status.take();
            continue;
        };
        match feed.prices.as_mut().map_or(Err(RecvError::Empty), pipe::Receiver::try_recv) {
            Ok(_) => {
                feed.received += 1;
                if found == 0 && feed.received == PRICES {
                    feed.handler.kill()?;
                }
            }
            Err(RecvError::Empty) => {}
            Err(end) => {
                let end = if end == RecvError::PeerDied { "was killed" } else { "is done" };
                println!("feed {found} {end} after {} prices", feed.received);
                feed.prices = None;
            }
        }
    }
    for feed in &mut feeds {
        feed.handler.wait()?;
    }
    assert!(statuses > 0);
    Ok(())
}
