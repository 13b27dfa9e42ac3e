//! A function on its way to another process of the same build: as the place where it is in the
//! program.

#![allow(unsafe_code)]

use std::any::type_name;
use std::mem;
use std::os::fd::OwnedFd;
use std::process::{ExitCode, Termination};
use std::ptr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::program::Program;
use crate::transfer;

/// A function and its entry, each as an offset from the beginning of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// The build in which it is there.
    pub(super) build: String,
    pub(super) entry: u64,
    pub(super) function: u64,
}

/// Deserialises the arguments, calls the function and returns how the process ends. The function
/// comes as its address.
type Entry = fn(usize, &[u8], Vec<OwnedFd>) -> Result<ExitCode>;

impl Function {
    /// # Errors
    /// The function belongs to a shared library.
    pub(super) fn locate<A: Serialize + DeserializeOwned, R: Termination>(function: fn(A) -> R) -> Result<Self> {
        let program = Program::own();
        let entry: Entry = enter::<A, R>;
        let locate = |address: usize| program.offset_of(address).map(|offset| offset as u64);
        match (locate(entry as usize), locate((function as *const ()).expose_provenance())) {
            (Some(entry), Some(function)) => Ok(Self { build: program.build(), entry, function }),
            _ => Err(Error::new(
                ErrorKind::InvalidOptions,
                "spawn a process",
                format_args!("a function of a shared library, with arguments {}", type_name::<A>()),
                "a function of the main program, which runs again",
                "write a function in the program that calls it",
            )),
        }
    }

    /// Calls the function in this process.
    ///
    /// # Errors
    /// This is another build, or the arguments cannot be deserialised.
    pub(super) fn call(&self, arguments: &[u8], descriptors: Vec<OwnedFd>) -> Result<ExitCode> {
        let program = Program::own();
        let build = program.build();
        let refuse = |found: &str, expected: &str| {
            Err(Error::new(
                ErrorKind::WrongVersion,
                "run the function of this process",
                found,
                expected,
                "let /proc/self/exe be the program that spawns",
            ))
        };
        if build != self.build {
            return refuse(&build, &self.build);
        }
        let address = |offset| program.address_at(usize::try_from(offset).ok()?);
        let (Some(entry), Some(function)) = (address(self.entry), address(self.function)) else {
            return refuse("no code there", "a function");
        };
        // SAFETY: `locate` had an `Entry` at that offset, and this is the same build. Nobody else
        // makes what is called here: it comes from the parent, and a program that has more rights
        // than its parent takes nothing.
        let entry = unsafe { mem::transmute::<*const (), Entry>(ptr::with_exposed_provenance(entry)) };
        entry(function, arguments, descriptors)
    }
}

/// The entry of all functions with these arguments and this result.
fn enter<A: Serialize + DeserializeOwned, R: Termination>(
    function: usize,
    arguments: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<ExitCode> {
    let arguments = transfer::decode::<A>(arguments, descriptors)?;
    // SAFETY: `locate` takes such a function together with this entry, and they travel together.
    let function = unsafe { mem::transmute::<*const (), fn(A) -> R>(ptr::with_exposed_provenance(function)) };
    Ok(function(arguments).report())
}
