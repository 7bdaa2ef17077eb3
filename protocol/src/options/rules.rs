//! What is refused whatever the catalogue says, and what only makes sense together.

use super::command_line::{self, Word};
use super::{Settings, VARIABLE_PREFIX, secret};
use crate::environment::{
    DEVICE_VARIABLES, LIBRARY_PATH, SERVER_VARIABLES, loads_code, names_secret,
};
use crate::failure::{Failure, Kind};
use crate::{Hint, WirePath};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

/// The setting that holds the key clients must give.
pub const API_KEY: &str = "api-key";

/// The setting that holds arguments as they are.
pub const EXTRA_ARGS: &str = "extra-args";

/// The most that `extra-args` may hold, in bytes.
const MAX_ARGUMENTS_BYTES: usize = 16 << 10;

/// Settings of which no two make sense together.
const ONE_OF: &[&str] = &["grammar", "grammar-file", "json-schema", "json-schema-file"];

/// Settings that let whoever reaches the server act on this machine.
const ACTS: &[&str] = &["tools", "agent", "ui-mcp-proxy", "mcp-servers-config", "mcp-servers-json"];

/// Whether a variable may be set for servers.
///
/// # Errors
/// [`Kind::InvalidValue`] for what is no variable's name; [`Kind::OptionRefused`] for variables
/// that would change settings behind the registry's back or load code into the server.
pub fn check_variable(name: &str) -> Result<(), Failure> {
    let is_name = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && name.len() <= 128
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(Failure::new(
            Kind::InvalidValue,
            format!("{name:?} is not the name of a variable"),
        )
        .hint("for example env.CUDA_VISIBLE_DEVICES=1"));
    }
    let failure = Failure::new(Kind::OptionRefused, format!("env.{name} cannot be set"))
        .details(json!({ "key": format!("env.{name}") }));
    let instead = if name.starts_with("LLAMA_") {
        "set the option itself".to_owned()
    } else if name.starts_with("LLAMACTL_") {
        "llamactl marks its servers with variables of this name".to_owned()
    } else if let Some(who) = loads_code(name) {
        let why = format!("{who} would load code into the server by it");
        let instead = if name == LIBRARY_PATH {
            let set = ["llamactl", "runtime", "set", "RUNTIME", "env.LD_LIBRARY_PATH=DIR"];
            return Err(failure.hint(Hint::run(format!("{why}; a runtime may have it"), set)));
        } else if DEVICE_VARIABLES.contains(&name) || SERVER_VARIABLES.contains(&name) {
            "servers get the daemon's: start it with another"
        } else {
            "llamactl finds a build's own libraries by itself"
        };
        format!("{why}; {instead}")
    } else if name == "GGML_NO_BACKTRACE" {
        "llamactl sets it, so that a crash is reported at once".to_owned()
    } else if name == "HF_TOKEN" {
        "use the setting hf-token, which is kept secret".to_owned()
    } else {
        return Ok(());
    };
    Err(failure.hint(instead))
}

/// Checks `extra-args` by themselves: what llamactl owns and what is refused stays out.
///
/// # Errors
/// [`Kind::InvalidValue`], naming the argument and what to do instead.
pub fn check_extra(list: &Value) -> Result<(), Failure> {
    let arguments = words_of(list);
    let bytes: usize = arguments.iter().map(|argument| argument.as_bytes().len()).sum();
    if bytes > MAX_ARGUMENTS_BYTES {
        return Err(Failure::new(
            Kind::InvalidValue,
            format!("extra-args is {bytes} bytes long; it may have {MAX_ARGUMENTS_BYTES}"),
        ));
    }
    for word in command_line::read(&arguments, None, Path::new("/")) {
        let (flag, instead) = match word {
            Word::Path(_) => ("--model".to_owned(), Hint::to("use the setting path").into()),
            Word::Alias(_) => {
                ("--alias".to_owned(), Hint::to("the model's name is its alias").into())
            }
            Word::Setting { key, flag, .. } if key == "host" || key == "port" => {
                (flag, Hint::to(format!("use the setting {key}")).into())
            }
            // Options the build alone knows are checked when the build is known.
            Word::Setting { .. } | Word::Unknown { .. } => continue,
            Word::Refused { flag, failure } if failure.kind == Kind::OptionRefused => {
                (flag, failure.hints)
            }
            Word::Refused { failure, .. } => return Err(failure),
        };
        let failure = Failure::new(Kind::InvalidValue, format!("extra-args cannot hold {flag}"))
            .details(json!({ "key": "extra-args", "argument": flag }));
        return Err(Failure { hints: instead, ..failure });
    }
    Ok(())
}

fn words_of(list: &Value) -> Vec<WirePath> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(WirePath::from).collect()
}

/// The settings with what `extra-args` says of others, which stands behind them on the command
/// line and so wins.
#[must_use]
pub fn with_extra(settings: &Settings) -> Settings {
    let mut all = settings.clone();
    let extra = settings.get(EXTRA_ARGS).map(words_of).unwrap_or_default();
    for word in command_line::read(&extra, None, Path::new("/")) {
        if let Word::Setting { key, value, .. } = word {
            all.insert(key, value);
        }
    }
    all
}

/// Checks settings that only make sense together: a model's, the defaults below them.
///
/// # Errors
/// [`Kind::InvalidValue`], naming the settings and what to do.
pub fn check(settings: &Settings) -> Result<(), Failure> {
    let all = with_extra(settings);
    let both: Vec<&str> = ONE_OF.iter().copied().filter(|key| all.contains_key(*key)).collect();
    if let [first, second, ..] = both.as_slice() {
        return Err(together(&[first, second], format!("{first} and {second} exclude each other"))
            .hint(Hint::run("unset one of them", ["llamactl", "model", "unset", "NAME", second])));
    }
    let word = |key: &str| all.get(key).and_then(Value::as_str);
    if word("flash-attn") == Some("off")
        && let Some(kind) =
            word("cache-type-v").filter(|kind| !["f32", "f16", "bf16"].contains(kind))
    {
        return Err(together(
            &["cache-type-v", "flash-attn"],
            format!("cache-type-v={kind} needs flash attention, and flash-attn is off"),
        )
        .hint(Hint::run(
            "let it have that",
            [
                "llamactl",
                "model",
                "set",
                "NAME",
                "flash-attn=auto",
                &format!("cache-type-v={kind}"),
            ],
        )));
    }
    check_listening(&all)
}

fn check_listening(all: &Settings) -> Result<(), Failure> {
    let has_key = all.contains_key(API_KEY) || all.contains_key("api-key-file");
    let host = all.get("host").and_then(Value::as_str).unwrap_or("127.0.0.1");
    let address: IpAddr = match host {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        host => host.parse().map_err(|_| {
            together(&["host"], format!("host cannot be {host}: it is no IP address"))
                .hint("give an address, such as 127.0.0.1, or localhost")
        })?,
    };
    if !address.is_loopback() && !has_key {
        return Err(together(
            &["host", API_KEY],
            format!("host cannot be {host}: other machines could use the server without a key"),
        )
        .hint(Hint::run(
            "ask for a key too",
            ["llamactl", "model", "set", "NAME", "api-key=generate", &format!("host={host}")],
        )));
    }
    let acts = ACTS.iter().find(|key| all.get(**key).is_some_and(|value| *value != json!(false)));
    if let Some(key) = acts.filter(|_| all.contains_key("port") && !has_key) {
        return Err(together(
            &[key, "port", API_KEY],
            format!(
                "{key} lets whoever reaches the server act on this machine, and with a port \
                 every program and web page here reaches it"
            ),
        )
        .hint(Hint::run("ask for a key", ["llamactl", "model", "set", "NAME", "api-key=generate"]))
        .hint(Hint::run("or have no port", ["llamactl", "model", "unset", "NAME", "port"])));
    }
    Ok(())
}

fn together(keys: &[&str], message: String) -> Failure {
    Failure::new(Kind::InvalidValue, message).details(json!({ "key": keys.first(), "keys": keys }))
}

/// Whether a checked value may hold for all models at once.
///
/// # Errors
/// [`Kind::InvalidValue`] for a port, on which they would clash.
pub fn check_default(key: &str, value: &Value) -> Result<(), Failure> {
    if key == "port" && value.is_number() {
        return Err(Failure::new(
            Kind::InvalidValue,
            "one port cannot be the default of all models: they would clash",
        )
        .hint(Hint::run(
            "give each a free one that it keeps",
            ["llamactl", "defaults", "set", "port=auto"],
        ))
        .details(json!({ "key": key })));
    }
    Ok(())
}

/// Refuses what nobody outside can give: a reference to the file of a secret.
///
/// # Errors
/// [`Kind::InvalidValue`], naming the key.
pub fn check_given(settings: &Settings) -> Result<(), Failure> {
    match settings.iter().find(|(_, value)| secret::id_of(value).is_some()) {
        None => Ok(()),
        Some((key, _)) => Err(Failure::new(
            Kind::InvalidValue,
            format!("{key}: a secret is given by its text, not by a reference"),
        )
        .details(json!({ "key": key }))),
    }
}

/// What somebody who sets these should know although it is allowed.
#[must_use]
pub fn notes(set: &Settings) -> Vec<String> {
    let mut notes = Vec::new();
    if set.contains_key("rpc") {
        notes.push(
            "rpc: the servers named are trusted wholly: they ask for no key, see every prompt, \
             and a broken one can take over llama-server"
                .to_owned(),
        );
    }
    if let Some(key) = ACTS.iter().find(|key| set.get(**key).is_some_and(|it| *it != json!(false)))
    {
        notes.push(format!("{key}: whoever reaches the server can act on this machine through it"));
    }
    let variables =
        set.iter().filter_map(|(key, value)| Some((key.strip_prefix(VARIABLE_PREFIX)?, value)));
    notes.extend(notes_on_variables(variables));
    notes
}

/// What somebody who sets these variables should know although it is allowed.
pub fn notes_on_variables<'a>(
    variables: impl Iterator<Item = (&'a str, &'a Value)>,
) -> impl Iterator<Item = String> {
    let in_clear = variables.filter(|(name, value)| value.is_string() && names_secret(name));
    in_clear.map(|(name, _)| {
        format!(
            "env.{name} is kept and shown as it was given, although its name says that it is a \
             secret: env.{name}=@FILE keeps it apart"
        )
    })
}

/// Whether this is a secret that is given, kept or to be made, so that it is in a file of its own before
/// anything is started with it.
#[must_use]
pub fn is_secret(key: &str, value: &Value) -> bool {
    secret::is_secret(value) || (key == API_KEY && value.is_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, Value)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[test]
    fn a_door_to_the_network_has_a_key() {
        assert!(check(&settings(&[("host", json!("0.0.0.0"))])).is_err());
        assert!(
            check(&settings(&[("host", json!("0.0.0.0")), ("api-key", secret::shown())])).is_ok()
        );
        for loopback in ["127.0.0.1", "::1", "localhost", "127.0.0.2"] {
            assert!(check(&settings(&[("host", json!(loopback))])).is_ok(), "{loopback}");
        }
        assert!(check(&settings(&[("host", json!("box.lan"))])).is_err());
    }

    #[test]
    fn variables_that_load_code_or_change_settings_are_refused() {
        for bad in ["LLAMA_ARG_CTX_SIZE", "LD_PRELOAD", "LD_LIBRARY_PATH", "VK_ADD_DRIVER_FILES"] {
            assert_eq!(check_variable(bad).unwrap_err().kind, Kind::OptionRefused, "{bad}");
        }
        for bad in ["", "1A", "A B", "A=B"] {
            assert_eq!(check_variable(bad).unwrap_err().kind, Kind::InvalidValue, "{bad}");
        }
        for good in ["CUDA_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "_X1"] {
            assert!(check_variable(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn extra_args_leave_alone_what_llamactl_owns() {
        for bad in ["--host", "-m", "--api-key"] {
            let refused = check_extra(&json!([bad, "s3cret"])).unwrap_err();
            assert_eq!(refused.kind, Kind::InvalidValue, "{bad}");
            assert!(!refused.hints.is_empty() && !refused.message.contains("s3cret"), "{bad}");
        }
        assert!(check_extra(&json!(["--only-some-build-knows", "1"])).is_ok());
        assert!(check_extra(&json!(["x".repeat(20_000)])).is_err());
    }
}
