//! See `portcullis_fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(portcullis_fuzz::token(bytes)));
