//! Secrets: they work, and nobody sees them.

use llamactl_tests::http::Endpoint;
use llamactl_tests::user::{NOBODY, act_as_member};
use llamactl_tests::{Home, Rpc, TestModel, artifacts, need};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const SECRET: &str = "sk-very-secret-77";

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { files_below(&path) } else { vec![path] }
        })
        .collect()
}

fn holds(path: &Path, text: &str) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_key_keeps_strangers_out_and_the_daemon_in() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "port=auto", "api-key=generate"]).ok();
    let key = home.cli(["model", "key", "tiny"]).ok().stdout().trim().to_owned();
    assert!(key.starts_with("sk-") && key.len() > 40, "{key}");
    let server = home.cli(["start", "tiny", "--json"]).ok().json();
    assert_eq!(server["warnings"], json!([]), "no_api_key is not said where there is one");
    let url = server["endpoint"]["url"].as_str().unwrap();
    let refused = Endpoint::from_url(url).get("/props").unwrap();
    assert_eq!(refused.status, 401);
    // The daemon asks with the key: what it knows comes from /props and /slots.
    let mut states = home.follow("server.follow", json!({ "model": "tiny" }));
    let known = states.item_where(|it| !it["in_force"].is_null());
    assert!(known["data"]["in_force"]["slots"].as_u64().unwrap() > 0, "{known}");
    // llamactl run asks with it too.
    let answer = home.cli(["run", "tiny", "--max-tokens", "5", "hello"]).ok();
    assert_ne!(answer.stdout().trim(), "");
    // As does a daemon that took the server over.
    home.cli(["model", "unset", "tiny", "api-key"]).ok();
    home.cli(["model", "key", "tiny"]).code(3);
}

#[test]
fn a_daemon_that_takes_a_server_over_still_has_its_key() {
    let home = Home::new();
    let mut daemon = home.daemon();
    home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
    home.cli(["model", "set", "tiny", "port=auto", "api-key=generate"]).ok();
    home.cli(["start", "tiny"]).ok();
    daemon.kill();
    daemon.start_again();
    let mut states = home.follow("server.follow", json!({ "model": "tiny" }));
    let known = states.item_where(|it| !it["in_force"].is_null());
    assert!(known["data"]["in_force"]["slots"].as_u64().unwrap() > 0, "{known}");
    home.cli(["stop", "tiny"]).ok();
}

#[test]
fn a_secret_is_nowhere_but_in_its_file() {
    let (home, daemon) = Home::with_tiny();
    let file = home.path().join("key.txt");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let given = format!("api-key=@{}", file.display());
    home.cli(["model", "set", "tiny", &given, "port=auto"]).ok();
    let variable = home.llamactl(["model", "set", "tiny", "env.TOKEN=-"]).stdin(SECRET);
    variable.run().ok();
    fs::remove_file(&file).unwrap();
    home.cli(["start", "tiny"]).ok();
    home.cli(["model", "set", "tiny", "temp=0.5"]).ok();

    // It reached the process by its environment, and stands on no command line.
    let process = &home.llama_servers()[0];
    assert_eq!(process.variable("LLAMA_API_KEY").as_deref(), Some(SECRET));
    assert_eq!(process.variable("TOKEN").as_deref(), Some(SECRET));
    let line = String::from_utf8(process.command_line()).unwrap();
    assert!(line.contains("--model") && !line.contains(SECRET), "{line}");

    for arguments in [
        &["model", "show", "tiny", "--json"][..],
        &["model", "show", "tiny", "--resolved", "--json"],
        &["model", "show", "tiny"],
        &["model", "args", "tiny"],
        &["model", "args", "tiny", "--json"],
        &["model", "history", "tiny", "--json"],
        &["model", "diff", "tiny", "1", "3", "--json"],
        &["model", "list", "--json"],
        &["ps", "--json"],
        &["status", "tiny"],
        &["events", "--json"],
        &["logs", "tiny"],
    ] {
        let output = home.cli(arguments).ok();
        assert!(!output.stdout().contains(SECRET), "{arguments:?}");
        assert!(!output.stdout().contains("secret_ref"), "{arguments:?}: {}", output.stdout());
    }
    assert_eq!(home.cli(["model", "key", "tiny"]).ok().stdout().trim(), SECRET);
    assert!(!daemon.stderr().contains(SECRET));

    let secrets = home.state_dir().join("secrets");
    for path in files_below(&home.state_dir()) {
        let is_secret = path.starts_with(&secrets);
        assert_eq!(holds(&path, SECRET), is_secret, "{}", path.display());
        if is_secret {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    assert_eq!(secrets.metadata().unwrap().permissions().mode() & 0o777, 0o700);

    home.cli(["model", "remove", "--stop", "tiny"]).ok();
    assert_eq!(files_below(&secrets), Vec::<PathBuf>::new(), "nothing refers to them any more");
}

#[test]
fn what_nothing_refers_to_is_gone_with_the_next_daemon() {
    let home = Home::new();
    let mut daemon = home.daemon();
    home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
    home.cli(["model", "set", "tiny", "api-key=generate"]).ok();
    let secrets = home.state_dir().join("secrets");
    let kept = files_below(&secrets);
    let stray = secrets.join("0190c8a0-0000-4000-8000-000000000000");
    fs::write(&stray, "left behind").unwrap();
    daemon.kill();
    daemon.start_again();
    assert_eq!((kept.len(), files_below(&secrets)), (1, kept));
    home.cli(["model", "key", "tiny"]).ok();
}

#[test]
fn a_secret_written_out_is_refused_and_not_repeated() {
    let (home, _daemon) = Home::with_tiny();
    let typed = format!("api-key={SECRET}");
    let refused = home.cli(["--json", "model", "set", "tiny", &typed]).code(5);
    assert!(!refused.stderr().contains(SECRET), "{}", refused.stderr());
    assert!(refused.failure()["hint"].as_str().unwrap().contains("api-key=@FILE"));
    let mut rpc = home.connect();
    let raw = json!({ "model": "tiny", "set": { "api-key": SECRET } });
    let refusal = rpc.expect_refusal("model.set", raw, "invalid_value");
    assert!(!format!("{refusal:?}").contains(SECRET));
    let flags = home.cli(["model", "set", "tiny", "--", "--api-key", SECRET]).code(5);
    assert!(!flags.stderr().contains(SECRET), "{}", flags.stderr());
    let kept = json!({ "model": "tiny", "set": { "api-key": { "secret": "kept" } } });
    rpc.expect_refusal("model.set", kept, "invalid_value");
    let foreign = json!({ "secret_ref": "0190c8a0-0000-4000-8000-000000000000" });
    let foreign = json!({ "model": "tiny", "set": { "api-key": foreign } });
    rpc.expect_refusal("model.set", foreign, "invalid_value");
    assert_eq!(home.call("model.show", json!({ "model": "tiny" }))["settings"], json!({}));
    home.cli(["model", "set", "tiny", "api-key=@/nonexistent"]).code(3);
    home.llamactl(["model", "set", "tiny", "api-key=-"]).stdin("").run().code(5);
    home.llamactl(["model", "set", "tiny", "api-key=?"]).stdin("x").run().code(2);
}

#[test]
fn the_same_secret_again_is_no_change_and_a_rollback_brings_the_old_one_back() {
    let (home, _daemon) = Home::with_tiny();
    let give = |text: &str| {
        let given = home.llamactl(["model", "set", "tiny", "api-key=-", "--json"]).stdin(text);
        given.run().ok().json()["changed"].clone()
    };
    assert_eq!(
        (give("one"), give("one"), give("two")),
        (true.into(), false.into(), Value::Bool(true))
    );
    let key = || home.cli(["model", "key", "tiny"]).ok().stdout().trim().to_owned();
    assert_eq!(key(), "two");
    home.cli(["model", "rollback", "tiny"]).ok();
    assert_eq!(key(), "one");
    // What is shown can be given back: it leaves the stored one alone.
    let settings = home.call("model.show", json!({ "model": "tiny" }))["settings"].take();
    home.call("model.set", json!({ "model": "tiny", "set": settings }));
    assert_eq!(key(), "one");
}

#[test]
fn a_secret_variable_of_a_runtime_is_nowhere_but_in_its_file() {
    let home = Home::without_llama_server();
    let _daemon = home.daemon();
    let build = artifacts::fake_llama_server();
    let token = json!({ "secret_text": SECRET });
    let add = json!({ "path": build, "name": "b1", "environment": { "TOKEN": token } });
    let added = home.call("runtime.add", add);
    assert_eq!(added["runtime"]["environment"], json!({ "TOKEN": { "secret": "kept" } }));
    let second = format!("{SECRET}-2");
    let set = |value: Value| json!({ "name": "b1", "set": { "env.TOKEN": value } });
    home.call("runtime.set", set(json!({ "secret_text": second })));
    // What is shown can be given back: it leaves the stored one alone.
    let kept = home.call("runtime.set", set(json!({ "secret": "kept" })));
    assert_eq!(kept["changed"], json!(false));
    let foreign = json!({ "secret_ref": "0190c8a0-0000-4000-8000-000000000000" });
    home.connect().expect_refusal("runtime.set", set(foreign), "invalid_value");

    let secrets = home.state_dir().join("secrets");
    for path in files_below(&home.state_dir()).iter().filter(|it| !it.starts_with(&secrets)) {
        assert!(!holds(path, SECRET), "{}", path.display());
    }
    assert!(files_below(&secrets).iter().any(|path| holds(path, &second)));
    home.call("runtime.use", json!({ "name": "system" }));
    home.call("runtime.remove", json!({ "name": "b1" }));
    assert!(!files_below(&secrets).iter().any(|path| holds(path, &second)));
}

#[test]
fn a_change_that_is_not_made_leaves_no_secret_behind() {
    let (home, _daemon) = Home::with_tiny();
    let secrets = home.state_dir().join("secrets");
    let set = json!({ "api-key": { "secret_text": SECRET } });
    let refused = home
        .connect()
        .try_call("model.set", json!({ "model": "tiny", "set": set, "if_revision": 9 }));
    assert_eq!(refused.unwrap_err().kind, "revision_conflict");
    // All that is found is registered already.
    let models = home.model(TestModel::Tiny).parent().unwrap().to_owned();
    let scan = json!({ "directories": [models], "add": true, "settings": set });
    home.follow("scan.follow", scan.clone()).to_end();
    home.call("model.remove", json!({ "model": "tiny" }));
    assert_eq!(files_below(&secrets), Vec::<PathBuf>::new());
    // Each model that is added has a secret of its own.
    home.follow("scan.follow", scan).to_end();
    let models = home.call("model.list", json!({}))["items"].as_array().unwrap().len();
    assert_eq!(files_below(&secrets).len(), models);
    assert!(models > 0);
}

/// Everything a test looks at must not hold the canary; what gives it is named.
const CANARY: &str = "canary-c0ffee-2f1d";

#[test]
fn a_canary_given_in_every_place_is_seen_in_none() {
    need!("root");
    let home = Home::without_llama_server();
    let (name, gid) = group_of_nobody();
    let (state_dir, socket) = (home.state_dir(), home.socket());
    let home = home.env("LLAMACTL_STATE_DIR", &state_dir).env("LLAMACTL_SOCKET", &socket);
    let build = artifacts::fake_llama_server();
    let command =
        home.llamactld(["--system", "--group", name.as_str()]).env("LLAMACTL_LLAMA_SERVER", &build);
    let daemon = home.daemon_by(command);
    let mut number = 0;
    let mut canary = || {
        number += 1;
        format!("{CANARY}-{number}")
    };
    let mut given = || json!({ "secret_text": canary() });

    home.fake_model("m", &json!({}));
    home.fake_model("other", &json!({}));
    let second = home.own_model(TestModel::Tiny, "second.gguf");
    let third = home.own_model(TestModel::Tiny, "third.gguf");
    home.call(
        "model.set",
        json!({ "model": "m", "set": { "api-key": given(), "env.A": given() } }),
    );
    let add = json!({ "path": second, "name": "added", "settings": { "env.B": given() } });
    home.call("model.add", add);
    home.call("defaults.set", json!({ "set": { "env.C": given() } }));
    let environment = json!({ "D": given() });
    home.call("runtime.add", json!({ "path": build, "name": "rt", "environment": environment }));
    home.call("runtime.set", json!({ "name": "rt", "set": { "env.E": given() } }));
    home.call("model.set", json!({ "model": "m", "set": { "runtime": "rt" } }));
    let document = format!(
        "[models.imported]\npath = {third:?}\nsettings = {{ \"env.F\" = {{ secret_text = \"{}\" }} }}\n\
         [runtimes.rt2]\npath = {build:?}\nenv = {{ G = {{ secret_text = \"{}\" }} }}\n",
        canary(),
        canary()
    );
    home.call("model.import", json!({ "source": { "text": document } }));
    // What is no place for a secret is refused or left out, and not repeated.
    let file = home.path().join("given");
    fs::write(&file, canary()).unwrap();
    let line = format!(
        "LLAMA_API_KEY={} HF_TOKEN={} WEB_TOKEN={} llama-server -m {} --api-key {} -a pasted",
        canary(),
        canary(),
        canary(),
        second.display(),
        canary()
    );
    let answer = home.call("model.import", json!({ "source": { "text": line } }));
    assert!(!answer.to_string().contains(CANARY), "{answer}");
    let pasted = home.call("model.show", json!({ "model": "pasted" }));
    assert_eq!(pasted["settings"]["env.WEB_TOKEN"], json!({ "secret": "kept" }));
    let preset = format!("[p]\nmodel = {}\napi-key = {}\n", second.display(), canary());
    let answer = home.call("model.import", json!({ "source": { "text": preset } }));
    assert!(!answer.to_string().contains(CANARY), "{answer}");
    for command in ["start", "restart"] {
        for set in [format!("env.H=@{}", file.display()), format!("api-key=@{}", file.display())] {
            let refused = home.cli(["--json", command, "m", "--set", &set]).code(5);
            assert!(!refused.stderr().contains(CANARY), "{}", refused.stderr());
        }
    }
    for set in [json!("generate"), json!({ "secret": "kept" })] {
        let start = json!({ "model": "other", "set": { "api-key": set } });
        home.connect().expect_refusal("server.start", start, "invalid_value");
    }

    home.cli(["start", "m"]).ok();
    home.cli(["start", "other"]).ok();
    let of = |model: &str| {
        let socket = format!("/m{}.sock", home.call("model.show", json!({ "model": model }))["id"]);
        let servers = home.llama_servers();
        let found =
            servers.into_iter().find(|it| it.command.iter().any(|word| word.ends_with(&socket)));
        found.unwrap()
    };
    let server = of("m");
    for name in ["LLAMA_API_KEY", "A", "C", "D", "E"] {
        let value = server.variable(name).unwrap_or_default();
        assert!(value.starts_with(CANARY), "{name}={value}");
    }
    let other = of("other");
    for name in ["LLAMA_API_KEY", "A", "D", "E"] {
        assert_eq!(other.variable(name), None, "{name} is not for it");
    }
    for process in home.processes() {
        let line = String::from_utf8_lossy(&process.command_line()).into_owned();
        assert!(!line.contains(CANARY), "{line}");
    }

    // Every method that only looks, with whatever parameters it takes, asked by the owner and a member.
    for dir in state_dir.ancestors().take_while(|dir| *dir != home.path()) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    }
    let discovered = home.call("rpc.discover", json!({}));
    let methods: Vec<String> = discovered["methods"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|method| method["x-access"] == "observe")
        .map(|method| method["name"].as_str().unwrap().to_owned())
        .collect();
    let ask = || {
        let mut answered = Vec::new();
        for method in &methods {
            for params in [
                json!({}),
                json!({ "model": "m" }),
                json!({ "model": "added" }),
                json!({ "model": "imported" }),
                json!({ "model": "pasted" }),
                json!({ "model": "m", "resolved": true }),
                json!({ "model": "m", "from": 1, "to": 2 }),
                json!({ "name": "rt" }),
                json!({ "name": "rt2" }),
                json!({ "models": ["m", "added", "imported"] }),
                json!({ "all": true }),
                json!({ "resolved": true }),
            ] {
                let answer = Rpc::connect(&socket).try_call(method, params);
                let text = format!("{answer:?}");
                assert!(!text.contains(CANARY) && !text.contains("secret_ref"), "{method}: {text}");
                if answer.is_ok() && !answered.contains(method) {
                    answered.push(method.clone());
                }
            }
        }
        answered
    };
    let answered = ask();
    for method in ["model.show", "model.args", "model.history", "model.export", "runtime.show"] {
        assert!(answered.iter().any(|it| it == method), "{method} was not asked: {answered:?}");
    }
    assert_eq!(act_as_member(NOBODY, &[gid], ask), answered);
    for arguments in [
        &["status"][..],
        &["status", "m"],
        &["why", "m"],
        &["ps", "--json"],
        &["events", "--json"],
        &["logs", "m"],
        &["model", "args", "m"],
        &["model", "export"],
        &["runtime", "show", "rt", "--json"],
        &["defaults", "show", "--json"],
    ] {
        let output = home.cli(arguments).ok();
        assert!(!output.stdout().contains(CANARY), "{arguments:?}");
    }
    assert!(!daemon.stderr().contains(CANARY));
    let secrets = state_dir.join("secrets");
    for path in files_below(&state_dir) {
        assert_eq!(holds(&path, CANARY), path.starts_with(&secrets), "{}", path.display());
    }
}

/// A group that no test's user is in.
fn group_of_nobody() -> (String, u32) {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let mut entries = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse::<u32>().ok()?))
    });
    entries.find(|(_, gid)| ![0, NOBODY].contains(gid)).unwrap()
}
