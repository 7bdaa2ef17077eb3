//! A refused command line put right: the whole command again, with the word that was meant.

use llamactl_protocol::{Failure, Kind};

/// A longer command line is not said again.
const MOST_WORDS: usize = 16;

/// The same with the whole command at its first hint, where that says which word would do. `words` are
/// the arguments that were refused.
pub(super) fn corrected(mut failure: Failure, words: &[String]) -> Failure {
    let Some(correction) = Correction::of(&failure) else { return failure };
    let Some(argv) = correction.applied(words) else { return failure };
    if let Some(first) = failure.hints.0.first_mut().filter(|first| first.argv.is_empty()) {
        let text = first.text.trim_end_matches(&correction.said());
        first.text = text.trim_end().to_owned();
        first.argv = ["llamactl".to_owned()].into_iter().chain(argv).collect();
    }
    failure
}

/// What is to be another word.
enum Correction {
    /// A name: of a model, of a setting before its `=`.
    Name { given: String, meant: String },
    /// The value of a setting.
    Value { key: String, instead: String },
    /// What it is to be called.
    Called(String),
}

impl Correction {
    fn of(failure: &Failure) -> Option<Correction> {
        let of = |key: &str| Some(failure.details.as_ref()?.get(key)?.as_str()?.to_owned());
        match failure.kind {
            Kind::NameTaken => of("free").map(Correction::Called),
            Kind::ModelNotFound => {
                of("model").zip(of("meant")).map(|(given, meant)| Correction::Name { given, meant })
            }
            Kind::UnknownOption => {
                of("key").zip(of("nearest")).map(|(given, meant)| Correction::Name { given, meant })
            }
            Kind::InvalidValue => of("key")
                .zip(of("instead"))
                .map(|(key, instead)| Correction::Value { key, instead }),
            _ => None,
        }
    }

    /// What the hint said of it, where the command says it now.
    fn said(&self) -> String {
        match self {
            Correction::Name { .. } => String::new(),
            Correction::Value { key, instead } => format!(" {key}={instead}"),
            Correction::Called(free) => format!(": --name {free}"),
        }
    }

    /// These words with what was meant; `None` where nothing of it is among them.
    fn applied(&self, words: &[String]) -> Option<Vec<String>> {
        if words.len() > MOST_WORDS {
            return None;
        }
        let mut words = words.to_vec();
        match self {
            Correction::Name { given, meant } => {
                let rest = |word: &str| {
                    let rest = word.strip_prefix(given.as_str())?;
                    (rest.is_empty() || rest.starts_with('=')).then(|| format!("{meant}{rest}"))
                };
                let wrong = words.iter_mut().find(|word| rest(word).is_some())?;
                *wrong = rest(wrong)?;
            }
            Correction::Value { key, instead } => {
                let key = format!("{key}=");
                let wrong = words.iter_mut().find(|word| word.starts_with(&key))?;
                *wrong = key + instead;
            }
            Correction::Called(free) => match words.iter().position(|word| word == "--name") {
                Some(at) => free.clone_into(words.get_mut(at + 1)?),
                None => {
                    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
                    words.splice(end..end, ["--name".to_owned(), free.clone()]);
                }
            },
        }
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::options::find;
    use serde_json::json;

    fn said(failure: Failure, line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        corrected(failure, &words).hints.lines().next().unwrap_or_default()
    }

    #[test]
    fn the_whole_command_is_said_with_the_word_that_was_meant() {
        let of_name =
            |hint: &str, kind, details| Failure::new(kind, "").hint(hint).details(details);
        let model = json!({ "model": "Tiny", "meant": "tiny" });
        let taken = json!({ "name": "tiny", "free": "tiny-2" });
        let hint = "give another name: --name tiny-2";
        let value = |key, value: &str| find(key, None).unwrap().check(&json!(value)).unwrap_err();
        for (failure, line, told) in [
            (
                of_name("did you mean tiny?", Kind::ModelNotFound, model),
                "start Tiny --timeout 5s",
                "did you mean tiny? llamactl start tiny --timeout 5s",
            ),
            (
                find("ctx-siz", None).unwrap_err(),
                "model set m temp=1 ctx-siz=8192",
                "did you mean ctx-size? llamactl model set m temp=1 ctx-size=8192",
            ),
            (
                value("ctx-size", "abc"),
                "model set m ctx-size=abc",
                "for example: llamactl model set m ctx-size=4096",
            ),
            // Under another of its names, or behind dashes: what would do is said without.
            (value("ctx-size", "abc"), "model set m -- -c abc", "for example ctx-size=4096"),
            (
                value("flash-attn", "onn"),
                "model set m flash-attn=onn",
                "did you mean on? llamactl model set m flash-attn=on",
            ),
            (
                of_name(hint, Kind::NameTaken, taken.clone()),
                "model add a.gguf -- -c 4096",
                "give another name: llamactl model add a.gguf --name tiny-2 -- -c 4096",
            ),
            (
                of_name(hint, Kind::NameTaken, taken),
                "model add a.gguf --name tiny",
                "give another name: llamactl model add a.gguf --name tiny-2",
            ),
        ] {
            assert_eq!(said(failure, line), told);
        }
    }
}
