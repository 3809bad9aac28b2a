//! See `portcullis_fuzz::challenge`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(portcullis_fuzz::challenge(bytes)));
