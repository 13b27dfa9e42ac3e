//! What connections cost: until the first answer, and for each message, beside a byte pipe.
//!
//! A client process connects many times. It prints the median of the time from `connect` to the
//! answer to its first message. Then it sends messages, which the server counts.

use std::error::Error;
use std::process::{self, Command};
use std::time::{Duration, Instant};

use tombolo::connection::{Connection, Options};
use tombolo::pipe::{self, ByteReceiver, ByteSender};
use tombolo::spawn::{self, CommandExt};

const CONNECTIONS: usize = 300;
const MESSAGES: u32 = 500_000;
const MESSAGE: [u8; 64] = [7; 64];

fn options(has_key: bool) -> Options {
    let options = Options::new().wait_for_listener(Duration::from_secs(10));
    if has_key { options.key("a key for this measurement") } else { options }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("client") => client(&arguments[2], arguments[3] == "key"),
        Some("sender") => {
            let mut tx: ByteSender = spawn::take("pipe")?;
            (0..MESSAGES).try_for_each(|_| tx.send(MESSAGE))?;
            Ok(())
        }
        _ => measure(),
    }
}

fn measure() -> Result<(), Box<dyn Error>> {
    let name = format!("@tombolo-bench-{}", process::id());
    let path = format!("/dev/shm/tombolo-bench-{}", process::id());
    for (case, address, has_key) in [
        ("@name", &*name, false),
        ("@name, key", &*name, true),
        ("path, key", &*path, true),
        ("TCP, key", "127.0.0.1:0", true),
    ] {
        let mut listener = options(has_key).listen(address)?;
        let key = if has_key { "key" } else { "none" };
        let mut child =
            Command::new(std::env::current_exe()?).args(["client", &listener.address().to_string(), key]).spawn()?;
        let mut message = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = listener.accept()?;
            connection.recv(&mut message)?;
            connection.send(&message)?;
            let _ = connection.recv(&mut message); // its end
        }
        let mut connection = listener.accept()?;
        connection.recv(&mut message)?;
        let first_answer = String::from_utf8_lossy(&message).into_owned();
        let rate = receive(|| Ok(connection.recv(&mut message)?))?;
        println!("{case:12} first answer after {first_answer:>7}, then {rate:6.2} M messages of 64 B each second");
        child.wait()?;
    }
    let (tx, mut rx): (ByteSender, ByteReceiver) = pipe::Options::bytes().capacity_bytes(1 << 20).create()?;
    let mut child = Command::new(std::env::current_exe()?).arg("sender").pass("pipe", tx)?.spawn()?;
    let mut message = Vec::new();
    let rate = receive(|| Ok(rx.recv(&mut message)?))?;
    println!("{:12} {:>36} {rate:6.2} M messages of 64 B each second", "byte pipe", "");
    child.wait()?;
    Ok(())
}

/// Receives all messages. Returns how many millions of them come in a second, from the first on.
fn receive(mut recv: impl FnMut() -> Result<usize, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    recv()?;
    let began = Instant::now();
    for _ in 1..MESSAGES {
        recv()?;
    }
    Ok(f64::from(MESSAGES) / 1e6 / began.elapsed().as_secs_f64())
}

fn client(address: &str, has_key: bool) -> Result<(), Box<dyn Error>> {
    let options = options(has_key);
    let mut message = Vec::new();
    let mut times = Vec::new();
    for _ in 0..CONNECTIONS {
        let began = Instant::now();
        let mut connection: Connection = options.connect(address)?;
        connection.send("x")?;
        connection.recv(&mut message)?;
        times.push(began.elapsed());
    }
    times.sort();
    let mut connection = options.connect(address)?;
    connection.send(format!("{} µs", times[CONNECTIONS / 2].as_micros()))?;
    (0..MESSAGES).try_for_each(|_| connection.send(MESSAGE))?;
    Ok(())
}
