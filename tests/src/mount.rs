//! File systems of a test's own, unmounted with it. They need root.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something that is mounted.
pub struct Mount(PathBuf);

impl Mount {
    /// An empty disk of this size.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn small(path: PathBuf, megabytes: u32) -> Mount {
        fs::create_dir_all(&path).unwrap();
        let options = format!("size={megabytes}m,mode=700");
        mount(&path, &["-t", "tmpfs", "-o", options.as_str(), "tmpfs"]);
        Mount(path)
    }

    /// A directory that may only be read from now on.
    ///
    /// # Panics
    /// When it cannot be mounted over itself.
    #[must_use]
    pub fn read_only(path: PathBuf) -> Mount {
        mount(&path, &["--bind", path.to_str().unwrap()]);
        let mount = Mount(path);
        mount.remount("bind,ro");
        mount
    }

    /// Lets it be written to again.
    pub fn allow_writing(&self) {
        self.remount("bind,rw");
    }

    /// The same, where it may be written to although it lies in one that may not.
    #[must_use]
    pub fn and_writable(self) -> Mount {
        self.allow_writing();
        self
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut file = File::create(self.0.join("fill")).unwrap();
        let block = [0_u8; 4096];
        while file.write_all(&block).is_ok() {}
    }

    /// Takes away what filled it.
    pub fn free(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }

    fn remount(&self, options: &str) {
        mount(&self.0, &["-o", &format!("remount,{options}")]);
    }
}

fn mount(path: &Path, arguments: &[&str]) {
    let mounted = Command::new("mount").args(arguments).arg(path).status();
    assert!(mounted.unwrap().success(), "mount {arguments:?} {}", path.display());
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
