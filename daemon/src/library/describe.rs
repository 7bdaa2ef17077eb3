//! What a header says, in the protocol's words.

use crate::gguf::{Facts, GgufError, Part};
use crate::store::registry::FileStamp;
use llamactl_protocol::model::ModelFile;
use llamactl_protocol::{Failure, Kind, WirePath};
use serde_json::json;

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
    let kind = match reason {
        "file_not_found" => Kind::FileNotFound,
        "permission_denied" | "file_unreadable" => Kind::FileUnreadable,
        "not_a_file" => Kind::NotAFile,
        "not_gguf" | "file_empty" => Kind::NotGguf,
        "gguf_big_endian" | "gguf_version" => Kind::GgufVersion,
        "gguf_truncated" => Kind::GgufTruncated,
        "gguf_parts_missing" => Kind::SplitIncomplete,
        _ => Kind::GgufInvalid,
    };
    let failure = Failure::new(kind, error.to_string()).details(json!({ "reason": reason }));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
