//! Every way a real llama-server fails: what is said of it, and that it is not tried again in vain.
//!
//! llamactl refuses most of these before it starts anything; a runtime that is a script
//! (`llamactl_tests::wrapper`) breaks what llamactl has found whole. What it refuses is told from what llama-server says by the tests at the end.
//!
//! Not here: what needs a GPU (its memory exhausted, the device lost); `mlock` beyond its limit,
//! which root does not have and which is only a warning; a context of 1e9 tokens, which takes 40
//! seconds and 6 GB to fail as `memory` below does. Their lines are in the tests of `logs/classify`.

use llamactl_tests::http::Endpoint;
use llamactl_tests::processes::Process;
use llamactl_tests::{Daemon, Home, TestModel, need};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A home with a runtime that runs a piece of shell first, and its daemon.
struct Broken {
    home: Home,
    _daemon: Daemon,
}

impl Broken {
    fn new() -> Broken {
        let home = Home::with_wrapped_llama_server();
        let daemon = home.daemon();
        Broken { home, _daemon: daemon }
    }

    fn add(&self, name: &str, model: TestModel, settings: &Value, before: &str) -> PathBuf {
        self.home.wrapped_model(name, model, settings, before)
    }

    fn start(&self, name: &str) {
        self.home.call("server.start", json!({ "model": name }));
    }

    /// The server once it neither starts nor runs any more.
    fn at_rest(&self, name: &str) -> Value {
        let mut states = self.home.follow("server.follow", json!({ "model": name }));
        states.item_where(|it| ["failed", "stopped", "ready"].iter().any(|at| it["state"] == *at))
            ["data"]
            .take()
    }

    /// The server once it is in this state.
    fn until(&self, name: &str, state: &str) -> Value {
        self.home.follow("server.follow", json!({ "model": name })).until_state(state)
    }

    /// Sends a signal to the process of a server.
    fn signal(&self, server: &Value, signal: Signal) {
        let pid = u32::try_from(server["run"]["pid"].as_u64().unwrap()).unwrap();
        Process::open(pid).unwrap().signal(signal);
    }

    /// A soft limit of the process of a server.
    fn limit(&self, server: &Value, name: &str) -> String {
        let limits = fs::read_to_string(format!("/proc/{}/limits", server["run"]["pid"])).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    }

    /// How often a process was made for it that said why it ended, or did not end. llama-server
    /// writes its log from a thread that an exit may overtake (seen once): an end without a
    /// word is rightly tried again.
    fn starts(&self, name: &str) -> usize {
        let listed = self.home.call("event.list", json!({ "model": name, "limit": 500 }));
        let events = listed["items"].as_array().unwrap().iter();
        let wordless = |event: &&Value| event["details"]["cause"]["code"] == "unknown_error";
        let made = events.clone().filter(|event| event["kind"] == "server.starting").count();
        made - events.filter(|event| event["kind"] == "server.backoff").filter(wordless).count()
    }
}

/// A way to fail at the start.
struct Case {
    name: &'static str,
    model: TestModel,
    /// What the wrapper does first; `$model` is the file.
    before: &'static str,
    /// The cause's code.
    code: &'static str,
    /// What the message or the evidence must tell.
    tells: &'static str,
}

const fn case(
    name: &'static str,
    before: &'static str,
    code: &'static str,
    tells: &'static str,
) -> Case {
    Case { name, model: TestModel::Tiny, before, code, tells }
}

const fn of(model: TestModel, case: Case) -> Case {
    Case { model, ..case }
}

/// The file.
const MODELS: &[Case] = &[
    case("missing", r#"rm "$model""#, "model_not_found", "missing.gguf"),
    case(
        "forbidden",
        // Root reads everything unless it gives that up.
        r#"chmod 0 "$model"
        exec setpriv --bounding-set=-dac_override,-dac_read_search "$real" "$@""#,
        "file_permission",
        "forbidden.gguf",
    ),
    case("directory", r#"rm "$model"; mkdir "$model""#, "model_empty", "failed to read magic"),
    case("empty", r#": > "$model""#, "model_empty", "failed to read magic"),
    case("no-gguf", r#"echo hello world > "$model""#, "not_gguf", "hell"),
    case(
        "version",
        r#"printf '\143' | dd of="$model" bs=1 seek=4 conv=notrunc 2>/dev/null"#,
        "gguf_version",
        "99",
    ),
    case(
        "cut-header",
        r#"truncate -s 200 "$model""#,
        "model_truncated",
        "failed to read key-value",
    ),
    case(
        "cut-data",
        r#"truncate -s -64 "$model""#,
        "model_truncated",
        "not within the file bounds",
    ),
    of(TestModel::WrongArchitecture, case("architecture", "", "unsupported_arch", "nonesuch")),
    case(
        "tokenizer",
        r#"LC_ALL=C sed -i 's/\(tokenizer.ggml.model............\)llama/\1lamax/' "$model""#,
        "unsupported_tokenizer",
        "lamax",
    ),
];

/// Whole GGUF files that are no model.
const NO_MODELS: &[Case] = &[
    case(
        "vocabulary",
        r#"cat "$shared/vocabulary-only.gguf" > "$model""#,
        "model_invalid",
        "tensor",
    ),
    case("adapter", r#"cat "$shared/lora.gguf" > "$model""#, "model_invalid", ""),
    of(
        TestModel::Medium,
        case("other-base", r#"set -- "$@" --lora "$shared/lora.gguf""#, "lora_wrong_base", "shape"),
    ),
];

/// What is given beside the model.
const ARGUMENTS: &[Case] = &[
    case("flag", r#"set -- "$@" --frobnicate"#, "bad_flag", "--frobnicate"),
    case("value", r#"set -- "$@" -c many"#, "bad_value", "-c"),
    case("no-value", r#"set -- "$@" -c"#, "bad_value", "expected value"),
    case("cache-type", r#"set -- "$@" -ctk q3_9"#, "bad_value", "q3_9"),
    case("device", r#"set -- "$@" --device CUDA9"#, "bad_device", "CUDA9"),
    case("removed", r#"set -- "$@" --draft-max 3"#, "flag_removed", "--spec-draft-n-max"),
    case("variable", "export LLAMA_ARG_CTX_SIZE=many", "bad_env", "LLAMA_ARG_CTX_SIZE"),
    case("projector", r#"set -- "$@" --mmproj /absent.gguf"#, "mmproj_failed", "/absent.gguf"),
    case("no-projector", r#"set -- "$@" --mmproj "$model""#, "mmproj_failed", "no-projector.gguf"),
    case("lora", r#"set -- "$@" --lora /absent.gguf"#, "lora_not_found", "/absent.gguf"),
    case("no-lora", r#"set -- "$@" --lora "$model""#, "lora_not_adapter", "adapter"),
    case("draft", r#"set -- "$@" -md /absent.gguf"#, "draft_failed", "/absent.gguf"),
    case("slots", r#"set -- "$@" -np 10000"#, "too_many_slots", "256"),
    case("v-cache", r#"set -- "$@" -ctv q4_0 -fa off"#, "kv_quant_needs_fa", "flash_attn"),
    case("batch", r#"set -- "$@" -b 0"#, "assert", "GGML_ASSERT"),
    case("context", r#"set -- "$@" -c -5"#, "assert", "GGML_ASSERT"),
    case("grammar", r#"set -- "$@" --grammar 'root ::= ('"#, "grammar", "grammar"),
    case(
        "template",
        r#"set -- "$@" --chat-template nonesuch --no-jinja"#,
        "bad_chat_template",
        "template",
    ),
    case("ssl", r#"set -- "$@" --ssl-key-file /k --ssl-cert-file /c"#, "no_ssl", "SSL"),
    case(
        "router",
        r#"set -- --host "$(dirname "$model")/r.sock" --models-dir /absent"#,
        "router_init",
        "/absent",
    ),
    of(
        TestModel::Medium,
        case(
            "memory",
            r#"ulimit -v 4000000; set -- "$@" -c 1000000 -np 1 --fit off"#,
            "oom_kv_cache",
            "allocate",
        ),
    ),
    // A mapping as large as the file, which has a hole of that size at its end.
    case(
        "mapping",
        r#"truncate -s 8G "$model"; ulimit -v 4000000"#,
        "oom_ram",
        "mmap failed: Cannot allocate memory",
    ),
    case(
        "socket",
        r#"set -- "$@" --host "$(dirname "$model")/absent/y.sock""#,
        "bind_failed",
        "absent/y.sock",
    ),
];

/// The program itself.
const PROGRAMS: &[Case] = &[
    case(
        "library",
        r#"cp "$real" "$model.server"; LD_LIBRARY_PATH=; exec "$model.server" "$@""#,
        "missing_library",
        ".so",
    ),
    case("absent", "exec /absent/llama-server", "executable_not_found", "/absent/llama-server"),
    case(
        "not-executable",
        r#"cp "$real" "$model.server"; chmod a-x "$model.server"; exec "$model.server" "$@""#,
        "executable_not_allowed",
        "not-executable.gguf.server",
    ),
    case(
        "wrong-format",
        // An executable of another kind of machine.
        r#"cp "$real" "$model.server"
        printf '\267' | dd of="$model.server" bs=1 seek=18 conv=notrunc 2>/dev/null
        exec "$model.server" "$@""#,
        "executable_wrong_format",
        "wrong-format.gguf.server",
    ),
    case("exits", "exit 0", "exited", ""),
];

/// Starts all of a table at once; each must fail for its own reason, and once.
fn fail_as_said(cases: &[Case]) {
    let broken = Broken::new();
    for case in cases {
        broken.add(case.name, case.model, &json!({}), case.before);
        broken.start(case.name);
    }
    let mut wrong = Vec::new();
    for case in cases {
        let shown = broken.at_rest(case.name);
        let cause = &shown["cause"];
        let told = format!("{} {}", cause["message"], cause["evidence"]);
        // A server that cannot listen may be tried once more, elsewhere.
        let most_starts = if case.code == "bind_failed" { 2 } else { 1 };
        // An exit that overtakes the thread of the log takes its last lines along: what came before
        // "failed to load draft model" is that the file is not there, which is right too.
        let is_cut = ["draft_failed", "mmproj_failed", "lora_not_found"].contains(&case.code)
            && cause["code"] == "model_not_found";
        let is_right = shown["state"] == "failed"
            && (cause["code"] == case.code || is_cut)
            && told.contains(case.tells)
            && cause["hint"].as_str().is_some_and(|hint| !hint.is_empty())
            && (case.tells.is_empty() || !cause["evidence"].as_array().unwrap().is_empty())
            && broken.starts(case.name) <= most_starts;
        if !is_right {
            let starts = broken.starts(case.name);
            let log = broken.home.cli(["logs", case.name, "-n", "12"]).stdout();
            wrong.push(format!(
                "{}: {} starts, {} {cause}\n{log}",
                case.name, starts, shown["state"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(broken.home.llama_servers().is_empty());
}

#[test]
fn a_model_file_that_is_wrong_is_told_and_not_tried_again() {
    need!("root", "setpriv");
    fail_as_said(MODELS);
    fail_as_said(NO_MODELS);
}

#[test]
fn an_argument_that_is_wrong_is_told_and_not_tried_again() {
    fail_as_said(ARGUMENTS);
}

#[test]
fn a_program_that_cannot_run_is_told_and_not_tried_again() {
    fail_as_said(PROGRAMS);
}

#[test]
fn a_signal_from_outside_is_told_by_its_name() {
    let broken = Broken::new();
    let signals = [
        (Signal::SEGV, "segfault"),
        (Signal::ABORT, "abort"),
        (Signal::ILL, "illegal_instruction"),
        (Signal::BUS, "model_file_changed"),
        (Signal::FPE, "killed_by_signal"),
        (Signal::KILL, "killed"),
        (Signal::HUP, "terminated_by_other"),
        (Signal::QUIT, "killed_by_signal"),
    ];
    for (number, (signal, code)) in signals.into_iter().enumerate() {
        let name = format!("m{number}");
        broken.add(&name, TestModel::Tiny, &json!({ "restart": "never" }), "");
        broken.start(&name);
        let ready = broken.at_rest(&name);
        assert_eq!(ready["state"], "ready", "{ready}");
        // 21: whatever kills it, it leaves no core file, wherever the machine puts those.
        assert_eq!(broken.limit(&ready, "Max core file size"), "0");
        broken.signal(&ready, signal);
        let failed = broken.until(&name, "failed");
        let cause = &failed["cause"];
        assert_eq!(cause["code"], code, "{signal:?}: {cause}");
        assert_eq!(cause["signal"], signal.as_raw(), "{cause}");
        assert_eq!(cause["exit_code"], Value::Null, "{cause}");
        assert!(cause["message"].is_string(), "{cause}");
        assert_eq!(broken.starts(&name), 1);
    }
}

/// 36: the file is cut while it is mapped, and the next token reads behind its end.
#[test]
fn a_model_cut_while_it_is_mapped_is_told() {
    let broken = Broken::new();
    let path = broken.add("m", TestModel::Tiny, &json!({ "restart": "never" }), "");
    broken.start("m");
    let ready = broken.at_rest("m");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8192).unwrap();
    // The answer breaks off, or never begins.
    let _ = Endpoint::of(&ready).post(
        "/v1/chat/completions",
        &json!({ "messages": [{ "role": "user", "content": "Go on." }], "max_tokens": 8 }),
    );
    let failed = broken.until("m", "failed");
    let cause = &failed["cause"];
    assert_eq!((&cause["code"], &cause["signal"]), (&json!("model_file_changed"), &json!(7)));
    assert!(cause["hint"].as_str().unwrap().contains("model file"), "{cause}");
}

/// It has unloaded the model while nobody used it, and the file is gone when somebody does.
#[test]
fn a_model_that_is_gone_when_its_server_wakes_is_told() {
    let broken = Broken::new();
    let path = broken.add("m", TestModel::Tiny, &json!({ "sleep-idle-seconds": 1 }), "");
    broken.start("m");
    broken.at_rest("m");
    let sleeping = broken.until("m", "sleeping");
    fs::remove_file(path).unwrap();
    let _ = Endpoint::of(&sleeping).post(
        "/v1/chat/completions",
        &json!({ "messages": [{ "role": "user", "content": "Wake up." }], "max_tokens": 8 }),
    );
    let failed = broken.until("m", "failed");
    // It aborts while its log is still being written: the line that says why may not get there.
    let code = failed["cause"]["code"].as_str().unwrap();
    assert!(["wake_failed", "model_not_found"].contains(&code), "{failed}");
    assert!(failed["cause"]["hint"].as_str().unwrap().contains("file"), "{failed}");
    assert_eq!(broken.starts("m"), 1);
}

#[test]
fn what_llama_server_would_refuse_is_refused_when_it_is_set() {
    let (home, _daemon) = Home::with_tiny();
    for (setting, kind) in [
        ("frobnicate=1", "unknown_option"),
        ("ctx-size=many", "invalid_value"),
        ("ctx-size=-5", "invalid_value"),
        ("ctx-size=1000000000", "invalid_value"),
        ("batch-size=0", "invalid_value"),
        ("parallel=10000", "invalid_value"),
        ("cache-type-k=q3_9", "invalid_value"),
        ("port=99999", "invalid_value"),
        ("host=0.0.0.0", "invalid_value"),
        ("draft-max=3", "option_refused"),
        ("ssl-key-file=/k", "option_refused"),
        ("models-dir=/absent", "option_refused"),
        ("extra-args=--frobnicate", "unknown_option"),
        ("extra-args=--host 0.0.0.0", "invalid_value"),
    ] {
        let refused = home.cli(["--json", "model", "set", "tiny", setting]);
        assert!(!refused.status.success(), "{setting}");
        let failure = refused.failure();
        assert_eq!(failure["kind"], kind, "{setting}: {failure}");
        assert!(failure["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{failure}");
    }
    assert_eq!(home.call("model.show", json!({ "model": "tiny" }))["settings"], json!({}));
}

#[test]
fn what_is_no_model_is_refused_when_it_is_added() {
    let home = Home::without_llama_server();
    let _daemon = home.daemon();
    let file = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(TestModel::Tiny.shared()).unwrap();
    let version = [b"GGUF\x63", &whole[5..]].concat();
    fs::create_dir(home.path().join("directory.gguf")).unwrap();
    for (path, kind) in [
        (home.path().join("absent.gguf"), "file_not_found"),
        (home.path().join("directory.gguf"), "not_a_file"),
        ("/dev/zero".into(), "not_a_file"),
        (file("empty.gguf", b""), "not_gguf"),
        (file("text.gguf", b"hello world"), "not_gguf"),
        (file("version.gguf", &version), "gguf_version"),
        (file("header.gguf", &whole[..200]), "gguf_truncated"),
        (file("data.gguf", &whole[..whole.len() - 64]), "gguf_truncated"),
        (home.model(TestModel::VocabularyOnly), "not_a_model"),
        (home.model(TestModel::Lora), "not_a_model"),
    ] {
        let refused = home.cli(["--json", "model", "add", path.to_str().unwrap()]);
        assert!(!refused.status.success(), "{}", path.display());
        let failure = refused.failure();
        assert_eq!(failure["kind"], kind, "{failure}");
        assert!(failure["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{failure}");
    }
}

/// The runtime was whole when it was looked at, and is not any more.
#[test]
fn a_runtime_that_was_broken_since_is_told() {
    type Spoil = fn(&Path) -> std::io::Result<()>;
    let forbid: Spoil = |path| fs::set_permissions(path, Permissions::from_mode(0o644));
    let overwrite: Spoil = |path| fs::write(path, b"\x7fELF and then nothing");
    let remove: Spoil = |path| fs::remove_file(path);
    for (spoil, kind, tells) in [
        (forbid, "runtime_not_found", "may not be executed"),
        (overwrite, "runtime_refused", "Exec format error"),
        (remove, "runtime_not_found", "does not exist"),
    ] {
        let broken = Broken::new();
        broken.add("m", TestModel::Tiny, &json!({}), "");
        broken.start("m");
        assert_eq!(broken.at_rest("m")["state"], "ready");
        broken.home.cli(["stop", "m"]).ok();
        spoil(&broken.home.wrapper()).unwrap();
        let output = broken.home.cli(["--json", "start", "m"]);
        assert!(!output.status.success());
        let failure = output.failure();
        assert_eq!(failure["kind"], kind, "{failure}");
        assert!(failure["message"].as_str().unwrap().contains(tells), "{failure}");
        assert!(failure["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{failure}");
        assert_eq!(broken.starts("m"), 1);
    }
}
