//! The daemon's command line.

use clap::Parser;
use llamactl_protocol::place::{SOCKET_VARIABLE, STATE_DIR_VARIABLE};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
llamactl starts this daemon by itself when it needs one. Run it by hand, or from a service
manager, to have it in the foreground with its log on stderr.

Signals: TERM and INT stop the servers, then the daemon; a second one ends it at once, whatever
still runs. Servers outlive a daemon that is killed, and the next one takes them over.

Exit status: 0 stopped as asked, 1 failed, 2 used wrongly, 4 another daemon is running.";

/// The llamactl daemon: owns the registry of models, the metrics and the llama-server processes.
#[derive(Clone, Debug, Parser)]
#[command(name = "llamactld", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Go to the background once clients can connect; log to a file in the state directory
    #[arg(long)]
    pub detach: bool,

    /// Databases, logs and sockets (default: ~/.local/state/llamactl)
    #[arg(long, value_name = "DIR", env = STATE_DIR_VARIABLE)]
    pub state_dir: Option<PathBuf>,

    /// Listen on this socket (default: run/llamactld.sock in the state directory)
    #[arg(long, value_name = "PATH", env = SOCKET_VARIABLE)]
    pub socket: Option<PathBuf>,

    /// Serve all members of a group: listen on /run/llamactl/llamactld.sock, keep state in
    /// /var/lib/llamactl
    #[arg(long)]
    pub system: bool,

    /// The group whose members may start and stop servers
    #[arg(long, value_name = "NAME", requires = "system", default_value = "llamactl")]
    pub group: String,

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
}
