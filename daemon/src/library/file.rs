//! Reading a model's file.

use super::describe::{gguf_failure, model_file, stamps};
use crate::gguf::{self, Facts};
use crate::store::registry::NewFile;
use llamactl_protocol::{Failure, Kind, WirePath};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Reads the header of a model's file, of a split model any part, away from the async threads: a
/// slow disk must not hold up anyone else.
///
/// # Errors
/// What keeps it from being read, or from being a model.
pub async fn read(path: WirePath) -> Result<NewFile, Failure> {
    let facts = inspect(path).await?;
    Ok(NewFile {
        path: WirePath(main_part(&facts)?),
        file: model_file(&facts),
        seen: stamps(&facts),
        chat_template: facts.chat_template.as_ref().map(|template| template.text.clone()),
    })
}

async fn inspect(path: WirePath) -> Result<Facts, Failure> {
    if !path.as_path().is_absolute() {
        return Err(Failure::new(Kind::InvalidValue, format!("the path {path} is not absolute")));
    }
    let facts = tokio::task::spawn_blocking(move || gguf::inspect(path.as_path()))
        .await
        .map_err(|_| Failure::new(Kind::Internal, "reading the model's header failed"))?
        .map_err(|error| gguf_failure(&error))?;
    match facts.kind {
        gguf::Kind::Model => Ok(facts),
        other => {
            let path = main_part(&facts)?;
            let path = path.display();
            let (what, hint) = match other {
                gguf::Kind::Projector => ("a projector (mmproj)", "add the model it belongs to"),
                gguf::Kind::Adapter => ("an adapter (LoRA)", "add the model it was made for"),
                _ => ("metadata without weights", "add a file that holds a model's weights"),
            };
            Err(Failure::new(Kind::NotAModel, format!("{path} is {what}, not a model"))
                .hint(hint)
                .details(json!({ "is": other.as_str() })))
        }
    }
}

/// The file to give to llama-server.
fn main_part(facts: &Facts) -> Result<PathBuf, Failure> {
    let part = facts.path().map(Path::to_owned);
    part.ok_or_else(|| Failure::new(Kind::Internal, "the model's header names no file"))
}
