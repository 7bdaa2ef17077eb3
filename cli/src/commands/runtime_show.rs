//! `llamactl runtime show NAME`

use super::runtime_list::state;
use crate::args::more;
use crate::complete::runtime_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::Facts;
use crate::output::look::Look;
use crate::output::table::{Cell, Column, Table, known};
use crate::output::units;
use crate::view::assignment;
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::options::BuildOption;
use llamactl_protocol::prose::{clause, counted, listed};
use llamactl_protocol::runtime::{Device, RuntimeDetail, RuntimeOption, RuntimeShow};

/// Show a build's version, devices and options
///
/// With --options its options, all or those with a word in them: those marked with a + are known to the
/// build alone and can be set all the same, those marked with a - the build refuses.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime show system",
    "llamactl runtime show cuda --options cache",
    "llamactl runtime show cuda --json | jq -r '.options[] | select(.in_catalogue | not) | .key'";
    "0 done, 3 no such runtime, 6 daemon unreachable"
))]
pub(crate) struct Show {
    /// A runtime
    #[arg(add = runtime_names())]
    name: String,
    /// All its options, or those with this word in their name or help
    #[arg(long, value_name = "WORD", num_args = 0..=1, default_missing_value = "")]
    options: Option<String>,
}

/// Shows a runtime.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Show) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let detail = daemon.call(&RuntimeShow { name: args.name.into() }).await?;
    if output.json {
        return output.json(&detail);
    }
    if output.quiet {
        return output.names([&detail.runtime.name]);
    }
    show(output, &detail, args.options.as_deref())
}

fn show(output: &mut Output, detail: &RuntimeDetail, options: Option<&str>) -> Outcome {
    match options {
        Some(word) => output.table(&table(detail.options.iter().filter(|it| has(it, word))))?,
        None => output.facts(facts(&output.look, detail))?,
    }
    output.flush()?;
    if detail.runtime.changed {
        let name = &detail.runtime.name;
        output.note(format!("{name}: the file was replaced; this is what it was"));
        let refresh = ["llamactl", "runtime", "refresh", name];
        output.hint(&Hint::run("read it again", refresh));
    }
    output.flush()
}

/// Whether an option's name or help has this word.
fn has(option: &RuntimeOption, word: &str) -> bool {
    let BuildOption { key, help, flags, .. } = &option.option;
    [key, help].into_iter().chain(flags).any(|text| text.contains(word))
}

fn facts(look: &Look, detail: &RuntimeDetail) -> Facts {
    let runtime = &detail.runtime;
    let name = runtime.name.as_str();
    let mut facts = Facts::new();
    let version = runtime.version.as_deref().unwrap_or("of no known version");
    let default = if runtime.is_default { ", the default" } else { "" };
    let used = match runtime.models.len() {
        0 => String::new(),
        count => format!(", used by {}", counted(count as u64, "model")),
    };
    facts.add("build", format!("{name}, llama-server {version}{default}{used}"));
    if let Some(problem) = &runtime.problem {
        facts.add("state", format!("{}: {}", state(runtime), clause(&problem.message)));
        problem.hints.0.iter().for_each(|hint| facts.add_hint("to do", hint));
    }
    facts.add_known("path", runtime.path.as_ref().map(|path| look.tidy(&path.to_string())));
    for device in runtime.devices.iter().flatten() {
        facts.add_more("devices", device_line(device));
    }
    if runtime.devices.as_ref().is_some_and(Vec::is_empty) {
        facts.add("devices", "none: it computes on the CPU");
    }
    let variables = runtime.environment.iter();
    let variables: Vec<String> = variables.map(|(name, value)| assignment(name, value)).collect();
    facts.add_known("variables", (!variables.is_empty()).then(|| variables.join(" ")));
    facts.add_known("models", (!runtime.models.is_empty()).then(|| runtime.models.join(", ")));
    if !detail.options.is_empty() {
        let all = ["llamactl", "runtime", "show", name, "--options"];
        facts.add_hint("options", &Hint::run(detail.options.len().to_string(), all));
        let keys = |wanted: fn(&RuntimeOption) -> bool| {
            let keys = detail.options.iter().filter(|option| wanted(option));
            listed(&keys.map(|option| option.option.key.as_str()).collect::<Vec<_>>())
        };
        let unknown = keys(|option| !option.in_catalogue && !option.option.removed);
        if !unknown.is_empty() {
            facts.add_more("options", format!("unknown to llamactl, can be set: {unknown}"));
        }
        let removed = keys(|option| option.option.removed);
        if !removed.is_empty() {
            facts.add_more("options", format!("removed in this build: {removed}"));
        }
    }
    facts
}

fn device_line(device: &Device) -> String {
    let memory = device.memory_total_bytes.map(|total| match device.memory_free_bytes {
        Some(free) => format!(", {} of {} free", units::bytes(free), units::bytes(total)),
        None => format!(", {}", units::bytes(total)),
    });
    format!("{}: {}{}", device.name, device.description, memory.unwrap_or_default())
}

fn table<'a>(options: impl Iterator<Item = &'a RuntimeOption>) -> Table {
    let mut table = Table::new([
        Column::text("", 0),
        Column::text("FLAGS", 0),
        Column::text("VALUE", 0),
        Column::text("DEFAULT", 1),
        Column::prose("HELP", 2),
    ]);
    for RuntimeOption { option, in_catalogue } in options {
        let mark = match (option.removed, in_catalogue) {
            (true, _) => "-",
            (false, true) => "",
            (false, false) => "+",
        };
        let flags: Vec<&str> =
            option.flags.iter().chain(&option.negations).map(String::as_str).collect();
        let value = match (&option.value, option.choices.as_slice()) {
            (value, []) => value.clone(),
            (_, choices) => Some(choices.join("|")),
        };
        table.row([
            Cell::mark(mark),
            Cell::from(flags.join(" ")),
            known(value),
            known(option.default.as_ref()),
            Cell::from(&option.help),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::runtime_list::tests::runtime;
    use super::*;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::{Failure, Kind};

    #[test]
    fn a_build_with_its_options() {
        let option = |key: &str, removed, in_catalogue: bool| RuntimeOption {
            option: BuildOption {
                key: key.into(),
                flags: vec![format!("--{key}")],
                negations: vec![format!("--no-{key}")],
                choices: vec!["a".into(), "b".into()],
                default: in_catalogue.then(|| "a".into()),
                removed,
                help: "what the help says of it, which is a sentence of some length".into(),
                ..BuildOption::default()
            },
            in_catalogue,
        };
        let mut cuda = runtime("cuda");
        (cuda.is_default, cuda.changed) = (true, true);
        cuda.models = vec!["qwen3-8b".into()];
        cuda.environment = [("env.CUDA_VISIBLE_DEVICES".to_owned(), "0".into())].into();
        let options = vec![
            option("known", false, true),
            option("old", true, false),
            option("new", false, false),
        ];
        let detail = RuntimeDetail { runtime: cuda, options };
        assert_screen("runtime-show", |output| show(output, &detail, None));
        assert_screen("runtime-show-options", |output| show(output, &detail, Some("e")));
    }

    #[test]
    fn a_build_that_is_gone() {
        let mut gone = runtime("gone");
        gone.found = false;
        gone.problem = Some(Failure::new(Kind::RuntimeNotFound, "there is no file"));
        (gone.version, gone.devices) = (None, Some(vec![]));
        let detail = RuntimeDetail { runtime: gone, options: vec![] };
        assert_screen("runtime-show-gone", |output| show(output, &detail, None));
    }
}
