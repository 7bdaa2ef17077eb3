//! `llamactl model show NAME`

use crate::args::more;
use crate::complete::{model_names, setting_groups};
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{Facts, heading, listed, painted};
use crate::output::styled::{DIM, RED, Styled, YELLOW};
use crate::output::table::{Cell, Column, Table, known};
use crate::output::time::Clock;
use crate::output::units;
use crate::view::{Standing, assignment, endpoint, file_amiss, setting_value, state_text};
use clap::Args;
use llamactl_protocol::model::{Model, ModelDetail, ModelShow, ResolvedSetting, SettingSource};

/// Lines of a chat template shown at a terminal.
const TEMPLATE_LINES: usize = 6;

/// Show a model's file, settings and server
///
/// Its file, its settings, its server. At a terminal only the beginning of the chat template.
/// With --resolved only the settings: the value the next start uses, who set it, llama-server's
/// own default, and what the running server has in force.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model show qwen3",
    "llamactl model show qwen3 --resolved",
    "llamactl model show qwen3 --group sampling",
    "llamactl model show qwen3 --json | jq .settings";
    "0 done, 3 no such model, 5 no such group, 6 daemon unreachable"
))]
pub(crate) struct Show {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// Only the settings, with where each comes from and what is in force
    #[arg(long)]
    resolved: bool,
    /// Every setting of a group, also those nobody set: sampling, memory, gpu, …
    #[arg(long, value_name = "GROUP", add = setting_groups())]
    group: Option<String>,
}

/// Shows a model.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Show) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let only_settings = args.resolved || args.group.is_some();
    // For a person the settings are always told with what became of them.
    let resolved = args.resolved || output.for_people();
    let params = ModelShow { model: args.name.into(), resolved, group: args.group.map(Into::into) };
    let detail = daemon.call(&params).await?;
    if output.json {
        return match &detail.resolved {
            Some(resolved) if only_settings => output.json_lines(resolved),
            _ => output.json(&detail),
        };
    }
    if output.quiet {
        return output.names([&detail.model.name]);
    }
    if only_settings {
        return output.table(&settings_table(detail.resolved.as_deref().unwrap_or_default()));
    }
    show(output, &detail, &Clock::local())
}

fn show(output: &mut Output, detail: &ModelDetail, clock: &Clock) -> Outcome {
    output.facts(facts(detail, clock))?;
    if let Some(template) = &detail.chat_template {
        output.line_unflushed("")?;
        output.line_unflushed(heading("Chat template"))?;
        let shown = if output.at_terminal() { TEMPLATE_LINES } else { usize::MAX };
        output.lines(template.lines().take(shown))?;
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
    match &detail.resolved {
        Some(resolved) => resolved.iter().filter_map(setting_line).for_each(|line| {
            facts.add("settings", line);
        }),
        None => model.settings.iter().for_each(|(key, value)| {
            facts.add("settings", assignment(key, value));
        }),
    }
    facts.add("revision", format!("{}, {}", model.revision, clock.full(model.changed_at_ms)));
    facts.add("added", clock.full(model.added_at_ms));
    facts.add("server", painted(Standing::of(server).style(), state_text(server)));
    facts.add_known("endpoint", endpoint(server));
    facts.add_known("pending", some(server.pending.join(", ")));
    facts
}

/// `ctx-size=8192 (default for all models)`; `None` for what nobody set.
fn setting_line(setting: &ResolvedSetting) -> Option<Styled> {
    let value = setting.value.as_ref()?;
    let mut line = Styled::from(assignment(&setting.key, value));
    match setting.source {
        SettingSource::Run => line = line.with(DIM, " (this run alone)"),
        SettingSource::Defaults => line = line.with(DIM, " (default for all models)"),
        SettingSource::Model | SettingSource::LlamaServer => {}
    }
    if setting.pending {
        line = line.with(YELLOW, " (takes effect on restart)");
    }
    Some(line)
}

/// The settings one by one.
fn settings_table(settings: &[ResolvedSetting]) -> Table {
    let mut table = Table::new([
        Column::name("KEY"),
        Column::text("VALUE", 0),
        Column::text("RUNNING", 0),
        Column::word("FROM", 1),
        Column::text("DEFAULT", 2),
        Column::text("NOTE", 3),
    ]);
    for setting in settings {
        let from = match setting.source {
            SettingSource::Run => "this run",
            SettingSource::Model => "model",
            SettingSource::Defaults => "defaults",
            SettingSource::LlamaServer => "llama-server",
        };
        let notes = [
            setting.pending.then(|| "takes effect on restart".to_owned()),
            setting.inferred.then(|| "only this build knows it".to_owned()),
        ];
        table.row([
            Cell::from(&setting.key),
            known(setting.value.as_ref().map(|value| setting_value(&setting.key, value))),
            Cell::from(from),
            known(setting.default.as_ref()),
            known(setting.in_force.as_ref().map(|value| setting_value(&setting.key, value))),
            known(listed(notes)),
        ]);
    }
    table
}

fn file_facts(facts: &mut Facts, model: &Model) {
    let file = &model.file;
    facts.add("path", model.path.to_string());
    if let Some(amiss) = model.file_state.and_then(file_amiss) {
        facts.add("file", painted(RED, format!("{amiss}: llamactl model verify {}", model.name)));
    }
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
    use crate::commands::scene;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::model::FileState;
    use llamactl_protocol::server::State;
    use serde_json::{Value, json};

    fn resolved(key: &str, source: SettingSource, value: Option<Value>) -> ResolvedSetting {
        ResolvedSetting {
            key: key.into(),
            group: "memory".into(),
            value,
            source,
            default: Some("0".into()),
            in_force: Some(json!(4096)),
            pending: key == "ctx-size",
            inferred: key == "new-option",
        }
    }

    fn settings() -> Vec<ResolvedSetting> {
        vec![
            resolved("ctx-size", SettingSource::Model, Some(json!(8192))),
            resolved("temp", SettingSource::Run, Some(json!(0.2))),
            resolved("threads", SettingSource::Defaults, Some(json!(8))),
            resolved("new-option", SettingSource::Model, Some(json!("on"))),
            ResolvedSetting {
                default: None,
                in_force: None,
                ..resolved("parallel", SettingSource::LlamaServer, None)
            },
        ]
    }

    #[test]
    fn everything_known_of_a_model() {
        let mut detail = scene::detail(scene::remarkable());
        detail.model.file_state = Some(FileState::Changed);
        detail.resolved = Some(settings());
        let template: Vec<String> = (1..10).map(|line| format!("{{% line {line} %}}")).collect();
        detail.chat_template = Some(template.join("\n"));
        assert_screen("model-show", |output| show(output, &detail, &Clock::utc()));
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let mut detail = scene::detail(scene::server("qwen3-8b", State::Stopped));
        detail.model.file = Default::default();
        detail.model.aliases = vec![];
        assert_screen("model-show-unknown", |output| show(output, &detail, &Clock::utc()));
    }

    #[test]
    fn settings_one_by_one() {
        assert_screen("model-show-resolved", |output| output.table(&settings_table(&settings())));
    }
}
