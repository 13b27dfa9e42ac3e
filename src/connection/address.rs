//! Addresses: where a listener is, and what a client connects to.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::socket::UnixName;

/// Where a [`Listener`](crate::connection::Listener) is.
///
/// | text | address |
/// |---|---|
/// | `/run/user/1000/market`, `./market` | a Unix socket with a file: there is a slash in it |
/// | `@market` | a Unix socket without a file, by an abstract name |
/// | `localhost:6000`, `[::1]:6000` | a port of TCP; a listener at port 0 gets a free one |
///
/// # Examples
/// ```
/// use tombolo::connection::Address;
///
/// assert!(matches!("@market".parse()?, Address::Abstract(_)));
/// assert!(matches!("./market".parse()?, Address::Path(_)));
/// assert_eq!("localhost:6000".parse::<Address>()?.to_string(), "localhost:6000");
/// assert!("market".parse::<Address>().is_err());
/// # Ok::<(), tombolo::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A Unix socket with a file.
    Path(PathBuf),
    /// A Unix socket with an abstract name, which only processes of the same network namespace
    /// find. It needs no file, and leaves none. Any user may take a free name.
    Abstract(String),
    /// A host and a port of TCP.
    Tcp(String),
}

impl Address {
    /// The name of a Unix socket. None: TCP.
    pub(super) fn unix_name(&self) -> Option<UnixName<'_>> {
        match self {
            Self::Path(path) => Some(UnixName::Path(path)),
            Self::Abstract(name) => Some(UnixName::Abstract(name.as_bytes())),
            Self::Tcp(_) => None,
        }
    }

    /// Refuses what cannot be an address. A path becomes absolute, so that it means the same file
    /// in another working directory.
    pub(super) fn checked(self) -> Result<Self> {
        let address = match self {
            Self::Path(path) => Self::Path(std::path::absolute(&path).unwrap_or(path)),
            other => other,
        };
        let found = match &address {
            Self::Abstract(name) if name.is_empty() => Some("no name behind the @".to_string()),
            Self::Tcp(text) if !has_port(text) => Some(format!("{text:?}, without a port")),
            _ => match address.unix_name().map(|name| name.check()) {
                Some(Err(error)) => Some(format!("a name that no socket can have ({error})")),
                _ => None,
            },
        };
        match found {
            None => Ok(address),
            Some(found) => Err(Error::new(
                ErrorKind::InvalidName,
                format_args!("use the address {address}"),
                found,
                "a path or @name of up to 107 bytes, or host:port",
                "choose another address",
            )),
        }
    }
}

fn has_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
            Self::Tcp(text) => f.write_str(text),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix('@') {
            Some(name) => Ok(Self::Abstract(name.to_string())),
            None if text.contains('/') => Ok(Self::Path(text.into())),
            None if has_port(text) => Ok(Self::Tcp(text.to_string())),
            None => Err(Error::new(
                ErrorKind::InvalidName,
                format_args!("use the address {text:?}"),
                "no slash, no @ and no port",
                "a path with a slash in it, @name, or host:port",
                format_args!("write ./{text} for a socket in the working directory, or @{text} for one without a file"),
            )),
        }
    }
}

impl TryFrom<&str> for Address {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        text.parse()
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&PathBuf> for Address {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Path(path.into())
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address.to_string())
    }
}

/// So that what is an [`Address`] already can stand where a text can.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
