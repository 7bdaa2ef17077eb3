//! Links `llamactl` statically and to fixed addresses, in a release build where that can be done.
//!
//! Most of the time of a short command goes into loading and relocating: beside a static program that
//! does nothing `llamactl --version` took 2.5 times as long when it was dynamic, and 1.3 as this. Only a
//! build for this machine with LLD, glibc and its static libraries is meant; any other is left as it is: a
//! trial says whether it would work. The daemon stays dynamic, because it loads libraries of GPUs.
//!
//! rustc ends its line with `-Bdynamic -lgcc_s … -lc`, which `-static` before it does not change: each of
//! these names is found first as a static library here, which stands for the real one.

// How a build script speaks to cargo.
#![allow(clippy::print_stdout)]

use std::env::var;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

/// What rustc links a program of glibc with, by name, and the static library that has it.
const LIBRARIES: [(&str, &str); 7] = [
    ("gcc_s", "gcc_eh"),
    ("util", "util"),
    ("rt", "rt"),
    ("pthread", "pthread"),
    ("m", "m"),
    ("dl", "dl"),
    ("c", "c"),
];
/// A program that needs what llamactl needs of the libraries: unwinding and threads.
const TRIAL: &str = "fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    assert!(std::thread::spawn(|| panic!()).join().is_err());
}";

fn main() {
    let is = |name: &str, value: &str| var(name).is_ok_and(|it| it == value);
    println!("cargo:rerun-if-changed=../cli/build.rs");
    // The floor that its figures are compared with is linked as it is.
    let program = if is("CARGO_PKG_NAME", "llamactl") { "llamactl" } else { "no-op" };
    let is_here = var("HOST") == var("TARGET");
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ENV", "gnu") && is_here {
        // Why it cannot be static is nobody's concern: a dynamic program does the same.
        if let Some(arguments) = arguments()
            && runs(&arguments).unwrap_or_default()
        {
            for argument in arguments {
                println!("cargo:rustc-link-arg-bin={program}={argument}");
            }
        }
    }
}

/// What makes a program static; absent where a library is not installed.
fn arguments() -> Option<[String; 3]> {
    let directory = var("OUT_DIR").ok()?;
    let linker = var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    for (name, of) in LIBRARIES {
        let asked =
            Command::new(&linker).arg(format!("-print-file-name=lib{of}.a")).output().ok()?;
        let path = String::from_utf8(asked.stdout).ok()?;
        // One that it does not have is told as it was asked for.
        let path = Some(path.trim()).filter(|path| Path::new(path).is_absolute())?;
        fs::write(format!("{directory}/lib{name}.a"), format!("INPUT(\"{path}\")")).ok()?;
    }
    Some([format!("-L{directory}"), "-static".to_owned(), "-no-pie".to_owned()])
}

/// Whether a program that is linked so can be made, and works.
fn runs(arguments: &[String]) -> io::Result<bool> {
    let directory = PathBuf::from(var("OUT_DIR").unwrap_or_default());
    let (source, program) = (directory.join("trial.rs"), directory.join("trial"));
    fs::write(&source, TRIAL)?;
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut compiler = Command::new(var("RUSTC").as_deref().unwrap_or("rustc"));
    compiler.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
    if let Ok(linker) = var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    compiler.args(arguments.iter().map(|argument| format!("-Clink-arg={argument}")));
    compiler.arg("-o").arg(&program).arg(&source);
    let quietly =
        |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    Ok(quietly(&mut compiler)?.success() && quietly(&mut Command::new(program))?.success())
}
