//! The command line and environment of a server, from its settings. Pure.
//!
//! Nothing is emitted that nobody set, apart from what llamactl itself needs: the model, where to
//! listen, the metrics endpoint, and the name clients ask for.

use crate::llama::Target;
use crate::runtime::library_path;
use crate::store::registry::RuntimeRecord;
use llamactl_protocol::environment::{DEVICE_VARIABLES, LIBRARY_PATH, SERVER_VARIABLES};
use llamactl_protocol::model::{CommandLine as WireCommandLine, Model};
use llamactl_protocol::options::{
    Settings, Told, VARIABLE_PREFIX, arguments, catalogue, find, rules, secret, successors,
};
use llamactl_protocol::{Failure, WirePath};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Names the run in the process's environment: `registry uuid / run uuid`. By it a server is
/// recognised as ours after the daemon that started it is gone.
pub const MARKER: &str = "LLAMACTL_RUN";

/// With this set a build that [reports progress](crate::store::registry::NewRuntime::reports_progress) prints what it
/// loads on stdout. The value means nothing to such a build.
pub(super) const PROGRESS_VARIABLE: &str = "LLAMA_SERVER_ROUTER_PORT";

/// What a process is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// The executable, then its arguments.
    pub argv: Vec<WirePath>,
    /// What is set beside what is inherited; secrets by reference.
    pub environment: Settings,
}

impl CommandLine {
    /// The environment as text, each secret in the words of `of_secret`.
    ///
    /// # Errors
    /// What `of_secret` reports.
    pub(super) fn variables(
        &self,
        mut of_secret: impl FnMut(&str) -> Result<String, Failure>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        self.environment
            .iter()
            .map(|(name, value)| {
                let text = match (secret::id_of(value), value.as_str()) {
                    (Some(id), _) => of_secret(id)?,
                    (None, Some(text)) => text.to_owned(),
                    (None, None) => value.to_string(),
                };
                Ok((name.clone(), text))
            })
            .collect()
    }

    /// The same as everybody may see it.
    pub(super) fn shown(&self) -> WireCommandLine {
        let environment = self.variables(|_| Ok("(secret)".to_owned())).unwrap_or_default();
        WireCommandLine {
            argv: self.argv.clone(),
            shell: shell(&self.argv, &environment),
            environment,
        }
    }
}

/// The command line for a model with these settings on a build.
#[must_use]
pub(super) fn build(
    model: &Model,
    settings: &Settings,
    runtime: &RuntimeRecord,
    target: &Target,
) -> CommandLine {
    let build = runtime.build();
    let settings = &successors::for_build(settings, &build);
    let mut argv = vec![runtime.found.path.clone()];
    argv.extend(runtime.found.subcommand.as_deref().map(WirePath::from));
    let mut push = |argument: &dyn AsRef<OsStr>| {
        argv.push(WirePath(argument.as_ref().into()));
    };
    push(&"--model");
    push(&model.path.as_path());
    push(&"--alias");
    push(&model.name);
    push(&"--host");
    match target {
        Target::Socket(path) => push(path),
        Target::Address(address) => {
            push(&address.ip().to_string());
            push(&"--port");
            push(&address.port().to_string());
        }
    }
    push(&"--metrics");
    // llama-server lets any web page call a TCP port; a build that can be told otherwise is.
    if matches!(target, Target::Address(_))
        && build.has(CORS_ORIGINS)
        && !rules::with_extra(settings).contains_key(CORS_ORIGINS)
    {
        push(&"--cors-origins");
        push(&"localhost");
    }
    let mut environment = environment(runtime);
    // In the order of the catalogue, then what the build alone knows.
    let (known, others): (Vec<_>, Vec<_>) = settings
        .iter()
        .filter_map(|(key, value)| Some((find(key, Some(&build)).ok()?, value)))
        .partition(|(setting, _)| !setting.inferred);
    let place = |key: &str| catalogue().position(|setting| setting.key == key);
    let mut known = known;
    known.sort_by_key(|(setting, _)| place(setting.key));
    for (setting, value) in known.iter().chain(&others) {
        if let Told::Environment(variable) = setting.told {
            environment.insert(variable.to_owned(), (*value).clone());
        } else if let Some(variable) = setting.key.strip_prefix(VARIABLE_PREFIX) {
            environment.insert(variable.to_owned(), (*value).clone());
        }
        argv.extend(arguments::of(setting, value, Some(&build)));
    }
    let extra = settings.get("extra-args").and_then(Value::as_array).into_iter().flatten();
    argv.extend(extra.filter_map(Value::as_str).map(WirePath::from));
    CommandLine { argv, environment }
}

const CORS_ORIGINS: &str = "cors-origins";

fn environment(runtime: &RuntimeRecord) -> Settings {
    let mut environment = Settings::new();
    // A crash would otherwise run gdb on itself for a second, and print to stdout.
    environment.insert("GGML_NO_BACKTRACE".to_owned(), "1".into());
    if runtime.found.reports_progress {
        environment.insert(PROGRESS_VARIABLE.to_owned(), "1".into());
    }
    let own = runtime.environment.iter().map(|(name, value)| (name.clone(), value.clone()));
    environment.extend(own);
    // What the runtime says of it is in it.
    let libraries = library_path(runtime.found.path.as_path(), &runtime.lib_dirs);
    environment.insert(LIBRARY_PATH.to_owned(), libraries.to_string_lossy().into());
    environment
}

/// The variables inherited from `source`, by [`SERVER_VARIABLES`] and [`DEVICE_VARIABLES`].
pub(super) fn inherited(
    source: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    source.filter(|(name, _)| {
        name.to_str().is_some_and(|name| {
            SERVER_VARIABLES.contains(&name) || DEVICE_VARIABLES.contains(&name)
        })
    })
}

/// Whether the arguments let the server unload its model by itself.
#[must_use]
pub(super) fn may_sleep(argv: &[WirePath]) -> bool {
    argv.iter().any(|argument| argument.as_bytes().starts_with(b"--sleep-idle-seconds"))
}

/// Whether the server writes a line for each request: at the default verbosity, 3, and above.
#[must_use]
pub(super) fn logs_requests(argv: &[WirePath]) -> bool {
    verbosity(argv).is_some_and(|level| level >= 3)
}

/// Whether the server writes down how large its prompt cache is.
#[must_use]
pub(super) fn logs_its_cache(argv: &[WirePath]) -> bool {
    verbosity(argv).is_some_and(|level| level >= 4)
}

/// How much a server writes into its log; `None` where it has none.
fn verbosity(argv: &[WirePath]) -> Option<i64> {
    let is_silent = argv.iter().any(|argument| argument.as_bytes() == b"--log-disable");
    let set = number_of(argv, &[b"--verbosity", b"--log-verbosity", b"-lv"]);
    (!is_silent).then(|| set.unwrap_or(3))
}

/// The most host memory that a server takes for prompts it keeps; `None` where it has no limit.
#[must_use]
pub(super) fn prompt_cache_limit_bytes(argv: &[WirePath]) -> Option<u64> {
    let mebibytes = number_of(argv, &[b"--cache-ram", b"-cram"]).unwrap_or(8192);
    u64::try_from(mebibytes).ok()?.checked_mul(1 << 20)
}

/// The number behind the last of these flags.
fn number_of(argv: &[WirePath], flags: &[&[u8]]) -> Option<i64> {
    let mut pairs = argv.windows(2).rev();
    pairs.find_map(|pair| match pair {
        [flag, value] if flags.contains(&flag.as_bytes()) => {
            std::str::from_utf8(value.as_bytes()).ok()?.parse().ok()
        }
        _ => None,
    })
}

/// Whether a server with this command line asks clients for a key.
#[must_use]
pub(super) fn asks_for_key(argv: &[WirePath], environment: &Settings) -> bool {
    environment.contains_key("LLAMA_API_KEY")
        || argv.iter().any(|argument| argument.as_bytes().starts_with(b"--api-key"))
}

/// A command line as text that a shell reads back as the same.
#[must_use]
fn shell(argv: &[WirePath], environment: &BTreeMap<String, String>) -> String {
    let quote = |word: &str| shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into);
    let environment = environment.iter().map(|(name, value)| format!("{name}={}", quote(value)));
    let argv = argv.iter().map(|argument| quote(&argument.to_string()));
    environment.chain(argv).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::registry::NewRuntime;
    use llamactl_protocol::model::ModelFile;
    use serde_json::json;

    fn settings(pairs: &[(&str, Value)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    fn model() -> Model {
        Model {
            id: 7,
            name: "qwen3:8b-q4".to_owned(),
            aliases: vec![],
            path: WirePath::from("/models/a b.gguf"),
            file: ModelFile::default(),
            file_state: None,
            settings: Settings::new(),
            revision: 1,
            added_at_ms: 0,
            changed_at_ms: 0,
        }
    }

    fn runtime(flags: &[&str]) -> RuntimeRecord {
        let flags = flags.iter().chain(&["ctx-size", "gpu-layers"]);
        let help: String = flags.map(|flag| format!("--{flag} X\n")).collect();
        RuntimeRecord {
            id: 1,
            name: "system".to_owned(),
            environment: Settings::new(),
            lib_dirs: vec![],
            found: NewRuntime {
                path: WirePath::from("/opt/llama/llama-server"),
                inode: 1,
                size_bytes: 1,
                mtime_ns: 1,
                libraries: String::new(),
                version: None,
                reports_progress: true,
                subcommand: None,
                options: crate::runtime::options_in(&help),
                devices: vec![],
            },
        }
    }

    #[test]
    fn what_a_log_and_a_prompt_cache_are_to_hold_is_read_from_the_arguments() {
        let argv = |line: &str| line.split(' ').map(WirePath::from).collect::<Vec<_>>();
        for (line, requests, cache, limit_mib) in [
            ("x -m a.gguf", true, false, Some(8192)),
            ("x --verbosity 4 --cache-ram 64", true, true, Some(64)),
            ("x -lv 2 -cram -1", false, false, None),
            ("x -lv 5 -lv 1 --cache-ram 7 --cache-ram 0", false, false, Some(0)),
            ("x --log-disable --verbosity 5", false, false, Some(8192)),
        ] {
            let argv = argv(line);
            assert_eq!((logs_requests(&argv), logs_its_cache(&argv)), (requests, cache), "{line}");
            assert_eq!(
                prompt_cache_limit_bytes(&argv),
                limit_mib.map(|mib: u64| mib << 20),
                "{line}"
            );
        }
    }

    fn arguments(line: &CommandLine) -> Vec<String> {
        line.argv.iter().skip(1).map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_emitted_that_nobody_set() {
        let target = Target::Socket("/r/m7.sock".into());
        let line = build(&model(), &Settings::new(), &runtime(&["cors-origins"]), &target);
        assert_eq!(
            arguments(&line),
            [
                "--model",
                "/models/a b.gguf",
                "--alias",
                "qwen3:8b-q4",
                "--host",
                "/r/m7.sock",
                "--metrics"
            ]
        );
    }

    #[test]
    fn settings_reach_the_command_line_and_a_port_is_closed_to_web_pages() {
        let settings = settings(&[
            ("ctx-size", json!(4096)),
            ("gpu-layers", json!("all")),
            ("extra-args", json!(["--temp", "0.2"])),
            ("mmap", json!(false)),
        ]);
        let target = Target::Address("127.0.0.1:8101".parse().unwrap());
        let line = build(&model(), &settings, &runtime(&["cors-origins", "load-mode"]), &target);
        assert_eq!(
            arguments(&line)[4..],
            [
                "--host",
                "127.0.0.1",
                "--port",
                "8101",
                "--metrics",
                "--cors-origins",
                "localhost",
                "--ctx-size",
                "4096",
                "--load-mode",
                "none",
                "--gpu-layers",
                "all",
                "--temp",
                "0.2"
            ]
        );
        let old_build = build(&model(), &settings, &runtime(&[]), &target);
        assert!(!arguments(&old_build).iter().any(|argument| argument == "--cors-origins"));
    }

    #[test]
    fn what_a_runtime_says_of_its_build_is_in_force() {
        let mut runtime = runtime(&[]);
        runtime.found.subcommand = Some("serve".to_owned());
        runtime.environment.insert(LIBRARY_PATH.to_owned(), json!("/cuda"));
        runtime.lib_dirs = vec!["/cuda-12".into()];
        let line = build(&model(), &Settings::new(), &runtime, &Target::Socket("/r/s".into()));
        assert_eq!(arguments(&line)[..2], ["serve", "--model"]);
        let libraries = line.environment[LIBRARY_PATH].as_str().unwrap();
        assert!(libraries.starts_with("/opt/llama:/cuda-12"), "{libraries}");
    }

    #[test]
    fn a_secret_is_in_the_environment_and_shown_to_nobody() {
        let settings = settings(&[
            ("api-key", secret::stored("77")),
            ("env.CUDA_VISIBLE_DEVICES", json!("1")),
        ]);
        let line = build(&model(), &settings, &runtime(&[]), &Target::Socket("/r/s".into()));
        assert!(!arguments(&line).iter().any(|argument| argument.contains("key")));
        let real = line.variables(|id| Ok(format!("secret {id}"))).unwrap();
        assert_eq!(real["LLAMA_API_KEY"], "secret 77");
        assert_eq!(real["CUDA_VISIBLE_DEVICES"], "1");
        let shown = line.shown();
        assert_eq!(shown.environment["LLAMA_API_KEY"], "(secret)");
        assert!(asks_for_key(&line.argv, &line.environment));
    }

    #[test]
    fn the_shell_text_reads_back_as_the_same_words() {
        let target = Target::Socket("/r/m7.sock".into());
        let line = build(&model(), &Settings::new(), &runtime(&[]), &target);
        let words = shlex::split(&line.shown().shell).unwrap();
        let from = words.len() - line.argv.len();
        assert_eq!(words[from..], line.argv.iter().map(ToString::to_string).collect::<Vec<_>>());
    }

    #[test]
    fn only_known_variables_are_inherited() {
        let variables = ["PATH", "LLAMA_ARG_CTX_SIZE", "HF_TOKEN", "CUDA_VISIBLE_DEVICES"];
        let kept: Vec<OsString> = inherited(variables.iter().map(|name| (name.into(), "1".into())))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(kept, ["PATH", "CUDA_VISIBLE_DEVICES"]);
    }
}
