//! Five feed handlers and a strategy under tokio: one loop for five pipes, a signal and a socket.
//! One of the handlers is killed, and the others go on.
//!
//! ```sh
//! cargo run --example feed_handlers
//! ```

use std::error::Error;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_core::Stream;
use rustix::process::{Signal, getpid, kill_process};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::process::{self, Process};
use tombolo::{MessageStream, RecvError, SendError};

const FEEDS: u64 = 5;
const PRICES: u64 = 1000;

/// Its handler sends until it is killed.
const ENDLESS: u64 = 2;

/// A child: sends the prices of one feed.
fn handle_feed((mut tx, feed): (Sender<u64>, u64)) -> Result<(), SendError> {
    let mut prices = 0..PRICES;
    while feed == ENDLESS || prices.next().is_some() {
        tx.send(100 + feed)?;
        thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

struct Feed {
    name: u64,
    handler: Process,
    prices: MessageStream<Receiver<u64>>,
    received: u64,
}

impl Feed {
    fn start(name: u64) -> Result<Self, Box<dyn Error>> {
        let (tx, rx) = pipe::Options::<u64>::new().create()?;
        let handler = Process::spawn(handle_feed, (tx, name))?;
        Ok(Self { name, handler, prices: rx.into_stream(), received: 0 })
    }
}

/// What the next feed with news has: a price, or the end. It waits for all of them, and one that is
/// busy does not hide the rest. With `futures` this is `StreamMap`, or `select_all`.
async fn next(feeds: &mut [Feed], turn: &mut usize) -> (usize, Option<Result<u64, RecvError>>) {
    poll_fn(|context| {
        for _ in 0..feeds.len() {
            *turn = (*turn + 1) % feeds.len();
            if let Poll::Ready(news) = Pin::new(&mut feeds[*turn].prices).poll_next(context) {
                return Poll::Ready((*turn, news));
            }
        }
        Poll::Pending
    })
    .await
}

/// Has a handler killed, by a message over a socket. Then sends a signal.
async fn operate(socket: UnixStream) -> std::io::Result<()> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    socket.writable().await?;
    socket.try_write(&[ENDLESS as u8])?;
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok(kill_process(getpid(), Signal::USR1)?)
}

async fn trade(mut feeds: Vec<Feed>) -> Result<(), Box<dyn Error>> {
    let mut report = signal(SignalKind::user_defined1())?;
    let (socket, theirs) = UnixStream::pair()?;
    let operator = tokio::spawn(operate(theirs));
    let (mut turn, mut is_reported, mut is_open, mut order) = (0, false, true, [0]);
    while !feeds.is_empty() || !is_reported {
        tokio::select! {
            (index, news) = next(&mut feeds, &mut turn), if !feeds.is_empty() => {
                let feed = &mut feeds[index];
                match news {
                    Some(Ok(_price)) => {
                        feed.received += 1;
                        continue;
                    }
                    Some(Err(RecvError::PeerDied)) => println!("feed {} was killed", feed.name),
                    Some(Err(end)) => return Err(end.into()),
                    None => println!("feed {} is done after {} prices", feed.name, feed.received),
                }
                feeds.remove(index);
            }
            _ = report.recv() => {
                println!("a signal came");
                is_reported = true;
            }
            _ = socket.readable(), if is_open => match socket.try_read(&mut order) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
                Ok(0) => is_open = false, // it would stay readable
                Ok(_) => {
                    let [name] = order.map(u64::from);
                    println!("the operator stops feed {name}");
                    if let Some(feed) = feeds.iter().find(|feed| feed.name == name) {
                        feed.handler.kill()?;
                    }
                }
            },
        }
    }
    Ok(operator.await??)
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let feeds = (0..FEEDS).map(Feed::start).collect::<Result<Vec<_>, _>>()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(trade(feeds))
}
