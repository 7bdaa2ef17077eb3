//! `llamactl help [COMMAND…]`, `llamactl help settings [GROUP|KEY]`

use crate::args::{ABOUT, COMMANDS, Cli, EXITS, OPTIONS, more};
use crate::complete::help_topics;
use crate::connection::Reach;
use crate::exit::Outcome;
use crate::foreign::near;
use crate::help_page::{fitted, laid_out};
use crate::output::Output;
use crate::remote;
use clap::{Args, CommandFactory as _};
use llamactl_protocol::options::{Group, POLICY, Setting, catalogue, document, look_up};
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::json;

/// Show help for a command or a setting
///
/// help settings lists every setting there is, help settings GROUP those of a group, help settings
/// KEY tells all of one: what it takes, its other names, llama-server's default. help options tells
/// what every command takes, help exit-codes what they end with, help remote on which machine each has
/// its files with --host.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl help",
    "llamactl help model set",
    "llamactl help settings",
    "llamactl help settings sampling",
    "llamactl help settings ctx-size",
    "llamactl help options",
    "llamactl help exit-codes",
    "llamactl help remote";
    "0 done, 2 no such command, 5 no such setting"
))]
pub(crate) struct Help {
    /// A command; or settings, and a group or a key of them
    #[arg(value_name = "COMMAND", add = help_topics())]
    command: Vec<String>,
}

/// What is no command.
const TOPICS: [(&str, &str); 2] = [("options", OPTIONS), ("exit-codes", EXITS)];

/// Prints help.
pub(crate) async fn run(output: &mut Output, _: &Reach, args: Help) -> Outcome {
    print(output, &args.command)
}

/// Prints the list of commands, the help of one, or what the settings are.
pub(crate) fn print(output: &mut Output, asked: &[String]) -> Outcome {
    if asked.is_empty() {
        return page(output, &format!("{ABOUT}\n{COMMANDS}"));
    }
    if let [only] = asked
        && let Some((_, text)) = TOPICS.iter().find(|(topic, _)| topic == only)
    {
        return page(output, text);
    }
    if asked == ["remote"] {
        return output.table(&remote::table());
    }
    if let [first, topics @ ..] = asked
        && first == "settings"
    {
        return settings(output, topics);
    }
    let mut command = laid_out(Cli::command(), true, output.look.page_columns());
    for word in asked {
        let Some(found) = command.find_subcommand(word) else {
            let failure = Failure::new(Kind::Usage, format!("there is no command {word}"));
            let path: Vec<String> = asked.iter().take_while(|it| *it != word).cloned().collect();
            let near = near(&path, word).map(|near| {
                let help = ["llamactl".to_owned(), "help".to_owned()].into_iter().chain(path);
                Hint::run(format!("did you mean {near}?"), help.chain([near]))
            });
            let all = Hint::run("see which there are", ["llamactl", "help"]);
            return Err(failure.hint(near.unwrap_or(all)).into());
        };
        command = found.clone();
    }
    output.line(command.render_help().to_string().trim_end())
}

/// Prints text in columns.
fn page(output: &mut Output, text: &str) -> Outcome {
    match output.look.columns.filter(|_| !output.look.full) {
        Some(columns) => output.line(fitted(text, columns).trim_end()),
        None => output.line(text.trim_end()),
    }
}

/// The settings asked for, one to a line, each with what it takes as a JSON schema has it.
fn as_json(output: &mut Output, topics: &[String]) -> Outcome {
    let (mut groups, mut keys) = (Vec::new(), Vec::new());
    for topic in topics {
        match Group::find(topic) {
            Ok(group) => groups.push(group),
            Err(_) => keys.push(look_up(topic, None)?.key),
        }
    }
    let schema = document::schema();
    let is_asked = |it: &&Setting<'_>| {
        topics.is_empty() || groups.contains(&it.group) || keys.contains(&it.key)
    };
    for Setting { key, group, default, unit, .. } in catalogue().filter(is_asked) {
        output.json(&json!({
            "key": key, "group": group.as_str(), "default": default, "unit": unit,
            "applies_at_once": POLICY.contains(key),
            "schema": schema["properties"][key],
        }))?;
    }
    Ok(())
}

/// Shows the settings, a group of them, or one.
fn settings(output: &mut Output, topics: &[String]) -> Outcome {
    if output.json {
        return as_json(output, topics);
    }
    if topics.is_empty() {
        return page(output, &document::help_list());
    }
    for (index, topic) in topics.iter().enumerate() {
        let text = match Group::find(topic) {
            Ok(group) => document::help_group(group),
            Err(_) => document::help_of(&look_up(topic, None)?),
        };
        let between = if index > 0 { "\n" } else { "" };
        page(output, &format!("{between}{text}"))?;
    }
    Ok(())
}
