//! Which projector goes with which model, where nobody said. Pure.
//!
//! A model with the wrong projector does not start, so what is set without being asked for must be
//! certain. [`gguf::choose_projector`] finds a likely one; here it is held against the names of
//! the other models in the directory.

use super::naming::quantization_in;
use crate::gguf::{self, split};
use std::path::Path;

/// The names of files that lie together, told apart by what their headers say they are for.
#[derive(Clone, Debug, Default)]
pub(super) struct Together {
    /// Models; what only goes with a model is none of them.
    pub(super) models: Vec<String>,
    /// Projectors.
    pub(super) projectors: Vec<String>,
}

/// How a model and its projector find each other by their file names.
pub(super) type Pairing = for<'a> fn(&str, &'a Together) -> Option<&'a str>;

/// The projector that certainly goes with `model`.
pub(super) fn projector_for<'a>(model: &str, together: &'a Together) -> Option<&'a str> {
    let Together { models, projectors } = together;
    let chosen = gguf::choose_projector(model, models, projectors)?;
    let ours = base(model);
    let mut others = models.iter().map(|name| base(name)).filter(|other| *other != ours);
    let certain = match subject(chosen) {
        // It says nothing: then everything here must be one model.
        None => others.next().is_none(),
        Some(subject) => {
            let fit = fit(&subject, &ours);
            fit > 0 && others.all(|other| self::fit(&subject, &other) < fit)
        }
    };
    certain.then_some(chosen)
}

/// The projector of `model` in llama.cpp's flat cache, where the names of files begin with the
/// repository: `ORG_REPO_file.gguf` goes with `ORG_REPO_mmproj-….gguf`.
pub(super) fn projector_of_prefix<'a>(model: &str, together: &'a Together) -> Option<&'a str> {
    let prefix = |name: &str| {
        let at = name.to_ascii_lowercase().find("mmproj")?;
        name.get(..at).filter(|prefix| prefix.ends_with('_')).map(str::to_owned)
    };
    let mut fitting = together
        .projectors
        .iter()
        .filter(|name| prefix(name).is_some_and(|prefix| model.starts_with(&prefix)));
    let first = fitting.next()?;
    // Of several of one repository any will do, and F16 runs everywhere.
    let is_f16 = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.contains("f16") && !name.contains("bf16")
    };
    Some(fitting.find(|name| is_f16(name)).filter(|_| !is_f16(first)).unwrap_or(first))
}

/// The model that all of these are files of; `None` where they are of several, or of none.
pub(super) fn only_model(models: &[String]) -> Option<&str> {
    let first = models.first()?;
    let ours = base(first);
    models.iter().all(|other| base(other) == ours).then_some(first)
}

/// How well a projector's subject is a model's name: where one begins with the other, how many
/// bytes they share, and one more where they are the same. Either may have its publisher before it:
/// `google_gemma-3-4b-it`.
fn fit(subject: &str, base: &str) -> usize {
    let bare = |name: &str| name.split_once('_').map_or("", |(_, name)| name).to_owned();
    let is_published = |one: &str, other: &str| bare(one) == other && !other.is_empty();
    if is_published(subject, base) || is_published(base, subject) {
        return base.len();
    }
    if subject == base {
        base.len().saturating_add(1)
    } else if subject.starts_with(base) || base.starts_with(subject) {
        base.len().min(subject.len())
    } else {
        0
    }
}

/// A model's name without quantization and part number, in lower case.
fn base(name: &str) -> String {
    let stem = split::stem(Path::new(name)).to_lowercase();
    let base = quantization_in(&stem).0;
    // Quantized by weights, which is of no matter for a projector.
    let weighed = [".i1", "-i1", ".imat", "-imat"].iter().find_map(|end| base.strip_suffix(end));
    weighed.unwrap_or(base).to_owned()
}

/// Words by which a projector says no more than what it is.
const WHAT_IT_IS: [&str; 9] =
    ["model", "mm", "projector", "vision", "visual", "image", "audio", "clip", "encoder"];

/// What a projector's name says it is for, in lower case.
fn subject(projector: &str) -> Option<String> {
    const SEPARATORS: [char; 3] = ['-', '_', '.'];
    let base = base(projector);
    let bare = base.replacen("mmproj", "", 1);
    let bare = bare.trim_matches(SEPARATORS);
    let bare = quantization_in(bare).0.trim_matches(SEPARATORS);
    // `mmproj-model-f16.gguf` is what converters write by default.
    let says_nothing =
        bare.split(SEPARATORS).all(|word| word.is_empty() || WHAT_IT_IS.contains(&word))
            || quantization_in(&format!("x-{bare}")).1.is_some();
    (!says_nothing).then(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(model: &str, others: &[&str]) -> Option<String> {
        projector_for(model, &together(&[others, &[model]].concat())).map(str::to_owned)
    }

    fn together(names: &[&str]) -> Together {
        let names = names.iter().map(|&name| name.to_owned());
        let (projectors, models) = names.partition(|name| gguf::is_projector(name));
        Together { models, projectors }
    }

    #[test]
    fn a_nameless_projector_goes_with_the_only_model() {
        for projector in ["mmproj-F16.gguf", "mmproj.gguf", "mmproj-model-f16.gguf"] {
            let others = [projector, "gemma-3-4b-it-Q8_0.gguf"];
            assert_eq!(paired("gemma-3-4b-it-Q4_K_M.gguf", &others).as_deref(), Some(projector));
            // Both begin with "qwen", which is not enough to bet a start on.
            assert_eq!(paired("qwen3-8b.gguf", &[projector, "qwen2.5-vl-7b.gguf"]), None);
        }
    }

    #[test]
    fn a_named_projector_goes_with_the_model_of_that_name_only() {
        let projector = "mmproj-Qwen2.5-VL-7B-Instruct-f16.gguf";
        let vision = "Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf";
        assert_eq!(
            paired(vision, &[projector, "Qwen3-8B-Q4_K_M.gguf"]).as_deref(),
            Some(projector)
        );
        assert_eq!(paired("Qwen3-8B-Q4_K_M.gguf", &[projector, vision]), None);
        assert_eq!(paired("Qwen3-8B-Q4_K_M.gguf", &[projector]), None);
        let behind = "llava-v1.5-7b-mmproj-f16.gguf";
        assert_eq!(paired("llava-v1.5-7b-Q4_K.gguf", &[behind]).as_deref(), Some(behind));
    }

    #[test]
    fn a_name_that_only_begins_the_same_gives_way() {
        let projector = "mmproj-gemma-3-4b-it-f16.gguf";
        let (plain, aware) = ("gemma-3-4b-it-Q4_0.gguf", "gemma-3-4b-it-qat-Q4_0.gguf");
        assert_eq!(paired(plain, &[projector, aware]).as_deref(), Some(projector));
        assert_eq!(paired(aware, &[projector, plain]), None);
        assert_eq!(paired(aware, &[projector]).as_deref(), Some(projector));
    }

    #[test]
    fn a_projector_is_known_however_its_publisher_calls_it() {
        for (model, projector) in [
            ("gemma-3-4b-it-Q4_K_M.gguf", "mmproj-google_gemma-3-4b-it-f16.gguf"),
            ("Qwen2.5-VL-7B.i1-Q4_K_M.gguf", "Qwen2.5-VL-7B.mmproj-f16.gguf"),
            ("model.gguf", "vision-encoder-f16.gguf"),
        ] {
            let other = "Qwen2.5-VL-7B.Q4_K_M.gguf".to_owned();
            let of =
                |models: Vec<String>| Together { models, projectors: vec![projector.to_owned()] };
            let alone = of(vec![model.to_owned()]);
            assert_eq!(projector_for(model, &alone), Some(projector));
            let says_nothing = projector.starts_with("vision");
            let both = of(vec![model.to_owned(), other]);
            assert_eq!(projector_for(model, &both).is_none(), says_nothing, "{model}");
        }
    }

    #[test]
    fn in_the_flat_cache_the_repository_decides() {
        let names = [
            "ggml-org_gemma-3-4b-it-GGUF_gemma-3-4b-it-Q4_K_M.gguf",
            "ggml-org_gemma-3-4b-it-GGUF_mmproj-model-f16.gguf",
            "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf",
        ];
        let together = together(&names);
        assert_eq!(projector_of_prefix(names[0], &together), Some(names[1]));
        assert_eq!(projector_of_prefix(names[2], &together), None);
    }
}
