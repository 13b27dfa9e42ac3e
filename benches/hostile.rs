//! What invalid records of participants cost a call.
//!
//! A hostile peer marks participants as dead in the middle of an operation, each with claims to
//! every slot, and all slots as quarantined. Prints how long `recv_timeout(50 ms)` and the drop of a
//! receiver take. tests/repair_budget.rs counts what makes them short.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process;
use std::time::{Duration, Instant};

use tombolo::queue;

const CAPACITY: u64 = 32;
/// Offsets in bytes, as in docs/layout.md.
const TAIL_OFFSET: u64 = 0x200;
const PARTICIPANTS_OFFSET: u64 = 0x580;
const PARTICIPANT_BYTES: u64 = 128;
const TIMEOUT: Duration = Duration::from_millis(50);

fn measure(participants: u64) -> Result<(Duration, Duration), Box<dyn Error>> {
    let directory = PathBuf::from(format!("/dev/shm/tombolo-hostile-{}", process::id()));
    let options = queue::Options::<u64>::new().capacity(CAPACITY as usize).max_participants(participants as usize);
    let options = options.directory(&directory);
    let (tx, mut rx) = (options.sender("queue")?, options.receiver("queue")?);
    let file = File::options().write(true).open(directory.join("queue"))?;
    let put = |at: u64, word: u64| file.write_all_at(&word.to_ne_bytes(), at);
    for slot in 0..CAPACITY {
        // Its producer is in mid-operation.
        put(PARTICIPANTS_OFFSET + participants * PARTICIPANT_BYTES + 8 * slot, (2 * slot + 3) << 2 | 2)?;
    }
    put(TAIL_OFFSET, CAPACITY)?;
    for participant in 2..participants {
        let at = PARTICIPANTS_OFFSET + participant * PARTICIPANT_BYTES;
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
    for participants in [64, 256, 1024, 4096] {
        let (waited, left) = measure(participants)?;
        println!("{participants:5} hostile participants: recv_timeout({TIMEOUT:?}) {waited:.1?}, drop {left:.1?}");
    }
    Ok(())
}
