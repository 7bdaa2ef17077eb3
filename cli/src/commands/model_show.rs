//! `llamactl model show NAME`

use crate::args::more;
use crate::complete::{model_names, setting_groups};
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{self, Facts, heading, painted};
use crate::output::look::Look;
use crate::output::styled::YELLOW;
use crate::output::table::{Cell, Column, Table, known};
use crate::output::time::{Clock, now_ms};
use crate::output::units;
use crate::view::{Standing, assignment, endpoint, file_amiss, setting_value, state_text};
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::model::{Model, ModelDetail, ModelShow, ResolvedSetting, SettingSource};
use llamactl_protocol::prose::listed;
use serde_json::Value;

/// Show a model's file, settings and server
///
/// Its file, its settings, its server; in a pipe and with --full also the rest of what is known of the
/// file, and the chat template.
/// With --resolved only the settings: the value the next start uses, who set it, llama-server's
/// own default, and what the running server runs with.
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
    /// Only the settings, with where each comes from and what runs
    #[arg(long)]
    resolved: bool,
    /// With --resolved: also those that nobody set and that run with llama-server's own value
    #[arg(long, requires = "resolved", conflicts_with = "group")]
    all: bool,
    /// Every setting of a group, also those nobody set: sampling, memory, gpu, …
    #[arg(long, value_name = "GROUP", add = setting_groups())]
    group: Option<String>,
}

/// Shows a model.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Show) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let only_settings = args.resolved || args.group.is_some();
    let named_all = args.all || args.group.is_some();
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
        return settings(output, &detail, named_all);
    }
    show(output, &detail, &Clock::local(), now_ms())
}

fn show(output: &mut Output, detail: &ModelDetail, clock: &Clock, now_ms: i64) -> Outcome {
    // A person gets what he may want to change; everything is in a pipe, and with --full.
    let full = output.look.full || !output.at_terminal();
    let mut shown = facts(&output.look, detail, clock, now_ms);
    if full {
        more_facts(&mut shown, detail, clock);
    }
    output.facts(shown)?;
    if let Some(template) = detail.chat_template.as_ref().filter(|_| full) {
        output.line_unflushed("")?;
        output.line_unflushed(heading("Chat template"))?;
        output.lines(template.lines())?;
    }
    output.flush()
}

fn facts(look: &Look, detail: &ModelDetail, clock: &Clock, now_ms: i64) -> Facts {
    let (model, server) = (&detail.model, &detail.server);
    let mut facts = Facts::new();
    let aliases = some(listed(&model.aliases)).map(|aliases| match model.aliases.len() {
        1 => format!(", alias {aliases}"),
        _ => format!(", aliases {aliases}"),
    });
    facts.add("name", format!("{}{}", model.name, aliases.unwrap_or_default()));
    let size = units::bytes(model.file.size_bytes);
    facts.add("file", format!("{}, {size}", look.tidy(&model.path.to_string())));
    if let Some(amiss) = model.file_state.and_then(file_amiss) {
        let verify = ["llamactl", "model", "verify", &model.name];
        facts.add_hint("warning", &Hint::run(amiss, verify));
    }
    facts.add_known("model", about(model));
    for (name, source) in [
        ("settings", SettingSource::Model),
        ("defaults", SettingSource::Defaults),
        ("this run", SettingSource::Run),
    ] {
        facts.add_known(name, some(set(detail, source)));
    }
    let at = endpoint(server).filter(|_| !server.state.is_settled_down());
    let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
    let state = painted(Standing::of(server).style(), state_text(server));
    facts.add("server", state.plain(at));
    if !server.pending.is_empty() {
        facts.add("pending", painted(YELLOW, listed(&server.pending)));
        facts.add_beneath(&["llamactl", "restart", &model.name].map(str::to_owned));
    }
    let changed = clock.of_day(model.changed_at_ms, now_ms);
    facts.add("revision", format!("{}, {changed}", model.revision));
    facts
}

/// `Qwen3 8B: qwen3, 8.2B parameters, Q4_K_M, context 40960`
fn about(model: &Model) -> Option<String> {
    let file = &model.file;
    let facts = facts::listed([
        file.architecture.clone(),
        file.parameters.map(|count| format!("{} parameters", units::count(count))),
        file.quantization.clone(),
        file.context_length.map(|tokens| format!("context {tokens}")),
    ]);
    match (file.title.clone(), facts) {
        (Some(title), Some(facts)) => Some(format!("{title}: {facts}")),
        (title, facts) => title.or(facts),
    }
}

/// The settings that come from there, as they are typed.
fn set(detail: &ModelDetail, source: SettingSource) -> String {
    let words: Vec<String> = match &detail.resolved {
        Some(resolved) => resolved
            .iter()
            .filter(|setting| setting.source == source)
            .filter_map(|setting| Some(assignment(&setting.key, setting.value.as_ref()?)))
            .collect(),
        None if source == SettingSource::Model => {
            detail.model.settings.iter().map(|(key, value)| assignment(key, value)).collect()
        }
        None => vec![],
    };
    words.join(" ")
}

/// The settings one by one, and what runs with another value; a person is told of what somebody set, if not
/// of `all`.
fn settings(output: &mut Output, detail: &ModelDetail, all: bool) -> Outcome {
    let resolved = detail.resolved.as_deref().unwrap_or_default();
    let is_told = |it: &&ResolvedSetting| {
        all || !output.at_terminal() || it.source != SettingSource::LlamaServer || it.pending
    };
    let told: Vec<&ResolvedSetting> = resolved.iter().filter(is_told).collect();
    output.table(&settings_table(&told))?;
    if !output.at_terminal() {
        return Ok(());
    }
    let name = &detail.model.name;
    if resolved.iter().any(|setting| setting.pending) {
        let restart = ["llamactl", "restart", name];
        output.hint(&Hint::run("* runs with another value; apply them", restart));
    }
    match resolved.len() - told.len() {
        0 if resolved.is_empty() => output.note(format!("{name}: nobody set anything")),
        0 => {}
        n => {
            let all = ["llamactl", "model", "show", name, "--resolved", "--all"];
            output.hint(&Hint::run(format!("{n} more that nobody set"), all));
        }
    }
    Ok(())
}

fn settings_table(settings: &[&ResolvedSetting]) -> Table {
    let mut table = Table::new([
        Column::name("KEY"),
        Column::text("VALUE", 0),
        Column::text("RUNNING", 0),
        Column::word("FROM", 1),
        Column::text("DEFAULT", 2),
    ])
    .with_remarks("NOTE");
    for setting in settings {
        let from = match setting.source {
            SettingSource::Run => "this run",
            SettingSource::Model => "model",
            SettingSource::Defaults => "defaults",
            SettingSource::LlamaServer => "llama-server",
        };
        let shown = |value: &Value| setting_value(&setting.key, value);
        let mark = if setting.pending { " *" } else { "" };
        let running = setting.in_force.as_ref().map(|value| format!("{}{mark}", shown(value)));
        let cells = [
            Cell::from(&setting.key),
            known(setting.value.as_ref().map(shown)),
            known(running.or_else(|| some(mark.trim().to_owned()))),
            Cell::from(from),
            known(setting.default.as_ref()),
        ];
        table.row_with(cells, setting.inferred.then(|| "only this build knows it".to_owned()));
    }
    table
}

/// The rest of what is known.
fn more_facts(facts: &mut Facts, detail: &ModelDetail, clock: &Clock) {
    let file = &detail.model.file;
    for part in file.parts.iter().filter(|_| file.parts.len() > 1) {
        facts.add_more("parts", part.to_string());
    }
    facts.add_known("projector", file.mmproj.as_ref().map(ToString::to_string));
    facts.add_known("layers", file.layers.map(|n| n.to_string()));
    facts.add_known("heads", file.heads.map(|n| n.to_string()));
    facts.add_known("kv heads", file.kv_heads.map(|n| n.to_string()));
    facts.add_known("embedding", file.embedding_length.map(|n| n.to_string()));
    facts.add_known("experts", file.experts.map(|n| n.to_string()));
    facts.add_known("vocabulary", file.vocabulary.map(|n| n.to_string()));
    facts.add_known("tokenizer", file.tokenizer.clone());
    facts.add("added", clock.full(detail.model.added_at_ms));
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};
    use llamactl_protocol::model::FileState;
    use llamactl_protocol::server::State;
    use serde_json::json;

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
        assert_screen("model-show", |output| {
            let mut detail = scene::detail(scene::remarkable());
            detail.model.file_state = Some(FileState::Changed);
            detail.resolved = Some(settings());
            let template: Vec<String> =
                (1..10).map(|line| format!("{{% line {line} %}}")).collect();
            detail.chat_template = Some(template.join("\n"));
            show(output, &detail, &Clock::utc(), NOW_MS)
        });
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        assert_screen("model-show-unknown", |output| {
            let mut detail = scene::detail(scene::server("qwen3-8b", State::Stopped));
            detail.model.file = Default::default();
            detail.model.aliases = vec![];
            show(output, &detail, &Clock::utc(), NOW_MS)
        });
    }

    #[test]
    fn settings_one_by_one() {
        assert_screen("model-show-resolved", |output| {
            let mut detail = scene::detail(scene::remarkable());
            detail.resolved = Some(settings());
            super::settings(output, &detail, false)
        });
    }
}
