//! Keys of a map that meet in one bucket, as a process finds them that can read the map's seed. The
//! places and the hash are those of docs/layout.md.

use std::fs;
use std::path::Path;

/// Words before the first object of a namespace that has one object.
fn words_before(participants: usize) -> usize {
    64 + 16 * participants + 16
}

const BUCKETS: usize = 7;

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

fn hash(seed: u64, key: u64) -> u32 {
    const A: u64 = 0x9E37_79B9_7F4A_7C15;
    const B: u64 = 0xBB67_AE85_84CA_A73B;
    let state = fold(fold(seed ^ A, 8 ^ B) ^ key, B) ^ seed;
    let mixed = fold(state ^ A, B);
    (mixed ^ mixed >> 32) as u32
}

/// The keys of type `u64` that belong into the first bucket of the map, which is the only object of
/// this region, in order and without end.
pub fn keys_of_one_bucket(region: &Path, participants: usize) -> impl Iterator<Item = u64> {
    let bytes = fs::read(region).unwrap();
    let word = |at: usize| {
        let start = (words_before(participants) + at) * 8;
        u64::from_le_bytes(bytes[start..start + 8].try_into().unwrap())
    };
    let (seed, key_size, buckets) = (word(0), word(1), word(BUCKETS));
    assert!(key_size == 8 && buckets.is_power_of_two(), "no map of keys of eight bytes: {key_size}, {buckets}");
    (0..).filter(move |&key| u64::from(hash(seed, key)) % buckets == 0)
}
