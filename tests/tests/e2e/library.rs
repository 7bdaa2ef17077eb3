//! Finding the models a machine has, and telling when one is gone or another.

use llamactl_tests::gguf::{Preset, TinyModel};
use llamactl_tests::{Home, Output, TestModel, artifacts, need, skip};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, FileTimes, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A test model as a file of its own at `path` in the home, directories made.
fn put(home: &Home, model: TestModel, path: &str) -> PathBuf {
    let path = home.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(model.shared(), &path).unwrap();
    path
}

/// A text file at `path` in the home.
fn write(home: &Home, path: &str, text: &str) -> PathBuf {
    let path = home.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn scan(home: &Home, arguments: &[&str]) -> Output {
    home.cli(["--json", "model", "scan"].iter().chain(arguments)).ok()
}

/// What a scan found, by name.
fn found(output: &Output) -> BTreeMap<String, Value> {
    let found = output.json_lines().into_iter().filter(|item| item["what"] == "found");
    found.map(|item| (item["name"].as_str().unwrap().to_owned(), item)).collect()
}

fn names(output: &Output) -> Vec<String> {
    found(output).into_keys().collect()
}

/// What it passed over: kinds by file names.
fn skipped(output: &Output) -> BTreeMap<String, String> {
    let skipped = output.json_lines().into_iter().filter(|item| item["what"] == "skipped");
    skipped
        .map(|item| {
            assert_ne!(item["reason"], "", "{item}");
            let path = Path::new(item["path"].as_str().unwrap());
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, item["kind"].as_str().unwrap().to_owned())
        })
        .collect()
}

fn summary(output: &Output) -> Value {
    let mut items = output.json_lines();
    let last = items.pop().unwrap();
    assert_eq!(last["what"], "done", "the last one says what it came to");
    last
}

/// A repository in the Hugging Face cache: the file is a link to a blob.
fn hub_file(home: &Home, repo: &str, file: &str, blob: &str, model: TestModel) -> PathBuf {
    let base = format!(".cache/huggingface/hub/models--{repo}");
    put(home, model, &format!("{base}/blobs/{blob}"));
    write(home, &format!("{base}/refs/main"), "c0ffee");
    let link = home.path().join(format!("{base}/snapshots/c0ffee/{file}"));
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let up = "../".repeat(2 + file.matches('/').count());
    symlink(format!("{up}blobs/{blob}"), &link).unwrap();
    link
}

/// A model in Ollama's store.
fn ollama_model(home: &Home, place: &str, digit: &str, model: TestModel, more: &str) -> PathBuf {
    let digest = digit.repeat(64);
    let layer = format!(
        r#"{{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:{digest}","size":1}}"#
    );
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{layer}{more}]}}"#);
    write(home, &format!(".ollama/models/manifests/{place}"), &manifest);
    put(home, model, &format!(".ollama/models/blobs/sha256-{digest}"))
}

#[test]
fn what_other_programs_downloaded_is_found_and_used_where_it_lies() {
    let home = Home::new();
    let hub = hub_file(&home, "acme--Tiny-GGUF", "Tiny-Q8_0.gguf", "aa11", TestModel::Tiny);
    let sees = hub_file(&home, "acme--Sees-GGUF", "Q4/Sees-Q4_0.gguf", "bb22", TestModel::Tiny);
    let eye = hub_file(&home, "acme--Sees-GGUF", "mmproj-F16.gguf", "cc33", TestModel::Projector);
    put(&home, TestModel::Tiny, ".lmstudio/models/lmco/Small-GGUF/small.gguf");
    put(&home, TestModel::Tiny, ".cache/llama.cpp/ggml-org_tiny_x_tiny-Q5_K_M.gguf");
    write(&home, ".cache/llama.cpp/manifest=ggml-org=tiny_x=latest.json", "{}");
    let adapter = r#",{"mediaType":"application/vnd.ollama.image.adapter","digest":"sha256:eeee"}"#;
    let place = "registry.ollama.ai/library/tiny/1m";
    let blob = ollama_model(&home, place, "d", TestModel::Tiny, adapter);
    // Another tag of the same blob.
    ollama_model(&home, "registry.ollama.ai/library/tiny/latest", "d", TestModel::Tiny, "");
    let _daemon = home.daemon();

    let shown = scan(&home, &[]);
    let expected = [
        ("acme/Sees-GGUF:Q4_0", "huggingface"),
        ("acme/Tiny-GGUF:Q8_0", "huggingface"),
        ("ggml-org/tiny_x:Q5_K_M", "llama_cpp"),
        ("lmco/Small-GGUF:F16", "lmstudio"),
        ("tiny:1m", "ollama"),
    ];
    let seen: Vec<_> = found(&shown)
        .into_iter()
        .map(|(name, item)| (name, item["source"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(seen, expected.map(|(name, source)| (name.to_owned(), source.to_owned())));
    let items = found(&shown);
    assert_eq!(items["acme/Tiny-GGUF:Q8_0"]["path"], json!(hub), "its readable path");
    assert_eq!(items["acme/Sees-GGUF:Q4_0"]["path"], json!(sees));
    assert_eq!(items["acme/Sees-GGUF:Q4_0"]["mmproj"], json!(eye));
    assert_eq!(items["tiny:1m"]["path"], json!(blob));
    assert_eq!(
        (summary(&shown)["new"].clone(), summary(&shown)["duplicates"].clone()),
        (json!(5), json!(1))
    );
    assert_eq!(home.cli(["model", "list"]).ok().stdout(), "", "showing registers nothing");

    let added = scan(&home, &["--add"]);
    assert_eq!((&summary(&added)["added"], &summary(&added)["known"]), (&json!(5), &json!(0)));
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), expected.map(|it| it.0));
    let detail = home.cli(["model", "show", "acme/Sees-GGUF:Q4_0", "--json"]).ok().json();
    assert_eq!(detail["settings"]["mmproj"], json!(eye));
    assert!(detail["chat_template"].as_str().unwrap().contains("im_start"));

    // Once more there is nothing to add.
    let again = scan(&home, &["--add"]);
    assert_eq!((&summary(&again)["added"], &summary(&again)["known"]), (&json!(0), &json!(5)));
    // A file without an extension, by a name with a colon: it serves all the same.
    home.cli(["start", "tiny:1m"]).ok();
}

#[test]
fn parts_projectors_and_what_is_no_model() {
    let home = Home::new();
    let split = home.model(TestModel::Split);
    put(&home, TestModel::Tiny, "models/sees/sees-Q4_0.gguf");
    let eye = put(&home, TestModel::Projector, "models/sees/mmproj-F16.gguf");
    put(&home, TestModel::Projector, "models/strangers/mmproj-F16.gguf");
    put(&home, TestModel::Tiny, "models/strangers/qwen3-8b.gguf");
    put(&home, TestModel::Tiny, "models/strangers/qwen2.5-vl.gguf");
    let junk = [
        (TestModel::Truncated, "models/junk/cut.gguf"),
        (TestModel::Lora, "models/junk/lora.gguf"),
        (TestModel::VocabularyOnly, "models/junk/words.gguf"),
    ];
    for (model, path) in junk {
        put(&home, model, path);
    }
    put(&home, TestModel::Projector, "models/junk/eye.gguf");
    write(&home, "models/junk/page.gguf", "<!DOCTYPE html>");
    write(&home, "models/junk/late.gguf.part", "");
    write(&home, "models/junk/notes.txt", "");
    fs::create_dir(home.path().join("models/junk/dir.gguf")).unwrap();
    symlink("nowhere", home.path().join("models/junk/gone.gguf")).unwrap();
    fs::copy(split.with_file_name(&TestModel::Split.file_names()[1]), {
        home.path().join("models/junk/half-00002-of-00003.gguf")
    })
    .unwrap();
    let _daemon = home.daemon();

    let output = scan(&home, &["models", "--add"]);
    let items = found(&output);
    assert_eq!(names(&output), ["qwen2.5-vl", "qwen3-8b", "sees-Q4_0", "split"]);
    assert_eq!((&items["split"]["path"], &items["split"]["parts"]), (&json!(split), &json!(3)));
    assert_eq!(items["sees-Q4_0"]["mmproj"], json!(eye));
    assert_eq!(items["qwen3-8b"]["mmproj"], Value::Null, "whose projector it is nobody can tell");
    let kinds = skipped(&output);
    let expected = [
        ("cut.gguf", "gguf_truncated"),
        ("eye.gguf", "mmproj"),
        ("gone.gguf", "file_not_found"),
        ("half-00002-of-00003.gguf", "gguf_parts_missing"),
        ("late.gguf.part", "unfinished"),
        ("lora.gguf", "adapter"),
        ("mmproj-F16.gguf", "mmproj"),
        ("page.gguf", "not_gguf"),
        ("words.gguf", "vocab_only"),
    ];
    let expected = expected.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    assert_eq!(kinds, BTreeMap::from(expected));
    assert_eq!(summary(&output)["skipped"], 9);
    let projector = home.cli(["model", "show", "sees-Q4_0", "--json"]).ok().json();
    assert_eq!(projector["settings"]["mmproj"], json!(eye));
    assert_eq!(projector["file"]["mmproj"], json!(eye));
}

/// A file of another architecture at `path` in the home.
fn put_other(home: &Home, architecture: &str, path: &str) -> PathBuf {
    let path = home.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    TinyModel::new(Preset::Tiny).architecture(architecture).write(&path).unwrap()
}

#[test]
fn what_a_file_is_for_is_told_by_its_header_and_costs_no_model_its_projector() {
    let home = Home::new();
    let repo = "acme--Sees-GGUF";
    hub_file(&home, repo, "gemma-4-12b-it-Q4_K_M.gguf", "aa11", TestModel::Tiny);
    let eye = hub_file(&home, repo, "mmproj-F16.gguf", "bb22", TestModel::Projector);
    let inside = ".cache/huggingface/hub/models--acme--Sees-GGUF/snapshots/c0ffee";
    put_other(&home, "gemma4-assistant", &format!("{inside}/mtp-gemma-4-12b-it.gguf"));
    put_other(&home, "gemma4-assistant", &format!("{inside}/MTP/x-Q8_0-MTP.gguf"));
    hub_file(&home, "acme--Alone-GGUF", "mmproj-alone.gguf", "cc33", TestModel::Projector);
    put(&home, TestModel::NeverStop, "models/sees-Q4_0.gguf");
    let plain = put(&home, TestModel::Projector, "models/mmproj-F16.gguf");
    put(&home, TestModel::Lora, "models/style.gguf");
    let guesses = put_other(&home, "eagle3", "models/guesses.gguf");
    for (architecture, name) in
        [("controlvector", "steer"), ("flux", "paints"), ("whisper", "hears")]
    {
        put_other(&home, architecture, &format!("models/{name}.gguf"));
    }
    let _daemon = home.daemon();
    let output = scan(&home, &["models", "--add"]);
    let items = found(&output);
    assert_eq!(names(&output), ["acme/Sees-GGUF:Q4_K_M", "sees-Q4_0"], "{}", output.stdout());
    assert_eq!(items["acme/Sees-GGUF:Q4_K_M"]["mmproj"], json!(eye));
    assert_eq!(items["sees-Q4_0"]["mmproj"], json!(plain));
    let kinds = skipped(&output);
    for (name, kind) in [
        ("mtp-gemma-4-12b-it.gguf", "draft"),
        ("x-Q8_0-MTP.gguf", "draft"),
        ("guesses.gguf", "draft"),
        ("mmproj-alone.gguf", "mmproj"),
        ("style.gguf", "adapter"),
        ("steer.gguf", "control_vector"),
        ("paints.gguf", "image"),
        ("hears.gguf", "speech"),
    ] {
        assert_eq!(kinds.get(name).map(String::as_str), Some(kind), "{name}: {kinds:?}");
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    assert!(output.stdout().contains("goes with gemma-4-12b-it-Q4_K_M.gguf"));

    // By hand: the projector is spoken of, and a drafter is no model.
    let by_hand = home.cli(["model", "add", "models/sees-Q4_0.gguf", "--name", "twin"]).ok();
    assert!(by_hand.stderr().contains("a projector lies beside it"), "{}", by_hand.stderr());
    let refused = home.cli(["--json", "model", "add", guesses.to_str().unwrap()]).code(5);
    assert_eq!(refused.failure_kind(), "not_a_model");
    assert!(refused.stderr().contains("spec-draft-model="), "{}", refused.stderr());
}

#[test]
fn a_file_whose_name_is_beyond_ascii_is_called_as_its_header_calls_it() {
    let home = Home::new();
    for (path, title) in [
        ("models/日本語.gguf", "Nihongo 7B"),
        ("models/Ünïcode-Größe-Q8_0.gguf", "Nihongo 7B"),
        ("models/hangul/한국어.gguf", "한국어"),
        ("models/plain.gguf", "Title"),
    ] {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        TinyModel::new(Preset::Tiny).name(title).write(&path).unwrap();
    }
    let _daemon = home.daemon();
    let output = scan(&home, &["models"]);
    assert_eq!(names(&output), ["Nihongo-7B", "Nihongo-7B-F16", "hangul", "plain"]);
    home.cli(["model", "add", "models/日本語.gguf"]).ok();
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["Nihongo-7B"]);
}

#[test]
fn a_file_is_registered_once_however_many_ways_lead_to_it() {
    let home = Home::new();
    let file = put(&home, TestModel::Tiny, "models/one.gguf");
    fs::hard_link(&file, home.path().join("models/two.gguf")).unwrap();
    symlink(&file, home.path().join("models/three.gguf")).unwrap();
    symlink(home.path().join("models"), home.path().join("models/again")).unwrap();
    // Another file of the same name.
    put(&home, TestModel::NeverStop, "models/other/one.gguf");
    let _daemon = home.daemon();
    let output = scan(&home, &["models", "models/other", "--add"]);
    assert_eq!(names(&output), ["one", "one-2"]);
    assert_eq!(summary(&output)["duplicates"], 2);
    home.cli(["model", "rename", "one", "mine"]).ok();
    home.cli(["model", "remove", "one-2"]).ok();
    // Added by hand through another link, then found again.
    let linked = home.path().join("linked.gguf");
    symlink(home.path().join("models/other/one.gguf"), &linked).unwrap();
    home.cli(["model", "add", linked.to_str().unwrap(), "--name", "by-hand"]).ok();
    let again = scan(&home, &["models", "--add"]);
    assert_eq!(names(&again), ["by-hand", "mine"]);
    assert_eq!(summary(&again)["added"], 0);
}

#[test]
fn a_model_follows_its_file_when_that_has_moved() {
    let home = Home::new();
    let old = put(&home, TestModel::Tiny, "models/a.gguf");
    let repo = "acme--Mv-GGUF";
    hub_file(&home, repo, "Mv-Q4_K_M.gguf", "aa11", TestModel::NeverStop);
    let mut daemon = home.daemon();
    scan(&home, &["models", "--add"]);
    home.cli(["model", "set", "a", "ctx-size=512"]).ok();
    let new = home.path().join("models/below/b.gguf");
    fs::create_dir(new.parent().unwrap()).unwrap();
    fs::rename(&old, &new).unwrap();
    // Shown, and nothing is done.
    let shown = scan(&home, &[]);
    let hub = "acme/Mv-GGUF:Q4_K_M";
    assert_eq!(names(&shown), ["a", hub]);
    assert_eq!(found(&shown)["a"]["moved_from"], json!(old));
    assert_eq!((&summary(&shown)["moved"], &summary(&shown)["new"]), (&json!(1), &json!(0)));
    let people = home.cli(["model", "scan", "models"]).ok();
    assert!(people.lines()[1].contains("  moved  "), "{:?}", people.lines());
    assert!(people.stderr().contains("models --add"), "{}", people.stderr());
    let show = |name: &str| home.cli(["model", "show", name, "--json"]).ok().json();
    assert_eq!(show("a")["file_state"], "missing");

    let output = scan(&home, &["--add"]);
    assert_eq!(
        (names(&output), &summary(&output)["added"]),
        (vec!["a".into(), hub.into()], &json!(0))
    );
    let followed = show("a");
    assert_eq!((&followed["path"], &followed["file_state"]), (&json!(new), &json!("present")));
    assert_eq!(
        (&followed["settings"]["ctx-size"], &followed["revision"]),
        (&json!(512), &json!(3))
    );
    let history = home.cli(["model", "history", "a"]).ok().stdout();
    assert!(history.contains("its file had moved from"), "{history}");

    // At a start of the daemon too, also within a cache.
    assert!(daemon.terminate().success());
    fs::rename(&new, &old).unwrap();
    let snapshots = home.path().join(format!(".cache/huggingface/hub/models--{repo}/snapshots"));
    fs::rename(snapshots.join("c0ffee"), snapshots.join("c2")).unwrap();
    put(&home, TestModel::Medium, ".lmstudio/models/x/y/not-asked-for.gguf");
    daemon.start_again();
    let mut events = home.follow("event.follow", json!({ "after": 0 }));
    for name in ["a", hub] {
        events.item_where(|it| {
            it["kind"] == "model.set" && it["model"] == name && it["by"]["kind"] == "policy"
        });
    }
    assert_eq!(
        (show("a")["path"].clone(), show(hub)["path"].clone()),
        (json!(old), json!(snapshots.join("c2/Mv-Q4_K_M.gguf")),)
    );
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["a", hub]);

    // One that is gone for good is nobody's, and what takes its place is another model.
    fs::remove_file(&old).unwrap();
    let lost = home.cli(["model", "verify", "a"]).code(3);
    assert!(lost.stderr().contains("llamactl model set a path=FILE"), "{}", lost.stderr());
    TinyModel::new(Preset::Tiny).name("Other").write(home.path().join("models/c.gguf")).unwrap();
    assert_eq!(names(&scan(&home, &["models", "--add", "--no-caches"])), ["c"]);
    // Under its name it is told of as what may take its place.
    fs::create_dir_all(home.path().join("models/new")).unwrap();
    TinyModel::new(Preset::Tiny)
        .name("Third")
        .write(home.path().join("models/new/a.gguf"))
        .unwrap();
    let output = scan(&home, &["models", "--no-caches"]);
    let note = found(&output)["a-2"]["notes"][0].to_string();
    assert!(note.contains("llamactl model set a path="), "{note}");
}

#[test]
fn the_other_names_of_a_file_are_aliases_or_told_of() {
    let home = Home::new();
    let store = "registry.ollama.ai/library";
    let acme = "registry.ollama.ai/acme/mine/v1";
    for place in [
        acme,
        &format!("{store}/tiny/8b"),
        &format!("{store}/tiny/latest"),
        &format!("{store}/coder/latest"),
    ] {
        ollama_model(&home, place, "d", TestModel::Tiny, "");
    }
    put(&home, TestModel::NeverStop, "models/zz-real.gguf");
    symlink("zz-real.gguf", home.path().join("models/aa-current.gguf")).unwrap();
    put(&home, TestModel::Medium, "models/b/real.gguf");
    fs::create_dir(home.path().join("models/a")).unwrap();
    symlink("../b/real.gguf", home.path().join("models/a/link.gguf")).unwrap();
    let _daemon = home.daemon();
    let shown = home.cli(["model", "scan", "models"]).ok();
    for name in ["tiny:8b", "tiny:latest", "coder:latest", "acme/mine:v1", "the same file as"] {
        assert!((shown.stdout() + &shown.stderr()).contains(name), "{name}: {}", shown.stderr());
    }
    let output = scan(&home, &["models", "--add"]);
    assert_eq!(names(&output), ["real", "tiny:8b", "zz-real"]);
    let told = skipped(&output);
    for link in ["aa-current.gguf", "link.gguf"] {
        assert_eq!(told[link], "duplicate", "{told:?}");
    }
    let model = home.cli(["model", "show", "tiny:latest", "--json"]).ok().json();
    assert_eq!(model["aliases"], json!(["acme/mine:v1", "coder:latest", "tiny:latest"]));

    // A tag that came later is told of; one that names another blob now makes no second model.
    ollama_model(&home, &format!("{store}/late/latest"), "d", TestModel::Tiny, "");
    let output = scan(&home, &["--add"]);
    let note = found(&output)["tiny:8b"]["notes"][0].to_string();
    assert!(note.contains("llamactl model alias tiny:8b late:latest"), "{note}");
    let blob = ollama_model(&home, &format!("{store}/tiny/8b"), "e", TestModel::NeverStop, "");
    let output = scan(&home, &["--add"]);
    assert_eq!(names(&output), ["real", "tiny:8b", "zz-real"]);
    let said = output.stdout();
    assert!(
        said.contains(&format!("llamactl model set tiny:8b path={}", blob.display())),
        "{said}"
    );
    // The same when the blob of before is gone.
    fs::remove_file(blob.with_file_name(format!("sha256-{}", "d".repeat(64)))).unwrap();
    let output = scan(&home, &["--add"]);
    assert_eq!(names(&output), ["real", "zz-real"]);
    assert!(output.stdout().contains("which is gone"), "{}", output.stdout());
    home.cli(["model", "set", "tiny:8b", &format!("path={}", blob.display())]).ok();
    assert_eq!(names(&scan(&home, &["--add"])), ["real", "tiny:8b", "zz-real"]);
}

#[test]
fn pieces_are_told_of_as_what_must_be_joined() {
    let home = Home::new();
    for name in ["x.Q6_K.gguf.part1of2", "y.gguf-split-a"] {
        fs::create_dir_all(home.path().join("models")).unwrap();
        let whole = fs::read(TestModel::Tiny.shared()).unwrap();
        fs::write(home.path().join("models").join(name), &whole[..whole.len() / 2]).unwrap();
    }
    let _daemon = home.daemon();
    let output = scan(&home, &["models"]);
    let told = skipped(&output);
    assert_eq!(
        (told["x.Q6_K.gguf.part1of2"].as_str(), told["y.gguf-split-a"].as_str()),
        ("piece", "piece")
    );
    let refused = home.cli(["model", "add", "models/y.gguf-split-a"]).code(5);
    assert!(refused.stderr().contains("join all pieces"), "{}", refused.stderr());
}

#[test]
fn the_callers_caches_count_and_a_store_is_known_by_what_is_in_it() {
    let home = Home::new();
    let place = "registry.ollama.ai/library/tiny/8b";
    ollama_model(&home, place, "d", TestModel::Tiny, "");
    fs::create_dir(home.path().join("big")).unwrap();
    fs::rename(home.path().join(".ollama/models"), home.path().join("big/ollama")).unwrap();
    hub_file(&home, "acme--Tiny-GGUF", "Tiny-Q8_0.gguf", "aa11", TestModel::NeverStop);
    fs::rename(home.path().join(".cache/huggingface"), home.path().join("hf")).unwrap();
    let _daemon = home.daemon();
    let nothing = home.cli(["model", "scan"]).ok();
    assert!(nothing.stderr().starts_with("note: no "), "{}", nothing.stderr());
    assert!(nothing.stderr().contains("llamactl model scan DIR"), "{}", nothing.stderr());
    fs::create_dir_all(home.path().join("empty")).unwrap();
    let nothing = home.cli(["model", "scan", "empty"]).ok();
    let looked_in = home.path().join("empty");
    assert!(
        nothing.stderr().contains(&format!("in {}", looked_in.display())),
        "{}",
        nothing.stderr()
    );

    let store = home.path().join("big/ollama");
    let asked = |arguments: &[&str]| {
        let command = home.llamactl(["--json", "model", "scan"].iter().chain(arguments));
        command.env("OLLAMA_MODELS", &store).env("HF_HOME", home.path().join("hf")).run().ok()
    };
    assert_eq!(names(&asked(&[])), ["acme/Tiny-GGUF:Q8_0", "tiny:8b"]);
    let relative = home.llamactl(["--json", "model", "scan"]).env("OLLAMA_MODELS", "big/ollama");
    assert_eq!(names(&relative.run().ok()), ["tiny:8b"]);
    let listed = asked(&["--list-dirs"]).json();
    assert_eq!(listed["caches"].as_array().unwrap().len(), 2, "{listed}");
    // A directory of this name is no variable, and the store is a store however it is named.
    for directory in ["big/ollama", "big"] {
        let output = scan(&home, &[directory, "--no-caches"]);
        assert_eq!(names(&output), ["tiny:8b"], "{directory}");
        assert_eq!(found(&output)["tiny:8b"]["source"], "ollama");
    }
}

#[test]
fn a_file_with_more_names_than_a_model_may_have_is_registered_all_the_same() {
    let home = Home::new();
    for number in 10..80 {
        let place = format!("registry.ollama.ai/library/many/t{number}");
        ollama_model(&home, &place, "d", TestModel::Tiny, "");
    }
    let _daemon = home.daemon();
    let output = scan(&home, &["--add"]);
    let name = names(&output).pop().unwrap();
    assert_eq!((names(&output).len(), &summary(&output)["added"]), (1, &json!(1)));
    let model = home.cli(["model", "show", &name, "--json"]).ok().json();
    assert_eq!(model["aliases"].as_array().unwrap().len(), 64);
    assert!(output.stdout().contains("5 more names are left out"), "{}", output.stdout());
}

#[test]
fn settings_are_given_to_all_and_refused_before_anything_is_registered() {
    let home = Home::new();
    put(&home, TestModel::Tiny, "models/a.gguf");
    let _daemon = home.daemon();
    let bad = home.cli(["--json", "model", "scan", "models", "--add", "ctx-size=x"]).code(5);
    assert_eq!(bad.failure_kind(), "invalid_value");
    assert_eq!(home.cli(["model", "list"]).ok().stdout(), "");
    let output = home.cli(["model", "scan", "models", "--add", "-q", "ctx-size=512"]).ok();
    assert_eq!(output.lines(), ["a"]);
    let model = home.cli(["model", "show", "a", "--json"]).ok().json();
    assert_eq!(model["settings"], json!({ "ctx-size": 512 }));
    for (path, kind, status) in
        [("absent", "file_not_found", 3), ("models/a.gguf", "invalid_value", 5)]
    {
        let refused = home.cli(["--json", "model", "scan", path]).code(status);
        assert_eq!(refused.failure_kind(), kind, "{path}");
    }
    assert_eq!(home.cli(["model", "scan", "models", "--add"]).ok().lines().len(), 2);
}

#[test]
fn a_table_for_people_and_what_to_do_next() {
    let home = Home::new();
    put(&home, TestModel::Tiny, "models/a.gguf");
    write(&home, "models/page.gguf", "<html>");
    let _daemon = home.daemon();
    let output = home.cli(["model", "scan", "models", "--no-caches"]).ok();
    let lines = output.lines();
    assert!(lines[0].starts_with("NAME  STATUS  SOURCE     ARCH"), "{lines:?}");
    assert!(lines[1].contains("  new     directory  "), "{lines:?}");
    let said = output.stderr();
    assert!(said.contains("page.gguf: not a GGUF file but a web page"), "{said}");
    assert!(said.contains("1 is new; looked in "), "{said}");
    let hint = format!("llamactl model scan {}/models --add --no-caches", home.path().display());
    assert!(said.contains(&hint), "{said}");
}

#[test]
fn a_header_is_read_once() {
    let home = Home::new();
    let path = put(&home, TestModel::Tiny, "models/a.gguf");
    let _daemon = home.daemon();
    let before = path.metadata().unwrap();
    assert_eq!(found(&scan(&home, &["models"]))["a"]["architecture"], "llama");
    // The same size and time, but nothing a header could be read from.
    fs::write(&path, vec![0; usize::try_from(before.len()).unwrap()]).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
    assert_eq!(found(&scan(&home, &["models"]))["a"]["architecture"], "llama", "as it was kept");
    // To register it, it is read.
    let output = scan(&home, &["models", "--add"]);
    assert_eq!((names(&output).len(), &skipped(&output)["a.gguf"]), (0, &"not_gguf".to_owned()));
    // Another time, another look.
    fs::copy(TestModel::Tiny.shared(), &path).unwrap();
    assert_eq!(names(&scan(&home, &["models", "--add"])), ["a"]);
}

#[test]
fn what_is_new_in_a_remembered_directory_is_registered_at_the_next_start() {
    let home = Home::new();
    put(&home, TestModel::Tiny, "models/a.gguf");
    fs::create_dir(home.path().join("more")).unwrap();
    let mut daemon = home.daemon();
    scan(&home, &["models/", "--add"]);
    scan(&home, &["more", "--add", "--no-remember"]);
    let models = home.path().join("models");
    let listed = || home.cli(["model", "scan", "--list-dirs", "-q"]).ok().lines();
    assert_eq!(listed(), [models.to_str().unwrap()]);

    assert!(daemon.terminate().success());
    put(&home, TestModel::NeverStop, "models/b.gguf");
    daemon.start_again();
    let mut events = home.follow("event.follow", json!({ "after": 0 }));
    let added = events.item_where(|it| it["kind"] == "model.added" && it["model"] == "a");
    let command = "llamactl --json model scan models/ --add";
    assert_eq!(added["data"]["by"]["command"], command, "{added}");
    let added = events.item_where(|it| it["kind"] == "model.added" && it["model"] == "b");
    assert_eq!(added["data"]["by"], json!({ "kind": "policy" }));
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["a", "b"]);

    // On demand too, without being named.
    put(&home, TestModel::Medium, "models/c.gguf");
    assert_eq!(names(&scan(&home, &["--add"])), ["a", "b", "c"]);
    home.cli(["model", "scan", "--forget", "models"]).ok();
    assert!(listed().is_empty());
    let twice = home.cli(["--json", "model", "scan", "--forget", "models"]).code(3);
    assert_eq!(twice.failure_kind(), "file_not_found");
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["a", "b", "c"], "models stay");
    assert!(names(&scan(&home, &["--add"])).is_empty());
}

#[test]
fn a_remembered_directory_that_is_gone_is_said_and_hinders_nothing() {
    let home = Home::new();
    put(&home, TestModel::Tiny, "models/a.gguf");
    put(&home, TestModel::Medium, "usb/b.gguf");
    let mut daemon = home.daemon();
    scan(&home, &["models", "usb", "--add"]);
    assert!(daemon.terminate().success());
    fs::remove_dir_all(home.path().join("usb")).unwrap();
    daemon.start_again();
    let output = scan(&home, &[]);
    assert_eq!(names(&output), ["a"]);
    assert_eq!(skipped(&output)["usb"], "file_not_found");
}

#[test]
fn missing_and_changed_files_are_marked_and_looked_over() {
    let home = Home::new();
    let [_, gone, other, cut] = ["sound", "gone", "other", "cut"]
        .map(|name| put(&home, TestModel::Tiny, &format!("models/{name}.gguf")));
    let _daemon = home.daemon();
    scan(&home, &["models", "--add"]);
    let state =
        |name: &str| home.cli(["model", "show", name, "--json"]).ok().json()["file_state"].take();
    for name in ["sound", "gone", "other", "cut"] {
        assert_eq!(state(name), "present", "{name}");
    }
    fs::remove_file(&gone).unwrap();
    let fresh = home.path().join("fresh");
    TinyModel::new(Preset::Tiny).context_length(512).name("Fresh").write(&fresh).unwrap();
    fs::rename(&fresh, &other).unwrap();
    OpenOptions::new().write(true).open(&cut).unwrap().set_len(100_000).unwrap();
    assert_eq!(
        ["sound", "gone", "other", "cut"].map(state),
        ["present", "missing", "changed", "changed"].map(|word| json!(word))
    );
    let table = home.cli(["model", "list"]).ok().stdout();
    assert!(table.contains("the file is gone: llamactl model verify gone"), "{table}");
    assert!(
        table.contains("the file changed after it was added: llamactl model verify other"),
        "{table}"
    );
    let shown = home.cli(["model", "show", "gone"]).ok().stdout();
    assert!(shown.contains("the file is gone: llamactl model verify gone"), "{shown}");

    assert_eq!(home.cli(["model", "verify", "sound"]).ok().lines(), ["sound is good"]);
    let verified = home.cli(["model", "verify", "other", "--json"]).ok().json();
    assert_eq!((&verified["ok"], &verified["refreshed"]), (&json!(true), &json!(true)));
    let changed: Vec<_> =
        verified["changed"].as_array().unwrap().iter().map(|it| it["what"].clone()).collect();
    for what in ["context_length", "title", "inode"] {
        assert!(changed.contains(&json!(what)), "{what}: {verified}");
    }
    let refreshed = home.cli(["model", "show", "other", "--json"]).ok().json();
    assert_eq!(
        (&refreshed["file_state"], &refreshed["file"]["title"]),
        (&json!("present"), &json!("Fresh"))
    );
    assert_eq!(home.cli(["model", "verify", "other"]).ok().lines(), ["other is good"]);

    let missing = home.cli(["model", "verify", "gone"]).code(3);
    assert!(missing.stderr().contains("gone: ") && missing.stderr().contains("no such file"));
    let short = home.cli(["model", "verify", "cut", "--json"]).code(5);
    assert_eq!(short.json()["problems"][0]["kind"], "gguf_truncated");
    assert_eq!(short.json()["refreshed"], false, "what was known of it stays");
    let all = home.cli(["model", "verify", "--all", "-q"]).code(5);
    assert_eq!(all.lines(), ["other", "sound"]);

    let start = home.cli(["start", "gone"]).code(8);
    assert!(start.stderr().contains("gone.gguf"), "{}", start.stderr());
}

#[test]
fn a_stream_of_items_that_ends_with_what_it_came_to() {
    let home = Home::new();
    put(&home, TestModel::Tiny, "models/a.gguf");
    let _daemon = home.daemon();
    let params = json!({ "directories": [home.path().join("models")] });
    let items = home.follow("scan.follow", params).to_end();
    assert_eq!(
        (&items[0]["kind"], &items[0]["data"]["what"]),
        (&json!("snapshot"), &json!("progress"))
    );
    let last = items.len() - 1;
    assert_eq!(items[last]["data"]["reason"], "done");
    assert_eq!(items[last - 1]["data"]["what"], "done");
    assert!(items.iter().any(|item| item["data"]["name"] == "a"), "{items:?}");
    let relative = json!({ "directories": ["models"] });
    let refusal = home.connect().expect_refusal("scan.follow", relative, "invalid_value");
    assert!(refusal.message.contains("absolute"), "{refusal:?}");
}

/// The commands of the README's section for beginners.
fn first_five_minutes() -> String {
    let readme = fs::read_to_string(artifacts::checkout().join("README.md")).unwrap();
    let (_, section) = readme.split_once("## The first five minutes\n").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_first_five_minutes_of_the_readme() {
    need!("bash", "curl", "jq");
    let home = Home::new().with_autostart();
    put(&home, TestModel::Tiny, "models/tiny-llama.gguf");
    hub_file(&home, "acme--Tiny-GGUF", "Tiny-Q8_0.gguf", "aa11", TestModel::NeverStop);
    let path = format!("{}:{}", artifacts::profile_dir().display(), skip::PATH);
    let commands = first_five_minutes();
    let output = home
        .program("/usr/bin/env", ["bash", "-euo", "pipefail", "-c", &commands])
        .env("PATH", path)
        .run()
        .ok();
    let stdout = output.stdout();
    let (told, answer) = stdout.split_at(stdout.find('{').unwrap());
    assert!(told.contains("tiny-llama ready at http://127.0.0.1:"), "{told}");
    assert!(told.contains("acme/Tiny-GGUF:Q8_0"), "the cache is looked through too: {told}");
    let answer: Value = serde_json::from_str(answer).unwrap();
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!said.is_empty(), "{answer}");
}
