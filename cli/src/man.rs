//! The manual pages: made from the help of every command.
//!
//! `packaging/build` names a directory for them in `LLAMACTL_MAN_DIR`; otherwise they are only looked at.

use crate::args::Cli;
use clap::CommandFactory as _;
use std::path::PathBuf;

#[test]
fn every_command_has_a_manual_page() {
    let scratch = tempfile::tempdir().unwrap();
    let named = std::env::var_os("LLAMACTL_MAN_DIR").map(PathBuf::from);
    let dir = named.unwrap_or_else(|| scratch.path().to_owned());
    clap_mangen::generate_to(Cli::command(), &dir).unwrap();
    for page in
        ["llamactl.1", "llamactl-start.1", "llamactl-model-add.1", "llamactl-daemon-install.1"]
    {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        let has_exit_codes = text.contains("Exit codes");
        assert!(
            text.contains(".SH NAME") && has_exit_codes == (page != "llamactl.1"),
            "{page}: {text}"
        );
    }
}
