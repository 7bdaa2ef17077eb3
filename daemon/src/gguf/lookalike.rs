//! What a file that is not GGUF seems to be, judged by its first bytes: the mistakes people really make.

/// How many first bytes [`Lookalike::of`] wants to see; fewer will do.
pub(super) const PREVIEW_BYTES: usize = 512;

/// Longest safetensors header its own library accepts.
const SAFETENSORS_HEADER_MAX_BYTES: u64 = 100_000_000;

/// A kind of file that is often taken for a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lookalike {
    /// Weights in safetensors format.
    Safetensors,
    /// A zip archive, which is also what `torch.save` writes.
    Zip,
    /// A Python pickle, as older `PyTorch` files are.
    Pickle,
    /// Another archive or compressed file.
    Compressed,
    /// A web page, mostly an error or log-in page saved as the file.
    WebPage,
    /// The text file git leaves when the large file itself was not fetched.
    GitLfsPointer,
    /// Ollama's or another registry's manifest, which only names the model's blob.
    RegistryManifest,
    /// What Ollama is told of a model.
    Modelfile,
    /// How KoboldCpp was started.
    Kcpps,
    /// Another JSON text, such as a model's `config.json`.
    Json,
    /// A model file from before GGUF.
    OldGgml,
    /// Nothing but zeros: space reserved for a download.
    Zeros,
}

impl Lookalike {
    /// Judges by the first bytes of a file, [`PREVIEW_BYTES`] of them if there are as many.
    pub(super) fn of(first: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(first).to_ascii_lowercase();
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if first.len() >= 4 && first.iter().all(|&byte| byte == 0) {
            Some(Self::Zeros)
        } else if is_safetensors(first) {
            Some(Self::Safetensors)
        } else if first.starts_with(b"PK\x03\x04") || first.starts_with(b"PK\x05\x06") {
            Some(Self::Zip)
        } else if first.starts_with(b"\x80\x02") || first.starts_with(b"\x80\x04") {
            Some(Self::Pickle)
        } else if is_compressed(first) {
            Some(Self::Compressed)
        } else if [b"lmgg", b"fmgg", b"tjgg", b"algg"].iter().any(|magic| first.starts_with(*magic))
        {
            Some(Self::OldGgml)
        } else if text.starts_with("version https://git-lfs") {
            Some(Self::GitLfsPointer)
        } else if ["<!doctype html", "<html", "<head"].iter().any(|tag| text.starts_with(tag)) {
            Some(Self::WebPage)
        } else if text.starts_with("from ") || text.starts_with("# modelfile") {
            Some(Self::Modelfile)
        } else if text.starts_with('{') && text.contains("\"model_param\"") {
            Some(Self::Kcpps)
        } else if text.starts_with('{') {
            let is_manifest = text.contains("schemaversion") || text.contains("application/vnd.");
            Some(if is_manifest { Self::RegistryManifest } else { Self::Json })
        } else {
            None
        }
    }

    /// Whether `llamactl model import` takes it in.
    #[must_use]
    pub fn is_import(&self) -> bool {
        matches!(self, Self::Modelfile | Self::Kcpps)
    }

    /// Completes "not a GGUF file but …".
    pub(super) fn description(&self) -> &'static str {
        match self {
            Self::Safetensors => "a safetensors file",
            Self::Zip => "a zip archive (PyTorch saves those too)",
            Self::Pickle => "a Python pickle",
            Self::Compressed => "a compressed file",
            Self::WebPage => "a web page",
            Self::GitLfsPointer => "a git-lfs pointer",
            Self::RegistryManifest => "a registry manifest",
            Self::Modelfile => "a Modelfile of Ollama's",
            Self::Kcpps => "a file of KoboldCpp's",
            Self::Json => "a JSON text",
            Self::OldGgml => "a model file from before GGUF",
            Self::Zeros => "reserved space without contents",
        }
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Safetensors | Self::Zip | Self::Pickle => {
                "download the GGUF version of this model, or convert it with llama.cpp's convert_hf_to_gguf.py"
            }
            Self::Compressed => "unpack it first",
            Self::WebPage => {
                "the download answered with a page, often because it needs a log-in; download the file again"
            }
            Self::GitLfsPointer => "run `git lfs pull` in that repository to get the file itself",
            Self::RegistryManifest => {
                "the model is the blob this manifest names in its `model` layer; for Ollama it lies in models/blobs/sha256-…"
            }
            Self::Modelfile | Self::Kcpps => "it names the .gguf file",
            Self::Json => "name the .gguf file instead",
            Self::OldGgml => "llama.cpp no longer loads it; get a GGUF version of this model",
            Self::Zeros => "the download did not finish; get the file again",
        }
    }
}

/// safetensors: a 64-bit header length, then that many bytes of JSON.
fn is_safetensors(first: &[u8]) -> bool {
    let Some((length, rest)) = first.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    (2..=SAFETENSORS_HEADER_MAX_BYTES).contains(&length) && rest.first() == Some(&b'{')
}

fn is_compressed(first: &[u8]) -> bool {
    let magics: [&[u8]; 5] =
        [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"BZh"];
    magics.iter().any(|magic| first.starts_with(magic))
}

/// The first bytes of a file between quotes, everything but plain ASCII as `\xNN`.
pub(super) fn quoted(first: &[u8]) -> String {
    const SHOWN: usize = 16;
    let shown = first.get(..SHOWN).unwrap_or(first);
    format!("\"{}\"", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_mistakes_are_recognized() {
        let cases: [(&[u8], Option<Lookalike>); 16] = [
            (b"\x50\x01\0\0\0\0\0\0{\"__metadata__\":", Some(Lookalike::Safetensors)),
            (b"PK\x03\x04archive/data.pkl", Some(Lookalike::Zip)),
            (b"\x80\x02\x8a\nl\xfc", Some(Lookalike::Pickle)),
            (b"\x1f\x8b\x08", Some(Lookalike::Compressed)),
            (b"\n <!DOCTYPE HTML><html>", Some(Lookalike::WebPage)),
            (b"version https://git-lfs.github.com/spec/v1\noid", Some(Lookalike::GitLfsPointer)),
            (b"{\"schemaVersion\":2,\"mediaType\":", Some(Lookalike::RegistryManifest)),
            (b"{\n  \"architectures\": [", Some(Lookalike::Json)),
            (b"FROM ./x.gguf\n", Some(Lookalike::Modelfile)),
            (b"{\"model\": null, \"model_param\": \"", Some(Lookalike::Kcpps)),
            (b"tjgg\x03\0\0\0", Some(Lookalike::OldGgml)),
            (&[0; 64], Some(Lookalike::Zeros)),
            (b"hello", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff{", None),
            (b"", None),
            (b"\0", None),
        ];
        for (first, expected) in cases {
            assert_eq!(Lookalike::of(first), expected, "{}", quoted(first));
        }
    }

    #[test]
    fn a_quote_is_short_and_free_of_control_characters() {
        assert_eq!(quoted(b"\x1b[31m\"\0"), r#""\x1b[31m\"\x00""#);
        assert_eq!(quoted(&[b'a'; 100]), format!("\"{}\"", "a".repeat(16)));
    }
}
