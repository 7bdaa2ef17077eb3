//! `llamactl model scan [DIR…]`

use crate::args::more;
use crate::complete::directories;
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Quit};
use crate::follow;
use crate::output::Output;
use crate::output::facts::listed;
use crate::output::look::Look;
use crate::output::sanitize::one_line;
use crate::output::styled::{DIM, GREEN, Style};
use crate::output::table::{Cell, Column, Table, known};
use crate::output::time::Clock;
use crate::output::units;
use crate::remote;
use crate::settings;
use clap::Args;
use llamactl_protocol::library::{
    CacheVariables, FoundModel, LibraryForget, LibraryList, LibraryPlaces, ScanFollow, ScanItem,
    Skipped, Summary,
};
use llamactl_protocol::{Failure, Hint, WirePath};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// At a terminal no more than this many reasons are shown.
const REASONS: usize = 10;

/// The longest piece of a path on the progress line.
const PATH_CHARACTERS: usize = 48;

/// What belongs to looking, and not to the list of directories.
const SCANNING: [&str; 6] =
    ["directories", "add", "dry_run", "no_caches", "remember", "no_remember"];

/// Find GGUF files on this machine and add them
///
/// Looks through the directories given, or those that are remembered, and through the caches of
/// Hugging Face, llama.cpp, Ollama and LM Studio. Nothing is moved or copied. Without --add it
/// only shows what there is; with --add it adds what is new, and remembers the directories,
/// so that new files in them are added whenever the daemon starts. Arguments like
/// `ctx-size=8192` after the first directory are settings to begin with.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model scan",
    "llamactl model scan ~/models --add",
    "llamactl model scan ~/models --add --no-caches ctx-size=8192",
    "llamactl model scan --json | jq -r 'select(.what == \"skipped\") | .reason'",
    "llamactl model scan --list-dirs";
    "0 done, also if nothing was found, 3 no such directory, 5 not a directory, or a setting refused, 6 daemon unreachable, 130 interrupted"
))]
pub(crate) struct Scan {
    /// Directories, then settings as key=value; absent: those that are remembered
    #[arg(value_name = "DIR", add = directories())]
    directories: Vec<OsString>,
    /// Add what is new
    #[arg(long)]
    add: bool,
    /// Only show what there is (the default)
    #[arg(long, conflicts_with = "add")]
    dry_run: bool,
    /// Leave the caches of other programs out
    #[arg(long)]
    no_caches: bool,
    /// Look through these directories at each start of the daemon (the default with --add)
    #[arg(long, requires = "directories")]
    remember: bool,
    /// Do not remember these directories
    #[arg(long, conflicts_with = "remember")]
    no_remember: bool,
    /// Remember this directory no longer; its models stay
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = SCANNING,
        add = directories()
    )]
    forget: Option<PathBuf>,
    /// List the remembered directories and the caches that are there
    #[arg(long, conflicts_with_all = SCANNING, conflicts_with = "forget")]
    list_dirs: bool,
}

/// Looks for models.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Scan) -> Outcome {
    if args.list_dirs {
        return list(output, &reach.daemon(Autostart::UnlessStopped).await?).await;
    }
    if let Some(directory) = args.forget {
        return forget(output, &reach.daemon(Autostart::Always).await?, &directory).await;
    }
    let (directories, settings) = settings::behind_paths(&args.directories, remote::is_file_here)?;
    let directories =
        directories.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
    let params = ScanFollow {
        remembered: directories.is_empty(),
        remember: !directories.is_empty() && (args.remember || (args.add && !args.no_remember)),
        directories: directories.into(),
        caches: !args.no_caches,
        add: args.add,
        variables: caller(),
        settings: settings.into(),
    };
    let daemon = reach.daemon(Autostart::Always).await?;
    let mut stream = daemon.follow(&params).await?;
    drop(daemon);
    let mut told = Told::default();
    let outcome =
        follow::each(output, &mut stream, |output, item| take(output, item, args.add, &mut told));
    let outcome = outcome.await;
    output.progress(&[]);
    outcome?;
    conclude(output, &told, &params)
}

/// Where the variables of this shell put caches: the daemon was perhaps started in another. Those of
/// another machine are not here.
fn caller() -> CacheVariables {
    if remote::named().is_some() {
        return CacheVariables::default();
    }
    CacheVariables::of(|name| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        // A relative one is relative to here, and the daemon is elsewhere.
        Some(std::path::absolute(&value).map_or(value, PathBuf::into_os_string))
    })
}

fn absolute(path: &Path) -> Result<WirePath, Failure> {
    remote::path_meant(path).map(WirePath)
}

/// What a person is told at the end.
#[derive(Default)]
struct Told {
    found: Vec<FoundModel>,
    skipped: Vec<Skipped>,
    summary: Option<Summary>,
}

/// Prints an item for programs, or keeps it for the table.
fn take(output: &mut Output, item: ScanItem, add: bool, told: &mut Told) -> Outcome {
    if let ScanItem::Progress(progress) = &item {
        if let Some(directory) = &progress.directory {
            let place = end_of(&directory.to_string());
            output.progress(&[format!("{} files looked at, in {place}", progress.files_seen)]);
        }
        return Ok(());
    }
    if output.json {
        return output.json_unflushed(&item);
    }
    match item {
        ScanItem::Found(found) if output.quiet => {
            if found.added || !add {
                output.line_unflushed(found.name.as_str())?;
            }
        }
        ScanItem::Found(found) => told.found.push(*found),
        ScanItem::Skipped(skipped) => told.skipped.push(skipped),
        ScanItem::Done(summary) => told.summary = Some(summary),
        ScanItem::Progress(_) => {}
    }
    Ok(())
}

/// The end of a path, which says more than its beginning.
fn end_of(path: &str) -> String {
    let path = one_line(path);
    let length = path.chars().count();
    if length <= PATH_CHARACTERS {
        return path;
    }
    std::iter::once('…').chain(path.chars().skip(length - PATH_CHARACTERS)).collect()
}

fn conclude(output: &mut Output, told: &Told, params: &ScanFollow) -> Outcome {
    if !output.for_people() {
        return output.flush();
    }
    // A person is shown what is new; what is known is counted.
    let is_brief = output.at_terminal() && !output.look.full;
    let is_shown = |found: &&FoundModel| !is_brief || is_news(found);
    output.table(&table(told.found.iter().filter(is_shown)))?;
    let shown = if output.shows_progress() { REASONS } else { usize::MAX };
    for Skipped { path, reason, .. } in told.skipped.iter().take(shown) {
        output.note(format!("left out: {}: {reason}", output.look.tidy(&path.to_string())));
    }
    let hidden = told.skipped.len().saturating_sub(shown);
    if hidden > 0 {
        output.note(format!("{hidden} more were left out; --json names them"));
    }
    for found in told.found.iter().filter(is_shown) {
        for note in &found.notes {
            output.note(format!("{}: {note}", found.name));
        }
        if !found.aliases.is_empty() {
            output.note(format!("{}: also called {}", found.name, found.aliases.join(", ")));
        }
    }
    let Some(summary) = &told.summary else { return Ok(()) };
    output.note(summary_line(&output.look, summary));
    if summary.found == 0 {
        output.hint(&Hint::run("look elsewhere", ["llamactl", "model", "scan", "DIR"]));
    }
    if !params.add && summary.new + summary.moved > 0 {
        let words = [(summary.new, "add"), (summary.moved, "move")];
        let words = words.map(|(count, what)| (count > 0).then(|| format!("{what} {count}")));
        output.hint(&Hint::run(listed(words).unwrap_or_default(), again_with_add(params)));
    }
    Ok(())
}

/// Whether a person has not seen it yet.
fn is_news(found: &FoundModel) -> bool {
    found.added || found.moved_from.is_some() || found.model.is_none()
}

/// The command that registers what this one found.
fn again_with_add(params: &ScanFollow) -> Vec<String> {
    let mut words = ["llamactl", "model", "scan"].map(str::to_owned).to_vec();
    words.extend(params.directories.iter().map(WirePath::to_string));
    words.push("--add".to_owned());
    if !params.caches {
        words.push("--no-caches".to_owned());
    }
    words
}

/// `2 are new, 12 files are models already; looked in ~/models (0.3s)`
fn summary_line(look: &Look, summary: &Summary) -> String {
    let took = units::duration(summary.elapsed_ms);
    let places = few(look, &summary.looked_in);
    if summary.found == 0 {
        return match summary.looked_in.is_empty() {
            true => {
                format!("no cache of Hugging Face, llama.cpp, Ollama or LM Studio is here ({took})")
            }
            false => format!("no model files in {places} ({took})"),
        };
    }
    let are = |count: u64, one: &str, many: &str| {
        (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { many }))
    };
    let known = summary.known.saturating_sub(summary.moved);
    let kinds = listed([
        are(summary.added, "was added", "were added"),
        are(summary.new.saturating_sub(summary.added), "is new", "are new"),
        are(summary.moved, "moved", "moved"),
        are(known, "file is a model already", "files are models already"),
    ]);
    format!("{}; looked in {places} ({took})", kinds.unwrap_or_default())
}

/// The first few places, and how many more there are.
fn few(look: &Look, places: &[WirePath]) -> String {
    const SHOWN: usize = 8;
    let tidy = |path: &WirePath| look.tidy(&path.to_string());
    let mut words: Vec<String> = places.iter().take(SHOWN).map(tidy).collect();
    if let Some(more) = places.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        words.push(format!("{more} more"));
    }
    words.join(", ")
}

fn table<'a>(found: impl Iterator<Item = &'a FoundModel>) -> Table {
    let mut table = Table::new([
        Column::name("NAME"),
        Column::word("STATUS", 0),
        Column::word("SOURCE", 5),
        Column::word("ARCH", 4),
        Column::number("PARAMS", 3),
        Column::word("QUANT", 2),
        Column::number("SIZE", 1),
        Column::path("PATH", 0),
    ]);
    for found in found {
        let (style, status) = status(found);
        table.row([
            Cell::from(&found.name),
            Cell::styled(style, status),
            Cell::from(found.source.as_str()),
            known(found.architecture.as_ref()),
            known(found.parameters.map(units::count)),
            known(found.quantization.as_ref()),
            Cell::from(units::bytes(found.size_bytes)),
            Cell::from(found.path.to_string()),
        ]);
    }
    table
}

fn status(found: &FoundModel) -> (Style, &'static str) {
    match (found.added, &found.moved_from, &found.model) {
        (true, ..) => (GREEN, "added"),
        (false, Some(_), _) => (Style::new(), "moved"),
        (false, None, Some(_)) => (DIM, "known"),
        (false, None, None) => (Style::new(), "new"),
    }
}

async fn list(output: &mut Output, daemon: &Daemon) -> Outcome {
    let places = daemon.call(&LibraryList { variables: caller() }).await?;
    if output.json {
        return output.json(&places);
    }
    if output.quiet {
        return output.names(places.directories.iter().map(|place| place.path.to_string()));
    }
    output.table(&places_table(&places, &Clock::local()))
}

fn places_table(places: &LibraryPlaces, clock: &Clock) -> Table {
    let mut table = Table::new([
        Column::path("DIRECTORY", 0),
        Column::word("KIND", 0),
        Column::word("SINCE", 1),
    ]);
    for place in &places.directories {
        table.row([
            Cell::from(place.path.to_string()),
            Cell::from("remembered"),
            Cell::styled(DIM, clock.full(place.added_at_ms)),
        ]);
    }
    for cache in &places.caches {
        table.row([
            Cell::from(cache.path.to_string()),
            Cell::from(format!("cache ({})", cache.source.as_str())),
            known(None::<&str>),
        ]);
    }
    table
}

async fn forget(output: &mut Output, daemon: &Daemon, directory: &Path) -> Outcome {
    let forgotten = daemon.call(&LibraryForget { path: absolute(directory)? }).await;
    let forgotten = forgotten.map_err(Quit::from)?;
    if output.json {
        return output.json(&forgotten);
    }
    if output.quiet {
        return output.names([forgotten.path.to_string()]);
    }
    output.line(format!("{} is remembered no longer", forgotten.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::{NOW_MS, PIPE, assert_screen};
    use llamactl_protocol::library::ScanSource;
    use llamactl_protocol::library::{LibraryCache, LibraryDirectory};

    #[test]
    fn what_a_scan_came_to_is_one_line() {
        let line = |summary: Summary| summary_line(&PIPE, &summary);
        let summary = |new, added, known, moved| {
            let looked_in = vec!["/m".into(), "/n".into()];
            let found = new + known;
            line(Summary { found, new, added, known, moved, looked_in, ..Summary::default() })
        };
        assert_eq!(
            summary(2, 0, 1, 0),
            "2 are new, 1 file is a model already; looked in /m, /n (0ms)"
        );
        assert_eq!(summary(1, 1, 0, 0), "1 was added; looked in /m, /n (0ms)");
        assert_eq!(
            summary(0, 0, 3, 1),
            "1 moved, 2 files are models already; looked in /m, /n (0ms)"
        );
        assert_eq!(summary(0, 0, 0, 0), "no model files in /m, /n (0ms)");
        assert_eq!(
            line(Summary::default()),
            "no cache of Hugging Face, llama.cpp, Ollama or LM Studio is here (0ms)"
        );
    }

    #[test]
    fn the_hint_repeats_the_command() {
        let mut params = ScanFollow { caches: true, ..ScanFollow::default() };
        assert_eq!(again_with_add(&params), ["llamactl", "model", "scan", "--add"]);
        params.caches = false;
        params.directories = vec!["/m/a b".into(), "/x".into()].into();
        assert_eq!(again_with_add(&params)[3..], ["/m/a b", "/x", "--add", "--no-caches"]);
    }

    #[test]
    fn of_a_long_path_the_end_is_shown() {
        assert_eq!(end_of("/m"), "/m");
        let shown = end_of(&format!("/{}/end", "x".repeat(90)));
        assert!(shown.starts_with('…') && shown.ends_with("x/end"), "{shown}");
    }

    fn found(name: &str) -> FoundModel {
        FoundModel {
            path: format!("/home/anna/models/{name}.gguf").as_str().into(),
            name: name.into(),
            size_bytes: 5_027_783_488,
            architecture: Some("qwen3".into()),
            parameters: Some(8_190_735_360),
            quantization: Some("Q4_K_M".into()),
            parts: 1,
            mmproj: None,
            source: ScanSource::Directory,
            model: None,
            added: false,
            moved_from: None,
            aliases: vec![],
            notes: vec![],
        }
    }

    #[test]
    fn what_a_scan_found() {
        let known = FoundModel { model: Some("gemma".into()), ..found("gemma") };
        let mut noted = FoundModel { architecture: None, parameters: None, ..found("phi-4") };
        noted.source = ScanSource::Ollama;
        noted.notes = vec!["mmproj.gguf beside it is no projector".into()];
        let skipped = |number: usize| Skipped {
            path: format!("/home/anna/models/half-{number}.gguf").as_str().into(),
            kind: "gguf_truncated".into(),
            reason: "it ends early: 3.1 GiB of 8.4 GiB are there".into(),
        };
        let looked_in = vec!["/home/anna/models".into()];
        let summary =
            Summary { found: 3, new: 2, known: 1, skipped: 12, looked_in, ..Summary::default() };
        let mut told = Told {
            found: vec![found("qwen3-8b"), known, noted],
            skipped: (1..=12).map(skipped).collect(),
            summary: Some(Summary { elapsed_ms: 240, ..summary }),
        };
        let mut params = ScanFollow { caches: true, ..ScanFollow::default() };
        assert_screen("model-scan", |output| conclude(output, &told, &params));
        told.skipped.clear();
        told.found.truncate(1);
        told.found[0].added = true;
        let looked_in = vec!["/home/anna/models".into()];
        told.summary =
            Some(Summary { found: 1, new: 1, added: 1, looked_in, ..Summary::default() });
        params.add = true;
        assert_screen("model-scan-add", |output| conclude(output, &told, &params));
    }

    #[test]
    fn where_models_are_looked_for() {
        let directory = LibraryDirectory { path: "/home/anna/models".into(), added_at_ms: NOW_MS };
        let cache = LibraryCache {
            path: "/home/anna/.cache/huggingface/hub".into(),
            source: ScanSource::Huggingface,
        };
        let places = LibraryPlaces { directories: vec![directory], caches: vec![cache] };
        assert_screen("model-scan-list-dirs", |output| {
            output.table(&places_table(&places, &Clock::utc()))
        });
    }
}
