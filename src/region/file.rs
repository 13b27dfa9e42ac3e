//! The file behind a region: opened by name, or made with all of its memory, and mapped once.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Weak};

use crate::error::{Error, ErrorKind, Result};
use crate::region::layout::{Layout, header};
use crate::region::settings::Settings;
use crate::region::words::MappingInner;
use crate::region::{NamedPath, Warnings};
use crate::sys::available_memory::{AvailableMemory, available_memory, overhead};
use crate::sys::file::{self, FileId};
use crate::sys::fork::{ForkGuardedFd, ForkSafe};
use crate::sys::mapping::HUGE_PAGE;
use crate::sys::process;

const DEFAULT_MODE: u32 = 0o600;

/// Opens the file that has this name now, whatever is in it.
pub(super) fn open(name: &str, settings: &Settings) -> Result<(ForkGuardedFd, NamedPath)> {
    open_by(file::open, name, settings)
}

/// The same, for reading only.
pub(super) fn open_read_only(name: &str, settings: &Settings) -> Result<(ForkGuardedFd, NamedPath)> {
    open_by(file::open_read_only, name, settings)
}

fn open_by(
    open: fn(&Path) -> io::Result<OwnedFd>,
    name: &str,
    settings: &Settings,
) -> Result<(ForkGuardedFd, NamedPath)> {
    let path = settings.directory.resolve(name)?;
    let action = format!("open the region {name:?} ({})", path.display());
    let remedy = "see which names exist with `tombolo ls`, or choose another name";
    let file = ForkGuardedFd::new(|| open(&path)).map_err(|error| Error::io(&action, error, remedy))?;
    let owner = file::metadata(&file).map_err(|error| Error::io(&action, error, remedy))?.owner;
    if owner != process::effective_user() && !settings.allow_other_owner {
        return Err(Error::new(
            ErrorKind::Permission,
            action,
            format_args!("a file of user {owner}"),
            format_args!("one of user {}", process::effective_user()),
            "allow other owners explicitly if that user is to be trusted with this process's time",
        ));
    }
    Ok((file, NamedPath { name: name.to_string(), path }))
}

pub(super) fn create_unnamed(layout: &Layout, settings: &Settings) -> Result<ForkGuardedFd> {
    settings.directory.create_if_missing()?;
    let directory = settings.directory.path();
    let action = format!("make a region of {} bytes in {}", layout.mapped(), directory.display());
    check_file_size(&action, layout)?;
    if file::is_tmpfs(directory) {
        check_memory(&action, layout.mapped())?;
    }
    let failed = |error: io::Error| Error::io(&action, error, "name another directory, best on tmpfs");
    let make = || ForkGuardedFd::new(|| file::create_unnamed(directory, settings.mode.unwrap_or(DEFAULT_MODE)));
    let file = make().map_err(failed)?;
    if file::is_huge(&file) {
        return Err(Error::new(
            ErrorKind::Io,
            action,
            "a directory on hugetlbfs, where a file has whole huge pages only",
            "one on tmpfs, ext4, xfs or btrfs",
            "name another directory, and ask for huge_pages there",
        ));
    }
    file::allocate(&file, layout.size(), layout.mapped()).map_err(failed)?;
    Ok(file)
}

pub(super) fn create_anonymous(layout: Layout, huge: bool, warnings: &mut Warnings) -> Result<(ForkGuardedFd, Layout)> {
    let action = format!("make an unnamed region of {} bytes", layout.mapped());
    check_file_size(&action, &layout)?;
    let make = |huge, size, backed| {
        let file = ForkGuardedFd::new(|| file::create_anonymous(huge))?;
        file::allocate(&file, size, backed)?;
        Ok(file)
    };
    if huge && layout.mapped() < layout.size() {
        warnings.push("reserved huge pages: not for a region with extents, which are read and written as a file");
    } else if huge {
        let size = layout.size().next_multiple_of(HUGE_PAGE);
        match make(true, size, size) {
            Ok(file) => return Ok((file, layout.with_size(size))),
            Err(error) => warnings.check("reserved huge pages", Err::<(), io::Error>(error)),
        }
    }
    check_memory(&action, layout.mapped())?;
    let file = make(false, layout.size(), layout.mapped())
        .map_err(|error: io::Error| Error::io(&action, error, "use Linux 3.17 or later"))?;
    Ok((file, layout))
}

/// A tmpfs may be allowed more memory than there is, or than this process's control groups may
/// have. Filling it would end in the out-of-memory killer, not in an error.
pub(super) fn check_memory(action: &str, size: u64) -> Result<()> {
    let wanted = size.saturating_add(overhead(size));
    let Some(AvailableMemory { bytes, group }) = available_memory(wanted).filter(|found| found.bytes < wanted) else {
        return Ok(());
    };
    let (found, remedy) = match group {
        None => (format!("{bytes} bytes of available memory"), "choose a smaller capacity"),
        Some(group) => (
            format!("{bytes} bytes left to the control group {}", group.display()),
            "choose a smaller capacity, or raise the group's limit (memory.max, memory.limit_in_bytes)",
        ),
    };
    Err(Error::new(ErrorKind::NoSpace, action, found, format_args!("{wanted}"), remedy))
}

/// Growing a file beyond the process's limit would be a signal, not an error.
fn check_file_size(action: &str, layout: &Layout) -> Result<()> {
    let size = layout.size();
    match file::file_size_limit() {
        Some(limit) if size > limit => Err(Error::new(
            ErrorKind::NoSpace,
            action,
            format_args!("that this process may write files of at most {limit} bytes"),
            format_args!("{size}"),
            match layout.mapped() < size {
                true => {
                    "raise the limit (`ulimit -f`), or allow fewer or shorter long messages or values: the rest stays empty"
                }
                false => "raise the limit (`ulimit -f`), or choose a smaller capacity",
            },
        )),
        _ => Ok(()),
    }
}

/// Reads instead of mapping: if the file is truncated meanwhile, that is a short read, no SIGBUS.
pub(super) fn read_header(file: &ForkGuardedFd) -> io::Result<[u64; header::WORDS]> {
    let mut words = [0; header::WORDS];
    file::read_exact_at(file, bytemuck::bytes_of_mut(&mut words), 0)?;
    Ok(words)
}

/// One mapping for each file, however often it is opened: the optimiser may assume that two
/// addresses are two memories.
pub(super) fn map(
    file: &ForkGuardedFd,
    length: u64,
    settings: &Settings,
    warnings: &mut Warnings,
) -> Result<Arc<MappingInner>> {
    static MAPPINGS: ForkSafe<HashMap<FileId, Weak<MappingInner>>> = ForkSafe::new();

    let failed = |error: io::Error| Error::io(format_args!("map {length} bytes"), error, "choose a smaller capacity");
    let metadata = file::metadata(file).map_err(failed)?;
    let mapping = MAPPINGS.with(|mappings| match mappings.get(&metadata.id).and_then(Weak::upgrade) {
        Some(mapping) if mapping.map.len() as u64 == length => Ok(mapping),
        _ => {
            let length = usize::try_from(length).map_err(io::Error::other)?;
            let mapping = Arc::new(MappingInner::new(file, length, metadata.id)?);
            mappings.retain(|_, other| other.strong_count() > 0);
            mappings.insert(metadata.id, Arc::downgrade(&mapping));
            Ok(mapping)
        }
    });
    let mapping = mapping.map_err(failed)?;
    if settings.huge_pages {
        warnings.check("transparent huge pages", mapping.map.advise_huge());
    }
    if settings.prefault {
        warnings.check("prefaulting", mapping.map.prefault());
    }
    if settings.lock_memory {
        warnings.check("locking the region in memory", mapping.map.lock());
    }
    Ok(mapping)
}
