//! `llamactl model key NAME`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::model::{self, ModelKey};

/// Print a model's API key
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model key qwen3",
    "curl -H \"Authorization: Bearer $(llamactl model key qwen3)\" http://127.0.0.1:8101/v1/models";
    "0 done, 3 no such model, or it has no key, 6 daemon unreachable"
))]
pub(crate) struct Key {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
}

/// Prints a key.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Key) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let key = daemon.call(&ModelKey { model: args.name.into() }).await?;
    show(output, key)
}

fn show(output: &mut Output, key: model::Key) -> Outcome {
    if output.json { output.json(&key) } else { output.line(key.key) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;

    #[test]
    fn the_key_and_nothing_else() {
        let key = model::Key { key: "sk-0123456789abcdef".into() };
        assert_screen("model-key", |output| show(output, key.clone()));
    }
}
