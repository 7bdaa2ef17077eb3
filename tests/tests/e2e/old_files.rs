//! Files that change under a running server are told of, and one that could not be started again is not
//! stopped for a restart.

use llamactl_tests::{Home, TestModel, artifacts, need};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::slice;

/// A file of its own with another's bytes.
fn put(from: &Path, to: &Path) {
    let next = to.with_extension("next");
    fs::copy(from, &next).unwrap();
    fs::rename(next, to).unwrap();
}

fn warnings(home: &Home) -> Vec<(String, String)> {
    let server = home.call("server.show", json!({ "model": "m" }));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = server["warnings"].as_array().unwrap().iter();
    all.map(|it| (text(&it["code"]), text(&it["message"]))).collect()
}

#[test]
fn a_file_that_changes_under_a_server_is_said() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    let path = home.fake_model("m", &json!({}));
    let projector = home.own_model(TestModel::Tiny, "p.gguf");
    home.cli(["model", "set", "m", &format!("mmproj={}", projector.display())]).ok();
    home.cli(["start", "m"]).ok();
    assert_eq!(warnings(&home), []);

    put(&TestModel::Tiny.shared(), &path);
    let replaced =
        ("file_replaced".to_owned(), "its file was replaced: it runs on the old one".to_owned());
    assert_eq!(warnings(&home), slice::from_ref(&replaced));
    // Whoever looks whether the new one is sound does not forget that the old one runs.
    // (Its projector is none.)
    home.cli(["model", "verify", "m"]).code(5);
    assert_eq!(warnings(&home), slice::from_ref(&replaced));
    let why = home.cli(["why", "m"]).ok().stdout();
    assert!(why.contains("was replaced: it runs on the old one"), "{why}");
    let status = home.cli(["status", "m"]).ok().stdout();
    assert!(status.contains("was replaced"), "{status}");
    assert!(home.cli(["ps"]).ok().stdout().contains("was replaced"));

    // The next daemon knows it too.
    daemon.kill();
    daemon.start_again();
    home.cli(["wait", "m"]).ok();
    assert_eq!(warnings(&home), [replaced]);
    fs::remove_file(&path).unwrap();
    fs::remove_file(&projector).unwrap();
    let said = warnings(&home);
    assert_eq!((said.len(), said[0].0.as_str(), said[1].0.as_str()), (2, "file_gone", "file_gone"));
    assert!(said.iter().any(|(_, message)| message.contains("mmproj")), "{said:?}");
    home.cli(["stop", "m"]).ok();
    assert_eq!(warnings(&home), []);
}

#[test]
fn a_server_that_could_not_be_started_again_is_not_stopped_for_a_restart() {
    need!("root", "setpriv");
    let home = Home::with_fake_llama_server();
    // Root reads what it may not, unless that is taken from it.
    let options = ["--bounding-set=-dac_override,-dac_read_search"];
    let daemon = home.program("setpriv", options).args([artifacts::llamactld()]);
    let _daemon = home.daemon_by(daemon);
    let path = home.fake_model("m", &json!({}));
    home.cli(["model", "set", "m", "port=auto"]).ok();
    home.cli(["start", "m"]).ok();
    let pid = || home.call("server.show", json!({ "model": "m" }))["run"]["pid"].clone();
    let before = pid();
    let refused = |code: i32, says: &str| {
        let failure = home.cli(["--json", "restart", "m"]).code(code).failure();
        let message = failure["message"].as_str().unwrap();
        assert!(message.starts_with("m is not restarted, it runs on: "), "{failure}");
        assert!(message.contains(says), "{says}: {failure}");
        assert!(failure["hint"].is_string(), "{failure}");
        assert_eq!(pid(), before, "{says}");
        failure
    };

    let kept = path.with_extension("kept");
    fs::rename(&path, &kept).unwrap();
    let gone = refused(3, "m.gguf is gone");
    assert_eq!(gone["commands"], json!([["llamactl", "model", "set", "m", "path=FILE"]]));
    fs::write(&path, "not a model").unwrap();
    refused(5, "m.gguf");
    fs::rename(&kept, &path).unwrap();

    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    refused(5, "may not read");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let directory = path.parent().unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o600)).unwrap();
    let enter = format!("the daemon's user may not enter {}", directory.display());
    let shut = refused(5, &enter);
    assert_eq!(shut["commands"], json!([["chmod", "u+x", directory]]));
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();

    let missing = format!("mmproj={}", home.path().join("nope.gguf").display());
    home.cli(["model", "set", "m", &missing]).ok();
    refused(3, "nope.gguf is gone");
    home.cli(["model", "unset", "m", "mmproj"]).ok();

    let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    home.cli(["model", "set", "m", &format!("port={}", other.local_addr().unwrap().port())]).ok();
    refused(8, "nothing can listen on 127.0.0.1:");
    drop(other);
    home.cli(["model", "set", "m", "port=auto"]).ok();

    home.cli(["restart", "m"]).ok();
    assert_ne!(pid(), before);
}

#[test]
fn a_directory_that_cannot_be_entered_is_named_with_what_lets_the_daemon_in() {
    need!("root", "setpriv", "chmod");
    let home = Home::with_fake_llama_server();
    // Root enters what it may not, unless that is taken from it.
    let options = ["--bounding-set=-dac_override,-dac_read_search"];
    let daemon = home.program("setpriv", options).args([artifacts::llamactld()]);
    let _daemon = home.daemon_by(daemon);
    home.fake_model("m", &json!({}));
    let shut = home.path().join("shut");
    fs::create_dir_all(shut.join("deep")).unwrap();
    let [file, build] = ["m.gguf", "llama-server"].map(|it| shut.join("deep").join(it));
    fs::copy(TestModel::Tiny.shared(), &file).unwrap();
    fs::copy(artifacts::fake_llama_server(), &build).unwrap();
    let text = |path: &Path| path.display().to_string();
    let (deep, file, build) = (text(file.parent().unwrap()), text(&file), text(&build));
    home.cli(["model", "add", &file, "--name", "in"]).ok();
    home.cli(["runtime", "add", &build, "--name", "r"]).ok();
    home.cli(["model", "set", "m", "runtime=r"]).ok();

    let words: [&[&str]; 7] = [
        &["model", "add", &file],
        &["model", "scan", &deep],
        &["model", "verify", "in"],
        &["start", "in"],
        &["runtime", "add", &build],
        &["runtime", "show", "r"],
        &["start", "m"],
    ];
    let enter = format!("the daemon's user may not enter {}", shut.display());
    let cure = ["chmod", "u+x", shut.to_str().unwrap()];
    for words in words {
        fs::set_permissions(&shut, Permissions::from_mode(0o600)).unwrap();
        let output = home.llamactl(["--json"]).args(words).run();
        if words == ["runtime", "show", "r"] {
            assert!(output.ok().stdout().contains(&enter), "{words:?}");
            continue;
        }
        let failure = output.failure();
        assert!(failure["message"].as_str().unwrap().contains(&enter), "{words:?}: {failure}");
        assert_eq!(failure["commands"][0], json!(cure), "{words:?}: {failure}");
        home.program(cure[0], &cure[1..]).run().ok();
        if words[0] == "start" {
            home.llamactl(words).run().ok();
        }
    }
    fs::set_permissions(&shut, Permissions::from_mode(0o600)).unwrap();
    let found = home.cli(["doctor"]).code(1).stdout();
    assert!(found.contains(&enter), "{found}");
    let left_out = home.cli(["model", "scan", shut.to_str().unwrap()]).ok().stderr();
    assert!(left_out.contains(&enter), "{left_out}");
}

#[test]
fn a_port_that_is_not_kept_is_said() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["model", "set", "m", "port=auto", "api-key=generate"]).ok();
    home.cli(["start", "m"]).ok();
    let url = home.call("server.show", json!({ "model": "m" }))["endpoint"]["url"].clone();
    let port: u16 = url.as_str().unwrap().split([':', '/']).nth(4).unwrap().parse().unwrap();
    home.cli(["stop", "m"]).ok();
    let _other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let started = home.cli(["start", "m"]).ok().stderr();
    let said = warnings(&home);
    let message = format!("another program has port {port}; it has {} now", port + 1);
    assert_eq!(said, [("other_port".to_owned(), message.clone())]);
    assert!(started.contains(&message), "{started}");

    // Whoever looks after the server now says so too.
    daemon.kill();
    daemon.start_again();
    home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
    assert_eq!(warnings(&home), said);
}
