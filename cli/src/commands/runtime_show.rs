//! `llamactl runtime show NAME`

use super::runtime_list::state;
use crate::args::more;
use crate::complete::runtime_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{Facts, heading};
use crate::output::table::{Cell, Column, Table, known};
use crate::output::units;
use crate::view::assignment;
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::runtime::{Device, RuntimeDetail, RuntimeOption, RuntimeShow};

/// Show a build's version, devices and options
///
/// Options marked with a + are known to the build alone: they can be set all the same. Those
/// marked with a - the build refuses, and says what to use instead.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime show system",
    "llamactl runtime show cuda --json | jq -r '.options[] | select(.in_catalogue | not) | .key'";
    "0 done, 3 no such runtime, 6 daemon unreachable"
))]
pub(crate) struct Show {
    /// A runtime
    #[arg(add = runtime_names())]
    name: String,
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
    show(output, &detail)
}

fn show(output: &mut Output, detail: &RuntimeDetail) -> Outcome {
    output.facts(facts(detail))?;
    if !detail.options.is_empty() {
        output.line_unflushed("")?;
        output.line_unflushed(heading("Options"))?;
        output.table(&table(&detail.options))?;
    }
    if detail.runtime.changed {
        let name = &detail.runtime.name;
        let hint = "this is what it was; look anew";
        output.hint(&Hint::run(hint, ["llamactl", "runtime", "refresh", name]));
    }
    output.flush()
}

fn facts(detail: &RuntimeDetail) -> Facts {
    let runtime = &detail.runtime;
    let mut facts = Facts::new();
    let default = if runtime.is_default { " (the default)" } else { "" };
    facts.add("name", format!("{}{default}", runtime.name));
    facts.add_known("path", runtime.path.as_ref().map(ToString::to_string));
    facts.add_known("version", runtime.version.clone());
    facts.add_known("revision", runtime.revision.map(|revision| revision.to_string()));
    facts.add(
        "state",
        match &runtime.problem {
            Some(problem) => format!("{}: {problem}", state(runtime)),
            None => state(runtime).to_owned(),
        },
    );
    for device in runtime.devices.iter().flatten() {
        facts.add("devices", device_line(device));
    }
    if runtime.devices.as_ref().is_some_and(Vec::is_empty) {
        facts.add("devices", "none: it computes on the CPU");
    }
    for (name, value) in &runtime.environment {
        facts.add("environment", assignment(name, value));
    }
    facts.add_known("models", (!runtime.models.is_empty()).then(|| runtime.models.join(", ")));
    facts
}

fn device_line(device: &Device) -> String {
    let memory = device.memory_total_bytes.map(|total| match device.memory_free_bytes {
        Some(free) => format!(", {} of {} free", units::bytes(free), units::bytes(total)),
        None => format!(", {}", units::bytes(total)),
    });
    format!("{}: {}{}", device.name, device.description, memory.unwrap_or_default())
}

fn table(options: &[RuntimeOption]) -> Table {
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
    use llamactl_protocol::options::BuildOption;
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
        assert_screen("runtime-show", |output| show(output, &detail));
    }

    #[test]
    fn a_build_that_is_gone() {
        let mut gone = runtime("gone");
        gone.found = false;
        gone.problem = Some(Failure::new(Kind::RuntimeNotFound, "there is no file"));
        (gone.version, gone.devices) = (None, Some(vec![]));
        let detail = RuntimeDetail { runtime: gone, options: vec![] };
        assert_screen("runtime-show-gone", |output| show(output, &detail));
    }
}
