//! What `model import` reads: an export, a preset, a command line, the old dashboard's JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llamactld::transfer::{dashboard, document, pasted, preset};
use std::path::Path;

fuzz_target!(|input: &str| {
    let base = Path::new("/tmp");
    let _ = document::read(input, base);
    let _ = preset::read(input, None, base);
    let _ = pasted::read(input, None, base, Some(base));
    let _ = dashboard::read_text(input);
});
