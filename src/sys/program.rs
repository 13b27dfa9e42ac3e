//! The main program of this process as the loader has put it into memory: where its functions are,
//! and which build it is.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt::Write;
use std::fs;
use std::mem;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The main program.
pub(crate) struct Program {
    /// The difference between an address in memory and the same in the file.
    base: usize,
    /// Its segments with code.
    code: Vec<Range<usize>>,
    build_id: Option<String>,
}

impl Program {
    /// The program of this process.
    ///
    /// The first call takes a lock of the C library. Make it while the program starts: in a process
    /// that was forked while another thread held that lock, nobody would release it.
    pub(crate) fn own() -> &'static Self {
        // Threads may read it at the same time, and the first one's is kept: a lock could be held
        // by another thread when the process forks.
        static OWN: AtomicPtr<Program> = AtomicPtr::new(ptr::null_mut());
        let mut own = OWN.load(Ordering::Acquire);
        if own.is_null() {
            let mut read = Box::new(Self { base: 0, code: Vec::new(), build_id: None });
            // SAFETY: the callback gets a valid description and the reference given here.
            unsafe { libc::dl_iterate_phdr(Some(read_first), (&raw mut *read).cast()) };
            let read = Box::into_raw(read);
            own = match OWN.compare_exchange(ptr::null_mut(), read, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => read,
                Err(first) => {
                    // SAFETY: from `into_raw`, and nobody else has got it.
                    drop(unsafe { Box::from_raw(read) });
                    first
                }
            };
        }
        // SAFETY: a box that is never freed, nor changed.
        unsafe { &*own }
    }

    /// Returns where a function is, counted from where the program begins. `None` if it is not a
    /// function of the program: it belongs to a shared library.
    pub(crate) fn offset_of(&self, function: usize) -> Option<usize> {
        self.code.iter().any(|segment| segment.contains(&function)).then(|| function.wrapping_sub(self.base))
    }

    /// Returns the address at an offset, if there is code.
    pub(crate) fn address_at(&self, offset: usize) -> Option<usize> {
        let address = self.base.wrapping_add(offset);
        self.code.iter().any(|segment| segment.contains(&address)).then_some(address)
    }

    /// Whether /proc/self/exe is this program. It is the loader if that was executed with the
    /// program as its argument. True if it cannot be found out.
    pub(crate) fn is_executed(&self) -> bool {
        // Relaxed: a cache, and finding out twice is harmless.
        static ANSWER: AtomicU32 = AtomicU32::new(0);
        const NO: u32 = 1;
        const YES: u32 = 2;
        let known = ANSWER.load(Ordering::Relaxed);
        if known != 0 {
            return known == YES;
        }
        let different = || {
            let (executed, path) = (fs::metadata("/proc/self/exe").ok()?, fs::read_link("/proc/self/exe").ok()?);
            let address = self.code.first()?.start;
            let maps = fs::read_to_string("/proc/thread-self/maps").ok()?;
            let mapped = maps.lines().find_map(|line| {
                let (start, rest) = line.split_once('-')?;
                let (end, rest) = rest.split_once(' ')?;
                let parse = |text| usize::from_str_radix(text, 16).ok();
                (parse(start)?..parse(end)?).contains(&address).then_some(rest)
            })?;
            let mut fields = mapped.splitn(5, ' ').skip(3);
            let (inode, mapped) = (fields.next()?, fields.next()?.trim_start());
            // Some file systems have another inode in this list.
            Some(inode != executed.ino().to_string() && mapped != path.to_str()?)
        };
        let is_executed = !different().unwrap_or(false);
        ANSWER.store(if is_executed { YES } else { NO }, Ordering::Relaxed);
        is_executed
    }

    /// What only the same build of the same program has: the build ID that the linker wrote into
    /// it, or else which file it is and when that was written.
    pub(crate) fn build(&self) -> String {
        #[cfg(feature = "__test-hooks")]
        if let Some(build) = PRETENDED_BUILD.take() {
            return build;
        }
        if let Some(id) = &self.build_id {
            return format!("build ID {id}");
        }
        fs::metadata("/proc/self/exe").map_or_else(
            |error| format!("unknown file ({error})"),
            |file| {
                let (device, inode, written) = (file.dev(), file.ino(), file.mtime());
                format!("file {device}:{inode} of {} bytes, written at {written}.{:09}", file.size(), file.mtime_nsec())
            },
        )
    }
}

#[cfg(feature = "__test-hooks")]
thread_local! {
    /// What the next call of [`Program::build`] on this thread returns.
    static PRETENDED_BUILD: std::cell::Cell<Option<String>> = const { std::cell::Cell::new(None) };
}

/// Makes the next function that this thread passes to a process one of another build.
#[cfg(feature = "__test-hooks")]
pub fn pretend_build(build: &str) {
    PRETENDED_BUILD.set(Some(build.to_string()));
}

/// Describes the first object of the process, which is the main program, and stops.
unsafe extern "C" fn read_first(info: *mut libc::dl_phdr_info, _: usize, program: *mut c_void) -> libc::c_int {
    // SAFETY: by `own`; nothing else refers to it.
    let program = unsafe { &mut *program.cast::<Program>() };
    // SAFETY: the C library keeps the description and the headers in place during the call.
    let (info, headers) = unsafe {
        let info = &*info;
        (info, slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    program.base = info.dlpi_addr as usize;
    for header in headers {
        let start = program.base.wrapping_add(header.p_vaddr as usize);
        let segment = start..start.wrapping_add(header.p_memsz as usize);
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
            program.code.push(segment);
        } else if header.p_type == libc::PT_NOTE && program.build_id.is_none() {
            // SAFETY: the loader has mapped the notes of the main program, readable and constant.
            let notes = unsafe { slice::from_raw_parts(start as *const u8, segment.len()) };
            program.build_id = build_id(notes, if header.p_align == 8 { 8 } else { 4 });
        }
    }
    1
}

/// The type of the note with the build ID, whose name is "GNU".
const BUILD_ID: u32 = 3;

/// Finds the build ID in notes, see elf(5). `align`: of a note and its parts.
fn build_id(mut notes: &[u8], align: usize) -> Option<String> {
    loop {
        let mut word = || {
            let (word, rest) = notes.split_first_chunk::<{ mem::size_of::<u32>() }>()?;
            notes = rest;
            Some(u32::from_ne_bytes(*word))
        };
        let (name_len, len, kind) = (word()? as usize, word()? as usize, word()?);
        let (name, rest) = notes.split_at_checked(name_len)?;
        let padding = (12 + name_len).next_multiple_of(align) - (12 + name_len);
        let (bytes, rest) = rest.get(padding..)?.split_at_checked(len)?;
        if kind == BUILD_ID && name == b"GNU\0" && !bytes.is_empty() {
            return Some(bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }));
        }
        notes = rest.get(len.next_multiple_of(align) - len..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, bytes: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [name.len() as u32, bytes.len() as u32, kind] {
            note.extend(word.to_ne_bytes());
        }
        for part in [name, bytes] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn build_id_behind_other_notes_is_found() {
        let notes = [note(b"GNU\0", 1, b"abcde"), note(b"stapsdt\0", 3, b"x"), note(b"GNU\0", 3, &[0xAB, 1])].concat();
        assert_eq!(build_id(&notes, 4).as_deref(), Some("ab01"));
    }

    #[test]
    fn build_id_in_cut_notes_is_none() {
        let notes = note(b"GNU\0", 3, &[7; 20]);
        for length in 0..notes.len() {
            assert_eq!(build_id(&notes[..length], 4), None, "{length}");
        }
        assert!(build_id(&note(b"GNU\0", 3, &[]), 4).is_none());
        assert!(build_id(&[0xFF; 64], 4).is_none());
    }

    #[test]
    fn program_function_of_its_own_is_found_again() {
        let program = Program::own();
        let address = program_function_of_its_own_is_found_again as *const () as usize;
        let offset = program.offset_of(address).unwrap();
        assert_eq!(program.address_at(offset), Some(address));
        assert_eq!(program.offset_of(libc::getppid as *const () as usize), None, "of the C library");
        assert_eq!(program.address_at(usize::MAX / 2), None);
    }
}
