//! The daemon's configuration. What is taken is taken again as it is written out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llamactl_protocol::daemon::ConfigReport;
use llamactld::config::{parse, text};
use std::path::Path;

fuzz_target!(|input: &str| {
    let path = Path::new("/llamactld.toml");
    let Ok(config) = parse(path, input) else { return };
    let written = text(&ConfigReport { path: None, config: config.clone() });
    let again = parse(path, &written);
    assert!(again.as_ref().is_ok_and(|again| *again == config), "{written}: {again:?}");
});
