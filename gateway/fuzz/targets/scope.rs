//! See `portcullis_fuzz::scope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(portcullis_fuzz::scope(bytes)));
