//! What `llama-server --help` tells of its options.
//!
//! ```text
//!   -kvo,  --kv-offload, -nkvo, --no-kv-offload        ◀─ every spelling, then a value's name
//!                                           whether to enable KV cache offloading (default: enabled)
//!                                           (env: LLAMA_ARG_KV_OFFLOAD)
//! ```
//!
//! An option begins with a dash near the left edge; what is further in, or behind two spaces, is
//! prose. Layouts of earlier years (`-t N, --threads N`) are read too. What cannot be read is left
//! out: a help text never makes this fail.

use llamactl_protocol::options::BuildOption;

/// An option's first line begins at most this far in.
const MAX_INDENT: usize = 4;
/// The longest flag, in bytes.
const MAX_FLAG_BYTES: usize = 64;
/// The longest name of a value, in bytes.
const MAX_VALUE_BYTES: usize = 512;
/// How much prose of an option is kept, in characters.
const MAX_HELP_CHARS: usize = 1024;
/// The most options.
const MAX_OPTIONS: usize = 2000;
/// The most spellings or choices of one option.
const MAX_WORDS: usize = 64;

/// The options a help text tells of, in its order.
#[must_use]
pub fn options_in(help: &str) -> Vec<BuildOption> {
    let mut options = Vec::new();
    let mut current: Option<(Head, Vec<&str>)> = None;
    for line in help.lines() {
        if let Some((head, prose)) = head(line) {
            options.extend(current.take().map(|(head, prose)| option(head, &prose)));
            if options.len() == MAX_OPTIONS {
                break;
            }
            current = Some((head, vec![prose]));
        } else if line.starts_with("-----") {
            // The heading of a section.
            options.extend(current.take().map(|(head, prose)| option(head, &prose)));
        } else if let Some((_, prose)) = &mut current {
            prose.push(line.trim());
        }
    }
    options.extend(current.map(|(head, prose)| option(head, &prose)));
    options
}

/// The spellings of an option and what its value is called.
#[derive(Debug, Default)]
struct Head {
    flags: Vec<String>,
    value: Option<String>,
}

/// Reads the first line of an option: its head, and the prose behind it.
fn head(line: &str) -> Option<(Head, &str)> {
    let mut rest = line.trim_start_matches([' ', '\t']);
    if line.len() - rest.len() > MAX_INDENT || !is_flag(first_word(rest)) {
        return None;
    }
    let mut head = Head::default();
    loop {
        let word = first_word(rest);
        if !is_flag(word) {
            break;
        }
        rest = rest.get(word.len()..).unwrap_or_default();
        if head.flags.len() < MAX_WORDS && !head.flags.iter().any(|flag| flag == word) {
            head.flags.push(word.to_owned());
        }
        if let Some(behind) = next_spelling(rest) {
            rest = behind;
            continue;
        }
        let (value, behind) = value(rest);
        if !value.is_empty() && value.len() <= MAX_VALUE_BYTES {
            head.value = Some(value.to_owned());
        }
        rest = behind;
        match next_spelling(rest) {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    Some((head, rest.trim()))
}

/// What begins behind a comma, if that is another spelling.
fn next_spelling(text: &str) -> Option<&str> {
    let behind = text.trim_start().strip_prefix(',')?.trim_start();
    is_flag(first_word(behind)).then_some(behind)
}

/// A word up to a space, a comma or an equals sign.
fn first_word(text: &str) -> &str {
    let end = text.find(|it: char| it.is_whitespace() || it == ',' || it == '=');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

fn is_flag(word: &str) -> bool {
    let bare = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
    bare.is_some_and(|bare| {
        word.len() <= MAX_FLAG_BYTES
            && bare.starts_with(|first: char| first.is_ascii_alphanumeric())
            && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    })
}

/// The name of a value at the beginning of `text`, one space or `=` behind its flag, and what
/// follows it. Two spaces end it; so does a comma with another spelling behind it.
fn value(text: &str) -> (&str, &str) {
    let Some(named) = text.strip_prefix([' ', '=']).filter(|named| !named.starts_with(' ')) else {
        return ("", text);
    };
    let mut end = named.find("  ").unwrap_or(named.len());
    let spelled = named
        .match_indices(',')
        .map(|(at, _)| at)
        .find(|at| named.get(*at..).is_some_and(|rest| next_spelling(rest).is_some()));
    end = end.min(spelled.unwrap_or(end));
    let whole = named.get(..end).unwrap_or_default();
    // Where one space alone parts a value from its prose, the value is the first word.
    let is_prose = whole.split(' ').count() > 2 && !whole.contains(['<', '[', '{']);
    if is_prose {
        end = first_space(whole);
    }
    let (value, rest) = named.split_at_checked(end).unwrap_or((named, ""));
    (value.trim(), rest)
}

fn first_space(text: &str) -> usize {
    text.find(' ').unwrap_or(text.len())
}

fn option(head: Head, prose: &[&str]) -> BuildOption {
    let Head { flags, value } = head;
    let text = one_line(prose);
    let (help, variable) = without_variable(&text);
    let (negations, flags): (Vec<String>, Vec<String>) = match &value {
        Some(_) => (vec![], flags),
        None => part_negations(flags),
    };
    let long = flags.iter().find_map(|flag| flag.strip_prefix("--"));
    let any = || flags.first().map(|flag| flag.trim_start_matches('-'));
    let lower = help.to_ascii_lowercase();
    let default = default_in(&help).or_else(|| marked_default(prose));
    let mut choices = choices_in(value.as_deref(), &help);
    if choices.is_empty() && value.as_deref().is_some_and(is_kind) {
        choices = explained_in(prose, default.as_deref());
    }
    BuildOption {
        key: long.or_else(any).unwrap_or_default().to_owned(),
        negations,
        choices,
        default,
        variable,
        removed: lower.contains("argument has been removed"),
        deprecated: lower.contains("deprecated"),
        help: help.chars().take(MAX_HELP_CHARS).collect(),
        value,
        flags,
    }
}

/// Parts the spellings that switch an option off from those that set it. An option all of whose
/// long flags begin with `--no-` has none: its flag is what it is called.
fn part_negations(flags: Vec<String>) -> (Vec<String>, Vec<String>) {
    let is_no = |flag: &str| flag.starts_with("--no-");
    let first_positive = flags.iter().position(|flag| flag.starts_with("--") && !is_no(flag));
    let (Some(first_positive), true) = (first_positive, flags.iter().any(|flag| is_no(flag)))
    else {
        return (vec![], flags);
    };
    let shorts: Vec<String> = flags
        .iter()
        .filter(|flag| !flag.starts_with("--") && !flag.starts_with("-n"))
        .map(|flag| flag.trim_start_matches('-').to_owned())
        .collect();
    let mut at = 0;
    flags.into_iter().partition(|flag| {
        at += 1;
        if flag.starts_with("--") {
            return is_no(flag);
        }
        let negated = ["-no-", "-no", "-n"].iter().any(|no| {
            flag.strip_prefix(no).is_some_and(|bare| shorts.iter().any(|short| short == bare))
        });
        // A short negation without a short flag to negate stands behind the long one.
        negated || (flag.starts_with("-n") && at > first_positive + 1)
    })
}

/// Lines as one, without control characters and with single spaces.
fn one_line(lines: &[&str]) -> String {
    let words = lines.iter().flat_map(|line| line.split_whitespace());
    let mut text = String::new();
    for word in words {
        let printed = word.chars().filter(|it| !it.is_control());
        if !text.is_empty() {
            text.push(' ');
        }
        text.extend(printed);
    }
    text
}

/// The prose without `(env: NAME)`, and that name.
fn without_variable(text: &str) -> (String, Option<String>) {
    let Some((before, behind)) = text.rsplit_once("(env: ") else { return (text.to_owned(), None) };
    let Some((name, after)) = behind.split_once(')') else { return (text.to_owned(), None) };
    let is_name = !name.is_empty()
        && name.len() <= MAX_FLAG_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return (text.to_owned(), None);
    }
    let help = format!("{} {}", before.trim_end(), after.trim_start());
    (help.trim().to_owned(), Some(name.to_owned()))
}

/// The words a value's name or the prose lists: `[on|off]`, `<0|1>`, `{none,layer}`, a bare list
/// of words, or `allowed values: f16, q8_0`.
fn choices_in(value: Option<&str>, help: &str) -> Vec<String> {
    let Some(value) = value else { return vec![] };
    let inside = [('[', ']'), ('<', '>'), ('{', '}')].into_iter().find_map(|(open, close)| {
        let inside = value.strip_prefix(open)?.strip_suffix(close)?;
        (!inside.contains([open, close])).then_some((open, inside))
    });
    let listed: Vec<&str> = match inside {
        Some(('{', inside)) => inside.split([',', '|']).collect(),
        Some((_, inside)) => inside.split('|').collect(),
        None if value.contains(',') => value.split(',').collect(),
        None => vec![],
    };
    let listed: Vec<&str> = listed.into_iter().map(str::trim).collect();
    if inside.is_none()
        && listed.iter().any(|word| !word.starts_with(|it: char| it.is_ascii_lowercase()))
    {
        // `N0,N1,N2,...` names values and lists none.
        return allowed_in(help);
    }
    if listed.len() > 1 && listed.len() <= MAX_WORDS && listed.iter().all(|word| is_word(word)) {
        return listed.into_iter().map(str::to_owned).collect();
    }
    allowed_in(help)
}

fn allowed_in(help: &str) -> Vec<String> {
    let Some((_, behind)) = help.split_once("allowed values:") else { return vec![] };
    let mut words = Vec::new();
    for word in behind.split_whitespace().take(MAX_WORDS) {
        let (bare, goes_on) = match word.strip_suffix(',') {
            Some(bare) => (bare, true),
            None => (word, false),
        };
        if !is_word(bare) {
            break;
        }
        words.push(bare.to_owned());
        if !goes_on {
            break;
        }
    }
    words
}

/// Whether a value's name stands for words and not for a number: `MODE`, `TYPE`.
fn is_kind(value: &str) -> bool {
    value.len() > 1 && value.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// The words of a list that explains each, `- mmap: …`, and the default if it is none of them.
fn explained_in(prose: &[&str], default: Option<&str>) -> Vec<String> {
    let mut words: Vec<&str> = prose
        .iter()
        .filter_map(|line| Some(line.trim().strip_prefix("- ")?.split_once(':')?.0))
        .map(|word| word.trim_end_matches(" (default)"))
        .take(MAX_WORDS)
        .collect();
    let is_list =
        words.len() > 1 && words.iter().all(|word| is_word(word) && word.parse::<f64>().is_err());
    if !is_list {
        return vec![];
    }
    words.extend(default.filter(|default| is_word(default) && !words.contains(default)));
    words.into_iter().map(str::to_owned).collect()
}

fn is_word(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= MAX_FLAG_BYTES
        && !word.contains("..")
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
}

/// What follows `default:`, up to the bracket that closes around it, without explanations.
fn default_in(help: &str) -> Option<String> {
    let (_, behind) = help.split_once("default:")?;
    let mut depth = 0_i32;
    let end = behind.char_indices().find_map(|(at, character)| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth < 0).then_some(at)
    });
    let whole = behind.get(..end.unwrap_or(behind.len())).unwrap_or_default();
    // `'auto' (…)`, `-1; …` and `0 = …` are followed by what they mean.
    let cut = [" (", "; "].iter().filter_map(|mark| whole.find(mark)).min();
    let whole = whole.get(..cut.unwrap_or(whole.len())).unwrap_or_default();
    let mut parts = whole.split(", ").map(str::trim);
    let first = parts.next().unwrap_or_default();
    let mut default = first.split(" = ").next().unwrap_or_default().to_owned();
    // `GET, POST` is a default, `0, 0 = off` is one and its explanation.
    for part in parts.take_while(|part| is_word(part)) {
        default.push_str(", ");
        default.push_str(part);
    }
    let default = default.trim_matches(|it| "'\"".contains(it)).trim();
    (!default.is_empty()).then(|| default.chars().take(MAX_VALUE_BYTES).collect())
}

/// The word of a list that is marked as the default: `- layer (default): …`.
fn marked_default(prose: &[&str]) -> Option<String> {
    prose.iter().find_map(|line| {
        let (word, _) = line.trim().strip_prefix("- ")?.split_once(" (default)")?;
        is_word(word).then(|| word.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELP: &str = r#"----- common params -----

-h,    --help, --usage                  print usage and exit
-Cr,   --cpu-range lo-hi                range of CPUs for affinity. Complements --cpu-mask
--cpu-strict <0|1>                      use strict CPU placement (default: 0)
--poll <0...100>                        use polling level to wait for work (0 - no polling, default: 50)
-c,    --ctx-size N                     size of the prompt context (default: 0, 0 = loaded from model)
                                        (env: LLAMA_ARG_CTX_SIZE)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
                                        (env: LLAMA_ARG_FLASH_ATTN)
-kvo,  --kv-offload, -nkvo, --no-kv-offload
                                        whether to enable KV cache offloading (default: enabled)
                                        (env: LLAMA_ARG_KV_OFFLOAD)
--repack, -nr, --no-repack              whether to enable weight repacking (default: enabled)
                                        (env: LLAMA_ARG_REPACK)
--no-host                               bypass host buffer allowing extra buffers to be used
                                        (env: LLAMA_ARG_NO_HOST)
-ctk,  --cache-type-k TYPE              KV cache data type for K
                                        allowed values: f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl,
                                        q5_0, q5_1
                                        (default: f16)
                                        (env: LLAMA_ARG_CACHE_TYPE_K)
-dev,  --device <dev1,dev2,..>          comma-separated list of devices to use for offloading (none = don't
                                        offload)
                                        use --list-devices to see a list of available devices
-ot,   --override-tensor <tensor name pattern>=<buffer type>,...
                                        override tensor buffer type
                                        (env: LLAMA_ARG_OVERRIDE_TENSOR)
-sm,   --split-mode {none,layer,row,tensor}
                                        how to split the model across multiple GPUs, one of:
                                        - none: use one GPU only
                                        - layer (default): split layers and KV across GPUs (pipelined)
                                        (env: LLAMA_ARG_SPLIT_MODE)
-ts,   --tensor-split N0,N1,N2,...      fraction of the model to offload to each GPU
--control-vector-layer-range START END
                                        layer range to apply the control vector(s) to, start and end inclusive
-kvu,  --kv-unified, -no-kvu, --no-kv-unified
                                        use single unified KV buffer shared across all sequences (default:
                                        enabled if number of slots is auto)
-cb,   --cont-batching, -nocb, --no-cont-batching
                                        whether to enable continuous batching (default: enabled)
--mmproj-auto, --no-mmproj, --no-mmproj-auto
                                        whether to use multimodal projector file (default: enabled)
--ui,  --webui, --no-ui, --no-webui     whether to enable the Web UI (default: enabled)
-ncmoe, --n-cpu-moe N                   keep the weights of the first N layers in the CPU
--mlock                                 DEPRECATED in favor of `--load-mode`: force system to keep model in
                                        RAM rather than swapping or compressing


----- speculative params -----

--spec-type none,draft-simple,ngram-mod
                                        comma-separated list of types of speculative decoding to use (default:
                                        none)
                                        
                                        (env: LLAMA_ARG_SPEC_TYPE)
--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max or
                                        --spec-ngram-mod-n-max
                                        (env: LLAMA_ARG_DRAFT_MAX)
--cors-methods METHODS                  comma-separated list of allowed methods for CORS (default: GET, POST,
                                        DELETE, OPTIONS)
-ctxcp, --ctx-checkpoints, --swa-checkpoints N
                                        max number of context checkpoints to create per slot (default:
                                        32)[(more info)](https://example.org/15293)
-rea,  --reasoning [on|off|auto]        Use reasoning/thinking in the chat ('on', 'off', or 'auto', default:
                                        'auto' (detect from template))
-hf,   -hfr, --hf-repo <user>/<model>[:quant]
                                        Hugging Face model repository
                                        (default: unused)
-lm,   --load-mode MODE                 model loading mode (default: auto)
                                        - none: no special loading mode
                                        - mmap+mlock: mmap + force system to keep model in RAM rather than
                                        swapping or compressing
-lv,   --log-verbosity N                Set the verbosity threshold. Values:
                                         - 0: generic output
                                         - 1: error
--yarn-orig-ctx N                       YaRN: original context size of model (default: 0 = model training
                                        context size)
--fit-ctx N                             minimum ctx size that can be set by --fit option, default: 4096
                                        (env: LLAMA_ARG_FIT_CTX)
"#;

    fn option(key: &str) -> BuildOption {
        let options = options_in(HELP);
        let found = options.into_iter().find(|option| option.key == key);
        found.unwrap_or_else(|| panic!("no {key}"))
    }

    #[test]
    fn spellings_come_apart_from_values_and_prose() {
        assert_eq!(option("help").flags, ["-h", "--help", "--usage"]);
        let context = option("ctx-size");
        assert_eq!(context.flags, ["-c", "--ctx-size"]);
        assert_eq!(context.value.as_deref(), Some("N"));
        assert_eq!(context.variable.as_deref(), Some("LLAMA_ARG_CTX_SIZE"));
        assert_eq!(context.help, "size of the prompt context (default: 0, 0 = loaded from model)");
        let value = |key| option(key).value.unwrap_or_default();
        assert_eq!(value("cpu-range"), "lo-hi");
        assert_eq!(value("control-vector-layer-range"), "START END");
        assert_eq!(value("override-tensor"), "<tensor name pattern>=<buffer type>,...");
        assert_eq!(value("hf-repo"), "<user>/<model>[:quant]");
        assert_eq!(option("ctx-checkpoints").flags.len(), 3);
        assert_eq!(option("n-cpu-moe").negations, [""; 0]);
        // Nothing of the prose became an option.
        assert!(options_in(HELP).iter().all(|option| option.key != "list-devices"));
    }

    #[test]
    fn what_switches_an_option_off_is_told_from_its_name() {
        let negations = |key| option(key).negations;
        assert_eq!(negations("kv-offload"), ["-nkvo", "--no-kv-offload"]);
        assert_eq!(negations("repack"), ["-nr", "--no-repack"]);
        assert_eq!(negations("kv-unified"), ["-no-kvu", "--no-kv-unified"]);
        assert_eq!(negations("cont-batching"), ["-nocb", "--no-cont-batching"]);
        assert_eq!(negations("mmproj-auto"), ["--no-mmproj", "--no-mmproj-auto"]);
        assert_eq!(negations("ui"), ["--no-ui", "--no-webui"]);
        assert_eq!(option("ui").flags, ["--ui", "--webui"]);
        assert_eq!(option("no-host").flags, ["--no-host"]);
        assert_eq!(negations("no-host"), [""; 0]);
    }

    #[test]
    fn choices_are_what_is_listed_whole() {
        let choices = |key| option(key).choices.join(" ");
        assert_eq!(choices("flash-attn"), "on off auto");
        assert_eq!(choices("cpu-strict"), "0 1");
        assert_eq!(choices("split-mode"), "none layer row tensor");
        assert_eq!(choices("cache-type-k"), "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1");
        assert_eq!(choices("spec-type"), "none draft-simple ngram-mod");
        assert_eq!(choices("load-mode"), "none mmap+mlock auto");
        for key in [
            "log-verbosity",
            "poll",
            "device",
            "tensor-split",
            "hf-repo",
            "override-tensor",
            "cpu-range",
        ] {
            assert_eq!(choices(key), "", "{key}");
        }
    }

    #[test]
    fn a_default_comes_without_its_explanation() {
        let default = |key| option(key).default.unwrap_or_default();
        assert_eq!(default("ctx-size"), "0");
        assert_eq!(default("poll"), "50");
        assert_eq!(default("flash-attn"), "auto");
        assert_eq!(default("reasoning"), "auto");
        assert_eq!(default("split-mode"), "layer");
        assert_eq!(default("cors-methods"), "GET, POST, DELETE, OPTIONS");
        assert_eq!(default("ctx-checkpoints"), "32");
        assert_eq!(default("fit-ctx"), "4096");
        assert_eq!(default("yarn-orig-ctx"), "0");
        assert_eq!(default("kv-unified"), "enabled if number of slots is auto");
        assert_eq!(option("device").default, None);
    }

    #[test]
    fn what_was_removed_or_will_be_is_said() {
        let draft = option("draft");
        assert!(draft.removed && !draft.deprecated);
        assert_eq!(
            draft.help,
            "the argument has been removed. use --spec-draft-n-max or --spec-ngram-mod-n-max"
        );
        assert!(option("mlock").deprecated && !option("mlock").removed);
        assert!(!option("ctx-size").deprecated);
    }

    #[test]
    fn layouts_of_earlier_years_are_read() {
        let help = "usage: ./server [options]\n\noptions:\n  \
            -h, --help                show this help message and exit\n  \
            -t N, --threads N         number of threads to use (default: 2)\n  \
            --rope-scaling {none,linear,yarn}\n                            \
            RoPE frequency scaling method\n  \
            --port=PORT  port to listen  (default  (default: 8080)\n\
            -nkvo, --no-kv-offload      disable KV offload\n\
            --seed SEED the seed to begin with\n";
        let options = options_in(help);
        let of = |key: &str| options.iter().find(|it| it.key == key).unwrap();
        assert_eq!(of("threads").flags, ["-t", "--threads"]);
        assert_eq!(of("threads").value.as_deref(), Some("N"));
        assert_eq!(of("threads").default.as_deref(), Some("2"));
        assert_eq!(of("rope-scaling").choices, ["none", "linear", "yarn"]);
        assert_eq!(of("port").value.as_deref(), Some("PORT"));
        assert_eq!(of("no-kv-offload").flags, ["-nkvo", "--no-kv-offload"]);
        assert_eq!(of("seed").value.as_deref(), Some("SEED"));
        assert_eq!(of("seed").help, "the seed to begin with");
    }

    #[test]
    fn garbage_is_no_option_and_bounded() {
        assert_eq!(options_in("-\n--\n---\n-----\n- a\n-- b\n-\u{e9}\n"), []);
        let many = (0..5000).map(|number| format!("--x{number} N  y\n")).collect::<String>();
        assert_eq!(options_in(&many).len(), MAX_OPTIONS);
        let long = options_in(&format!("--x N  {}", "y ".repeat(100_000)));
        assert!(long[0].help.chars().count() <= MAX_HELP_CHARS);
        let [told] = &options_in("--x  \u{1b}[31mred\u{7}")[..] else { panic!("one option") };
        assert!(!told.help.contains(char::is_control));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(text in "(\\PC|[-\\n ,=<>\\[\\]{}|()é]|default:|--no-|allowed values:|\\(env: ){0,200}") {
            for option in options_in(&text) {
                prop_assert!(!option.key.is_empty() && !option.flags.is_empty());
            }
        }
    }
}
