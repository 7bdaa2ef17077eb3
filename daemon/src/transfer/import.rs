//! An import from its source to its answer.

use super::check::{Builds, Owner, Validated, validate};
use super::locate::Locator;
use super::omissions::sentence;
use super::plan::{self, Desired, Settled};
use super::position::placed;
use super::spec::{ImportSpec, ModelSpec};
use super::{dashboard, document, format, pasted, preset, source};
use crate::models::{self, Models, check_with_defaults};
use crate::runtime::{self, SYSTEM};
use crate::store::registry::{
    Everything, Import, ImportedChange, ModelChange, NewFile, NewModel, Registry, StoredRuntime,
};
use llamactl_protocol::exchange::{
    ImportFormat, ImportItem, ImportSource, Imported, ItemAction, ItemKind, ModelImport,
};
use llamactl_protocol::model::{Difference, Model, ModelFile};
use llamactl_protocol::options::{Build, Settings, rules, secret};
use llamactl_protocol::{Actor, Failure, Kind, WirePath, name};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Carries out an import, or says what it would do.
///
/// # Errors
/// What is wrong with the source, or with something in it where that fails the whole;
/// [`Kind::RevisionConflict`] when somebody else changed the registry meanwhile. Nothing is
/// changed then.
pub async fn run(
    models: &Models,
    registry: &Registry,
    import: ModelImport,
    by: Actor,
) -> Result<Imported, Failure> {
    for path in import.directory.iter().chain(&import.home).chain(import.find.iter()) {
        must_be_absolute(path)?;
    }
    for map in import.map_path.iter() {
        must_be_absolute(&map.to)?;
    }
    let label = label_of(&import);
    let dry_run = import.dry_run;
    let base = import.directory.as_ref().map_or_else(|| "/".into(), |path| path.0.clone());
    let mut locator = Locator::new(import.map_path.0.clone(), import.find.0.clone());
    let source = blocking(move || open(import)).await??;
    let format = source.format();
    let build = match format {
        // Written in a build's own words.
        ImportFormat::Preset | ImportFormat::Command => {
            let (defaults, runtimes) = registry.ground().await?;
            let build = models::build_of(registry, &runtimes, &defaults.settings).await;
            build.unwrap_or((None, None)).0
        }
        ImportFormat::Auto | ImportFormat::Toml | ImportFormat::Dashboard => None,
    };
    let mut spec = blocking(move || source.read(build.as_ref())).await??;
    let everything = registry.everything().await?;
    for model in &mut spec.models {
        // A name may depend on where the file is.
        if let Some(path) = &mut model.path {
            let (found, note) = locate(&mut locator, path.0.clone()).await?;
            *path = WirePath(found);
            spec.notes.extend(note.map(|note| format!("{}: {note}", model.name)));
        }
    }
    let settled = plan::settle(&mut spec, &everything.models)?;
    let planned = Planner { registry, everything: &everything, locator: &locator, base: &base }
        .plan(settled, &mut spec)
        .await?;
    let Planned { items, import: mut stored } = planned;
    bounded("models that change", stored.changed.len(), MAX_CHANGED)?;
    let mut imported = plan::answer(items, spec);
    imported.format = format;
    if dry_run {
        return Ok(imported);
    }
    stored.what = format!("imported from {label}");
    models.import(stored, &everything, by).await?;
    imported.applied = true;
    Ok(imported)
}

fn must_be_absolute(path: &WirePath) -> Result<(), Failure> {
    if path.as_path().is_absolute() {
        return Ok(());
    }
    Err(Failure::new(Kind::InvalidValue, format!("the path {path} is not absolute")))
}

/// What records call the source.
fn label_of(import: &ModelImport) -> String {
    let of_source = match &import.source {
        ImportSource::Text(_) => "a text".to_owned(),
        ImportSource::Path(path) => path.to_string(),
    };
    let label = import.label.clone().map_or(of_source, Into::into);
    label.chars().filter(|it| !it.is_control()).take(200).collect()
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failure::new(Kind::Internal, "reading the import failed"))
}

async fn locate(
    locator: &mut Locator,
    path: PathBuf,
) -> Result<(PathBuf, Option<String>), Failure> {
    let mut moved = std::mem::take(locator);
    let (found, moved) = blocking(move || (moved.locate(&path), moved)).await?;
    *locator = moved;
    Ok(found)
}

/// A source whose format is known.
enum Opened {
    /// A file of the old dashboard.
    Dashboard(PathBuf),
    /// A text; relative paths in it are below `base`.
    Text { text: String, format: ImportFormat, base: PathBuf, home: Option<PathBuf> },
}

/// Opens the source. Blocks.
fn open(import: ModelImport) -> Result<Opened, Failure> {
    let directory = import.directory.map(|path| path.0);
    let (text, base) = match import.source {
        ImportSource::Text(text) => (text.into(), directory.unwrap_or_else(|| "/".into())),
        ImportSource::Path(path) => {
            must_be_absolute(&path)?;
            let path = path.0;
            let is_dashboard = import.format == ImportFormat::Dashboard
                || path.is_dir()
                || source::head(&path)?.starts_with(dashboard::MAGIC);
            if is_dashboard {
                return Ok(Opened::Dashboard(path));
            }
            let beside = path.parent().map_or_else(|| "/".into(), Path::to_owned);
            (source::text(&path, source::MAX_BYTES)?, directory.unwrap_or(beside))
        }
    };
    let format = match import.format {
        ImportFormat::Auto => format::of(&text)?,
        format => format,
    };
    Ok(Opened::Text { text, format, base, home: import.home.map(|path| path.0) })
}

impl Opened {
    fn format(&self) -> ImportFormat {
        match self {
            Opened::Dashboard(_) => ImportFormat::Dashboard,
            Opened::Text { format, .. } => *format,
        }
    }

    /// Reads what it asks for. Blocks.
    fn read(self, build: Option<&Build>) -> Result<ImportSpec, Failure> {
        let spec = match self {
            Opened::Dashboard(path) => dashboard::read(&path)?,
            Opened::Text { text, format, base, home } => {
                // Before a tree is made of it, which takes many times its room.
                let headings = text.lines().filter(|line| line.starts_with('[')).count();
                bounded("sections", headings, MAX_SECTIONS)?;
                match format {
                    ImportFormat::Auto | ImportFormat::Toml => document::read(&text, &base)?,
                    ImportFormat::Preset => preset::read(&text, build, &base)?,
                    ImportFormat::Command => pasted::read(&text, build, &base, home.as_deref())?,
                    ImportFormat::Dashboard => dashboard::read_text(&text)?,
                }
            }
        };
        bounded("models", spec.models.len(), MAX_MODELS)?;
        bounded("runtimes", spec.runtimes.len(), MAX_MODELS)?;
        Ok(spec)
    }
}

/// No import has more models: what makes them visible is one transaction, which must stay short.
const MAX_MODELS: usize = 5_000;
/// A change of one that is there is made whole in that transaction, and takes five times as long.
const MAX_CHANGED: usize = 1_000;
/// A model has a section, and mostly one for its settings.
const MAX_SECTIONS: usize = 4 * MAX_MODELS;

fn bounded(what: &str, count: usize, most: usize) -> Result<(), Failure> {
    if count <= most {
        return Ok(());
    }
    let message = format!("the import has {count} {what}; at most {most} go in at once");
    Err(Failure::new(Kind::InvalidValue, message).hint("import it in several parts"))
}

struct Planner<'a> {
    registry: &'a Registry,
    everything: &'a Everything,
    locator: &'a Locator,
    base: &'a Path,
}

struct Planned {
    items: Vec<ImportItem>,
    import: Import,
}

impl Planner<'_> {
    async fn plan(&self, settled: Vec<Settled>, spec: &mut ImportSpec) -> Result<Planned, Failure> {
        let there = self.everything;
        let mut builds = Builds::new(self.registry, spec, &there.runtimes);
        let mut import = Import {
            seen: settled
                .iter()
                .filter_map(|it| it.before.as_ref().map(|model| (model.id, model.revision)))
                .collect(),
            defaults_seen: there.defaults.revision,
            runtimes_seen: there.runtimes.clone(),
            ..Import::default()
        };
        let mut items = Vec::new();
        for (item, runtime) in self.runtimes(spec).await? {
            if item.action != ItemAction::Same {
                import.runtimes.push(runtime);
            }
            items.push(item);
        }
        let defaults = self.defaults(spec, &mut builds).await?;
        if let Some(validated) = &defaults {
            let before = &there.defaults.settings;
            let changes = Difference::between(before, &validated.after);
            let notes = validated.notes.clone();
            items.insert(0, plan::item(ItemKind::Defaults, "defaults", true, changes, notes));
            import.defaults = Some(validated.after.clone()).filter(|after| after != before);
        }
        let defaults = defaults.map_or_else(|| there.defaults.settings.clone(), |it| it.after);
        let mut finished = BTreeSet::new();
        for Settled { requested, before } in settled {
            if let Some(model) = &before {
                finished.insert(model.id);
            }
            let planned =
                self.model(&requested, before.as_ref(), &defaults, &mut builds, spec).await?;
            let Some((desired, file)) = planned else { continue };
            let item = plan::model_item(before.as_ref(), &desired);
            match (before, item.action) {
                (_, ItemAction::Same) => {}
                (None, _) => {
                    let Some(file) = file else { continue };
                    let new = NewModel { name: desired.name, file, settings: desired.settings };
                    import.added.push((new, desired.aliases));
                }
                (Some(before), _) => {
                    let gone = before.settings.keys();
                    let unset = gone.filter(|key| !desired.settings.contains_key(*key));
                    let change = ModelChange {
                        unset: unset.cloned().collect(),
                        set: desired.settings,
                        file,
                        what: None,
                    };
                    let (id, aliases) = (before.id, desired.aliases);
                    import.changed.push(ImportedChange { id, aliases, change });
                }
            }
            items.push(item);
        }
        if import.defaults.is_some() {
            // Models that the source does not name live with the new defaults too.
            let others = there.models.iter().filter(|model| !finished.contains(&model.id));
            for model in others {
                check_with_defaults(&defaults, model)?;
            }
        }
        Ok(Planned { items, import })
    }

    async fn defaults(
        &self,
        spec: &mut ImportSpec,
        builds: &mut Builds<'_>,
    ) -> Result<Option<Validated>, Failure> {
        let Some(requested) = spec.defaults.take() else { return Ok(None) };
        let owner = Owner {
            name: "defaults",
            is_defaults: true,
            strict: spec.strict,
            base: self.base,
            locator: self.locator,
        };
        let before = &self.everything.defaults.settings;
        let none = Settings::new();
        let mut validated =
            validate(&owner, Some(&requested), before, &none, builds, &mut spec.left_out).await?;
        self.resolve_secrets(&mut validated.after, before).await?;
        Ok(Some(validated))
    }

    /// What a model will be, and its file where that is another; `None` when it is left out.
    async fn model(
        &self,
        requested: &ModelSpec,
        before: Option<&Model>,
        defaults: &Settings,
        builds: &mut Builds<'_>,
        spec: &mut ImportSpec,
    ) -> Result<Option<(Desired, Option<NewFile>)>, Failure> {
        let mut notes = Vec::new();
        let mut file = None;
        if let Some(path) =
            requested.path.clone().filter(|path| before.is_none_or(|it| it.path != *path))
        {
            match self.file(path, &mut notes).await {
                Ok(read) => file = Some(read),
                Err(failure) if spec.strict => {
                    let message = format!("{}: {}", requested.name, failure.message);
                    return Err(placed(Failure { message, ..failure }, requested.at));
                }
                Err(failure) => {
                    spec.left_out.add(format!("the model {}", requested.name), sentence(&failure));
                    return Ok(None);
                }
            }
        }
        // Any part of a split model names it; it may be the one that is there.
        let file = file.filter(|file| before.is_none_or(|before| before.path != file.path));
        let owner = Owner {
            name: &requested.name,
            is_defaults: false,
            strict: spec.strict,
            base: self.base,
            locator: self.locator,
        };
        let none = Settings::new();
        let settings = before.map_or(&none, |model| &model.settings);
        let given = requested.settings.as_ref();
        let mut validated =
            validate(&owner, given, settings, defaults, builds, &mut spec.left_out).await?;
        self.resolve_secrets(&mut validated.after, settings).await?;
        notes.extend(validated.notes);
        let path = file.as_ref().map(|file| file.path.clone());
        let path =
            path.or_else(|| before.map(|model| model.path.clone())).unwrap_or_else(|| "".into());
        let desired = Desired {
            name: requested.name.clone(),
            aliases: requested.aliases.clone().unwrap_or_default(),
            path,
            settings: validated.after,
            notes,
        };
        Ok(Some((desired, file)))
    }

    /// A model's file; one that is not there comes in all the same.
    async fn file(&self, path: WirePath, notes: &mut Vec<String>) -> Result<NewFile, Failure> {
        match models::read(path.clone()).await {
            Ok(file) => Ok(file),
            Err(failure)
                if matches!(
                    failure.kind,
                    Kind::FileNotFound | Kind::FileUnreadable | Kind::SplitIncomplete
                ) =>
            {
                notes.push(format!(
                    "{}; it cannot be started until the file is there",
                    failure.message
                ));
                let file = ModelFile { parts: vec![path.clone()], ..ModelFile::default() };
                Ok(NewFile { path, file, seen: vec![], chat_template: None })
            }
            Err(failure) => Err(failure),
        }
    }

    /// A secret that is given and is the stored one is no change.
    async fn resolve_secrets(
        &self,
        after: &mut Settings,
        before: &Settings,
    ) -> Result<(), Failure> {
        for (key, value) in after.iter_mut() {
            let Some(given) = secret::text_of(value).map(str::to_owned) else { continue };
            let Some(id) = before.get(key).and_then(secret::id_of).map(str::to_owned) else {
                continue;
            };
            let (secrets, of) = (self.registry.secrets().clone(), id.clone());
            let there = blocking(move || secrets.read(&of)).await?;
            if there.is_ok_and(|there| there == given) {
                *value = secret::stored(&id);
            }
        }
        Ok(())
    }

    async fn runtimes(
        &self,
        spec: &mut ImportSpec,
    ) -> Result<Vec<(ImportItem, StoredRuntime)>, Failure> {
        let mut planned = Vec::new();
        for runtime in std::mem::take(&mut spec.runtimes) {
            if !name::is_valid(&runtime.name) || runtime.name == SYSTEM {
                let message = format!("{:?} cannot be the name of a runtime", runtime.name);
                let failure = Failure::new(Kind::InvalidName, message)
                    .hint(format!("system is the one found without being told; {}", name::RULE));
                return Err(placed(failure, runtime.at));
            }
            let there = &self.everything.runtimes;
            let before = there.iter().find(|there| there.name == runtime.name);
            let path = WirePath(self.locator.mapped(runtime.path.as_path()));
            let mut notes = Vec::new();
            let at = path.0.clone();
            if !blocking(move || at.is_file()).await? {
                notes.push(format!(
                    "there is no file {path}; no model can run on it until there is"
                ));
            }
            let mut environment = Settings::new();
            for (variable, value) in runtime.environment {
                let stored = before.and_then(|before| before.environment.get(&variable));
                let is_text = value.is_string() || secret::text_of(&value).is_some();
                let value = if secret::is_shown(&value) {
                    let Some(stored) = stored else {
                        notes.push(format!("{variable} is a secret: give it again"));
                        continue;
                    };
                    stored.clone()
                } else if is_text {
                    value
                } else {
                    let message = format!("{variable} must be a text");
                    return Err(placed(Failure::new(Kind::InvalidValue, message), runtime.at));
                };
                environment.insert(variable, value);
            }
            let environment = runtime::variables(environment);
            let mut environment = environment.map_err(|failure| placed(failure, runtime.at))?;
            let variables = environment.iter().map(|(name, value)| (name.as_str(), value));
            notes.extend(rules::notes_on_variables(variables));
            let empty = Settings::new();
            let old = before.map_or(&empty, |before| &before.environment);
            self.resolve_secrets(&mut environment, old).await?;
            let after = StoredRuntime {
                name: runtime.name,
                path,
                environment,
                is_default: runtime.is_default,
            };
            let facts = |runtime: &StoredRuntime| {
                let mut facts: Settings = runtime
                    .environment
                    .iter()
                    .map(|(name, value)| (format!("env.{name}"), value.clone()))
                    .collect();
                facts.insert("path".to_owned(), json!(runtime.path));
                facts.insert("default".to_owned(), Value::Bool(runtime.is_default));
                facts
            };
            let changes =
                Difference::between(&before.map(facts).unwrap_or_default(), &facts(&after));
            let is_there = before.is_some();
            let item = plan::item(ItemKind::Runtime, &after.name, is_there, changes, notes);
            planned.push((item, after));
        }
        if planned.iter().filter(|(_, runtime)| runtime.is_default).count() > 1 {
            let message = "only one runtime can be the default";
            return Err(Failure::new(Kind::InvalidValue, message));
        }
        Ok(planned)
    }
}
