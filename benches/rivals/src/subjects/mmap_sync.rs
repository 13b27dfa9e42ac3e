use std::ffi::{OsStr, OsString};
use std::fs;
use std::process;
use std::time::Duration;

use anyhow::{Result, anyhow};
use mmap_sync::locks::LockDisabled;
use mmap_sync::synchronizer::Synchronizer;

use super::with_words;
use crate::case::Case;
use crate::objects::{self, Link, Object, Participant, check_value, first, store_all};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

/// A writer that finds readers on the older value sleeps for `SLEEP` nanoseconds before it looks
/// again, by default for a second.
type Sync<const SLEEP: u64> = Synchronizer<wyhash::WyHash, LockDisabled, 1024, SLEEP>;

const LOOK_AGAIN: u64 = 0;

/// A reader that was preempted needs a CPU to finish.
const LET_OTHERS: u64 = 1;

/// A reader that has read for this long counts as dead.
const GRACE: Duration = Duration::from_secs(1);

/// Reads in place.
pub struct MmapSync;

impl Subject for MmapSync {
    fn name(&self) -> &'static str {
        "mmap-sync"
    }

    fn supports(&self, case: &Case) -> bool {
        case.has_value()
    }

    fn clean_up(&self) {
        remove_files(&prefix());
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        if job.is_oversubscribed() {
            with_words!(job.case, N => objects::processes::<Files<N, LET_OTHERS>>(job))
        } else {
            with_words!(job.case, N => objects::processes::<Files<N, LOOK_AGAIN>>(job))
        }
    }
}

struct Files<const N: usize, const SLEEP: u64> {
    prefix: OsString,
    /// Whether this process removes them.
    is_first: bool,
}

impl<const N: usize, const SLEEP: u64> Object for Files<N, SLEEP> {
    /// A reader announces itself after it has looked which file to read.
    const MAY_TEAR: bool = true;

    fn create(_: &Case) -> Result<Self> {
        let files = Self { prefix: prefix(), is_first: true };
        Sync::<SLEEP>::with_params(&files.prefix).write(&first::<N>(), GRACE).map_err(|error| anyhow!("{error}"))?;
        Ok(files)
    }

    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()> {
        let mut sync = Sync::<SLEEP>::with_params(&self.prefix);
        if case.stores(index) {
            store_all::<N>(participant, |value| {
                sync.write(value, GRACE).expect("it can be written");
            });
        } else {
            // SAFETY: no reader reads for longer than the grace period.
            participant.repeat(|| match unsafe { sync.read::<[u64; N]>(false) } {
                Ok(value) => check_value(participant, &value),
                Err(_) => participant.count_failed(),
            });
        }
        Ok(())
    }
}

impl<const N: usize, const SLEEP: u64> Link for Files<N, SLEEP> {
    fn address(&self) -> String {
        self.prefix.to_string_lossy().into_owned()
    }

    fn join(_: &Case, address: &str) -> Result<Self> {
        Ok(Self { prefix: address.into(), is_first: false })
    }
}

impl<const N: usize, const SLEEP: u64> Drop for Files<N, SLEEP> {
    fn drop(&mut self) {
        if self.is_first {
            remove_files(&self.prefix);
        }
    }
}

/// What the names of this process's files begin with.
fn prefix() -> OsString {
    format!("/dev/shm/tombolo-rivals-{}", process::id()).into()
}

fn remove_files(prefix: &OsStr) {
    for suffix in ["_state", "_data_0", "_data_1"] {
        let mut path = prefix.to_owned();
        path.push(suffix);
        // They may not be there.
        let _ = fs::remove_file(path);
    }
}
