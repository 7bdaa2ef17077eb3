//! `llamactl completions SHELL`

use crate::args::more;
use crate::complete::VARIABLE;
use crate::exit::Outcome;
use crate::output::Output;
use clap::{Args, ValueEnum};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

/// Print the script that switches completion on
///
/// The script asks llamactl itself, so models, settings and series complete too.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl completions bash > ~/.local/share/bash-completion/completions/llamactl",
    "llamactl completions zsh > ~/.zfunc/_llamactl",
    "llamactl completions fish > ~/.config/fish/completions/llamactl.fish";
    "0 done  2 no such shell"
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
pub(crate) fn run(output: &mut Output, args: Completions) -> Outcome {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "llamactl", "llamactl", "llamactl", &mut script)?;
    output.bytes(&script)
}
