//! Whether a region still has a name. Without one, no other process finds it: two that open the
//! name one before and one after its removal wait for each other, each in a region of its own.
//!
//! A process that waits looks, at a liveness check. It looks at its own file and not at the path:
//! the path may mean something else to it after a `chroot`, or in another mount namespace.

use std::sync::OnceLock;
use std::time::Duration;

use crate::primitive::{AtomicU64, Ordering};
use crate::region::Region;
use crate::sys::{clock, file};

/// Between two looks, and before the first.
const INTERVAL: Duration = Duration::from_secs(1);

/// When one handle of a region last looked, and what it found.
#[derive(Default)]
pub(super) struct NameWatch {
    /// 0: no call has waited yet.
    looked_at: AtomicU64,
    /// All warnings, with one more. Empty while the region has its name.
    warnings: OnceLock<Vec<String>>,
}

impl Region {
    /// Returns whether the region's name was removed or leads to another file. Call it at liveness
    /// checks: it looks once in a second, and adds to the [warnings](Self::warnings).
    pub(crate) fn has_lost_name(&self) -> bool {
        let Some(path) = &self.path else { return false };
        let watch = &self.name_watch;
        if watch.warnings.get().is_some() {
            return true;
        }
        // Relaxed: private to this process, and a look more or less is harmless.
        let (now, looked_at) = (clock::now(), watch.looked_at.load(Ordering::Relaxed));
        if looked_at != 0 && now.saturating_sub(looked_at) < INTERVAL.as_nanos() as u64 {
            return false;
        }
        watch.looked_at.store(now, Ordering::Relaxed);
        // If the descriptor's number has come to mean another file, nothing is known.
        let is_lost = looked_at != 0
            && file::metadata(&self.file).is_ok_and(|metadata| metadata.id == self.id() && !metadata.has_name);
        if is_lost {
            let lost = format!(
                "the name {:?} was removed, or leads to another region: no other process finds this one; open it again",
                path.name
            );
            watch.warnings.get_or_init(|| self.warnings.0.iter().cloned().chain([lost]).collect());
        }
        is_lost
    }

    /// The options that could not be honoured, and the loss of the name, if a call has noticed it.
    pub(crate) fn warnings(&self) -> &[String] {
        self.name_watch.warnings.get().unwrap_or(&self.warnings.0)
    }
}
