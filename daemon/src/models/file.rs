//! A model's file: its header read, and what that says in the words of the wire and the registry.

use super::files::unreadable;
use crate::gguf::{self, Facts, GgufError, Lookalike, Part, Problem};
use crate::store::registry::{FileStamp, NewFile};
use llamactl_protocol::model::ModelFile;
use llamactl_protocol::{Failure, Hint, Kind, WirePath, name};
use serde_json::json;
use std::ffi::OsStr;
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
            Err(not_a_model(&path, other))
        }
    }
}

/// Why a sound file cannot be registered, and what it is good for.
#[must_use]
pub fn not_a_model(path: &Path, kind: gguf::Kind) -> Failure {
    let message = format!("{} is no model: it is {}", path.display(), kind.description());
    let failure = Failure::new(Kind::NotAModel, message).details(json!({ "is": kind.as_str() }));
    match kind.setting() {
        Some(key) => {
            let setting = format!("{key}={}", path.display());
            failure.hint(Hint::run(
                "give it to the model it goes with",
                ["llamactl", "model", "set", "NAME", &setting],
            ))
        }
        None => failure.hint("add a file that holds the weights of a language model"),
    }
}

/// Names for a model by its file alone, the best first: as the file is called, or where a name
/// cannot hold that, as its header calls it, else by its directory or its architecture.
#[must_use]
pub fn names_of(path: &Path, file: &ModelFile) -> Vec<String> {
    if let Some(name) = name::from_whole_text(&gguf::split::stem(path)) {
        return vec![name];
    }
    let directory = path.parent().and_then(Path::file_name).map(OsStr::to_string_lossy);
    let texts = [file.title.as_deref(), directory.as_deref(), file.architecture.as_deref()];
    let Some(name) = texts.into_iter().flatten().find_map(name::from_whole_text) else {
        return vec![];
    };
    // Other files may have the same title.
    let quantized = file.quantization.as_ref().map(|kind| format!("{name}-{kind}"));
    std::iter::once(name).chain(quantized.and_then(|text| name::from_text(&text))).collect()
}

/// The file to give to llama-server.
fn main_part(facts: &Facts) -> Result<PathBuf, Failure> {
    let part = facts.path().map(Path::to_owned);
    part.ok_or_else(|| Failure::new(Kind::Internal, "the model's header names no file"))
}

/// The facts that everyone sees.
#[must_use]
pub fn model_file(facts: &Facts) -> ModelFile {
    ModelFile {
        size_bytes: facts.file_bytes,
        parts: facts.parts.iter().map(|part| WirePath(part.path.clone())).collect(),
        mmproj: facts.mmproj.clone().map(WirePath),
        architecture: facts.architecture.clone(),
        title: facts.name.clone(),
        parameters: Some(facts.parameter_count),
        quantization: facts.quantization.clone(),
        context_length: facts.context_length_trained,
        layers: facts.block_count,
        heads: facts.head_count,
        kv_heads: facts.head_count_kv,
        embedding_length: facts.embedding_length,
        experts: facts.expert_count,
        vocabulary: facts.vocabulary_size,
        tokenizer: facts.tokenizer_model.clone(),
        has_chat_template: facts.chat_template.is_some(),
    }
}

/// Which files were read.
#[must_use]
pub fn stamps(facts: &Facts) -> Vec<FileStamp> {
    facts.parts.iter().map(stamp).collect()
}

fn stamp(part: &Part) -> FileStamp {
    FileStamp {
        device: part.device.cast_signed(),
        inode: part.inode.cast_signed(),
        size_bytes: part.bytes.cast_signed(),
        mtime_ns: part.modified_ns,
    }
}

/// Why a file is no usable model, as a failure.
#[must_use]
pub fn gguf_failure(error: &GgufError) -> Failure {
    let reason = error.kind();
    if matches!(error.problem, Problem::PermissionDenied) {
        return unreadable(&error.path).details(json!({ "reason": reason }));
    }
    let kind = match reason {
        "file_not_found" => Kind::FileNotFound,
        "file_unreadable" => Kind::FileUnreadable,
        "not_a_file" => Kind::NotAFile,
        "not_gguf" | "file_empty" => Kind::NotGguf,
        "gguf_big_endian" | "gguf_version" => Kind::GgufVersion,
        "gguf_truncated" => Kind::GgufTruncated,
        "gguf_parts_missing" => Kind::SplitIncomplete,
        _ => Kind::GgufInvalid,
    };
    let failure = Failure::new(kind, error.to_string()).details(json!({ "reason": reason }));
    let is_import = Lookalike::is_import;
    match error.hint() {
        _ if matches!(&error.problem, Problem::NotGguf { looks_like: Some(like), .. } if is_import(like)) =>
        {
            let import = ["llamactl", "model", "import", &error.path.to_string_lossy()];
            failure.hint(Hint::run("take in what it says", import))
        }
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_files_or_what_its_header_says() {
        let file = |title: Option<&str>| ModelFile {
            title: title.map(str::to_owned),
            architecture: Some("llama".to_owned()),
            quantization: Some("Q8_0".to_owned()),
            ..ModelFile::default()
        };
        let names = |path: &str, title| names_of(Path::new(path), &file(title));
        assert_eq!(names("/m/My Model.gguf", Some("Other")), ["My-Model"]);
        let nihongo = ["Nihongo-7B", "Nihongo-7B-Q8_0"];
        assert_eq!(names("/m/日本語-Q8_0.gguf", Some("Nihongo 7B")), nihongo);
        assert_eq!(names("/m/Größe/Ünï.gguf", Some("Größe"))[0], "llama");
        assert_eq!(names("/m/acme/한국어.gguf", None)[0], "acme");
        assert!(names_of(Path::new("/日/本.gguf"), &ModelFile::default()).is_empty());
    }
}
