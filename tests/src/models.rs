//! The model files tests use, written once and shared.
//!
//! They lie below `target/test-models/KEY`, where KEY is a digest of the code that writes them:
//! when that code changes, so does the directory. Homes get hard links.

use crate::artifacts;
use crate::gguf::{Preset, TinyModel};
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A kind of model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestModel {
    /// 1.6 MB; answers in readable sentences and ends its turns. Loads in well under a second.
    Tiny,
    /// The same, but talks until it is stopped or its context is full.
    NeverStop,
    /// 53 MB; loading and each token take a noticeable moment.
    Medium,
    /// As [`TestModel::Medium`], but talks until it is stopped.
    MediumNeverStop,
    /// A tiny one in three parts.
    Split,
    /// A whole file of an architecture no llama-server knows.
    WrongArchitecture,
    /// A tiny one whose last bytes are missing.
    Truncated,
    /// Metadata and vocabulary without weights.
    VocabularyOnly,
    /// A `LoRA` adapter.
    Lora,
    /// A projector for images.
    Projector,
}

const SPLIT_PARTS: u16 = 3;

impl TestModel {
    /// The shared file, written when it is not there yet; of a split model the first part. It is
    /// read-only.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn shared(self) -> PathBuf {
        let path = cache_dir().join(self.loaded_name());
        if !path.is_file() {
            self.write().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        path
    }

    /// Links it, with all its parts, into `dir`; the path to load.
    pub(crate) fn link_into(self, dir: &Path) -> PathBuf {
        let shared = self.shared();
        for name in self.file_names() {
            let (from, to) = (shared.with_file_name(&name), dir.join(&name));
            if !to.exists() {
                fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).unwrap();
            }
        }
        dir.join(self.loaded_name())
    }

    /// The names of its files, in order.
    #[must_use]
    pub fn file_names(self) -> Vec<String> {
        let stem = self.stem();
        match self {
            TestModel::Split => (1..=SPLIT_PARTS)
                .map(|part| format!("{stem}-{part:05}-of-{SPLIT_PARTS:05}.gguf"))
                .collect(),
            _ => vec![format!("{stem}.gguf")],
        }
    }

    fn loaded_name(self) -> String {
        self.file_names().remove(0)
    }

    fn stem(self) -> &'static str {
        match self {
            TestModel::Tiny => "tiny",
            TestModel::NeverStop => "never-stop",
            TestModel::Medium => "medium",
            TestModel::MediumNeverStop => "medium-never-stop",
            TestModel::Split => "split",
            TestModel::WrongArchitecture => "wrong-architecture",
            TestModel::Truncated => "truncated",
            TestModel::VocabularyOnly => "vocabulary-only",
            TestModel::Lora => "lora",
            TestModel::Projector => "mmproj",
        }
    }

    fn contents(self) -> TinyModel {
        let tiny = TinyModel::new(Preset::Tiny);
        match self {
            TestModel::Tiny | TestModel::Truncated => tiny,
            TestModel::NeverStop => tiny.never_stop(true),
            TestModel::Medium => TinyModel::new(Preset::Medium),
            TestModel::MediumNeverStop => TinyModel::new(Preset::Medium).never_stop(true),
            TestModel::Split => tiny.split(SPLIT_PARTS),
            TestModel::WrongArchitecture => tiny.architecture("nonesuch"),
            TestModel::VocabularyOnly => tiny.vocab_only(),
            TestModel::Lora => tiny.lora(),
            TestModel::Projector => tiny.mmproj_stub(),
        }
    }

    /// Writes it into a directory of its own and moves it into place, so that several test
    /// processes can do so at once.
    fn write(self) -> io::Result<()> {
        let cache = cache_dir();
        fs::create_dir_all(&cache)?;
        let fresh = tempfile::tempdir_in(&cache)?;
        let path = self.contents().write(fresh.path().join(format!("{}.gguf", self.stem())))?;
        if self == TestModel::Truncated {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(file.metadata()?.len() / 2)?;
        }
        // The part that is looked for goes last.
        for name in self.file_names().iter().rev() {
            let written = fresh.path().join(name);
            fs::set_permissions(&written, Permissions::from_mode(0o444))?;
            fs::rename(written, cache.join(name))?;
        }
        Ok(())
    }
}

/// The code whose output the shared files are.
const WRITER: &[&str] = &[
    include_str!("gguf/bigram.rs"),
    include_str!("gguf/corpus.rs"),
    include_str!("gguf/f16.rs"),
    include_str!("gguf/file.rs"),
    include_str!("gguf/noise.rs"),
    include_str!("gguf/tiny_model.rs"),
    include_str!("gguf/vocabulary.rs"),
    include_str!("models.rs"),
];

fn cache_dir() -> PathBuf {
    // FNV-1a: it only has to differ when the code does.
    let digest = WRITER
        .iter()
        .flat_map(|source| source.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    artifacts::target_dir().join("test-models").join(format!("{digest:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_named_is_written_and_linked() {
        let dir = tempfile::tempdir().unwrap();
        for model in [TestModel::Split, TestModel::Truncated, TestModel::Projector] {
            let path = model.link_into(dir.path());
            assert!(path.is_file(), "{}", path.display());
            for name in model.file_names() {
                assert!(dir.path().join(&name).is_file(), "{name}");
            }
        }
        assert!(
            TestModel::Truncated.shared().metadata().unwrap().len()
                < TestModel::Tiny.shared().metadata().unwrap().len()
        );
    }
}
