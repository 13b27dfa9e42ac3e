//! Values with endpoints, namespaces and objects in them. Needs the feature `serde`.
//!
//! What: a value is one packet of the socket. Its first descriptor is a sealed file in memory with
//! the bytes of the value, the others are what the value refers to, in the order of `transfer.rs`.
//! So a value is on its way as a whole or not at all, in one order with what was given beside it.
//!
//! Crash: the steps are those of `transfer.rs`. give-1 is the export of each endpoint in turn, and
//! the writing of the file. accept-2 takes each endpoint in turn.

use std::any::type_name;
use std::os::fd::{AsFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connection::transfer::{
    GIVE, GiveError, OBJECT, TransferSocket, corrupt, give_error, send_descriptors, stays,
};
use crate::error::{Error, ErrorKind, Result};
use crate::spawn::Transfer;
use crate::sys::file;
use crate::sys::fork::ForkGuardedFd;
use crate::sys::socket::MAX_DESCRIPTORS;
use crate::transfer;
use crate::wait::Timeout;

const TAKE: &str = "take a value";

/// What one value can refer to, beside its bytes.
const MAX_TRANSFERS: usize = MAX_DESCRIPTORS - 1;

impl TransferSocket {
    pub(super) fn give_object<T: Serialize>(&self, value: T, timeout: Timeout) -> Result<(), GiveError<T>> {
        match self.try_give_object(&value, timeout) {
            // The endpoints in it are transferred: they are not closed here.
            Ok(()) => {
                drop(value);
                Ok(())
            }
            // They were taken back.
            Err(error) => Err(GiveError::new(error, value)),
        }
    }

    fn try_give_object<T: Serialize>(&self, value: &T, timeout: Timeout) -> Result<()> {
        let action = "give a value";
        let socket = self.socket(action)?;
        let (bytes, mut transfers) = transfer::encode(value)?;
        let refuse = |found: String, expected: String, remedy: &str| {
            let action = format!("give a {}", type_name::<T>());
            Err(Error::new(ErrorKind::InvalidOptions, action, found, expected, remedy))
        };
        if transfers.len() > MAX_TRANSFERS {
            let found = format!("{} endpoints, namespaces and objects in it", transfers.len());
            return refuse(found, format!("{MAX_TRANSFERS} at most"), "give several values");
        }
        if bytes.len() as u64 > self.limit {
            let expected = format!("{} at most", self.limit);
            return refuse(format!("{} bytes", bytes.len()), expected, "raise max_message_bytes on both sides");
        }
        let file = ForkGuardedFd::new(|| file::create_sealed("tombolo-value", &bytes));
        let file = file.map_err(|error| Error::io(action, error, "see whether memory or descriptors are left"))?; // give-1
        let transferred = transfers.iter().map(|transfer| transfer.file().as_fd());
        let descriptors: Vec<_> = [file.as_fd()].into_iter().chain(transferred).collect();
        send_descriptors(socket, OBJECT, &descriptors, timeout).map_err(|error| give_error(action, error))?; // give-2
        transfers.iter_mut().for_each(Transfer::complete);
        Ok(()) // give-3
    }

    pub(super) fn take_object<T: DeserializeOwned>(&self, timeout: Timeout) -> Result<T> {
        let (message, descriptors) = self.peek(TAKE, timeout)?; // accept-1
        if message == GIVE {
            let (found, expected, remedy) = ("something that was given by itself", "a value", "take it with take");
            return Err(Error::new(ErrorKind::WrongType, TAKE, found, expected, remedy));
        }
        let descriptors = if message == OBJECT { descriptors } else { Vec::new() };
        let taken = match self.read_object(descriptors) {
            Ok((bytes, descriptors)) => transfer::decode(&bytes, descriptors).map_err(dropped), // accept-2
            // It stays for another attempt.
            Err(error) if stays(&error) => return Err(error),
            Err(error) => Err(error),
        };
        self.drop_packet(); // accept-3
        taken
    }

    /// The bytes of a value, and the descriptors of what it refers to.
    fn read_object(&self, descriptors: Vec<OwnedFd>) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
        let expected = "the bytes of a value in each packet, within the limit of the connection";
        let mut descriptors = descriptors.into_iter();
        let Some(file) = descriptors.next() else { return Err(corrupt(TAKE, "a packet without them", expected)) };
        // Such a file cannot block a reader, nor become shorter under it.
        if !file::is_memory(&file) || !file::is_sealed(&file) {
            return Err(corrupt(TAKE, "a descriptor of something else", expected));
        }
        let failed = |error| Error::io(TAKE, error, "try again");
        let length = file::metadata(&file).map_err(failed)?.length;
        if length > self.limit {
            return Err(corrupt(TAKE, format_args!("{length} bytes"), expected));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length as usize).map_err(|error| {
            let found = format_args!("{length} bytes ({error})");
            Error::new(ErrorKind::NoSpace, TAKE, found, "memory for them", "lower max_message_bytes, or free memory")
        })?;
        bytes.resize(length as usize, 0);
        file::read_exact_at(&file, &mut bytes, 0).map_err(failed)?;
        // The file's number is free now. Opening something takes one more for a moment, and then
        // replaces the one that came: so a full table does not get in the way.
        Ok((bytes, descriptors.collect()))
    }
}

/// The kinds of errors that can leave what could not be taken in the socket.
fn may_stay(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WrongType | ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Busy)
}

/// What a value that could not be opened is dropped with.
fn dropped(error: Error) -> Error {
    if !may_stay(&error) {
        return error;
    }
    let (expected, remedy) = ("a value of which everything can be opened", "see what the other side gives");
    Error::new(ErrorKind::NotSerializable, TAKE, format_args!("this in it: {error}"), expected, remedy)
}
