//! `llamactl runtime add PATH`

use crate::args::more;
use crate::complete::files;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::listed;
use crate::remote;
use crate::settings;
use clap::Args;
use llamactl_protocol::options::VARIABLE_PREFIX;
use llamactl_protocol::runtime::{RuntimeAdd, RuntimeAdded};
use llamactl_protocol::{Failure, Kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Add a llama-server build
///
/// It is run to ask for its version, its options and its devices. Its file must belong to root or
/// to the daemon's user, and nobody else may be able to write it.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime add ~/llama.cpp/build/bin/llama-server",
    "llamactl runtime add /opt/llama-cuda/bin/llama-server --name cuda env.CUDA_VISIBLE_DEVICES=1",
    "llamactl model set qwen3 runtime=cuda";
    "0 done, 2 not env.NAME=VALUE, 3 no such file, 4 the name is taken, 5 no llama-server, or others could write it, 6 daemon unreachable"
))]
pub(crate) struct Add {
    /// The llama-server
    #[arg(add = files())]
    path: PathBuf,
    /// What to call it; else after its directory
    #[arg(long)]
    name: Option<String>,
    /// Variables for its servers
    #[arg(value_name = "env.NAME=VALUE")]
    environment: Vec<String>,
}

/// Adds a runtime.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Add) -> Outcome {
    let environment = variables(settings::parse(&args.environment)?)?;
    let path = remote::path_meant(&args.path)?;
    let daemon = reach.daemon(Autostart::Always).await?;
    let added = daemon
        .call(&RuntimeAdd {
            path: path.into(),
            name: args.name.map(Into::into),
            environment: environment.into(),
        })
        .await?;
    tell(output, &added)
}

fn tell(output: &mut Output, added: &RuntimeAdded) -> Outcome {
    if output.json {
        return output.json(added);
    }
    if output.quiet {
        return output.names([&added.runtime.name]);
    }
    output.line(line(added))?;
    added.notes.iter().for_each(|note| output.note(note.as_str()));
    Ok(())
}

/// The variables that keys name.
fn variables(settings: BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>, Failure> {
    let named = settings.into_iter().map(|(key, value)| match key.strip_prefix(VARIABLE_PREFIX) {
        Some(name) => Ok((name.to_owned(), value)),
        None => Err(Failure::new(Kind::Usage, format!("a runtime has no setting {key:?}"))
            .hint("it has variables for its servers: env.NAME=VALUE")),
    });
    named.collect()
}

/// `added cuda (0.1.0, 243 options, CUDA0)`
fn line(added: &RuntimeAdded) -> String {
    let runtime = &added.runtime;
    if !added.added {
        return format!("{} is there already", runtime.name);
    }
    let devices = runtime.devices.iter().flatten().map(|device| device.name.as_str());
    let devices: Vec<&str> = devices.collect();
    let facts = listed([
        runtime.version.clone(),
        runtime.options_total.map(|count| format!("{count} options")),
        Some(if devices.is_empty() { "no GPU".to_owned() } else { devices.join(", ") }),
    ]);
    format!("added {} ({})", runtime.name, facts.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::runtime_list::tests::runtime;
    use crate::output::screen::assert_screen;
    use serde_json::json;

    #[test]
    fn what_was_added_is_said_in_a_line() {
        let with = |added| RuntimeAdded { runtime: runtime("cuda"), added, notes: vec![] };
        let mut without = with(true);
        without.runtime.devices = Some(vec![]);
        without.notes = vec!["it finds no GPU, and this machine has one".to_owned()];
        assert_screen("runtime-add", |output| {
            tell(output, &with(true))?;
            tell(output, &without)?;
            tell(output, &with(false))
        });
    }

    #[test]
    fn only_variables_are_set() {
        let one = |key: &str| variables([(key.to_owned(), json!("1"))].into());
        assert_eq!(json!(one("env.A").unwrap()), json!({ "A": "1" }));
        assert_eq!(one("ctx-size").unwrap_err().kind, Kind::Usage);
    }
}
