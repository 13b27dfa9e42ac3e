//! A server hands each client its own end of a broadcast. The clients are no relatives, and know an
//! address and nothing else. Kill and start clients and the server as you like.
//!
//! ```sh
//! cargo run --features connection --example listener server [ADDRESS]    # in one terminal
//! cargo run --features connection --example listener client [ADDRESS]    # in as many others
//! ```
//!
//! ADDRESS is a path, or an @name. Only processes of the same user can connect.

use std::error::Error;
use std::thread;
use std::time::Duration;

use tombolo::broadcast::{self, Policy, Publisher, Subscriber};
use tombolo::connection::{Connection, Listener, Options};
use tombolo::{ErrorKind, RecvError};

const TICKS: u64 = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next();
    let address = arguments.next().unwrap_or("@tombolo-example".into());
    match role.as_deref() {
        Some("server") => serve(&address),
        Some("client") => follow(&address),
        _ => Err("server or client?".into()),
    }
}

fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let mut listener = Listener::bind(address)?;
    // Ticks wait for nobody. A client that is too slow is told how many it has missed.
    let options = broadcast::Options::<u64>::new().max_publishers(2).policy(Policy::Lossy);
    let (ticks, _) = options.create()?;
    let mut publisher = ticks.try_clone()?;
    thread::spawn(move || {
        for tick in 0.. {
            publisher.publish(tick).expect("a lossy publisher never waits");
            thread::sleep(Duration::from_micros(100));
        }
    });
    println!("serving at {}", listener.address());
    loop {
        let connection = match listener.accept() {
            Ok(connection) => connection,
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace) => {
                println!("{error}"); // the client waits
                thread::sleep(Duration::from_millis(100));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let peer = connection.peer();
        match welcome(connection, &ticks) {
            Ok(name) => println!("{peer} is {name}"),
            Err(error) => println!("{peer}: {error}"), // it was killed: that concerns nobody else
        }
    }
}

/// Gives a client a subscriber. Returns the client's name.
fn welcome(mut connection: Connection, ticks: &Publisher<u64>) -> Result<String, Box<dyn Error>> {
    let mut name = Vec::new();
    connection.rx.recv_deadline(&mut name, Some(std::time::Instant::now() + Duration::from_secs(5)))?;
    connection.give(ticks.subscriber()?)?;
    Ok(String::from_utf8_lossy(&name).into_owned())
}

fn follow(address: &str) -> Result<(), Box<dyn Error>> {
    let (mut received, mut missed, mut servers) = (0, 0, 0);
    while received < TICKS {
        let mut ticks = match subscribe(address) {
            Ok(ticks) => ticks,
            // The server was killed meanwhile.
            Err(error) if error.kind() == ErrorKind::Disconnected => continue,
            Err(error) => return Err(error.into()),
        };
        servers += 1;
        // From here on there is no socket between them.
        while received < TICKS {
            match ticks.recv() {
                Ok(_) => received += 1,
                Err(RecvError::Lagged { missed: count }) => missed += count,
                Err(RecvError::PeerDied | RecvError::Closed) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    println!("received {received} ticks of {servers} servers, and missed {missed}");
    Ok(())
}

fn subscribe(address: &str) -> tombolo::Result<Subscriber<u64>> {
    let mut connection = Options::new().wait_for_listener(Duration::from_secs(60)).connect(address)?;
    let name = format!("client {}", std::process::id());
    // If the server is killed now, `take` says so.
    let _ = connection.send(name);
    connection.take()
}
