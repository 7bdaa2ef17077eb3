//! A terminal with a shell in it, worked from the keyboard and looked at as a person does: tmux.

use crate::{DEADLINE, Home, artifacts, eventually, skip};

/// A terminal with a shell in it, whose prompt is `$ `; `llamactl` is the one under test.
pub struct Tmux<'a>(&'a Home);

impl<'a> Tmux<'a> {
    /// One of this size, with bash.
    #[must_use]
    pub fn bash(home: &'a Home, columns: u16, rows: u16) -> Tmux<'a> {
        Tmux::new(home, columns, rows, &["env", "PS1=$ ", "bash", "--norc", "--noprofile"])
    }

    /// One of this size, with the shell that this command starts.
    #[must_use]
    pub fn new(home: &'a Home, columns: u16, rows: u16, shell: &[&str]) -> Tmux<'a> {
        let tmux = Tmux(home);
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let new = ["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows];
        tmux.run(new.into_iter().chain(shell.iter().copied()));
        tmux.until(|screen| screen.contains('$'));
        tmux
    }

    /// Tells tmux something; what it says.
    ///
    /// # Panics
    /// When it fails.
    pub fn run<'b>(&self, arguments: impl IntoIterator<Item = &'b str>) -> String {
        let socket = self.0.path().join("tmux").display().to_string();
        let directory = artifacts::llamactl().parent().unwrap().display().to_string();
        let path = format!("{directory}:{}", skip::PATH);
        let tmux = self.0.program("/usr/bin/env", ["tmux", "-u", "-S", &socket]).env("PATH", path);
        tmux.args(arguments).env("LC_ALL", "C.UTF-8").env("TERM", "xterm").run().ok().stdout()
    }

    /// Presses keys, by their names.
    pub fn press(&self, keys: &[&str]) {
        self.run(["send-keys"].into_iter().chain(keys.iter().copied()));
    }

    /// Types without an end of the line.
    pub fn type_text(&self, text: &str) {
        self.run(["send-keys", "-l", text]);
    }

    /// Types a line.
    pub fn enter(&self, line: &str) {
        self.type_text(line);
        self.press(&["Enter"]);
    }

    /// What it shows.
    #[must_use]
    pub fn screen(&self) -> String {
        self.run(["capture-pane", "-p"])
    }

    /// Waits until the screen is as it should be, and gives it.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn until(&self, condition: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let mut looks = 0;
        eventually(DEADLINE, "the screen is as it should be", || {
            screen = self.screen();
            looks += 1;
            // What is there instead is told by the failure.
            assert!(looks < 4000, "{screen}");
            condition(&screen)
        });
        screen
    }

    /// Whether a program has the whole screen.
    ///
    /// # Panics
    /// When there is a cursor on it all the same.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        let flags = self.run(["display-message", "-p", "#{alternate_on}#{cursor_flag}"]);
        match flags.trim() {
            "10" => true,
            "01" => false,
            other => panic!("the terminal is neither taken nor as before: {other}"),
        }
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.run(["kill-server"]);
    }
}
