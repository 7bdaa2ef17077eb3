//! `llamactl model add PATH…`

use crate::args::more;
use crate::complete::files_and_assignments;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use crate::output::facts::listed;
use crate::output::units;
use crate::remote;
use crate::settings;
use clap::Args;
use llamactl_protocol::model::{Added, ModelAdd};
use llamactl_protocol::{Failure, Hint, Kind};
use std::ffi::OsString;

/// Add models from GGUF files
///
/// The file stays where it is. Of a split model any part will do. Arguments like `ctx-size=8192`
/// after the first path are settings to begin with.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model add ~/models/qwen3-8b-q4_k_m.gguf",
    "llamactl model add ./qwen3.gguf --name qwen3:8b ctx-size=8192 port=auto",
    "llamactl model add ~/models/*.gguf";
    "0 done, also if it was there already, 3 no such file, 4 the name is taken, 5 no model file, or a setting refused"
))]
pub(crate) struct Add {
    /// GGUF files, then settings as key=value
    #[arg(
        required = true,
        value_name = "PATH",
        add = files_and_assignments()
    )]
    paths: Vec<OsString>,
    /// The model's name; absent: the file's name without .gguf
    #[arg(long)]
    name: Option<String>,
}

/// Registers each file and prints the name it got.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Add) -> Outcome {
    let (files, settings) = settings::behind_paths(&args.paths, remote::is_file_here)?;
    if files.len() > 1 && args.name.is_some() {
        return Err(Failure::new(
            Kind::Usage,
            "--name names one model, and several files are given",
        )
        .hint("add them one by one, or without --name")
        .into());
    }
    let daemon = reach.daemon(Autostart::Always).await?;
    let mut tally = Tally::default();
    let is_one = files.len() == 1;
    for path in files {
        let added = async {
            let path = remote::path_meant(&path)?;
            let (name, settings) = (args.name.clone(), settings.clone());
            daemon
                .call(&ModelAdd {
                    path: path.into(),
                    name: name.map(Into::into),
                    settings: settings.into(),
                })
                .await
        };
        let added = added.await.map_err(Quit::from);
        if let Some(added) = tally.take(output, added)? {
            tell(output, &added, is_one)?;
        }
    }
    tally.end()
}

fn tell(output: &mut Output, added: &Added, is_one: bool) -> Outcome {
    let model = &added.model;
    if output.json {
        return output.json(added);
    }
    if output.quiet {
        return output.names([&model.name]);
    }
    output.told(line(added))?;
    added.notes.iter().for_each(|note| output.note(note.as_str()));
    if is_one && output.at_terminal() {
        output.hint(&Hint::run("start it", ["llamactl", "start", &model.name]));
    }
    Ok(())
}

/// `added m: Qwen3 8B (qwen3, 8.2B, Q4_K_M, 4.7 GiB)`
fn line(added: &Added) -> String {
    let model = &added.model;
    if !added.added {
        return format!("{} is there already", model.name);
    }
    let file = &model.file;
    let facts = listed([
        file.architecture.clone(),
        file.parameters.map(units::count),
        file.quantization.clone(),
        Some(units::bytes(file.size_bytes)),
    ]);
    let title = file.title.as_deref().map(|title| format!(": {title}")).unwrap_or_default();
    format!("added {}{title} ({})", model.name, facts.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_was_added_is_said_in_a_line() {
        let with = |added, notes| Added { model: scene::model("qwen3-8b"), added, notes };
        let note = "the projector /home/anna/models/mmproj.gguf goes with it".to_owned();
        assert_screen("model-add", |output| {
            tell(output, &with(true, vec![note.clone()]), true)?;
            tell(output, &with(false, vec![]), false)
        });
    }
}
