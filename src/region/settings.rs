//! How a region is made and mapped, and how large one may be that another process made.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::region::directory::Directory;
use crate::region::layout::Layout;

/// How a region is made and mapped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) directory: Directory,
    pub(crate) mode: Option<u32>,
    pub(crate) huge_pages: bool,
    pub(crate) prefault: bool,
    pub(crate) lock_memory: bool,
    pub(crate) allow_other_owner: bool,
    pub(crate) join: JoinSettings,
    pub(crate) bounds: Bounds,
    /// Nobody takes part: the file is to stay as it is.
    pub(crate) is_inspection: bool,
}

/// How to join a region whose places are taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JoinSettings {
    /// How long to wait for one, if the user chose.
    pub(crate) timeout: Option<Duration>,
    /// A region that is stale after the wait is replaced.
    pub(crate) recreate_stale: bool,
}

/// How large a region may be that another process made. The peer chose its numbers, and using it
/// takes memory and time in proportion to them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// Bytes of memory, if the user chose.
    pub(crate) len: Option<u64>,
    /// What our own options would make is always accepted: its bytes, and its words to scan.
    own_len: u64,
    own_steps: u64,
}

impl Bounds {
    /// Unless chosen otherwise.
    const LEN: u64 = 16 << 30;
    /// Words that one scan of everything visits: some milliseconds' worth.
    const STEPS: u64 = 1 << 21;

    pub(crate) const NONE: Self = Self { len: Some(u64::MAX), own_len: 0, own_steps: 0 };

    /// Also accepts regions of `len` bytes and `steps` words to scan, which our own options would
    /// make.
    pub(crate) fn with_own(self, len: u64, steps: u64) -> Self {
        Self { own_len: len, own_steps: steps, ..self }
    }

    /// Like [`with_own`](Self::with_own), for a layout, if the options make one.
    pub(crate) fn with_own_layout(self, layout: &Result<Layout>) -> Self {
        layout.as_ref().map_or(self, |layout| self.with_own(layout.mapped(), layout.steps()))
    }

    pub(crate) fn check_len(&self, action: &str, len: u64) -> Result<()> {
        let most = self.len.unwrap_or(Self::LEN.max(self.own_len));
        if len <= most {
            return Ok(());
        }
        Err(Self::too_large(action, format_args!("{len} bytes of memory"), format_args!("at most {most}")))
    }

    /// A bound on the bytes that the user chose bounds these, too.
    pub(crate) fn check_steps(&self, action: &str, steps: u64) -> Result<()> {
        let most = Self::STEPS.max(self.own_steps);
        if steps <= most || self.len.is_some() {
            return Ok(());
        }
        let found = format!("{steps} slots, blocks, permits and frames to look through");
        Err(Self::too_large(action, found, format_args!("at most {most}")))
    }

    fn too_large(action: &str, found: impl fmt::Display, expected: impl fmt::Display) -> Error {
        let remedy = "ask for the same capacity here, or accept so large a region with max_region_bytes";
        Error::new(ErrorKind::WrongType, action, found, expected, remedy)
    }
}
