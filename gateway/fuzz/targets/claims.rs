//! See `portcullis_fuzz::claims`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(portcullis_fuzz::claims(bytes)));
