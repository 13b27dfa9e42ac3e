//! What: all entries of a map, as they are at one moment.
//!
//! Bytes: those of `map.rs`. Nothing is stored.
//!
//! ```text
//!   copy bucket 0 ─ copy 1 ─ ... ─ copy n ─┬─ head 0 ─ head 1 ─ ... ─ head n    none has changed:
//!        └─ its head, copied               └─ the moment: each bucket is as it was copied
//! ```
//!
//! Invariants
//! - I1: a pass looks at each head once more. If each is as it was when its bucket was copied, then
//!   each bucket was as it was copied all the time in between, because a head never has the same
//!   value twice (`map.rs` I1). All these times contain the beginning of the pass.
//! - I2: a bucket that has changed is copied again, and a later pass looks at all heads.
//!
//! Edges
//! - E1: a writer's change, or whatever lets another writer know of it · `copy_bucket`: load head,
//!   fence Acquire, before the pass. If a change is in the copy, so is each change that its writer
//!   knew of: a pass that did not see that one would come before it.
//! - E2: `snapshot`: copies, fence SeqCst, heads · another `snapshot`, the same. Of two snapshots
//!   one has everything that the other has, also if nothing else orders the changes.
//!
//! Crash: it stores nothing. A writer that is stopped or dead changes no head.
//!
//! Source: the double collect of Afek, Attiya, Dolev, Gafni, Merritt and Shavit, "Atomic snapshots
//! of shared memory", J. ACM 1993. Writers do not help here, as theirs do, since each change would
//! take a snapshot. So writers can overtake every pass.

use super::{Entry, Head, Map, Unread};
use crate::primitive::{Ordering, fence};
use crate::raw::Memory;

/// Passes over the heads until writers count as too fast.
const MAX_PASSES: u32 = 256;

/// Why there is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSnapshot {
    /// In each pass some bucket had changed.
    Overtaken,
    /// There is no memory for one copy of each head.
    OutOfMemory,
    Corrupt,
}

impl From<Unread> for NoSnapshot {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Overtaken => Self::Overtaken,
            Unread::Corrupt => Self::Corrupt,
        }
    }
}

impl<M: Memory> Map<M> {
    /// Copies from all entries, as they are at one moment. Calls `on_retry` after each attempt that
    /// a writer spoiled.
    pub(crate) fn snapshot<R>(
        &self,
        mut copy: impl FnMut(&Entry<'_>) -> R,
        mut on_retry: impl FnMut(u32),
    ) -> Result<Vec<R>, NoSnapshot> {
        let mut copied = Vec::new();
        copied.try_reserve_exact(self.buckets()).map_err(|_| NoSnapshot::OutOfMemory)?;
        for bucket in 0..self.buckets() {
            copied.push(self.copy_bucket(bucket, &mut copy, &mut on_retry)?);
        }
        for pass in 0..MAX_PASSES {
            fence(Ordering::SeqCst); // E1, E2
            let mut has_changed = false;
            for (bucket, (head, bucket_copied)) in copied.iter_mut().enumerate() {
                // Relaxed: after E1 and E2.
                if self.heads.get(bucket).is_none_or(|word| word.load(Ordering::Relaxed) != head.0) {
                    has_changed = true;
                    (*head, *bucket_copied) = self.copy_bucket(bucket, &mut copy, &mut on_retry)?;
                }
            }
            if !has_changed {
                return Ok(copied.into_iter().flat_map(|(_, bucket_copied)| bucket_copied).collect());
            }
            on_retry(pass);
        }
        Err(NoSnapshot::Overtaken)
    }

    /// Copies from the entries of a bucket. Returns the head that they had.
    pub(super) fn copy_bucket<R>(
        &self,
        bucket: usize,
        mut copy: impl FnMut(&Entry<'_>) -> R,
        on_retry: impl FnMut(u32),
    ) -> Result<(Head, Vec<R>), Unread> {
        let look = |head| {
            let mut copied = Vec::new();
            self.walk(head, |_, entry| -> Option<()> {
                copied.push(copy(entry));
                None
            })?;
            Ok(copied)
        };
        self.consistent(bucket, look, on_retry) // E1
    }
}
