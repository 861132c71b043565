#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| standpipe_fuzz::e1000(data));
