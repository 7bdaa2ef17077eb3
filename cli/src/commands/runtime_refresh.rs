//! `llamactl runtime refresh [NAME]`

use crate::args::more;
use crate::complete::runtime_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::runtime::{RefusedSetting, RuntimeRefresh, RuntimeRefreshed};

/// Re-read builds whose files were replaced
///
/// Says what each gained and lost, and which models have settings it takes no more, before any
/// server is restarted. Without a name all runtimes are looked at.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime refresh",
    "llamactl runtime refresh cuda --json | jq -r '.refused[].model'";
    "0 done, whatever is refused, 3 no such runtime, or it is gone, 5 it cannot be used, 6 daemon unreachable"
))]
pub(crate) struct Refresh {
    /// A runtime
    #[arg(add = runtime_names())]
    name: Option<String>,
}

/// Has one runtime or all looked at anew and says what is different.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Refresh) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let refreshed = daemon.call(&RuntimeRefresh { name: args.name.map(Into::into) }).await?.items;
    show(output, &refreshed)
}

fn show(output: &mut Output, refreshed: &[RuntimeRefreshed]) -> Outcome {
    if output.json {
        return output.json_lines(refreshed);
    }
    if output.quiet {
        let changed = refreshed.iter().filter(|it| it.changed);
        return output.names(changed.map(|it| &it.runtime.name));
    }
    for one in refreshed {
        output.lines(lines(one))?;
        tell_refused(output, &one.runtime.name, &one.refused);
    }
    Ok(())
}

/// Warns of settings that a runtime does not take.
pub(crate) fn tell_refused(output: &Output, runtime: &str, refused: &[RefusedSetting]) {
    for RefusedSetting { model, key, failure } in refused {
        let hint: String = failure.hints.lines().map(|hint| format!(" ({hint})")).collect();
        output.warning(format!("{model} cannot be started with {runtime}: {key}: {failure}{hint}"));
    }
}

/// What became of a runtime.
fn lines(refreshed: &RuntimeRefreshed) -> Vec<String> {
    let name = &refreshed.runtime.name;
    if let Some(problem) = &refreshed.runtime.problem {
        return vec![format!("{name}: {problem}")];
    }
    if !refreshed.changed {
        return vec![format!("{name} is what it was")];
    }
    let version = |version: &Option<String>| {
        version.clone().unwrap_or_else(|| "of no known version".to_owned())
    };
    let new = version(&refreshed.new_version);
    let first = match &refreshed.old_version {
        Some(old) if *old == new => format!("{name} is {new}, built again"),
        Some(old) => format!("{name} is {new} now; it was {old}"),
        None => format!("{name} is {new}"),
    };
    let list = |what: &str, options: &[String]| {
        (!options.is_empty()).then(|| format!("  {what}: {}", options.join(", ")))
    };
    let gained = list("gained", &refreshed.gained);
    std::iter::once(first).chain(gained).chain(list("lost", &refreshed.lost)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::runtime_list::tests::runtime;
    use super::*;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::{Failure, Kind};

    #[test]
    fn what_a_build_gained_and_lost_and_whom_it_does_not_serve() {
        let with = |name: &str, versions: Option<[&str; 2]>| RuntimeRefreshed {
            runtime: runtime(name),
            changed: versions.is_some(),
            old_version: versions.map(|[old, _]| old.into()),
            new_version: versions.map(|[_, new]| new.into()),
            gained: vec![],
            lost: vec![],
            refused: vec![],
        };
        let mut other = with("cuda", Some(["b10433", "b10434"]));
        other.gained = vec!["alpha".into(), "beta".into()];
        other.lost = vec!["gamma".into()];
        other.refused = vec![RefusedSetting {
            model: "qwen3-8b".into(),
            key: "gamma".into(),
            failure: Failure::new(Kind::UnknownOption, "b10434 has no such option")
                .hint("unset it, or use another runtime"),
        }];
        let mut gone = with("gone", None);
        gone.runtime.problem = Some(Failure::new(Kind::RuntimeNotFound, "there is no file"));
        let refreshed =
            [with("system", None), with("vulkan", Some(["b10434", "b10434"])), other, gone];
        assert_screen("runtime-refresh", |output| show(output, &refreshed));
    }
}
