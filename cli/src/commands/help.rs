//! `llamactl help [COMMAND…]`

use crate::args::{COMMANDS, Cli, more};
use crate::exit::Outcome;
use crate::output::Output;
use clap::{Args, CommandFactory as _};
use llamactl_protocol::{Failure, Kind};

/// List the commands, or show one command's help
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl help",
    "llamactl help model set";
    "0 done  2 no such command"
))]
pub(crate) struct Help {
    /// A command
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Shows help.
pub(crate) fn run(output: &mut Output, args: Help) -> Outcome {
    if args.command.is_empty() {
        let note =
            "llamactl COMMAND --help tells more; llamactl --help shows a tour and the exit codes.";
        return output.line(format!("{COMMANDS}\n\n{note}"));
    }
    let mut command = Cli::command();
    command.build();
    for word in &args.command {
        let Some(found) = command.find_subcommand(word) else {
            return Err(Failure::new(Kind::Usage, format!("there is no command {word:?}"))
                .hint("llamactl help lists them")
                .into());
        };
        command = found.clone();
    }
    output.line(command.render_long_help().to_string().trim_end())
}
