//! Numbers through a queue. Any number of processes send and receive; each number arrives once.
//!
//! ```sh
//! cargo run --example queue recv             # in as many terminals as you like
//! cargo run --example queue send 1 2 3 4     # in others
//! ```

use std::error::Error;

use tombolo::queue;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers = queue::Options::<u64>::new();
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("send") => {
            let mut tx = numbers.sender("numbers")?;
            for argument in arguments {
                tx.send(argument.parse::<u64>()?)?;
            }
        }
        Some("recv") => {
            let mut rx = numbers.receiver("numbers")?;
            for number in &mut rx {
                println!("{}", number?);
            }
        }
        _ => return Err("say recv, or send and some numbers".into()),
    }
    Ok(())
}
