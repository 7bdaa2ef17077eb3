//! The catalogue of settings: one entry describes each, and everything else comes from it.
//!
//! ```text
//!   entry ─▶ check (what `model set` accepts) ─▶ arguments (what llama-server gets)
//!         ╰▶ completion, help, documentation
//! ```
//!
//! A key is llama-server's own long flag. A setting nobody set emits nothing: llama-server's
//! defaults are the defaults.

use crate::failure::{Failure, Kind};
use serde_json::{Value, json};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The key: llama-server's long flag without its dashes, or llamactl's own name.
    pub key: &'static str,
    /// Other names it is accepted under.
    pub aliases: &'static [&'static str],
    /// Which group it belongs to.
    pub group: &'static str,
    /// What values it takes.
    pub values: Values,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// Values worth offering in completion.
    pub examples: &'static [&'static str],
}

/// What values a setting takes.
#[derive(Debug)]
pub enum Values {
    /// A whole number in a range, or one of some words.
    Integer {
        /// The least allowed.
        min: i64,
        /// The greatest allowed.
        max: i64,
        /// Words allowed instead of a number.
        words: &'static [&'static str],
    },
    /// A host name or address.
    Host,
    /// Arguments handed to llama-server as they are.
    Arguments,
}

/// Every setting there is, in the order they are shown.
pub const CATALOGUE: &[Setting] = &[
    Setting {
        key: "ctx-size",
        aliases: &["c", "ctx_size", "LLAMA_ARG_CTX_SIZE"],
        group: "memory",
        values: Values::Integer { min: 0, max: 1 << 24, words: &[] },
        help: "Context size in tokens, which the slots share; 0 takes the model's own",
        examples: &["4096", "8192", "32768"],
    },
    Setting {
        key: "gpu-layers",
        aliases: &["ngl", "n-gpu-layers", "gpu_layers", "LLAMA_ARG_N_GPU_LAYERS"],
        group: "gpu",
        values: Values::Integer { min: 0, max: 9999, words: &["auto", "all"] },
        help: "Layers to keep on the GPU: a number, auto or all",
        examples: &["auto", "all", "0"],
    },
    Setting {
        key: "host",
        aliases: &["LLAMA_ARG_HOST"],
        group: "server",
        values: Values::Host,
        help: "Address to listen on when a port is set (127.0.0.1 when unset)",
        examples: &["127.0.0.1", "localhost"],
    },
    Setting {
        key: "port",
        aliases: &["LLAMA_ARG_PORT"],
        group: "server",
        values: Values::Integer { min: 1, max: 65535, words: &["auto"] },
        help: "TCP port to listen on, or auto for a free one; unset listens on a Unix socket only",
        examples: &["auto", "8080"],
    },
    Setting {
        key: "extra-args",
        aliases: &["extra_args"],
        group: "advanced",
        values: Values::Arguments,
        help: "Further llama-server arguments, quoted as for a shell, passed on as they are",
        examples: &[],
    },
];

/// The setting of this key or alias.
///
/// # Errors
/// [`Kind::UnknownOption`], naming the nearest key there is.
pub fn find(key: &str) -> Result<&'static Setting, Failure> {
    let bare = key.trim_start_matches('-');
    CATALOGUE
        .iter()
        .find(|setting| setting.key == bare || setting.aliases.contains(&bare))
        .ok_or_else(|| {
            let keys: Vec<&str> = CATALOGUE.iter().map(|setting| setting.key).collect();
            let nearest = nearest(bare, &keys);
            let failure = Failure::new(Kind::UnknownOption, format!("there is no setting {key:?}"))
                .details(json!({ "key": key, "known": keys, "nearest": nearest }));
            match nearest {
                Some(nearest) => failure.hint(format!("did you mean {nearest}?")),
                None => failure.hint(format!("the settings are: {}", keys.join(", "))),
            }
        })
}

impl Setting {
    /// The value as it is stored, from what a caller sent: text is read as the setting's kind.
    ///
    /// # Errors
    /// [`Kind::InvalidValue`], naming the key, the value and what is allowed.
    pub fn check(&self, value: &Value) -> Result<Value, Failure> {
        match &self.values {
            Values::Integer { min, max, words } => {
                let number = match value {
                    Value::Number(number) => number.as_i64(),
                    Value::String(text) => {
                        if let Some(word) = words.iter().find(|word| *word == text) {
                            return Ok(json!(word));
                        }
                        text.parse().ok()
                    }
                    _ => None,
                };
                match number {
                    Some(number) if (*min..=*max).contains(&number) => Ok(json!(number)),
                    _ => Err(self.refuse(value)),
                }
            }
            Values::Host => match value {
                Value::String(host) if is_host(host) => Ok(json!(host)),
                _ => Err(self.refuse(value)),
            },
            Values::Arguments => {
                let arguments = match value {
                    Value::String(text) => shlex::split(text),
                    Value::Array(items) => {
                        items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
                    }
                    _ => None,
                };
                match arguments {
                    Some(list) if list.iter().all(|argument| !argument.contains('\0')) => {
                        check_arguments(&list)?;
                        Ok(json!(list))
                    }
                    _ => Err(self.refuse(value)),
                }
            }
        }
    }

    /// What values are allowed, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        match &self.values {
            Values::Integer { min, max, words: [] } => {
                format!("a whole number from {min} to {max}")
            }
            Values::Integer { min, max, words } => {
                format!("a whole number from {min} to {max}, or {}", words.join(" or "))
            }
            Values::Host => "a host name or an IP address".to_owned(),
            Values::Arguments => "arguments quoted as for a shell".to_owned(),
        }
    }

    fn refuse(&self, value: &Value) -> Failure {
        let shown = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Failure::new(
            Kind::InvalidValue,
            format!("{} cannot be {shown:?}: it takes {}", self.key, self.allowed()),
        )
        .details(json!({ "key": self.key, "value": value, "allowed": self.allowed() }))
    }
}

/// The most that `extra-args` may hold, in bytes.
const MAX_ARGUMENTS_BYTES: usize = 16 << 10;

/// Arguments llamactl needs in its own hands, and what to do instead. They would open the server
/// to the network behind `host`'s back, hide it from the daemon, or put a secret where every
/// program can read it.
const OWN_ARGUMENTS: &[(&[&str], &str)] = &[
    (&["--host", "--port", "--reuse-port"], "use the settings host and port"),
    (
        &[
            "-m",
            "--model",
            "-mu",
            "--model-url",
            "-hf",
            "-hfr",
            "--hf-repo",
            "-hff",
            "--hf-file",
            "-dr",
            "--docker-repo",
            "--models-dir",
            "--models-preset",
        ],
        "add the file as a model of its own: llamactl model add",
    ),
    (&["-a", "--alias"], "the model's name is its alias"),
    (&["--metrics"], "it is on already"),
    (&["--api-prefix"], "the daemon would not find the server any more"),
    (
        &["--api-key", "-hft", "--hf-token"],
        "a secret does not belong on a command line; --api-key-file names a file with the key",
    ),
    (&["--log-file", "--log-disable"], "llamactl keeps the log: llamactl logs"),
    (
        &["-c", "--ctx-size", "-ngl", "--gpu-layers", "--n-gpu-layers"],
        "use the setting of this name",
    ),
];

/// Refuses arguments that llamactl needs in its own hands.
fn check_arguments(list: &[String]) -> Result<(), Failure> {
    let bytes: usize = list.iter().map(String::len).sum();
    if bytes > MAX_ARGUMENTS_BYTES {
        return Err(Failure::new(
            Kind::InvalidValue,
            format!("extra-args is {bytes} bytes long; it may have {MAX_ARGUMENTS_BYTES}"),
        ));
    }
    for argument in list {
        let flag = argument.split('=').next().unwrap_or(argument);
        if let Some((_, instead)) = OWN_ARGUMENTS.iter().find(|(own, _)| own.contains(&flag)) {
            return Err(Failure::new(Kind::InvalidValue, format!("extra-args cannot hold {flag}"))
                .hint((*instead).to_owned())
                .details(json!({ "key": "extra-args", "argument": flag })));
        }
    }
    Ok(())
}

/// Whether `host` could be a host name or address; names ending in `.sock` would make
/// llama-server open a Unix socket of that name.
fn is_host(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
        || (!host.is_empty()
            && host.len() <= 253
            && !host.starts_with(['-', '.'])
            && !host.ends_with(".sock")
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)))
}

/// The word of `known` that is most likely meant by `word`, if any is near.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(word.len()).div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance: the fewest single-character edits between two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (above + 1).min(left + 1).min(diagonal + usize::from(from != *to));
            (*cell, diagonal) = (left, above);
        }
        row[0] = i + 1;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_settings_share_a_name() {
        let mut seen = HashSet::new();
        for setting in CATALOGUE {
            for name in setting.aliases.iter().chain([&setting.key]) {
                assert!(seen.insert(*name), "{name}");
                assert_eq!(find(name).unwrap().key, setting.key);
            }
        }
    }

    #[test]
    fn text_and_numbers_are_the_same() {
        let port = find("port").unwrap();
        assert_eq!(port.check(&json!("8101")).unwrap(), json!(8101));
        assert_eq!(port.check(&json!(8101)).unwrap(), json!(8101));
        assert_eq!(port.check(&json!("auto")).unwrap(), json!("auto"));
        for bad in [json!(0), json!("99999"), json!("eighty"), json!(true), json!(null)] {
            assert_eq!(port.check(&bad).unwrap_err().kind, Kind::InvalidValue, "{bad}");
        }
    }

    #[test]
    fn extra_args_are_quoted_as_for_a_shell() {
        let extra = find("extra-args").unwrap();
        assert_eq!(
            extra.check(&json!("--temp 0.2 --x 'a b'")).unwrap(),
            json!(["--temp", "0.2", "--x", "a b"])
        );
        assert!(extra.check(&json!("'open")).is_err());
    }

    #[test]
    fn extra_args_leave_alone_what_llamactl_owns() {
        let extra = find("extra-args").unwrap();
        for bad in ["--host 0.0.0.0", "--port=1", "--temp 1 -m x", "--api-key s3cret", "-c 1"] {
            let refused = extra.check(&json!(bad)).unwrap_err();
            assert_eq!(refused.kind, Kind::InvalidValue, "{bad}");
            assert!(refused.hint.is_some() && !refused.message.contains("s3cret"), "{bad}");
        }
        assert!(extra.check(&json!("--api-key-file /k --jinja")).is_ok());
        assert!(extra.check(&json!("x ".repeat(20_000))).is_err());
    }

    #[test]
    fn a_wrong_key_names_the_nearest() {
        assert_eq!(find("ctx-siz").unwrap_err().hint.as_deref(), Some("did you mean ctx-size?"));
        assert_eq!(find("prot").unwrap_err().hint.as_deref(), Some("did you mean port?"));
        assert!(find("qqqqqqq").unwrap_err().hint.unwrap().contains("gpu-layers"));
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_host_is_no_socket_and_no_flag() {
        let host = find("host").unwrap();
        for good in ["127.0.0.1", "::1", "localhost", "box.lan"] {
            assert!(host.check(&json!(good)).is_ok(), "{good}");
        }
        for bad in ["", "x.sock", "--port", "a b", "a/b"] {
            assert!(host.check(&json!(bad)).is_err(), "{bad:?}");
        }
    }
}
