//! Where Prometheus reads the metrics: a socket or a port, promtool's word on the text, and a real
//! Prometheus that asks every query of the dashboard.

use llama_http::Target;
use llamactl_tests::http::Endpoint;
use llamactl_tests::user::{NOBODY, act_as};
use llamactl_tests::wait::eventually;
use llamactl_tests::{DEADLINE, Home, TestModel, artifacts, need};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A home whose daemon is to serve its metrics at a socket, and the socket.
fn home_with_socket() -> (Home, PathBuf) {
    let home = Home::new();
    let socket = home.path().join("metrics.sock");
    home.configure(&format!("[metrics]\nlisten = '{}'\n", socket.display()));
    (home, socket)
}

/// What a server says to this, as it came.
fn said(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // One that cuts us off in the middle of our request is an answer too.
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn listens(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

#[test]
fn metrics_are_read_at_a_socket_by_who_may_and_after_a_restart_and_not_elsewhere() {
    let (home, socket) = home_with_socket();
    let mut daemon = home.daemon();
    eventually(DEADLINE, "the metrics are served", || listens(&socket));
    let answer = said(&socket, &get("/metrics"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\nllamactl_host_cpus "), "{answer}");
    assert!(said(&socket, &get("/")).contains("href=\"/metrics\""));
    for (request, status) in [
        (get("/else"), "404"),
        (get("/metrics").replace("GET", "HEAD"), "200"),
        (get("/metrics").replace("GET", "POST"), "405"),
        (get("/metrics").replace("localhost", "evil.example"), "403"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (get(&format!("/{}", "x".repeat(60_000))), "431"),
    ] {
        let answer = said(&socket, &request);
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.contains(status), "{request:.40}: {answer:.200}");
    }
    let facts = fs::metadata(&socket).unwrap();
    assert_eq!(facts.permissions().mode() & 0o777, 0o600);

    home.cli(["daemon", "restart"]).ok();
    eventually(DEADLINE, "they are served again", || listens(&socket));
    assert!(said(&socket, &get("/metrics")).contains("llamactl_build_info{"));
    assert!(daemon.terminate().success());
    assert!(!socket.exists());
}

/// Reads again and again until it is told to stop; how many answers came.
fn reading(target: Endpoint, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut answers = 0;
        while !stop.load(Ordering::Relaxed) {
            let answer = target.get("/metrics").expect("no reader is refused");
            assert_eq!(answer.status, 200, "{}", answer.body);
            answers += 1;
        }
        answers
    })
}

#[test]
fn no_reader_is_refused_while_the_daemon_restarts() {
    let (home, socket) = home_with_socket();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _daemon = home.daemon();
    for port in [None, Some(free)] {
        let target = match port {
            None => Target::Socket(socket.clone()),
            Some(address) => {
                // What listened at the socket goes with the configuration that named it.
                home.configure(&format!("[metrics]\nlisten = '{address}'\n"));
                home.cli(["daemon", "restart"]).ok();
                Target::of_endpoint(None, Some(&format!("http://{address}"))).unwrap()
            }
        };
        eventually(DEADLINE, "the metrics are served", || {
            Endpoint(target.clone()).get("/metrics").is_ok()
        });
        assert_eq!(socket.exists(), port.is_none());
        let stop = Arc::new(AtomicBool::new(false));
        let readers = [0, 1].map(|_| reading(Endpoint(target.clone()), Arc::clone(&stop)));
        for _ in 0..3 {
            home.cli(["daemon", "restart"]).ok();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 3);
        }
    }
}

#[test]
fn the_members_of_a_group_may_read_metrics_and_nobody_else() {
    need!("root");
    let home = Home::new();
    let socket = home.path().join("metrics.sock");
    let config = format!("[metrics]\nlisten = '{}'\nlisten_group = 'nogroup'\n", socket.display());
    home.configure(&config);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let _daemon = home.daemon();
    eventually(DEADLINE, "the metrics are served", || listens(&socket));
    // It is its owner's alone until it is the group's.
    eventually(DEADLINE, "it is the group's", || {
        let facts = fs::metadata(&socket).unwrap();
        (facts.permissions().mode() & 0o777, facts.gid()) == (0o660, NOBODY)
    });
    assert!(act_as(NOBODY, || said(&socket, &get("/metrics"))).contains(" 200 OK"));
    assert!(act_as(NOBODY - 1, || UnixStream::connect(&socket).is_err()));
}

/// Fault 58 for whoever reads metrics: nobody else waits for them.
#[test]
fn readers_that_say_nothing_hold_nobody_up_and_a_port_that_is_taken_is_told() {
    let (home, socket) = home_with_socket();
    let _daemon = home.daemon();
    eventually(DEADLINE, "the metrics are served", || listens(&socket));
    let silent: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    home.cli(["ps"]).ok();
    drop(silent);
    assert!(said(&socket, &get("/metrics")).contains(" 200 OK"));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    home.configure(&format!("[metrics]\nlisten = '{address}'\n"));
    home.cli(["daemon", "restart"]).ok();
    eventually(DEADLINE, "it is told", || {
        let status = home.cli(["daemon", "status", "--json"]).ok().json();
        status["warnings"][0]["code"] == "metrics_not_served"
    });
    drop(taken);
    let target = Endpoint(Target::of_endpoint(None, Some(&format!("http://{address}"))).unwrap());
    eventually(DEADLINE, "it is served when the port is free", || {
        target.get("/metrics").is_ok_and(|answer| answer.body.contains("llamactl_build_info"))
    });
    let status = home.cli(["daemon", "status", "--json"]).ok().json();
    assert_eq!(status["warnings"], json!([]));

    home.configure("[metrics]\nlisten = '0.0.0.0:9750'\n");
    let refused = home.cli(["daemon", "restart", "--json"]).code(5).failure();
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("anybody who reaches 0.0.0.0:9750 could read it"), "{refused}");
}

/// A Prometheus of its own, with what it is asked.
struct Prometheus(Endpoint);

impl Prometheus {
    /// What a query gives over the last minute, one list of values for each series.
    fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let encoded =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let pairs: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.0.get(&format!("/api/v1/{path}?{}", pairs.join("&"))).unwrap().json()
    }

    fn now(&self, query: &str) -> Option<f64> {
        let answer = self.ask("query", &[("query", query)]);
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// Whether a query gives a number somewhere in the last minute; what it says if it is refused.
    fn has_data(&self, query: &str) -> Result<bool, String> {
        let now = self.now("vector(time())").unwrap();
        let (start, end) = ((now - 60.0).to_string(), now.to_string());
        let parameters = [("query", query), ("start", &start), ("end", &end), ("step", "1")];
        let answer = self.ask("query_range", &parameters);
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let series = answer["data"]["result"].as_array().unwrap();
        let values = series.iter().flat_map(|it| it["values"].as_array().unwrap());
        Ok(values.into_iter().any(|value| value[1] != "NaN"))
    }
}

/// A dashboard's query with its variables replaced, as Grafana does; those that are not declared.
fn expanded(query: &str, declared: &[String]) -> (String, Vec<String>) {
    let (mut text, mut unknown) = (query.to_owned(), Vec::new());
    for (own, value) in [("$__rate_interval", "15s"), ("$__interval", "5s"), ("$__range", "60s")] {
        text = text.replace(own, value);
    }
    while let Some(at) = text.find('$') {
        let rest = &text[at + 1..];
        let name: String = rest
            .trim_start_matches('{')
            .chars()
            .take_while(|it| it.is_ascii_alphanumeric() || *it == '_')
            .collect();
        let braces = if rest.starts_with('{') { 2 } else { 0 };
        if !declared.contains(&name) {
            unknown.push(name.clone());
        }
        text.replace_range(at..at + 1 + braces + name.len(), ".*");
    }
    (text, unknown)
}

fn panels(of: &Value) -> Vec<Value> {
    let list = of["panels"].as_array().into_iter().flatten();
    list.flat_map(|panel| [vec![panel.clone()], panels(panel)].concat()).collect()
}

#[test]
fn promtool_finds_no_fault_and_every_panel_of_the_dashboard_has_data_from_a_real_prometheus() {
    need!("promtool", "prometheus");
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, own) = (free(), free());
    let home = Home::new();
    home.configure(&format!("[metrics]\nlisten = '{address}'\n"));
    let _daemon = home.daemon();
    let tiny = home.model(TestModel::Tiny);
    let nasty = "Qwen/Qwen3:8b@Q4_K_M+x..//y";
    home.llamactl(["model", "add"]).args([&tiny]).args(["--name", nasty]).run().ok();
    home.cli(["model", "copy", nasty, "stopped"]).ok();
    home.cli(["start", nasty]).ok();
    let server = home.call("server.show", json!({ "model": nasty }));

    let config = home.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: llamactl\n  static_configs:\n  \
         - targets: ['{address}']\n"
    );
    fs::write(&config, text).unwrap();
    let prometheus = home
        .program(
            "/usr/bin/env",
            [
                "prometheus".to_owned(),
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", home.path().join("tsdb").display()),
                format!("--web.listen-address={own}"),
            ],
        )
        .spawn();
    let own =
        Prometheus(Endpoint(Target::of_endpoint(None, Some(&format!("http://{own}"))).unwrap()));
    let asked = |query: &str| {
        let answer = own.0.get("/-/ready");
        if answer.is_ok_and(|answer| answer.status == 200) { own.now(query) } else { None }
    };
    let generated = "sum(llamactl_model_tokens_generated_total)";
    eventually(DEADLINE, "a model that never ran has a total", || {
        asked("llamactl_model_tokens_generated_total{model=\"stopped\"}") == Some(0.0)
    });
    let mut tokens = 0.0;
    eventually(DEADLINE, "all tokens are in the total, and it grew", || {
        let said = Endpoint::of(&server).chat("Who are you?", 8);
        tokens += said["usage"]["completion_tokens"].as_f64().unwrap();
        asked("increase(llamactl_model_tokens_generated_total[1m]) > 0").is_some()
    });
    eventually(DEADLINE, "no token is missing", || asked(generated) == Some(tokens));

    let file = artifacts::checkout().join("packaging/grafana/llamactl.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert!(dashboard["schemaVersion"].is_u64());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let declared: Vec<String> =
        variables.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    for variable in variables.iter().filter(|it| it["type"] == "query") {
        let (query, unknown) = expanded(variable["query"]["query"].as_str().unwrap(), &declared);
        assert_eq!(unknown, [""; 0]);
        let inside = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
        let (of, label) = inside.rsplit_once(", ").unwrap();
        let values = own.ask(&format!("label/{label}/values"), &[("match[]", of)]);
        assert!(values["data"][0].is_string(), "{query}: {values}");
    }
    let has_gpus = own.now("llamactl_gpu_info").is_some();
    let (mut ids, mut queries) = (std::collections::BTreeSet::new(), 0);
    let mut problems = Vec::new();
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (query, unknown) = expanded(target["expr"].as_str().unwrap(), &declared);
            queries += 1;
            let is_of_gpus = query.contains("_gpu_");
            match own.has_data(&query) {
                Ok(true) if unknown.is_empty() => {}
                Ok(false) if is_of_gpus && !has_gpus => {}
                other => problems.push((panel["title"].clone(), query, unknown, other)),
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(queries > 40, "{queries}");

    home.cli(["stop", nasty]).ok();
    let by_file = home.cli(["metrics", "--prometheus"]).ok().stdout();
    let by_http = Endpoint(Target::of_endpoint(None, Some(&format!("http://{address}"))).unwrap());
    for text in [by_file, by_http.get("/metrics").unwrap().body] {
        assert!(text.contains(&format!("_tokens_generated_total{{model=\"{nasty}\"}} {tokens}\n")));
        let word = home.program("/usr/bin/env", ["promtool", "check", "metrics"]).stdin(text).run();
        let word = word.ok();
        assert_eq!((word.stdout(), word.stderr()), (String::new(), String::new()));
    }
    prometheus.signal(Signal::TERM);
    prometheus.finish().ok();
}
