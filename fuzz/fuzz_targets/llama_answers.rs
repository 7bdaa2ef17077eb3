//! What a llama-server answers: the text of `/metrics`, `/slots`, `/props`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llamactl_protocol::options::catalogue;
use llamactld::llama::{ReportedSettings, Slot, parse_metrics};

fuzz_target!(|input: &[u8]| {
    let _ = parse_metrics(&String::from_utf8_lossy(input));
    for slot in serde_json::from_slice::<Vec<Slot>>(input).unwrap_or_default() {
        let _ = slot.decoded();
    }
    if let Some(reported) = ReportedSettings::read(input) {
        catalogue().for_each(|setting| drop(reported.get(setting)));
    }
});
