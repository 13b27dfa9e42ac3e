//! Starting a program without a fork. The page tables of this process are not copied, which takes
//! long if it has much memory, and its threads do not fault on pages that are shared with a child.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::RawFd;
use std::ptr;

/// A program that is to be started.
pub(crate) struct Program<'a> {
    pub(crate) path: &'a CStr,
    /// The first one is its name.
    pub(crate) arguments: &'a [CString],
    pub(crate) environment: &'a [CString],
    pub(crate) directory: Option<&'a CStr>,
    /// The descriptors that it keeps, although they are close-on-exec here.
    pub(crate) keep: &'a [RawFd],
    /// What becomes its standard output, and the number under which it gets the other one.
    pub(crate) stdout: Option<(RawFd, RawFd)>,
}

type AddDirectory = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, *const libc::c_char) -> libc::c_int;

/// Returns what lets a child begin in another directory, if the C library has it: glibc from 2.29
/// on, musl from 1.1.24 on. Those are also the ones in which a `dup2` of a descriptor to itself
/// lets the child keep it.
fn add_directory() -> Option<AddDirectory> {
    // SAFETY: looks up a name.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"posix_spawn_file_actions_addchdir_np".as_ptr()) };
    // SAFETY: a function of that name has this type.
    (!function.is_null()).then(|| unsafe { mem::transmute::<*mut libc::c_void, AddDirectory>(function) })
}

/// Starts the program and returns its pid, when it has been executed. `None`: the C library is too
/// old.
pub(crate) fn posix_spawn(program: &Program<'_>) -> io::Result<Option<u32>> {
    let Some(add_directory) = add_directory() else { return Ok(None) };
    let mut actions = FileActions::new()?;
    let attributes = Attributes::new()?;
    if let Some(directory) = program.directory {
        // SAFETY: initialised; the text outlives the call that uses it.
        check(unsafe { add_directory(actions.0.as_mut_ptr(), directory.as_ptr()) })?;
    }
    for &descriptor in program.keep {
        actions.dup2(descriptor, descriptor)?;
    }
    if let Some((replacement, stdout)) = program.stdout {
        actions.dup2(libc::STDOUT_FILENO, stdout)?;
        actions.dup2(replacement, libc::STDOUT_FILENO)?;
    }
    let pointers = |texts: &[CString]| {
        let pointers = texts.iter().map(|text| text.as_ptr().cast_mut());
        pointers.chain([ptr::null_mut()]).collect::<Vec<*mut libc::c_char>>()
    };
    let (arguments, environment) = (pointers(program.arguments), pointers(program.environment));
    let mut pid = 0;
    // SAFETY: everything is initialised, the lists end with null, and nothing of it is written.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.path.as_ptr(),
            actions.0.as_ptr(),
            attributes.0.as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    })?;
    Ok(u32::try_from(pid).ok())
}

fn check(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Initialised where it stays: such objects are not to be moved.
struct FileActions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: initialises it, if it succeeds.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Self(actions))
    }

    fn dup2(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: initialised. The numbers mean something in the child only.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), from, to) })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

/// As [`FileActions`].
struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    /// As `Command` does: the signal mask is inherited, and SIGPIPE, which Rust's runtime ignores,
    /// is not.
    fn new() -> io::Result<Self> {
        let (mut attributes, mut signals) = (Box::new(MaybeUninit::uninit()), MaybeUninit::uninit());
        // SAFETY: initialises it, if it succeeds.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        let mut attributes = Self(attributes);
        let pointer = attributes.0.as_mut_ptr();
        // SAFETY: as above, and the first call initialises the signals.
        unsafe {
            libc::sigemptyset(signals.as_mut_ptr());
            libc::sigaddset(signals.as_mut_ptr(), libc::SIGPIPE);
            check(libc::posix_spawnattr_setsigdefault(pointer, signals.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(pointer, libc::POSIX_SPAWN_SETSIGDEF as libc::c_short))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}
