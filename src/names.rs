//! Names of regions: where they live and what they may look like.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::memory;

/// Overrides the directory of named regions.
pub const DIRECTORY_VARIABLE: &str = "TOMBOLO_DIR";

const NAME_MAX: usize = 200;

/// A directory of named regions.
///
/// By default it is `/dev/shm/tombolo-UID`, made on first use for its owner alone. The environment variable
/// `TOMBOLO_DIR` or an explicit path choose another, for example one that a group shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    /// The default one, under a directory where everybody can write: it must be ours alone.
    private: bool,
}

impl Default for Directory {
    fn default() -> Self {
        match std::env::var_os(DIRECTORY_VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => Self::at(PathBuf::from(path)),
            None => Self { path: PathBuf::from(format!("/dev/shm/tombolo-{}", memory::user())), private: true },
        }
    }
}

impl Directory {
    /// Names live under `path`. Who may enter is up to whoever made it; if it is missing it is made for us alone.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), private: false }
    }

    /// Where the files are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the files there, sorted; none if the directory does not exist. They need not be regions.
    ///
    /// # Errors
    /// Whatever reading a directory can meet, except that it does not exist.
    pub fn names(&self) -> Result<Vec<String>> {
        let reading =
            |error| Error::io(format_args!("list {}", self.path.display()), error, "check the directory's permissions");
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(reading)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(reading)?.file_name().into_string().ok().filter(|name| is_name(name)));
        }
        names.sort();
        Ok(names)
    }

    /// The file of a name, in a directory that is there and safe to use.
    pub(crate) fn resolve(&self, name: &str) -> Result<PathBuf> {
        if !is_name(name) {
            return Err(Error::new(
                ErrorKind::InvalidName,
                "use this name for a region",
                format_args!("{name:?} ({} bytes)", name.len()),
                format_args!("1 to {NAME_MAX} bytes without '/', control characters or a leading '.'"),
                "choose another name",
            ));
        }
        self.ensure()?;
        Ok(self.path.join(name))
    }

    pub(crate) fn ensure(&self) -> Result<()> {
        let shown = self.path.display();
        let made = DirBuilder::new().mode(0o700).create(&self.path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            let remedy = format!("make the directory, or name another in {DIRECTORY_VARIABLE}");
            return Err(Error::io(format_args!("make the directory {shown}"), error, remedy));
        }
        let remedy = format!("remove it, or name another directory in {DIRECTORY_VARIABLE}");
        let doing = format!("use the directory {shown}");
        let facts = if self.private { fs::symlink_metadata(&self.path) } else { fs::metadata(&self.path) };
        let facts = facts.map_err(|error| Error::io(&doing, error, &remedy))?;
        if !facts.is_dir() {
            return Err(Error::new(ErrorKind::Permission, doing, "something else", "a directory", remedy));
        }
        if self.private && (facts.uid() != memory::user() || facts.mode() & 0o077 != 0) {
            let found = format!("owner {} and mode {:o}", facts.uid(), facts.mode() & 0o7777);
            let expected = format!("owner {} and mode 700", memory::user());
            return Err(Error::new(ErrorKind::Permission, doing, found, expected, remedy));
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with('.')
        && !name.chars().any(|c| c == '/' || c.is_control())
}
