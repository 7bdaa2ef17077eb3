//! Another machine, by a real sshd.

use llamactl_tests::{Home, Remote, need};
use serde_json::json;

#[test]
fn a_try() {
    need!("sshd", "ssh");
    let remote = Remote::new(Home::with_fake_llama_server());
    let _daemon = remote.far.daemon();
    remote.far.fake_model("m", &json!({}));
    let out = remote.llamactl(["model", "list"]).run();
    eprintln!("{}{}", out.stdout(), out.stderr());
    let out = remote.llamactl(["run", "m", "hello"]).run();
    eprintln!("{}{}", out.stdout(), out.stderr());
    let out = remote.llamactl(["--json", "daemon", "stop"]).run();
    eprintln!("{}{}", out.stdout(), out.stderr());
    let out = remote.llamactl(["ps"]).run();
    eprintln!("{}{}", out.stdout(), out.stderr());
}
