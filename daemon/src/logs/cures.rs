//! What can be done about an end: words, and a command with places for what only the run knows.
//!
//! ```text
//!   rule or exit ─▶ Cure  text, words with NAME, RUNTIME, KEY, HALF, {1}
//!                     │ ◀─ Subject: whose end it is
//!                     ▼
//!                   Hint  the command, ready to be run; none where a place cannot be filled
//! ```
//!
//! `RUNTIME` is its llama-server build, `KEY` the setting that is to blame, `HALF`
//! half its context, `{1}` and `{2}` what the log names. `NAME`, the model, is filled where it is shown
//! ([`Hints::of_model`](llamactl_protocol::Hints::of_model)), because a model can be renamed. Other words
//! in capitals are for the reader to fill: `FILE`, `DIR`, `OTHER`, `NEW`.

use llamactl_protocol::Hint;
use llamactl_protocol::options::rules::EXTRA_ARGS;
use llamactl_protocol::options::{Settings, look_up};
use serde_json::Value;

/// One thing to do.
#[derive(Debug)]
pub struct Cure {
    /// What to do, or what the command is for.
    pub text: &'static str,
    /// The command; empty where the cure is none.
    pub argv: &'static [&'static str],
    /// The settings of which the one that is set is `KEY`; without any, the one that the log names.
    keys: &'static [&'static str],
    only: Only,
}

/// Of which llama-server a cure holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Any,
    /// One that has a name: its variables can be set.
    Named,
    /// The one that was found by itself.
    Found,
}

/// A cure that is no command.
pub(super) const fn to(text: &'static str) -> Cure {
    run(text, &[])
}

/// A command and what it is for.
pub(super) const fn run(text: &'static str, argv: &'static [&'static str]) -> Cure {
    Cure { text, argv, keys: &[], only: Only::Any }
}

impl Cure {
    /// The same, about the one of these settings that is set.
    pub(super) const fn of(self, keys: &'static [&'static str]) -> Cure {
        Cure { keys, ..self }
    }

    pub(super) const fn of_named(self) -> Cure {
        Cure { only: Only::Named, ..self }
    }

    pub(super) const fn of_found(self) -> Cure {
        Cure { only: Only::Found, ..self }
    }

    /// All that is said of it.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        [self.text].into_iter().chain(self.argv.iter().copied())
    }

    /// The cure for this server; `None` where it is none for it. `filled` puts what the log named into
    /// a text.
    pub(super) fn hint(
        &self,
        subject: Subject<'_>,
        filled: &dyn Fn(&str) -> String,
    ) -> Option<Hint> {
        let is_named = subject.runtime().is_some();
        if matches!((self.only, is_named), (Only::Named, false) | (Only::Found, true)) {
            return None;
        }
        let word = |word: &&str| {
            let text = filled(word);
            if let Some(before) = text.strip_suffix("KEY") {
                return Some(before.to_owned() + &self.key(subject, filled)?);
            }
            if let Some(before) = text.strip_suffix("HALF") {
                return Some(before.to_owned() + &subject.half_its_context()?.to_string());
            }
            Some(match text.as_str() {
                "RUNTIME" => subject.runtime().unwrap_or(FOUND).to_owned(),
                _ => text,
            })
        };
        let argv = self.argv.iter().map(word).collect::<Option<Vec<_>>>()?;
        Some(Hint { text: filled(self.text), argv })
    }

    /// The setting that is to blame, if it is one that is set.
    fn key(&self, subject: Subject<'_>, filled: &dyn Fn(&str) -> String) -> Option<String> {
        let is_set = |key: &str| subject.settings.is_some_and(|all| all.contains_key(key));
        let named = filled("{1}");
        let of_log = || {
            let known = look_up(&named, None).ok().map(|setting| setting.key.to_owned());
            let bare = named.trim_start_matches('-').to_owned();
            known.into_iter().chain([format!("env.{bare}"), bare]).find(|key| is_set(key))
        };
        match self.keys {
            [] => of_log(),
            keys => keys.iter().find(|key| is_set(key)).map(|key| (*key).to_owned()),
        }
        .or_else(|| is_set(EXTRA_ARGS).then(|| EXTRA_ARGS.to_owned()))
    }
}

/// What the llama-server is called that nobody named.
const FOUND: &str = "system";

/// Whose end it is: what the commands of its cures name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    /// What holds for it, the defaults below its own settings.
    pub settings: Option<&'a Settings>,
    /// The context that it was trained with, in tokens.
    pub context_length: Option<u64>,
}

impl<'a> Subject<'a> {
    /// The build that its settings name.
    fn runtime(self) -> Option<&'a str> {
        self.settings?.get("runtime")?.as_str().filter(|name| *name != FOUND)
    }

    /// Half the context that it has now.
    fn half_its_context(self) -> Option<u64> {
        let set = self.settings.and_then(|all| all.get("ctx-size")).and_then(Value::as_u64);
        set.filter(|tokens| *tokens > 0).or(self.context_length).map(|tokens| (tokens / 2).max(1))
    }
}
