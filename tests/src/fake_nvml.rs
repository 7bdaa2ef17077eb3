//! NVIDIA's library without a card: it says what a test lets it say.
//!
//! ```text
//!   test ─ writes ─▶ the script ◀─ read at each call ─ libnvidia-ml.so.1 ◀─ loaded ─ llamactld
//!                    card GPU-a A10 busy=50 used=… total=… reasons=0 fails=0
//!                    process 4711 1073741824
//!                    hangs
//! ```

use crate::{Home, Invocation, artifacts};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// A card.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its UUID.
    pub uuid: &'static str,
    /// How busy it is, in percent.
    pub busy: u32,
    /// What holds its clocks down, as NVML has it.
    pub reasons: u64,
    /// What each call that asks it fails with; 0: none.
    pub fails: u32,
    /// Processes on it, and the bytes that each holds.
    pub processes: Vec<(u32, u64)>,
}

impl Card {
    /// One that works.
    #[must_use]
    pub fn new(uuid: &'static str, busy: u32) -> Card {
        Card { uuid, busy, reasons: 0, fails: 0, processes: Vec::new() }
    }
}

/// The library in a home.
pub struct FakeNvml {
    script: PathBuf,
    lib_dir: PathBuf,
}

impl FakeNvml {
    /// One with these cards.
    #[must_use]
    pub fn of(home: &Home, cards: &[Card]) -> FakeNvml {
        let library = artifacts::c_library("fake_nvml");
        let lib_dir = home.path().join("nvml");
        fs::create_dir_all(&lib_dir).unwrap();
        fs::copy(library, lib_dir.join("libnvidia-ml.so.1")).unwrap();
        let nvml = FakeNvml { script: lib_dir.join("script"), lib_dir };
        nvml.has(cards);
        nvml
    }

    /// A daemon that finds it.
    #[must_use]
    pub fn under(&self, daemon: Invocation) -> Invocation {
        daemon.env("LD_LIBRARY_PATH", &self.lib_dir).env("LC_FAKE_NVML", &self.script)
    }

    /// From now on it has these cards, and answers.
    pub fn has(&self, cards: &[Card]) {
        let mut text = String::new();
        for Card { uuid, busy, reasons, fails, processes } in cards {
            let memory = format!("used={} total={}", 2u64 << 30, 8u64 << 30);
            let _ = writeln!(
                text,
                "card {uuid} A10 busy={busy} {memory} reasons={reasons} fails={fails}"
            );
            for (pid, bytes) in processes {
                let _ = writeln!(text, "process {pid} {bytes}");
            }
        }
        self.write(&text);
    }

    /// Each call fails with this.
    pub fn fails(&self, code: u32) {
        self.write(&format!("fails {code}\n"));
    }

    /// No call returns.
    pub fn hangs(&self) {
        self.write("hangs\n");
    }

    fn write(&self, text: &str) {
        let new = self.script.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.script).unwrap();
    }
}
