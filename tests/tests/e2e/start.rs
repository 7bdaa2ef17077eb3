//! Starting, using and stopping real llama-servers, and every way a start can fail.

use llamactl_tests::http::Endpoint;
use llamactl_tests::{DEADLINE, Daemon, Home, TestModel, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

fn home_with(models: &[TestModel]) -> (Home, Daemon) {
    let home = Home::new();
    let daemon = home.daemon();
    for &model in models {
        home.cli(["model", "add", home.model(model).to_str().unwrap()]).ok();
    }
    (home, daemon)
}

fn server(home: &Home, model: &str) -> Value {
    home.call("server.show", json!({ "model": model }))
}

/// What llama-server itself reports to be using, once it has been asked.
fn in_force(home: &Home, model: &str) -> Value {
    let mut states = home.follow("server.follow", json!({ "model": model }));
    states.item_where(|it| !it["in_force"]["context_tokens"].is_null())["data"]["in_force"].take()
}

#[test]
fn start_means_ready() {
    let (home, _daemon) = home_with(&[TestModel::Tiny]);
    let output = home.cli(["start", "tiny"]).ok();
    assert!(output.stdout().contains("ready"), "{}", output.stdout());
    let shown = server(&home, "tiny");
    assert_eq!(shown["state"], "ready");
    // At once, without another try.
    let answer = Endpoint::of(&shown).get("/health").unwrap();
    assert_eq!((answer.status, answer.json()), (200, json!({ "status": "ok" })));
    assert!(shown["run"]["load_ms"].is_u64() && shown["run"]["ready_at_ms"].is_i64(), "{shown}");

    let again = home.cli(["start", "tiny"]).ok();
    assert!(again.stdout().starts_with("tiny is ready at "), "{}", again.stdout());
    assert_eq!(server(&home, "tiny")["run"]["id"], shown["run"]["id"]);

    home.cli(["stop", "tiny"]).ok();
    assert!(home.llama_servers().is_empty(), "stopped means gone");
    assert_eq!(server(&home, "tiny")["state"], "stopped");
    assert!(Endpoint::of(&shown).get("/health").is_err());
    home.cli(["stop", "tiny"]).ok();
}

#[test]
fn without_a_port_it_listens_on_a_socket_of_its_own_only() {
    let (home, _daemon) = home_with(&[TestModel::Tiny]);
    let output = home.cli(["start", "tiny"]).ok().stdout();
    let endpoint = server(&home, "tiny")["endpoint"].clone();
    let socket = endpoint["socket"].as_str().unwrap();
    assert_eq!(endpoint["url"], Value::Null);
    assert!(output.starts_with(&format!("tiny ready at unix:{socket} (")), "{output}");
    let status = home.cli(["status", "tiny"]).ok().stdout();
    assert!(status.contains(&format!("curl --unix-socket {socket}")), "{status}");
    assert!(socket.starts_with(home.state_dir().to_str().unwrap()), "{socket}");
}

#[test]
fn with_a_port_the_printed_endpoint_is_usable() {
    let (home, _daemon) = home_with(&[TestModel::Tiny]);
    home.cli(["model", "set", "tiny", "port=auto", "ctx-size=1024"]).ok();
    let output = home.cli(["start", "tiny"]).ok().stdout();
    let url = output.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:"));
    let url = url.unwrap_or_else(|| panic!("no endpoint in {output}"));
    let endpoint = Endpoint::from_url(url);
    let said = endpoint.chat("Who are you?", 32);
    assert!(!said["choices"][0]["message"]["content"].as_str().unwrap().is_empty(), "{said}");
    let shown = server(&home, "tiny");
    assert_eq!(shown["endpoint"]["url"], url);
    assert_eq!(in_force(&home, "tiny")["context_tokens"], 1024);

    // The port is kept.
    home.cli(["restart", "tiny"]).ok();
    let restarted = server(&home, "tiny");
    assert_eq!(restarted["endpoint"]["url"], url);
    assert_ne!(restarted["run"]["id"], shown["run"]["id"]);
    assert!(home.cli(["ps"]).ok().stdout().contains(url));
}

#[test]
fn several_models_at_once() {
    let (home, _daemon) = home_with(&[TestModel::Tiny, TestModel::Split, TestModel::NeverStop]);
    let names = ["never-stop", "split", "tiny"];
    let started = home.cli(["start", "-q", "tiny", "split", "never-stop"]).ok().lines();
    assert_eq!(BTreeSet::from_iter(started.iter().map(String::as_str)), BTreeSet::from(names));
    assert_eq!(home.llama_servers().len(), 3);
    assert_eq!(home.cli(["ps", "-q"]).ok().lines(), names);

    // One that is not there does not keep the others from being tried.
    home.cli(["restart", "tiny", "absent", "split"]).code(3);
    assert_eq!(home.llama_servers().len(), 3);

    let stopped = home.cli(["stop", "--all", "-q"]).ok().lines();
    assert_eq!(BTreeSet::from_iter(stopped.iter().map(String::as_str)), BTreeSet::from(names));
    assert!(home.llama_servers().is_empty());
    assert_eq!(home.cli(["ps"]).ok().stdout(), "");
}

#[test]
fn many_starts_at_once_are_one_start() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    home.fake_model("slow", &json!({ "load_ms": 300 }));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                home.cli(["start", "slow"]).ok();
            });
        }
    });
    assert_eq!(home.llama_servers().len(), 1);
}

#[test]
fn run_streams_an_answer_and_leaves_the_server_running() {
    let (home, _daemon) = home_with(&[TestModel::Tiny]);
    let output = home.cli(["run", "tiny", "Who are you?", "--temp", "0"]).ok();
    assert!(output.stdout().split_whitespace().count() > 2, "{}", output.stdout());
    assert!(output.stdout().ends_with('\n'));
    assert!(output.stderr().contains("tokens"), "{}", output.stderr());
    assert_eq!(server(&home, "tiny")["state"], "ready");
    // The same again, the prompt from a pipe.
    let piped = home.llamactl(["run", "tiny", "--temp", "0"]).stdin("Who are you?").run().ok();
    assert_eq!(piped.stdout(), output.stdout());
}

#[test]
fn interrupting_run_ends_the_generation() {
    let (home, _daemon) = home_with(&[TestModel::NeverStop]);
    let run = home.llamactl(["run", "never-stop", "Go on.", "--max-tokens", "30000"]).spawn();
    eventually(DEADLINE, "it generates", || {
        let shown = server(&home, "never-stop");
        shown["state"] == "ready" && busy_slots(&shown) == 1
    });
    run.signal(Signal::INT);
    run.finish().code(130);
    let shown = server(&home, "never-stop");
    eventually(DEADLINE, "the generation ends", || busy_slots(&shown) == 0);
    assert_eq!(server(&home, "never-stop")["state"], "ready");
}

fn busy_slots(server: &Value) -> usize {
    let slots = Endpoint::of(server).get("/slots").unwrap().json();
    slots.as_array().unwrap().iter().filter(|slot| slot["is_processing"] == true).count()
}

#[test]
fn not_waiting_says_starting_and_wait_says_when_it_is_ready() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    home.fake_model("slow", &json!({ "load_ms": 500 }));
    home.cli(["wait", "slow", "--for", "ready", "--timeout", "0"]).code(8);
    let output = home.cli(["start", "--no-wait", "slow"]).ok().stdout();
    assert!(output.contains("starting") && !output.contains("ready"), "{output}");
    home.cli(["wait", "slow", "--for", "ready"]).ok();
    assert_eq!(server(&home, "slow")["state"], "ready");
    home.cli(["wait", "slow", "--for", "ready", "--timeout", "0"]).ok();
}

#[test]
fn giving_up_the_waiting_does_not_give_up_the_load() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    home.fake_model("slow", &json!({ "load_ms": 5000 }));
    let given_up = home.cli(["start", "slow", "--timeout", "100ms"]).code(7);
    assert!(given_up.stderr().contains("goes on"), "{}", given_up.stderr());
    home.cli(["wait", "slow"]).ok();
    assert_eq!(server(&home, "slow")["state"], "ready");
}

#[test]
fn what_was_set_while_it_ran_is_pending_until_the_restart() {
    let (home, _daemon) = home_with(&[TestModel::Tiny]);
    home.cli(["start", "tiny"]).ok();
    let set = home.call("model.set", json!({ "model": "tiny", "set": { "ctx-size": 512 } }));
    assert_eq!(set["takes_effect_on_restart"], true);
    assert_eq!(server(&home, "tiny")["pending"], json!(["ctx-size"]));
    home.cli(["restart", "tiny"]).ok();
    assert_eq!(server(&home, "tiny")["pending"], json!([]));
    assert_eq!(in_force(&home, "tiny")["context_tokens"], 512);
}

#[test]
fn a_running_model_is_removed_only_on_request() {
    let (home, _daemon) = home_with(&[TestModel::Tiny]);
    home.cli(["start", "tiny"]).ok();
    let refused = home.cli(["--json", "model", "remove", "tiny"]).code(4);
    assert_eq!(refused.failure_kind(), "model_running");
    home.cli(["model", "remove", "--stop", "tiny"]).ok();
    assert!(home.llama_servers().is_empty());
    assert_eq!(home.cli(["model", "list"]).ok().stdout(), "");
}

/// Starts a model that cannot start; the code of the cause.
fn broken(home: &Home, name: &str, mentions: &str) -> String {
    let failure = home.cli(["--json", "start", name]).code(8).failure();
    assert_eq!(failure["kind"], "server_failed", "{failure}");
    assert!(failure.to_string().contains(mentions), "{name}: nothing of {mentions} in {failure}");
    let shown = server(home, name);
    assert_eq!(shown["state"], "failed", "{shown}");
    let cause = &shown["cause"];
    assert!(!cause["message"].as_str().unwrap().is_empty(), "{cause}");
    cause["code"].as_str().unwrap().to_owned()
}

#[test]
fn five_broken_models_have_five_causes_and_leave_nothing_running() {
    let (home, _daemon) = home_with(&[TestModel::WrongArchitecture]);
    let add = |name: &str| {
        let path = home.own_model(TestModel::Tiny, format!("{name}.gguf"));
        home.cli(["model", "add", path.to_str().unwrap()]).ok();
        path
    };
    fs::remove_file(add("gone")).unwrap();
    let cut = fs::OpenOptions::new().write(true).open(add("cut")).unwrap();
    cut.set_len(cut.metadata().unwrap().len() / 2).unwrap();
    add("value");
    // Which devices there are may change from one start to the next, so any name can be set.
    home.cli(["model", "set", "value", "device=CUDA9"]).ok();
    add("port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    home.cli(["model", "set", "port", &format!("port={port}")]).ok();

    let causes = [
        broken(&home, "gone", "gone.gguf"),
        broken(&home, "cut", "incomplete"),
        broken(&home, "wrong-architecture", "nonesuch"),
        broken(&home, "value", "CUDA9"),
        broken(&home, "port", &port),
    ];
    assert_eq!(BTreeSet::from_iter(&causes).len(), 5, "{causes:?}");
    assert!(home.llama_servers().is_empty());

    // A person is told what failed, what to do, and what says so.
    let said = home.cli(["start", "wrong-architecture"]).code(8).stderr();
    assert!(said.contains("nonesuch") && said.contains("hint:"), "{said}");
    assert!(said.contains("unknown model architecture"), "the evidence: {said}");
    // What is mended starts.
    drop(taken);
    home.cli(["start", "port"]).ok();
}

#[test]
fn a_server_killed_from_outside_is_noticed_and_can_be_started_again() {
    let (home, _daemon) = home_with(&[TestModel::Tiny]);
    home.cli(["start", "tiny"]).ok();
    let before = server(&home, "tiny");
    let mut states = home.follow("server.follow", json!({ "model": "tiny" }));
    states.until_state("ready");
    home.llama_servers()[0].signal(Signal::KILL);
    let noticed = states.item_where(|it| it["state"] != "ready");
    let cause = &noticed["data"]["cause"];
    assert_eq!((&cause["code"], &cause["signal"]), (&json!("killed"), &json!(9)), "{noticed}");
    home.cli(["start", "tiny"]).ok();
    let after = states.until_state("ready");
    assert_ne!(after["run"]["id"], before["run"]["id"]);
}

#[test]
fn a_daemon_that_is_told_to_keeps_the_servers() {
    let home = Home::new();
    home.cli(["daemon", "start"]).ok();
    home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
    home.cli(["start", "tiny"]).ok();
    let pid = server(&home, "tiny")["run"]["pid"].clone();
    home.cli(["daemon", "stop", "--keep-servers"]).ok();
    assert_eq!(home.llama_servers().len(), 1);
    home.cli(["daemon", "start"]).ok();
    let mut states = home.follow("server.follow", json!({ "model": "tiny" }));
    assert_eq!(states.until_state("ready")["run"]["pid"], pid);
    home.cli(["daemon", "stop"]).ok();
    assert!(home.llama_servers().is_empty());
}

#[test]
fn a_start_and_a_wait_outlast_the_daemon_and_a_name_that_is_mistyped_is_put_right() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("slow", &json!({ "load_ms": 3000 }));
    let start = home.llamactl(["start", "slow"]).spawn();
    home.follow("server.follow", json!({ "model": "slow" })).until_state("loading");
    let wait = home.llamactl(["wait", "slow"]).spawn();
    let follow = home.llamactl(["ps", "-f"]).spawn();
    home.cli(["daemon", "restart"]).ok();
    daemon.kill();
    daemon.start_again();
    let [started, waited] = [start, wait].map(|command| command.finish().ok());
    assert!(started.stdout().starts_with("slow ready at "), "{}", started.stdout());
    assert!(waited.stdout().starts_with("slow ready at "), "{}", waited.stdout());
    follow.signal(Signal::INT);
    let followed = follow.finish().code(130).stdout();
    assert!(followed.contains("  slow  "), "{followed}");

    let mistyped = home.cli(["status", "Slow"]).code(3);
    assert_eq!(
        mistyped.stderr(),
        "error: there is no model Slow (names are case-sensitive)\n\
         hint: did you mean slow? llamactl status slow\n\
         hint: see which there are: llamactl model list\n"
    );
}

#[test]
fn a_chat_has_editing_and_history() {
    let (home, _daemon) = home_with(&[TestModel::Tiny]);
    home.cli(["start", "tiny"]).ok();
    let chat = home.llamactl(["run", "tiny", "--max-tokens", "3"]).talk_at_terminal(
        80,
        &[
            ("Ctrl-C stops", ""),
            (">>> ", "hellx\u{7f}o\r"),
            (" tokens at ", ""),
            (">>> ", "\u{1b}[A\r"),
            (" tokens at ", ""),
            (">>> ", "/foo\r"),
            ("there is no /foo here", ""),
            (">>> ", "\u{4}"),
        ],
    );
    let shown = chat.ok().stdout();
    assert_eq!(shown.lines().filter(|line| line.contains(" tokens at ")).count(), 2, "{shown}");

    // Questions typed ahead wait for their turn.
    let chat = home
        .llamactl(["run", "tiny", "--max-tokens", "3"])
        .talk_at_terminal(80, &[("Ctrl-C stops", ""), (">>> ", "one\rtwo\r/bye\r")]);
    let shown = chat.ok().stdout();
    assert_eq!(shown.lines().filter(|line| line.contains(" tokens at ")).count(), 2, "{shown}");
}
