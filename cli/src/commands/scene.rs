//! One machine, as the snapshot tests of all screens show it: its models, a server in any state, a
//! GPU, the daemon, and what happened.

use crate::exit::{Outcome, Tally};
use crate::output::Output;
use crate::output::screen::NOW_MS;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::daemon::{
    Config, ConfigReport, DaemonReport, Hello, HistoryReport, RegistryReport, Runtime,
};
use llamactl_protocol::event::{Event, EventKind};
use llamactl_protocol::metrics::{Gpu, Host, LlamaSample, ProcessSample, Sample, ServerSample};
use llamactl_protocol::model::{FileState, Model, ModelDetail, ModelFile};
use llamactl_protocol::server::{
    Accepted, Desired, DesiredState, Endpoint, InForce, OtherServer, Queue, QueueReason, Run,
    Server, State,
};
use llamactl_protocol::warning::{Warning, WarningCode};
use llamactl_protocol::{Access, Actor, Failure, Hint};
use serde_json::json;

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const GIB: u64 = 1 << 30;

/// What the daemon says of itself.
pub(crate) fn hello() -> Hello {
    Hello {
        version: "0.2.0".into(),
        protocol: 1,
        pid: 700,
        uid: 1000,
        started_at_ms: 0,
        state_dir: "/s".into(),
        registry_id: "r".into(),
        access: Access::Admin,
        capabilities: vec![],
    }
}

/// Somebody who types commands.
pub(crate) fn anna(command: &str) -> Actor {
    Actor::Client { user: "anna".into(), command: Some(command.into()) }
}

/// A name with all that a screen may stumble over: long, of wide signs, of what a terminal would obey.
const NASTY: &str =
    "\u{1b}[31m模型\u{202e}/unsloth/Qwen3-4B-Instruct-2507-GGUF:UD-Q4_K_XL-and-\u{7}more-日本語";

thread_local! {
    static IS_NASTY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Every name in what is made meanwhile is a nasty one.
pub(crate) fn with_nasty_names(make: impl FnOnce()) {
    IS_NASTY.set(true);
    make();
    IS_NASTY.set(false);
}

fn named(name: &str) -> String {
    if IS_NASTY.get() { NASTY.to_owned() } else { name.to_owned() }
}

/// A server of this name in this state, with what a daemon says of one that is in it.
pub(crate) fn server(name: &str, state: State) -> Server {
    let lasts = match state {
        State::Queued | State::Starting | State::Stopping | State::Adopting => 2 * SECOND_MS,
        State::Loading | State::Backoff => 5 * SECOND_MS,
        _ => 2 * HOUR_MS,
    };
    let since_ms = NOW_MS - lasts;
    let started_at_ms = since_ms - 5 * SECOND_MS;
    let ended = matches!(state, State::Stopped | State::Failed | State::Backoff);
    let answered = matches!(state, State::Ready | State::Sleeping | State::Stopping | State::Stuck);
    let is_to_run = !matches!(state, State::Stopped | State::Stopping | State::Stuck);
    let (desired, command) = match is_to_run {
        true => (DesiredState::Running, "start"),
        false => (DesiredState::Stopped, "stop"),
    };
    Server {
        model_id: 1,
        model: named(name),
        state,
        since_ms,
        desired: Some(Desired {
            state: desired,
            by: anna(&format!("llamactl {command} {name}")),
            at_ms: started_at_ms,
        }),
        run: Some(Run {
            id: "019c13e6-5c40-7000-8000-000000000001".into(),
            pid: (!ended && state != State::Queued).then_some(4711),
            started_at_ms,
            ready_at_ms: answered.then_some(since_ms),
            load_ms: answered.then_some(4_200),
            ended_at_ms: ended.then_some(since_ms),
            revision: 3,
        }),
        endpoint: Some(Endpoint { url: Some("http://127.0.0.1:8101/v1".into()), socket: None }),
        progress_ratio: (state == State::Loading).then_some(0.42),
        stage: (state == State::Loading).then(|| "text_model".into()),
        queue: (state == State::Queued).then_some(Queue {
            reason: QueueReason::Loads,
            position: 2,
            limit: Some(1),
        }),
        cause: Some(cause(state, since_ms)),
        restarts: 0,
        restart_at_ms: (state == State::Backoff).then_some(NOW_MS + 3 * SECOND_MS),
        on_cpu: None,
        device: answered.then(|| "gpu".into()),
        in_force: answered.then(|| InForce {
            context_tokens: Some(8192),
            slots: Some(4),
            build: Some("b10434".into()),
        }),
        pending: vec![],
        overrides: Default::default(),
        warnings: vec![],
    }
}

fn cause(state: State, at_ms: i64) -> Cause {
    match state {
        State::Failed | State::Backoff => Cause {
            hints: Hint::to("download it again").into(),
            evidence: vec![
                "E llama_model_load: tensor data is not within the file bounds".into(),
                "E main: exiting due to model loading error".into(),
            ],
            exit_code: Some(1),
            ..Cause::new(CauseCode::ModelTruncated, "The model file is incomplete.", at_ms)
        },
        State::Stopped | State::Stopping => {
            let how = "stopped as asked: it ended when asked; 2 requests were cut";
            Cause::new(CauseCode::Requested, how, at_ms)
        }
        State::Adopting => Cause::new(CauseCode::Adopted, "found running and taken over", at_ms),
        _ => Cause::new(CauseCode::Requested, "started as asked", at_ms),
    }
}

/// A server with everything there is to remark on.
pub(crate) fn remarkable() -> Server {
    let mut server = server("qwen3-8b", State::Ready);
    server.pending = vec!["ctx-size".into()];
    server.overrides = [("temp".to_owned(), json!(0.2))].into();
    server.restarts = 2;
    server.device = Some("cpu".into());
    let message = "it runs on the CPU although gpu-layers=all: this build finds no GPU";
    server.warnings = vec![
        Warning::new(WarningCode::OnCpu, message)
            .command(["llamactl", "runtime", "show", "system"])
            .command(["llamactl", "model", "set", "qwen3-8b", "gpu-layers=0", "--restart"]),
        Warning::new(
            WarningCode::NoApiKey,
            "no API key: every program on this machine can use the port",
        )
        .command(["llamactl", "model", "set", "qwen3-8b", "api-key=generate", "--restart"]),
    ];
    server
}

/// A ready server that does not answer.
pub(crate) fn silent() -> Server {
    let mut server = server("hang", State::Ready);
    let warning = Warning::new(WarningCode::NotAnswering, "it does not answer /health")
        .command(["llamactl", "restart", "hang"])
        .command(["llamactl", "logs", "hang", "-n", "20"]);
    server.warnings = vec![Warning {
        since_ms: Some(NOW_MS - 12 * SECOND_MS),
        until_ms: Some(NOW_MS + 108 * SECOND_MS),
        ..warning
    }];
    server
}

/// The servers of a machine where all is well.
pub(crate) fn well() -> Vec<Server> {
    let mut servers = vec![without_port(), server("qwen3-8b", State::Ready)];
    servers.iter_mut().zip([2, 6]).for_each(|(server, id)| server.model_id = id);
    servers
}

/// A server that listens on a Unix socket alone.
pub(crate) fn without_port() -> Server {
    let socket = Some("/home/anna/.local/state/llamactl/run/gemma.sock".into());
    Server { endpoint: Some(Endpoint { url: None, socket }), ..server("gemma", State::Ready) }
}

/// A name as the hub has them.
pub(crate) const LONG_NAME: &str =
    "unsloth/Qwen3-4B-Instruct-2507-Thinking-and-more-GGUF:UD-Q4_K_XL";

/// The servers of a busy machine.
pub(crate) fn servers() -> Vec<Server> {
    let mut servers = vec![
        server("deepseek-r1-distill-llama-70b", State::Failed),
        without_port(),
        server("llama-3.2-3b", State::Backoff),
        server("mistral-small", State::Loading),
        server("phi-4", State::Queued),
        remarkable(),
        silent(),
        server(LONG_NAME, State::Ready),
        server("模型/日本語-8b-instruct", State::Ready),
    ];
    for (id, server) in (1..).zip(&mut servers) {
        server.model_id = id;
    }
    servers
}

/// What was accepted of a request that changed something, or not.
pub(crate) fn accepted(server: Server, changed: bool) -> Accepted {
    let run_id = server.run.as_ref().map(|run| run.id.clone());
    Accepted { run_id, changed, durable: true, server }
}

/// A model with everything known of its file.
pub(crate) fn model(name: &str) -> Model {
    let name = &named(name);
    Model {
        id: 1,
        name: name.into(),
        aliases: vec!["q".into(), "qwen".into()],
        path: format!("/home/anna/models/{name}-q4_k_m.gguf").as_str().into(),
        file: ModelFile {
            size_bytes: 5_027_783_488,
            parts: vec![],
            mmproj: None,
            architecture: Some("qwen3".into()),
            title: Some("Qwen3 8B".into()),
            parameters: Some(8_190_735_360),
            quantization: Some("Q4_K_M".into()),
            context_length: Some(40_960),
            layers: Some(36),
            heads: Some(32),
            kv_heads: Some(8),
            embedding_length: Some(4096),
            experts: None,
            vocabulary: Some(151_936),
            tokenizer: Some("gpt2".into()),
            has_chat_template: true,
        },
        file_state: Some(FileState::Present),
        settings: [("ctx-size".to_owned(), json!(8192)), ("port".to_owned(), json!("auto"))].into(),
        revision: 3,
        added_at_ms: NOW_MS - 72 * HOUR_MS,
        changed_at_ms: NOW_MS - 3 * HOUR_MS,
    }
}

/// A model and a server, as one answer tells of both.
pub(crate) fn detail(server: Server) -> ModelDetail {
    ModelDetail { model: model("qwen3-8b"), chat_template: None, server, resolved: None }
}

/// A GPU at work.
pub(crate) fn gpu() -> Gpu {
    Gpu {
        uuid: "GPU-8f6f0d4a-1f2e-4c3b-9a55-0c5d3b7e2a11".into(),
        index: 0,
        name: Some("NVIDIA A10".into()),
        busy_ratio: Some(0.31),
        memory_busy_ratio: Some(0.12),
        memory_total_bytes: Some(24 * GIB),
        memory_used_bytes: Some(6 * GIB),
        temperature_celsius: Some(61.0),
        power_watts: Some(74.6),
        power_limit_watts: Some(150.0),
        fan_ratio: None,
        core_clock_hertz: Some(1_695_000_000),
        memory_clock_hertz: Some(6_251_000_000),
        ..Gpu::default()
    }
}

/// What was measured: something of everything, and some of it unknown.
pub(crate) fn sample() -> Sample {
    Sample {
        seq: 7,
        at_ms: NOW_MS,
        host: Host {
            cpus: Some(8),
            cpu_busy_ratio: Some(0.127),
            load_1m: Some(0.25),
            memory_total_bytes: Some(16 * GIB),
            memory_available_bytes: Some(12 * GIB),
            disk_read_bytes_per_second: Some(2048.0),
            uptime_ms: Some(7_500_000),
            ..Host::default()
        },
        gpus: Some(vec![gpu()]),
        servers: vec![ServerSample {
            model_id: 6,
            model: "qwen3-8b".into(),
            run_id: "019c13e6-5c40-7000-8000-000000000001".into(),
            state: State::Ready,
            process: process(),
            llama: Some(LlamaSample {
                asked_at_ms: NOW_MS,
                slots: Some(4),
                slots_busy: Some(1),
                requests_processing: Some(1),
                requests_deferred: Some(0),
                generated_tokens_per_second: Some(42.05),
                ..LlamaSample::default()
            }),
        }],
        daemon: ProcessSample {
            pid: Some(700),
            memory_anonymous_bytes: Some(12 << 20),
            ..ProcessSample::default()
        },
        models: vec![],
    }
}

/// The process of a server, as the kernel sees it.
pub(crate) fn process() -> ProcessSample {
    ProcessSample {
        pid: Some(4711),
        cpus_busy: Some(1.5),
        memory_anonymous_bytes: Some(GIB),
        memory_file_bytes: Some(5 * GIB),
        threads: Some(24),
        gpu_memory_bytes: Some(6 * GIB),
        ..ProcessSample::default()
    }
}

/// A daemon that is well.
pub(crate) fn report() -> DaemonReport {
    let state = "/home/anna/.local/state/llamactl";
    DaemonReport {
        slow_calls: 0,
        log_lines_lost: 0,
        version: "0.1.0".into(),
        pid: 700,
        started_at_ms: NOW_MS - 26 * HOUR_MS,
        socket: format!("{state}/run/llamactld.sock").as_str().into(),
        state_dir: state.into(),
        log: Some(format!("{state}/llamactld.log").as_str().into()),
        config: Some(ConfigReport {
            path: Some("/home/anna/.config/llamactl/llamactld.toml".into()),
            config: Config::default(),
        }),
        models: 6,
        servers_active: 4,
        runtime: Some(Runtime {
            id: 1,
            name: "system".into(),
            path: "/usr/bin/llama-server".into(),
            version: Some("b10434".into()),
            reports_progress: true,
        }),
        runtime_problem: None,
        connections: 3,
        connections_refused_total: 5,
        memory_bytes: Some(12 << 20),
        registry: Some(RegistryReport {
            longest_write_ms: 7,
            waiting_records: 0,
            copy: Some(format!("{state}/copies/registry-2026-11-28.db").as_str().into()),
            copied_at_ms: Some(NOW_MS - 4 * HOUR_MS),
        }),
        history: Some(HistoryReport { size_bytes: 54 << 20, samples_lost: 0, set_aside: None }),
        warnings: vec![],
        other_servers: others(),
    }
}

/// llama-servers that somebody started by hand.
pub(crate) fn others() -> Vec<OtherServer> {
    let program = "/home/anna/llama.cpp/build/bin/llama-server".into();
    vec![OtherServer { pid: 812, program }]
}

/// What happened, oldest first.
pub(crate) fn events() -> Vec<Event> {
    use EventKind::{DaemonStarted, ModelAdded, ServerFailed, ServerReady, ServerStarting};
    let (name, start) = ("qwen3-8b", anna("llamactl start qwen3-8b"));
    let story = [
        (26 * HOUR_MS, DaemonStarted, Actor::Boot, "llamactld 0.1.0 started"),
        (25 * HOUR_MS, ModelAdded, anna("llamactl model add"), "qwen3-8b was added"),
        (3 * HOUR_MS, ServerStarting, start.clone(), "qwen3-8b is being started"),
        (
            3 * HOUR_MS - SECOND_MS,
            ServerFailed,
            Actor::Process,
            "qwen3-8b: The model file is incomplete.",
        ),
        (2 * HOUR_MS, ServerStarting, Actor::Policy, "qwen3-8b is being started"),
        (2 * HOUR_MS - 5 * SECOND_MS, ServerReady, Actor::Policy, "qwen3-8b is ready after 5.0 s"),
    ];
    (1..)
        .zip(story)
        .map(|(seq, (ago_ms, kind, by, message))| Event {
            seq,
            at_ms: NOW_MS - ago_ms,
            model_id: (kind != DaemonStarted).then_some(1),
            model: (kind != DaemonStarted).then(|| name.into()),
            run_id: None,
            kind,
            by,
            message: message.into(),
            details: None,
        })
        .collect()
}

/// A failure as the command that meets it tells it.
pub(crate) fn told(output: &mut Output, failure: Failure) -> Outcome {
    let mut tally = Tally::default();
    tally.take(output, Err::<(), _>(failure.into()))?;
    tally.end()
}
