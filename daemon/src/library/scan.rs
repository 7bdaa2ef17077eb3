//! One scan: what a thread comes across becomes models and reasons.
//!
//! ```text
//!   thread ── sightings ──▶ batch ─▶ seen before? ─▶ known header, else read ─▶ registered? ─▶ item
//!     ╰── progress (the latest) ──────────────────────────────────────────────────────────╯
//! ```
//!
//! Both channels are short: a reader that is slow holds the scan up, and one that goes away ends
//! it. Nothing is held while anything is waited for.

use super::Library;
use super::headers::Known;
use super::naming;
use super::sink::{Candidate, Sighting, Sink, Stopped};
use super::{group, huggingface, llama_cpp, lmstudio, ollama, pair, places, walk};
use crate::gguf::{self, Facts, GgufError};
use crate::models::{Models, model_file, stamps};
use crate::store::registry::{FileStamp, NewFile, NewModel, Registry, StoreError, variants};
use llamactl_protocol::library::{FoundModel, Progress, ScanItem, ScanSource, Skipped, Summary};
use llamactl_protocol::model::ModelFile;
use llamactl_protocol::options::Settings;
use llamactl_protocol::{Actor, Failure, Kind, WirePath};
use places::{Place, tidy};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

/// Batches of sightings that may wait.
const BATCHES: usize = 2;

/// Items a reader may leave waiting.
const QUEUE: usize = 64;

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// The setting that names a model's projector.
const MMPROJ: &str = "mmproj";

/// What to look through and what to do with it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Directories to look through, absolute.
    pub directories: Vec<PathBuf>,
    /// Also those that are remembered.
    pub remembered: bool,
    /// Also the caches of other programs.
    pub caches: bool,
    /// Register what is new.
    pub add: bool,
    /// Settings for what is registered, already checked; secrets as they were given.
    pub settings: Settings,
}

/// A scan under way. Dropping it ends it.
#[derive(Debug)]
pub struct Scan {
    items: mpsc::Receiver<Result<ScanItem, Failure>>,
}

impl Scan {
    /// The next item; `None` behind the last. Cancel safe.
    ///
    /// # Errors
    /// Why the scan cannot go on.
    pub async fn next(&mut self) -> Result<Option<ScanItem>, Failure> {
        self.items.recv().await.transpose()
    }
}

impl Library {
    /// Begins a scan. `by` is who asked, for records.
    #[must_use]
    pub fn scan(&self, request: Request, by: Actor) -> Scan {
        let (items, receiver) = mpsc::channel(QUEUE);
        let library = self.clone();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = library.run(request, by, &items) => outcome,
                () = items.closed() => return,
            };
            if let Err(End::Failed(failure)) = outcome {
                // Gone between two items: there is nobody to tell.
                let _ = items.send(Err(failure)).await;
            }
        });
        Scan { items: receiver }
    }

    async fn run(
        &self,
        request: Request,
        by: Actor,
        items: &mpsc::Sender<Result<ScanItem, Failure>>,
    ) -> Result<(), End> {
        let began = Instant::now();
        let places = self.places(&request).await?;
        if places.is_empty() {
            // Nothing to look through is no reason to look at every file that is registered.
            return items
                .send(Ok(ScanItem::Done(Summary::default())))
                .await
                .map_err(|_| End::Unheard);
        }
        let registered = registered(self.registry.model_paths().await?).await;
        let (sightings, mut seen) = mpsc::channel(BATCHES);
        let (progress, watched) = watch::channel(Progress { directory: None, files_seen: 0 });
        spawn_blocking(move || {
            let mut sink = Sink::new(sightings, progress);
            // Stopped or done: either way the channel closes, and that says it.
            let _ = look_through(&places, &mut sink);
        });
        let mut work = Work {
            registry: self.registry.clone(),
            models: self.models.clone(),
            request,
            by,
            items: items.clone(),
            registered,
            files: HashSet::new(),
            names: HashSet::new(),
            summary: Summary::default(),
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = watched.borrow().clone();
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    let now = watched.borrow().clone();
                    if now != told {
                        told = now.clone();
                        work.tell(ScanItem::Progress(now)).await?;
                    }
                }
                batch = seen.recv() => match batch {
                    Some(batch) => work.take(batch).await?,
                    None => break,
                },
            }
        }
        work.summary.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        work.tell(ScanItem::Done(work.summary)).await
    }

    /// Where to look, each place once.
    async fn places(&self, request: &Request) -> Result<Vec<Place>, StoreError> {
        let mut directories: Vec<PathBuf> = request.directories.iter().map(tidy).collect();
        if request.remembered {
            let remembered = self.registry.remembered_dirs().await?;
            directories.extend(remembered.into_iter().map(|(path, _)| tidy(path.as_path())));
        }
        // A cache that is named is still a cache.
        let source = |path: &Path| {
            let cache = self.caches.iter().find(|cache| cache.path == path);
            cache.map_or(ScanSource::Directory, |cache| cache.source)
        };
        let mut places: Vec<Place> =
            directories.into_iter().map(|path| Place { source: source(&path), path }).collect();
        if request.caches {
            let caches: Arc<[Place]> = Arc::clone(&self.caches);
            let there = spawn_blocking(move || {
                caches.iter().filter(|cache| cache.path.is_dir()).cloned().collect::<Vec<_>>()
            });
            places.extend(there.await.unwrap_or_default());
        }
        Ok(places)
    }
}

/// Looks through all places.
fn look_through(places: &[Place], sink: &mut Sink) -> Result<(), Stopped> {
    for place in places {
        match place.source {
            ScanSource::Huggingface => huggingface::cache(&place.path, sink)?,
            ScanSource::Ollama => ollama::cache(&place.path, sink)?,
            ScanSource::Lmstudio => lmstudio::cache(&place.path, sink)?,
            ScanSource::LlamaCpp => llama_cpp::cache(&place.path, sink)?,
            ScanSource::Directory => directory(&place.path, sink)?,
        }
    }
    sink.flush()
}

/// Looks through a directory whose layout is a person's own.
fn directory(root: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    walk::walk(root, sink, &mut |listing, sink| {
        let site = group::Site {
            source: ScanSource::Directory,
            naming: &|_: &str| naming::Naming::Stem,
            pairing: pair::projector_for,
            beside: None,
        };
        group::report(listing, &site, sink)
    })
}

/// The names of models by the files they are of. A file that is not there is nobody's.
async fn registered(models: Vec<(String, WirePath)>) -> HashMap<(i64, i64), String> {
    let look = move || {
        let mut registered = HashMap::new();
        for (name, path) in models {
            if let Ok(stamp) = group::stamp(path.as_path()) {
                // Of several profiles of one file the oldest stands for it.
                registered.entry((stamp.device, stamp.inode)).or_insert(name);
            }
        }
        registered
    };
    spawn_blocking(look).await.unwrap_or_default()
}

/// Why a scan ends early.
enum End {
    /// Nobody listens any more.
    Unheard,
    /// The registry cannot be used.
    Failed(Failure),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> End {
        End::Failed(error.into())
    }
}

/// The part of a scan that knows the registry.
struct Work {
    registry: Registry,
    models: Models,
    request: Request,
    by: Actor,
    items: mpsc::Sender<Result<ScanItem, Failure>>,
    /// Names of models by device and inode of their files.
    registered: HashMap<(i64, i64), String>,
    /// Device and inode of every file come across.
    files: HashSet<(i64, i64)>,
    /// Names given in this scan.
    names: HashSet<String>,
    summary: Summary,
}

impl Work {
    async fn tell(&self, item: ScanItem) -> Result<(), End> {
        self.items.send(Ok(item)).await.map_err(|_| End::Unheard)
    }

    async fn skip(&mut self, path: PathBuf, kind: String, reason: String) -> Result<(), End> {
        self.summary.skipped += 1;
        self.tell(ScanItem::Skipped(Skipped { path: path.into(), kind, reason })).await
    }

    /// Takes some sightings in their order.
    async fn take(&mut self, sightings: Vec<Sighting>) -> Result<(), End> {
        let mut fresh = Vec::with_capacity(sightings.len());
        for sighting in sightings {
            if let Sighting::Candidate(candidate) = &sighting
                && let Some(own) = candidate.stamps.first()
                && !self.files.insert((own.device, own.inode))
            {
                self.summary.duplicates += 1;
                continue;
            }
            fresh.push(sighting);
        }
        let mut headers = self.headers(&fresh).await?;
        for sighting in fresh {
            match sighting {
                Sighting::Skipped(Skipped { path, kind, reason }) => {
                    self.skip(path.0, kind, reason).await?;
                }
                Sighting::Candidate(candidate) => self.judge(*candidate, &mut headers).await?,
            }
        }
        Ok(())
    }

    /// What the headers of these files say: as it was kept, or read now and kept.
    async fn headers(&self, sightings: &[Sighting]) -> Result<Headers, StoreError> {
        let mut wanted: Vec<(PathBuf, Vec<FileStamp>)> = Vec::new();
        for sighting in sightings {
            let Sighting::Candidate(candidate) = sighting else { continue };
            wanted.push((candidate.path.clone(), candidate.stamps.clone()));
            if let Some((path, stamp)) = &candidate.projector {
                wanted.push((path.clone(), vec![*stamp]));
            }
        }
        let keys = wanted.iter().filter_map(|(_, stamps)| stamps.first().copied()).collect();
        let kept = self.registry.headers(keys).await?;
        let mut headers = Headers::default();
        let mut unknown = Vec::new();
        for ((path, stamps), kept) in wanted.into_iter().zip(kept) {
            match kept.and_then(|text| Known::from_text(&text, &stamps)) {
                Some(known) => {
                    headers.0.insert(path, Header { known, facts: None });
                }
                None => unknown.push(path),
            }
        }
        if unknown.is_empty() {
            return Ok(headers);
        }
        let read = spawn_blocking(move || unknown.into_iter().map(read).collect::<Vec<_>>());
        let read = read.await.unwrap_or_default();
        let lasting = read.iter().filter(|(_, _, header)| header.known.is_lasting());
        let keep =
            lasting.filter_map(|(_, stamp, header)| Some(((*stamp)?, header.known.to_text()?)));
        let keep: Vec<_> = keep.collect();
        if let Err(error) = self.registry.put_headers(keep).await {
            // On a full disk the next scan takes longer; this one is none the worse.
            tracing::warn!(%error, "what headers say cannot be kept");
        }
        headers.0.extend(read.into_iter().map(|(path, _, header)| (path, header)));
        Ok(headers)
    }

    /// Tells of a file, and registers it where that is wanted.
    async fn judge(&mut self, candidate: Candidate, headers: &mut Headers) -> Result<(), End> {
        let Some(Header { known, facts }) = headers.0.remove(&candidate.path) else {
            let reason = "reading it broke off: the daemon's log has the particulars";
            return self.skip(candidate.path, "internal".to_owned(), reason.to_owned()).await;
        };
        if let Some((kind, reason)) = known.refusal() {
            return self.skip(candidate.path, kind, reason).await;
        }
        let Known::Model { file, .. } = known else { return Ok(()) };
        let mmproj = candidate.projector.map(|(path, _)| path);
        let mut notes = candidate.notes;
        let mmproj = mmproj.filter(|path| {
            // Others may share it, so it stays.
            let sound = headers.0.get(path).is_some_and(|header| header.known.is_projector());
            if !sound {
                notes.push(format!("{} lies beside it and is no projector", path.display()));
            }
            sound
        });
        let mut found = found(&candidate.path, candidate.source, &file, mmproj, notes);
        self.summary.found += 1;
        let own = candidate.stamps.first().map(|stamp| (stamp.device, stamp.inode));
        let there = own.and_then(|own| self.registered.get(&own).cloned());
        if let Some(name) = there {
            self.summary.known += 1;
            found.name.clone_from(&name);
            found.model = Some(name);
            return self.tell(ScanItem::Found(Box::new(found))).await;
        }
        let names =
            naming::proposals(&candidate.naming, &candidate.path, file.quantization.as_deref());
        found.name = self.free_name(names).await?;
        if !self.request.add {
            self.summary.new += 1;
            return self.tell(ScanItem::Found(Box::new(found))).await;
        }
        match self.register(&mut found, facts).await {
            Ok(()) => {
                if let Some(own) = own {
                    self.registered.insert(own, found.name.clone());
                }
                self.tell(ScanItem::Found(Box::new(found))).await
            }
            Err(Refused::Changed(kind, reason)) => {
                self.summary.found -= 1;
                self.skip(candidate.path, kind, reason).await
            }
            Err(Refused::Failed(failure)) => Err(End::Failed(failure)),
        }
    }

    /// Stores a model that was found.
    async fn register(
        &mut self,
        found: &mut FoundModel,
        facts: Option<Box<Facts>>,
    ) -> Result<(), Refused> {
        let facts = match facts {
            Some(facts) => facts,
            None => {
                // What was kept of the header leaves the chat template out.
                let path = found.path.0.clone();
                let read = spawn_blocking(move || read(path)).await;
                let broken = || Failure::new(Kind::Internal, "reading a model's header broke off");
                let header = read.map_err(|_| broken())?.2;
                if let Some((kind, reason)) = header.known.refusal() {
                    return Err(Refused::Changed(kind, reason));
                }
                header.facts.ok_or_else(broken)?
            }
        };
        let mut settings = self.request.settings.clone();
        if let Some(mmproj) = &found.mmproj {
            settings.entry(MMPROJ.to_owned()).or_insert_with(|| json!(mmproj));
        }
        let new = NewModel {
            name: found.name.clone(),
            file: NewFile {
                path: found.path.clone(),
                file: ModelFile { mmproj: found.mmproj.clone(), ..model_file(&facts) },
                seen: stamps(&facts),
                chat_template: facts.chat_template.as_ref().map(|template| template.text.clone()),
            },
            settings,
        };
        let (model, added) = self.models.add_found(new, self.by.clone()).await?;
        found.name.clone_from(&model.name);
        found.model = Some(model.name.clone());
        found.added = added;
        self.names.insert(model.name.clone());
        if added {
            self.summary.new += 1;
            self.summary.added += 1;
        } else {
            self.summary.known += 1;
            if model.path != found.path {
                let (name, old) = (&model.name, &model.path);
                found.notes.push(format!(
                    "the same file as that of {name}, which is registered from {old}: it was moved"
                ));
            }
        }
        Ok(())
    }

    /// The first of some names that nobody has, else the first with a number behind it.
    async fn free_name(&mut self, names: Vec<String>) -> Result<String, StoreError> {
        let first = names.first().cloned().unwrap_or_default();
        for name in names.into_iter().chain(variants(&first)) {
            if !self.names.contains(&name) && self.registry.name_owner(&name).await?.is_none() {
                self.names.insert(name.clone());
                return Ok(name);
            }
        }
        Ok(first)
    }
}

/// Why a model was not stored.
enum Refused {
    /// Its file is not what it was a moment ago.
    Changed(String, String),
    /// The registry cannot be used, or a secret cannot be kept.
    Failed(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused::Failed(failure)
    }
}

/// Headers by path.
#[derive(Default)]
struct Headers(HashMap<PathBuf, Header>);

/// What a header said; all of it when it was read just now.
struct Header {
    known: Known,
    facts: Option<Box<Facts>>,
}

/// Reads a file; which file that was stands between.
fn read(path: PathBuf) -> (PathBuf, Option<FileStamp>, Header) {
    let read = gguf::inspect_alone(&path);
    let mut known = Known::of(&read);
    if let (Known::Bad { reason, .. }, Err(error)) = (&mut known, &read) {
        name_the_part(reason, error, &path);
    }
    let stamp = match &read {
        Ok(facts) => stamps(facts).first().copied(),
        Err(_) => group::stamp(&path).ok(),
    };
    (path, stamp, Header { known, facts: read.ok().map(Box::new) })
}

/// Says which part of a split model is at fault.
fn name_the_part(reason: &mut String, error: &GgufError, path: &Path) {
    if error.path != path
        && let Some(part) = error.path.file_name()
    {
        *reason = format!("{}: {reason}", part.to_string_lossy());
    }
}

fn found(
    path: &Path,
    source: ScanSource,
    file: &ModelFile,
    mmproj: Option<PathBuf>,
    notes: Vec<String>,
) -> FoundModel {
    FoundModel {
        path: path.into(),
        name: String::new(),
        size_bytes: file.size_bytes,
        architecture: file.architecture.clone(),
        parameters: file.parameters,
        quantization: file.quantization.clone(),
        parts: gguf::split::parse(path).map_or(1, |part| u64::from(part.count)),
        mmproj: mmproj.map(WirePath),
        source,
        model: None,
        added: false,
        notes,
    }
}
