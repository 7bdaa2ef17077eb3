//! `llamactl completions SHELL`

use crate::args::more;
use crate::connection::Reach;
use crate::exit::Outcome;
use crate::output::Output;
use clap::{Args, ValueEnum};

/// Print a shell's completion script
///
/// The script asks llamactl itself, so models, runtimes, settings, their values and series complete
/// too. No daemon is started for it, and one that does not answer is not waited for. For bash:
/// source it, or put it where bash-completion looks. For zsh: source it after compinit, or put it
/// into a directory of $fpath as _llamactl. For fish: put it into a directory of completions.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl completions bash > ~/.local/share/bash-completion/completions/llamactl",
    "source <(llamactl completions bash)",
    "source <(llamactl completions zsh)",
    "llamactl completions fish > ~/.config/fish/completions/llamactl.fish";
    "0 done, 2 no such shell"
))]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Shells there is a script for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints a script.
pub(crate) async fn run(output: &mut Output, _: &Reach, args: Completions) -> Outcome {
    // clap's own know nothing of words that bash splits, of `=` that zsh is to go on behind, or of `~`.
    output.bytes(match args.shell {
        Shell::Bash => include_bytes!("completions.bash"),
        Shell::Zsh => include_bytes!("completions.zsh"),
        Shell::Fish => include_bytes!("completions.fish"),
    })
}
