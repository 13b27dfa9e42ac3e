use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process;
use std::time::Duration;

use anyhow::{Result, anyhow};
use mmap_sync::locks::LockDisabled;
use mmap_sync::synchronizer::Synchronizer;

use super::{Contender, first, look_at, store_all, with_words};
use crate::case::Case;
use crate::play::{Job, Link, Object, Sample, Stage};

/// A writer that finds readers on the older value sleeps so many nanoseconds before it looks again; by default it is a second.
type Sync<const SLEEP: u64> = Synchronizer<wyhash::WyHash, LockDisabled, 1024, SLEEP>;

const LOOK_AGAIN: u64 = 0;

/// A reader that was preempted needs a CPU to finish.
const LET_OTHERS: u64 = 1;

/// Who has read for so long counts as dead.
const GRACE: Duration = Duration::from_secs(1);

/// Reads in place.
pub struct MmapSync;

impl Contender for MmapSync {
    fn name(&self) -> &'static str {
        "mmap-sync"
    }

    fn can(&self, case: &Case) -> bool {
        case.has_value()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        if job.is_crowded() {
            with_words!(job.case, N => job.processes::<Files<N, LET_OTHERS>>())
        } else {
            with_words!(job.case, N => job.processes::<Files<N, LOOK_AGAIN>>())
        }
    }
}

struct Files<const N: usize, const SLEEP: u64> {
    prefix: OsString,
    /// Whether to remove them in the end.
    is_first: bool,
}

impl<const N: usize, const SLEEP: u64> Object for Files<N, SLEEP> {
    /// A reader announces itself after it has looked which file to read.
    const MAY_TEAR: bool = true;

    fn create(_: &Case) -> Result<Self> {
        let prefix = format!("/dev/shm/tombolo-rivals-{}", process::id()).into();
        let files = Self { prefix, is_first: true };
        Sync::<SLEEP>::with_params(&files.prefix).write(&first::<N>(), GRACE).map_err(|error| anyhow!("{error}"))?;
        Ok(files)
    }

    fn play(&self, case: &Case, participant: usize, stage: &Stage) -> Result<()> {
        let mut sync = Sync::<SLEEP>::with_params(&self.prefix);
        if case.stores(participant) {
            store_all::<N>(stage, |value| {
                sync.write(value, GRACE).expect("it can be written");
            });
        } else {
            // SAFETY: nobody reads for longer than the grace period.
            stage.run(|| match unsafe { sync.read::<[u64; N]>(false) } {
                Ok(value) => look_at(stage, &value),
                Err(_) => stage.refused(),
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
        for suffix in ["_state", "_data_0", "_data_1"] {
            if self.is_first {
                let mut path = self.prefix.clone();
                path.push(suffix);
                let _ = fs::remove_file(Path::new(&path));
            }
        }
    }
}
