//! All screens, by the command that prints them: one that is not here is not tested.

use crate::args::Cli;
use clap::CommandFactory as _;
use std::collections::BTreeSet;

/// A command and the snapshots of what it prints; `-`: why it has none.
pub(super) const SCREENS: &[(&str, &str)] = &[
    (
        "start",
        "start start-no-wait start-failed start-too-many-running start-model-not-found start-daemon-unreachable",
    ),
    ("stop", "stop stop-superseded"),
    ("restart", "restart"),
    ("wait", "wait wait-stopped wait-in-vain"),
    (
        "why",
        "why why-by why-not-answering why-stopped why-queued why-starting why-loading why-ready \
             why-sleeping why-stopping why-backoff why-failed why-stuck why-adopting",
    ),
    ("ps", "ps ps-well ps-empty ps-unmeasured"),
    (
        "status",
        "status status-idle status-name status-name-stopped status-name-queued \
                status-name-starting status-name-loading status-name-ready status-name-sleeping \
                status-name-stopping status-name-backoff status-name-failed status-name-stuck \
                status-name-adopting",
    ),
    ("logs", "logs logs-two logs-json logs-no-regex"),
    (
        "top",
        "top-19x5 top-40x8 top-60x24 top-80x12 top-80x24 top-120x40 top-200x50 top-ascii top-away \
             top-empty top-help top-log top-many top-why",
    ),
    ("run", "run"),
    ("model add", "model-add"),
    ("model scan", "model-scan model-scan-add model-scan-list-dirs"),
    ("model verify", "model-verify"),
    ("model list", "model-list"),
    ("model show", "model-show model-show-unknown model-show-resolved"),
    ("model set", "model-set"),
    ("model unset", "- it is that of model set"),
    ("model edit", "model-edit"),
    ("model args", "model-args"),
    ("model history", "model-history"),
    ("model diff", "model-diff"),
    ("model rollback", "model-rollback"),
    ("model key", "model-key"),
    ("model rename", "model-rename"),
    ("model copy", "model-copy"),
    ("model alias", "model-alias"),
    ("model export", "model-export"),
    ("model import", "model-import"),
    ("model remove", "model-remove"),
    ("defaults set", "defaults-set"),
    ("defaults unset", "- it is that of defaults set"),
    ("defaults show", "defaults-show"),
    ("runtime add", "runtime-add"),
    ("runtime list", "runtime-list"),
    ("runtime show", "runtime-show runtime-show-gone runtime-show-options"),
    ("runtime use", "runtime-use"),
    ("runtime set", "runtime-set"),
    ("runtime unset", "- it is that of runtime set"),
    ("runtime remove", "runtime-remove"),
    ("runtime refresh", "runtime-refresh"),
    ("gpus", "gpus gpus-none"),
    (
        "metrics",
        "metrics metrics-overview metrics-series metrics-follow metrics-follow-series \
                 metrics-since metrics-since-csv metrics-since-sum metrics-unknown plot-60 plot-80 \
                 plot-120 plot-200 plot-ascii plot-sum",
    ),
    ("events", "events events-follow"),
    ("daemon start", "daemon-start"),
    ("daemon stop", "daemon-stop"),
    ("daemon restart", "daemon-restart"),
    ("daemon status", "daemon-status daemon-status-no-runtime"),
    ("daemon logs", "daemon-logs"),
    ("daemon report", "daemon-report-refused"),
    ("daemon backup", "- one line"),
    ("daemon restore", "daemon-restore"),
    ("daemon check-config", "daemon-check-config"),
    ("daemon install", "daemon-install"),
    ("daemon uninstall", "daemon-uninstall"),
    ("doctor", "doctor"),
    ("version", "version"),
    ("rpc", "- what the daemon answers, as it is"),
    ("connect", "- bytes"),
    ("completions", "- a script for a shell"),
    ("help", "help short-help-start usage failure"),
];

#[test]
fn every_command_has_its_screens_and_every_screen_its_command() {
    let mut root = Cli::command();
    root.build();
    let mut commands = BTreeSet::new();
    for noun in root.get_subcommands() {
        let below: Vec<_> =
            noun.get_subcommands().filter(|_| noun.is_subcommand_required_set()).collect();
        let whole = below.iter().map(|verb| format!("{} {}", noun.get_name(), verb.get_name()));
        commands.extend(whole);
        commands.extend(below.is_empty().then(|| noun.get_name().to_owned()));
    }
    let listed: BTreeSet<String> =
        SCREENS.iter().map(|(command, _)| (*command).to_owned()).collect();
    assert_eq!(listed, commands);

    let named: BTreeSet<String> = names().map(str::to_owned).collect();
    let kept = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots")).unwrap();
    let kept = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let kept = kept.filter(|name| !name.starts_with("help-"));
    let kept = kept.filter_map(|name| name.strip_suffix(".snap").map(str::to_owned));
    assert_eq!(named, kept.collect());
}

fn names() -> impl Iterator<Item = &'static str> {
    let with = SCREENS.iter().filter(|(_, screens)| !screens.starts_with('-'));
    with.flat_map(|(_, screens)| screens.split_whitespace())
}

/// Whether a screen of this name is listed.
pub(super) fn is_listed(name: &str) -> bool {
    name.starts_with("help-") || names().any(|listed| listed == name)
}
