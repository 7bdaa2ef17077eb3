//! `llamactl model import FILE`

use crate::args::more;
use crate::complete::{directories, files_here};
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::output::styled::{GREEN, Style, Styled, YELLOW};
use crate::remote;
use crate::source::Source;
use clap::{Args, ValueEnum};
use llamactl_protocol::exchange::{
    ImportFormat, ImportItem, Imported, ItemAction, ItemKind, MapPath, ModelImport,
};
use llamactl_protocol::model::Difference;
use llamactl_protocol::options::{assignment, text_of};
use llamactl_protocol::{Failure, Kind, WirePath};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Import models from an export, preset, command line or dashboard
///
/// All is taken in or nothing. What an export says of a model is exact; models it does not name
/// stay. What has no place here is left out and listed. A file that is not there is no obstacle:
/// the model is marked, and its file can come later.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model import models.toml --dry-run",
    "llamactl model import models.ini",
    "llamactl model import Modelfile",
    "llamactl model import ~/dashboard/data/llama-dashboard.db --find ~/models",
    "llamactl model import --command 'llama-server -m ~/m/x.gguf -ngl 99 -c 8192'",
    "ssh other llamactl model export | llamactl model import - --map-path /srv=/home/me";
    "0 done, also if something was left out, 3 no such file, 4 a name is taken, or somebody else changed it, 5 unreadable, or a setting refused, 6 daemon unreachable"
))]
pub(crate) struct Import {
    /// A file, the old dashboard's directory, or - for standard input
    #[arg(
        required_unless_present = "command",
        conflicts_with = "command",
        add = files_here()
    )]
    file: Option<OsString>,
    /// A command line of llama-server, as one argument
    #[arg(long, value_name = "LINE")]
    command: Option<String>,
    /// What it is; absent: told by what it holds
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Written>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Take paths that begin with OLD as beginning with NEW
    #[arg(long, value_name = "OLD=NEW")]
    map_path: Vec<OsString>,
    /// Look through DIR for files that are not where they should be
    #[arg(long, value_name = "DIR", add = directories())]
    find: Vec<PathBuf>,
}

/// The formats by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Written {
    /// llamactl's own export
    Toml,
    /// A file for llama-server --models-preset
    Preset,
    /// A command line of llama-server, a Modelfile, or KoboldCpp's .kcpps
    Command,
    /// A file or the directory of the old dashboard
    Dashboard,
}

impl Written {
    fn on_the_wire(self) -> ImportFormat {
        match self {
            Written::Toml => ImportFormat::Toml,
            Written::Preset => ImportFormat::Preset,
            Written::Command => ImportFormat::Command,
            Written::Dashboard => ImportFormat::Dashboard,
        }
    }
}

/// Takes in models.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Import) -> Outcome {
    let given = args.format.map_or(ImportFormat::Auto, Written::on_the_wire);
    let map_path = args.map_path.iter().map(|map| mapping(map)).collect::<Result<_, _>>()?;
    let find = args.find.iter().map(|dir| absolute(dir)).collect::<Result<_, _>>()?;
    let (source, format) = match (&args.command, &args.file) {
        (Some(line), _) => (
            Source::of_text(line.clone(), "a command line", remote::base()?),
            ImportFormat::Command,
        ),
        (None, Some(file)) => (Source::of_file(file)?, given),
        (None, None) => return Err(usage("nothing to import is named").into()),
    };
    let Source { source, label, directory, held } = source;
    let home = std::env::var_os("HOME").filter(|home| Path::new(home).is_absolute());
    // On another machine the daemon's user has another one.
    let home = home.filter(|_| remote::named().is_none());
    let import = ModelImport {
        format,
        source,
        label: Some(label.into()),
        directory,
        home: home.as_ref().map(WirePath::from),
        map_path,
        find,
        dry_run: args.dry_run,
    };
    let daemon = reach.daemon(Autostart::Always).await?;
    let imported = daemon.call(&import).await;
    // It was there for the daemon to read.
    drop(held);
    tell(output, &imported?)
}

fn usage(message: &str) -> Failure {
    Failure::new(Kind::Usage, message)
}

fn absolute(path: &Path) -> Result<WirePath, Quit> {
    Ok(WirePath(remote::path_meant(path)?))
}

fn mapping(typed: &OsStr) -> Result<MapPath, Quit> {
    let bytes = typed.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0);
    let (from, to) = at.map(|at| bytes.split_at(at)).ok_or_else(|| {
        usage("--map-path takes OLD=NEW").hint("for example --map-path /srv/models=/home/me/models")
    })?;
    let to = to
        .get(1..)
        .filter(|to| !to.is_empty())
        .ok_or_else(|| usage("--map-path takes OLD=NEW, and NEW is empty"))?;
    let to = absolute(Path::new(OsStr::from_bytes(to)))?;
    Ok(MapPath { from: WirePath::from(OsStr::from_bytes(from)), to })
}

fn tell(output: &mut Output, imported: &Imported) -> Outcome {
    if output.json {
        return output.json(imported);
    }
    let acted = |item: &&ImportItem| item.action != ItemAction::Same;
    if output.quiet {
        let models = imported.items.iter().filter(|item| item.kind == ItemKind::Model);
        return output.names(models.filter(acted).map(|item| &item.name));
    }
    for item in imported.items.iter().filter(acted) {
        output.line_unflushed(line(item))?;
    }
    if imported.items_not_shown > 0 {
        output.line_unflushed(format!("  and {} more", imported.items_not_shown))?;
    }
    output.line(summary(imported))?;
    for item in &imported.items {
        for note in &item.notes {
            output.note(format!("{}: {note}", item.name));
        }
    }
    imported.notes.iter().for_each(|note| output.note(note.as_str()));
    for left_out in &imported.left_out {
        let count = match left_out.count {
            1 => String::new(),
            count => format!(" ({count} times)"),
        };
        output.note(format!("left out: {}{count}: {}", left_out.what, left_out.reason));
    }
    Ok(())
}

/// `added 2, changed 1; 3 were like this already; 4 kinds of things left out`
fn summary(imported: &Imported) -> String {
    let Imported { applied, added, changed, same, left_out, .. } = imported;
    let mut text = match (applied, added + changed) {
        (_, 0) => "nothing to do".to_owned(),
        (true, _) => format!("added {added}, changed {changed}"),
        (false, _) => format!("would add {added}, change {changed}"),
    };
    if *same > 0 {
        text.push_str(&format!("; {same} like this already"));
    }
    match left_out.len() {
        0 => {}
        1 => text.push_str("; 1 thing left out"),
        count => text.push_str(&format!("; {count} kinds of things left out")),
    }
    text
}

/// `+ model x: path=/models/x.gguf, temp=0.7` or `~ model y: temp 0.8 -> 0.7`
fn line(item: &ImportItem) -> Styled {
    let (sign, style): (&str, Style) = match item.action {
        ItemAction::Add => ("+", GREEN),
        ItemAction::Change => ("~", YELLOW),
        ItemAction::Same => ("=", YELLOW),
    };
    let what = match item.kind {
        ItemKind::Defaults => item.name.clone(),
        ItemKind::Runtime => format!("runtime {}", item.name),
        ItemKind::Model => format!("model {}", item.name),
    };
    let changes: Vec<String> =
        item.changes.iter().map(|change| told(change, item.action)).collect();
    let behind = if changes.is_empty() { String::new() } else { ": ".to_owned() };
    let text = format!(" {what}{behind}{}", changes.join(", "));
    Styled::new().with(style, sign).plain(text)
}

fn told(change: &Difference, action: ItemAction) -> String {
    let short = |text: String| {
        let line: String = text.replace(['\n', '\r'], " ").chars().take(MAX_SHOWN).collect();
        if line.len() < text.len() { format!("{line}…") } else { line }
    };
    let value = |value| short(text_of(&change.key, value));
    match (&change.from, &change.to, action) {
        (None, Some(to), ItemAction::Add) => short(assignment(&change.key, to)),
        (Some(from), Some(to), _) => format!("{} {} -> {}", change.key, value(from), value(to)),
        (None, Some(to), _) => format!("{} unset -> {}", change.key, value(to)),
        (Some(from), None, _) => format!("{} {} -> unset", change.key, value(from)),
        (None, None, _) => change.key.clone(),
    }
}

/// A pasted grammar would fill the page.
const MAX_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::PIPE;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::exchange::LeftOut;
    use serde_json::json;

    fn item(
        action: ItemAction,
        changes: &[(&str, serde_json::Value, serde_json::Value)],
    ) -> ImportItem {
        let some = |value: &serde_json::Value| Some(value.clone()).filter(|it| !it.is_null());
        let change = |(key, from, to): &(&str, serde_json::Value, serde_json::Value)| Difference {
            key: (*key).to_owned(),
            from: some(from),
            to: some(to),
        };
        ImportItem {
            kind: ItemKind::Model,
            name: "m".to_owned(),
            action,
            changes: changes.iter().map(change).collect(),
            notes: vec![],
        }
    }

    #[test]
    fn a_line_says_what_becomes_of_a_model() {
        let null = json!(null);
        let added = item(
            ItemAction::Add,
            &[("path", null.clone(), json!("/x")), ("temp", null.clone(), json!(0.7))],
        );
        assert_eq!(line(&added).plain_text(&PIPE), "+ model m: path=/x, temp=0.7");
        let changed = item(
            ItemAction::Change,
            &[
                ("temp", json!(0.8), json!(0.7)),
                ("seed", json!(1), null.clone()),
                ("port", null, json!(1)),
            ],
        );
        assert_eq!(
            line(&changed).plain_text(&PIPE),
            "~ model m: temp 0.8 -> 0.7, seed 1 -> unset, port unset -> 1"
        );
    }

    #[test]
    fn the_summary_counts() {
        let mut imported = Imported { added: 2, changed: 1, same: 3, ..Imported::default() };
        assert_eq!(summary(&imported), "would add 2, change 1; 3 like this already");
        imported.applied = true;
        assert_eq!(summary(&imported), "added 2, changed 1; 3 like this already");
        assert_eq!(summary(&Imported::default()), "nothing to do");
    }

    #[test]
    fn a_mapping_has_two_sides() {
        let map = mapping(OsStr::new("/a=/b")).unwrap();
        assert_eq!((map.from, map.to), (WirePath::from("/a"), WirePath::from("/b")));
        assert!(mapping(OsStr::new("/a")).is_err() && mapping(OsStr::new("/a=")).is_err());
    }

    #[test]
    fn what_an_import_comes_to() {
        let null = json!(null);
        let mut added = item(
            ItemAction::Add,
            &[("path", null.clone(), json!("/models/x.gguf")), ("temp", null, json!(0.7))],
        );
        added.notes = vec!["/models/x.gguf is not there".to_owned()];
        let changed = item(ItemAction::Change, &[("temp", json!(0.8), json!(0.7))]);
        let left_out = LeftOut {
            what: "the setting n-gpu-layers-draft".to_owned(),
            reason: "no such setting".to_owned(),
            count: 2,
        };
        let imported = |applied| Imported {
            applied,
            added: 1,
            changed: 1,
            same: 3,
            items: vec![added.clone(), changed.clone()],
            items_not_shown: 4,
            left_out: vec![left_out.clone()],
            notes: vec!["the file names no runtime".to_owned()],
            ..Imported::default()
        };
        assert_screen("model-import", |output| {
            tell(output, &imported(false))?;
            tell(output, &Imported { items_not_shown: 0, ..imported(true) })?;
            tell(output, &Imported::default())
        });
    }
}
