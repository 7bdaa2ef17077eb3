//! The daemon's command line.

use crate::lifecycle::handover::Handover;
use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};
use llamactl_protocol::place::{CONFIG_VARIABLE, SOCKET_VARIABLE, STATE_DIR_VARIABLE};
use std::os::fd::RawFd;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
llamactl starts this daemon by itself when it needs one. Run it by hand, or from a service
manager, to have it in the foreground with its log on stderr.

Signals: TERM and INT stop the servers, then the daemon; a second one ends it at once, whatever
still runs. HUP replaces the daemon by its program and configuration of now, as llamactl daemon
restart does, and the servers run on; in the foreground at a terminal it means that the terminal
was closed, and stops as TERM does. Servers outlive a daemon that is killed, and the next one takes
them over.

Exit status: 0 stopped as asked, 1 failed, 2 used wrongly, 4 another daemon is running,
5 the configuration is wrong,
70 it stood still and ended itself.";

/// The llamactl daemon: owns the registry of models, the metrics and the llama-server processes.
#[derive(Clone, Debug, Parser)]
#[command(name = "llamactld", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Go to the background once clients can connect; log to a file in the state directory
    #[arg(long)]
    pub detach: bool,

    /// Databases, logs and sockets (default: ~/.local/state/llamactl)
    #[arg(long, value_name = "DIR", env = STATE_DIR_VARIABLE, value_parser = path())]
    pub state_dir: Option<PathBuf>,

    /// Listen on this socket (default: run/llamactld.sock in the state directory)
    #[arg(long, value_name = "PATH", env = SOCKET_VARIABLE, value_parser = path())]
    pub socket: Option<PathBuf>,

    /// Serve all members of a group: listen on /run/llamactl/llamactld.sock, keep state in
    /// /var/lib/llamactl
    #[arg(long)]
    pub system: bool,

    /// The group whose members may start and stop servers
    #[arg(long, value_name = "NAME", requires = "system", default_value = "llamactl")]
    pub group: String,

    /// Read this configuration (default: ~/.config/llamactl/llamactld.toml, with --system
    /// /etc/llamactl/llamactld.toml)
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, value_parser = path())]
    pub config: Option<PathBuf>,

    /// Say what the configuration comes to, or what is wrong with it, and start nothing
    #[arg(long)]
    pub check_config: bool,

    /// Say as JSON whether this program can open the registry in a state directory, which may be
    /// in use; changes nothing there
    #[arg(long, hide = true, value_name = "DIR")]
    pub check_state: Option<PathBuf>,

    /// Say as JSON what is wrong in the state directory, which may be in use; changes nothing there
    #[arg(long, hide = true)]
    pub check_up: bool,

    /// Put this copy of the registry, or the newest good one, into its place, and say as JSON what
    /// became of it
    #[arg(long, hide = true, value_name = "FILE", num_args = 0..=1)]
    pub restore: Option<Option<PathBuf>>,

    /// Say it as JSON
    #[arg(long, hide = true, requires = "check_config")]
    pub json: bool,

    /// How much to log
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        env = "LLAMACTL_LOG",
        value_parser = ["error", "warn", "info", "debug", "trace"]
    )]
    pub log_level: String,

    /// Started by a client that needed a daemon
    #[arg(long, hide = true)]
    pub started_by_client: bool,

    /// What the program before, in this same process, left for this one
    #[arg(long, hide = true, value_name = "DESCRIPTORS")]
    pub inherit: Option<Handover<RawFd>>,
}

/// A path that may be empty: a variable that is set to nothing counts as not set.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl Args {
    /// The arguments of this process. Ends it, with a message, where they are wrong.
    #[must_use]
    pub fn of_this_process() -> Args {
        let args = Args::parse();
        let named = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        Args {
            state_dir: named(args.state_dir),
            socket: named(args.socket),
            config: named(args.config),
            ..args
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// `packaging/build` names a directory for it; otherwise it is only looked at.
    #[test]
    fn the_daemon_has_a_manual_page() {
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(Args::command()).section("8");
        man.render(&mut page).unwrap();
        assert!(String::from_utf8_lossy(&page).contains("Exit status: 0 stopped as asked"));
        if let Some(dir) = std::env::var_os("LLAMACTL_MAN_DIR") {
            std::fs::write(PathBuf::from(dir).join("llamactld.8"), page).unwrap();
        }
    }
}
