//! Which multimodal projector in a directory goes with a model: by name, as people publish them.
//!
//! `Qwen2.5-VL-7B-Q4_K_M.gguf` lies beside `mmproj-F16.gguf`, or beside `Qwen2.5-VL-7B-mmproj.gguf` and the files of other
//! models. A wrong projector keeps llama-server from starting, so a projector without the model's name in its own is
//! chosen only where all models of the directory seem to be the same one.

use super::split;
use std::path::Path;

/// Names that start with this many equal characters are taken to be about the same model.
const SAME_MODEL_CHARACTERS: usize = 4;

/// Chooses the one of `projectors` for the model file `model`; both lie in one directory, as do `models`.
#[must_use]
pub fn choose<'a>(model: &str, models: &[String], projectors: &'a [String]) -> Option<&'a str> {
    let stem = split::stem(Path::new(model)).to_lowercase();
    let is_alone = !models.iter().any(|name| is_stranger(name, &stem));
    projectors
        .iter()
        .map(|name| (likeness(name, &stem), name))
        .filter(|&(likeness, _)| is_alone || likeness >= SAME_MODEL_CHARACTERS)
        .max_by(|(likeness, name), (other_likeness, other_name)| {
            // F16 runs everywhere; after that any fixed order will do.
            (likeness, is_f16(name), other_name).cmp(&(other_likeness, is_f16(other_name), name))
        })
        .map(|(_, name)| name.as_str())
}

/// Whether a file beside a model is about another, by its name.
pub(super) fn is_stranger(name: &str, stem: &str) -> bool {
    common_prefix(&name.to_lowercase(), &stem.to_lowercase())
        < SAME_MODEL_CHARACTERS.min(stem.chars().count())
}

/// Whether a file of this name is a projector.
#[must_use]
pub fn is_projector(name: &str) -> bool {
    is_gguf(name) && name.to_lowercase().contains("mmproj")
}

fn is_gguf(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Length of the start that a projector's name shares with the model's, with or without a leading `mmproj-`
/// and the publisher's name behind that.
fn likeness(projector: &str, stem: &str) -> usize {
    let projector = projector.to_lowercase();
    let bare =
        projector.strip_prefix("mmproj").unwrap_or(&projector).trim_start_matches(['-', '_', '.']);
    let of_publisher = bare.split_once('_').map_or(0, |(_, name)| common_prefix(name, stem));
    common_prefix(&projector, stem).max(common_prefix(bare, stem)).max(of_publisher)
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

fn is_f16(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("f16") && !name.contains("bf16")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(model: &str, others: &[&str]) -> Option<String> {
        let mut names: Vec<String> = others.iter().map(|&name| name.to_owned()).collect();
        names.push(model.to_owned());
        let (projectors, models): (Vec<_>, Vec<_>) =
            names.into_iter().filter(|name| is_gguf(name)).partition(|name| is_projector(name));
        choose(model, &models, &projectors).map(str::to_owned)
    }

    #[test]
    fn the_only_projector_beside_the_only_model() {
        assert_eq!(
            chosen("gemma-3.gguf", &["mmproj-F16.gguf", "README.md"]).as_deref(),
            Some("mmproj-F16.gguf")
        );
        assert_eq!(chosen("m.gguf", &["mmproj.GGUF"]).as_deref(), Some("mmproj.GGUF"));
    }

    #[test]
    fn the_longest_shared_name_wins() {
        let others =
            ["mmproj-F16.gguf", "mmproj-gemma-3-4b-f16.gguf", "gemma-3-12b-it-mmproj.gguf"];
        assert_eq!(
            chosen("gemma-3-12b-it-Q4_K_M.gguf", &others).as_deref(),
            Some("gemma-3-12b-it-mmproj.gguf")
        );
        assert_eq!(
            chosen("gemma-3-4b-Q4_K_M.gguf", &others).as_deref(),
            Some("mmproj-gemma-3-4b-f16.gguf")
        );
    }

    #[test]
    fn f16_is_preferred_then_the_first_name() {
        let others = ["mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"];
        assert_eq!(chosen("a.gguf", &others).as_deref(), Some("mmproj-F16.gguf"));
        assert_eq!(
            chosen("a.gguf", &["mmproj-b.gguf", "mmproj-c.gguf"]).as_deref(),
            Some("mmproj-b.gguf")
        );
    }

    #[test]
    fn a_nameless_projector_among_different_models_belongs_to_none() {
        assert_eq!(chosen("qwen3-8b.gguf", &["gemma-3.gguf", "mmproj-F16.gguf"]), None);
        assert_eq!(chosen("qwen3-8b.gguf", &["gemma-3.gguf", "mmproj-gemma-3.gguf"]), None);
        // Two quantizations of one model share it.
        assert_eq!(
            chosen("qwen3-8b-Q8_0.gguf", &["qwen3-8b-Q4_K_M.gguf", "mmproj-F16.gguf"]).as_deref(),
            Some("mmproj-F16.gguf")
        );
    }

    #[test]
    fn the_other_parts_of_a_split_model_are_no_strangers() {
        let others = ["q-00002-of-00002.gguf", "mmproj-F16.gguf"];
        assert_eq!(chosen("q-00001-of-00002.gguf", &others).as_deref(), Some("mmproj-F16.gguf"));
    }
}
