//! Who calls, as a method may know it; and what a connection remembers of its peer.
//!
//! ```text
//!   kernel: uid ──▶ user's name ─╮ asked once, when a record first needs it
//!   daemon.hello: command ───────┴▶ Caller { access, actor } ──▶ handler
//! ```

use super::peer::Peer;
use super::session::lock;
use crate::os::user::user_name;
use llamactl_protocol::{Access, Actor};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The longest command that is remembered, in characters.
const COMMAND_CHARACTERS: usize = 256;

/// How long a directory service may take to name a user; then its number has to do.
const NAME_DEADLINE: Duration = Duration::from_secs(1);

/// Who calls a method.
pub struct Caller {
    /// What the caller may do.
    pub access: Access,
    /// Who asks, for records: the user, and the command that the connection was introduced with or
    /// else the method. A method that only looks makes no record, so it is told the user's number
    /// and nobody is asked for the name.
    pub actor: Actor,
    /// The actor's command is the method: the client told none.
    is_method: bool,
    identity: Arc<Identity>,
}

impl Caller {
    /// Who asks for something of this model: where the client told no command, the method and the model
    /// are one.
    #[must_use]
    pub fn about(self, model: &str) -> Actor {
        match self.actor {
            Actor::Client { user, command: Some(method) } if self.is_method => {
                Actor::Client { user, command: Some(format!("{method} {model}")) }
            }
            actor => actor,
        }
    }

    /// Remembers the command this connection serves, for records of what is asked on it from now
    /// on. Control characters are replaced, and what is longer than 256 characters is cut.
    pub fn introduce(&self, command: &str) {
        let printable = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
        let command: String = command.chars().take(COMMAND_CHARACTERS).map(printable).collect();
        *lock(&self.identity.command) = (!command.is_empty()).then_some(command);
    }
}

/// What is known of the peer of one connection.
pub(super) struct Identity {
    pub(super) peer: Peer,
    /// What its user is called where nobody is asked for a name.
    number: String,
    user: OnceCell<String>,
    command: Mutex<Option<String>>,
}

impl Identity {
    pub(super) fn new(peer: Peer) -> Self {
        let number = format!("uid {}", peer.uid);
        Identity { peer, number, user: OnceCell::new(), command: Mutex::default() }
    }

    /// The caller of a method. `needed` is what that method asks for.
    pub(super) async fn caller(self: &Arc<Self>, method: &'static str, needed: Access) -> Caller {
        let user = match needed {
            Access::Observe => self.number.clone(),
            Access::Operate | Access::Admin => self.user().await,
        };
        let told = lock(&self.command).clone();
        let is_method = told.is_none();
        let command = told.unwrap_or_else(|| method.to_owned());
        let actor = Actor::Client { user, command: Some(command) };
        Caller { access: self.peer.access, actor, is_method, identity: Arc::clone(self) }
    }

    /// The name of the peer's user, or `uid N`.
    async fn user(&self) -> String {
        let uid = self.peer.uid;
        let named = self.user.get_or_init(|| async {
            let name = timeout(NAME_DEADLINE, spawn_blocking(move || user_name(uid))).await;
            name.ok().and_then(Result::ok).flatten().unwrap_or_else(|| self.number.clone())
        });
        named.await.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(uid: u32) -> Arc<Identity> {
        let peer = Peer { uid, gid: uid, pid: None, access: Access::Admin };
        Arc::new(Identity::new(peer))
    }

    fn client(user: &str, command: &str) -> Actor {
        Actor::Client { user: user.into(), command: Some(command.into()) }
    }

    #[tokio::test]
    async fn a_change_is_recorded_with_the_users_name_and_the_command() {
        let root = identity(0);
        let caller = root.caller("model.add", Access::Admin).await;
        assert_eq!(caller.actor, client("root", "model.add"));
        let asked = root.caller("server.start", Access::Operate).await.about("m");
        assert_eq!(asked, client("root", "server.start m"));
        caller.introduce("llamactl model add x");
        let caller = root.caller("model.add", Access::Admin).await;
        assert_eq!(caller.actor, client("root", "llamactl model add x"));
        caller.introduce("");
        assert_eq!(caller.about("x"), client("root", "llamactl model add x"));
        let caller = root.caller("model.list", Access::Observe).await;
        assert_eq!(caller.actor, client("uid 0", "model.list"));
        assert!(root.user.initialized());

        let nameless = identity(4_000_000_001);
        nameless.caller("model.list", Access::Observe).await;
        assert!(!nameless.user.initialized(), "nobody is asked for a name that nobody needs");
        let caller = nameless.caller("model.add", Access::Admin).await;
        assert_eq!(caller.actor, client("uid 4000000001", "model.add"));
    }

    #[tokio::test]
    async fn a_command_is_cut_and_cannot_speak_to_a_terminal() {
        let root = identity(0);
        let caller = root.caller("daemon.hello", Access::Observe).await;
        caller.introduce(&format!("\u{1b}[2J\n{}", "ä".repeat(300)));
        let command = lock(&root.command).clone().unwrap();
        assert!(command.starts_with("\u{fffd}[2J\u{fffd}ä"), "{command}");
        assert_eq!(command.chars().count(), 256);
    }
}
