//! The header of a model file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llamactld::gguf::read_header;
use std::io::Cursor;

fuzz_target!(|input: &[u8]| {
    let _ = read_header(Cursor::new(input), input.len() as u64);
});
