//! Anonymous memory that other processes can map, and futexes. It leaves no file behind.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;

/// An anonymous file that children inherit.
pub fn memfd() -> io::Result<File> {
    // SAFETY: the name is a C string, and a fresh descriptor has no other owner.
    unsafe {
        match libc::memfd_create(c"rivals".as_ptr(), 0) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(File::from_raw_fd(fd)),
        }
    }
}

/// Makes children inherit a file that they would not inherit otherwise.
pub fn inheritable(file: File) -> io::Result<File> {
    // SAFETY: plain system call on our own descriptor.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(file),
    }
}

/// Returns an argument for `inherited` in a child process.
pub fn address<'a>(files: impl IntoIterator<Item = &'a File>) -> String {
    let fds: Vec<_> = files.into_iter().map(|file| file.as_raw_fd().to_string()).collect();
    fds.join(",")
}

/// Returns the files that this process has inherited.
///
/// # Safety
/// Nothing else in this process may own them.
pub unsafe fn inherited<const N: usize>(address: &str) -> io::Result<[File; N]> {
    let fds: Result<Vec<RawFd>, _> = address.split(',').map(str::parse).collect();
    let fds: [RawFd; N] = fds
        .map_err(io::Error::other)?
        .try_into()
        .map_err(|_| io::Error::other("another number of files was inherited"))?;
    // SAFETY: passed on to the caller.
    Ok(fds.map(|fd| unsafe { File::from_raw_fd(fd) }))
}

/// A type that processes may share, and that all-zero bytes are a value of.
///
/// # Safety
/// Both must be true.
pub unsafe trait Plain: Sync {}

pub struct Shared<T: Plain> {
    file: File,
    place: NonNull<T>,
    own: PhantomData<T>,
}

// SAFETY: it gives out `&T` only, and `Plain` implies `Sync`.
unsafe impl<T: Plain> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Shared<T> {}

impl<T: Plain> Shared<T> {
    pub fn create() -> io::Result<Self> {
        let file = memfd()?;
        file.set_len(size_of::<T>() as u64)?;
        Self::map(file)
    }

    /// The file must be one that `create` made for the same `T`.
    pub fn map(file: File) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of our own file overlaps nothing.
        let place =
            unsafe { libc::mmap(ptr::null_mut(), size_of::<T>(), protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let place = NonNull::new(place.cast()).expect("mmap does not return null");
        Ok(Self { file, place, own: PhantomData })
    }

    pub fn file(&self) -> &File {
        &self.file
    }
}

impl<T: Plain> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped for as long as `self` lives; zero bytes are a value.
        unsafe { self.place.as_ref() }
    }
}

impl<T: Plain> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: this mapping is ours, and no borrow outlives `self`.
        unsafe { libc::munmap(self.place.as_ptr().cast(), size_of::<T>()) };
    }
}

/// Blocks until the word has another value than `value`, or for no reason.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    futex(word, libc::FUTEX_WAIT, value);
}

pub fn futex_wake(word: &AtomicU32, waiters: i32) {
    futex(word, libc::FUTEX_WAKE, waiters as u32);
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    let forever = ptr::null::<libc::timespec>();
    // SAFETY: the word outlives the call; callers check it again, whatever the outcome.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, forever) };
}
