//! What was done in the present round, and what went wrong.

use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Clones share it; every thread of the program writes to it.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    began: Option<Instant>,
    lines: Vec<String>,
    violations: Vec<String>,
}

impl History {
    /// Begins a new round; the lines of the last one are forgotten.
    pub(crate) fn begin(&self, title: String) {
        let mut pages = self.0.lock().unwrap();
        pages.began = Some(Instant::now());
        pages.lines = vec![title];
    }

    /// Writes a line.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        let mut pages = self.0.lock().unwrap();
        let ms = pages.began.map_or(0.0, |began| began.elapsed().as_secs_f64() * 1e3);
        pages.lines.push(format!("{ms:9.1} ms  {}", text.as_ref()));
    }

    /// Writes that something happened which must not. What is seen again and again is written once.
    pub(crate) fn violation(&self, text: impl AsRef<str>) {
        let text = text.as_ref().to_owned();
        if self.0.lock().unwrap().violations.contains(&text) {
            return;
        }
        self.line(format!("VIOLATION: {text}"));
        self.0.lock().unwrap().violations.push(text);
    }

    /// The violations since this was asked last.
    pub(crate) fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().violations)
    }

    /// The lines of the present round.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().lines.clone()
    }
}
