//! `llamactl model show NAME`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{Facts, heading, painted};
use crate::output::time::Clock;
use crate::output::units;
use crate::view::{endpoint, setting_value, state_style, state_text};
use clap::Args;
use llamactl_protocol::model::{Model, ModelDetail, ModelShow};

/// Lines of a chat template shown at a terminal.
const TEMPLATE_LINES: usize = 6;

/// Show everything known of a model
///
/// Its file, its settings, its server. At a terminal only the beginning of the chat template.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model show qwen3",
    "llamactl model show qwen3 --json | jq .settings";
    "0 done  3 no such model  6 daemon unreachable"
))]
pub(crate) struct Show {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
}

/// Shows a model.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Show) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let detail = daemon.call(&ModelShow { model: args.name }).await?;
    if output.json {
        return output.json(&detail);
    }
    if output.quiet {
        return output.names([&detail.model.name]);
    }
    for line in facts(&detail, &Clock::local()).lines() {
        output.line_unflushed(line)?;
    }
    if let Some(template) = &detail.chat_template {
        output.line_unflushed("")?;
        output.line_unflushed(heading("Chat template"))?;
        let shown = if output.terminal { TEMPLATE_LINES } else { usize::MAX };
        for line in template.lines().take(shown) {
            output.line_unflushed(line)?;
        }
        let hidden = template.lines().count().saturating_sub(shown);
        if hidden > 0 {
            output.line_unflushed(format!("… {hidden} more lines: --json shows them"))?;
        }
    }
    output.flush()
}

fn facts(detail: &ModelDetail, clock: &Clock) -> Facts {
    let (model, server) = (&detail.model, &detail.server);
    let mut facts = Facts::new();
    facts.add("name", model.name.as_str());
    facts.add_known("aliases", some(model.aliases.join(", ")));
    file_facts(&mut facts, model);
    for (key, value) in &model.settings {
        facts.add("settings", format!("{key}={}", setting_value(value)));
    }
    facts.add("revision", format!("{}, {}", model.revision, clock.full(model.changed_at_ms)));
    facts.add("added", clock.full(model.added_at_ms));
    facts.add("server", painted(state_style(server.state), state_text(server)));
    facts.add_known("endpoint", endpoint(server));
    facts.add_known("pending", some(server.pending.join(", ")));
    facts
}

fn file_facts(facts: &mut Facts, model: &Model) {
    let file = &model.file;
    facts.add("path", model.path.to_string());
    for part in file.parts.iter().filter(|_| file.parts.len() > 1) {
        facts.add("parts", part.to_string());
    }
    facts.add("size", units::bytes(file.size_bytes));
    facts.add_known("projector", file.mmproj.as_ref().map(ToString::to_string));
    facts.add_known("title", file.title.clone());
    facts.add_known("architecture", file.architecture.clone());
    facts.add_known("parameters", file.parameters.map(units::count));
    facts.add_known("quantization", file.quantization.clone());
    facts.add_known("trained context", file.context_length.map(|n| format!("{n} tokens")));
    facts.add_known("layers", file.layers.map(|n| n.to_string()));
    facts.add_known("heads", file.heads.map(|n| n.to_string()));
    facts.add_known("kv heads", file.kv_heads.map(|n| n.to_string()));
    facts.add_known("embedding", file.embedding_length.map(|n| n.to_string()));
    facts.add_known("experts", file.experts.map(|n| n.to_string()));
    facts.add_known("vocabulary", file.vocabulary.map(|n| n.to_string()));
    facts.add_known("tokenizer", file.tokenizer.clone());
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::model_list::tests::model;
    use crate::view::tests::server;
    use llamactl_protocol::server::State;

    #[test]
    fn what_is_unknown_is_left_out() {
        let detail = ModelDetail {
            model: model("m"),
            chat_template: None,
            server: server("m", State::Ready),
        };
        let lines: Vec<String> = facts(&detail, &Clock::local())
            .lines()
            .iter()
            .map(|line| line.render(false, false))
            .collect();
        assert!(lines.contains(&"settings         ctx-size=8192".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"server           ready".to_owned()), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.starts_with("experts")), "{lines:#?}");
    }
}
