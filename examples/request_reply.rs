//! Clients ask, and any of several servers replies. Kill and restart any of them: each client gets
//! the reply to each of its requests.
//!
//! ```sh
//! cargo run --example request_reply serve    # in one or two terminals
//! cargo run --example request_reply alice    # in another one
//! ```

use std::error::Error;
use std::time::Duration;

use tombolo::rpc::{self, CallError};

/// Counts the primes below a number.
fn count_primes(limit: u64) -> u64 {
    let is_prime = |number: &u64| (2..*number).all(|divisor| !number.is_multiple_of(divisor));
    (2..limit).filter(is_prime).count() as u64
}

fn main() -> Result<(), Box<dyn Error>> {
    // Both sides wait for the next peer when one has ended. A request may be executed twice, so it
    // is made again if the server dies that has it.
    let options = rpc::Options::<u64, u64>::new().wait_for_successor().retry();
    match std::env::args().nth(1).ok_or("say a name, or serve")?.as_str() {
        "serve" => options.responder("primes")?.serve(count_primes)?,
        name => ask(name, options.caller("primes")?)?,
    }
    Ok(())
}

fn ask(name: &str, mut server: rpc::Caller<u64, u64>) -> Result<(), Box<dyn Error>> {
    let (mut sum, mut limit) = (0, 1);
    while limit <= 1000 {
        match server.call_timeout(limit, Duration::from_secs(1)) {
            Ok(count) => (sum, limit) = (sum + count, limit + 1),
            // No server is there, or it is stopped. If it goes on, its reply goes nowhere.
            Err(CallError::TimedOut { taken }) => eprintln!("{name}: no reply within a second, taken: {taken}"),
            Err(error) => return Err(error.into()),
        }
    }
    println!("{name}: 1000 replies, {sum} in all");
    Ok(())
}
