//! A runtime that runs a piece of shell before the real llama-server.
//!
//! ```text
//!   llama-server (a script) ──▶ sources MODEL.before, if there is one
//!                           ╰─▶ exec the real llama-server
//! ```
//!
//! So a real llama-server fails as a test wants it to: the piece breaks a file that llamactl found
//! whole, adds an argument, moves the process into a cgroup. It finds `$model`, the file; `$real`,
//! the executable; `$shared`, the directory of the shared test models; and the arguments in `$@`.

use crate::{Home, TestModel, llama};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

impl Home {
    /// A home whose daemon runs the real llama-server by way of the script.
    #[must_use]
    pub fn with_wrapped_llama_server() -> Home {
        let home = Home::without_llama_server();
        let real = llama::real();
        let kinds = [TestModel::Tiny, TestModel::VocabularyOnly, TestModel::Lora];
        let [shared, ..] = kinds.map(TestModel::shared);
        let script = format!(
            r#"#!/bin/sh
real='{real}'
shared='{shared}'
export LD_LIBRARY_PATH='{libraries}'
model= last=
for word; do
    [ "$last" != --model ] || model=$word
    last=$word
done
[ ! -f "$model.before" ] || . "$model.before"
exec "$real" "$@"
"#,
            real = real.display(),
            shared = directory(&shared).display(),
            libraries = directory(real).display(),
        );
        let wrapper = home.wrapper();
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
        home.env("LLAMACTL_LLAMA_SERVER", wrapper)
    }

    /// Where that script is.
    #[must_use]
    pub fn wrapper(&self) -> PathBuf {
        self.path().join("llama-server")
    }

    /// Registers a copy of a model as `name`; `before` runs before its llama-server.
    ///
    /// # Panics
    /// When the daemon refuses the model.
    pub fn wrapped_model(
        &self,
        name: &str,
        model: TestModel,
        settings: &Value,
        before: &str,
    ) -> PathBuf {
        let path = self.own_model(model, format!("{name}.gguf"));
        self.before(&path, before);
        self.call("model.add", json!({ "path": path, "name": name, "settings": settings }));
        path
    }

    /// Says what runs from now on before the llama-server of the model at `path`.
    pub fn before(&self, path: &Path, shell: &str) {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".before");
        fs::write(beside, shell).unwrap();
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().expect("a file is in a directory")
}
