//! The command line: the flags it knows, in the words of the real help.

use std::path::PathBuf;

/// What the command line asks for.
pub(crate) enum Wanted {
    /// `--help`
    Help,
    /// `--version`
    Version,
    /// `--list-devices`
    Devices,
    /// Anything else.
    Serve(Arguments),
}

/// What matters of the arguments; the others are accepted and forgotten.
pub(crate) struct Arguments {
    /// `--model`
    pub(crate) model: PathBuf,
    /// `--host`: an address, or a path ending in `.sock`.
    pub(crate) host: String,
    /// `--port`
    pub(crate) port: u16,
    /// `--alias`; else the model's path.
    pub(crate) alias: String,
    /// `--ctx-size`; 0 for the model's own.
    pub(crate) context_tokens: u64,
    /// `--parallel`
    pub(crate) slots: usize,
    /// Whether `--metrics` was given.
    pub(crate) metrics: bool,
    /// Whether `--log-jsonl` was given.
    pub(crate) jsonl: bool,
}

/// Short form, long form, a word for the value (empty: takes none), environment variable, help.
type Flag = (&'static str, &'static str, &'static str, &'static str, &'static str);

const FLAGS: &[Flag] = &[
    ("-h,", "--help", "", "", "print usage and exit"),
    ("", "--version", "", "", "show version and build info"),
    ("", "--list-devices", "", "", "print list of available devices and exit"),
    ("-t,", "--threads", "N", "LLAMA_ARG_THREADS", "number of CPU threads to use"),
    (
        "-c,",
        "--ctx-size",
        "N",
        "LLAMA_ARG_CTX_SIZE",
        "size of the prompt context (default: 0, 0 = loaded from model)",
    ),
    ("-b,", "--batch-size", "N", "LLAMA_ARG_BATCH", "logical maximum batch size (default: 2048)"),
    ("-fa,", "--flash-attn", "[on|off|auto]", "LLAMA_ARG_FLASH_ATTN", "set Flash Attention use"),
    (
        "-ngl,",
        "--gpu-layers",
        "N",
        "LLAMA_ARG_N_GPU_LAYERS",
        "layers to store in VRAM: a number, 'auto' or 'all'",
    ),
    ("-m,", "--model", "FNAME", "LLAMA_ARG_MODEL", "model path to load"),
    ("", "--mmproj", "FILE", "LLAMA_ARG_MMPROJ", "path to a multimodal projector file"),
    ("-lv,", "--verbosity", "N", "LLAMA_LOG_VERBOSITY", "set the verbosity threshold"),
    ("", "--log-colors", "[on|off|auto]", "LLAMA_LOG_COLORS", "set colored logging"),
    ("", "--log-jsonl", "", "", "write the log as JSON to stdout"),
    ("", "--log-prefix", "", "LLAMA_LOG_PREFIX", "enable prefix in log messages"),
    ("", "--log-timestamps", "", "LLAMA_LOG_TIMESTAMPS", "enable timestamps in log messages"),
    ("-s,", "--seed", "SEED", "", "RNG seed (default: -1, use random seed for -1)"),
    ("", "--temp", "N", "", "temperature"),
    ("-np,", "--parallel", "N", "LLAMA_ARG_N_PARALLEL", "number of server slots"),
    ("-a,", "--alias", "STRING", "LLAMA_ARG_ALIAS", "set model name aliases, comma-separated"),
    (
        "",
        "--host",
        "HOST",
        "LLAMA_ARG_HOST",
        "ip address to listen, or bind to an UNIX socket if the address ends with .sock",
    ),
    ("", "--port", "PORT", "LLAMA_ARG_PORT", "port to listen (default: 8080)"),
    ("", "--api-key", "KEY", "LLAMA_API_KEY", "API key to use for authentication"),
    ("-to,", "--timeout", "N", "LLAMA_ARG_TIMEOUT", "server read/write timeout in seconds"),
    (
        "",
        "--sse-ping-interval",
        "N",
        "LLAMA_ARG_SSE_PING_INTERVAL",
        "interval of pings in a stream, in seconds",
    ),
    (
        "",
        "--metrics",
        "",
        "LLAMA_ARG_ENDPOINT_METRICS",
        "enable prometheus compatible metrics endpoint",
    ),
    ("", "--slots", "", "LLAMA_ARG_ENDPOINT_SLOTS", "expose slots monitoring endpoint"),
    ("", "--no-ui", "", "LLAMA_ARG_NO_UI", "disable the web UI"),
    ("", "--cache-ram", "N", "LLAMA_ARG_CACHE_RAM", "set the maximum cache size in MiB"),
    ("", "--jinja", "", "LLAMA_ARG_JINJA", "use jinja template for chat"),
    (
        "",
        "--reuse-port",
        "",
        "LLAMA_ARG_REUSE_PORT",
        "allow multiple sockets to bind to the same port",
    ),
    (
        "",
        "--cors-origins",
        "ORIGINS",
        "LLAMA_ARG_CORS_ORIGINS",
        "comma-separated list of allowed origins for CORS",
    ),
];

/// The help text, laid out as the real one is.
pub(crate) fn help() -> String {
    let mut text = String::from("----- common params -----\n\n");
    for (short, long, value, variable, help) in FLAGS {
        let names =
            if short.is_empty() { (*long).to_owned() } else { format!("{short:<6} {long}") };
        let names = format!("{names} {value}");
        text.push_str(&format!("{:<39} {help}\n", names.trim_end()));
        if !variable.is_empty() {
            text.push_str(&format!("{:<39} (env: {variable})\n", ""));
        }
    }
    text
}

/// Reads the arguments.
///
/// # Errors
/// The line the real one ends with.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut read = Arguments {
        model: PathBuf::new(),
        host: "127.0.0.1".to_owned(),
        port: 8080,
        alias: String::new(),
        context_tokens: 0,
        slots: 4,
        metrics: false,
        jsonl: false,
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let (given, attached) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let Some((_, flag, value, ..)) = FLAGS
            .iter()
            .find(|(short, long, ..)| *long == given || short.trim_end_matches(',') == given)
        else {
            return Err(format!("error: invalid argument: {argument}"));
        };
        let missing =
            || format!("error while handling argument \"{given}\": expected value for argument");
        let value = match (value.is_empty(), attached) {
            (true, _) => String::new(),
            (false, Some(value)) => value,
            (false, None) => arguments.next().ok_or_else(missing)?,
        };
        let not_a_number = |_| format!("error while handling argument \"{given}\": stoi");
        match *flag {
            "--help" => return Ok(Wanted::Help),
            "--version" => return Ok(Wanted::Version),
            "--list-devices" => return Ok(Wanted::Devices),
            "--model" => read.model = value.into(),
            "--host" => read.host = value,
            "--port" => read.port = value.parse().map_err(not_a_number)?,
            "--alias" => read.alias = value,
            "--ctx-size" => read.context_tokens = value.parse().map_err(not_a_number)?,
            "--parallel" => read.slots = value.parse().map_err(not_a_number)?,
            "--metrics" => read.metrics = true,
            "--log-jsonl" => read.jsonl = true,
            _ => {}
        }
    }
    if read.alias.is_empty() {
        read.alias = read.model.display().to_string();
    }
    Ok(Wanted::Serve(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Wanted, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_read_as_the_real_one_reads_them() {
        let Ok(Wanted::Serve(read)) = read("-m x.gguf --host=a.sock -c 512 -np 2 --metrics") else {
            panic!("not a server")
        };
        assert_eq!((read.model, read.host.as_str()), ("x.gguf".into(), "a.sock"));
        assert_eq!((read.context_tokens, read.slots, read.metrics), (512, 2, true));
        assert_eq!(read.alias, "x.gguf");
    }

    #[test]
    fn what_the_real_one_refuses_is_refused_in_its_words() {
        let message = |line: &str| read(line).err().unwrap();
        assert_eq!(message("--frobnicate"), "error: invalid argument: --frobnicate");
        assert_eq!(message("-c many"), "error while handling argument \"-c\": stoi");
        assert!(message("-m").contains("expected value"));
    }

    #[test]
    fn the_help_names_every_flag() {
        let help = help();
        assert!(help.contains("-c,    --ctx-size N"), "{help}");
        assert!(FLAGS.iter().all(|flag| help.contains(flag.1)));
    }
}
