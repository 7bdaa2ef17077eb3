//! What is printed fits where it is printed. The screens' own tests draw them at every width; here the real
//! program is told another width than its terminal has.

use llamactl_tests::Home;
use serde_json::json;

/// Tables, facts, sentences, pages, pictures and errors. `NAME` is the longest name there may be in a test.
const COMMANDS: &[&str] = &[
    "ps",
    "status",
    "status NAME",
    "status nobody",
    "why NAME",
    "stop NAME NAME",
    "model list",
    "model show NAME",
    "model show NAME --resolved",
    "model history NAME",
    "model verify NAME",
    "model remove NAME",
    "model set NAME ctx-size=many",
    "runtime list",
    "runtime show default",
    "defaults show",
    "events",
    "gpus",
    "metrics",
    "metrics series",
    "metrics host --since 1m",
    "metrics host.cpu_busy_ratio --since 1m --plot",
    "doctor",
    "daemon status",
    "version",
    "help",
    "help options",
    "help exit-codes",
    "help settings",
    "help settings memory",
    "help start",
    "start --help",
    "model set -h",
    "modle list",
];

#[test]
fn a_width_that_is_asked_for_is_kept_at_a_terminal_of_another() {
    let name = "a-model-with-a-name-that-goes-on-and-on-and-on";
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    home.fake_model(name, &json!({}));
    home.cli(["start", name]).ok();
    let mut wide = Vec::new();
    for (columns, command) in
        [60, 80, 120].into_iter().flat_map(|columns| COMMANDS.iter().map(move |it| (columns, it)))
    {
        let words = command.split(' ').map(|word| if word == "NAME" { name } else { word });
        let asked = home.llamactl(words).env("NO_COLOR", "1").env("COLUMNS", columns.to_string());
        let shown = asked.run_at_terminal(200).stdout();
        assert!(!shown.trim().is_empty(), "{command}");
        // A command is one line, however long: it is there to be copied.
        let is_command = |line: &str| {
            ["llamactl ", "curl ", "Usage: "].iter().any(|it| line.trim_start().starts_with(it))
        };
        let is_wide = |line: &&str| line.trim_end().chars().count() > columns && !is_command(line);
        // What stood there before was taken away.
        let lines = shown.lines().filter_map(|line| line.rsplit("\u{1b}[J").next());
        wide.extend(lines.filter(is_wide).map(|line| format!("{columns} {command}: {line}")));
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}
