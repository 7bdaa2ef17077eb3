//! Writes one small GGUF file, for trying things out by hand.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use llamactl_tests::gguf::{Preset, TinyModel};

/// Write a small GGUF model that a real llama-server loads.
///
/// The model answers in readable sentences and ends its turns; at temperature 0 always with the same one.
#[derive(Parser)]
#[command(
    name = "write-gguf",
    after_help = "Examples:\n  write-gguf tiny.gguf\n  write-gguf endless.gguf --preset medium --never-stop\n  \
                  write-gguf model.gguf --split 3\n  write-gguf broken.gguf --architecture nonesuch"
)]
struct Args {
    /// File to write; what is there is replaced
    out: PathBuf,

    /// Size of the model
    #[arg(long, value_enum, default_value_t)]
    preset: Size,

    /// What the file is for
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,

    /// Never end a turn: go on until stopped or the context is full
    #[arg(long, conflicts_with = "random")]
    never_stop: bool,

    /// Speak gibberish
    #[arg(long)]
    random: bool,

    /// Architecture to claim; llama-server refuses one it does not know
    #[arg(long, value_name = "NAME", default_value = "llama")]
    architecture: String,

    /// Context the model says it was trained for
    #[arg(long, value_name = "TOKENS", default_value_t = 32_768)]
    context_length: u32,

    /// Name of the model inside the file
    #[arg(long)]
    name: Option<String>,

    /// Leave the chat template out
    #[arg(long)]
    without_template: bool,

    /// Split the model into this many files: OUT-00001-of-0000N.gguf and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    split: u16,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Size {
    /// 1.7 MB
    #[default]
    Tiny,
    /// 53 MB
    Medium,
    /// 515 MB
    Big,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Kind {
    /// A model to serve
    #[default]
    Model,
    /// Metadata and vocabulary without weights
    VocabOnly,
    /// A LoRA adapter for the model of the same preset
    Lora,
    /// A file that only says it is a multimodal projector
    Mmproj,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match model(&args).write(&args.out) {
        Ok(path) => match writeln!(io::stdout(), "{}", path.display()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            // Nobody is left to tell if stderr is closed.
            let _ = writeln!(io::stderr(), "write-gguf: {}: {error}", args.out.display());
            ExitCode::FAILURE
        }
    }
}

fn model(args: &Args) -> TinyModel {
    let mut model = TinyModel::new(match args.preset {
        Size::Tiny => Preset::Tiny,
        Size::Medium => Preset::Medium,
        Size::Big => Preset::Big,
    })
    .never_stop(args.never_stop)
    .architecture(&args.architecture)
    .context_length(args.context_length)
    .split(args.split);
    if args.random {
        model = model.random();
    }
    if let Some(name) = &args.name {
        model = model.name(name);
    }
    if args.without_template {
        model = model.without_template();
    }
    match args.kind {
        Kind::Model => model,
        Kind::VocabOnly => model.vocab_only(),
        Kind::Lora => model.lora(),
        Kind::Mmproj => model.mmproj_stub(),
    }
}
