//! How much memory can still be had: of the system, and of the control groups that this process is in.
//!
//! To fill a file in memory beyond that is no error in the kernel but the out-of-memory killer. What swap could make room
//! for does not count. Others take memory at the same time, so this is an estimate and no reservation.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory that can be had, and what bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headroom {
    pub(crate) bytes: u64,
    /// The folder of the control group whose limit comes first; none if it is the system.
    pub(crate) group: Option<PathBuf>,
}

/// Bytes that can still be had without swapping; none if nothing is known. Exact where it is less than `wanted`.
pub(crate) fn headroom(wanted: u64) -> Option<Headroom> {
    let system = super::memory::available().map(|bytes| Headroom { bytes, group: None });
    let groups = own_groups().into_iter().filter_map(|group| group.headroom(wanted));
    groups.chain(system).min_by_key(|headroom| headroom.bytes)
}

/// Whether so many bytes can be had, with what the kernel needs besides. Cheap if asked often: what was found is believed
/// for some milliseconds, and for an eighth of it.
pub(crate) fn is_there_room_for(bytes: u64) -> bool {
    // Relaxed: an estimate, whoever made it.
    static UNTIL: AtomicU64 = AtomicU64::new(0);
    static LEFT: AtomicU64 = AtomicU64::new(0);
    const BELIEVED: u64 = 20_000_000;

    let bytes = bytes.saturating_add(overhead(bytes));
    let now = super::now();
    let is_left = || LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok();
    if now < UNTIL.load(Ordering::Relaxed) && is_left() {
        return true;
    }
    let Some(found) = headroom(bytes) else { return true };
    let Some(rest) = found.bytes.checked_sub(bytes) else { return false };
    LEFT.store(rest / 8, Ordering::Relaxed);
    UNTIL.store(now + BELIEVED, Ordering::Relaxed);
    true
}

/// What the kernel takes besides, to keep so many bytes.
pub(crate) fn overhead(bytes: u64) -> u64 {
    bytes / 128 + (256 << 10)
}

/// A control group with a limit, by the names that its version gives the files.
struct Group {
    folder: PathBuf,
    names: &'static Names,
}

struct Names {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: pages of files on disks, which the kernel drops before it runs out.
    reclaimable: [&'static str; 2],
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: ["total_inactive_file", "total_active_file"],
};

const V2: Names = Names { limit: "memory.max", usage: "memory.current", reclaimable: ["inactive_file", "active_file"] };

impl Group {
    /// None: it has no limit, or does not say.
    fn headroom(&self, wanted: u64) -> Option<Headroom> {
        let number = |name| fs::read_to_string(self.folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let limit = number(self.names.limit)?; // "max" is no number
        let usage = number(self.names.usage)?;
        let mut bytes = limit.saturating_sub(usage);
        if bytes < wanted {
            let text = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
            bytes = limit.saturating_sub(usage.saturating_sub(reclaimable(&text, self.names.reclaimable)));
        }
        Some(Headroom { bytes, group: Some(self.folder.clone()) })
    }
}

fn reclaimable(text: &str, names: [&str; 2]) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| names.contains(name));
    lines.filter_map(|(_, number)| number.trim().parse::<u64>().ok()).sum()
}

/// The memory groups that this process is in, up to the topmost that can be seen, of either version.
fn own_groups() -> Vec<Group> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo");
    let mut groups = Vec::new();
    for (own, mount, names) in pairs(&read("/proc/self/cgroup"), &mounts) {
        // Of what lies outside the mount nothing can be seen: then the mount's own root stands for all.
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

/// The paths of this process's memory groups, each with where its hierarchy is mounted; see cgroups(7), proc(5).
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

/// What a line of mountinfo mounts, if it is that version's memory hierarchy.
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

/// Blanks and the like are written in octal there.
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
    fn groups_of_both_versions_are_found_where_they_are_mounted() {
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
    fn pages_of_files_on_disks_can_be_reclaimed_and_those_of_shared_memory_not() {
        let text = "anon 100\nfile 70\nshmem 40\ninactive_file 20\nactive_file 10\nslab_reclaimable 5\n";
        assert_eq!(reclaimable(text, V2.reclaimable), 30);
        let text = "cache 70\ninactive_file 1\ntotal_inactive_file 20\ntotal_active_file x\n";
        assert_eq!(reclaimable(text, V1.reclaimable), 20);
    }

    #[test]
    fn a_group_without_a_limit_is_none_and_with_one_counts_what_it_can_reclaim() {
        let folder = std::env::temp_dir().join(format!("tombolo-headroom-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let group = Group { folder: folder.clone(), names: &V2 };
        let bytes = |wanted| group.headroom(wanted).map(|headroom| headroom.bytes);
        assert_eq!(bytes(0), None, "not there");
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
