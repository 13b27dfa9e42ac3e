//! A region that this process only looks at: its file is open for reading, its mapping cannot be
//! written, and nobody learns of it.

use std::sync::Arc;

use super::words::{MappingInner, Word, Words};
use super::{file, layout::Layout, read_layout};
use crate::error::{Error, Result};
use crate::region::settings::Settings;
use crate::sys;

/// A region that this process cannot change.
#[derive(Clone)]
pub(crate) struct ObservedRegion {
    mapping: Arc<MappingInner>,
    layout: Layout,
}

impl ObservedRegion {
    /// Opens what has this name now.
    pub(crate) fn open(name: &str, settings: &Settings) -> Result<Self> {
        let (file, path) = file::open_read_only(name, settings)?;
        let layout = read_layout(&file, Some(&path), settings)?;
        let map = || {
            let length = usize::try_from(layout.mapped()).map_err(std::io::Error::other)?;
            MappingInner::read_only(&file, length, sys::file::metadata(&file)?.id)
        };
        let failed = |error| Error::io(format_args!("map {name:?} for reading"), error, "choose a smaller capacity");
        Ok(Self { mapping: Arc::new(map().map_err(failed)?), layout })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// For loads only.
    pub(crate) fn words(&self, start: usize, length: usize) -> Words {
        self.mapping.words(start, length)
    }

    /// For loads only.
    pub(crate) fn word(&self, index: usize) -> Word {
        Word(self.words(index, 1))
    }
}
