//! Libraries that others could put beside a llama-server are never loaded.

use llamactl_tests::user::{NOBODY, act_as};
use llamactl_tests::{Home, TestModel, llama, need};
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the real llama-server in `DIR/bin`, and a library that says so when it is loaded.
struct Planting {
    home: Home,
    bin: PathBuf,
    planted: PathBuf,
    told: PathBuf,
}

/// A library of this name is looked for by every llama-server, and no test's has one.
const PLANTED: &str = "libggml-cuda.so";

impl Planting {
    fn new() -> Planting {
        let home = Home::without_llama_server();
        let bin = home.path().join("build/bin");
        fs::create_dir_all(&bin).unwrap();
        for file in fs::read_dir(llama::real().parent().unwrap()).unwrap() {
            let file = file.unwrap();
            // On one file system nothing needs to be copied.
            let to = bin.join(file.file_name());
            fs::hard_link(file.path(), &to)
                .or_else(|_| fs::copy(file.path(), &to).map(drop))
                .unwrap();
        }
        let told = home.path().join("told");
        let source = home.path().join("planted.c");
        let code = format!(
            "#include <stdio.h>\n\
             __attribute__((constructor)) static void told(void) {{\n\
             FILE *file = fopen(\"{}\", \"a\"); if (file) fclose(file); }}\n",
            told.display()
        );
        fs::write(&source, code).unwrap();
        let planted = home.path().join("planted.so");
        let mut cc = Command::new("cc");
        let built = cc.args(["-shared", "-fPIC", "-o"]).args([&planted, &source]).status();
        assert!(built.unwrap().success());
        mode(&planted, 0o755);
        Planting { home, bin, planted, told }
    }

    fn executable(&self) -> PathBuf {
        self.bin.join("llama-server")
    }

    /// Puts the library there as another user.
    fn plant(&self) {
        let (from, to) = (self.planted.clone(), self.bin.join(PLANTED));
        act_as(NOBODY, move || fs::copy(from, to)).unwrap();
    }

    fn add(&self) -> llamactl_tests::Output {
        let executable = self.executable();
        self.home.cli(["--json", "runtime", "add", executable.to_str().unwrap(), "--name", "b1"])
    }

    fn is_refused(&self, output: &llamactl_tests::Output, says: &str) {
        let failure = output.failure();
        assert!(failure["message"].as_str().unwrap().contains(says), "{failure}");
        assert!(!failure["hint"].as_str().unwrap_or_default().is_empty(), "{failure}");
        assert!(!self.told.exists(), "the library was loaded");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

type Spoil = fn(&Planting);

/// How another user comes to have a library beside a llama-server, and what is said of it.
const WAYS: [(Spoil, &str); 4] = [
    (
        |planting| {
            mode(&planting.bin, 0o1777);
            planting.plant();
        },
        "build/bin can be written by everybody",
    ),
    (
        |planting| {
            chown(&planting.bin, Some(NOBODY), None).unwrap();
            planting.plant();
        },
        "build/bin belongs to the user 65534",
    ),
    (
        |planting| {
            chown(&planting.bin, None, Some(NOBODY)).unwrap();
            mode(&planting.bin, 0o775);
            planting.plant();
        },
        "build/bin can be written by its group",
    ),
    (
        |planting| {
            let there = planting.bin.join(PLANTED);
            fs::copy(&planting.planted, &there).unwrap();
            chown(&there, Some(NOBODY), None).unwrap();
            mode(&there, 0o666);
        },
        "libggml-cuda.so belongs to the user 65534",
    ),
];

#[test]
fn a_library_of_ones_own_is_loaded_so_the_planted_one_would_be() {
    need!("root", "cc");
    let planting = Planting::new();
    let _daemon = planting.home.daemon();
    fs::copy(&planting.planted, planting.bin.join(PLANTED)).unwrap();
    planting.add().ok();
    assert!(planting.told.exists());
}

#[test]
fn a_library_that_others_planted_is_not_loaded_when_its_build_is_added() {
    need!("root", "cc");
    for (spoil, says) in WAYS {
        let planting = Planting::new();
        let _daemon = planting.home.daemon();
        spoil(&planting);
        let refused = planting.add();
        assert!(!refused.status.success(), "{says}");
        planting.is_refused(&refused, says);
    }
}

#[test]
fn a_library_that_others_planted_later_is_not_loaded_at_a_start() {
    need!("root", "cc");
    for (spoil, says) in WAYS {
        let planting = Planting::new();
        let home = &planting.home;
        let _daemon = home.daemon();
        planting.add().ok();
        home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
        home.cli(["model", "set", "tiny", "runtime=b1"]).ok();
        spoil(&planting);
        let refused = home.cli(["--json", "start", "tiny"]);
        assert!(!refused.status.success(), "{says}");
        planting.is_refused(&refused, says);
        let failed = home.call("server.show", json!({ "model": "tiny" }));
        assert_eq!(failed["state"], "failed", "{failed}");
        // Nor by anything that only looks.
        home.cli(["runtime", "list"]).ok();
        let _ = home.cli(["runtime", "refresh"]);
        assert!(!planting.told.exists(), "{says}");
    }
}

#[test]
fn a_directory_above_that_others_can_rename_in_is_refused() {
    need!("root", "cc");
    let planting = Planting::new();
    let _daemon = planting.home.daemon();
    mode(&planting.home.path().join("build"), 0o777);
    planting.is_refused(&planting.add().code(5), "/build can be written by everybody");
    // As in /tmp: nobody renames what is another's.
    mode(&planting.home.path().join("build"), 0o1777);
    planting.add().ok();
}

#[test]
fn what_is_found_on_the_path_is_held_to_the_same() {
    need!("root", "cc");
    let planting = Planting::new();
    let path = format!("{}:{}", planting.bin.display(), llamactl_tests::skip::PATH);
    let command = planting.home.llamactld(std::iter::empty::<&str>()).env("PATH", path);
    let _daemon = planting.home.daemon_by(command);
    mode(&planting.bin, 0o1777);
    planting.plant();
    let model = planting.home.model(TestModel::Tiny);
    planting.home.cli(["model", "add", model.to_str().unwrap()]).ok();
    let refused = planting.home.cli(["--json", "start", "tiny"]);
    planting.is_refused(&refused, "build/bin can be written by everybody");
}

/// A build one of whose libraries lies elsewhere, as those of CUDA do.
fn with_a_library_elsewhere() -> (Home, PathBuf, PathBuf) {
    let home = Home::without_llama_server();
    let (bin, lib) = (home.path().join("build/bin"), home.path().join("cuda/lib64"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&lib).unwrap();
    for file in fs::read_dir(llama::real().parent().unwrap()).unwrap() {
        let file = file.unwrap();
        let is_elsewhere = file.file_name().to_str().unwrap().starts_with("libmtmd");
        let to = if is_elsewhere { &lib } else { &bin }.join(file.file_name());
        fs::hard_link(file.path(), &to).or_else(|_| fs::copy(file.path(), &to).map(drop)).unwrap();
    }
    (home, bin.join("llama-server"), lib)
}

#[test]
fn a_runtime_says_where_libraries_are() {
    let (home, build, lib) = with_a_library_elsewhere();
    let _daemon = home.daemon();
    home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
    let build = build.to_str().unwrap();
    let add = |more: &[&str]| {
        let words = ["--json", "runtime", "add", build, "--name", "b1"];
        home.cli(words.iter().chain(more))
    };
    let lacking = add(&[]).code(5).failure();
    assert!(lacking["message"].as_str().unwrap().contains("libmtmd.so"), "{lacking}");
    let cure = json!([["llamactl", "runtime", "add", build, "env.LD_LIBRARY_PATH=DIR"]]);
    assert_eq!(lacking["commands"], cure, "{lacking}");

    let there = format!("env.LD_LIBRARY_PATH={}", lib.display());
    add(&[&there]).ok();
    // The same file without them is another matter.
    let other = home.cli(["--json", "runtime", "add", build, "--name", "b2"]).code(5).failure();
    assert!(other["message"].as_str().unwrap().contains("libmtmd.so"), "{other}");
    home.cli(["model", "set", "tiny", "runtime=b1"]).ok();
    home.cli(["start", "tiny"]).ok();
    home.cli(["stop", "tiny"]).ok();
    // Taken out and put back, and nothing else where it is.
    home.cli(["runtime", "unset", "b1", "env.LD_LIBRARY_PATH"]).ok();
    let nowhere = home.path().display();
    let nowhere = ["runtime", "set", "b1", &format!("env.LD_LIBRARY_PATH={nowhere}/models")];
    let refused = home.cli(["--json"].iter().chain(&nowhere)).code(5).failure();
    assert!(refused["message"].as_str().unwrap().contains("libmtmd.so"), "{refused}");
    home.cli(["runtime", "set", "b1", &there]).ok();
    home.cli(["start", "tiny"]).ok();
    home.cli(["stop", "tiny"]).ok();
    // A model has none, and is told who has.
    let refused = home.cli(["--json", "model", "set", "tiny", &there]).code(5).failure();
    assert!(refused["commands"][0][1] == "runtime", "{refused}");
    // One that finds a library no more is told so, and shown so.
    fs::rename(&lib, lib.with_file_name("moved")).unwrap();
    fs::create_dir(&lib).unwrap();
    let lacking = home.cli(["--json", "runtime", "refresh", "b1"]).code(5).failure();
    let cure = json!([["llamactl", "runtime", "set", "b1", "env.LD_LIBRARY_PATH=DIR"]]);
    assert_eq!(lacking["commands"], cure, "{lacking}");
    let list = home.cli(["--json", "runtime", "list"]).ok().json_lines();
    assert!(list[1]["problem"]["message"].as_str().unwrap().contains("libmtmd.so"), "{list:?}");
    // Before there is a process, or by what it said.
    let failed = home.cli(["--json", "start", "tiny"]).failure().to_string();
    for says in ["libmtmd.so", "env.LD_LIBRARY_PATH=DIR"] {
        assert!(failed.contains(says), "{failed}");
    }
}

#[test]
fn a_directory_of_libraries_that_others_can_write_is_refused() {
    let (home, build, lib) = with_a_library_elsewhere();
    let _daemon = home.daemon();
    home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
    let there = format!("env.LD_LIBRARY_PATH={}", lib.display());
    let add = ["--json", "runtime", "add", build.to_str().unwrap(), "--name", "b1", &there];
    mode(&lib, 0o777);
    let refused = home.cli(add).code(5).failure();
    let says = |failure: &serde_json::Value, what: &str| {
        assert!(failure["message"].as_str().unwrap().ends_with(what), "{failure}");
    };
    says(&refused, "cuda/lib64 can be written by everybody");
    mode(&lib, 0o755);
    home.cli(add).ok();
    home.cli(["model", "set", "tiny", "runtime=b1"]).ok();
    mode(lib.parent().unwrap(), 0o777);
    let refused = home.cli(["--json", "start", "tiny"]).code(5).failure();
    says(&refused, "cuda can be written by everybody");
    let refused = home.cli(["--json", "runtime", "set", "b1", &format!("{there}:/tmp")]);
    says(&refused.code(5).failure(), "cuda can be written by everybody");
    mode(lib.parent().unwrap(), 0o755);
    let refused = home.cli(["--json", "runtime", "set", "b1", &format!("{there}:/tmp")]);
    says(&refused.code(5).failure(), "/tmp can be written by everybody");
    let refused = home.cli(["--json", "runtime", "set", "b1", "env.LD_LIBRARY_PATH=lib"]);
    says(&refused.code(5).failure(), "takes absolute directories with colons between them");
}
