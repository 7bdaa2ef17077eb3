//! The llama-server build that settings are checked against.

use super::RUNTIME;
use crate::runtime::{self, Place};
use crate::store::registry::{NamedRuntime, Registry, RuntimeRecord};
use llamactl_protocol::options::{Build, Settings};
use llamactl_protocol::{Failure, Kind};
use serde_json::Value;

/// Which of the named runtimes these settings mean: the one they name, or the default one.
///
/// # Errors
/// [`Kind::RuntimeNotFound`] when there is none of that name.
pub fn place_of(runtimes: &[NamedRuntime], settings: &Settings) -> Result<Place, Failure> {
    Place::among(runtimes, settings.get(RUNTIME).and_then(Value::as_str))
}

async fn runtime_of(
    registry: &Registry,
    runtimes: &[NamedRuntime],
    settings: &Settings,
) -> Result<RuntimeRecord, Failure> {
    runtime::resolve_at(registry, place_of(runtimes, settings)?).await
}

/// The build among all named `runtimes` to check settings against. Without a llama-server on the machine settings are checked
/// by the catalogue alone, and the second value says so; one that is named must be there.
///
/// # Errors
/// [`Kind::RuntimeNotFound`] when one is named and not there.
pub async fn build_of(
    registry: &Registry,
    runtimes: &[NamedRuntime],
    settings: &Settings,
) -> Result<(Option<Build>, Option<String>), Failure> {
    match runtime_of(registry, runtimes, settings).await {
        Ok(runtime) => Ok((Some(runtime.build()), None)),
        Err(failure)
            if failure.kind == Kind::RuntimeNotFound && !settings.contains_key(RUNTIME) =>
        {
            let note = format!("not checked against a llama-server: {}", failure.message);
            Ok((None, Some(note)))
        }
        Err(failure) => Err(failure),
    }
}

/// Whether a build takes all of these settings.
///
/// # Errors
/// The first refusal, by key.
pub fn accepted(build: &Build, settings: &Settings) -> Result<(), Failure> {
    match runtime::refusals(build, settings).into_iter().next() {
        Some((_, refusal)) => Err(refusal),
        None => Ok(()),
    }
}
