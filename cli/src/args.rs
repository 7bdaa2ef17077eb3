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
    status, stop, version, wait, why,
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
        concat!("Examples:\n", $("  ", $example, "\n",)+ "\nExit codes:\n  ", $exits)
    };
}
pub(crate) use more;

/// The commands, grouped, as `llamactl help` and `llamactl --help` show them.
pub(crate) const COMMANDS: &str = "\
Servers:
  start NAME…          Start models' servers and wait until they are ready
  stop NAME…           Stop them and wait until they have ended
  restart NAME…        Stop and start them, with the settings of now
  wait NAME…           Wait until servers are ready, idle, stopped or failed
  why NAME             Why a server is as it is, and what to do
  ps                   List servers: state, endpoint, memory, speed
  status [NAME]        How everything is; how one server is and why
  logs NAME            What a server wrote
  run NAME [PROMPT…]   Ask a model, or chat with it

Models:
  model add PATH…      Register GGUF files
  model scan [DIR…]    Find the GGUF files that are here, and register them
  model verify NAME…   Read their files again: whole, and the same?
  model list           List models
  model show NAME      Everything known of one; --resolved: where each setting comes from
  model rename, copy, alias, remove
  model export [NAME…] Write them down, for here or elsewhere, or for llama-server
  model import FILE    Take them in: an export, a preset, a command line, the old dashboard

Settings:
  model set NAME K=V…  Change settings         model unset NAME K…     Take them back
  model edit NAME      Change them in an editor
  model args NAME      The command line a start would use
  model history NAME   What changed, when, by whom; model diff, model rollback
  model key NAME       The key clients must give
  defaults set K=V…    Settings for all models; defaults unset, show
  help settings        Every setting there is

llama-server builds:
  runtime add PATH     Name a llama-server, to use it beside others
  runtime list         List them: version, devices, whether one was replaced
  runtime show NAME    A build's options and devices
  runtime use NAME     Make one the default; model set NAME runtime=… picks another
  runtime set, unset, remove, refresh

The machine:
  gpus                 The GPUs and how busy they are
  metrics [SERIES…]    Measurements, now or followed
  events               What happened and why

The daemon:
  daemon start, stop, restart, status, logs, backup, restore, check-config
  daemon install       Let systemd keep it, for you or the machine; uninstall
  version              Versions of llamactl and of the daemon
  rpc METHOD [JSON]    Call the daemon's API directly
  completions SHELL    Shell completion
  help [COMMAND…]      This list, or a command's help";

const TOUR: &str = "\
A short tour:
  llamactl model add ~/models/qwen3-8b-q4_k_m.gguf --name qwen3
  llamactl model set qwen3 port=auto ctx-size=8192
  llamactl start qwen3
  llamactl run qwen3 \"Why is the sky blue?\"
  llamactl ps; llamactl logs qwen3 -f; llamactl stop qwen3";

const EXITS: &str = "\
Exit codes:
  0 done  1 failed  2 usage  3 not found  4 conflict  5 invalid value
  6 daemon unreachable  7 timed out  8 the server failed  130 interrupted

The first command starts the daemon if none runs. Lists take -q for names only and --json for
one JSON object per line.";

const TEMPLATE: &str =
    "{about}\n\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}\n\n{after-help}";

/// Runs llama.cpp's llama-server the way an init system runs services
#[derive(Parser, Debug)]
#[command(
    name = "llamactl",
    version,
    help_template = TEMPLATE,
    before_help = format!("{TOUR}\n\n{COMMANDS}"),
    after_help = EXITS,
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
        env = "LLAMACTL_NO_AUTOSTART",
        hide_env_values = true,
        value_parser = FalseyValueParser::new(),
        display_order = 902
    )]
    no_autostart: bool,

    /// Print one JSON object per line
    #[arg(long, global = true, display_order = 903)]
    json: bool,

    /// Print names only
    #[arg(long, short, global = true, display_order = 904)]
    quiet: bool,

    /// When to use colour; NO_COLOR switches it off too
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        display_order = 905
    )]
    color: ColourChoice,
}

impl Global {
    /// How output is wanted.
    pub(crate) fn format(&self) -> Format {
        Format { json: self.json, quiet: self.quiet, colour: self.color }
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
    Run(run::Run),
    /// Models: find, register, list, show, set, copy, remove
    #[command(subcommand)]
    Model(ModelCommand),
    /// Settings for all models: set, unset, show
    #[command(subcommand)]
    Defaults(DefaultsCommand),
    /// Runtimes: the llama-server builds there are, several side by side
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    Gpus(gpus::Gpus),
    Metrics(metrics::Metrics),
    Events(events::Events),
    /// The daemon itself: start, stop, restart, status, logs, install, backup, restore, check-config
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
    /// Register GGUF files as models
    Add(model_add::Add),
    /// Find GGUF files where they lie, and register them
    Scan(model_scan::Scan),
    /// Read models' files again and say what is wrong or different
    Verify(model_verify::Verify),
    /// List models
    #[command(visible_alias = "ls")]
    List(model_list::List),
    /// Show everything known of a model
    Show(model_show::Show),
    /// Change settings of a model
    Set(model_set::Set),
    /// Take settings of a model back
    Unset(model_unset::Unset),
    /// Edit a model's settings and file in an editor
    Edit(model_edit::Edit),
    /// Show the command line a start would use now
    Args(model_args::CommandLine),
    /// List the changes of a model, newest first
    History(model_history::History),
    /// Show what differs between two revisions of a model
    Diff(model_diff::Diff),
    /// Take a model back to an earlier revision
    Rollback(model_rollback::Rollback),
    /// Print the key that clients of a model's server must give
    Key(model_key::Key),
    /// Give a model another name
    Rename(model_rename::Rename),
    /// Make a second profile of the same file, or of another
    Copy(model_copy::Copy),
    /// Show, add and remove other names of a model
    Alias(model_alias::Alias),
    /// Write models down, to keep them or take them elsewhere
    Export(model_export::Export),
    /// Take in models: an export, a preset, a command line, the old dashboard
    Import(model_import::Import),
    /// Take models out of the registry
    #[command(visible_alias = "rm")]
    Remove(model_remove::Remove),
}

/// `llamactl defaults …`
#[derive(Subcommand, Debug)]
#[command(defer = true)]
pub(crate) enum DefaultsCommand {
    /// Change the settings for all models
    Set(defaults_set::Set),
    /// Take settings for all models back
    Unset(defaults_unset::Unset),
    /// Show the settings for all models
    Show(defaults_show::Show),
}

/// `llamactl runtime …`
#[derive(Subcommand, Debug)]
#[command(defer = true)]
pub(crate) enum RuntimeCommand {
    /// Name a llama-server, to use it beside others
    Add(runtime_add::Add),
    /// List runtimes: the llama-server builds there are
    #[command(visible_alias = "ls")]
    List(runtime_list::List),
    /// Show a runtime: its build, its devices, all its options
    Show(runtime_show::Show),
    /// Make a runtime the default for models that name no other
    Use(runtime_use::Use),
    /// Set variables for a runtime's servers
    Set(runtime_set::Set),
    /// Take variables of a runtime's servers back
    Unset(runtime_unset::Unset),
    /// Take runtimes out of the registry
    #[command(visible_alias = "rm")]
    Remove(runtime_remove::Remove),
    /// Look at runtimes anew after their files were replaced
    Refresh(runtime_refresh::Refresh),
}

/// `llamactl daemon …`
#[derive(Subcommand, Debug)]
#[command(defer = true)]
pub(crate) enum DaemonCommand {
    /// Start the daemon and wait until it answers
    Start(daemon_start::Start),
    /// Stop the daemon and, unless told otherwise, its servers
    Stop(daemon_stop::Stop),
    /// Replace the daemon by its program of now; the servers run on
    Restart(daemon_restart::Restart),
    /// Show how the daemon is
    Status(daemon_status::Status),
    /// Show the daemon's own log
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
            assert!(more.contains("Exit codes:"), "{name} has no exit codes");
        }
    }

    #[test]
    fn the_list_of_commands_is_complete() {
        for (name, _) in all() {
            let known = match name.split_once(' ') {
                Some((_, verb)) => COMMANDS.contains(verb),
                None => COMMANDS.lines().any(|line| line.trim().starts_with(&name)),
            };
            assert!(known, "{name} is not in the list");
        }
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
