//! One life: listening, loading, ready, the end.

use crate::arguments::Arguments;
use crate::behaviour::{Behaviour, Exit, Flood, Health, When};
use crate::http::{self, Listener};
use rustix::process::{Signal, getpid, kill_process, setsid};
use serde_json::json;
use std::convert::Infallible;
use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How a line to the program that started it begins. A build is known by this text to report so.
const TO_STARTER: &str = "cmd_child_to_router:state:";
/// Set by a program that wants such lines.
const WANTS_PROGRESS: &str = "LLAMA_SERVER_ROUTER_PORT";
/// Tells the second process of a double fork that it is the second.
const SECOND_SELF: &str = "FAKE_LLAMA_SERVER_SECOND_SELF";

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) behaviour: Behaviour,
    pub(crate) alias: String,
    pub(crate) model: std::path::PathBuf,
    pub(crate) context_tokens: u64,
    pub(crate) slots: usize,
    pub(crate) metrics: bool,
    jsonl: bool,
    pub(crate) ready: AtomicBool,
    pub(crate) hangs: AtomicBool,
    pub(crate) processing: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) generated_tokens: AtomicU64,
    started: Instant,
}

impl Shared {
    /// Writes a line as the real one does.
    pub(crate) fn log(&self, level: char, text: &str) {
        let up = self.started.elapsed();
        if self.jsonl {
            let time = u64::try_from(up.as_micros()).unwrap_or(0);
            let level = level.to_string();
            return tell(
                &json!({ "type": "log", "time": time, "level": level, "msg": text }).to_string(),
            );
        }
        let (minutes, seconds) = (up.as_secs() / 60, up.as_secs() % 60);
        let (ms, us) = (up.subsec_millis(), up.subsec_micros() % 1000);
        say(format!("{minutes}.{seconds:02}.{ms:03}.{us:03} {level} {text}").as_bytes());
    }
}

/// Whether this is the second process of a double fork.
pub(crate) fn is_second_self() -> bool {
    env::var_os(SECOND_SELF).is_some()
}

/// Starts itself once more, in a session of its own, and is done.
pub(crate) fn leave_a_second_self() -> ExitCode {
    let started = env::current_exe().and_then(|exe| {
        Command::new(exe)
            .args(env::args_os().skip(1))
            .env(SECOND_SELF, "1")
            .stdin(Stdio::null())
            .spawn()
    });
    match started {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {error}").as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Lives until something ends it.
///
/// # Errors
/// The line the real one ends with when it cannot load or listen.
pub(crate) fn live(arguments: &Arguments, behaviour: Behaviour) -> Result<Infallible, String> {
    if is_second_self() {
        // It leads no group where it is in one of its own already.
        let _ = setsid();
    }
    let shared = Arc::new(Shared {
        alias: arguments.alias.clone(),
        model: arguments.model.clone(),
        context_tokens: if arguments.context_tokens == 0 {
            32_768
        } else {
            arguments.context_tokens
        },
        slots: arguments.slots,
        metrics: arguments.metrics,
        jsonl: arguments.jsonl,
        ready: AtomicBool::new(false),
        hangs: AtomicBool::new(behaviour.health == Health::Hang),
        processing: AtomicU64::new(0),
        prompt_tokens: AtomicU64::new(0),
        generated_tokens: AtomicU64::new(0),
        started: Instant::now(),
        behaviour,
    });
    let behaviour = &shared.behaviour;
    if behaviour.ignore_term {
        catch_signals(&shared);
    }
    for line in &behaviour.stdout {
        tell(line);
    }
    for line in &behaviour.stderr {
        say(line.as_bytes());
    }
    for line in &behaviour.stderr_hex {
        say(&from_hex(line));
    }
    end_later(behaviour.exit, When::Start);
    pause(behaviour.listen_after_ms);

    let listener = Listener::bind(&arguments.host, arguments.port).map_err(|_| {
        shared.log(
            'E',
            &format!(
                "srv         start: couldn't bind HTTP server socket, hostname: {}, port: {}",
                arguments.host, arguments.port
            ),
        );
        "exiting due to HTTP server error".to_owned()
    })?;
    let address = listener.address();
    let serving = Arc::clone(&shared);
    thread::spawn(move || http::serve(&listener, &serving));
    shared.log('I', &format!("srv    load_model: loading model '{}'", arguments.model.display()));
    if !arguments.model.is_file() {
        let path = arguments.model.display();
        return Err(format!(
            "gguf_init_from_file: failed to open GGUF file '{path}' (No such file or directory)"
        ));
    }
    load(&shared);
    if behaviour.health != Health::Never {
        shared.ready.store(true, Ordering::SeqCst);
        if !behaviour.ignore_term {
            catch_signals(&shared);
        }
        report(
            &shared,
            "ready",
            &json!({ "id": shared.alias, "meta": { "n_ctx": shared.context_tokens } }),
        );
        shared.log('I', "srv  llama_server: model loaded");
        shared.log('I', &format!("srv  llama_server: listening on {address}"));
        end_later(behaviour.exit, When::Ready);
        if let Some(flood) = behaviour.flood {
            pour(flood);
        }
        if let Some(after_ms) = behaviour.hang_after_ms {
            pause(after_ms);
            shared.hangs.store(true, Ordering::SeqCst);
        }
    }
    loop {
        thread::park();
    }
}

fn load(shared: &Shared) {
    const STEPS: u64 = 10;
    let behaviour = &shared.behaviour;
    let progress = |done: u64| {
        #[allow(clippy::cast_precision_loss)]
        let value = done as f64 / STEPS as f64;
        report(
            shared,
            "loading",
            &json!({ "stages": ["text_model"], "current": "text_model", "value": value }),
        );
    };
    progress(0);
    if behaviour.lie_about_ready {
        report(shared, "ready", &json!({ "id": shared.alias, "meta": {} }));
        shared.log('I', "srv  llama_server: model loaded");
        shared.log('I', "srv  llama_server: listening on http://127.0.0.1:1");
    }
    for step in 1..=STEPS {
        pause(behaviour.load_ms / STEPS);
        progress(step);
    }
}

/// Says something to the program that started it, if that asked for it.
fn report(shared: &Shared, state: &str, payload: &serde_json::Value) {
    if shared.behaviour.progress && env::var_os(WANTS_PROGRESS).is_some() {
        tell(&format!("{TO_STARTER}{}", json!({ "state": state, "payload": payload })));
    }
}

/// Ends the process when its time has come, if it has one that counts from `when`.
fn end_later(exit: Option<Exit>, when: When) {
    let Some(exit) = exit.filter(|exit| exit.when == when) else { return };
    let end = move || {
        pause(exit.after_ms);
        if let Some(signal) = exit.signal.and_then(Signal::from_named_raw) {
            let _ = kill_process(getpid(), signal);
        }
        std::process::exit(exit.code);
    };
    if exit.after_ms == 0 { end() } else { drop(thread::spawn(end)) }
}

fn pour(flood: Flood) {
    thread::spawn(move || {
        let started = Instant::now();
        let mut number = 0;
        while number < flood.lines {
            if let Some(rate) = flood.lines_per_second {
                let due = Duration::from_millis(number.saturating_mul(1000) / rate.max(1));
                thread::sleep(due.saturating_sub(started.elapsed()));
            }
            let end = number.saturating_add(flood.lines_per_write.max(1)).min(flood.lines);
            let mut text = String::new();
            for number in number..end {
                let begun = text.len();
                text.push_str(&format!("flood {number}"));
                let missing = (begun + flood.line_bytes).saturating_sub(text.len() + 1);
                if missing > 0 {
                    text.push_str(&format!(" {:x<width$}", "", width = missing - 1));
                }
                text.push('\n');
            }
            number = end;
            let _ = io::stderr().write_all(text.as_bytes());
        }
    });
}

/// Catches SIGTERM and SIGINT from now on; returns when that is so.
fn catch_signals(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    let (caught, waits) = mpsc::channel();
    thread::spawn(move || {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return;
        };
        runtime.block_on(async {
            let (Ok(mut term), Ok(mut int)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            drop(caught);
            let mut seen = 0;
            loop {
                let name = tokio::select! {
                    _ = term.recv() => "TERM",
                    _ = int.recv() => "INT",
                };
                seen += 1;
                note(&llamactl_tests::llama::fake_signals(&shared.model), name);
                if !shared.behaviour.ignore_term {
                    end_on_signal(&shared, seen);
                }
            }
        });
    });
    // The sender goes when the handlers are in place.
    let _: Result<(), _> = waits.recv();
}

fn end_on_signal(shared: &Shared, seen: u32) {
    if seen > 1 {
        say(b"Received second interrupt, terminating immediately.");
        std::process::exit(1);
    }
    let stop_ms = shared.behaviour.stop_ms;
    thread::spawn(move || {
        pause(stop_ms);
        std::process::exit(0);
    });
}

/// Appends a line to a file beside the model, in one write.
pub(crate) fn note(path: &Path, line: &str) {
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// One line to stderr, in one write.
fn say(line: &[u8]) {
    let mut line = line.to_vec();
    line.push(b'\n');
    // Nobody is left to tell.
    let _ = io::stderr().write_all(&line);
}

/// One line to stdout, in one write.
fn tell(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(format!("{line}\n").as_bytes());
    let _ = stdout.flush();
}

fn pause(ms: u64) {
    if ms > 0 {
        thread::sleep(Duration::from_millis(ms));
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
