//! The page of all commands, `docs/cli.md`: what their help says, on one page.

use crate::args::{COMMANDS, Cli, EXITS, OPTIONS};
use crate::output::screen::assert_document;
use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory as _};
use std::fmt::Write as _;

const OPENING: &str = "\
# Commands

<!-- Written from the help of the commands in cli/src/commands; change that, not this page. -->

The same as `llamactl help COMMAND` says, for all commands; `man llamactl-COMMAND` where manual pages
are installed. [options.md](options.md) lists the settings that `KEY=VALUE` stands for,
[scripting.md](scripting.md) is about commands in scripts.
";

#[test]
fn docs_cli_is_what_the_commands_say() {
    let mut root = Cli::command();
    root.build();
    let mut commands = Vec::new();
    collect(&root, &mut commands);

    let mut page = format!("{OPENING}\n```text\n{COMMANDS}\n```\n");
    let _ = write!(page, "\n## All commands\n\n| command | what it does |\n|---|---|\n");
    for (name, command) in &commands {
        let anchor = name.replace(' ', "-");
        let _ = writeln!(page, "| [`{name}`](#{anchor}) | {} |", about(command));
    }
    let _ = write!(page, "\n## Options of every command\n\n```text\n{OPTIONS}\n```\n");
    let _ = write!(page, "\n## Exit codes\n\n```text\n{EXITS}\n```\n");
    for (name, command) in &commands {
        write_command(&mut page, name, command);
    }
    assert_document("cli.md", &page);
}

/// The commands that do something, with their full names.
fn collect(command: &Command, found: &mut Vec<(String, Command)>) {
    for sub in command.get_subcommands() {
        if sub.get_after_help().is_some() {
            found.push((sub.get_bin_name().unwrap_or_default().to_owned(), sub.clone()));
        }
        collect(sub, found);
    }
}

fn write_command(page: &mut String, name: &str, command: &Command) {
    let (long, short) = (command.get_long_about(), command.get_about());
    let _ = write!(page, "\n## {name}\n\n{}\n", text(long.or(short)));
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        let _ = write!(page, "\nAlso: `{}`\n", aliases.join("`, `"));
    }
    let usage = command.clone().render_usage().to_string();
    let _ = write!(page, "\n```text\n{}\n```\n", usage.trim_start_matches("Usage: "));

    let shown = |arg: &&Arg| !arg.is_hide_set() && arg.get_id() != "help";
    let mut arguments = command.get_arguments().filter(shown).peekable();
    if arguments.peek().is_some() {
        page.push('\n');
    }
    for argument in arguments {
        write_argument(page, argument);
    }

    let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (examples, exits) = more.split_once("\n\nGlobal: ").unwrap_or_default();
    let exits = exits.split_once("Exit codes: ").map_or("", |(_, exits)| exits);
    let examples = examples.trim_start_matches("Examples:\n").replace("\n  ", "\n");
    let _ = write!(page, "\n```sh\n{}\n```\n", examples.trim());
    let _ = write!(page, "\nExit codes: {exits}\n");
}

fn write_argument(page: &mut String, argument: &Arg) {
    let flags = argument.get_short().map(|short| format!("-{short}"));
    let flags: Vec<_> =
        flags.into_iter().chain(argument.get_long().map(|long| format!("--{long}"))).collect();
    let takes = !argument.is_positional() && argument.get_action().takes_values();
    let values = argument.get_value_names().unwrap_or_default().join(" ");
    let name = match (flags.is_empty(), takes) {
        (true, _) => values,
        (false, true) => format!("{} {values}", flags.join(", ")),
        (false, false) => flags.join(", "),
    };
    let help = text(argument.get_long_help().or(argument.get_help())).replace("\n\n", " ");
    let _ = write!(page, "* `{name}`: {help}");
    let possible: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| argument.get_action().takes_values() && !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !possible.is_empty() {
        let _ = write!(page, "; one of {}", possible.join(", "));
    }
    let default: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !default.is_empty() && argument.get_action().takes_values() {
        let _ = write!(page, "; without it `{}`", default.join(" "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(page, "; or the variable `{}`", variable.to_string_lossy());
    }
    page.push('\n');
}

fn about(command: &Command) -> String {
    text(command.get_about())
}

/// Help as Markdown: nothing in it is a mark.
fn text(help: Option<&StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    help.replace('<', "\\<").replace('*', "\\*").replace('|', "\\|")
}
