//! `llamactl model copy NAME NEW`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::model::ModelCopy;

/// Make a second profile of the same file
///
/// The copy has the settings, not the aliases; the file is not copied.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model copy qwen3 qwen3-long && llamactl model set qwen3-long ctx-size=32768";
    "0 done  3 no such model  4 the name is taken  5 no possible name  6 daemon unreachable"
))]
pub(crate) struct Copy {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// The copy's name
    new: String,
}

/// Copies a model.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Copy) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let added = daemon.call(&ModelCopy { model: args.name.clone(), to: args.new }).await?;
    let name = &added.model.name;
    if output.json {
        return output.json(&added);
    }
    if output.quiet {
        return output.names([name]);
    }
    output.line(format!("{name} is a copy of {}", args.name))?;
    added.notes.iter().for_each(|note| output.note(note.as_str()));
    Ok(())
}
