//! The command line: its tree, its global options, its help.
//!
//! Each command's own arguments stand with the command, in `commands/`.

use crate::commands::{
    completions, daemon_backup, daemon_check_config, daemon_install, daemon_logs, daemon_restart,
    daemon_restore, daemon_start, daemon_status, daemon_stop, daemon_uninstall, defaults_set,
    defaults_show, defaults_unset, events, gpus, help, logs, metrics, model_add, model_alias,
    model_args, model_copy, model_diff, model_edit, model_export, model_history, model_import,
    model_key, model_list, model_remove, model_rename, model_rollback, model_scan, model_set,
    model_show, model_unset, model_verify, ps, restart, rpc, run, runtime_add, runtime_list,
    runtime_refresh, runtime_remove, runtime_set, runtime_show, runtime_unset, runtime_use, start,
    status, stop, top, version, wait, why,
};
use crate::connection::{Reach, Silence, Told};
use crate::output::{ColourChoice, Format};
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// The text below a command's options: examples and exit codes.
macro_rules! more {
    ($($example:literal),+ ; $exits:literal) => {
        concat!(
            "Examples:\n", $("  ", $example, "\n",)+
            "\nGlobal: --json -q --full --color --socket --no-autostart (llamactl help options)\n",
            "Exit codes: ", $exits
        )
    };
}
pub(crate) use more;

/// A tour and the commands, grouped by what people do, as `llamactl help` and `llamactl --help`
/// show them.
pub(crate) const COMMANDS: &str = "  \
  llamactl model add ~/models/qwen3-8b-q4_k_m.gguf --name qwen3
  llamactl start qwen3
  llamactl run qwen3 \"Why is the sky blue?\"
If it does not start: llamactl why qwen3, then llamactl logs qwen3

Servers     start stop restart wait     change what runs, and wait for it
            ps status why events logs   see what runs, and what happened
            run                         ask a model, or chat with it
Models      model add scan list show verify copy rename alias remove
            model export import         take models elsewhere and back
Settings    model set unset edit args key history diff rollback
            defaults set unset show     for all models; help settings [KEY]
Builds      runtime add list show use set unset refresh remove
Machine     metrics gpus top
Daemon      daemon start stop restart status logs
            daemon install uninstall backup restore check-config
            version rpc completions
Help for one: llamactl help start. More: help options, help exit-codes";

/// What every command takes, as `llamactl help options` shows it.
pub(crate) const OPTIONS: &str = "\
Every command takes these, before or after its name:
  --json            One JSON object per line, for programs; an error is one line on stderr
  -q, --quiet       Names only, one per line; nothing on stderr but errors
  --full            All columns of tables, and nothing cut
  --color WHEN      auto, always or never; NO_COLOR switches it off too
  --socket PATH     The daemon's socket, and no other [env: LLAMACTL_SOCKET]
  --no-autostart    Do not start the daemon when none runs [env: LLAMACTL_NO_AUTOSTART]
  -h, --help        The help of the command; -h is shorter
COLUMNS sets the width of tables at a terminal.";

/// What a command ends with, as `llamactl help exit-codes` shows it.
pub(crate) const EXITS: &str = "  \
  0  done             5  a value that cannot be
  1  failed           6  no daemon answers
  2  used wrongly     7  the time ran out
  3  not found        8  the server failed
  4  in conflict    130  interrupted (Ctrl-C)";

const TEMPLATE: &str = "{about}\n{before-help}";

/// What llamactl is.
pub(crate) const ABOUT: &str =
    "llamactl runs llama.cpp's llama-server the way an init system runs services";

/// llamactl runs llama.cpp's llama-server the way an init system runs services
#[derive(Parser, Debug)]
#[command(
    name = "llamactl",
    version,
    help_template = TEMPLATE,
    before_help = COMMANDS,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options every command takes, before or after its name.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The daemon's socket; no other is tried then, and only daemon start starts one there
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "PATH",
        env = "LLAMACTL_SOCKET",
        hide_env_values = true,
        display_order = 901
    )]
    socket: Option<OsString>,

    /// Do not start the daemon when none runs
    #[arg(
        long,
        global = true,
        hide = true,
        env = "LLAMACTL_NO_AUTOSTART",
        hide_env_values = true,
        value_parser = FalseyValueParser::new(),
        display_order = 902
    )]
    no_autostart: bool,

    /// Print one JSON object per line
    #[arg(long, global = true, hide = true, display_order = 903)]
    json: bool,

    /// Print names only
    #[arg(long, short, global = true, hide = true, display_order = 904)]
    quiet: bool,

    /// All columns of tables, and nothing cut
    #[arg(long, global = true, hide = true, display_order = 905)]
    full: bool,

    /// When to use colour; NO_COLOR switches it off too
    #[arg(
        long,
        global = true,
        hide = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        display_order = 906
    )]
    color: ColourChoice,
}

impl Global {
    /// How output is wanted.
    pub(crate) fn format(&self) -> Format {
        Format { json: self.json, quiet: self.quiet, full: self.full, colour: self.color }
    }

    /// How the daemon is to be reached.
    pub(crate) fn reach(&self) -> Reach {
        let socket = self.socket.clone().filter(|path| !path.is_empty()).map(PathBuf::from);
        let told = if self.json || self.quiet { Told::Nobody } else { Told::Terminal };
        Reach { socket, no_autostart: self.no_autostart, silence: Silence::usual(told) }
    }
}

/// The commands. What a command takes is built only when it is the one; a shell script that runs
/// many pays for each.
#[derive(Subcommand, Debug)]
#[command(defer = true)]
pub(crate) enum Command {
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    Wait(wait::Wait),
    Why(why::Why),
    Ps(ps::Ps),
    Status(status::Status),
    Logs(logs::Logs),
    Top(top::TopArgs),
    Run(run::Run),
    /// Manage models and their settings
    #[command(subcommand)]
    Model(ModelCommand),
    /// Manage settings for all models
    #[command(subcommand)]
    Defaults(DefaultsCommand),
    /// Manage llama-server builds
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    Gpus(gpus::Gpus),
    Metrics(metrics::Metrics),
    Events(events::Events),
    /// Manage the daemon
    #[command(subcommand)]
    Daemon(DaemonCommand),
    Version(version::Version),
    Rpc(rpc::Rpc),
    Completions(completions::Completions),
    Help(help::Help),
}

/// `llamactl model …`; the line here is for the list, the command's own says the same.
#[derive(Subcommand, Debug)]
#[command(defer = true)]
pub(crate) enum ModelCommand {
    /// Add models from GGUF files
    Add(model_add::Add),
    /// Find GGUF files on this machine and add them
    Scan(model_scan::Scan),
    /// Check model files for damage and changes
    Verify(model_verify::Verify),
    /// List models
    #[command(visible_alias = "ls")]
    List(model_list::List),
    /// Show a model's file, settings and server
    Show(model_show::Show),
    /// Change a model's settings
    Set(model_set::Set),
    /// Reset settings to their defaults
    Unset(model_unset::Unset),
    /// Edit a model's settings in your editor
    Edit(model_edit::Edit),
    /// Show the command line of the next start
    Args(model_args::CommandLine),
    /// List the changes made to a model, newest first
    History(model_history::History),
    /// Compare two revisions of a model
    Diff(model_diff::Diff),
    /// Restore an earlier revision of a model
    Rollback(model_rollback::Rollback),
    /// Print a model's API key
    Key(model_key::Key),
    /// Rename a model
    Rename(model_rename::Rename),
    /// Copy a model's settings to a new name
    Copy(model_copy::Copy),
    /// List, add or remove a model's aliases
    Alias(model_alias::Alias),
    /// Export models and settings
    Export(model_export::Export),
    /// Import models from an export, preset, command line or dashboard
    Import(model_import::Import),
    /// Remove models; their files stay
    #[command(visible_alias = "rm")]
    Remove(model_remove::Remove),
}

/// `llamactl defaults …`
#[derive(Subcommand, Debug)]
#[command(defer = true)]
pub(crate) enum DefaultsCommand {
    /// Change settings for all models
    Set(defaults_set::Set),
    /// Reset settings for all models
    Unset(defaults_unset::Unset),
    /// Show the settings for all models
    Show(defaults_show::Show),
}

/// `llamactl runtime …`
#[derive(Subcommand, Debug)]
#[command(defer = true)]
pub(crate) enum RuntimeCommand {
    /// Add a llama-server build
    Add(runtime_add::Add),
    /// List llama-server builds
    #[command(visible_alias = "ls")]
    List(runtime_list::List),
    /// Show a build's version, devices and options
    Show(runtime_show::Show),
    /// Make a build the default
    Use(runtime_use::Use),
    /// Set environment variables of a build's servers
    Set(runtime_set::Set),
    /// Remove environment variables of a build's servers
    Unset(runtime_unset::Unset),
    /// Remove builds; their files stay
    #[command(visible_alias = "rm")]
    Remove(runtime_remove::Remove),
    /// Re-read builds whose files were replaced
    Refresh(runtime_refresh::Refresh),
}

/// `llamactl daemon …`
#[derive(Subcommand, Debug)]
#[command(defer = true)]
pub(crate) enum DaemonCommand {
    /// Start the daemon and wait until it answers
    Start(daemon_start::Start),
    /// Stop the daemon and its servers
    Stop(daemon_stop::Stop),
    /// Restart or upgrade the daemon; servers keep running
    Restart(daemon_restart::Restart),
    /// Show the daemon's state
    Status(daemon_status::Status),
    /// Show the daemon's log
    Logs(daemon_logs::Logs),
    /// Copy the registry to a file
    Backup(daemon_backup::Backup),
    /// Go back to a copy of the registry
    Restore(daemon_restore::Restore),
    /// Check the daemon's configuration file
    CheckConfig(daemon_check_config::CheckConfig),
    /// Let systemd keep the daemon
    Install(daemon_install::Install),
    /// Take the daemon's unit back
    Uninstall(daemon_uninstall::Uninstall),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::{COLUMNS, assert_screen, assert_text};
    use clap::CommandFactory as _;

    /// Every command that does something, with its full name.
    fn leaves(command: &clap::Command, name: &str, found: &mut Vec<(String, clap::Command)>) {
        for sub in command.get_subcommands() {
            let name = format!("{name} {}", sub.get_name());
            if sub.is_subcommand_required_set() {
                leaves(sub, &name, found);
            } else {
                found.push((name.trim().to_owned(), sub.clone()));
            }
        }
    }

    fn all() -> Vec<(String, clap::Command)> {
        let mut command = Cli::command();
        command.build();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        found
    }

    #[test]
    fn lists_say_what_the_commands_say() {
        let built = all();
        let command = Cli::command();
        for noun in command.get_subcommands().filter(|noun| noun.has_subcommands()) {
            for verb in noun.get_subcommands() {
                let name = format!("{} {}", noun.get_name(), verb.get_name());
                let (_, whole) = built.iter().find(|(known, _)| *known == name).unwrap();
                let said = |command: &clap::Command| command.get_about().map(ToString::to_string);
                assert!(said(verb).is_some(), "{name}");
                assert_eq!(said(verb), said(whole), "{name}");
            }
        }
    }

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_with_examples_and_exit_codes() {
        for (name, command) in all() {
            assert!(command.get_about().is_some(), "{name} says nothing");
            let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(more.contains("Examples:\n  llamactl"), "{name} has no examples");
            assert!(more.contains("Exit codes: 0 "), "{name} has no exit codes");
        }
    }

    #[test]
    fn the_list_of_commands_is_complete() {
        for (name, _) in all() {
            let known = match name.split_once(' ') {
                Some((_, verb)) => COMMANDS.contains(verb),
                None => COMMANDS.split_whitespace().any(|word| word == name),
            };
            assert!(known, "{name} is not in the list");
        }
    }

    /// The commands of ours in a line as a shell reads it.
    fn commands_in(line: &str) -> Vec<Vec<String>> {
        let ends = |word: &str| matches!(word, "|" | ";" | "&&" | "||" | ">" | "<" | "\\");
        let line = line.replace(';', " ; ").replace("$(", " $( ").replace(')', " ) ");
        let words = shlex::split(&line).unwrap_or_default();
        words
            .split(|word| ends(word) || word == "$(" || word == ")")
            .filter_map(|words| {
                let from = words.iter().position(|word| word == "llamactl")?;
                let by_xargs = words.iter().any(|word| word == "xargs");
                let rest = words.get(from..)?.iter().cloned();
                Some(rest.chain(by_xargs.then(|| "NAME".to_owned())).collect())
            })
            .collect()
    }

    #[test]
    fn every_command_in_the_readme_is_one() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let (mut shell, mut console, mut seen) = (false, false, 0);
        for line in readme.lines() {
            if let Some(language) = line.strip_prefix("```") {
                shell = language == "sh";
                console = language == "console";
                continue;
            }
            let typed =
                if shell { Some(line) } else { line.strip_prefix("$ ").filter(|_| console) };
            let Some(typed) = typed.filter(|line| !line.trim_start().starts_with('#')) else {
                continue;
            };
            for command in commands_in(typed) {
                let parsed = Cli::try_parse_from(&command);
                let is_help = |error: &clap::Error| !error.use_stderr();
                assert!(
                    parsed.is_ok() || parsed.as_ref().is_err_and(is_help),
                    "{line}: {command:?}"
                );
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen}");
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for line in [["llamactl", "--json", "ps"], ["llamactl", "ps", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().global.format().json);
        }
        let cli = Cli::try_parse_from(["llamactl", "--socket=", "model", "list", "-q"]).unwrap();
        assert_eq!((cli.global.reach().socket, cli.global.format().quiet), (None, true));
    }

    #[test]
    fn help_of_every_command() {
        let mut command = Cli::command();
        command.build();
        let mut found = vec![("llamactl".to_owned(), command.clone())];
        nodes(&command, "", &mut found);
        for (name, command) in &found {
            let help = command.clone().term_width(COLUMNS).render_long_help().to_string();
            assert_text(&format!("help-{}", name.replace(' ', "-")), &help);
        }
        // A command that is gone leaves no snapshot behind.
        let kept = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots")).unwrap();
        let kept = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(kept.filter(|name| name.starts_with("help-")).count(), found.len());
    }

    /// Every command below this one, those that only group others too.
    fn nodes(command: &clap::Command, name: &str, found: &mut Vec<(String, clap::Command)>) {
        for sub in command.get_subcommands() {
            let name = format!("{name} {}", sub.get_name());
            found.push((name.trim().to_owned(), sub.clone()));
            nodes(sub, &name, found);
        }
    }

    #[test]
    fn the_list_of_commands() {
        assert_screen("help", |output| help::run(output, help::Help { command: vec![] }));
    }
}
