//! What is given away: its names agree. That it works is shown by `packaging/check`.

use llamactl_tests::Home;
use llamactl_tests::artifacts::checkout;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
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

#[test]
fn the_tarballs_installer_takes_its_directories_away_and_no_other() {
    let home = Home::without_llama_server();
    let unpacked = home.path().join("unpacked");
    for file in ["bin/llamactl", "share/man/man1/llamactl.1", "share/llamactl/grafana/it.json"] {
        let file = unpacked.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        // No daemon runs, and everything else that is asked of it is done.
        fs::write(&file, "#!/bin/sh\ncase $* in *status*) exit 6 ;; esac\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    }
    let install = unpacked.join("install");
    fs::copy(checkout().join("packaging/tarball/install"), &install).unwrap();
    let prefix = home.path().join("prefix");
    let others = prefix.join("share/other/empty");
    fs::create_dir_all(&others).unwrap();
    let sh = |script: &Path, words: &[&str]| {
        home.program("/bin/sh", [script]).args(words).run().ok();
    };
    // Twice: an upgrade finds the directories that the first made.
    for _ in 0..2 {
        sh(&install, &["--prefix", prefix.to_str().unwrap()]);
    }
    fs::write(prefix.join("share/man/of-another"), "").unwrap();
    sh(&prefix.join("share/llamactl/install"), &["--uninstall"]);
    let left = |directory: &str| {
        let entries = fs::read_dir(prefix.join(directory)).unwrap();
        let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(
        (left(""), left("share")),
        (vec!["share".into()], vec!["man".into(), "other".into()])
    );
    assert_eq!(left("share/man"), ["of-another"]);
    assert!(others.exists());
}
