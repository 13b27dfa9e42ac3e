//! The hash of a key. It is part of the bytes of a map: all processes must find a key in the same
//! bucket.
//!
//! Each map has its own seed, so that keys which meet in one map do not meet in another. Keys of
//! one bucket can be found by anybody that knows the seed, or tries for long.

use crate::primitive::WORD;

/// Odd, with about as many ones as zeros: the digits of the golden ratio, and of the root of three.
const FIRST: u64 = 0x9E37_79B9_7F4A_7C15;
const SECOND: u64 = 0xBB67_AE85_84CA_A73B;

/// Both halves of a product, mixed.
#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> u64::BITS) as u64
}

/// Words are little-endian, the last one filled up with zeros.
#[inline]
pub(super) fn hash(seed: u64, key: &[u8]) -> u32 {
    let start = fold(seed ^ FIRST, key.len() as u64 ^ SECOND);
    let state = key.chunks(WORD).fold(start, |state, bytes| {
        let mut word = [0; WORD];
        for (byte, own) in word.iter_mut().zip(bytes) {
            *byte = *own;
        }
        fold(state ^ u64::from_le_bytes(word), SECOND) ^ seed
    });
    let mixed = fold(state ^ FIRST, SECOND);
    (mixed ^ mixed >> u32::BITS) as u32
}

#[cfg(test)]
mod tests {
    use super::hash;

    /// Also fixes the function: another one would be another layout.
    #[test]
    fn hash_of_similar_keys_spreads_over_buckets() {
        for seed in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            let mut counts = [0_u32; 1024];
            for number in 0_u64..1024 {
                counts[hash(seed, &(number << 8).to_le_bytes()) as usize % 1024] += 1;
            }
            assert!(*counts.iter().max().unwrap() < 12, "{seed}: {counts:?}");
        }
        assert_ne!(hash(7, b""), hash(7, b"\0"));
        assert_ne!(hash(7, b"a"), hash(8, b"a"));
        assert_eq!(
            [hash(7, b""), hash(7, b"a"), hash(7, b"a key of more than a word")],
            [0xA223_6EF8, 0x8BD8_C3E3, 0xB102_166F]
        );
    }
}
