//! See `portcullis_fuzz::configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(portcullis_fuzz::configuration(bytes)));
