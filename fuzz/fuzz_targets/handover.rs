//! What one daemon leaves to the next.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llamactld::lifecycle::handover::Handover;
use std::os::fd::RawFd;

fuzz_target!(|input: &str| {
    let _ = input.parse::<Handover<RawFd>>();
});
