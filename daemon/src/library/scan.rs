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
use super::naming::{self, Naming};
use super::pair::{self, Pairing, Together};
use super::sink::{Candidate, Group, Sighting, Sink, Stopped};
use super::{group, huggingface, llama_cpp, lmstudio, ollama, places, walk};
use crate::gguf::{self, Facts, GgufError};
use crate::models::{Models, model_file, stamps};
use crate::store::registry::{FileStamp, NewFile, NewModel, Registry, StoreError, variants};
use llamactl_protocol::bounds::MAX_ALIASES;
use llamactl_protocol::library::{
    CacheVariables, FoundModel, Progress, ScanItem, ScanSource, Skipped, Summary,
};
use llamactl_protocol::model::{Model, ModelFile, SettingsChange};
use llamactl_protocol::options::Settings;
use llamactl_protocol::{Actor, Failure, Hint, Kind, WirePath, name};
use places::{Place, tidy};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
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

/// The most models whose files are searched for.
const MAX_GONE: usize = 2_000;

/// The most models behind links that wait for the end.
const MAX_LINKS: usize = 10_000;

/// How many headers are read in one go: a scan that nobody listens to any more ends behind them.
const READ_AT_ONCE: usize = 64;

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
    /// Where the variables of who asks put caches.
    pub variables: CacheVariables,
    /// Register what is new.
    pub add: bool,
    /// Let registered models follow files that have moved. Without `add` that is all that is done,
    /// and nothing while no file of a model is missing.
    pub follow: bool,
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
        let (registered, missing) = registered(self.registry.model_paths().await?).await;
        let gone = self.gone(missing).await?;
        if request.follow && !request.add && gone.is_empty() {
            return Ok(());
        }
        let looked_in = places.iter().map(|place| WirePath(place.path.clone())).collect();
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
            gone,
            files: HashMap::new(),
            links: Vec::new(),
            names: HashSet::new(),
            summary: Summary { looked_in, ..Summary::default() },
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
        for sound in std::mem::take(&mut work.links) {
            work.judge(sound).await?;
        }
        work.summary.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        work.tell(ScanItem::Done(work.summary.clone())).await
    }

    /// What is known of the files of models that are not where they were.
    async fn gone(&self, names: Vec<String>) -> Result<Vec<Gone>, StoreError> {
        let mut gone = Vec::new();
        for name in names.into_iter().take(MAX_GONE) {
            let Ok(model) = self.registry.model(&name).await else { continue };
            let seen = self.registry.file_stamps(vec![model.id]).await?.remove(&model.id);
            let seen = seen.and_then(|seen| seen.first().copied());
            gone.push(Gone { model, seen });
        }
        Ok(gone)
    }

    /// Where to look, each place once.
    async fn places(&self, request: &Request) -> Result<Vec<Place>, StoreError> {
        let mut directories: Vec<PathBuf> = request.directories.iter().map(tidy).collect();
        if request.remembered {
            let remembered = self.registry.remembered_dirs().await?;
            directories.extend(remembered.into_iter().map(|(path, _)| tidy(path.as_path())));
        }
        // A cache that is named is still a cache.
        let caches = self.caches(&request.variables);
        let source = |path: &Path| {
            let cache = caches.iter().find(|cache| cache.path == path);
            cache.map_or(ScanSource::Directory, |cache| cache.source)
        };
        let mut places: Vec<Place> =
            directories.into_iter().map(|path| Place { source: source(&path), path }).collect();
        if request.caches {
            let there = spawn_blocking(move || {
                let has_moved = |cache: &Place| {
                    cache.source == ScanSource::Lmstudio
                        && lmstudio::elsewhere(&cache.path).is_some()
                };
                let is_there = |cache: &Place| cache.path.is_dir() || has_moved(cache);
                caches.into_iter().filter(is_there).collect::<Vec<_>>()
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
    walk::walk(root, None, sink, &mut |listing, sink| {
        let site = group::Site {
            source: ScanSource::Directory,
            naming: &|_: &str| naming::Naming::Stem,
            pairing: pair::projector_for,
        };
        group::report(listing, &site, sink)
    })
}

/// The names of models by the files they are of, and of models whose files are not there.
async fn registered(models: Vec<(String, WirePath)>) -> (HashMap<(i64, i64), String>, Vec<String>) {
    let look = move || {
        let (mut registered, mut missing) = (HashMap::new(), Vec::new());
        for (name, path) in models {
            match group::stamp(path.as_path()) {
                // Of several profiles of one file the oldest stands for it.
                Ok(stamp) => {
                    registered.entry((stamp.device, stamp.inode)).or_insert(name);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(name),
                Err(_) => {}
            }
        }
        (registered, missing)
    };
    spawn_blocking(look).await.unwrap_or_default()
}

/// A registered model whose file is not where it was.
struct Gone {
    model: Model,
    /// Which file it was when it was read.
    seen: Option<FileStamp>,
}

impl Gone {
    /// Whether this is its file. A number is given to another file once one is gone, and the device's
    /// is dealt out anew at a boot; so the contents must agree too, as far as headers tell.
    fn is(&self, now: &FileStamp, file: &ModelFile) -> bool {
        let Some(seen) = self.seen else { return false };
        let alone = |file: &ModelFile| ModelFile { parts: vec![], mmproj: None, ..file.clone() };
        (seen.inode, seen.size_bytes) == (now.inode, now.size_bytes)
            && (seen.device == now.device || seen.mtime_ns == now.mtime_ns)
            && alone(&self.model.file) == alone(file)
    }
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
    /// Models whose files are not where they were.
    gone: Vec<Gone>,
    /// Every file come across, by device and inode, and where it was first.
    files: HashMap<(i64, i64), PathBuf>,
    /// Models behind links, for the end: a file stands before the links to it.
    links: Vec<Sound>,
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
        let mut headers = self.headers(&sightings).await?;
        for sighting in sightings {
            match sighting {
                Sighting::Skipped(Skipped { path, kind, reason }) => {
                    self.skip(path.0, kind, reason).await?;
                }
                Sighting::Group(group) => self.sort_out(group, &mut headers).await?,
            }
        }
        Ok(())
    }

    /// Tells models from what goes with them, finds each its projector, and says what is left.
    async fn sort_out(&mut self, group: Group, headers: &mut Headers) -> Result<(), End> {
        let together = together(&group, headers);
        let mut used: HashSet<PathBuf> = HashSet::new();
        let mut others: Vec<(Candidate, Known)> = Vec::new();
        for mut candidate in group.files {
            let Some(own) = candidate.stamps.first().map(|own| (own.device, own.inode)) else {
                continue;
            };
            let Some(Header { known, facts }) = headers.0.get_mut(&candidate.path) else {
                let reason = "reading it broke off: the daemon's log has the particulars";
                self.skip(candidate.path, "internal".to_owned(), reason.to_owned()).await?;
                continue;
            };
            let Known::Model { file, .. } = known else {
                others.push((candidate, known.clone()));
                continue;
            };
            let (file, facts) = (file.clone(), facts.take());
            let mmproj = match candidate.projector.take() {
                Some((path, _)) => {
                    let kind = headers.0.get(&path).and_then(|header| header.known.kind());
                    if kind != Some(gguf::Kind::Projector) {
                        let path = path.display();
                        candidate
                            .notes
                            .push(format!("{path} is said to be its projector and is none"));
                    }
                    Some(path).filter(|_| kind == Some(gguf::Kind::Projector))
                }
                None => group.pairing.and_then(|pairing| {
                    projector(&candidate.path, &together, group.top.as_deref(), pairing)
                }),
            };
            used.extend(mmproj.clone());
            let sound = Sound { candidate, own, file, facts, mmproj };
            let is_hub = sound.candidate.source == ScanSource::Huggingface;
            if sound.candidate.is_link && !is_hub && self.links.len() < MAX_LINKS {
                self.links.push(Sound { facts: None, ..sound });
            } else {
                self.judge(sound).await?;
            }
        }
        for (candidate, known) in others {
            let Candidate { path, stamps, .. } = candidate;
            let own = stamps.first().map(|own| (own.device, own.inode)).unwrap_or_default();
            if used.contains(&path) {
                continue;
            }
            if self.files.insert(own, path.clone()).is_some() {
                self.summary.duplicates += 1;
            } else if let Some((kind, mut reason)) = known.refusal() {
                let directory = path.parent().unwrap_or(Path::new("/"));
                let models = together.get(directory).or_else(|| together.get(group.top.as_ref()?));
                let models = models.map(|together| together.models.as_slice()).unwrap_or_default();
                match known.kind() {
                    Some(gguf::Kind::Projector) => {
                        reason = "a projector (mmproj), and no model beside it is surely its own"
                            .to_owned();
                    }
                    Some(gguf::Kind::Drafter) => {
                        if let Some(model) = pair::only_model(models) {
                            reason = format!("a draft model, which goes with {model}");
                        }
                    }
                    _ => {}
                }
                self.skip(path, kind, reason).await?;
            }
        }
        Ok(())
    }

    /// What the headers of these files say: as it was kept, or read now and kept.
    async fn headers(&self, sightings: &[Sighting]) -> Result<Headers, StoreError> {
        let mut wanted: Vec<(PathBuf, Vec<FileStamp>)> = Vec::new();
        for sighting in sightings {
            let Sighting::Group(group) = sighting else { continue };
            let files = group.files.iter();
            wanted.extend(files.clone().map(|it| (it.path.clone(), it.stamps.clone())));
            let others = files.filter_map(|it| it.projector.as_ref()).chain(&group.beside);
            wanted.extend(others.map(|(path, stamp)| (path.clone(), vec![*stamp])));
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
        let mut read = Vec::with_capacity(unknown.len());
        for some in unknown.chunks(READ_AT_ONCE) {
            let some = some.to_vec();
            let some = spawn_blocking(move || some.into_iter().map(self::read).collect::<Vec<_>>());
            read.extend(some.await.unwrap_or_default());
        }
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

    /// Tells of a model's file, and registers it where that is wanted.
    async fn judge(&mut self, sound: Sound) -> Result<(), End> {
        let Sound { candidate, own, file, facts, mmproj } = sound;
        if let Some(first) = self.files.get(&own) {
            self.summary.duplicates += 1;
            let reason = format!("the same file as {}", first.display());
            let kind = "duplicate".to_owned();
            return self
                .tell(ScanItem::Skipped(Skipped { path: candidate.path.into(), kind, reason }))
                .await;
        }
        self.files.insert(own, candidate.path.clone());
        let mut found = found(&candidate.path, candidate.source, &file, mmproj, candidate.notes);
        self.summary.found += 1;
        if let Some(name) = self.registered.get(&own).cloned() {
            self.summary.known += 1;
            found.name.clone_from(&name);
            found.model = Some(name);
            if let Naming::Whole(tag) = candidate.naming {
                self.note_tags(&mut found, std::iter::once(tag).chain(candidate.aliases)).await?;
            }
            return self.tell(ScanItem::Found(Box::new(found))).await;
        }
        if let Some(stamp) = candidate.stamps.first() {
            let (moved, still) =
                std::mem::take(&mut self.gone).into_iter().partition(|gone| gone.is(stamp, &file));
            self.gone = still;
            if !Vec::is_empty(&moved) {
                return self.moved(found, own, moved).await;
            }
        }
        let names = naming::proposals(&candidate.naming, &candidate.path, &file);
        if let Some(owner) = self.stood_for(&names).await? {
            let other = format!(
                "the model {} is registered from {}, which is {}. To let it have this file: {}",
                owner.name,
                owner.path,
                if owner.path.as_path().exists() { "another file" } else { "gone" },
                set_path(&owner.name, &candidate.path),
            );
            if let Naming::Whole(tag) = &candidate.naming {
                // The tag names another blob now: a second model would not be what it says.
                self.summary.found -= 1;
                let reason = format!("{tag} is this file now, and {other}");
                return self.skip(candidate.path, "replaced".to_owned(), reason).await;
            }
            found.notes.push(other);
        }
        found.name = self.free_name(names).await?;
        let more = candidate.aliases.len().saturating_sub(MAX_ALIASES);
        for alias in candidate.aliases.into_iter().take(MAX_ALIASES) {
            self.summary.duplicates += 1;
            if let Some(alias) = self.free_alias(alias).await? {
                found.aliases.push(alias);
            }
        }
        if more > 0 {
            found.notes.push(format!("{more} more names are left out: a model has few aliases"));
        }
        if !self.request.add {
            self.summary.new += 1;
            return self.tell(ScanItem::Found(Box::new(found))).await;
        }
        match self.register(&mut found, facts).await {
            Ok(()) => {
                self.registered.insert(own, found.name.clone());
                if found.added && !found.aliases.is_empty() {
                    let (name, aliases) = (found.name.clone(), found.aliases.clone());
                    let by = self.by.clone();
                    let added = self.registry.change_aliases(&name, aliases, vec![], by).await;
                    if let Err(error) = added {
                        found.notes.push(format!("its other names became no aliases: {error}"));
                    }
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

    /// Tells of a file whose models were registered from elsewhere, and lets them follow it.
    async fn moved(
        &mut self,
        mut found: FoundModel,
        own: (i64, i64),
        models: Vec<Gone>,
    ) -> Result<(), End> {
        self.summary.known += 1;
        self.summary.moved += 1;
        let names: Vec<String> = models.iter().map(|gone| gone.model.name.clone()).collect();
        if let Some(Gone { model, .. }) = models.first() {
            found.name.clone_from(&model.name);
            found.model = Some(model.name.clone());
            found.moved_from = Some(model.path.clone());
            self.registered.insert(own, model.name.clone());
        }
        if let Some(others) = names.get(1..).filter(|others| !others.is_empty()) {
            found.notes.push(format!("it is the file of {} too", others.join(", ")));
        }
        for Gone { model, .. } in models.iter().filter(|_| self.request.follow) {
            let mut set = Settings::from([("path".to_owned(), json!(found.path))]);
            // Its projector has moved with it.
            let eye: Option<WirePath> = model
                .settings
                .get(MMPROJ)
                .and_then(|path| serde_json::from_value(path.clone()).ok());
            if let (Some(eye), Some(mmproj)) = (eye, &found.mmproj)
                && !eye.as_path().exists()
            {
                set.insert(MMPROJ.to_owned(), json!(mmproj));
            }
            let change = SettingsChange { set: set.into(), ..SettingsChange::default() };
            let what = Some(format!("its file had moved from {}", model.path));
            if let Err(failure) =
                self.models.change(&model.name, &change, what, self.by.clone()).await
            {
                let set = set_path(&model.name, found.path.as_path());
                found.notes.push(format!("{} could not follow it ({failure}): {set}", model.name));
            }
        }
        self.tell(ScanItem::Found(Box::new(found))).await
    }

    /// The model that has the best of these names and stands for another file now: one of the same
    /// store, or one that is gone.
    async fn stood_for(&self, names: &[String]) -> Result<Option<Model>, StoreError> {
        let Some(name) = names.first() else { return Ok(None) };
        let Some(owner) = self.registry.name_owner(name).await? else { return Ok(None) };
        let model = self.registry.model(&owner).await?;
        let is_gone = self.gone.iter().any(|gone| gone.model.id == model.id);
        let is_blob = model.path.as_path().file_name().is_some_and(ollama::is_blob);
        Ok((is_gone || is_blob).then_some(model))
    }

    /// Tells of the names that a registered model has in its store and not here.
    async fn note_tags(
        &mut self,
        found: &mut FoundModel,
        tags: impl Iterator<Item = String>,
    ) -> Result<(), StoreError> {
        for tag in tags {
            match self.registry.name_owner(&tag).await? {
                Some(owner) if owner == found.name => {}
                Some(owner) => found.notes.push(format!(
                    "Ollama calls it {tag}, which is a name of {owner} here: {}",
                    set_path(&owner, found.path.as_path())
                )),
                None => found.notes.push(format!(
                    "Ollama calls it {tag} too: llamactl model alias {} {tag}",
                    found.name
                )),
            }
        }
        Ok(())
    }

    /// An alias, if nobody has it.
    async fn free_alias(&mut self, alias: String) -> Result<Option<String>, StoreError> {
        let is_free = name::is_valid(&alias)
            && self.registry.name_owner(&alias).await?.is_none()
            && self.names.insert(alias.clone());
        Ok(is_free.then_some(alias))
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
                let old = &model.path;
                let set = set_path(&model.name, found.path.as_path());
                found
                    .notes
                    .push(format!("it is registered from {old}, where another file is: {set}"));
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

/// The command that lets a model have a file.
fn set_path(name: &str, path: &Path) -> String {
    Hint::run("", ["llamactl", "model", "set", name, &format!("path={}", path.display())])
        .to_string()
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

/// A file that is a model, its projector found.
struct Sound {
    candidate: Candidate,
    /// Its device and inode.
    own: (i64, i64),
    file: Box<ModelFile>,
    facts: Option<Box<Facts>>,
    mmproj: Option<PathBuf>,
}

/// What lies in each directory of a group, told apart by headers. A file that cannot be read counts
/// as what its name says.
fn together(group: &Group, headers: &Headers) -> HashMap<PathBuf, Together> {
    let mut all: HashMap<PathBuf, Together> = HashMap::new();
    let paths = group.files.iter().map(|candidate| &candidate.path);
    for path in paths.chain(group.beside.iter().map(|(path, _)| path)) {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let Some(name) = name.to_str().map(str::to_owned) else { continue };
        let there = all.entry(directory.to_owned()).or_default();
        match headers.0.get(path).and_then(|header| header.known.kind()) {
            Some(gguf::Kind::Projector) => there.projectors.push(name),
            Some(gguf::Kind::Model) => there.models.push(name),
            None if !gguf::is_projector(&name) => there.models.push(name),
            _ => {}
        }
    }
    all
}

/// The projector of a model: one beside it, else one in the directory at the top.
fn projector(
    model: &Path,
    together: &HashMap<PathBuf, Together>,
    top: Option<&Path>,
    pairing: Pairing,
) -> Option<PathBuf> {
    let (directory, name) = (model.parent()?, model.file_name()?.to_str()?);
    let look = |directory: &Path| {
        let chosen = pairing(name, together.get(directory)?)?;
        Some(directory.join(chosen))
    };
    look(directory).or_else(|| look(top?))
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
        moved_from: None,
        aliases: vec![],
        notes,
    }
}
