//! What is refused as a model file, and why.

use llamactl_tests::{Home, Output, TestModel};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

fn add(home: &Home, path: impl AsRef<OsStr>) -> Output {
    home.cli([OsStr::new("--json"), "model".as_ref(), "add".as_ref(), path.as_ref()])
}

fn refused(home: &Home, path: &Path, kind: &str, status: i32) {
    let failure = add(home, path).code(status).failure();
    assert_eq!(failure["kind"], kind, "{failure}");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(failure["message"].as_str().unwrap().contains(name), "names the file: {failure}");
    assert_eq!(home.cli(["model", "list"]).ok().stdout(), "", "nothing was added");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let home = Home::new();
    let _daemon = home.daemon();
    // A pipe nobody writes to would block whoever opens it to read.
    let fifo = home.path().join("pipe.gguf");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    refused(&home, &fifo, "not_a_file", 5);
    let directory = home.path().join("directory.gguf");
    fs::create_dir(&directory).unwrap();
    refused(&home, &directory, "not_a_file", 5);
    refused(&home, Path::new("/dev/zero"), "not_a_file", 5);
    refused(&home, &home.socket(), "not_a_file", 5);
    refused(&home, &home.path().join("absent.gguf"), "file_not_found", 3);
    let dangling = home.path().join("dangling.gguf");
    std::os::unix::fs::symlink("nowhere.gguf", &dangling).unwrap();
    refused(&home, &dangling, "file_not_found", 3);
}

#[test]
fn a_setting_names_no_pipe_and_no_device() {
    let (home, _daemon) = Home::with_tiny();
    let fifo = home.path().join("pipe");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let fifo = fifo.to_str().unwrap();
    for key in [
        "mmproj",
        "lora",
        "control-vector",
        "spec-draft-model",
        "grammar-file",
        "json-schema-file",
        "chat-template-file",
        "api-key-file",
        "lookup-cache-static",
        "lookup-cache-dynamic",
    ] {
        for path in [fifo, "/dev/zero"] {
            let setting = format!("{key}={path}");
            let failure = home.cli(["--json", "model", "set", "tiny", &setting]).code(5).failure();
            assert_eq!(failure["kind"], "not_a_file", "{failure}");
            assert!(failure["message"].as_str().unwrap().contains(path), "{failure}");
        }
    }
    let mmproj = format!("mmproj={fifo}");
    let scaled = format!("lora-scaled={fifo}:0.5");
    for refused in [
        &["model", "set", "tiny", &scaled][..],
        &["model", "set", "tiny", "--", "--mmproj", fifo],
        &["defaults", "set", &mmproj],
        &["start", "tiny", "--set", &mmproj],
        &["model", "add", home.model(TestModel::Split).to_str().unwrap(), &mmproj],
    ] {
        let failure = home.llamactl(["--json"]).args(refused).run().code(5).failure();
        assert_eq!(failure["kind"], "not_a_file", "{refused:?}: {failure}");
    }
    assert_eq!(home.call("model.show", json!({ "model": "tiny" }))["settings"], json!({}));
    assert!(home.llama_servers().is_empty());

    let model = home.model(TestModel::Split);
    let document =
        format!("[models.other]\npath = {model:?}\nsettings = {{ mmproj = {fifo:?} }}\n");
    let import = |text: &str| json!({ "source": { "text": text }, "directory": home.path() });
    let refused = home.connect().try_call("model.import", import(&document)).unwrap_err();
    assert_eq!(refused.kind, "not_a_file", "{refused:?}");
    assert!(refused.message.contains("other"), "{refused:?}");
    let line = format!("llama-server -m {} --mmproj {fifo} -c 512", model.display());
    let taken = home.call("model.import", import(&line));
    assert!(taken["left_out"].to_string().contains("a named pipe, not a file"), "{taken}");
    let split = home.call("model.show", json!({ "model": "split" }));
    assert_eq!(split["settings"], json!({ "ctx-size": 512 }), "{split}");
}

#[test]
fn what_is_not_gguf_says_what_it_looks_like() {
    let home = Home::new();
    let _daemon = home.daemon();
    for (name, contents, looks_like) in [
        ("empty.gguf", &b""[..], "empty"),
        ("page.gguf", b"<!DOCTYPE html><html>", "web page"),
        ("pointer.gguf", b"version https://git-lfs.github.com/spec/v1\n", "lfs"),
        ("old.bin", b"lmgg\x01\0\0\0 and more than a header of it", ""),
    ] {
        let path = home.path().join(name);
        fs::write(&path, contents).unwrap();
        let failure = add(&home, &path).code(5).failure();
        assert_eq!(failure["kind"], "not_gguf", "{failure}");
        assert!(failure.to_string().contains(looks_like), "{failure}");
    }
}

#[test]
fn a_damaged_file_is_refused_with_what_is_wrong() {
    let home = Home::new();
    let _daemon = home.daemon();
    refused(&home, &home.model(TestModel::Truncated), "gguf_truncated", 5);

    let cut = home.own_model(TestModel::Tiny, "header.gguf");
    fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(100).unwrap();
    refused(&home, &cut, "gguf_truncated", 5);

    let newer = home.own_model(TestModel::Tiny, "newer.gguf");
    let mut bytes = fs::read(&newer).unwrap();
    bytes[4] = 99;
    fs::write(&newer, &bytes).unwrap();
    refused(&home, &newer, "gguf_version", 5);

    // Claims 2^60 tensors.
    bytes[4] = 3;
    bytes[8..16].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    let hostile = home.path().join("hostile.gguf");
    fs::write(&hostile, &bytes).unwrap();
    refused(&home, &hostile, "gguf_invalid", 5);
}

#[test]
fn a_gguf_file_that_is_no_language_model_is_refused() {
    let home = Home::new();
    let _daemon = home.daemon();
    for model in [TestModel::VocabularyOnly, TestModel::Lora, TestModel::Projector] {
        refused(&home, &home.model(model), "not_a_model", 5);
    }
}

#[test]
fn any_part_of_a_split_model_will_do_if_all_are_there() {
    let home = Home::new();
    let _daemon = home.daemon();
    let first = home.model(TestModel::Split);
    let parts: Vec<_> =
        TestModel::Split.file_names().iter().map(|name| first.with_file_name(name)).collect();
    let added = add(&home, &parts[1]).ok().json();
    assert_eq!(added["model"]["name"], "split");
    assert_eq!(added["model"]["path"], json!(first));
    assert_eq!(added["model"]["file"]["parts"], json!(parts));
    let whole: u64 = parts.iter().map(|part| part.metadata().unwrap().len()).sum();
    assert_eq!(added["model"]["file"]["size_bytes"], whole);
    home.cli(["model", "remove", "split"]).ok();

    fs::remove_file(&parts[2]).unwrap();
    let failure = add(&home, &parts[0]).code(5).failure();
    assert_eq!(failure["kind"], "split_incomplete");
    let missing = &TestModel::Split.file_names()[2];
    assert!(failure.to_string().contains(missing), "names the missing part: {failure}");
}

#[test]
fn every_path_is_kept_byte_for_byte() {
    let home = Home::new();
    let _daemon = home.daemon();
    let names = [
        OsString::from("with space.gguf"),
        OsString::from("with\nnewline.gguf"),
        OsString::from("wíth-accent-日本.gguf"),
        OsString::from_vec(b"bytes-\xff\xfe.gguf".to_vec()),
        OsString::from("-dash.gguf"),
        OsString::from("quote'\".gguf"),
    ];
    for (number, name) in names.iter().enumerate() {
        let path = home.own_model(TestModel::Tiny, name);
        let label = format!("m{number}");
        let arguments = [
            "model".into(),
            "add".into(),
            path.clone().into_os_string(),
            "--name".into(),
            OsString::from(&label),
        ];
        home.cli(arguments).ok();
        let list = llamactl_protocol::model::ModelShow {
            model: label.clone().into(),
            ..Default::default()
        };
        assert_eq!(home.ask(&list).unwrap().model.path.as_path(), path);
        let shell = llamactl_protocol::model::ModelArgs { model: label.into() };
        let argv = home.ask(&shell).unwrap().argv;
        assert!(argv.iter().any(|argument| argument.as_path() == path), "{argv:?}");
    }
}

#[test]
fn a_relative_path_is_the_clients() {
    let home = Home::new();
    let _daemon = home.daemon();
    let path = home.model(TestModel::Tiny);
    let added = add(&home, "models/tiny.gguf").ok().json();
    assert_eq!(added["model"]["path"], json!(path));
    // The daemon has another working directory, so on the wire a path must be absolute.
    let refusal = home.connect().try_call("model.add", json!({ "path": "models/tiny.gguf" }));
    assert!(refusal.unwrap_err().message.contains("absolute"));
}

#[test]
fn several_files_are_added_at_once_and_each_failure_is_said() {
    let home = Home::new();
    let _daemon = home.daemon();
    let (tiny, split) = (home.model(TestModel::Tiny), home.model(TestModel::Split));
    let absent = home.path().join("absent.gguf");
    let arguments =
        ["model".as_ref(), "add".as_ref(), tiny.as_os_str(), absent.as_os_str(), split.as_os_str()];
    let output = home.cli(arguments).code(3);
    assert!(output.stderr().contains("absent.gguf"), "{}", output.stderr());
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["split", "tiny"]);
}
