//! The unit files that `daemon install` writes, and what it may name in them.
//!
//! They are those of packages, with the directory of the programs put in.

use super::{Manager, UNIT};
use llamactl_protocol::{Failure, Hint, Kind};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How each file begins that was written here and may be written over and removed here.
const MARK: &str = "# Written by llamactl daemon install; llamactl daemon uninstall removes it.\n";
/// The directory of the programs in the files as packages have them.
const PACKAGED: &str = "/usr/bin/";
/// Where an administrator's units of the machine are.
pub(crate) const SYSTEM_DIR: &str = "/etc/systemd/system";

const SYSTEM_UNIT: &str = include_str!("../../../packaging/systemd/system/llamactl.service");
const USER_UNIT: &str = include_str!("../../../packaging/systemd/user/llamactl.service");
const SOCKET: &str = include_str!("../../../packaging/systemd/system/llamactl.socket");
const SOCKET_DROP_IN: &str = include_str!("../../../packaging/systemd/system/socket.conf");
const TMPFILES: &str = include_str!("../../../packaging/systemd/system/tmpfiles.conf");
const SYSUSERS: &str = include_str!("../../../packaging/systemd/system/sysusers.conf");

/// A file and what is to be in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnitFile {
    /// Where it belongs.
    pub(crate) path: PathBuf,
    text: String,
}

/// The daemon's unit for programs in this directory; `dir` is where units of this manager are.
///
/// # Errors
/// The path of the programs cannot stand in a unit.
pub(crate) fn unit(manager: Manager, dir: &Path, programs: &Path) -> Result<UnitFile, Failure> {
    let packaged = match manager {
        Manager::System => SYSTEM_UNIT,
        Manager::User => USER_UNIT,
    };
    let programs = escaped(&programs.join(""))?;
    Ok(UnitFile { path: dir.join(UNIT), text: packaged.replace(PACKAGED, &programs) })
}

/// The user that the machine's daemon runs as.
pub(crate) fn sysusers() -> UnitFile {
    UnitFile { path: "/etc/sysusers.d/llamactl.conf".into(), text: SYSUSERS.to_owned() }
}

/// What makes systemd listen for the machine's daemon: the socket, what its service is without, and
/// the directory that it lies in.
pub(crate) fn socket_activation() -> [UnitFile; 3] {
    let file = |path: String, text: &str| UnitFile { path: path.into(), text: text.to_owned() };
    [
        file(format!("{SYSTEM_DIR}/{}", super::SOCKET_UNIT), SOCKET),
        file(format!("{SYSTEM_DIR}/{UNIT}.d/socket.conf"), SOCKET_DROP_IN),
        file("/etc/tmpfiles.d/llamactl.conf".to_owned(), TMPFILES),
    ]
}

impl UnitFile {
    /// Writes it, if it is not there as it should be; whether that was so.
    ///
    /// # Errors
    /// Something else is there, or the system refuses.
    pub(crate) fn write(&self) -> Result<bool, Failure> {
        let wanted = MARK.to_owned() + &self.text;
        match fs::read_to_string(&self.path) {
            Ok(found) if found == wanted => return Ok(false),
            Ok(found) if !found.starts_with(MARK) => {
                let why = format!("{} was not written by llamactl", self.path.display());
                return Err(Failure::new(Kind::IoFailed, why)
                    .hint("keep it and enable it yourself, or move it away and try again"));
            }
            _ => {}
        }
        let written = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        written.and_then(|()| fs::write(&self.path, wanted)).map_err(|error| {
            Failure::new(Kind::IoFailed, format!("cannot write {}: {error}", self.path.display()))
        })?;
        Ok(true)
    }

    /// Whether it is there as it should be; `None` where something else is, or nothing.
    pub(crate) fn is_there(&self) -> Option<bool> {
        let found = fs::read_to_string(&self.path).ok().filter(|found| found.starts_with(MARK))?;
        Some(found.strip_prefix(MARK) == Some(&self.text))
    }

    /// Removes it, if it was written here; whether it was. Its directory goes with it where nothing else
    /// is in it.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn remove(&self) -> Result<bool, Failure> {
        if !fs::read_to_string(&self.path).is_ok_and(|found| found.starts_with(MARK)) {
            return Ok(false);
        }
        fs::remove_file(&self.path).map_err(|error| {
            Failure::new(Kind::IoFailed, format!("cannot remove {}: {error}", self.path.display()))
        })?;
        let drop_ins = self.path.parent().filter(|dir| dir.ends_with(format!("{UNIT}.d")));
        if let Some(drop_ins) = drop_ins {
            // One with something else in it stays.
            let _ = fs::remove_dir(drop_ins);
        }
        Ok(true)
    }
}

/// A path as it stands in a unit (systemd.syntax(7), systemd.service(5) "Command lines").
fn escaped(path: &Path) -> Result<String, Failure> {
    let refused = || {
        let why = format!("a unit cannot name the path {}", path.display());
        Failure::new(Kind::InvalidValue, why)
            .hint("put llamactl and llamactld into another directory")
    };
    let text = path.to_str().ok_or_else(refused)?;
    let mut unit = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '%' => unit.push_str("%%"),
            '\\' => unit.push_str("\\\\"),
            ' ' => unit.push_str("\\x20"),
            '"' => unit.push_str("\\x22"),
            '\'' => unit.push_str("\\x27"),
            control if control.is_control() => return Err(refused()),
            // It would be a variable or the beginning of another meaning of the whole line.
            '$' => return Err(refused()),
            plain => unit.push(plain),
        }
    }
    Ok(unit)
}

/// Refuses a program that the machine's unit may not run: systemd runs it as root too, so nobody else
/// may be able to replace it, and the daemon's user must reach it.
///
/// # Errors
/// Which directory or file is in the way, and what to do.
pub(crate) fn may_be_the_machines(program: &Path) -> Result<(), Failure> {
    let looked = |path: &Path| fs::metadata(path);
    let Some(problem) = problem_of(program, looked) else { return Ok(()) };
    let why = format!("the machine's unit runs {} as root, and {problem}", program.display());
    let install = "as root, put both programs where only root writes, and call them from there";
    let copy = ["install", "-m", "755", "llamactl", "llamactld", "/usr/local/bin/"];
    Err(Failure::new(Kind::NotAllowed, why).hint(Hint::run(install, copy)))
}

/// What of a program or of a directory above it does not fit.
fn problem_of(program: &Path, look: impl Fn(&Path) -> io::Result<Metadata>) -> Option<String> {
    program.ancestors().find_map(|path| {
        let shown = path.display();
        match look(path) {
            Err(error) => Some(format!("{shown} cannot be looked at: {error}")),
            Ok(facts) if facts.uid() != 0 => Some(format!("{shown} is not root's")),
            Ok(facts) if facts.mode() & 0o022 != 0 => {
                Some(format!("others than root may write to {shown}"))
            }
            Ok(facts) if facts.mode() & 0o005 != 0o005 => {
                Some(format!("the user llamactl cannot reach {shown}"))
            }
            Ok(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_unit_names_the_programs_where_they_are() {
        for manager in [Manager::System, Manager::User] {
            let unit = unit(manager, Path::new("/u"), Path::new("/opt/a b/100%")).unwrap();
            assert_eq!(unit.path, Path::new("/u/llamactl.service"));
            assert!(unit.text.contains("ExecStart=/opt/a\\x20b/100%%/llamactld"), "{}", unit.text);
            let commands = unit.text.lines().filter(|line| line.starts_with("Exec"));
            assert_eq!(commands.filter(|line| line.contains("/opt/a\\x20b")).count(), 3);
            assert!(!unit.text.contains(PACKAGED));
        }
        for odd in ["/a\nb", "/a$b"] {
            let failure = unit(Manager::User, Path::new("/u"), Path::new(odd)).unwrap_err();
            assert_eq!(failure.kind, Kind::InvalidValue);
        }
    }

    #[test]
    fn only_what_was_written_here_is_written_over_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = |text: &str| UnitFile {
            path: dir.path().join("llamactl.service.d/y.conf"),
            text: text.to_owned(),
        };
        assert!(file("a").write().unwrap());
        assert!(!file("a").write().unwrap(), "it is there already");
        assert_eq!((file("a").is_there(), file("b").is_there()), (Some(true), Some(false)));
        assert!(file("b").write().unwrap());
        assert!(file("").remove().unwrap());
        assert!(!dir.path().join("llamactl.service.d").exists());
        assert!(!file("").remove().unwrap());
        fs::create_dir(dir.path().join("llamactl.service.d")).unwrap();
        fs::write(file("").path, "mine").unwrap();
        assert_eq!(file("mine").is_there(), None);
        assert!(file("a").write().is_err());
        assert!(!file("a").remove().unwrap());
        assert_eq!(fs::read_to_string(file("").path).unwrap(), "mine");
    }

    #[test]
    fn a_program_that_others_could_replace_is_not_the_machines() {
        let dir = tempfile::tempdir().unwrap();
        let facts = |mode| {
            let path = dir.path().join(format!("{mode:o}"));
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            fs::metadata(path)
        };
        let problem = |mode: u32| {
            let program = Path::new("/opt/llamactld");
            problem_of(program, |path| match path == program {
                true => facts(mode),
                false => fs::metadata("/"),
            })
        };
        // What a test makes is only root's where root runs it.
        if rustix::process::geteuid().is_root() {
            assert_eq!(problem(0o755), None);
            assert!(problem(0o775).unwrap().contains("may write to /opt/llamactld"));
            assert!(problem(0o700).unwrap().contains("cannot reach"));
        } else {
            assert!(problem(0o755).unwrap().contains("is not root's"));
        }
        assert!(may_be_the_machines(Path::new("/tmp/llamactld")).is_err());
    }
}
