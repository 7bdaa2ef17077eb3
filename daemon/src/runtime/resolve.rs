//! From a name to a build.

use super::inspect::{Found, inspect};
use super::probe::probe;
use super::{SYSTEM, find, library_path};
use crate::store::registry::{NamedRuntime, NewRuntime, Registry, RuntimeRecord};
use llamactl_protocol::options::nearest;
use llamactl_protocol::{Actor, Failure, Hint, Kind, WirePath};
use std::path::PathBuf;

/// The build to use now for models that name this runtime, or none: found, and looked at if it is
/// new.
///
/// # Errors
/// [`Kind::RuntimeNotFound`] when there is no such runtime, or its file is gone;
/// [`Kind::RuntimeRefused`] when it may not be run or is no llama-server; the registry's own.
pub async fn resolve(registry: &Registry, name: Option<&str>) -> Result<RuntimeRecord, Failure> {
    resolve_at(registry, Place::of(registry, name).await?).await
}

/// The same at a place that is known.
///
/// # Errors
/// As [`resolve`].
pub async fn resolve_at(registry: &Registry, place: Place) -> Result<RuntimeRecord, Failure> {
    let found = place.locate().await?;
    let lib_dirs = found.lib_dirs.clone();
    let looked = look(registry, found, &Actor::Policy).await;
    let (id, found) = looked.map_err(|problem| place.lacking(problem))?;
    Ok(place.record(id, found, lib_dirs))
}

/// Looks at a runtime as it would be with other variables, whatever was known of its file.
///
/// # Errors
/// What would keep it from being run.
pub async fn look_at(registry: &Registry, named: NamedRuntime, by: &Actor) -> Result<(), Failure> {
    look_anew(registry, Place::from(named).locate().await?, by).await.map(drop)
}

/// The first of the runtimes, all of which have a name but the one found without being told, whose build
/// is known to have an option. None is asked.
pub async fn with_option(
    registry: &Registry,
    runtimes: &[NamedRuntime],
    flag: &str,
) -> Option<String> {
    let named = runtimes.iter().cloned().map(Place::from);
    for place in named.chain([Place::system()]) {
        if let Ok(found) = place.locate().await
            && let Ok(Some((_, build))) = known(registry, &found).await
            && build.has(flag)
        {
            return Some(place.name);
        }
    }
    None
}

/// A runtime's name, and where it was said to be: nowhere for the one found without being told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) name: String,
    pub(super) named: Option<NamedRuntime>,
}

impl Place {
    /// The runtime of this name; without one the default.
    pub(super) async fn of(registry: &Registry, name: Option<&str>) -> Result<Place, Failure> {
        Place::among(&registry.named_runtimes().await?, name)
    }

    /// The same of runtimes that were read already: these are all that have a name.
    ///
    /// # Errors
    /// [`Kind::RuntimeNotFound`] when none of them is meant.
    pub fn among(all: &[NamedRuntime], name: Option<&str>) -> Result<Place, Failure> {
        let named = match name {
            None => all.iter().find(|runtime| runtime.is_default),
            Some(SYSTEM) => None,
            Some(name) => {
                let named = all.iter().find(|runtime| runtime.name == name);
                Some(named.ok_or_else(|| unknown(all, name))?)
            }
        };
        Ok(named.cloned().map_or_else(Place::system, Place::from))
    }

    /// The one found without being told.
    pub(super) fn system() -> Place {
        Place { name: SYSTEM.to_owned(), named: None }
    }

    /// All there are.
    pub(super) async fn all(registry: &Registry) -> Result<Vec<Place>, Failure> {
        let named = registry.named_runtimes().await?;
        Ok(std::iter::once(Place::system()).chain(named.into_iter().map(Place::from)).collect())
    }

    /// The file that is there now.
    pub(super) async fn locate(&self) -> Result<Found, Failure> {
        let place = self.clone();
        // PATH and names may lead over slow or dead mounts.
        let located = tokio::task::spawn_blocking(move || place.look());
        located.await.map_err(|error| broken(&error))?
    }

    /// The same. Blocks.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn look(&self) -> Result<Found, Failure> {
        match &self.named {
            Some(named) => library_path::named_in(&named.environment)
                .and_then(|directories| inspect(named.path.as_path(), &directories))
                .map_err(|problem| self.unusable(problem)),
            None => find(),
        }
    }

    fn unusable(&self, problem: Failure) -> Failure {
        let name = &self.name;
        if problem.kind == Kind::FileNotFound {
            let message = format!("the llama-server of the runtime {name} is gone: {problem}");
            return Failure::new(Kind::RuntimeNotFound, message).hint(Hint::run(
                "put it back, or give its models another of those there are",
                RUNTIME_LIST,
            ));
        }
        Failure { message: format!("the runtime {name} is not run: {problem}"), ..problem }
    }

    /// The same of one that does not find a library: a runtime that has a name is told where it is.
    pub(super) fn lacking(&self, problem: Failure) -> Failure {
        let Some(named) = &self.named else { return problem };
        let told = problem.hints.0.into_iter().map(|mut hint| {
            if let ["llamactl", "runtime", "add", _, value] =
                hint.argv.iter().map(String::as_str).collect::<Vec<_>>()[..]
            {
                let set = ["llamactl", "runtime", "set", named.name.as_str(), value];
                hint.argv = set.map(str::to_owned).to_vec();
            }
            hint
        });
        Failure { hints: told.collect(), ..problem }
    }

    /// The build found there, under this name.
    pub(super) fn record(
        self,
        id: i64,
        found: NewRuntime,
        lib_dirs: Vec<PathBuf>,
    ) -> RuntimeRecord {
        let environment = self.named.map(|named| named.environment).unwrap_or_default();
        RuntimeRecord { id, name: self.name, environment, lib_dirs, found }
    }
}

impl From<NamedRuntime> for Place {
    fn from(named: NamedRuntime) -> Place {
        Place { name: named.name.clone(), named: Some(named) }
    }
}

const RUNTIME_LIST: [&str; 3] = ["llamactl", "runtime", "list"];

/// The failure of a name nobody gave.
fn unknown(all: &[NamedRuntime], name: &str) -> Failure {
    let failure = Failure::new(Kind::RuntimeNotFound, format!("there is no runtime {name}"));
    let names = all.iter().map(|runtime| runtime.name.as_str());
    let known: Vec<&str> = std::iter::once(SYSTEM).chain(names).collect();
    match nearest(name, &known) {
        Some(near) => {
            failure.hint(Hint::run(format!("did you mean {near}? See all"), RUNTIME_LIST))
        }
        None => failure.hint(Hint::run("see which there are", RUNTIME_LIST)),
    }
}

/// What a file is: as it was looked at before, if it is the same still.
pub(super) async fn look(
    registry: &Registry,
    found: Found,
    by: &Actor,
) -> Result<(i64, NewRuntime), Failure> {
    match known(registry, &found).await? {
        Some(known) => Ok(known),
        None => look_anew(registry, found, by).await,
    }
}

/// What was kept of a file that is the same still.
pub(super) async fn known(
    registry: &Registry,
    found: &Found,
) -> Result<Option<(i64, NewRuntime)>, Failure> {
    let path = WirePath(found.path.clone());
    let Found { inode, size_bytes, mtime_ns, .. } = *found;
    let known = registry.known_runtime(path, inode, size_bytes, mtime_ns, found.libraries());
    Ok(known.await?)
}

/// Looks at a file and keeps the answer, also when whoever asked has gone meanwhile.
pub(super) async fn look_anew(
    registry: &Registry,
    found: Found,
    by: &Actor,
) -> Result<(i64, NewRuntime), Failure> {
    let (registry, by) = (registry.clone(), by.to_owned());
    let looking = tokio::spawn(async move {
        let probed = tokio::task::spawn_blocking(move || probe(found)).await;
        let new = probed.map_err(|error| broken(&error))??;
        Ok((registry.put_runtime(new.clone(), by).await?, new))
    });
    looking.await.map_err(|error| broken(&error))?
}

pub(super) fn broken(error: &tokio::task::JoinError) -> Failure {
    Failure::new(Kind::Internal, format!("looking at a llama-server: {error}"))
}
