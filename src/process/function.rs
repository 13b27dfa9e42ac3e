//! A function on its way to another process of the same build: as the place where it is in the
//! program.

#![allow(unsafe_code)]

use std::any::type_name;
use std::mem;
use std::os::fd::OwnedFd;
use std::process::{ExitCode, Termination};
use std::ptr;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
type Entry = fn(usize, Vec<u8>, Vec<OwnedFd>) -> Result<ExitCode>;

impl Function {
    /// # Errors
    /// The function belongs to a shared library.
    pub(super) fn locate<A: Serialize + DeserializeOwned, R: Termination>(function: fn(A) -> R) -> Result<Self> {
        let program = Program::own();
        if !program.is_executed() {
            return Err(Error::new(
                ErrorKind::InvalidOptions,
                "spawn a process",
                "a program that was started by an explicit loader (`ld.so program`): /proc/self/exe is the loader",
                "one that was executed itself",
                "execute the program, and let its interpreter be that loader (`patchelf --set-interpreter`)",
            ));
        }
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
    pub(super) fn call(&self, arguments: Vec<u8>, descriptors: Vec<OwnedFd>) -> Result<ExitCode> {
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
    arguments: Vec<u8>,
    descriptors: Vec<OwnedFd>,
) -> Result<ExitCode> {
    let decoded = transfer::decode::<A>(&arguments, descriptors)?;
    drop(arguments); // they may be large, and the function may run for long
    // SAFETY: `locate` takes such a function together with this entry, and they travel together.
    let function = unsafe { mem::transmute::<*const (), fn(A) -> R>(ptr::with_exposed_provenance(function)) };
    Ok(function(decoded).report())
}

/// A function that serde serialises, as its offset. Only a process of the same build may
/// deserialise it: the arguments of a process, whose build is checked before.
pub(super) struct Located<A, R>(pub(super) fn(A) -> R);

impl<A, R> Serialize for Located<A, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let offset = Program::own().offset_of((self.0 as *const ()).expose_provenance());
        let offset = offset.ok_or_else(|| S::Error::custom("a function of a shared library"))?;
        serializer.serialize_u64(offset as u64)
    }
}

impl<'de, A, R> Deserialize<'de> for Located<A, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let offset = usize::try_from(u64::deserialize(deserializer)?).ok();
        let address = offset.and_then(|offset| Program::own().address_at(offset));
        let address = address.ok_or_else(|| D::Error::custom("no code there"))?;
        // SAFETY: it was serialised as a `Located` of the same type, by a process of this build:
        // postcard reads nothing of another type where this is.
        Ok(Self(unsafe { mem::transmute::<*const (), fn(A) -> R>(ptr::with_exposed_provenance(address)) }))
    }
}

/// The function of a job and its entry, each as an offset from the beginning of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JobFunction {
    entry: u64,
    function: u64,
}

/// What became of a job: the serialised result, or why it has none.
pub(super) enum JobOutcome {
    Returned(Vec<u8>),
    ArgumentsRefused(Error),
    ResultRefused(Error),
}

/// Deserialises the arguments, calls the function and serialises its result. The function comes as
/// its address.
type JobEntry = fn(usize, &[u8]) -> JobOutcome;

impl JobFunction {
    pub(super) const BYTES: usize = 16;

    /// # Errors
    /// The function belongs to a shared library.
    pub(super) fn locate<A: DeserializeOwned, R: Serialize>(function: fn(A) -> R) -> Result<Self> {
        let program = Program::own();
        let entry: JobEntry = enter_job::<A, R>;
        let locate = |address: usize| program.offset_of(address).map(|offset| offset as u64);
        match (locate(entry as usize), locate((function as *const ()).expose_provenance())) {
            (Some(entry), Some(function)) => Ok(Self { entry, function }),
            _ => Err(Error::new(
                ErrorKind::InvalidOptions,
                "submit a job",
                format_args!("a function of a shared library, with arguments {}", type_name::<A>()),
                "a function of the main program, which the workers run, too",
                "write a function in the program that calls it",
            )),
        }
    }

    /// What follows the arguments in the message of a job.
    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        (u128::from(self.entry) << 64 | u128::from(self.function)).to_le_bytes()
    }

    /// Calls the function of a job with the arguments in its message. `None`: that is no job.
    pub(super) fn call(program: &Program, message: &[u8]) -> Option<JobOutcome> {
        let (arguments, function) = message.split_last_chunk::<{ Self::BYTES }>()?;
        let offsets = u128::from_le_bytes(*function);
        let address = |offset: u64| program.address_at(usize::try_from(offset).ok()?);
        let (entry, function) = (address((offsets >> 64) as u64)?, address(offsets as u64)?);
        // SAFETY: `locate` had a `JobEntry` at that offset, in the process that has spawned this
        // one. The builds are the same, as was checked before this process did anything. The pipe
        // of the message has no name, and its other end is that process.
        let entry = unsafe { mem::transmute::<*const (), JobEntry>(ptr::with_exposed_provenance(entry)) };
        Some(entry(function, arguments))
    }
}

/// The entry of all jobs with these arguments and this result.
fn enter_job<A: DeserializeOwned, R: Serialize>(function: usize, arguments: &[u8]) -> JobOutcome {
    let arguments = match transfer::decode::<A>(arguments, Vec::new()) {
        Ok(arguments) => arguments,
        Err(error) => return JobOutcome::ArgumentsRefused(error),
    };
    // SAFETY: `locate` takes such a function together with this entry, and they travel together.
    let function = unsafe { mem::transmute::<*const (), fn(A) -> R>(ptr::with_exposed_provenance(function)) };
    match encode_bytes(&function(arguments)) {
        Ok(result) => JobOutcome::Returned(result),
        Err(error) => JobOutcome::ResultRefused(error),
    }
}

/// Serialises a value that travels as bytes alone.
///
/// # Errors
/// serde refuses it, or it has an endpoint or another thing in it that travels as a descriptor.
pub(super) fn encode_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let (bytes, transfers) = transfer::encode(value)?;
    if transfers.is_empty() {
        return Ok(bytes);
    }
    Err(Error::new(
        ErrorKind::NotSerializable,
        format_args!("serialise a {}", type_name::<T>()),
        "an endpoint, a namespace or an object in it",
        "what travels as bytes alone",
        "pass namespaces and objects to the initializer of the pool, or open them by name in the job",
    ))
}
