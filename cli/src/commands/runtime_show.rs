//! `llamactl runtime show NAME`

use super::runtime_list::state;
use crate::args::more;
use crate::complete::runtime_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{Facts, heading};
use crate::output::table::{Align, Cell, Column, Table, known};
use crate::output::units;
use crate::view::assignment;
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::runtime::{Device, RuntimeDetail, RuntimeOption, RuntimeShow};

/// Show a runtime: its build, its devices, all its options
///
/// Options marked with a + are known to the build alone: they can be set all the same. Those
/// marked with a - the build refuses, and says what to use instead.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime show system",
    "llamactl runtime show cuda --json | jq -r '.options[] | select(.in_catalogue | not) | .key'";
    "0 done  3 no such runtime  6 daemon unreachable"
))]
pub(crate) struct Show {
    /// A runtime
    #[arg(add = runtime_names())]
    name: String,
}

/// Shows a runtime.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Show) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let detail = daemon.call(&RuntimeShow { name: args.name }).await?;
    if output.json {
        return output.json(&detail);
    }
    if output.quiet {
        return output.names([&detail.runtime.name]);
    }
    for line in facts(&detail).lines() {
        output.line_unflushed(line)?;
    }
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
        Column("", Align::Left),
        Column("FLAGS", Align::Left),
        Column("VALUE", Align::Left),
        Column("DEFAULT", Align::Left),
        Column("HELP", Align::Left),
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
            Cell::from(mark),
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
    use llamactl_protocol::options::BuildOption;

    #[test]
    fn devices_come_with_their_memory() {
        let detail = RuntimeDetail { runtime: runtime("cuda"), options: vec![] };
        let lines: Vec<String> =
            facts(&detail).lines().iter().map(|line| line.render(false, false)).collect();
        let line = "devices  CUDA0: NVIDIA H100, 79.0 GiB of 80.0 GiB free";
        assert!(lines.contains(&line.to_owned()), "{lines:#?}");
        assert!(lines.contains(&"state    ok".to_owned()), "{lines:#?}");
    }

    #[test]
    fn options_are_marked() {
        let option = |key: &str, removed, in_catalogue| RuntimeOption {
            option: BuildOption {
                key: key.into(),
                flags: vec![format!("--{key}")],
                choices: vec!["a".into(), "b".into()],
                removed,
                help: "help".into(),
                ..BuildOption::default()
            },
            in_catalogue,
        };
        let options = [option("old", true, false), option("new", false, false)];
        assert_eq!(
            table(&options).render(false, None),
            "   FLAGS  VALUE  DEFAULT  HELP\n\
             -  --old  a|b    -        help\n\
             +  --new  a|b    -        help\n"
        );
    }
}
