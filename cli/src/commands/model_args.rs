//! `llamactl model args NAME`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::model::{CommandLine as ModelCommandLine, ModelArgs};

/// Show the command line of the next start
///
/// Quoted for a shell, environment first.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model args qwen3",
    "llamactl model args qwen3 --json | jq -r .argv[]";
    "0 done, 3 no such model, or no llama-server, 6 daemon unreachable"
))]
pub(crate) struct CommandLine {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
}

/// Shows a command line.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: CommandLine) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let line = daemon.call(&ModelArgs { model: args.name.into() }).await?;
    show(output, &line)
}

fn show(output: &mut Output, line: &ModelCommandLine) -> Outcome {
    if output.json { output.json(line) } else { output.line(line.shell.as_str()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_lines;

    #[test]
    fn it_is_one_line_for_a_shell() {
        let shell = "CUDA_VISIBLE_DEVICES=0 /usr/bin/llama-server -m '/m/a b.gguf' --ctx-size 8192";
        let line = ModelCommandLine {
            argv: vec![],
            environment: Default::default(),
            shell: shell.to_owned(),
        };
        assert_lines("model-args", |output| show(output, &line));
    }
}
