//! Two machines in one: a home, another home, and a real sshd between them.
//!
//! ```text
//!   near ── llamactl --host ssh://box ─▶ near/bin/ssh ─▶ /usr/bin/ssh ─▶ sshd on 127.0.0.1
//!                                         (own configuration)           │ the other home's environment
//!   far ─── far/bin/llamactl ◀── bash -c … ◀────────────────────────────╯
//! ```
//!
//! Keys, configuration and known hosts are of the test alone. ssh finds a user's files by the user
//! database and not by `HOME`, so a script in its place names them.

use crate::cli::Invocation;
use crate::processes::Process;
use crate::{DEADLINE, Home, artifacts, eventually, skip};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// The server of ssh.
pub const SSHD: &str = "/usr/sbin/sshd";

/// Two homes with an sshd between them.
pub struct Remote {
    /// Where commands are typed.
    pub near: Home,
    /// Where the daemon is.
    pub far: Home,
    sshd: Child,
    port: u16,
}

impl Remote {
    /// An sshd that lets the near home into the far one, where llamactl is in the PATH.
    ///
    /// # Panics
    /// When sshd does not come up.
    #[must_use]
    pub fn new(far: Home) -> Remote {
        let near = Home::without_llama_server();
        let path = format!("{}/bin:{}", near.path().display(), skip::PATH);
        let near = near.env("PATH", path);
        let far_path = format!("{}/bin:/usr/bin:/bin", far.path().display());
        fs::create_dir(far.path().join("bin")).unwrap();
        symlink(artifacts::llamactl(), far.path().join("bin/llamactl")).unwrap();

        let dir = near.path().join("ssh");
        fs::create_dir(&dir).unwrap();
        for key in ["host", "user"] {
            let arguments = ["-q", "-t", "ed25519", "-N", "", "-f", key];
            let mut keygen = near.program("/usr/bin/ssh-keygen", arguments).command();
            assert!(keygen.current_dir(&dir).status().unwrap().success());
        }
        // Free now; nobody else has asked for it by the time that sshd does.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let host_key = fs::read_to_string(dir.join("host.pub")).unwrap();
        fs::write(dir.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        let dir = dir.display();
        let client = format!(
            "Host box\n HostName 127.0.0.1\n Port {port}\nHost *\n IdentityFile {dir}/user\n \
             IdentitiesOnly yes\n UserKnownHostsFile {dir}/known_hosts\n GlobalKnownHostsFile \
             /dev/null\n StrictHostKeyChecking yes\n"
        );
        fs::write(near.path().join("ssh/config"), client).unwrap();
        let environment = far.program("/bin/true", [""; 0]).env("PATH", far_path).command();
        let environment = environment
            .get_envs()
            .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value?.to_str()?)));
        let server = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\n\
             PidFile none\nDenyUsers nobody\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nMaxStartups 100\n\
             MaxSessions 100\nLogLevel ERROR\nSetEnv {}\n",
            environment.collect::<Vec<_>>().join(" ")
        );
        fs::write(near.path().join("ssh/sshd_config"), server).unwrap();
        // Of sshd as root; as anybody else it needs none.
        let _ = fs::create_dir("/run/sshd");
        let config = near.path().join("ssh/sshd_config");
        let arguments = [OsStr::new("-D"), OsStr::new("-e"), OsStr::new("-f"), config.as_os_str()];
        let mut sshd = near.program(SSHD, arguments).command();
        let log = fs::File::create(near.path().join("ssh/sshd.log")).unwrap();
        let sshd = sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let remote = Remote { near, far, sshd, port };
        remote.script(&remote.near, "ssh", &format!("exec /usr/bin/ssh -F {dir}/config \"$@\""));
        eventually(DEADLINE, "sshd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        remote
    }

    /// `llamactl --host ssh://box` with these arguments, not yet run.
    pub fn llamactl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Invocation {
        self.near.llamactl(["--host", "ssh://box"]).args(arguments)
    }

    /// `ssh` with these arguments, as llamactl finds it, not yet run.
    pub fn ssh<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Invocation {
        self.near.program(self.near.path().join("bin/ssh"), arguments)
    }

    /// The port of sshd.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Puts a program of this text in the place of another in a home's PATH.
    pub fn script(&self, home: &Home, name: &str, text: &str) {
        let path = home.path().join("bin").join(name);
        fs::create_dir_all(home.path().join("bin")).unwrap();
        // It may be a link to a program that is tested.
        let _ = fs::remove_file(&path);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// What the shell of the far home runs before anything else.
    pub fn bashrc(&self, text: &str) {
        fs::write(self.far.path().join(".bashrc"), text).unwrap();
    }

    /// Cuts all connections that there are: sshd has a process for each. What it calls them has taken the
    /// place of their environment, by which processes of a home are known.
    pub fn cut(&self) {
        let numbers = fs::read_dir("/proc").unwrap();
        let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        for process in numbers.filter_map(Process::open) {
            if process.parent() == Some(self.sshd.id()) {
                process.signal(Signal::KILL);
            }
        }
    }

    /// The option by which ssh takes the connections that llamactl has made.
    #[must_use]
    pub fn control_path(&self) -> String {
        format!("ControlPath={}/ssh/%C", self.near.run_dir().display())
    }

    /// Where connections to one machine meet.
    fn masters(&self) -> Vec<PathBuf> {
        let dir = self.near.run_dir().join("ssh");
        let entries = fs::read_dir(dir).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        for master in self.masters() {
            let control = format!("ControlPath={}", master.display());
            // It may have ended by itself.
            let _ = self.ssh(["-o", &control, "-O", "exit", "box"]).run();
        }
        self.cut();
        // Nothing to do where it has ended already.
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.near.path().join("ssh/sshd.log")).unwrap_or_default();
            eprintln!("--- sshd said:\n{log}---");
        }
    }
}
