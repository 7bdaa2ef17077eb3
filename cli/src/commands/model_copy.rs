//! `llamactl model copy NAME NEW`

use crate::args::more;
use crate::complete::{files, model_names};
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::remote;
use clap::Args;
use llamactl_protocol::WirePath;
use llamactl_protocol::model::{Added, ModelCopy};
use std::path::PathBuf;

/// Copy a model's settings to a new name
///
/// The copy has the settings, not the aliases; no file is copied.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model copy qwen3 qwen3-long && llamactl model set qwen3-long ctx-size=32768",
    "llamactl model copy qwen3 qwen3-q8 --path ~/models/qwen3-8b-q8_0.gguf";
    "0 done, 3 no such model or file, 4 the name is taken, 5 no possible name, 6 daemon unreachable"
))]
pub(crate) struct Copy {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// The copy's name
    new: String,
    /// Another GGUF file for the copy
    #[arg(long, value_name = "FILE", add = files())]
    path: Option<PathBuf>,
}

/// Copies a model.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Copy) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let path = match args.path {
        Some(path) => Some(WirePath(remote::path_meant(&path)?)),
        None => None,
    };
    let added = daemon
        .call(&ModelCopy { model: args.name.clone().into(), to: args.new.into(), path })
        .await?;
    tell(output, &args.name, &added)
}

fn tell(output: &mut Output, of: &str, added: &Added) -> Outcome {
    let name = &added.model.name;
    if output.json {
        return output.json(added);
    }
    if output.quiet {
        return output.names([name]);
    }
    output.told(format!("{name} is a copy of {of}"))?;
    added.notes.iter().for_each(|note| output.note(note.as_str()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_is_a_copy_of_what() {
        let notes = vec!["the projector /home/anna/models/mmproj.gguf goes with it".to_owned()];
        let added = Added { model: scene::model("qwen3-q8"), added: true, notes };
        assert_screen("model-copy", |output| tell(output, "qwen3", &added));
    }
}
