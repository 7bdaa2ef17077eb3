//! `llama`, the one program of llama.cpp 0.2 and later, which its own script installs without a
//! `llama-server`: it is one behind the word `serve`.

use llamactl_tests::{Home, TestModel, artifacts, llama};
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// `llama` where the script installs it.
fn place(home: &Home) -> PathBuf {
    let path = home.path().join(".local/bin/llama");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

#[test]
fn llama_alone_is_found_run_and_taken_over() {
    let home = Home::without_llama_server();
    let path = place(&home);
    // Copied by another process: one that starts while this one has it open for writing could keep it
    // from being executed.
    home.program("/bin/cp", [&artifacts::fake_llama_server(), &path]).run().ok();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    let line = home.call("model.args", json!({ "model": "m" }));
    assert_eq!(line["argv"][0], path.to_str().unwrap(), "{line}");
    assert_eq!((&line["argv"][1], &line["argv"][2]), (&json!("serve"), &json!("--model")));
    home.cli(["start", "m"]).ok();
    let pid = |server: &serde_json::Value| server["run"]["pid"].clone();
    let before = home.call("server.show", json!({ "model": "m" }));

    daemon.kill();
    daemon.start_again();
    let after = home.cli(["wait", "m", "--json"]).ok().json();
    assert_eq!(pid(&after), pid(&before), "{after}");
    home.cli(["stop", "m"]).ok();

    let added = home.cli(["--json", "runtime", "add", path.to_str().unwrap()]).ok().json();
    assert_eq!(added["runtime"]["name"], "llama", "{added}");
    let shown = home.cli(["--json", "runtime", "show", "llama"]).ok().json();
    assert!(shown["options_total"].as_u64().unwrap() > 20, "{shown}");
    // A llama-server is rather meant, wherever it is.
    let server = path.with_file_name("llama-server");
    home.program("/bin/cp", [&artifacts::fake_llama_server(), &server]).run().ok();
    let line = home.call("model.args", json!({ "model": "m" }));
    assert_eq!(line["argv"][0], server.to_str().unwrap(), "{line}");
    assert_eq!(line["argv"][1], "--model", "{line}");
}

#[test]
fn the_real_llama_server_behind_llama_serve_answers() {
    let home = Home::without_llama_server();
    let path = place(&home);
    let real = llama::real();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" != serve ]; then echo 'usage: llama COMMAND'; exit 1; fi\nshift\n\
         export LD_LIBRARY_PATH='{}'\nexec '{}' \"$@\"\n",
        real.parent().unwrap().display(),
        real.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    let _daemon = home.daemon();
    home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
    // Checked against the help of `llama serve`.
    home.cli(["model", "set", "tiny", "ctx-size=512", "cache-type-k=q9_9"]).code(5);
    home.cli(["model", "set", "tiny", "ctx-size=512"]).ok();
    home.cli(["run", "tiny", "Hello", "--max-tokens", "4"]).ok();
    let status = home.call("daemon.status", json!({}));
    assert_eq!(status["runtime"]["path"], path.to_str().unwrap(), "{status}");
}

#[test]
fn what_is_called_llama_and_is_none_is_refused() {
    let home = Home::without_llama_server();
    let path = place(&home);
    fs::write(&path, "#!/bin/sh\necho 'a walk through your files'\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    let _daemon = home.daemon();
    home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
    let failure = home.cli(["--json", "start", "tiny"]).code(5).failure();
    assert_eq!(failure["kind"], "runtime_refused", "{failure}");
    assert!(failure["message"].as_str().unwrap().contains(path.to_str().unwrap()), "{failure}");
}
