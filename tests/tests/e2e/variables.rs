//! Variables of a server's environment: what loads code is refused on every way in, and what looks
//! like a secret in clear is said.

use llamactl_tests::{Home, TestModel, artifacts};
use serde_json::{Value, json};

/// Some of what each loader reads.
const LOAD_CODE: &[&str] = &[
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "GCONV_PATH",
    "GGML_BACKEND_PATH",
    "CUDA_INJECTION64_PATH",
    "NCCL_NET_PLUGIN",
    "VK_LAYER_PATH",
    "VK_ADD_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "HSA_TOOLS_LIB",
    "ROCP_TOOL_LIBRARIES",
    "OCL_ICD_VENDORS",
    "UR_ADAPTERS_FORCE_LOAD",
    "OMP_TOOL_LIBRARIES",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "PATH",
    "BASH_ENV",
    "PYTHONPATH",
    "PERL5LIB",
];

#[test]
fn what_loads_code_is_refused_on_every_way_in() {
    let (home, _daemon) = Home::with_tiny();
    let build = artifacts::fake_llama_server();
    home.call("runtime.add", json!({ "path": build, "name": "b1" }));
    let model = home.model(TestModel::Split);
    let mut rpc = home.connect();
    let import = |text: String| json!({ "source": { "text": text } });
    for name in LOAD_CODE {
        let key = format!("env.{name}");
        let set = json!({ &key: "/tmp/evil" });
        let document = |body: String| import(format!("{body}\n"));
        let of_runtimes = [
            ("runtime.set", json!({ "name": "b1", "set": set })),
            (
                "runtime.add",
                json!({ "path": build, "name": "b2", "environment": { *name: "/tmp/evil" } }),
            ),
            (
                "model.import",
                document(format!("[runtimes.b3]\npath = {build:?}\nenv = {{ {name} = \"/e\" }}")),
            ),
        ];
        // A runtime may have this one, of directories that it would trust: see `libraries`.
        let of_runtimes = of_runtimes.into_iter().filter(|_| *name != "LD_LIBRARY_PATH");
        let of_others = [
            ("model.set", json!({ "model": "tiny", "set": set })),
            ("model.add", json!({ "path": model, "settings": set })),
            ("defaults.set", json!({ "set": set })),
            ("server.start", json!({ "model": "tiny", "set": set })),
            ("model.import", document(format!("[defaults]\n\"{key}\" = \"/tmp/evil\""))),
            (
                "model.import",
                document(format!(
                    "[models.x]\npath = {model:?}\nsettings = {{ \"{key}\" = \"/e\" }}"
                )),
            ),
        ];
        for (method, params) in of_others.into_iter().chain(of_runtimes) {
            let refused = rpc.try_call(method, params).unwrap_err();
            assert_eq!(refused.kind, "option_refused", "{method} {name}: {refused:?}");
            let hint = refused.data["hint"].as_str().unwrap_or_default();
            assert!(hint.contains("would load code"), "{method} {name}: {refused:?}");
        }
        let line = format!("{name}=/tmp/evil A=1 llama-server -m {} -c 512", model.display());
        let taken =
            rpc.call("model.import", json!({ "source": { "text": line }, "dry_run": true }));
        assert!(taken["left_out"].to_string().contains(name), "{taken}");
        assert!(!taken["items"].to_string().contains(name), "{taken}");
    }
    assert_eq!(home.call("model.show", json!({ "model": "tiny" }))["settings"], json!({}));
    assert_eq!(home.call("model.list", json!({}))["items"].as_array().unwrap().len(), 1);
}

#[test]
fn what_a_version_before_took_is_not_started_and_can_be_taken_back() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["model", "set", "m", "env.OF_MODEL=1"]).ok();
    home.cli(["runtime", "add", artifacts::fake_llama_server().to_str().unwrap(), "--name", "b1"])
        .ok();
    home.cli(["runtime", "set", "b1", "env.OF_RUNTIME=1"]).ok();
    assert!(daemon.terminate().success());
    home.change_registry("UPDATE model_settings SET key = 'env.VK_LAYER_PATH'");
    home.change_registry("UPDATE named_runtimes SET environment = '{\"OPENSSL_CONF\":\"/e\"}'");
    daemon.start_again();
    let refused = home.cli(["--json", "start", "m"]).failure();
    assert_eq!(refused["message"], "env.VK_LAYER_PATH cannot be set", "{refused}");
    home.cli(["model", "unset", "m", "env.VK_LAYER_PATH"]).ok();
    home.cli(["model", "set", "m", "runtime=b1"]).ok();
    let refused = home.cli(["--json", "start", "m"]).failure();
    assert_eq!(refused["message"], "env.OPENSSL_CONF cannot be set", "{refused}");
    let back = json!(["llamactl", "runtime", "unset", "b1", "env.OPENSSL_CONF"]);
    assert!(refused["commands"].as_array().unwrap().contains(&back), "{refused}");
    home.cli(["runtime", "unset", "b1", "env.OPENSSL_CONF"]).ok();
    home.cli(["start", "m"]).ok();
}

#[test]
fn what_looks_like_a_secret_in_clear_is_said() {
    let (home, _daemon) = Home::with_tiny();
    let build = artifacts::fake_llama_server();
    let model = home.model(TestModel::Split);
    let is_said = |answer: &Value| {
        let notes = answer.to_string();
        assert!(notes.contains("its name says that it is a secret"), "{answer}");
        assert!(!notes.contains("says that it is a secret: env.X_LIMIT"), "{answer}");
    };
    let set = json!({ "env.MY_API_KEY": "in-clear", "env.X_LIMIT": "1" });
    is_said(&home.call("model.set", json!({ "model": "tiny", "set": set })));
    is_said(&home.call("defaults.set", json!({ "set": { "env.X_TOKEN": "in-clear" } })));
    let environment = json!({ "DB_PASSWORD": "in-clear" });
    let add = json!({ "path": build, "name": "b1", "environment": environment });
    is_said(&home.call("runtime.add", add));
    is_said(&home.call("runtime.set", json!({ "name": "b1", "set": { "env.A_SECRET": "1" } })));
    let line = format!("OPENAI_API_KEY=in-clear llama-server -m {}", model.display());
    // Of a pasted line it is kept apart.
    let imported = home.call("model.import", json!({ "source": { "text": line } }));
    assert!(!imported.to_string().contains("in-clear"), "{imported}");
    let model_of_it = home.call("model.show", json!({ "model": "split" }));
    assert_eq!(model_of_it["settings"]["env.OPENAI_API_KEY"], json!({ "secret": "kept" }));
    let document =
        format!("[models.y]\npath = {model:?}\nsettings = {{ \"env.K_KEY\" = \"1\" }}\n");
    is_said(&home.call("model.import", json!({ "source": { "text": document } })));
    // Kept apart there is nothing to say.
    let set = json!({ "env.MY_API_KEY": { "secret_text": "apart" } });
    let changed = home.call("model.set", json!({ "model": "tiny", "set": set }));
    assert!(!changed.to_string().contains("says that it is a secret"), "{changed}");
}
