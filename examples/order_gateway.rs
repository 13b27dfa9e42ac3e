//! Strategies send orders to a gateway, which answers each. Kill and restart any of them: every
//! order is executed once, and its answer arrives.
//!
//! ```sh
//! cargo run --example order_gateway gateway alice bob
//! cargo run --example order_gateway alice    # in another terminal, and bob in a third
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

use tombolo::sync::{AtomicValue, Value};
use tombolo::{RecvError, Shareable, pipe};

#[derive(Clone, Copy, Shareable)]
#[repr(C)]
struct Order {
    id: u64,
    price: f64,
    volume: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut names = std::env::args().skip(1).peekable();
    if names.next_if_eq("gateway").is_none() {
        return trade(&names.next().ok_or("say a name, or gateway and some names")?);
    }
    thread::scope(|scope| names.for_each(|name| drop(scope.spawn(move || serve(&name).unwrap()))));
    Ok(())
}

fn serve(name: &str) -> Result<(), Box<dyn Error>> {
    // The last order and the position. Like the pipe, they are kept when the gateway is killed.
    let book = Value::open_or_create(&format!("{name}-book"), [0; 2])?;
    let mut client = pipe::Options::<Order>::new().wait_for_successor().server(name)?;
    loop {
        let order = client.recv()?;
        // Both numbers change, or none. The volume of an order that was sent again counts 0 times.
        book.update(|book| *book = [order.id, book[1] + order.volume * u64::from(order.id != book[0])])?;
        let _ = client.send(order); // if it is still there
    }
}

fn trade(name: &str) -> Result<(), Box<dyn Error>> {
    let answered = AtomicValue::<u64>::open_or_create(&format!("{name}-answered"), 0)?;
    let mut gateway = pipe::Options::<Order>::new().client(name)?;
    for id in answered.load() + 1..=100_000 {
        let order = Order { id, price: 101.25, volume: 300 };
        gateway.send(order)?;
        while answered.load() < id {
            match gateway.recv() {
                Err(RecvError::PeerDied) => {
                    gateway.wait_for_peer(Duration::MAX)?;
                    gateway.send(order)?; // the gateway before may have died with it
                }
                answer => _ = answered.fetch_max(answer?.id),
            }
        }
    }
    println!("{name}: {} orders answered", answered.load());
    Ok(())
}
