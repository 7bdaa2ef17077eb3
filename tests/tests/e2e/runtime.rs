//! llama-server builds: what they have, and several side by side.

use llamactl_tests::{Home, TestModel, artifacts, llama, need};
use llamactld::runtime::options_in;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn real_help() -> String {
    let real = llama::real();
    let output = Command::new(real)
        .arg("--help")
        .env("LD_LIBRARY_PATH", real.parent().unwrap())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_whole_help_of_the_real_build_is_read() {
    let options = options_in(&real_help());
    assert!(options.len() >= 240, "{}", options.len());
    let of = |key: &str| {
        let found = options.iter().find(|option| option.key == key);
        found.unwrap_or_else(|| panic!("no {key}"))
    };
    // Key; spellings that set it; that switch it off; value; default; variable.
    for (key, flags, negations, value, default, variable) in [
        (
            "hf-repo",
            "-hf -hfr --hf-repo",
            "",
            "<user>/<model>[:quant]",
            "unused",
            "LLAMA_ARG_HF_REPO",
        ),
        (
            "kv-offload",
            "-kvo --kv-offload",
            "-nkvo --no-kv-offload",
            "",
            "enabled",
            "LLAMA_ARG_KV_OFFLOAD",
        ),
        ("repack", "--repack", "-nr --no-repack", "", "enabled", "LLAMA_ARG_REPACK"),
        ("no-host", "--no-host", "", "", "", "LLAMA_ARG_NO_HOST"),
        (
            "kv-unified",
            "-kvu --kv-unified",
            "-no-kvu --no-kv-unified",
            "",
            "enabled if number of slots is auto",
            "LLAMA_ARG_KV_UNIFIED",
        ),
        (
            "mmproj-auto",
            "--mmproj-auto",
            "--no-mmproj --no-mmproj-auto",
            "",
            "enabled",
            "LLAMA_ARG_MMPROJ_AUTO",
        ),
        ("ui", "--ui --webui", "--no-ui --no-webui", "", "enabled", "LLAMA_ARG_UI"),
        ("control-vector-layer-range", "--control-vector-layer-range", "", "START END", "", ""),
        ("cpu-range", "-Cr --cpu-range", "", "lo-hi", "", ""),
        ("poll", "--poll", "", "<0...100>", "50", ""),
        ("cache-ram", "-cram --cache-ram", "", "N", "8192", "LLAMA_ARG_CACHE_RAM"),
        (
            "override-tensor",
            "-ot --override-tensor",
            "",
            "<tensor name pattern>=<buffer type>,...",
            "",
            "LLAMA_ARG_OVERRIDE_TENSOR",
        ),
        (
            "cors-methods",
            "--cors-methods",
            "",
            "METHODS",
            "GET, POST, DELETE, OPTIONS",
            "LLAMA_ARG_CORS_METHODS",
        ),
        ("top-nsigma", "--top-nsigma --top-n-sigma", "", "N", "-1.00", ""),
    ] {
        let option = of(key);
        assert_eq!(option.flags.join(" "), flags);
        assert_eq!(option.negations.join(" "), negations, "{key}");
        assert_eq!(option.value.as_deref().unwrap_or_default(), value, "{key}");
        assert_eq!(option.default.as_deref().unwrap_or_default(), default, "{key}");
        assert_eq!(option.variable.as_deref().unwrap_or_default(), variable, "{key}");
    }
    for (key, choices) in [
        ("split-mode", "none layer row tensor"),
        ("flash-attn", "on off auto"),
        ("cpu-strict", "0 1"),
        ("cache-type-k", "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1"),
        ("tensor-split", ""),
        ("device", ""),
    ] {
        assert_eq!(of(key).choices.join(" "), choices, "{key}");
    }
    let removed: Vec<&str> =
        options.iter().filter(|option| option.removed).map(|option| option.key.as_str()).collect();
    assert_eq!(removed.len(), 5, "{removed:?}");
    assert!(of("draft").help.contains("--spec-draft-n-max"), "{}", of("draft").help);
    assert!(of("mlock").deprecated && !of("jinja").deprecated);
}

/// A build of another version in `DIR/llama-server`: it answers questions as the script says, and
/// serves as the fake does.
struct StandIn<'a> {
    home: &'a Home,
    path: PathBuf,
}

impl<'a> StandIn<'a> {
    /// Version `version` with these lines of help beside the model's, and one GPU.
    fn new(home: &'a Home, dir: &str, version: &str, help: &[&str]) -> StandIn<'a> {
        let path = home.path().join(dir).join("llama-server");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let stand_in = StandIn { home, path };
        stand_in.replace(version, help);
        stand_in
    }

    /// Another build in its place.
    fn replace(&self, version: &str, help: &[&str]) {
        let help = help.join("\n");
        let fake = artifacts::fake_llama_server();
        self.write(&format!(
            "case $1 in\n\
             --help) cat <<'END'\n-m, --model FNAME  path\n--list-devices  list\n{help}\nEND\n;;\n\
             --version) echo 'version: {version}' >&2 ;;\n\
             --list-devices) printf 'Available devices:\\n  CUDA0: NVIDIA H100 (81559 MiB, 80000 MiB free)\\n' ;;\n\
             *) exec {} \"$@\" ;;\nesac\n",
            fake.display()
        ));
    }

    fn write(&self, script: &str) {
        let source = self.home.path().join("script");
        fs::write(&source, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&source, Permissions::from_mode(0o755)).unwrap();
        let next = self.path.with_extension("next");
        // Written by another process: one that starts while this one has a file open for writing
        // could keep it from being executed.
        self.home.program("/bin/cp", [&source, &next]).run().ok();
        fs::rename(&next, &self.path).unwrap();
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn add_tiny(home: &Home, name: &str) {
    let path = home.model(TestModel::Tiny);
    home.cli(["model", "add", path.to_str().unwrap(), "--name", name]).ok();
}

#[test]
fn the_first_build_that_can_be_used_is_the_default_while_there_is_none() {
    let home = Home::without_llama_server();
    let _daemon = home.daemon();
    // One that only the caller's PATH leads to is named in the hint.
    home.fake_model("n", &json!({}));
    let ours = home.path().join("ours");
    fs::create_dir(&ours).unwrap();
    fs::copy(artifacts::fake_llama_server(), ours.join("llama-server")).unwrap();
    let failure = home.llamactl(["--json", "start", "n"]).env("PATH", &ours).run().failure();
    let cure = json!([["llamactl", "runtime", "add", ours.join("llama-server")]]);
    assert_eq!(failure["commands"], cure, "{failure}");

    let build = StandIn::new(&home, "first", "1", &[]);
    let added = home.cli(["runtime", "add", build.path()]).ok();
    assert!(added.stderr().contains("first is the default now"), "{}", added.stderr());
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    // It is, and stays so.
    let second = StandIn::new(&home, "second", "2", &[]);
    let added = home.cli(["runtime", "add", second.path()]).ok();
    assert!(!added.stderr().contains("default"), "{}", added.stderr());
    let default = home.cli(["runtime", "list", "--json"]).ok().json_lines();
    let default = default.iter().find(|entry| entry["is_default"] == true).unwrap();
    assert_eq!(default["name"], "first");
}

#[test]
fn add_list_show_use_and_remove() {
    let home = Home::new();
    let _daemon = home.daemon();
    let system = home.cli(["runtime", "list", "--json"]).ok().json();
    assert_eq!((&system["name"], &system["is_default"]), (&json!("system"), &json!(true)));
    assert_eq!((&system["found"], &system["devices"]), (&json!(true), &json!([])), "{system}");
    assert!(system["options_total"].as_u64().unwrap() >= 240, "{system}");

    let build = StandIn::new(&home, "b9000/bin", "9000 (abc)", &["--brand-new {x,y}  new"]);
    let added = home.cli(["--json", "runtime", "add", build.path(), "env.A=1"]).ok().json();
    assert_eq!((&added["added"], &added["runtime"]["name"]), (&json!(true), &json!("b9000")));
    assert_eq!(added["runtime"]["version"], "9000 (abc)");
    assert_eq!(added["runtime"]["environment"], json!({ "A": "1" }));
    let device = &added["runtime"]["devices"][0];
    assert_eq!(
        (&device["name"], &device["memory_total_bytes"]),
        (&json!("CUDA0"), &json!(81_559_u64 << 20))
    );
    // Relative to where it was typed; the same again is done already.
    let again = home.cli(["--json", "runtime", "add", "b9000/bin/llama-server"]).ok().json();
    assert_eq!(again["added"], false, "{again}");
    let taken = home
        .cli(["--json", "runtime", "add", llama::real().to_str().unwrap(), "--name", "b9000"])
        .code(4);
    assert!(taken.failure().to_string().contains("b9000-2"), "{}", taken.failure());
    let taken = home.cli(["--json", "runtime", "add", build.path(), "--name", "system"]).code(4);
    assert_eq!(taken.failure_kind(), "name_taken");
    assert_eq!(home.cli(["runtime", "ls", "-q"]).ok().lines(), ["system", "b9000"]);

    let shown = home.cli(["runtime", "show", "b9000", "--json"]).ok().json();
    let options = shown["options"].as_array().unwrap();
    let new = options.iter().find(|option| option["key"] == "brand-new").unwrap();
    assert_eq!(
        (&new["choices"], &new["in_catalogue"]),
        (&json!(["x", "y"]), &json!(false)),
        "{new}"
    );
    let shown = home.cli(["runtime", "show", "b9000"]).ok().stdout();
    assert!(shown.contains("CUDA0: NVIDIA H100") && shown.contains("brand-new"), "{shown}");
    let options = home.cli(["runtime", "show", "b9000", "--options", "brand"]).ok().stdout();
    assert!(options.contains("--brand-new") && options.lines().count() == 2, "{options}");

    home.cli(["runtime", "use", "b9000"]).ok();
    let status = home.call("daemon.status", json!({}));
    assert_eq!(status["runtime"]["name"], "b9000", "{status}");
    let refused = home.cli(["--json", "runtime", "remove", "b9000"]).code(4);
    assert_eq!(refused.failure_kind(), "runtime_in_use");
    home.cli(["runtime", "use", "system"]).ok();
    add_tiny(&home, "m");
    home.cli(["model", "set", "m", "runtime=b9000"]).ok();
    let refused = home.cli(["--json", "runtime", "remove", "b9000"]).code(4).failure();
    assert_eq!(refused["details"]["models"], json!(["m"]), "{refused}");
    home.cli(["model", "unset", "m", "runtime"]).ok();
    home.cli(["runtime", "rm", "b9000"]).ok();
    assert!(build.path.is_file(), "the file stays");
    home.cli(["runtime", "show", "b9000"]).code(3);
    home.cli(["runtime", "rm", "system"]).code(5);

    let events = home.call("event.list", json!({}))["items"].clone();
    let kinds: Vec<&str> =
        events.as_array().unwrap().iter().filter_map(|it| it["kind"].as_str()).collect();
    for kind in ["runtime.added", "runtime.used", "runtime.removed"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

#[test]
fn a_runtime_has_variables_for_its_servers() {
    let home = Home::new();
    let _daemon = home.daemon();
    let build = StandIn::new(&home, "b1", "1", &[]);
    home.cli(["runtime", "add", build.path()]).ok();
    let environment =
        || home.cli(["runtime", "show", "b1", "--json"]).ok().json()["environment"].take();
    home.cli(["runtime", "set", "b1", "env.CUDA_VISIBLE_DEVICES=1", "env.B=2"]).ok();
    assert_eq!(environment(), json!({ "B": "2", "CUDA_VISIBLE_DEVICES": "1" }));
    home.cli(["runtime", "unset", "b1", "env.B"]).ok();
    let refused =
        home.cli(["--json", "runtime", "set", "b1", "env.C=1", "env.LD_PRELOAD=/x"]).code(5);
    assert_eq!(refused.failure_kind(), "option_refused");
    let refused = home.cli(["--json", "runtime", "set", "b1", "ctx-size=1"]).code(5);
    assert_eq!(refused.failure_kind(), "unknown_option");
    assert_eq!(environment(), json!({ "CUDA_VISIBLE_DEVICES": "1" }), "all or none");
    home.cli(["runtime", "set", "system", "env.A=1"]).code(5);
}

#[test]
fn two_builds_run_side_by_side() {
    let home = Home::new();
    let _daemon = home.daemon();
    let other = artifacts::fake_llama_server();
    home.cli(["runtime", "add", other.to_str().unwrap(), "--name", "other"]).ok();
    add_tiny(&home, "a");
    add_tiny(&home, "b");
    home.cli(["model", "set", "b", "runtime=other"]).ok();
    home.cli(["start", "a", "b"]).ok();
    let mut names: Vec<String> =
        home.llama_servers().iter().map(llamactl_tests::processes::Process::name).collect();
    names.sort();
    assert_eq!(names, ["fake-llama-server", "llama-server"]);
    let list = home.cli(["runtime", "list", "--json"]).ok().json_lines();
    assert_eq!(list[1]["models"], json!(["b"]), "{list:?}");

    let failure = home.cli(["--json", "model", "set", "a", "runtime=othr"]).code(3).failure();
    assert_eq!(failure["kind"], "runtime_not_found", "{failure}");
    assert!(failure["hint"].as_str().unwrap().contains("did you mean other?"), "{failure}");
}

#[test]
fn a_build_whose_file_is_gone_says_where_to_look() {
    let home = Home::new();
    let _daemon = home.daemon();
    let build = StandIn::new(&home, "b1", "1", &[]);
    home.cli(["runtime", "add", build.path()]).ok();
    add_tiny(&home, "m");
    home.cli(["model", "set", "m", "runtime=b1"]).ok();
    fs::remove_file(&build.path).unwrap();
    let failure = home.cli(["--json", "start", "m"]).code(3).failure();
    assert_eq!(failure["kind"], "runtime_not_found");
    assert!(failure["message"].as_str().unwrap().contains(build.path()), "{failure}");
    assert_eq!(failure["commands"], json!([["llamactl", "runtime", "list"]]), "{failure}");
    let list = home.cli(["runtime", "list", "--json"]).ok().json_lines();
    assert_eq!((&list[1]["found"], &list[1]["version"]), (&json!(false), &json!("1")), "{list:?}");
    // All are looked at, whatever keeps one of them from it.
    let refreshed = home.cli(["runtime", "refresh", "--json"]).ok().json_lines();
    assert_eq!(refreshed[1]["runtime"]["problem"]["kind"], "runtime_not_found", "{refreshed:?}");
    home.cli(["runtime", "refresh", "b1"]).code(3);
}

#[test]
fn a_build_is_told_in_its_own_words_and_one_that_lacks_an_option_is_told_from_a_wrong_word() {
    let home = Home::new();
    let _daemon = home.daemon();
    let newer = StandIn::new(
        &home,
        "newer",
        "11434",
        &["--load-mode MODE  how to load", "--lazy-mode MODE  lazily"],
    );
    let older = StandIn::new(&home, "older", "9000", &["--mmap, --no-mmap  map", "--mlock  lock"]);
    for build in [&newer, &older] {
        home.cli(["runtime", "add", build.path()]).ok();
    }
    add_tiny(&home, "m");
    let told = |settings: &[&str]| {
        let set = home.cli(["model", "set", "m"].iter().chain(settings)).ok().stderr();
        let line = home.call("model.args", json!({ "model": "m" }))["argv"].clone();
        let words: Vec<&str> = line.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        (words.join(" "), set)
    };
    home.cli(["model", "set", "m", "mlock=on", "mmap=off"]).ok();
    let (line, _) = told(&["runtime=newer"]);
    assert!(line.ends_with(" --load-mode mlock"), "{line}");
    let (line, said) = told(&["mmap=on"]);
    assert!(line.ends_with(" --load-mode mmap+mlock"), "{line}");
    assert!(said.contains("is told load-mode=mmap, as it calls it"), "{said}");
    home.cli(["model", "unset", "m", "mlock", "mmap"]).ok();
    home.cli(["model", "set", "m", "load-mode=mlock"]).ok();
    let (line, _) = told(&["runtime=older"]);
    assert!(line.ends_with(" --mlock --no-mmap") || line.ends_with(" --no-mmap --mlock"), "{line}");

    let lacking = home.cli(["--json", "model", "set", "m", "lazy-mode=on"]).code(5).failure();
    assert_eq!(lacking["message"], "llama-server 9000 has no option lazy-mode", "{lacking}");
    let elsewhere = json!(["llamactl", "model", "set", "m", "runtime=newer"]);
    assert_eq!(lacking["commands"][0], elsewhere, "{lacking}");
    let wrong = home.cli(["--json", "model", "set", "m", "lazi-mod=on"]).code(5).failure();
    assert!(wrong["message"].as_str().unwrap().starts_with("there is no setting"), "{wrong}");
}

#[test]
fn settings_that_a_build_lacks_are_listed_before_a_restart() {
    let home = Home::new();
    let _daemon = home.daemon();
    let context = "-c, --ctx-size N  size of the context (default: 0)";
    let build = StandIn::new(&home, "b1", "1", &[context, "--mode {a,b}  a mode"]);
    home.cli(["runtime", "add", build.path()]).ok();
    add_tiny(&home, "fits");
    add_tiny(&home, "lacks");
    for model in ["fits", "lacks"] {
        home.cli(["model", "set", model, "runtime=b1"]).ok();
    }
    home.cli(["model", "set", "lacks", "ctx-size=512", "extra-args=--mode b"]).ok();
    let refreshed = home.cli(["runtime", "refresh", "b1", "--json"]).ok().json();
    assert_eq!((&refreshed["changed"], &refreshed["refused"]), (&json!(false), &json!([])));

    build.replace("2", &["--ctx-sizes N  size of the context", "--mode {a,c}  a mode"]);
    let list = home.cli(["runtime", "list", "--json"]).ok().json_lines();
    assert_eq!((&list[1]["changed"], &list[1]["version"]), (&json!(true), &json!("1")), "{list:?}");
    let refreshed = home.cli(["runtime", "refresh", "b1", "--json"]).ok().json();
    assert_eq!(
        (
            &refreshed["old_version"],
            &refreshed["new_version"],
            &refreshed["gained"],
            &refreshed["lost"]
        ),
        (&json!("1"), &json!("2"), &json!(["ctx-sizes"]), &json!(["ctx-size"]))
    );
    let refused = refreshed["refused"].as_array().unwrap();
    let found: Vec<(&Value, &Value)> =
        refused.iter().map(|it| (&it["model"], &it["key"])).collect();
    let lacks = json!("lacks");
    assert_eq!(found, [(&lacks, &json!("ctx-size")), (&lacks, &json!("extra-args"))]);
    let hint = refused[0]["failure"]["hint"].as_str().unwrap();
    assert!(hint.contains("ctx-sizes"), "the nearest it has: {hint}");
    let message = refused[1]["failure"]["message"].as_str().unwrap();
    assert!(message.contains("a, c"), "the choices it has: {message}");
    // A person is warned.
    let said = home.cli(["runtime", "refresh", "b1"]).ok();
    assert!(said.stdout().contains("b1 is what it was"), "{}", said.stdout());
    assert!(
        said.stderr().contains("lacks cannot be started with b1: ctx-size"),
        "{}",
        said.stderr()
    );
    let events = home.call("event.list", json!({})).to_string();
    assert!(events.contains("is now 2; it was 1"), "{events}");
}

#[test]
fn a_server_on_a_replaced_build_is_warned_of() {
    let home = Home::new();
    let _daemon = home.daemon();
    let build = StandIn::new(&home, "b1", "1", &["--metrics  metrics"]);
    home.cli(["runtime", "add", build.path()]).ok();
    home.cli(["runtime", "use", "b1"]).ok();
    add_tiny(&home, "m");
    home.cli(["start", "m"]).ok();
    let warnings = || home.call("server.show", json!({ "model": "m" }))["warnings"].to_string();
    assert!(!warnings().contains("old_build"), "{}", warnings());

    build.replace("2", &["--metrics  metrics"]);
    assert!(warnings().contains("old_build"), "{}", warnings());
    assert!(warnings().contains("it runs llama-server 1"), "{}", warnings());
    let listed = home.cli(["ps", "--json"]).ok().json()["warnings"].to_string();
    assert!(listed.contains(r#"["llamactl","restart","m"]"#), "{listed}");
    assert!(home.cli(["ps"]).ok().stdout().contains("it runs llama-server 1"));
    assert!(home.cli(["status", "m"]).ok().stdout().contains("it runs llama-server 1"));

    home.cli(["restart", "m"]).ok();
    assert!(!warnings().contains("old_build"), "{}", warnings());
    // The start looked at the new one.
    let list = home.cli(["runtime", "list", "--json"]).ok().json_lines();
    assert_eq!(
        (&list[1]["changed"], &list[1]["version"]),
        (&json!(false), &json!("2")),
        "{list:?}"
    );
}

#[test]
fn a_build_that_never_answers_is_given_up() {
    let home = Home::new();
    let _daemon = home.daemon();
    let build = StandIn::new(&home, "b1", "1", &[]);
    build.write("sleep 1000 & sleep 1000\n");
    let failure = home.cli(["--json", "runtime", "add", build.path()]).code(5).failure();
    assert_eq!(failure["kind"], "runtime_refused");
    assert!(failure["message"].as_str().unwrap().contains("--help"), "{failure}");
    assert_eq!(home.cli(["runtime", "list", "-q"]).ok().lines(), ["system"]);
}

#[test]
fn what_is_no_llama_server_or_could_be_replaced_by_others_is_refused() {
    need!("root");
    let home = Home::new();
    let _daemon = home.daemon();
    let build = StandIn::new(&home, "b1", "1", &[]);
    let refused =
        |status: i32| home.cli(["--json", "runtime", "add", build.path()]).code(status).failure();
    std::os::unix::fs::chown(&build.path, None, Some(llamactl_tests::user::NOBODY)).unwrap();
    mode(&build.path, 0o775);
    let failure = refused(5);
    assert_eq!(failure["kind"], "runtime_refused");
    assert!(failure["message"].as_str().unwrap().contains("its group"), "{failure}");
    assert_eq!(
        failure["commands"][0].as_array().unwrap()[..2],
        [json!("chmod"), json!("go-w")],
        "{failure}"
    );
    mode(&build.path, 0o755);
    std::os::unix::fs::chown(&build.path, Some(llamactl_tests::user::NOBODY), None).unwrap();
    let failure = refused(5);
    assert!(
        failure["message"].as_str().unwrap().contains("belongs to the user 65534"),
        "{failure}"
    );
    assert_eq!(
        failure["commands"][0].as_array().unwrap()[..2],
        [json!("chown"), json!("0")],
        "{failure}"
    );
    std::os::unix::fs::chown(&build.path, Some(0), None).unwrap();
    build.write("echo hello\n");
    let failure = refused(5);
    assert!(failure["message"].as_str().unwrap().contains("--help"), "{failure}");
    assert!(failure["details"].to_string().contains("hello"), "the evidence: {failure}");
    fs::remove_file(&build.path).unwrap();
    assert_eq!(refused(3)["kind"], "file_not_found");

    // One that was fit when it was named is looked at before each start.
    let build = StandIn::new(&home, "b2", "1", &[]);
    home.cli(["runtime", "add", build.path()]).ok();
    add_tiny(&home, "m");
    home.cli(["model", "set", "m", "runtime=b2"]).ok();
    mode(&build.path, 0o757);
    let failure = home.cli(["--json", "start", "m"]).code(5).failure();
    assert_eq!(failure["kind"], "runtime_refused", "{failure}");
}

#[test]
fn the_shell_is_offered_runtimes_and_devices() {
    let home = Home::new();
    let daemon = home.daemon();
    let build = StandIn::new(&home, "b1", "1", &[]);
    home.cli(["runtime", "add", build.path()]).ok();
    // A build that was never looked at may take longer than a shell waits.
    home.cli(["runtime", "list"]).ok();
    let offered = |words: &[&str]| {
        let line = home.llamactl(["--", "llamactl"]).args(words).env("LLAMACTL_COMPLETE", "bash");
        let lines = line.run().ok().lines();
        let word = |line: String| line.split('\t').next().unwrap_or_default().to_owned();
        lines.into_iter().map(word).collect::<Vec<_>>()
    };
    assert_eq!(offered(&["runtime", "use", "b"]), ["b1"]);
    assert_eq!(offered(&["model", "set", "m", "runtime=s"]), ["runtime=system"]);
    // Without a daemon nothing is said.
    drop(daemon);
    assert_eq!(offered(&["runtime", "use", "b"]), [""; 0]);
}

#[test]
fn without_any_llama_server_the_list_says_so() {
    let home = Home::without_llama_server();
    let home = home.env("LLAMACTL_LLAMA_SERVER", "/nowhere/llama-server");
    let _daemon = home.daemon();
    let system = home.cli(["runtime", "list", "--json"]).ok().json();
    assert_eq!((&system["found"], &system["path"]), (&json!(false), &Value::Null), "{system}");
    let problem = system["problem"]["message"].as_str().unwrap();
    assert!(problem.contains("/nowhere/llama-server does not exist"), "{problem}");
    assert!(home.cli(["runtime", "list"]).ok().stdout().contains("none found"));
    // Another can be used all the same.
    let real = llama::real().to_str().unwrap();
    home.cli(["runtime", "add", real, "--name", "real"]).ok();
    home.cli(["runtime", "use", "real"]).ok();
    add_tiny(&home, "m");
    home.cli(["start", "m"]).ok();
    home.cli(["runtime", "use", "system"]).ok();
}

#[test]
fn a_runtime_that_somebody_else_changed_is_not_changed_over() {
    let home = Home::without_llama_server();
    let _daemon = home.daemon();
    let build = artifacts::fake_llama_server();
    home.cli(["runtime", "add", build.to_str().unwrap(), "--name", "b1"]).ok();
    let seen = home.cli(["runtime", "show", "b1", "--json"]).ok().json()["revision"].to_string();
    home.cli(["runtime", "set", "b1", "env.A=1", "--if-revision", &seen]).ok();
    home.cli(["runtime", "set", "b1", "env.A=2", "--if-revision", &seen]).code(4);
    home.cli(["runtime", "unset", "b1", "env.A", "--if-revision", &seen]).code(4);
    let now = home.call("runtime.show", json!({ "name": "b1" }));
    assert_eq!((&now["environment"], &now["revision"]), (&json!({ "A": "1" }), &json!(2)));
    assert_eq!(home.call("runtime.show", json!({ "name": "system" }))["revision"], Value::Null);
}
