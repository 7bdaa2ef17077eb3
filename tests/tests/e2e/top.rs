//! `llamactl top` in a real terminal: worked from the keyboard, and given back whatever ends it.

use llamactl_tests::{Home, TestModel, Tmux, need};
use std::fs;

/// Runs `top` in a shell that then says how it ended, and whether the terminal is set as before.
const TOP: &str = "saved=$(stty -g); sh -c 'echo $$ > pid; exec llamactl top'; \
                   echo \"rc=$? $([ \"$saved\" = \"$(stty -g)\" ] && echo unchanged)\"";

fn signal(home: &Home, signal: &str) {
    let pid = fs::read_to_string(home.path().join("pid")).unwrap();
    home.program("/bin/bash", ["-c", &format!("kill -{signal} {pid}")]).run().ok();
}

#[test]
fn servers_are_worked_from_the_keyboard_through_a_restart_of_the_daemon() {
    need!("tmux", "bash", "stty");
    let (home, mut daemon) = Home::with_tiny();
    home.cli(["model", "copy", "tiny", "other"]).ok();
    let tmux = Tmux::bash(&home, 80, 24);
    tmux.enter(TOP);
    let row = |screen: &str, name: &str| {
        screen.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned()
    };
    tmux.until(|screen| row(screen, "other").contains("stopped") && screen.contains("q quit"));
    tmux.press(&["G", "s"]);
    let ready = |screen: &str| row(screen, ">tiny").contains("ready");
    tmux.until(|screen| {
        ready(screen) && screen.contains("log of tiny") && screen.contains("model loaded")
    });
    tmux.press(&["w"]);
    tmux.until(|screen| screen.contains("why tiny") && screen.contains("llamactl top"));
    tmux.press(&["Escape"]);

    // A narrower screen is drawn anew, and nothing is wider.
    tmux.run(["resize-window", "-x", "50", "-y", "14"]);
    tmux.until(|screen| ready(screen) && screen.contains("q quit") && !screen.contains("/ filter"));
    tmux.press(&["/", "o", "t", "h"]);
    tmux.until(|screen| screen.contains("/oth_") && !screen.contains("tiny"));
    tmux.press(&["Escape"]);
    tmux.until(ready);

    home.cli(["daemon", "restart"]).ok();
    tmux.until(|screen| ready(screen) && !screen.contains("went away"));
    daemon.kill();
    tmux.until(|screen| screen.contains("the daemon went away"));
    daemon.start_again();
    tmux.until(|screen| ready(screen) && !screen.contains("went away"));
    tmux.press(&["x"]);
    tmux.until(|screen| row(screen, ">tiny").contains("stopped"));

    tmux.press(&["q"]);
    tmux.until(|screen| screen.contains("rc=0 unchanged"));
    assert!(!tmux.is_taken());
}

#[test]
fn whatever_ends_it_the_terminal_is_given_back() {
    need!("tmux", "bash", "stty");
    let home = Home::new();
    home.cli(["daemon", "start"]).ok();
    home.cli(["model", "add", &home.model(TestModel::Tiny).display().to_string()]).ok();
    let tmux = Tmux::bash(&home, 80, 24);
    tmux.enter("export LLAMACTL_TEST_PANIC=1");
    for (end, status) in [
        ("TERM", 143),
        ("HUP", 129),
        ("INT", 130),
        ("QUIT", 131),
        ("C-c", 130),
        ("!", 101),
        ("stop", 6),
    ] {
        tmux.enter("clear");
        tmux.enter(TOP);
        tmux.until(|screen| screen.contains("q quit") && screen.contains("tiny"));
        assert!(tmux.is_taken());
        match end {
            "C-c" | "!" => tmux.press(&[end]),
            "stop" => drop(home.cli(["daemon", "stop"])),
            _ => signal(&home, end),
        }
        let ended = format!("rc={status} unchanged");
        let screen = tmux.until(|screen| screen.contains(&ended));
        assert!(!tmux.is_taken(), "{end}");
        assert_eq!(screen.contains("panicked"), end == "!", "{screen}");
        assert_eq!(screen.contains("the daemon"), end == "stop", "{screen}");
    }
}

#[test]
fn it_is_suspended_and_goes_on() {
    need!("tmux", "bash");
    let (home, _daemon) = Home::with_tiny();
    let tmux = Tmux::bash(&home, 80, 24);
    tmux.enter("sh -c 'echo $$ > pid; exec llamactl top'");
    for stop in ["C-z", "TSTP"] {
        tmux.until(|screen| screen.contains("q quit") && screen.contains("tiny"));
        match stop {
            "C-z" => tmux.press(&[stop]),
            _ => signal(&home, stop),
        }
        tmux.until(|screen| screen.contains("Stopped") && !screen.contains("q quit"));
        assert!(!tmux.is_taken());
        tmux.enter("clear; fg");
    }
    tmux.until(|screen| screen.contains("q quit") && screen.contains("tiny"));
    assert!(tmux.is_taken());
    tmux.press(&["q"]);
    tmux.until(|screen| !screen.contains("q quit"));
}

#[test]
fn it_wants_a_terminal() {
    let (home, _daemon) = Home::with_tiny();
    let failure = home.llamactl(["top"]).run().code(2);
    assert_eq!(failure.stdout(), "");
    assert!(failure.stderr().contains("top needs a terminal"), "{}", failure.stderr());
    let failure = home.llamactl(["--json", "top"]).run_at_terminal(80).code(2);
    assert!(failure.stdout().contains("top is a screen for people"), "{}", failure.stdout());
}
