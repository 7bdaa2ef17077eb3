//! docs/scripting.md, block by block. A runner of our own, because the blocks need one daemon, its
//! servers and the files of the blocks before; trycmd runs each command in a world of its own.

use llamactl_tests::pages::{blocks, is_as_said};
use llamactl_tests::{Home, Invocation, TestModel, Tmux, artifacts, need, skip};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn every_block_about_scripting_does_what_the_page_says() {
    need!("bash", "jq", "nc", "curl", "xargs", "watch", "tmux");
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    for (name, file) in [("qwen3", "qwen3.gguf"), ("gemma3", "my gemma.gguf")] {
        let path = home.own_model(TestModel::Tiny, file);
        home.call("model.add", json!({ "path": path, "name": name }));
    }
    // Where the page says that llamactl is.
    let bin = home.path().join(".local/bin");
    fs::create_dir_all(&bin).unwrap();
    symlink(artifacts::llamactl(), bin.join("llamactl")).unwrap();
    symlink(artifacts::llamactld(), bin.join("llamactld")).unwrap();
    let path = format!("{}:{}", bin.display(), skip::PATH);
    let bash = |script: &str| -> Invocation {
        home.program("/bin/bash", ["-euc", script]).env("PATH", &path)
    };

    let page = blocks(&artifacts::checkout().join("docs/scripting.md"));
    let mut page = page.iter().peekable();
    let (mut scripts, mut wrong) = (0, Vec::new());
    while let Some(block) = page.next() {
        let said = page.next_if(|next| next.info == "text").map(|next| next.text.as_str());
        let at = format!("docs/scripting.md:{}", block.line);
        match block.info.as_str() {
            "sh" => {
                let printed = bash(&block.text).run().ok().stdout();
                if !is_as_said(&printed, said.unwrap_or_default()) {
                    wrong.push(format!("{at} printed\n{printed}"));
                }
                scripts += 1;
            }
            "sh endless" => {
                let tmux = Tmux::bash(&home, 120, 40);
                tmux.enter(block.text.trim());
                let said = said.unwrap();
                tmux.until(|screen| screen.lines().any(|line| is_as_said(line, said)));
                tmux.press(&["C-c"]);
            }
            "crontab" => by_cron(&home, &block.text, &at),
            other => panic!("{at}: who runs {other:?}?"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(scripts > 20, "{scripts}");
}

/// Runs the commands of a crontab as cron does: by sh, with hardly an environment.
fn by_cron(home: &Home, crontab: &str, at: &str) {
    let mut path = String::from("/usr/bin:/bin");
    for line in crontab.lines().filter(|line| !line.starts_with('#')) {
        if let Some(value) = line.strip_prefix("PATH=") {
            path = value.replace("/home/me", &home.path().display().to_string());
            continue;
        }
        let command = match line.strip_prefix("@reboot ") {
            Some(command) => command,
            None => line.splitn(6, ' ').last().unwrap(),
        };
        let sh = home.program("/bin/sh", ["-c", command]).env("PATH", &path);
        let output = sh.env("SHELL", "/bin/sh").env_remove("LLAMACTL_LLAMA_SERVER").run().ok();
        // What is printed becomes mail.
        assert_eq!((output.stdout(), output.stderr()), Default::default(), "{at}: {line}");
    }
}
