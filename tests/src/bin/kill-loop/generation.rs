//! A client that has one model talk without end: each answer is streamed, and when it is complete
//! the next begins. No kill of the daemon may cut or stall it.

use crate::history::History;
use llama_http::Target;
use llamactl_tests::http::Endpoint;
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a running generation may say nothing. Far above what a loaded machine needs for one
/// token; a server that somebody stopped, or whose output nobody takes, needs longer.
const STALL: Duration = Duration::from_secs(10);

/// How many tokens an answer has: some seconds of talk.
const TOKENS: u32 = 300;

/// What it has counted.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) tokens: AtomicU64,
    pub(crate) complete: AtomicU64,
    pub(crate) cut: AtomicU64,
    longest: Mutex<Duration>,
}

impl Counted {
    /// The longest time between two tokens.
    pub(crate) fn longest_silence(&self) -> Duration {
        *self.longest.lock().unwrap()
    }
}

/// A thread that listens to a model.
pub(crate) struct Generation {
    counted: Arc<Counted>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Generation {
    /// Begins.
    pub(crate) fn start(endpoint: Endpoint, history: History) -> Generation {
        let counted = Arc::<Counted>::default();
        let stop = Arc::<AtomicBool>::default();
        let thread = {
            let (counted, stop) = (Arc::clone(&counted), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match answer(&endpoint, &counted, &stop) {
                        Ok(()) => _ = counted.complete.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            counted.cut.fetch_add(1, Ordering::Relaxed);
                            history.violation(format!("the protected model's answer: {error}"));
                            // One report per fault is enough.
                            thread::sleep(Duration::from_millis(200));
                        }
                    }
                }
            })
        };
        Generation { counted, stop, thread: Some(thread) }
    }

    /// What it has counted so far.
    pub(crate) fn counted(&self) -> &Counted {
        &self.counted
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn connect(endpoint: &Endpoint) -> io::Result<Box<dyn ReadWrite>> {
    Ok(match &endpoint.0 {
        Target::Address(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(STALL))?;
            Box::new(stream)
        }
        Target::Socket(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(STALL))?;
            Box::new(stream)
        }
    })
}

/// One answer, to its proper end or until it is asked to stop.
fn answer(endpoint: &Endpoint, counted: &Counted, stop: &AtomicBool) -> io::Result<()> {
    let body = json!({
        "messages": [{ "role": "user", "content": "Tell me everything." }],
        "stream": true, "max_tokens": TOKENS,
    })
    .to_string();
    let mut stream = connect(endpoint)?;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut lines = BufReader::new(stream).lines();
    let bad = |text: String| io::Error::other(text);
    let status = lines.next().transpose()?.unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(bad(format!("it began with {status:?}")));
    }
    let (mut tokens, mut finished, mut last) = (0, false, Instant::now());
    loop {
        let line = match lines.next() {
            Some(Ok(line)) => line,
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(bad(format!("stalled behind {tokens} tokens for {STALL:?}")));
            }
            Some(Err(error)) => return Err(bad(format!("cut behind {tokens} tokens: {error}"))),
            None => return Err(bad(format!("cut behind {tokens} tokens"))),
        };
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        // What a chunk of HTTP begins and ends with lies between the lines of an event.
        let Some(data) = line.strip_prefix("data: ") else {
            if line.starts_with("error") {
                return Err(bad(line));
            }
            continue;
        };
        if data == "[DONE]" {
            return if finished { Ok(()) } else { Err(bad("it ended without a reason".into())) };
        }
        let event: Value = serde_json::from_str(data).map_err(|error| bad(error.to_string()))?;
        let choice = &event["choices"][0];
        match choice["finish_reason"].as_str() {
            Some("length" | "stop") => finished = true,
            Some(other) => return Err(bad(format!("it finished by {other}"))),
            None if choice["delta"]["content"].is_string() => {
                tokens += 1;
                counted.tokens.fetch_add(1, Ordering::Relaxed);
                let silence = last.elapsed();
                last = Instant::now();
                let mut longest = counted.longest.lock().unwrap();
                *longest = silence.max(*longest);
            }
            None => {}
        }
    }
}
