//! How tokens are chosen, where a request does not say.

use super::{MAX_TOKENS, Setting, integer, list, real, setting};
use crate::options::{Group, Item, Told, Values, Words};

/// The samplers, as llama-server calls them. It passes over names it does not know.
const SAMPLERS: Words<'static> = Words::These(&[
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
    "infill",
    "adaptive_p",
]);

/// Other names that llama-server takes for samplers (`common_sampler_types_from_names`).
const SPELLED_SAMPLERS: &[(&str, &str)] = &[
    ("top-k", "top_k"),
    ("top-p", "top_p"),
    ("nucleus", "top_p"),
    ("top-n-sigma", "top_n_sigma"),
    ("typical-p", "typ_p"),
    ("typical", "typ_p"),
    ("typ-p", "typ_p"),
    ("typ", "typ_p"),
    ("min-p", "min_p"),
    ("temp", "temperature"),
    ("adaptive-p", "adaptive_p"),
];

const fn sampling(
    key: &'static str,
    values: Values<'static>,
    help: &'static str,
) -> Setting<'static> {
    setting(Group::Sampling, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    sampling(
        "temp",
        real(0.0, 100.0),
        "How freely tokens are chosen; 0 always takes the likeliest",
    )
    .long(&["temperature"])
    .default("0.80")
    .example("0.7")
    .reported("temperature"),
    sampling(
        "top-k",
        integer(0, 1 << 24),
        "Choose among this many of the likeliest tokens; 0 among all",
    )
    .spelled(&[("-1", "0")])
    .variable("LLAMA_ARG_TOP_K")
    .default("40")
    .example("40")
    .reported("top_k"),
    sampling(
        "top-p",
        real(0.0, 1.0),
        "Choose among the likeliest tokens that together have this probability; 1 among all",
    )
    .default("0.95")
    .example("0.95")
    .reported("top_p"),
    sampling(
        "min-p",
        real(0.0, 1.0),
        "Leave out tokens below this share of the likeliest one's probability; 0 leaves out \
         none",
    )
    .default("0.05")
    .example("0.05")
    .reported("min_p"),
    sampling(
        "top-nsigma",
        real(-1.0, 100.0),
        "Choose among tokens this many standard deviations below the best; -1 among all",
    )
    .long(&["top-n-sigma"])
    .default("-1.00")
    .example("-1")
    .reported("top_n_sigma"),
    sampling(
        "typical",
        real(0.0, 1.0),
        "Prefer tokens about as surprising as expected, up to this probability together; 1 \
         switches it off",
    )
    .long(&["typical-p"])
    .default("1.00")
    .example("1")
    .reported("typical_p"),
    sampling(
        "xtc-probability",
        real(0.0, 1.0),
        "How often the likeliest tokens are left out on purpose; 0 never",
    )
    .default("0.00")
    .example("0")
    .reported("xtc_probability"),
    sampling(
        "xtc-threshold",
        real(0.0, 1.0),
        "The probability from which XTC leaves tokens out; above 0.5 never",
    )
    .default("0.10")
    .example("0.1")
    .reported("xtc_threshold"),
    sampling(
        "dynatemp-range",
        real(0.0, 100.0),
        "How far the temperature may move with the model's certainty; 0 keeps it",
    )
    .default("0.00")
    .example("0")
    .reported("dynatemp_range"),
    sampling(
        "dynatemp-exp",
        real(0.0, 100.0),
        "How the temperature moves with the model's certainty",
    )
    .old(&["dynatemp_exponent"])
    .default("1.00")
    .example("1")
    .reported("dynatemp_exponent"),
    sampling(
        "mirostat",
        integer(0, 2),
        "Steer the surprise of the text: 1 or 2 for the version, 0 for off; it replaces top-k, \
         top-p and typical",
    )
    .default("0")
    .example("0")
    .reported("mirostat"),
    sampling("mirostat-lr", real(0.0, 100.0), "How fast Mirostat corrects itself")
        .old(&["mirostat_eta"])
        .default("0.10")
        .example("0.1")
        .reported("mirostat_eta"),
    sampling("mirostat-ent", real(0.0, 1000.0), "The surprise Mirostat aims at")
        .old(&["mirostat_tau"])
        .default("5.00")
        .example("5")
        .reported("mirostat_tau"),
    sampling(
        "adaptive-target",
        real(-1.0, 1.0),
        "Choose tokens near this probability; below 0 switches it off",
    )
    .default("-1.00")
    .example("-1")
    .reported("adaptive_target"),
    sampling(
        "adaptive-decay",
        real(0.0, 0.99),
        "How slowly adaptive sampling follows what was chosen",
    )
    .default("0.90")
    .example("0.9")
    .reported("adaptive_decay"),
    sampling(
        "repeat-last-n",
        integer(0, MAX_TOKENS),
        "How far back the penalties look; 0 switches them off",
    )
    .unit("tokens")
    .default("64")
    .example("64")
    .reported("repeat_last_n")
    .builds("older builds also took -1 for the whole context; b10434 refuses it"),
    sampling(
        "repeat-penalty",
        real(0.01, 100.0),
        "Make tokens that came before less likely; 1 leaves them as they are",
    )
    .default("1.00")
    .example("1.1")
    .reported("repeat_penalty"),
    sampling(
        "presence-penalty",
        real(-100.0, 100.0),
        "Make tokens that came before less likely, however often they came",
    )
    .default("0.00")
    .example("0")
    .reported("presence_penalty"),
    sampling(
        "frequency-penalty",
        real(-100.0, 100.0),
        "Make tokens less likely the more often they came before",
    )
    .default("0.00")
    .example("0")
    .reported("frequency_penalty"),
    sampling(
        "dry-multiplier",
        real(0.0, 100.0),
        "How much repeating whole sequences is penalised; 0 not at all",
    )
    .default("0.00")
    .example("0")
    .reported("dry_multiplier"),
    sampling(
        "dry-base",
        real(1.0, 100.0),
        "How fast that penalty grows with the length of what is repeated",
    )
    .default("1.75")
    .example("1.75")
    .reported("dry_base"),
    sampling(
        "dry-allowed-length",
        integer(0, MAX_TOKENS),
        "Repeated sequences up to this length are not penalised",
    )
    .unit("tokens")
    .default("2")
    .example("2")
    .reported("dry_allowed_length"),
    sampling(
        "dry-penalty-last-n",
        integer(0, MAX_TOKENS),
        "How far back repeated sequences are looked for; 0 switches it off",
    )
    .unit("tokens")
    .default("64")
    .example("64")
    .reported("dry_penalty_last_n")
    .builds("older builds also took -1 for the whole context; b10434 refuses it"),
    sampling(
        "dry-sequence-breaker",
        list(Item::Text),
        "Texts that end a sequence, instead of the built-in ones; none for no such texts",
    )
    .told(Told::Repeated)
    .example("none"),
    sampling(
        "samplers",
        Values::List { of: Item::Word(SAMPLERS), separator: ';' },
        "The samplers to use, in order",
    )
    .spelled(SPELLED_SAMPLERS)
    .default("penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature")
    .example("penalties;top_k;top_p;min_p;temperature")
    .reported("samplers"),
    sampling("sampler-seq", Values::Text, "The samplers to use, in order, a letter for each")
        .long(&["sampling-seq"])
        .default("edskypmxt")
        .example("edskypmxt"),
    sampling(
        "seed",
        integer(-1, u32::MAX as i64),
        "The seed of the random numbers; -1 takes a new one for each answer",
    )
    .short(&["s"])
    .default("-1")
    .example("42")
    .reported("seed"),
    sampling("predict", integer(-1, MAX_TOKENS), "The most tokens of an answer; -1 sets no limit")
        // Once: until the context is full, which is what no limit comes to.
        .spelled(&[("-2", "-1")])
        .long(&["n-predict"])
        .short(&["n"])
        .variable("LLAMA_ARG_N_PREDICT")
        .unit("tokens")
        .default("-1")
        .example("256"),
    sampling(
        "ignore-eos",
        Values::Switch,
        "Go on when the model ends its answer, until predict is reached",
    )
    .default("off")
    .example("false")
    .reported("ignore_eos"),
    sampling(
        "logit-bias",
        list(Item::Bias),
        "Make single tokens, given by their numbers, more or less likely",
    )
    .short(&["l"])
    .told(Told::Repeated)
    .example("15+1"),
    sampling("reverse-prompt", list(Item::Text), "Texts that end an answer")
        .short(&["r"])
        .told(Told::Repeated)
        .example("###"),
    sampling("grammar", Values::Text, "A grammar every answer must follow")
        .example("root ::= \"yes\" | \"no\""),
    sampling("grammar-file", Values::File, "A file with a grammar every answer must follow")
        .example("/models/answer.gbnf"),
    sampling(
        "json-schema",
        Values::Json { object: true },
        "A JSON schema every answer must follow",
    )
    .short(&["j"])
    .example("{\"type\":\"object\"}"),
    sampling(
        "json-schema-file",
        Values::File,
        "A file with a JSON schema every answer must follow",
    )
    .short(&["jf"])
    .example("/models/answer.json"),
    sampling("backend-sampling", Values::Switch, "Let the GPU choose tokens too (experimental)")
        .short(&["bs"])
        .variable("LLAMA_ARG_BACKEND_SAMPLING")
        .default("off")
        .example("false")
        .reported("backend_sampling"),
];
