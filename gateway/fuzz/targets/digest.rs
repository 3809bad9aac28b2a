//! See `portcullis_fuzz::digest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(portcullis_fuzz::digest(bytes)));
