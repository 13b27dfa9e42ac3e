#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tombolo::fuzzing::mpmc_ring(data));
