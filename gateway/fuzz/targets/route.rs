//! See `portcullis_fuzz::route`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(portcullis_fuzz::route(bytes)));
