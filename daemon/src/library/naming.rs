//! What a model is called that nobody has named, from where it was found. Pure.

use crate::gguf::split;
use crate::models::names_of;
use llamactl_protocol::model::ModelFile;
use llamactl_protocol::name;
use std::path::Path;

/// What the place of a file says about its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// Nothing but the file's own name.
    Stem,
    /// The repository it is from, `ORG/REPO`.
    Repo(String),
    /// All of it, `qwen3:8b`.
    Whole(String),
}

/// Names for a file, the best first; each is valid, and there is at least one.
pub(super) fn proposals(naming: &Naming, path: &Path, file: &ModelFile) -> Vec<String> {
    let mut names = match naming {
        Naming::Stem => names_of(path, file),
        // The file is called by its hash, which names nothing.
        Naming::Whole(whole) => name::from_text(whole).into_iter().collect(),
        Naming::Repo(repo) => {
            let stem = split::stem(path);
            let tag = quantization_in(&stem).1.or_else(|| file.quantization.clone());
            let tags = tag.into_iter().chain(names_of(path, file));
            let names = tags.filter_map(|tag| name::from_whole_text(&format!("{repo}:{tag}")));
            names.collect()
        }
    };
    if names.is_empty() {
        names.extend(names_of(path, file));
    }
    if names.is_empty() {
        names.push("model".to_owned());
    }
    names
}

/// Takes the quantization off the end of a file's stem: `Qwen3-8B-Q4_K_M` is `Qwen3-8B` in
/// `Q4_K_M`, as is `qwen3-8b.q4_k_m`. The name of the quantization is in capitals.
pub(super) fn quantization_in(stem: &str) -> (&str, Option<String>) {
    let Some((base, last)) = split_last(stem) else { return (stem, None) };
    // How it was quantized stands behind.
    if ["imat", "imatrix"].contains(&last.to_ascii_lowercase().as_str()) {
        let (before, tag) = quantization_in(base);
        return if tag.is_some() { (before, tag) } else { (stem, None) };
    }
    if !is_quantization(last) {
        return (stem, None);
    }
    let tag = last.to_ascii_uppercase();
    // Unsloth's dynamic ones are told from the plain ones by a word before.
    match split_last(base) {
        Some((base, word)) if word.eq_ignore_ascii_case("ud") => (base, Some(format!("UD-{tag}"))),
        _ => (base, Some(tag)),
    }
}

fn split_last(text: &str) -> Option<(&str, &str)> {
    let (base, last) = text.rsplit_once(['-', '.'])?;
    (!base.is_empty()).then_some((base, last))
}

fn is_quantization(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    if matches!(word.as_str(), "f16" | "f32" | "bf16" | "fp16" | "fp32") {
        return true;
    }
    let digits = ["iq", "tq", "q", "mxfp", "nvfp"].iter().find_map(|kind| word.strip_prefix(kind));
    digits.is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_digit())
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizations_at_the_end_of_a_stem() {
        for (stem, base, tag) in [
            ("Qwen3-8B-Q4_K_M", "Qwen3-8B", Some("Q4_K_M")),
            ("qwen2.5-0.5b-instruct-q4_k_m", "qwen2.5-0.5b-instruct", Some("Q4_K_M")),
            ("tinyllama.Q8_0", "tinyllama", Some("Q8_0")),
            ("Qwen3-8B-UD-IQ2_XXS", "Qwen3-8B", Some("UD-IQ2_XXS")),
            ("gpt-oss-20b-mxfp4", "gpt-oss-20b", Some("MXFP4")),
            ("Odd-Q4_K_M-imat", "Odd", Some("Q4_K_M")),
            ("odd-imat", "odd-imat", None),
            ("gemma-3-4b-it-bf16", "gemma-3-4b-it", Some("BF16")),
            ("Qwen3-8B", "Qwen3-8B", None),
            ("llama-3.1", "llama-3.1", None),
            ("model-quick", "model-quick", None),
            ("q4_0", "q4_0", None),
        ] {
            assert_eq!(quantization_in(stem), (base, tag.map(str::to_owned)), "{stem}");
        }
    }

    #[test]
    fn names_as_people_use_them() {
        let named = |naming: &Naming, path: &str, quantization: Option<&str>| {
            let quantization = quantization.map(str::to_owned);
            proposals(naming, Path::new(path), &ModelFile { quantization, ..ModelFile::default() })
        };
        let repo = Naming::Repo("unsloth/Qwen3-8B-GGUF".into());
        assert_eq!(
            named(&repo, "/s/Qwen3-8B-Q4_K_M.gguf", Some("Q4_K_M")),
            ["unsloth/Qwen3-8B-GGUF:Q4_K_M", "unsloth/Qwen3-8B-GGUF:Qwen3-8B-Q4_K_M"]
        );
        assert_eq!(
            named(&repo, "/s/Q8_0/Qwen3-8B-Q8_0-00001-of-00002.gguf", None)[0],
            "unsloth/Qwen3-8B-GGUF:Q8_0"
        );
        assert_eq!(named(&repo, "/s/model.gguf", Some("F16"))[0], "unsloth/Qwen3-8B-GGUF:F16");
        assert_eq!(named(&repo, "/s/model.gguf", None), ["unsloth/Qwen3-8B-GGUF:model"]);
        assert_eq!(named(&Naming::Stem, "/m/My Model.gguf", Some("F16")), ["My-Model"]);
        assert_eq!(named(&Naming::Stem, "/日/日本.gguf", None), ["model"]);
        let repo = Naming::Repo("会社/モデル".into());
        assert_eq!(named(&repo, "/m/small.gguf", Some("F16")), ["small"]);
        let whole = Naming::Whole("qwen3:8b".into());
        assert_eq!(named(&whole, "/o/blobs/sha256-ab", None), ["qwen3:8b"]);
    }
}
