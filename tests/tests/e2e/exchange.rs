//! Models in and out: exports, presets, pasted command lines, the old dashboard, editing.

use llama_http::Target;
use llamactl_protocol::WirePath;
use llamactl_protocol::options::command_line::{self, Word};
use llamactl_protocol::options::{Settings, Told, catalogue};
use llamactl_tests::dashboard::{Schema, database};
use llamactl_tests::http::Endpoint;
use llamactl_tests::{DEADLINE, Home, Output, TestModel, artifacts, eventually, llama};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn settings_of(home: &Home, model: &str) -> Value {
    home.call("model.show", json!({ "model": model }))["settings"].take()
}

fn export(home: &Home) -> String {
    home.cli(["model", "export"]).ok().stdout()
}

fn import(home: &Home, text: &str, more: &[&str]) -> Output {
    home.llamactl(["--json", "model", "import", "-"]).args(more).stdin(text).run()
}

fn last_event(home: &Home) -> Value {
    home.call("event.list", json!({ "limit": 500 }))["items"]
        .as_array()
        .unwrap()
        .last()
        .cloned()
        .unwrap()
}

/// What was left out, and how often.
fn left_out(imported: &Value) -> BTreeMap<String, u64> {
    let list = imported["left_out"].as_array().unwrap();
    list.iter()
        .map(|it| (it["what"].as_str().unwrap().to_owned(), it["count"].as_u64().unwrap()))
        .collect()
}

#[test]
fn an_export_brings_everything_back_into_this_registry_and_into_an_empty_one() {
    let (home, _daemon) = Home::with_tiny();
    let split = home.model(TestModel::Split);
    home.cli(["model", "add", split.to_str().unwrap(), "--name", "qwen3:8b"]).ok();
    home.cli(["model", "alias", "qwen3:8b", "q", "big"]).ok();
    let grammar = "root ::= \"a;b\"\n# c";
    home.cli([
        "model",
        "set",
        "qwen3:8b",
        "temp=0.7",
        "port=auto",
        "env.X=1",
        "reverse-prompt=[\"a,b\",\"c\"]",
        "lora=/l/one.gguf,/l/two.gguf",
        &format!("grammar={grammar}"),
        "mmap=false",
    ])
    .ok();
    home.llamactl(["model", "set", "tiny", "api-key=-"]).stdin("s3cret").run().ok();
    home.cli(["defaults", "set", "ctx-size=512"]).ok();
    let written = export(&home);
    assert!(
        written.starts_with("# llamactl export 1\n") && !written.contains("s3cret"),
        "{written}"
    );

    // Unchanged, nothing is to be done, and nothing is.
    let before = last_event(&home);
    let again = import(&home, &written, &[]).ok().json();
    assert_eq!(
        (&again["added"], &again["changed"], &again["same"]),
        (&json!(0), &json!(0), &json!(3))
    );
    assert_eq!(last_event(&home), before);

    // Changed, it becomes again what it was: each with one revision.
    home.cli(["model", "set", "qwen3:8b", "temp=0.1", "seed=5"]).ok();
    home.cli(["model", "unset", "qwen3:8b", "mmap"]).ok();
    home.cli(["model", "alias", "qwen3:8b", "--remove", "big"]).ok();
    home.cli(["defaults", "set", "ctx-size=1024", "threads=1"]).ok();
    let revision = home.call("model.show", json!({ "model": "q" }))["revision"].as_i64().unwrap();
    let shown = home.llamactl(["model", "import", "-"]).stdin(written.as_str()).run().ok().stdout();
    assert!(shown.contains("~ model qwen3:8b: aliases q -> big,q, mmap unset -> off"), "{shown}");
    assert!(shown.contains("seed 5 -> unset, temp 0.1 -> 0.7"), "{shown}");
    assert!(shown.contains("~ defaults: ctx-size 1024 -> 512, threads 1 -> unset"), "{shown}");
    assert_eq!(export(&home), written);
    let model = home.call("model.show", json!({ "model": "big" }));
    assert_eq!(model["revision"], revision + 1);
    let history = home.call("model.history", json!({ "model": "q", "limit": 1 }));
    let what = history["items"][0]["what"].as_str().unwrap().to_owned();
    assert!(what.starts_with("imported from standard input: "), "{what}");

    // Elsewhere all is new; the secret says that it is to be given again.
    let other = Home::new();
    let _other_daemon = other.daemon();
    let taken = import(&other, &written, &[]).ok().json();
    assert_eq!((&taken["added"], &taken["changed"]), (&json!(2), &json!(1)));
    let tiny = taken["items"].as_array().unwrap().iter().find(|it| it["name"] == "tiny").unwrap();
    assert!(tiny["notes"][0].as_str().unwrap().contains("api-key is a secret"), "{tiny}");
    let without_secret: String = written.replace("api-key = { secret = \"kept\" }\n", "");
    assert_eq!(export(&other), without_secret);
    let file = other.call("model.show", json!({ "model": "q" }))["file"].take();
    assert_eq!(file["parts"].as_array().unwrap().len(), 3, "its header was read");
}

#[test]
fn a_dry_run_changes_nothing_and_an_import_changes_all_or_nothing() {
    let (home, _daemon) = Home::with_tiny();
    let good = "[defaults]\nctx-size = 512\n[models.tiny.settings]\ntemp = 0.5\n\
                [models.new]\npath = '/nowhere/new.gguf'\n";
    let before = (export(&home), last_event(&home));
    let would = import(&home, good, &["--dry-run"]).ok().json();
    assert_eq!(
        (&would["applied"], &would["added"], &would["changed"]),
        (&json!(false), &json!(1), &json!(2))
    );
    assert_eq!((export(&home), last_event(&home)), before);

    for (line, bad) in [
        (8, format!("{good}[models.new.settings]\ntemp = 'warm'\n")),
        (8, format!("{good}[models.new.settings]\ntempp = 1\n")),
        (7, format!("{good}[models.'a b']\npath = '/x'\n")),
        (7, format!("{good}[models.other]\n")),
        (8, format!("{good}[models.new.settings]\napi-key = 's3cret'\n")),
        (
            7,
            format!(
                "{good}[models.other]\npath = {:?}\n",
                home.path().join("models/tiny.gguf.txt")
            ),
        ),
    ] {
        fs::write(home.path().join("models/tiny.gguf.txt"), "no model").unwrap();
        let refused = import(&home, &bad, &[]).code(5).failure();
        let line_told = refused["details"]["line"].as_u64().unwrap();
        assert_eq!(line_told, line, "{refused}\n{bad}");
        assert!(!refused.to_string().contains("s3cret"));
        assert_eq!((export(&home), last_event(&home)), before, "{bad}");
    }
    let taken = import(&home, &format!("{good}aliases = ['tiny']\n"), &[]).code(4);
    assert_eq!(taken.failure_kind(), "name_taken");
    assert_eq!((export(&home), last_event(&home)), before);

    // Alone the good is taken in; what it does not mention stays.
    import(&home, good, &[]).ok();
    assert_eq!(settings_of(&home, "tiny"), json!({ "temp": 0.5 }));
    let missing = home.call("model.show", json!({ "model": "new" }));
    assert_eq!(missing["path"], "/nowhere/new.gguf");
    assert_eq!(missing["file_state"], "missing", "{missing}");
}

#[test]
fn files_are_found_where_they_lie_now() {
    let home = Home::new();
    let _daemon = home.daemon();
    let tiny = home.model(TestModel::Tiny);
    let dir = tiny.parent().unwrap();
    fs::create_dir_all(dir.join("a/b")).unwrap();
    fs::copy(&tiny, dir.join("a/b/deep.gguf")).unwrap();
    let text = "[models.t]\npath = '/srv/m/tiny.gguf'\n[models.t.settings]\nmmproj = '/srv/m/p.gguf'\n\
                [models.d]\npath = '/srv/m/deep.gguf'\n[models.no]\npath = '/srv/other/no.gguf'\n";
    let map = format!("/srv/m={}", dir.display());
    let find = dir.to_str().unwrap();
    let imported = import(&home, text, &["--map-path", &map, "--find", find]).ok().json();
    let path = |model: &str| home.call("model.show", json!({ "model": model }))["path"].take();
    assert_eq!(path("t"), json!(tiny));
    assert_eq!(path("d"), json!(dir.join("a/b/deep.gguf")));
    assert_eq!(path("no"), json!("/srv/other/no.gguf"));
    assert_eq!(settings_of(&home, "t"), json!({ "mmproj": dir.join("p.gguf") }));
    let items = imported["items"].as_array().unwrap();
    let no = items.iter().find(|it| it["name"] == "no").unwrap();
    assert!(no["notes"][0].as_str().unwrap().contains("cannot be started until"), "{no}");
    let refused = home.cli(["model", "import", "/x", "--map-path", "no-sides"]).code(2);
    assert!(refused.stderr().contains("OLD=NEW"));
}

#[test]
fn an_import_too_long_for_a_message_is_read_from_a_file() {
    let (home, _daemon) = Home::with_tiny();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut text = "# llamactl export 1\n".to_owned();
    for number in 0..400 {
        let filler = "x".repeat(2_000);
        text.push_str(&format!(
            "[models.m{number}]\npath = '/nowhere/{number}.gguf'\n\
             [models.m{number}.settings]\nchat-template = '{filler}'\n"
        ));
    }
    assert!(text.len() > 700_000);
    let taken = home
        .llamactl(["--json", "model", "import", "-"])
        .env("TMPDIR", &temporary)
        .stdin(text.as_str())
        .run()
        .ok()
        .json();
    assert_eq!(taken["added"], 400);
    let shown = taken["items"].as_array().unwrap().len() as u64;
    assert_eq!(shown + taken["items_not_shown"].as_u64().unwrap(), 400);
    assert!(taken["items_not_shown"].as_u64().unwrap() > 0, "an answer is bounded too");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "the file is gone again");
    // It is written down page after page, and is the same again.
    let written = export(&home);
    assert!(written.len() > text.len());
    assert_eq!(import(&home, &written, &[]).ok().json()["same"], 402);
}

#[test]
fn a_pasted_command_line_is_a_model() {
    let home = Home::new();
    let _daemon = home.daemon();
    let tiny = home.model(TestModel::Tiny);
    let line = format!(
        "CUDA_VISIBLE_DEVICES=1 X_TOKEN=s3cret nohup llama-server -m {} \\\n  -ngl 0 -c 512 \
         -fa --api-key s3cret \
         --port 8080 --frobnicate 1 > log 2>&1 &",
        tiny.display()
    );
    let imported = home.cli(["--json", "model", "import", "--command", &line]).ok();
    assert!(!imported.stdout().contains("s3cret"));
    let left = left_out(&imported.json());
    for what in ["> log", "2>&1", "--api-key", "--port", "--frobnicate"] {
        assert!(left.contains_key(what), "{what}: {left:?}");
    }
    assert_eq!(
        settings_of(&home, "tiny"),
        json!({
            "ctx-size": 512, "gpu-layers": 0, "env.CUDA_VISIBLE_DEVICES": "1", "flash-attn": "on",
            "env.X_TOKEN": { "secret": "kept" },
        })
    );
    home.cli(["start", "tiny"]).ok();
    home.cli(["stop", "tiny"]).ok();
    // Pasted again it is the same; another file of that name is another model.
    let again = home.cli(["--json", "model", "import", "--command", &line]).ok().json();
    assert_eq!((&again["added"], &again["changed"]), (&json!(0), &json!(0)));
    let other = home.cli(["model", "import", "--command", "llama-server -m /else/tiny.gguf"]).ok();
    assert!(
        other.stdout().starts_with("+ model tiny-2: path=/else/tiny.gguf"),
        "{}",
        other.stdout()
    );
    let nothing = home.cli(["--json", "model", "import", "--command", "echo hello"]).code(5);
    assert_eq!(nothing.failure_kind(), "unreadable");
    let line = "docker run -v models:/m image -m $MODEL";
    let lacking = home.cli(["model", "import", "--command", line]).code(5).stderr();
    for what in ["docker", "the volume models:/m", "-m $MODEL"] {
        assert!(lacking.contains(&format!("{what} was left out")), "{lacking}");
    }
}

#[test]
fn what_ollama_and_koboldcpp_keep_of_a_model_is_taken_in() {
    let (home, _daemon) = Home::with_tiny();
    let directory = home.path().join("of-others");
    fs::create_dir(&directory).unwrap();
    fs::copy(TestModel::Tiny.shared(), directory.join("x.gguf")).unwrap();
    let modelfile = directory.join("Modelfile");
    fs::write(&modelfile, "FROM ./x.gguf\nPARAMETER num_ctx 2048\nSYSTEM \"\"\"Be\nbrief.\"\"\"\n")
        .unwrap();
    let kcpps = directory.join("y.kcpps");
    let of_koboldcpp = json!({ "model_param": "x.gguf", "contextsize": 1024, "gpulayers": -1, "quantkv": 1,
        "flashattention": true, "launch": true, "sdmodel": "", "lora": null });
    fs::write(&kcpps, of_koboldcpp.to_string()).unwrap();
    for (file, settings, left) in [
        (&modelfile, json!({ "ctx-size": 2048 }), "SYSTEM"),
        (
            &kcpps,
            json!({ "ctx-size": 1024, "flash-attn": "on", "cache-type-k": "q8_0", "cache-type-v": "q8_0" }),
            "launch",
        ),
    ] {
        let file = file.to_str().unwrap();
        let refused = home.cli(["--json", "model", "add", file]).code(5).failure();
        assert_eq!(refused["commands"], json!([["llamactl", "model", "import", file]]));
        let imported = home.cli(["--json", "model", "import", file]).ok().json();
        assert_eq!(left_out(&imported), [(left.to_owned(), 1)].into());
        assert_eq!(settings_of(&home, "x"), settings);
        home.cli(["start", "x"]).ok();
        home.cli(["model", "remove", "x", "--stop"]).ok();
    }
}

#[test]
fn the_dashboards_first_and_second_database() {
    for (schema, rate) in [(Schema::First, "mirostat_lr"), (Schema::Second, "mirostat_eta")] {
        let home = Home::new();
        let _daemon = home.daemon();
        let tiny = home.model(TestModel::Tiny);
        let twice = match schema {
            // Saved twice, the second save was added behind the first and never read.
            Schema::First => {
                "INSERT INTO model_sampling_config (model_id, temperature, updated_at)
                 VALUES (1, 0.1, 100), (1, 0.2, 90);"
            }
            _ => "INSERT INTO model_fit_params (model_id) VALUES (1);",
        };
        let dir = home.path().join("dashboard");
        let database = database(
            &dir,
            schema,
            &format!(
                "INSERT INTO models (name, type, status, model_path, ctx_size, hf_token, created_at)
                     VALUES ('qwen 3', 'llama', 'running', '{}', 1024, 'hf_s3cret', 1),
                            ('qwen 3', 'llama', 'stopped', '/gone/r.gguf', 0, NULL, 2);
                 INSERT INTO models (name, type, status, hf_repo)
                     VALUES ('far', 'llama', 'stopped', 'a/b');
                 INSERT INTO model_sampling_config (model_id, temperature, {rate}, top_p, updated_at)
                     VALUES (2, 0.3, 0.2, 7, 1);
                 {twice}
                 INSERT INTO model_gpu_config (model_id, gpu_layers) VALUES (1, 0);
                 INSERT INTO model_memory_config (model_id) VALUES (1);
                 INSERT INTO model_advanced_config (model_id, polling) VALUES (2, '30');
                 INSERT INTO model_server_config (port, threads_http) VALUES (9000, 2);
                 INSERT INTO metrics_history (timestamp) VALUES (1), (2), (3);",
                tiny.display()
            ),
        );
        let before = fs::read(&database).unwrap();
        let imported =
            home.cli(["--json", "model", "import", database.to_str().unwrap()]).ok().json();
        assert_eq!((&imported["format"], &imported["added"]), (&json!("dashboard"), &json!(2)));
        assert_eq!(fs::read(&database).unwrap(), before, "it is not written to");
        assert_eq!(fs::read_dir(dir.join("data")).unwrap().count(), 1, "nothing lies beside it");

        let first = settings_of(&home, "qwen-3");
        assert_eq!(first["ctx-size"], 1024, "{schema:?}");
        assert_eq!(first["hf-token"], json!({ "secret": "kept" }));
        assert_eq!(first["gpu-layers"], 0);
        let second = settings_of(&home, "qwen-3-2");
        assert_eq!(second, json!({ "temp": 0.3, "mirostat-lr": 0.2, "poll": 30 }), "{schema:?}");
        let defaults = home.call("defaults.show", json!({}))["settings"].take();
        assert_eq!(defaults, json!({ "threads-http": 2 }));
        let left = left_out(&imported);
        assert_eq!(left["models.status"], 2, "{left:?}");
        assert_eq!(left["the model far"], 1);
        assert_eq!(left["rows of metrics_history"], 3);
        assert_eq!(left["rows of metadata"], 1);
        assert_eq!(left["server.port"], 1, "{left:?}");
        assert_eq!(left["qwen-3-2: model_sampling_config.top_p"], 1, "{left:?}");
        if schema == Schema::First {
            assert_eq!(first["temp"], 0.1, "the newest counts");
            assert_eq!(left["rows of model_sampling_config"], 1);
        } else {
            assert_eq!(first.get("temp"), None, "nobody chose it");
            assert_eq!(left["rows of model_fit_params"], 1);
        }
        // The file that is there can be started, and the token stands on no command line.
        home.cli(["start", "qwen-3"]).ok();
        assert!(!home.cli(["model", "args", "qwen-3"]).ok().stdout().contains("hf_s3cret"));
        home.cli(["stop", "qwen-3"]).ok();
        let again = home.cli(["--json", "model", "import", database.to_str().unwrap()]).ok().json();
        assert_eq!((&again["added"], &again["changed"]), (&json!(0), &json!(0)), "{again}");
    }
}

#[test]
fn the_dashboards_third_database_and_its_files() {
    let home = Home::new();
    let _daemon = home.daemon();
    let dir = home.path().join("dashboard");
    database(
        &dir,
        Schema::Third,
        "INSERT INTO models (id, name, model_path, parameters, favorite, block_count)
             VALUES ('model_1_x', 'a', 'models/a.gguf', '{\"temp\": 0.3, \"interactive\": true}', 1, 9);
         INSERT INTO router_config VALUES ('gpuLayers', '20', 0), ('ctxSize', '4096', 0),
             ('port', '9000', 0);
         INSERT INTO logging_config VALUES ('level', '\"debug\"', 0);
         INSERT INTO logs (id) VALUES ('x');",
    );
    fs::create_dir_all(dir.join("src/config")).unwrap();
    fs::write(dir.join("llama-server-config.json"), "{\"basePath\": \"/m\", \"threads\": 2}")
        .unwrap();
    fs::write(
        dir.join("src/config/model-templates.json"),
        "{\"model_templates\": {\"a\": \"chatml\", \"b\": \"chatml\"}}",
    )
    .unwrap();
    let imported = home.cli(["--json", "model", "import", dir.to_str().unwrap()]).ok().json();
    assert_eq!(imported["added"], 1);
    let model = home.call("model.show", json!({ "model": "a" }));
    assert_eq!(model["settings"], json!({ "temp": 0.3, "chat-template": "chatml" }));
    assert_eq!(model["path"], json!(dir.join("models/a.gguf")));
    let defaults = home.call("defaults.show", json!({}))["settings"].take();
    assert_eq!(defaults, json!({ "gpu-layers": 20, "threads": 2 }));
    let left = left_out(&imported);
    for what in [
        "a: models.parameters: interactive",
        "models.favorite",
        "models.block_count",
        "router_config.port",
        "logging_config.level",
        "rows of logs",
        "llama-server-config.json: basePath",
        "the model b",
    ] {
        assert_eq!(left.get(what), Some(&1), "{what}: {left:?}");
    }
}

/// Arguments as settings, by what they mean: one option has several names.
fn meaning(arguments: &[String]) -> (Settings, Vec<String>) {
    let arguments: Vec<WirePath> = arguments.iter().map(WirePath::from).collect();
    let (mut settings, mut rest) = (Settings::new(), Vec::new());
    for word in command_line::read(&arguments, None, Path::new("/")) {
        match word {
            // Whoever starts a server says where it listens and what it is called.
            Word::Setting { key, .. } if key == "host" || key == "port" => {}
            Word::Alias(_) => {}
            Word::Refused { flag, .. } if ["--metrics", "--host", "--port"].contains(&&*flag) => {}
            Word::Setting { key, value, .. } => command_line::collect(&mut settings, key, value),
            Word::Path(path) => rest.push(format!("path {path}")),
            other => rest.push(format!("{other:?}")),
        }
    }
    (settings, rest)
}

#[test]
fn the_real_router_reads_a_preset_as_the_same_models_with_the_same_arguments() {
    let (home, _daemon) = Home::with_tiny();
    let tiny = home.model(TestModel::Tiny);
    let odd = home.own_model(TestModel::Tiny, "a b=c.gguf");
    home.cli(["model", "add", odd.to_str().unwrap(), "--name", "unsloth/Qwen3-8B:Q4_K_M"]).ok();
    home.cli(["model", "alias", "unsloth/Qwen3-8B:Q4_K_M", "q", "q:2"]).ok();
    home.cli([
        "model",
        "set",
        "unsloth/Qwen3-8B:Q4_K_M",
        "mmap=false",
        "cont-batching=false",
        "temp=0.7",
        "extra-args=--top-k 5 --no-warmup",
        "port=auto",
        "grammar=root ::= \"a;b\"",
    ])
    .ok();
    home.llamactl(["model", "set", "tiny", "api-key=-"]).stdin("s3cret").run().ok();
    home.cli(["defaults", "set", "ctx-size=512", "temp=0.5"]).ok();
    // Every setting at its example, each in a model of its own.
    let mut rpc = home.connect();
    let mut names = Vec::new();
    for setting in catalogue().filter(|it| matches!(it.told, Told::Flag | Told::Repeated)) {
        if !setting.refused.is_empty() {
            continue;
        }
        let name = format!("x-{}", setting.key);
        let set = json!({ setting.key: setting.example });
        rpc.call("model.add", json!({ "path": tiny, "name": name, "settings": set }));
        names.push(name);
    }
    assert!(names.len() > 100);
    let exported = home.cli(["model", "export", "--format", "preset"]).ok();
    let text = exported.stdout();
    assert!(!text.contains("s3cret"));
    let said = exported.stderr();
    for told in ["grammar is not in the preset", "api-key is not in the preset", "port is not in"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let preset = home.path().join("models.ini");
    fs::write(&preset, &text).unwrap();

    let socket = home.path().join("router.sock");
    let server = llama::real();
    let router = home
        .program(server, [Path::new("--models-preset"), &preset, Path::new("--host"), &socket])
        .env("LD_LIBRARY_PATH", server.parent().unwrap())
        .spawn();
    let endpoint = Endpoint(Target::Socket(socket));
    eventually(DEADLINE, "the router answers", || {
        endpoint.get("/health").is_ok_and(|answer| answer.status == 200)
    });
    let listed = endpoint.get("/models").unwrap().json();
    let listed: BTreeMap<&str, &Value> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["id"].as_str().unwrap(), it))
        .collect();
    let ours = home.cli(["model", "list", "-q"]).ok().lines();
    assert_eq!(listed.keys().copied().collect::<Vec<_>>(), ours);
    assert_eq!(listed["unsloth/Qwen3-8B:Q4_K_M"]["aliases"], json!(["q", "q:2"]));
    for name in &ours {
        let theirs: Vec<String> =
            serde_json::from_value(listed[name.as_str()]["status"]["args"].clone()).unwrap();
        let line = rpc.call("model.args", json!({ "model": name }));
        let argv: Vec<String> = serde_json::from_value(line["argv"].clone()).unwrap();
        let (mut expected, rest) = meaning(&argv[1..]);
        // With a port the daemon closes a server to web pages, which nobody set.
        if name.starts_with("unsloth") {
            expected.remove("cors-origins");
        }
        // What a preset cannot hold is named in it and left out.
        let inside = text.split(&format!("\n[{name}]\n")).nth(1).unwrap();
        for line in inside.lines().take_while(|line| !line.starts_with('[')) {
            if let Some(key) = line.strip_prefix("; ").and_then(|it| it.split(' ').next()) {
                expected.remove(key);
            }
        }
        assert_eq!(meaning(&theirs[1..]), (expected, rest), "{name}");
    }
    router.signal(rustix::process::Signal::TERM);
    let _ = router.finish();
    // Read back, each model has the defaults within it.
    let other = Home::new();
    let _other_daemon = other.daemon();
    let taken = import(&other, &text, &[]).ok().json();
    assert_eq!(taken["added"], ours.len());
    assert_eq!(
        settings_of(&other, "q"),
        json!({
            "ctx-size": 512, "temp": 0.7, "mmap": false, "cont-batching": false, "top-k": 5,
            "warmup": false,
        })
    );
}

/// A script that is an editor: it does one thing the first time it is run, another the second.
fn editor(home: &Home, steps: &[&str]) -> PathBuf {
    let path = home.path().join("editor.sh");
    let mut script = "#!/bin/sh\nn=$(cat \"$0.n\" 2>/dev/null || echo 0)\n\
                      echo $((n + 1)) > \"$0.n\"\ncp \"$1\" \"$0.$n\"\ncase $n in\n"
        .to_owned();
    for (index, step) in steps.iter().enumerate() {
        script.push_str(&format!("{index}) {step} ;;\n"));
    }
    script.push_str("esac\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    let _ = fs::remove_file(path.with_extension("sh.n"));
    path
}

/// What the editor was shown the `n`th time.
fn shown(home: &Home, n: usize) -> String {
    fs::read_to_string(home.path().join(format!("editor.sh.{n}"))).unwrap()
}

fn edit(home: &Home, steps: &[&str]) -> llamactl_tests::Invocation {
    let editor = editor(home, steps);
    let temporary = home.path().join("tmp");
    fs::create_dir_all(&temporary).unwrap();
    home.llamactl(["model", "edit", "tiny"]).env("EDITOR", editor).env("TMPDIR", temporary)
}

/// The texts that were kept.
fn kept(home: &Home) -> Vec<String> {
    let files = fs::read_dir(home.path().join("tmp")).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn settings_are_edited_in_an_editor() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "temp=0.5", "seed=1"]).ok();
    home.llamactl(["model", "set", "tiny", "api-key=-"]).stdin("s3cret").run().ok();

    let unchanged = edit(&home, &["true"]).run().ok();
    assert_eq!(unchanged.lines(), ["nothing changed"]);
    assert!(shown(&home, 0).contains("temp = 0.5\n") && !shown(&home, 0).contains("s3cret"));

    edit(&home, &["sed -i -e 's/temp = 0.5/temp = 0.9/' -e '/^seed/d' \"$1\""]).run().ok();
    let kept_key = json!({ "secret": "kept" });
    assert_eq!(settings_of(&home, "tiny"), json!({ "temp": 0.9, "api-key": kept_key }));
    let key = home.cli(["model", "key", "tiny"]).ok().stdout();
    assert_eq!(key.trim(), "s3cret", "the secret is what it was");
    let history = home.call("model.history", json!({ "model": "tiny", "limit": 1 }));
    assert!(history["items"][0]["what"].as_str().unwrap().starts_with("edited: "), "{history}");
    assert!(kept(&home).is_empty());
}

#[test]
fn a_refused_edit_loses_nothing() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "temp=0.5"]).ok();
    // A value that cannot be; then a key that is none; then no TOML at all; then it is right.
    let done = edit(
        &home,
        &[
            "sed -i 's/temp = 0.5/temp = \"warm\"/' \"$1\"",
            "sed -i 's/temp = \"warm\"/temperatur = 0.6/' \"$1\"",
            "sed -i 's/temperatur = 0.6/temp = = 0.6/' \"$1\"",
            "sed -i 's/temp = = 0.6/temp = 0.6/' \"$1\"",
        ],
    )
    .run()
    .ok();
    assert!(done.stdout().contains("tiny"), "{}", done.stdout());
    assert_eq!(settings_of(&home, "tiny"), json!({ "temp": 0.6 }));
    for (n, line) in [(1, "temp = \"warm\""), (2, "temperatur = 0.6"), (3, "temp = = 0.6")] {
        let text = shown(&home, n);
        assert!(text.starts_with("#! This was not taken"), "{text}");
        assert!(text.contains(&format!("\n{line}\n#! ^ here: ")), "{text}");
        assert_eq!(text.matches("#! ^ here: ").count(), 1);
    }
    assert!(kept(&home).is_empty());

    // Leaving it as it was refused gives up; the text is kept, without the marks.
    let given_up = edit(&home, &["sed -i 's/temp = 0.6/temp = 999/' \"$1\"", "true"]).run().code(5);
    assert!(given_up.stderr().contains("your text is kept in "), "{}", given_up.stderr());
    let texts = kept(&home);
    assert!(texts.len() == 1 && texts[0].contains("temp = 999\n") && !texts[0].contains("#!"));
    assert_eq!(settings_of(&home, "tiny"), json!({ "temp": 0.6 }));
    fs::remove_dir_all(home.path().join("tmp")).unwrap();

    // Somebody else is faster.
    let llamactl = llamactl_tests::artifacts::llamactl();
    let faster = format!(
        "{} model set tiny seed=7 && sed -i 's/temp = 0.6/temp = 0.7/' \"$1\"",
        llamactl.display()
    );
    let overtaken = edit(&home, &[&faster]).run().code(4);
    assert!(overtaken.stderr().contains("your text is kept in "), "{}", overtaken.stderr());
    assert!(kept(&home)[0].contains("temp = 0.7\n"));
    assert_eq!(settings_of(&home, "tiny"), json!({ "temp": 0.6, "seed": 7 }));
    fs::remove_dir_all(home.path().join("tmp")).unwrap();

    // An editor that fails changes nothing.
    edit(&home, &["exit 3"]).run().code(1);
    assert_eq!(settings_of(&home, "tiny"), json!({ "temp": 0.6, "seed": 7 }));
}

#[test]
fn an_import_that_is_overtaken_changes_nothing() {
    let (home, _daemon) = Home::with_tiny();
    let text = "[models.tiny.settings]\ntemp = 0.5\n";
    // Many at once from two sides: each is whole or refused, and nothing is mixed.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut rpc = home.connect();
                for _ in 0..20 {
                    let params = json!({ "source": { "text": text }, "format": "toml" });
                    match rpc.try_call("model.import", params) {
                        Ok(imported) => assert_eq!(imported["applied"], true),
                        Err(refusal) => assert_eq!(refusal.kind, "revision_conflict"),
                    }
                    let _ = rpc
                        .try_call("model.set", json!({ "model": "tiny", "set": { "temp": 0.1 } }));
                }
            });
        }
    });
    let model = home.call("model.show", json!({ "model": "tiny" }));
    assert!([json!(0.1), json!(0.5)].contains(&model["settings"]["temp"]), "{model}");
}

#[test]
fn llamactls_own_settings_come_in_when_the_build_is_gone() {
    let home = Home::without_llama_server();
    let _daemon = home.daemon();
    home.fake_model("m", &json!({}));
    let build = home.path().join("b1/llama-server");
    fs::create_dir_all(build.parent().unwrap()).unwrap();
    fs::copy(artifacts::fake_llama_server(), &build).unwrap();
    home.cli(["runtime", "add", build.to_str().unwrap(), "--name", "b1"]).ok();
    home.cli(["defaults", "set", "runtime=b1"]).ok();
    fs::remove_file(&build).unwrap();
    let ours = "[models.m.settings]\nautostart = true\nrestart = 'never'\n";
    import(&home, ours, &[]).ok();
    assert_eq!(settings_of(&home, "m"), json!({ "autostart": true, "restart": "never" }));
    import(&home, &format!("{ours}ctx-size = 512\n"), &[]).code(3);
}

/// A file of so many models, all of the same GGUF file.
fn many_models(home: &Home, count: usize) -> PathBuf {
    let gguf = home.model(TestModel::Tiny);
    let model = |number| format!("[models.n{number}]\npath = {gguf:?}\n");
    let file = home.path().join("many.toml");
    fs::write(&file, (0..count).map(model).collect::<String>()).unwrap();
    file
}

#[test]
fn an_import_that_is_killed_half_way_leaves_nothing() {
    let (home, mut daemon) = Home::with_tiny();
    let file = many_models(&home, 250);
    daemon.terminate();
    let doomed = home.llamactld([""; 0]).env("LLAMACTL_FAILPOINTS", "import-part=abort");
    let mut doomed = home.daemon_by(doomed);
    let import = json!({ "source": { "path": file } });
    let mut rpc = home.connect();
    rpc.send("model.import", import.clone());
    assert_eq!(rpc.line(), None, "the daemon died");
    assert!(!doomed.wait().success());
    assert_eq!(home.count_in_registry("models"), 101, "a part of it lay there");

    daemon.start_again();
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["tiny"]);
    home.call("model.import", import);
    assert_eq!(home.call("daemon.status", json!({}))["models"], 251);
    daemon.terminate();
    assert_eq!(home.count_in_registry("models"), 251, "what was left of the first is gone");
}

#[test]
fn an_import_of_too_many_models_is_refused_and_so_is_its_dry_run() {
    let (home, _daemon) = Home::with_tiny();
    let file = many_models(&home, 20_001);
    for dry_run in [true, false] {
        let import = json!({ "source": { "path": file }, "dry_run": dry_run });
        let refused = home.connect().expect_refusal("model.import", import, "invalid_value");
        let said = refused.message;
        assert_eq!(said, "the import has 20001 sections; at most 20000 go in at once");
    }
    let file = many_models(&home, 5_001);
    let refused = home.cli(["--json", "model", "import", file.to_str().unwrap()]).code(5).failure();
    let said = &refused["message"];
    assert_eq!(said, "the import has 5001 models; at most 5000 go in at once");
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["tiny"]);
}
