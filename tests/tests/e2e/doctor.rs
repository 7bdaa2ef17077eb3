//! `llamactl doctor`: each fault is brought about and found, whether a daemon answers or not.

use llamactl_tests::mount::Mount;
use llamactl_tests::{DEADLINE, Home, TestModel, artifacts, eventually, llama, need};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What the doctor finds, by code; other tests' llama-servers are found too and do not count.
struct Examined(Value);

impl Examined {
    fn of(home: &Home, code: i32) -> Examined {
        Examined(home.cli(["doctor", "--json"]).code(code).json())
    }

    fn find(&self, code: &str) -> Option<&Value> {
        self.0["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code)
    }

    #[track_caller]
    fn has(&self, code: &str, subject: &str) -> &Value {
        let Some(found) = self.find(code) else { panic!("no {code} in {:#}", self.0) };
        assert!(found["subject"].as_str().is_some_and(|it| it.contains(subject)), "{found}");
        found
    }
}

#[test]
fn what_is_wrong_is_found_while_a_daemon_runs_and_what_is_safe_is_mended() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let path = home.fake_model("m", &json!({}));
    let sound = Examined::of(&home, 0);
    let is_note = |finding: &Value| finding["severity"] == "note";
    assert!(sound.0["findings"].as_array().unwrap().iter().all(is_note), "{:#}", sound.0);
    assert_eq!(sound.0["not_checked"], json!([]));

    home.cli(["start", "m"]).ok();
    home.cli(["defaults", "set", "cache-ram=16777216"]).ok();
    let copies = home.state_dir().join("copies");
    let copy = || {
        fs::read_dir(&copies)
            .ok()?
            .flatten()
            .map(|it| it.path())
            .find(|it| it.extension().is_some_and(|it| it == "db"))
    };
    eventually(DEADLINE, "there is a copy", || copy().is_some());
    let copy = copy().unwrap();
    fs::OpenOptions::new().write(true).open(&copy).unwrap().set_len(5000).unwrap();
    let logs = home.state_dir().join("logs");
    mode(&logs, 0o755);
    mode(&home.socket(), 0o666);
    mode(&home.run_dir(), 0o755);
    home.configure("max_running = 9\n");
    let found = Examined::of(&home, 1);
    found.has("copy_damaged", copy.to_str().unwrap());
    found.has("state_open", logs.to_str().unwrap());
    found.has("socket_open", "llamactld.sock");
    assert!(
        found.find("prompt_caches").unwrap()["message"].as_str().unwrap().contains("of m may take")
    );
    assert!(
        found.find("config_pending").unwrap()["message"].as_str().unwrap().contains("max_running")
    );

    let fixed = home.cli(["doctor", "--fix", "--json"]).code(1).json();
    assert_eq!(fixed["fixed"].as_array().unwrap().len(), 1, "{fixed:#}");
    assert_eq!(fs::metadata(&logs).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(Examined(fixed).find("state_open").is_none());

    home.configure("max_runing = 9\n");
    home.cli(["stop", "m"]).ok();
    fs::remove_file(&path).unwrap();
    let found = Examined::of(&home, 1);
    let wrong = found.find("config_wrong").unwrap();
    assert!(wrong["message"].as_str().unwrap().contains("max_runing"), "{wrong}");
    let gone = found.has("model_gone", "m");
    assert_eq!(gone["commands"][0], json!(["llamactl", "model", "set", "m", "path=FILE"]));
    let said = home.cli(["doctor"]).code(1).stdout();
    assert!(
        said.contains("(model_gone)") && said.contains("llamactl model set m path=FILE"),
        "{said}"
    );
    assert!(home.cli(["doctor", "-q"]).code(1).lines().contains(&"config_wrong".to_owned()));
}

/// A file that is the same and does not run any more; a llama-server that nobody knows; another llamactl.
#[test]
fn a_library_that_is_gone_and_programs_of_others_are_found() {
    let home = Home::without_llama_server();
    let bin = home.path().join("build");
    fs::create_dir(&bin).unwrap();
    for file in fs::read_dir(llama::real().parent().unwrap()).unwrap().map(Result::unwrap) {
        let to = bin.join(file.file_name());
        fs::hard_link(file.path(), &to).or_else(|_| fs::copy(file.path(), &to).map(drop)).unwrap();
    }
    let _daemon = home.daemon();
    let program = bin.join("llama-server");
    home.cli(["runtime", "add", program.to_str().unwrap(), "--name", "own"]).ok();
    home.cli(["runtime", "use", "own"]).ok();
    assert!(Examined::of(&home, 0).find("runtime_unusable").is_none());
    for file in fs::read_dir(&bin).unwrap().map(|it| it.unwrap().path()) {
        if file.file_name().unwrap().to_str().unwrap().starts_with("libllama") {
            fs::remove_file(file).unwrap();
        }
    }
    let shadow = home.path().join("shadow");
    fs::create_dir(&shadow).unwrap();
    fs::write(shadow.join("llamactl"), "#!/bin/sh\n").unwrap();
    mode(&shadow.join("llamactl"), 0o755);
    let stranger = home.path().join("llama-server");
    fs::copy(artifacts::fake_llama_server(), &stranger).unwrap();
    let model = home.own_model(TestModel::Tiny, "x.gguf");
    let other =
        home.program(&stranger, ["--model", model.to_str().unwrap(), "--port", "0"]).spawn();
    let found = home
        .llamactl(["doctor", "--json"])
        .env("PATH", format!("{}:/usr/bin:/bin", shadow.display()));
    let found = Examined(found.run().code(1).json());
    let unusable = found.has("runtime_unusable", "own");
    assert!(unusable["message"].as_str().unwrap().contains("library libllama"), "{unusable}");
    assert_eq!(unusable["severity"], "error");
    found.has("other_program", shadow.to_str().unwrap());
    let untended = other.pid();
    let pid = untended.to_string();
    let strangers = found.0["findings"].as_array().unwrap();
    assert!(
        strangers.iter().filter(|it| it["code"] == "other_server").count() > 0,
        "{pid}: {strangers:#?}"
    );
    // Whoever looks at all servers is told of it.
    let is_told =
        |others: &Value| others.as_array().unwrap().iter().any(|it| it["pid"] == untended);
    let status = || home.cli(["status", "--json"]).ok().json()["daemon"]["other_servers"].clone();
    eventually(DEADLINE, "it is found", || is_told(&status()));
    let listed = home.cli(["rpc", "server.list"]).ok().json();
    assert!(is_told(&listed["other_servers"]), "{listed:#}");
    other.signal(Signal::KILL);
    let _ = other.finish();
    assert!(!is_told(&status()), "one that ended is told of no more");
}

#[test]
fn a_daemon_that_hangs_or_is_dead_and_a_damaged_registry_are_found_without_it() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    daemon.signal(Signal::STOP);
    let silent = Examined::of(&home, 1);
    let found = silent.find("daemon_silent").unwrap();
    let continues = json!(["kill", "-CONT", daemon.pid().to_string()]);
    assert_eq!(found["commands"][0], continues, "{found}");
    assert!(silent.find("registry_damaged").is_none(), "{:#}", silent.0);
    daemon.signal(Signal::CONT);
    daemon.kill();
    let dead = Examined::of(&home, 0);
    assert!(dead.find("daemon_not_running").is_some());
    assert!(dead.0["not_checked"].to_string().contains("no daemon answers"));

    let registry = home.state_dir().join("registry.db");
    let file = fs::OpenOptions::new().write(true).open(&registry).unwrap();
    let _ = fs::remove_file(home.state_dir().join("registry.db-wal"));
    file.write_all_at(&[0x5a; 4096], 0).unwrap();
    let found = Examined::of(&home, 1);
    let damaged = found.has("registry_damaged", home.state_dir().to_str().unwrap());
    assert_eq!(damaged["severity"], "error");
    assert!(damaged["hint"].is_string(), "{damaged}");
    home.cli(["doctor", "--socket", "/nonexistent/x.sock"]).code(1);
}

#[test]
fn a_full_disk_is_found_with_and_without_a_daemon() {
    need!("root", "mount");
    let home = Home::with_fake_llama_server();
    fs::create_dir_all(home.state_dir().parent().unwrap()).unwrap();
    let disk = Mount::small(home.state_dir(), 64);
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    disk.fill();
    home.cli(["--json", "model", "set", "m", "ctx-size=512"]).code(1);
    let found = Examined::of(&home, 1);
    found.has("disk_low", home.state_dir().to_str().unwrap());
    assert_eq!(found.find("disk_full").unwrap()["severity"], "error");
    daemon.kill();
    Examined::of(&home, 1).has("disk_low", home.state_dir().to_str().unwrap());
    disk.free();
}
