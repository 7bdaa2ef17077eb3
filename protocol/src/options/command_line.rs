//! llama-server's own command line, read as settings.
//!
//! ```text
//!   -ngl 99 -c 8192 -m /m/x.gguf ─▶ Setting{gpu-layers, 99}, Setting{ctx-size, 8192}, Path(/m/x.gguf)
//! ```

use super::{Build, Setting, Told, Values, catalogue, find};
use crate::WirePath;
use crate::failure::{Failure, Kind};
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Options that were switches before they took a value, and what they say when they stand alone.
/// `--flash-attn` took none until August 2025, and most lines that people keep have it so; `--numa` until
/// February 2024.
const ONCE_SWITCHES: &[(&str, &str)] = &[("flash-attn", "on"), ("numa", "distribute")];

/// Options that took a file and its scale as two arguments before they took `FILE:SCALE`.
const ONCE_PAIRS: &[&str] = &["lora-scaled", "control-vector-scaled"];

/// What an argument, with what belongs to it, says.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// A setting and its checked value.
    Setting {
        /// The setting's key.
        key: String,
        /// The flag as it stood there.
        flag: String,
        /// What the flag gave it.
        value: Value,
    },
    /// The model's file.
    Path(WirePath),
    /// The name clients ask for; llama-server takes several, separated by commas.
    Alias(String),
    /// An option that cannot be set, or a value it does not take.
    Refused {
        /// The flag as it stood there.
        flag: String,
        /// Why it is refused.
        failure: Failure,
    },
    /// An option nobody knows, with what seems to be its value.
    Unknown {
        /// The flag as it stood there.
        flag: String,
        /// The arguments behind it that do not look like flags.
        values: Vec<WirePath>,
    },
}

/// Reads arguments, the program's name not among them. Relative paths are taken from `base`. A
/// flag given twice comes twice; [`collect`] puts them together.
#[must_use]
pub fn read(arguments: &[WirePath], build: Option<&Build>, base: &Path) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let text = argument.to_string();
        // llama-server knows no `--flag=value`, but people write it.
        let (flag, joined) = match text.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") || by_flag(flag, build).is_some() => {
                (flag.to_owned(), Some(value))
            }
            _ => (text.clone(), None),
        };
        let Some((setting, on)) = by_flag(&flag, build) else {
            let mut values: Vec<WirePath> = joined.into_iter().map(WirePath::from).collect();
            while values.is_empty()
                && let Some(value) = rest.next_if(|next| !looks_like_flag(next))
            {
                values.push(value.clone());
            }
            words.push(Word::Unknown { flag, values });
            continue;
        };
        if !on || !setting.takes_argument() {
            words.push(word(&setting, flag, json!(on), build, base));
            continue;
        }
        let count = if setting.takes_two_arguments() { 2 } else { 1 };
        let mut values: Vec<WirePath> = joined.into_iter().map(WirePath::from).collect();
        // An option that is known is not the value of the one before, unless it can be.
        let is_no_value = |next: &&WirePath| {
            by_flag(&next.to_string(), build).is_some()
                && matches!(
                    word(&setting, String::new(), json!(next), build, base),
                    Word::Refused { .. }
                )
        };
        while values.len() < count
            && let Some(value) = rest.next_if(|next| !is_no_value(next))
        {
            values.push(value.clone());
        }
        if ONCE_PAIRS.contains(&setting.key)
            && let [file] = values.as_mut_slice()
            && !file.as_bytes().contains(&b':')
            && let Some(scale) = rest.next_if(|next| next.to_string().parse::<f64>().is_ok())
        {
            *file = WirePath::from(format!("{file}:{scale}").as_str());
        }
        if values.is_empty()
            && let Some((_, alone)) = ONCE_SWITCHES.iter().find(|(key, _)| *key == setting.key)
        {
            words.push(word(&setting, flag, json!(alone), build, base));
            continue;
        }
        if values.len() < count {
            let failure = Failure::new(Kind::InvalidValue, format!("{flag} has no value"))
                .details(json!({ "key": setting.key }));
            words.push(Word::Refused { flag, failure });
            continue;
        }
        let value = match values.as_slice() {
            [one] if setting.takes_path() => absolute(one, &setting, base),
            // One flag, one value: a comma in it is part of it.
            [one] if setting.told == Told::Repeated => json!([one]),
            [one] => json!(one),
            several => json!(several),
        };
        words.push(word(&setting, flag, value, build, base));
    }
    words
}

fn word(
    setting: &Setting<'_>,
    flag: String,
    value: Value,
    build: Option<&Build>,
    base: &Path,
) -> Word {
    let text = || value.as_str().unwrap_or_default().to_owned();
    match setting.key {
        "model" => {
            let path: WirePath = serde_json::from_value(value).unwrap_or_else(|_| "".into());
            return Word::Path(from_base(base, path.as_path()));
        }
        "alias" => return Word::Alias(text()),
        _ => {}
    }
    let checked = find(setting.key, build)
        .and_then(|it| it.check(&value).map_err(|failure| unsaid(setting, failure)));
    match checked {
        Ok(value) => Word::Setting { key: setting.key.to_owned(), flag, value },
        Err(failure) => Word::Refused { flag, failure },
    }
}

/// A secret that stood on a command line is not repeated.
fn unsaid(setting: &Setting<'_>, failure: Failure) -> Failure {
    if setting.is_secret() { Failure { kind: Kind::OptionRefused, ..failure } } else { failure }
}

/// The setting a flag means, and whether the flag switches it on or gives its value.
fn by_flag<'a>(flag: &str, build: Option<&'a Build>) -> Option<(Setting<'a>, bool)> {
    let dashed = if flag.starts_with("--") { flag.replace('_', "-") } else { flag.to_owned() };
    let long = dashed.strip_prefix("--");
    let short = dashed.strip_prefix('-').filter(|_| long.is_none());
    let listens = |setting: &Setting<'_>| ["host", "port"].contains(&setting.key);
    for setting in catalogue().filter(|setting| !setting.is_own() || listens(setting)) {
        let is_long = long.is_some_and(|long| {
            (setting.key == long && !setting.renamed()) || setting.long.contains(&long)
        });
        if is_long || short.is_some_and(|short| setting.short.contains(&short)) {
            return Some((*setting, true));
        }
        if setting.negations.contains(&dashed) {
            return Some((*setting, false));
        }
    }
    let bare = dashed.trim_start_matches('-');
    let option = build?.option(bare).filter(|option| !option.removed && dashed.starts_with('-'))?;
    Some((option.inferred(), !option.negations.contains(&dashed)))
}

/// Whether an argument begins with a dash and is no number.
fn looks_like_flag(argument: &WirePath) -> bool {
    let text = argument.to_string();
    text.starts_with('-') && text.parse::<f64>().is_err()
}

/// A path as it is from `base`, without the `.` people write.
fn from_base(base: &Path, path: &Path) -> WirePath {
    WirePath(base.join(path).components().collect())
}

/// A path, or several, as whoever typed them meant them.
fn absolute(typed: &WirePath, setting: &Setting<'_>, base: &Path) -> Value {
    let one = |bytes: &[u8]| json!(from_base(base, Path::new(std::ffi::OsStr::from_bytes(bytes))));
    match setting.values {
        Values::List { separator, .. } => {
            let mut buffer = [0; 4];
            let separator = separator.encode_utf8(&mut buffer).as_bytes();
            let parts = typed.as_bytes().split(|byte| separator.contains(byte));
            parts.map(one).collect()
        }
        _ => one(typed.as_bytes()),
    }
}

/// Puts words together as llama-server does: the values of some lists follow each other, of
/// anything else the last counts.
pub fn collect(settings: &mut super::Settings, key: String, value: Value) {
    let is_list = catalogue::of_key(&key).is_some_and(Setting::adds_up);
    match (settings.get_mut(&key), value) {
        (Some(Value::Array(there)), Value::Array(more)) if is_list => there.extend(more),
        (_, value) => {
            settings.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Settings;

    fn words(line: &str) -> Vec<Word> {
        let arguments: Vec<WirePath> =
            shlex::split(line).unwrap().iter().map(WirePath::from).collect();
        read(&arguments, None, Path::new("/home/me"))
    }

    fn settings(line: &str) -> Settings {
        let mut settings = Settings::new();
        for word in words(line) {
            match word {
                Word::Setting { key, value, .. } => collect(&mut settings, key, value),
                other => panic!("{other:?}"),
            }
        }
        settings
    }

    #[test]
    fn flags_are_settings() {
        assert_eq!(
            json!(settings("-ngl 99 -c 8192 --gpu-layers=all")),
            json!({ "gpu-layers": "all", "ctx-size": 8192 })
        );
    }

    #[test]
    fn a_flag_given_twice_counts_as_llama_server_counts_it() {
        assert_eq!(
            json!(settings(
                "-r 'Well, no' -r '###' -ts 3,1 -ts 1 --no-mmap --mmap --temp 1 --temp 0.5"
            )),
            json!({
                "reverse-prompt": ["Well, no", "###"],
                "tensor-split": [1.0],
                "mmap": true,
                "temp": 0.5
            })
        );
        assert_eq!(
            json!(settings("--lora a.gguf,/b.gguf --lora c.gguf")),
            json!({ "lora": ["/home/me/a.gguf", "/b.gguf", "/home/me/c.gguf"] })
        );
    }

    #[test]
    fn a_pasted_line_is_read_past_what_is_refused() {
        let words = words(
            "--api-key s3cret -dr gemma3 --metrics --control-vector-layer-range 1 2 --temp -c",
        );
        let kinds: Vec<&str> = words
            .iter()
            .map(|word| match word {
                Word::Setting { key, .. } => key,
                Word::Refused { flag, .. } => flag.as_str(),
                _ => "",
            })
            .collect();
        assert_eq!(
            kinds,
            ["--api-key", "-dr", "--metrics", "control-vector-layer-range", "--temp", "-c"]
        );
        assert!(!format!("{words:?}").contains("s3cret"));
    }

    #[test]
    fn the_file_the_name_and_what_is_unknown_are_told_apart() {
        assert_eq!(
            words("-m ./x.gguf -a n --what -3 --ever"),
            [
                Word::Path(WirePath::from("/home/me/x.gguf")),
                Word::Alias("n".to_owned()),
                Word::Unknown { flag: "--what".to_owned(), values: vec![WirePath::from("-3")] },
                Word::Unknown { flag: "--ever".to_owned(), values: vec![] },
            ]
        );
    }

    #[test]
    fn a_flag_without_its_value_leaves_the_next_one_alone() {
        let alone = json!({ "flash-attn": "on", "ctx-size": 4096, "gpu-layers": 99 });
        assert_eq!(json!(settings("-fa -c 4096 -ngl 99")), alone);
        assert_eq!(json!(settings("-c 4096 -ngl 99 -fa")), alone);
        assert_eq!(json!(settings("-c=4096 -ngl=99 --flash-attn=1")), alone);
        assert_eq!(
            json!(settings("--lora-scaled a.gguf 0.5 --numa -l 5-inf")),
            json!({ "lora-scaled": ["/home/me/a.gguf:0.5"], "numa": "distribute", "logit-bias": ["5-inf"] })
        );
        assert_eq!(
            json!(settings("-r -c -fa off")),
            json!({ "reverse-prompt": ["-c"], "flash-attn": "off" })
        );
        let words = words("-ngl -c 4096");
        assert!(matches!(&words[0], Word::Refused { flag, .. } if flag == "-ngl"), "{words:?}");
        assert!(matches!(&words[1], Word::Setting { key, .. } if key == "ctx-size"), "{words:?}");
    }

    #[test]
    fn a_flag_without_its_value_is_refused() {
        assert!(matches!(words("-c").as_slice(), [Word::Refused { flag, .. }] if flag == "-c"));
    }
}
