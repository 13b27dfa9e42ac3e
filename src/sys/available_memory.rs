//! How much memory is available: in the system, and in the control groups of this process.
//!
//! A process that writes more than that to a file in memory gets no error: the kernel kills a
//! process. What swapping could free does not count. Others take memory at the same time, so this
//! is an estimate, not a reservation.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Available memory, and what limits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AvailableMemory {
    pub(crate) bytes: u64,
    /// The folder of the control group with the lowest limit, or `None` if the system is the limit.
    pub(crate) group: Option<PathBuf>,
}

/// Returns the memory that is available without swapping, or `None` if nothing is known. Exact if
/// less than `wanted`.
pub(crate) fn available_memory(wanted: u64) -> Option<AvailableMemory> {
    let system = system_memory().map(|bytes| AvailableMemory { bytes, group: None });
    let groups = own_groups().into_iter().filter_map(|group| group.available(wanted));
    groups.chain(system).min_by_key(|available| available.bytes)
}

/// Returns whether that many bytes are available, and what the kernel needs to keep them. Cheap to
/// call often: one reading serves for some milliseconds, and for an eighth of what it found.
pub(crate) fn is_available(bytes: u64) -> bool {
    // Relaxed: an estimate, which any thread may use.
    static VALID_UNTIL: AtomicU64 = AtomicU64::new(0);
    static LEFT: AtomicU64 = AtomicU64::new(0);
    const VALID_FOR: u64 = 20_000_000;

    let bytes = bytes.saturating_add(overhead(bytes));
    let now = super::clock::now();
    let is_left = || LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok();
    if now < VALID_UNTIL.load(Ordering::Relaxed) && is_left() {
        return true;
    }
    let Some(found) = available_memory(bytes) else { return true };
    let Some(rest) = found.bytes.checked_sub(bytes) else { return false };
    LEFT.store(rest / 8, Ordering::Relaxed);
    VALID_UNTIL.store(now + VALID_FOR, Ordering::Relaxed);
    true
}

/// Returns what the kernel needs besides, to keep that many bytes.
pub(crate) fn overhead(bytes: u64) -> u64 {
    bytes / 128 + (256 << 10)
}

/// The bytes that the system has available without swapping.
fn system_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// A control group, with the file names of its version.
struct Group {
    folder: PathBuf,
    names: &'static Names,
}

struct Names {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: pages of files on disks, which the kernel drops when it needs memory.
    reclaimable: [&'static str; 2],
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: ["total_inactive_file", "total_active_file"],
};

const V2: Names = Names { limit: "memory.max", usage: "memory.current", reclaimable: ["inactive_file", "active_file"] };

impl Group {
    /// `None` if the group has no limit, or does not tell.
    fn available(&self, wanted: u64) -> Option<AvailableMemory> {
        let number = |name| fs::read_to_string(self.folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let limit = number(self.names.limit)?; // "max" is not a number
        let usage = number(self.names.usage)?;
        let mut bytes = limit.saturating_sub(usage);
        if bytes < wanted {
            let text = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
            bytes = limit.saturating_sub(usage.saturating_sub(reclaimable(&text, self.names.reclaimable)));
        }
        Some(AvailableMemory { bytes, group: Some(self.folder.clone()) })
    }
}

fn reclaimable(text: &str, names: [&str; 2]) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| names.contains(name));
    lines.filter_map(|(_, number)| number.trim().parse::<u64>().ok()).sum()
}

/// The memory groups of this process, of either version, up to the topmost that it can see.
fn own_groups() -> Vec<Group> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo");
    let mut groups = Vec::new();
    for (own, mount, names) in pairs(&read("/proc/self/cgroup"), &mounts) {
        // What lies outside the mount cannot be seen. Then the root of the mount stands for it.
        let inside = own.strip_prefix(&mount.root).unwrap_or(Path::new(""));
        let inside = inside.to_str().map_or("", |inside| inside.trim_start_matches("../"));
        let mut folder = mount.point.join(inside);
        loop {
            groups.push(Group { folder: folder.clone(), names });
            if folder == mount.point || !folder.pop() || !folder.starts_with(&mount.point) {
                break;
            }
        }
    }
    groups
}

struct Mount {
    root: PathBuf,
    point: PathBuf,
}

/// The paths of this process's memory groups, and where their hierarchies are mounted. See
/// cgroups(7) and proc(5).
fn pairs(own: &str, mounts: &str) -> Vec<(PathBuf, Mount, &'static Names)> {
    let of_line = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_v2 = number == "0" && controllers.is_empty();
        let names = if is_v2 {
            &V2
        } else if controllers.split(',').any(|controller| controller == "memory") {
            &V1
        } else {
            return None;
        };
        let mount = mounts.lines().find_map(|line| mount(line, is_v2))?;
        Some((PathBuf::from(path), mount, names))
    };
    own.lines().filter_map(of_line).collect()
}

/// The mount that a line of mountinfo describes, if it is that version's memory hierarchy.
fn mount(line: &str, is_v2: bool) -> Option<Mount> {
    let (mount, source) = line.split_once(" - ")?;
    let mut source = source.split(' ');
    let (kind, options) = (source.next()?, source.nth(1).unwrap_or_default());
    let is_it =
        if is_v2 { kind == "cgroup2" } else { kind == "cgroup" && options.split(',').any(|name| name == "memory") };
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    is_it.then(|| Mount { root: unescaped(root), point: unescaped(point) })
}

/// Decodes the octal escapes of blanks and the like.
fn unescaped(path: &str) -> PathBuf {
    let mut text = path.to_string();
    for (code, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(code, character);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw
30 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:10 master:2 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/a\\040b rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn available_memory_groups_of_both_versions_are_found() {
        let own = "9:name=systemd:/\n4:cpu,memory:/user/one\n1:cpu:/\n0::/user/two\n";
        let found: Vec<_> =
            pairs(own, MOUNTS).into_iter().map(|(own, mount, names)| (own, mount.point, names.limit)).collect();
        let path = PathBuf::from;
        assert_eq!(
            found,
            [
                (path("/user/one"), path("/sys/fs/cgroup/memory"), V1.limit),
                (path("/user/two"), path("/sys/fs/cgroup/a b"), V2.limit)
            ]
        );
        assert!(pairs(own, "").is_empty() && pairs("", MOUNTS).is_empty() && pairs("x\n::\n", MOUNTS).is_empty());
    }

    #[test]
    fn available_memory_counts_file_pages_as_reclaimable_and_shared_memory_not() {
        let text = "anon 100\nfile 70\nshmem 40\ninactive_file 20\nactive_file 10\nslab_reclaimable 5\n";
        assert_eq!(reclaimable(text, V2.reclaimable), 30);
        let text = "cache 70\ninactive_file 1\ntotal_inactive_file 20\ntotal_active_file x\n";
        assert_eq!(reclaimable(text, V1.reclaimable), 20);
    }

    #[test]
    fn available_memory_of_group_is_none_without_limit_and_else_counts_reclaimable() {
        let folder = std::env::temp_dir().join(format!("tombolo-available-memory-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let group = Group { folder: folder.clone(), names: &V2 };
        let bytes = |wanted| group.available(wanted).map(|available| available.bytes);
        assert_eq!(bytes(0), None, "no such group");
        write("memory.current", "900\n");
        write("memory.max", "max\n");
        assert_eq!(bytes(0), None);
        write("memory.max", "1000\n");
        assert_eq!(bytes(1000), Some(100), "without statistics");
        write("memory.stat", "anon 600\ninactive_file 150\nactive_file 50\n");
        assert_eq!((bytes(100), bytes(101)), (Some(100), Some(300)), "read only if needed");
        write("memory.current", "1100\n");
        assert_eq!(bytes(1), Some(100));
        fs::remove_dir_all(folder).unwrap();
    }
}
