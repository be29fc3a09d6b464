#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::super_block::run(bytes));
