//! `llamactl runtime list`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::styled::{GREEN, RED, YELLOW};
use crate::output::table::{Cell, Column, Table, known};
use crate::pages;
use clap::Args;
use llamactl_protocol::Kind;
use llamactl_protocol::prose::clause;
use llamactl_protocol::runtime::RuntimeEntry;

/// List llama-server builds
///
/// The default is marked with a star: models use it that name no other. A file that was replaced
/// since it was looked at is said to have changed.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime list",
    "llamactl runtime list -q",
    "llamactl runtime list --json | jq -r 'select(.is_default) | .path'";
    "0 done, 6 daemon unreachable"
))]
pub(crate) struct List {}

/// Prints the runtimes, the default one marked.
pub(crate) async fn run(output: &mut Output, reach: &Reach, _: List) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let runtimes = pages::runtimes(&daemon).await?;
    if output.json {
        return output.json_lines(&runtimes);
    }
    if output.quiet {
        return output.names(runtimes.iter().map(|runtime| &runtime.name));
    }
    output.table(&table(&runtimes))
}

fn table(runtimes: &[RuntimeEntry]) -> Table {
    let mut table = Table::new([
        Column::name("NAME"),
        Column::word("BUILD", 0),
        Column::word("STATE", 0),
        Column::text("DEVICES", 1),
        Column::number("MODELS", 2),
        Column::path("PATH", 3),
    ])
    .with_remarks("PROBLEM");
    for runtime in runtimes {
        let star = if runtime.is_default { " *" } else { "" };
        let devices = runtime.devices.as_ref().map(|devices| {
            let names: Vec<&str> =
                devices.iter().map(|device| device.description.as_str()).collect();
            if names.is_empty() { "cpu".to_owned() } else { names.join(", ") }
        });
        let cells = [
            Cell::from(format!("{}{star}", runtime.name)),
            known(runtime.version.as_ref()),
            state_cell(runtime),
            known(devices),
            Cell::from(runtime.models.len().to_string()),
            known(runtime.path.as_ref().map(ToString::to_string)),
        ];
        table.row_with(cells, trouble(runtime));
    }
    table
}

/// Why it cannot be used, or what to do about a file that changed.
fn trouble(runtime: &RuntimeEntry) -> Option<String> {
    let name = &runtime.name;
    match (&runtime.problem, runtime.changed) {
        (Some(problem), _) => {
            Some(format!("{}: llamactl runtime show {name}", clause(&problem.message)))
        }
        (None, true) => Some(format!("the file was replaced: llamactl runtime refresh {name}")),
        (None, false) => None,
    }
}

/// How a runtime's file is, in a word or two.
pub(crate) fn state(runtime: &RuntimeEntry) -> &'static str {
    match (runtime.found, &runtime.problem, runtime.changed) {
        (true, None, false) => "ok",
        (true, None, true) => "changed",
        (true, Some(_), _) => "cannot run",
        (false, Some(problem), _) if problem.kind == Kind::RuntimeRefused => "not executable",
        // The one that is found without being told was never anywhere.
        (false, _, _) if runtime.added_at_ms.is_none() => "none found",
        (false, _, _) => "gone",
    }
}

fn state_cell(runtime: &RuntimeEntry) -> Cell {
    let style = match (&runtime.problem, runtime.changed) {
        (Some(_), _) => RED,
        (None, true) => YELLOW,
        (None, false) => GREEN,
    };
    Cell::styled(style, state(runtime))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::runtime::Device;
    use llamactl_protocol::{Failure, Kind};
    use std::collections::BTreeMap;

    /// A runtime that is well.
    pub(crate) fn runtime(name: &str) -> RuntimeEntry {
        RuntimeEntry {
            name: name.into(),
            path: Some("/opt/cuda/llama-server".into()),
            version: Some("0.1.0 (build 1)".into()),
            is_default: false,
            found: true,
            problem: None,
            changed: false,
            reports_progress: Some(true),
            options_total: Some(243),
            devices: Some(vec![Device {
                name: "CUDA0".into(),
                description: "NVIDIA H100".into(),
                memory_total_bytes: Some(80 << 30),
                memory_free_bytes: Some(79 << 30),
            }]),
            environment: BTreeMap::new(),
            models: vec![],
            named_by_defaults: false,
            added_at_ms: Some(1),
            revision: None,
        }
    }

    #[test]
    fn builds_that_are_well_changed_unusable_and_gone() {
        let mut system = runtime("system");
        (system.is_default, system.named_by_defaults) = (true, true);
        system.devices = Some(vec![]);
        let mut changed = runtime("changed");
        changed.changed = true;
        let mut unusable = runtime("unusable");
        let why = "others could replace it";
        unusable.problem = Some(Failure::new(Kind::RuntimeRefused, why));
        let mut gone = runtime("gone");
        gone.found = false;
        gone.problem = Some(Failure::new(Kind::RuntimeNotFound, "gone"));
        (gone.version, gone.options_total, gone.devices) = (None, None, None);
        gone.models = vec!["a".into(), "b".into()];
        let runtimes = [system, runtime("cuda"), changed, unusable, gone];
        assert_screen("runtime-list", |output| output.table(&table(&runtimes)));
    }
}
