//! Naming a llama-server.

use super::SYSTEM;
use super::inspect::inspect;
use super::library_path;
use super::resolve::{broken, look, look_anew};
use crate::store::registry::{NamedRuntime, Registry};
use llamactl_protocol::environment::LIBRARY_PATH;
use llamactl_protocol::options::{self, VARIABLE_PREFIX};
use llamactl_protocol::{Actor, Failure, Kind, WirePath, name};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Directories that say nothing of the build in them.
const SAY_NOTHING: &[&str] = &["bin", "build", "release", "debug", "usr", "local", "sbin", "lib"];

/// Names the llama-server at a path, after it was looked at; and whether the name is new.
///
/// # Errors
/// [`Kind::NameTaken`]; [`Kind::InvalidName`]; what keeps the file from being a runtime.
pub async fn add(
    registry: &Registry,
    path: WirePath,
    name: Option<String>,
    environment: BTreeMap<String, Value>,
    by: &Actor,
) -> Result<(NamedRuntime, bool), Failure> {
    if !path.as_path().is_absolute() {
        return Err(Failure::new(Kind::InvalidValue, format!("the path {path} is not absolute")));
    }
    let name = match name {
        Some(name) => name::check(name)?,
        None => default_name(path.as_path()),
    };
    if name == SYSTEM {
        return Err(Failure::new(
            Kind::NameTaken,
            format!("{SYSTEM} is the llama-server that is found without being told"),
        )
        .hint("give another name: --name NAME"));
    }
    let environment = variables(environment)?;
    let named = path.clone();
    let lib_dirs = library_path::named_in(&environment)?;
    // They may have changed since it was looked at.
    let is_known = lib_dirs.is_empty();
    let found = tokio::task::spawn_blocking(move || inspect(named.as_path(), &lib_dirs)).await;
    let found = found.map_err(|error| broken(&error))??;
    if is_known {
        look(registry, found.clone(), by).await?;
    } else {
        look_anew(registry, found.clone(), by).await?;
    }
    let added =
        registry.add_named_runtime(name.clone(), path.clone(), environment, by.to_owned()).await?;
    if let Some(added) = added {
        return Ok((added, true));
    }
    match registry.named_runtime(&name).await? {
        Some(there) if there.path == path || leads_to(&there.path, &found.path).await? => {
            Ok((there, false))
        }
        there => Err(taken(registry, &name, there).await),
    }
}

async fn leads_to(path: &WirePath, file: &Path) -> Result<bool, Failure> {
    let (path, file) = (path.clone(), file.to_owned());
    let compare = move || path.as_path().canonicalize().is_ok_and(|path| path == file);
    tokio::task::spawn_blocking(compare).await.map_err(|error| broken(&error))
}

async fn taken(registry: &Registry, name: &str, there: Option<NamedRuntime>) -> Failure {
    let where_to = there.map(|there| format!(": {}", there.path)).unwrap_or_default();
    let failure =
        Failure::new(Kind::NameTaken, format!("there is a runtime {name} already{where_to}"));
    let all = registry.named_runtimes().await.unwrap_or_default();
    let mut variants = (2..1000).map(|number| format!("{name}-{number}"));
    match variants.find(|free| all.iter().all(|runtime| runtime.name != *free)) {
        Some(free) => failure
            .hint(format!("give another name: --name {free}"))
            .details(json!({ "name": name, "free": free })),
        None => failure,
    }
}

/// The name of the nearest directory above a file that says something of the build in it.
fn default_name(path: &Path) -> String {
    let names = path.ancestors().filter_map(|at| at.file_name()).map(|it| it.to_string_lossy());
    let mut telling = names
        .clone()
        .skip(1)
        // Above it is somebody's home.
        .take_while(|dir| dir != ".local")
        .filter(|dir| !SAY_NOTHING.contains(&dir.to_ascii_lowercase().as_str()));
    let named = telling.next().or_else(|| names.clone().next());
    named.and_then(|name| name::from_text(&name)).unwrap_or_else(|| "llama-server".to_owned())
}

/// Variables by name, as they are stored.
///
/// # Errors
/// [`Kind::InvalidValue`], [`Kind::OptionRefused`] for variables that may not be set.
pub fn variables(environment: BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>, Failure> {
    let checked = environment.into_iter().map(|(name, value)| {
        if name == LIBRARY_PATH {
            library_path::directories(&value)?;
            return Ok((name, value));
        }
        let key = format!("{VARIABLE_PREFIX}{name}");
        let value = options::find(&key, None)?.check(&value)?;
        Ok((name, value))
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_the_directory() {
        let of = |path: &str| default_name(Path::new(path));
        assert_eq!(of("/opt/llama.cpp-vulkan/build/bin/llama-server"), "llama.cpp-vulkan");
        assert_eq!(of("/opt/b10434/llama-server"), "b10434");
        assert_eq!(of("/usr/local/bin/llama-server"), "llama-server");
        assert_eq!(of("/home/me/.local/bin/llama"), "llama");
        assert_eq!(of("/home/me/My build (new)/bin/llama-server"), "My-build-new");
    }

    #[test]
    fn only_harmless_variables_are_taken() {
        let one = |name: &str| variables([(name.to_owned(), json!("1"))].into());
        assert_eq!(one("CUDA_VISIBLE_DEVICES").unwrap().len(), 1);
        assert_eq!(one("LD_PRELOAD").unwrap_err().kind, Kind::OptionRefused);
        assert_eq!(one("LD_LIBRARY_PATH").unwrap_err().kind, Kind::InvalidValue);
    }
}
