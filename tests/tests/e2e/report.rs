//! `llamactl daemon report`: what somebody who mends a fault needs, and no secret.

use llamactl_tests::Home;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// Each lies where it could come from.
const SECRETS: [&str; 9] = [
    "sk-kept-under-a-key-1",
    "kept-in-a-variable-2",
    "plain-in-a-variable-3",
    "of-a-runtime-4",
    "of-the-defaults-5",
    "said-by-a-server-6",
    "hf_saidByAServer777",
    "said-to-a-model-8",
    "in-an-address-9",
];

#[test]
fn a_report_tells_what_runs_and_no_secret() {
    let home = Home::with_fake_llama_server();
    let _ = home.cli(["daemon", "start"]).ok();
    let [key, token, plain, runtime, defaults, named, shaped, prompt, address] = SECRETS;
    home.fake_model(
        "m",
        &json!({ "stderr": [
            format!("srv loading, MY_API_KEY={named} and {shaped}"),
            format!("srv log_server_r: request: {{\"prompt\": \"{prompt}\"}}"),
            format!("srv the key is {key}, proxy http://ana:{address}@host/"),
            "srv n_tokens = 512",
        ]}),
    );
    home.cli(["model", "set", "m", &format!("env.MINE={plain}")]).ok();
    for (setting, secret) in [("api-key=-", key), ("env.OTHER_TOKEN=-", token)] {
        home.llamactl(["model", "set", "m", setting]).stdin(secret).run().ok();
    }
    home.cli(["defaults", "set", &format!("env.OTHER={defaults}")]).ok();
    let fake = llamactl_tests::artifacts::fake_llama_server();
    let fake = fake.to_str().unwrap();
    home.cli(["runtime", "add", fake, "--name", "own", &format!("env.OF_RUNTIME={runtime}")]).ok();
    home.cli(["start", "m"]).ok();

    let file = home.path().join("report.txt");
    let path = file.to_str().unwrap();
    let said = home.cli(["daemon", "report", "--sums", "-o", path]).ok().stderr();
    assert!(said.contains("before you send it"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    home.cli(["daemon", "report", "-o", path]).code(5);
    let text = fs::read_to_string(&file).unwrap();
    let json = home.cli(["--json", "daemon", "report"]).ok();
    for secret in SECRETS {
        assert!(!text.contains(secret) && !json.stdout().contains(secret), "{secret} in {text}");
    }
    assert!(!text.contains(home.path().to_str().unwrap()), "{text}");
    for told in [
        "== doctor",
        "== what runs",
        "file_sha256",
        "== log of m",
        "n_tokens = 512",
        "[a line that may hold a prompt]",
        "MY_API_KEY=[hidden]",
        "== log of the daemon",
        "server.ready",
        "\"max_loading\": 2",
    ] {
        assert!(text.contains(told), "no {told} in {text}");
    }
    let what = &json.json()["what runs"][0];
    assert_eq!((&what["model"], what["build_sha256"].as_str().unwrap().len()), (&json!("m"), 64));
    assert!(what["command_line"].as_array().unwrap().iter().any(|it| it == "--model"), "{what}");

    home.cli(["daemon", "stop"]).ok();
    let text = home.cli(["daemon", "report"]).ok().stdout();
    assert!(text.contains("no daemon runs: models, servers") && text.contains("stopped"), "{text}");
    assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{text}");
}
