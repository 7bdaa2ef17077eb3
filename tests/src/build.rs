//! A llama-server build that answers questions only when it is let.
//!
//! ```text
//!   llama-server (a script) ──▶ --help, --version, --list-devices: noted, and held back while shut
//!                           ╰─▶ exec the fake llama-server
//! ```
//!
//! The daemon asks a build what it has before it first starts it. A real one takes seconds to say
//! so where a driver must be woken, and one that is broken never does.

use crate::{Home, artifacts};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A build in a directory of its own.
pub struct Build {
    executable: PathBuf,
}

impl Build {
    /// The build `DIR/llama-server` in a home; open.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn new(home: &Home, dir: &str) -> Build {
        let dir = home.path().join(dir);
        fs::create_dir_all(&dir).unwrap();
        let build = Build { executable: dir.join("llama-server") };
        let script = format!(
            "#!/bin/sh\n\
             case $1 in --help | --version | --list-devices)\n    \
             echo \"$1\" >> '{asked}'\n    \
             while [ -e '{shut}' ]; do sleep 0.05; done ;;\n\
             esac\n\
             exec '{fake}' \"$@\"\n",
            asked = build.beside("asked").display(),
            shut = build.beside("shut").display(),
            fake = artifacts::fake_llama_server().display(),
        );
        let source = build.beside("script");
        fs::write(&source, script).unwrap();
        fs::set_permissions(&source, Permissions::from_mode(0o755)).unwrap();
        build.renew(home);
        build
    }

    /// Its executable.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.executable
    }

    /// Puts another build, with the same answers, in its place. It was never asked anything.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn renew(&self, home: &Home) {
        // Written by another process: one that starts while this one has a file open for writing
        // could keep it from being executed.
        let (source, next) = (self.beside("script"), self.beside("next"));
        home.program("/bin/cp", ["-p".as_ref(), source.as_os_str(), next.as_os_str()]).run().ok();
        fs::rename(next, &self.executable).unwrap();
        let _ = fs::remove_file(self.beside("asked"));
    }

    /// Lets it answer no question from now on.
    ///
    /// # Panics
    /// When that cannot be written down.
    pub fn shut(&self) {
        fs::write(self.beside("shut"), "").unwrap();
    }

    /// Lets it answer again.
    ///
    /// # Panics
    /// When it was not shut.
    pub fn open(&self) {
        fs::remove_file(self.beside("shut")).unwrap();
    }

    /// What it was asked so far, one flag each.
    #[must_use]
    pub fn questions(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.beside("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }

    /// Whether somebody waits for its answer at this moment.
    #[must_use]
    pub fn is_asked(&self, home: &Home) -> bool {
        let executable = self.executable.to_string_lossy();
        home.processes().iter().any(|it| it.command.iter().any(|word| *word == executable))
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.executable.with_file_name(name)
    }
}
