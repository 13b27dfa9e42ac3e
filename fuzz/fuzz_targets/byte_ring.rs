#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tombolo::fuzzing::byte_ring(data));
