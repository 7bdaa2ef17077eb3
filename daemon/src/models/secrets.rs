//! Secrets on their way into the registry, and out of it.

use super::Models;
use crate::os::file;
use crate::store::registry::{Registry, Secrets};
use llamactl_protocol::options::rules::{self, API_KEY};
use llamactl_protocol::options::{Settings, secret};
use llamactl_protocol::{Failure, Kind};
use serde_json::{Value, json};
use uuid::Uuid;

/// The longest file of keys, in bytes.
const MAX_KEYS_BYTES: u64 = 1 << 20;

/// The files of secrets that a change makes: they stay when the change is stored, and go when it is
/// not.
#[must_use = "what is made must be kept or taken back"]
pub(super) struct NewSecrets {
    secrets: Secrets,
    made: Vec<String>,
}

impl NewSecrets {
    /// None made yet, for a change of this registry.
    pub(super) fn of(registry: &Registry) -> NewSecrets {
        NewSecrets { secrets: registry.secrets().clone(), made: vec![] }
    }

    /// Settings whose secrets lie in files of their own. One that is shown stays what it is in
    /// `before`; `api-key=generate` makes one.
    ///
    /// # Errors
    /// [`Kind::InvalidValue`] for a shown secret that is not stored; what the disk refuses. Nothing
    /// that was made for the change is left behind then.
    pub(super) async fn put_away(
        &mut self,
        settings: Settings,
        before: &Settings,
    ) -> Result<Settings, Failure> {
        if !settings.iter().any(|(key, value)| rules::is_secret(key, value)) {
            return Ok(settings);
        }
        let (secrets, before) = (self.secrets.clone(), before.clone());
        let mut made = std::mem::take(&mut self.made);
        let put_away = move || {
            let mut away = Settings::new();
            for (key, value) in settings {
                match kept(&secrets, &key, value, &before, &mut made) {
                    Ok(value) => away.insert(key, value),
                    Err(failure) => {
                        secrets.remove_now(made);
                        return Err(failure);
                    }
                };
            }
            Ok((away, made))
        };
        let away;
        (away, self.made) = tokio::task::spawn_blocking(put_away)
            .await
            .map_err(|_| Failure::new(Kind::Internal, "keeping a secret failed"))??;
        Ok(away)
    }

    /// Keeps what was made if the change was stored and `uses` it, else takes it back.
    pub(super) async fn settle<T, E>(
        self,
        outcome: Result<T, E>,
        uses: impl FnOnce(&T) -> bool,
    ) -> Result<T, E> {
        if !outcome.as_ref().is_ok_and(uses) {
            self.secrets.remove(self.made).await;
        }
        outcome
    }
}

impl Models {
    /// Removes something, and then the secrets that it alone used. Those that nothing used before
    /// stay: another request may be putting one away just now.
    ///
    /// # Errors
    /// What keeps it from being removed.
    pub async fn releasing_secrets<T>(
        &self,
        removal: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let used_before = self.registry.used_secrets().await?;
        let removed = removal.await?;
        let used = self.registry.used_secrets().await?;
        self.registry.secrets().remove(used_before.difference(&used).cloned().collect()).await;
        Ok(removed)
    }
}

fn kept(
    secrets: &Secrets,
    key: &str,
    value: Value,
    before: &Settings,
    made: &mut Vec<String>,
) -> Result<Value, Failure> {
    let text = if key == API_KEY && value.is_string() {
        generated()
    } else if secret::is_shown(&value) {
        let stored = before.get(key).filter(|value| secret::id_of(value).is_some());
        return stored.cloned().ok_or_else(|| {
            Failure::new(Kind::InvalidValue, format!("there is no stored {key} to keep"))
                .hint(format!("give it: {key}=@FILE, or {key}=- on stdin"))
                .details(json!({ "key": key }))
        });
    } else if let Some(text) = secret::text_of(&value) {
        text.to_owned()
    } else {
        return Ok(value);
    };
    // Given again, the same secret is no change.
    if let Some(id) = before.get(key).and_then(secret::id_of)
        && secrets.read(id).is_ok_and(|there| there == text)
    {
        return Ok(secret::stored(id));
    }
    let id = secrets.put(&text)?;
    made.push(id.clone());
    Ok(secret::stored(&id))
}

/// Removes the secrets that nothing refers to: left by a request that was refused at its last step,
/// or by a daemon that was killed then. For the start, when no request is under way.
pub async fn remove_unused(registry: &Registry) {
    let used = match registry.used_secrets().await {
        Ok(used) => used,
        Err(error) => return tracing::warn!(%error, "cannot tell which secrets are used"),
    };
    let secrets = registry.secrets().clone();
    let remove = move || match secrets.ids() {
        Ok(ids) => secrets.remove_now(ids.difference(&used).cloned()),
        Err(error) => tracing::warn!(%error, "cannot list the secrets"),
    };
    if let Err(error) = tokio::task::spawn_blocking(remove).await {
        tracing::error!(%error, "removing secrets that nothing uses");
    }
}

/// A key nobody can guess: 244 random bits.
fn generated() -> String {
    format!("sk-{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// The first key that clients of a server with these settings may give; `None` when it asks for
/// none. Blocks.
///
/// # Errors
/// What keeps the key from being read.
pub fn key_of(secrets: &Secrets, settings: &Settings) -> Result<Option<String>, Failure> {
    // llama-server takes several, separated by commas or lines.
    let first = |text: &str| {
        let keys = text.split(['\n', ',']).map(str::trim);
        keys.filter(|key| !key.is_empty() && !key.starts_with('#')).map(str::to_owned).next()
    };
    if let Some(id) = settings.get(API_KEY).and_then(secret::id_of) {
        return secrets.read(id).map(|text| first(&text));
    }
    let Some(path) = settings.get("api-key-file").and_then(Value::as_str) else { return Ok(None) };
    match file::read(path.as_ref(), MAX_KEYS_BYTES) {
        Ok(bytes) => Ok(first(&String::from_utf8_lossy(&bytes))),
        Err(error) => {
            Err(Failure::new(Kind::FileUnreadable, format!("api-key-file {path} {error}")))
        }
    }
}
