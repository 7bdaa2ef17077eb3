use super::*;
use llamactl_protocol::options::Settings;
use proptest::prelude::*;

const FAILED: Exit = Exit::Code(1);
const ABORTED: Exit = Exit::Signal(libc::SIGABRT);

fn tail(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn verdict_of(exit: Exit, lines: &[&str]) -> Verdict {
    classify(exit, &tail(lines), Context::default())
}

/// A line that llama-server was seen to write, how it exited, and the code for it.
const SEEN: &[(&str, Exit, &str)] = &[
    (
        "gguf_init_from_file: failed to open GGUF file '/nonexistent/x.gguf' (No such file or directory)",
        FAILED,
        "model_not_found",
    ),
    (
        "gguf_init_from_file: failed to open GGUF file '/models/noperm.gguf' (Permission denied)",
        FAILED,
        "file_permission",
    ),
    ("gguf_init_from_reader: failed to read magic", FAILED, "model_empty"),
    (
        "gguf_init_from_reader: invalid magic characters: 'hell', expected 'GGUF'",
        FAILED,
        "not_gguf",
    ),
    (
        "gguf_init_from_reader: this GGUF file is version 99 but this software only supports up to version 3",
        FAILED,
        "gguf_version",
    ),
    ("gguf_init_from_reader: failed to read key-value pairs", FAILED, "model_truncated"),
    (
        "gguf_init_from_reader: tensor 'a.weight' has invalid ggml type 99. should be in [0, 43)",
        FAILED,
        "unsupported_quant",
    ),
    (
        "gguf_init_from_reader: duplicate key 'general.name' for tensors 1 and 6",
        FAILED,
        "model_damaged",
    ),
    (
        "/x/llama-server: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /x/llama-server)",
        FAILED,
        "build_unfit",
    ),
    (
        "CUDA error: no kernel image is available for execution on the device",
        ABORTED,
        "build_unfit",
    ),
    ("ROCm error: invalid device function", ABORTED, "build_unfit"),
    ("hipErrorNoBinaryForGpu: Unable to find code object", ABORTED, "build_unfit"),
    ("read: string length 6410431845844 exceeds maximum 1073741824", FAILED, "model_damaged"),
    (
        "/o/llama-server: symbol lookup error: /o/libllama.so: undefined symbol: ggml_x",
        Exit::Code(127),
        "missing_library",
    ),
    (
        "  what():  vk::PhysicalDevice::createDevice: ErrorFeatureNotPresent",
        ABORTED,
        "cpp_exception",
    ),
    (
        "llama_init_from_model: failed to initialize the context: the type q4_0 is not supported",
        FAILED,
        "context_init",
    ),
    (
        "common_init_from_params: failed to create context with model '/m/x.gguf'",
        FAILED,
        "context_init",
    ),
    ("context type MTP requested but model doesn't contain MTP layers", FAILED, "no_draft_layers"),
    (
        "the draft model 'd.gguf' is not compatible with the target model 'm.gguf'",
        FAILED,
        "draft_failed",
    ),
    ("llama_model_load: error loading model: unable to allocate CUDA0 buffer", FAILED, "oom_vram"),
    (
        "llama_model_load: error loading model: tensor 'blk.0.attn_q.weight' data is not within the file bounds, model is corrupted or incomplete",
        FAILED,
        "model_truncated",
    ),
    (
        "llama_model_load: error loading model: unknown model architecture: 'frobnicator'",
        FAILED,
        "unsupported_arch",
    ),
    (
        "llama_model_load: error loading model: check_tensor_dims: tensor 'token_embd.weight' not found",
        FAILED,
        "model_invalid",
    ),
    (
        "error loading model: error loading model hyperparameters: key not found in model: llama.context_length",
        FAILED,
        "model_invalid",
    ),
    (
        "error loading model: error loading model vocabulary: unknown pre-tokenizer type: 'zz'",
        FAILED,
        "unsupported_tokenizer",
    ),
    ("error loading model: something new", FAILED, "model_load_other"),
    ("srv llama_server: exiting due to model loading error", FAILED, "model_load_failed"),
    ("error: invalid argument: --frobnicate", FAILED, "bad_flag"),
    ("error while handling argument \"-c\": stoi", FAILED, "bad_value"),
    ("error while handling argument \"-ctk\": Unsupported cache type: q3_9", FAILED, "bad_value"),
    ("error while handling argument \"--device\": invalid device: CUDA9", FAILED, "bad_device"),
    (
        "error while handling argument \"--mlock\": the argument has been removed. use --load-mode",
        FAILED,
        "flag_removed",
    ),
    ("error while handling argument \"-c\": expected value for argument", FAILED, "bad_value"),
    ("error: invalid argument: 1", FAILED, "bad_flag"),
    ("error while handling environment variable \"LLAMA_ARG_CTX_SIZE\": stoi", FAILED, "bad_env"),
    ("srv load_model: failed to load multimodal model, '/m/mm.gguf'", FAILED, "mmproj_failed"),
    (
        "mtmd_get_memory_usage: error: Failed to load CLIP model from /m/mm.gguf",
        FAILED,
        "mmproj_failed",
    ),
    ("failed to load lora adapter file from /m/lora.gguf", FAILED, "lora_not_found"),
    (
        "failed to apply lora adapter: tensor 'blk.0.attn_q.weight' has incorrect shape (hint: maybe wrong base model?)",
        FAILED,
        "lora_wrong_base",
    ),
    (
        "failed to apply lora adapter: expect general.type to be 'adapter', but got: model",
        FAILED,
        "lora_not_adapter",
    ),
    ("srv load_model: failed to load draft model, '/m/d.gguf'", FAILED, "draft_failed"),
    (
        "ggml_aligned_malloc: insufficient memory (attempted to allocate 52744.50 MB)",
        FAILED,
        "oom_ram",
    ),
    ("alloc_tensor_range: failed to allocate CPU buffer of size 55306616832", FAILED, "oom_ram"),
    ("failed to allocate buffer for kv cache", FAILED, "oom_kv_cache"),
    ("failed to initialize the context: std::bad_alloc", FAILED, "oom_kv_cache"),
    ("llama_mmap: mmap failed: Cannot allocate memory", FAILED, "oom_ram"),
    ("failed to initialize the context: n_seq_max must be <= 256", FAILED, "too_many_slots"),
    ("quantized V cache requires flash_attn to be enabled", FAILED, "kv_quant_needs_fa"),
    ("failed to create_context with model '/m/x.gguf'", FAILED, "context_init"),
    ("/path/llama-context.cpp:2397: GGML_ASSERT(n_outputs >= 1) failed", ABORTED, "assert"),
    ("failed to parse grammar", ABORTED, "grammar"),
    (
        "terminate called after throwing an instance of 'std::runtime_error'",
        ABORTED,
        "cpp_exception",
    ),
    ("error: the supplied chat template is not supported: {{ x", FAILED, "bad_chat_template"),
    ("the server is built without SSL support", FAILED, "no_ssl"),
    (
        "srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 19001",
        FAILED,
        "bind_failed",
    ),
    ("exiting due to HTTP server error", FAILED, "http_start"),
    ("failed to initialize router models: no such directory", FAILED, "router_init"),
    ("GGML_ABORT failed to reload model after sleeping", ABORTED, "wake_failed"),
    (
        "llama-server: error while loading shared libraries: libllama-server-impl.so: cannot open shared object file",
        Exit::Code(127),
        "missing_library",
    ),
    // A runtime that is a script: dash, then bash.
    ("/r/run: 1: exec: /r/server: not found", Exit::Code(127), "executable_not_found"),
    (
        "/r/run: line 1: /r/server: No such file or directory",
        Exit::Code(127),
        "executable_not_found",
    ),
    ("/r/run: 1: exec: /r/server: Permission denied", Exit::Code(126), "executable_not_allowed"),
    (
        "/r/run: line 1: exec: /r/server: cannot execute: Permission denied",
        Exit::Code(126),
        "executable_not_allowed",
    ),
    ("/r/run: 1: exec: /r/server: Exec format error", Exit::Code(126), "executable_wrong_format"),
    (
        "/r/run: line 1: /r/server: cannot execute binary file: Exec format error",
        Exit::Code(126),
        "executable_wrong_format",
    ),
    ("failed to download model: timeout", FAILED, "download_failed"),
    (
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9.00 MiB on device 0: cudaMalloc failed: out of memory",
        FAILED,
        "oom_vram",
    ),
    ("ggml_vulkan: Device memory allocation of size 10 failed.", FAILED, "oom_vram"),
    ("CUDA error: an illegal memory access was encountered", ABORTED, "gpu_lost"),
    ("vk::Queue::submit: ErrorDeviceLost", ABORTED, "gpu_lost"),
    ("CUDA error: invalid device ordinal", ABORTED, "gpu_error"),
    ("llama_server: failed to load lora adapter '/m/l.gguf'", FAILED, "lora_failed"),
];

#[test]
fn every_line_seen_has_its_code_also_with_prefix_colour_and_glued() {
    for (line, exit, code) in SEEN {
        for written in [
            (*line).to_owned(),
            format!("0.00.012.345 E srv  {line}"),
            format!("\u{1b}[31m0.00.012.345 E \u{1b}[0m{line}\u{1b}[0m"),
            format!("AMX is not ready to be used!0.00.012.345 E {line}"),
            String::from_utf8_lossy(&[b"\xff\xfe".as_slice(), line.as_bytes()].concat()).into(),
        ] {
            let lines = ["0.00.001.000 I cmn  starting", &written, "0.00.013.000 I srv  cleanup"];
            let verdict = verdict_of(*exit, &lines);
            assert_eq!(verdict.code.as_str(), *code, "{written}");
            assert!(verdict.evidence[0].contains(line), "{verdict:?}");
            assert!(
                verdict.message.ends_with('.') && !verdict.message.contains("{"),
                "{verdict:?}"
            );
        }
    }
}

#[test]
fn every_rule_compiles_and_is_seen() {
    assert_eq!(PATTERNS.len(), RULES.len());
    for (rule, pattern) in PATTERNS.iter() {
        let is_it = |(line, _, code): &(&str, Exit, &str)| {
            *code == rule.code.as_str() && pattern.is_match(line)
        };
        assert!(SEEN.iter().any(is_it), "{}: {}", rule.code, rule.pattern);
        for number in 1..=2 {
            let place = format!("{{{number}}}");
            let used = rule.message.contains(&place)
                || rule.cures.iter().flat_map(Cure::words).any(|word| word.contains(&place));
            assert!(!used || pattern.captures_len() > number, "{}", rule.code);
        }
    }
}

#[test]
fn a_cause_is_told_rather_than_what_follows_from_it() {
    let verdict = verdict_of(
        FAILED,
        &[
            "0.00.010.000 I srv  load_model: loading model '/m/x.gguf'",
            "0.00.011.000 E gguf_init_from_file: failed to open GGUF file '/m/x.gguf' (Permission denied)",
            "0.00.012.000 E llama_model_load: error loading model: llama_model_loader: failed to load model from /m/x.gguf",
            "0.00.013.000 E srv  load_model: failed to load model, '/m/x.gguf'",
            "0.00.014.000 E srv  llama_server: exiting due to model loading error",
        ],
    );
    assert_eq!(verdict.code, CauseCode::FilePermission);
    assert_eq!(verdict.class, Class::Model);
    assert_eq!(verdict.retry, Retry::No);
    assert_eq!(verdict.message, "llama-server may not read the file /m/x.gguf.");
    assert_eq!(
        verdict.evidence,
        ["gguf_init_from_file: failed to open GGUF file '/m/x.gguf' (Permission denied)"]
    );
}

#[test]
fn what_is_said_to_llamactl_is_not_quoted() {
    let line = r#"cmd_child_to_router:state:{"state":"loading","payload":{"value":0.0}}"#;
    let verdict = verdict_of(FAILED, &["0.00.006 I srv load_model: loading model '/m'", line]);
    assert!(!verdict.message.contains("cmd_child"), "{}", verdict.message);
    assert!(verdict.evidence.iter().all(|it| !it.contains("cmd_child")), "{:?}", verdict.evidence);
}

#[test]
fn messages_are_filled_and_read_well() {
    for (line, message) in [
        (
            "couldn't bind HTTP server socket, hostname: /run/x s.sock, port: 8080",
            "llama-server cannot listen on /run/x s.sock, port 8080.",
        ),
        ("error while handling argument \"-c\": stoi", "The value of -c is not valid: stoi."),
        ("error while handling argument \"-c\": ", "The value of -c is not valid."),
        ("CUDA error: it broke.", "The GPU reported an error: it broke."),
        (
            "gguf_init_from_reader: invalid magic characters: '{1}', expected 'GGUF'",
            "The file is not a GGUF file: it begins with '{1}'.",
        ),
    ] {
        assert_eq!(verdict_of(FAILED, &[line]).message, message);
    }
}

#[test]
fn a_cure_names_what_only_the_run_knows_and_is_left_out_where_it_cannot() {
    let settings: Settings = serde_json::from_value(serde_json::json!({
        "runtime": "cuda", "ctx-size": 8192, "threads": 4, "env.GGML_X": "1",
    }))
    .unwrap();
    let hints = |settings: Option<&Settings>, line: &str| {
        let exit = if line.contains("shared") { Exit::Code(127) } else { FAILED };
        let subject = Subject { settings, context_length: Some(4096) };
        let context = Context { subject, ..Context::default() };
        let found = classify(exit, &tail(&[line]), context).hints.of_model("m");
        found.lines().collect::<Vec<_>>().join(" · ")
    };
    let removed = "error while handling argument \"-t\": the argument has been removed.";
    let memory = "ggml_aligned_malloc: insufficient memory (attempted to allocate 8 MB)";
    let library = "s: error while loading shared libraries: libx.so.1: cannot open";
    let variable = "error while handling environment variable \"GGML_X\": stoi";
    let extra: Settings =
        serde_json::from_value(serde_json::json!({ "extra-args": ["--t"] })).unwrap();
    for (settings, line, said) in [
        (
            Some(&settings),
            removed,
            "reset it: llamactl model unset m threads · see the command line of a start: llamactl model \
             args m",
        ),
        (
            Some(&extra),
            removed,
            "reset it: llamactl model unset m extra-args · see the command line of a start: llamactl \
             model args m",
        ),
        (None, removed, "see the command line of a start: llamactl model args m"),
        (
            Some(&settings),
            variable,
            "reset it: llamactl model unset m env.GGML_X · or correct the variable",
        ),
        (
            Some(&settings),
            memory,
            "use a smaller context: llamactl model set m ctx-size=4096 · or stop another: see \
             which run: llamactl ps",
        ),
        (
            None,
            memory,
            "use a smaller context: llamactl model set m ctx-size=2048 · or stop another: see \
             which run: llamactl ps",
        ),
        (
            Some(&settings),
            library,
            "say where libx.so.1 is: llamactl runtime set cuda env.LD_LIBRARY_PATH=DIR · or use \
             another build: llamactl model set m runtime=OTHER",
        ),
        (
            None,
            library,
            "add the build with the place of libx.so.1: llamactl runtime add FILE \
             env.LD_LIBRARY_PATH=DIR · or use another build: llamactl model set m runtime=OTHER",
        ),
    ] {
        assert_eq!(hints(settings, line), said, "{line}");
    }
}

#[test]
fn what_follows_from_a_cause_is_not_taken_for_it() {
    for (line, code) in [
        ("tensor 'a.weight' has invalid ggml type 99. should be in [0, 43)", "unsupported_quant"),
        ("duplicate key 'general.name' for tensors 1 and 6", "model_damaged"),
        ("read: string length 6410431845844863874 exceeds maximum 1073741824", "model_damaged"),
    ] {
        let lines = [
            &format!("0.00.01 E gguf_init_from_reader: {line}"),
            "0.00.02 E gguf_init_from_reader: failed to read tensor info",
            "0.00.03 E srv  llama_server: exiting due to model loading error",
        ];
        assert_eq!(verdict_of(FAILED, &lines).code.as_str(), code);
    }
}

#[test]
fn without_a_rule_the_line_that_tells_most_is_quoted() {
    let verdict = verdict_of(
        FAILED,
        &[
            "0.00.010.000 W srv  init: something is odd",
            "0.00.011.000 E srv  init: the flux is out of range",
            "0.00.012.000 E cmn  common_fit_params: failed to fit params to free device memory: x",
            "0.00.013.000 I srv  init: cleaning up before exit...",
        ],
    );
    assert_eq!(verdict.message, "It exited with code 1: srv  init: the flux is out of range.");
    assert_eq!(verdict.retry, Retry::Once);
    let warned = ["0.00.010.000 W srv  init: something is odd", "0.00.011.000 I srv  good bye"];
    assert_eq!(verdict_of(ABORTED, &warned).message, "It aborted: srv  init: something is odd.");
    // What llama-server says of a usual start tells nothing.
    let usual =
        verdict_of(FAILED, &["0.00.010.000 I srv  loading", "0.00.011.000 I srv  good bye"]);
    assert_eq!(usual.message, "It exited with code 1 and did not say why.");
    assert_eq!((usual.retry, usual.evidence.len()), (Retry::Limited, 2));
    // Nor does its advice on the command line: the line that says why was lost.
    let advised = [
        "warn: LLAMA_ARG_HOST environment variable is set, but will be overwritten by command line argument --host",
        "0.00.026.285 W DEPRECATED: argument '--host' specified multiple times, use comma-separated values instead",
        "0.00.026.499 I cmn  common_param: common_params_print_info: verbosity = 3",
        "0.00.055.109 W srv  llama_server: -----------------",
        "0.00.055.110 W srv  llama_server: CORS is set to allow all origins ('*') and no API key is set",
        "0.00.055.110 W srv  llama_server: this can be a security risk (cross-origin attacks)",
    ];
    let advised = verdict_of(FAILED, &advised);
    assert_eq!((advised.message, advised.retry), (usual.message, Retry::Limited));
}

#[test]
fn without_a_line_the_exit_decides() {
    use libc::{SIGABRT, SIGBUS, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGSEGV, SIGTERM};
    for (exit, code, retry) in [
        (Exit::Signal(SIGILL), "illegal_instruction", Retry::No),
        (Exit::Signal(SIGBUS), "model_file_changed", Retry::Limited),
        (Exit::Signal(SIGSEGV), "segfault", Retry::Limited),
        (Exit::Signal(SIGABRT), "abort", Retry::Limited),
        (Exit::Signal(SIGKILL), "killed", Retry::Limited),
        (Exit::Signal(SIGTERM), "terminated_by_other", Retry::Limited),
        (Exit::Signal(SIGINT), "terminated_by_other", Retry::Limited),
        (Exit::Signal(SIGHUP), "terminated_by_other", Retry::Limited),
        (Exit::Signal(SIGFPE), "killed_by_signal", Retry::Limited),
        (Exit::Signal(64), "killed_by_signal", Retry::Limited),
        (Exit::Code(0), "exited", Retry::Limited),
        (Exit::Code(1), "unknown_error", Retry::Once),
        (Exit::Code(126), "executable_not_allowed", Retry::No),
        (Exit::Code(127), "missing_library", Retry::No),
        (Exit::Unknown, "exit_unknown", Retry::Limited),
    ] {
        let verdict = verdict_of(exit, &["all is well"]);
        assert_eq!((verdict.code.as_str(), verdict.retry), (code, retry), "{exit:?}");
        let shows_its_end = ["abort", "unknown_error"].contains(&code);
        assert_eq!(verdict.evidence.is_empty(), !shows_its_end, "{exit:?}");
    }
}

#[test]
fn a_check_that_fails_at_the_load_is_not_tried_again() {
    let line = tail(&["/path/llama-context.cpp:2397: GGML_ASSERT(n_outputs >= 1) failed"]);
    let retry =
        |was_ready| classify(ABORTED, &line, Context { was_ready, ..Context::default() }).retry;
    assert_eq!((retry(false), retry(true)), (Retry::No, Retry::Limited));
}

#[test]
fn what_was_asked_for_is_no_crash() {
    let context = Context { asked_to_stop: true, ..Context::default() };
    for exit in [Exit::Code(0), FAILED, Exit::Signal(libc::SIGKILL), Exit::Signal(libc::SIGSEGV)] {
        let verdict = classify(exit, &tail(&["CUDA error: x"]), context);
        assert_eq!((verdict.code, verdict.class), (CauseCode::Stopped, Class::Stopped));
    }
}

#[test]
fn an_out_of_memory_kill_is_told_from_another() {
    let killed = |oom_kill_counted, was_ready| {
        let context = Context { oom_kill_counted, was_ready, ..Context::default() };
        let verdict = classify(Exit::Signal(libc::SIGKILL), &[], context);
        (verdict.code, verdict.retry)
    };
    assert_eq!(killed(Some(true), false), (CauseCode::OomKilled, Retry::No));
    assert_eq!(killed(Some(true), true), (CauseCode::OomKilled, Retry::Limited));
    assert_eq!(killed(Some(false), false), (CauseCode::Killed, Retry::Limited));
    assert_eq!(killed(None, true), (CauseCode::Killed, Retry::Limited));
}

#[test]
fn history_in_the_log_is_not_the_cause() {
    let stale = ["0.10.000.000 E srv  failed to parse grammar"];
    // Killed from outside, whatever stands in the log.
    for exit in [Exit::Code(0), Exit::Signal(libc::SIGKILL), Exit::Signal(libc::SIGTERM)] {
        assert_ne!(verdict_of(exit, &stale).code, CauseCode::Grammar);
    }
    // A script that goes on after a program it could not run.
    let optional = tail(&["run: line 2: /r/warm-up: No such file or directory", "GGML_ASSERT"]);
    assert_eq!(classify(FAILED, &optional, Context::default()).code, CauseCode::UnknownError);
    // A server that had been ready did not fail for its settings.
    let ready = Context { was_ready: true, ..Context::default() };
    assert_eq!(classify(FAILED, &tail(&stale), ready).code, CauseCode::UnknownError);
    let lost = tail(&[stale[0], "CUDA error: unspecified launch failure"]);
    assert_eq!(classify(ABORTED, &lost, ready).code, CauseCode::GpuLost);
}

#[test]
fn evidence_is_near_the_end_short_and_without_repeats() {
    let mut lines: Vec<String> = (0..50).map(|n| format!("0.00.000.000 E error {n}")).collect();
    let taken = Context { address_taken: true, ..Context::default() };
    assert_eq!(classify(FAILED, &[], taken).code, CauseCode::BindFailed);
    let later = Context { was_ready: true, ..taken };
    assert_eq!(classify(FAILED, &[], later).code, CauseCode::UnknownError);
    let unknown = classify(FAILED, &lines, Context::default());
    assert_eq!(unknown.evidence, ["error 47", "error 48", "error 49"]);

    lines.insert(10, "error loading model: same".to_owned());
    lines.insert(11, "error loading model: same".to_owned());
    let known = classify(FAILED, &lines, Context::default());
    assert_eq!(known.evidence, ["error loading model: same", "error 9", "error 10"]);

    let long = format!("error: invalid argument: {}", "é".repeat(5000));
    let verdict = verdict_of(FAILED, &[&long]);
    assert!(verdict.evidence[0].chars().count() <= 501 && verdict.message.chars().count() < 300);
}

#[test]
fn a_process_that_could_not_start_says_why() {
    for (errno, code, retry) in [
        (Some(libc::ENOENT), "executable_not_found", Retry::No),
        (Some(libc::EACCES), "executable_not_allowed", Retry::No),
        (Some(libc::ENOEXEC), "executable_wrong_format", Retry::No),
        (Some(libc::EAGAIN), "no_resources", Retry::Yes),
        (Some(libc::EIO), "spawn_failed", Retry::Limited),
        (None, "spawn_failed", Retry::Limited),
    ] {
        let verdict = classify_spawn_error(errno);
        assert_eq!(
            (verdict.code.as_str(), verdict.class, verdict.retry),
            (code, Class::Spawn, retry)
        );
    }
}

#[test]
fn a_verdict_is_in_snake_case_on_the_wire() {
    let line = "couldn't bind HTTP server socket, hostname: a, port: 1";
    let json = serde_json::to_value(verdict_of(FAILED, &[line])).unwrap();
    assert_eq!(json["code"], "bind_failed");
    assert_eq!(json["class"], "network");
    assert_eq!(json["retry"], "other_port");
}

proptest! {
    #[test]
    fn any_tail_gets_a_verdict(lines: Vec<String>, code: i32, was_ready: bool) {
        let context = Context { was_ready, ..Context::default() };
        let verdict = classify(Exit::Code(code), &lines, context);
        prop_assert!(verdict.evidence.len() <= 3);
    }
}

#[test]
fn a_file_that_goes_with_the_model_is_told_by_its_own_name() {
    // Without the line that follows: llama-server's end outran it.
    let tail = |path: &str| {
        let words = "gguf_init_from_file: failed to open GGUF file";
        vec![format!("0.00.010.000 E {words} '{path}' (No such file or directory)")]
    };
    let files = [
        (CauseCode::DraftFailed, "/m/draft.gguf".to_owned()),
        (CauseCode::MmprojFailed, "/m/p.gguf".to_owned()),
        (CauseCode::LoraNotFound, "/m/l.gguf".to_owned()),
    ];
    let context = Context { files: &files, ..Context::default() };
    let told = |path: &str| classify(Exit::Code(1), &tail(path), context);
    for (code, path) in &files {
        let verdict = told(path);
        assert_eq!((&verdict.code, verdict.retry), (code, Retry::No));
        assert!(verdict.message.contains(path.as_str()), "{}", verdict.message);
    }
    assert_eq!(told("/m/m.gguf").code, CauseCode::ModelNotFound);
}

/// What ends it, and not what merely follows: each but the last line of what such a build writes.
#[test]
fn the_line_before_the_one_that_follows_is_told() {
    let read = "0.00.010.000 E gguf_init_from_reader: failed to read tensor info";
    let context =
        "0.00.020.000 E common_init_from_params: failed to create context with model '/m'";
    for (code, first, second, says) in [
        (
            CauseCode::ModelDamaged,
            "E gguf_init_from_reader: tensor 'a' has offset 128, expected 64",
            read,
            "has offset 128, expected 64",
        ),
        (
            CauseCode::ModelDamaged,
            "E gguf_init_from_reader: tensor 'a' of type 12 (q4_K) has 33 elements per row, not a \
             multiple of block size (256)",
            read,
            "not a multiple of block size",
        ),
        (
            CauseCode::ModelDamaged,
            "E gguf_init_from_reader: tensor name 70 is too long: 70 >= 64",
            read,
            "is too long",
        ),
        (
            CauseCode::ContextInit,
            "E llama_init_from_model: failed to initialize the context: the type q4_0 is not supported",
            context,
            "created: the type q4_0 is not supported.",
        ),
        (
            CauseCode::CppException,
            "terminate called after throwing an instance of 'vk::FeatureNotPresentError'",
            "  what():  vk::PhysicalDevice::createDevice: ErrorFeatureNotPresent",
            "exception: vk::PhysicalDevice::createDevice: ErrorFeatureNotPresent.",
        ),
        (
            CauseCode::BuildUnfit,
            "E CUDA error: CUDA driver version is insufficient for CUDA runtime version",
            "E   current device: 0, in function f at x.cu:1",
            "CUDA driver version is insufficient",
        ),
    ] {
        let tail = [first.to_owned(), second.to_owned()];
        let verdict = classify(Exit::Code(1), &tail, Context::default());
        assert_eq!((verdict.code, verdict.retry), (code, Retry::No), "{first}");
        assert!(verdict.message.contains(says), "{}", verdict.message);
    }
    let tail =
        ["/o/llama-server: symbol lookup error: /o/libllama.so: undefined symbol: x".to_owned()];
    let verdict = classify(Exit::Code(127), &tail, Context::default());
    assert!(verdict.message.contains("are not of one build: undefined symbol: x"), "{verdict:?}");
}
