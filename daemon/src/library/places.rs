//! Where other programs keep the models they downloaded.

use llamactl_protocol::library::ScanSource;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A directory, and whose layout it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory's path, absolute.
    pub path: PathBuf,
    /// Whose it is.
    pub source: ScanSource,
}

/// Where caches may be: first where a variable says, then where they are by default. A variable
/// that holds no absolute path is passed over, as the programs themselves do not agree on it.
#[must_use]
pub fn caches(variable: impl Fn(&str) -> Option<OsString>) -> Vec<Place> {
    let absolute =
        |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute()).map(tidy);
    let home = absolute("HOME");
    let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let xdg = absolute("XDG_CACHE_HOME");
    let candidates = [
        (ScanSource::Huggingface, absolute("HF_HUB_CACHE")),
        (ScanSource::Huggingface, absolute("HUGGINGFACE_HUB_CACHE")),
        (ScanSource::Huggingface, absolute("HF_HOME").map(|dir| dir.join("hub"))),
        (ScanSource::Huggingface, xdg.as_ref().map(|dir| dir.join("huggingface/hub"))),
        (ScanSource::Huggingface, in_home(".cache/huggingface/hub")),
        (ScanSource::LlamaCpp, absolute("LLAMA_CACHE")),
        (ScanSource::LlamaCpp, xdg.as_ref().map(|dir| dir.join("llama.cpp"))),
        (ScanSource::LlamaCpp, in_home(".cache/llama.cpp")),
        (ScanSource::Ollama, absolute("OLLAMA_MODELS")),
        (ScanSource::Ollama, in_home(".ollama/models")),
        (ScanSource::Ollama, Some(PathBuf::from("/usr/share/ollama/.ollama/models"))),
        (ScanSource::Lmstudio, in_home(".lmstudio/models")),
        (ScanSource::Lmstudio, in_home(".cache/lm-studio/models")),
    ];
    let mut places: Vec<Place> = Vec::new();
    for (source, path) in candidates {
        if let Some(path) = path
            && !places.iter().any(|place| place.path == path)
        {
            places.push(Place { path, source });
        }
    }
    places
}

/// The same path without repeated and trailing slashes, so that two spellings are one.
#[must_use]
pub fn tidy(path: impl AsRef<Path>) -> PathBuf {
    path.as_ref().components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Vec<(ScanSource, String)> {
        caches(|name| {
            let known = variables.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| OsString::from(value))
        })
        .into_iter()
        .map(|place| (place.source, place.path.display().to_string()))
        .collect()
    }

    fn of(source: ScanSource, places: &[(ScanSource, String)]) -> Vec<&str> {
        places.iter().filter(|place| place.0 == source).map(|place| place.1.as_str()).collect()
    }

    #[test]
    fn defaults_lie_below_the_home() {
        let places = found(&[("HOME", "/h")]);
        assert_eq!(of(ScanSource::Huggingface, &places), ["/h/.cache/huggingface/hub"]);
        assert_eq!(of(ScanSource::LlamaCpp, &places), ["/h/.cache/llama.cpp"]);
        assert_eq!(
            of(ScanSource::Ollama, &places),
            ["/h/.ollama/models", "/usr/share/ollama/.ollama/models"]
        );
        assert_eq!(
            of(ScanSource::Lmstudio, &places),
            ["/h/.lmstudio/models", "/h/.cache/lm-studio/models"]
        );
    }

    #[test]
    fn variables_come_first_and_no_place_twice() {
        let places = found(&[
            ("HOME", "/h"),
            ("HF_HUB_CACHE", "/hub/"),
            ("HF_HOME", "/hf"),
            ("XDG_CACHE_HOME", "/h/.cache"),
            ("LLAMA_CACHE", "relative"),
            ("OLLAMA_MODELS", "/o"),
        ]);
        assert_eq!(
            of(ScanSource::Huggingface, &places),
            ["/hub", "/hf/hub", "/h/.cache/huggingface/hub"]
        );
        assert_eq!(of(ScanSource::LlamaCpp, &places), ["/h/.cache/llama.cpp"]);
        assert_eq!(of(ScanSource::Ollama, &places)[0], "/o");
    }

    #[test]
    fn without_a_home_there_is_still_ollamas_own() {
        assert_eq!(found(&[]).len(), 1);
    }
}
