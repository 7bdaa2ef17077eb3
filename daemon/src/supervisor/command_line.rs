//! The command line and environment of a server, from its settings. Pure.
//!
//! Nothing is emitted that nobody set, apart from what llamactl itself needs: the model, where to
//! listen, the metrics endpoint, and the name clients ask for.

use crate::llama::Target;
use crate::runtime::library_path;
use crate::store::NewRuntime;
use llamactl_protocol::WirePath;
use llamactl_protocol::model::Model;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Names the run in the process's environment: `registry uuid / run uuid`. By it a server is
/// recognised as ours after the daemon that started it is gone.
pub const MARKER: &str = "LLAMACTL_RUN";

/// With this set a build that [reports progress](NewRuntime::reports_progress) prints what it
/// loads on stdout. The value means nothing to such a build.
pub(super) const PROGRESS_VARIABLE: &str = "LLAMA_SERVER_ROUTER_PORT";

/// Variables of the daemon that a server inherits: what programs need everywhere, and what picks
/// GPUs. Everything else stays out, above all `LLAMA_ARG_*`, which would change settings.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
    "GGML_VK_VISIBLE_DEVICES",
    "VK_ICD_FILENAMES",
    "VK_DRIVER_FILES",
    "ONEAPI_DEVICE_SELECTOR",
];

/// What a process is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// The executable, then its arguments.
    pub argv: Vec<WirePath>,
    /// What is set beside what is inherited.
    pub environment: BTreeMap<String, String>,
}

/// The command line for a model on a build.
#[must_use]
pub(super) fn build(model: &Model, runtime: &NewRuntime, target: &Target) -> CommandLine {
    let mut argv = vec![runtime.path.clone()];
    let mut push = |argument: &dyn AsRef<std::ffi::OsStr>| {
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
    let extra: Vec<&str> = model
        .settings
        .get("extra-args")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    // llama-server lets any web page call a TCP port; a build that can be told otherwise is.
    if matches!(target, Target::Address(_))
        && runtime.flags.iter().any(|flag| flag == "cors-origins")
        && !extra.iter().any(|argument| argument.starts_with("--cors-origins"))
    {
        push(&"--cors-origins");
        push(&"localhost");
    }
    for key in ["ctx-size", "gpu-layers"] {
        if let Some(value) = model.settings.get(key) {
            push(&format!("--{key}"));
            push(&text(value));
        }
    }
    for argument in extra {
        push(&argument);
    }
    CommandLine { argv, environment: environment(runtime) }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn environment(runtime: &NewRuntime) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let libraries = library_path(runtime.path.as_path()).to_string_lossy().into_owned();
    environment.insert("LD_LIBRARY_PATH".to_owned(), libraries);
    // A crash would otherwise run gdb on itself for a second, and print to stdout.
    environment.insert("GGML_NO_BACKTRACE".to_owned(), "1".to_owned());
    if runtime.reports_progress {
        environment.insert(PROGRESS_VARIABLE.to_owned(), "1".to_owned());
    }
    environment
}

/// The variables inherited from `source`, by [`INHERITED`].
pub(super) fn inherited(
    source: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    source.filter(|(name, _)| name.to_str().is_some_and(|name| INHERITED.contains(&name)))
}

/// Whether the arguments let the server unload its model by itself.
#[must_use]
pub(super) fn may_sleep(argv: &[WirePath]) -> bool {
    argv.iter().any(|argument| argument.as_bytes().starts_with(b"--sleep-idle-seconds"))
}

/// Whether the arguments ask clients for a key.
#[must_use]
pub(super) fn asks_for_key(argv: &[WirePath]) -> bool {
    argv.iter().any(|argument| argument.as_bytes().starts_with(b"--api-key"))
}

/// The command line as text that a shell reads back as the same.
#[must_use]
pub(super) fn shell(line: &CommandLine) -> String {
    let quote = |word: &str| shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into);
    let environment =
        line.environment.iter().map(|(name, value)| format!("{name}={}", quote(value)));
    let argv = line.argv.iter().map(|argument| quote(&argument.to_string()));
    environment.chain(argv).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::model::ModelFile;
    use serde_json::json;

    fn model(settings: &[(&str, Value)]) -> Model {
        Model {
            id: 7,
            name: "qwen3:8b-q4".to_owned(),
            aliases: vec![],
            path: WirePath::from("/models/a b.gguf"),
            file: ModelFile::default(),
            settings: settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
            revision: 1,
            added_at_ms: 0,
            changed_at_ms: 0,
        }
    }

    fn runtime(flags: &[&str]) -> NewRuntime {
        NewRuntime {
            path: WirePath::from("/opt/llama/llama-server"),
            inode: 1,
            size_bytes: 1,
            mtime_ns: 1,
            version: None,
            reports_progress: true,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        }
    }

    fn arguments(line: &CommandLine) -> Vec<String> {
        line.argv.iter().skip(1).map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_emitted_that_nobody_set() {
        let line =
            build(&model(&[]), &runtime(&["cors-origins"]), &Target::Socket("/r/m7.sock".into()));
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
        let settings = [
            ("ctx-size", json!(4096)),
            ("gpu-layers", json!("all")),
            ("extra-args", json!(["--temp", "0.2"])),
        ];
        let target = Target::Address("127.0.0.1:8101".parse().unwrap());
        let line = build(&model(&settings), &runtime(&["cors-origins"]), &target);
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
                "--gpu-layers",
                "all",
                "--temp",
                "0.2"
            ]
        );
        let old_build = build(&model(&settings), &runtime(&[]), &target);
        assert!(!arguments(&old_build).iter().any(|argument| argument == "--cors-origins"));
    }

    #[test]
    fn the_shell_text_reads_back_as_the_same_words() {
        let line = build(&model(&[]), &runtime(&[]), &Target::Socket("/r/m7.sock".into()));
        let words = shlex::split(&shell(&line)).unwrap();
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
