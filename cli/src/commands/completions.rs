//! `llamactl completions SHELL`

use crate::args::more;
use crate::complete::VARIABLE;
use crate::connection::Reach;
use crate::exit::Outcome;
use crate::output::Output;
use clap::{Args, ValueEnum};
use clap_complete::env::{EnvCompleter, Fish, Zsh};

/// Print a shell's completion script
///
/// The script asks llamactl itself, so models, settings and series complete too.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl completions bash > ~/.local/share/bash-completion/completions/llamactl",
    "llamactl completions zsh > ~/.zfunc/_llamactl",
    "llamactl completions fish > ~/.config/fish/completions/llamactl.fish";
    "0 done, 2 no such shell"
))]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The script for bash.
const BASH: &str = include_str!("completions.bash");

/// Shells there is a script for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints a script.
pub(crate) async fn run(output: &mut Output, _: &Reach, args: Completions) -> Outcome {
    let shell: &dyn EnvCompleter = match args.shell {
        // clap's own for bash knows nothing of the words that bash splits.
        Shell::Bash => return output.bytes(BASH.as_bytes()),
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "llamactl", "llamactl", "llamactl", &mut script)?;
    output.bytes(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_for_bash_asks_by_the_variable_that_is_answered() {
        assert!(BASH.contains(&format!("{VARIABLE}=bash")));
    }
}
