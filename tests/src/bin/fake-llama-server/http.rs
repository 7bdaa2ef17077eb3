//! The endpoints a supervisor uses, over TCP or a Unix socket; one thread per connection.

use crate::behaviour::Health;
use crate::life::{Shared, note};
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Where it listens.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

trait Connection: Read + Write + Send {}
impl<T: Read + Write + Send> Connection for T {}

impl Listener {
    pub(crate) fn bind(host: &str, port: u16) -> io::Result<Listener> {
        // Whatever lies at a socket's path already makes this fail, as it does the real one.
        if host.ends_with(".sock") {
            UnixListener::bind(host)
                .map(|listener| Listener::Unix(listener, format!("unix://{host}")))
        } else {
            TcpListener::bind((host, port)).map(Listener::Tcp)
        }
    }

    pub(crate) fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}"),
                Err(error) => error.to_string(),
            },
            Listener::Unix(_, path) => path.clone(),
        }
    }

    fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Listener::Tcp(listener) => Box::new(listener.accept()?.0),
            Listener::Unix(listener, _) => Box::new(listener.accept()?.0),
        })
    }
}

/// Takes connections for as long as it can.
pub(crate) fn serve(listener: &Listener, shared: &Arc<Shared>) {
    while let Ok(connection) = listener.accept() {
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A client that goes away is no matter.
            let _ = converse(connection, &shared);
        });
    }
}

fn converse(connection: Box<dyn Connection>, shared: &Shared) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some(request) = read_request(&mut connection)? {
        thread::sleep(Duration::from_millis(shared.behaviour.answer_delay_ms));
        while shared.hangs.load(Ordering::SeqCst) {
            thread::park();
        }
        answer(&request, connection.get_mut(), shared)?;
        if request.is_last {
            break;
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    body: Value,
    /// The client wants the connection closed behind the answer.
    is_last: bool,
}

/// The next request of a connection; `None` at its end.
fn read_request(connection: &mut BufReader<Box<dyn Connection>>) -> io::Result<Option<Request>> {
    let mut first = String::new();
    if connection.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let (mut length, mut is_last) = (0, false);
    loop {
        let mut header = String::new();
        connection.read_line(&mut header)?;
        match header.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap_or(0);
            }
            Some((name, value)) if name.eq_ignore_ascii_case("connection") => {
                is_last = value.trim().eq_ignore_ascii_case("close");
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Request { method, path, body, is_last }))
}

fn answer(request: &Request, to: &mut dyn Write, shared: &Shared) -> io::Result<()> {
    let health = shared.behaviour.health;
    if shared.behaviour.note_requests {
        note(&llamactl_tests::llama::fake_requests(&shared.model), &request.path);
    }
    if !shared.ready.load(Ordering::SeqCst) {
        return error(to, 503, "unavailable_error", "Loading model");
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health" | "/v1/health") if health == Health::Sick => {
            error(to, 503, "unavailable_error", "not well")
        }
        ("GET", "/health" | "/v1/health") => send(to, 200, &json!({ "status": "ok" })),
        ("GET", "/props") => send(to, 200, &props(shared)),
        ("GET", "/slots") => send(to, 200, &slots(shared)),
        ("GET", "/v1/models" | "/models") => send(to, 200, &models(shared)),
        ("GET", "/metrics") if shared.metrics => send_text(to, 200, "text/plain", &metrics(shared)),
        ("GET", "/metrics") => {
            error(to, 501, "not_supported_error", "This server does not support metrics endpoint.")
        }
        ("POST", "/v1/chat/completions") => chat(&request.body, to, shared),
        _ => error(to, 404, "not_found_error", "File Not Found"),
    }
}

fn props(shared: &Shared) -> Value {
    json!({
        "default_generation_settings": { "n_ctx": shared.context_tokens, "params": {} },
        "total_slots": shared.slots,
        "model_alias": shared.alias,
        "model_path": shared.model.display().to_string(),
        "build_info": "b1-fa4e000",
        "is_sleeping": false,
    })
}

fn slots(shared: &Shared) -> Value {
    let busy = usize::try_from(shared.processing.load(Ordering::SeqCst)).unwrap_or(usize::MAX);
    let decoded = shared.generated_tokens.load(Ordering::SeqCst);
    let slot = |id: usize| {
        json!({
            "id": id,
            "n_ctx": shared.context_tokens,
            "is_processing": id < busy,
            "next_token": [{ "has_next_token": id < busy, "n_remain": -1, "n_decoded": decoded }],
        })
    };
    (0..shared.slots).map(slot).collect()
}

fn models(shared: &Shared) -> Value {
    let meta = json!({ "n_ctx": shared.context_tokens });
    json!({ "object": "list", "data": [{ "id": shared.alias, "object": "model", "meta": meta }] })
}

fn metrics(shared: &Shared) -> String {
    let mut text = String::new();
    for (kind, name, value) in [
        ("counter", "prompt_tokens_total", &shared.prompt_tokens),
        ("counter", "tokens_predicted_total", &shared.generated_tokens),
        ("counter", "n_decode_total", &shared.generated_tokens),
        ("gauge", "requests_processing", &shared.processing),
    ] {
        let value = value.load(Ordering::SeqCst);
        text.push_str(&format!("# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n"));
    }
    text.push_str("# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred 0\n");
    text
}

/// Talks: `word0 word1 …`, in pieces where the request asks for a stream.
fn chat(body: &Value, to: &mut dyn Write, shared: &Shared) -> io::Result<()> {
    const PROMPT_TOKENS: u64 = 7;
    let tokens = body["max_tokens"].as_u64().unwrap_or(shared.behaviour.tokens);
    let streams = body["stream"].as_bool().unwrap_or(false);
    shared.prompt_tokens.fetch_add(PROMPT_TOKENS, Ordering::SeqCst);
    shared.processing.fetch_add(1, Ordering::SeqCst);
    shared.log('I', "slot launch_slot_: id  0 | task 0 | processing task");
    let talked = talk(tokens, streams, to, shared);
    shared.processing.fetch_sub(1, Ordering::SeqCst);
    shared.log('I', "slot stop processing: id  0 | task 0 | n_tokens = 1, truncated = 0");
    let text = talked?;
    let usage = json!({ "prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens });
    let speed = shared.behaviour.tokens_per_second;
    let timings = json!({
        "prompt_n": PROMPT_TOKENS, "prompt_per_second": 1000.0,
        "predicted_n": tokens, "predicted_per_second": speed,
    });
    if streams {
        let last = json!({ "choices": [{ "index": 0, "finish_reason": "stop", "delta": {} }],
                           "usage": usage, "timings": timings });
        chunk(to, &format!("data: {last}\n\n"))?;
        chunk(to, "data: [DONE]\n\n")?;
        to.write_all(b"0\r\n\r\n")
    } else {
        let message = json!({ "role": "assistant", "content": text });
        send(
            to,
            200,
            &json!({
                "choices": [{ "index": 0, "finish_reason": "stop", "message": message }],
                "usage": usage, "timings": timings,
            }),
        )
    }
}

fn talk(tokens: u64, streams: bool, to: &mut dyn Write, shared: &Shared) -> io::Result<String> {
    let pause = Duration::from_secs(1).div_f64(shared.behaviour.tokens_per_second.max(0.001));
    let mut text = String::new();
    if streams {
        to.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    }
    for number in 0..tokens {
        if shared.behaviour.cut_after_tokens == Some(number) {
            return Err(io::Error::other("told to break off"));
        }
        while shared.behaviour.stall_after_tokens == Some(number) {
            thread::park();
        }
        thread::sleep(pause);
        let word = format!("word{number} ");
        shared.generated_tokens.fetch_add(1, Ordering::SeqCst);
        if streams {
            let piece = json!({ "choices": [{ "index": 0, "delta": { "content": word } }] });
            chunk(to, &format!("data: {piece}\n\n"))?;
        }
        text.push_str(&word);
    }
    Ok(text)
}

fn chunk(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())?;
    to.flush()
}

fn error(to: &mut dyn Write, status: u16, kind: &str, message: &str) -> io::Result<()> {
    send(to, status, &json!({ "error": { "code": status, "type": kind, "message": message } }))
}

fn send(to: &mut dyn Write, status: u16, body: &Value) -> io::Result<()> {
    send_text(to, status, "application/json; charset=utf-8", &body.to_string())
}

fn send_text(to: &mut dyn Write, status: u16, kind: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} -\r\nServer: fake\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    to.write_all(format!("{head}{body}").as_bytes())?;
    to.flush()
}
