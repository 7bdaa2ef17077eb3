//! `llamactl model export [NAME…]`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::{Args, ValueEnum};
use llamactl_protocol::exchange::{ExportFormat, ModelExport};
use serde_json::json;

/// Export models and settings
///
/// All models with the defaults and runtimes, or the models named alone. Secrets are not written.
/// A preset is what llama-server --models-preset reads.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model export > models.toml",
    "llamactl model export qwen3 | ssh other llamactl model import - --map-path /home/me=/srv",
    "llamactl model export --format preset > models.ini && llama-server --models-preset models.ini";
    "0 done, 3 no such model, 6 daemon unreachable"
))]
pub(crate) struct Export {
    /// Models, by name or alias; all when none is named
    #[arg(value_name = "NAME", add = model_names())]
    names: Vec<String>,
    /// What to write
    #[arg(long, value_enum, default_value = "toml", value_name = "FORMAT")]
    format: Written,
}

/// The formats by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Written {
    /// llamactl's own, to be imported again
    Toml,
    /// For llama-server --models-preset
    Preset,
}

/// Writes models down.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Export) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let format = match args.format {
        Written::Toml => ExportFormat::Toml,
        Written::Preset => ExportFormat::Preset,
    };
    let mut export = ModelExport { models: args.names.into(), format, after: None };
    let (mut text, mut notes) = (String::new(), Vec::new());
    loop {
        let page = daemon.call(&export).await?;
        notes.extend(page.notes);
        match output.json {
            true => text.push_str(&page.text),
            false => output.piece(&page.text)?,
        }
        export.after = page.next.map(Into::into);
        if export.after.is_none() {
            break;
        }
    }
    if output.json {
        return output.json(&json!({ "text": text, "notes": notes }));
    }
    tell(output, &notes);
    Ok(())
}

/// Says what the text leaves out.
fn tell(output: &Output, notes: &[String]) {
    notes.iter().for_each(|note| output.note(note.as_str()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;

    #[test]
    fn the_text_and_what_it_leaves_out() {
        assert_screen("model-export", |output| {
            output.piece("[models.qwen3]\npath = \"/home/anna/models/qwen3.gguf\"\n")?;
            tell(output, &["qwen3: its api-key is secret and is not written".to_owned()]);
            Ok(())
        });
    }
}
