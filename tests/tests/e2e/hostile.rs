//! Clients that are slow, greedy, broken or malicious: each costs the daemon a bounded amount of
//! memory, and nobody else any time.

use llamactl_tests::{DEADLINE, Daemon, Home, Rpc, TestModel};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::time::Duration;

/// How much the daemon may grow, whatever a client does.
const GROWTH_BYTES: u64 = 50_000_000;

/// Runs `attack` and checks that the daemon stayed small and serves another client afterwards,
/// with the attacker still there.
fn withstands(home: &Home, daemon: &Daemon, attack: impl FnOnce()) {
    stays_small(daemon, || {
        attack();
        assert_eq!(home.call("daemon.ping", json!({ "n": 1 }))["n"], 1);
    });
}

/// Runs `attack` and checks that the daemon stayed small.
fn stays_small(daemon: &Daemon, attack: impl FnOnce()) {
    let before = daemon.rss_bytes();
    attack();
    let growth = daemon.peak_rss_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES, "the daemon grew by {growth} bytes");
}

/// Writes the same bytes over and over until the daemon stops reading or closes, or `most_bytes`
/// are gone; how many were.
fn flood(rpc: &mut Rpc, bytes: &[u8], most_bytes: usize) -> usize {
    rpc.set_write_timeout(Duration::from_millis(500));
    let mut sent = 0;
    while sent < most_bytes {
        match rpc.send_bytes(bytes) {
            Ok(()) => sent += bytes.len(),
            Err(error) => {
                let expected =
                    [ErrorKind::WouldBlock, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(expected.contains(&error.kind()), "{error}");
                break;
            }
        }
    }
    sent
}

#[test]
fn a_client_that_pipelines_and_never_reads() {
    const MODELS: usize = 2000;
    let home = Home::new();
    let daemon = home.daemon();
    let path = home.model(TestModel::Tiny);
    let mut rpc = home.connect();
    rpc.call("model.add", json!({ "path": path, "name": "m" }));
    for numbers in (0..MODELS).collect::<Vec<_>>().chunks(50) {
        let copy = |number| {
            rpc_request(number, "model.copy", json!({ "model": "m", "to": format!("m{number}") }))
        };
        let batch: Vec<Value> = numbers.iter().map(|&number| copy(number)).collect();
        rpc.send_line(&Value::from(batch).to_string());
        let answers = rpc.message();
        let answers = answers.as_array().unwrap();
        assert!(answers.iter().all(|answer| answer.get("result").is_some()), "{answers:?}");
    }

    // An answer is some hundred kilobytes, a request under a hundred bytes.
    let request = format!("{}\n", rpc_request(1, "model.list", json!({ "limit": 200 })));
    let mut greedy = home.connect();
    withstands(&home, &daemon, || {
        let sent = flood(&mut greedy, request.repeat(1000).as_bytes(), 256 << 20);
        assert!(sent < 64 << 20, "the daemon went on reading: {sent} bytes");
    });
    // Had it read, it would have got its answers: nothing was thrown away.
    let mut answer = greedy.message();
    assert_eq!(answer["result"]["items"].as_array_mut().unwrap().len(), 200);
}

#[test]
fn a_line_without_end() {
    let home = Home::new();
    let daemon = home.daemon();
    let mut endless = home.connect();
    withstands(&home, &daemon, || {
        // What follows the refusal may be read and forgotten for a moment, not for ever.
        let sent = flood(&mut endless, &[b'['; 64 * 1024], usize::MAX);
        assert!(sent > 1 << 20, "a message may be a mebibyte long: {sent} bytes");
    });
    assert_eq!(endless.refusal().kind, "message_too_large");
    assert_eq!(endless.line(), None, "and the connection is closed");
}

#[test]
fn a_line_that_comes_byte_by_byte() {
    let home = Home::new().env("LLAMACTL_TEST_MESSAGE_DEADLINE_MS", "500");
    let _daemon = home.daemon();
    let mut slow = home.connect();
    let mut other = home.connect();
    for byte in rpc_request(1, "daemon.ping", json!({})).to_string().bytes() {
        if slow.send_bytes(&[byte]).is_err() {
            break;
        }
        // Somebody else is served between any two bytes.
        other.call("daemon.ping", json!({}));
        if let Some(line) = slow.line_within(Duration::from_millis(50)) {
            let line = line.expect("a refusal comes before the end");
            assert!(line.contains("message_timeout"), "{line}");
            assert_eq!(slow.line(), None);
            return;
        }
    }
    panic!("a message may take as long as it likes");
}

#[test]
fn a_hundred_connections_of_one_user() {
    let home = Home::new();
    let daemon = home.daemon();
    let mut taken = Vec::new();
    let mut refused = 0;
    stays_small(&daemon, || {
        for _ in 0..100 {
            let mut rpc = home.connect();
            let id = json!({ "jsonrpc": "2.0", "id": 1, "method": "daemon.ping" });
            // A refused connection may be closed before it is written to.
            let _ = rpc.send_bytes(format!("{id}\n").as_bytes());
            let answer = rpc.message();
            match answer.get("error") {
                None => taken.push(rpc),
                Some(error) => {
                    assert_eq!(error["data"]["kind"], "too_many_connections", "{answer}");
                    refused += 1;
                }
            }
        }
    });
    assert_eq!((taken.len(), refused), (64, 36));
    // Those who are in are served, and who leaves makes room.
    for rpc in &mut taken {
        rpc.call("daemon.ping", json!({}));
    }
    taken.clear();
    llamactl_tests::eventually(DEADLINE, "there is room again", || {
        let mut rpc = home.connect();
        let _ = rpc.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.status\"}\n");
        let answer = rpc.message();
        answer["result"]["connections_refused_total"].as_u64() >= Some(36)
    });
}

#[test]
fn a_stream_that_is_opened_and_never_read() {
    let home = Home::new();
    let daemon = home.daemon();
    let path = home.model(TestModel::Tiny);
    home.connect().call("model.add", json!({ "path": path, "name": "m" }));
    let mut idle = home.connect();
    idle.try_call("event.follow", json!({})).unwrap();
    idle.try_call("metrics.follow", json!({})).unwrap();
    withstands(&home, &daemon, || {
        let mut busy = home.connect();
        for number in 0..2000 {
            let port = 8000 + number % 1000;
            busy.call("model.set", json!({ "model": "m", "set": { "port": port } }));
        }
    });
    // What it could not be given is counted; then it goes on live.
    home.call("model.remove", json!({ "model": "m" }));
    let (mut events, mut missed) = (0_u64, 0_u64);
    loop {
        let item = idle.message()["params"]["result"].take();
        match item["kind"].as_str() {
            Some("missed") => missed += item["data"]["items"].as_u64().unwrap(),
            Some(_) if item["data"]["kind"] == "model.removed" => break,
            Some(_) if item["data"]["kind"].is_string() => events += 1,
            _ => {}
        }
    }
    assert!(events + missed >= 1999, "{events} events came, {missed} items were missed");
}

#[test]
fn too_many_streams_of_one_connection() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut rpc = home.connect();
    let mut opened = 0;
    let refusal = loop {
        match rpc.try_call("event.follow", json!({})) {
            Ok(_) => opened += 1,
            Err(refusal) => break refusal,
        }
        assert!(opened < 100, "there is no limit");
    };
    assert_eq!(
        (opened, refusal.kind.as_str(), refusal.code),
        (16, "too_many_subscriptions", -32006)
    );
    // The connection goes on.
    rpc.call("daemon.ping", json!({}));
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_goes_on() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut rpc = home.connect();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "daemon.ping" }).to_string();
    let long_batch = format!("[{}]", vec![ping.as_str(); 65].join(","));
    let nested =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "daemon.ping", "params": { "n": null } })
            .to_string()
            .replace("null", &deep);
    for (line, kind, code) in [
        (&b"nonsense"[..], "parse_error", -32700),
        (b"{\"jsonrpc\":\"2.0\",", "parse_error", -32700),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\",\"params\":{\"n\":NaN}}",
            "parse_error",
            -32700,
        ),
        (b"\xff\xfe\x00", "parse_error", -32700),
        (b"{}", "invalid_request", -32600),
        (b"[]", "invalid_request", -32600),
        (b"7", "invalid_request", -32600),
        (deep.as_bytes(), "too_deep", 1900),
        (nested.as_bytes(), "too_deep", 1900),
        (long_batch.as_bytes(), "batch_too_long", -32010),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.pong\"}", "unknown_method", -32601),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\",\"params\":[1]}",
            "invalid_params",
            -32602,
        ),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\",\"params\":{\"m\":1}}",
            "invalid_params",
            -32602,
        ),
    ] {
        rpc.send_bytes(line).unwrap();
        rpc.send_bytes(b"\n").unwrap();
        let refusal = rpc.refusal();
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]);
        assert_eq!((refusal.kind.as_str(), refusal.code), (kind, code), "{shown}: {refusal:?}");
    }
    assert_eq!(rpc.call("daemon.ping", json!({ "n": 3 }))["n"], 3);
}

#[test]
fn an_unknown_parameter_is_named_with_the_daemons_version() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut rpc = home.connect();
    let version = rpc.call("daemon.hello", json!({}))["version"].as_str().unwrap().to_owned();
    let refusal = rpc.expect_refusal("model.list", json!({ "colour": 1 }), "invalid_params");
    let said = format!("{} {}", refusal.message, refusal.data);
    assert!(said.contains("colour") && said.contains(&version), "{said}");
}

#[test]
fn a_client_that_says_it_is_done_still_gets_its_answers() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut rpc = home.connect();
    // The last line has no end, as from `printf | nc -N`.
    rpc.send("daemon.ping", json!({ "n": 1 }));
    rpc.send_bytes(rpc_request(9, "daemon.ping", json!({ "n": 2 })).to_string().as_bytes())
        .unwrap();
    rpc.finish_sending();
    let answers = [rpc.message()["result"]["n"].take(), rpc.message()["result"]["n"].take()];
    assert_eq!(answers, [json!(1), json!(2)]);
    assert_eq!(rpc.line(), None);
}

#[test]
fn a_batch_is_answered_and_what_wants_no_answer_gets_none() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut rpc = home.connect();
    let silent = json!({ "jsonrpc": "2.0", "method": "daemon.ping" });
    let batch = json!([
        rpc_request(1, "daemon.ping", json!({})),
        silent,
        rpc_request(2, "daemon.pong", json!({}))
    ]);
    rpc.send_line(&silent.to_string());
    rpc.send_line(&batch.to_string());
    let answers = rpc.message();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 2);
    let of = |id: u64| answers.iter().find(|answer| answer["id"] == id).unwrap();
    assert!(of(1).get("result").is_some());
    assert_eq!(of(2)["error"]["code"], -32601);
}

fn rpc_request(id: usize, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}
