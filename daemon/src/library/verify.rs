//! Reading a registered model's file again, and comparing it with what was known.

use super::Library;
use crate::gguf::{self, Facts};
use crate::models::{gguf_failure, model_file, stamps, where_it_is};
use crate::store::registry::FileStamp;
use llamactl_protocol::library::{Difference, Verified};
use llamactl_protocol::model::{Model, ModelFile};
use llamactl_protocol::{Actor, Failure, Hints, Kind, WirePath};
use serde_json::Value;
use std::path::PathBuf;
use tokio::task::spawn_blocking;

impl Library {
    /// Reads the files of a model again. Where they have changed and are sound, what is known of
    /// them is replaced.
    ///
    /// # Errors
    /// What the registry reports; what is wrong with the files is part of the answer.
    pub async fn verify(&self, model: &Model, by: Actor) -> Result<Verified, Failure> {
        let seen = self.registry.file_stamps(vec![model.id]).await?.remove(&model.id);
        let (path, projector) = (model.path.0.clone(), projector(model));
        let name = model.name.clone();
        let read =
            move || (read_model(&name, &path), projector.and_then(|path| wrong_projector(&path)));
        let (read, wrong_projector) = spawn_blocking(read)
            .await
            .map_err(|_| Failure::new(Kind::Internal, "reading the model's header failed"))?;
        let mut verified = Verified {
            model: model.name.clone(),
            ok: read.is_ok() && wrong_projector.is_none(),
            problems: vec![],
            changed: vec![],
            refreshed: false,
        };
        match read {
            Err(failure) => verified.problems.push(failure),
            Ok(facts) => {
                let now = stamps(&facts);
                let mut file = model_file(&facts);
                // Which projector goes with it is not in the file.
                file.mmproj.clone_from(&model.file.mmproj);
                verified.changed = differences(&model.file, &file, seen.as_deref(), &now);
                let unseen = seen.is_none_or(|seen| seen != now);
                if unseen || file != model.file {
                    let template = facts.chat_template.map(|template| template.text);
                    self.registry.refresh_file(model.id, file, template, now, by).await?;
                    verified.refreshed = true;
                }
            }
        }
        verified.problems.extend(wrong_projector);
        Ok(verified)
    }
}

/// The projector that is set for a model.
fn projector(model: &Model) -> Option<PathBuf> {
    let path: WirePath = serde_json::from_value(model.settings.get("mmproj")?.clone()).ok()?;
    Some(path.0)
}

fn read_model(name: &str, path: &std::path::Path) -> Result<Facts, Failure> {
    let facts = gguf::inspect_alone(path).map_err(|error| match gguf_failure(&error) {
        // The path is the registry's, so that nobody has to check it.
        failure if failure.kind == Kind::FileNotFound => {
            Failure { hints: Hints::default(), ..failure }.hint(where_it_is(name))
        }
        failure => failure,
    })?;
    match facts.kind {
        gguf::Kind::Model => Ok(facts),
        other => Err(Failure::new(
            Kind::NotAModel,
            format!("{} holds no model any more: it is {}", path.display(), other.description()),
        )
        .hint(where_it_is(name))),
    }
}

fn wrong_projector(path: &std::path::Path) -> Option<Failure> {
    match gguf::inspect_alone(path) {
        Ok(facts) if facts.kind == gguf::Kind::Projector => None,
        Ok(_) => Some(
            Failure::new(Kind::NotAModel, format!("{} is no projector", path.display()))
                .hint("set mmproj to the model's projector, or unset it"),
        ),
        Err(error) => Some(gguf_failure(&error)),
    }
}

/// What is different, for people and scripts: facts by their names, and which file it is.
fn differences(
    was: &ModelFile,
    is: &ModelFile,
    seen: Option<&[FileStamp]>,
    now: &[FileStamp],
) -> Vec<Difference> {
    let fields = |file: &ModelFile| match serde_json::to_value(file) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (was, is) = (fields(was), fields(is));
    let mut found: Vec<Difference> = is
        .iter()
        .filter(|(what, value)| was.get(*what) != Some(value))
        .map(|(what, value)| Difference {
            what: what.clone(),
            was: was.get(what).and_then(text),
            is: text(value),
        })
        .collect();
    for (then, now) in seen.unwrap_or_default().iter().zip(now) {
        let mut differ = |what: &str, was: i64, is: i64| {
            if was != is && !found.iter().any(|there| there.what == what) {
                let (was, is) = (Some(was.to_string()), Some(is.to_string()));
                found.push(Difference { what: what.to_owned(), was, is });
            }
        };
        differ("inode", then.inode, now.inode);
        differ("modified_at_ms", then.mtime_ns / 1_000_000, now.mtime_ns / 1_000_000);
    }
    found
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_said() {
        let was = ModelFile { size_bytes: 7, quantization: None, ..ModelFile::default() };
        let is = ModelFile { size_bytes: 8, quantization: Some("F16".into()), ..was.clone() };
        let stamp = FileStamp { device: 1, inode: 2, size_bytes: 7, mtime_ns: 5_000_000 };
        let now = FileStamp { mtime_ns: 9_000_000, ..stamp };
        let found = differences(&was, &is, Some(&[stamp]), &[now]);
        let said: Vec<_> = found
            .iter()
            .map(|it| (it.what.as_str(), it.was.as_deref(), it.is.as_deref()))
            .collect();
        assert_eq!(
            said,
            [
                ("quantization", None, Some("F16")),
                ("size_bytes", Some("7"), Some("8")),
                ("modified_at_ms", Some("5"), Some("9")),
            ]
        );
        assert!(differences(&was, &was, Some(&[stamp]), &[stamp]).is_empty());
    }
}
