//! Copies of payload into shared words and out of them.
//!
//! A peer may overwrite a payload while it is copied. That must give wrong bytes, not undefined
//! behaviour. So payloads are copied as Relaxed atomic words, or by assembly (long ones, and values
//! that are loaded). No reference to plain bytes ever points into shared memory. A payload whose
//! length is not a multiple of eight has a zero-padded last word. The measurements are in
//! docs/decisions/0001-copying-payloads.md.

#![allow(unsafe_code)]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytemuck::Pod;

pub(crate) const WORD: usize = size_of::<u64>();

type Words = [AtomicU64];

macro_rules! prefetch {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        ///
        /// A hint without effect: the word need not exist.
        #[inline(always)]
        pub(crate) fn $name(words: &Words, index: usize) {
            let word = words.as_ptr().wrapping_add(index).addr();
            // SAFETY: the processor ignores an invalid address, and an instruction it does not
            // know.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                std::arch::asm!(concat!($instruction, " [{}]"), in(reg) word, options(nostack, preserves_flags, nomem));
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = word;
        }
    };
}

prefetch! {
    /// Prefetches a word's cache line, to be read soon.
    prefetch_to_read, "prefetcht0"
}

prefetch! {
    /// Prefetches a word's cache line, to be written soon.
    prefetch_to_write, "prefetchw"
}

/// Copies `source` into the first words of `target`, as far as it fits.
#[inline]
pub(crate) fn store_bytes(target: &Words, source: &[u8]) {
    match target.get(..source.len().div_ceil(WORD)) {
        // The compiler often knows this length.
        Some(exact) => store_into(exact, source),
        None => store_into(target, source),
    }
}

#[inline(always)]
fn store_into(target: &Words, source: &[u8]) {
    let blocks = blocks(target.len(), source.len());
    if blocks > 0 {
        // SAFETY: both sides have that many blocks.
        unsafe { copy_blocks(target.as_ptr().cast_mut().cast(), source.as_ptr(), blocks) };
    }
    let done = blocks * BLOCK;
    store_words(target.get(done / WORD..).unwrap_or_default(), source.get(done..).unwrap_or_default());
}

/// Returns up to seven bytes as a word, in the order of memory. Without a copy of unknown length,
/// which would be a call.
#[inline(always)]
fn pack_tail(bytes: &[u8]) -> u64 {
    let (four, rest) = bytes.as_chunks::<4>();
    let (two, one) = rest.as_chunks::<2>();
    let (mut word, mut bits) = (0, 0);
    if let Some(four) = four.first() {
        (word, bits) = (u64::from(u32::from_le_bytes(*four)), 32);
    }
    if let Some(two) = two.first() {
        word |= u64::from(u16::from_le_bytes(*two)) << bits;
        bits += 16;
    }
    if let Some(one) = one.first() {
        word |= u64::from(*one) << bits;
    }
    word.to_le()
}

/// The reverse of [`pack_tail`].
#[inline(always)]
fn unpack_tail(word: u64, bytes: &mut [u8]) {
    let (four, rest) = bytes.as_chunks_mut::<4>();
    let (two, one) = rest.as_chunks_mut::<2>();
    let mut word = u64::from_le(word);
    if let Some(four) = four.first_mut() {
        *four = (word as u32).to_le_bytes();
        word >>= 32;
    }
    if let Some(two) = two.first_mut() {
        *two = (word as u16).to_le_bytes();
        word >>= 16;
    }
    if let Some(one) = one.first_mut() {
        *one = word as u8;
    }
}

/// Like [`store_bytes`], but without a call for short payloads.
#[inline(always)]
pub(crate) fn store_short(target: &Words, source: &[u8]) {
    if source.len() >= VECTOR_COPY_MIN {
        return store_bytes(target, source);
    }
    store_words(target, source);
}

#[inline(always)]
fn store_words(target: &Words, source: &[u8]) {
    let (whole, rest) = source.as_chunks::<WORD>();
    for (word, bytes) in target.iter().zip(whole) {
        word.store(u64::from_ne_bytes(*bytes), Relaxed);
    }
    if let (false, Some(word)) = (rest.is_empty(), target.get(whole.len())) {
        word.store(pack_tail(rest), Relaxed);
    }
}

/// Copies the first words of `source` into `target`. If `source` is too short, the rest of `target`
/// stays as it is.
#[inline]
pub(crate) fn load_bytes(source: &Words, target: &mut [u8]) {
    match source.get(..target.len().div_ceil(WORD)) {
        Some(exact) => load_from(exact, target),
        None => load_from(source, target),
    }
}

#[inline(always)]
fn load_from(source: &Words, target: &mut [u8]) {
    let blocks = blocks(source.len(), target.len());
    if blocks > 0 {
        // SAFETY: both sides have that many blocks.
        unsafe { copy_blocks(target.as_mut_ptr(), source.as_ptr().cast(), blocks) };
    }
    let done = blocks * BLOCK;
    load_words(source.get(done / WORD..).unwrap_or_default(), target.get_mut(done..).unwrap_or_default());
}

/// Like [`load_bytes`], but without a call for short payloads.
#[inline(always)]
pub(crate) fn load_short(source: &Words, target: &mut [u8]) {
    if target.len() >= VECTOR_COPY_MIN {
        return load_bytes(source, target);
    }
    load_words(source, target);
}

#[inline(always)]
fn load_words(source: &Words, target: &mut [u8]) {
    let (whole, rest) = target.as_chunks_mut::<WORD>();
    let count = whole.len();
    for (bytes, word) in whole.iter_mut().zip(source) {
        *bytes = word.load(Relaxed).to_ne_bytes();
    }
    if let (false, Some(word)) = (rest.is_empty(), source.get(count)) {
        unpack_tail(word.load(Relaxed), rest);
    }
}

/// The longest value, in bytes, that is copied through registers. Longer ones are copied as byte
/// messages are.
pub(crate) const REGISTER_COPY_MAX: usize = 128;

/// Loads a value from the first words into `value`, which stays as it is if there are too few.
///
/// Short values go 16 bytes at a time, because the compiler moves them on that way: a load of 16
/// bytes would have to wait for smaller stores, which cannot be forwarded to it. In assembly for
/// the same reason as [`copy_blocks`].
#[inline(always)]
pub(crate) fn load_value_into<T: Pod>(source: &Words, value: &mut T) {
    let bytes = bytemuck::bytes_of_mut(value);
    if source.len() < size_of::<T>().div_ceil(WORD) {
        return;
    }
    if cfg!(not(target_arch = "x86_64")) || size_of::<T>() > REGISTER_COPY_MAX {
        return load_bytes(source, bytes);
    }
    let (from, to) = (source.as_ptr().cast::<u8>(), bytes.as_mut_ptr());
    let mut done = 0;
    // Plain loops: what is not inlined into the caller's crate costs more than the copy.
    #[cfg(target_arch = "x86_64")]
    while done + 16 <= size_of::<T>() {
        // SAFETY: these 16 bytes are within the words and within the value. SSE2 is part of x86-64.
        unsafe {
            let both: std::arch::x86_64::__m128i;
            std::arch::asm!(
                "movups {both}, [{from}]",
                both = out(xmm_reg) both,
                from = in(reg) from.add(done),
                options(nostack, preserves_flags, readonly)
            );
            to.add(done).cast::<std::arch::x86_64::__m128i>().write_unaligned(both);
        }
        done += 16;
    }
    while done < size_of::<T>() {
        let rest = if size_of::<T>() - done < WORD { size_of::<T>() - done } else { WORD };
        // SAFETY: the word exists, and is aligned because `done` is a multiple of eight. `rest`
        // bytes of the value are left.
        unsafe {
            let word = (*from.add(done).cast::<AtomicU64>()).load(Relaxed).to_ne_bytes();
            std::ptr::copy_nonoverlapping(word.as_ptr(), to.add(done), rest);
        }
        done += WORD;
    }
}

/// Stores a value into the first words, or nothing if there are too few.
#[inline(always)]
pub(crate) fn store_value<T: Pod>(target: &Words, value: &T) {
    if size_of::<T>() > REGISTER_COPY_MAX {
        return store_bytes(target, bytemuck::bytes_of(value));
    }
    if target.len() < size_of::<T>().div_ceil(WORD) {
        return;
    }
    let from = bytemuck::bytes_of(value).as_ptr();
    let mut done = 0;
    while done < size_of::<T>() {
        let rest = if size_of::<T>() - done < WORD { size_of::<T>() - done } else { WORD };
        let mut word = [0; WORD];
        // SAFETY: `rest` bytes of the value are left, and the word exists.
        unsafe {
            std::ptr::copy_nonoverlapping(from.add(done), word.as_mut_ptr(), rest);
            (*target.as_ptr().add(done / WORD)).store(u64::from_ne_bytes(word), Relaxed);
        }
        done += WORD;
    }
}

/// The bytes that the vector copy moves at a time.
const BLOCK: usize = 64;

/// The shortest payload, in bytes, for vector registers. Shorter ones go word by word, in loops
/// that the compiler unrolls.
const VECTOR_COPY_MIN: usize = 128;

/// The shortest payload, in bytes, for the processor's string move.
const REP_MOVSB_MIN: usize = 2048;

/// The number of blocks of a payload that the vector copy moves.
#[inline]
fn blocks(words: usize, bytes: usize) -> usize {
    let bytes = bytes.min(words * WORD);
    if cfg!(target_arch = "x86_64") && bytes >= VECTOR_COPY_MIN { bytes / BLOCK } else { 0 }
}

/// Copies blocks with vector registers. In assembly because one of the sides is shared. To the
/// language that is opaque, and so no data race. To the machine each byte is loaded and stored
/// whole, which is enough for payloads.
///
/// # Safety `source` must be readable and `target` writable for `blocks` times [`BLOCK`] bytes,
/// `blocks` at least 1.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn copy_blocks(target: *mut u8, source: *const u8, blocks: usize) {
    if blocks * BLOCK >= REP_MOVSB_MIN {
        // SAFETY: stays within the ranges that the caller promises. The ABI keeps the direction
        // flag clear.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rsi") source => _,
                inout("rdi") target => _,
                inout("rcx") blocks * BLOCK => _,
                options(nostack, preserves_flags)
            );
        }
        return;
    }
    if std::is_x86_feature_detected!("avx") {
        // SAFETY: stays within the ranges that the caller promises. The processor has the
        // instructions.
        unsafe {
            std::arch::asm!(
                "2:",
                "vmovups ymm0, [{from}]",
                "vmovups ymm1, [{from} + 32]",
                "vmovups [{to}], ymm0",
                "vmovups [{to} + 32], ymm1",
                "add {from}, 64",
                "add {to}, 64",
                "dec {blocks}",
                "jnz 2b",
                "vzeroupper",
                from = inout(reg) source => _,
                to = inout(reg) target => _,
                blocks = inout(reg) blocks => _,
                // The last instruction changes all of them, and the caller's values may be in
                // there.
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nostack)
            );
        }
        return;
    }
    // SAFETY: stays within the ranges that the caller promises. SSE2 is part of x86-64.
    unsafe {
        std::arch::asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "dec {blocks}",
            "jnz 2b",
            from = inout(reg) source => _,
            to = inout(reg) target => _,
            blocks = inout(reg) blocks => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack)
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_blocks(_: *mut u8, _: *const u8, _: usize) {}

/// Like [`store_bytes`], but past the caches: for a reader on a distant core, which would otherwise
/// fetch each line out of this core's cache. Ordered before later stores, like a plain copy.
#[inline]
pub(crate) fn store_nontemporal(target: &Words, source: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        let (whole, rest) = source.as_chunks::<WORD>();
        for (word, bytes) in target.iter().zip(whole) {
            // SAFETY: `word` is a live, aligned, writable word. movnti is one whole 8-byte store,
            // opaque to the compiler and so no data race in the language's sense.
            unsafe {
                std::arch::asm!("movnti [{to}], {value}", to = in(reg) word.as_ptr(),
                    value = in(reg) u64::from_ne_bytes(*bytes), options(nostack, preserves_flags));
            }
        }
        // SAFETY: no operands. Non-temporal stores are weakly ordered even on x86, and the caller
        // publishes next.
        unsafe { std::arch::asm!("sfence", options(nostack, preserves_flags)) };
        if let Some(tail) = target.get(whole.len()..) {
            store_bytes(tail, rest);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    store_bytes(target, source);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_value_of_any_size_round_trips() {
        fn load_value<const N: usize>(words: &[AtomicU64]) -> [u8; N] {
            let mut value = [0; N];
            load_value_into(words, &mut value);
            value
        }

        fn check<const N: usize>() {
            let words: Vec<AtomicU64> = (0..N.div_ceil(WORD)).map(|_| AtomicU64::new(!0)).collect();
            let source: [u8; N] = std::array::from_fn(|i| (i * 7 + 1) as u8);
            store_value(&words, &source);
            assert_eq!(load_value(&words), source, "{N} bytes");
            let mut back = [0; N];
            load_bytes(&words, &mut back);
            assert_eq!(back, source, "{N} bytes stored");
            let short = words.get(1..).unwrap_or_default();
            assert_eq!(load_value(short), [0; N], "{N} bytes from too few words");
        }
        check::<0>();
        check::<1>();
        check::<8>();
        check::<13>();
        check::<16>();
        check::<24>();
        check::<31>();
        check::<64>();
        check::<127>();
        check::<128>();
        check::<129>();
        check::<1000>();
    }

    #[test]
    fn copy_bytes_of_any_length_round_trips_and_touches_nothing_else() {
        for length in 0..=257_usize {
            for store in [store_bytes, store_short, store_nontemporal] {
                let words: Vec<AtomicU64> = (0..length.div_ceil(WORD) + 1).map(|_| AtomicU64::new(!0)).collect();
                let source: Vec<u8> = (0..length).map(|i| (i * 7 + 1) as u8).collect();
                store(&words, &source);
                assert_eq!(words.last().unwrap().load(Relaxed), !0, "wrote past the end at length {length}");
                for load in [load_bytes, load_short] {
                    let mut back = vec![0xEE; length];
                    load(&words, &mut back);
                    assert_eq!(back, source);
                }
                let few = words.get(..length / 16).unwrap();
                let mut back = vec![0xEE; length];
                load_short(few, &mut back);
                assert_eq!(
                    back.split_at(few.len() * WORD),
                    (&source[..few.len() * WORD], &vec![0xEE; length - few.len() * WORD][..])
                );
            }
        }
    }

    /// A caller that was compiled for wider registers keeps its own values in them across a copy.
    /// Without optimisation it keeps them in memory, and this cannot fail: `./check all` runs it
    /// optimised.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn copy_preserves_vector_registers_of_the_caller() {
        use std::arch::x86_64::{_mm256_add_pd, _mm256_set1_pd, _mm256_storeu_pd};

        #[target_feature(enable = "avx2")]
        fn sums(words: &[AtomicU64], bytes: &mut [u8; 256]) -> [[f64; 4]; 4] {
            let mut sums = [_mm256_set1_pd(0.0); 4];
            for number in 1..=3 {
                load_bytes(words, bytes);
                store_bytes(words, bytes);
                sums = sums.map(|sum| _mm256_add_pd(sum, _mm256_set1_pd(f64::from(number))));
            }
            sums.map(|sum| {
                let mut parts = [0.0; 4];
                // SAFETY: there is room for four.
                unsafe { _mm256_storeu_pd(parts.as_mut_ptr(), sum) };
                parts
            })
        }

        if !std::is_x86_feature_detected!("avx2") {
            return;
        }
        let words: Vec<AtomicU64> = (0..32).map(AtomicU64::new).collect();
        // SAFETY: the processor has the instructions.
        let sums = unsafe { sums(&words, &mut [0; 256]) };
        assert_eq!(sums, [[6.0; 4]; 4]);
    }
}
