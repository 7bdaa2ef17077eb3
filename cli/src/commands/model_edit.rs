//! `llamactl model edit NAME`

use super::model_set::tell;
use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::editing::{marked, unmarked};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::private_file;
use clap::Args;
use llamactl_protocol::exchange::{ModelDocument, ModelPutDocument};
use llamactl_protocol::{Failure, Kind};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Edit a model's settings in your editor
///
/// Opens $VISUAL, $EDITOR or vi. What is saved is checked and set together; a line that is taken
/// out is unset. When something is refused the editor opens again with the reason beside the
/// line; saving that unchanged gives up, and the text is kept.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model edit qwen3",
    "EDITOR=nano llamactl model edit qwen3",
    "EDITOR='sed -i s/8192/16384/' llamactl model edit qwen3";
    "0 done, also if nothing was changed, 1 the editor failed, 3 no such model, 4 changed by somebody else meanwhile, 5 a setting refused, given up, 6 daemon unreachable"
))]
pub(crate) struct Edit {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
}

/// Edits a model.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Edit) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let document = daemon.call(&ModelDocument { model: args.name.into() }).await?;
    let path = private_file::create("llamactl-edit", ".toml", document.text.as_bytes())?;
    let mut last = document.text.clone();
    let mut refusal: Option<Failure> = None;
    loop {
        let text = match edited(&path) {
            Ok(text) => text,
            Err(failure) => {
                let there = std::fs::read_to_string(&path).map(|text| unmarked(&text));
                let there = there.unwrap_or(last);
                if there == document.text {
                    let _ = std::fs::remove_file(&path);
                    return Err(failure.into());
                }
                return Err(kept(output, &path, &there, failure));
            }
        };
        let untouched = text == last || text.trim().is_empty();
        match (untouched, refusal.take()) {
            (true, Some(failure)) => return Err(kept(output, &path, &last, failure)),
            (true, None) => {
                let _ = std::fs::remove_file(&path);
                if output.for_people() {
                    output.line("nothing changed")?;
                }
                return Ok(());
            }
            (false, _) => {}
        }
        let put = ModelPutDocument {
            model: document.name.clone().into(),
            text: text.clone().into(),
            if_revision: Some(document.revision),
        };
        // An editor may be open for hours, and the daemon ends a connection that says nothing.
        let answer = match reach.daemon(Autostart::Always).await {
            Ok(daemon) => daemon.call(&put).await,
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(changed) => {
                let _ = std::fs::remove_file(&path);
                return tell(output, &changed);
            }
            Err(failure)
                if failure.kind.exit_status() == 5 || failure.kind == Kind::FileNotFound =>
            {
                let shown = marked(&text, &failure);
                write(&path, &shown)?;
                last = text;
                refusal = Some(failure);
            }
            Err(failure) => return Err(kept(output, &path, &text, failure)),
        }
    }
}

/// Opens the editor and reads what it leaves, without the marks of a refusal.
fn edited(path: &Path) -> Result<String, Failure> {
    let set = |name: &&str| std::env::var_os(name).filter(|editor| !editor.is_empty());
    let named = ["VISUAL", "EDITOR"].iter().find_map(set);
    let editor = named.unwrap_or_else(|| OsString::from("vi"));
    // It may have arguments of its own, as in `code --wait`.
    let mut line = editor.clone();
    line.push(" \"$1\"");
    let ended = Command::new("/bin/sh").arg("-c").arg(line).arg("sh").arg(path).status();
    let editor = editor.display();
    let status = ended
        .map_err(|error| Failure::new(Kind::IoFailed, format!("{editor} cannot run: {error}")))?;
    if !status.success() {
        return Err(Failure::new(
            Kind::IoFailed,
            format!("the editor {editor} ended with {status}: nothing was changed"),
        )
        .hint("set VISUAL or EDITOR to another editor"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Kind::IoFailed, format!("what was edited cannot be read: {error}"))
    })?;
    Ok(unmarked(&text))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        Failure::new(Kind::IoFailed, format!("{} cannot be written: {error}", path.display()))
    })
}

/// Says where the text is that was not taken.
fn kept(output: &Output, path: &Path, text: &str, failure: Failure) -> Quit {
    // Without the marks, so that it can be used again.
    let is_there = write(path, text).is_ok();
    if is_there {
        output.note(format!("your text is kept in {}", path.display()));
    }
    failure.into()
}
