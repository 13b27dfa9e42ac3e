//! What lies about participants cost a call: lanes that a peer calls taken by the dead, with claims to every slot, which are all passed over.
//! Prints how long `recv_timeout(50 ms)` and the drop of a receiver take. tests/repair_budget.rs counts what makes them short.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process;
use std::time::{Duration, Instant};

use tombolo::queue;

const CAPACITY: u64 = 32;
/// As docs/layout.md has them, in bytes.
const TAIL_AT: u64 = 0x200;
const LANES_AT: u64 = 0x580;
const LANE: u64 = 128;
const TIMEOUT: Duration = Duration::from_millis(50);

fn measure(lanes: u64) -> Result<(Duration, Duration), Box<dyn Error>> {
    let directory = PathBuf::from(format!("/dev/shm/tombolo-hostile-{}", process::id()));
    let options = queue::Options::<u64>::new().capacity(CAPACITY as usize).max_participants(lanes as usize);
    let options = options.directory(&directory);
    let (tx, mut rx) = (options.sender("queue")?, options.receiver("queue")?);
    let file = File::options().write(true).open(directory.join("queue"))?;
    let put = |at: u64, word: u64| file.write_all_at(&word.to_ne_bytes(), at);
    for slot in 0..CAPACITY {
        put(LANES_AT + lanes * LANE + 8 * slot, (2 * slot + 3) << 2 | 2)?; // its producer is away
    }
    put(TAIL_AT, CAPACITY)?;
    for lane in 2..lanes {
        let at = LANES_AT + lane * LANE;
        for (word, value) in [(0, 1), (1, 1), (5, 1), (8, 1 << 6 | 63), (3, 1)] {
            put(at + 8 * word, value)?;
        }
    }
    let began = Instant::now();
    let _ = rx.recv_timeout(TIMEOUT);
    let waited = began.elapsed();
    let began = Instant::now();
    drop(rx);
    let left = began.elapsed();
    drop(tx);
    fs::remove_dir_all(directory)?;
    Ok((waited, left))
}

fn main() -> Result<(), Box<dyn Error>> {
    for lanes in [64, 256, 1024, 4096] {
        let (waited, left) = measure(lanes)?;
        println!("{lanes:5} hostile lanes: recv_timeout({TIMEOUT:?}) {waited:.1?}, drop {left:.1?}");
    }
    Ok(())
}
