//! A price, a book and a number of permits in one mapping. A process is killed in the middle of a
//! change; the others go on.
//!
//! ```sh
//! cargo run --example namespace
//! ```

use std::error::Error;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use tombolo::Namespace;
use tombolo::spawn::CommandExt;
use tombolo::sync::LockError;

/// What is bought and what is sold; they belong together.
type Book = [i64; 2];

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("publisher") => publish(&Namespace::take("market")?),
        Some("trader") => trade(&Namespace::take("market")?),
        _ => watch(),
    }
}

/// Stores prices as fast as it can. Readers never delay it.
fn publish(market: &Namespace) -> Result<(), Box<dyn Error>> {
    let price = market.value::<f64>("price")?;
    let mut price = price.writer()?;
    for tick in 0_u64.. {
        price.store(&(100.0 + (tick % 100) as f64 / 100.0))?;
    }
    Ok(())
}

/// Takes a permit and the book, begins a change, and never gets to its end.
fn trade(market: &Namespace) -> Result<(), Box<dyn Error>> {
    let (book, permits) = (market.mutex::<Book>("book")?, market.bounded_semaphore("permits")?);
    let _permit = permits.acquire()?;
    let mut book = book.lock().or_else(LockError::into_guard)?;
    book[0] += 300;
    market.event("half-way")?.set()?;
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn watch() -> Result<(), Box<dyn Error>> {
    let plan = Namespace::builder().value("price", 0.0_f64).mutex("book", [0_i64; 2]).event("half-way");
    let market = plan.bounded_semaphore("permits", 1).create()?;
    let start = |part: &str| -> Result<Child, Box<dyn Error>> {
        Ok(Command::new(std::env::current_exe()?).arg(part).pass("market", &market)?.spawn()?)
    };
    let (mut publisher, mut trader) = (start("publisher")?, start("trader")?);
    println!("price {}", market.value::<f64>("price")?.wait_for_change(Duration::from_secs(10))?);
    market.event("half-way")?.wait()?;
    trader.kill()?;
    publisher.kill()?;

    drop(market.bounded_semaphore("permits")?.acquire()?); // its permit comes back
    let (book, price) = (market.mutex::<Book>("book")?, market.value::<f64>("price")?);
    match book.lock() {
        Err(LockError::OwnerDied(book)) => println!("the trader died; the book is {book:?}, as it was"),
        other => println!("unexpected: {other:?}"),
    }
    println!("the last price was {}", price.load()?);
    price.store(&0.0)?; // the publisher's turn is over
    trader.wait()?;
    publisher.wait()?;
    Ok(())
}
