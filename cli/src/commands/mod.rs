//! The commands, one file each: its arguments, its help, what it does.

pub(crate) mod completions;
pub(crate) mod connect;
pub(crate) mod daemon_backup;
pub(crate) mod daemon_check_config;
pub(crate) mod daemon_install;
pub(crate) mod daemon_logs;
pub(crate) mod daemon_report;
pub(crate) mod daemon_restart;
pub(crate) mod daemon_restore;
pub(crate) mod daemon_start;
pub(crate) mod daemon_status;
pub(crate) mod daemon_stop;
pub(crate) mod daemon_uninstall;
pub(crate) mod defaults_set;
pub(crate) mod defaults_show;
pub(crate) mod defaults_unset;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod gpus;
pub(crate) mod help;
pub(crate) mod logs;
pub(crate) mod metrics;
mod metrics_history;
mod metrics_overview;
pub(crate) mod model_add;
pub(crate) mod model_alias;
pub(crate) mod model_args;
pub(crate) mod model_copy;
pub(crate) mod model_diff;
pub(crate) mod model_edit;
pub(crate) mod model_export;
pub(crate) mod model_history;
pub(crate) mod model_import;
pub(crate) mod model_key;
pub(crate) mod model_list;
pub(crate) mod model_remove;
pub(crate) mod model_rename;
pub(crate) mod model_rollback;
pub(crate) mod model_scan;
pub(crate) mod model_set;
pub(crate) mod model_show;
pub(crate) mod model_unset;
pub(crate) mod model_verify;
pub(crate) mod ps;
mod ps_follow;
pub(crate) mod restart;
pub(crate) mod rpc;
pub(crate) mod run;
pub(crate) mod runtime_add;
pub(crate) mod runtime_list;
pub(crate) mod runtime_refresh;
pub(crate) mod runtime_remove;
pub(crate) mod runtime_set;
pub(crate) mod runtime_show;
pub(crate) mod runtime_unset;
pub(crate) mod runtime_use;
#[cfg(test)]
pub(crate) mod scene;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod status_one;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod why;

use crate::remote::{ASKS, HERE, LOOKS, REFUSED, SETTINGS, Side, WHOLE};
use crate::tree::commands;

commands! {
    /// What llamactl does.
    Command:
    "start" Start(start::Start) => SETTINGS,
    "stop" Stop(stop::Stop) => ASKS,
    "restart" Restart(restart::Restart) => SETTINGS,
    "wait" Wait(wait::Wait) => ASKS,
    "why" Why(why::Why) => LOOKS,
    "ps" Ps(ps::Ps) => LOOKS,
    "status" Status(status::Status) => LOOKS,
    "logs" Logs(logs::Logs) => ASKS,
    "top" Top(top::TopArgs) => ASKS,
    "run" Run(run::Run) => ASKS.here("standard input"),
    /// Manage models and their settings
    #[command(subcommand)]
    "model" Model(model::Model) => Side::of_all(model::SIDES),
    /// Manage settings for all models
    #[command(subcommand)]
    "defaults" Defaults(defaults::Defaults) => Side::of_all(defaults::SIDES),
    /// Manage llama-server builds
    #[command(subcommand)]
    "runtime" Runtime(runtime::Runtime) => Side::of_all(runtime::SIDES),
    "gpus" Gpus(gpus::Gpus) => LOOKS,
    "metrics" Metrics(metrics::Metrics) => ASKS,
    "events" Events(events::Events) => ASKS,
    /// Manage the daemon
    #[command(subcommand)]
    "daemon" Daemon(daemon::Daemon) => Side::of_all(daemon::SIDES),
    "doctor" Doctor(doctor::Doctor) => WHOLE,
    "version" Version(version::Version) => LOOKS,
    "rpc" Rpc(rpc::Rpc) => ASKS.there("every path in the parameters"),
    "connect" Connect(connect::Connect) => REFUSED,
    "completions" Completions(completions::Completions) => REFUSED,
    "help" Help(help::Help) => HERE,
}

/// `llamactl model …`; a line here is for the list, the command's own says the same.
pub(crate) mod model {
    use super::*;

    commands! {
        /// What can be done with `llamactl model`.
        Model:
        /// Add models from GGUF files
        "add" Add(model_add::Add) => SETTINGS.there("PATH; paths among the settings"),
        /// Find GGUF files on this machine and add them
        "scan" Scan(model_scan::Scan) => SETTINGS.there("DIR; paths among the settings; the caches that are looked through"),
        /// Check model files for damage and changes
        "verify" Verify(model_verify::Verify) => ASKS,
        /// List models
        "list" | "ls" List(model_list::List) => LOOKS,
        /// Show a model's file, settings and server
        "show" Show(model_show::Show) => LOOKS,
        /// Change a model's settings
        "set" Set(model_set::Set) => SETTINGS,
        /// Reset settings to their defaults
        "unset" Unset(model_unset::Unset) => ASKS,
        /// Edit a model's settings in your editor
        "edit" Edit(model_edit::Edit) => ASKS.here("the text while it is edited, by the editor of this machine").there("paths in the text"),
        /// Show the command line of the next start
        "args" Args(model_args::CommandLine) => LOOKS,
        /// List the changes made to a model, newest first
        "history" History(model_history::History) => LOOKS,
        /// Compare two revisions of a model
        "diff" Diff(model_diff::Diff) => LOOKS,
        /// Restore an earlier revision of a model
        "rollback" Rollback(model_rollback::Rollback) => ASKS,
        /// Print a model's API key
        "key" Key(model_key::Key) => ASKS,
        /// Rename a model
        "rename" Rename(model_rename::Rename) => ASKS,
        /// Copy a model's settings to a new name
        "copy" Copy(model_copy::Copy) => ASKS.there("--path FILE"),
        /// List, add or remove a model's aliases
        "alias" Alias(model_alias::Alias) => ASKS,
        /// Export models and settings
        "export" Export(model_export::Export) => ASKS.here("what is written, on standard output"),
        /// Import models from an export, preset, command line or dashboard
        "import" Import(model_import::Import) => ASKS.here("FILE, of at most 512 KiB; standard input").there("--find DIR; NEW of --map-path; paths in the file, which have to be whole"),
        /// Remove models; their files stay
        "remove" | "rm" Remove(model_remove::Remove) => ASKS,
    }
}

/// `llamactl defaults …`; a line here is for the list, the command's own says the same.
pub(crate) mod defaults {
    use super::*;

    commands! {
        /// What can be done with `llamactl defaults`.
        Defaults:
        /// Change settings for all models
        "set" Set(defaults_set::Set) => SETTINGS,
        /// Reset settings for all models
        "unset" Unset(defaults_unset::Unset) => ASKS,
        /// Show the settings for all models
        "show" Show(defaults_show::Show) => LOOKS,
    }
}

/// `llamactl runtime …`; a line here is for the list, the command's own says the same.
pub(crate) mod runtime {
    use super::*;

    commands! {
        /// What can be done with `llamactl runtime`.
        Runtime:
        /// Add a llama-server build
        "add" Add(runtime_add::Add) => SETTINGS.there("PATH"),
        /// List llama-server builds
        "list" | "ls" List(runtime_list::List) => LOOKS,
        /// Show a build's version, devices and options
        "show" Show(runtime_show::Show) => LOOKS,
        /// Make a build the default
        "use" Use(runtime_use::Use) => ASKS,
        /// Set environment variables of a build's servers
        "set" Set(runtime_set::Set) => ASKS.here("secrets: KEY=@FILE, KEY=-"),
        /// Remove environment variables of a build's servers
        "unset" Unset(runtime_unset::Unset) => ASKS,
        /// Remove builds; their files stay
        "remove" | "rm" Remove(runtime_remove::Remove) => ASKS,
        /// Re-read builds whose files were replaced
        "refresh" Refresh(runtime_refresh::Refresh) => ASKS,
    }
}

/// `llamactl daemon …`; a line here is for the list, the command's own says the same.
pub(crate) mod daemon {
    use super::*;

    commands! {
        /// What can be done with `llamactl daemon`.
        Daemon:
        /// Start the daemon and wait until it answers
        "start" Start(daemon_start::Start) => WHOLE,
        /// Stop the daemon and its servers
        "stop" Stop(daemon_stop::Stop) => WHOLE,
        /// Restart or upgrade the daemon; servers keep running
        "restart" Restart(daemon_restart::Restart) => WHOLE,
        /// Show the daemon's state
        "status" Status(daemon_status::Status) => LOOKS,
        /// Show the daemon's log
        "logs" Logs(daemon_logs::Logs) => WHOLE.there("the log"),
        /// Write what a bug report needs
        "report" Report(daemon_report::ReportArgs) => WHOLE.there("the file of -o"),
        /// Copy the registry to a file
        "backup" Backup(daemon_backup::Backup) => ASKS.there("FILE"),
        /// Go back to a copy of the registry
        "restore" Restore(daemon_restore::Restore) => WHOLE.there("FILE"),
        /// Check the daemon's configuration file
        "check-config" CheckConfig(daemon_check_config::CheckConfig) => REFUSED,
        /// Let systemd keep the daemon
        "install" Install(daemon_install::Install) => REFUSED,
        /// Take the daemon's unit back
        "uninstall" Uninstall(daemon_uninstall::Uninstall) => REFUSED,
    }
}
