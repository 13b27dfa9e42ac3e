//! Regions without a name, such as those of endpoints that were passed to child processes.
//!
//! The command calls each `memfd:PID/FD`, after a process that has it open and the number of its
//! descriptor there. The name of a region in a directory has no slash in it.

use tombolo::ErrorKind;
use tombolo::inspect::{ProcessFd, UnnamedRegion, unnamed_regions};

use super::view::{Entry, NamedEntry, RegionView};
use crate::failure::Failure;

const PREFIX: &str = "memfd:";

/// What `ls` shows of them.
pub fn entries() -> tombolo::Result<Vec<NamedEntry>> {
    let mut entries = Vec::new();
    for region in unnamed_regions()? {
        let Some(ProcessFd { pid, fd }) = region.descriptors.first() else { continue };
        let name = format!("{PREFIX}{pid}/{fd}");
        let entry = match region.inspect() {
            Ok(info) => Entry::Region(Box::new(RegionView::new(&info))),
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // its processes have ended
            Err(error) => Entry::Problem { problem: error.to_string() },
        };
        entries.push(NamedEntry { name, open_in: processes(&region), entry });
    }
    Ok(entries)
}

/// The descriptor that a name means, if it is one of these.
pub fn parse(name: &str) -> Option<ProcessFd> {
    let (pid, fd) = name.strip_prefix(PREFIX)?.split_once('/')?;
    Some(ProcessFd { pid: pid.parse().ok()?, fd: fd.parse().ok()? })
}

/// The region behind a descriptor.
pub fn find(descriptor: ProcessFd) -> Result<UnnamedRegion, Failure> {
    let found = unnamed_regions()?.into_iter().find(|region| region.descriptors.contains(&descriptor));
    found.ok_or_else(|| {
        let ProcessFd { pid, fd } = descriptor;
        Failure::Error(format!(
            "cannot inspect {PREFIX}{pid}/{fd}: found no region there, expected one that `tombolo ls` lists; \
             the process may have ended, or belong to another user"
        ))
    })
}

/// The processes that have a region open, in order.
pub fn processes(region: &UnnamedRegion) -> Vec<u64> {
    let mut pids: Vec<u64> = region.descriptors.iter().map(|descriptor| descriptor.pid).collect();
    pids.dedup();
    pids
}

/// "open in 4711, 4712", or nothing for a region with a name.
pub fn open_text(processes: &[u64]) -> Option<String> {
    let texts: Vec<String> = processes.iter().map(u64::to_string).collect();
    (!texts.is_empty()).then(|| format!("open in {}", texts.join(", ")))
}
