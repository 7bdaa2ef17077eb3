//! Which socket: the rule, as a function of what answers where.
//!
//! ```text
//!   --socket, $LLAMACTL_SOCKET ─▶ that one, or nothing
//!   else a daemon answers at <state dir>/run/llamactld.sock ─▶ it
//!   else /run/llamactl/llamactld.sock exists ─▶ it, or an error
//!   else nobody: one may be started at the first path
//! ```

use llamactl_protocol::place::MAX_SOCKET_PATH_BYTES;
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::json;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Where a daemon may be.
pub(crate) struct Places {
    /// The socket that was named; no other counts then.
    pub(crate) named: Option<PathBuf>,
    /// The socket of the user's own daemon.
    pub(crate) user: PathBuf,
    /// The socket of the machine's daemon.
    pub(crate) system: PathBuf,
}

/// What the rule comes to.
pub(crate) enum Choice<S> {
    /// A daemon answers.
    Connected(S),
    /// Nobody answers, and a daemon may be started at the user's path.
    Vacant(Vec<Tried>),
    /// Somebody listens here and takes no connections.
    Silent(PathBuf),
    /// Nobody answers where one should.
    Unreachable(Failure),
}

/// A path that was tried in vain.
#[derive(Debug)]
pub(crate) struct Tried {
    path: PathBuf,
    error: io::Error,
}

impl Tried {
    /// A path, and why nobody answered there.
    pub(crate) fn new(path: &Path, error: io::Error) -> Self {
        Tried { path: path.to_owned(), error }
    }
}

/// Applies the rule. `probe` connects to a path.
pub(crate) async fn choose<S>(
    places: &Places,
    mut probe: impl AsyncFnMut(&Path) -> io::Result<S>,
) -> Choice<S> {
    if let Some(named) = &places.named {
        return match probe(named).await {
            Ok(stream) => Choice::Connected(stream),
            Err(error) if is_silence(&error) => Choice::Silent(named.clone()),
            Err(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => not_ours_hint(named),
                    _ => Hint::run(
                        "start one there",
                        ["llamactl", "--socket", &named.to_string_lossy(), "daemon", "start"],
                    ),
                };
                let tried = Tried { path: named.clone(), error };
                Choice::Unreachable(unreachable(&[tried]).hint(hint))
            }
        };
    }
    let mut tried = Vec::new();
    match probe(&places.user).await {
        Ok(stream) => return Choice::Connected(stream),
        // Going on to the machine's daemon would be talking to the wrong one.
        Err(error) if is_silence(&error) => return Choice::Silent(places.user.clone()),
        Err(error) => tried.push(Tried { path: places.user.clone(), error }),
    }
    match probe(&places.system).await {
        Ok(stream) => return Choice::Connected(stream),
        Err(error) if is_silence(&error) => return Choice::Silent(places.system.clone()),
        Err(error) => {
            let kind = error.kind();
            tried.push(Tried { path: places.system.clone(), error });
            match kind {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
                io::ErrorKind::PermissionDenied => {
                    let own = ["llamactl", "daemon", "start"];
                    let failure = unreachable(&tried).hint(group_hint(&places.system));
                    let failure = failure.hint(Hint::run("or start one of your own", own));
                    return Choice::Unreachable(failure);
                }
                _ => {
                    let hint = Hint::run(
                        "the machine's daemon is down: see why",
                        ["systemctl", "status", "llamactl"],
                    );
                    return Choice::Unreachable(unreachable(&tried).hint(hint));
                }
            }
        }
    }
    Choice::Vacant(tried)
}

/// Whether somebody listens and takes no connections.
pub(super) fn is_silence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// The failure that lists every path tried and why each did not do.
pub(crate) fn unreachable(tried: &[Tried]) -> Failure {
    let evidence: Vec<String> = tried
        .iter()
        .map(|tried| format!("{}: {}", tried.path.display(), reason(&tried.path, &tried.error)))
        .collect();
    let message = match tried {
        [only] => format!("no daemon answers at {}", only.path.display()),
        _ => "no daemon answers".to_owned(),
    };
    Failure::new(Kind::DaemonUnreachable, message).details(json!({ "evidence": evidence }))
}

/// Why nobody answers at a path, in words.
fn reason(path: &Path, error: &io::Error) -> String {
    let length = path.as_os_str().as_bytes().len();
    match error.kind() {
        _ if length > MAX_SOCKET_PATH_BYTES => {
            format!("the path has {length} bytes; a socket's may have {MAX_SOCKET_PATH_BYTES}")
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "there is no socket".to_owned(),
        io::ErrorKind::ConnectionRefused => match path.metadata() {
            Ok(facts) if !facts.file_type().is_socket() => "it is no socket".to_owned(),
            _ => "there is a socket, but nobody listens".to_owned(),
        },
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Who may connect to a socket that was named: the group of a daemon that serves one, or its owner.
fn not_ours_hint(named: &Path) -> Hint {
    use std::os::unix::fs::MetadataExt as _;
    let directory = named.parent().and_then(|dir| dir.metadata().ok());
    match directory.is_some_and(|facts| facts.gid() != 0 && facts.mode() & 0o070 != 0) {
        true => group_hint(named),
        false => Hint::to("it is another user's daemon, which only that user may use"),
    }
}

/// Who may connect to the machine's daemon.
fn group_hint(system: &Path) -> Hint {
    use std::os::unix::fs::MetadataExt as _;
    let group = system
        .parent()
        .and_then(|dir| dir.metadata().ok())
        .and_then(|metadata| name_of_id("/etc/group", metadata.gid()))
        .unwrap_or_else(|| "llamactl".to_owned());
    let user = name_of_id("/etc/passwd", rustix::process::geteuid().as_raw());
    Hint::run(
        format!(
            "only members of the group {group} may use this machine's daemon; join it, as root, then log \
             in again"
        ),
        ["usermod", "-aG", &group, user.as_deref().unwrap_or("USER")],
    )
}

/// The name with this numeric id in `/etc/group` or `/etc/passwd`.
pub(super) fn name_of_id(file: &str, id: u32) -> Option<String> {
    let id = id.to_string();
    field_of(&std::fs::read_to_string(file).ok()?, 2, &id, 0)
}

/// In text of `:`-separated lines: field `wanted` of the line whose field `key` is `value`.
pub(super) fn field_of(text: &str, key: usize, value: &str, wanted: usize) -> Option<String> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(key) == Some(&value)).then(|| fields.get(wanted).map(|&f| f.to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    use std::cell::RefCell;

    fn places(named: Option<&str>) -> Places {
        Places { named: named.map(Into::into), user: "/u".into(), system: "/s".into() }
    }

    #[test]
    fn a_file_in_the_place_of_a_socket_is_called_none() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(reason(Path::new("/etc/passwd"), &refused), "it is no socket");
        assert!(reason(Path::new("/nowhere/x"), &refused).contains("nobody listens"));
    }

    /// The choice where `/n`, `/u` and `/s` answer as given, and the paths tried.
    async fn decide(
        named: Option<&str>,
        answers: &[(&str, Result<(), io::ErrorKind>)],
    ) -> (Choice<PathBuf>, Vec<PathBuf>) {
        let tried = RefCell::new(Vec::new());
        let choice = choose(&places(named), async |path: &Path| {
            tried.borrow_mut().push(path.to_owned());
            let answer = answers.iter().find(|(at, _)| Path::new(at) == path).unwrap().1;
            answer.map(|()| path.to_owned()).map_err(Into::into)
        })
        .await;
        (choice, tried.into_inner())
    }

    fn connected(choice: Choice<PathBuf>) -> Option<PathBuf> {
        match choice {
            Choice::Connected(path) => Some(path),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_named_socket_is_the_only_one() {
        let (choice, tried) = decide(Some("/n"), &[("/n", Ok(()))]).await;
        assert_eq!((connected(choice), tried.len()), (Some("/n".into()), 1));
        let (choice, tried) = decide(Some("/n"), &[("/n", Err(NotFound))]).await;
        assert!(matches!(choice, Choice::Unreachable(_)));
        assert_eq!(tried, [PathBuf::from("/n")]);
    }

    #[tokio::test]
    async fn the_users_daemon_comes_first() {
        let (choice, tried) = decide(None, &[("/u", Ok(()))]).await;
        assert_eq!((connected(choice), tried.len()), (Some("/u".into()), 1));
        for gone in [NotFound, ConnectionRefused] {
            let (choice, _) = decide(None, &[("/u", Err(gone)), ("/s", Ok(()))]).await;
            assert_eq!(connected(choice), Some("/s".into()));
        }
    }

    #[tokio::test]
    async fn a_system_socket_that_exists_is_never_passed_over() {
        for (refusal, word) in [(PermissionDenied, "group"), (ConnectionRefused, "systemctl")] {
            let (choice, _) = decide(None, &[("/u", Err(NotFound)), ("/s", Err(refusal))]).await;
            let Choice::Unreachable(failure) = choice else { panic!("passed over") };
            assert!(failure.hints.0[0].to_string().contains(word), "{failure:?}");
            let evidence = failure.details.unwrap()["evidence"].to_string();
            assert!(evidence.contains("/u: ") && evidence.contains("/s: "), "{evidence}");
        }
    }

    #[tokio::test]
    async fn where_nobody_is_one_may_be_started() {
        let (choice, _) = decide(None, &[("/u", Err(NotFound)), ("/s", Err(NotFound))]).await;
        let Choice::Vacant(tried) = choice else { panic!("not vacant") };
        assert_eq!(tried.len(), 2);
    }

    #[tokio::test]
    async fn who_takes_no_connections_is_not_passed_over() {
        let full = |at| (at, Err(io::ErrorKind::WouldBlock));
        let silent = |choice| matches!(choice, Choice::Silent(_));
        assert!(silent(decide(Some("/n"), &[full("/n")]).await.0));
        assert!(silent(decide(None, &[full("/u"), ("/s", Ok(()))]).await.0));
        assert!(silent(decide(None, &[("/u", Err(NotFound)), full("/s")]).await.0));
    }

    #[test]
    fn a_path_too_long_is_said_to_be() {
        let long = PathBuf::from(format!("/{}", "x".repeat(200)));
        let said = reason(&long, &io::ErrorKind::InvalidInput.into());
        assert!(said.contains("201 bytes"), "{said}");
    }

    #[test]
    fn names_come_from_the_account_files() {
        let group = "root:x:0:\nllama:x:990:ann,ben\n";
        assert_eq!(field_of(group, 2, "990", 0).as_deref(), Some("llama"));
        assert_eq!(field_of(group, 2, "991", 0), None);
        assert_eq!(field_of("bad\n", 2, "991", 0), None);
    }
}
