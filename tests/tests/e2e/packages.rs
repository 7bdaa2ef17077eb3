//! What is given away: its names agree. That it works is shown by `packaging/check`.

use llamactl_tests::artifacts::checkout;
use std::fs;
use std::process::Command;

/// The value of a key of a manifest, with its variables filled in.
fn filled(manifest: &str, key: &str, variables: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(checkout().join(manifest)).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    let value = value.unwrap().trim_matches('"').to_owned();
    variables
        .iter()
        .fold(value, |value, (name, with)| value.replace(&format!("{{ {name} }}"), with))
}

#[test]
fn cargo_binstall_finds_the_programs_in_the_tarball() {
    let named = Command::new(checkout().join("packaging/build")).arg("--name").output().unwrap();
    let tarball = String::from_utf8(named.stdout).unwrap();
    let tarball = tarball.trim();
    let directory = tarball.strip_suffix(".tar.gz").unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let target = directory.strip_prefix(&format!("llamactl-{version}-")).unwrap();
    for program in ["llamactl", "llamactld"] {
        let manifest = if program == "llamactl" { "cli/Cargo.toml" } else { "daemon/Cargo.toml" };
        let variables = [
            ("repo", env!("CARGO_PKG_REPOSITORY")),
            ("version", version),
            ("target", target),
            ("bin", program),
            ("binary-ext", ""),
        ];
        let address = filled(manifest, "pkg-url", &variables);
        let released = format!("{}/releases/download/v{version}/", env!("CARGO_PKG_REPOSITORY"));
        assert_eq!(address, released + tarball);
        let place = filled(manifest, "bin-dir", &variables).replace("{ binary-ext }", "");
        assert_eq!(place, format!("{directory}/bin/{program}"));
    }
}
