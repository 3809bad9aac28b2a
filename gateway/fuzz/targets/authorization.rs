//! See `portcullis_fuzz::authorization`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(portcullis_fuzz::authorization(bytes)));
