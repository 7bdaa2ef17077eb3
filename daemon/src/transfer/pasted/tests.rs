use super::*;
use llamactl_protocol::exchange::ImportFormat;
use proptest::prelude::*;
use serde_json::json;

fn spec(line: &str) -> ImportSpec {
    read(line, None, Path::new("/w"), Some(Path::new("/home/me")))
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn settings(spec: &ImportSpec) -> serde_json::Value {
    let given = &spec.models[0].settings.as_ref().unwrap().given;
    given.iter().map(|(key, given)| (key.clone(), given.value.clone())).collect()
}

fn left_out(spec: &ImportSpec) -> Vec<&str> {
    spec.left_out.list().iter().map(|it| it.what.as_str()).collect()
}

#[test]
fn a_line_from_a_script() {
    let spec = spec(
        "CUDA_VISIBLE_DEVICES=1 LLAMA_ARG_CTX_SIZE=8192 LLAMA_ARG_NO_MMAP=1 nohup \\\n  \
         ./build/bin/llama-server -m ~/m/x-00001-of-00003.gguf \\\n -ngl 99 --no-jinja \
         --host 0.0.0.0 --port 8080 --api-key s3cret --nope 1 > log.txt 2>&1 &\n",
    );
    let model = &spec.models[0];
    assert_eq!(model.name, "x");
    assert_eq!(model.path, Some(WirePath::from("/home/me/m/x-00001-of-00003.gguf")));
    assert_eq!(
        settings(&spec),
        json!({
            "ctx-size": 8192, "mmap": false, "gpu-layers": 99, "jinja": false,
            "env.CUDA_VISIBLE_DEVICES": "1",
        })
    );
    assert_eq!(left_out(&spec), ["> log.txt", "2>&1", "--host", "--port", "--api-key", "--nope"]);
    assert!(!format!("{spec:?}").contains("s3cret"));
}

#[test]
fn programs_that_run_it_are_stepped_over() {
    for line in [
        "sudo -u llama env X=1 /opt/llama-server -m /x.gguf -a n,o",
        "exec env -u Y X=1 llama-server -m /x.gguf --alias n,o",
        "X=1 taskset -c 0-3 nice -n 5 llama-server --alias=n,o --model=/x.gguf",
        "ExecStart=/usr/bin/env X=1 llama-server -m /x.gguf -a n,o",
        "cd /tmp && X=1 ./server -m /x.gguf -a n,o; echo done",
        "X=1 ./my-llama -m /x.gguf -a n,o",
    ] {
        let spec = spec(line);
        let model = &spec.models[0];
        assert_eq!((model.name.as_str(), &model.aliases), ("n", &Some(vec!["o".to_owned()])));
        assert_eq!(settings(&spec), json!({ "env.X": "1" }), "{line}");
    }
}

/// A line, the settings that come of it, and what is left out.
fn taken(line: &str, expected: serde_json::Value, omissions: &[&str]) -> ImportSpec {
    let spec = spec(line);
    assert_eq!(settings(&spec), expected, "{line}");
    assert_eq!(left_out(&spec), omissions, "{line}");
    spec
}

#[test]
fn the_arguments_begin_behind_the_llama_server() {
    for (line, omissions) in [
        ("srun -p gpu -c 8 llama-server -m /x.gguf -t 8", ["srun"].as_slice()),
        ("conda run -n 512 llama-server -m /x.gguf -t 8", &["conda"]),
        ("numactl -C 0-7 -m 0 llama-server -m /x.gguf -t 8", &["numactl"]),
        ("timeout 10 /opt/llama-server -m /x.gguf -t 8", &["timeout"]),
        ("llama serve -m /x.gguf -t 8", &[]),
        ("systemd-run --unit llama-server llama-server -m /x.gguf -t 8", &["systemd-run"]),
        ("bash -lc 'cd /m && exec llama-server -m /x.gguf -t 8'", &["bash"]),
        ("tmux new -d \"llama-server -m /x.gguf -t 8\"", &["tmux"]),
        ("ssh h \"bash -c 'llama-server -m /x.gguf -t 8'\"", &["ssh", "bash"]),
    ] {
        let spec = taken(line, json!({ "threads": 8 }), omissions);
        assert_eq!(spec.models[0].path, Some(WirePath::from("/x.gguf")), "{line}");
    }
}

#[test]
fn what_is_for_a_container_is_not_for_the_server() {
    let spec = taken(
        "docker run --rm -it --gpus all -v /m:/models -e LLAMA_ARG_CTX_SIZE=4096 -e X=1 \
         -p 8080:8080 --name llama-server ghcr.io/ggml-org/llama.cpp:server-cuda \
         -m /models/a/y.gguf --lora=/models/l.gguf -ngl 99",
        json!({ "ctx-size": 4096, "env.X": "1", "lora": ["/m/l.gguf"], "gpu-layers": 99 }),
        &["docker", "--gpus all", "-p 8080:8080"],
    );
    assert_eq!(spec.models[0].path, Some(WirePath::from("/m/a/y.gguf")));
    let spec = taken(
        "podman run --mount type=bind,src=/m,dst=/models -v cache:/c image --server -m /models/y",
        json!({}),
        &["podman", "the volume cache:/c"],
    );
    assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y")));
}

#[test]
fn a_script_knows_what_it_sets() {
    let spec = taken(
        "#!/bin/bash\nset -e\nMODEL=/m/y.gguf\nCTX=4096 ARGS=\"-ngl 99 -fa\"\n\
         MORE=(--temp 0.5 -r 'a b')\nexport CUDA_VISIBLE_DEVICES=1 OTHER=$CTX\n\
         exec ./llama-server -m \"$MODEL\" -c ${CTX} -t ${THREADS:-4} $ARGS \"${MORE[@]}\" \
         --top-k $K \"$@\"",
        json!({
            "ctx-size": 4096, "threads": 4, "gpu-layers": 99, "flash-attn": "on", "temp": 0.5,
            "reverse-prompt": ["a b"], "env.CUDA_VISIBLE_DEVICES": "1", "env.OTHER": "4096",
        }),
        &["the command set …", "--top-k $K", "$@"],
    );
    assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")));
    let spec = super::read("llama-server -m $MODEL -c 5", None, Path::new("/"), None);
    let failure = spec.unwrap_err();
    assert!(failure.hints.lines().any(|it| it.contains("$MODEL")), "{failure:?}");
}

#[test]
fn variables_may_say_all() {
    let spec =
        spec("LLAMA_ARG_MODEL=/m/y.gguf LLAMA_ARG_ALIAS=n LLAMA_ARG_N_GPU_LAYERS=-1 llama-server");
    assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")));
    assert_eq!(
        (spec.models[0].name.as_str(), settings(&spec)),
        ("n", json!({ "gpu-layers": "auto" }))
    );
}

#[test]
fn a_variable_whose_name_says_that_it_is_a_secret_is_kept_as_one() {
    let spec = spec("OPENAI_API_KEY=s3cret llama-server -m /m/y.gguf");
    assert_eq!(settings(&spec), json!({ "env.OPENAI_API_KEY": secret::given("s3cret") }));
    let spec = super::tests::spec("LLAMA_API_KEY=s3cret llama-server -m /m/y.gguf");
    assert_eq!(settings(&spec), json!({ "api-key": secret::given("s3cret") }));
}

#[test]
fn a_script_is_read_as_its_shell_would() {
    for line in [
        // Defaults in defaults, what is added to a list, and what a shell's language is made of.
        "M=${MODELS:-${DIR:=/m}}/y.gguf\nARGS=(-m \"$M\" `# why`)\nARGS+=(-c 4096)\n\
         if true; then\n  exec \"${LLAMA:-llama-server}\" \"${ARGS[@]}\"\nfi\n",
        "serve() {\n  local m=/m/y.gguf\n  X=\"-m $m\"\n  X+=\" -c 4096\"\n  llama-server $X\n}",
        "while true; do llama-server -m /m/y.gguf -c 4096; done",
        "alias qwen='llama-server -m /m/y.gguf -c 4096'",
        "cd /m && ./llama-server -m y.gguf -c 4096",
        "set -x CTX 4096\nset m /m/y.gguf\nllama-server -m $m -c $CTX",
        "declare -r m=/m/y.gguf\nllama-server -m $m \\ \n -c 4096 \\",
        // As a page or a terminal shows it.
        "```bash\nme@box:~/llama.cpp$ ./llama-server -m /m/y.gguf \\\n> -c 4096\n```",
        "llama-server –m “/m/y.gguf” —ctx-size 4096",
        "llama-server -m=/m/y.gguf -c=4096 --",
        // Nothing but variables, as a container is given them.
        "LLAMA_ARG_MODEL=/m/y.gguf\nLLAMA_ARG_CTX_SIZE=4096\n",
    ] {
        let spec = spec(line);
        let mut said = settings(&spec);
        said.as_object_mut().unwrap().remove("env.CTX");
        assert_eq!(said, json!({ "ctx-size": 4096 }), "{line}");
        assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")), "{line}");
    }
    // An endless nest is no reason to end.
    let nest = format!("llama-server -m {}", "${a:-".repeat(100_000));
    assert!(read(&nest, None, Path::new("/w"), None).is_err());
}

#[test]
fn each_llama_server_of_a_script_is_a_model() {
    let spec = taken(
        "llama-server -m /m/x.gguf -c 5 &\nllama-server -c 6 &\nllama-server -m /m/y.gguf -c 7\nwait",
        json!({ "ctx-size": 5 }),
        &["the command wait …", "a command of several"],
    );
    let names: Vec<&str> = spec.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["x", "y"]);
}

#[test]
fn what_windows_shells_set_and_where_their_paths_lead() {
    for line in [
        "@echo off\r\nset CUDA_VISIBLE_DEVICES=0\r\nset NGL=9\r\n.\\llama-server.exe -m .\\y.gguf ^\r\n -ngl %NGL%",
        "PS C:\\llama> $env:CUDA_VISIBLE_DEVICES = \"0\"\n$ngl = 9\n.\\llama-server.exe `\n -m .\\y.gguf `\n -ngl $ngl",
    ] {
        let spec = spec(line);
        let given = settings(&spec);
        assert_eq!(
            (&given["gpu-layers"], &given["env.CUDA_VISIBLE_DEVICES"]),
            (&json!(9), &json!("0"))
        );
        assert_eq!(spec.models[0].path, Some(WirePath::from("/w/y.gguf")), "{line}");
    }
    assert_eq!(spec(r"C:\llama>llama-server.exe -m C:\m\y.gguf").models[0].name, "y");
}

#[test]
fn what_runners_give_is_taken() {
    for line in [
        "systemd-run --user -p MemoryMax=3G -E A=1 --setenv=B=2,3 llama-server -m /m/y.gguf",
        "srun --export=ALL,A=1 env B=2,3 llama-server -m /m/y.gguf",
        "docker run -v /m:/models -e A=1 -e B=2,3 -e LLAMA_ARG_MODEL=/models/y.gguf i",
        "apptainer exec --nv -B /m:/models --env A=1 --env B=2,3 x.sif llama-server -m /models/y.gguf",
        "[Container]\nImage=i\nVolume=/m:/models:ro\nEnvironment=A=1 B=2,3\nExec=-m /models/y.gguf\n",
        "[program:llm]\ncommand=llama-server -m /m/y.gguf\nenvironment=A=\"1\"\nenvironment=B='2;3'\n",
        "[Service]\nEnvironment=A=1 B=2,3\nExecStart=/bin/sh -c 'cd /m && llama-server \\\n# why\n -m y.gguf'",
    ] {
        let spec = spec(line);
        let given = settings(&spec).to_string().replace("2;3", "2,3");
        assert_eq!(given, r#"{"env.A":"1","env.B":"2,3"}"#, "{line}");
        assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")), "{line}");
    }
    let of_pod = spec("kubectl run llm --image=ghcr.io/ggml-org/llama.cpp:server -- -m /m/y.gguf");
    assert_eq!(left_out(&of_pod), ["kubectl"]);
}

#[test]
fn lines_go_on_as_their_shells_have_it() {
    for line in [
        "llama-server\n  --model /m/y.gguf\n  --ctx-size 4096\n",
        "cmd: |\n  llama-server\n  --model /m/y.gguf\n  --ctx-size 4096\n",
        "command: >-\n  -m /m/y.gguf\n  -c 4096\n",
        "cmd: \"llama-server -m /m/y.gguf -c 4096\"",
        "llama-server `\n  -m /m/y.gguf `\r\n  -c 4096\r\n",
        "llama-server.exe ^\n -m /m/y.gguf ^\n -c 4096",
    ] {
        let spec = taken(line, json!({ "ctx-size": 4096 }), &[]);
        assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")), "{line}");
    }
    let spec = spec(r"C:\llama\llama-server.exe -m C:\models\y.gguf -c 5");
    assert!(spec.models[0].path.as_ref().unwrap().to_string().ends_with(r"C:\models\y.gguf"));
}

#[test]
fn a_unit_has_its_environment() {
    let spec = taken(
        "[Unit]\nDescription=x\n[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=1\n\
         Environment=\"LLAMA_ARG_CTX_SIZE=4096\" M=/m/y.gguf\nWorkingDirectory=/srv\n\
         ExecStart=-/usr/bin/llama-server -m ${M} --lora l.gguf --log-file %i.log \\\n  -ngl 99 \\\n \
         --slot-save-path %h/s --chat-template 100%%;x\nRestart=always\n[Install]\nWantedBy=x\n",
        json!({
            "ctx-size": 4096, "env.CUDA_VISIBLE_DEVICES": "1", "env.M": "/m/y.gguf",
            "lora": ["/srv/l.gguf"], "gpu-layers": 99, "slot-save-path": "/home/me/s",
            "chat-template": "100%;x",
        }),
        &["Restart=always", "--log-file %i.log"],
    );
    assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")));
}

#[test]
fn quotes_and_signs_are_the_shells() {
    let spec = spec(
        "llama-server -m 'a b.gguf' --grammar 'root ::= \"a\" | \"b\"' \
         --chat-template \"x;y & \\\"z\\\"\" -r a\\ b # a comment -c 5",
    );
    assert_eq!(spec.models[0].path, Some(WirePath::from("/w/a b.gguf")));
    assert_eq!(
        settings(&spec),
        json!({
            "grammar": "root ::= \"a\" | \"b\"", "chat-template": "x;y & \"z\"",
            "reverse-prompt": ["a b"],
        })
    );
}

#[test]
fn what_only_the_shell_knows_is_left_out() {
    let spec = spec("llama-server -m $HOME/x.gguf -c $CTX --temp 1 --grammar '$x'");
    assert_eq!(spec.models[0].path, Some(WirePath::from("/home/me/x.gguf")));
    assert_eq!(settings(&spec), json!({ "temp": 1.0, "grammar": "$x" }));
    assert_eq!(left_out(&spec), ["-c $CTX"]);
}

#[test]
fn what_is_no_such_line_is_said() {
    for line in ["", "llama-server", "llama-server -c 5", "echo hello", "llama-server -m 'x"] {
        let failure = read(line, None, Path::new("/w"), None).unwrap_err();
        assert_eq!(failure.kind, llamactl_protocol::Kind::Unreadable, "{line}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(line in "\\PC{0,80}") {
        let _ = read(&line, None, Path::new("/"), None);
    }

    #[test]
    fn nothing_that_looks_like_it_makes_it_panic(
        line in "([A-Z]{1,3}=|llama-server |-[mca] |--[a-z-]{1,9}[ =]|['\"\\\\$&;<>|~{}()]|[0-9a-z/]{1,4} |\n){0,20}",
    ) {
        let _ = read(&line, None, Path::new("/"), Some(Path::new("/h")));
    }
}

#[test]
fn what_tells_how_containers_run_is_read() {
    for text in [
        "services:\n  llm:\n    image: ghcr.io/ggml-org/llama.cpp:server\n    environment:\n      \
         LLAMA_ARG_MODEL: /models/y.gguf\n      LLAMA_ARG_CTX_SIZE: 4096\n    volumes:\n      - /m:/models:ro\n",
        "services:\n  db:\n    image: postgres\n  llm:\n    image: ghcr.io/ggml-org/llama.cpp:server\n    \
         environment: [LLAMA_ARG_CTX_SIZE=4096]\n    volumes:\n      - type: bind\n        source: /m\n        \
         target: /models\n    command: >\n      -m /models/y.gguf\n",
        "    command:\n      - -m\n      - /m/y.gguf\n      - --ctx-size\n      - \"4096\"\n",
        "args: [\"-m\", \"/m/y.gguf\", \"-c\", \"4096\"]",
        "[\"llama-server\", \"-m\", \"/m/y.gguf\", \"-c\", \"4096\"]",
        "spec:\n  containers:\n  - name: a\n    image: llama.cpp:server\n    args: [-m, /m/y.gguf]\n    env:\n    \
         - name: LLAMA_ARG_CTX_SIZE\n      value: \"4096\"\n",
        "macros:\n  bin: /opt/llama-server\nmodels:\n  y:\n    cmd: |\n      ${bin}\n      -m /m/y.gguf\n      \
         -c 4096 # why\n    ttl: 300\n",
        "FROM ghcr.io/ggml-org/llama.cpp:server\nENV LLAMA_ARG_CTX_SIZE 4096\nENTRYPOINT [\"/app/llama-server\"]\n\
         CMD [\"-m\", \"/m/y.gguf\"]\n",
        "x: &e {LLAMA_ARG_CTX_SIZE: 4096}\nservices:\n  y:\n    image: llama\n    environment: {<<: *e}\n    \
         command: -m /m/y.gguf\n",
    ] {
        assert_eq!(crate::transfer::format::of(text).unwrap(), ImportFormat::Command, "{text}");
        let spec = spec(text);
        assert_eq!(settings(&spec), json!({ "ctx-size": 4096 }), "{text}");
        assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")), "{text}");
        assert_eq!(spec.models[0].name, "y", "{text}");
    }
    let swap = "models:\n  a:\n    aliases: [b]\n    cmd: llama-server -m /m/x.gguf\n  c:\n    cmd: llama-server -m /m/y.gguf";
    let spec = spec(swap);
    let names: Vec<_> =
        spec.models.iter().map(|it| (it.name.as_str(), it.aliases.clone())).collect();
    assert_eq!(names, [("a", Some(vec!["b".to_owned()])), ("c", None)]);
    // What repeats itself without end is no such file.
    let mut bomb = "services:\n  a0: &a0 [x, x]\n".to_owned();
    (1..40).for_each(|n| bomb.push_str(&format!("  a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)));
    assert!(read(&bomb, None, Path::new("/w"), None).is_err());
}
