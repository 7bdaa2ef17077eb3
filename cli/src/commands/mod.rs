//! The commands, one file each: its arguments, its help, what it does.

pub(crate) mod completions;
pub(crate) mod daemon_backup;
pub(crate) mod daemon_check_config;
pub(crate) mod daemon_install;
pub(crate) mod daemon_logs;
pub(crate) mod daemon_restart;
pub(crate) mod daemon_restore;
pub(crate) mod daemon_start;
pub(crate) mod daemon_status;
pub(crate) mod daemon_stop;
pub(crate) mod daemon_uninstall;
pub(crate) mod defaults_set;
pub(crate) mod defaults_show;
pub(crate) mod defaults_unset;
pub(crate) mod events;
pub(crate) mod gpus;
pub(crate) mod help;
pub(crate) mod logs;
pub(crate) mod metrics;
mod metrics_history;
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

use crate::args::{Command, DaemonCommand, DefaultsCommand, ModelCommand, RuntimeCommand};
use crate::connection::Reach;
use crate::exit::Outcome;
use crate::output::Output;

/// Carries out a command.
pub(crate) async fn run(output: &mut Output, reach: &Reach, command: Command) -> Outcome {
    match command {
        Command::Start(args) => start::run(output, reach, args).await,
        Command::Stop(args) => stop::run(output, reach, args).await,
        Command::Restart(args) => restart::run(output, reach, args).await,
        Command::Wait(args) => wait::run(output, reach, args).await,
        Command::Why(args) => why::run(output, reach, args).await,
        Command::Ps(args) => ps::run(output, reach, args).await,
        Command::Status(args) => status::run(output, reach, args).await,
        Command::Logs(args) => logs::run(output, reach, args).await,
        Command::Top(_) => top::run(output, reach).await,
        Command::Run(args) => run::run(output, reach, args).await,
        Command::Model(ModelCommand::Add(args)) => model_add::run(output, reach, args).await,
        Command::Model(ModelCommand::Scan(args)) => model_scan::run(output, reach, args).await,
        Command::Model(ModelCommand::Verify(args)) => model_verify::run(output, reach, args).await,
        Command::Model(ModelCommand::List(_)) => model_list::run(output, reach).await,
        Command::Model(ModelCommand::Show(args)) => model_show::run(output, reach, args).await,
        Command::Model(ModelCommand::Set(args)) => model_set::run(output, reach, args).await,
        Command::Model(ModelCommand::Unset(args)) => model_unset::run(output, reach, args).await,
        Command::Model(ModelCommand::Args(args)) => model_args::run(output, reach, args).await,
        Command::Model(ModelCommand::History(args)) => {
            model_history::run(output, reach, args).await
        }
        Command::Model(ModelCommand::Diff(args)) => model_diff::run(output, reach, args).await,
        Command::Model(ModelCommand::Rollback(args)) => {
            model_rollback::run(output, reach, args).await
        }
        Command::Model(ModelCommand::Edit(args)) => model_edit::run(output, reach, args).await,
        Command::Model(ModelCommand::Export(args)) => model_export::run(output, reach, args).await,
        Command::Model(ModelCommand::Import(args)) => model_import::run(output, reach, args).await,
        Command::Model(ModelCommand::Key(args)) => model_key::run(output, reach, args).await,
        Command::Defaults(DefaultsCommand::Set(args)) => {
            defaults_set::run(output, reach, args).await
        }
        Command::Defaults(DefaultsCommand::Unset(args)) => {
            defaults_unset::run(output, reach, args).await
        }
        Command::Defaults(DefaultsCommand::Show(_)) => defaults_show::run(output, reach).await,
        Command::Model(ModelCommand::Rename(args)) => model_rename::run(output, reach, args).await,
        Command::Model(ModelCommand::Copy(args)) => model_copy::run(output, reach, args).await,
        Command::Model(ModelCommand::Alias(args)) => model_alias::run(output, reach, args).await,
        Command::Model(ModelCommand::Remove(args)) => model_remove::run(output, reach, args).await,
        Command::Runtime(RuntimeCommand::Add(args)) => runtime_add::run(output, reach, args).await,
        Command::Runtime(RuntimeCommand::List(_)) => runtime_list::run(output, reach).await,
        Command::Runtime(RuntimeCommand::Show(args)) => {
            runtime_show::run(output, reach, args).await
        }
        Command::Runtime(RuntimeCommand::Use(args)) => runtime_use::run(output, reach, args).await,
        Command::Runtime(RuntimeCommand::Set(args)) => runtime_set::run(output, reach, args).await,
        Command::Runtime(RuntimeCommand::Unset(args)) => {
            runtime_unset::run(output, reach, args).await
        }
        Command::Runtime(RuntimeCommand::Remove(args)) => {
            runtime_remove::run(output, reach, args).await
        }
        Command::Runtime(RuntimeCommand::Refresh(args)) => {
            runtime_refresh::run(output, reach, args).await
        }
        Command::Gpus(_) => gpus::run(output, reach).await,
        Command::Metrics(args) => metrics::run(output, reach, args).await,
        Command::Events(args) => events::run(output, reach, args).await,
        Command::Daemon(DaemonCommand::Start(args)) => daemon_start::run(output, reach, args).await,
        Command::Daemon(DaemonCommand::Stop(args)) => daemon_stop::run(output, reach, args).await,
        Command::Daemon(DaemonCommand::Restart(args)) => {
            daemon_restart::run(output, reach, args).await
        }
        Command::Daemon(DaemonCommand::Status(_)) => daemon_status::run(output, reach).await,
        Command::Daemon(DaemonCommand::Logs(args)) => daemon_logs::run(output, reach, args).await,
        Command::Daemon(DaemonCommand::Backup(args)) => {
            daemon_backup::run(output, reach, args).await
        }
        Command::Daemon(DaemonCommand::Restore(args)) => {
            daemon_restore::run(output, reach, args).await
        }
        Command::Daemon(DaemonCommand::CheckConfig(args)) => {
            daemon_check_config::run(output, args).await
        }
        Command::Daemon(DaemonCommand::Install(args)) => {
            daemon_install::run(output, reach, args).await
        }
        Command::Daemon(DaemonCommand::Uninstall(args)) => {
            daemon_uninstall::run(output, args).await
        }
        Command::Version(_) => version::run(output, reach).await,
        Command::Rpc(args) => rpc::run(output, reach, args).await,
        Command::Completions(args) => completions::run(output, args),
        Command::Help(args) => help::run(output, args),
    }
}
